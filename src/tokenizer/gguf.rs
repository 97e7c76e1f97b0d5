//! The tokenizer in a GGUF file's metadata. The file is hostile: every id and byte token is
//! range-checked, every merge looked up.
//!
//! Knows the keys `tokenizer.*` and nothing of tensors.

use super::added::{Added, AddedToken, MAX_ADDED_BYTES};
use super::bpe::{self, ByteLevelBpe, Options};
use super::split::Split;
use super::spm::Spm;
use super::vocab::{Kind, Vocabulary, byte_value};
use super::{Model, SourceText, Spelling, Tokenizer, end_tokens, looks_like_control};
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

/// What each supported `tokenizer.ggml.pre` stands for. The expressions of a family are in no key,
/// nor is that Qwen composes its text (NFC, which llama.cpp leaves out) and that Llama 3 takes
/// words that are tokens as they are.
const PRE_TOKENIZERS: [(&str, Options); 12] = [
    ("smollm", plain(Split::Smollm)),
    ("qwen2", Options { compose: true, ..plain(Split::Qwen2) }),
    ("llama-bpe", LLAMA3),
    ("gpt-2", plain(Split::Gpt2)),
    ("default", plain(Split::Default)),
    ("llama3", LLAMA3),
    ("llama-v3", LLAMA3),
    ("lfm2", LLAMA3),
    ("smaug-bpe", plain(Split::Llama3)),
    ("dbrx", plain(Split::Llama3)),
    ("olmo", plain(Split::Gpt2)),
    ("refact", plain(Split::Smollm)),
];

const LLAMA3: Options = Options { whole_words: true, ..plain(Split::Llama3) };

const fn plain(split: Split) -> Options {
    Options { split, compose: false, whole_words: false }
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
                    "is {other:?}, supported are \"gpt2\" \
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
    // Early files of Llama 3 forget to say that its texts begin with a token.
    let llama3 = !sentence_piece && pre_tokenizer(meta)? == LLAMA3;
    let add_bos = meta.bool("tokenizer.ggml.add_bos_token")?.unwrap_or(sentence_piece || llama3);
    let template = meta.str("tokenizer.chat_template")?;
    let chat_template =
        template.map(|text| SourceText { text: text.to_owned(), file: meta.path().to_owned() });
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

/// A note where the pre-tokenizer of a byte-level vocabulary is a guess.
fn pre_tokenizer_note(meta: &Metadata, sentence_piece: bool) -> Option<String> {
    (!sentence_piece && !meta.contains(PRE)).then(|| {
        format!(
            "the file has no {PRE}: its texts are split as llama.cpp's default does, which may \
             not be how the model was trained; a newer conversion of the model names it"
        )
    })
}

/// The ids that have a key of their own.
struct Ids {
    bos: Option<u32>,
    /// End of text, of turn, of message.
    ends: Vec<u32>,
    unknown: Option<u32>,
}

impl Ids {
    /// Reads the keys. SentencePiece's own defaults hold where a `llama` vocabulary leaves them
    /// out: 0 unknown, 1 begin, 2 end.
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

/// Texts and kinds. Tokens that only a wrong type would let content forge are control tokens here.
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
                Kind::from_ggml(number).ok_or_else(unknown_type)?
            }
        };
        kinds.push(safe_kind(kind, id as u32, text, ids));
    }
    Vocabulary::new(texts.into_iter().zip(kinds))
}

/// The kind of a token in a file without types.
fn kind_by_name(id: u32, text: &str, ids: &Ids) -> Kind {
    match text {
        _ if ids.unknown == Some(id) => Kind::Unknown,
        _ if byte_value(text).is_some() => Kind::Byte,
        _ => Kind::Normal,
    }
}

/// The kind of a token, given what the file says and what its name and role say.
fn safe_kind(kind: Kind, id: u32, text: &str, ids: &Ids) -> Kind {
    let bracketed = || {
        (text.starts_with('<') && text.ends_with('>'))
            || (text.starts_with('[') && text.ends_with(']'))
    };
    match kind {
        Kind::Normal | Kind::UserDefined
            if looks_like_control(text) || (ids.is_boundary(id) && bracketed()) =>
        {
            Kind::Control
        }
        _ => kind,
    }
}

/// The tokens that are matched before the merges.
fn added(meta: &Metadata, vocabulary: &Vocabulary) -> Result<Added> {
    let mut added = Added::default();
    for (id, text, kind) in vocabulary.iter() {
        let control = matches!(kind, Kind::Control | Kind::Unknown);
        if !control && kind != Kind::UserDefined {
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
fn pre_tokenizer(meta: &Metadata) -> Result<Options> {
    let name = meta.str(PRE)?.unwrap_or("default");
    let known =
        PRE_TOKENIZERS.iter().find(|(known, _)| *known == name).map(|(_, options)| *options);
    known.ok_or_else(|| {
        meta.error(
            PRE,
            format!(
                "is {name:?}, supported are {}",
                PRE_TOKENIZERS.map(|(name, _)| name).join(", ")
            ),
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
    // Text without a token must not end the turn, whatever the file says.
    let unknown =
        ids.unknown.filter(|&id| vocabulary.kind(id) != Kind::Byte && !ids.is_boundary(id));
    let model = Spm::new(vocabulary, scores, unknown, prefix)
        .map_err(|reason| meta.error(TOKENS, format!("cannot be used: {reason}")))?;
    Ok((Model::Spm(model), Spelling::SentencePiece { drop_leading_space: prefix }))
}
