//! The log-probability of a whole sample, end token included, not normalized by length; mean over
//! the leading answer's samples.

use super::{Direction, Estimator, Needs};

/// See the module.
pub(super) static SEQUENCE_LOGPROB: Estimator = Estimator {
    name: "sequence_logprob",
    unit: "nats",
    direction: Direction::HigherIsMoreConfident,
    needs: Needs::TokenStats,
    source: "sum of ln p; for one greedy sample the negative of G-NLL, Aichberger et al., arXiv \
             2412.15176",
    summary: "log-probability of the whole completion with its end token, mean over the leading \
              answer's samples, at most 0",
    score: |evidence| {
        evidence.mean_over_leading_samples(|tokens| {
            tokens.iter().map(|token| token.stats.logprob).sum()
        })
    },
};
