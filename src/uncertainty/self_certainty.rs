//! The mean over an answer's tokens of KL(uniform || p): how far the next-token distributions are
//! from knowing nothing; in the mean over the leading answer's samples.

use super::{Direction, Estimator, Evidence, mean};

/// See the module.
pub(super) struct SelfCertainty;

impl Estimator for SelfCertainty {
    fn name(&self) -> &'static str {
        "self_certainty"
    }

    fn unit(&self) -> &'static str {
        "nats"
    }

    fn direction(&self) -> Direction {
        Direction::HigherIsSurer
    }

    fn source(&self) -> &'static str {
        "Kang et al., arXiv 2502.18581"
    }

    fn summary(&self) -> &'static str {
        "mean KL(uniform || p) per token, mean over the leading answer's samples, 0 or more"
    }

    fn score(&self, evidence: &Evidence<'_>) -> Option<f64> {
        evidence.mean_of_supporters(|tokens| mean(tokens, |token| token.stats.self_certainty))
    }
}
