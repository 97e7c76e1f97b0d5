//! Groups of answers that mean the same, beyond equal canonical forms.
//!
//! Contract: pure, total, and independent of the order of answers. Every pair of distinct answers
//! gets a score from 0 (different) to 1 (same) by the first level of [`Level`] that decides it;
//! groups are merged by average link over these scores. A rule that finds two answers different is
//! final: no judge and no chain of similar answers merges them. Rules read words only; what they
//! leave open is decided by a judge's [`Comparison`], or stays apart.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use super::answer::{Answer, AnswerKind};
use super::canonical::canonical;
use super::reader::Reader;
use crate::generation::Comparison;

/// Distinct answers that are compared at most; further ones are groups of their own.
const MAX_COMPARED: usize = 128;

/// What answers are compared with: the question that they answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AskedQuestion {
    /// Its text.
    pub text: String,
    /// The texts of its options A, B, ..., if it lists them.
    pub options: Vec<String>,
}

/// What decided whether two answers are the same, in the order in which it is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Their canonical forms are equal.
    Form,
    /// Numbers, dates, formulas, yes or no, choices: by value; a unit that only one has is ignored.
    Value,
    /// A choice's letter and its text.
    Choice,
    /// Only one of them denies, or they hold different numbers.
    Negation,
    /// One is contained in the other, whose further words are function words or the question's.
    Contains,
    /// One is the last name of the other.
    Name,
    /// A model compared them.
    Judged,
    /// Nothing decided: apart.
    Undecided,
}

/// Two distinct answers of a question, compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// The canonical form of the first, the smaller one.
    pub a: String,
    /// The canonical form of the second.
    pub b: String,
    /// What decided.
    pub level: Level,
    /// 0 = different, 1 = same, above one half they are joined; a judge's score is shifted so that
    /// its threshold lies there.
    pub score: f64,
}

/// Compares answers to one question by rules.
pub struct Comparer {
    question: HashSet<String>,
    options: Vec<Option<Answer>>,
}

impl Comparer {
    /// A comparer for a question.
    pub fn new(question: &AskedQuestion) -> Self {
        let text = canonical(&question.text).unwrap_or_default();
        let parts = text.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty());
        Self {
            question: text.split(' ').chain(parts).flat_map(word_forms).collect(),
            options: question.options.iter().map(|text| Answer::of(text)).collect(),
        }
    }

    /// The rules' verdict on two answers: the level that decides, and whether they are the same;
    /// `None` if no rule applies.
    pub fn compare(&self, a: &Answer, b: &Answer) -> Option<(Level, bool)> {
        use AnswerKind::{Abstention, Choice, Date, Formula, Number, Polarity, Text};
        if a.canonical == b.canonical {
            return Some((Level::Form, true));
        }
        let bare = |a: &Answer, b: &Answer| a.bare.as_ref() == Some(&b.canonical);
        match (a.kind, b.kind) {
            (Abstention, _) | (_, Abstention) => Some((Level::Value, false)),
            (Number, Number) => Some((Level::Value, bare(a, b) || bare(b, a))),
            (Polarity, Polarity) | (Choice, Choice) | (Formula, Formula) => {
                Some((Level::Value, false))
            }
            (Date, Date) if !contains(&a.canonical, &b.canonical) => Some((Level::Value, false)),
            (Choice, _) => self.is_option(a, b).map(|same| (Level::Choice, same)),
            (_, Choice) => self.is_option(b, a).map(|same| (Level::Choice, same)),
            (Text | Number | Date, Text | Number | Date) => self.compare_words(a, b),
            _ => None,
        }
    }

    /// Whether a letter stands for the text of the other answer; `None` if that is not an option.
    fn is_option(&self, letter: &Answer, other: &Answer) -> Option<bool> {
        let at = usize::from(*letter.canonical.as_bytes().first()?).checked_sub(usize::from(b'a'));
        let is = |option: &Answer| option.canonical == other.canonical;
        if is(self.options.get(at?)?.as_ref()?) {
            return Some(true);
        }
        self.options.iter().flatten().any(is).then_some(false)
    }

    fn compare_words(&self, a: &Answer, b: &Answer) -> Option<(Level, bool)> {
        let (short, long) = if a.canonical.len() < b.canonical.len() { (a, b) } else { (b, a) };
        let words = |answer: &Answer| -> Vec<String> {
            answer.canonical.split(' ').map(str::to_owned).collect()
        };
        let (few, many) = (words(short), words(long));
        let denies = |words: &[String]| words.iter().any(|word| is_negation(word));
        if denies(&few) != denies(&many) || different_numbers(&few, &many) {
            return Some((Level::Negation, false));
        }
        let adds = |word: &&String| !is_function_word(word) && !self.is_in_question(word);
        let core =
            |words: &[String]| -> Vec<String> { words.iter().filter(adds).cloned().collect() };
        if !core(&few).is_empty() && core(&few) == core(&many) {
            return Some((Level::Contains, true));
        }
        let start = many.windows(few.len().max(1)).position(|window| window == few.as_slice())?;
        let mut further = many.iter().take(start).chain(many.iter().skip(start + few.len()));
        // Of words that are all the question's, any may be the answer.
        if further.all(|word| is_function_word(word)) {
            return Some((Level::Contains, true));
        }
        let is_name = few.len() == 1
            && start + 1 == many.len()
            && (2..=4).contains(&many.len())
            && short.kind == AnswerKind::Text
            && is_written_as_name(&long.display);
        is_name.then_some((Level::Name, true))
    }

    /// Whether an answer is a sentence that says the question's words again, and so no short
    /// answer: four or more words, two of them the question's.
    pub(super) fn is_restatement(&self, answer: &Answer) -> bool {
        let known = |word: &&str| !is_function_word(word) && self.is_in_question(word);
        let words = answer.canonical.split(' ');
        answer.kind == AnswerKind::Text
            && words.clone().count() >= 4
            && words.filter(known).take(2).count() == 2
    }

    fn is_in_question(&self, word: &str) -> bool {
        word_forms(word).any(|form| self.question.contains(&form))
    }
}

