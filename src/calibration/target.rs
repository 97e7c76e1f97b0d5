//! A threshold for a target coverage: answer the most confident share of questions.
//!
//! There is no guarantee about errors; the counts on the labels allow an interval.

use super::threshold::{apply_threshold, by_uncertainty, threshold_after};
use super::{CalibrationError, ScoredQuestion, Threshold};

/// The strictest threshold that answers at least a share `coverage` of all questions, those without
/// a score included. `None` if too few have a score.
///
/// # Errors
/// Unless `coverage` is above 0 and at most 1.
pub fn target_coverage(
    scored: &[ScoredQuestion],
    coverage: f64,
) -> Result<Option<Threshold>, CalibrationError> {
    if !(coverage > 0.0 && coverage <= 1.0) {
        return Err(CalibrationError::Parameter {
            name: "target_coverage",
            value: coverage,
            range: "above 0 and at most 1",
        });
    }
    let groups = by_uncertainty(scored);
    let wanted = coverage * scored.len() as f64 - 1e-9;
    let mut held = 0.0;
    let enough = groups.iter().position(|group| {
        held += group.count();
        held >= wanted
    });
    Ok(enough
        .and_then(|last| threshold_after(&groups, last + 1))
        .map(|threshold| apply_threshold(threshold, scored)))
}
