//! Consensus: extract each sample's answer, group equal answers, count votes.
//!
//! Contract: pure and total; no error, no panic, linear in the text. Samples that were cut, failed
//! or hold no answer do not vote and are counted separately, but every share is over all samples
//! drawn, so they count as disagreement. A sample that says that it does not know votes for an
//! abstention; if that vote leads, nothing is answered. Consensus knows nothing about correctness,
//! and a vote share is not a probability of being correct.

mod abstention;
mod choice;
mod cluster;
mod extract;
mod likelihood;
pub mod normalize;
mod number;
mod short_answer;

pub use abstention::ABSTENTION;
pub use cluster::{Cluster, Vote, vote};
pub use extract::{Answer, Extraction, Extractor};
pub use likelihood::{choice_label, likelihood_vote, logprob};
