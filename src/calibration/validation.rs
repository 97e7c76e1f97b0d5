//! Validation of the selective-risk guarantee on recorded questions: many random splits into parts
//! that calibrate and an untouched part that judges.
//!
//! A split is a violation if its certified threshold answers significantly more questions of the
//! untouched part incorrectly than alpha allows, by a one-sided exact binomial test at 5 %. Under
//! the guarantee a threshold is certified with a risk above alpha with a probability of at most
//! delta, and where its risk is at most alpha the test rejects with one of at most 5 %; so at most
//! a share delta + (1 - delta) 5 % of splits is expected to be one. Splits share questions: their
//! number varies more than that of independent ones, and [`Untouched::max_by_chance`] is
//! approximate. A split without a certificate answers nothing and cannot be a violation; if there
//! is no other, nothing is validated.

use serde::Serialize;

use super::{
    BoundPolicy, CalibrationError, Example, Fingerprint, Method, Split, Target, calibrate,
    min_answers,
};
use crate::metrics::Grade;
use crate::metrics::binomial::lower_tail;

/// Significance level of a split's errors, and of the number of violations.
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
    /// The largest probability of certifying a threshold of a larger risk.
    pub delta: f64,
    /// Number of splits.
    pub splits: u64,
    /// Splits with a certified threshold.
    pub certified: u64,
    /// Splits that could not be fitted, as estimators could not be fused or the map does not suit
    /// the score; nothing is answered there.
    pub not_fitted: u64,
    /// What the untouched parts say; `None` if nothing was certified.
    pub untouched: Option<Untouched>,
}

/// Results on the untouched parts of the certified splits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Untouched {
    /// Splits with significantly more errors among the answers than alpha allows.
    pub violations: u64,
    /// The share of splits that may be violations on average if the guarantee holds.
    pub allowed: f64,
    /// The largest number of violations that chance explains if the guarantee holds: more have a
    /// probability of about 5 % or less.
    pub max_by_chance: u64,
    /// Mean coverage.
    pub coverage: f64,
    /// Incorrect answers of all answers; `None` if nothing was answered.
    pub risk: Option<f64>,
}

impl Untouched {
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
    let (mut certified, mut not_fitted, mut violations, mut coverage) = (0, 0, 0, 0.0);
    let mut total = Answered::default();
    for seed in 0..splits {
        let split = Split::random_split(examples.to_vec(), random.fit, random.threshold, seed)?;
        let target = Target::SelectiveRisk { alpha, delta };
        let Ok(policy) = calibrate(&split, method, target, fingerprint.clone()) else {
            not_fitted += 1;
            continue;
        };
        if policy.threshold().is_none() {
            continue;
        }
        let bound = policy.check(fingerprint).map_err(CalibrationError::Mismatch)?;
        let untouched = Answered::of(split.report(), bound);
        certified += 1;
        violations += u64::from(untouched.exceeds(alpha));
        coverage += untouched.answered as f64 / split.report().len().max(1) as f64;
        total = total + untouched;
    }
    let allowed = delta + (1.0 - delta) * LEVEL;
    let untouched = (certified > 0).then(|| Untouched {
        violations,
        allowed,
        max_by_chance: (0..splits)
            .find(|k| lower_tail(*k, splits, allowed) >= 1.0 - LEVEL)
            .unwrap_or(splits),
        coverage: coverage / certified as f64,
        risk: (total.answered > 0).then(|| total.incorrect as f64 / total.answered as f64),
    });
    Ok(Validation { alpha, delta, splits, certified, not_fitted, untouched })
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

    /// Whether there are significantly more incorrect answers than at risk `alpha`.
    fn exceeds(self, alpha: f64) -> bool {
        let fewer = self.incorrect.checked_sub(1);
        fewer.is_some_and(|fewer| 1.0 - lower_tail(fewer, self.answered, alpha) <= LEVEL)
    }
}
