//! Bootstrap intervals over questions: of one metric, or of its difference between two runs on the
//! same questions.
//!
//! Contract: pure and deterministic: draw i of resample r depends on (seed, r, i) alone, so more
//! resamples extend fewer. Questions are the unit: their samples stay together. Percentile
//! intervals, ends interpolated linearly (numpy's default).

use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{GradedQuestion, Metric};

/// How to resample.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// Number of resamples.
    pub resamples: u32,
    /// The interval's level, above 0 to below 1.
    pub level: f64,
    /// The seed of the draws.
    pub seed: u64,
}

impl Default for Bootstrap {
    /// 1,000 resamples, 95 %, seed 0.
    fn default() -> Self {
        Self { resamples: MAX_RESAMPLES, level: 0.95, seed: 0 }
    }
}

/// Maximum number of questions times resamples, unless [`MIN_RESAMPLES`] needs more.
const MAX_DRAWS: usize = 2_000_000;
/// Minimum and maximum number of resamples.
const MIN_RESAMPLES: u32 = 200;
const MAX_RESAMPLES: u32 = 1000;

impl Bootstrap {
    /// The default with fewer resamples for many questions, to bound the time: 200 to 1,000.
    pub fn of(questions: usize) -> Self {
        Self {
            resamples: ((MAX_DRAWS / questions.max(1)) as u32).clamp(MIN_RESAMPLES, MAX_RESAMPLES),
            ..Self::default()
        }
    }
}

/// An interval by resampling.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// The value on the original questions.
    pub estimate: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// The level, above 0 to below 1.
    pub level: f64,
    /// Resamples in which the value is defined.
    pub resamples: usize,
    /// Resamples in which it is undefined, left out of the interval; at most a tenth of all.
    pub undefined: usize,
}

/// Narrower intervals than this are rounding errors of sums of numbers near 1.
const ROUNDING: f64 = 1e-12;

impl Interval {
    /// Whether it has no width: all resamples give the same value, which says nothing about its
    /// error.
    pub fn is_constant(&self) -> bool {
        self.high - self.low <= ROUNDING
    }
}

/// The interval of a metric. `None` if the metric is undefined, or undefined in more than a tenth
/// of the resamples.
#[cfg(feature = "internals")]
pub fn interval(
    metric: &Metric,
    questions: &[&GradedQuestion],
    bootstrap: &Bootstrap,
) -> Option<Interval> {
    let mut questions = questions.to_vec();
    // Draws are by position; sorting by id makes them independent of the order of questions.
    questions.sort_by(|a, b| a.id.cmp(&b.id));
    resample(&questions, bootstrap, |questions| metric.value(questions))
}

/// The intervals of several metrics over the same resamples, equal to those of [`interval`] up to
/// the last bit of a sum. Resamples are in the order of uncertainty, which makes sorting linear:
/// for many questions this is several times as fast.
pub fn intervals(
    metrics: &[&Metric],
    questions: &[&GradedQuestion],
    bootstrap: &Bootstrap,
) -> Vec<Option<Interval>> {
    let mut questions = questions.to_vec();
    questions.sort_by(|a, b| a.id.cmp(&b.id));
    let mut order: Vec<usize> = (0..questions.len()).collect();
    order.sort_by(|a, b| score(&questions, *a).total_cmp(&score(&questions, *b)));
    let mut rank = vec![0; questions.len()];
    order.iter().enumerate().for_each(|(at, question)| rank[*question] = at);
    let ranked: Vec<&GradedQuestion> = order.iter().map(|question| questions[*question]).collect();
    let mut values = vec![Vec::new(); metrics.len()];
    let (mut counts, mut drawn) =
        (vec![0_usize; questions.len()], Vec::with_capacity(questions.len()));
    for r in 0..bootstrap.resamples {
        counts.fill(0);
        indices(questions.len(), bootstrap.seed, r).for_each(|i| counts[rank[i]] += 1);
        drawn.clear();
        ranked
            .iter()
            .zip(&counts)
            .for_each(|(question, count)| drawn.extend(std::iter::repeat_n(*question, *count)));
        for (metric, values) in metrics.iter().zip(&mut values) {
            values.extend(metric.value(&drawn));
        }
    }
    metrics
        .iter()
        .zip(values)
        .map(|(metric, values)| percentiles(metric.value(&questions)?, values, bootstrap))
        .collect()
}

fn score(questions: &[&GradedQuestion], at: usize) -> f64 {
    questions.get(at).and_then(|question| question.score()).unwrap_or(f64::INFINITY)
}

