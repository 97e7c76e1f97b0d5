//! One question to one outcome: the program on one screen.
//!
//! Only rendering and sampling can fail. From [`crate::uncertainty::Evidence`] on everything is
//! pure and total, so stored records can be scored, calibrated and decided again without the model.

mod arm;
mod frame;
mod judge;
mod load;
mod options;
mod outcome;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use crate::calibration::{Fingerprint, PolicyFile};
use crate::consensus::Extractor;
use crate::decision::Policy;
use crate::engine::{Control, Engine, EngineOptions, JobId, Output};
use crate::error::{Error, Result};
use crate::generation::{Generation, Message, SamplingParams, Token};
use crate::prompt::{KvKeep, Prompt, PromptFormat, PromptOptions};
use crate::strategy::Strategy;
use crate::uncertainty::{self, Estimator};
use options::Ballot;

pub use arm::Arm;
pub use frame::{Frame, QUESTION, Shot, Shots};
pub use judge::{Calibration, Judge, Judgement, deciding_scores, names};
pub use load::{Identity, LoadedModel, load_tokenizer, quantization};
pub use outcome::{Cost, Outcome, ResolvedConfig, Sample, SampleToken, ScoredUncertainty};

/// How far questions may run ahead of the oldest one that is not done, in batches: what bounds the
/// outcomes in memory.
pub const AHEAD: usize = 4;

/// Everything about answering that is not the model.
#[derive(Clone)]
pub struct Settings {
    /// How tokens are drawn.
    pub params: SamplingParams,
    /// What to sample.
    pub strategy: Strategy,
    /// What stands around a question.
    pub frame: Frame,
    /// How messages become a prompt.
    pub prompt: PromptOptions,
    /// How an answer is read from a text.
    pub extractor: Extractor,
    /// Which estimator's score is the outcome's uncertainty.
    pub estimator: &'static Estimator,
    /// When to answer.
    pub policy: Policy,
}

