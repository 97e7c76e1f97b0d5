//! How unsure the model is: raw scores from one generation and its vote.
//!
//! Contract: pure and total. A score is a finite number or `None`; `None` means "no score", never
//! "sure". Every estimator says which way its natural score points; [`Uncertainty`] is always
//! higher = less sure. A score is no probability of being right: only a fitted calibrator makes a
//! [`Confidence`]. It knows neither question nor gold answer.
//!
//! Conventions:
//! - Logarithms are natural. Token statistics are those of the raw distribution, see
//!   [`TokenStats`](crate::generation::TokenStats), and the end token counts as a token.
//! - A token-level estimator scores each sample that votes for the leading answer, and takes the
//!   mean over these samples: the figure is about the answer that would be given. Without a leading
//!   answer, or where one of these samples has no tokens, there is no score.
//! - A vote-level estimator counts every sample drawn. One without an answer (unparsed, truncated,
//!   failed) agrees with nobody: garbage is uncertainty.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::consensus::Vote;
use crate::error::{Error, Result};
use crate::generation::{Completion, Generation, Token};

mod discrete_semantic_entropy;
mod max_token_entropy;
mod mean_token_entropy;
mod min_token_prob;
mod perplexity;
mod self_certainty;
mod sequence_logprob;
mod tail_confidence;
mod vote_margin;
mod vote_share;

/// A raw score in uncertainty direction: finite, unbounded, higher = less sure. Comparable within
/// one estimator only.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Uncertainty(f64);

impl Uncertainty {
    /// `None` for NaN and infinities.
    pub fn new(value: f64) -> Option<Self> {
        value.is_finite().then_some(Self(value))
    }

    /// The number.
    pub fn value(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Uncertainty {
    type Error = String;

    fn try_from(value: f64) -> Result<Self, String> {
        Self::new(value).ok_or_else(|| format!("uncertainty is {value}; it must be finite"))
    }
}

impl From<Uncertainty> for f64 {
    fn from(uncertainty: Uncertainty) -> Self {
        uncertainty.0
    }
}

/// A calibrated probability of being right, 0 to 1. Nothing but a fitted calibrator makes one.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Confidence(f64);

impl Confidence {
    /// For `calibration` alone, which a test holds. `None` outside 0 to 1.
    pub(crate) fn calibrated(probability: f64) -> Option<Self> {
        (0.0..=1.0).contains(&probability).then_some(Self(probability))
    }

    /// The probability.
    pub fn value(self) -> f64 {
        self.0
    }
}

/// What an estimator may look at.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// All samples of one prompt.
    pub generation: &'a Generation,
    /// Their vote.
    pub vote: &'a Vote,
}

impl<'a> Evidence<'a> {
    /// The samples that vote for the leading answer.
    pub fn supporters(&self) -> impl Iterator<Item = &'a Completion> + use<'a> {
        let generation = self.generation;
        let samples = self.vote.leader().map_or(&[][..], |leader| &leader.samples);
        samples.iter().filter_map(|sample| generation.completions.get(*sample))
    }

    /// The mean of `score` over the supporters; `None` without supporters, or where one of them has
    /// no tokens. Summed in ascending order, so that the order of samples cannot show in a bit.
    fn mean_of_supporters(&self, score: impl Fn(&[Token]) -> f64) -> Option<f64> {
        let scores: Option<Vec<f64>> = self
            .supporters()
            .map(|sample| (!sample.tokens.is_empty()).then(|| score(&sample.tokens)))
            .collect();
        let mut scores = scores.filter(|scores| !scores.is_empty())?;
        scores.sort_by(f64::total_cmp);
        finite(scores.iter().sum::<f64>() / scores.len() as f64)
    }
}

/// The value if it is finite; minus zero becomes zero.
fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value + 0.0)
}

/// The largest value of a statistic over tokens, or NaN if one of them is: a broken token must not
/// vanish.
fn largest(tokens: &[Token], statistic: impl Fn(&Token) -> f64) -> f64 {
    tokens
        .iter()
        .map(statistic)
        .fold(f64::NEG_INFINITY, |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) })
}

/// The mean of a statistic over tokens; `tokens` must not be empty.
fn mean(tokens: &[Token], statistic: impl Fn(&Token) -> f64) -> f64 {
    tokens.iter().map(statistic).sum::<f64>() / tokens.len() as f64
}

/// Which way a score points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Higher = surer.
    HigherIsSurer,
    /// Higher = less sure.
    HigherIsLessSure,
}

/// One way to turn a generation and its vote into a number.
pub trait Estimator: Sync {
    /// The name in flags, JSON and reports.
    fn name(&self) -> &'static str;
    /// The unit of the natural score.
    fn unit(&self) -> &'static str;
    /// Which way the natural score points.
    fn direction(&self) -> Direction;
    /// Paper and equation.
    fn source(&self) -> &'static str;
    /// One line on what it measures, with its range.
    fn summary(&self) -> &'static str;
    /// The natural score: finite, or `None` where there is nothing to score.
    fn score(&self, evidence: &Evidence<'_>) -> Option<f64>;

    /// The score in uncertainty direction: negated where higher is surer.
    fn uncertainty(&self, evidence: &Evidence<'_>) -> Option<Uncertainty> {
        let score = self.score(evidence)?;
        Uncertainty::new(match self.direction() {
            Direction::HigherIsSurer => 0.0 - score,
            Direction::HigherIsLessSure => score,
        })
    }
}

/// Every estimator, those of the vote first.
pub static ESTIMATORS: &[&dyn Estimator] = &[
    &vote_share::VoteShare,
    &vote_margin::VoteMargin,
    &discrete_semantic_entropy::DiscreteSemanticEntropy,
    &mean_token_entropy::MeanTokenEntropy,
    &max_token_entropy::MaxTokenEntropy,
    &perplexity::Perplexity,
    &sequence_logprob::SequenceLogprob,
    &min_token_prob::MinTokenProb,
    &self_certainty::SelfCertainty,
    &tail_confidence::TailConfidence,
];

/// The estimator whose score is reported where none is chosen: it needs only the vote, and is about
/// meanings, not wordings.
pub const DEFAULT_ESTIMATOR: &dyn Estimator = &discrete_semantic_entropy::DiscreteSemanticEntropy;

/// The estimator of that name.
///
/// # Errors
/// A usage error that lists the names.
pub fn estimator(name: &str) -> Result<&'static dyn Estimator> {
    ESTIMATORS.iter().copied().find(|estimator| estimator.name() == name).ok_or_else(|| {
        let names: Vec<&str> = ESTIMATORS.iter().map(|estimator| estimator.name()).collect();
        Error::usage(format!("estimator `{name}` is unknown; use one of {}", names.join(", ")))
    })
}

/// Every natural score that exists, by estimator name.
pub fn scores(evidence: &Evidence<'_>) -> BTreeMap<&'static str, f64> {
    ESTIMATORS
        .iter()
        .filter_map(|estimator| Some((estimator.name(), estimator.score(evidence)?)))
        .collect()
}
