//! The policy file: a map, a rule, its guarantee, and the configuration that it is bound to.
//!
//! Contract: a file is validated when it is read. Its seal, a digest of everything else in it, must
//! match, so a file that was edited is refused; and its counts must support the guarantee that it
//! claims. The seal finds edits, not fraud: whoever computes a new one can write anything.
//! Confidences and decisions come only from a [`BoundPolicy`], which only a run with the same
//! fingerprint gets. A question without a score is never answered. It knows no paths: text in, text
//! out.

use std::collections::HashSet;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::drift::SKETCH;
use super::inverted::refuse_inverted;
use super::learn_then_test::{MAX_STARTS, p_value, share_of};
use super::{
    CalibrationError, Calibrator, Certificate, Drift, Example, Fingerprint, Fusion, Method,
    Mismatch, ScoredQuestion, Split, SplitSettings, Threshold, check_open, learn_then_test,
    risk_control, sequences, target_coverage,
};
use crate::decision::Policy;
use crate::digest::sha256_hex;
use crate::metrics::binomial::{ShareInterval, clopper_pearson};
use crate::metrics::{Grade, GradedQuestion, metric};
use crate::uncertainty::Confidence;

/// The field with the digest of all others.
const SEAL: &str = "seal";
/// A file with more questions than this is invalid.
const MAX_QUESTIONS: usize = u32::MAX as usize;

/// What a threshold is chosen for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "target", rename_all = "snake_case")]
pub enum Target {
    /// P(wrong | answered) <= alpha with probability 1 - delta: learn then test.
    SelectiveRisk {
        /// The largest share of answers that may be incorrect, above 0 to below 1.
        alpha: f64,
        /// The largest probability, over the draw of the labels, that a threshold is certified and
        /// its risk exceeds alpha, above 0 to below 1.
        delta: f64,
    },
    /// P(answered and wrong) <= alpha on average: conformal risk control.
    JointRisk {
        /// The largest share of questions that may be answered incorrectly, above 0 to below 1.
        alpha: f64,
    },
    /// Answer the most confident share of questions; no guarantee.
    TargetCoverage {
        /// The share, above 0 to 1.
        coverage: f64,
    },
    /// Answer if the confidence exceeds t, which maximizes the expected score at t; no guarantee.
    TargetConfidence {
        /// The confidence, 0 to below 1.
        t: f64,
    },
}

/// A target with its result.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case")]
pub enum Rule {
    /// See [`Target::SelectiveRisk`].
    SelectiveRisk {
        /// The largest share of answers that may be incorrect.
        alpha: f64,
        /// The largest probability of certifying a threshold whose risk exceeds alpha.
        delta: f64,
        /// Sequences of tests, each with an equal share of delta.
        starts: usize,
        /// The threshold, or the labels needed.
        outcome: Certificate,
    },
    /// See [`Target::JointRisk`].
    JointRisk {
        /// The largest share of questions that may be answered incorrectly.
        alpha: f64,
        /// The threshold, or the labels needed.
        outcome: Certificate,
    },
    /// See [`Target::TargetCoverage`].
    TargetCoverage {
        /// The share of questions to answer.
        coverage: f64,
        /// The threshold; `None` if too few questions have a score, and nothing is answered.
        threshold: Option<Threshold>,
    },
    /// See [`Target::TargetConfidence`].
    TargetConfidence {
        /// The confidence that an answer must exceed.
        t: f64,
    },
}

/// The policy's results on the held-out part, on which nothing was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldOutReport {
    /// Questions.
    pub questions: usize,
    /// Questions answered.
    pub answered: usize,
    /// Incorrect answers among these.
    pub incorrect: usize,
    /// The 95 % interval of P(wrong | answered); `None` if nothing was answered.
    pub selective_risk: Option<ShareInterval>,
    /// Brier score of the confidence, 0 to 1, lower is better; `None` without one.
    pub brier: Option<f64>,
    /// Smooth calibration error of the confidence, 0 to 1, lower is better; `None` without one.
    pub smooth_ece: Option<f64>,
}

