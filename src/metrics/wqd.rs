//! Within-question discrimination: P(a correct sample is more confident than an incorrect one of
//! the same question), ties half.
//!
//! Over all such pairs of all questions with both, so a question weighs by its number of pairs. It
//! measures the quality of voting weights, for which calibration across questions is irrelevant.
//! Samples without an answer or a confidence are in no pair.

use super::ties::{correct_is_lower, groups};
use super::{Formula, GradedQuestion, Metric, Population};

/// See the module.
pub(super) static WQD: Metric = Metric {
    name: "wqd",
    unit: "probability",
    higher_is_better: Some(true),
    population: Population::MixedSamples,
    source: "Taubenfeld et al., arXiv 2502.06233: within-question discrimination",
    summary: "probability that a correct sample is more confident than an incorrect one of the \
              same question, 0 to 1; ties half",
    formula: Formula::Number(wqd),
};

fn wqd(questions: &[&GradedQuestion]) -> Option<f64> {
    let (wins, all) = questions
        .iter()
        .map(|question| pairs(question))
        .fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
    (all > 0.0).then(|| wins / all)
}

/// Pairs won by the correct sample, and pairs.
pub(super) fn pairs(question: &GradedQuestion) -> (f64, f64) {
    let samples = question.samples.iter().filter(|sample| sample.answer.is_some());
    correct_is_lower(&groups(
        samples.filter_map(|sample| Some((-sample.confidence?, sample.correct))),
    ))
}
