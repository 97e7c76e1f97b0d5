//! Metrics over graded questions: accuracy, abstention, ranking by uncertainty, calibration.
//!
//! Contract: pure and total, at most O(n log n). A value is a finite number or `None`; `None` means
//! "undefined", never 0 and never perfect. No value depends on the order of questions. Metrics know
//! neither texts nor models: grading happens before.
//!
//! Conventions:
//! - A question without a readable answer has the grade [`Grade::NoAnswer`]; one without a finite
//!   uncertainty is *unscored*. Neither is ranked as most or least confident: both are left out of
//!   curves and counted in [`MetricValue::left_out`], [`failure_rate`](METRICS) and
//!   [`unscored_rate`](METRICS). They stay in the denominator of shares over all questions, because
//!   a missing answer covers and scores nothing.
//! - Equal uncertainties are one group. Quantities along a curve are expected values over a random
//!   order within each group.
//! - A confidence outside 0 to 1 counts as no confidence.
//! - To add a metric, add one static in a file and one line in [`METRICS`].

use serde::{Deserialize, Serialize};

mod abstention_rate;
mod acc;
mod accuracy;
mod augrc;
mod aurc;
mod auroc;
pub mod binomial;
pub mod bootstrap;
mod brier;
mod coverage;
mod coverage_at_risk;
mod curve;
mod e_aurc;
pub mod ece;
mod estimate;
mod failure_rate;
pub mod holm;
mod log_loss;
mod maj_at_k;
mod mc2;
pub mod mcnemar;
mod pass_at_k;
pub mod pool;
mod prr;

mod risk_at_coverage;
pub mod score_t;
mod selective_risk;
mod smooth_ece;
pub mod ties;
mod truthfulness;
mod unanswerable;
mod wqd;

pub use coverage_at_risk::coverage_at_risk;
pub use curve::{RiskCoverage, risk_coverage};
pub use estimate::{Estimate, estimates};
pub use maj_at_k::maj_at_k;
pub use pass_at_k::pass_at_k;
pub use prr::rejection_ratio;
pub use risk_at_coverage::risk_at_coverage;
pub use smooth_ece::smooth_ece;

/// The grade of a question's leading answer, whether or not the policy gave that answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// The leading answer is correct.
    Correct,
    /// The leading answer is incorrect. On an unanswerable question every answer is; a statement
    /// that the model does not know is never correct either.
    Incorrect,
    /// No answer: every sample was unreadable, cut or failed.
    NoAnswer,
}

/// One graded question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GradedQuestion {
    /// The question's name, by which two runs are paired.
    pub id: String,
    /// Whether the leading answer is correct.
    pub grade: Grade,
    /// Whether the policy gave the answer; ignored with [`Grade::NoAnswer`].
    pub answered: bool,
    /// The raw score, higher = less confident; ignored unless finite.
    #[serde(default)]
    pub uncertainty: Option<f64>,
    /// The calibrated probability of being correct, 0 to 1; ignored outside that range.
    #[serde(default)]
    pub confidence: Option<f64>,
    /// Whether the question has an answer; `None` if unknown.
    #[serde(default)]
    pub answerable: Option<bool>,
    /// Whether the choice with the highest log-likelihood per byte is correct; `None` unless
    /// choices were scored.
    #[serde(default)]
    pub correct_per_byte: Option<bool>,
    /// The correct choices' share of the probability of all scored choices, 0 to 1; `None` unless
    /// several choices may be correct.
    #[serde(default)]
    pub correct_mass: Option<f64>,
    /// The samples behind the answer, in the order drawn.
    #[serde(default)]
    pub samples: Vec<GradedSample>,
}

/// One graded sample of a question.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GradedSample {
    /// The answer's number: equal numbers are equal answers of the question. `None` if unparsed,
    /// cut or failed; such a sample does not vote.
    #[serde(default)]
    pub answer: Option<u32>,
    /// Whether that answer is correct.
    pub correct: bool,
    /// Confidence relative to the question's other samples, higher = more confident; ignored
    /// unless finite.
    #[serde(default)]
    pub confidence: Option<f64>,
}

