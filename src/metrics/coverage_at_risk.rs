//! The largest share of all questions that can be answered at an error rate of at most r, in
//! hindsight.
//!
//! The largest k whose tie-averaged error rate is at most r, over N, which includes questions
//! without an answer or a score. 0 if there is none. In hindsight: such a threshold guarantees
//! nothing about new questions, see `calibration`.

use super::{Formula, GradedQuestion, Metric, Population, risk_coverage, share};

const ROW: Metric = Metric {
    name: "coverage_at_risk_5",
    unit: "share",
    higher_is_better: Some(true),
    population: Population::Scored,
    source: "Geifman and El-Yaniv, arXiv 1705.08500: coverage at a target risk, in hindsight; \
             ties averaged",
    summary: "largest share of all questions answered with at most 5 % incorrect, 0 to 1; ties \
              averaged",
    formula: Formula::Number(|questions| coverage_at_risk(questions, 0.05)),
};

/// At 5 %.
pub(super) static COVERAGE_AT_RISK_5: Metric = ROW;

/// At 10 %.
pub(super) static COVERAGE_AT_RISK_10: Metric = Metric {
    name: "coverage_at_risk_10",
    summary: "largest share of all questions answered with at most 10 % incorrect, 0 to 1; ties \
              averaged",
    formula: Formula::Number(|questions| coverage_at_risk(questions, 0.1)),
    ..ROW
};

/// At 20 %.
pub(super) static COVERAGE_AT_RISK_20: Metric = Metric {
    name: "coverage_at_risk_20",
    summary: "largest share of all questions answered with at most 20 % incorrect, 0 to 1; ties \
              averaged",
    formula: Formula::Number(|questions| coverage_at_risk(questions, 0.2)),
    ..ROW
};

/// Largest coverage with an error rate of at most `risk`, 0 to 1, higher is better. `None` without
/// scored questions, or unless 0 <= `risk` <= 1.
pub fn coverage_at_risk(questions: &[&GradedQuestion], risk: f64) -> Option<f64> {
    let curve = risk_coverage(questions);
    if curve.scored() == 0 || !(0.0..=1.0).contains(&risk) {
        return None;
    }
    // 1e-12 allows for rounding of tie averages.
    let k = curve
        .risks()
        .zip(1..)
        .filter(|(found, _)| *found <= risk + 1e-12)
        .last()
        .map_or(0, |(_, k)| k);
    share(k, curve.questions)
}