/// A calibrated policy and everything that it is bound to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyFile {
    /// Version of this layout, 2.
    pub version: u32,
    /// The configuration that produced the scores.
    pub fingerprint: Fingerprint,
    /// How several scores become one; `None` for one estimator.
    pub fusion: Option<Fusion>,
    /// The map from uncertainty to confidence; `None` where the labels allow none and the rule
    /// needs none.
    pub calibrator: Option<Calibrator>,
    /// The reason for having no map, in one sentence.
    pub no_confidence: Option<String>,
    /// When to answer.
    pub rule: Rule,
    /// Results on the held-out part.
    pub report: HeldOutReport,
    /// How the questions were divided.
    pub split: SplitSettings,
    /// How many policies with a guarantee were sought with these labels, this one included, as far
    /// as is known: 1 for the first, 0 for a rule without one.
    pub tries: u32,
    /// Questions left out because another id has the same text.
    pub copies: usize,
    /// Uncertainties of at most 500 questions of the threshold part, ascending, by which a drift of
    /// later scores is found.
    pub scores: Vec<f64>,
    /// The questions that map and threshold were fitted on; an evaluation must exclude them.
    pub calibration_ids: Vec<String>,
    /// Digests of their texts, as far as they are known.
    pub calibration_texts: Vec<String>,
    /// SHA-256 of all other fields as JSON with sorted keys and without spaces, in hexadecimal.
    pub seal: String,
}

/// Fits a map on one part, chooses a threshold on the next and reports on the last. With several
/// estimators their fusion comes first, from the fitting part too, as does the grid of thresholds.
///
/// A rule that needs no confidence does without a map where the labels of the fitting part allow
/// none: too few, all correct, or a score that does not separate them.
///
/// # Errors
/// If the labels of the fitting part do not allow a fit that the rule needs, or a parameter is out
/// of range. Labels that do not support the guarantee are not an error: the rule then has the
/// labels needed.
pub fn calibrate(
    split: &Split,
    method: Method,
    target: Target,
    fingerprint: Fingerprint,
) -> Result<PolicyFile, CalibrationError> {
    refuse_inverted(&fingerprint.estimator, split.fit())?;
    let estimators = split.fit().first().map_or(0, |example| example.scores.len());
    let fusion = if estimators > 1 {
        Some(Fusion::fit(&split.fit().iter().collect::<Vec<_>>())?)
    } else {
        None
    };
    let scored = |examples: &[Example]| -> Vec<ScoredQuestion> {
        examples.iter().map(|example| scored(example, fusion.as_ref())).collect()
    };
    let (fit, threshold) = (scored(split.fit()), scored(split.threshold()));
    let points: Vec<(f64, bool)> =
        fit.iter().filter_map(|scored| Some((scored.uncertainty?, scored.correct))).collect();
    let (calibrator, no_confidence) = match (Calibrator::fit(method, &points), target) {
        (Ok(calibrator), _) => (Some(calibrator), None),
        // Another method fits.
        (Err(error @ CalibrationError::NotAProbability { .. }), _)
        | (Err(error), Target::TargetConfidence { .. }) => return Err(error),
        (Err(error), _) => (None, Some(error.to_string())),
    };
    let rule = choose(target, &fit, &threshold)?;
    // In the order of a hash, so the first ones are a random sample.
    let mut scores: Vec<f64> =
        threshold.iter().filter_map(|scored| scored.uncertainty).take(SKETCH).collect();
    scores.sort_by(f64::total_cmp);
    let calibrated_on = || split.fit().iter().chain(split.threshold());
    let nothing = HeldOutReport {
        questions: 0,
        answered: 0,
        incorrect: 0,
        selective_risk: None,
        brier: None,
        smooth_ece: None,
    };
    let mut policy = PolicyFile {
        version: PolicyFile::VERSION,
        fingerprint,
        fusion,
        calibrator,
        no_confidence,
        tries: u32::from(rule.seeks_guarantee()),
        rule,
        report: nothing,
        split: split.settings(),
        copies: split.copies().len(),
        scores,
        calibration_ids: calibrated_on().map(|example| example.id.clone()).collect(),
        calibration_texts: calibrated_on().filter_map(|example| example.text.clone()).collect(),
        seal: String::new(),
    };
    policy.report = policy.reported(split.report());
    Ok(policy.sealed())
}

