//! The parts of a `tokenizer.json`, parsed without the `tokenizers` crate, with checks that the
//! crate lacks.
//!
//! Knows the format, not how text is encoded.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::error::Result;
use crate::tokenizer::added::{AddedToken, AddedTokens, MAX_ADDED_BYTES};
use crate::tokenizer::split::PreTokenizer;
use crate::tokenizer::vocab::{TokenType, Vocabulary, byte_value};
use crate::tokenizer::{Spelling, bpe, looks_like_control};

/// Ids from here on are refused: a single large id must not make a large vocabulary.
const MAX_IDS: u32 = 1 << 22;
/// Llama 3's expression, as its files spell it.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen 2's expression, as its files spell it.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The parts that are used; truncation and padding are not.
#[derive(Debug, Deserialize)]
pub(super) struct Parts {
    pub(super) model: BpePart,
    #[serde(default)]
    added_tokens: Vec<AddedPart>,
    #[serde(default)]
    pub(super) normalizer: Value,
    #[serde(default)]
    pub(super) pre_tokenizer: Value,
    #[serde(default)]
    decoder: Value,
    #[serde(default)]
    post_processor: Value,
}

/// A BPE model.
#[derive(Debug, Deserialize)]
pub(super) struct BpePart {
    r#type: Option<String>,
    vocab: Texts,
    pub(super) merges: Vec<Merge>,
    unk_token: Option<String>,
    byte_fallback: Option<bool>,
    fuse_unk: Option<bool>,
    ignore_merges: Option<bool>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
}

impl BpePart {
    pub(super) fn byte_fallback(&self) -> bool {
        self.byte_fallback.unwrap_or(false)
    }

    pub(super) fn fuse_unk(&self) -> bool {
        self.fuse_unk.unwrap_or(false)
    }

    pub(super) fn ignore_merges(&self) -> bool {
        self.ignore_merges.unwrap_or(false)
    }
}

/// An added token.
#[derive(Debug, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the flags are the file format's")]
struct AddedPart {
    id: u32,
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    normalized: bool,
    #[serde(default)]
    special: bool,
}

/// The map from tokens to ids, in file order.
#[derive(Debug)]
struct Texts(Vec<(String, u32)>);

/// A merge in either form of the format: one text with a space, or a list of two texts.
#[derive(Debug)]
pub(super) enum Merge {
    Text(String),
    Pair(String, String),
}

impl Merge {
    /// The two tokens, or the invalid text.
    pub(super) fn pair(&self) -> Result<(&str, &str), String> {
        match self {
            Self::Text(text) => bpe::pair(text).ok_or_else(|| text.clone()),
            Self::Pair(left, right) => Ok((left, right)),
        }
    }
}

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a map from tokens to ids")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts, A::Error> {
        let mut texts = Vec::new();
        while let Some(entry) = map.next_entry()? {
            texts.push(entry);
        }
        Ok(Texts(texts))
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TextsVisitor)
    }
}

struct MergeVisitor;

impl<'de> Visitor<'de> for MergeVisitor {
    type Value = Merge;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a merge: two tokens")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Merge, E> {
        Ok(Merge::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Merge, A::Error> {
        match (seq.next_element()?, seq.next_element()?, seq.next_element::<String>()?) {
            (Some(left), Some(right), None) => Ok(Merge::Pair(left, right)),
            _ => Err(A::Error::custom("a merge is not of two tokens")),
        }
    }
}

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MergeVisitor)
    }
}

/// The part of a file that says what its model is.
#[derive(Deserialize)]
struct Outline {
    model: ModelType,
}

#[derive(Deserialize)]
struct ModelType {
    r#type: Option<String>,
}

