//! Prompt repetition: the question twice in the prompt, so that every word can attend to every
//! other.
//!
//! A causal model reads the first word before it knows the last. Repeating the whole user message
//! compensates for that (Leviathan, Kalman, Matias, arXiv 2512.14982; the variants are from its
//! appendix A.4). The text is repeated inside the user's turn of the chat template. This file only
//! builds text; [`KvKeep`] says which copies stay in the cache.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

const REPEAT: &str = "Let me repeat that:";
const REPEAT_AGAIN: &str = "Let me repeat that one more time:";
const IGNORE: &str = "Ignore these periods (they are irrelevant) and answer the above question:";
const QUERY: &str = "{query}";
/// Fixed-point steps towards the padded length; the first step is usually exact.
const PAD_STEPS: usize = 8;

/// How the last user message is repeated. The parts are joined by one newline each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Repetition {
    /// Once, as it is.
    #[default]
    Off,
    /// Twice, separated by the newline only.
    X2,
    /// Twice, with "Let me repeat that:" between.
    Verbose,
    /// Three times, with "Let me repeat that:" and "Let me repeat that one more time:" between.
    X3,
    /// The control: once, then "Ignore these periods (they are irrelevant) and answer the above
    /// question:" and periods up to the token length of [`Repetition::X2`]. The periods are
    /// separated (`. . .`), because vocabularies have tokens for whole runs of them, so a run has
    /// no exact length.
    Pad,
    /// The caller's own text, with `{query}` wherever the message goes.
    Custom(String),
}

impl Repetition {
    /// The named forms, in the order of the paper.
    pub const NAMES: [&'static str; 5] = ["off", "x2", "verbose", "x3", "pad"];

    /// The text for `query`. `tokens` counts the tokens of a text; only [`Repetition::Pad`] needs
    /// it.
    pub fn apply(&self, query: &str, tokens: impl Fn(&str) -> Result<usize>) -> Result<Repeated> {
        let text = match self {
            Self::Off => query.to_owned(),
            Self::X2 => format!("{query}\n{query}"),
            Self::Verbose => format!("{query}\n{REPEAT}\n{query}"),
            Self::X3 => format!("{query}\n{REPEAT}\n{query}\n{REPEAT_AGAIN}\n{query}"),
            Self::Pad => pad(query, tokens)?,
            Self::Custom(template) => template.replace(QUERY, query),
        };
        let last_copy = match self {
            Self::Off | Self::Pad => None,
            Self::X2 | Self::Verbose | Self::X3 => Some(text.len() - query.len()),
            Self::Custom(template) => last_copy(template, query),
        };
        Ok(Repeated { text, last_copy })
    }
}

/// A user message after repetition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repeated {
    /// The whole text of the turn.
    pub text: String,
    /// Byte at which the last copy starts, if there is more than one.
    pub last_copy: Option<usize>,
}

/// The start of the last of several copies in the expanded template.
fn last_copy(template: &str, query: &str) -> Option<usize> {
    let copies = template.matches(QUERY).count();
    let after = template.rfind(QUERY).map(|at| template.len() - at - QUERY.len())?;
    let expanded = template.len() - copies * QUERY.len() + copies * query.len();
    (copies > 1).then(|| expanded - after - query.len())
}

fn pad(query: &str, tokens: impl Fn(&str) -> Result<usize>) -> Result<String> {
    let padded = |periods: usize| {
        let mut text = format!("{query}\n{IGNORE}\n");
        text.extend((0..periods).map(|i| if i == 0 { "." } else { " ." }));
        text
    };
    let target = tokens(&format!("{query}\n{query}"))?;
    let mut periods = target.saturating_sub(tokens(&padded(0))?);
    let mut best = (usize::MAX, periods);
    for _ in 0..PAD_STEPS {
        let length = tokens(&padded(periods))?;
        best = best.min((length.abs_diff(target), periods));
        let next = (periods + target).saturating_sub(length);
        if next == periods {
            break;
        }
        periods = next;
    }
    Ok(padded(best.1))
}

impl fmt::Display for Repetition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::X2 => "x2",
            Self::Verbose => "verbose",
            Self::X3 => "x3",
            Self::Pad => "pad",
            Self::Custom(template) => template,
        })
    }
}

