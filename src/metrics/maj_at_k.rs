//! Majority vote of the first k samples, for several k from one run: sample i does not depend on
//! the number of samples, so the first k are a run of k.
//!
//! A sample without an answer never votes; without votes the question is not correct. If several
//! answers tie, the expected value of picking one at random counts.

use super::{Formula, GradedQuestion, GradedSample, Metric, Population, count};

const fn row(name: &'static str, k: usize, formula: Formula) -> Metric {
    Metric {
        name,
        unit: "share",
        higher_is_better: Some(true),
        population: Population::Samples(k),
        source: "Wang et al., arXiv 2203.11171",
        summary: "questions whose first k samples vote for a correct answer, 0 to 1; ties averaged",
        formula,
    }
}

/// The first sample.
pub(super) static MAJ_AT_1: Metric = row(
    "maj_at_1",
    1,
    // One sample is never tied.
    Formula::Proportion(|questions| {
        let first = |question: &GradedQuestion| {
            question.samples.first().is_some_and(GradedSample::is_correct)
        };
        (count(questions, first), count(questions, |question| !question.samples.is_empty()))
    }),
);
/// Of 4 samples.
pub(super) static MAJ_AT_4: Metric =
    row("maj_at_4", 4, Formula::Number(|questions| maj_at_k(questions, 4)));
/// Of 8 samples.
pub(super) static MAJ_AT_8: Metric =
    row("maj_at_8", 8, Formula::Number(|questions| maj_at_k(questions, 8)));
/// Of 16 samples.
pub(super) static MAJ_AT_16: Metric =
    row("maj_at_16", 16, Formula::Number(|questions| maj_at_k(questions, 16)));
/// Of 32 samples.
pub(super) static MAJ_AT_32: Metric =
    row("maj_at_32", 32, Formula::Number(|questions| maj_at_k(questions, 32)));

/// Share of questions whose majority of the first `k` samples is correct, 0 to 1, higher is
/// better; over questions with at least `k` samples. `None` without such questions, or for `k` = 0.
pub fn maj_at_k(questions: &[&GradedQuestion], k: usize) -> Option<f64> {
    mean_over_samples(questions, k, |samples| majority(samples.get(..k).unwrap_or(samples)))
}

/// The mean of a statistic over the questions with at least `k` samples.
pub(super) fn mean_over_samples(
    questions: &[&GradedQuestion],
    k: usize,
    statistic: impl Fn(&[GradedSample]) -> f64,
) -> Option<f64> {
    let values: Vec<f64> = questions
        .iter()
        .filter(|question| question.samples.len() >= k)
        .map(|question| statistic(&question.samples))
        .collect();
    (k > 0 && !values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Probability that a leading answer, picked at random among equals, is correct.
fn majority(samples: &[GradedSample]) -> f64 {
    let mut votes: Vec<(u32, bool)> =
        samples.iter().filter_map(|sample| Some((sample.answer?, sample.correct))).collect();
    votes.sort_unstable();
    // Answers with their votes. Samples of one answer share one grade; if not, one correct sample
    // makes it correct.
    let answers: Vec<(usize, bool)> = votes
        .chunk_by(|a, b| a.0 == b.0)
        .map(|same| (same.len(), same.iter().any(|vote| vote.1)))
        .collect();
    let most = answers.iter().map(|(votes, _)| *votes).max().unwrap_or(0);
    let leaders = answers.iter().filter(|(votes, _)| *votes == most);
    let correct = leaders.clone().filter(|(_, correct)| *correct).count();
    correct as f64 / leaders.count().max(1) as f64
}
