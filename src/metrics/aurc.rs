//! Area under the risk-coverage curve: the mean over k = 1..N of the error rate of the k most
//! confident answers.
//!
//! Tie-averaged, see `curve`, so it does not depend on the order of questions. The most confident
//! answers have the largest weight.

use super::{Formula, GradedQuestion, Metric, Population, risk_coverage};

/// See the module.
pub(super) static AURC: Metric = Metric {
    name: "aurc",
    unit: "risk",
    higher_is_better: Some(false),
    population: Population::Scored,
    source: "Geifman et al., arXiv 1805.08206: AURC; ties averaged",
    summary: "mean error rate of the k most confident answers over all k, 0 to 1; ties averaged",
    formula: Formula::Bootstrapped(aurc),
};

pub(super) fn aurc(questions: &[&GradedQuestion]) -> Option<f64> {
    let curve = risk_coverage(questions);
    (curve.scored() > 0).then(|| curve.risks().sum::<f64>() / curve.scored() as f64)
}
