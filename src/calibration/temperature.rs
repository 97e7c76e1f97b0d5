//! Temperature scaling: confidence = sigmoid(logit(p) / T), for an estimator whose score is itself
//! a probability, so that p = -u.
//!
//! One parameter, so few labels suffice; it moves confidence towards or away from 1/2 and cannot
//! shift it. p is kept 2.2e-16 away from 0 and 1.

use serde::{Deserialize, Serialize};

use super::CalibrationError;
use super::logistic::{Problem, sigmoid};

/// A temperature for a probability (Guo et al., arXiv 1706.04599, section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Temperature {
    /// The divisor of log-odds, above 0; above 1 for an overconfident probability.
    pub temperature: f64,
}

impl Temperature {
    /// The most likely temperature for (uncertainty, correct) points.
    ///
    /// # Errors
    /// If a score is not the negative of a probability, if no p on the incorrect side of 1/2 was
    /// observed, or if flipping p would be better.
    pub fn fit(points: &[(f64, bool)]) -> Result<Self, CalibrationError> {
        let logits: Vec<f64> =
            points.iter().map(|(u, _)| probability(*u).map(logit)).collect::<Result<_, _>>()?;
        let parts = |flip: bool| {
            logits
                .iter()
                .zip(points)
                .all(|(logit, (_, correct))| *logit == 0.0 || (*logit > 0.0) == (*correct != flip))
        };
        if parts(false) || parts(true) {
            return Err(CalibrationError::Separated);
        }
        let features: Vec<Vec<f64>> = logits.iter().map(|logit| vec![*logit]).collect();
        let correct: Vec<bool> = points.iter().map(|(_, correct)| *correct).collect();
        let fit = Problem { features: &features, correct: &correct, intercept: false, l2: 0.0 }
            .solve()?;
        match fit[..] {
            [factor] if factor > 0.0 => Ok(Self { temperature: factor.recip() }),
            [factor] => Err(CalibrationError::WrongDirection { slope: -factor }),
            _ => Err(CalibrationError::Separated),
        }
    }

    /// The probability of being correct, 0 to 1; `None` if the score is not the negative of a
    /// probability.
    pub fn confidence(&self, uncertainty: f64) -> Option<f64> {
        Some(sigmoid(logit(probability(uncertainty).ok()?) / self.temperature))
    }
}

/// The probability behind a score, 2.2e-16 away from 0 and 1.
pub(super) fn probability(uncertainty: f64) -> Result<f64, CalibrationError> {
    let p = 0.0 - uncertainty;
    let is_probability = (0.0..=1.0).contains(&p);
    if is_probability {
        Ok(p.clamp(f64::EPSILON, 1.0 - f64::EPSILON))
    } else {
        Err(CalibrationError::NotAProbability { score: uncertainty })
    }
}

fn logit(p: f64) -> f64 {
    p.ln() - (-p).ln_1p()
}
