//! Mean squared error of the confidence, and its decomposition: reliability - resolution +
//! uncertainty.
//!
//! The parts come from the best monotone recalibration of the same confidences (pool adjacent
//! violators), not from bins: reliability is the gain of recalibration, resolution the gain of the
//! recalibrated confidence over the base rate, uncertainty the score of the base rate. All three
//! are 0 or more, ties are pooled, and the sum is exact.

use super::pool::{FittedBlock, non_decreasing};
use super::ties::{Group, groups};
use super::{Formula, GradedQuestion, Metric, Population};

const ROW: Metric = Metric {
    name: "brier",
    unit: "squared probability",
    higher_is_better: Some(false),
    population: Population::Confident,
    source: "Brier 1950; scikit-learn brier_score_loss",
    summary: "mean squared difference of confidence and correctness, 0 to 1",
    formula: Formula::Bootstrapped(|questions| Some(Parts::of(questions)?.brier)),
};

const PARTS: &str =
    "Dimitriadis, Gneiting and Jordan, PNAS 118 (2021): MCB, DSC and UNC of the CORP decomposition";

/// The score.
pub(super) static BRIER: Metric = ROW;

/// Miscalibration.
pub(super) static BRIER_RELIABILITY: Metric = Metric {
    name: "brier_reliability",
    source: PARTS,
    summary: "gain in brier score from monotone recalibration, 0 to 1; 0 is calibrated",
    formula: Formula::Number(|questions| {
        Parts::of(questions).map(|parts| parts.brier - parts.recalibrated)
    }),
    ..ROW
};

/// Discrimination.
pub(super) static BRIER_RESOLUTION: Metric = Metric {
    name: "brier_resolution",
    higher_is_better: Some(true),
    source: PARTS,
    summary: "gain in brier score of the recalibrated confidence over the base rate, 0 to 1/4",
    formula: Formula::Number(|questions| {
        Parts::of(questions).map(|parts| parts.base_rate - parts.recalibrated)
    }),
    ..ROW
};

/// The base rate's score.
pub(super) static BRIER_UNCERTAINTY: Metric = Metric {
    name: "brier_uncertainty",
    higher_is_better: None,
    source: PARTS,
    summary: "brier score of the base rate as constant confidence, 0 to 1/4",
    formula: Formula::Number(|questions| Some(Parts::of(questions)?.base_rate)),
    ..ROW
};

/// Brier scores of the confidence, of its recalibration, and of the base rate.
struct Parts {
    brier: f64,
    recalibrated: f64,
    base_rate: f64,
}

impl Parts {
    fn of(questions: &[&GradedQuestion]) -> Option<Self> {
        let groups = by_confidence(questions);
        let n: f64 = groups.iter().map(Group::count).sum();
        let correct: f64 = groups.iter().map(|group| group.correct).sum();
        let brier: f64 =
            groups.iter().map(|group| loss(group.value, group.correct, group.incorrect)).sum();
        let recalibrated: f64 = non_decreasing(&groups).iter().map(recalibrated_loss).sum();
        let base_rate = loss(correct / n, correct, n - correct);
        (n > 0.0).then(|| Self {
            brier: brier / n,
            recalibrated: recalibrated / n,
            base_rate: base_rate / n,
        })
    }
}

fn recalibrated_loss(block: &FittedBlock) -> f64 {
    loss(block.share(), block.correct, block.count - block.correct)
}

/// Summed squared error of confidence `p` for these numbers of correct and incorrect answers.
fn loss(p: f64, correct: f64, incorrect: f64) -> f64 {
    correct * (1.0 - p).powi(2) + incorrect * p.powi(2)
}

/// Questions with a confidence, lowest first, equal ones together.
pub(super) fn by_confidence(questions: &[&GradedQuestion]) -> Vec<Group> {
    groups(
        questions
            .iter()
            .filter_map(|question| Some((question.probability()?, question.is_correct()))),
    )
}
