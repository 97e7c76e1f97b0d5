//! A model's hyper-parameters under their Hugging Face names, read from `config.json` or from GGUF
//! metadata.
//!
//! This is what the file says, unresolved: absent keys stay absent, and [`super::spec::Spec`]
//! decides what absence means for a family.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::gguf::Gguf;
use crate::error::{Error, Result};

/// Largest `config.json` read.
const MAX_CONFIG_BYTES: u64 = 16 << 20;

/// Rotary scaling as `rope_scaling` (or `rope_parameters` of transformers 5) describes it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct RopeScaling {
    /// `default`, `linear`, `llama3`, ...
    #[serde(alias = "type")]
    pub rope_type: Option<String>,
    /// Base frequency, in transformers 5's nested form.
    pub rope_theta: Option<f64>,
    /// Stretch of the context, >= 1.
    pub factor: Option<f64>,
    /// llama3: wavelengths longer than original / this are fully scaled.
    pub low_freq_factor: Option<f64>,
    /// llama3: wavelengths shorter than original / this are left alone.
    pub high_freq_factor: Option<f64>,
    /// llama3: the context the model was first trained with.
    pub original_max_position_embeddings: Option<f64>,
}

/// Rotary settings, flat or by layer type (Gemma 3 in transformers 5).
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged)]
pub enum RopeParameters {
    /// One setting for global and one for sliding-window layers.
    ByLayerType {
        /// Global layers.
        full_attention: RopeScaling,
        /// Sliding-window layers.
        sliding_attention: RopeScaling,
    },
    /// One setting for all layers.
    Flat(RopeScaling),
}

/// End token ids: one or several.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged)]
pub enum TokenIds {
    /// One id.
    One(u32),
    /// Several ids.
    Many(Vec<u32>),
}

/// The hyper-parameters, with the keys of a Hugging Face `config.json`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are the documentation of `config.json`")]
pub struct Config {
    pub model_type: String,
    pub vocab_size: Option<usize>,
    pub hidden_size: Option<usize>,
    pub intermediate_size: Option<usize>,
    pub num_hidden_layers: Option<usize>,
    pub num_attention_heads: Option<usize>,
    pub num_key_value_heads: Option<usize>,
    pub head_dim: Option<usize>,
    pub max_position_embeddings: Option<usize>,
    pub rms_norm_eps: Option<f64>,
    pub rope_theta: Option<f64>,
    pub rope_local_base_freq: Option<f64>,
    pub rope_scaling: Option<RopeScaling>,
    pub rope_parameters: Option<RopeParameters>,
    pub sliding_window: Option<usize>,
    pub use_sliding_window: Option<bool>,
    pub sliding_window_pattern: Option<usize>,
    pub layer_types: Option<Vec<String>>,
    pub query_pre_attn_scalar: Option<f64>,
    pub attn_logit_softcapping: Option<f64>,
    pub final_logit_softcapping: Option<f64>,
    pub tie_word_embeddings: Option<bool>,
    #[serde(alias = "hidden_activation")]
    pub hidden_act: Option<String>,
    pub attention_bias: Option<bool>,
    pub mlp_bias: Option<bool>,
    pub eos_token_id: Option<TokenIds>,
    /// GGUF's `attention.scale`, which replaces `query_pre_attn_scalar`.
    #[serde(skip)]
    pub attention_scale: Option<f64>,
    /// GGUF's `rope.dimension_count`: how much of a head is rotated.
    #[serde(skip)]
    pub rope_dimension_count: Option<usize>,
    /// GGUF's `vocab_size`, which the embedding must have rows for.
    #[serde(skip)]
    pub declared_vocab_size: Option<usize>,
}

impl Config {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// An invalid file names the file and the JSON position.
    pub fn from_file(path: &Path) -> Result<Self> {
        let size = std::fs::metadata(path).map_err(|e| Error::io(path, e))?.len();
        if size > MAX_CONFIG_BYTES {
            return Err(Error::invalid_file(
                path,
                format!("{size} bytes are too many for a config.json; at most {MAX_CONFIG_BYTES}"),
            ));
        }
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
        Self::from_json(&text).map_err(|reason| Error::invalid_file(path, reason))
    }

