//! Extraction of the answer from a completion's text.
//!
//! Contract: every extractor is a total function in linear time: any text gives an [`Extraction`]
//! or `None`, never a panic. A closed `<think>...</think>` block is dropped first; a text with an
//! unclosed one has no answer. Extractors know neither the question nor the other samples; readings
//! that only other samples can confirm are [`Extraction::alternatives`].
//!
//! [`Extractor::Auto`] takes the first row that applies:
//!
//! | the text has | the answer is |
//! |---|---|
//! | a closed `\boxed{...}` | its content, as [`Extractor::Boxed`] |
//! | `#### x`, `answer is x`, `Answer: x`, or a line `A: x` | x: a choice letter, else as
//! [`Extractor::ShortAnswer`] |
//! | nothing but `B`, `(B)`, `B.` or `B) some text` | that letter |
//! | nothing but a number | that number |
//! | an equation: `=` before a number | the final number, as [`Extractor::Number`] |
//! | anything else | as [`Extractor::ShortAnswer`] |

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::number::{Number, Numbers};
use super::{choice, normalize, short_answer};
use crate::error::{Error, Result};

/// How the answer is found in a completion's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extractor {
    /// Chosen per text, see the module's table.
    #[default]
    Auto,
    /// The final number: boxed, else after `####` or an answer phrase, else the last one. Units and
    /// currencies are dropped.
    Number,
    /// One letter A to J: boxed, else after an answer phrase, else a line that is only a letter,
    /// else the one that starts the text (`B) Paris`), else the only one marked as an option
    /// (`(B)`, `option B`). Never the article of prose.
    Choice,
    /// The content of the last closed `\boxed{...}`.
    Boxed,
    /// A few words: what follows an answer phrase, else the first sentence, reduced to the name at
    /// its end for the form `The <description> is <Name>.`
    ShortAnswer,
    /// The last line that is not empty.
    LastLine,
}

/// An extracted answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Equal if and only if the answers are the same, see [`normalize`].
    pub canonical: String,
    /// As written in the text.
    pub display: String,
}

/// The answer of one text, with the alternatives that other samples may confirm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extraction {
    /// The answer that this text gives by itself.
    pub answer: Answer,
    /// Shorter answers that the text may mean: `Paris` for "Paris is the capital of France.", `5`
    /// for "5 miles". An alternative counts only if another sample gives it as its own answer;
    /// otherwise it could merge different answers ("Paris is a city in Texas.").
    pub alternatives: Vec<Answer>,
}

impl From<Answer> for Extraction {
    fn from(answer: Answer) -> Self {
        Self { answer, alternatives: Vec::new() }
    }
}

impl Extractor {
    /// Every extractor.
    pub const ALL: [Self; 6] =
        [Self::Auto, Self::Number, Self::Choice, Self::Boxed, Self::ShortAnswer, Self::LastLine];

    /// The name in flags and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Number => "number",
            Self::Choice => "choice",
            Self::Boxed => "boxed",
            Self::ShortAnswer => "short_answer",
            Self::LastLine => "last_line",
        }
    }

    /// The answer of one text by itself; `None` if it has none.
    pub fn extract(&self, text: &str) -> Option<Answer> {
        self.extract_with_alternatives(text).map(|extraction| extraction.answer)
    }

    /// The answer of one text with its alternatives; `None` if it has none.
    pub fn extract_with_alternatives(&self, text: &str) -> Option<Extraction> {
        let text = after_thinking(text)?;
        match self {
            Self::Auto => auto(text),
            Self::Number => final_number(text).map(Extraction::from),
            Self::Choice => choice::extract(text).map(Extraction::from),
            Self::Boxed => boxed_answer(text).map(Extraction::from),
            Self::ShortAnswer => short_answer::extract(text),
            Self::LastLine => last_line(text).map(Extraction::from),
        }
    }
}

impl fmt::Display for Extractor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Extractor {
    type Err = Error;

    /// Accepts `-` for `_`.
    fn from_str(name: &str) -> Result<Self> {
        let wanted = name.replace('-', "_");
        Self::ALL.into_iter().find(|extractor| extractor.name() == wanted).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|extractor| extractor.name()).collect();
            Error::usage(format!("extractor `{name}` is unknown; use one of {}", names.join(", ")))
        })
    }
}

/// The text after its thinking. A closing tag without an opening one counts too, because the chat
/// template may have put `<think>` into the prompt.
pub(super) fn after_thinking(text: &str) -> Option<&str> {
    match text.rfind("</think>") {
        Some(at) => text.get(at + "</think>".len()..),
        None if text.trim_start().starts_with("<think>") => None,
        None => Some(text),
    }
}

fn auto(text: &str) -> Option<Extraction> {
    if let Some(answer) = boxed_answer(text) {
        return Some(answer.into());
    }
    if let Some(stated) = after_answer_phrase(text) {
        return choice::parse_choice(stated)
            .map(Extraction::from)
            .or_else(|| short_answer::extract_phrase(stated));
    }
    if let Some(answer) = choice::choice_only(text).or_else(|| only_number(text)) {
        return Some(answer.into());
    }
    if has_equation(text)
        && let Some(answer) = final_number(text)
    {
        return Some(answer.into());
    }
    short_answer::extract(text)
}

/// Phrases before an answer, lower case. The non-English ones are from MGSM's exemplars (Shi et
/// al., arXiv 2210.03057).
const PHRASES: &[&str] = &[
    "####",
    "answer is",
    "answer:",
    "answer :",
    "answer**:",
    "answer=",
    "answer =",
    "die antwort ist",
    "la respuesta es",
    "la réponse est",
    "ответ —",
    "ответ:",
    "答えは",
    "答案是",
    "jibu ni",
    "คำตอบคือ",
    "సమాధానం",
    "উত্তর হল",
];

