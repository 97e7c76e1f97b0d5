//! Majority vote of the first k samples, for several k from one run: sample i does not depend on
//! how many are drawn, so the first k are a run of k.
//!
//! A sample without an answer never votes; without votes the question is not right. Where several
//! answers share the first place, the expected value of picking one of them at random counts.

use super::{Basis, Better, Formula, Item, Metric, Sample, count};

const fn row(name: &'static str, k: usize, formula: Formula) -> Metric {
    Metric {
        name,
        unit: "share",
        better: Better::Higher,
        basis: Basis::Samples(k),
        source: "Wang et al., arXiv 2203.11171",
        summary: "questions whose first k samples vote for a right answer, 0 to 1; ties averaged",
        formula,
    }
}

/// The first sample.
pub(super) static MAJ_AT_1: Metric = row(
    "maj_at_1",
    1,
    // One sample is never tied.
    Formula::Proportion(|items| {
        let first = |item: &Item| item.samples.first().is_some_and(Sample::is_right);
        (count(items, first), count(items, |item| !item.samples.is_empty()))
    }),
);
/// Of 4 samples.
pub(super) static MAJ_AT_4: Metric =
    row("maj_at_4", 4, Formula::Number(|items| maj_at_k(items, 4)));
/// Of 8 samples.
pub(super) static MAJ_AT_8: Metric =
    row("maj_at_8", 8, Formula::Number(|items| maj_at_k(items, 8)));
/// Of 16 samples.
pub(super) static MAJ_AT_16: Metric =
    row("maj_at_16", 16, Formula::Number(|items| maj_at_k(items, 16)));
/// Of 32 samples.
pub(super) static MAJ_AT_32: Metric =
    row("maj_at_32", 32, Formula::Number(|items| maj_at_k(items, 32)));

/// Share of questions that the majority of the first `k` samples gets right, 0 to 1, higher is
/// better; over questions with at least `k` samples. `None` without such questions, or for `k` = 0.
pub fn maj_at_k(items: &[&Item], k: usize) -> Option<f64> {
    mean_over_samples(items, k, |samples| majority(samples.get(..k).unwrap_or(samples)))
}

/// The mean of a figure over the questions with at least `k` samples.
pub(super) fn mean_over_samples(
    items: &[&Item],
    k: usize,
    figure: impl Fn(&[Sample]) -> f64,
) -> Option<f64> {
    let figures: Vec<f64> = items
        .iter()
        .filter(|item| item.samples.len() >= k)
        .map(|item| figure(&item.samples))
        .collect();
    (k > 0 && !figures.is_empty()).then(|| figures.iter().sum::<f64>() / figures.len() as f64)
}

/// Probability that a leading answer, picked at random among equals, is right.
fn majority(samples: &[Sample]) -> f64 {
    let mut votes: Vec<(u32, bool)> =
        samples.iter().filter_map(|sample| Some((sample.answer?, sample.right))).collect();
    votes.sort_unstable();
    // Answers with their votes; samples of one answer share one grade, and should they not, one
    // right one makes it right.
    let answers: Vec<(usize, bool)> = votes
        .chunk_by(|a, b| a.0 == b.0)
        .map(|same| (same.len(), same.iter().any(|vote| vote.1)))
        .collect();
    let most = answers.iter().map(|(votes, _)| *votes).max().unwrap_or(0);
    let leaders = answers.iter().filter(|(votes, _)| *votes == most);
    let right = leaders.clone().filter(|(_, right)| *right).count();
    right as f64 / leaders.count().max(1) as f64
}
