//! Prediction-rejection ratio: the ranking's gain from rejecting answers, as a share of a perfect
//! ranking's gain.
//!
//! A is the mean accuracy of the kept answers over rejecting 0, 1, 2, ... answers up to a largest
//! share; PRR = (A - R) / (O - R) with R of a random and O of a perfect order. A is tie-averaged,
//! and R is the expected value over random orders, which is the accuracy, so no shuffles are
//! needed. 1 is a perfect ranking, 0 a random one, below 0 worse than random. `None` if all answers
//! are correct or all are incorrect.

use super::{Formula, GradedQuestion, Metric, Population, risk_coverage};

/// See the module.
pub(super) static PRR: Metric = Metric {
    name: "prr",
    unit: "ratio",
    higher_is_better: Some(true),
    population: Population::Scored,
    source: "Malinin et al., arXiv 2006.10848; lm-polygraph PredictionRejectionArea, shuffles \
             replaced by their expected value",
    summary: "gain of rejecting the least confident answers as a share of the possible gain, at \
              most 1; ties averaged",
    formula: Formula::Bootstrapped(|questions| rejection_ratio(questions, 1.0)),
};

/// Rejecting at most half of the answers.
pub(super) static PRR_50: Metric = Metric {
    name: "prr_50",
    unit: "ratio",
    higher_is_better: Some(true),
    population: Population::Scored,
    source: "lm-polygraph PredictionRejectionArea(max_rejection=0.5), shuffles replaced by their \
             expected value",
    summary: "prr over rejecting at most half of the answers, at most 1; ties averaged",
    formula: Formula::Number(|questions| rejection_ratio(questions, 0.5)),
};

/// PRR over rejecting fewer than floor(N * `max_rejection`) answers, 0 to 1. `None` if that is
/// 0, or if no ranking could gain.
pub fn rejection_ratio(questions: &[&GradedQuestion], max_rejection: f64) -> Option<f64> {
    let curve = risk_coverage(questions);
    let n = curve.scored();
    let steps = (max_rejection.clamp(0.0, 1.0) * n as f64) as usize;
    let accuracy = 1.0 - curve.error_rate()?;
    let correct = n as f64 - curve.incorrect();
    let mean = |kept: &dyn Fn(f64) -> f64| {
        ((n - steps + 1)..=n).map(|k| kept(k as f64)).sum::<f64>() / steps as f64
    };
    let gain =
        mean(&|k| 1.0 - curve.errors.get(k as usize - 1).copied().unwrap_or(0.0) / k) - accuracy;
    let possible = mean(&|k| (correct / k).min(1.0)) - accuracy;
    // Differences of means near 1: smaller ones are rounding errors.
    (steps > 0 && possible > 1e-12).then(|| gain / possible)
}
