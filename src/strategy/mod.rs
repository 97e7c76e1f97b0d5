//! Strategies: what to sample for one question, and when to stop.
//!
//! A strategy is one file with an `async fn` over a [`Session`], one variant of [`Strategy`] with
//! its parameters, and one line in [`STRATEGIES`]. It then works in ask, eval, score and report,
//! which know no strategy by name.

mod adaptive;
mod beam;
mod best_of_n;
mod cascade;
mod certified;
mod challenge;
mod cisc;
mod cot_decoding;
mod decide;
mod deepconf;
mod early_stopping;
mod enumerate;
mod greedy;
mod languages;
mod likelihood;
mod read_answers;
mod rivals;
mod self_consistency;
pub mod session;
mod universal;
mod verify_answer;
mod waves;
mod weights;

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use adaptive::Adaptive;
pub use beam::Beam;
pub use best_of_n::BestOfN;
pub use cascade::Cascade;
pub use certified::Certified;
pub use challenge::Challenge;
pub use cisc::Cisc;
pub use decide::{Decide, OptionForm};
pub use deepconf::DeepConf;
pub use early_stopping::EarlyStopping;
pub use enumerate::Enumerate;
pub use languages::Languages;
pub use rivals::Rivals;
pub use session::{Executor, Prefix, Session, SessionContext};
pub use universal::Universal;
pub use verify_answer::{AnswerCheck, VerifyAnswer};

use crate::consensus::AskedQuestion;
use crate::error::{Error, Result};
use crate::generation::{Generation, Message, Role, SamplingParams};

/// A question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// The chat that ends with the question.
    pub messages: Vec<Message>,
    /// What is scored instead of sampling, if anything is: the choices' texts or letters.
    pub choices: Vec<String>,
    /// The texts of the options A, B, ..., if the question lists them.
    pub options: Vec<String>,
}

impl Question {
    /// The question as answers are compared with it: the last user message and the options.
    pub fn asked(&self) -> AskedQuestion {
        let last = self.messages.iter().rev().find(|message| message.role == Role::User);
        AskedQuestion {
            text: last.map(|message| message.content.clone()).unwrap_or_default(),
            options: self.options.clone(),
        }
    }
}

/// What to sample for one question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum Strategy {
    /// One sample, the most probable token at each step.
    Greedy,
    /// All n samples, which then vote.
    #[default]
    SelfConsistency,
    /// No samples: every choice of the question scored by its likelihood.
    Likelihood,
    /// Samples in waves until the leading answer is unlikely to change.
    Adaptive(Adaptive),
    /// Samples in windows until all of one agree.
    EarlyStopping(EarlyStopping),
    /// Samples in waves until the greedy answer is certified to be the most probable one.
    Certified(Certified),
    /// All n samples, each weighed by its confidence in itself.
    Cisc(Cisc),
    /// All n samples, the least confident left out, the others weighed by token confidence.
    Deepconf(DeepConf),
    /// All n samples, weighed by their rank in self-certainty.
    BestOfN(BestOfN),
    /// All n samples, weighed by the model's choice among them.
    Universal(Universal),
    /// The n most probable first tokens, each continued greedily.
    CotDecoding,
    /// Greedy decoding, and samples where it is not sure enough.
    Cascade(Cascade),
    /// An answer without thinking, and samples that think where it is not sure enough.
    ThinkIfUnsure(Cascade),
    /// Beam search.
    Beam(Beam),
    /// The most probable completions instead of samples, with bounds for every answer.
    Enumerate(Enumerate),
    /// All n samples, then a second prompt about the leading answer.
    VerifyAnswer(VerifyAnswer),
    /// All n samples; those that lead are contradicted.
    Challenge(Challenge),
    /// All n samples, then a critic that may veto the leading answer.
    Rivals(Rivals),
    /// Samples of the question in several languages and wordings.
    Languages(Languages),
    /// No samples: one of the options, whatever their order.
    Decide(Decide),
}

