//! The policy file: a map, a rule, its guarantee, and the configuration that it is bound to.
//!
//! Contract: a file is validated when it is read, and counts must support the guarantee that the
//! file claims. Confidences and decisions come only from a [`BoundPolicy`], which only a run with
//! the same fingerprint gets. A question without a score is never answered. It knows no paths: text
//! in, text out.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::learn_then_test::p_value;
use super::{
    CalibrationError, Calibrator, Certificate, Example, Fingerprint, Fusion, Method, Mismatch,
    ScoredQuestion, Split, Threshold, check_open, grid, learn_then_test, risk_control,
    target_coverage,
};
use crate::decision::Policy;
use crate::metrics::binomial::{ShareInterval, clopper_pearson};
use crate::metrics::{Grade, GradedQuestion, metric};
use crate::uncertainty::Confidence;

/// The version of the layout.
const VERSION: u32 = 1;
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
        /// The probability that the guarantee fails, above 0 to below 1.
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
        /// The probability that the guarantee fails.
        delta: f64,
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
    /// Version of this layout, 1.
    pub version: u32,
    /// The configuration that produced the scores.
    pub fingerprint: Fingerprint,
    /// How several scores become one; `None` for one estimator.
    pub fusion: Option<Fusion>,
    /// The map from uncertainty to confidence.
    pub calibrator: Calibrator,
    /// When to answer.
    pub rule: Rule,
    /// Results on the held-out part.
    pub report: HeldOutReport,
    /// The questions that map and threshold were fitted on; an evaluation must exclude them.
    pub calibration_ids: Vec<String>,
}

/// Fits a map on one part, chooses a threshold on the next and reports on the last. With several
/// estimators their fusion comes first, from the fitting part too, as does the grid of thresholds.
///
/// # Errors
/// If the labels of the fitting part do not allow the fit, or a parameter is out of range. Labels
/// that do not support the guarantee are not an error: the rule then has the labels needed.
pub fn calibrate(
    split: &Split,
    method: Method,
    target: Target,
    fingerprint: Fingerprint,
) -> Result<PolicyFile, CalibrationError> {
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
    let calibrator = Calibrator::fit(method, &points)?;
    let rule = choose(target, &fit, &threshold)?;
    let calibration_ids =
        split.fit().iter().chain(split.threshold()).map(|example| example.id.clone()).collect();
    let nothing = HeldOutReport {
        questions: 0,
        answered: 0,
        incorrect: 0,
        selective_risk: None,
        brier: None,
        smooth_ece: None,
    };
    let mut policy = PolicyFile {
        version: VERSION,
        fingerprint,
        fusion,
        calibrator,
        rule,
        report: nothing,
        calibration_ids,
    };
    policy.report = policy.reported(split.report());
    Ok(policy)
}

fn choose(
    target: Target,
    fit: &[ScoredQuestion],
    scored: &[ScoredQuestion],
) -> Result<Rule, CalibrationError> {
    Ok(match target {
        Target::SelectiveRisk { alpha, delta } => {
            let scores: Vec<Option<f64>> = fit.iter().map(|scored| scored.uncertainty).collect();
            let grid = grid(&scores, scored.len(), alpha, delta)?;
            Rule::SelectiveRisk {
                alpha,
                delta,
                outcome: learn_then_test(scored, &grid, alpha, delta)?,
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

impl PolicyFile {
    /// Reads and checks a file's text.
    ///
    /// # Errors
    /// If it is not a policy file, or its numbers are inconsistent.
    pub fn parse(text: &str) -> Result<Self, CalibrationError> {
        let policy: Self = serde_json::from_str(text)
            .map_err(|error| CalibrationError::File(format!("not a policy file: {error}")))?;
        policy.validate()?;
        Ok(policy)
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
            self.version == VERSION,
            &format!("version is {}, this program reads {VERSION}", self.version),
        )?;
        for (name, value) in self.fingerprint.fields() {
            check(!value.is_empty(), &format!("fingerprint field {name} is empty"))?;
        }
        check(self.calibrator.is_valid(), "the calibrator's parameters are not a decreasing map")?;
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
            Rule::SelectiveRisk { alpha, delta, .. } => {
                check_open("alpha", *alpha)?;
                check_open("delta", *delta)?;
            }
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
            Rule::SelectiveRisk { alpha, delta, .. } => p_value(threshold, alpha) <= delta,
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
        match &self.rule {
            Rule::SelectiveRisk { alpha, delta, outcome: Certificate::Certified(threshold) } => {
                format!(
                    "P(wrong | answered) <= {} with probability {} over the draw of the {} \
                     labeled questions, for questions drawn independently from the same source and \
                     this configuration",
                    decimal(*alpha),
                    decimal_below(1.0 - delta),
                    threshold.questions
                )
            }
            Rule::JointRisk { alpha, outcome: Certificate::Certified(threshold) } => format!(
                "P(answered and wrong) <= {} on average over draws of {} labeled questions, for \
                 questions exchangeable with them and this configuration",
                decimal(*alpha),
                threshold.questions
            ),
            Rule::SelectiveRisk { alpha, delta, outcome: Certificate::CannotCertify(needed) } => {
                format!(
                    "no guarantee: P(wrong | answered) <= {} with probability {}: {needed}",
                    decimal(*alpha),
                    decimal_below(1.0 - delta)
                )
            }
            Rule::JointRisk { alpha, outcome: Certificate::CannotCertify(needed) } => {
                format!("no guarantee: P(answered and wrong) <= {}: {needed}", decimal(*alpha))
            }
            Rule::TargetCoverage { coverage, .. } => {
                format!(
                    "no guarantee: the most confident {} of questions are answered, whatever their \
                     risk",
                    decimal(*coverage)
                )
            }
            Rule::TargetConfidence { t } => {
                format!(
                    "no guarantee: questions are answered where the calibrated confidence exceeds \
                     {}",
                    decimal(*t)
                )
            }
        }
    }

    /// The first of `ids` that the policy was fitted on; metrics over it would be too good.
    pub fn overlap<'a>(&self, ids: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
        let seen: std::collections::HashSet<&str> =
            self.calibration_ids.iter().map(String::as_str).collect();
        ids.into_iter().find(|id| seen.contains(id))
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

    /// The calibrated probability of being correct, 0 to 1. `None` if a score is missing.
    pub fn confidence(self, scores: &[Option<f64>]) -> Option<Confidence> {
        self.policy
            .calibrator
            .confidence(self.uncertainty(scores)?)
            .and_then(Confidence::calibrated)
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
