//! The tokenizer in a GGUF file's metadata. The file is treated as hostile: every id and byte token
//! is range-checked and every merge is looked up.
//!
//! Knows the keys `tokenizer.*`, and no tensors.

use super::added::{AddedToken, AddedTokens, MAX_ADDED_BYTES};
use super::bpe::{self, BpeOptions, ByteLevelBpe};
use super::split::PreTokenizer;
use super::spm::Spm;
use super::vocab::{TokenType, Vocabulary, byte_value};
use super::{Model, Spelling, TemplateSource, Tokenizer, end_tokens, looks_like_control};
use crate::error::Result;
use crate::format::gguf::Metadata;

const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const SCORES: &str = "tokenizer.ggml.scores";
const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const BOS: &str = "tokenizer.ggml.bos_token_id";
const EOS: &str = "tokenizer.ggml.eos_token_id";
const UNKNOWN: &str = "tokenizer.ggml.unknown_token_id";

/// The pre-tokenizer of each supported `tokenizer.ggml.pre`. No key has a family's expressions, nor
/// the NFC normalization of Qwen (which llama.cpp omits), nor Llama 3's `ignore_merges`.
const PRE_TOKENIZERS: [(&str, BpeOptions); 12] = [
    ("smollm", plain(PreTokenizer::Smollm)),
    ("qwen2", BpeOptions { nfc: true, ..plain(PreTokenizer::Qwen2) }),
    ("llama-bpe", LLAMA3),
    ("gpt-2", plain(PreTokenizer::Gpt2)),
    ("default", plain(PreTokenizer::Default)),
    ("llama3", LLAMA3),
    ("llama-v3", LLAMA3),
    ("lfm2", LLAMA3),
    ("smaug-bpe", plain(PreTokenizer::Llama3)),
    ("dbrx", plain(PreTokenizer::Llama3)),
    ("olmo", plain(PreTokenizer::Gpt2)),
    ("refact", plain(PreTokenizer::Smollm)),
];

const LLAMA3: BpeOptions = BpeOptions { ignore_merges: true, ..plain(PreTokenizer::Llama3) };

const fn plain(split: PreTokenizer) -> BpeOptions {
    BpeOptions { split, nfc: false, ignore_merges: false }
}

/// Reads the tokenizer.
pub(super) fn tokenizer(meta: &Metadata) -> Result<Tokenizer> {
    let sentence_piece = match meta.require_str(MODEL)? {
        "gpt2" => false,
        "llama" => true,
        other => {
            return Err(meta.error(
                MODEL,
                format!(
                    "is {other:?}; supported: \"gpt2\" \
                (byte-level BPE) and \"llama\" (SentencePiece)"
                ),
            ));
        }
    };
    let texts = meta.require_strings(TOKENS)?;
    let ids = Ids::read(meta, texts.len(), sentence_piece)?;
    let vocabulary = vocabulary(meta, texts, &ids)?;
    let added = added(meta, &vocabulary)?;
    let (model, spelling) = if sentence_piece {
        sentence_piece_model(meta, &vocabulary, &ids)?
    } else {
        byte_level_model(meta, &vocabulary)?
    };
    // Early files of Llama 3 lack the key although its texts begin with a token.
    let llama3 = !sentence_piece && pre_tokenizer(meta)? == LLAMA3;
    let add_bos = meta.bool("tokenizer.ggml.add_bos_token")?.unwrap_or(sentence_piece || llama3);
    let template = meta.str("tokenizer.chat_template")?;
    let chat_template =
        template.map(|text| TemplateSource { text: text.to_owned(), file: meta.path().to_owned() });
    let end_tokens = end_tokens(&vocabulary, ids.ends);
    Ok(Tokenizer {
        vocabulary,
        model,
        added,
        spelling,
        bos: ids.bos,
        add_bos,
        end_tokens,
        chat_template,
        notes: pre_tokenizer_note(meta, sentence_piece).into_iter().collect(),
    })
}

/// A note if the pre-tokenizer of a byte-level vocabulary is a guess.
fn pre_tokenizer_note(meta: &Metadata, sentence_piece: bool) -> Option<String> {
    (!sentence_piece && !meta.contains(PRE)).then(|| {
        format!(
            "the file has no {PRE}: its texts are split as llama.cpp's default does, which may \
             not be how the model was trained; a newer conversion of the model names it"
        )
    })
}

/// The ids of tokens that have their own key.
struct Ids {
    bos: Option<u32>,
    /// End of text, of turn, of message.
    ends: Vec<u32>,
    unknown: Option<u32>,
}

impl Ids {
    /// Reads the keys. A `llama` vocabulary without them has SentencePiece's defaults: 0 unknown, 1
    /// begin, 2 end.
    fn read(meta: &Metadata, tokens: usize, sentence_piece: bool) -> Result<Self> {
        let read = |key: &str, default: u32| -> Result<Option<u32>> {
            let id = meta.u32(key)?;
            match id {
                Some(id) if id as usize >= tokens => {
                    Err(meta.error(key, format!("is {id}, but the vocabulary has {tokens} tokens")))
                }
                None if sentence_piece => Ok(Some(default).filter(|&id| (id as usize) < tokens)),
                _ => Ok(id),
            }
        };
        let ends = [
            (EOS, 2),
            ("tokenizer.ggml.eot_token_id", u32::MAX),
            ("tokenizer.ggml.eom_token_id", u32::MAX),
        ];
        let ends: Vec<_> =
            ends.iter().map(|(key, default)| read(key, *default)).collect::<Result<_>>()?;
        Ok(Self {
            bos: read(BOS, 1)?,
            ends: ends.into_iter().flatten().collect(),
            unknown: read(UNKNOWN, 0)?,
        })
    }

