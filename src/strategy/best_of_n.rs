//! Best of n by self-certainty, with Borda voting: samples are ranked by how far their
//! distributions are from uniform, and rank r of N has (N - r + 1)^power votes (Kang et al., arXiv
//! 2502.18581).
//!
//! Power 0 is the plain vote; a large power leaves the decision to the sample ranked first.

use serde::{Deserialize, Serialize};

use super::weights::weigh;
use super::{Question, Session};
use crate::error::{Error, Result};
use crate::generation::{Completion, Generation};

/// How ranks become votes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BestOfN {
    /// Exponent of the votes, 0 to 1000.
    pub power: f64,
}

impl BestOfN {
    /// The paper's exponent for small n.
    pub const DEFAULT: Self = Self { power: 0.5 };

    pub(super) fn validate(self) -> Result<()> {
        if (0.0..=1000.0).contains(&self.power) {
            return Ok(());
        }
        Err(Error::usage(format!("power is {}; it must be 0 to 1000", self.power)))
    }

    pub(super) async fn run(self, session: &Session, question: &Question) -> Result<Generation> {
        let mut drawn = super::self_consistency::run(session, question).await?;
        let vote = session.vote(question, &mut drawn).await?;
        let mut ranked: Vec<(f64, usize)> = (0..drawn.completions.len())
            .filter(|at| vote.answers[*at].is_some())
            .map(|at| (self_certainty(&drawn.completions[at]), at))
            .collect();
        ranked.sort_by(|(a, a_at), (b, b_at)| b.total_cmp(a).then(a_at.cmp(b_at)));
        let mut raw = vec![0.0; drawn.completions.len()];
        for (rank, (_, at)) in ranked.iter().enumerate() {
            // Relative to the first, so that a large power does not overflow.
            raw[*at] = ((ranked.len() - rank) as f64 / ranked.len() as f64).powf(self.power);
        }
        weigh(&mut drawn, &vote, &raw);
        Ok(drawn)
    }
}

impl Default for BestOfN {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The mean self-certainty of a sample's tokens, in nats.
fn self_certainty(completion: &Completion) -> f64 {
    let tokens = completion.tokens_after_reasoning();
    tokens.iter().map(|token| token.stats.self_certainty).sum::<f64>() / tokens.len().max(1) as f64
}
