//! Consensus: read each sample's answer, group equal answers, count votes.
//!
//! Contract: pure and total; no error, no panic, linear in the text. Samples that were cut, failed
//! or hold no answer do not vote and are counted separately, but every share is over all samples
//! drawn, so they count as disagreement. A sample that says that it does not know votes for an
//! abstention; if that vote leads, nothing is answered. Consensus knows nothing about correctness,
//! and a vote share is not a probability of being correct.

mod abstention;
mod announced;
mod answer;
mod canonical;
mod choice;
mod cluster;
mod date;
mod extract;
mod fold;
mod latex;
mod likelihood;
mod number;
mod quantity;
mod result;
mod statement;
mod thinking;
mod words;

pub use abstention::ABSTENTION;
pub use answer::{Answer, AnswerKind, Reading};
pub use canonical::canonical;
pub use cluster::{Cluster, Vote, vote};
pub use extract::Extractor;
pub use likelihood::{choice_label, likelihood_vote, logprob};