/// The interval of `after` - `before`, both resampled together, question by question; `None` as for
/// [`interval`].
///
/// # Errors
/// If the two runs do not have the same questions.
pub fn paired_difference(
    metric: &Metric,
    before: &[&GradedQuestion],
    after: &[&GradedQuestion],
    bootstrap: &Bootstrap,
) -> Result<Option<Interval>, PairingError> {
    let pairs = paired(before, after)?;
    Ok(resample(&pairs, bootstrap, |pairs| {
        let (before, after): (Vec<&GradedQuestion>, Vec<&GradedQuestion>) =
            pairs.iter().copied().unzip();
        Some(metric.value(&after)? - metric.value(&before)?)
    }))
}

fn resample<T: Copy>(
    questions: &[T],
    bootstrap: &Bootstrap,
    metric: impl Fn(&[T]) -> Option<f64>,
) -> Option<Interval> {
    let estimate = metric(questions)?;
    let values = (0..bootstrap.resamples)
        .filter_map(|r| metric(&draw(questions, bootstrap.seed, r)))
        .filter(|f| f.is_finite())
        .collect();
    percentiles(estimate, values, bootstrap)
}

/// The interval from the resamples in which the value is defined.
fn percentiles(estimate: f64, mut values: Vec<f64>, bootstrap: &Bootstrap) -> Option<Interval> {
    let Bootstrap { resamples, level, .. } = *bootstrap;
    values.sort_by(f64::total_cmp);
    let undefined = resamples as usize - values.len();
    if !(level > 0.0 && level < 1.0) || undefined > resamples as usize / 10 {
        return None;
    }
    let (low, high) =
        (quantile(&values, 0.5 * (1.0 - level))?, quantile(&values, 0.5 * (1.0 + level))?);
    Some(Interval { estimate, low, high, level, resamples: values.len(), undefined })
}

/// A bootstrap resample: as many elements, drawn with replacement.
fn draw<T: Copy>(questions: &[T], seed: u64, resample: u32) -> Vec<T> {
    indices(questions.len(), seed, resample).filter_map(|i| questions.get(i).copied()).collect()
}

/// `n` indices below `n`, drawn with replacement.
fn indices(n: usize, seed: u64, resample: u32) -> impl Iterator<Item = usize> {
    let stream = mix(seed ^ mix(u64::from(resample)));
    // The high half of a 128-bit product is a uniform index, its bias below n / 2^64.
    (0..n as u64).map(move |i| {
        ((u128::from(mix(stream.wrapping_add(i.wrapping_mul(GOLDEN)))) * n as u128) >> 64) as usize
    })
}

/// 2^64 over the golden ratio: the step of splitmix64.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of splitmix64 (Steele, Lea and Flood 2014): maps a counter to 64 mixed bits.
pub fn mix(counter: u64) -> u64 {
    let z = counter.wrapping_add(GOLDEN);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The q-quantile of ascending values, interpolated linearly; `None` without values.
fn quantile(ascending: &[f64], q: f64) -> Option<f64> {
    let at = q.clamp(0.0, 1.0) * ascending.len().checked_sub(1)? as f64;
    let low = ascending.get(at as usize)?;
    let high = ascending.get(at.ceil() as usize)?;
    Some(low + (high - low) * at.fract())
}

/// Why two runs cannot be paired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PairingError {
    /// An id occurs twice in one run.
    Duplicate(String),
    /// A question is in one run only.
    Unpaired(String),
}

impl fmt::Display for PairingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate(id) => {
                write!(f, "question `{id}` occurs twice in one run; ids must be unique")
            }
            Self::Unpaired(id) => {
                write!(f, "question `{id}` is in one run only; compare runs on the same questions")
            }
        }
    }
}

impl std::error::Error for PairingError {}

/// Pairs of the same question in both runs, by id.
pub(super) fn paired<'a>(
    before: &[&'a GradedQuestion],
    after: &[&'a GradedQuestion],
) -> Result<Vec<(&'a GradedQuestion, &'a GradedQuestion)>, PairingError> {
    let mut by_id: HashMap<&str, &GradedQuestion> = HashMap::with_capacity(after.len());
    for question in after {
        if by_id.insert(&question.id, question).is_some() {
            return Err(PairingError::Duplicate(question.id.clone()));
        }
    }
    let pair = |question: &&'a GradedQuestion| {
        by_id.remove(question.id.as_str()).map(|other| (*question, other)).ok_or(*question)
    };
    let pairs: Result<Vec<_>, &GradedQuestion> = before.iter().map(pair).collect();
    let mut pairs = pairs.map_err(|question| {
        let twice = before.iter().filter(|other| other.id == question.id).count() > 1;
        if twice {
            PairingError::Duplicate(question.id.clone())
        } else {
            PairingError::Unpaired(question.id.clone())
        }
    })?;
    pairs.sort_by(|a, b| a.0.id.cmp(&b.0.id));
    by_id.keys().min().map_or(Ok(pairs), |id| Err(PairingError::Unpaired((*id).to_owned())))
}
