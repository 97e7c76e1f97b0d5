//! Share of all questions whose leading answer is right, given or not: what the model can do when
//! it must answer. A failed question is not right.

use super::{Basis, Better, Formula, Item, Metric, count};

/// See the module.
pub(super) static ACCURACY: Metric = Metric {
    name: "accuracy",
    unit: "share",
    better: Better::Higher,
    basis: Basis::All,
    source: "exact match",
    summary: "right leading answers of all questions, given or not, 0 to 1",
    formula: Formula::Proportion(|items| (count(items, Item::is_right), items.len())),
};
