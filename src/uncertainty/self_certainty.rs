//! The mean over a sample's tokens of KL(uniform || p), the distance of the next-token distribution
//! from the uniform one; mean over the leading answer's samples.

use super::{Direction, Estimator, Needs, mean};

/// See the module.
pub(super) static SELF_CERTAINTY: Estimator = Estimator {
    name: "self_certainty",
    unit: "nats",
    direction: Direction::HigherIsMoreConfident,
    needs: Needs::TokenStats,
    source: "Kang et al., arXiv 2502.18581",
    summary: "mean KL(uniform || p) per token, mean over the leading answer's samples, 0 or more",
    score: |evidence| {
        evidence
            .mean_over_leading_samples(|tokens| mean(tokens, |token| token.stats.self_certainty))
    },
};
