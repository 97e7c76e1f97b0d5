//! The questions that the page lists, as compact data within a byte budget.
//!
//! Contract: questions that do not fit are left out evenly over the run, never by outcome, and
//! counted. Texts and token texts are stored once for all runs; a sample that starts like another
//! one refers to it; entropies are whole hundredths of a nat. Invisible characters are made visible
//! here. It produces data, not a page.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::Value;

use super::graded::OutcomeClass;
use super::read::ReadQuestion;
use super::text::{json_in_script, reveal, shortened};
use super::view::RunView;
use crate::generation::FinishReason;
use crate::metrics::bootstrap::mix;
use crate::pipeline::{Sample, SampleToken};

/// Share of the bytes for questions without samples.
const HEAD_SHARE: f64 = 0.6;
/// Maximum lengths of a question, an answer, a reason and a token, in characters.
const QUESTION_CHARS: usize = 700;
const ANSWER_CHARS: usize = 120;
const REASON_CHARS: usize = 300;
const TOKEN_CHARS: usize = 64;
/// Maximum numbers of answers of a vote, distinct samples of a question and tokens of a sample.
const ANSWERS: usize = 8;
const SAMPLES: usize = 12;
const TOKENS: usize = 400;
/// Larger entropies are clipped to this; ln(2^18) is below it.
const MAX_HUNDREDTHS: u32 = 36 * 36 - 1;

/// The data, and what was left out.
#[derive(Debug)]
pub struct Browse {
    /// JSON, safe in a script block.
    pub json: String,
    /// One sentence for each kind of omission.
    pub left_out: Vec<String>,
}

#[derive(Default, Serialize)]
struct Data {
    vocab: Vec<String>,
    /// Id, question, gold answers.
    docs: Vec<[String; 3]>,
    runs: Vec<RunData>,
}

#[derive(Serialize)]
struct RunData {
    label: String,
    /// Whether the samples are choices that were scored by likelihood.
    options: bool,
    questions: Vec<Entry>,
}

