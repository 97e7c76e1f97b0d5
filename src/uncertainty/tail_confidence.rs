//! `DeepConf`'s token confidence at the end of a sample, where the conclusion is: the mean over the
//! last tenth of the tokens, but at least the last 16, or all of a shorter sample; mean over the
//! leading answer's samples.

use super::{Direction, Estimator, Needs, mean};
use crate::generation::Token;

/// See the module.
pub(super) static TAIL_CONFIDENCE: Estimator = Estimator {
    name: "tail_confidence",
    unit: "nats",
    direction: Direction::HigherIsMoreConfident,
    needs: Needs::TokenStats,
    source: "tail confidence in Fu et al., arXiv 2508.15260, with a window that fits short answers",
    summary: "mean -ln p over the 20 most probable tokens at the end of the leading answer's \
              samples, 0 or more",
    score: |evidence| {
        evidence.mean_over_leading_samples(|tokens| {
            mean(tail(tokens), |token| token.stats.top_confidence)
        })
    },
};

/// The shortest tail, in tokens; a shorter sample counts as a whole.
const MIN_TAIL: usize = 16;

fn tail(tokens: &[Token]) -> &[Token] {
    let length = tokens.len().div_ceil(10).max(MIN_TAIL);
    tokens.get(tokens.len().saturating_sub(length)..).unwrap_or(tokens)
}
