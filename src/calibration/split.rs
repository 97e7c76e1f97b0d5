//! Disjoint parts of a labeled set: one to fit a map, one to choose a threshold, one to report.
//!
//! Contract: deterministic; a question's part depends on (seed, id) and on the number of questions,
//! never on their order. A question that occurs twice is an error. Ids are compared as text;
//! paraphrases under different ids are not detected.

use std::collections::HashSet;

use super::{CalibrationError, Example};
use crate::metrics::bootstrap::mix;

/// Three disjoint parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    fit: Vec<Example>,
    threshold: Vec<Example>,
    report: Vec<Example>,
}

impl Split {
    #[cfg(feature = "internals")]
    /// Takes three parts as they are.
    ///
    /// # Errors
    /// If a question is in two parts, or twice in one.
    pub fn new(
        fit: Vec<Example>,
        threshold: Vec<Example>,
        report: Vec<Example>,
    ) -> Result<Self, CalibrationError> {
        check_unique(fit.iter().chain(&threshold).chain(&report))?;
        Ok(Self { fit, threshold, report })
    }

    /// Splits questions into three parts by the hash of their ids: `fit` and `threshold` are shares
    /// of all, the rest is for the report.
    ///
    /// # Errors
    /// If a question occurs twice, or the shares are not 0 to 1 together.
    pub fn random_split(
        mut examples: Vec<Example>,
        fit: f64,
        threshold: f64,
        seed: u64,
    ) -> Result<Self, CalibrationError> {
        check_unique(&examples)?;
        for (name, share) in
            [("fit", fit), ("threshold", threshold), ("fit + threshold", fit + threshold)]
        {
            if !(0.0..=1.0).contains(&share) {
                return Err(CalibrationError::Parameter { name, value: share, range: "0 to 1" });
            }
        }
        examples.sort_by_cached_key(|example| (hash(&example.id, seed), example.id.clone()));
        let n = examples.len();
        let until = |share: f64| ((share * n as f64).round() as usize).min(n);
        let report = examples.split_off(until(fit + threshold));
        let threshold = examples.split_off(until(fit).min(examples.len()));
        Ok(Self { fit: examples, threshold, report })
    }

    /// The part that maps and the grid of thresholds are fitted on.
    pub fn fit(&self) -> &[Example] {
        &self.fit
    }

    /// The part that the threshold is chosen and certified on.
    pub fn threshold(&self) -> &[Example] {
        &self.threshold
    }

    /// The held-out part.
    pub fn report(&self) -> &[Example] {
        &self.report
    }
}

/// An error if a question occurs twice.
fn check_unique<'a>(
    examples: impl IntoIterator<Item = &'a Example>,
) -> Result<(), CalibrationError> {
    let mut seen = HashSet::new();
    let twice = examples.into_iter().find(|example| !seen.insert(example.id.as_str()));
    twice.map_or(Ok(()), |example| Err(CalibrationError::Overlap { id: example.id.clone() }))
}

/// FNV-1a of the id, mixed with the seed.
fn hash(id: &str, seed: u64) -> u64 {
    let fnv = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(fnv ^ mix(seed))
}
