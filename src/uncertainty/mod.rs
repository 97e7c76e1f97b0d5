//! Uncertainty estimators: raw scores from one generation and its vote.
//!
//! Contract: pure and total. A score is a finite number or `None`; `None` means "no score", never
//! "confident". Every estimator has a direction for its natural score; [`Uncertainty`] is always
//! higher = less confident. A score is not a probability of being correct: only a fitted calibrator
//! makes a [`Confidence`]. Estimators know neither the question nor the gold answer.
//!
//! Conventions:
//! - Logarithms are natural. Token statistics are those of the raw distribution, see
//!   [`TokenStats`](crate::generation::TokenStats), and the end token counts as a token.
//! - A token-level estimator scores each sample that gives the leading answer and returns the mean
//!   over these samples, because the score is about the answer that would be given. The score is
//!   `None` without a leading answer, or if one of these samples has no tokens. The reasoning of a
//!   sample does not count: how sure the model is of its thoughts is another quantity.
//! - A vote-level estimator counts every sample drawn. A sample without an answer (unparsed,
//!   truncated, in a loop, failed) agrees with no other sample, so it raises the uncertainty.
//! - To add an estimator, add a file with one static and one line in [`ESTIMATORS`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::consensus::Vote;
use crate::error::{Error, Result};
use crate::generation::{Completion, Generation, Token};

mod answer_entropy;
mod answer_logprob;
mod discrete_semantic_entropy;
mod max_token_entropy;
mod mean_token_entropy;
mod min_token_prob;
mod p_true;
mod perplexity;
mod self_certainty;
mod sequence_logprob;
mod tail_confidence;
mod vote_margin;
mod vote_share;

/// A raw score in uncertainty direction: finite, unbounded, higher = less confident. Comparable
/// only within one estimator.
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

/// A calibrated probability of being correct, 0 to 1, made only by a fitted calibrator.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Confidence(f64);

impl Confidence {
    /// Only `calibration` may call this; a test checks it. `None` outside 0 to 1.
    pub(crate) fn calibrated(probability: f64) -> Option<Self> {
        (0.0..=1.0).contains(&probability).then_some(Self(probability))
    }

    /// The probability.
    pub fn value(self) -> f64 {
        self.0
    }
}

/// What an estimator may read.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// All samples of one prompt.
    pub generation: &'a Generation,
    /// Their vote.
    pub vote: &'a Vote,
}

impl<'a> Evidence<'a> {
    /// The samples that give the leading answer.
    pub fn leading_samples(&self) -> impl Iterator<Item = &'a Completion> + use<'a> {
        let generation = self.generation;
        let samples = self.vote.leader().map_or(&[][..], |leader| &leader.samples);
        samples.iter().filter_map(|sample| generation.completions.get(*sample))
    }

    /// The mean of `score` over the leading samples; `None` without any, or if one of them has no
    /// tokens.
    fn mean_over_leading_samples(&self, score: impl Fn(&[Token]) -> f64) -> Option<f64> {
        let samples = self.leading_samples();
        mean_score(samples.map(|sample| Some(sample.tokens_after_reasoning())), score)
    }

    /// The mean of `score` over the short answers of the leading samples; `None` without any, or if
    /// the tokens of one of them are not known.
    fn mean_over_leading_answers(&self, score: impl Fn(&[Token]) -> f64) -> Option<f64> {
        mean_score(self.leading_samples().map(Completion::answer_tokens), score)
    }
}

/// The mean score of token sequences; `None` if there are none, or one is missing or empty. Summed
/// in ascending order, so that the bits do not depend on the order of samples.
fn mean_score<'a>(
    sequences: impl Iterator<Item = Option<&'a [Token]>>,
    score: impl Fn(&[Token]) -> f64,
) -> Option<f64> {
    let scores: Option<Vec<f64>> =
        sequences.map(|tokens| tokens.filter(|tokens| !tokens.is_empty()).map(&score)).collect();
    let mut scores = scores.filter(|scores| !scores.is_empty())?;
    scores.sort_by(f64::total_cmp);
    Some(scores.iter().sum::<f64>() / scores.len() as f64)
}

