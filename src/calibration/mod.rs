//! Calibration: maps from raw uncertainty to confidence, thresholds with a guarantee, and the
//! policy file that binds both to the configuration they were fitted on.
//!
//! Contract: pure, total and deterministic; no estimate without labels, and no guarantee beyond
//! what the labels support. "Cannot certify" is a value with the number of labels that are needed
//! ([`LabelsNeeded`]); a [`CalibrationError`] means that the labels themselves cannot be used.
//! Calibration knows neither texts nor models, only graded scores.
//!
//! Conventions:
//! - Scores are uncertainties, higher = less confident. Every map is decreasing; an increasing fit
//!   is an error and is not flipped.
//! - A question without an answer or a finite score is never answered. It stays in every
//!   denominator over questions.
//! - A question whose gold answer is unknown is not an example: whoever makes [`Example`]s leaves
//!   it out and counts it.
//! - Fitting a map, choosing a threshold and reporting use three disjoint parts, see [`Split`].
//! - A certificate needs no map: where the labels allow none, the threshold is certified anyway and
//!   there is no confidence.
//! - Every guarantee is about questions from the same source as the labeled ones, on average over
//!   them, under the same [`Fingerprint`]. Learn-then-test requires them to be independent, risk
//!   control only exchangeable.
//! - `delta` bounds P(certified and wrong): the probability, over the draw of the labels, that a
//!   certificate is issued and its risk exceeds `alpha`. It is not the share of certificates that
//!   are wrong: where few draws are certified, a larger share of those few may be.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::metrics::Grade;
use crate::metrics::binomial::clopper_pearson;

mod beta;
mod calibrator;
mod drift;
mod fingerprint;
mod fusion;
mod inverted;
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
pub use drift::Drift;
pub use fingerprint::{FieldDifference, Fingerprint, Mismatch};
pub use fusion::{Fusion, MAX_ESTIMATORS};
pub use isotonic::Isotonic;
pub use learn_then_test::{learn_then_test, min_answers, sequences};
pub use policy_file::{
    BoundPolicy, CalibratedOn, HeldOutReport, PolicyFile, Rule, Target, calibrate,
};
pub use risk_control::risk_control;
pub use sigmoid::Sigmoid;
pub use split::{Split, SplitSettings};
pub use target::target_coverage;
pub use temperature::Temperature;
pub use threshold::{Certificate, LabelsNeeded, ScoredQuestion, Threshold};
pub use validation::{RandomSplits, Untouched, Validation, validate};
pub use venn_abers::{Interval, VennAbers};

/// A labeled question: its scores and the grade of its leading answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// The question's name, by which parts are kept disjoint.
    pub id: String,
    /// Digest of the question's normalized text: two ids with the same one are one question. `None`
    /// if the text is unknown.
    #[serde(default)]
    pub text: Option<String>,
    /// One uncertainty per estimator, higher = less confident; ignored unless finite.
    pub scores: Vec<Option<f64>>,
    /// Whether the leading answer is correct.
    pub grade: Grade,
}

/// Why labels, parameters or a file cannot be used. The text is one lower-case sentence with the
/// remedy.
#[derive(Clone, Debug, PartialEq)]
pub enum CalibrationError {
    /// Fewer labeled and scored questions than a fit needs.
    TooFew {
        /// Questions available.
        have: usize,
        /// Correct ones among them.
        correct: usize,
        /// Questions needed.
        need: usize,
    },
    /// All answers are correct, or all are incorrect.
    OneClass {
        /// Questions available.
        have: usize,
        /// Correct ones among them: all or none.
        correct: usize,
    },
    /// All scores are the same.
    Constant {
        /// The score.
        score: f64,
    },
    /// The score separates correct from incorrect answers perfectly; the most likely sigmoid is a
    /// step.
    Separated,
    /// The confidence would rise with uncertainty.
    WrongDirection {
        /// The fitted slope, which must be below 0.
        slope: f64,
    },
    /// An estimator ranks incorrect answers above correct ones.
    Inverted {
        /// Its name.
        estimator: String,
        /// Its AUROC on the questions to fit, below one half.
        auroc: f64,
    },
    /// The map takes -score as a probability, and this score is not one.
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
    /// A policy file is invalid.
    File(String),
    /// A policy file was made for another configuration.
    Mismatch(Mismatch),
}

impl fmt::Display for CalibrationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFew { have, correct, need } => write!(
                f,
                "only {have} labeled questions, {correct} of them correct{}; {need} are needed",
                ShareWithInterval(*correct, *have)
            ),
            Self::OneClass { have, correct: 0 } => write!(
                f,
                "all {have} labeled questions are incorrect{}; add easier ones until some are \
                 correct",
                ShareWithInterval(0, *have)
            ),
            Self::OneClass { have, correct } => write!(
                f,
                "all {have} labeled questions are correct{}; add harder ones until some are \
                 incorrect",
                ShareWithInterval(*correct, *have)
            ),
            Self::Inverted { estimator, auroc } => write!(
                f,
                "estimator `{estimator}` ranks incorrect answers above correct ones (AUROC \
                 {auroc:.3}, below 0.5); choose another one"
            ),
            Self::Constant { score } => write!(
                f,
                "every question has the same score {score}; use another estimator or more samples"
            ),
            Self::Separated => f.write_str(
                "the score separates correct from incorrect answers perfectly, so no finite \
                 sigmoid fits; label more questions, or use isotonic or venn_abers",
            ),
            Self::WrongDirection { slope } => write!(
                f,
                "confidence would not fall with uncertainty (slope {slope:.4}): the estimator \
                 does not separate correct from incorrect answers; use another"
            ),
            Self::NotAProbability { score } => write!(
                f,
                "score {score} is not the negative of a probability; use sigmoid, isotonic or \
                 venn_abers"
            ),
            Self::Overlap { id } => {
                write!(f, "question `{id}` occurs more than once; each must be in exactly one part")
            }
            Self::Parameter { name, value, range } => {
                write!(f, "{name} is {value}; it must be {range}")
            }
            Self::File(reason) => f.write_str(reason),
            Self::Mismatch(mismatch) => mismatch.fmt(f),
        }
    }
}

impl std::error::Error for CalibrationError {}

/// The 95 % interval of a share, given as part and whole; its text is empty for a whole of 0.
struct ShareWithInterval(usize, usize);

impl fmt::Display for ShareWithInterval {
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

/// An error unless the value is strictly between 0 and 1.
fn check_open(name: &'static str, value: f64) -> Result<(), CalibrationError> {
    if value > 0.0 && value < 1.0 {
        Ok(())
    } else {
        Err(CalibrationError::Parameter { name, value, range: "above 0 and below 1" })
    }
}
