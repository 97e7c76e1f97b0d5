//! One variant of a comparison: a strategy with settings of its own, in one word:
//! `self-consistency:samples=8:repeat=x2`.
//!
//! What a variant does not name keeps its value. A key is a parameter of the strategy or the name
//! of a flag.

use std::fmt;
use std::str::FromStr;

use crate::decision::Policy;
use crate::digest::sha256_hex;
use crate::error::{Error, Result};
use crate::pipeline::Settings;
use crate::strategy::Strategy;
use crate::uncertainty;

/// Longest folder name of a variant.
const LONGEST_NAME: usize = 80;

/// A strategy and what it changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    strategy: Strategy,
    /// Key and value, in the order given.
    changes: Vec<(String, String)>,
}

/// Sets one setting from its text.
type Change = fn(&mut Settings, &str) -> Result<()>;

/// What a variant may change.
const KEYS: &[(&str, Change)] = &[
    ("samples", |s, v| set(&mut s.params.n, v)),
    ("temperature", |s, v| set(&mut s.params.temperature, v)),
    ("top-p", |s, v| set(&mut s.params.top_p, v)),
    ("top-k", |s, v| set(&mut s.params.top_k, v)),
    ("min-p", |s, v| set(&mut s.params.min_p, v)),
    ("dynatemp-range", |s, v| set(&mut s.params.dynatemp_range, v)),
    ("dynatemp-exponent", |s, v| set(&mut s.params.dynatemp_exponent, v)),
    ("xtc-probability", |s, v| set(&mut s.params.xtc_probability, v)),
    ("xtc-threshold", |s, v| set(&mut s.params.xtc_threshold, v)),
    ("mirostat", |s, v| set(&mut s.params.mirostat, v)),
    ("mirostat-tau", |s, v| set(&mut s.params.mirostat_tau, v)),
    ("mirostat-eta", |s, v| set(&mut s.params.mirostat_eta, v)),
    ("dry-multiplier", |s, v| set(&mut s.params.dry_multiplier, v)),
    ("dry-base", |s, v| set(&mut s.params.dry_base, v)),
    ("dry-allowed-length", |s, v| set(&mut s.params.dry_allowed_length, v)),
    ("dry-penalty-last-n", |s, v| set(&mut s.params.dry_penalty_last_n, v)),
    ("seed", |s, v| set(&mut s.params.seed, v)),
    ("max-tokens", |s, v| set(&mut s.params.max_tokens, v)),
    ("repeat", |s, v| parse(&mut s.prompt.repetition, v)),
    ("kv-keep", |s, v| parse(&mut s.prompt.kv_keep, v)),
    ("confidence-target", |s, v| set(s.question_template.confidence_target.insert(0.0), v)),
    ("thinking", |s, v| {
        s.set_thinking(v.parse()?);
        Ok(())
    }),
    ("extractor", |s, v| parse(&mut s.reader.extractor, v)),
    ("answers", |s, v| parse(&mut s.reader.answers, v)),
    ("equivalence", |s, v| parse(&mut s.reader.equivalence, v)),
    ("vote", |s, v| parse(&mut s.reader.vote, v)),
    ("estimator", |s, v| uncertainty::estimator(v).map(|estimator| s.estimator = Some(estimator))),
    ("min-vote-share", |s, v| {
        let mut min_vote_share = 0.0;
        set(&mut min_vote_share, v)?;
        s.policy = Policy::MinVoteShare { min_vote_share };
        Ok(())
    }),
];

fn set<T: FromStr>(setting: &mut T, value: &str) -> Result<()> {
    *setting =
        value.parse().map_err(|_| Error::usage(format!("`{value}` is not a number in range")))?;
    Ok(())
}

fn parse<T: FromStr<Err = Error>>(setting: &mut T, value: &str) -> Result<()> {
    *setting = value.parse()?;
    Ok(())
}

