//! Adaptive consistency: samples in waves, until the leading answer is unlikely to lose its place
//! (Aggarwal et al., arXiv 2305.11860).
//!
//! Let a be the votes for the leader and b those for the runner-up. With a uniform prior on the
//! leader's share of the two, it stops when P(Beta(a + 1, b + 1) > 1/2), which is
//! P(Bin(a + b + 1, 1/2) <= a), reaches the threshold. That the leader keeps leading says nothing
//! about whether it is right, and looking after every wave makes the threshold no error rate: see
//! [`super::certified`] for that.

use serde::{Deserialize, Serialize};

use super::waves::{check_size, sample_in_waves, votes};
use super::{Question, Session};
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
    /// Forward tokens after which no wave begins; 0 is no limit.
    pub budget: usize,
}

impl Adaptive {
    /// The paper's threshold; four samples that agree reach it.
    pub const DEFAULT: Self = Self { wave: 4, threshold: 0.95, budget: 0 };

    pub(super) fn validate(self) -> Result<()> {
        check_size("wave", self.wave)?;
        if (0.5..1.0).contains(&self.threshold) {
            return Ok(());
        }
        let threshold = self.threshold;
        Err(Error::usage(format!("threshold is {threshold}; it must be 0.5 to below 1")))
    }

    pub(super) async fn run(self, session: &Session, question: &Question) -> Result<Generation> {
        sample_in_waves(session, question, self.wave, self.budget, |vote, _| {
            let (a, b) = (votes(vote, 0), votes(vote, 1));
            lower_tail(a, a + b + 1, 0.5) >= self.threshold
        })
        .await
    }
}

impl Default for Adaptive {
    fn default() -> Self {
        Self::DEFAULT
    }
}
