//! What stands around a question: instructions before it, and the text that it is put into.
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
}

impl Default for Frame {
    /// Nothing but the question.
    fn default() -> Self {
        Self { system: None, user: QUESTION.to_owned() }
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
        system.into_iter().chain([Message::user(self.user.replace(QUESTION, question))]).collect()
    }

    /// One text that names this frame and no other.
    pub fn name(&self) -> String {
        match &self.system {
            None => self.user.clone(),
            Some(system) => format!("system {system:?}, user {:?}", self.user),
        }
    }
}
