//! The policy file: a map, a rule, what they promise, and everything that they are bound to.
//!
//! Contract: what is read is checked, and nothing in a file is believed that can be computed:
//! counts must carry the promise that they come with. Confidences and decisions come from a
//! [`Bound`] policy alone, and only a run with the same fingerprint gets one. A question without a
//! score is never answered. It knows no paths: text in, text out.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::learn_then_test::p_value;
use super::{
    Calibrator, Certificate, Example, Fingerprint, Fusion, Method, Mismatch, Refusal, Scored,
    Split, Threshold, check_open, grid, learn_then_test, risk_control, target_coverage,
};
use crate::decision::Policy;
use crate::metrics::binomial::{ShareInterval, clopper_pearson};
use crate::metrics::{Grade, GradedQuestion, metric};
use crate::uncertainty::Confidence;

/// The only version there is.
const VERSION: u32 = 1;
/// More questions than this are no labels.
const MOST_QUESTIONS: usize = u32::MAX as usize;

/// What a threshold shall achieve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "goal", rename_all = "snake_case")]
pub enum Goal {
    /// P(wrong | answered) <= alpha with probability 1 - delta: learn then test.
    SelectiveRisk {
        /// The largest share of answers that may be wrong, above 0 to below 1.
        alpha: f64,
        /// How probable it may be that the labels mislead, above 0 to below 1.
        delta: f64,
    },
    /// P(answered and wrong) <= alpha on average: conformal risk control.
    JointRisk {
        /// The largest share of questions that may be answered wrongly, above 0 to below 1.
        alpha: f64,
    },
    /// Answer the surest share of questions; no promise.
    TargetCoverage {
        /// The share, above 0 to 1.
        coverage: f64,
    },
    /// Answer where the confidence exceeds t, which maximises the expected score at t; no promise.
    TargetConfidence {
        /// The confidence, 0 to below 1.
        t: f64,
    },
}

/// A goal and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case")]
pub enum Rule {
    /// See [`Goal::SelectiveRisk`].
    SelectiveRisk {
        /// The largest share of answers that may be wrong.
        alpha: f64,
        /// How probable it may be that the labels mislead.
        delta: f64,
        /// The threshold, or what is missing.
        outcome: Certificate,
    },
    /// See [`Goal::JointRisk`].
    JointRisk {
        /// The largest share of questions that may be answered wrongly.
        alpha: f64,
        /// The threshold, or what is missing.
        outcome: Certificate,
    },
    /// See [`Goal::TargetCoverage`].
    TargetCoverage {
        /// The share of questions to answer.
        coverage: f64,
        /// The threshold; `None` if too few questions had a score, and nothing is answered.
        threshold: Option<Threshold>,
    },
    /// See [`Goal::TargetConfidence`].
    TargetConfidence {
        /// The confidence that an answer must exceed.
        t: f64,
    },
}

/// How a policy did on questions that nothing was chosen on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Questions.
    pub questions: usize,
    /// How many were answered.
    pub answered: usize,
    /// How many of these answers are wrong.
    pub wrong: usize,
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
    /// What produced the scores.
    pub fingerprint: Fingerprint,
    /// How several scores become one; `None` where there is one.
    pub fusion: Option<Fusion>,
    /// The map from uncertainty to confidence.
    pub calibrator: Calibrator,
    /// When to answer.
    pub rule: Rule,
    /// How that went on questions that nothing was chosen on.
    pub report: Report,
    /// The questions that map and threshold were made on: any evaluation must be on others.
    pub calibration_ids: Vec<String>,
}

