//! Accuracy at equal cost: a run against a vote of as many samples as the run's forward tokens
//! would pay for.
//!
//! Contract: pure. The baseline's curve is the majority vote of its first k samples over their
//! forward tokens, measured for every k of one run, since sample i does not depend on the number of
//! samples; between two k it is linear. Nothing is extrapolated.

use std::collections::HashSet;
use std::fmt;

use serde::Serialize;

use super::RecordedOutcome;
use crate::metrics::{GradedQuestion, maj_at_k};
use crate::strategy::Strategy;

/// A run with the cost of its samples.
pub struct PricedRun<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its strategy.
    pub strategy: Strategy,
    /// Its questions, each with the forward tokens of its first k samples, k = 1, 2, ...
    pub questions: Vec<(&'a GradedQuestion, &'a [f64])>,
}

/// Runs against one baseline at their own cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EqualCost {
    /// The baseline's name.
    pub baseline: String,
    /// The most samples of the baseline that every question has.
    pub samples: usize,
    /// Forward tokens per question of one sample of the baseline.
    pub low: f64,
    /// Forward tokens per question of all its samples.
    pub high: f64,
    /// The other runs on the same questions.
    pub runs: Vec<RunAtCost>,
}

/// A run against the baseline at the run's cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunAtCost {
    /// The run.
    pub run: String,
    /// Its accuracy, 0 to 1.
    pub accuracy: f64,
    /// Its forward tokens after the prompt, per question.
    pub forward_tokens: f64,
    /// The baseline's accuracy at that cost, 0 to 1; `None` if no number of its samples costs so
    /// much or so little.
    pub baseline: Option<f64>,
}

impl EqualCost {
    /// Compares runs with the plain vote among them. Of several, the one with the most samples is
    /// the baseline, the first of these. `None` without one, or without another run on its
    /// questions.
    pub fn new(runs: &[PricedRun<'_>]) -> Option<Self> {
        let plain = runs.iter().filter(|run| run.strategy.is_plain_vote());
        let curves = plain.filter_map(|run| Some((run, Curve::of(run)?)));
        // The last of equals is taken.
        let (baseline, curve) =
            curves.collect::<Vec<_>>().into_iter().rev().max_by_key(|(_, curve)| curve.0.len())?;
        let ids = ids(baseline);
        let same = |run: &&PricedRun<'_>| run.name != baseline.name && self::ids(run) == ids;
        let runs: Vec<RunAtCost> =
            runs.iter().filter(same).filter_map(|run| curve.compare(run)).collect();
        let ((low, _), (high, _)) = (*curve.0.first()?, *curve.0.last()?);
        let (baseline, samples) = (baseline.name.to_owned(), curve.0.len());
        (!runs.is_empty()).then_some(Self { baseline, samples, low, high, runs })
    }
}

impl fmt::Display for EqualCost {
    /// What the baseline is, in one sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { baseline, samples, low, high, .. } = self;
        write!(
            f,
            "against the majority of the first 1 to {samples} samples of {baseline}, which take \
             {low:.1} to {high:.1} forward tokens a question"
        )
    }
}

/// (forward tokens per question, accuracy) of the first k samples, k = 1, 2, ...
struct Curve(Vec<(f64, f64)>);

impl Curve {
    /// `None` if a question has no samples.
    fn of(run: &PricedRun<'_>) -> Option<Self> {
        let samples =
            |question: &(&GradedQuestion, &[f64])| question.0.samples.len().min(question.1.len());
        let most = run.questions.iter().map(samples).min()?;
        let items: Vec<&GradedQuestion> = run.questions.iter().map(|question| question.0).collect();
        let point = |k: usize| {
            let costs = run.questions.iter().filter_map(|question| question.1.get(k - 1));
            Some((costs.sum::<f64>() / items.len() as f64, maj_at_k(&items, k)?))
        };
        let points: Vec<(f64, f64)> = (1..=most).map(point).collect::<Option<_>>()?;
        (!points.is_empty()).then_some(Self(points))
    }

    /// The accuracy at a cost, linear between neighbors; `None` outside the range.
    fn accuracy(&self, forward_tokens: f64) -> Option<f64> {
        // Of several k at the same cost, the largest.
        let at = self.0.iter().rposition(|point| point.0 <= forward_tokens)?;
        let (cost, accuracy) = *self.0.get(at)?;
        match self.0.get(at + 1) {
            Some((above, higher)) => {
                Some(accuracy + (higher - accuracy) * (forward_tokens - cost) / (above - cost))
            }
            None => (cost == forward_tokens).then_some(accuracy),
        }
    }

    /// A run at its own cost; `None` if a question has none.
    fn compare(&self, run: &PricedRun<'_>) -> Option<RunAtCost> {
        let count = run.questions.len() as f64;
        let costs = run.questions.iter().map(|question| question.1.last().copied());
        let forward_tokens = costs.sum::<Option<f64>>()? / count;
        let correct = run.questions.iter().filter(|question| question.0.is_correct()).count();
        Some(RunAtCost {
            run: run.name.to_owned(),
            accuracy: correct as f64 / count,
            forward_tokens,
            baseline: self.accuracy(forward_tokens),
        })
    }
}

fn ids<'a>(run: &PricedRun<'a>) -> HashSet<&'a str> {
    run.questions.iter().map(|question| question.0.id.as_str()).collect()
}

/// Forward tokens of the first k samples, k = 1, 2, ...: the distinct token prefixes that were
/// continued, each of which takes one row. What else a question cost, such as answers that were
/// asked for, is divided equally among its samples, so that the last has the recorded cost.
pub(super) fn forward_tokens(outcome: &RecordedOutcome) -> Vec<f64> {
    let mut prefixes: HashSet<Vec<u32>> = HashSet::new();
    let mut continued = Vec::with_capacity(outcome.samples.len());
    for sample in &outcome.samples {
        let ids: Vec<u32> = sample.tokens.iter().map(|token| token.id).collect();
        for end in 1..ids.len() {
            prefixes.insert(ids.get(..end).unwrap_or_default().to_vec());
        }
        continued.push(prefixes.len() as f64);
    }
    let rest = outcome.cost.forward_tokens as f64 - continued.last().copied().unwrap_or(0.0);
    let samples = continued.len() as f64;
    (1..).zip(continued).map(|(k, rows)| rows + rest * f64::from(k) / samples).collect()
}