/// SHA-256 of a policy file's JSON without its seal, keys sorted, in hexadecimal.
fn digest(mut file: Value) -> String {
    if let Some(fields) = file.as_object_mut() {
        fields.remove(SEAL);
    }
    file.sort_all_objects();
    sha256_hex(file.to_string().as_bytes())
}

fn choose(
    target: Target,
    fit: &[ScoredQuestion],
    scored: &[ScoredQuestion],
) -> Result<Rule, CalibrationError> {
    Ok(match target {
        Target::SelectiveRisk { alpha, delta } => {
            let scores: Vec<Option<f64>> = fit.iter().map(|scored| scored.uncertainty).collect();
            let sequences = sequences(&scores, scored.len(), alpha, delta)?;
            Rule::SelectiveRisk {
                alpha,
                delta,
                starts: sequences.len(),
                outcome: learn_then_test(scored, &sequences, alpha, delta)?,
            }
        }
        Target::JointRisk { alpha } => {
            Rule::JointRisk { alpha, outcome: risk_control(scored, alpha)? }
        }
        Target::TargetCoverage { coverage } => {
            Rule::TargetCoverage { coverage, threshold: target_coverage(scored, coverage)? }
        }
        Target::TargetConfidence { t } => {
            check_target(t)?;
            Rule::TargetConfidence { t }
        }
    })
}

fn check_target(t: f64) -> Result<(), CalibrationError> {
    if (0.0..1.0).contains(&t) {
        Ok(())
    } else {
        Err(CalibrationError::Parameter {
            name: "target_confidence",
            value: t,
            range: "0 to below 1",
        })
    }
}

fn scored(example: &Example, fusion: Option<&Fusion>) -> ScoredQuestion {
    let uncertainty =
        uncertainty(&example.scores, fusion).filter(|_| example.grade != Grade::NoAnswer);
    ScoredQuestion { uncertainty, correct: example.grade == Grade::Correct }
}

fn uncertainty(scores: &[Option<f64>], fusion: Option<&Fusion>) -> Option<f64> {
    match (fusion, scores) {
        (Some(fusion), _) => fusion.uncertainty(scores),
        (None, [score]) => score.filter(|score| score.is_finite()),
        (None, _) => None,
    }
}

impl Rule {
    /// Whether the rule is about a guarantee, certified or not.
    fn seeks_guarantee(&self) -> bool {
        matches!(self, Self::SelectiveRisk { .. } | Self::JointRisk { .. })
    }

    /// The guarantee in one exact sentence, or the reason for having none.
    fn guarantee(&self) -> String {
        match self {
            Self::SelectiveRisk {
                alpha,
                delta,
                outcome: Certificate::Certified(threshold),
                ..
            } => {
                format!(
                    "P(wrong | answered) <= {} with probability {} over the draw of the {} \
                     labeled questions, for questions drawn independently from the same source and \
                     this configuration",
                    decimal(*alpha),
                    decimal_below(1.0 - delta),
                    threshold.questions
                )
            }
            Self::JointRisk { alpha, outcome: Certificate::Certified(threshold) } => format!(
                "P(answered and wrong) <= {} on average over draws of {} labeled questions, for \
                 questions exchangeable with them and this configuration",
                decimal(*alpha),
                threshold.questions
            ),
            Self::SelectiveRisk {
                alpha,
                delta,
                outcome: Certificate::CannotCertify(needed),
                ..
            } => {
                format!(
                    "no guarantee: P(wrong | answered) <= {} with probability {}: {needed}",
                    decimal(*alpha),
                    decimal_below(1.0 - delta)
                )
            }
            Self::JointRisk { alpha, outcome: Certificate::CannotCertify(needed) } => {
                format!("no guarantee: P(answered and wrong) <= {}: {needed}", decimal(*alpha))
            }
            Self::TargetCoverage { coverage, .. } => {
                format!(
                    "no guarantee: the most confident {} of questions are answered, whatever their \
                     risk",
                    decimal(*coverage)
                )
            }
            Self::TargetConfidence { t } => {
                format!(
                    "no guarantee: questions are answered where the calibrated confidence exceeds \
                     {}",
                    decimal(*t)
                )
            }
        }
    }
}

