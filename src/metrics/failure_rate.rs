//! What is its own class: questions without a readable answer, and answers without an uncertainty.

use super::{Basis, Better, Formula, Item, Metric, count};

/// See the module.
pub(super) static FAILURE_RATE: Metric = Metric {
    name: "failure_rate",
    unit: "share",
    better: Better::Lower,
    basis: Basis::All,
    source: "a count",
    summary: "questions without a readable answer, of all, 0 to 1",
    formula: Formula::Proportion(|items| (count(items, Item::is_failed), items.len())),
};

/// See the module.
pub(super) static UNSCORED_RATE: Metric = Metric {
    name: "unscored_rate",
    unit: "share",
    better: Better::Lower,
    basis: Basis::All,
    source: "a count",
    summary: "questions with an answer but no finite uncertainty, of all, 0 to 1",
    formula: Formula::Proportion(|items| {
        (count(items, |item| !item.is_failed() && item.score().is_none()), items.len())
    }),
};
