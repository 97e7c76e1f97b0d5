//! Tokenizers: text to token ids and back, from a GGUF file's metadata or a `tokenizer.json`.
//!
//! Contract: [`Tokenizer::encode`] never returns a control token, whatever the text, so that
//! content cannot forge a turn; only text that the caller trusts is searched for control tokens.
//! Ids are those of the reference (`transformers`, llama.cpp), token for token. Decoding is exact
//! in bytes, and U+FFFD appears only for bytes that can never become a character. Beginning-of-text
//! tokens are never added. Knows nothing of templates or models.

mod added;
mod bpe;
mod classes;
mod decode;
#[cfg(feature = "encoder")]
mod encoder;
mod gguf;
mod json;
mod merges;
mod split;
mod spm;
mod vocab;

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};

pub use self::decode::Decoder;
#[cfg(feature = "encoder")]
pub use self::encoder::EncoderTokenizer;

use self::added::{AddedTokens, Match};
use self::bpe::ByteLevelBpe;
use self::json::JsonPipeline;
use self::spm::Spm;
use self::vocab::{TokenType, Vocabulary};
use crate::error::Result;
use crate::format::gguf::Metadata;

/// Names of tokens that end a turn or a text. A control token with one of these names is an end
/// token even if no key of the file says so.
const END_NAMES: [&str; 12] = [
    "<|im_end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|return|>",
    "<|end_of_turn|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<eos>",
    "</s>",
];

/// A tokenizer. Immutable; shared between threads by reference.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    vocabulary: Vocabulary,
    model: Model,
    added: AddedTokens,
    spelling: Spelling,
    bos: Option<u32>,
    add_bos: bool,
    end_tokens: Vec<u32>,
    chat_template: Option<TemplateSource>,
    notes: Vec<String>,
}

/// A template's text and the file that it is from.
#[derive(Clone, Debug)]
struct TemplateSource {
    text: String,
    file: PathBuf,
}

/// The model that encodes plain text.
#[derive(Clone, Debug)]
enum Model {
    ByteLevel(Box<ByteLevelBpe>),
    Spm(Spm),
    Json(Box<JsonPipeline>),
}

/// How a normal token's text represents bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spelling {
    /// One character per byte.
    ByteLevel,
    /// UTF-8 with `▁` for a space.
    SentencePiece {
        /// Whether the first space of a text was added by the encoder.
        drop_leading_space: bool,
    },
}

impl Tokenizer {
    /// The tokenizer that a GGUF file carries: `tokenizer.ggml.model` is `gpt2` with a supported
    /// `tokenizer.ggml.pre`, or `llama`.
    pub fn from_gguf(meta: &Metadata) -> Result<Self> {
        gguf::tokenizer(meta)
    }

    /// The tokenizer of a `tokenizer.json` of at most 64 MB, with end tokens and chat template from
    /// the `tokenizer_config.json`, `generation_config.json` and `chat_template.jinja` beside it,
    /// if they exist.
    pub fn from_file(path: &Path) -> Result<Self> {
        json::tokenizer(path)
    }

