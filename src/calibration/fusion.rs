//! Fusion of several uncertainties: a small penalized logistic regression, whose negative log-odds
//! are the fused uncertainty.
//!
//! Each estimator is centered and divided by its standard deviation, so that the penalty treats all
//! alike. Weights may have any sign: an estimator may correct another. A question that lacks one of
//! the scores has no fused score. The fit belongs to the fitting part of a
//! [`Split`](super::Split); thresholds on its output need another part.

use serde::{Deserialize, Serialize};

use super::logistic::{Problem, dot};
use super::{CalibrationError, Example};
use crate::metrics::Grade;

/// The largest number of estimators; more would need far more labels.
pub const MAX_ESTIMATORS: usize = 6;
/// The fewest labels for fusing estimators; with fewer, one estimator is the better choice.
const MIN_LABELS: usize = 200;
/// Weight of half the squared weights, on standardized scores (scikit-learn with C = 1).
const L2: f64 = 1.0;

/// Weights of several uncertainties.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fusion {
    /// Mean of each score over the labels.
    pub means: Vec<f64>,
    /// Standard deviation of each score over the labels, above 0.
    pub scales: Vec<f64>,
    /// Log-odds of being correct per standard deviation of each score.
    pub weights: Vec<f64>,
    /// Log-odds of being correct at the means.
    pub intercept: f64,
}

impl Fusion {
    /// Fits the weights to labeled questions that have all scores.
    ///
    /// # Errors
    /// If there are more than six estimators, fewer than 200 labels, labels of one kind only, or an
    /// estimator that never varies.
    pub fn fit(examples: &[&Example]) -> Result<Self, CalibrationError> {
        let rows: Vec<(Vec<f64>, bool)> = examples
            .iter()
            .filter(|e| e.grade != Grade::NoAnswer)
            .filter_map(|e| Some((complete(&e.scores)?, e.grade == Grade::Correct)))
            .collect();
        let width = rows.first().map_or(0, |(scores, _)| scores.len());
        let (have, correct) = (rows.len(), rows.iter().filter(|(_, correct)| *correct).count());
        if width > MAX_ESTIMATORS || rows.iter().any(|(scores, _)| scores.len() != width) {
            return Err(CalibrationError::Parameter {
                name: "number of estimators",
                value: width as f64,
                range: "1 to 6, the same for every question",
            });
        }
        if have < MIN_LABELS {
            return Err(CalibrationError::TooFew { have, correct, need: MIN_LABELS });
        }
        if correct == 0 || correct == have {
            return Err(CalibrationError::OneClass { have, correct });
        }
        let mean = |column: usize| {
            rows.iter()
                .map(|(scores, _)| scores.get(column).copied().unwrap_or(0.0) / have as f64)
                .sum::<f64>()
        };
        let means: Vec<f64> = (0..width).map(mean).collect();
        let variance = |(column, mean): (usize, &f64)| {
            rows.iter()
                .map(|(scores, _)| {
                    (scores.get(column).copied().unwrap_or(0.0) - mean).powi(2) / have as f64
                })
                .sum::<f64>()
        };
        let scales: Vec<f64> = means.iter().enumerate().map(variance).map(f64::sqrt).collect();
        if let Some((score, _)) = means
            .iter()
            .zip(&scales)
            .find(|(mean, scale)| !(**scale > 1e-12 * mean.abs() && scale.is_finite()))
        {
            return Err(CalibrationError::Constant { score: *score });
        }
        let features: Vec<Vec<f64>> =
            rows.iter().map(|(scores, _)| standardized(scores, &means, &scales)).collect();
        let labels: Vec<bool> = rows.iter().map(|(_, correct)| *correct).collect();
        let mut weights =
            Problem { features: &features, correct: &labels, intercept: true, l2: L2 }.solve()?;
        let intercept = weights.pop().unwrap_or(0.0);
        Ok(Self { means, scales, weights, intercept })
    }

    /// The fused uncertainty: the negative log-odds of being correct, higher = less confident.
    /// `None` if a score is missing.
    pub fn uncertainty(&self, scores: &[Option<f64>]) -> Option<f64> {
        let scores = complete(scores).filter(|scores| scores.len() == self.weights.len())?;
        let log_odds =
            dot(&self.weights, &standardized(&scores, &self.means, &self.scales)) + self.intercept;
        log_odds.is_finite().then_some(0.0 - log_odds)
    }

    /// Whether it is a valid fusion of this many estimators; a file may hold anything.
    pub(super) fn is_valid(&self, estimators: usize) -> bool {
        let all =
            |numbers: &[f64]| numbers.len() == estimators && numbers.iter().all(|x| x.is_finite());
        all(&self.means)
            && all(&self.weights)
            && all(&self.scales)
            && self.scales.iter().all(|scale| *scale > 0.0)
            && self.intercept.is_finite()
    }
}

fn complete(scores: &[Option<f64>]) -> Option<Vec<f64>> {
    scores.iter().map(|score| score.filter(|score| score.is_finite())).collect()
}

fn standardized(scores: &[f64], means: &[f64], scales: &[f64]) -> Vec<f64> {
    scores
        .iter()
        .zip(means)
        .zip(scales)
        .map(|((score, mean), scale)| (score - mean) / scale)
        .collect()
}