impl Settings {
    /// Eight samples under the model card's sampling, an answer read by what the text looks like,
    /// half of the samples to agree.
    pub fn for_model(loaded: &LoadedModel) -> Self {
        Self {
            params: SamplingParams { n: 8, ..loaded.sampling() },
            strategy: Strategy::default(),
            frame: Frame::default(),
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
    judge: Judge,
    config: ResolvedConfig,
    /// Submitted prompts that have no outcome yet, with their notes.
    asked: Vec<(JobId, Vec<String>)>,
    /// Submitted options that are not all scored yet.
    ballots: Vec<Ballot>,
}

impl Pipeline {
    /// Puts a loaded model and settings together.
    ///
    /// # Errors
    /// Settings out of range, or a model without a usable chat template.
    pub fn new(
        loaded: &LoadedModel,
        settings: Settings,
        mut options: EngineOptions,
    ) -> Result<Self> {
        settings.params.validate()?;
        settings.policy.validate()?;
        settings.frame.validate()?;
        if settings.strategy == Strategy::Likelihood && settings.prompt.kv_keep == KvKeep::Second {
            return Err(Error::usage(
                "kv-keep second forgets rows after the prompt, which scoring options does not; \
                 use kv-keep all",
            ));
        }
        options.end_tokens.extend_from_slice(&loaded.stop_tokens);
        let engine = Engine::new(loaded.model.clone(), loaded.tokenizer.clone(), options)?;
        let format = PromptFormat::new(loaded.tokenizer.clone(), settings.prompt.clone())?;
        let config = ResolvedConfig::new(&loaded.identity, &settings, &format, engine.context());
        let judge = Judge::new(settings.extractor, settings.estimator, settings.policy)
            .by_strategy(settings.strategy.name());
        Ok(Self { engine, format, settings, judge, config, asked: Vec::new(), ballots: Vec::new() })
    }

    /// Decides by a policy file from now on, and has confidences. `path` is where the file came
    /// from.
    ///
    /// # Errors
    /// If the file was made for another configuration: every field that differs, with both values.
    /// Nothing has changed then.
    pub fn adopt(&mut self, file: PolicyFile, path: &Path) -> Result<()> {
        let running = self.config.fingerprint(&names(&[self.judge.estimator]))?;
        self.judge.adopt(file, running).map_err(|mismatch| Error::invalid_file(path, mismatch))?;
        self.config.policy = self.judge.policy;
        Ok(())
    }

    /// The resolved configuration that every outcome embeds.
    pub fn config(&self) -> &ResolvedConfig {
        &self.config
    }

    /// What turns samples into verdicts.
    pub fn judge(&self) -> &Judge {
        &self.judge
    }

    /// What a calibration of this run is bound to.
    ///
    /// # Errors
    /// A model without a digest.
    pub fn fingerprint(&self) -> Result<Fingerprint> {
        self.config.fingerprint(&names(&[self.judge.estimator]))
    }

    /// The engine.
    pub fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// What computes and in which type, as in `cpu` and `f32`.
    pub fn device(&self) -> (&'static str, &'static str) {
        self.engine.model().device()
    }

    /// The messages that ask a question.
    pub fn frame(&self, question: &str) -> Vec<Message> {
        self.settings.frame.messages(question)
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
        let generation =
            self.settings.strategy.generate(&mut self.engine, prompt, &self.settings.params)?;
        Ok(self.conclude(generation, notes))
    }

    /// Queues a prompt; [`Self::step`] comes to its outcome.
    ///
    /// # Errors
    /// A prompt that does not fit.
    pub fn submit(&mut self, prompt: Prompt) -> Result<JobId> {
        let notes = prompt.notes.clone();
        let id =
            self.engine.submit(prompt, self.settings.strategy.params(&self.settings.params))?;
        self.asked.push((id, notes));
        Ok(id)
    }

    /// Queues the scoring of options, each as the continuation of the prompt that asks;
    /// [`Self::step`] comes to their outcome.
    ///
    /// # Errors
    /// The template's; no options; an option without a token of its own, or one that does not fit.
    pub fn submit_options(&mut self, messages: &[Message], options: &[String]) -> Result<JobId> {
        let ballot = Ballot::submit(&mut self.engine, &self.format, messages, options)?;
        let id = ballot.id;
        self.ballots.push(ballot);
        Ok(id)
    }

    /// One forward pass for everything submitted; the outcomes of those that are finished.
    ///
    /// # Errors
    /// The tensor backend's; everything submitted is lost then.
    pub fn step(&mut self) -> Result<Vec<(JobId, Outcome)>> {
        let finished = match self.engine.step(&mut |_| Control::Continue) {
            Ok(finished) => finished,
            Err(error) => {
                self.asked.drain(..).for_each(|(id, _)| self.engine.cancel(id));
                self.ballots
                    .drain(..)
                    .for_each(|ballot| ballot.jobs().for_each(|id| self.engine.cancel(id)));
                return Err(error);
            }
        };
        let mut outcomes = Vec::new();
        for (id, output) in finished {
            match output {
                Output::Generation(generation) => {
                    if let Some(at) = self.asked.iter().position(|(asked, _)| *asked == id) {
                        let (_, notes) = self.asked.swap_remove(at);
                        outcomes.push((id, self.conclude(generation, notes)));
                    }
                }
                Output::Score(tokens, cached) => {
                    outcomes.extend(self.take_score(id, tokens, cached)?);
                }
            }
        }
        Ok(outcomes)
    }

    /// Answers questions, `in_flight` of them at a time. `heard` gets each outcome, with the
    /// question's index, as soon as it and all before it are there. A question that cannot be asked
    /// has its error; the others go on.
    ///
    /// # Errors
    /// That of `heard`; what is on its way is given up then.
    pub fn answer_each(
        &mut self,
        questions: &[Vec<Message>],
        in_flight: usize,
        heard: &mut dyn FnMut(usize, Result<Outcome>) -> Result<()>,
    ) -> Result<()> {
        let mut jobs: HashMap<JobId, usize> = HashMap::new();
        let mut waiting: BTreeMap<usize, Result<Outcome>> = BTreeMap::new();
        let (mut next, mut told) = (0, 0);
        while told < questions.len() {
            // One slow question must not keep the outcomes of all others in memory.
            let limit = questions.len().min(told + AHEAD * in_flight.max(1));
            while next < limit && jobs.len() < in_flight.max(1) {
                match self.render(&questions[next]).and_then(|prompt| self.submit(prompt)) {
                    Ok(id) => drop(jobs.insert(id, next)),
                    Err(error) => drop(waiting.insert(next, Err(error))),
                }
                next += 1;
            }
            if !jobs.is_empty() {
                match self.step() {
                    Ok(finished) => {
                        waiting.extend(
                            finished
                                .into_iter()
                                .filter_map(|(id, outcome)| Some((jobs.remove(&id)?, Ok(outcome)))),
                        );
                    }
                    Err(error) => {
                        let lost = error.to_string();
                        waiting.extend(
                            jobs.drain()
                                .map(|(_, index)| (index, Err(Error::Backend(lost.clone())))),
                        );
                    }
                }
            }
            while let Some(outcome) = waiting.remove(&told) {
                if let Err(error) = heard(told, outcome) {
                    self.asked.drain(..).for_each(|(id, _)| self.engine.cancel(id));
                    return Err(error);
                }
                told += 1;
            }
        }
        Ok(())
    }

    /// Takes a scored option in; the outcome where it was the last one of its question.
    fn take_score(
        &mut self,
        id: JobId,
        mut tokens: Vec<Token>,
        cached: usize,
    ) -> Result<Option<(JobId, Outcome)>> {
        for at in 0..self.ballots.len() {
            if self.ballots[at].take(&mut self.engine, id, &mut tokens, cached)? {
                if !self.ballots[at].is_done() {
                    return Ok(None);
                }
                let mut ballot = self.ballots.swap_remove(at);
                let (id, notes) = (ballot.id, std::mem::take(&mut ballot.notes));
                return Ok(Some((id, self.conclude(ballot.generation(), notes))));
            }
        }
        Ok(None)
    }

    /// From samples to an outcome: pure and total.
    fn conclude(&self, generation: Generation, notes: Vec<String>) -> Outcome {
        let judgement = self.judge.judge(&generation);
        Outcome::new(
            judgement,
            &self.judge,
            generation,
            self.engine.tokenizer(),
            self.config.clone(),
            notes,
        )
    }
}
