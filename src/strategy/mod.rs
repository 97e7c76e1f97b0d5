//! Strategies: what to sample for one question, and when to stop. Built on nothing but the engine's public calls.

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
}

impl Strategy {
    /// Every strategy.
    pub const ALL: &[Self] = &[Self::Greedy, Self::SelfConsistency];

    /// The name of flag and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Greedy => "greedy",
            Self::SelfConsistency => "self-consistency",
        }
    }

    /// The parameters that the strategy really samples with.
    pub fn params(self, params: &SamplingParams) -> SamplingParams {
        match self {
            Self::Greedy => SamplingParams { n: 1, temperature: 0.0, ..params.clone() },
            Self::SelfConsistency => params.clone(),
        }
    }

    /// Samples.
    ///
    /// # Errors
    /// The engine's.
    pub fn generate(self, engine: &mut Engine, prompt: Prompt, params: &SamplingParams) -> Result<Generation> {
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
