//! P(incorrect | answered): the error rate of the answers given. Not monotone in the threshold, and
//! different from P(answered and incorrect). `None` if nothing was answered.

use super::{Formula, GradedQuestion, Metric, Population, count};

/// See the module.
pub(super) static SELECTIVE_RISK: Metric = Metric {
    name: "selective_risk",
    unit: "share",
    higher_is_better: Some(false),
    population: Population::Answered,
    source: "Geifman and El-Yaniv, arXiv 1705.08500: selective risk",
    summary: "share of answers given that are incorrect, 0 to 1; none without answers",
    formula: Formula::Proportion(|questions| {
        (
            count(questions, |question| question.is_answered() && !question.is_correct()),
            count(questions, GradedQuestion::is_answered),
        )
    }),
};
