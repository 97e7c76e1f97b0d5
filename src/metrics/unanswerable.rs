//! Precision, recall and F1 of abstaining on unanswerable questions.
//!
//! Over questions known to be answerable or unanswerable. Questions without a readable answer are
//! left out and counted: they are neither an abstention nor an answer. `None` for a denominator of
//! 0.

use super::{Formula, GradedQuestion, Metric, Population, count, share};

const ROW: Metric = Metric {
    name: "unanswerable_precision",
    unit: "share",
    higher_is_better: Some(true),
    population: Population::Labeled,
    source: "Yin et al., arXiv 2305.18153: F1 of the unanswerable class; scikit-learn \
             precision_recall_fscore_support",
    summary: "abstentions that were on unanswerable questions, 0 to 1",
    formula: Formula::Proportion(|questions| {
        (abstained_unanswerable(questions), count(questions, abstained))
    }),
};

/// P(unanswerable | abstained).
pub(super) static UNANSWERABLE_PRECISION: Metric = ROW;

/// P(abstained | unanswerable).
pub(super) static UNANSWERABLE_RECALL: Metric = Metric {
    name: "unanswerable_recall",
    summary: "unanswerable questions that were abstained on, 0 to 1",
    formula: Formula::Proportion(|questions| {
        (abstained_unanswerable(questions), count(questions, unanswerable))
    }),
    ..ROW
};

/// Harmonic mean of precision and recall.
pub(super) static UNANSWERABLE_F1: Metric = Metric {
    name: "unanswerable_f1",
    summary: "harmonic mean of precision and recall of abstaining on the unanswerable, 0 to 1",
    formula: Formula::Bootstrapped(|questions| {
        share(
            2 * abstained_unanswerable(questions),
            count(questions, abstained) + count(questions, unanswerable),
        )
    }),
    ..ROW
};

fn unanswerable(question: &GradedQuestion) -> bool {
    Population::Labeled.includes(question) && question.answerable == Some(false)
}

fn abstained(question: &GradedQuestion) -> bool {
    Population::Labeled.includes(question) && !question.answered
}

fn abstained_unanswerable(questions: &[&GradedQuestion]) -> usize {
    count(questions, |question| unanswerable(question) && abstained(question))
}