impl FromStr for Repetition {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "off" => Ok(Self::Off),
            "x2" => Ok(Self::X2),
            "verbose" => Ok(Self::Verbose),
            "x3" => Ok(Self::X3),
            "pad" => Ok(Self::Pad),
            custom if custom.contains(QUERY) => Ok(Self::Custom(custom.to_owned())),
            _ => Err(Error::usage(format!(
                "prompt repetition is {text:?}; it must be off, x2, verbose, x3, pad, or your own \
                 text with {QUERY} in it"
            ))),
        }
    }
}

impl TryFrom<String> for Repetition {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Repetition> for String {
    fn from(repetition: Repetition) -> Self {
        repetition.to_string()
    }
}

/// Which copies of a repeated message stay in the cache after prefill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KvKeep {
    /// All of them.
    #[default]
    All,
    /// Only the last one: generation then costs the same as without repetition (arXiv 2512.14982,
    /// future work; "prefill twice, decode once"). Positions do not change. The text before the
    /// message stays, at least four tokens of it as attention sinks.
    Second,
}

impl fmt::Display for KvKeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "all",
            Self::Second => "second",
        })
    }
}

impl FromStr for KvKeep {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "all" => Ok(Self::All),
            "second" => Ok(Self::Second),
            _ => Err(Error::usage(format!("kv_keep is {text:?}; it must be all or second"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words and separate periods: enough of a tokenizer for counting.
    #[expect(clippy::unnecessary_wraps, reason = "it stands in for a tokenizer that can fail")]
    fn words(text: &str) -> Result<usize> {
        Ok(text.split_whitespace().count())
    }

    #[test]
    fn texts_are_the_papers() {
        let check = |name: &str, expected: &str| {
            let repetition: Repetition = name.parse().unwrap();
            let repeated = repetition.apply("Q?", words).unwrap();
            assert_eq!(repeated.text, expected, "{name}");
            assert_eq!(repetition.to_string(), name);
            if let Some(start) = repeated.last_copy {
                assert!(
                    repeated.text[start..].starts_with("Q?")
                        && !repeated.text[start + 2..].contains("Q?"),
                    "{name}"
                );
            }
            assert_eq!(repeated.last_copy.is_some(), expected.matches("Q?").count() > 1, "{name}");
        };
        check("off", "Q?");
        check("x2", "Q?\nQ?");
        check("verbose", "Q?\nLet me repeat that:\nQ?");
        check("x3", "Q?\nLet me repeat that:\nQ?\nLet me repeat that one more time:\nQ?");
        check(
            "pad",
            "Q?\nIgnore these periods (they are irrelevant) and answer the above question:\n",
        );
        check("Say: {query}", "Say: Q?");
        check("A {query} B {query} C", "A Q? B Q? C");
    }

    #[test]
    fn a_query_that_looks_like_the_template_is_text() {
        let repetition = Repetition::Custom("{query}|{query}".into());
        let repeated = repetition.apply("{query}", words).unwrap();
        assert_eq!(repeated, Repeated { text: "{query}|{query}".into(), last_copy: Some(8) });
    }

    #[test]
    fn padding_reaches_the_length_of_the_repetition() {
        for length in [1, 5, 10, 11, 12, 13, 40, 333] {
            let query = vec!["word"; length].join(" ");
            let padded = words(&Repetition::Pad.apply(&query, words).unwrap().text).unwrap();
            // The instruction alone has 11 words: a shorter query cannot be matched.
            assert_eq!(padded, (2 * length).max(length + 11), "{length}");
        }
    }

    #[test]
    fn padding_settles_where_the_length_is_not_linear() {
        // A counter that charges two for every third period.
        let odd = |text: &str| Ok(text.len() / 2 + text.matches(". .").count());
        let query = "x".repeat(400);
        let target = odd(&format!("{query}\n{query}")).unwrap();
        let got = odd(&Repetition::Pad.apply(&query, odd).unwrap().text).unwrap();
        assert!(got.abs_diff(target) <= 1, "{got} for {target}");
    }

    #[test]
    fn unknown_names_are_rejected_with_the_choice() {
        for text in ["", "x4", "custom", "Off", "{Query}"] {
            let message = text.parse::<Repetition>().unwrap_err().to_string();
            assert!(
                message.contains(&format!("{text:?}")) && message.contains("{query}"),
                "{message}"
            );
        }
        assert!("first".parse::<KvKeep>().unwrap_err().to_string().contains("all or second"));
        assert_eq!("second".parse::<KvKeep>().unwrap().to_string(), "second");
    }
}
