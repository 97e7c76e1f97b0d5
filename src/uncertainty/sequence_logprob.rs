//! The log-probability of a whole answer, end token included, not normalised by length, in the mean
//! over the leading answer's samples.

use super::{Direction, Estimator, Evidence};

/// See the module.
pub(super) struct SequenceLogprob;

impl Estimator for SequenceLogprob {
    fn name(&self) -> &'static str {
        "sequence_logprob"
    }

    fn unit(&self) -> &'static str {
        "nats"
    }

    fn direction(&self) -> Direction {
        Direction::HigherIsSurer
    }

    fn source(&self) -> &'static str {
        "sum of ln p; for one greedy sample the negative of G-NLL, Aichberger et al., arXiv \
         2412.15176"
    }

    fn summary(&self) -> &'static str {
        "log-probability of the whole completion with its end token, mean over the leading \
         answer's samples, at most 0"
    }

    fn score(&self, evidence: &Evidence<'_>) -> Option<f64> {
        evidence.mean_of_supporters(|tokens| tokens.iter().map(|token| token.stats.logprob).sum())
    }
}
