//! From samples to a verdict: vote, scores, confidence, decision.
//!
//! Contract: pure and total, so that stored samples are judged again as they were at first. A
//! confidence exists only under a policy file whose fingerprint is that of the run. A question
//! whose first place is shared has no score under a policy file: no policy answers it, so neither
//! may it count among the answers that a threshold was certified on. The same holds, with or
//! without a policy file, where the model says that it does not know: how sure it is of that is no
//! uncertainty of an answer.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

use crate::calibration::{Fingerprint, Mismatch, PolicyFile};
use crate::consensus::{self, Extractor, Vote};
use crate::decision::{Decision, Policy};
use crate::digest::sha256_hex;
use crate::error::Result;
use crate::generation::Generation;
use crate::strategy::Strategy;
use crate::uncertainty::{self, Confidence, Estimator, Evidence, Uncertainty};

/// What joins the names of several estimators in a fingerprint.
const AND: char = '+';

/// Everything about a verdict that is not the samples.
#[derive(Clone)]
pub struct Judge {
    /// How an answer is read from a text.
    pub extractor: Extractor,
    /// Which estimator's score is the outcome's uncertainty.
    pub estimator: &'static Estimator,
    /// When to answer.
    pub policy: Policy,
    /// The completions are options with their likelihoods, not samples.
    options: bool,
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
pub struct Judgement {
    /// The vote.
    pub vote: Vote,
    /// Every estimator's natural score.
    pub scores: BTreeMap<&'static str, f64>,
    /// What was decided by; `None` without a score.
    pub uncertainty: Option<Uncertainty>,
    /// The calibrated probability of being right; `None` without a calibrator.
    pub confidence: Option<Confidence>,
    /// Answer, or abstain with a reason.
    pub decision: Decision,
}

/// What a confidence rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Calibration {
    /// Nothing: there is no confidence.
    Uncalibrated,
    /// A policy file.
    Calibrated {
        /// The file's name: the first 16 digits of its SHA-256.
        id: String,
        /// Labelled questions behind map and threshold.
        n: usize,
        /// The promise in one sentence, or that there is none.
        guarantee: String,
        /// Whether it is a promise.
        certified: bool,
    },
}

impl Serialize for Calibration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Uncalibrated => serializer.serialize_str("uncalibrated"),
            Self::Calibrated { id, n, guarantee, certified } => {
                let mut object = serializer.serialize_struct("Calibration", 4)?;
                object.serialize_field("id", id)?;
                object.serialize_field("n", n)?;
                object.serialize_field("certified", certified)?;
                object.serialize_field("guarantee", guarantee)?;
                object.end()
            }
        }
    }
}

impl Judge {
    /// A judge without a policy file.
    pub fn new(extractor: Extractor, estimator: &'static Estimator, policy: Policy) -> Self {
        Self { extractor, estimator, policy, options: false, calibrated: None }
    }

    /// A judge of options that were scored by their likelihood, where that is the strategy.
    #[must_use]
    pub fn by_strategy(self, strategy: &str) -> Self {
        Self { options: strategy == Strategy::Likelihood.name(), ..self }
    }

    /// Judges by a policy file from now on. `running` is this run's fingerprint, with any
    /// estimator.
    ///
    /// # Errors
    /// Every field that differs; the judge is as it was.
    pub fn adopt(&mut self, file: PolicyFile, running: Fingerprint) -> Result<(), Mismatch> {
        let estimators: Vec<_> = file
            .fingerprint
            .estimator
            .split(AND)
            .filter_map(|name| uncertainty::estimator(name).ok())
            .collect();
        let running = Fingerprint { estimator: names(&estimators), ..running };
        file.check(&running)?;
        let calibration = Calibration::Calibrated {
            id: sha256_hex(file.to_json().unwrap_or_default().as_bytes())
                .chars()
                .take(16)
                .collect(),
            n: file.calibration_ids.len(),
            guarantee: file.guarantee(),
            certified: file.is_certified(),
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

    /// What confidences rest on.
    pub fn calibration(&self) -> Calibration {
        self.calibrated
            .as_ref()
            .map_or(Calibration::Uncalibrated, |calibrated| calibrated.calibration.clone())
    }

    /// Judges.
    pub fn judge(&self, generation: &Generation) -> Judgement {
        let vote = if self.options {
            consensus::likelihood_vote(generation)
        } else {
            consensus::vote(generation, self.extractor)
        };
        let evidence = Evidence { generation, vote: &vote };
        let scores = uncertainty::scores(&evidence);
        let (uncertainty, confidence) = match &self.calibrated {
            None if vote.is_abstention() => (None, None),
            None => (self.estimator.uncertainty(&evidence), None),
            Some(calibrated) => calibrated.judge(&evidence),
        };
        let decision = self.policy.decide(&vote, uncertainty, confidence);
        Judgement { vote, scores, uncertainty, confidence, decision }
    }
}

impl Calibrated {
    fn judge(&self, evidence: &Evidence<'_>) -> (Option<Uncertainty>, Option<Confidence>) {
        // Checked when it was adopted; a bound policy is had in no other way.
        let Ok(bound) = self.file.check(&self.running) else { return (None, None) };
        let scores = deciding_scores(&self.estimators, evidence);
        (bound.uncertainty(&scores).and_then(Uncertainty::new), bound.confidence(&scores))
    }
}

/// The uncertainties that a calibrated decision goes by, in the order of `estimators`; none where
/// no answer leads alone, or none is given.
pub fn deciding_scores(
    estimators: &[&'static Estimator],
    evidence: &Evidence<'_>,
) -> Vec<Option<f64>> {
    let leads =
        evidence.vote.leader().is_some() && !evidence.vote.tied && !evidence.vote.is_abstention();
    estimators
        .iter()
        .map(|estimator| leads.then(|| estimator.uncertainty(evidence))?.map(Uncertainty::value))
        .collect()
}

/// The names of estimators as one text, as a fingerprint has them.
pub fn names(estimators: &[&'static Estimator]) -> String {
    let names: Vec<&str> = estimators.iter().map(|estimator| estimator.name).collect();
    names.join(&AND.to_string())
}
