//! Sampling in waves: what every strategy shares that stops early.

use std::ops::Range;

use super::{Question, Session};
use crate::consensus::Vote;
use crate::error::{Error, Result};
use crate::generation::Generation;

/// Checks the size of a wave.
pub(super) fn check_size(name: &str, size: usize) -> Result<()> {
    if size > 0 {
        return Ok(());
    }
    Err(Error::usage(format!("{name} is 0; it must be at least 1")))
}

/// Draws samples `size` at a time, until `is_settled` says so of the vote and the positions of the
/// last wave, all samples are drawn, or `budget` forward tokens are spent; 0 sets no budget.
pub(super) async fn sample_in_waves(
    session: &Session,
    question: &Question,
    size: usize,
    budget: usize,
    is_settled: impl Fn(&Vote, Range<usize>) -> bool,
) -> Result<Generation> {
    let (prefix, n) = (session.render(&question.messages)?, session.params().n);
    let mut drawn = Generation::default();
    loop {
        let first = drawn.completions.len();
        let wave = first..n.min(first + size);
        let later = session.sample(&prefix, wave.clone()).await?;
        if first == 0 {
            drawn = later;
        } else {
            drawn.add_samples(later);
        }
        let spent = drawn.cost.tokens.forward_tokens;
        if wave.end == n || (budget > 0 && spent >= budget) {
            return Ok(drawn);
        }
        if is_settled(&session.vote(question, &mut drawn).await?, wave) {
            return Ok(drawn);
        }
    }
}

/// The number of samples that give the answer at this place of the vote.
pub(super) fn votes(vote: &Vote, place: usize) -> u64 {
    vote.clusters.get(place).map_or(0, |cluster| cluster.samples.len() as u64)
}