/// A word, and the stem that it shares with its regular forms.
fn word_forms(word: &str) -> impl Iterator<Item = String> + '_ {
    let stem = ["ing", "ed", "es", "s", "d"]
        .iter()
        .find_map(|ending| word.strip_suffix(ending).filter(|stem| stem.len() > 2));
    [Some(word), stem].into_iter().flatten().map(str::to_owned)
}

fn contains(a: &str, b: &str) -> bool {
    a.contains(b) || b.contains(a)
}

fn is_negation(word: &str) -> bool {
    matches!(
        word,
        "not" | "no" | "never" | "none" | "neither" | "nor" | "without" | "cannot" | "false"
    ) || word.ends_with("nt")
        && ["isnt", "arent", "wasnt", "dont", "doesnt", "didnt", "cant"].contains(&word)
}

/// Whether each holds a number that the other lacks, or the longer one lacks one of the shorter.
fn different_numbers(few: &[String], many: &[String]) -> bool {
    let has_digit = |word: &&String| word.contains(|c: char| c.is_ascii_digit());
    let numbers =
        |words: &[String]| -> HashSet<String> { words.iter().filter(has_digit).cloned().collect() };
    let (few, many) = (numbers(few), numbers(many));
    !few.is_subset(&many) && !many.is_subset(&few)
}

/// Words that add nothing to a name or a value.
fn is_function_word(word: &str) -> bool {
    const WORDS: &[&str] = &[
        "a", "an", "the", "is", "are", "was", "were", "be", "been", "it", "its", "this", "that",
        "there", "of", "in", "on", "at", "by", "to", "for", "from", "he", "she", "they", "his",
        "her", "their", "who", "which", "has", "have", "had", "does", "do", "did", "as", "called",
        "named", "known", "written", "mr", "mrs", "ms", "dr", "sir", "city", "river", "ocean",
        "sea", "lake", "mount", "mt", "planet", "country",
    ];
    WORDS.contains(&word)
}

/// Whether every word begins with a capital letter, as names do.
fn is_written_as_name(display: &str) -> bool {
    display.split_whitespace().all(|word| {
        word.starts_with(char::is_uppercase) || matches!(word, "von" | "van" | "de" | "da" | "of")
    })
}

