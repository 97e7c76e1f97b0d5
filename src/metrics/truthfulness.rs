//! (right - wrong) / N over the answers given: a wrong answer costs what a right one earns, silence
//! costs nothing.

use super::{Basis, Better, Formula, Metric};

/// See the module.
pub(super) static TRUTHFULNESS: Metric = Metric {
    name: "truthfulness",
    unit: "score",
    better: Better::Higher,
    basis: Basis::All,
    source: "(right - wrong) / N; score_t at t = 1/2",
    summary: "answers given and right less those given and wrong, per question, -1 to 1",
    formula: Formula::Number(|items| super::score_t::score_t(items, 0.5)),
};
