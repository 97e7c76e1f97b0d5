//! Disjoint parts of a labeled set: one to fit a map, one to choose a threshold, one to report.
//!
//! Contract: deterministic; a question's part depends on (seed, id) and on the number of questions,
//! never on their order. An id that occurs twice is an error. Questions
//! with the same text are one question and count once: the one whose id comes first is kept, the
//! others are left out and named. With copies one draw would count several times, and no guarantee
//! would hold. Paraphrases are not detected.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::{CalibrationError, Example};
use crate::metrics::bootstrap::mix;

/// Three disjoint parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    settings: SplitSettings,
    fit: Vec<Example>,
    threshold: Vec<Example>,
    report: Vec<Example>,
    copies: Vec<Example>,
}

/// How questions were divided.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitSettings {
    /// Names the division among all with the same shares.
    pub seed: u64,
    /// Share of the questions that map and grid come from, 0 to 1.
    pub fit: f64,
    /// Share that the threshold is chosen on, 0 to 1.
    pub threshold: f64,
    /// Share of the held-out part, 0 to 1: the rest.
    pub report: f64,
}

impl Split {
    /// Splits questions into three parts by the hash of their ids: `fit` and `threshold` are shares
    /// of all, the rest is for the report.
    ///
    /// # Errors
    /// If an id occurs twice, or the shares are not 0 to 1 together.
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
        let copies = take_copies(&mut examples);
        examples.sort_by_cached_key(|example| (hash(&example.id, seed), example.id.clone()));
        let n = examples.len();
        let until = |share: f64| ((share * n as f64).round() as usize).min(n);
        let rest = examples.split_off(until(fit + threshold));
        let chosen = examples.split_off(until(fit).min(examples.len()));
        // Without the rounding error of the difference: 0.2, not 0.19999999999999996.
        let report = ((1.0 - fit - threshold) * 1e9).round().max(0.0) / 1e9;
        let settings = SplitSettings { seed, fit, threshold, report };
        Ok(Self { settings, fit: examples, threshold: chosen, report: rest, copies })
    }

    /// How the questions were divided.
    pub fn settings(&self) -> SplitSettings {
        self.settings
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

    /// Questions that have the text of another one, by id; they are in no part.
    pub fn copies(&self) -> &[Example] {
        &self.copies
    }
}

/// Sorts by id, and takes out what has the text of an earlier one.
fn take_copies(examples: &mut Vec<Example>) -> Vec<Example> {
    examples.sort_by(|a, b| a.id.cmp(&b.id));
    let mut seen = HashSet::new();
    let mut is_copy = |example: &mut Example| {
        example.text.as_ref().is_some_and(|text| !seen.insert(text.clone()))
    };
    examples.extract_if(.., |example| is_copy(example)).collect()
}

/// An error if an id occurs twice.
fn check_unique(examples: &[Example]) -> Result<(), CalibrationError> {
    let mut seen = HashSet::new();
    let twice = examples.iter().find(|example| !seen.insert(example.id.as_str()));
    twice.map_or(Ok(()), |example| Err(CalibrationError::Overlap { id: example.id.clone() }))
}

/// FNV-1a of the id, mixed with the seed.
fn hash(id: &str, seed: u64) -> u64 {
    let fnv = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(fnv ^ mix(seed))
}
