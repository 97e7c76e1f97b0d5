//! Share of all questions that the policy did not answer although there was an answer. With
//! coverage and the failure rate it adds up to 1: having nothing to say is no decision to keep
//! silent.

use super::{Formula, Metric, Population, count};

/// See the module.
pub(super) static ABSTENTION_RATE: Metric = Metric {
    name: "abstention_rate",
    unit: "share",
    higher_is_better: None,
    population: Population::All,
    source: "1 - coverage, less the failures",
    summary: "answers held back of all questions, 0 to 1; failed questions are counted apart",
    formula: Formula::Proportion(|questions| {
        (
            count(questions, |question| !question.answered && !question.has_no_answer()),
            questions.len(),
        )
    }),
};
