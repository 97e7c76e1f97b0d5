//! Inductive Venn-Abers: two isotonic fits, one with the new question as correct and one as
//! incorrect; the interval between them holds a calibrated probability.
//!
//! One of the two numbers is perfectly calibrated under exchangeability alone, whatever the number
//! of labels; the width of the interval measures how little is known. Each evaluation costs two
//! linear fits over the stored groups of labels.

use serde::{Deserialize, Serialize};

use crate::metrics::pool::non_decreasing;
use crate::metrics::ties::{Group, groups};

/// Labels by score, as Venn-Abers needs them (Vovk, Petej and Fedorova, arXiv 1511.00213: inductive
/// Venn-Abers predictors).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VennAbers {
    /// (uncertainty, correct, incorrect): counts by score, ascending.
    pub counts: Vec<(f64, u32, u32)>,
}

/// An interval for one probability.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// The probability of being correct if the question is counted as incorrect, 0 to `high`.
    pub low: f64,
    /// The same if it is counted as correct, `low` to 1.
    pub high: f64,
}

impl Interval {
    /// The number with the smallest worst-case log loss: high / (1 - low + high), 0 to 1 (ibid.).
    pub fn merged(self) -> f64 {
        self.high / (1.0 - self.low + self.high)
    }
}

impl VennAbers {
    /// Keeps the labels of (uncertainty, correct) points.
    pub fn fit(points: &[(f64, bool)]) -> Self {
        let groups = groups(points.iter().copied());
        Self {
            counts: groups
                .iter()
                .map(|group| (group.value, group.correct as u32, group.incorrect as u32))
                .collect(),
        }
    }

    /// The interval at one score; `None` if it is not finite.
    pub fn interval(&self, uncertainty: f64) -> Option<Interval> {
        if !uncertainty.is_finite() {
            return None;
        }
        Some(Interval {
            low: self.fitted(uncertainty, false),
            high: self.fitted(uncertainty, true),
        })
    }

    /// The isotonic fit at `uncertainty` once a question with that score and label is added.
    fn fitted(&self, uncertainty: f64, correct: bool) -> f64 {
        let new = if correct { (uncertainty, 1, 0) } else { (uncertainty, 0, 1) };
        let at = self.counts.partition_point(|(u, ..)| *u < uncertainty);
        let (below, above) = self.counts.split_at(at);
        // On -u, least confident first, so that the fit is increasing.
        let mut groups: Vec<Group> = Vec::with_capacity(self.counts.len() + 1);
        for (u, correct, incorrect) in above.iter().rev().chain([&new]).chain(below.iter().rev()) {
            let (correct, incorrect) = (f64::from(*correct), f64::from(*incorrect));
            match groups.last_mut() {
                Some(last) if last.value == -u => {
                    last.correct += correct;
                    last.incorrect += incorrect;
                }
                _ => groups.push(Group { value: -u, correct, incorrect }),
            }
        }
        let blocks = non_decreasing(&groups);
        blocks
            .iter()
            .find(|block| -uncertainty <= block.high)
            .map_or(0.0, crate::metrics::pool::FittedBlock::share)
    }

    /// Whether the scores are finite and ascend, and every score has a label.
    pub(super) fn is_valid(&self) -> bool {
        let is_counted = |(u, correct, incorrect): &(f64, u32, u32)| {
            u.is_finite() && u64::from(*correct) + u64::from(*incorrect) > 0
        };
        !self.counts.is_empty()
            && self.counts.iter().all(is_counted)
            && self.counts.windows(2).all(|pair| pair[0].0 < pair[1].0)
    }
}
