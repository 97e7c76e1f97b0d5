//! The mean entropy of the next-token distributions along an answer, in the mean over the leading
//! answer's samples.

use super::{Direction, Estimator, Evidence, mean};

/// See the module.
pub(super) struct MeanTokenEntropy;

impl Estimator for MeanTokenEntropy {
    fn name(&self) -> &'static str {
        "mean_token_entropy"
    }

    fn unit(&self) -> &'static str {
        "nats"
    }

    fn direction(&self) -> Direction {
        Direction::HigherIsLessSure
    }

    fn source(&self) -> &'static str {
        "Fomicheva et al., arXiv 2005.10608, softmax entropy; mean over the leading answer's \
         samples"
    }

    fn summary(&self) -> &'static str {
        "mean entropy per token of the leading answer's samples, 0 to ln V"
    }

    fn score(&self, evidence: &Evidence<'_>) -> Option<f64> {
        evidence.mean_of_supporters(|tokens| mean(tokens, |token| token.stats.entropy))
    }
}