impl PolicyFile {
    /// The version of the layout.
    pub const VERSION: u32 = 2;

    /// Reads and checks a file's text.
    ///
    /// # Errors
    /// If it is not a policy file, was changed after it was made, or its numbers are inconsistent.
    pub fn parse(text: &str) -> Result<Self, CalibrationError> {
        let not_a_policy = |error| CalibrationError::File(format!("not a policy file: {error}"));
        let file: Value = serde_json::from_str(text).map_err(not_a_policy)?;
        if let Some(version) = file.get("version").filter(|version| **version != Self::VERSION) {
            return Err(CalibrationError::File(format!(
                "policy file: version is {version}, this program reads {}; calibrate again",
                Self::VERSION
            )));
        }
        // Before anything else is read: the seal covers fields that this program does not know.
        if file.get(SEAL).is_some_and(|seal| *seal != digest(file.clone())) {
            return Err(changed());
        }
        let policy: Self = serde_json::from_value(file).map_err(not_a_policy)?;
        policy.validate()?;
        Ok(policy)
    }

    /// The same with the seal that belongs to its other fields.
    #[must_use]
    pub fn sealed(mut self) -> Self {
        self.seal = self.digest();
        self
    }

    /// The same as one of several that were fitted to the same labels, `tries` in all.
    #[must_use]
    pub fn with_tries(mut self, tries: u32) -> Self {
        self.tries = tries;
        self.sealed()
    }

    /// A number that JSON cannot hold becomes null there; [`Self::validate`] refuses it.
    fn digest(&self) -> String {
        digest(serde_json::to_value(self).unwrap_or_default())
    }

    /// The file's text.
    ///
    /// # Errors
    /// If a number is not finite, which JSON cannot hold.
    pub fn to_json(&self) -> Result<String, CalibrationError> {
        self.validate()?;
        serde_json::to_string_pretty(self)
            .map_err(|error| CalibrationError::File(error.to_string()))
    }

    /// Checks everything that can be checked without the labels.
    ///
    /// # Errors
    /// The first inconsistency.
    pub fn validate(&self) -> Result<(), CalibrationError> {
        let check = |holds: bool, what: &str| {
            if holds {
                Ok(())
            } else {
                Err(CalibrationError::File(format!("policy file: {what}; calibrate again")))
            }
        };
        check(
            self.version == Self::VERSION,
            &format!("version is {}, this program reads {}", self.version, Self::VERSION),
        )?;
        for (name, value) in self.fingerprint.fields() {
            check(!value.is_empty(), &format!("fingerprint field {name} is empty"))?;
        }
        check(
            self.calibrator.as_ref().is_none_or(Calibrator::is_valid),
            "the calibrator's parameters are not a decreasing map",
        )?;
        check(
            self.calibrator.is_none() == self.no_confidence.is_some()
                && !(self.calibrator.is_none()
                    && matches!(self.rule, Rule::TargetConfidence { .. })),
            "it has no calibrator where it needs one, or no reason for having none",
        )?;
        check(
            self.scores.iter().all(|score| score.is_finite()) && self.scores.is_sorted(),
            "the scores are not finite in ascending order",
        )?;
        let estimators = self.fusion.as_ref().map_or(1, |fusion| fusion.weights.len());
        check(
            self.fusion.as_ref().is_none_or(|fusion| estimators > 1 && fusion.is_valid(estimators)),
            "the fusion's parameters are inconsistent",
        )?;
        match &self.rule {
            Rule::TargetConfidence { t } => check_target(*t)?,
            Rule::TargetCoverage { coverage, .. } => {
                check(
                    *coverage > 0.0 && *coverage <= 1.0,
                    "coverage is not above 0 and at most 1",
                )?;
            }
            Rule::JointRisk { alpha, .. } => check_open("alpha", *alpha)?,
            Rule::SelectiveRisk { alpha, delta, starts, .. } => {
                check_open("alpha", *alpha)?;
                check_open("delta", *delta)?;
                check(*starts <= MAX_STARTS, "it has more starts than this program tests")?;
            }
        }
        if self.seal != self.digest() {
            return Err(changed());
        }
        let Some(threshold) = self.threshold() else { return Ok(()) };
        check(
            threshold.is_valid() && threshold.questions <= MAX_QUESTIONS,
            "the threshold's counts are inconsistent",
        )?;
        check(self.supports(threshold), "the counts do not support the guarantee")
    }

