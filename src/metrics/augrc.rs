//! Area under the generalized risk-coverage curve: P(answered and incorrect), averaged over all
//! coverages. Every question weighs the same.
//!
//! The area is that of the curve from (0, 0) through (k/N, errors(k)/N), by trapezoids,
//! tie-averaged. So it is exactly acc (1 - acc) (1 - AUROC) + (1 - acc)^2 / 2, whatever N is; the
//! plain mean over k = 1..N would be larger by (1 - acc) / 2N.

use super::{Formula, GradedQuestion, Metric, Population, risk_coverage};

/// See the module.
pub(super) static AUGRC: Metric = Metric {
    name: "augrc",
    unit: "risk",
    higher_is_better: Some(false),
    population: Population::Scored,
    source: "Traub et al., arXiv 2407.01032: area under the generalized risk-coverage curve; ties \
             averaged",
    summary: "mean over all coverages of the share answered and incorrect, 0 to 1/2; ties averaged",
    formula: Formula::Bootstrapped(augrc),
};

fn augrc(questions: &[&GradedQuestion]) -> Option<f64> {
    let curve = risk_coverage(questions);
    let n = curve.scored() as f64;
    (n > 0.0).then(|| (curve.errors.iter().sum::<f64>() - 0.5 * curve.incorrect()) / (n * n))
}
