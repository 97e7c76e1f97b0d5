//! Consensus: read each sample's answer, group answers that mean the same, weigh the groups.
//!
//! Contract: pure and total; no error, no panic, linear in the text. Samples that failed or hold no
//! answer do not vote and are counted separately, but every share is over all samples drawn, so
//! they count as disagreement. A sample that says that it does not know votes for an abstention; if
//! that vote leads, nothing is answered. Consensus knows nothing about correctness, and a vote
//! share is not a probability of being correct. What only a model can tell, the short answer of a
//! long text or whether two answers mean the same, is asked by `strategy` and recorded in the
//! generation.

mod abstention;
mod announced;
mod answer;
mod canonical;
mod choice;
mod completed;
mod date;
mod extract;
mod fold;
mod group;
mod latex;
mod likelihood;
mod number;
mod quantity;
mod reader;
mod result;
mod statement;
mod thinking;
mod vote;
mod words;

pub use abstention::ABSTENTION;
pub use answer::{Answer, AnswerKind, Reading};
pub use canonical::canonical;
pub use completed::announces_answer;
pub use extract::Extractor;
pub use group::{AskedQuestion, Comparer, Level, Pair};
pub use likelihood::{UNSURE, choice_label, likelihood_vote, logprob};
pub use reader::{AnswerMode, Equivalence, Reader, VoteMode};
pub use vote::{Cluster, Vote, missing, undecided, unstated, vote};