    /// Whether the threshold's counts support the rule's guarantee.
    fn supports(&self, threshold: &Threshold) -> bool {
        match self.rule {
            Rule::SelectiveRisk { alpha, delta, starts, .. } => {
                p_value(threshold, alpha) <= share_of(delta, starts)
            }
            Rule::JointRisk { alpha, .. } => {
                threshold.incorrect as f64 + 1.0 <= alpha * (threshold.questions as f64 + 1.0)
            }
            Rule::TargetCoverage { .. } | Rule::TargetConfidence { .. } => true,
        }
    }

    /// The policy for a run of this configuration.
    ///
    /// # Errors
    /// Every field that differs from the calibrated configuration, with both values.
    pub fn check(&self, running: &Fingerprint) -> Result<BoundPolicy<'_>, Mismatch> {
        self.fingerprint.check(running)?;
        Ok(BoundPolicy { policy: self })
    }

    /// The threshold, if the rule has one.
    pub fn threshold(&self) -> Option<&Threshold> {
        match &self.rule {
            Rule::SelectiveRisk { outcome, .. } | Rule::JointRisk { outcome, .. } => {
                outcome.threshold()
            }
            Rule::TargetCoverage { threshold, .. } => threshold.as_ref(),
            Rule::TargetConfidence { .. } => None,
        }
    }

    /// Whether the rule has a guarantee.
    pub fn is_certified(&self) -> bool {
        match &self.rule {
            Rule::SelectiveRisk { outcome, .. } | Rule::JointRisk { outcome, .. } => {
                outcome.threshold().is_some()
            }
            Rule::TargetCoverage { .. } | Rule::TargetConfidence { .. } => false,
        }
    }

    /// The rule as a decision policy: it answers exactly the questions that
    /// [`BoundPolicy::answers`] does, and none if nothing could be certified.
    pub fn policy(&self) -> Policy {
        match (&self.rule, self.threshold()) {
            (Rule::TargetConfidence { t }, _) => Policy::MinConfidence { min_confidence: *t },
            (_, Some(threshold)) => {
                Policy::MaxUncertainty { max_uncertainty: threshold.max_uncertainty }
            }
            (_, None) => Policy::Uncertified,
        }
    }

    /// The guarantee in one exact sentence, or the reason for having none.
    pub fn guarantee(&self) -> String {
        let mut sentence = self.rule.guarantee();
        if self.tries > 1 && self.is_certified() {
            let _ = write!(
                sentence,
                "; this is the {} policy fitted to these labels: the guarantee holds for the first \
                 only, unless delta is divided among them",
                ordinal(self.tries)
            );
        }
        sentence
    }

    /// Whether new scores come from elsewhere than the calibrated ones; `None` unless a test at 1 %
    /// says so. `uncertainties` are those of new questions in their order, without those that the
    /// policy was calibrated on.
    pub fn drift(&self, uncertainties: impl IntoIterator<Item = f64>) -> Option<Drift> {
        Drift::test(&self.scores, uncertainties)
    }

    /// The questions that the policy was calibrated on; metrics over them would be too good.
    pub fn calibrated_on(&self) -> CalibratedOn<'_> {
        CalibratedOn {
            ids: self.calibration_ids.iter().map(String::as_str).collect(),
            texts: self.calibration_texts.iter().map(String::as_str).collect(),
        }
    }

    /// Whether both were fitted to labels of a common question.
    pub fn shares_labels(&self, other: &Self) -> bool {
        let (ids, texts) = (&other.calibration_ids, &other.calibration_texts);
        let seen = self.calibrated_on();
        ids.iter().any(|id| seen.ids.contains(id.as_str()))
            || texts.iter().any(|text| seen.texts.contains(text.as_str()))
    }

    fn reported(&self, examples: &[Example]) -> HeldOutReport {
        let bound = BoundPolicy { policy: self };
        let graded = |example: &Example| GradedQuestion {
            id: example.id.clone(),
            grade: example.grade,
            answered: bound.answers(&example.scores),
            uncertainty: bound.uncertainty(&example.scores),
            confidence: bound.confidence(&example.scores).map(Confidence::value),
            answerable: None,
            correct_per_byte: None,
            correct_mass: None,
            samples: Vec::new(),
        };
        let questions: Vec<GradedQuestion> = examples.iter().map(graded).collect();
        let questions: Vec<&GradedQuestion> = questions.iter().collect();
        let answered = questions.iter().filter(|question| question.is_answered()).count();
        let incorrect = questions
            .iter()
            .filter(|question| question.is_answered() && !question.is_correct())
            .count();
        let value = |name: &str| metric(name).and_then(|metric| metric.value(&questions));
        HeldOutReport {
            questions: questions.len(),
            answered,
            incorrect,
            selective_risk: clopper_pearson(incorrect as u64, answered as u64, 0.95),
            brier: value("brier"),
            smooth_ece: value("smooth_ece"),
        }
    }
}

