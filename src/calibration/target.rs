//! A threshold for a target coverage: answer the surest share of questions, whatever their risk.
//!
//! No promise about errors is made; what is answered wrongly on the labels is in the counts, with
//! which an interval can be made.

use super::threshold::{after, applied, by_uncertainty};
use super::{Refusal, Scored, Threshold};

/// The strictest threshold that answers at least a share `coverage` of all questions, those without
/// a score included. `None` if too few have a score.
///
/// # Errors
/// Unless `coverage` is above 0 and at most 1.
pub fn target_coverage(scored: &[Scored], coverage: f64) -> Result<Option<Threshold>, Refusal> {
    if !(coverage > 0.0 && coverage <= 1.0) {
        return Err(Refusal::Parameter {
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
    Ok(enough.and_then(|last| after(&groups, last + 1)).map(|threshold| applied(threshold, scored)))
}