/// Groups distinct answers, given by ascending canonical form; a group is their positions in
/// ascending order. Also every pair that a level above the canonical form decided.
pub(super) fn group(
    question: &AskedQuestion,
    answers: &[&Answer],
    comparisons: &[Comparison],
    reader: &Reader,
) -> (Vec<Vec<usize>>, Vec<Pair>) {
    let count = answers.len().min(MAX_COMPARED);
    let comparer = Comparer::new(question);
    let judged: BTreeMap<(&str, &str), f64> = comparisons
        .iter()
        .map(|Comparison { a, b, same, .. }| ((a.as_str(), b.as_str()), *same))
        .collect();
    let mut links = Links::new(count);
    for b in 0..count {
        for a in 0..b {
            let key = (answers[a].canonical.as_str(), answers[b].canonical.as_str());
            let link = match (comparer.compare(answers[a], answers[b]), judged.get(&key)) {
                (Some((level, same)), _) => (level, f64::from(u8::from(same))),
                (None, Some(score)) => (Level::Judged, reader.shifted(*score)),
                (None, None) => (Level::Undecided, 0.0),
            };
            links.set(a, b, link);
        }
    }
    links.drop_ambiguous();
    let mut groups = links.average_link();
    groups.extend((count..answers.len()).map(|at| vec![at]));
    let mut pairs = Vec::new();
    for b in 0..count {
        for a in 0..b {
            let (level, score) = links.get(a, b);
            if score > 0.0 || level == Level::Judged {
                let form = |at: usize| answers[at].canonical.clone();
                pairs.push(Pair { a: form(a), b: form(b), level, score });
            }
        }
    }
    (groups, pairs)
}

/// Whether a pair is decided by rules, so that no judge need compare it.
pub(super) fn open_pairs<'a>(
    question: &AskedQuestion,
    answers: &[&'a Answer],
) -> Vec<(&'a Answer, &'a Answer)> {
    let comparer = Comparer::new(question);
    let answers = answers.iter().take(MAX_COMPARED);
    let pairs = answers
        .clone()
        .enumerate()
        .flat_map(|(at, b)| answers.clone().take(at).map(move |a| (*a, *b)));
    pairs.filter(|(a, b)| comparer.compare(a, b).is_none()).collect()
}

/// The symmetric matrix of levels and scores.
struct Links {
    count: usize,
    links: Vec<(Level, f64)>,
}

impl Links {
    fn new(count: usize) -> Self {
        Self { count, links: vec![(Level::Undecided, 0.0); count * count] }
    }

    fn get(&self, a: usize, b: usize) -> (Level, f64) {
        self.links[a * self.count + b]
    }

    fn set(&mut self, a: usize, b: usize, link: (Level, f64)) {
        self.links[a * self.count + b] = link;
        self.links[b * self.count + a] = link;
    }

    fn is_same(&self, a: usize, b: usize) -> bool {
        self.get(a, b).1 > 0.5
    }

    /// Cuts the links of an answer that is the short form of two different ones: "5" of "5 km" and
    /// "5 miles", "Smith" of "John Smith" and "Adam Smith".
    fn drop_ambiguous(&mut self) {
        let ambiguous: Vec<usize> = (0..self.count)
            .filter(|&at| {
                let same: Vec<usize> =
                    (0..self.count).filter(|&b| b != at && self.is_same(at, b)).collect();
                same.iter().any(|&a| same.iter().any(|&b| a < b && !self.is_same(a, b)))
            })
            .collect();
        for at in ambiguous {
            for other in 0..self.count {
                if matches!(self.get(at, other).0, Level::Value | Level::Contains | Level::Name) {
                    self.set(at, other, (Level::Undecided, 0.0));
                }
            }
        }
    }

    /// Merges the two groups with the highest mean score above one half, as long as there are such
    /// groups; of equals the first by canonical form.
    fn average_link(&self) -> Vec<Vec<usize>> {
        let mut groups: Vec<Vec<usize>> = (0..self.count).map(|at| vec![at]).collect();
        loop {
            let mut best: Option<(f64, usize, usize)> = None;
            for b in 0..groups.len() {
                for a in 0..b {
                    let score = self.mean(&groups[a], &groups[b]);
                    if score > best.map_or(0.5, |(score, ..)| score) {
                        best = Some((score, a, b));
                    }
                }
            }
            let Some((_, a, b)) = best else { return groups };
            let merged = groups.remove(b);
            groups[a].extend(merged);
            groups[a].sort_unstable();
        }
    }

    /// The mean score between two groups; 0 if a rule finds any of their answers different.
    fn mean(&self, a: &[usize], b: &[usize]) -> f64 {
        let links: Vec<(Level, f64)> =
            a.iter().flat_map(|a| b.iter().map(|b| self.get(*a, *b))).collect();
        let differs = |(level, score): &(Level, f64)| {
            *score <= 0.0 && !matches!(level, Level::Judged | Level::Undecided)
        };
        if links.iter().any(differs) {
            return 0.0;
        }
        links.iter().map(|(_, score)| score).sum::<f64>() / links.len().max(1) as f64
    }
}
