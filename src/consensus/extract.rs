//! Reading of the answer from a completion's text.
//!
//! Contract: every extractor is a total function in linear time: any text gives a [`Reading`],
//! never a panic. A completion's thoughts are dropped first, a text that ends within them has no
//! answer; what follows an invented next question is dropped too. Extractors know neither the
//! question nor the other samples. Precision comes first: where no rule reads the text, the answer
//! is the whole text, marked as unstated, and never a part of it.
//!
//! [`Extractor::Auto`] takes the first row that applies:
//!
//! | the text has | the answer is |
//! |---|---|
//! | a closed `\boxed{...}` and no announcement behind it | its content |
//! | an announcement: `#### x`, `answer is x`, `Antwort: x`, `<answer>x</answer>` | x |
//! | nothing but `B`, `(B)`, `B.` or `B) some text` | that letter |
//! | "yes" or "no", alone or with a reason | yes or no |
//! | nothing but a number, a date or a short phrase, or a list of these | that |
//! | a first sentence `<description> is <Name or number>` | the name or number |
//! | anything else | the whole text, unstated |

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::announced::{Announcement, announcements};
use super::answer::{Answer, AnswerKind, Reading};
use super::{abstention, canonical, choice, result, statement, thinking};
use crate::error::{Error, Result};

/// How the answer is found in a completion's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extractor {
    /// Chosen per text, see the module's table.
    #[default]
    Auto,
    /// The final number: boxed, else announced, else the last one. Units and currencies are
    /// dropped.
    Number,
    /// One letter A to J: announced, else boxed, else a line that is only a letter, else the one
    /// that starts the text (`B) Paris`), else the one that a sentence selects ("B is correct"),
    /// else the only one marked as an option (`(B)`, `option B`). Never the article of prose.
    Choice,
    /// The content of the last closed `\boxed{...}`.
    Boxed,
    /// As auto, without boxes and letters.
    ShortAnswer,
    /// The last line that is not empty.
    LastLine,
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

    /// Reads a completion.
    pub fn read(self, text: &str) -> Reading {
        let Some(text) = thinking::after_thinking(text) else { return Reading::Empty };
        let text = thinking::first_turn(text);
        if text.trim().is_empty() {
            return Reading::Empty;
        }
        let announced = announcements(text);
        let found = match self {
            Self::Number => result::final_number(text, boxed(text).map(|b| b.content), &announced),
            Self::Choice => choice::extract(text, boxed(text).map(|b| b.content), &announced),
            Self::Boxed => boxed(text).and_then(|found| Answer::stated(found.content)),
            Self::Auto | Self::ShortAnswer | Self::LastLine => {
                if abstention::is_abstention(text) {
                    return Reading::Abstained;
                }
                return match self {
                    Self::LastLine => last_line(text),
                    Self::Auto => auto(text, &announced),
                    _ => short_answer(text, &announced),
                };
            }
        };
        match found {
            Some(answer) => Reading::Stated(answer),
            None if abstention::is_abstention(text) => Reading::Abstained,
            None => Reading::Empty,
        }
    }

    /// Reads the few words that a model gave when it was asked for its final answer alone: the
    /// first line, without courtesies and labels.
    pub fn read_reply(self, text: &str) -> Reading {
        let Some(text) = thinking::after_thinking(text) else { return Reading::Empty };
        let text = statement::without_openers(thinking::first_turn(text));
        let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
        match self.read(line) {
            Reading::Unstated(answer) if line.split_whitespace().count() <= MAX_REPLY_WORDS => {
                Reading::Stated(answer)
            }
            reading => reading,
        }
    }

    /// The canonical forms that are right for a gold answer: its own, and what this extractor reads
    /// in it, so that an answer which is the gold to the letter is right.
    pub fn gold_forms(self, gold: &str) -> Vec<String> {
        let read = match self.read(gold) {
            Reading::Stated(answer) | Reading::Unstated(answer) => Some(answer),
            Reading::Abstained | Reading::Empty => None,
        };
        let mut forms: Vec<String> =
            Answer::of(gold).into_iter().chain(read).map(|answer| answer.canonical).collect();
        forms.dedup();
        forms
    }
}

