//! Parts of a labelled set without a common question: one to fit a map, one to choose a threshold,
//! one to report.
//!
//! Contract: deterministic; which part a question is in depends on (seed, id) and on how many
//! questions there are, never on their order. A question that is in two places is an error, never a
//! warning: what was fitted on a question says nothing about it. Ids are compared as text;
//! paraphrases of one question under different ids are one question that this module cannot see.

use std::collections::HashSet;

use super::{Calibrator, Example, Method, Refusal};
use crate::metrics::Grade;
use crate::metrics::bootstrap::mix;

/// Three parts without a common question.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    fit: Vec<Example>,
    threshold: Vec<Example>,
    report: Vec<Example>,
}

impl Split {
    /// Takes three parts as they are.
    ///
    /// # Errors
    /// If a question is in two parts, or twice in one.
    pub fn new(
        fit: Vec<Example>,
        threshold: Vec<Example>,
        report: Vec<Example>,
    ) -> Result<Self, Refusal> {
        check_unique(fit.iter().chain(&threshold).chain(&report))?;
        Ok(Self { fit, threshold, report })
    }

    /// Deals questions into three parts by the hash of their ids: `fit` and `threshold` are shares
    /// of all, the rest is for the report.
    ///
    /// # Errors
    /// If a question occurs twice, or the shares are not 0 to 1 together.
    pub fn deal(
        mut examples: Vec<Example>,
        fit: f64,
        threshold: f64,
        seed: u64,
    ) -> Result<Self, Refusal> {
        check_unique(&examples)?;
        for (name, share) in
            [("fit", fit), ("threshold", threshold), ("fit + threshold", fit + threshold)]
        {
            if !(0.0..=1.0).contains(&share) {
                return Err(Refusal::Parameter { name, value: share, range: "0 to 1" });
            }
        }
        examples.sort_by_cached_key(|example| (hash(&example.id, seed), example.id.clone()));
        let n = examples.len();
        let until = |share: f64| ((share * n as f64).round() as usize).min(n);
        let report = examples.split_off(until(fit + threshold));
        let threshold = examples.split_off(until(fit).min(examples.len()));
        Ok(Self { fit: examples, threshold, report })
    }

    /// Where maps and the grid of thresholds come from.
    pub fn fit(&self) -> &[Example] {
        &self.fit
    }

    /// Where the threshold is chosen and certified.
    pub fn threshold(&self) -> &[Example] {
        &self.threshold
    }

    /// What nothing was chosen on.
    pub fn report(&self) -> &[Example] {
        &self.report
    }
}

/// Refuses a question that occurs twice.
fn check_unique<'a>(examples: impl IntoIterator<Item = &'a Example>) -> Result<(), Refusal> {
    let mut seen = HashSet::new();
    let twice = examples.into_iter().find(|example| !seen.insert(example.id.as_str()));
    twice.map_or(Ok(()), |example| Err(Refusal::Overlap { id: example.id.clone() }))
}

/// Out-of-fold confidences: each question's by a map that was fitted on all folds but its own. For
/// reports where labels are too few for a part of their own; no threshold on them is certified,
/// since each fold has its own map. `column` is the estimator. In the order of `examples`; `None`
/// where there is no score.
///
/// # Errors
/// If a question occurs twice, there are fewer than 2 folds, or a fold's map cannot be fitted.
pub fn cross_fit(
    method: Method,
    examples: &[Example],
    column: usize,
    folds: usize,
    seed: u64,
) -> Result<Vec<Option<f64>>, Refusal> {
    check_unique(examples)?;
    if folds < 2 {
        return Err(Refusal::Parameter { name: "folds", value: folds as f64, range: "2 or more" });
    }
    // By rank of the hash, so that folds are of equal size.
    let mut order: Vec<usize> = (0..examples.len()).collect();
    order.sort_by_cached_key(|i| {
        examples.get(*i).map(|example| (hash(&example.id, seed), example.id.clone()))
    });
    let mut confidences = vec![None; examples.len()];
    for fold in 0..folds.min(examples.len()) {
        let of = |inside: bool| {
            let ranked =
                order.iter().enumerate().filter(move |(rank, _)| (rank % folds == fold) == inside);
            ranked.filter_map(|(_, i)| Some((*i, examples.get(*i)?)))
        };
        let points: Vec<(f64, bool)> =
            of(false).filter_map(|(_, example)| point(example, column)).collect();
        let map = Calibrator::fit(method, &points)?;
        for (i, example) in of(true) {
            if let (Some(place), Some((uncertainty, _))) =
                (confidences.get_mut(i), point(example, column))
            {
                *place = map.confidence(uncertainty);
            }
        }
    }
    Ok(confidences)
}

/// The score and whether the answer is right, of a question with an answer and a finite score.
fn point(example: &Example, column: usize) -> Option<(f64, bool)> {
    let score = example.scores.get(column).copied().flatten().filter(|score| score.is_finite())?;
    (example.grade != Grade::NoAnswer).then_some((score, example.grade == Grade::Correct))
}

/// FNV-1a of the id, mixed with the seed.
fn hash(id: &str, seed: u64) -> u64 {
    let fnv = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(fnv ^ mix(seed))
}
