//! Share of all questions whose leading answer is right, given or not: what the model can do when it must answer. A failed question is
//! not right.

use super::{Basis, Better, Item, Metric, count, share};

/// See the module.
pub(super) static ACCURACY: Metric = Metric {
    name: "accuracy",
    unit: "share",
    better: Better::Higher,
    basis: Basis::All,
    source: "exact match",
    summary: "right leading answers of all questions, given or not, 0 to 1",
    compute: |items| share(count(items, Item::is_right), items.len()),
};
