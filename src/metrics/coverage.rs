//! Share of all questions that were answered. A failed question is not.

use super::{Formula, GradedQuestion, Metric, Population, count};

/// See the module.
pub(super) static COVERAGE: Metric = Metric {
    name: "coverage",
    unit: "share",
    higher_is_better: None,
    population: Population::All,
    source: "Geifman and El-Yaniv, arXiv 1705.08500: coverage",
    summary: "answers given of all questions, 0 to 1",
    formula: Formula::Proportion(|questions| {
        (count(questions, GradedQuestion::is_answered), questions.len())
    }),
};
