//! What the samples agree on: extract each sample's answer, decide which answers are the same,
//! count.
//!
//! Contract: pure and total; no error, no panic, linear in the text. Samples that were cut, failed
//! or hold no answer never vote and are counted apart, but every share is over all samples drawn,
//! so that silence counts as disagreement. A sample that says that it does not know votes for that,
//! and where this vote leads nothing is answered. It does not know whether an answer is right, and
//! a vote share is no probability of that.

mod choice;
mod cluster;
mod declined;
mod extract;
mod likelihood;
pub mod normalize;
mod number;
mod short_answer;

pub use cluster::{Cluster, Vote, vote};
pub use declined::DECLINED;
pub use extract::{Answer, Extractor, Reading};
pub use likelihood::{likelihood_vote, logprob, option_name};
