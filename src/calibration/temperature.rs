//! Temperature scaling: confidence = sigmoid(logit(p) / T), for an estimator whose score is itself
//! a probability, so that p = -u.
//!
//! One parameter, so few labels suffice; it moves confidence towards or away from 1/2 and cannot
//! shift it. p is kept 2.2e-16 away from 0 and 1.

use serde::{Deserialize, Serialize};

use super::Refusal;
use super::logistic::{Problem, sigmoid};

/// A temperature for a probability (Guo et al., arXiv 1706.04599, section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Temperature {
    /// What log-odds are divided by, above 0; above 1 where the probability is too sure of itself.
    pub temperature: f64,
}

impl Temperature {
    /// The most likely temperature for (uncertainty, right) points.
    ///
    /// # Errors
    /// If a score is not the negative of a probability, if no p on the wrong side of 1/2 was
    /// observed, or if flipping p would be better.
    pub fn fit(points: &[(f64, bool)]) -> Result<Self, Refusal> {
        let logits: Vec<f64> =
            points.iter().map(|(u, _)| probability(*u).map(logit)).collect::<Result<_, _>>()?;
        let parts = |flip: bool| {
            logits
                .iter()
                .zip(points)
                .all(|(logit, (_, right))| *logit == 0.0 || (*logit > 0.0) == (*right != flip))
        };
        if parts(false) || parts(true) {
            return Err(Refusal::Separated);
        }
        let features: Vec<Vec<f64>> = logits.iter().map(|logit| vec![*logit]).collect();
        let right: Vec<bool> = points.iter().map(|(_, right)| *right).collect();
        let fit =
            Problem { features: &features, right: &right, intercept: false, l2: 0.0 }.solve()?;
        match fit[..] {
            [factor] if factor > 0.0 => Ok(Self { temperature: factor.recip() }),
            [factor] => Err(Refusal::WrongDirection { slope: -factor }),
            _ => Err(Refusal::Separated),
        }
    }

    /// The probability of being right, 0 to 1; `None` if the score is not the negative of a
    /// probability.
    pub fn confidence(&self, uncertainty: f64) -> Option<f64> {
        Some(sigmoid(logit(probability(uncertainty).ok()?) / self.temperature))
    }
}

/// The probability behind a score, 2.2e-16 away from 0 and 1.
pub(super) fn probability(uncertainty: f64) -> Result<f64, Refusal> {
    let p = 0.0 - uncertainty;
    let is_probability = (0.0..=1.0).contains(&p);
    if is_probability {
        Ok(p.clamp(f64::EPSILON, 1.0 - f64::EPSILON))
    } else {
        Err(Refusal::NotAProbability { score: uncertainty })
    }
}

fn logit(p: f64) -> f64 {
    p.ln() - (-p).ln_1p()
}
