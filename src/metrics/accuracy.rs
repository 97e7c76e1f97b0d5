//! Share of all questions whose leading answer is correct, given or not: the model's accuracy
//! without abstaining. A question without an answer is not correct.

use super::{Formula, GradedQuestion, Metric, Population, count};

/// See the module.
pub(super) static ACCURACY: Metric = Metric {
    name: "accuracy",
    unit: "share",
    higher_is_better: Some(true),
    population: Population::All,
    source: "exact match",
    summary: "share of all questions whose leading answer is correct, given or not, 0 to 1",
    formula: Formula::Proportion(|questions| {
        (count(questions, GradedQuestion::is_correct), questions.len())
    }),
};
