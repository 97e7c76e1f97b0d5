//! `DeepConf`'s token confidence at the end of an answer, where the conclusion stands: the mean
//! over the last tenth of the tokens, but at least the last 16, or all of a shorter answer; in the
//! mean over the leading answer's samples.

use super::{Direction, Estimator, Evidence, mean};
use crate::generation::Token;

/// See the module.
pub(super) struct TailConfidence;

impl Estimator for TailConfidence {
    fn name(&self) -> &'static str {
        "tail_confidence"
    }

    fn unit(&self) -> &'static str {
        "nats"
    }

    fn direction(&self) -> Direction {
        Direction::HigherIsSurer
    }

    fn source(&self) -> &'static str {
        "tail confidence in Fu et al., arXiv 2508.15260, with a window that fits short answers"
    }

    fn summary(&self) -> &'static str {
        "mean -ln p over the 20 most probable tokens at the end of the leading answer's samples, \
         0 or more"
    }

    fn score(&self, evidence: &Evidence<'_>) -> Option<f64> {
        evidence.mean_of_supporters(|tokens| mean(tail(tokens), |token| token.stats.top_confidence))
    }
}

/// The tail never holds fewer tokens than this where there are as many.
const SHORTEST_TAIL: usize = 16;

fn tail(tokens: &[Token]) -> &[Token] {
    let length = tokens.len().div_ceil(10).max(SHORTEST_TAIL);
    tokens.get(tokens.len().saturating_sub(length)..).unwrap_or(tokens)
}
