//! From raw uncertainty to what can be promised: calibrated confidence, thresholds with a
//! guarantee, and the file that binds both to what they were measured on.
//!
//! Contract: pure, total and deterministic; no estimate without labels, and no promise beyond what
//! they carry. "Cannot certify" is a value with the number of labels that it would take
//! ([`Shortfall`]); a [`Refusal`] says that the labels themselves cannot be used. It knows neither
//! texts nor models, only graded scores.
//!
//! Conventions:
//! - Scores are uncertainties, higher = less sure. Every map falls with them, and a fit that rises
//!   is refused, not flipped.
//! - A question that failed, or has no finite score, is never answered. It stays in every
//!   denominator over questions.
//! - Fitting a map, choosing a threshold and reporting use three parts without a common question,
//!   see [`Split`].
//! - Every promise is about questions from where the labelled ones came from, on average over them,
//!   under the same [`Fingerprint`]. Learn-then-test needs them drawn independently, risk control
//!   needs them exchangeable only.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::metrics::binomial::clopper_pearson;
use crate::metrics::{Grade, GradedQuestion};

mod beta;
mod calibrator;
mod fingerprint;
mod fusion;
mod isotonic;
mod learn_then_test;
mod logistic;
mod policy_file;
mod risk_control;
mod sigmoid;
mod split;
mod target;
mod temperature;
mod threshold;
mod validation;
mod venn_abers;

pub use beta::Beta;
pub use calibrator::{Calibrator, Method};
pub use fingerprint::{Difference, Fingerprint, Mismatch};
pub use fusion::{Fusion, MAX_ESTIMATORS};
pub use isotonic::Isotonic;
pub use learn_then_test::{fewest_answers, grid, learn_then_test};
pub use policy_file::{Bound, Goal, PolicyFile, Report, Rule, calibrate};
pub use risk_control::risk_control;
pub use sigmoid::Sigmoid;
pub use split::{Split, cross_fit};
pub use target::target_coverage;
pub use temperature::Temperature;
pub use threshold::{Certificate, Scored, Shortfall, Threshold};
pub use validation::{Deals, Validation, validate};
pub use venn_abers::{Band, VennAbers};

/// A labelled question: what the estimators said, and whether the leading answer was right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// The question's name: what keeps parts disjoint.
    pub id: String,
    /// One uncertainty per estimator, higher = less sure; anything but a finite number is none.
    pub scores: Vec<Option<f64>>,
    /// Whether the leading answer is right.
    pub grade: Grade,
}

impl From<&GradedQuestion> for Example {
    /// A graded question with the one score that it has.
    fn from(item: &GradedQuestion) -> Self {
        Self { id: item.id.clone(), scores: vec![item.score()], grade: item.grade }
    }
}

/// Why labels, parameters or a file cannot be used. Its text is one lower-case sentence that names
/// the thing and the remedy.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// Fewer labelled and scored questions than a fit needs.
    TooFew {
        /// How many there are.
        have: usize,
        /// How many of them are right.
        right: usize,
        /// How many it takes.
        need: usize,
    },
    /// All labels are the same: nothing tells right from wrong.
    OneClass {
        /// How many there are.
        have: usize,
        /// How many of them are right: all or none.
        right: usize,
    },
    /// All scores are the same.
    Constant {
        /// The score.
        score: f64,
    },
    /// The score parts right from wrong without overlap, so that the most likely sigmoid is a step.
    Separated,
    /// The confidence would rise with uncertainty.
    WrongDirection {
        /// The fitted slope; it must be below 0.
        slope: f64,
    },
    /// The map reads a probability as -score, and this is none.
    NotAProbability {
        /// The score.
        score: f64,
    },
    /// One question is in two parts, or twice in one.
    Overlap {
        /// The question.
        id: String,
    },
    /// A parameter is outside its range.
    Parameter {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: f64,
        /// Its range.
        range: &'static str,
    },
    /// A policy file is not what it claims to be.
    File(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFew { have, right, need } => {
                write!(
                    f,
                    "only {have} labelled questions, {right} of them right{}; {need} are \
                           needed",
                    TrueShare(*right, *have)
                )
            }
            Self::OneClass { have, right: 0 } => {
                write!(
                    f,
                    "all {have} labelled questions are wrong{}; add easier ones, until some \
                           are right",
                    TrueShare(0, *have)
                )
            }
            Self::OneClass { have, right } => {
                write!(
                    f,
                    "all {have} labelled questions are right{}; add harder ones, until some \
                           are wrong",
                    TrueShare(*right, *have)
                )
            }
            Self::Constant { score } => write!(
                f,
                "every question has the same score {score}; use \
                another estimator or more samples"
            ),
            Self::Separated => f.write_str(
                "the score parts right from wrong without overlap, so no finite sigmoid fits; \
                 label more questions, or use isotonic or \
                 venn_abers",
            ),
            Self::WrongDirection { slope } => write!(
                f,
                "confidence would not fall with uncertainty (slope {slope:.4}): the estimator does not tell right from wrong; use another"
            ),
            Self::NotAProbability { score } => {
                write!(
                    f,
                    "score {score} is not the negative of a probability; use sigmoid, \
                           isotonic or venn_abers"
                )
            }
            Self::Overlap { id } => write!(
                f,
                "question `{id}` occurs more than once; each must \
                be in exactly one part"
            ),
            Self::Parameter { name, value, range } => write!(
                f,
                "{name} is {value}; it must be \
                {range}"
            ),
            Self::File(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Refusal {}

/// Right answers and questions, as text the interval of the true share: never a bare point.
struct TrueShare(usize, usize);

impl fmt::Display for TrueShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match clopper_pearson(self.0 as u64, self.1 as u64, 0.95) {
            Some(interval) => write!(
                f,
                " (true share {:.2} to {:.2} with 95 % confidence)",
                interval.low, interval.high
            ),
            None => Ok(()),
        }
    }
}

/// Refuses anything but a number strictly between 0 and 1.
fn check_open(name: &'static str, value: f64) -> Result<(), Refusal> {
    if value > 0.0 && value < 1.0 {
        Ok(())
    } else {
        Err(Refusal::Parameter { name, value, range: "above 0 and below 1" })
    }
}
