//! Accuracy by likelihood, over questions whose choices were scored, with the names of
//! lm-evaluation-harness.

use super::{Formula, GradedQuestion, Metric, Population, count};

/// The most likely choice is correct.
pub(super) static ACC: Metric = Metric {
    name: "acc",
    unit: "share",
    higher_is_better: Some(true),
    population: Population::Choices,
    source: "Gao et al., lm-evaluation-harness: argmax of the choices' log-likelihoods",
    summary: "share of questions with scored choices whose most likely choice is correct, 0 to 1; \
              none counts as incorrect",
    formula: Formula::Proportion(|questions| {
        let scored = |question: &GradedQuestion| question.correct_per_byte.is_some();
        (
            count(questions, |question| scored(question) && question.is_correct()),
            count(questions, scored),
        )
    }),
};

/// The choice that is most likely per byte is correct.
pub(super) static ACC_NORM: Metric = Metric {
    name: "acc_norm",
    unit: "share",
    higher_is_better: Some(true),
    population: Population::Choices,
    source: "Gao et al., lm-evaluation-harness: argmax of the choices' log-likelihoods by length, \
             here in bytes",
    summary: "share of questions with scored choices whose choice most likely per byte is \
              correct, 0 to 1",
    formula: Formula::Proportion(|questions| {
        (
            count(questions, |question| question.correct_per_byte == Some(true)),
            count(questions, |question| question.correct_per_byte.is_some()),
        )
    }),
};
