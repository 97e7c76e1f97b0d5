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
//!   `None` without a leading answer, or if one of these samples has no tokens in the span.
//! - An estimator over samples counts every sample drawn. A sample without an answer (unparsed,
//!   truncated, in a loop, failed) agrees with no other sample, so it raises the uncertainty.
//!   Choices that were scored instead of sampled have no such score, except by their votes.
//! - Similarity is either *semantic*, by the vote's groups and the judge's scores, or *lexical*, by
//!   the words of the texts; a name says which.
//! - To add an estimator, add a constant to the slice of its family.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::consensus::Vote;
use crate::error::{Error, Result};
use crate::generation::{Completion, FinishReason, Generation};
use samples::Compared;

mod density;
mod eigen;
mod entropy;
mod graph;
mod probes;
mod samples;
mod token;
mod vote;

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
    /// Whether answers were drawn, instead of choices scored.
    fn is_sampled(&self) -> bool {
        let mut completions = self.generation.completions.iter();
        completions.all(|completion| completion.finish_reason != FinishReason::Scored)
    }

    /// The samples that give the leading answer.
    pub fn leading_samples(&self) -> impl Iterator<Item = &'a Completion> + use<'a> {
        let generation = self.generation;
        let samples = self.vote.leader().map_or(&[][..], |leader| &leader.samples);
        samples.iter().filter_map(|sample| generation.completions.get(*sample))
    }
}

/// The mean; `None` of nothing. Summed in ascending order, so that the bits do not depend on the
/// order of samples.
fn ordered_mean(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
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
    /// Samples drawn, their answers and texts; of most, two.
    Samples,
    /// The token statistics of all samples drawn.
    SampleStats,
    /// A probe of the strategy about the leading answer.
    Probe,
    /// The token statistics of the samples that give the leading answer.
    TokenStats,
    /// The token statistics of their short answers, where these were found or asked for.
    AnswerTokens,
    /// The token statistics of their reasoning.
    ReasoningTokens,
    /// A sample that is the greedy sequence.
    Greedy,
}

/// What an estimator costs beyond one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Price {
    /// Nothing: it is read off the answer's own tokens.
    OnePass,
    /// Several samples.
    Samples,
    /// A further, short pass about the answer.
    FurtherPass,
}

impl Needs {
    /// What it costs to have it.
    pub fn price(self) -> Price {
        match self {
            Self::TokenStats | Self::AnswerTokens | Self::ReasoningTokens | Self::Greedy => {
                Price::OnePass
            }
            Self::Vote | Self::Samples | Self::SampleStats => Price::Samples,
            Self::Probe => Price::FurtherPass,
        }
    }
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
    /// How it is computed; [`Estimator::score`] keeps it finite.
    formula: Formula,
}

/// How a score is computed.
#[derive(Debug)]
enum Formula {
    /// From all the evidence.
    Evidence(fn(&Compared<'_>) -> Option<f64>),
    /// From the tokens of the leading answer's samples.
    Tokens(token::TokenScore),
}

impl Estimator {
    /// The natural score: finite, or `None` without anything to score.
    pub fn score(&self, evidence: &Evidence<'_>) -> Option<f64> {
        self.score_compared(&Compared::new(*evidence))
    }

    fn score_compared(&self, evidence: &Compared<'_>) -> Option<f64> {
        let score = match &self.formula {
            Formula::Evidence(score) => score(evidence),
            Formula::Tokens(score) => score.score(evidence),
        };
        // Adding zero turns minus zero into zero.
        score.filter(|score| score.is_finite()).map(|score| score + 0.0)
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

/// The estimators by family.
const FAMILIES: &[&[Estimator]] = &[
    vote::ESTIMATORS,
    entropy::ESTIMATORS,
    graph::ESTIMATORS,
    density::ESTIMATORS,
    token::ESTIMATORS,
    probes::ESTIMATORS,
];

/// Every estimator, those of the vote first.
pub static ESTIMATORS: &[&Estimator] = &all::<{ count() }>();

const fn count() -> usize {
    let (mut family, mut count) = (0, 0);
    while family < FAMILIES.len() {
        count += FAMILIES[family].len();
        family += 1;
    }
    count
}

const fn all<const N: usize>() -> [&'static Estimator; N] {
    let mut all = [&FAMILIES[0][0]; N];
    let (mut family, mut at, mut next) = (0, 0, 0);
    while next < N {
        if at == FAMILIES[family].len() {
            (family, at) = (family + 1, 0);
        } else {
            all[next] = &FAMILIES[family][at];
            (at, next) = (at + 1, next + 1);
        }
    }
    all
}

/// The estimator whose score is reported by default: it needs only the vote, and measures
/// disagreement in meaning, not in wording.
pub const DEFAULT_ESTIMATOR: &Estimator = &entropy::DISCRETE_SEMANTIC_ENTROPY;

/// The estimator of that name.
///
/// # Errors
/// A usage error that says what lists the names.
pub fn estimator(name: &str) -> Result<&'static Estimator> {
    ESTIMATORS.iter().copied().find(|estimator| estimator.name == name).ok_or_else(|| {
        Error::usage(format!(
            "estimator `{name}` is unknown; `candor estimators` lists all, {} is the default",
            DEFAULT_ESTIMATOR.name
        ))
    })
}

/// Every natural score that exists, by estimator name.
pub fn scores(evidence: &Evidence<'_>) -> BTreeMap<&'static str, f64> {
    let compared = Compared::new(*evidence);
    ESTIMATORS
        .iter()
        .filter_map(|estimator| Some((estimator.name, estimator.score_compared(&compared)?)))
        .collect()
}