/// A longer reply is an explanation.
const MAX_REPLY_WORDS: usize = 12;

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

fn auto(text: &str, announced: &[Announcement<'_>]) -> Reading {
    let found = boxed(text);
    // A later announcement counts if it names something: "The answer is clear" does not.
    let names = |answer: &Answer| {
        answer.kind != AnswerKind::Text || answer.display.starts_with(char::is_uppercase)
    };
    let later = |at: usize| {
        announced.last().is_some_and(|last| {
            let answer = || statement::announced(last);
            last.at >= at && !has_box(last) && answer().is_some_and(|answer| names(&answer))
        })
    };
    if let Some(found) = found.filter(|found| !later(found.end))
        && let Some(answer) = Answer::stated(found.content)
    {
        return Reading::Stated(answer);
    }
    if let Some(last) = announced.last() {
        let letter = choice::parse_choice(&last.span);
        return match letter.or_else(|| statement::announced(last)) {
            Some(answer) => Reading::Stated(answer),
            None => whole(text),
        };
    }
    if let Some(letter) = choice::parse_choice(text) {
        return Reading::Stated(letter);
    }
    short_answer(text, announced)
}

fn has_box(announcement: &Announcement<'_>) -> bool {
    announcement.span.contains("\\boxed")
}

fn short_answer(text: &str, announced: &[Announcement<'_>]) -> Reading {
    if let Some(last) = announced.last() {
        return statement::announced(last).map_or_else(|| whole(text), Reading::Stated);
    }
    let content = statement::without_openers(text);
    if statement::is_opener(content) {
        return whole(text);
    }
    let found = statement::polarity(content)
        .or_else(|| statement::phrase(content))
        .or_else(|| statement::stated(content));
    found.map_or_else(|| whole(text), Reading::Stated)
}

/// The whole text, for want of a rule that reads it.
fn whole(text: &str) -> Reading {
    Answer::stated(text).map_or(Reading::Empty, Reading::Unstated)
}

fn last_line(text: &str) -> Reading {
    text.lines().rev().find_map(Answer::stated).map_or(Reading::Empty, Reading::Stated)
}

/// The content of a box, and where the box ends.
#[derive(Clone, Copy)]
pub(super) struct Boxed<'a> {
    content: &'a str,
    end: usize,
}

/// The last closed `\boxed{...}` or `\fbox{...}` with its nested braces, or a `\boxed 5` without
/// them; of nested boxes the outer one counts.
pub(super) fn boxed(text: &str) -> Option<Boxed<'_>> {
    let bytes = text.as_bytes();
    let mut open: Vec<Option<usize>> = Vec::new();
    let mut last = None;
    for (at, byte) in bytes.iter().enumerate() {
        let escaped = at.checked_sub(1).and_then(|before| bytes.get(before)) == Some(&b'\\');
        match byte {
            b'{' if !escaped => {
                let head = text.get(..at)?.trim_end_matches(' ');
                let opens = head.ends_with("\\boxed") || head.ends_with("\\fbox");
                open.push(opens.then_some(at + 1));
            }
            b'}' if !escaped => {
                if let Some(Some(start)) = open.pop() {
                    last = text.get(start..at).map(|content| Boxed { content, end: at });
                }
            }
            _ => {}
        }
    }
    last.filter(|found| canonical::form(found.content).is_some()).or_else(|| bare_box(text))
}

/// `\boxed 5` and `\boxed5`.
fn bare_box(text: &str) -> Option<Boxed<'_>> {
    let (at, mark) = text.rmatch_indices("\\boxed").next()?;
    let rest = text.get(at + mark.len()..)?;
    let content = rest.trim_start_matches(' ');
    let length = content
        .find(|c: char| c.is_whitespace() || matches!(c, '$' | '{' | '}' | ',' | ';'))
        .unwrap_or(content.len());
    let content = content.get(..length)?.trim_end_matches('.');
    let value = content.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '-' | '\\'));
    let separate = rest.starts_with(' ') || rest.starts_with(|c: char| c.is_ascii_digit());
    (value && separate).then(|| Boxed { content, end: at + mark.len() + rest.len() })
}