    /// Whether the token begins or ends a text or a turn.
    fn is_boundary(&self, id: u32) -> bool {
        self.bos == Some(id) || self.ends.contains(&id)
    }
}

/// Texts and types. A token that content could forge because of a wrong type becomes a control
/// token.
fn vocabulary(meta: &Metadata, texts: Vec<&str>, ids: &Ids) -> Result<Vocabulary> {
    let types = meta.i32s(TYPES)?;
    if let Some(types) = types.as_ref().filter(|types| types.len() != texts.len()) {
        return Err(
            meta.error(TYPES, format!("has {} types for {} tokens", types.len(), texts.len()))
        );
    }
    let mut kinds = Vec::with_capacity(texts.len());
    for (id, text) in texts.iter().enumerate() {
        let kind = match types.as_ref().and_then(|types| types.get(id)) {
            None => kind_by_name(id as u32, text, ids),
            Some(&number) => {
                let unknown_type = || {
                    meta.error(TYPES, format!("is {number} for token {id} ({text:?}), want 1 to 6"))
                };
                TokenType::from_ggml(number).ok_or_else(unknown_type)?
            }
        };
        kinds.push(safe_token_type(kind, id as u32, text, ids));
    }
    Vocabulary::new(texts.into_iter().zip(kinds))
}

/// The type of a token in a file without types.
fn kind_by_name(id: u32, text: &str, ids: &Ids) -> TokenType {
    match text {
        _ if ids.unknown == Some(id) => TokenType::Unknown,
        _ if byte_value(text).is_some() => TokenType::Byte,
        _ => TokenType::Normal,
    }
}

/// The type of a token from the file, its name and its role.
fn safe_token_type(kind: TokenType, id: u32, text: &str, ids: &Ids) -> TokenType {
    let bracketed = || {
        (text.starts_with('<') && text.ends_with('>'))
            || (text.starts_with('[') && text.ends_with(']'))
    };
    match kind {
        TokenType::Normal | TokenType::UserDefined
            if looks_like_control(text) || (ids.is_boundary(id) && bracketed()) =>
        {
            TokenType::Control
        }
        _ => kind,
    }
}

/// The tokens that are matched before the merges.
fn added(meta: &Metadata, vocabulary: &Vocabulary) -> Result<AddedTokens> {
    let mut added = AddedTokens::default();
    for (id, text, kind) in vocabulary.iter() {
        let control = matches!(kind, TokenType::Control | TokenType::Unknown);
        if !control && kind != TokenType::UserDefined {
            continue;
        }
        if text.len() > MAX_ADDED_BYTES {
            let kind = if control { "control" } else { "user-defined" };
            return Err(meta.error(
                TOKENS,
                format!(
                    "has a {kind} token {id} of {} bytes, the limit is {MAX_ADDED_BYTES}",
                    text.len()
                ),
            ));
        }
        added.insert(text, AddedToken { id, control, ..AddedToken::default() });
    }
    Ok(added)
}

/// The pre-tokenizer that the file names.
fn pre_tokenizer(meta: &Metadata) -> Result<BpeOptions> {
    let name = meta.str(PRE)?.unwrap_or("default");
    let known =
        PRE_TOKENIZERS.iter().find(|(known, _)| *known == name).map(|(_, options)| *options);
    known.ok_or_else(|| {
        meta.error(
            PRE,
            format!("is {name:?}; supported: {}", PRE_TOKENIZERS.map(|(name, _)| name).join(", ")),
        )
    })
}

fn byte_level_model(meta: &Metadata, vocabulary: &Vocabulary) -> Result<(Model, Spelling)> {
    let options = pre_tokenizer(meta)?;
    let merges = meta.require_strings(MERGES)?;
    let merges = merges.iter().map(|merge| bpe::pair(merge).ok_or_else(|| (*merge).to_owned()));
    let model = ByteLevelBpe::new(vocabulary, merges, options)
        .map_err(|reason| meta.error(MERGES, format!("cannot be used: {reason}")))?;
    Ok((Model::ByteLevel(Box::new(model)), Spelling::ByteLevel))
}

fn sentence_piece_model(
    meta: &Metadata,
    vocabulary: &Vocabulary,
    ids: &Ids,
) -> Result<(Model, Spelling)> {
    let scores = meta.f32s(SCORES)?.ok_or_else(|| meta.error(SCORES, "is missing"))?;
    let prefix = meta.bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    // Text without a token must not end the turn, so the unknown token cannot be an end token.
    let unknown =
        ids.unknown.filter(|&id| vocabulary.kind(id) != TokenType::Byte && !ids.is_boundary(id));
    let model = Spm::new(vocabulary, scores, unknown, prefix)
        .map_err(|reason| meta.error(TOKENS, format!("cannot be used: {reason}")))?;
    Ok((Model::Spm(model), Spelling::SentencePiece { drop_leading_space: prefix }))
}
