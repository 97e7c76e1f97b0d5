//! Metrics with their 95 % intervals.
//!
//! Contract: pure and deterministic. A proportion has Wilson's score interval, which keeps a width
//! at 0 and 1; its denominator, such as the number of answers given, counts as fixed. A
//! bootstrapped metric has a percentile interval from resampled questions. Without any variation
//! between resamples there is no interval, and [`Estimate::constant`] is set. Other metrics have
//! no interval, calibration errors among them: resampling raises them, so that a percentile
//! interval misses the true value of a calibrated confidence, 0.

use serde::Serialize;

use super::binomial::wilson;
use super::bootstrap::{Bootstrap, intervals};
use super::{GradedQuestion, Metric, MetricValue};

/// A metric's value with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The value.
    #[serde(flatten)]
    pub metric: MetricValue,
    /// Both ends of the 95 % interval, if there is one.
    pub interval: Option<(f64, f64)>,
    /// There is no interval because all resamples give the same value; its error is unknown.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub constant: bool,
}

/// Estimates of some metrics, in their order.
pub fn estimates(
    metrics: &[&Metric],
    questions: &[&GradedQuestion],
    bootstrap: &Bootstrap,
) -> Vec<Estimate> {
    let bootstrapped: Vec<&Metric> =
        metrics.iter().copied().filter(|metric| metric.is_bootstrapped()).collect();
    let mut bootstrapped = intervals(&bootstrapped, questions, bootstrap).into_iter();
    let estimate = |metric: &&Metric| {
        let wilson = metric
            .proportion(questions)
            .and_then(|(part, whole)| wilson(part as u64, whole as u64))
            .map(|share| (share.low, share.high));
        let resampled = if metric.is_bootstrapped() { bootstrapped.next().flatten() } else { None };
        let varying = resampled.filter(|interval| !interval.is_constant());
        Estimate {
            metric: metric.evaluate(questions),
            interval: wilson.or(varying.map(|interval| (interval.low, interval.high))),
            constant: resampled.is_some_and(|interval| interval.is_constant()),
        }
    };
    metrics.iter().map(estimate).collect()
}
