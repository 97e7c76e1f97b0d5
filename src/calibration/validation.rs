//! Validation of the selective-risk guarantee on recorded questions: many random splits into a part
//! that calibrates and a held-out part.
//!
//! The guarantee is about the source of the labels. Here the source is the finite set of questions
//! that the map and the grid were not fitted on, and the threshold part is drawn from it. A
//! violation is an error rate above alpha among the answers to all of that set. Splits are
//! independent given the questions, and drawing without replacement makes the test stricter than
//! necessary, so the number of violations is at most Bin(splits, delta). The error rate of the
//! held-out part alone is an estimate from few answers: it exceeds alpha more often than the true
//! rate does, and is counted separately.

use serde::Serialize;

use super::{
    BoundPolicy, CalibrationError, Example, Fingerprint, Method, PolicyFile, Split, Target,
    calibrate, min_answers,
};
use crate::metrics::Grade;
use crate::metrics::binomial::lower_tail;

/// Significance level of the number of violations.
const LEVEL: f64 = 0.05;

/// How questions are dealt, and how often.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomSplits {
    /// Number of splits; split i has seed i.
    pub splits: u64,
    /// Share of the questions that map and grid come from.
    pub fit: f64,
    /// Share that the threshold is chosen on.
    pub threshold: f64,
}

/// Results over many splits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Validation {
    /// The largest risk that the guarantee allows.
    pub alpha: f64,
    /// The probability of a violation that the guarantee allows.
    pub delta: f64,
    /// Number of splits.
    pub splits: u64,
    /// Splits with a certified threshold.
    pub certified: u64,
    /// Splits whose labels could not be fitted at all; nothing is answered there.
    pub not_fitted: u64,
    /// Splits whose error rate among the answers exceeds alpha, over all questions that the
    /// threshold part was drawn from.
    pub violations: u64,
    /// The largest number of violations that chance explains if the guarantee holds: more have a
    /// probability of at most 5 %.
    pub max_by_chance: u64,
    /// Splits whose error rate on the untouched part alone exceeds alpha.
    pub test_violations: u64,
    /// Mean coverage of the held-out part.
    pub coverage: f64,
    /// Incorrect answers of all answers on the held-out parts, over all splits; `None` if nothing
    /// was answered.
    pub risk: Option<f64>,
}

impl Validation {
    /// Whether chance explains the violations.
    pub fn holds(&self) -> bool {
        self.violations <= self.max_by_chance
    }
}

/// Calibrates selective risk on many splits of labeled questions.
///
/// # Errors
/// A parameter out of range, or a question that occurs twice.
pub fn validate(
    examples: &[Example],
    (alpha, delta): (f64, f64),
    method: Method,
    fingerprint: &Fingerprint,
    random: RandomSplits,
) -> Result<Validation, CalibrationError> {
    // Parameters that no split can satisfy are an error and are not counted.
    min_answers(alpha, delta)?;
    let RandomSplits { splits, .. } = random;
    let max_by_chance =
        (0..splits).find(|k| lower_tail(*k, splits, delta) >= 1.0 - LEVEL).unwrap_or(splits);
    let mut validation = Validation {
        alpha,
        delta,
        splits,
        certified: 0,
        not_fitted: 0,
        violations: 0,
        max_by_chance,
        test_violations: 0,
        coverage: 0.0,
        risk: None,
    };
    let mut total = Answered::default();
    for seed in 0..splits {
        let split = Split::random_split(examples.to_vec(), random.fit, random.threshold, seed)?;
        let target = Target::SelectiveRisk { alpha, delta };
        let Ok(policy) = calibrate(&split, method, target, fingerprint.clone()) else {
            validation.not_fitted += 1;
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
    validation.risk = (total.answered > 0).then(|| total.incorrect as f64 / total.answered as f64);
    Ok(validation)
}

fn bound<'a>(
    policy: &'a PolicyFile,
    fingerprint: &'a Fingerprint,
) -> Result<BoundPolicy<'a>, CalibrationError> {
    policy.check(fingerprint).map_err(|mismatch| CalibrationError::File(mismatch.to_string()))
}

#[derive(Clone, Copy, Default)]
struct Answered {
    answered: u64,
    incorrect: u64,
}

impl std::ops::Add for Answered {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            answered: self.answered + other.answered,
            incorrect: self.incorrect + other.incorrect,
        }
    }
}

impl Answered {
    fn of(examples: &[Example], bound: BoundPolicy<'_>) -> Self {
        let answered: Vec<&Example> =
            examples.iter().filter(|example| bound.answers(&example.scores)).collect();
        let incorrect = answered.iter().filter(|example| example.grade != Grade::Correct).count();
        Self { answered: answered.len() as u64, incorrect: incorrect as u64 }
    }

    fn exceeds(self, alpha: f64) -> bool {
        self.incorrect as f64 > alpha * self.answered as f64
    }
}
