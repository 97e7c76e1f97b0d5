//! Two runs on the same questions: who gained, who lost, whether chance explains it, and by how
//! much the metrics differ.
//!
//! Contract: pure and total. Questions are paired by their id. A comparison reports both
//! gains and losses: as many gains as losses is only noise. p-values of comparisons that are shown
//! together are corrected for their number.

use serde::Serialize;

use crate::metrics::bootstrap::{Bootstrap, Interval, PairingError, paired_difference};
use crate::metrics::holm::holm;
use crate::metrics::mcnemar::{discordant, p_value, questions_needed};
use crate::metrics::{GradedQuestion, metric};

/// The metrics whose differences are estimated.
const COMPARED: &[&str] = &["accuracy", "coverage", "selective_risk", "truthfulness", "auroc"];

/// The level of the tests.
const SIGNIFICANT: f64 = 0.05;

/// A run against another one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The run.
    pub run: String,
    /// What it is compared with.
    pub baseline: String,
    /// Questions of both.
    pub questions: usize,
    /// Questions whose leading answer is right in the run and not in the baseline.
    pub gains: u64,
    /// Questions whose leading answer is right in the baseline and not in the run.
    pub losses: u64,
    /// The exact two-sided p-value of `McNemar` (1947).
    pub p_value: f64,
    /// The p-value after Holm's correction for the comparisons that are shown together.
    pub p_holm: f64,
    /// Questions that would show this difference in accuracy, see [`questions_needed`]; `None` if
    /// it is significant without correction, or 0.
    pub questions_needed: Option<u64>,
    /// Run less baseline, with 95 % intervals by resampling questions; undefined metrics are
    /// left out.
    pub metrics: Vec<MetricDifference>,
}

/// The difference of one metric.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MetricDifference {
    /// The metric.
    pub name: &'static str,
    /// Run less baseline.
    #[serde(flatten)]
    pub interval: Interval,
    /// The interval has no width and says nothing: every question has the same difference.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub constant: bool,
}

impl Difference {
    /// Compares a run with a baseline, each with its name.
    ///
    /// # Errors
    /// If they do not have the same questions.
    pub fn new(
        run: (&str, &[&GradedQuestion]),
        baseline: (&str, &[&GradedQuestion]),
    ) -> Result<Self, PairingError> {
        Self::resampled(run, baseline, &Bootstrap::default())
    }

    /// As [`Self::new`], with intervals from these resamples.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn resampled(
        run: (&str, &[&GradedQuestion]),
        baseline: (&str, &[&GradedQuestion]),
        bootstrap: &Bootstrap,
    ) -> Result<Self, PairingError> {
        let pairs = discordant(baseline.1, run.1)?;
        let p_value = p_value(pairs);
        let needed = || questions_needed(pairs, run.1.len());
        let mut metrics = Vec::new();
        for name in COMPARED {
            let Some(metric) = metric(name) else { continue };
            let difference = paired_difference(metric, baseline.1, run.1, bootstrap)?;
            metrics.extend(difference.map(|interval| MetricDifference {
                name: metric.name,
                interval,
                constant: interval.is_constant(),
            }));
        }
        Ok(Self {
            run: run.0.to_owned(),
            baseline: baseline.0.to_owned(),
            questions: run.1.len(),
            gains: pairs.gains,
            losses: pairs.losses,
            p_value,
            p_holm: p_value,
            questions_needed: (p_value > SIGNIFICANT).then(needed).flatten(),
            metrics,
        })
    }

    /// Corrects the p-values of comparisons that are shown together, by Holm's method. A
    /// comparison without shared questions is not a test and does not count.
    pub fn correct(differences: &mut [Self]) {
        let tests = || differences.iter().filter(|difference| difference.questions > 0);
        let adjusted = holm(&tests().map(|test| test.p_value).collect::<Vec<_>>());
        let tests = differences.iter_mut().filter(|difference| difference.questions > 0);
        tests.zip(adjusted).for_each(|(test, p)| test.p_holm = p);
    }

    /// How many comparisons [`Self::correct`] counts.
    pub fn tests(differences: &[Self]) -> usize {
        differences.iter().filter(|difference| difference.questions > 0).count()
    }

    /// How many questions would show the difference in accuracy, as a sentence.
    pub fn power(&self) -> Option<String> {
        let needed = self.questions_needed?;
        let points = 100.0 * (self.gains as f64 - self.losses as f64) / self.questions as f64;
        Some(format!(
            "to see a difference of {points:+.1} points you need about {needed} questions (80 % \
             power, one test at the 5 % level)"
        ))
    }
}
