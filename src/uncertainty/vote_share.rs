//! The share of all samples drawn that gives the leading answer. It measures agreement, not
//! correctness.

use super::{Direction, Estimator, Needs};

/// See the module.
pub(super) static VOTE_SHARE: Estimator = Estimator {
    name: "vote_share",
    unit: "share",
    direction: Direction::HigherIsMoreConfident,
    needs: Needs::Vote,
    source: "Wang et al., arXiv 2203.11171; as confidence: Lyu et al., arXiv 2402.13904",
    summary: "share of all samples that gives the leading answer, 0 to 1",
    score: |evidence| (evidence.vote.samples() > 0).then(|| evidence.vote.share()),
};
