//! Within-question discrimination: P(a right sample is surer than a wrong one of the same
//! question), ties half.
//!
//! Over all such pairs of all questions that have both, so a question weighs as many pairs as it
//! has. What makes a good voting weight, where calibration across questions does not. Samples
//! without an answer or a confidence are in no pair.

use super::ties::{groups, right_is_lower};
use super::{Basis, Better, Formula, Item, Metric};

/// See the module.
pub(super) static WQD: Metric = Metric {
    name: "wqd",
    unit: "probability",
    better: Better::Higher,
    basis: Basis::Contrasted,
    source: "Taubenfeld et al., arXiv 2502.06233: within-question discrimination",
    summary: "probability that a right sample is surer than a wrong one of the same question, 0 \
              to 1; ties half",
    formula: Formula::Number(wqd),
};

fn wqd(items: &[&Item]) -> Option<f64> {
    let (wins, all) = items
        .iter()
        .map(|item| pairs(item))
        .fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
    (all > 0.0).then(|| wins / all)
}

/// Pairs won by the right sample, and pairs.
pub(super) fn pairs(item: &Item) -> (f64, f64) {
    let samples = item.samples.iter().filter(|sample| sample.answer.is_some());
    right_is_lower(&groups(samples.filter_map(|sample| Some((-sample.confidence?, sample.right)))))
}
