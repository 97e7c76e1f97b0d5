//! Recorded questions as graded questions: with the record's verdict, or with that of another
//! policy file on the recorded scores.
//!
//! Contract: without another policy file everything is as recorded. With one, decisions and
//! confidences are exactly those of a run under that file, because a run decides by the same
//! scores. It reads no texts except names.

use crate::calibration::{Mismatch, PolicyFile};
use crate::consensus::Reader;
use crate::decision::Policy;
use crate::error::Result;
use crate::eval::{
    Grader, Manifest, Scorer, correct_mass, is_correct_per_byte, selector_with_policy,
};
use crate::metrics::{Grade, GradedQuestion};
use crate::pipeline::Selector;
use crate::uncertainty::{Confidence, DEFAULT_ESTIMATOR, ESTIMATORS, Estimator, Uncertainty};

use super::read::{Head, RecordedDecision};

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

/// Turns the records of a run into graded questions.
pub struct RecordGrader {
    scorer: Scorer,
    selector: Selector,
    /// Whether decisions are made again, because the policy is not the run's.
    redecides: bool,
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
}

/// Whether the policy fits the run; a run without a fingerprint fits none.
///
/// # Errors
/// Every field of the fingerprint that differs.
pub fn fits(policy: &PolicyFile, manifest: &Manifest) -> Result<bool, Mismatch> {
    let Some(running) = manifest.fingerprint.clone() else { return Ok(false) };
    Selector::new(Reader::default(), DEFAULT_ESTIMATOR, Policy::default())
        .bind_policy(policy.clone(), running)
        .map(|()| true)
}

impl RecordGrader {
    /// With the recorded decisions, or with those of `other`, which must fit the run.
    ///
    /// # Errors
    /// A manifest with settings that this version does not know.
    pub fn new(manifest: &Manifest, other: Option<&PolicyFile>) -> Result<Self> {
        let policy = other.or(manifest.policy.as_ref()).cloned();
        Ok(Self {
            scorer: manifest.task.scorer,
            selector: selector_with_policy(manifest, policy)?,
            redecides: other.is_some(),
        })
    }

    /// Grades a record.
    pub fn grade(&self, head: &Head) -> GradedRecord {
        let mut question = GradedQuestion {
            id: head.doc.id.clone(),
            grade: head.grade,
            answered: false,
            uncertainty: None,
            confidence: None,
            answerable: head.doc.answerable,
            correct_per_byte: None,
            correct_mass: None,
            samples: Vec::new(),
        };
        let Some(outcome) = &head.outcome else {
            let scores = vec![None; ESTIMATORS.len()];
            return GradedRecord { question, reason: head.error.clone(), scores };
        };
        question.correct_per_byte = is_correct_per_byte(&outcome.choices, &head.doc);
        question.correct_mass = correct_mass(&outcome.choices, &head.doc);
        if outcome.choices.is_empty() {
            // Scored choices are not samples.
            question.samples = Grader::new(self.scorer, &head.doc).samples(&outcome.vote);
        }
        let (uncertainty, confidence, decision) =
            self.selector.decide(&outcome.vote, &|estimator| outcome.score(estimator));
        question.uncertainty = uncertainty.map(Uncertainty::value);
        let reason = if self.redecides {
            question.answered = decision.is_answer();
            question.confidence = confidence.map(Confidence::value);
            decision.reason().map(ToString::to_string)
        } else {
            question.answered = outcome.decision == RecordedDecision::Answer;
            question.confidence = outcome.confidence;
            outcome.reason.as_ref().map(|reason| {
                if reason.detail.is_empty() { reason.code.clone() } else { reason.detail.clone() }
            })
        };
        let uncertainty =
            |estimator: &&Estimator| Some(estimator.to_uncertainty(outcome.score(estimator)?));
        GradedRecord { question, reason, scores: ESTIMATORS.iter().map(uncertainty).collect() }
    }
}