/// The largest value of a statistic over tokens, or NaN if any value is NaN, so that a broken token
/// is not ignored.
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

/// Which way a natural score points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Higher = more confident.
    HigherIsMoreConfident,
    /// Higher = less confident.
    HigherIsLessConfident,
}

/// The part of [`Evidence`] that an estimator reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// The vote alone; works with samples whose token statistics are unknown.
    Vote,
    /// A probe of the strategy about the leading answer.
    Probe,
    /// The token statistics of the samples that give the leading answer.
    TokenStats,
    /// The token statistics of their short answers, where these were found or asked for.
    AnswerTokens,
}

/// An estimator: what it is called, what it means, and how it is computed.
#[derive(Debug)]
pub struct Estimator {
    /// The name in flags, JSON and reports.
    pub name: &'static str,
    /// The unit of the natural score.
    pub unit: &'static str,
    /// Which way the natural score points.
    pub direction: Direction,
    /// What it reads.
    pub needs: Needs,
    /// Paper and equation.
    pub source: &'static str,
    /// One line: what it measures, its range.
    pub summary: &'static str,
    /// The formula; [`Estimator::score`] keeps it finite.
    score: fn(&Evidence<'_>) -> Option<f64>,
}

impl Estimator {
    /// The natural score: finite, or `None` without anything to score.
    pub fn score(&self, evidence: &Evidence<'_>) -> Option<f64> {
        // Adding zero turns minus zero into zero.
        (self.score)(evidence).filter(|score| score.is_finite()).map(|score| score + 0.0)
    }

    /// The score in uncertainty direction: higher = less confident.
    pub fn uncertainty(&self, evidence: &Evidence<'_>) -> Option<Uncertainty> {
        Uncertainty::new(self.to_uncertainty(self.score(evidence)?))
    }

    /// A natural score of this estimator in uncertainty direction.
    pub fn to_uncertainty(&self, score: f64) -> f64 {
        match self.direction {
            Direction::HigherIsMoreConfident => 0.0 - score,
            Direction::HigherIsLessConfident => score,
        }
    }
}

/// Every estimator, those of the vote first.
pub static ESTIMATORS: &[&Estimator] = &[
    &vote_share::VOTE_SHARE,
    &vote_margin::VOTE_MARGIN,
    &discrete_semantic_entropy::DISCRETE_SEMANTIC_ENTROPY,
    &mean_token_entropy::MEAN_TOKEN_ENTROPY,
    &max_token_entropy::MAX_TOKEN_ENTROPY,
    &perplexity::PERPLEXITY,
    &sequence_logprob::SEQUENCE_LOGPROB,
    &min_token_prob::MIN_TOKEN_PROB,
    &self_certainty::SELF_CERTAINTY,
    &tail_confidence::TAIL_CONFIDENCE,
    &answer_logprob::ANSWER_LOGPROB,
    &answer_entropy::ANSWER_ENTROPY,
    &p_true::P_TRUE,
];

/// The estimator whose score is reported by default: it needs only the vote, and measures
/// disagreement in meaning, not in wording.
pub const DEFAULT_ESTIMATOR: &Estimator = &discrete_semantic_entropy::DISCRETE_SEMANTIC_ENTROPY;

/// The estimator of that name.
///
/// # Errors
/// A usage error that lists the names.
pub fn estimator(name: &str) -> Result<&'static Estimator> {
    ESTIMATORS.iter().copied().find(|estimator| estimator.name == name).ok_or_else(|| {
        let names: Vec<&str> = ESTIMATORS.iter().map(|estimator| estimator.name).collect();
        Error::usage(format!("estimator `{name}` is unknown; use one of {}", names.join(", ")))
    })
}

/// Every natural score that exists, by estimator name.
pub fn scores(evidence: &Evidence<'_>) -> BTreeMap<&'static str, f64> {
    ESTIMATORS
        .iter()
        .filter_map(|estimator| Some((estimator.name, estimator.score(evidence)?)))
        .collect()
}
