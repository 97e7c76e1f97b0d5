//! Strategies: what to sample for one question, and when to stop. Built on nothing but the engine's
//! public calls.

use serde::Serialize;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::generation::{Generation, SamplingParams};
use crate::prompt::Prompt;

/// What to sample for one question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// One sample, the most probable token at each step.
    Greedy,
    /// All n samples, which then vote (Wang et al., arXiv 2203.11171).
    #[default]
    SelfConsistency,
    /// No sample: every option of the question scored by its likelihood, which is its weight in the
    /// vote. Only where questions have options.
    Likelihood,
}

impl Strategy {
    /// Every strategy that samples.
    pub const ALL: &[Self] = &[Self::Greedy, Self::SelfConsistency];

    /// The name of flag and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Greedy => "greedy",
            Self::SelfConsistency => "self-consistency",
            Self::Likelihood => "likelihood",
        }
    }

    /// The parameters that the strategy really samples with.
    pub fn params(self, params: &SamplingParams) -> SamplingParams {
        match self {
            // What is scored depends on none of them.
            Self::Likelihood => SamplingParams::default(),
            Self::Greedy => SamplingParams { n: 1, temperature: 0.0, ..params.clone() },
            Self::SelfConsistency => params.clone(),
        }
    }

    /// Samples.
    ///
    /// # Errors
    /// The engine's.
    pub fn generate(
        self,
        engine: &mut Engine,
        prompt: Prompt,
        params: &SamplingParams,
    ) -> Result<Generation> {
        if self == Self::Likelihood {
            return Err(Error::usage(
                "the strategy likelihood scores options and draws nothing; ask a question that \
                 has options",
            ));
        }
        engine.generate(prompt, self.params(params))
    }
}

impl std::str::FromStr for Strategy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.iter().copied().find(|s| s.name() == text.replace('_', "-")).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|s| s.name()).collect();
            Error::usage(format!("strategy `{text}` is unknown; use {}", names.join(" or ")))
        })
    }
}
