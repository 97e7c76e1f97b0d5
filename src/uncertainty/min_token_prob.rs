//! The probability of a sample's least probable token; mean over the leading answer's samples.

use super::{Direction, Estimator, Needs, largest};

/// See the module.
pub(super) static MIN_TOKEN_PROB: Estimator = Estimator {
    name: "min_token_prob",
    unit: "probability",
    direction: Direction::HigherIsMoreConfident,
    needs: Needs::TokenStats,
    source: "Manakul et al., arXiv 2303.08896, Max(-log p), as a probability",
    summary: "probability of the least probable token, mean over the leading answer's samples, 0 to 1",
    score: |evidence| {
        evidence.mean_over_leading_samples(|tokens| {
            (-largest(tokens, |token| -token.stats.logprob)).exp()
        })
    },
};
