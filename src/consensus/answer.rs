//! An answer in its canonical form, and how a completion holds it.

use serde::{Deserialize, Serialize};

use super::abstention::{self, ABSTENTION};
use super::canonical::{self, Form};

/// What an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerKind {
    /// A number, an amount of money, a quantity or a percentage.
    Number,
    /// A letter of a multiple choice.
    Choice,
    /// Yes or no.
    Polarity,
    /// A date or a time of day.
    Date,
    /// A text whose operators, brackets or case carry meaning: mathematics, code, symbols.
    Formula,
    /// Words.
    Text,
    /// The statement that the model does not know.
    Abstention,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Equal if and only if the answers are the same by rule, see
    /// [`canonical`](mod@super::canonical).
    pub canonical: String,
    /// As written in the text.
    pub display: String,
    /// What it is.
    pub kind: AnswerKind,
    /// Of a quantity, an amount of money or a percentage, the canonical form of its number alone:
    /// `5` for `5 miles`. Whether it means the same depends on the question.
    pub bare: Option<String>,
}

impl Answer {
    /// The answer that a text is, as a gold answer or an option; `None` without content.
    pub fn of(text: &str) -> Option<Self> {
        if abstention::is_abstention(text) {
            return Some(Self::abstention());
        }
        Self::stated(text)
    }

    /// As [`Self::of`], for a text that is known to be an answer.
    pub(super) fn stated(text: &str) -> Option<Self> {
        let Form { canonical, kind, bare } = canonical::form(text)?;
        let display = canonical::strip(text);
        let display = if display.is_empty() { text.trim() } else { display };
        Some(Self { canonical, display: display.to_owned(), kind, bare })
    }

    /// The statement that the model does not know.
    pub(super) fn abstention() -> Self {
        Self {
            canonical: ABSTENTION.to_owned(),
            display: "I don't know".to_owned(),
            kind: AnswerKind::Abstention,
            bare: None,
        }
    }
}

/// How a completion holds an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The text states it in a form that a rule reads.
    Stated(Answer),
    /// No rule reads the text: the whole text.
    Unstated(Answer),
    /// The text says that the model does not know.
    Abstained,
    /// The text has no content, or ends within the model's thoughts.
    Empty,
}

impl Reading {
    /// The answer, stated or not, or the abstention.
    pub fn answer(self) -> Option<Answer> {
        match self {
            Self::Stated(answer) | Self::Unstated(answer) => Some(answer),
            Self::Abstained => Some(Answer::abstention()),
            Self::Empty => None,
        }
    }
}
