//! Share of all questions with an answer that the policy did not give. Coverage, this rate and the
//! failure rate add up to 1: a question without an answer is a failure, not an abstention.

use super::{Formula, Metric, Population, count};

/// See the module.
pub(super) static ABSTENTION_RATE: Metric = Metric {
    name: "abstention_rate",
    unit: "share",
    higher_is_better: None,
    population: Population::All,
    source: "1 - coverage - failure rate",
    summary: "share of all questions whose answer was held back, 0 to 1; questions without an \
              answer are counted separately",
    formula: Formula::Proportion(|questions| {
        (
            count(questions, |question| !question.answered && !question.has_no_answer()),
            questions.len(),
        )
    }),
};