/// Every strategy with its default parameters and a line of help.
pub const STRATEGIES: &[(Strategy, &str)] = &[
    (Strategy::SelfConsistency, "all samples vote"),
    (Strategy::Greedy, "one sample, the most probable token at each step"),
    (
        Strategy::Adaptive(Adaptive::DEFAULT),
        "samples in waves, at most all, until the leader is settled (wave=4:threshold=0.95)",
    ),
    (
        Strategy::EarlyStopping(EarlyStopping::DEFAULT),
        "samples in windows, at most all, until all of one agree (window=5)",
    ),
    (
        Strategy::Certified(Certified::DEFAULT),
        "samples in waves until the greedy answer is certified to be the model's most probable \
         one, which does not certify that it is right (alpha=0.05:wave=4)",
    ),
    (
        Strategy::Cisc(Cisc::DEFAULT),
        "each sample weighs its confidence (confidence=p_true, probability or verbal; \
         temperature=0.1)",
    ),
    (
        Strategy::Deepconf(DeepConf::DEFAULT),
        "the least confident samples are left out, the others weigh their confidence \
         (keep=0.9:group=tail, whole or lowest; window=16:power=1:stop_below=0)",
    ),
    (
        Strategy::BestOfN(BestOfN::DEFAULT),
        "samples weigh their rank in self-certainty (power=0.5; large: the first alone)",
    ),
    (
        Strategy::Universal(Universal::DEFAULT),
        "the model reads all samples and chooses the most consistent (rotations=2)",
    ),
    (Strategy::CotDecoding, "the n most probable first tokens, each continued greedily"),
    (
        Strategy::Cascade(Cascade::DEFAULT),
        "greedy; samples only where its answer is not sure enough (min_probability=0.9)",
    ),
    (
        Strategy::ThinkIfUnsure(Cascade::DEFAULT),
        "answers without thinking; thinks only where that is not sure enough (min_probability=0.9)",
    ),
    (Strategy::Beam(Beam::DEFAULT), "beam search (width=4:length_penalty=1)"),
    (
        Strategy::Enumerate(Enumerate::DEFAULT),
        "the most probable completions instead of samples, with bounds for the probability of \
         every answer (coverage=0.9:paths=64:wave=8)",
    ),
    (
        Strategy::VerifyAnswer(VerifyAnswer::DEFAULT),
        "all samples vote, then the model is asked about the leading answer (ask=p_true, verbalized \
         or clustered)",
    ),
    (
        Strategy::Challenge(Challenge::DEFAULT),
        "the leading samples are contradicted; an answer that flips is not given \
         (challenged=4:min_kept=0.5)",
    ),
    (
        Strategy::Rivals(Rivals::DEFAULT),
        "a critic that sees the answer without its reasoning may veto it \
         (min_accept=0.5:retries=1)",
    ),
    (
        Strategy::Languages(Languages::DEFAULT),
        "the question in other languages and wordings too; an answer that depends on them is not \
         given (languages=2:wordings=1:min_agreement=0.5)",
    ),
    (
        Strategy::Decide(Decide::DEFAULT),
        "chooses an option by letters in every rotation, or by texts (by=letters or texts; \
         prior=false:min_mass=0.5)",
    ),
    (Strategy::Likelihood, "scores the choices of a question instead of sampling"),
];

impl Strategy {
    /// Whether the first k of its samples are its run of k samples: the baseline of all others.
    pub fn is_plain_vote(self) -> bool {
        self == Self::SelfConsistency
    }

    /// The parameters that the strategy really samples with.
    pub fn params(self, params: &SamplingParams) -> SamplingParams {
        match self {
            // What is scored depends on none of them.
            Self::Likelihood | Self::Decide(_) => SamplingParams::default(),
            Self::Greedy | Self::Beam(_) => {
                SamplingParams { n: 1, temperature: 0.0, ..params.clone() }
            }
            _ => params.clone(),
        }
    }

    /// Asks a question. `session.params()` are those of [`Self::params`].
    ///
    /// # Errors
    /// The template's and the engine's; what the strategy needs and the question lacks.
    pub async fn run(self, session: &Session, question: &Question) -> Result<Generation> {
        match self {
            Self::Greedy => greedy::run(session, question).await,
            Self::SelfConsistency => self_consistency::run(session, question).await,
            Self::Likelihood => likelihood::run(session, question).await,
            Self::Adaptive(parameters) => parameters.run(session, question).await,
            Self::EarlyStopping(parameters) => parameters.run(session, question).await,
            Self::Certified(parameters) => parameters.run(session, question).await,
            Self::Cisc(parameters) => parameters.run(session, question).await,
            Self::Deepconf(parameters) => parameters.run(session, question).await,
            Self::BestOfN(parameters) => parameters.run(session, question).await,
            Self::Universal(parameters) => parameters.run(session, question).await,
            Self::CotDecoding => cot_decoding::run(session, question).await,
            Self::Cascade(parameters) => parameters.run(session, question).await,
            Self::ThinkIfUnsure(parameters) => parameters.think(session, question).await,
            Self::Beam(parameters) => parameters.run(session, question).await,
            Self::Enumerate(parameters) => parameters.run(session, question).await,
            Self::VerifyAnswer(parameters) => parameters.run(session, question).await,
            Self::Challenge(parameters) => parameters.run(session, question).await,
            Self::Rivals(parameters) => parameters.run(session, question).await,
            Self::Languages(parameters) => parameters.run(session, question).await,
            Self::Decide(parameters) => parameters.run(session, question).await,
        }
    }

    /// Whether it scores the choices of a question instead of drawing samples.
    pub fn scores_choices(self) -> bool {
        matches!(self, Self::Likelihood | Self::Decide(_))
    }

    /// Whether it adds the choices to the prompt itself.
    pub fn lists_choices(self) -> bool {
        matches!(self, Self::Decide(_))
    }

