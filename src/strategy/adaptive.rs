//! Adaptive consistency: samples in waves, until the leading answer is unlikely to lose its place
//! (Aggarwal et al., arXiv 2305.11860).
//!
//! Let a be the votes for the leader and b those for the runner-up. With a uniform prior on the
//! leader's share of the two, it stops when P(Beta(a + 1, b + 1) > 1/2), which is
//! P(Bin(a + b + 1, 1/2) <= a), reaches the threshold. That the leader keeps leading says nothing
//! about whether it is right.

use serde::{Deserialize, Serialize};

use super::{Question, Session};
use crate::consensus::Vote;
use crate::error::{Error, Result};
use crate::generation::Generation;
use crate::metrics::binomial::lower_tail;

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adaptive {
    /// Samples drawn at a time, at least 1.
    pub wave: usize,
    /// The posterior probability at which the leader is settled, 0.5 to below 1.
    pub threshold: f64,
}

impl Adaptive {
    /// The paper's threshold; four samples that agree reach it.
    pub const DEFAULT: Self = Self { wave: 4, threshold: 0.95 };

    pub(super) fn validate(self) -> Result<()> {
        if self.wave == 0 {
            return Err(Error::usage("wave is 0; it must be at least 1"));
        }
        if !(0.5..1.0).contains(&self.threshold) {
            let threshold = self.threshold;
            return Err(Error::usage(format!(
                "threshold is {threshold}; it must be 0.5 to below 1"
            )));
        }
        Ok(())
    }

    pub(super) async fn run(self, session: &Session, question: &Question) -> Result<Generation> {
        let (prefix, n) = (session.render(&question.messages)?, session.params().n);
        let mut drawn = session.sample(&prefix, 0..self.wave.min(n)).await?;
        while drawn.completions.len() < n
            && !self.is_settled(&session.vote(question, &mut drawn).await?)
        {
            let first = drawn.completions.len();
            drawn.add_samples(session.sample(&prefix, first..n.min(first + self.wave)).await?);
        }
        Ok(drawn)
    }

    fn is_settled(self, vote: &Vote) -> bool {
        let votes = |place: usize| vote.clusters.get(place).map_or(0, |c| c.samples.len() as u64);
        let (a, b) = (votes(0), votes(1));
        lower_tail(a, a + b + 1, 0.5) >= self.threshold
    }
}

impl Default for Adaptive {
    fn default() -> Self {
        Self::DEFAULT
    }
}
