//! The maps from uncertainty to confidence as one closed set.

use serde::{Deserialize, Serialize};

use super::{Beta, CalibrationError, Isotonic, Sigmoid, Temperature, VennAbers};

/// Which map to fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Two parameters; for any score.
    #[default]
    Sigmoid,
    /// Any decreasing map; for any score, needs more labels.
    Isotonic,
    /// One parameter; for scores that are probabilities.
    Temperature,
    /// Three parameters; for scores that are probabilities.
    Beta,
    /// Isotonic with an interval; for any score.
    VennAbers,
}

impl Method {
    /// Every method.
    pub const ALL: [Self; 5] =
        [Self::Sigmoid, Self::Isotonic, Self::Temperature, Self::Beta, Self::VennAbers];

    /// The name in flags, JSON and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sigmoid => "sigmoid",
            Self::Isotonic => "isotonic",
            Self::Temperature => "temperature",
            Self::Beta => "beta",
            Self::VennAbers => "venn_abers",
        }
    }

    /// The fewest labeled and scored questions that a fit accepts.
    pub fn min_labels(self) -> usize {
        match self {
            Self::Isotonic => 100,
            Self::Sigmoid | Self::Temperature | Self::Beta | Self::VennAbers => 50,
        }
    }
}

/// A fitted map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case")]
pub enum Calibrator {
    /// See [`Sigmoid`].
    Sigmoid(Sigmoid),
    /// See [`Isotonic`].
    Isotonic(Isotonic),
    /// See [`Temperature`].
    Temperature(Temperature),
    /// See [`Beta`].
    Beta(Beta),
    /// See [`VennAbers`].
    VennAbers(VennAbers),
}

impl Calibrator {
    /// Fits a map to (uncertainty, correct) points; points without a finite score are ignored.
    ///
    /// # Errors
    /// If the labels are too few, all the same, have all the same score, or do not allow this map.
    pub fn fit(method: Method, points: &[(f64, bool)]) -> Result<Self, CalibrationError> {
        let points: Vec<(f64, bool)> =
            points.iter().copied().filter(|(u, _)| u.is_finite()).collect();
        let (have, correct) = (points.len(), points.iter().filter(|(_, correct)| *correct).count());
        if have < method.min_labels() {
            return Err(CalibrationError::TooFew { have, correct, need: method.min_labels() });
        }
        if correct == 0 || correct == have {
            return Err(CalibrationError::OneClass { have, correct });
        }
        let score = points.first().map_or(0.0, |(score, _)| *score);
        if points.iter().all(|(u, _)| *u == score) {
            return Err(CalibrationError::Constant { score });
        }
        let map = match method {
            Method::Sigmoid => Self::Sigmoid(Sigmoid::fit(&points)?),
            Method::Isotonic => Self::Isotonic(Isotonic::fit(&points)),
            Method::Temperature => Self::Temperature(Temperature::fit(&points)?),
            Method::Beta => Self::Beta(Beta::fit(&points)?),
            Method::VennAbers => Self::VennAbers(VennAbers::fit(&points)),
        };
        // The scores differ by too little to divide by, which is as good as equal.
        if map.is_valid() { Ok(map) } else { Err(CalibrationError::Constant { score }) }
    }

    /// The probability of being correct, 0 to 1, non-increasing in uncertainty. `None` if the score
    /// is not finite, or not the negative of a probability for a map that needs one.
    pub fn confidence(&self, uncertainty: f64) -> Option<f64> {
        let confidence = match self {
            Self::Sigmoid(map) => map.confidence(uncertainty),
            Self::Isotonic(map) => map.confidence(uncertainty),
            Self::Temperature(map) => map.confidence(uncertainty),
            Self::Beta(map) => map.confidence(uncertainty),
            Self::VennAbers(map) => map.interval(uncertainty).map(super::Interval::merged),
        };
        confidence.filter(|confidence| (0.0..=1.0).contains(confidence))
    }

    /// Whether the parameters are those of a decreasing map; a file may hold anything.
    pub(super) fn is_valid(&self) -> bool {
        match self {
            Self::Sigmoid(Sigmoid { slope, intercept }) => {
                *slope < 0.0 && slope.is_finite() && intercept.is_finite()
            }
            Self::Isotonic(map) => map.is_valid(),
            Self::Temperature(Temperature { temperature }) => {
                *temperature > 0.0 && temperature.is_finite()
            }
            Self::Beta(Beta { a, b, c }) => {
                *a >= 0.0 && *b >= 0.0 && a + b > 0.0 && (a + b).is_finite() && c.is_finite()
            }
            Self::VennAbers(map) => map.is_valid(),
        }
    }
}