    /// Sets a parameter from its text.
    ///
    /// # Errors
    /// A parameter that the strategy does not have, or a value that it cannot take.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let mut fields = self.fields();
        let key = key.replace('-', "_");
        let Some(field) = fields.get_mut(&key).filter(|_| key != "name") else {
            let names: Vec<String> = fields.into_iter().skip(1).map(|(name, _)| name).collect();
            let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return Err(Error::usage(format!(
                "strategy {} has no parameter `{key}`; it has {known}",
                self.name()
            )));
        };
        *field = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        let changed: Self = serde_json::from_value(Value::Object(fields))
            .map_err(|e| Error::usage(format!("strategy {}: {key}={value}: {e}", self.name())))?;
        changed.validate()?;
        *self = changed;
        Ok(())
    }

    fn validate(self) -> Result<()> {
        match self {
            Self::Adaptive(parameters) => parameters.validate(),
            Self::EarlyStopping(parameters) => parameters.validate(),
            Self::Certified(parameters) => parameters.validate(),
            Self::Cisc(parameters) => parameters.validate(),
            Self::Deepconf(parameters) => parameters.validate(),
            Self::BestOfN(parameters) => parameters.validate(),
            Self::Universal(parameters) => parameters.validate(),
            Self::Cascade(parameters) | Self::ThinkIfUnsure(parameters) => parameters.validate(),
            Self::Beam(parameters) => parameters.validate(),
            Self::Enumerate(parameters) => parameters.validate(),
            Self::Challenge(parameters) => parameters.validate(),
            Self::Rivals(parameters) => parameters.validate(),
            Self::Languages(parameters) => parameters.validate(),
            Self::Decide(parameters) => parameters.validate(),
            Self::Greedy
            | Self::SelfConsistency
            | Self::Likelihood
            | Self::CotDecoding
            | Self::VerifyAnswer(_) => Ok(()),
        }
    }

    /// The name in flags and JSON.
    pub fn name(self) -> String {
        self.fields().get("name").and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// Its name and its parameters, as in JSON.
    fn fields(self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(fields)) => fields,
            _ => Map::new(),
        }
    }
}

impl fmt::Display for Strategy {
    /// The name and the parameters that are not the default, as in `adaptive:wave=2`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        f.write_str(&name)?;
        let default = STRATEGIES.iter().find(|(strategy, _)| strategy.name() == name);
        let default = default.map(|(strategy, _)| strategy.fields()).unwrap_or_default();
        let changed = self.fields();
        let mut changed = changed.iter().filter(|(key, value)| default.get(*key) != Some(value));
        changed.try_for_each(|(key, value)| match value.as_str() {
            Some(text) => write!(f, ":{key}={text}"),
            None => write!(f, ":{key}={value}"),
        })
    }
}

impl std::str::FromStr for Strategy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.trim().split([':', ',']);
        let name = parts.next().unwrap_or_default().replace('_', "-");
        let known = STRATEGIES.iter().find(|(strategy, _)| strategy.name() == name);
        let Some((mut strategy, _)) = known.copied() else {
            let names: Vec<String> = STRATEGIES.iter().map(|(s, _)| s.name()).collect();
            return Err(Error::usage(format!(
                "strategy `{name}` is unknown; use {}",
                names.join(", ")
            )));
        };
        for part in parts {
            let Some((key, value)) = part.split_once('=') else {
                return Err(Error::usage(format!(
                    "strategy {text:?} has {part:?}; it must be KEY=VALUE, as in adaptive:wave=4"
                )));
            };
            strategy.set(key.trim(), value.trim())?;
        }
        Ok(strategy)
    }
}

/// Checks a share of samples or a probability.
fn check_share(name: &str, value: f64) -> Result<()> {
    if (0.0..=1.0).contains(&value) {
        return Ok(());
    }
    Err(Error::usage(format!("{name} is {value}; it must be 0 to 1")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strategies_are_parsed_and_printed() {
        let check = |text: &str, shown: &str| {
            let strategy: Strategy = text.parse().unwrap();
            assert_eq!(strategy.to_string(), shown);
            assert_eq!(strategy.to_string().parse::<Strategy>().unwrap(), strategy);
            let json = serde_json::to_string(&strategy).unwrap();
            assert_eq!(serde_json::from_str::<Strategy>(&json).unwrap(), strategy);
        };
        check("self_consistency", "self-consistency");
        check("verify-answer", "verify-answer");
        check("adaptive", "adaptive");
        check("adaptive:threshold=0.9:wave=4", "adaptive:threshold=0.9");
        check("cisc:confidence=verbal,temperature=2", "cisc:confidence=verbal:temperature=2.0");
    }

    #[test]
    fn what_a_strategy_does_not_have_is_refused_by_name() {
        let check = |text: &str, expected: &str| {
            let error = text.parse::<Strategy>().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("magic", "strategy `magic` is unknown; use self-consistency, greedy,");
        check("greedy:wave=2", "strategy greedy has no parameter `wave`; it has none");
        check("adaptive:speed=2", "no parameter `speed`; it has wave, threshold");
        check("adaptive:name=greedy", "no parameter `name`");
        check("adaptive:wave=many", "wave=many");
        check("adaptive:wave=0", "wave is 0; it must be at least 1");
        check("adaptive:threshold=1.5", "threshold is 1.5; it must be 0.5 to below 1");
        check("adaptive:4", "it must be KEY=VALUE");
    }
}
