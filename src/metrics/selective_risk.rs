//! P(incorrect | answered): the error rate of what was answered. Not monotone in the threshold, and
//! not P(answered and incorrect). `None` where nothing was answered: silence is not perfect.

use super::{Formula, GradedQuestion, Metric, Population, count};

/// See the module.
pub(super) static SELECTIVE_RISK: Metric = Metric {
    name: "selective_risk",
    unit: "share",
    higher_is_better: Some(false),
    population: Population::Answered,
    source: "Geifman and El-Yaniv, arXiv 1705.08500: selective risk",
    summary: "incorrect answers of the answers given, 0 to 1; none where none was given",
    formula: Formula::Proportion(|questions| {
        (
            count(questions, |question| question.is_answered() && !question.is_correct()),
            count(questions, GradedQuestion::is_answered),
        )
    }),
};
