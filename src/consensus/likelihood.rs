//! The vote over choices that were scored by likelihood instead of sampled.
//!
//! Contract: pure and total. A completion is a choice, its index is the choice's letter, and its
//! tokens are the scored ones. A choice's weight is n times the softmax of the log-likelihoods of
//! all n choices, so its share is the softmax. Whether that is a probability of being correct is a
//! question of calibration.

use super::abstention::ABSTENTION;
use super::vote::{Cluster, Vote};
use crate::generation::Generation;

/// The choice that says that nothing can be chosen.
pub const UNSURE: &str = "unsure";

/// The vote by likelihood. A choice without a finite likelihood does not vote and counts as failed.
/// Of equally likely choices the one with the earlier letter comes first.
pub fn likelihood_vote(generation: &Generation) -> Vote {
    let choices = &generation.completions;
    let logprobs: Vec<Option<f64>> = choices
        .iter()
        .map(|choice| logprob(choice.tokens.iter().map(|token| token.stats.logprob)))
        .collect();
    let max = logprobs.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<Option<f64>> =
        logprobs.iter().map(|logprob| logprob.map(|logprob| (logprob - max).exp())).collect();
    // Summed in ascending order, so that the bits do not depend on the order of choices.
    let mut sorted: Vec<f64> = weights.iter().flatten().copied().collect();
    sorted.sort_by(f64::total_cmp);
    let total: f64 = sorted.iter().sum();
    let cluster = |(index, weight): (usize, &Option<f64>)| {
        let answer = choices.get(index)?.text.clone();
        let weight = (*weight)? / total * choices.len() as f64;
        let canonical = if answer == UNSURE { ABSTENTION.to_owned() } else { choice_label(index) };
        Some(Cluster { answer, canonical, weight, samples: vec![index] })
    };
    let mut clusters: Vec<Cluster> = weights.iter().enumerate().filter_map(cluster).collect();
    clusters.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    let tied = matches!(clusters.as_slice(), [first, second, ..] if first.weight.total_cmp(&second.weight).is_eq());
    let answers = choices
        .iter()
        .zip(&weights)
        .map(|(choice, weight)| weight.map(|_| choice.text.clone()))
        .collect();
    let failed = choices.len() - clusters.len();
    Vote { clusters, answers, failed, tied, ..Vote::default() }
}

/// The log-likelihood of a choice from those of its tokens; `None` without tokens, or if one is not
/// finite.
pub fn logprob(tokens: impl ExactSizeIterator<Item = f64>) -> Option<f64> {
    let (count, sum) = (tokens.len(), tokens.sum::<f64>());
    (count > 0 && sum.is_finite()).then_some(sum)
}

/// A choice's label in canonical form: its letter, beyond z its number from 1.
pub fn choice_label(index: usize) -> String {
    ('a'..='z').nth(index).map_or_else(|| (index + 1).to_string(), String::from)
}
