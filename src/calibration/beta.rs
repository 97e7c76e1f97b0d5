//! Beta calibration: log-odds = a ln p - b ln(1 - p) + c, for an estimator whose score is itself a
//! probability, so that p = -u.
//!
//! Right and wrong answers with beta-distributed p have exactly this map. a = b = 1, c = 0 changes
//! nothing, so a calibrated score stays as it is, which a sigmoid of p cannot do. p is kept 2.2e-16
//! away from 0 and 1.

use serde::{Deserialize, Serialize};

use super::CalibrationError;
use super::logistic::{Problem, dot, sigmoid};
use super::sigmoid::is_separated;
use super::temperature::probability;

/// A beta map of a probability (Kull, Silva Filho and Flach, AISTATS 2017: the beta map with a, b
/// and c).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Beta {
    /// Factor of ln p, 0 or more.
    pub a: f64,
    /// Factor of -ln(1 - p), 0 or more; one of the two is above 0.
    pub b: f64,
    /// Log-odds to add.
    pub c: f64,
}

impl Beta {
    /// The most likely map for (uncertainty, correct) points. A negative factor is set to 0 and the
    /// others are fitted again, as in the authors' package.
    ///
    /// # Errors
    /// If a score is not the negative of a probability, the points are separated, or the map would
    /// not rise with p.
    pub fn fit(points: &[(f64, bool)]) -> Result<Self, CalibrationError> {
        let rows: Vec<[f64; 2]> =
            points.iter().map(|(u, _)| probability(*u).map(features)).collect::<Result<_, _>>()?;
        if is_separated(points) {
            return Err(CalibrationError::Separated);
        }
        let correct: Vec<bool> = points.iter().map(|(_, correct)| *correct).collect();
        let solve = |columns: &[usize]| {
            let features: Vec<Vec<f64>> = rows
                .iter()
                .map(|row| columns.iter().map(|column| row[*column]).collect())
                .collect();
            Problem { features: &features, correct: &correct, intercept: true, l2: 0.0 }.solve()
        };
        let found = match solve(&[0, 1])?[..] {
            [a, _, _] if a < 0.0 => match solve(&[1])?[..] {
                [b, c] => Self { a: 0.0, b, c },
                _ => return Err(CalibrationError::Separated),
            },
            [_, b, _] if b < 0.0 => match solve(&[0])?[..] {
                [a, c] => Self { a, b: 0.0, c },
                _ => return Err(CalibrationError::Separated),
            },
            [a, b, c] => Self { a, b, c },
            _ => return Err(CalibrationError::Separated),
        };
        let rises = found.a >= 0.0 && found.b >= 0.0 && found.a + found.b > 0.0;
        if rises {
            Ok(found)
        } else {
            Err(CalibrationError::WrongDirection { slope: -(found.a + found.b) })
        }
    }

    /// The probability of being correct, 0 to 1; `None` if the score is not the negative of a
    /// probability.
    pub fn confidence(&self, uncertainty: f64) -> Option<f64> {
        Some(sigmoid(dot(&[self.a, self.b], &features(probability(uncertainty).ok()?)) + self.c))
    }
}

fn features(p: f64) -> [f64; 2] {
    [p.ln(), -(-p).ln_1p()]
}
