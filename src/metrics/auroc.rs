//! P(a correct answer is more confident than an incorrect one), ties half: how well uncertainty
//! separates correct from incorrect answers. 1/2 is chance.
//!
//! `None` if all answers are correct or all are incorrect. Beside it stands what it hides: how many
//! questions share the most confident score, and how many of its pairs are ties.

use super::curve::by_uncertainty;
use super::ties::{Group, correct_is_lower};
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

/// The share of questions that no threshold tells apart from the most confident one.
pub(super) static SATURATION: Metric = Metric {
    name: "saturation",
    unit: "share",
    higher_is_better: None,
    population: Population::Scored,
    source: "share of scored questions whose uncertainty is the lowest one",
    summary: "share of the scored questions that have the most confident score, above 0 to 1",
    formula: Formula::Number(|questions| {
        let groups = by_uncertainty(questions);
        let all: f64 = groups.iter().map(Group::count).sum();
        Some(groups.first()?.count() / all)
    }),
};

/// The share of AUROC's pairs that count half.
pub(super) static TIED_PAIRS: Metric = Metric {
    name: "tied_pairs",
    unit: "share",
    higher_is_better: None,
    population: Population::Scored,
    source: "share of pairs of a correct and an incorrect answer with equal uncertainty",
    summary: "share of pairs of a correct and an incorrect answer that have equal scores, 0 to 1",
    formula: Formula::Number(|questions| {
        let groups = by_uncertainty(questions);
        let tied: f64 = groups.iter().map(|group| group.correct * group.incorrect).sum();
        let (_, pairs) = correct_is_lower(&groups);
        (pairs > 0.0).then(|| tied / pairs)
    }),
};

fn auroc(questions: &[&GradedQuestion]) -> Option<f64> {
    let (wins, pairs) = correct_is_lower(&by_uncertainty(questions));
    (pairs > 0.0).then(|| wins / pairs)
}
