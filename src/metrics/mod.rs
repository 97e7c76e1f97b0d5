//! How good answers, abstentions and confidences are: one figure per metric over graded questions.
//!
//! Contract: pure and total, at most O(n log n). A figure is a finite number or `None`; `None`
//! means "cannot be said", never 0 and never perfect. No figure depends on the order of questions.
//! It knows neither texts nor models: whether an answer is right was decided before.
//!
//! Conventions:
//! - A question without a readable answer is *failed*, one without a finite uncertainty is
//!   *unscored*. Neither is ever taken for the surest or the least sure: they are left out of
//!   curves and counted in [`Figure::left_out`], [`failure_rate`](METRICS) and
//!   [`unscored_rate`](METRICS). Where a share is over all questions they stay in the denominator:
//!   silence covers and scores nothing.
//! - Equal uncertainties are one group. Quantities along a curve are expected values over a random
//!   order within each group.
//! - A confidence is a probability. One outside 0 to 1 is no confidence, rather than a bin that
//!   nobody reads.

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
pub use estimate::{Estimate, RESAMPLED, estimates};
pub use maj_at_k::maj_at_k;
pub use pass_at_k::pass_at_k;
pub use prr::rejection_ratio;
pub use risk_at_coverage::risk_at_coverage;
pub use smooth_ece::smooth_ece;

/// What became of a question's leading answer, whether or not it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// It is right.
    Right,
    /// It is wrong. On a question that has no answer every answer is; that the model says it does
    /// not know is no right answer either.
    Wrong,
    /// There is none: nothing could be read, everything was cut or failed.
    Failed,
}

/// One graded question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// The question's name: what pairs two runs.
    pub id: String,
    /// Whether the leading answer is right.
    pub grade: Grade,
    /// Whether the policy gave the answer. A failed question is never answered, whatever this says.
    pub answered: bool,
    /// The raw score, higher = less sure; anything but a finite number is no score.
    #[serde(default)]
    pub uncertainty: Option<f64>,
    /// The calibrated probability of being right, 0 to 1; anything else is no confidence.
    #[serde(default)]
    pub confidence: Option<f64>,
    /// Whether the question has an answer at all, where that is known.
    #[serde(default)]
    pub answerable: Option<bool>,
    /// Whether the option that is likeliest per byte is the right one; `None` where no options were
    /// scored.
    #[serde(default)]
    pub right_per_byte: Option<bool>,
    /// Where several options may be right: what share of the scored options' probability these
    /// have, 0 to 1.
    #[serde(default)]
    pub right_mass: Option<f64>,
    /// The samples behind the answer, in the order drawn.
    #[serde(default)]
    pub samples: Vec<Sample>,
}

/// One graded sample of a question.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Which answer it gave: equal numbers are equal answers of the question. `None`: unparsed, cut
    /// or failed, and it never votes.
    #[serde(default)]
    pub answer: Option<u32>,
    /// Whether that answer is right.
    pub right: bool,
    /// How sure this sample is compared with others of the question, higher = surer; anything but a
    /// finite number is none.
    #[serde(default)]
    pub confidence: Option<f64>,
}

impl Sample {
    /// Whether it gave an answer, and the right one.
    pub fn is_right(&self) -> bool {
        self.right && self.answer.is_some()
    }
}

impl Item {
    /// Whether the leading answer is right.
    pub fn is_right(&self) -> bool {
        self.grade == Grade::Right
    }

    /// Whether there is no answer to grade.
    pub fn is_failed(&self) -> bool {
        self.grade == Grade::Failed
    }

    /// Whether an answer was given.
    pub fn is_given(&self) -> bool {
        self.answered && !self.is_failed()
    }

    /// The uncertainty of an answer that exists, if it is a finite number.
    pub fn score(&self) -> Option<f64> {
        // Adding zero makes minus zero zero: the two are a tie.
        self.uncertainty.filter(|u| u.is_finite() && !self.is_failed()).map(|u| u + 0.0)
    }

    /// The confidence of an answer that exists, if it is a probability.
    pub fn probability(&self) -> Option<f64> {
        self.confidence.filter(|p| (0.0..=1.0).contains(p) && !self.is_failed()).map(|p| p + 0.0)
    }
}

