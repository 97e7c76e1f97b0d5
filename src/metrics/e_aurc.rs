//! What of the AURC is the ranking's fault: AURC - AURC*, where AURC* = r + (1 - r) ln(1 - r) is
//! the area of a perfect ranking at error rate r, in the limit of many questions.
//!
//! With N questions a perfect ranking stays above that limit by less than r / N, never below.

use super::aurc::aurc;
use super::{Basis, Better, Formula, Metric, risk_coverage};

/// See the module.
pub(super) static E_AURC: Metric = Metric {
    name: "e_aurc",
    unit: "risk",
    better: Better::Lower,
    basis: Basis::Scored,
    source: "Geifman et al., arXiv 1805.08206: E-AURC",
    summary: "aurc less that of a perfect ranking, r + (1 - r) ln(1 - r), 0 to 1",
    formula: Formula::Number(|items| {
        Some(aurc(items)? - optimum(risk_coverage(items).error_rate()?))
    }),
};

/// AURC of a perfect ranking at error rate r, 0 to 1.
fn optimum(r: f64) -> f64 {
    let right = 1.0 - r;
    // The limit of x ln x at 0 is 0; in floating point it would be NaN.
    if right > 0.0 { r + right * right.ln() } else { 1.0 }
}