/// Fits a map on one part, chooses a threshold on the next and reports on the last. With several
/// estimators their fusion comes first, from the fitting part too, as does the grid of thresholds.
///
/// # Errors
/// If the labels of the fitting part do not allow the fit, or a parameter is out of range. Labels
/// that carry no promise are no error: the rule then says what is missing.
pub fn calibrate(
    split: &Split,
    method: Method,
    goal: Goal,
    fingerprint: Fingerprint,
) -> Result<PolicyFile, Refusal> {
    let estimators = split.fit().first().map_or(0, |example| example.scores.len());
    let fusion = if estimators > 1 {
        Some(Fusion::fit(&split.fit().iter().collect::<Vec<_>>())?)
    } else {
        None
    };
    let scored = |examples: &[Example]| -> Vec<Scored> {
        examples.iter().map(|example| scored(example, fusion.as_ref())).collect()
    };
    let (fit, threshold) = (scored(split.fit()), scored(split.threshold()));
    let points: Vec<(f64, bool)> =
        fit.iter().filter_map(|scored| Some((scored.uncertainty?, scored.right))).collect();
    let calibrator = Calibrator::fit(method, &points)?;
    let rule = choose(goal, &fit, &threshold)?;
    let calibration_ids =
        split.fit().iter().chain(split.threshold()).map(|example| example.id.clone()).collect();
    let nothing = Report {
        questions: 0,
        answered: 0,
        wrong: 0,
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

fn choose(goal: Goal, fit: &[Scored], scored: &[Scored]) -> Result<Rule, Refusal> {
    Ok(match goal {
        Goal::SelectiveRisk { alpha, delta } => {
            let scores: Vec<Option<f64>> = fit.iter().map(|scored| scored.uncertainty).collect();
            let grid = grid(&scores, scored.len(), alpha, delta)?;
            Rule::SelectiveRisk {
                alpha,
                delta,
                outcome: learn_then_test(scored, &grid, alpha, delta)?,
            }
        }
        Goal::JointRisk { alpha } => {
            Rule::JointRisk { alpha, outcome: risk_control(scored, alpha)? }
        }
        Goal::TargetCoverage { coverage } => {
            Rule::TargetCoverage { coverage, threshold: target_coverage(scored, coverage)? }
        }
        Goal::TargetConfidence { t } => {
            check_target(t)?;
            Rule::TargetConfidence { t }
        }
    })
}

fn check_target(t: f64) -> Result<(), Refusal> {
    if (0.0..1.0).contains(&t) {
        Ok(())
    } else {
        Err(Refusal::Parameter { name: "target_confidence", value: t, range: "0 to below 1" })
    }
}

fn scored(example: &Example, fusion: Option<&Fusion>) -> Scored {
    let uncertainty =
        uncertainty(&example.scores, fusion).filter(|_| example.grade != Grade::NoAnswer);
    Scored { uncertainty, right: example.grade == Grade::Correct }
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
    /// If it is no policy file, or its numbers cannot be true.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let policy: Self = serde_json::from_str(text)
            .map_err(|error| Refusal::File(format!("no policy file: {error}")))?;
        policy.validate()?;
        Ok(policy)
    }

    /// The file's text.
    ///
    /// # Errors
    /// If a number is not finite, which JSON cannot hold.
    pub fn to_json(&self) -> Result<String, Refusal> {
        self.validate()?;
        serde_json::to_string_pretty(self).map_err(|error| Refusal::File(error.to_string()))
    }

    /// Checks everything that can be checked without the labels.
    ///
    /// # Errors
    /// The first thing that cannot be true.
    pub fn validate(&self) -> Result<(), Refusal> {
        let sound = |holds: bool, what: &str| {
            if holds {
                Ok(())
            } else {
                Err(Refusal::File(format!("policy file: {what}; calibrate again")))
            }
        };
        sound(
            self.version == VERSION,
            &format!("version is {}, this program reads {VERSION}", self.version),
        )?;
        for (name, value) in self.fingerprint.fields() {
            sound(!value.is_empty(), &format!("fingerprint field {name} is empty"))?;
        }
        sound(self.calibrator.is_sound(), "the calibrator's parameters are no falling map")?;
        let estimators = self.fusion.as_ref().map_or(1, |fusion| fusion.weights.len());
        sound(
            self.fusion.as_ref().is_none_or(|fusion| estimators > 1 && fusion.is_sound(estimators)),
            "the fusion's parameters do not fit together",
        )?;
        match &self.rule {
            Rule::TargetConfidence { t } => check_target(*t)?,
            Rule::TargetCoverage { coverage, .. } => {
                sound(
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
        sound(
            threshold.is_sound() && threshold.questions <= MOST_QUESTIONS,
            "the threshold's counts cannot be true",
        )?;
        sound(self.carries(threshold), "the counts do not carry the promise")
    }

    /// Whether the counts behind the threshold are enough for the rule.
    fn carries(&self, threshold: &Threshold) -> bool {
        match self.rule {
            Rule::SelectiveRisk { alpha, delta, .. } => p_value(threshold, alpha) <= delta,
            Rule::JointRisk { alpha, .. } => {
                threshold.wrong as f64 + 1.0 <= alpha * (threshold.questions as f64 + 1.0)
            }
            Rule::TargetCoverage { .. } | Rule::TargetConfidence { .. } => true,
        }
    }

    /// The policy for a run of this configuration.
    ///
    /// # Errors
    /// Every field that differs from what was calibrated, with both values: the policy is void.
    pub fn check(&self, running: &Fingerprint) -> Result<Bound<'_>, Mismatch> {
        self.fingerprint.check(running)?;
        Ok(Bound { policy: self })
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

    /// Whether the rule comes with a promise.
    pub fn is_certified(&self) -> bool {
        match &self.rule {
            Rule::SelectiveRisk { outcome, .. } | Rule::JointRisk { outcome, .. } => {
                outcome.threshold().is_some()
            }
            Rule::TargetCoverage { .. } | Rule::TargetConfidence { .. } => false,
        }
    }

    /// The rule as a decision's policy: it answers where [`Bound::answers`] does, and never where
    /// nothing could be certified.
    pub fn policy(&self) -> Policy {
        match (&self.rule, self.threshold()) {
            (Rule::TargetConfidence { t }, _) => Policy::MinConfidence { min_confidence: *t },
            (_, Some(threshold)) => {
                Policy::MaxUncertainty { max_uncertainty: threshold.max_uncertainty }
            }
            (_, None) => Policy::Uncertified,
        }
    }

    /// The promise, in one exact sentence; or that there is none, and why.
    pub fn guarantee(&self) -> String {
        match &self.rule {
            Rule::SelectiveRisk { alpha, delta, outcome: Certificate::Certified(threshold) } => {
                format!(
                    "P(wrong | answered) <= {} with probability {} over the draw of the {} \
                     labelled questions, for questions drawn \
                 independently from the same source and this configuration",
                    decimal(*alpha),
                    decimal_below(1.0 - delta),
                    threshold.questions
                )
            }
            Rule::JointRisk { alpha, outcome: Certificate::Certified(threshold) } => format!(
                "P(answered and wrong) <= {} on average over draws of {} labelled questions, for \
                 questions exchangeable with them and this \
                 configuration",
                decimal(*alpha),
                threshold.questions
            ),
            Rule::SelectiveRisk {
                alpha,
                delta,
                outcome: Certificate::CannotCertify(shortfall),
            } => {
                format!(
                    "no guarantee: P(wrong | answered) <= {} with probability {}: {shortfall}",
                    decimal(*alpha),
                    decimal_below(1.0 - delta)
                )
            }
            Rule::JointRisk { alpha, outcome: Certificate::CannotCertify(shortfall) } => {
                format!("no guarantee: P(answered and wrong) <= {}: {shortfall}", decimal(*alpha))
            }
            Rule::TargetCoverage { coverage, .. } => {
                format!(
                    "no guarantee: the surest {} of questions are answered, whatever their risk",
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

    /// A question of `ids` that the policy was made on: figures over it would flatter.
    pub fn overlap<'a>(&self, ids: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
        let seen: std::collections::HashSet<&str> =
            self.calibration_ids.iter().map(String::as_str).collect();
        ids.into_iter().find(|id| seen.contains(id))
    }

    fn reported(&self, examples: &[Example]) -> Report {
        let bound = Bound { policy: self };
        let item = |example: &Example| GradedQuestion {
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
        let items: Vec<GradedQuestion> = examples.iter().map(item).collect();
        let items: Vec<&GradedQuestion> = items.iter().collect();
        let answered = items.iter().filter(|item| item.is_answered()).count();
        let wrong = items.iter().filter(|item| item.is_answered() && !item.is_correct()).count();
        let value = |name: &str| metric(name).and_then(|metric| metric.value(&items));
        Report {
            questions: items.len(),
            answered,
            wrong,
            selective_risk: clopper_pearson(wrong as u64, answered as u64, 0.95),
            brier: value("brier"),
            smooth_ece: value("smooth_ece"),
        }
    }
}

/// A policy and a run with the same fingerprint: what [`PolicyFile::check`] gives, and nothing
/// else.
#[derive(Clone, Copy, Debug)]
pub struct Bound<'a> {
    policy: &'a PolicyFile,
}

impl Bound<'_> {
    /// The one uncertainty behind the scores of a question, higher = less sure. `None` if a score
    /// is missing.
    pub fn uncertainty(self, scores: &[Option<f64>]) -> Option<f64> {
        uncertainty(scores, self.policy.fusion.as_ref())
    }

    /// The calibrated probability of being right, 0 to 1. `None` if a score is missing.
    pub fn confidence(self, scores: &[Option<f64>]) -> Option<Confidence> {
        self.policy
            .calibrator
            .confidence(self.uncertainty(scores)?)
            .and_then(Confidence::calibrated)
    }

    /// Whether a question with these scores may be answered. Not without a score, and not where
    /// nothing could be certified.
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

/// The shortest decimal that is this number, with two places at least.
fn decimal(value: f64) -> String {
    let mut text = value.to_string();
    let places = text.split_once('.').map_or(0, |(_, places)| places.len());
    if places == 0 {
        text.push('.');
    }
    let _ = write!(text, "{}", "0".repeat(2_usize.saturating_sub(places)));
    text
}

/// As [`decimal`], cut to six places: 1 - 0.9 is 0.09999999999999998, and rounding up may promise
/// too much.
fn decimal_below(value: f64) -> String {
    decimal(((value + 1e-12) * 1e6).floor() / 1e6)
}