/// Which way a metric points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// Higher is better.
    Higher,
    /// Lower is better.
    Lower,
    /// It describes and does not judge.
    Neither,
}

/// The questions that a metric is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// All.
    All,
    /// Those whose answer was given.
    Given,
    /// Those with an answer and a finite uncertainty.
    Scored,
    /// Those with an answer and a confidence from 0 to 1.
    Confident,
    /// Those that did not fail and are known to have an answer, or to have none.
    Labelled,
    /// Those with at least this many samples.
    Samples(usize),
    /// Those with right and wrong samples that have a confidence.
    Contrasted,
    /// Those whose options were scored by their likelihood.
    Options,
    /// Those of them with several right options.
    SeveralRight,
}

impl Basis {
    /// Whether the question counts.
    pub fn includes(self, item: &Item) -> bool {
        match self {
            Self::All => true,
            Self::Given => item.is_given(),
            Self::Scored => item.score().is_some(),
            Self::Confident => item.probability().is_some(),
            Self::Labelled => item.answerable.is_some() && !item.is_failed(),
            Self::Samples(k) => item.samples.len() >= k,
            Self::Contrasted => wqd::pairs(item).1 > 0.0,
            Self::Options => item.right_per_byte.is_some(),
            Self::SeveralRight => item.right_mass.is_some(),
        }
    }
}

/// A metric: what it is called, what it means, and how it is computed.
#[derive(Debug)]
pub struct Metric {
    /// The name in flags, JSON and reports.
    pub name: &'static str,
    /// The unit.
    pub unit: &'static str,
    /// Which way it points.
    pub better: Better,
    /// The questions that it is about.
    pub basis: Basis,
    /// Paper and equation.
    pub source: &'static str,
    /// One line: what it measures, its range, its convention.
    pub summary: &'static str,
    /// The number; not to be asked but by [`Metric::value`], which keeps it finite.
    formula: Formula,
}

/// How a metric's number is made.
#[derive(Clone, Copy, Debug)]
enum Formula {
    /// A proportion: so many questions, the first number, of so many, the second. Nothing can be
    /// said of none.
    Proportion(fn(&[&Item]) -> (usize, usize)),
    /// Anything else; `None` where it cannot be said.
    Number(fn(&[&Item]) -> Option<f64>),
}

impl Metric {
    /// The figure: finite, or `None` where it cannot be said.
    pub fn value(&self, items: &[&Item]) -> Option<f64> {
        let value = match self.formula {
            Formula::Proportion(counts) => {
                let (part, whole) = counts(items);
                share(part, whole)
            }
            Formula::Number(number) => number(items),
        };
        value.filter(|value| value.is_finite()).map(|value| value + 0.0)
    }

    /// The two counts of a proportion, the part first; `None` where the metric is none.
    pub fn proportion(&self, items: &[&Item]) -> Option<(usize, usize)> {
        match self.formula {
            Formula::Proportion(counts) => Some(counts(items)),
            Formula::Number(_) => None,
        }
    }

    /// The figure and how many questions are behind it.
    pub fn figure(&self, items: &[&Item]) -> Figure {
        let n = items.iter().filter(|item| self.basis.includes(item)).count();
        Figure { name: self.name, value: self.value(items), n, left_out: items.len() - n }
    }
}

/// A metric's value over some questions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// The metric.
    pub name: &'static str,
    /// Finite, or `None` where it cannot be said.
    pub value: Option<f64>,
    /// The questions that it is about, see [`Metric::basis`].
    pub n: usize,
    /// All others: not a word about them is in the value.
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

/// Every figure over some questions, in the order of [`METRICS`].
pub fn figures(items: &[&Item]) -> Vec<Figure> {
    METRICS.iter().map(|metric| metric.figure(items)).collect()
}

/// `part / whole`; `None` without a whole.
fn share(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// How many of the questions are so.
fn count(items: &[&Item], is: impl Fn(&Item) -> bool) -> usize {
    items.iter().filter(|item| is(item)).count()
}
