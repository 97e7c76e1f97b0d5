//! From samples to a verdict: vote, scores, confidence, decision (selective prediction).
//!
//! Pure and total, so stored samples always get the same verdict. A confidence exists only under a
//! policy file whose fingerprint is that of the run. Under a policy file a question has no score
//! where two answers lead together, or where a probe of the strategy speaks against the leading
//! one: no policy answers it, so it must not count among the answers that a threshold was certified
//! on. The same holds, with or without a policy file, where the model says that it does not know:
//! how sure it is of that is not the uncertainty of an answer.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

use crate::calibration::{CalibrationError, Fingerprint, PolicyFile};
use crate::consensus::{self, AskedQuestion, Reader, Vote};
use crate::decision::{AbstainReason, Decision, Policy, failed_probe};
use crate::error::Result;
use crate::generation::{Generation, Probe};
use crate::uncertainty::{self, Confidence, Estimator, Evidence, Uncertainty};

/// Joins the names of several estimators in a fingerprint.
const SEPARATOR: char = '+';

/// Everything that a verdict depends on besides the samples.
#[derive(Clone)]
pub struct Selector {
    /// How answers are read, grouped and weighed.
    pub reader: Reader,
    /// Which estimator's score is the outcome's uncertainty.
    pub estimator: &'static Estimator,
    /// When to answer.
    pub policy: Policy,
    calibrated: Option<Calibrated>,
}

/// A policy file that fits the run.
#[derive(Clone)]
struct Calibrated {
    file: PolicyFile,
    running: Fingerprint,
    estimators: Vec<&'static Estimator>,
    calibration: Calibration,
}

/// A verdict on samples.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The vote.
    pub vote: Vote,
    /// Every estimator's natural score.
    pub scores: BTreeMap<&'static str, f64>,
    /// The score that the decision is based on, if any.
    pub uncertainty: Option<Uncertainty>,
    /// The calibrated probability of being right; `None` without a calibrator.
    pub confidence: Option<Confidence>,
    /// Answer, or abstain with a reason.
    pub decision: Decision,
}

/// What a confidence is based on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Calibration {
    /// No calibration and no confidence.
    Uncalibrated,
    /// A policy file.
    Calibrated {
        /// The file's name: the first 16 digits of its seal.
        id: String,
        /// Labeled questions behind map and threshold.
        n: usize,
        /// The guarantee in one sentence, or that the policy has none.
        guarantee: String,
        /// Whether the policy has a guarantee.
        certified: bool,
        /// The reason why the policy gives no confidence; `None` if it does.
        no_confidence: Option<String>,
    },
}

impl Serialize for Calibration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Uncalibrated => serializer.serialize_str("uncalibrated"),
            Self::Calibrated { id, n, guarantee, certified, no_confidence } => {
                let mut object = serializer.serialize_struct("Calibration", 5)?;
                object.serialize_field("id", id)?;
                object.serialize_field("n", n)?;
                object.serialize_field("certified", certified)?;
                object.serialize_field("guarantee", guarantee)?;
                if let Some(reason) = no_confidence {
                    object.serialize_field("no_confidence", reason)?;
                }
                object.end()
            }
        }
    }
}

impl Selector {
    /// A selector without a policy file.
    pub fn new(reader: Reader, estimator: &'static Estimator, policy: Policy) -> Self {
        Self { reader, estimator, policy, calibrated: None }
    }

    /// Decides by a policy file from now on. `running` is this run's fingerprint; its estimator is
    /// compared if it is `chosen`, that is, if a user asked for it, else the file's is taken.
    ///
    /// # Errors
    /// A file that was changed or is inconsistent, or every field that differs; the selector is
    /// unchanged.
    pub fn bind_policy(
        &mut self,
        file: PolicyFile,
        running: Fingerprint,
        chosen: Option<&'static Estimator>,
    ) -> Result<(), CalibrationError> {
        file.validate()?;
        let estimators: Vec<_> = file
            .fingerprint
            .estimator
            .split(SEPARATOR)
            .filter_map(|name| uncertainty::estimator(name).ok())
            .collect();
        let estimator = chosen.map_or_else(|| estimator_names(&estimators), |one| one.name.into());
        let running = Fingerprint { estimator, ..running };
        file.check(&running).map_err(CalibrationError::Mismatch)?;
        let calibration = Calibration::Calibrated {
            id: file.seal.chars().take(16).collect(),
            n: file.calibration_ids.len(),
            guarantee: file.guarantee(),
            certified: file.is_certified(),
            no_confidence: file.no_confidence.clone(),
        };
        self.estimator = estimators.first().copied().unwrap_or(self.estimator);
        self.policy = file.policy();
        self.calibrated = Some(Calibrated { file, running, estimators, calibration });
        Ok(())
    }

