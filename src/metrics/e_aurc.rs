//! Excess AURC: AURC - AURC*, where AURC* = r + (1 - r) ln(1 - r) is the area of a perfect ranking
//! at error rate r, in the limit of many questions.
//!
//! With N questions a perfect ranking exceeds that limit by less than r / N and is never below it.

use super::aurc::aurc;
use super::{Formula, Metric, Population, risk_coverage};

/// See the module.
pub(super) static E_AURC: Metric = Metric {
    name: "e_aurc",
    unit: "risk",
    higher_is_better: Some(false),
    population: Population::Scored,
    source: "Geifman et al., arXiv 1805.08206: E-AURC",
    summary: "aurc minus that of a perfect ranking, r + (1 - r) ln(1 - r), 0 to 1",
    formula: Formula::Bootstrapped(|questions| {
        Some(aurc(questions)? - optimum(risk_coverage(questions).error_rate()?))
    }),
};

/// AURC of a perfect ranking at error rate r, 0 to 1.
fn optimum(r: f64) -> f64 {
    let correct = 1.0 - r;
    // The limit of x ln x at 0 is 0; in floating point it would be NaN.
    if correct > 0.0 { r + correct * correct.ln() } else { 1.0 }
}
