//! `tokenizer.json`, through the components of the `tokenizers` crate.
//!
//! The file is treated as hostile, and the crate panics on some files, so only its BPE model,
//! normalizers and pre-tokenizers are built, from parts that are checked first, and under
//! `catch_unwind`. The post-processor, truncation and padding are never built; the decoder is only
//! read, for how tokens represent bytes. Files with a byte-level pre-tokenizer that
//! `PreTokenizer` knows do not use the crate's splitting. [`settings`] reads the files beside
//! this one; [`parts`] parses and checks its parts.

mod parts;
mod settings;

use std::io::Read as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokenizers::models::bpe::{BPE, BpeBuilder, Merges, Vocab};
use tokenizers::normalizer::Range;
use tokenizers::{
    Model as _, NormalizedString, Normalizer as _, NormalizerWrapper, OffsetReferential,
    OffsetType, PreTokenizedString, PreTokenizer as _, PreTokenizerWrapper, Token,
};

use self::parts::{Merge, Parts};
#[cfg(feature = "encoder")]
pub(super) use self::parts::{list, type_of};
use self::settings::Settings;
use super::added::{AddedTokens, Match};
use super::bpe::{self, BpeOptions, ByteLevelBpe};
use super::vocab::{TokenType, Vocabulary};
use super::{Model, Tokenizer, end_tokens};
use crate::error::{Error, Result};

/// Largest file that is read, in bytes; Gemma's, among the largest, has 33 MB.
const MAX_BYTES: u64 = 64 << 20;

/// Reads the tokenizer.
pub(super) fn tokenizer(path: &Path) -> Result<Tokenizer> {
    let invalid = |reason: String| Error::invalid_file(path, reason);
    let parts = Parts::parse(&read(path)?).map_err(invalid)?;
    let vocabulary = parts.vocabulary().map_err(invalid)?;
    let settings = Settings::read(path, &vocabulary)?;
    let spelling = parts.spelling().map_err(invalid)?;
    let model = guard(|| model(&parts, &vocabulary)).map_err(invalid)?;
    let bos = settings.bos.or_else(|| parts.first_special(&vocabulary));
    Ok(Tokenizer {
        added: parts.added(),
        model,
        spelling,
        bos,
        add_bos: settings
            .add_bos
            .unwrap_or_else(|| bos.is_some() && parts.first_special(&vocabulary) == bos),
        end_tokens: end_tokens(&vocabulary, settings.ends),
        chat_template: settings.chat_template,
        vocabulary,
        notes: Vec::new(),
    })
}

/// The text of a file of at most [`MAX_BYTES`].
pub(super) fn read(path: &Path) -> Result<String> {
    let mut file = std::fs::File::open(path).map_err(|error| Error::io(path, error))?;
    let mut bytes = Vec::new();
    file.by_ref()
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::io(path, error))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::invalid_file(
            path,
            format!("is larger than {MAX_BYTES} bytes, the limit for a tokenizer's files"),
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        Error::invalid_file(
            path,
            format!("is not UTF-8 at byte {}", error.utf8_error().valid_up_to()),
        )
    })
}

/// Runs code of the crate that may panic on a file's content.
pub(super) fn guard<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|_| Err("makes the tokenizers library panic".into()))
}

fn model(parts: &Parts, vocabulary: &Vocabulary) -> Result<Model, String> {
    let merges = parts.model.merges.iter().map(Merge::pair);
    if let Some((split, nfc)) = parts.known_split() {
        let options = BpeOptions { split, nfc, ignore_merges: parts.model.ignore_merges() };
        return ByteLevelBpe::new(vocabulary, merges, options).map(Box::new).map(Model::ByteLevel);
    }
    let mut builder = builder(vocabulary, merges)?
        .byte_fallback(parts.model.byte_fallback())
        .fuse_unk(parts.model.fuse_unk())
        .ignore_merges(parts.model.ignore_merges());
    if let Some(unknown) = parts.unknown(vocabulary) {
        builder = builder.unk_token(unknown.to_owned());
    }
    let pipeline = JsonPipeline {
        model: builder.build().map_err(|error| format!("model: {error}"))?,
        normalizer: component("normalizer", &parts.normalizer)?,
        pre_tokenizer: component("pre_tokenizer", &parts.pre_tokenizer)?,
        normalized: AddedTokens::default(),
    };
    pipeline.with_normalized(parts).map(Box::new).map(Model::Json)
}