    /// The policy file, if there is one.
    pub fn policy_file(&self) -> Option<&PolicyFile> {
        self.calibrated.as_ref().map(|calibrated| &calibrated.file)
    }

    /// What confidences are based on.
    pub fn calibration(&self) -> Calibration {
        self.calibrated
            .as_ref()
            .map_or(Calibration::Uncalibrated, |calibrated| calibrated.calibration.clone())
    }

    /// The verdict on the samples of a question.
    pub fn verdict(&self, question: &AskedQuestion, generation: &Generation) -> Verdict {
        let vote = consensus::vote(question, generation, &self.reader);
        let scores = uncertainty::scores(&Evidence { generation, vote: &vote });
        let score = |estimator: &Estimator| scores.get(estimator.name).copied();
        let probes = &generation.probes;
        let (uncertainty, confidence, decision) = self.decide(&vote, probes, &score);
        Verdict { vote, scores, uncertainty, confidence, decision }
    }

    /// The uncertainty, confidence and decision for a vote and what probes found out about it,
    /// given each estimator's natural score.
    pub fn decide(
        &self,
        vote: &Vote,
        probes: &[Probe],
        score: &dyn Fn(&Estimator) -> Option<f64>,
    ) -> (Option<Uncertainty>, Option<Confidence>, Decision) {
        let (uncertainty, confidence) = match &self.calibrated {
            None if vote.is_abstention() => (None, None),
            None => {
                let score = score(self.estimator).map(|score| self.estimator.to_uncertainty(score));
                (score.and_then(Uncertainty::new), None)
            }
            Some(calibrated) => calibrated.scores(vote, probes, score),
        };
        let decision = match self.policy.decide(vote, uncertainty, confidence) {
            // Without a score for this very reason, the reason is the probe.
            Decision::Answer | Decision::Abstain(AbstainReason::NoScore) => failed_probe(
                vote, probes,
            )
            .map_or_else(|| self.policy.decide(vote, uncertainty, confidence), Decision::Abstain),
            decision @ Decision::Abstain(_) => decision,
        };
        (uncertainty, confidence, decision)
    }
}

impl Calibrated {
    fn scores(
        &self,
        vote: &Vote,
        probes: &[Probe],
        score: &dyn Fn(&Estimator) -> Option<f64>,
    ) -> (Option<Uncertainty>, Option<Confidence>) {
        // Cannot fail: it was checked when the policy was bound.
        let Ok(bound) = self.file.check(&self.running) else { return (None, None) };
        let scores = decision_scores(&self.estimators, vote, probes, score);
        (bound.uncertainty(&scores).and_then(Uncertainty::new), bound.confidence(&scores))
    }
}

/// The uncertainties that a calibrated decision goes by, in the order of `estimators`, given each
/// estimator's natural score; none unless one answer leads alone and no probe speaks against it.
pub fn decision_scores(
    estimators: &[&'static Estimator],
    vote: &Vote,
    probes: &[Probe],
    score: &dyn Fn(&Estimator) -> Option<f64>,
) -> Vec<Option<f64>> {
    let leads = vote.leader().is_some()
        && !vote.tied
        && !vote.is_abstention()
        && failed_probe(vote, probes).is_none();
    let uncertainty = |estimator: &&'static Estimator| {
        leads.then(|| score(estimator))?.map(|score| estimator.to_uncertainty(score))
    };
    estimators.iter().map(uncertainty).collect()
}

/// The names of estimators as one text, as a fingerprint has them.
pub fn estimator_names(estimators: &[&'static Estimator]) -> String {
    let names: Vec<&str> = estimators.iter().map(|estimator| estimator.name).collect();
    names.join(&SEPARATOR.to_string())
}