impl Parts {
    /// Parses and checks a file; `Err` is what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let other_model = |name: Option<String>| {
            name.filter(|name| name != "BPE")
                .map(|name| format!("model.type is {name:?}, supported is \"BPE\""))
        };
        let parts: Self = serde_json::from_str(text).map_err(|error| {
            // Another model's vocabulary may have another form: its name says more than where that
            // form begins.
            let name = serde_json::from_str(text)
                .ok()
                .and_then(|Outline { model: ModelType { r#type } }| r#type);
            other_model(name).unwrap_or_else(|| format!("is not a tokenizer.json: {error}"))
        })?;
        if let Some(reason) = other_model(parts.model.r#type.clone()) {
            return Err(reason);
        }
        let affixes = [
            ("continuing_subword_prefix", &parts.model.continuing_subword_prefix),
            ("end_of_word_suffix", &parts.model.end_of_word_suffix),
        ];
        if let Some((name, Some(affix))) =
            affixes.iter().find(|(_, affix)| affix.as_ref().is_some_and(|affix| !affix.is_empty()))
        {
            return Err(format!("model.{name} is {affix:?}, supported is none"));
        }
        check_component("normalizer", &parts.normalizer)?;
        check_component("pre_tokenizer", &parts.pre_tokenizer)?;
        check_templates(&parts.post_processor)?;
        Ok(parts)
    }

    /// Texts and kinds by id, from the model and the added tokens. Ids that neither names are
    /// unused.
    pub(super) fn vocabulary(&self) -> Result<Vocabulary, String> {
        let ids = self
            .model
            .vocab
            .0
            .iter()
            .map(|(_, id)| *id)
            .chain(self.added_tokens.iter().map(|token| token.id));
        let len = ids.max().map_or(0, |id| id.saturating_add(1));
        if len > MAX_IDS {
            return Err(format!(
                "the largest token id is {}, the limit is {}",
                len - 1,
                MAX_IDS - 1
            ));
        }
        let mut tokens = vec![("", TokenType::Unused); len as usize];
        for (text, id) in &self.model.vocab.0 {
            let slot = &mut tokens[*id as usize];
            if slot.1 != TokenType::Unused {
                return Err(format!("tokens {:?} and {text:?} have the same id {id}", slot.0));
            }
            *slot = (text, self.kind(text));
        }
        for token in &self.added_tokens {
            let slot = &mut tokens[token.id as usize];
            if slot.1 != TokenType::Unused && slot.0 != token.content {
                return Err(format!(
                    "added token {:?} has id {}, which is {:?} in the model",
                    token.content, token.id, slot.0
                ));
            }
            if token.content.len() > MAX_ADDED_BYTES {
                return Err(format!(
                    "added token {} has {} bytes, the limit is {MAX_ADDED_BYTES}",
                    token.id,
                    token.content.len()
                ));
            }
            *slot = (&token.content, self.added_kind(token));
        }
        Vocabulary::new(tokens.into_iter()).map_err(|error| error.to_string())
    }

    fn kind(&self, text: &str) -> TokenType {
        match text {
            _ if looks_like_control(text) => TokenType::Control,
            _ if self.model.unk_token.as_deref() == Some(text) => TokenType::Unknown,
            _ if self.model.byte_fallback() && byte_value(text).is_some() => TokenType::Byte,
            _ => TokenType::Normal,
        }
    }

    fn added_kind(&self, token: &AddedPart) -> TokenType {
        match self.kind(&token.content) {
            TokenType::Normal | TokenType::Byte if token.special => TokenType::Control,
            TokenType::Normal | TokenType::Byte => TokenType::UserDefined,
            kind => kind,
        }
    }

    fn flags(&self, token: &AddedPart) -> AddedToken {
        AddedToken {
            id: token.id,
            control: self.added_kind(token) != TokenType::UserDefined,
            strip_left: token.lstrip,
            strip_right: token.rstrip,
            single_word: token.single_word,
        }
    }

    /// The tokens that are matched in text as it is. Control tokens always are.
    pub(super) fn added(&self) -> AddedTokens {
        let mut added = AddedTokens::default();
        for token in self.added_tokens.iter().filter(|token| !self.in_normalized_text(token)) {
            added.insert(&token.content, self.flags(token));
        }
        added
    }

    /// The tokens that are matched in normalized text.
    pub(super) fn normalized_tokens(&self) -> impl Iterator<Item = (&str, AddedToken)> {
        self.added_tokens
            .iter()
            .filter(|token| self.in_normalized_text(token))
            .map(|token| (token.content.as_str(), self.flags(token)))
    }

    fn in_normalized_text(&self, token: &AddedPart) -> bool {
        token.normalized
            && !self.normalizer.is_null()
            && self.added_kind(token) == TokenType::UserDefined
    }

    /// The token for text that has none; it must not be a token that ends turns.
    pub(super) fn unknown<'a>(&'a self, vocabulary: &Vocabulary) -> Option<&'a str> {
        let unknown = self.model.unk_token.as_deref()?;
        vocabulary
            .id(unknown)
            .filter(|&id| vocabulary.kind(id) == TokenType::Unknown)
            .map(|_| unknown)
    }

    /// The pre-tokenizer that this file's components amount to, and whether text is composed first;
    /// `None` if it is none of ours.
    pub(super) fn known_split(&self) -> Option<(PreTokenizer, bool)> {
        let nfc = match type_of(&self.normalizer) {
            _ if self.normalizer.is_null() => false,
            Some("NFC") => true,
            Some("Sequence") if list(&self.normalizer, "normalizers").is_empty() => false,
            _ => return None,
        };
        if self.normalized_tokens().next().is_some() {
            return None;
        }
        let split = match list(&self.pre_tokenizer, "pretokenizers") {
            [] if is_byte_level(&self.pre_tokenizer, true) => PreTokenizer::Gpt2,
            [digits, last] if is_byte_level(last, true) && single_digits(digits) => {
                PreTokenizer::Smollm
            }
            [split, last] if is_byte_level(last, false) => match isolated_regex(split)? {
                LLAMA3 => PreTokenizer::Llama3,
                QWEN2 => PreTokenizer::Qwen2,
                _ => return None,
            },
            _ => return None,
        };
        Some((split, nfc))
    }

    /// How tokens spell bytes, from the decoder.
    pub(super) fn spelling(&self) -> Result<Spelling, String> {
        let steps = match list(&self.decoder, "decoders") {
            [] => std::slice::from_ref(&self.decoder),
            steps => steps,
        };
        let mut drop_leading_space = false;
        for step in steps {
            match type_of(step) {
                Some("ByteLevel") => return Ok(Spelling::ByteLevel),
                Some("Replace") if step["pattern"]["String"] == "▁" && step["content"] == " " => {
                }
                Some("ByteFallback" | "Fuse") => {}
                Some("Strip")
                    if step["content"] == " " && step["start"] == 1 && step["stop"] == 0 =>
                {
                    drop_leading_space = true;
                }
                Some("Metaspace") if step["replacement"] == "▁" => {
                    drop_leading_space =
                        step["prepend_scheme"] != "never" && step["add_prefix_space"] != false;
                }
                _ => {
                    return Err(format!(
                        "decoder {step} is not supported; supported: ByteLevel, Metaspace with \
                         \"▁\", and Replace of \"▁\" by \" \", ByteFallback, Fuse, Strip of one \
                         leading space"
                    ));
                }
            }
        }
        Ok(Spelling::SentencePiece { drop_leading_space })
    }

    /// The special token that the post-processor puts before a single text.
    pub(super) fn first_special(&self, vocabulary: &Vocabulary) -> Option<u32> {
        let first = templates(&self.post_processor)
            .find_map(|template| list(template, "single").first())?;
        vocabulary.id(first["SpecialToken"]["id"].as_str()?)
    }
}

