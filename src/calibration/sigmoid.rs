//! Platt scaling: confidence = sigmoid(slope u + intercept), fitted without penalty and on the
//! labels as they are.
//!
//! A penalty, even scikit-learn's default, flattens the map at small n and pulls every confidence
//! towards the base rate. Platt's smoothed targets are not used either; they guard against
//! separated scores, which are an error here.

use serde::{Deserialize, Serialize};

use super::CalibrationError;
use super::logistic::{Problem, sigmoid};

/// A decreasing sigmoid of the uncertainty (Platt 1999).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sigmoid {
    /// Log-odds per unit of uncertainty, below 0.
    pub slope: f64,
    /// Log-odds at uncertainty 0.
    pub intercept: f64,
}

impl Sigmoid {
    /// The most likely sigmoid for (uncertainty, correct) points.
    ///
    /// # Errors
    /// If the points are separated, or the slope is not below 0.
    pub fn fit(points: &[(f64, bool)]) -> Result<Self, CalibrationError> {
        if is_separated(points) {
            return Err(CalibrationError::Separated);
        }
        // Centered and scaled, so that the two coefficients hardly interact; the likelihood is the
        // same.
        let n = points.len() as f64;
        let mean = points.iter().map(|(u, _)| u / n).sum::<f64>();
        let spread =
            points.iter().map(|(u, _)| (u - mean).abs()).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
        let features: Vec<Vec<f64>> =
            points.iter().map(|(u, _)| vec![(u - mean) / spread]).collect();
        let correct: Vec<bool> = points.iter().map(|(_, correct)| *correct).collect();
        let fit =
            Problem { features: &features, correct: &correct, intercept: true, l2: 0.0 }.solve()?;
        let [slope, intercept] = fit[..] else { return Err(CalibrationError::Separated) };
        let (slope, intercept) = (slope / spread, intercept - slope * mean / spread);
        if slope < 0.0 {
            Ok(Self { slope, intercept })
        } else {
            Err(CalibrationError::WrongDirection { slope })
        }
    }

    /// The probability of being correct, 0 to 1; `None` if the score is not finite.
    pub fn confidence(&self, uncertainty: f64) -> Option<f64> {
        uncertainty.is_finite().then(|| sigmoid(self.slope * uncertainty + self.intercept))
    }
}

/// Whether one threshold parts correct from incorrect, points on the threshold aside: then the
/// likelihood has no maximum.
pub(super) fn is_separated(points: &[(f64, bool)]) -> bool {
    let ends = |wanted: bool| {
        let values = points.iter().filter(move |(_, correct)| *correct == wanted).map(|(u, _)| *u);
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), u| (low.min(u), high.max(u)))
    };
    let ((right_low, right_high), (wrong_low, wrong_high)) = (ends(true), ends(false));
    right_high <= wrong_low || wrong_high <= right_low
}