impl GradedSample {
    /// Whether it gave an answer, and the correct one.
    pub fn is_correct(&self) -> bool {
        self.correct && self.answer.is_some()
    }
}

impl GradedQuestion {
    /// Whether the leading answer is correct.
    pub fn is_correct(&self) -> bool {
        self.grade == Grade::Correct
    }

    /// Whether the question has no answer to grade.
    pub fn has_no_answer(&self) -> bool {
        self.grade == Grade::NoAnswer
    }

    /// Whether the policy gave an answer that exists.
    pub fn is_answered(&self) -> bool {
        self.answered && !self.has_no_answer()
    }

    /// The uncertainty, if finite, of an answer that exists.
    pub fn score(&self) -> Option<f64> {
        // Adding zero turns minus zero into zero, so that the two tie.
        self.uncertainty.filter(|u| u.is_finite() && !self.has_no_answer()).map(|u| u + 0.0)
    }

    /// The confidence, if 0 to 1, of an answer that exists.
    pub fn probability(&self) -> Option<f64> {
        self.confidence
            .filter(|p| (0.0..=1.0).contains(p) && !self.has_no_answer())
            .map(|p| p + 0.0)
    }
}

/// The questions that a metric is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Population {
    /// All questions.
    All,
    /// Questions whose answer was given.
    Answered,
    /// Questions with an answer and a finite uncertainty.
    Scored,
    /// Questions with an answer and a confidence from 0 to 1.
    Confident,
    /// Questions with an answer that are known to be answerable or unanswerable.
    Labeled,
    /// Questions with at least this many samples.
    Samples(usize),
    /// Questions with correct and incorrect samples that have a confidence.
    MixedSamples,
    /// Questions whose choices were scored by likelihood.
    Choices,
    /// Questions whose choices were scored and of which several may be correct.
    SeveralCorrect,
}

impl Population {
    /// Whether the question counts.
    pub fn includes(self, question: &GradedQuestion) -> bool {
        match self {
            Self::All => true,
            Self::Answered => question.is_answered(),
            Self::Scored => question.score().is_some(),
            Self::Confident => question.probability().is_some(),
            Self::Labeled => question.answerable.is_some() && !question.has_no_answer(),
            Self::Samples(k) => question.samples.len() >= k,
            Self::MixedSamples => wqd::pairs(question).1 > 0.0,
            Self::Choices => question.correct_per_byte.is_some(),
            Self::SeveralCorrect => question.correct_mass.is_some(),
        }
    }
}

/// A metric: what it is called, what it means, and how it is computed.
#[derive(Debug)]
pub struct Metric {
    /// The name in flags, JSON and reports.
    pub name: &'static str,
    /// The unit.
    #[allow(dead_code, reason = "documents the metric")]
    pub unit: &'static str,
    /// Whether higher is better; `None` for a metric that only describes.
    pub higher_is_better: Option<bool>,
    /// The questions that it is about.
    pub population: Population,
    /// Paper and equation.
    #[allow(dead_code, reason = "documents the metric")]
    pub source: &'static str,
    /// One line: what it measures, its range, its convention.
    pub summary: &'static str,
    /// The formula; [`Metric::value`] keeps it finite.
    formula: Formula,
}

/// How a metric is computed, and which interval it has.
#[derive(Clone, Copy, Debug)]
enum Formula {
    /// A proportion as two counts, part and whole; undefined for a whole of 0. Its interval is
    /// Wilson's.
    Proportion(fn(&[&GradedQuestion]) -> (usize, usize)),
    /// Any other number with a bootstrap interval; `None` if undefined.
    Bootstrapped(fn(&[&GradedQuestion]) -> Option<f64>),
    /// Any other number without an interval; `None` if undefined.
    Number(fn(&[&GradedQuestion]) -> Option<f64>),
}

impl Metric {
    /// The value: finite, or `None` if undefined.
    pub fn value(&self, questions: &[&GradedQuestion]) -> Option<f64> {
        let value = match self.formula {
            Formula::Proportion(counts) => {
                let (part, whole) = counts(questions);
                share(part, whole)
            }
            Formula::Bootstrapped(number) | Formula::Number(number) => number(questions),
        };
        value.filter(|value| value.is_finite()).map(|value| value + 0.0)
    }

