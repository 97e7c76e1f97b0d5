//! The error rate when the most confident share c of all questions is answered.
//!
//! k = ceil(c N) answers are given, N including questions without an answer or a score; ties are
//! averaged, as if broken at random. `None` if fewer than k questions have a score.

use super::{Formula, GradedQuestion, Metric, Population, risk_coverage};

const ROW: Metric = Metric {
    name: "risk_at_coverage_50",
    unit: "share",
    higher_is_better: Some(false),
    population: Population::Scored,
    source: "Geifman and El-Yaniv, arXiv 1705.08500: selective risk at a coverage; ties averaged",
    summary: "error rate of the most confident 50 % of all questions, 0 to 1; ties averaged; none \
              if fewer have a score",
    formula: Formula::Number(|questions| risk_at_coverage(questions, 0.5)),
};

/// At 50 %.
pub(super) static RISK_AT_COVERAGE_50: Metric = ROW;

/// At 80 %.
pub(super) static RISK_AT_COVERAGE_80: Metric = Metric {
    name: "risk_at_coverage_80",
    summary: "error rate of the most confident 80 % of all questions, 0 to 1; ties averaged; none \
              if fewer have a score",
    formula: Formula::Number(|questions| risk_at_coverage(questions, 0.8)),
    ..ROW
};

/// At 90 %.
pub(super) static RISK_AT_COVERAGE_90: Metric = Metric {
    name: "risk_at_coverage_90",
    summary: "error rate of the most confident 90 % of all questions, 0 to 1; ties averaged; none \
              if fewer have a score",
    formula: Formula::Number(|questions| risk_at_coverage(questions, 0.9)),
    ..ROW
};

/// Error rate of the most confident share `coverage` of all questions, 0 to 1, lower is better.
/// `None` unless 0 < `coverage` <= 1.
pub fn risk_at_coverage(questions: &[&GradedQuestion], coverage: f64) -> Option<f64> {
    if !(coverage > 0.0 && coverage <= 1.0) {
        return None;
    }
    let curve = risk_coverage(questions);
    // A product such as 0.1 * 30 = 3.0000000000000004 must not add a question.
    let k = (coverage * curve.questions as f64 - 1e-9).ceil().max(1.0) as usize;
    curve.errors.get(k - 1).map(|errors| errors / k as f64)
}