impl Variant {
    /// The settings with what this variant changes.
    ///
    /// # Errors
    /// A value that its key cannot take, named.
    pub fn apply(&self, settings: &Settings) -> Result<Settings> {
        let mut settings = Settings { strategy: self.strategy, ..settings.clone() };
        for (key, value) in &self.changes {
            if let Some((_, change)) = KEYS.iter().find(|(name, _)| name == key) {
                change(&mut settings, value)
                    .map_err(|error| Error::usage(format!("{self}: {key}={value}: {error}")))?;
            }
        }
        settings.validate().map_err(|error| Error::usage(format!("{self}: {error}")))?;
        Ok(settings)
    }

    /// A name for the variant's folder: letters, digits and signs that every file system allows;
    /// different variants have different names.
    pub fn folder(&self) -> String {
        let text = self.to_string();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '=' | ':');
        let name: String =
            text.chars().map(|c| if plain(c) && c != ':' { c } else { '_' }).collect();
        if name.len() <= LONGEST_NAME && text.chars().all(plain) {
            return name;
        }
        let digest: String = sha256_hex(text.as_bytes()).chars().take(8).collect();
        format!("{}_{digest}", name.chars().take(LONGEST_NAME).collect::<String>())
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.strategy)?;
        self.changes.iter().try_for_each(|(key, value)| write!(f, ":{key}={value}"))
    }
}

impl FromStr for Variant {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.trim().split(':');
        let mut strategy: Strategy = parts.next().unwrap_or_default().parse()?;
        let mut changes: Vec<(String, String)> = Vec::new();
        let mut keys: Vec<String> = Vec::new();
        for part in parts {
            let Some((key, value)) = part.split_once('=') else {
                return Err(Error::usage(format!(
                    "{text:?} has {part:?}; it must be KEY=VALUE, as in self-consistency:samples=8"
                )));
            };
            let (key, value) = (key.trim().replace('_', "-"), value.trim());
            if keys.contains(&key) {
                return Err(Error::usage(format!("{text:?} sets {key} twice; set it once")));
            }
            if KEYS.iter().any(|(name, _)| *name == key) {
                changes.push((key.clone(), value.to_owned()));
            } else {
                let names: Vec<&str> = KEYS.iter().map(|(name, _)| *name).collect();
                strategy.set(&key, value).map_err(|error| {
                    let settings = names.join(", ");
                    Error::usage(format!("{text:?}: {error}; settings are {settings}"))
                })?;
            }
            keys.push(key);
        }
        Ok(Self { strategy, changes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_are_read_and_named() {
        let check = |text: &str, shown: &str, folder: &str| {
            let variant: Variant = text.parse().unwrap();
            assert_eq!((variant.to_string().as_str(), variant.folder().as_str()), (shown, folder));
            assert_eq!(variant.to_string().parse::<Variant>().unwrap(), variant);
        };
        check("greedy", "greedy", "greedy");
        check(
            " self_consistency:samples=8",
            "self-consistency:samples=8",
            "self-consistency_samples=8",
        );
        check(
            "greedy:top_p=0.5:repeat=x2",
            "greedy:top-p=0.5:repeat=x2",
            "greedy_top-p=0.5_repeat=x2",
        );
        // What file systems dislike is replaced, and a digest keeps such names apart.
        let names = ["greedy:repeat=a/{query}", "greedy:repeat=a|{query}"]
            .map(|text| text.parse::<Variant>().unwrap().folder());
        assert!(
            names[0] != names[1]
                && names.iter().all(|name| name.starts_with("greedy_repeat=a__query__")),
            "{names:?}"
        );
    }

    #[test]
    fn what_cannot_be_is_named() {
        let check = |text: &str, expected: &str| {
            let error = text.parse::<Variant>().unwrap_err();
            assert!(
                error.is_usage() && error.to_string().contains(expected),
                "{error}, expected {expected}"
            );
        };
        check("", "strategy `` is unknown");
        check("magic", "strategy `magic` is unknown; use self-consistency, greedy");
        check("greedy:x2", "has \"x2\"; it must be KEY=VALUE");
        check(
            "greedy:speed=3",
            "no parameter `speed`; it has none; settings are samples, temperature,",
        );
        check("adaptive:wave=2:wave=3", "sets wave twice");
        check("greedy:seed=1:seed=2", "sets seed twice");
    }
}