/// The list under `key`, empty if there is none.
pub(in crate::tokenizer) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

pub(in crate::tokenizer) fn type_of(value: &Value) -> Option<&str> {
    value["type"].as_str()
}

fn is_byte_level(value: &Value, regex: bool) -> bool {
    let uses_regex = value["use_regex"].as_bool().unwrap_or(true);
    type_of(value) == Some("ByteLevel") && value["add_prefix_space"] == false && uses_regex == regex
}

fn single_digits(value: &Value) -> bool {
    type_of(value) == Some("Digits") && value["individual_digits"] == true
}

fn isolated_regex(value: &Value) -> Option<&str> {
    let isolated = type_of(value) == Some("Split")
        && value["behavior"] == "Isolated"
        && value["invert"] == false;
    value["pattern"]["Regex"].as_str().filter(|_| isolated)
}

/// Refuses components on which the crate panics, wherever they are nested.
fn check_component(name: &str, value: &Value) -> Result<(), String> {
    match type_of(value) {
        Some("FixedLength") if value["length"] == 0 => {
            Err(format!("{name} FixedLength has length 0, want 1 or more"))
        }
        Some("Precompiled") => Err(format!("{name} Precompiled is not supported")),
        _ => ["normalizers", "pretokenizers"]
            .iter()
            .flat_map(|key| list(value, key))
            .try_for_each(|part| check_component(name, part)),
    }
}

/// The template processors of a post-processor.
fn templates(value: &Value) -> impl Iterator<Item = &Value> {
    std::iter::once(value)
        .chain(list(value, "processors"))
        .filter(|value| type_of(value) == Some("TemplateProcessing"))
}

/// Refuses templates that name special tokens which they do not define.
fn check_templates(value: &Value) -> Result<(), String> {
    for template in templates(value) {
        for piece in list(template, "single").iter().chain(list(template, "pair")) {
            let special = piece["SpecialToken"]["id"].as_str();
            if let Some(name) =
                special.filter(|name| template["special_tokens"].get(name).is_none())
            {
                return Err(format!(
                    "post_processor names the special token {name:?}, which its special_tokens do \
                     not define"
                ));
            }
        }
    }
    Ok(())
}
