//! The mean entropy of a sample's next-token distributions; mean over the leading answer's samples.

use super::{Direction, Estimator, Needs, mean};

/// See the module.
pub(super) static MEAN_TOKEN_ENTROPY: Estimator = Estimator {
    name: "mean_token_entropy",
    unit: "nats",
    direction: Direction::HigherIsLessConfident,
    needs: Needs::TokenStats,
    source: "Fomicheva et al., arXiv 2005.10608, softmax entropy; mean over the leading answer's \
             samples",
    summary: "mean entropy per token of the leading answer's samples, 0 to ln V",
    score: |evidence| {
        evidence.mean_over_leading_samples(|tokens| mean(tokens, |token| token.stats.entropy))
    },
};
