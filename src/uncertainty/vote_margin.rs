//! The leading answer's lead over the runner-up per sample drawn: first-second distance. 0 at a tie
//! and without votes.

use super::{Direction, Estimator, Needs};

/// See the module.
pub(super) static VOTE_MARGIN: Estimator = Estimator {
    name: "vote_margin",
    unit: "share",
    direction: Direction::HigherIsMoreConfident,
    needs: Needs::Vote,
    source: "FSD in Lyu et al., arXiv 2402.13904",
    summary: "lead of the leading answer over the runner-up, as a share of all samples, 0 to 1",
    score: |evidence| (evidence.vote.samples() > 0).then(|| evidence.vote.margin()),
};
