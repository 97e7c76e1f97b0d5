//! The files beside a `tokenizer.json`: `tokenizer_config.json`, `generation_config.json`,
//! `chat_template.jinja`.
//!
//! Each may be missing, but must be valid if it exists.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::read;
use crate::error::{Error, Result};
use crate::tokenizer::TemplateSource;
use crate::tokenizer::vocab::Vocabulary;

/// The settings, with tokens as ids.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) bos: Option<u32>,
    pub(super) ends: Vec<u32>,
    pub(super) add_bos: Option<bool>,
    pub(super) chat_template: Option<TemplateSource>,
}

#[derive(Default, Deserialize)]
struct TokenizerConfig {
    bos_token: Option<TokenName>,
    eos_token: Option<TokenName>,
    add_bos_token: Option<bool>,
    chat_template: Option<Template>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TokenName {
    Text(String),
    Object { content: String },
}

impl TokenName {
    fn id(&self, vocabulary: &Vocabulary) -> Option<u32> {
        let (Self::Text(text) | Self::Object { content: text }) = self;
        vocabulary.id(text)
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Template {
    One(String),
    Many(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

impl Template {
    /// The only template, or the one called `default`.
    fn default(self) -> Option<String> {
        match self {
            Self::One(template) => Some(template),
            Self::Many(named) => named
                .into_iter()
                .find(|template| template.name == "default")
                .map(|template| template.template),
        }
    }
}

#[derive(Default, Deserialize)]
struct GenerationConfig {
    eos_token_id: Option<Ids>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Ids {
    One(u32),
    Many(Vec<u32>),
}

impl Ids {
    fn list(&self) -> &[u32] {
        match self {
            Self::One(id) => std::slice::from_ref(id),
            Self::Many(ids) => ids,
        }
    }
}

impl Settings {
    /// Reads the files beside the tokenizer at `path`.
    pub(super) fn read(path: &Path, vocabulary: &Vocabulary) -> Result<Self> {
        let config_path = path.with_file_name("tokenizer_config.json");
        let config: TokenizerConfig = json(&config_path)?;
        let generation_path = path.with_file_name("generation_config.json");
        let generation: GenerationConfig = json(&generation_path)?;
        let eos = config.eos_token.as_ref().and_then(|token| token.id(vocabulary));
        let more = generation.eos_token_id.as_ref().map_or(&[][..], Ids::list);
        if let Some(id) = more.iter().find(|&&id| id as usize >= vocabulary.len()) {
            return Err(Error::invalid_file(
                &generation_path,
                format!("eos_token_id is {id}, but the vocabulary has {} tokens", vocabulary.len()),
            ));
        }
        let file = path.with_file_name("chat_template.jinja");
        let template = optional(&file)?.map(|text| TemplateSource { text, file });
        let configured = || {
            config
                .chat_template
                .and_then(Template::default)
                .map(|text| TemplateSource { text, file: config_path })
        };
        Ok(Self {
            bos: config.bos_token.as_ref().and_then(|token| token.id(vocabulary)),
            ends: eos.into_iter().chain(more.iter().copied()).collect(),
            add_bos: config.add_bos_token,
            chat_template: template.or_else(configured),
        })
    }
}

/// The text of a file, if it exists.
fn optional(path: &Path) -> Result<Option<String>> {
    match read(path) {
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// A JSON file, or the default if it does not exist.
fn json<T: DeserializeOwned + Default>(path: &Path) -> Result<T> {
    let Some(text) = optional(path)? else { return Ok(T::default()) };
    serde_json::from_str(&text)
        .map_err(|error| Error::invalid_file(path, format!("is invalid: {error}")))
}
