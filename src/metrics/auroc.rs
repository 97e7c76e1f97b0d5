//! P(a correct answer is more confident than an incorrect one), ties half: how well uncertainty
//! separates correct from incorrect answers. 1/2 is chance.
//!
//! `None` if all answers are correct or all are incorrect.

use super::curve::by_uncertainty;
use super::ties::correct_is_lower;
use super::{Formula, GradedQuestion, Metric, Population};

/// See the module.
pub(super) static AUROC: Metric = Metric {
    name: "auroc",
    unit: "probability",
    higher_is_better: Some(true),
    population: Population::Scored,
    source: "Mann and Whitney 1947; scikit-learn roc_auc_score",
    summary: "probability that a correct answer is more confident than an incorrect one, 0 to 1; \
              ties half",
    formula: Formula::Bootstrapped(auroc),
};

fn auroc(questions: &[&GradedQuestion]) -> Option<f64> {
    let (wins, pairs) = correct_is_lower(&by_uncertainty(questions));
    (pairs > 0.0).then(|| wins / pairs)
}
