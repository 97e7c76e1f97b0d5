//! Recorded questions as graded questions: with the record's verdict, or with that of another
//! policy file on the recorded scores.
//!
//! Contract: without another policy file everything is as recorded. With one, decisions and
//! confidences are exactly those of a run under that file, because a run decides by the same
//! scores. It reads no texts except names.

use crate::calibration::{BoundPolicy, Fingerprint, Mismatch, PolicyFile};
use crate::error::Result;
use crate::eval::{Grader, Manifest, Scorer, correct_mass, is_correct_per_byte};
use crate::metrics::{Grade, GradedQuestion};
use crate::pipeline::estimator_names;
use crate::uncertainty::{self, Confidence, ESTIMATORS, Estimator, Uncertainty};

use super::read::{Head, Verdict, Word};

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

/// How the questions of a run are judged.
pub struct Judging<'a> {
    scorer: Scorer,
    /// The estimators that are decided by.
    estimators: Vec<&'static Estimator>,
    bound: Option<BoundPolicy<'a>>,
    /// The policy that decides in place of the recorded one.
    other: Option<&'a PolicyFile>,
}

/// A question, judged.
#[derive(Clone, Debug)]
pub struct Judged {
    /// What figures are made from.
    pub item: GradedQuestion,
    /// Why no answer was given, in a sentence.
    pub reason: Option<String>,
    /// Every estimator's uncertainty, in the order of [`ESTIMATORS`].
    pub scores: Vec<Option<f64>>,
}

/// A run's fingerprint with the estimators of a policy file.
///
/// # Errors
/// Every field that differs: the policy is not for this run. A run without a fingerprint fits none.
pub fn fits(policy: &PolicyFile, manifest: &Manifest) -> Result<Option<Fingerprint>, Mismatch> {
    let Some(fingerprint) = manifest.fingerprint.clone() else { return Ok(None) };
    let running = Fingerprint { estimator: estimator_names(&estimators(policy)), ..fingerprint };
    policy.check(&running)?;
    Ok(Some(running))
}

fn estimators(policy: &PolicyFile) -> Vec<&'static Estimator> {
    policy
        .fingerprint
        .estimator
        .split('+')
        .filter_map(|name| uncertainty::estimator(name).ok())
        .collect()
}

impl<'a> Judging<'a> {
    /// By the record, with the uncertainty that the run decided by; or by `other`, where it fits
    /// the run.
    ///
    /// # Errors
    /// A manifest with an estimator that is unknown here.
    pub fn new(manifest: &'a Manifest, other: Option<&'a PolicyFile>) -> Result<Self> {
        let policy = other.or(manifest.policy.as_ref());
        let bound = policy.and_then(|policy| policy.check(&fits(policy, manifest).ok()??).ok());
        let estimators = match policy {
            Some(policy) => estimators(policy),
            None => vec![uncertainty::estimator(&manifest.estimator)?],
        };
        Ok(Self { scorer: manifest.task.scorer, estimators, bound, other })
    }

    /// Judges a question.
    pub fn judge(&self, head: &Head) -> Judged {
        let mut item = GradedQuestion {
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
        let Some(verdict) = &head.outcome else {
            return Judged {
                item,
                reason: head.error.clone(),
                scores: vec![None; ESTIMATORS.len()],
            };
        };
        item.correct_per_byte = is_correct_per_byte(&verdict.choices, &head.doc);
        item.correct_mass = correct_mass(&verdict.choices, &head.doc);
        if !self.scorer.is_likelihood() {
            // Options are no draws: how many of them are right says nothing.
            item.samples = Grader::new(self.scorer, &head.doc).samples(&verdict.vote);
        }
        item.answered = verdict.decision == Word::Answer;
        item.confidence = verdict.confidence;
        let mut reason = verdict
            .reason
            .as_ref()
            .map(|r| if r.detail.is_empty() { r.code.clone() } else { r.detail.clone() });
        match self.bound {
            None if verdict.vote.is_abstention() => {}
            None => {
                item.uncertainty =
                    self.estimators.first().and_then(|estimator| score(estimator, verdict));
            }
            Some(bound) => {
                let leads = verdict.vote.leader().is_some()
                    && !verdict.vote.tied
                    && !verdict.vote.is_abstention();
                let scores: Vec<Option<f64>> =
                    self.estimators.iter().map(|e| leads.then(|| score(e, verdict))?).collect();
                item.uncertainty = bound.uncertainty(&scores);
                if let Some(policy) = self.other {
                    let (uncertainty, confidence) =
                        (item.uncertainty.and_then(Uncertainty::new), bound.confidence(&scores));
                    let decision = policy.policy().decide(&verdict.vote, uncertainty, confidence);
                    item.confidence = confidence.map(Confidence::value);
                    item.answered = decision.is_answer();
                    reason = decision.reason().map(ToString::to_string);
                }
            }
        }
        Judged {
            item,
            reason,
            scores: ESTIMATORS.iter().map(|estimator| score(estimator, verdict)).collect(),
        }
    }
}

/// A recorded score in uncertainty direction.
fn score(estimator: &Estimator, verdict: &Verdict) -> Option<f64> {
    verdict.scores.get(estimator.name).map(|score| estimator.to_uncertainty(*score))
}