/// A question of a run. Field names are short, because there are many.
#[derive(Serialize)]
struct Entry {
    /// Index of the question's texts.
    d: usize,
    /// The class.
    c: usize,
    /// Whether the leading answer is correct.
    r: bool,
    /// The reason for abstaining.
    #[serde(skip_serializing_if = "Option::is_none")]
    w: Option<String>,
    /// Uncertainty and confidence.
    u: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p: Option<f64>,
    /// Answers with weights, heaviest first.
    v: Vec<(String, f64)>,
    /// Weight of answers not listed; numbers of unparsed, truncated and failed samples.
    x: [f64; 4],
    /// Samples drawn.
    n: usize,
    /// Notes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    o: Vec<String>,
    /// Samples: count, index of the answer (-1 for none, -2 for one not listed), finish reason,
    /// sample that it starts like or -1, number of tokens shared with that, further tokens, their
    /// entropies, token at which it leaves the largest group or -1, number of tokens cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    s: Option<Vec<Value>>,
    /// Number of distinct samples not listed.
    #[serde(skip_serializing_if = "is_zero")]
    m: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(value: &usize) -> bool {
    *value == 0
}

/// The data of all runs within about `budget` bytes.
pub fn browse(runs: &[RunView], budget: usize) -> Browse {
    let mut data = Data {
        runs: runs
            .iter()
            .map(|run| RunData {
                label: reveal(&run.label).into_owned(),
                options: run.listed.iter().any(|(_, question)| {
                    question.record.outcome.as_ref().is_some_and(|o| !o.choices.is_empty())
                }),
                questions: Vec::new(),
            })
            .collect(),
        ..Data::default()
    };
    let mut order: Vec<(usize, &(usize, ReadQuestion))> = runs
        .iter()
        .enumerate()
        .flat_map(|(at, run)| run.listed.iter().map(move |listed| (at, listed)))
        .collect();
    // By a hash of the position, so that omissions are spread evenly and are the same in runs of
    // the same questions.
    order.sort_by_key(|(run, (place, _))| (mix(*place as u64), *place, *run));
    let mut texts = Texts::default();
    let mut kept: Vec<(usize, usize, Entry, &ReadQuestion)> = Vec::new();
    let heads = (budget as f64 * HEAD_SHARE) as usize;
    let mut spent = 0;
    for (run, (place, question)) in &order {
        let (entry, new) = texts.entry(question);
        spent += new + size(&entry);
        if spent > heads {
            break;
        }
        kept.push((*run, *place, entry, question));
    }
    let mut shown = vec![0_usize; runs.len()];
    for (run, _, entry, question) in &mut kept {
        let (samples, more, new) = texts.samples(question);
        spent += new + size(&samples);
        if spent > budget {
            break;
        }
        if let Some(shown) = shown.get_mut(*run) {
            *shown += 1;
        }
        (entry.s, entry.m) = (Some(samples), more);
    }
    kept.sort_by_key(|(run, place, _, _)| (*run, *place));
    for (run, _, entry, _) in kept {
        if let Some(run) = data.runs.get_mut(run) {
            run.questions.push(entry);
        }
    }
    let left_out = left_out(runs, &data, &shown, &texts);
    (data.vocab, data.docs) = (texts.vocab, texts.docs);
    Browse { json: json_in_script(&serde_json::to_string(&data).unwrap_or_default()), left_out }
}

fn left_out(runs: &[RunView], data: &Data, shown: &[usize], texts: &Texts) -> Vec<String> {
    let mut sentences = Vec::new();
    for ((run, data), shown) in runs.iter().zip(&data.runs).zip(shown) {
        let (listed, all) = (data.questions.len(), run.questions);
        if listed < all || *shown < listed {
            sentences.push(format!(
                "{}: {listed} of {all} questions are listed, spread evenly over the run, {shown} \
                 of them with their samples",
                run.label
            ));
        }
    }
    if texts.cut > 0 {
        sentences.push(format!("{} long texts are cut, marked by …", texts.cut));
    }
    sentences.push(
        "of each token's statistics only the entropy is kept, in hundredths of a nat".to_owned(),
    );
    sentences
}

/// The size of a value in the page, in bytes.
fn size(value: &impl Serialize) -> usize {
    json_in_script(&serde_json::to_string(value).unwrap_or_default()).len() + 1
}

/// Texts, stored once each.
#[derive(Default)]
struct Texts {
    vocab: Vec<String>,
    words: HashMap<String, usize>,
    docs: Vec<[String; 3]>,
    hashes: HashMap<String, usize>,
    /// Number of texts cut.
    cut: usize,
}

impl Texts {
    fn short(&mut self, text: &str, most: usize) -> String {
        let shown = reveal(text);
        let short = shortened(&shown, most);
        self.cut += usize::from(short.len() != shown.len());
        short.into_owned()
    }

    /// An entry without samples, and the size of the texts that it adds.
    fn entry(&mut self, question: &ReadQuestion) -> (Entry, usize) {
        let ReadQuestion { record, graded, .. } = question;
        let mut new = 0;
        let d = if let Some(at) = self.hashes.get(&record.doc_hash) {
            *at
        } else {
            let gold = if record.doc.answerable == Some(false) {
                "(no answer)".to_owned()
            } else {
                record.doc.answers.join(" | ")
            };
            let doc = [
                self.short(&record.doc.id, ANSWER_CHARS),
                self.short(&record.doc.text(), QUESTION_CHARS),
                self.short(&gold, 2 * ANSWER_CHARS),
            ];
            new += size(&doc);
            self.docs.push(doc);
            self.hashes.insert(record.doc_hash.clone(), self.docs.len() - 1);
            self.docs.len() - 1
        };
        let vote = record.outcome.as_ref().map(|outcome| &outcome.vote);
        let clusters = vote.map_or(&[][..], |vote| &vote.clusters);
        let rest: f64 = clusters.iter().skip(ANSWERS).map(|cluster| cluster.weight).sum();
        let count = |count: fn(&crate::consensus::Vote) -> usize| {
            vote.map_or(0.0, |vote| count(vote) as f64)
        };
        let entry = Entry {
            d,
            c: OutcomeClass::ALL
                .iter()
                .position(|class| *class == OutcomeClass::of(&graded.question))
                .unwrap_or_default(),
            r: graded.question.is_correct(),
            w: graded.reason.as_ref().map(|reason| self.short(reason, REASON_CHARS)),
            u: graded.question.uncertainty.map(rounded),
            p: graded.question.confidence.map(rounded),
            v: clusters
                .iter()
                .take(ANSWERS)
                .map(|cluster| (self.short(&cluster.answer, ANSWER_CHARS), rounded(cluster.weight)))
                .collect(),
            x: [rest, count(|v| v.unparsed), count(|v| v.truncated + v.loops), count(|v| v.failed)],
            n: vote.map_or(0, crate::consensus::Vote::samples),
            o: record
                .outcome
                .iter()
                .flat_map(|o| &o.notes)
                .take(4)
                .map(|note| self.short(note, REASON_CHARS))
                .collect(),
            s: None,
            m: 0,
        };
        (entry, new)
    }