    /// The two counts of a proportion, part and whole; `None` for other metrics.
    pub fn proportion(&self, questions: &[&GradedQuestion]) -> Option<(usize, usize)> {
        match self.formula {
            Formula::Proportion(counts) => Some(counts(questions)),
            Formula::Bootstrapped(_) | Formula::Number(_) => None,
        }
    }

    /// Whether its interval comes from resampling questions.
    pub fn is_bootstrapped(&self) -> bool {
        matches!(self.formula, Formula::Bootstrapped(_))
    }

    /// The value and the number of questions behind it.
    pub fn evaluate(&self, questions: &[&GradedQuestion]) -> MetricValue {
        let n = questions.iter().filter(|question| self.population.includes(question)).count();
        MetricValue {
            name: self.name,
            value: self.value(questions),
            n,
            left_out: questions.len() - n,
        }
    }
}

/// A metric's value over some questions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MetricValue {
    /// The metric's name.
    pub name: &'static str,
    /// Finite, or `None` if undefined.
    pub value: Option<f64>,
    /// Number of questions in [`Metric::population`].
    pub n: usize,
    /// Number of all other questions.
    pub left_out: usize,
}

/// Every metric: what was answered, how uncertainty ranks, whether confidence is calibrated,
/// scores, samples, unanswerable questions.
pub static METRICS: &[&Metric] = &[
    &accuracy::ACCURACY,
    &acc::ACC,
    &acc::ACC_NORM,
    &mc2::MC2,
    &failure_rate::FAILURE_RATE,
    &failure_rate::UNSCORED_RATE,
    &coverage::COVERAGE,
    &abstention_rate::ABSTENTION_RATE,
    &selective_risk::SELECTIVE_RISK,
    &truthfulness::TRUTHFULNESS,
    &score_t::SCORE_T_0,
    &score_t::SCORE_T_50,
    &score_t::SCORE_T_75,
    &score_t::SCORE_T_90,
    &auroc::AUROC,
    &auroc::SATURATION,
    &auroc::TIED_PAIRS,
    &aurc::AURC,
    &e_aurc::E_AURC,
    &augrc::AUGRC,
    &prr::PRR,
    &prr::PRR_50,
    &risk_at_coverage::RISK_AT_COVERAGE_50,
    &risk_at_coverage::RISK_AT_COVERAGE_80,
    &risk_at_coverage::RISK_AT_COVERAGE_90,
    &coverage_at_risk::COVERAGE_AT_RISK_5,
    &coverage_at_risk::COVERAGE_AT_RISK_10,
    &coverage_at_risk::COVERAGE_AT_RISK_20,
    &brier::BRIER,
    &brier::BRIER_RELIABILITY,
    &brier::BRIER_RESOLUTION,
    &brier::BRIER_UNCERTAINTY,
    &log_loss::LOG_LOSS,
    &ece::ECE,
    &ece::ECE_EQUAL_MASS,
    &smooth_ece::SMOOTH_ECE,
    &maj_at_k::MAJ_AT_1,
    &maj_at_k::MAJ_AT_4,
    &maj_at_k::MAJ_AT_8,
    &maj_at_k::MAJ_AT_16,
    &maj_at_k::MAJ_AT_32,
    &pass_at_k::PASS_AT_1,
    &pass_at_k::PASS_AT_4,
    &pass_at_k::PASS_AT_8,
    &pass_at_k::PASS_AT_16,
    &pass_at_k::PASS_AT_32,
    &wqd::WQD,
    &unanswerable::UNANSWERABLE_PRECISION,
    &unanswerable::UNANSWERABLE_RECALL,
    &unanswerable::UNANSWERABLE_F1,
];

/// The metric of that name.
pub fn metric(name: &str) -> Option<&'static Metric> {
    METRICS.iter().copied().find(|metric| metric.name == name)
}

/// `part / whole`; `None` for a whole of 0.
fn share(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// The number of questions that satisfy `is`.
fn count(questions: &[&GradedQuestion], is: impl Fn(&GradedQuestion) -> bool) -> usize {
    questions.iter().filter(|question| is(question)).count()
}
