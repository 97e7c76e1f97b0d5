//! Mean negative log-likelihood of correctness under the confidence, in nats.
//!
//! A confidence of exactly 0 or 1 is moved inward by the machine epsilon of `f64` (2.2e-16), as in
//! scikit-learn: being certain and incorrect costs 36 nats, not infinity, which JSON cannot hold.

use super::brier::by_confidence;
use super::{Formula, GradedQuestion, Metric, Population};

/// See the module.
pub(super) static LOG_LOSS: Metric = Metric {
    name: "log_loss",
    unit: "nats",
    higher_is_better: Some(false),
    population: Population::Confident,
    source: "scikit-learn log_loss",
    summary: "mean -ln of the probability of the observed correctness, 0 to 36",
    formula: Formula::Number(log_loss),
};

fn log_loss(questions: &[&GradedQuestion]) -> Option<f64> {
    let groups = by_confidence(questions);
    let n: f64 = groups.iter().map(super::ties::Group::count).sum();
    let loss = groups.iter().map(|group| {
        let p = group.value.clamp(f64::EPSILON, 1.0 - f64::EPSILON);
        -(group.correct * p.ln() + group.incorrect * (-p).ln_1p())
    });
    (n > 0.0).then(|| loss.sum::<f64>() / n)
}
