//! P(a right answer is surer than a wrong one), ties half: how well uncertainty tells right from
//! wrong. 1/2 is a coin.
//!
//! `None` where all answers are right or all are wrong: there is nothing to tell apart, and no 0 or
//! 1 is reported for it.

use super::curve::by_uncertainty;
use super::ties::right_is_lower;
use super::{Basis, Better, Formula, Item, Metric};

/// See the module.
pub(super) static AUROC: Metric = Metric {
    name: "auroc",
    unit: "probability",
    better: Better::Higher,
    basis: Basis::Scored,
    source: "Mann and Whitney 1947; scikit-learn roc_auc_score",
    summary: "probability that a right answer is surer than a wrong one, 0 to 1; ties half",
    formula: Formula::Number(auroc),
};

fn auroc(items: &[&Item]) -> Option<f64> {
    let (wins, pairs) = right_is_lower(&by_uncertainty(items));
    (pairs > 0.0).then(|| wins / pairs)
}
