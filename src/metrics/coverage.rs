//! Share of all questions that were answered. A failed question is not.

use super::{Basis, Better, Item, Metric, count, share};

/// See the module.
pub(super) static COVERAGE: Metric = Metric {
    name: "coverage",
    unit: "share",
    better: Better::Neither,
    basis: Basis::All,
    source: "Geifman and El-Yaniv, arXiv 1705.08500: coverage",
    summary: "answers given of all questions, 0 to 1",
    compute: |items| share(count(items, Item::is_given), items.len()),
};
