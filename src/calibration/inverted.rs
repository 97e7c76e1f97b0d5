//! Refusal of estimators that rank incorrect answers above correct ones.
//!
//! Contract: pure. An estimator below chance on the questions that a map is fitted on would answer
//! what it is wrong about; small models invert many (AUROC below one half), so this is checked and
//! never corrected by a sign. Below chance means more than chance explains: a score without any
//! relation to the truth is below one half half of the time, and harms no certificate.

use super::{CalibrationError, Example};
use crate::metrics::Grade;
use crate::metrics::ties::{correct_is_lower, groups};

/// Quantile of the normal distribution.
const ONE_SIDED_5_PERCENT: f64 = 1.645;

/// Checks each estimator's AUROC on labeled questions; `names` are joined by `+`, as in a
/// fingerprint.
///
/// # Errors
/// [`CalibrationError::Inverted`] with the first estimator below one half.
pub(super) fn refuse_inverted(names: &str, examples: &[Example]) -> Result<(), CalibrationError> {
    for (at, name) in names.split('+').enumerate() {
        let answered = examples.iter().filter(|example| example.grade != Grade::NoAnswer);
        let points: Vec<(f64, bool)> = answered
            .filter_map(|example| {
                Some(((*example.scores.get(at)?)?, example.grade == Grade::Correct))
            })
            .collect();
        let correct = points.iter().filter(|(_, correct)| *correct).count() as f64;
        let incorrect = points.len() as f64 - correct;
        let (wins, pairs) = correct_is_lower(&groups(points));
        // The standard deviation of the Mann-Whitney statistic of a useless score, ties apart.
        let deviation = (pairs * (correct + incorrect + 1.0) / 12.0).sqrt();
        if wins < 0.5 * pairs - ONE_SIDED_5_PERCENT * deviation {
            let (estimator, auroc) = (name.to_owned(), wins / pairs);
            return Err(CalibrationError::Inverted { estimator, auroc });
        }
    }
    Ok(())
}
