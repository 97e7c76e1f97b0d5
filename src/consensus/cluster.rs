//! Clusters of equal answers and the vote over them.
//!
//! Contract: pure and total. The result depends on the set of samples, not on their order:
//! permuting samples permutes only the indices. It knows answers only through the equality of their
//! canonical forms.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::abstention::ABSTENTION;
use super::answer::Answer;
use super::extract::Extractor;
use super::likelihood::likelihood_vote;
use crate::generation::{Completion, FinishReason, Generation, LOGPROB_FLOOR};

/// The samples that gave one answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// The most common spelling among its samples; of equally common ones the smallest string.
    pub answer: String,
    /// The canonical form that its samples share, compared with that of a gold answer.
    #[serde(default)]
    pub canonical: String,
    /// Sum of its samples' voting weights; each weighs 1.
    pub weight: f64,
    /// Positions of its samples in the generation, ascending.
    pub samples: Vec<usize>,
}

impl Cluster {
    /// Whether its samples say that the model does not know.
    pub fn is_abstention(&self) -> bool {
        self.canonical == ABSTENTION
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// The vote of one generation's samples.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Vote {
    /// Heaviest first. Equal weights: the higher mean, over a cluster's samples, of the mean token
    /// log-probability comes first; if that is equal too, the smaller canonical form.
    pub clusters: Vec<Cluster>,
    /// Each sample's own answer as written; `None` if it did not vote.
    pub answers: Vec<Option<String>>,
    /// Samples that ended but hold no answer.
    pub unparsed: usize,
    /// Samples cut by the length limit.
    pub truncated: usize,
    /// Samples with a numerical error.
    pub failed: usize,
    /// Samples that a strategy stopped: they neither vote nor count as drawn.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stopped: usize,
    /// The two heaviest clusters weigh the same.
    pub tied: bool,
}

impl Vote {
    /// The heaviest cluster.
    pub fn leader(&self) -> Option<&Cluster> {
        self.clusters.first()
    }

    /// Whether the leading answer is that the model does not know.
    pub fn is_abstention(&self) -> bool {
        self.leader().is_some_and(Cluster::is_abstention)
    }

    /// How many samples count, voting or not: the denominator of every share.
    pub fn samples(&self) -> usize {
        self.answers.len() - self.stopped.min(self.answers.len())
    }

    /// The leader's weight per sample drawn, 0 to 1; 0 without votes. Higher = more confident.
    pub fn share(&self) -> f64 {
        self.per_sample(self.leader().map_or(0.0, |leader| leader.weight))
    }

    /// The leader's lead over the runner-up per sample drawn, 0 to 1. Higher = more confident. FSD
    /// in Lyu et al., arXiv 2402.13904.
    pub fn margin(&self) -> f64 {
        let weight = |place: usize| self.clusters.get(place).map_or(0.0, |cluster| cluster.weight);
        self.per_sample(weight(0) - weight(1))
    }

    fn per_sample(&self, weight: f64) -> f64 {
        if self.samples() == 0 { 0.0 } else { weight / self.samples() as f64 }
    }
}

/// The vote: over scored choices their likelihoods, over samples [the count](count).
pub fn vote(generation: &Generation, extractor: Extractor) -> Vote {
    let completions = &generation.completions;
    if completions.iter().any(|c| c.finish_reason == FinishReason::Scored) {
        return likelihood_vote(generation);
    }
    count(completions, extractor)
}

/// Reads every sample's answer and counts equal ones (self-consistency, Wang et al., arXiv
/// 2203.11171). Truncated, stopped and failed samples never vote, nor do samples without an answer.
fn count(completions: &[Completion], extractor: Extractor) -> Vote {
    let ended =
        |reason: FinishReason| completions.iter().filter(|c| c.finish_reason == reason).count();
    let answers: Vec<Option<Answer>> =
        completions.iter().map(|completion| read(completion, extractor)).collect();
    let truncated = ended(FinishReason::Length);
    let failed = ended(FinishReason::NumericalError);
    let stopped = ended(FinishReason::Cancelled);
    let voted = answers.iter().flatten().count();
    let clusters = clusters(&answers, completions);
    let tied = matches!(clusters.as_slice(), [first, second, ..] if first.weight.total_cmp(&second.weight).is_eq());
    let answers = answers.into_iter().map(|answer| answer.map(|answer| answer.display)).collect();
    Vote {
        clusters,
        answers,
        unparsed: completions.len() - truncated - failed - stopped - voted,
        truncated,
        failed,
        stopped,
        tied,
    }
}

fn read(completion: &Completion, extractor: Extractor) -> Option<Answer> {
    let ended = completion.finish_reason == FinishReason::Stop;
    ended.then(|| extractor.read(&completion.text).answer()).flatten()
}

fn clusters(answers: &[Option<Answer>], completions: &[Completion]) -> Vec<Cluster> {
    let mut members: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (sample, answer) in answers.iter().enumerate() {
        if let Some(answer) = answer {
            members.entry(&answer.canonical).or_default().push(sample);
        }
    }
    let mut ranked: Vec<(f64, Cluster)> = members
        .into_iter()
        .map(|(canonical, samples)| {
            let likelihood = mean(
                samples
                    .iter()
                    .filter_map(|sample| completions.get(*sample))
                    .map(mean_logprob)
                    .collect(),
            );
            let answer = most_common_display(&samples, answers);
            (
                likelihood,
                Cluster {
                    answer,
                    canonical: canonical.to_owned(),
                    weight: samples.len() as f64,
                    samples,
                },
            )
        })
        .collect();
    // A stable sort over canonical order, so the last tie rule needs no comparison.
    ranked.sort_by(|(a_mean, a), (b_mean, b)| {
        b.weight.total_cmp(&a.weight).then(b_mean.total_cmp(a_mean))
    });
    ranked.into_iter().map(|(_, cluster)| cluster).collect()
}

fn most_common_display(samples: &[usize], answers: &[Option<Answer>]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for answer in samples.iter().filter_map(|sample| answers.get(*sample)).flatten() {
        *counts.entry(&answer.display).or_default() += 1;
    }
    // `max_by` takes the last of equals; reversed, that is the smallest string.
    counts
        .into_iter()
        .rev()
        .max_by_key(|(_, count)| *count)
        .map(|(display, _)| display.to_owned())
        .unwrap_or_default()
}

/// A sample's mean token log-probability; the floor without tokens or with a non-finite one.
fn mean_logprob(completion: &Completion) -> f64 {
    let logprobs: Vec<f64> = completion.tokens.iter().map(|token| token.stats.logprob).collect();
    let value = if logprobs.is_empty() {
        LOGPROB_FLOOR
    } else {
        logprobs.iter().sum::<f64>() / logprobs.len() as f64
    };
    if value.is_finite() { value } else { LOGPROB_FLOOR }
}

/// The mean, summed in ascending order so that the bits do not depend on the order of samples.
fn mean(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
