//! Accuracy by likelihood, over questions whose options were scored: the names that
//! lm-evaluation-harness gives them.

use super::{Formula, GradedQuestion, Metric, Population, count};

/// The likeliest option is correct.
pub(super) static ACC: Metric = Metric {
    name: "acc",
    unit: "share",
    higher_is_better: Some(true),
    population: Population::Choices,
    source: "Gao et al., lm-evaluation-harness: argmax of the options' log-likelihoods",
    summary: "share of questions with scored options whose likeliest option is correct, 0 to 1; \
              without one counts as incorrect",
    formula: Formula::Proportion(|questions| {
        let scored = |question: &GradedQuestion| question.correct_per_byte.is_some();
        (
            count(questions, |question| scored(question) && question.is_correct()),
            count(questions, scored),
        )
    }),
};

/// The option that is likeliest per byte is correct.
pub(super) static ACC_NORM: Metric = Metric {
    name: "acc_norm",
    unit: "share",
    higher_is_better: Some(true),
    population: Population::Choices,
    source: "Gao et al., lm-evaluation-harness: argmax of the options' log-likelihoods by length, \
             here in bytes",
    summary: "share of questions with scored options whose option likeliest per byte is correct, 0 \
              to 1",
    formula: Formula::Proportion(|questions| {
        (
            count(questions, |question| question.correct_per_byte == Some(true)),
            count(questions, |question| question.correct_per_byte.is_some()),
        )
    }),
};
