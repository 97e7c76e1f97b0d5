//! The leading answer's lead over the runner-up per sample drawn: first-second distance. 0 at a tie
//! and without votes.

use super::{Direction, Estimator, Evidence, finite};

/// See the module.
pub(super) struct VoteMargin;

impl Estimator for VoteMargin {
    fn name(&self) -> &'static str {
        "vote_margin"
    }

    fn unit(&self) -> &'static str {
        "share"
    }

    fn direction(&self) -> Direction {
        Direction::HigherIsSurer
    }

    fn source(&self) -> &'static str {
        "FSD in Lyu et al., arXiv 2402.13904"
    }

    fn summary(&self) -> &'static str {
        "lead of the leading answer over the runner-up, as a share of all samples, 0 to 1"
    }

    fn score(&self, evidence: &Evidence<'_>) -> Option<f64> {
        (evidence.vote.samples() > 0).then(|| evidence.vote.margin()).and_then(finite)
    }
}