/// The text after each answer phrase, in order: to the end of its line, or of the next one if the
/// phrase ends its line, but never into the next phrase, so that together they are no longer than
/// the text.
pub(super) fn answer_phrase_spans(text: &str) -> Vec<&str> {
    let lower = text.to_ascii_lowercase();
    let mut spans: Vec<(usize, usize)> = PHRASES
        .iter()
        .flat_map(|phrase| phrase_spans(&lower, phrase))
        .chain(label_spans(&lower))
        .collect();
    spans.sort_unstable();
    let starts = spans.iter().skip(1).map(|(start, _)| *start).chain([text.len()]);
    let rests =
        spans.iter().zip(starts).filter_map(|((_, end), next)| text.get(*end..next.max(*end)));
    rests.map(first_line_with_content).filter(|rest| rest.contains(char::is_alphanumeric)).collect()
}

fn phrase_spans<'a>(lower: &'a str, phrase: &'a str) -> impl Iterator<Item = (usize, usize)> + 'a {
    lower.match_indices(phrase).map(|(at, found)| (at, at + found.len()))
}

/// Lines that begin with `A:`, as GSM8K's model solutions end; with a line `B:` they are options.
fn label_spans(lower: &str) -> impl Iterator<Item = (usize, usize)> + '_ {
    let starts = std::iter::once(0).chain(lower.match_indices('\n').map(|(at, _)| at + 1));
    let options = lower.starts_with("b:") || lower.contains("\nb:");
    starts
        .filter(move |at| !options && lower.get(*at..).is_some_and(|rest| rest.starts_with("a:")))
        .map(|at| (at, at + 2))
}

fn first_line_with_content(rest: &str) -> &str {
    let has_content = |line: &&str| line.contains(char::is_alphanumeric);
    rest.lines().take(3).find(has_content).unwrap_or("")
}

/// The text after the last answer phrase.
pub(super) fn after_answer_phrase(text: &str) -> Option<&str> {
    answer_phrase_spans(text).pop()
}

fn final_number(text: &str) -> Option<Answer> {
    if let Some(content) = boxed(text)
        && let Some(number) = last_number(content)
    {
        return Some(answer_of(number));
    }
    let spans = answer_phrase_spans(text);
    spans
        .iter()
        .rev()
        .find_map(|rest| number_after_phrase(rest))
        .or_else(|| last_number(text))
        .map(answer_of)
}

/// The first number after an answer phrase, or the result if an equation follows it.
fn number_after_phrase(rest: &str) -> Option<Number> {
    let sentence = short_answer::first_sentence(rest);
    let result =
        if sentence.contains('=') { last_number(sentence) } else { find_number(sentence, false) };
    result.or_else(|| find_number(rest, false))
}

fn last_number(text: &str) -> Option<Number> {
    find_number(text, true)
}

/// The last or first number that is not attached to a letter, else the last or first of all.
fn find_number(text: &str, last: bool) -> Option<Number> {
    let chars: Vec<char> = normalize::plain_latex(&normalize::fold(text)).chars().collect();
    let mut fallback = None;
    let mut best = None;
    for found in Numbers::new(&chars) {
        let slot = if found.attached { &mut fallback } else { &mut best };
        if last || slot.is_none() {
            *slot = Some(found.number);
        }
        if !last && best.is_some() {
            break;
        }
    }
    best.or(fallback)
}

fn answer_of(number: Number) -> Answer {
    Answer { canonical: number.canonical(), display: number.display }
}

/// The number of a text that holds nothing else; currency, percent and a full stop are allowed.
fn only_number(text: &str) -> Option<Answer> {
    let short = text.trim();
    if short.len() > 200 || !short.contains(|c: char| c.is_numeric()) {
        return None;
    }
    let canonical = normalize::canonical(short)?;
    let is_value = canonical.chars().all(|c| c.is_ascii_digit() || matches!(c, '/' | '-' | 'e'));
    is_value
        .then(|| last_number(short).map(|number| Answer { canonical, display: number.display }))?
}

/// Whether an equals sign precedes a number.
fn has_equation(text: &str) -> bool {
    text.split('=').skip(1).any(|right| {
        let mut start = right
            .chars()
            .skip_while(|c| c.is_whitespace() || matches!(c, '$' | '£' | '€' | '-' | '−' | '<'));
        start.next().is_some_and(char::is_numeric)
    })
}

/// The content of the last closed `\boxed{...}` with its nested braces; of nested boxes the outer
/// one counts.
fn boxed(text: &str) -> Option<&str> {
    let bytes = text.as_bytes();
    let mut open: Vec<Option<usize>> = Vec::new();
    let mut last = None;
    for (at, byte) in bytes.iter().enumerate() {
        let escaped = at.checked_sub(1).and_then(|before| bytes.get(before)) == Some(&b'\\');
        match byte {
            b'{' if !escaped => open
                .push(text.get(..at)?.trim_end_matches(' ').ends_with("\\boxed").then_some(at + 1)),
            b'}' if !escaped => {
                if let Some(Some(start)) = open.pop() {
                    last = text.get(start..at);
                }
            }
            _ => {}
        }
    }
    last
}

fn boxed_answer(text: &str) -> Option<Answer> {
    let content = boxed(text)?;
    Some(Answer {
        canonical: normalize::canonical_math(content)?,
        display: normalize::plain_latex(content).trim().to_owned(),
    })
}

fn last_line(text: &str) -> Option<Answer> {
    text.lines().rev().find_map(|line| {
        Some(Answer { canonical: normalize::canonical(line)?, display: line.trim().to_owned() })
    })
}
