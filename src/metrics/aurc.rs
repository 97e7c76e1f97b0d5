//! Area under the risk-coverage curve: the mean over k = 1..N of the error rate of the k surest
//! answers.
//!
//! Tie-averaged, see `curve`, so it does not depend on the order of questions. It gives the few
//! surest answers most of the weight.

use super::{Basis, Better, Formula, Item, Metric, risk_coverage};

/// See the module.
pub(super) static AURC: Metric = Metric {
    name: "aurc",
    unit: "risk",
    better: Better::Lower,
    basis: Basis::Scored,
    source: "Geifman et al., arXiv 1805.08206: AURC; ties averaged",
    summary: "mean error rate of the k surest answers over all k, 0 to 1; ties averaged",
    formula: Formula::Number(aurc),
};

pub(super) fn aurc(items: &[&Item]) -> Option<f64> {
    let curve = risk_coverage(items);
    (curve.scored() > 0).then(|| curve.risks().sum::<f64>() / curve.scored() as f64)
}
