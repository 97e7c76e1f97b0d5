//! Metrics of choices that were scored by their likelihood.
//!
//! Contract: pure and total. Two selections differ: the most likely choice, and the choice that
//! is most likely per byte of its text (`acc` and `acc_norm` of lm-evaluation-harness, whose
//! `acc_norm` divides by characters). The first of equals counts. If several may be right,
//! their joint probability is a metric of its own.

use serde::{Deserialize, Serialize};

use super::Doc;
use crate::consensus::logprob;
use crate::generation::{Completion, FinishReason};

/// One scored choice, as stored in a record.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoredChoice {
    /// Sum of the log-probabilities of its tokens, in nats; `None` if one of them is NaN.
    pub logprob: Option<f64>,
    /// Length of its text in bytes, without the separator between prompt and choice.
    pub bytes: usize,
    /// Each of its tokens is the most probable one: greedy decoding would produce it.
    pub greedy: bool,
}

impl ScoredChoice {
    /// The score of a choice.
    pub fn new(option: &Completion) -> Self {
        let is_top =
            |top: &[(u32, f64)], id: u32| top.first().is_some_and(|(first, _)| *first == id);
        Self {
            logprob: logprob(option.tokens.iter().map(|token| token.stats.logprob)),
            bytes: option.text.len(),
            greedy: option.tokens.iter().all(|token| is_top(&token.top_logprobs, token.id)),
        }
    }
}

/// The scores of all choices; none where samples were drawn.
pub fn scored_choices(completions: impl Iterator<Item = Completion>) -> Vec<ScoredChoice> {
    completions
        .filter(|completion| completion.finish_reason == FinishReason::Scored)
        .map(|choice| ScoredChoice::new(&choice))
        .collect()
}

/// Whether the choice that is most likely per byte is right; `None` if no choice has a likelihood.
pub fn is_correct_per_byte(options: &[ScoredChoice], doc: &Doc) -> Option<bool> {
    let per_byte =
        |option: &ScoredChoice| option.logprob.map(|logprob| logprob / option.bytes.max(1) as f64);
    let scored =
        options.iter().enumerate().filter_map(|(index, option)| Some((index, per_byte(option)?)));
    // Reversed, the last of equals is the first.
    let (best, _) = scored.rev().max_by(|(_, a), (_, b)| a.total_cmp(b))?;
    Some(doc.right_choices().contains(&best))
}

/// If several choices may be right: the share of the probability of all choices that the right ones
/// have together, 0 to 1 (MC2 of Lin et al., arXiv 2109.07958). `None` if only one is right,
/// nothing was scored, or a choice has no likelihood.
pub fn correct_mass(options: &[ScoredChoice], doc: &Doc) -> Option<f64> {
    let logprobs: Vec<f64> = options.iter().map(|option| option.logprob).collect::<Option<_>>()?;
    // Relative to the largest: the likelihoods of long choices may all underflow.
    let most = logprobs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (mut right, mut all) = (0.0, 0.0);
    for (index, logprob) in logprobs.iter().enumerate() {
        let weight = (logprob - most).exp();
        all += weight;
        right += if doc.right.contains(&index) { weight } else { 0.0 };
    }
    (!doc.right.is_empty() && !logprobs.is_empty()).then(|| right / all)
}
