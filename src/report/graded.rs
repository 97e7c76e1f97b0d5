//! Questions of a run as a report shows them: the class of each, the reason for having no answer,
//! and every estimator's score.
//!
//! Contract: verdicts are those of [`crate::eval::RunScorer`], which `candor score` uses too.

use crate::calibration::{CalibrationError, PolicyFile};
use crate::consensus::Reader;
use crate::decision::Policy;
use crate::eval::{Manifest, Scored};
use crate::metrics::{Grade, GradedQuestion};
use crate::pipeline::{Selector, Verdict};
use crate::uncertainty::{DEFAULT_ESTIMATOR, ESTIMATORS, Estimator};

/// What became of a question: every question is in exactly one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutcomeClass {
    /// A correct answer was given.
    Correct,
    /// An incorrect answer was given.
    Incorrect,
    /// There was an answer, and it was not given.
    Abstained,
    /// There was no answer to give.
    NoAnswer,
}

impl OutcomeClass {
    /// Every class, in the order of the page.
    pub const ALL: [Self; 4] = [Self::Correct, Self::Incorrect, Self::Abstained, Self::NoAnswer];

    /// The name in style sheets and element ids.
    pub fn name(self) -> &'static str {
        match self {
            Self::Correct => "correct",
            Self::Incorrect => "incorrect",
            Self::Abstained => "abstained",
            Self::NoAnswer => "no_answer",
        }
    }

    /// The name in texts.
    pub fn label(self) -> &'static str {
        if self == Self::NoAnswer { "no answer" } else { self.name() }
    }

    /// The class of a graded question.
    pub fn of(question: &GradedQuestion) -> Self {
        match question.grade {
            Grade::NoAnswer => Self::NoAnswer,
            _ if !question.answered => Self::Abstained,
            Grade::Correct => Self::Correct,
            Grade::Incorrect => Self::Incorrect,
        }
    }
}

/// A record as a graded question.
#[derive(Clone, Debug)]
pub struct GradedRecord {
    /// The input of metrics.
    pub question: GradedQuestion,
    /// The reason for having no answer, in one sentence.
    pub reason: Option<String>,
    /// Every estimator's uncertainty, in the order of [`ESTIMATORS`].
    pub scores: Vec<Option<f64>>,
    /// Forward tokens of the first k samples, k = 1, 2, ...
    pub forward_tokens: Vec<f64>,
}

impl GradedRecord {
    /// From a question's score; `error` is why it could not be asked, if it could not.
    pub fn new(scored: &Scored, error: Option<&String>) -> Self {
        let verdict = scored.verdict.as_ref();
        let reason = |verdict: &Verdict| verdict.decision.reason().map(ToString::to_string);
        let uncertainty = |estimator: &&Estimator| {
            let score = verdict?.scores.get(estimator.name)?;
            Some(estimator.to_uncertainty(*score))
        };
        Self {
            question: scored.item.clone(),
            reason: verdict.map_or_else(|| error.cloned(), reason),
            scores: ESTIMATORS.iter().map(uncertainty).collect(),
            forward_tokens: scored.forward_tokens.clone(),
        }
    }
}

/// Whether the policy fits the run; a run without a fingerprint fits none.
///
/// # Errors
/// Every field of the fingerprint that differs; a file that was changed.
pub fn fits(policy: &PolicyFile, manifest: &Manifest) -> Result<bool, CalibrationError> {
    let Some(running) = manifest.fingerprint.clone() else { return Ok(false) };
    Selector::new(Reader::default(), DEFAULT_ESTIMATOR, Policy::default())
        .bind_policy(policy.clone(), running, None)
        .map(|()| true)
}
