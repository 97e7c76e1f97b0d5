//! The text around a question: instructions and examples before it, and the template of the user's
//! message.
//!
//! A template moves scores as much as a sampler does, so it belongs to the configuration that a
//! calibration is bound to.

use serde::{Deserialize, Serialize};

use crate::digest::sha256_hex;
use crate::error::{Error, Result};
use crate::generation::{Message, Role};

/// Where the question goes.
pub const QUESTION: &str = "{question}";

/// A system message and the text of the user's message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuestionTemplate {
    /// Instructions that come before the question.
    pub system: Option<String>,
    /// The user's message, with [`QUESTION`] where the question goes.
    pub user: String,
    /// Examples before the question; the same for every question, so that they are prefilled once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub few_shot: Option<FewShot>,
    /// Tells the model to answer only if it is more confident than this, 0 to below 1, and how that
    /// is scored, after the user's message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence_target: Option<f64>,
}

/// Examples before a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FewShot {
    /// As one text with the question, for base models; otherwise as turns of a chat.
    pub plain: bool,
    /// In the order shown.
    pub examples: Vec<Example>,
}

/// An example.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// The question, as it goes into the template.
    pub question: String,
    /// The answer to it.
    pub answer: String,
}

impl Default for QuestionTemplate {
    /// The question alone.
    fn default() -> Self {
        Self { system: None, user: QUESTION.to_owned(), few_shot: None, confidence_target: None }
    }
}

impl QuestionTemplate {
    /// Checks that the question has a place, and the target its range.
    ///
    /// # Errors
    /// A usage error with the value.
    pub fn validate(&self) -> Result<()> {
        if let Some(target) = self.confidence_target.filter(|target| !(0.0..1.0).contains(target)) {
            return Err(Error::usage(format!(
                "confidence_target is {target}; it must be 0 to below 1"
            )));
        }
        if self.user.contains(QUESTION) {
            return Ok(());
        }
        Err(Error::usage(format!(
            "the question template is {:?}; it must contain {QUESTION} where the question goes",
            self.user
        )))
    }

    /// The messages that ask `question`.
    pub fn messages(&self, question: &str) -> Vec<Message> {
        let system = self.system.as_ref().map(|text| Message::new(Role::System, text));
        let ask = |question: &str| self.user.replace(QUESTION, question);
        let asked = self.text().replace(QUESTION, question);
        let mut messages: Vec<Message> = system.into_iter().collect();
        match &self.few_shot {
            None => {}
            Some(FewShot { plain: true, examples }) => {
                let space = if self.user.ends_with(char::is_whitespace) { "" } else { " " };
                let text = |example: &Example| {
                    format!("{}{space}{}\n\n", ask(&example.question), example.answer)
                };
                messages
                    .push(Message::user(examples.iter().map(text).collect::<String>() + &asked));
                return messages;
            }
            Some(FewShot { plain: false, examples }) => {
                messages.extend(examples.iter().flat_map(|example| {
                    [
                        Message::user(ask(&example.question)),
                        Message::new(Role::Assistant, &example.answer),
                    ]
                }));
            }
        }
        messages.push(Message::user(asked));
        messages
    }

    /// A text that identifies this template.
    pub fn name(&self) -> String {
        let name = match &self.system {
            None => self.text(),
            Some(system) => format!("system {system:?}, user {:?}", self.text()),
        };
        let Some(few_shot) = &self.few_shot else { return name };
        let digest = sha256_hex(serde_json::to_string(few_shot).unwrap_or_default().as_bytes());
        format!("{name}, after {} examples of SHA-256 {digest}", few_shot.examples.len())
    }

    /// The user's message with the target behind it.
    fn text(&self) -> String {
        let target =
            self.confidence_target.map(|target| format!("\n\n{}", confidence_target_text(target)));
        self.user.clone() + &target.unwrap_or_default()
    }
}

/// The words of Kalai et al., arXiv 2509.04664: a wrong answer costs t / (1 - t), so answering pays
/// where one is right with more than t.
fn confidence_target_text(target: f64) -> String {
    let (percent, penalty) = (two_decimals(100.0 * target), two_decimals(target / (1.0 - target)));
    format!(
        "Answer only if you are > {percent}% confident, since mistakes are penalized {penalty} \
         points, while correct answers receive 1 \
         point, and an answer of \"I don't know\" receives 0 points."
    )
}

/// A number with at most two decimals.
fn two_decimals(value: f64) -> String {
    ((value * 100.0).round() / 100.0).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confidence_targets_state_their_penalty() {
        let check = |target: f64, percent: &str, penalty: &str| {
            let template =
                QuestionTemplate { confidence_target: Some(target), ..QuestionTemplate::default() };
            let expected = format!(
                "Who?\n\nAnswer only if you are > {percent}% confident, since mistakes are \
                 penalized {penalty} points, while correct answers \
                 receive 1 point, and an answer of \"I don't know\" receives 0 points."
            );
            assert_eq!(template.messages("Who?").last().unwrap().content, expected);
            assert!(
                template.validate().is_ok()
                    && template.name() != QuestionTemplate::default().name()
            );
        };
        check(0.0, "0", "0");
        check(0.5, "50", "1");
        check(0.75, "75", "3");
        check(0.9, "90", "9");
        check(2.0 / 3.0, "66.67", "2");
        for bad in [1.0, -0.1, f64::NAN] {
            let error =
                QuestionTemplate { confidence_target: Some(bad), ..QuestionTemplate::default() }
                    .validate()
                    .unwrap_err();
            assert!(error.to_string().contains("confidence_target is"), "{error}");
        }
    }
}
