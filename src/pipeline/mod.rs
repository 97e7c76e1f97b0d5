//! One question to one outcome: the program on one screen.
//!
//! Only rendering and sampling can fail. From [`crate::uncertainty::Evidence`] on everything is
//! pure and total, so stored records can be scored, calibrated and decided again without the model.

mod drive;
mod load;
mod outcome;
mod question_template;
mod verdict;

use std::path::Path;
use std::rc::Rc;

use crate::calibration::{Fingerprint, PolicyFile};
use crate::consensus::{Equivalence, Reader};
use crate::decision::Policy;
use crate::digest::sha256_hex;
use crate::encoder::Encoder;
use crate::engine::{Engine, EngineOptions, LocalEngine};
use crate::error::{Error, Result};
use crate::generation::{Generation, Message, SamplingParams};
use crate::prompt::{Prompt, PromptFormat, PromptOptions, ThinkingMode};
use crate::strategy::{Question, Session, SessionContext, Strategy};
use crate::uncertainty::{self, Estimator};

pub use drive::{Answered, DriveOptions, Sink};
pub use load::{Identity, LoadedModel, Recommended, load_tokenizer, quantization};
pub use outcome::{Outcome, ResolvedConfig, Sample, SampleToken, ScoredUncertainty};
pub use question_template::{Example, FewShot, QUESTION, QuestionTemplate};
pub use verdict::{Calibration, Selector, Verdict, decision_scores, estimator_names};

/// Everything about answering that is not the model.
#[derive(Clone)]
pub struct Settings {
    /// How tokens are drawn.
    pub params: SamplingParams,
    /// What to sample.
    pub strategy: Strategy,
    /// The text around a question.
    pub question_template: QuestionTemplate,
    /// How messages become a prompt.
    pub prompt: PromptOptions,
    /// How answers are read, grouped and weighed.
    pub reader: Reader,
    /// Which estimator's score is the outcome's uncertainty; `None` for the policy file's, or the
    /// default without one.
    pub estimator: Option<&'static Estimator>,
    /// When to answer.
    pub policy: Policy,
}

impl Settings {
    /// Eight samples under the model card's sampling, automatic answer extraction, and a
    /// minimum vote share of one half.
    pub fn for_model(loaded: &LoadedModel) -> Self {
        Self {
            params: SamplingParams { n: 8, ..loaded.sampling() },
            strategy: Strategy::default(),
            question_template: QuestionTemplate::default(),
            prompt: PromptOptions::default(),
            reader: Reader::default(),
            estimator: None,
            policy: Policy::default(),
        }
    }

    /// Sets whether the model thinks, and for how many tokens at most.
    pub fn set_thinking(&mut self, mode: ThinkingMode) {
        self.prompt.arguments.enable_thinking = Some(mode != ThinkingMode::Off);
        self.params.thinking_budget = match mode {
            ThinkingMode::Budget(tokens) => Some(tokens),
            ThinkingMode::On | ThinkingMode::Off => None,
        };
    }

    /// Checks every range.
    ///
    /// # Errors
    /// A usage error that names the first value out of range.
    pub fn validate(&self) -> Result<()> {
        self.params.validate()?;
        self.reader.validate()?;
        self.policy.validate()?;
        self.question_template.validate()
    }
}

/// Answers questions with one model under one set of settings.
pub struct Pipeline {
    engine: Box<dyn Engine>,
    core: Core,
}

/// The read-only state for answering, besides the engine.
struct Core {
    session: Rc<SessionContext>,
    template: QuestionTemplate,
    strategy: Strategy,
    /// The estimator, if the user chose one.
    estimator: Option<&'static Estimator>,
    selector: Selector,
    config: ResolvedConfig,
}

impl Pipeline {
    /// A pipeline over a loaded model.
    ///
    /// # Errors
    /// Settings out of range, or a model without a usable chat template.
    pub fn new(
        loaded: &LoadedModel,
        settings: Settings,
        mut options: EngineOptions,
    ) -> Result<Self> {
        options.end_tokens.extend_from_slice(&loaded.stop_tokens);
        let engine = LocalEngine::new(loaded.model.clone(), loaded.tokenizer.clone(), options)?;
        Self::with_engine(loaded, settings, Box::new(engine))
    }

