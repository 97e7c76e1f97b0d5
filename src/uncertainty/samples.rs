//! The samples of a question as estimators over several of them see them, and how alike they are.
//!
//! Samples come in an order of their contents, so that no score depends on the order in which they
//! were drawn. A stopped sample does not count; one without an answer is like no other in meaning.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Deref;

use super::Evidence;
use crate::consensus::{Answer, Level, Vote};
use crate::generation::{Completion, FinishReason, Token};

/// More samples than this are not compared with one another: the work grows faster than their
/// square.
const MAX_COMPARED: usize = 64;

/// One sample.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample<'a> {
    /// The place of its answer in the vote, 0 for the leading one; `None` without an answer.
    pub group: Option<usize>,
    /// Its own answer as written.
    pub answer: Option<&'a str>,
    /// Its text without reasoning.
    pub text: &'a str,
    /// ln p of its tokens after the reasoning, in nats; NaN without tokens.
    pub logprob: f64,
    /// The same per token.
    pub mean_logprob: f64,
    /// The mean entropy of these tokens, in nats.
    pub mean_entropy: f64,
}

/// All samples drawn, ordered by their contents.
pub(super) struct Samples<'a>(Vec<Sample<'a>>);

impl<'a> Deref for Samples<'a> {
    type Target = [Sample<'a>];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<'a> Samples<'a> {
    /// `None` without samples, or if choices were scored instead.
    fn of(evidence: &Evidence<'a>) -> Option<Self> {
        let Evidence { generation, vote } = *evidence;
        let mut groups = vec![None; vote.answers.len()];
        for (place, cluster) in vote.clusters.iter().enumerate() {
            for sample in &cluster.samples {
                *groups.get_mut(*sample)? = Some(place);
            }
        }
        let answers = vote.answers.iter().map(Option::as_deref);
        let completions = generation.completions.iter().zip(groups.into_iter().zip(answers));
        let counts = |c: &Completion| c.finish_reason != FinishReason::Cancelled;
        let mut samples: Vec<Sample<'a>> = completions
            .filter(|(completion, _)| counts(completion))
            .map(|(completion, (group, answer))| Sample::new(completion, group, answer))
            .collect();
        samples.sort_by(|a, b| {
            let key = |s: &Sample<'a>| (s.group.is_none(), s.group, s.answer, s.text);
            let numbers = a.logprob.total_cmp(&b.logprob);
            let numbers = numbers.then(a.mean_logprob.total_cmp(&b.mean_logprob));
            let numbers = numbers.then(a.mean_entropy.total_cmp(&b.mean_entropy));
            key(a).cmp(&key(b)).then(numbers)
        });
        (evidence.is_sampled() && !samples.is_empty()).then_some(Self(samples))
    }
}

/// The evidence, with what several estimators compute of it, computed once.
pub(super) struct Compared<'a> {
    evidence: Evidence<'a>,
    samples: OnceCell<Option<Samples<'a>>>,
    similarities: [OnceCell<Option<Matrix>>; 3],
}

impl<'a> Deref for Compared<'a> {
    type Target = Evidence<'a>;

    fn deref(&self) -> &Self::Target {
        &self.evidence
    }
}

impl<'a> Compared<'a> {
    /// Nothing is computed yet.
    pub fn new(evidence: Evidence<'a>) -> Self {
        Self { evidence, samples: OnceCell::new(), similarities: Default::default() }
    }

    /// The samples; `None` without any, or if choices were scored instead.
    pub fn samples(&self) -> Option<&Samples<'a>> {
        self.samples.get_or_init(|| Samples::of(&self.evidence)).as_ref()
    }

    /// The samples; `None` also if the likelihood of one is not known.
    pub fn likely_samples(&self) -> Option<&Samples<'a>> {
        self.samples().filter(|samples| samples.iter().all(|sample| sample.logprob.is_finite()))
    }

    /// How alike the samples are, in their order, 0 to 1, and 1 of each with itself; `None` of
    /// fewer than two, or of too many.
    pub fn similarities(&self, kind: Similarity) -> Option<&Matrix> {
        let compute = || {
            let samples = self.samples()?;
            match kind {
                Similarity::Semantic => semantic(samples, self.vote),
                Similarity::Jaccard => jaccard(samples),
                Similarity::RougeL => rouge_l(samples),
            }
        };
        self.similarities[kind as usize].get_or_init(compute).as_ref()
    }
}

/// What makes two samples alike.
#[derive(Clone, Copy, Debug)]
pub(super) enum Similarity {
    /// Their meaning: the judge's score where a model compared the two answers, else 1 within a
    /// group and 0 between groups.
    Semantic,
    /// Jaccard similarity of their sets of words, which end at white space.
    Jaccard,
    /// ROUGE-L (Lin 2004): the F1 measure of the longest common subsequence of words, which are
    /// runs of letters and digits. Words are not stemmed.
    RougeL,
}

impl<'a> Sample<'a> {
    fn new(completion: &'a Completion, group: Option<usize>, answer: Option<&'a str>) -> Self {
        let tokens = completion.tokens_after_reasoning();
        let n = tokens.len() as f64;
        let sum = |statistic: fn(&Token) -> f64| tokens.iter().map(statistic).sum::<f64>();
        let logprob = if tokens.is_empty() { f64::NAN } else { sum(|t| t.stats.logprob) };
        Self {
            group,
            answer,
            text: completion.answer_text(),
            logprob,
            mean_logprob: logprob / n,
            mean_entropy: sum(|t| t.stats.entropy) / n,
        }
    }
}

