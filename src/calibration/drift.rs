//! Drift: whether the uncertainties of new questions are those of the calibrated ones.
//!
//! A guarantee is about questions from the source of the labels. Labels of new questions are rarely
//! known, but their scores are: scores from another distribution show another source. The converse
//! does not hold; other questions with the same scores stay unseen.
//!
//! The test is a permutation test of the Kolmogorov-Smirnov distance between the first hundred
//! scored questions and a sample of the threshold part. It is exact whatever the distribution, ties
//! included: where both come from one source, it rejects with a probability of at most 1 %. A
//! policy file is used often, and each use is a new test.

use serde::Serialize;

use crate::metrics::bootstrap::mix;

/// Scores of the threshold part that a policy file keeps, at most.
pub(super) const SKETCH: usize = 500;
/// Scored questions that are tested, at most: the first ones.
const TESTED: usize = 100;
/// The probability of a false alarm, at most.
const LEVEL: f64 = 0.01;
/// Random divisions of the pooled scores. With the observed one they are a thousand.
const PERMUTATIONS: u32 = 999;

/// Scores that come from elsewhere than the calibrated ones.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Drift {
    /// Questions tested.
    pub questions: usize,
    /// The Kolmogorov-Smirnov distance of both samples, 0 to 1.
    pub distance: f64,
    /// The share of divisions with at least this distance, at most 0.01.
    pub p_value: f64,
}

impl std::fmt::Display for Drift {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "the uncertainties of the first {} scored questions are not distributed as those that \
             the policy was calibrated on (Kolmogorov-Smirnov distance {:.2}, p = {:.3}); what it \
             says about risk may not hold here",
            self.questions, self.distance, self.p_value
        )
    }
}

impl Drift {
    /// Tests the first scores of `new` against `calibrated` ones; `None` unless the test rejects.
    pub fn test(calibrated: &[f64], new: impl IntoIterator<Item = f64>) -> Option<Self> {
        let new: Vec<f64> = new.into_iter().take(TESTED).collect();
        if calibrated.is_empty() || new.is_empty() {
            return None;
        }
        let old = calibrated.iter().map(|value| (*value, false));
        let mut pooled: Vec<(f64, bool)> =
            old.chain(new.iter().map(|value| (*value, true))).collect();
        pooled.sort_by(|a, b| a.0.total_cmp(&b.0));
        let values: Vec<f64> = pooled.iter().map(|(value, _)| *value).collect();
        let mut members: Vec<bool> = pooled.iter().map(|(_, is_new)| *is_new).collect();
        let observed = distance(&values, &members, new.len());
        let mut as_far = 1;
        for permutation in 0..PERMUTATIONS {
            shuffle(&mut members, permutation);
            // Equal distances may differ in the last bit of their sums.
            as_far += u32::from(distance(&values, &members, new.len()) >= observed - 1e-12);
        }
        let p_value = f64::from(as_far) / f64::from(PERMUTATIONS + 1);
        (p_value <= LEVEL).then_some(Self { questions: new.len(), distance: observed, p_value })
    }
}

/// The largest distance between the distribution functions of two samples, `new` of whose `members`
/// are one of them. Values ascend; equal ones count together.
fn distance(values: &[f64], members: &[bool], new: usize) -> f64 {
    let (each_new, each_old) = (1.0 / new as f64, 1.0 / (values.len() - new) as f64);
    let (mut difference, mut largest) = (0.0_f64, 0.0_f64);
    for (at, (value, is_new)) in values.iter().zip(members).enumerate() {
        difference += if *is_new { each_new } else { -each_old };
        if values.get(at + 1) != Some(value) {
            largest = largest.max(difference.abs());
        }
    }
    largest
}

/// Fisher and Yates' shuffle by a counter-based generator.
fn shuffle(members: &mut [bool], permutation: u32) {
    let stream = mix(u64::from(permutation));
    for last in (1..members.len()).rev() {
        let draw = mix(stream ^ last as u64);
        members.swap(last, ((u128::from(draw) * (last as u128 + 1)) >> 64) as usize);
    }
}