    /// Encodes untrusted text. Control tokens that the text spells out stay text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_trusted(text, &[])
    }

    /// Encodes text that is trusted as a whole, such as the fixed parts of a chat template: control
    /// tokens are recognized anywhere.
    pub fn encode_with_specials(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_trusted(text, std::slice::from_ref(&(0..text.len())))
    }

    /// Encodes text in which only the byte ranges `trusted` (ascending, disjoint) may contain
    /// control tokens. Everything between two control tokens is encoded as one text, across the
    /// ranges' borders, as the reference encodes a rendered template.
    pub fn encode_trusted(&self, text: &str, trusted: &[Range<usize>]) -> Result<Vec<u32>> {
        if matches!(self.model, Model::Spm(_)) && text.contains(spm::SPACE) {
            let (text, trusted) = spm::unescape(text, trusted);
            return self.encode_spelled(&text, &trusted);
        }
        self.encode_spelled(text, trusted)
    }

    /// [`Self::encode_trusted`] without SentencePiece's unescaping.
    fn encode_spelled(&self, text: &str, trusted: &[Range<usize>]) -> Result<Vec<u32>> {
        let matches = self.added.find(text, trusted);
        let mut out = Vec::with_capacity(text.len() / 3);
        if let Model::Json(pipeline) = &self.model {
            pipeline.encode(text, &matches, &mut out)?;
            return Ok(out);
        }
        let mut at = 0;
        for Match { range, id } in matches {
            self.encode_plain(&text[at..range.start], &mut out)?;
            out.push(id);
            at = range.end;
        }
        self.encode_plain(&text[at..], &mut out)?;
        Ok(out)
    }

    /// Appends the tokens of text without added tokens.
    fn encode_plain(&self, text: &str, out: &mut Vec<u32>) -> Result<()> {
        match &self.model {
            _ if text.is_empty() => Ok(()),
            Model::ByteLevel(bpe) => bpe.encode(&self.vocabulary, text, out),
            Model::Spm(spm) => spm.encode(&self.vocabulary, text, out),
            Model::Json(pipeline) => pipeline.encode(text, &[], out),
        }
    }

    /// What was guessed because the file does not say it, one sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Number of ids: one more than the largest.
    pub fn vocab_size(&self) -> usize {
        self.vocabulary.len()
    }

    /// The token's text in the vocabulary, such as `Ġthe` or `▁the`. For its bytes see
    /// [`Self::token_bytes`].
    pub fn token(&self, id: u32) -> Option<&str> {
        self.vocabulary.text(id)
    }

    /// The id of a token by its text in the vocabulary.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.vocabulary.id(token)
    }

    /// The beginning-of-text token.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// Whether the model expects [`Self::bos`] before its text, if no template writes it.
    pub fn add_bos(&self) -> bool {
        self.add_bos
    }

    /// The tokens that end a text or a turn, starting with the file's own end-of-text token.
    pub fn end_tokens(&self) -> &[u32] {
        &self.end_tokens
    }

    /// Whether the token has no text: control, unknown, unused, and ids outside the vocabulary.
    pub fn is_special(&self, id: u32) -> bool {
        self.vocabulary.kind(id).is_special()
    }

    /// The token's exact bytes, possibly part of a character; empty for special tokens.
    pub fn token_bytes(&self, id: u32) -> Cow<'_, [u8]> {
        let text = self.vocabulary.text(id).unwrap_or_default();
        match (self.vocabulary.kind(id), self.spelling) {
            (TokenType::UserDefined, Spelling::ByteLevel) => text.as_bytes().into(),
            (TokenType::Normal | TokenType::UserDefined, Spelling::SentencePiece { .. })
                if !text.contains(spm::SPACE) =>
            {
                text.as_bytes().into()
            }
            _ => {
                let mut bytes = Vec::with_capacity(text.len());
                self.append_bytes(id, &mut bytes);
                bytes.into()
            }
        }
    }

    /// Appends [`Self::token_bytes`].
    pub fn append_bytes(&self, id: u32, out: &mut Vec<u8>) {
        let text = self.vocabulary.text(id).unwrap_or_default();
        match (self.vocabulary.kind(id), self.spelling) {
            (TokenType::Unknown | TokenType::Control | TokenType::Unused, _) => {}
            (TokenType::Byte, _) => out.extend(vocab::byte_value(text)),
            (TokenType::Normal, Spelling::ByteLevel) => bpe::append_bytes(text, out),
            (TokenType::UserDefined, Spelling::ByteLevel) => out.extend_from_slice(text.as_bytes()),
            (TokenType::Normal | TokenType::UserDefined, Spelling::SentencePiece { .. }) => {
                for (at, part) in text.split(spm::SPACE).enumerate() {
                    out.extend((at > 0).then_some(b' '));
                    out.extend_from_slice(part.as_bytes());
                }
            }
        }
    }

    /// The text of `ids`; special tokens are skipped, and a space that the encoder added at the
    /// start is removed. Invalid UTF-8 becomes U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut decoder = self.decoder();
        let mut text: String = ids.iter().map(|&id| decoder.push(id)).collect();
        text.push_str(&decoder.finish());
        text
    }

    /// The chat template that comes with the model, as Jinja source.
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_ref().map(|template| template.text.as_str())
    }

    /// The file that the chat template is from.
    pub fn chat_template_file(&self) -> Option<&Path> {
        self.chat_template.as_ref().map(|template| template.file.as_path())
    }

    /// A decoder for a stream of ids.
    pub fn decoder(&self) -> Decoder<'_> {
        Decoder::new(self)
    }

    fn drops_leading_space(&self) -> bool {
        self.spelling == Spelling::SentencePiece { drop_leading_space: true }
    }
}

/// Whether a token is a control token by its name, whatever type the file gives it: `<|…|>`,
/// `<｜…｜>`, turn markers. Not `</s>`, which is an HTML tag to Qwen and Gemma.
fn looks_like_control(text: &str) -> bool {
    let enclosed = |open, close| {
        text.strip_prefix(open)
            .and_then(|rest: &str| rest.strip_suffix(close))
            .is_some_and(|name| !name.is_empty())
    };
    enclosed("<|", "|>")
        || enclosed("<｜", "｜>")
        || matches!(text, "<start_of_turn>" | "<end_of_turn>")
}

/// `first`, then every control token with one of [`END_NAMES`], each once.
fn end_tokens(vocabulary: &Vocabulary, first: impl IntoIterator<Item = u32>) -> Vec<u32> {
    let named = END_NAMES
        .iter()
        .filter_map(|name| vocabulary.id(name))
        .filter(|&id| vocabulary.kind(id) == TokenType::Control);
    let mut ends = Vec::new();
    for id in first.into_iter().chain(named) {
        if !ends.contains(&id) {
            ends.push(id);
        }
    }
    ends
}
