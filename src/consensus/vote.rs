//! The vote of samples over groups of answers that mean the same.
//!
//! Contract: pure and total. The result depends on the set of samples, not on their order:
//! permuting samples permutes only the indices. Everything that a model had to be asked for, a
//! short answer, a comparison, a score, is in the generation, so the vote can be taken again from
//! the record without the model.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::abstention::ABSTENTION;
use super::answer::{Answer, AnswerKind, Reading};
use super::extract::Extractor;
use super::group::{AskedQuestion, Comparer, Pair, group, open_pairs};
use super::likelihood::likelihood_vote;
use super::reader::{AnswerMode, Equivalence, Reader, VoteMode};
use crate::generation::{AskedAnswer, Completion, FinishReason, Generation, LOGPROB_FLOOR};

/// The samples whose answers mean the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// The most common spelling among its samples; of equally common ones the smallest string.
    pub answer: String,
    /// The canonical form of that spelling.
    #[serde(default)]
    pub canonical: String,
    /// Sum of its samples' voting weights, see [`VoteMode`] and [`Completion::weight`]; all weights
    /// together are at most the number of samples.
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
    /// Samples cut by the length limit that gave no answer.
    pub truncated: usize,
    /// Samples that ended in a loop and gave no answer.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub loops: usize,
    /// Samples with a numerical error.
    pub failed: usize,
    /// Samples that a strategy stopped: they neither vote nor count as drawn.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stopped: usize,
    /// The two heaviest clusters weigh the same.
    pub tied: bool,
    /// Pairs of distinct answers that are the same by more than their form, and every judged pair.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pairs: Vec<Pair>,
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
pub fn vote(question: &AskedQuestion, generation: &Generation, reader: &Reader) -> Vote {
    let completions = &generation.completions;
    if completions.iter().any(|c| c.finish_reason == FinishReason::Scored) {
        return likelihood_vote(generation);
    }
    count(question, generation, reader)
}

/// Reads every sample's answer, groups those that mean the same, and weighs the groups
/// (self-consistency, Wang et al., arXiv 2203.11171).
///
/// Stopped and failed samples never vote, nor do samples without an answer; a sample that was cut
/// votes only if it gave its answer when asked.
fn count(question: &AskedQuestion, generation: &Generation, reader: &Reader) -> Vote {
    let completions = &generation.completions;
    let answers = read_all(question, generation, reader);
    let without_answer = |reason: FinishReason| {
        let ended = completions.iter().zip(&answers);
        ended.filter(|(c, answer)| c.finish_reason == reason && answer.is_none()).count()
    };
    let distinct = distinct(&answers);
    let forms: Vec<&Answer> = distinct.values().copied().collect();
    let judged = match reader.equivalence {
        Equivalence::Rules => &[][..],
        Equivalence::SelfJudged | Equivalence::Encoder { .. } => &generation.comparisons,
    };
    let (groups, pairs) = group(question, &forms, judged, reader);
    let mut weights = weights(generation, &answers, &forms, &groups, reader.vote);
    for (row, completion) in weights.iter_mut().zip(completions) {
        let factor = completion.weight.filter(|weight| weight.is_finite()).unwrap_or(1.0).max(0.0);
        for weight in row {
            *weight *= factor;
        }
    }
    let clusters = clusters(&answers, &forms, &groups, &weights, completions);
    let tied = matches!(clusters.as_slice(), [first, second, ..] if first.weight.total_cmp(&second.weight).is_eq());
    let answers = answers.iter().map(|answer| Some(answer.as_ref()?.display.clone())).collect();
    Vote {
        clusters,
        answers,
        unparsed: without_answer(FinishReason::Stop),
        truncated: without_answer(FinishReason::Length),
        loops: without_answer(FinishReason::Loop),
        failed: without_answer(FinishReason::NumericalError),
        stopped: without_answer(FinishReason::Cancelled),
        tied,
        pairs,
    }
}

/// What a sample's own text says; `None` if the sample failed or was stopped. A sentence that says
/// the question again states no short answer.
fn read_text(completion: &Completion, reader: &Reader, comparer: &Comparer) -> Option<Reading> {
    let reading = match completion.finish_reason {
        FinishReason::Stop => reader.extractor.read(completion.answer_text()),
        FinishReason::Length | FinishReason::Loop => read_cut(completion.answer_text(), reader),
        _ => return None,
    };
    Some(match reading {
        Reading::Stated(answer) if comparer.is_restatement(&answer) => Reading::Unstated(answer),
        reading => reading,
    })
}

/// What a text that was cut states in its finished sentences. A last number or line is no
/// statement: the text might have gone on to another.
fn read_cut(text: &str, reader: &Reader) -> Reading {
    let states =
        matches!(reader.extractor, Extractor::Auto | Extractor::ShortAnswer | Extractor::Boxed);
    let ends = [". ", "! ", "? ", "\n", "。"]
        .iter()
        .filter_map(|mark| text.rfind(mark).map(|at| at + mark.trim_end().len()));
    match ends.max().and_then(|end| text.get(..end)) {
        Some(finished) if states && reader.answers == AnswerMode::Auto => {
            match reader.extractor.read(finished) {
                Reading::Stated(answer) => Reading::Stated(answer),
                _ => Reading::Empty,
            }
        }
        _ => Reading::Empty,
    }
}