/// A policy whose fingerprint is that of the run; made only by [`PolicyFile::check`].
#[derive(Clone, Copy, Debug)]
pub struct BoundPolicy<'a> {
    policy: &'a PolicyFile,
}

impl BoundPolicy<'_> {
    /// The fused uncertainty of a question's scores, higher = less confident. `None` if a score is
    /// missing.
    pub fn uncertainty(self, scores: &[Option<f64>]) -> Option<f64> {
        uncertainty(scores, self.policy.fusion.as_ref())
    }

    /// The calibrated probability of being correct, 0 to 1. `None` if a score or the map is
    /// missing.
    pub fn confidence(self, scores: &[Option<f64>]) -> Option<Confidence> {
        let calibrator = self.policy.calibrator.as_ref()?;
        calibrator.confidence(self.uncertainty(scores)?).and_then(Confidence::calibrated)
    }

    /// Whether a question with these scores is answered; never without a score or a certified
    /// threshold.
    pub fn answers(self, scores: &[Option<f64>]) -> bool {
        match self.policy.rule {
            Rule::TargetConfidence { t } => {
                self.confidence(scores).is_some_and(|confidence| confidence.value() > t)
            }
            _ => self
                .policy
                .threshold()
                .is_some_and(|threshold| threshold.answers(self.uncertainty(scores))),
        }
    }
}

/// The questions that a policy was calibrated on, by id and by text.
pub struct CalibratedOn<'a> {
    ids: HashSet<&'a str>,
    texts: HashSet<&'a str>,
}

impl CalibratedOn<'_> {
    /// Whether a question is one of them, given its id and its text's digest.
    pub fn contains(&self, id: &str, text: &str) -> bool {
        self.ids.contains(id) || self.texts.contains(text)
    }
}

/// The error of a file whose seal is that of other fields.
fn changed() -> CalibrationError {
    CalibrationError::File(
        "the policy file was changed after it was made: its seal does not match; calibrate again"
            .to_owned(),
    )
}

/// A place in an order, as in `3rd`.
fn ordinal(number: u32) -> String {
    let ending = match (number % 10, number % 100) {
        (1, n) if n != 11 => "st",
        (2, n) if n != 12 => "nd",
        (3, n) if n != 13 => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

/// The shortest decimal of a number, with at least two places.
fn decimal(value: f64) -> String {
    let mut text = value.to_string();
    let places = text.split_once('.').map_or(0, |(_, places)| places.len());
    if places == 0 {
        text.push('.');
    }
    let _ = write!(text, "{}", "0".repeat(2_usize.saturating_sub(places)));
    text
}

/// As [`decimal`], truncated to six places: 1 - 0.9 is 0.09999999999999998, and rounding up could
/// overstate the guarantee.
fn decimal_below(value: f64) -> String {
    decimal(((value + 1e-12) * 1e6).floor() / 1e6)
}