    /// The same over another engine; `loaded` gives tokenizer and identity.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_engine(
        loaded: &LoadedModel,
        settings: Settings,
        engine: Box<dyn Engine>,
    ) -> Result<Self> {
        settings.validate()?;
        let format = PromptFormat::new(loaded.tokenizer.clone(), settings.prompt.clone())?;
        if let (Some(budget), None) = (settings.params.thinking_budget, format.markers()) {
            return Err(Error::usage(format!(
                "the thinking budget is {budget} tokens, but neither vocabulary nor chat template \
                 of {} has markers around reasoning; leave the budget out",
                loaded.identity.model
            )));
        }
        let config = ResolvedConfig::new(loaded, &settings, &format, engine.context());
        let estimator = settings.estimator.unwrap_or(uncertainty::DEFAULT_ESTIMATOR);
        let selector = Selector::new(settings.reader.clone(), estimator, settings.policy);
        let session = SessionContext {
            format,
            end_tokens: [loaded.tokenizer.end_tokens(), &loaded.stop_tokens].concat(),
            tokenizer: loaded.tokenizer.clone(),
            context: engine.context(),
            params: settings.strategy.params(&settings.params),
            reader: settings.reader.clone(),
            encoder: None,
        };
        let Settings { question_template: template, strategy, estimator, .. } = settings;
        let session = Rc::new(session);
        let core = Core { session, template, strategy, estimator, selector, config };
        Ok(Self { engine, core })
    }

    /// Decides by a policy file from now on, and reports confidences. `path` is the file's
    /// path.
    ///
    /// # Errors
    /// If the file was changed after it was made, or made for another configuration or estimator
    /// than the settings name: every field that differs, with both values. Nothing has changed
    /// then.
    pub fn bind_policy(&mut self, file: PolicyFile, path: &Path) -> Result<()> {
        let running = self.fingerprint()?;
        let (selector, chosen) = (&mut self.core.selector, self.core.estimator);
        selector.bind_policy(file, running, chosen).map_err(|e| Error::invalid_file(path, e))?;
        self.core.config.policy = selector.policy;
        Ok(())
    }

    /// Compares answers with an encoder from now on.
    pub fn bind_encoder(&mut self, reference: &str, encoder: Encoder) {
        let (reference, sha256) = (reference.to_owned(), encoder.sha256().to_owned());
        let equivalence = Equivalence::Encoder { reference, sha256 };
        self.core.config.reader.equivalence = equivalence.clone();
        self.core.selector.reader.equivalence = equivalence.clone();
        // No session is there yet that shares it.
        if let Some(shared) = Rc::get_mut(&mut self.core.session) {
            shared.reader.equivalence = equivalence;
            shared.encoder = Some(encoder);
        }
    }

    /// The resolved configuration that every outcome embeds.
    pub fn config(&self) -> &ResolvedConfig {
        &self.core.config
    }

    /// Turns samples into verdicts.
    pub fn selector(&self) -> &Selector {
        &self.core.selector
    }

    /// What a calibration of this run is bound to.
    ///
    /// # Errors
    /// A model without a digest.
    pub fn fingerprint(&self) -> Result<Fingerprint> {
        self.core.config.fingerprint(&estimator_names(&[self.core.selector.estimator]))
    }

    /// The text around a question.
    pub fn template(&self) -> &QuestionTemplate {
        &self.core.template
    }

    /// Renders messages into a prompt.
    ///
    /// # Errors
    /// The template's, by its rule.
    pub fn render(&self, messages: &[Message]) -> Result<Prompt> {
        self.core.session.format.render(messages)
    }

    /// Answers, or abstains and says why.
    ///
    /// # Errors
    /// Those of rendering and sampling; abstaining is not an error.
    pub fn answer(&mut self, messages: &[Message]) -> Result<Outcome> {
        struct One(Option<Result<Outcome>>);
        impl Sink for One {
            fn on_outcome(&mut self, _: usize, answered: Answered) -> Result<()> {
                self.0 = Some(answered.outcome);
                Ok(())
            }
        }
        let question = Question { messages: messages.to_vec(), ..Question::default() };
        let mut one = One(None);
        self.drive(&mut std::iter::once(question), DriveOptions::default(), &mut one)?;
        one.0.unwrap_or_else(|| Err(Error::Backend("the question has no outcome".into())))
    }
}

impl Core {
    /// Asks one question. Everything after the strategy is pure.
    async fn answer(&self, session: Session, question: Question) -> Answered {
        let outcome = self.generate(&session, &question).await.map(|generation| {
            let verdict = self.selector.verdict(&question.asked(), &generation);
            let (tokenizer, config) = (&self.session.tokenizer, self.config.clone());
            Outcome::new(verdict, &self.selector, generation, tokenizer, config, session.notes())
        });
        let prompt = session.first_prompt();
        let prompt_sha256 = prompt.map(|prefix| sha256_hex(prefix.prompt.text.as_bytes()));
        Answered { prompt_sha256, outcome }
    }

    /// The samples, with everything that their vote needs.
    async fn generate(&self, session: &Session, question: &Question) -> Result<Generation> {
        let mut generation = self.strategy.run(session, question).await?;
        session.vote(question, &mut generation).await?;
        Ok(generation)
    }
}
