//! Cascades: the cheap answer first, and the dear one only where the cheap one is not sure enough.
//!
//! `cascade` decodes greedily, and draws samples where the probability of the short answer's tokens
//! is below a threshold. `think-if-unsure` answers without thinking, and thinks where that
//! probability is too low. The threshold is best one that a calibration of the greedy strategy
//! gives: exp of the negative threshold of the estimator `answer_logprob`. With a threshold of 1
//! (almost) every question takes the dear way, which is plain self-consistency.

use serde::{Deserialize, Serialize};

use super::{Prefix, Question, Session};
use crate::error::{Error, Result};
use crate::generation::{Completion, Generation, SamplingParams};

/// When the cheap answer is enough.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cascade {
    /// The probability of the short answer's tokens together that is enough, above 0 to 1.
    pub min_probability: f64,
}

impl Cascade {
    /// Uncalibrated.
    pub const DEFAULT: Self = Self { min_probability: 0.9 };

    pub(super) fn validate(self) -> Result<()> {
        if self.min_probability > 0.0 && self.min_probability <= 1.0 {
            return Ok(());
        }
        let value = self.min_probability;
        Err(Error::usage(format!("min_probability is {value}; it must be above 0, at most 1")))
    }

    pub(super) async fn run(self, session: &Session, question: &Question) -> Result<Generation> {
        let prefix = session.render(&question.messages)?;
        self.first_or_samples(session, question, &prefix, &prefix, 0).await
    }

    pub(super) async fn think(self, session: &Session, question: &Question) -> Result<Generation> {
        let prefix = session.render(&question.messages)?;
        let Some(direct) = session.without_thinking(&prefix)? else {
            return Err(Error::usage(
                "think-if-unsure needs a model that thinks, and neither vocabulary nor chat \
                 template of this one has markers around reasoning; use cascade",
            ));
        };
        let number = session.add_prompt(&direct);
        self.first_or_samples(session, question, &prefix, &direct, number).await
    }

    /// The greedy answer to `cheap`, whose number is `number`, or samples of `prefix`.
    async fn first_or_samples(
        self,
        session: &Session,
        question: &Question,
        prefix: &Prefix,
        cheap: &Prefix,
        number: usize,
    ) -> Result<Generation> {
        let params = SamplingParams { temperature: 0.0, ..session.params().clone() };
        let params = SamplingParams { thinking_budget: None, ..params };
        let mut first = session.sample_with(cheap, 0..1, params, None).await?;
        first.completions.iter_mut().for_each(|completion| completion.prompt = number);
        let vote = session.vote(question, &mut first).await?;
        let answers = vote.leader().is_some_and(|leader| !leader.is_abstention());
        let sure = first.completions.first().and_then(probability);
        if answers && sure.is_some_and(|sure| sure >= self.min_probability) {
            return Ok(first);
        }
        let mut drawn = session.sample(prefix, 0..session.params().n).await?;
        drawn.cost.add_samples(&first.cost);
        Ok(drawn)
    }
}

impl Default for Cascade {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The probability of the short answer's tokens, 0 to 1; `None` if they are not known.
fn probability(completion: &Completion) -> Option<f64> {
    let tokens = completion.answer_tokens().filter(|tokens| !tokens.is_empty())?;
    Some(tokens.iter().map(|token| token.stats.logprob).sum::<f64>().exp())
}
