//! P(wrong | answered): the error rate of what was answered. Not monotone in the threshold, and not
//! P(answered and wrong). `None` where nothing was answered: silence is not perfect.

use super::{Basis, Better, Formula, Item, Metric, count};

/// See the module.
pub(super) static SELECTIVE_RISK: Metric = Metric {
    name: "selective_risk",
    unit: "share",
    better: Better::Lower,
    basis: Basis::Given,
    source: "Geifman and El-Yaniv, arXiv 1705.08500: selective risk",
    summary: "wrong answers of the answers given, 0 to 1; none where none was given",
    formula: Formula::Proportion(|items| {
        (count(items, |item| item.is_given() && !item.is_right()), count(items, Item::is_given))
    }),
};