/// The answers of all samples; `None` for those that do not vote.
fn read_all(
    question: &AskedQuestion,
    generation: &Generation,
    reader: &Reader,
) -> Vec<Option<Answer>> {
    let comparer = Comparer::new(question);
    let completions = generation.completions.iter();
    completions.map(|completion| read(completion, reader, &comparer)).collect()
}

fn read(completion: &Completion, reader: &Reader, comparer: &Comparer) -> Option<Answer> {
    let reading = read_text(completion, reader, comparer)?;
    if let (Reading::Stated(answer), AnswerMode::Auto) = (&reading, reader.answers) {
        return Some(answer.clone());
    }
    let asked = completion.asked.as_ref().filter(|_| reader.answers != AnswerMode::Stated);
    let reply = asked.and_then(finished_reply);
    let reply = reply.map_or(Reading::Empty, |reply| reader.extractor.read_reply(reply));
    reply.answer().or_else(|| reading.answer())
}

/// The part of a reply that is complete: nothing of one that ends within a sentence, as the first
/// line of a poem does, or that was cut by the limit of tokens before its first sentence ended.
fn finished_reply(asked: &AskedAnswer) -> Option<&str> {
    let text = asked.text.trim();
    if asked.complete {
        return (!text.ends_with([',', ';', ':', '，', '、'])).then_some(text);
    }
    text.find(". ").and_then(|end| text.get(..=end))
}

/// The samples whose short answer has to be asked for, by position.
pub fn unstated(question: &AskedQuestion, generation: &Generation, reader: &Reader) -> Vec<usize> {
    let comparer = Comparer::new(question);
    let wanted = |completion: &Completion| {
        let needed = match (reader.answers, read_text(completion, reader, &comparer)) {
            (AnswerMode::Stated, _) | (_, None) => false,
            (AnswerMode::Asked, Some(_)) => true,
            (AnswerMode::Auto, Some(reading)) => {
                matches!(reading, Reading::Unstated(_) | Reading::Empty)
            }
        };
        needed && completion.asked.is_none() && !completion.text.trim().is_empty()
    };
    let completions = generation.completions.iter().enumerate();
    completions.filter(|(_, completion)| wanted(completion)).map(|(at, _)| at).collect()
}

/// What a reader needs and the generation lacks, since it was not asked of the model when the
/// samples were drawn: the flag that records it.
pub fn missing(
    question: &AskedQuestion,
    generation: &Generation,
    reader: &Reader,
) -> Option<&'static str> {
    let completions = &generation.completions;
    if completions.iter().any(|c| c.finish_reason == FinishReason::Scored) {
        return None;
    }
    let none_asked = completions.iter().all(|c| c.asked.is_none());
    let unstated = unstated(question, generation, reader);
    if !unstated.is_empty() && (none_asked || reader.answers == AnswerMode::Asked) {
        return Some(match reader.answers {
            AnswerMode::Asked => "--answers asked",
            AnswerMode::Auto | AnswerMode::Stated => "--answers auto",
        });
    }
    let none_judged = generation.comparisons.is_empty();
    if reader.equivalence != Equivalence::Rules
        && none_judged
        && !undecided(question, generation, reader).is_empty()
    {
        return Some("--equivalence");
    }
    let scored = completions.iter().any(|c| !c.answer_scores.is_empty());
    let votes = read_all(question, generation, reader).iter().any(Option::is_some);
    (reader.vote == VoteMode::Soft && votes && !scored).then_some("--vote soft")
}

/// Pairs of distinct answers that no rule decides and nothing has judged, by canonical form.
pub fn undecided(
    question: &AskedQuestion,
    generation: &Generation,
    reader: &Reader,
) -> Vec<(Answer, Answer)> {
    let answers = read_all(question, generation, reader);
    let forms: Vec<&Answer> = distinct(&answers).into_values().collect();
    let judged = |a: &Answer, b: &Answer| {
        let mut comparisons = generation.comparisons.iter();
        comparisons.any(|pair| pair.a == a.canonical && pair.b == b.canonical)
    };
    let open = open_pairs(question, &forms).into_iter();
    open.filter(|(a, b)| !judged(a, b)).map(|(a, b)| (a.clone(), b.clone())).collect()
}

/// The distinct answers by canonical form, each as one of its samples gives it.
fn distinct(answers: &[Option<Answer>]) -> BTreeMap<&str, &Answer> {
    let mut distinct: BTreeMap<&str, &Answer> = BTreeMap::new();
    for answer in answers.iter().flatten() {
        let first = distinct.entry(&answer.canonical).or_insert(answer);
        if answer.display < first.display {
            *first = answer;
        }
    }
    distinct
}

