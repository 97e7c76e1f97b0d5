//! The largest entropy of a next-token distribution along an answer: its least decided step, in the
//! mean over the leading answer's samples.

use super::{Direction, Estimator, Evidence, largest};

/// See the module.
pub(super) struct MaxTokenEntropy;

impl Estimator for MaxTokenEntropy {
    fn name(&self) -> &'static str {
        "max_token_entropy"
    }

    fn unit(&self) -> &'static str {
        "nats"
    }

    fn direction(&self) -> Direction {
        Direction::HigherIsLessSure
    }

    fn source(&self) -> &'static str {
        "Manakul et al., arXiv 2303.08896, Max(H); mean over the leading answer's samples"
    }

    fn summary(&self) -> &'static str {
        "largest entropy of a token, mean over the leading answer's samples, 0 to ln V"
    }

    fn score(&self, evidence: &Evidence<'_>) -> Option<f64> {
        evidence.mean_of_supporters(|tokens| largest(tokens, |token| token.stats.entropy))
    }
}
