//! Rates of questions without a readable answer, and of answers without an uncertainty.

use super::{Formula, GradedQuestion, Metric, Population, count};

/// See the module.
pub(super) static FAILURE_RATE: Metric = Metric {
    name: "failure_rate",
    unit: "share",
    higher_is_better: Some(false),
    population: Population::All,
    source: "a count",
    summary: "share of all questions without a readable answer, 0 to 1",
    formula: Formula::Proportion(|questions| {
        (count(questions, GradedQuestion::has_no_answer), questions.len())
    }),
};

/// See the module.
pub(super) static UNSCORED_RATE: Metric = Metric {
    name: "unscored_rate",
    unit: "share",
    higher_is_better: Some(false),
    population: Population::All,
    source: "a count",
    summary: "share of all questions with an answer but no finite uncertainty, 0 to 1",
    formula: Formula::Proportion(|questions| {
        (
            count(questions, |question| !question.has_no_answer() && question.score().is_none()),
            questions.len(),
        )
    }),
};