    /// The distinct samples, how many are left out, and the bytes of token texts that are new with
    /// them.
    fn samples(&mut self, question: &ReadQuestion) -> (Vec<Value>, usize, usize) {
        let outcome = question.record.outcome.as_ref();
        let samples = outcome.map_or(&[][..], |outcome| &outcome.samples);
        let clusters = outcome.map_or(&[][..], |outcome| &outcome.vote.clusters);
        let ids = |sample: &Sample| sample.tokens.iter().map(|token| token.id).collect();
        let leaves = divergence_points(&samples.iter().map(ids).collect::<Vec<_>>());
        let mut distinct: Vec<(usize, &Sample, usize)> = Vec::new();
        for (at, sample) in samples.iter().enumerate() {
            match distinct
                .iter_mut()
                .find(|(_, other, _)| same_tokens(&other.tokens, &sample.tokens))
            {
                Some((_, _, count)) => *count += 1,
                None => distinct.push((at, sample, 1)),
            }
        }
        let more = distinct.len().saturating_sub(SAMPLES);
        distinct.truncate(SAMPLES);
        let mut new = 0;
        let mut shown = Vec::with_capacity(distinct.len());
        for (place, (at, sample, count)) in distinct.iter().enumerate() {
            let answer = clusters.iter().position(|cluster| cluster.samples.contains(at));
            let answer = answer.map_or(-1, |place| if place < ANSWERS { place as i64 } else { -2 });
            let tokens = sample.tokens.get(..sample.tokens.len().min(TOKENS)).unwrap_or_default();
            let begins = distinct
                .iter()
                .take(place)
                .map(|(_, other, _)| shared(&other.tokens, tokens).min(TOKENS))
                .enumerate();
            let (parent, from) = begins
                .max_by_key(|(parent, length)| (*length, std::cmp::Reverse(*parent)))
                .unwrap_or((0, 0));
            let parent = if from == 0 { -1 } else { parent as i64 };
            let own = tokens.get(from..).unwrap_or_default();
            let ids: Vec<usize> =
                own.iter().map(|token| self.word(&token.text, &mut new)).collect();
            let entropies: String =
                own.iter().map(|token| hundredths(token.stats.entropy)).collect();
            let leave = leaves.get(*at).copied().flatten().map_or(-1, |at| at as i64);
            let ended = match sample.finish_reason {
                FinishReason::Stop | FinishReason::Scored => 0,
                FinishReason::Length => 1,
                FinishReason::Cancelled => 2,
                FinishReason::NumericalError => 3,
                FinishReason::Loop => 4,
            };
            let cut = sample.tokens.len() - tokens.len();
            shown.push(serde_json::json!([
                count, answer, ended, parent, from, ids, entropies, leave, cut
            ]));
        }
        (shown, more, new)
    }

