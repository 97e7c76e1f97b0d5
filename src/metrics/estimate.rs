//! Figures with their 95 % intervals.
//!
//! Contract: pure and deterministic. A proportion has Wilson's score interval from its two counts,
//! which keeps a width where all or none are so; its whole, such as the answers given, is taken as
//! it is. Of the other metrics those in [`RESAMPLED`] have a percentile bootstrap over questions.
//! Where that has no width, since every question says the same, nothing can be learnt from drawing
//! them again: then there is no interval, and [`Estimate::constant`] says why. All others have
//! none.

use serde::Serialize;

use super::binomial::wilson;
use super::bootstrap::{Bootstrap, intervals};
use super::{Figure, Item, Metric};

/// Metrics that are no proportion and have an interval by resampling.
pub const RESAMPLED: &[&str] = &[
    "truthfulness",
    "score_t_50",
    "score_t_75",
    "score_t_90",
    "auroc",
    "aurc",
    "e_aurc",
    "augrc",
    "prr",
    "brier",
    "ece",
    "unanswerable_f1",
    "mc2",
];

/// A figure with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The figure.
    #[serde(flatten)]
    pub figure: Figure,
    /// Both ends of its 95 % interval, where it has one.
    pub interval: Option<(f64, f64)>,
    /// It has none because resampling the questions gives the same figure again and again: how far
    /// it is from the truth is not known.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub constant: bool,
}

/// The figures of some metrics, in their order.
pub fn estimates(metrics: &[&Metric], items: &[&Item], bootstrap: &Bootstrap) -> Vec<Estimate> {
    let is_resampled = |metric: &&Metric| RESAMPLED.contains(&metric.name);
    let resampled: Vec<&Metric> = metrics.iter().copied().filter(is_resampled).collect();
    let mut found = intervals(&resampled, items, bootstrap).into_iter();
    let estimate = |metric: &&Metric| {
        let figure = metric.figure(items);
        let exact =
            metric.proportion(items).and_then(|(part, whole)| wilson(part as u64, whole as u64));
        let interval = exact.map(|share| (share.low, share.high));
        let drawn = if is_resampled(metric) { found.next().flatten() } else { None };
        let varying =
            drawn.filter(|drawn| !drawn.is_constant()).map(|drawn| (drawn.low, drawn.high));
        Estimate {
            figure,
            interval: interval.or(varying),
            constant: drawn.is_some_and(|drawn| drawn.is_constant()),
        }
    };
    metrics.iter().map(estimate).collect()
}
