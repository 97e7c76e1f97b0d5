//! The vote over options that were scored instead of drawn: each weighs its share of their
//! likelihood.
//!
//! Contract: pure and total. A completion is an option, and its index the option's letter; its
//! tokens are those scored. The weights of n options sum to n, so that a share is the softmax of
//! the options' log-likelihoods: what the model, asked to choose among them, would give each.
//! Whether that is a probability of being right is for a calibration to say.

use super::cluster::{Cluster, Vote};
use crate::generation::Generation;

/// The likelihoods' vote. An option without a number as its likelihood does not vote and counts as
/// failed. Of equally likely options the one with the earlier letter comes first.
pub fn likelihood_vote(generation: &Generation) -> Vote {
    let options = &generation.completions;
    let logprobs: Vec<Option<f64>> = options
        .iter()
        .map(|option| logprob(option.tokens.iter().map(|token| token.stats.logprob)))
        .collect();
    let most = logprobs.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<Option<f64>> =
        logprobs.iter().map(|logprob| logprob.map(|logprob| (logprob - most).exp())).collect();
    let total: f64 = weights.iter().flatten().sum();
    let cluster = |(index, weight): (usize, &Option<f64>)| {
        let answer = options.get(index)?.text.clone();
        let weight = (*weight)? / total * options.len() as f64;
        Some(Cluster { answer, canonical: option_name(index), weight, samples: vec![index] })
    };
    let mut clusters: Vec<Cluster> = weights.iter().enumerate().filter_map(cluster).collect();
    clusters.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    let tied = matches!(clusters.as_slice(), [first, second, ..] if first.weight.total_cmp(&second.weight).is_eq());
    let answers = options
        .iter()
        .zip(&weights)
        .map(|(option, weight)| weight.map(|_| option.text.clone()))
        .collect();
    let failed = options.len() - clusters.len();
    Vote { clusters, answers, unparsed: 0, truncated: 0, failed, tied }
}

/// The log-likelihood of an option from those of its tokens; `None` without tokens, or where one is
/// no number.
pub fn logprob(tokens: impl ExactSizeIterator<Item = f64>) -> Option<f64> {
    let (count, sum) = (tokens.len(), tokens.sum::<f64>());
    (count > 0 && sum.is_finite()).then_some(sum)
}

/// What an option is called, in canonical form: its letter, and beyond z its number from 1.
pub fn option_name(index: usize) -> String {
    ('a'..='z').nth(index).map_or_else(|| (index + 1).to_string(), String::from)
}