    /// Parses the text of a `config.json`.
    ///
    /// # Errors
    /// What serde says of the text.
    pub fn from_json(text: &str) -> std::result::Result<Self, String> {
        let value: Value =
            serde_json::from_str(text).map_err(|e| format!("invalid config.json: {e}"))?;
        // transformers writes a disabled option as null; an absent key reads the same here.
        let value = without_nulls(value);
        serde_json::from_value(value).map_err(|e| format!("invalid config.json: {e}"))
    }

    /// Reads the metadata of a GGUF file.
    ///
    /// # Errors
    /// A key of the wrong type, by name.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let meta = gguf.metadata();
        let arch = meta.require_str("general.architecture")?.to_owned();
        let count = |key: &str| -> Result<Option<usize>> {
            Ok(meta
                .u64(&format!("{arch}.{key}"))?
                .map(|v| usize::try_from(v).unwrap_or(usize::MAX)))
        };
        let real = |key: &str| -> Result<Option<f64>> {
            Ok(meta.f32(&format!("{arch}.{key}"))?.map(f64::from))
        };
        let scaling = meta
            .str(&format!("{arch}.rope.scaling.type"))?
            .map(|kind| RopeScaling { rope_type: Some(kind.to_owned()), ..Default::default() });
        let factor = real("rope.scaling.factor")?;
        let original =
            real_or_count(gguf, &format!("{arch}.rope.scaling.original_context_length"))?;
        Ok(Self {
            vocab_size: gguf
                .tensor("token_embd.weight")
                .ok()
                .and_then(|raw| raw.shape.first().copied()),
            hidden_size: count("embedding_length")?,
            intermediate_size: count("feed_forward_length")?,
            num_hidden_layers: count("block_count")?,
            num_attention_heads: count("attention.head_count")?,
            num_key_value_heads: count("attention.head_count_kv")?,
            head_dim: count("attention.key_length")?,
            max_position_embeddings: count("context_length")?,
            // Every converter writes it; a default would be a guess.
            rms_norm_eps: Some(real("attention.layer_norm_rms_epsilon")?.unwrap_or(f64::NAN)),
            rope_theta: real("rope.freq_base")?,
            rope_scaling: scaling.map(|s| RopeScaling {
                factor,
                original_max_position_embeddings: original,
                ..s
            }),
            sliding_window: count("attention.sliding_window")?,
            attention_scale: real("attention.scale")?,
            rope_dimension_count: count("rope.dimension_count")?,
            declared_vocab_size: count("vocab_size")?,
            attn_logit_softcapping: real("attn_logit_softcapping")?,
            final_logit_softcapping: real("final_logit_softcapping")?,
            tie_word_embeddings: Some(!gguf.contains("output.weight")),
            model_type: arch,
            ..Self::default()
        })
    }
}

fn real_or_count(gguf: &Gguf, key: &str) -> Result<Option<f64>> {
    let meta = gguf.metadata();
    match meta.f32(key) {
        Ok(value) => Ok(value.map(f64::from)),
        Err(_) => Ok(meta.u64(key)?.map(|v| v as f64)),
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .filter(|(_, v)| !v.is_null())
                .map(|(k, v)| (k, without_nulls(v)))
                .collect(),
        ),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_forms_of_rope_settings() {
        let old = Config::from_json(
            r#"{"model_type":"llama","rope_theta":5e5,"rope_scaling":{"type":"linear","factor":2.0},"sliding_window":null}"#,
        )
        .unwrap();
        assert_eq!(old.rope_scaling.unwrap().rope_type.as_deref(), Some("linear"));
        assert_eq!(old.sliding_window, None);
        let new = Config::from_json(
            r#"{"model_type":"llama","rope_parameters":{"rope_type":"default","rope_theta":5e5}}"#,
        )
        .unwrap();
        assert!(matches!(
            new.rope_parameters,
            Some(RopeParameters::Flat(RopeScaling { rope_theta: Some(5e5), .. }))
        ));
        let typed = r#"{"model_type":"gemma3_text","rope_parameters":{"full_attention":{"rope_theta":1e6},"sliding_attention":{"rope_theta":1e4}}}"#;
        assert!(matches!(
            Config::from_json(typed).unwrap().rope_parameters,
            Some(RopeParameters::ByLayerType { .. })
        ));
    }

    #[test]
    fn a_wrong_type_is_named() {
        let error = Config::from_json(r#"{"hidden_size": -3}"#).unwrap_err();
        assert!(error.contains("invalid config.json") && error.contains("-3"), "{error}");
    }
}
