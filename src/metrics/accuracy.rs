//! Share of all questions whose leading answer is correct, given or not: what the model can do when
//! it must answer. A failed question is not correct.

use super::{Formula, GradedQuestion, Metric, Population, count};

/// See the module.
pub(super) static ACCURACY: Metric = Metric {
    name: "accuracy",
    unit: "share",
    higher_is_better: Some(true),
    population: Population::All,
    source: "exact match",
    summary: "correct leading answers of all questions, given or not, 0 to 1",
    formula: Formula::Proportion(|questions| {
        (count(questions, GradedQuestion::is_correct), questions.len())
    }),
};
