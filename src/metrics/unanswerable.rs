//! Whether the questions that were not answered are those that have no answer: precision, recall
//! and F1 of abstaining.
//!
//! Over questions known to have an answer or to have none. Failed questions are left out and
//! counted: garbage is neither a wise silence nor an answer. `None` where a denominator is 0:
//! nothing was held back, or nothing is unanswerable.

use super::{Basis, Better, Formula, Item, Metric, count, share};

const ROW: Metric = Metric {
    name: "unanswerable_precision",
    unit: "share",
    better: Better::Higher,
    basis: Basis::Labelled,
    source: "Yin et al., arXiv 2305.18153: F1 of the unanswerable class; scikit-learn \
             precision_recall_fscore_support",
    summary: "abstentions that were on unanswerable questions, 0 to 1",
    formula: Formula::Proportion(|items| (caught(items), count(items, abstained))),
};

/// P(unanswerable | abstained).
pub(super) static UNANSWERABLE_PRECISION: Metric = ROW;

/// P(abstained | unanswerable).
pub(super) static UNANSWERABLE_RECALL: Metric = Metric {
    name: "unanswerable_recall",
    summary: "unanswerable questions that were abstained on, 0 to 1",
    formula: Formula::Proportion(|items| (caught(items), count(items, unanswerable))),
    ..ROW
};

/// Harmonic mean of precision and recall.
pub(super) static UNANSWERABLE_F1: Metric = Metric {
    name: "unanswerable_f1",
    summary: "harmonic mean of precision and recall of abstaining on the unanswerable, 0 to 1",
    formula: Formula::Number(|items| {
        share(2 * caught(items), count(items, abstained) + count(items, unanswerable))
    }),
    ..ROW
};

fn unanswerable(item: &Item) -> bool {
    Basis::Labelled.includes(item) && item.answerable == Some(false)
}

fn abstained(item: &Item) -> bool {
    Basis::Labelled.includes(item) && !item.answered
}

fn caught(items: &[&Item]) -> usize {
    count(items, |item| unanswerable(item) && abstained(item))
}
