//! What stands around a question: instructions and examples before it, and the text that it is put into.
//!
//! A frame moves scores as much as a sampler does, so it belongs to the configuration that a calibration is bound to.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::generation::{Message, Role};

/// Where the question goes.
pub const QUESTION: &str = "{question}";

/// A system message and the text of the user's message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Instructions that come before the question.
    pub system: Option<String>,
    /// The user's message, with [`QUESTION`] where the question goes.
    pub user: String,
    /// Examples before the question; the same for every question, so that they are prefilled once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shots: Option<Shots>,
}

/// Examples before a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shots {
    /// As one text with the question, for base models; otherwise as turns of a chat.
    pub plain: bool,
    /// In the order shown.
    pub examples: Vec<Shot>,
}

/// An example.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shot {
    /// The question, as it goes into the frame.
    pub question: String,
    /// What is to be said.
    pub answer: String,
}

impl Default for Frame {
    /// Nothing but the question.
    fn default() -> Self {
        Self { system: None, user: QUESTION.to_owned(), shots: None }
    }
}

impl Frame {
    /// Checks that the question has a place.
    ///
    /// # Errors
    /// A usage error with the text.
    pub fn validate(&self) -> Result<()> {
        if self.user.contains(QUESTION) {
            return Ok(());
        }
        Err(Error::usage(format!("frame is {:?}; it must hold {QUESTION} where the question goes", self.user)))
    }

    /// The messages that ask `question`.
    pub fn messages(&self, question: &str) -> Vec<Message> {
        let system = self.system.as_ref().map(|text| Message::new(Role::System, text));
        let ask = |question: &str| self.user.replace(QUESTION, question);
        let mut messages: Vec<Message> = system.into_iter().collect();
        match &self.shots {
            None => {}
            Some(Shots { plain: true, examples }) => {
                let space = if self.user.ends_with(char::is_whitespace) { "" } else { " " };
                let shown = |shot: &Shot| format!("{}{space}{}\n\n", ask(&shot.question), shot.answer);
                messages.push(Message::user(examples.iter().map(shown).collect::<String>() + &ask(question)));
                return messages;
            }
            Some(Shots { plain: false, examples }) => {
                messages.extend(
                    examples.iter().flat_map(|shot| [Message::user(ask(&shot.question)), Message::new(Role::Assistant, &shot.answer)]),
                );
            }
        }
        messages.push(Message::user(ask(question)));
        messages
    }

    /// One text that names this frame and no other.
    pub fn name(&self) -> String {
        let name = match &self.system {
            None => self.user.clone(),
            Some(system) => format!("system {system:?}, user {:?}", self.user),
        };
        let Some(shots) = &self.shots else { return name };
        let digest = super::sha256(serde_json::to_string(shots).unwrap_or_default().as_bytes());
        format!("{name}, after {} examples of SHA-256 {digest}", shots.examples.len())
    }
}
