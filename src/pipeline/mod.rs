//! One question to one outcome: the program on one screen.
//!
//! Only rendering and sampling can fail. From [`Evidence`] on everything is pure and total, so stored records can be scored,
//! calibrated and decided again without the model.

mod load;
mod outcome;

use crate::consensus::{self, Extractor};
use crate::decision::Policy;
use crate::engine::{Engine, EngineOptions, JobId, Output};
use crate::error::{Error, Result};
use crate::generation::{Generation, Message, SamplingParams};
use crate::prompt::{Prompt, PromptFormat, PromptOptions};
use crate::strategy::Strategy;
use crate::uncertainty::{self, Estimator, Evidence};

pub use load::{Identity, LoadedModel, load_tokenizer, quantization};
pub use outcome::{Calibration, Outcome, ResolvedConfig, Sample, SampleToken, ScoredUncertainty};

/// Everything about answering that is not the model.
#[derive(Clone)]
pub struct Settings {
    /// How tokens are drawn.
    pub params: SamplingParams,
    /// What to sample.
    pub strategy: Strategy,
    /// How messages become a prompt.
    pub prompt: PromptOptions,
    /// How an answer is read from a text.
    pub extractor: Extractor,
    /// Which estimator's score is the outcome's uncertainty.
    pub estimator: &'static dyn Estimator,
    /// When to answer.
    pub policy: Policy,
}

impl Settings {
    /// Eight samples under the model card's sampling, an answer read by what the text looks like, half of the samples to agree.
    pub fn for_model(loaded: &LoadedModel) -> Self {
        Self {
            params: SamplingParams { n: 8, ..loaded.sampling() },
            strategy: Strategy::default(),
            prompt: PromptOptions::default(),
            extractor: Extractor::default(),
            estimator: uncertainty::DEFAULT_ESTIMATOR,
            policy: Policy::default(),
        }
    }
}

/// Answers questions with one model under one set of settings.
pub struct Pipeline {
    engine: Engine,
    format: PromptFormat,
    settings: Settings,
    config: ResolvedConfig,
}

impl Pipeline {
    /// Puts a loaded model and settings together.
    ///
    /// # Errors
    /// Settings out of range, or a model without a usable chat template.
    pub fn new(loaded: &LoadedModel, settings: Settings, mut options: EngineOptions) -> Result<Self> {
        settings.params.validate()?;
        settings.policy.validate()?;
        options.end_tokens.extend_from_slice(&loaded.stop_tokens);
        let engine = Engine::new(loaded.model.clone(), loaded.tokenizer.clone(), options)?;
        let format = PromptFormat::new(loaded.tokenizer.clone(), settings.prompt.clone())?;
        let config = ResolvedConfig::new(&loaded.identity, &settings, &format, engine.context());
        Ok(Self { engine, format, settings, config })
    }

    /// The resolved configuration that every outcome embeds.
    pub fn config(&self) -> &ResolvedConfig {
        &self.config
    }

    /// The engine.
    pub fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// Renders messages into a prompt.
    ///
    /// # Errors
    /// The template's, by its rule.
    pub fn render(&self, messages: &[Message]) -> Result<Prompt> {
        self.format.render(messages)
    }

    /// Answers, or abstains and says why.
    ///
    /// # Errors
    /// What rendering and sampling say; abstaining is no error.
    pub fn answer(&mut self, messages: &[Message]) -> Result<Outcome> {
        let prompt = self.format.render(messages)?;
        let notes = prompt.notes.clone();
        let generation = self.settings.strategy.generate(&mut self.engine, prompt, &self.settings.params)?;
        Ok(self.conclude(generation, notes))
    }

    /// Answers many questions in one batch, in order. A question that cannot be asked has its error; the others go on.
    pub fn answer_all(&mut self, questions: &[Vec<Message>]) -> Vec<Result<Outcome>> {
        let mut outcomes: Vec<Option<Result<Outcome>>> = Vec::new();
        let mut jobs: Vec<(JobId, usize, Vec<String>)> = Vec::new();
        for (i, messages) in questions.iter().enumerate() {
            let params = self.settings.strategy.params(&self.settings.params);
            let submitted = self.format.render(messages).and_then(|prompt| {
                let notes = prompt.notes.clone();
                Ok((self.engine.submit(prompt, params)?, i, notes))
            });
            outcomes.push(submitted.map_or_else(
                |error| Some(Err(error)),
                |job| {
                    jobs.push(job);
                    None
                },
            ));
        }
        while !self.engine.is_idle() {
            match self.engine.step(&mut |_| crate::engine::Control::Continue) {
                Ok(finished) => {
                    for (id, output) in finished {
                        if let (Some((_, i, notes)), Output::Generation(generation)) = (jobs.iter().find(|(job, ..)| *job == id), output) {
                            outcomes[*i] = Some(Ok(self.conclude(generation, notes.clone())));
                        }
                    }
                }
                Err(error) => {
                    let lost = error.to_string();
                    outcomes.iter_mut().filter(|o| o.is_none()).for_each(|o| *o = Some(Err(Error::Backend(lost.clone()))));
                    break;
                }
            }
        }
        outcomes.into_iter().map(|o| o.unwrap_or_else(|| Err(Error::Backend("a question was lost".into())))).collect()
    }

    /// From samples to an outcome: pure and total.
    fn conclude(&self, generation: Generation, notes: Vec<String>) -> Outcome {
        let vote = consensus::vote(&generation, self.settings.extractor);
        let evidence = Evidence { generation: &generation, vote: &vote };
        let scores = uncertainty::scores(&evidence);
        let uncertainty = self.settings.estimator.uncertainty(&evidence);
        // No calibrator is fitted: the outcome says so, and the policy has the vote to go by.
        let decision = self.settings.policy.decide(&vote, uncertainty, None);
        Outcome::new(decision, self.settings.estimator, scores, vote, generation, self.engine.tokenizer(), self.config.clone(), notes)
    }
}
