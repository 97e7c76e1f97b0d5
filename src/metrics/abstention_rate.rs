//! Share of all questions that the policy did not answer although there was an answer. With
//! coverage and the failure rate it adds up to 1: having nothing to say is no decision to keep
//! silent.

use super::{Basis, Better, Formula, Metric, count};

/// See the module.
pub(super) static ABSTENTION_RATE: Metric = Metric {
    name: "abstention_rate",
    unit: "share",
    better: Better::Neither,
    basis: Basis::All,
    source: "1 - coverage, less the failures",
    summary: "answers held back of all questions, 0 to 1; failed questions are counted apart",
    formula: Formula::Proportion(|items| {
        (count(items, |item| !item.answered && !item.is_failed()), items.len())
    }),
};
