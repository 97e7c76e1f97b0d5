//! The largest entropy of a next-token distribution in a sample, i.e. its least decided step;
//! mean over the leading answer's samples.

use super::{Direction, Estimator, Needs, largest};

/// See the module.
pub(super) static MAX_TOKEN_ENTROPY: Estimator = Estimator {
    name: "max_token_entropy",
    unit: "nats",
    direction: Direction::HigherIsLessConfident,
    needs: Needs::TokenStats,
    source: "Manakul et al., arXiv 2303.08896, Max(H); mean over the leading answer's samples",
    summary: "largest entropy of a token, mean over the leading answer's samples, 0 to ln V",
    score: |evidence| {
        evidence.mean_over_leading_samples(|tokens| largest(tokens, |token| token.stats.entropy))
    },
};
