//! Thinking: the markers between which a model writes its reasoning.
//!
//! A model has the pair of [`PAIRS`] that its vocabulary holds as single tokens, else the pair that
//! its chat template spells out. A marker that is one token is found by its id alone: the same
//! characters in other tokens are text. Any other marker is found by its bytes, in which control
//! tokens are spelled by name.

use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

/// The opening and closing markers of published reasoning models.
const PAIRS: &[(&str, &str)] = &[
    // Qwen3, DeepSeek-R1, GLM, SmolLM3 and most others.
    ("<think>", "</think>"),
    // Magistral.
    ("[THINK]", "[/THINK]"),
    // Seed-OSS.
    ("<seed:think>", "</seed:think>"),
    // Kimi-VL.
    ("◁think▷", "◁/think▷"),
    // Command A Reasoning.
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    // gpt-oss: the reasoning ends where the channel of the answer begins.
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
];

/// What a user asks of a model that can think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThinkingMode {
    /// Think first.
    On,
    /// Answer at once.
    Off,
    /// Think first, in at most this many tokens.
    Budget(usize),
}

impl FromStr for ThinkingMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            _ => text.parse().map(Self::Budget).map_err(|_| {
                Error::usage(format!(
                    "thinking is `{text}`; it must be on, off or a number of tokens"
                ))
            }),
        }
    }
}

/// A text that opens or closes the reasoning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The text, control tokens by name.
    pub text: String,
    /// The token, if it is one.
    pub token: Option<u32>,
}

/// The pair of markers of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Markers {
    /// Opens the reasoning.
    pub open: Marker,
    /// Closes it.
    pub close: Marker,
    /// The closing marker as the model would write it.
    pub close_tokens: Vec<u32>,
}

/// How a model's reasoning shows in what it writes after a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reasoning {
    /// The model's markers.
    pub markers: Arc<Markers>,
    /// The prompt ends within the reasoning, so the completion begins there.
    pub open: bool,
}

impl Markers {
    /// The markers of a model by its vocabulary and its chat template; `None` if it has none.
    pub fn find(tokenizer: &Tokenizer, template: Option<&str>) -> Option<Self> {
        let in_vocabulary = |text: &&str| tokenizer.id(text).is_some();
        let in_template = |text: &&str| template.is_some_and(|template| template.contains(*text));
        let by_token =
            PAIRS.iter().find(|(open, close)| [open, close].into_iter().all(in_vocabulary));
        let pair = by_token.or_else(|| {
            PAIRS.iter().find(|(open, close)| [open, close].into_iter().any(in_template))
        });
        let (open, close) = pair?;
        Self::new(tokenizer, open, close).ok()
    }

    /// A pair of markers.
    ///
    /// # Errors
    /// A closing marker that the vocabulary cannot encode.
    pub fn new(tokenizer: &Tokenizer, open: &str, close: &str) -> Result<Self> {
        let marker = |text: &str| Marker { text: text.to_owned(), token: tokenizer.id(text) };
        let (open, close) = (marker(open), marker(close));
        let close_tokens = match close.token {
            Some(token) => vec![token],
            None => tokenizer.encode_with_specials(&close.text)?,
        };
        Ok(Self { open, close, close_tokens })
    }

    /// Whether a rendered prompt ends with the opening marker.
    pub(super) fn end_of_prompt_opens(&self, prompt: &str) -> bool {
        prompt.trim_end().ends_with(self.open.text.as_str())
    }

    /// Whether a text, such as the beginning of an answer, opens the reasoning and leaves it open.
    pub(super) fn leaves_open(&self, text: &str) -> bool {
        let last = |marker: &Marker| text.rfind(marker.text.as_str());
        last(&self.open).is_some() && last(&self.open) > last(&self.close)
    }
}

impl Reasoning {
    /// The tokens that end the reasoning of a prompt, so that whatever follows is the answer;
    /// `None` if it is not open.
    pub fn closing(&self) -> Option<&[u32]> {
        self.open.then_some(&self.markers.close_tokens)
    }
}
