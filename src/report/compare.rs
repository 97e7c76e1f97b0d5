//! Comparisons of runs with the first one, on the questions that both have.
//!
//! Contract: pure. Questions are paired by name and content. Only shared questions count, and their
//! number is part of the result. [`Difference`] does the comparing.

use std::collections::HashSet;

use super::view::{RunView, parallel};
use crate::eval::Difference;
use crate::metrics::GradedQuestion;
use crate::metrics::bootstrap::Bootstrap;

/// Every later run against the first, with corrected p-values; with no shared questions the
/// comparison is empty.
pub(super) fn with_first(runs: &[RunView]) -> Vec<Difference> {
    let Some((first, others)) = runs.split_first() else { return Vec::new() };
    let compared = parallel(others, |other| compare(first, other));
    let mut differences: Vec<Difference> = compared.into_iter().flatten().collect();
    Difference::correct(&mut differences);
    differences
}

fn compare(baseline: &RunView, run: &RunView) -> Option<Difference> {
    let (before, after) = (shared(baseline, run), shared(run, baseline));
    let bootstrap = Bootstrap::of(after.len());
    let difference = |before: &[&GradedQuestion], after: &[&GradedQuestion]| {
        Difference::resampled((&run.label, after), (&baseline.label, before), &bootstrap)
    };
    // A question that occurs twice in one run cannot be paired.
    difference(&before, &after).or_else(|_| difference(&[], &[])).ok()
}

/// The questions of a run that another run has too.
fn shared<'a>(run: &'a RunView, other: &RunView) -> Vec<&'a GradedQuestion> {
    let theirs: HashSet<(&str, &str)> = other
        .items
        .iter()
        .zip(&other.hashes)
        .map(|(item, hash)| (item.id.as_str(), hash.as_str()))
        .collect();
    let pairs = run.items.iter().zip(&run.hashes);
    pairs
        .filter(|(item, hash)| theirs.contains(&(item.id.as_str(), hash.as_str())))
        .map(|(item, _)| item)
        .collect()
}
