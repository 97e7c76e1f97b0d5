//! Strategies: what to sample for one question, and when to stop.
//!
//! A strategy is one file with an `async fn` over a [`Session`], one variant of [`Strategy`] with
//! its parameters, and one line in [`STRATEGIES`]. It then works in ask, eval, score and report,
//! which know no strategy by name.

mod adaptive;
mod greedy;
mod likelihood;
mod read_answers;
mod self_consistency;
pub mod session;
mod verify_answer;

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use adaptive::Adaptive;
pub use session::{Executor, Prefix, Session, SessionContext};

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
    /// Samples in waves until the leading answer cannot change.
    Adaptive(Adaptive),
    /// All n samples, then a second prompt about the leading answer.
    VerifyAnswer,
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
        Strategy::VerifyAnswer,
        "all samples vote, then the model is asked whether the leading answer is right (p_true)",
    ),
    (Strategy::Likelihood, "scores the choices of a question instead of sampling"),
];

impl Strategy {
    /// The parameters that the strategy really samples with.
    pub fn params(self, params: &SamplingParams) -> SamplingParams {
        match self {
            // What is scored depends on none of them.
            Self::Likelihood => SamplingParams::default(),
            Self::Greedy => SamplingParams { n: 1, temperature: 0.0, ..params.clone() },
            Self::SelfConsistency | Self::Adaptive(_) | Self::VerifyAnswer => params.clone(),
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
            Self::VerifyAnswer => verify_answer::run(session, question).await,
        }
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
            _ => Ok(()),
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
        changed.try_for_each(|(key, value)| write!(f, ":{key}={value}"))
    }
}

impl std::str::FromStr for Strategy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.trim().split(':');
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