/// The crate's builder with the tokens that text may become and with `merges`, in order; errors as
/// in [`bpe::ids`].
fn builder<'a>(
    vocabulary: &Vocabulary,
    merges: impl ExactSizeIterator<Item = Result<(&'a str, &'a str), String>>,
) -> Result<BpeBuilder, String> {
    let kinds = [TokenType::Normal, TokenType::UserDefined, TokenType::Byte, TokenType::Unknown];
    let texts: Vocab = vocabulary
        .iter()
        .filter(|(_, _, kind)| kinds.contains(kind))
        .map(|(id, text, _)| (text.to_owned(), id))
        .collect();
    let text = |id: u32| vocabulary.text(id).unwrap_or_default().to_owned();
    let mut pairs = Merges::with_capacity(merges.len());
    let mut merged = String::new();
    for (rank, merge) in merges.enumerate() {
        let ids = bpe::ids(vocabulary, rank, merge, &mut merged)?;
        pairs.extend(ids.map(|[left, right, _]| (text(left), text(right))));
    }
    Ok(BPE::builder().vocab_and_merges(texts, pairs))
}

/// A component of the crate from its part of the file; `None` for `null`.
fn component<T: DeserializeOwned>(name: &str, value: &Value) -> Result<Option<T>, String> {
    serde_json::from_value(value.clone()).map_err(|error| format!("{name}: {error}"))
}

/// The crate's steps from text to ids.
#[derive(Clone, Debug)]
pub(super) struct JsonPipeline {
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    model: BPE,
    /// Added tokens that are matched in normalized text.
    normalized: AddedTokens,
}

impl JsonPipeline {
    /// Normalizes and adds the tokens that are matched in normalized text.
    fn with_normalized(mut self, parts: &Parts) -> Result<Self, String> {
        for (text, token) in parts.normalized_tokens() {
            let mut normalized = NormalizedString::from(text);
            self.normalize(&mut normalized)
                .map_err(|error| format!("added token {text:?}: {error}"))?;
            self.normalized.insert(normalized.get(), token);
        }
        Ok(self)
    }

    fn normalize(&self, text: &mut NormalizedString) -> tokenizers::Result<()> {
        self.normalizer.as_ref().map_or(Ok(()), |normalizer| normalizer.normalize(text))
    }

    /// Appends the tokens of `text`, given its `matches`.
    pub(super) fn encode(&self, text: &str, matches: &[Match], out: &mut Vec<u32>) -> Result<()> {
        let ids = guard(|| self.tokens(text, matches).map_err(|error| error.to_string()));
        out.extend(
            ids.map_err(|error| Error::Usage(format!("the text cannot be tokenized: {error}")))?,
        );
        Ok(())
    }

    fn tokens(&self, text: &str, matches: &[Match]) -> tokenizers::Result<Vec<u32>> {
        let mut pieces = PreTokenizedString::from(text);
        pieces.split(|_, whole| cut(&whole, matches))?;
        pieces.split(|_, mut piece| {
            self.normalize(&mut piece)?;
            let matches = self.normalized.find(piece.get(), &[]);
            cut(&piece, &matches)
        })?;
        if let Some(pre_tokenizer) = &self.pre_tokenizer {
            pre_tokenizer.pre_tokenize(&mut pieces)?;
        }
        pieces.tokenize(|piece| self.model.tokenize(piece.get()))?;
        let splits = pieces.get_splits(OffsetReferential::Original, OffsetType::None);
        Ok(splits
            .iter()
            .filter_map(|(_, _, tokens)| tokens.as_ref())
            .flatten()
            .map(|token| token.id)
            .collect())
    }
}

/// Cuts `text` at `matches`, which become tokens.
fn cut(
    text: &NormalizedString,
    matches: &[Match],
) -> tokenizers::Result<Vec<(NormalizedString, Option<Vec<Token>>)>> {
    let slice = |range: std::ops::Range<usize>| {
        text.slice(Range::Normalized(range)).ok_or("a match is not at a character's border")
    };
    let mut pieces = Vec::with_capacity(matches.len() * 2 + 1);
    let mut at = 0;
    for Match { range, id } in matches {
        pieces.push((slice(at..range.start)?, None));
        let piece = slice(range.clone())?;
        let token = Token::new(*id, piece.get().to_owned(), (0, piece.get().len()));
        pieces.push((piece, Some(vec![token])));
        at = range.end;
    }
    pieces.push((slice(at..text.get().len())?, None));
    Ok(pieces)
}
