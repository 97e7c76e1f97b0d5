//! The probability of an answer's least probable token, in the mean over the leading answer's
//! samples.

use super::{Direction, Estimator, Evidence, largest};

/// See the module.
pub(super) struct MinTokenProb;

impl Estimator for MinTokenProb {
    fn name(&self) -> &'static str {
        "min_token_prob"
    }

    fn unit(&self) -> &'static str {
        "probability"
    }

    fn direction(&self) -> Direction {
        Direction::HigherIsSurer
    }

    fn source(&self) -> &'static str {
        "Manakul et al., arXiv 2303.08896, Max(-log p), as a probability"
    }

    fn summary(&self) -> &'static str {
        "probability of the least probable token, mean over the leading answer's samples, 0 to 1"
    }

    fn score(&self, evidence: &Evidence<'_>) -> Option<f64> {
        evidence.mean_of_supporters(|tokens| (-largest(tokens, |token| -token.stats.logprob)).exp())
    }
}
