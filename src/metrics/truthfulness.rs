//! (correct - incorrect) / N over the answers given: an incorrect answer costs as much as a correct
//! one earns, abstaining costs nothing.

use super::{Formula, Metric, Population};

/// See the module.
pub(super) static TRUTHFULNESS: Metric = Metric {
    name: "truthfulness",
    unit: "score",
    higher_is_better: Some(true),
    population: Population::All,
    source: "(correct - incorrect) / N; score_t at t = 1/2",
    summary: "correct minus incorrect answers given, per question, -1 to 1",
    formula: Formula::Bootstrapped(|questions| super::score_t::score_t(questions, 0.5)),
};
