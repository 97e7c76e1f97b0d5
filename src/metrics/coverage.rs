//! Share of all questions that were answered. A failed question is not.

use super::{Basis, Better, Formula, Item, Metric, count};

/// See the module.
pub(super) static COVERAGE: Metric = Metric {
    name: "coverage",
    unit: "share",
    better: Better::Neither,
    basis: Basis::All,
    source: "Geifman and El-Yaniv, arXiv 1705.08500: coverage",
    summary: "answers given of all questions, 0 to 1",
    formula: Formula::Proportion(|items| (count(items, Item::is_given), items.len())),
};