/// The weight of every sample for every group, rows by sample.
fn weights(
    generation: &Generation,
    answers: &[Option<Answer>],
    forms: &[&Answer],
    groups: &[Vec<usize>],
    mode: VoteMode,
) -> Vec<Vec<f64>> {
    let group_of = |canonical: &str| {
        groups.iter().position(|group| group.iter().any(|at| forms[*at].canonical == canonical))
    };
    let own = |answer: &Option<Answer>, weight: f64| {
        let mut row = vec![0.0; groups.len()];
        if let Some(at) = answer.as_ref().and_then(|answer| group_of(&answer.canonical)) {
            row[at] = weight;
        }
        row
    };
    let samples = || generation.completions.iter().zip(answers);
    match mode {
        VoteMode::Count => answers.iter().map(|answer| own(answer, 1.0)).collect(),
        VoteMode::Weighted => {
            let confidence = |(c, answer): (&Completion, &Option<Answer>)| {
                answer.as_ref().map(|_| mean_logprob(c).exp())
            };
            let weights: Vec<Option<f64>> = samples().map(confidence).collect();
            let mut sorted: Vec<f64> = weights.iter().flatten().copied().collect();
            sorted.sort_by(f64::total_cmp);
            let scale = sorted.len() as f64 / sorted.iter().sum::<f64>().max(f64::MIN_POSITIVE);
            let rows = answers.iter().zip(weights);
            rows.map(|(answer, weight)| own(answer, weight.unwrap_or(0.0) * scale)).collect()
        }
        VoteMode::Soft => samples()
            .map(|(completion, answer)| {
                let mut row = vec![0.0; groups.len()];
                for score in &completion.answer_scores {
                    let form = Answer::of(&score.answer).map(|answer| answer.canonical);
                    if let Some(at) = form.and_then(|form| group_of(&form)) {
                        row[at] += score.logprob.exp();
                    }
                }
                let mass: f64 = row.iter().sum();
                if mass > 0.0 && answer.as_ref().is_none_or(|a| a.kind != AnswerKind::Abstention) {
                    for weight in &mut row {
                        *weight /= mass;
                    }
                    row
                } else {
                    own(answer, 1.0)
                }
            })
            .collect(),
    }
}

fn clusters(
    answers: &[Option<Answer>],
    forms: &[&Answer],
    groups: &[Vec<usize>],
    weights: &[Vec<f64>],
    completions: &[Completion],
) -> Vec<Cluster> {
    let cluster = |(place, group): (usize, &Vec<usize>)| {
        let is_member =
            |answer: &Answer| group.iter().any(|at| forms[*at].canonical == answer.canonical);
        let samples: Vec<usize> = (0..answers.len())
            .filter(|sample| answers[*sample].as_ref().is_some_and(is_member))
            .collect();
        let leading = most_common_answer(&samples, answers);
        let likelihood = mean(samples.iter().map(|at| mean_logprob(&completions[*at])).collect());
        let mut column: Vec<f64> = weights.iter().map(|row| row[place]).collect();
        // Summed in ascending order, so that the bits do not depend on the order of samples.
        column.sort_by(f64::total_cmp);
        let weight = column.iter().sum();
        (likelihood, Cluster { weight, samples, ..leading })
    };
    let mut ranked: Vec<(f64, Cluster)> = groups.iter().enumerate().map(cluster).collect();
    ranked.sort_by(|(a_mean, a), (b_mean, b)| {
        b.weight
            .total_cmp(&a.weight)
            .then(b_mean.total_cmp(a_mean))
            .then_with(|| a.canonical.cmp(&b.canonical))
    });
    ranked.into_iter().map(|(_, cluster)| cluster).collect()
}

/// The most common spelling of samples, of equals the smallest, as a cluster without samples.
fn most_common_answer(samples: &[usize], answers: &[Option<Answer>]) -> Cluster {
    let mut counts: BTreeMap<&str, (usize, &Answer)> = BTreeMap::new();
    for answer in samples.iter().filter_map(|sample| answers.get(*sample)).flatten() {
        counts.entry(&answer.display).or_insert((0, answer)).0 += 1;
    }
    // `max_by` takes the last of equals; reversed, that is the smallest string.
    let common = counts.into_values().rev().max_by_key(|(count, _)| *count);
    let (answer, canonical) = common
        .map(|(_, answer)| (answer.display.clone(), answer.canonical.clone()))
        .unwrap_or_default();
    Cluster { answer, canonical, weight: 0.0, samples: Vec::new() }
}

/// A sample's mean token log-probability; the floor without tokens or with a non-finite one.
fn mean_logprob(completion: &Completion) -> f64 {
    let tokens = completion.tokens_after_reasoning();
    let logprobs: Vec<f64> = tokens.iter().map(|token| token.stats.logprob).collect();
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
