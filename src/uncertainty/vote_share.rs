//! The share of all samples drawn that gives the leading answer. It knows how many agree, not
//! whether they are right.

use super::{Direction, Estimator, Evidence, finite};

/// See the module.
pub(super) struct VoteShare;

impl Estimator for VoteShare {
    fn name(&self) -> &'static str {
        "vote_share"
    }

    fn unit(&self) -> &'static str {
        "share"
    }

    fn direction(&self) -> Direction {
        Direction::HigherIsSurer
    }

    fn source(&self) -> &'static str {
        "Wang et al., arXiv 2203.11171; as confidence: Lyu et al., arXiv 2402.13904"
    }

    fn summary(&self) -> &'static str {
        "share of all samples that gives the leading answer, 0 to 1"
    }

    fn score(&self, evidence: &Evidence<'_>) -> Option<f64> {
        (evidence.vote.samples() > 0).then(|| evidence.vote.share()).and_then(finite)
    }
}
