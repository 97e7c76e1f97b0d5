//! How texts become a vote: what a user can choose about it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Extractor;
use crate::error::{Error, Result};

/// How answers are read, grouped and weighed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reader {
    /// How an answer is found in a text.
    pub extractor: Extractor,
    /// Whether a completion is asked for its short answer.
    pub answers: AnswerMode,
    /// What decides whether two answers mean the same.
    pub equivalence: Equivalence,
    /// Judged pairs are the same above this score, above 0 and below 1. Entailment classifiers are
    /// not on one scale; a threshold is fitted on labeled pairs.
    pub same_above: f64,
    /// What a sample's vote weighs.
    pub vote: VoteMode,
}

/// Whether a completion is asked for its short answer: its own text is continued by a cue and a few
/// greedy tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerMode {
    /// Only a completion that does not state its answer in a common form, or was cut.
    #[default]
    Auto,
    /// Never: the text alone is read, and a completion that was cut does not vote.
    Stated,
    /// Every completion.
    Asked,
}

/// What decides whether two answers mean the same, beyond equal forms.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Equivalence {
    /// Rules over their words alone.
    #[default]
    Rules,
    /// What the rules leave open, the model judges itself.
    #[serde(rename = "self")]
    SelfJudged,
    /// What the rules leave open, an encoder judges.
    Encoder {
        /// A path, or a reference on the Hub.
        reference: String,
        /// SHA-256 of its files; empty until it is loaded.
        sha256: String,
    },
}

/// What a sample's vote weighs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VoteMode {
    /// One each.
    #[default]
    Count,
    /// The sample's probability per token, exp(mean ln p), scaled so that all weights sum to the
    /// number of voting samples (normalized response probability, Taubenfeld et al., arXiv
    /// 2502.06233).
    Weighted,
    /// One each, divided among all groups as the sample itself would: by the probability of every
    /// group's answer after the sample's own text and the cue (a Rao-Blackwell step: at temperature
    /// 1 the mean is that of counting, and the variance is never larger).
    Soft,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            extractor: Extractor::default(),
            answers: AnswerMode::default(),
            equivalence: Equivalence::default(),
            same_above: 0.5,
            vote: VoteMode::default(),
        }
    }
}

impl Reader {
    /// Checks every range.
    ///
    /// # Errors
    /// A threshold outside 0 to 1.
    pub fn validate(&self) -> Result<()> {
        let same_above = self.same_above;
        if same_above > 0.0 && same_above < 1.0 {
            return Ok(());
        }
        Err(Error::usage(format!("same-above is {same_above}; it must be above 0 and below 1")))
    }

    /// A judge's score with the threshold at one half: shifted in log-odds.
    pub(super) fn shifted(&self, same: f64) -> f64 {
        let (yes, no) = (same * (1.0 - self.same_above), (1.0 - same) * self.same_above);
        yes / (yes + no)
    }
}

impl From<Extractor> for Reader {
    fn from(extractor: Extractor) -> Self {
        Self { extractor, ..Self::default() }
    }
}

impl AnswerMode {
    /// The name in flags and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Stated => "stated",
            Self::Asked => "asked",
        }
    }
}

impl VoteMode {
    /// The name in flags and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Weighted => "weighted",
            Self::Soft => "soft",
        }
    }
}

impl fmt::Display for Equivalence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rules => f.write_str("rules"),
            Self::SelfJudged => f.write_str("self"),
            Self::Encoder { reference, sha256 } if sha256.is_empty() => {
                write!(f, "encoder:{reference}")
            }
            // Its files, wherever they lie, are what scores depend on.
            Self::Encoder { sha256, .. } => write!(f, "encoder {sha256}"),
        }
    }
}

impl fmt::Display for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { extractor, answers, equivalence, same_above, vote } = self;
        let (answers, vote) = (answers.name(), vote.name());
        write!(f, "{extractor}, answers {answers}, equivalence {equivalence}")?;
        if *equivalence != Equivalence::Rules {
            write!(f, " above {same_above}")?;
        }
        write!(f, ", vote {vote}")
    }
}

impl FromStr for AnswerMode {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let known = [Self::Auto, Self::Stated, Self::Asked];
        known.into_iter().find(|mode| mode.name() == name).ok_or_else(|| {
            Error::usage(format!("answers `{name}` is unknown; use auto, stated or asked"))
        })
    }
}

impl FromStr for Equivalence {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match (name, name.strip_prefix("encoder:")) {
            ("rules", _) => Ok(Self::Rules),
            ("self", _) => Ok(Self::SelfJudged),
            (_, Some(reference)) if !reference.is_empty() => {
                Ok(Self::Encoder { reference: reference.to_owned(), sha256: String::new() })
            }
            _ => Err(Error::usage(format!(
                "equivalence `{name}` is unknown; use rules, self or encoder:REF"
            ))),
        }
    }
}

impl FromStr for VoteMode {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let known = [Self::Count, Self::Weighted, Self::Soft];
        known.into_iter().find(|mode| mode.name() == name).ok_or_else(|| {
            Error::usage(format!("vote `{name}` is unknown; use count, soft or weighted"))
        })
    }
}
