//! The promise put to the test on recorded questions: many random deals into a part that calibrates
//! and one that was never looked at.
//!
//! What is promised is about the source that the labels were drawn from. Here the source is the
//! finite set of questions that the map and the grid were not fitted on; the threshold part is
//! drawn from it, so a violation is an error rate among the answers to all of it that exceeds
//! alpha. Deals are independent given the questions, and drawing without replacement makes the test
//! stricter than it need be; so the number of violations is at most Bin(splits, delta). The error
//! rate of the untouched part alone is an estimate from few answers: it exceeds alpha more often
//! than its truth does, and is counted apart.

use serde::Serialize;

use super::{
    Bound, Example, Fingerprint, Goal, Method, PolicyFile, Refusal, Split, calibrate,
    fewest_answers,
};
use crate::metrics::Grade;
use crate::metrics::binomial::lower_tail;

/// More violations than chance explains at this level are too many.
const LEVEL: f64 = 0.05;

/// How questions are dealt, and how often.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Deals {
    /// How many deals; deal i has the seed i.
    pub splits: u64,
    /// Share of the questions that map and grid come from.
    pub fit: f64,
    /// Share that the threshold is chosen on.
    pub threshold: f64,
}

/// What became of a promise over many deals.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Validation {
    /// The largest risk that was promised.
    pub alpha: f64,
    /// How probable a violation may be.
    pub delta: f64,
    /// Deals.
    pub splits: u64,
    /// Deals with a certified threshold.
    pub certified: u64,
    /// Deals whose labels could not be fitted at all; nothing is answered there.
    pub refused: u64,
    /// Deals whose error rate among the answers exceeds alpha, over all questions that the
    /// threshold part was drawn from.
    pub violations: u64,
    /// The most violations that chance explains if the promise holds: more have a probability of at
    /// most 5 %.
    pub explained: u64,
    /// Deals whose error rate on the untouched part alone exceeds alpha.
    pub test_violations: u64,
    /// Mean share of the untouched part that is answered.
    pub coverage: f64,
    /// Wrong answers of all answers on the untouched parts, over all deals; `None` if nothing was
    /// answered.
    pub risk: Option<f64>,
}

impl Validation {
    /// Whether chance explains the violations.
    pub fn holds(&self) -> bool {
        self.violations <= self.explained
    }
}

/// Calibrates selective risk on many deals of labelled questions.
///
/// # Errors
/// A parameter out of range, or a question that occurs twice.
pub fn validate(
    examples: &[Example],
    (alpha, delta): (f64, f64),
    method: Method,
    fingerprint: &Fingerprint,
    deals: Deals,
) -> Result<Validation, Refusal> {
    // What no deal could make right is refused, rather than counted.
    fewest_answers(alpha, delta)?;
    let Deals { splits, .. } = deals;
    let explained =
        (0..splits).find(|k| lower_tail(*k, splits, delta) >= 1.0 - LEVEL).unwrap_or(splits);
    let mut validation = Validation {
        alpha,
        delta,
        splits,
        certified: 0,
        refused: 0,
        violations: 0,
        explained,
        test_violations: 0,
        coverage: 0.0,
        risk: None,
    };
    let mut total = Answered::default();
    for seed in 0..splits {
        let split = Split::deal(examples.to_vec(), deals.fit, deals.threshold, seed)?;
        let goal = Goal::SelectiveRisk { alpha, delta };
        let Ok(policy) = calibrate(&split, method, goal, fingerprint.clone()) else {
            validation.refused += 1;
            continue;
        };
        let bound = bound(&policy, fingerprint)?;
        let (drawn, test) =
            (Answered::of(split.threshold(), bound), Answered::of(split.report(), bound));
        validation.certified += u64::from(policy.threshold().is_some());
        validation.violations += u64::from((drawn + test).exceeds(alpha));
        validation.test_violations += u64::from(test.exceeds(alpha));
        validation.coverage +=
            test.answered as f64 / split.report().len().max(1) as f64 / splits as f64;
        total = total + test;
    }
    validation.risk = (total.answered > 0).then(|| total.wrong as f64 / total.answered as f64);
    Ok(validation)
}

fn bound<'a>(policy: &'a PolicyFile, fingerprint: &'a Fingerprint) -> Result<Bound<'a>, Refusal> {
    policy.check(fingerprint).map_err(|mismatch| Refusal::File(mismatch.to_string()))
}

#[derive(Clone, Copy, Default)]
struct Answered {
    answered: u64,
    wrong: u64,
}

impl std::ops::Add for Answered {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { answered: self.answered + other.answered, wrong: self.wrong + other.wrong }
    }
}

impl Answered {
    fn of(examples: &[Example], bound: Bound<'_>) -> Self {
        let answered: Vec<&Example> =
            examples.iter().filter(|example| bound.answers(&example.scores)).collect();
        let wrong = answered.iter().filter(|example| example.grade != Grade::Correct).count();
        Self { answered: answered.len() as u64, wrong: wrong as u64 }
    }

    fn exceeds(self, alpha: f64) -> bool {
        self.wrong as f64 > alpha * self.answered as f64
    }
}
