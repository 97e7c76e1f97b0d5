//! Whether the model that compared answers can tell same from different: measured on a run's own
//! labels.
//!
//! Two answers that both match a gold answer are the same, and one that does is different from one
//! that does not; other pairs have no label. A judge whose AUROC on the labeled pairs is not above
//! 1/2, by a one-sided interval at 95 % (Hanley and `McNeil`, Radiology 143:29, 1982), is switched
//! off: the run is scored as if the rules alone had grouped its answers.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Grader, RunRef};
use crate::consensus::{Answer, Equivalence};
use crate::error::Result;

/// A judge's quality on labeled pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct JudgeQuality {
    /// Pairs that the labels call the same.
    pub same: usize,
    /// Pairs that the labels call different.
    pub different: usize,
    /// Probability that a same pair scores higher than a different one, 0 to 1; ties half.
    pub auroc: f64,
}

impl JudgeQuality {
    /// The quality of a run's judge; `None` without a judge, or without labeled pairs of both
    /// kinds.
    ///
    /// # Errors
    /// A line that is not a record.
    pub fn of(run: &RunRef) -> Result<Option<Self>> {
        if run.manifest.config.reader.equivalence == Equivalence::Rules {
            return Ok(None);
        }
        let (mut same, mut different) = (Vec::new(), Vec::new());
        for record in run.records()? {
            let record = record?;
            let Some(outcome) = record.outcome.filter(|outcome| !outcome.comparisons.is_empty())
            else {
                continue;
            };
            let grader = Grader::new(run.manifest.task.scorer, &record.doc);
            let answers = outcome.vote.answers.iter().flatten();
            let right: BTreeMap<String, bool> = answers
                .filter_map(|text| Some((Answer::of(text)?.canonical, grader.is_right(text))))
                .collect();
            for pair in &outcome.comparisons {
                match (right.get(&pair.a), right.get(&pair.b)) {
                    (Some(true), Some(true)) => same.push(pair.same),
                    (Some(a), Some(b)) if a != b => different.push(pair.same),
                    _ => {}
                }
            }
        }
        Ok(Self::new(same, &different))
    }

    /// From the scores of pairs that are the same and of those that are different.
    pub fn new(mut same: Vec<f64>, different: &[f64]) -> Option<Self> {
        same.sort_by(f64::total_cmp);
        let wins = |score: &f64| {
            let not_above = same.partition_point(|other| other <= score);
            let below = same.partition_point(|other| other < score);
            (same.len() - not_above) as f64 + 0.5 * (not_above - below) as f64
        };
        let pairs = same.len() * different.len();
        let auroc = different.iter().map(wins).sum::<f64>() / pairs as f64;
        (pairs > 0).then_some(Self { same: same.len(), different: different.len(), auroc })
    }

    /// Whether the judge is better than chance.
    pub fn is_useful(&self) -> bool {
        let Self { same, different, auroc } = *self;
        let (same, different) = (same as f64, different as f64);
        let (q1, q2) = (auroc / (2.0 - auroc), 2.0 * auroc * auroc / (1.0 + auroc));
        let variance = (auroc * (1.0 - auroc)
            + (same - 1.0) * (q1 - auroc * auroc)
            + (different - 1.0) * (q2 - auroc * auroc))
            / (same * different);
        auroc - 1.645 * variance.max(0.0).sqrt() > 0.5
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_judge_must_beat_chance() {
        let check = |same: &[f64], different: &[f64], auroc: f64, useful: bool| {
            let quality = JudgeQuality::new(same.to_vec(), different).unwrap();
            assert!((quality.auroc - auroc).abs() < 1e-12, "{quality:?}");
            assert_eq!(quality.is_useful(), useful, "{quality:?}");
        };
        check(&[0.9; 20], &[0.1; 20], 1.0, true);
        check(&[0.5; 20], &[0.5; 20], 0.5, false);
        check(&[0.1; 20], &[0.9; 20], 0.0, false);
        check(&[0.2, 0.6, 0.7], &[0.5, 0.3], 4.0 / 6.0, false);
        assert_eq!(JudgeQuality::new(vec![0.5], &[]), None);
    }
}