    fn word(&mut self, text: &str, new: &mut usize) -> usize {
        if let Some(at) = self.words.get(text) {
            return *at;
        }
        let shown = self.short(text, TOKEN_CHARS);
        *new += size(&shown);
        self.vocab.push(shown);
        self.words.insert(text.to_owned(), self.vocab.len() - 1);
        self.vocab.len() - 1
    }
}

/// Rounds to four decimals.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// An entropy in hundredths of a nat, as two digits to base 36.
fn hundredths(entropy: f64) -> String {
    let whole = if entropy.is_finite() {
        ((entropy * 100.0).round().max(0.0) as u32).min(MAX_HUNDREDTHS)
    } else {
        MAX_HUNDREDTHS
    };
    [whole / 36, whole % 36].into_iter().filter_map(|digit| char::from_digit(digit, 36)).collect()
}

fn same_tokens(a: &[SampleToken], b: &[SampleToken]) -> bool {
    a.len() == b.len() && shared(a, b) == a.len()
}

/// Number of leading tokens that two samples share, drawn from the same distributions.
fn shared(a: &[SampleToken], b: &[SampleToken]) -> usize {
    a.iter()
        .zip(b)
        .take_while(|(a, b)| {
            a.id == b.id
                && a.text == b.text
                && hundredths(a.stats.entropy) == hundredths(b.stats.entropy)
        })
        .count()
}

/// The token at which each sample, given by its token ids, leaves the largest group. All start
/// together; at each token the largest group of samples with the same token stays (of equally large
/// ones, that with the lowest sample index), and the others leave. `None` for samples that stay to
/// the end.
fn divergence_points(samples: &[Vec<u32>]) -> Vec<Option<usize>> {
    let mut leaves = vec![None; samples.len()];
    let mut together: Vec<usize> = (0..samples.len()).collect();
    for at in 0.. {
        // In order of index, so that the first of equally large groups is the one with the lowest.
        let mut groups: Vec<(Option<u32>, Vec<usize>)> = Vec::new();
        for sample in &together {
            let id = samples.get(*sample).and_then(|ids| ids.get(at)).copied();
            match groups.iter_mut().find(|(other, _)| *other == id) {
                Some((_, members)) => members.push(*sample),
                None => groups.push((id, vec![*sample])),
            }
        }
        let Some(largest) = (0..groups.len())
            .max_by_key(|g| (groups.get(*g).map_or(0, |(_, m)| m.len()), std::cmp::Reverse(*g)))
        else {
            break;
        };
        let (id, stay) = groups.swap_remove(largest);
        for sample in groups.into_iter().flat_map(|(_, members)| members) {
            if let Some(leave) = leaves.get_mut(sample) {
                *leave = Some(at);
            }
        }
        if id.is_none() || stay.len() < 2 {
            break;
        }
        together = stay;
    }
    leaves
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_leave_the_largest_group_once() {
        let check = |samples: &[&[u32]], expected: &[Option<usize>]| {
            let samples: Vec<Vec<u32>> = samples.iter().map(|ids| ids.to_vec()).collect();
            assert_eq!(divergence_points(&samples), expected);
        };
        check(&[], &[]);
        check(&[&[1, 2]], &[None]);
        check(&[&[1, 2], &[1, 2], &[1, 3]], &[None, None, Some(1)]);
        // Of equally many the lowest index stays; what left is not looked at again.
        check(&[&[5], &[7, 1], &[7, 2], &[5]], &[None, Some(0), Some(0), None]);
        // One that ends is a group too.
        check(&[&[1], &[1, 2, 3], &[1, 2, 4], &[1, 2, 3]], &[Some(1), None, Some(2), None]);
    }

    #[test]
    fn entropies_are_hundredths_in_two_digits() {
        let check = |entropy: f64, expected: &str| assert_eq!(hundredths(entropy), expected);
        check(0.0, "00");
        check(0.104, "0a");
        check(0.69, "1x");
        check(12.95, "zz");
        check(1e9, "zz");
        check(f64::NAN, "zz");
        check(-1.0, "00");
    }
}