/// A symmetric matrix.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    /// Number of rows.
    pub n: usize,
    /// Rows one after another.
    pub values: Vec<f64>,
}

impl Matrix {
    /// The matrix with these entries on and below the diagonal, row >= column.
    pub fn symmetric(n: usize, entry: impl Fn(usize, usize) -> f64) -> Self {
        let mut values = vec![0.0; n * n];
        for row in 0..n {
            for column in 0..=row {
                let value = entry(row, column);
                (values[row * n + column], values[column * n + row]) = (value, value);
            }
        }
        Self { n, values }
    }

    /// The rows, one a sample.
    pub fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.values.chunks_exact(self.n.max(1))
    }
}

fn compare(samples: &Samples<'_>, similarity: impl Fn(usize, usize) -> f64) -> Option<Matrix> {
    let entry = |row: usize, column: usize| {
        if row == column { 1.0 } else { similarity(row, column) }
    };
    (2..=MAX_COMPARED).contains(&samples.len()).then(|| Matrix::symmetric(samples.len(), entry))
}

fn semantic(samples: &Samples<'_>, vote: &Vote) -> Option<Matrix> {
    let judged = vote.pairs.iter().filter(|pair| pair.level == Level::Judged);
    let scores: HashMap<(&str, &str), f64> = judged
        .filter(|pair| pair.score.is_finite())
        .map(|pair| ((pair.a.as_str(), pair.b.as_str()), pair.score.clamp(0.0, 1.0)))
        .collect();
    let form = |sample: &Sample<'_>| -> Option<String> {
        let answer = sample.answer.filter(|_| !scores.is_empty())?;
        Answer::of(answer).map(|answer| answer.canonical)
    };
    let forms: Vec<Option<String>> = samples.iter().map(form).collect();
    compare(samples, |i, j| {
        let judged = forms[i]
            .as_deref()
            .zip(forms[j].as_deref())
            .and_then(|(a, b)| scores.get(&(a.min(b), a.max(b))));
        let together = samples[i].group.is_some() && samples[i].group == samples[j].group;
        judged.copied().unwrap_or(f64::from(u8::from(together)))
    })
}

fn jaccard(samples: &Samples<'_>) -> Option<Matrix> {
    let lower: Vec<String> = samples.iter().map(|sample| sample.text.to_lowercase()).collect();
    let words: Vec<HashSet<&str>> =
        lower.iter().map(|text| text.split_whitespace().collect()).collect();
    compare(samples, |i, j| {
        let common = words[i].intersection(&words[j]).count();
        let all = words[i].len() + words[j].len() - common;
        if all == 0 { 0.0 } else { common as f64 / all as f64 }
    })
}

fn rouge_l(samples: &Samples<'_>) -> Option<Matrix> {
    let lower: Vec<String> = samples.iter().map(|sample| sample.text.to_lowercase()).collect();
    let mut ids: HashMap<&str, usize> = HashMap::new();
    let mut number = |word| {
        let next = ids.len();
        *ids.entry(word).or_insert(next)
    };
    let words: Vec<Vec<usize>> = lower
        .iter()
        .map(|text| {
            let words = text.split(|c: char| !c.is_alphanumeric());
            words.filter(|word| !word.is_empty()).map(&mut number).collect()
        })
        .collect();
    let positions: Vec<_> = words.iter().map(|words| positions(words)).collect();
    compare(samples, |i, j| {
        let common = longest_common_subsequence(&positions[i], words[i].len(), &words[j]);
        // 2PR / (P + R) with P and R the share of either text.
        let all = words[i].len() + words[j].len();
        if all == 0 { 0.0 } else { 2.0 * common as f64 / all as f64 }
    })
}

/// The positions of every word as bits, 64 a number.
fn positions(words: &[usize]) -> BTreeMap<usize, Vec<u64>> {
    let mut positions: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    for (at, word) in words.iter().enumerate() {
        let bits = positions.entry(*word).or_insert_with(|| vec![0; words.len().div_ceil(64)]);
        bits[at / 64] |= 1 << (at % 64);
    }
    positions
}

/// The length of the longest common subsequence, 64 positions of the first sequence at a time
/// (Hyyrö 2004). A bit of `row` is 0 where the length grows.
fn longest_common_subsequence(
    first: &BTreeMap<usize, Vec<u64>>,
    length: usize,
    second: &[usize],
) -> usize {
    let mut row = vec![u64::MAX; length.div_ceil(64)];
    for bits in second.iter().filter_map(|word| first.get(word)) {
        let mut carry = false;
        for (row, bits) in row.iter_mut().zip(bits) {
            let (sum, over) = row.overflowing_add(*row & bits);
            let (sum, again) = sum.overflowing_add(u64::from(carry));
            carry = over || again;
            *row = sum | (*row & !bits);
        }
    }
    row.iter().map(|row| row.count_zeros() as usize).sum()
}

/// ln Σ e^x, in an order that does not depend on that of the values; `None` if the sum is 0.
pub(super) fn log_sum_exp(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let max = values.last().copied().filter(|max| max.is_finite())?;
    Some(max + values.iter().map(|value| (value - max).exp()).sum::<f64>().ln())
}
