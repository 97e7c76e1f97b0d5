//! Tokenizers of encoders: WordPiece, Unigram or BPE from a `tokenizer.json`, through the
//! `tokenizers` crate.
//!
//! The file is treated as hostile: types of components are checked first, and the crate, which
//! panics on some files, runs under `catch_unwind`. Its post-processor, truncation and padding are
//! switched off: the caller adds special tokens, and text never becomes one.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::PostProcessorWrapper;

use super::json::{guard, list, read, type_of};
use crate::error::{Error, Result};

const MODELS: &[&str] = &["WordPiece", "Unigram", "BPE"];
/// Normalizers and pre-tokenizers that make a text longer by a constant factor at most.
const COMPONENTS: &[&str] = &[
    "Sequence",
    "BertNormalizer",
    "BertPreTokenizer",
    "ByteLevel",
    "Digits",
    "Lowercase",
    "Metaspace",
    "NFC",
    "NFD",
    "NFKC",
    "Nmt",
    "Precompiled",
    "Punctuation",
    "Replace",
    "Split",
    "Strip",
    "StripAccents",
    "Whitespace",
    "WhitespaceSplit",
];
/// Only the end of a longer text is tokenized, in bytes: far more than an encoder reads.
const MAX_TEXT_BYTES: usize = 1 << 16;
/// WordPiece takes time quadratic in the length of a word, which this bounds, in characters.
const MAX_WORD_CHARS: u64 = 1000;

/// The parts of the file that are checked before the crate reads it.
#[derive(Deserialize)]
struct Outline {
    model: ModelOutline,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    added_tokens: Vec<AddedOutline>,
}

#[derive(Deserialize)]
struct ModelOutline {
    r#type: String,
    max_input_chars_per_word: Option<u64>,
}

#[derive(Deserialize)]
struct AddedOutline {
    id: u32,
    #[serde(default)]
    special: bool,
}

/// A tokenizer of BERT's kind: text to ids, with the tokens `[CLS]`, `[SEP]` and `[UNK]`.
pub struct EncoderTokenizer {
    inner: tokenizers::Tokenizer,
    special: Vec<u32>,
    unk: u32,
    /// The token before a text.
    pub cls: u32,
    /// The token after each text.
    pub sep: u32,
    /// One more than the largest id.
    pub vocab_size: usize,
}

impl EncoderTokenizer {
    /// Reads a `tokenizer.json` of at most 64 MB. [`Error::InvalidFile`] names what is invalid or
    /// not supported.
    pub fn from_file(path: &Path) -> Result<Self> {
        let text = read(path)?;
        Self::parse(&text).map_err(|reason| Error::invalid_file(path, reason))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let outline: Outline = serde_json::from_str(text)
            .map_err(|error| format!("is not a tokenizer.json: {error}"))?;
        let Outline { model, normalizer, pre_tokenizer, added_tokens } = outline;
        if !MODELS.contains(&model.r#type.as_str()) {
            return Err(format!("model.type is {:?}, supported: {MODELS:?}", model.r#type));
        }
        match model.max_input_chars_per_word {
            Some(chars) if chars > MAX_WORD_CHARS => {
                return Err(format!(
                    "model.max_input_chars_per_word is {chars}, the limit is {MAX_WORD_CHARS}"
                ));
            }
            _ => {}
        }
        check_component("normalizer", &normalizer)?;
        check_component("pre_tokenizer", &pre_tokenizer)?;
        let inner = guard(|| {
            let mut inner: tokenizers::Tokenizer = text.parse().map_err(|e| format!("{e}"))?;
            inner.with_padding(None).with_post_processor(None::<PostProcessorWrapper>);
            inner.with_truncation(None).map_err(|e| format!("{e}"))?;
            inner.set_encode_special_tokens(true);
            Ok(inner)
        })?;
        let id = |name: &str| {
            inner.token_to_id(name).ok_or_else(|| {
                format!("has no token {name}; supported are tokenizers with [CLS], [SEP], [UNK]")
            })
        };
        let largest = inner.get_vocab(true).into_values().max().unwrap_or_default();
        Ok(Self {
            special: added_tokens.iter().filter(|token| token.special).map(|t| t.id).collect(),
            cls: id("[CLS]")?,
            sep: id("[SEP]")?,
            unk: id("[UNK]")?,
            vocab_size: largest as usize + 1,
            inner,
        })
    }

    /// The ids of `text` without special tokens around it. A special token that the text spells
    /// out and that its model has as a piece becomes `[UNK]`.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let start = text.ceil_char_boundary(text.len().saturating_sub(MAX_TEXT_BYTES));
        let text = text.get(start..).unwrap_or_default();
        let ids = guard(|| {
            self.inner
                .encode_fast(text, false)
                .map(|encoding| encoding.get_ids().to_vec())
                .map_err(|error| error.to_string())
        });
        let mut ids =
            ids.map_err(|error| Error::Usage(format!("the text cannot be tokenized: {error}")))?;
        for id in ids.iter_mut().filter(|id| self.special.contains(id)) {
            *id = self.unk;
        }
        Ok(ids)
    }
}

/// Refuses components, wherever they are nested, that could make a text much longer or that nobody
/// has checked.
fn check_component(name: &str, value: &Value) -> Result<(), String> {
    match type_of(value) {
        None if value.is_null() => Ok(()),
        Some("Replace") if value["content"].as_str().is_none_or(|c| c.chars().count() > 1) => {
            Err(format!("{name} Replace has content {}, want one character", value["content"]))
        }
        Some(kind) if COMPONENTS.contains(&kind) => ["normalizers", "pretokenizers"]
            .iter()
            .flat_map(|key| list(value, key))
            .try_for_each(|part| check_component(name, part)),
        kind => Err(format!(
            "{name} is {:?}, supported: {}",
            kind.unwrap_or_default(),
            COMPONENTS.join(", ")
        )),
    }
}
