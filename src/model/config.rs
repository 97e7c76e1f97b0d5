//! A model's hyper-parameters under their Hugging Face names, read from `config.json` or from GGUF
//! metadata.
//!
//! Nothing is resolved here: an absent key stays absent, and [`super::spec::ModelConfig`] has each
//! architecture's defaults.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::format::gguf::{self, Gguf};

/// Largest `config.json` read.
const MAX_CONFIG_BYTES: u64 = 16 << 20;

/// Keys of `config.json` that do not change the logits: training settings, defaults of generation,
/// classification labels, and records of the tools that wrote the file. Keys that start with `_`
/// and those of [`HARMLESS_ENDINGS`] belong here too.
const HARMLESS_KEYS: &[&str] = &[
    "architectures",
    "attn_implementation",
    "bad_words_ids",
    "base_model",
    "base_model_name_or_path",
    "begin_suppress_tokens",
    "bos_token",
    "cache_implementation",
    "chat_template",
    "custom_pipelines",
    "device_map",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "eos_token",
    "finetuning_task",
    "id2label",
    "init_device",
    "init_method",
    "initializer_range",
    "is_decoder",
    "is_llama_config",
    "keys_to_ignore_at_inference",
    "label2id",
    "language",
    "length_penalty",
    "license",
    "max_length",
    "max_new_tokens",
    "max_sequence_length",
    "max_shard_size",
    "min_length",
    "model_max_length",
    "model_name",
    "name",
    "name_or_path",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "pad_token",
    "pretraining_tp",
    "problem_type",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "seq_length",
    "suppress_tokens",
    "task",
    "task_specific_params",
    "temperature",
    "tokenizer_class",
    "tokenizer_name",
    "tokenizer_padding_side",
    "top_k",
    "top_p",
    "torch_dtype",
    "transformers.js_config",
    "trust_remote_code",
    "typical_p",
    "unk_token",
    "unsloth_fixed",
    "use_bfloat16",
    "use_cache",
    "use_flash_attn",
];

/// Endings of further keys that do not change the logits.
const HARMLESS_ENDINGS: &[&str] = &[
    "_token_id",
    "_token_ids",
    "_token_index",
    "_dropout",
    "_dropout_prob",
    "_pdrop",
    "_version",
    "_loss_coef",
];

/// Keys that a GGUF file may have after its architecture's name: those that are read, and those
/// that do not change the logits.
const GGUF_KEYS: &[&str] = &[
    "attention.causal",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "attention.scale",
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "attention.value_length",
    "attn_logit_softcapping",
    "block_count",
    "classifier.output_labels",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "final_logit_softcapping",
    "pooling_type",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.freq_base_swa",
    "rope.scale_linear",
    "rope.scaling.factor",
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "rope.scaling.type",
    "tensor_data_layout",
    "vocab_size",
];

/// Rotary scaling as `rope_scaling` (or `rope_parameters` of transformers 5) describes it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct RopeScaling {
    /// `default`, `linear`, `llama3`, ...
    pub rope_type: Option<String>,
    /// The older name of `rope_type`; some files have both.
    #[serde(rename = "type")]
    pub legacy_type: Option<String>,
    /// Base frequency, in transformers 5's nested form.
    pub rope_theta: Option<f64>,
    /// Factor by which the context is extended, >= 1.
    pub factor: Option<f64>,
    /// llama3: wavelengths longer than original / this are fully scaled.
    pub low_freq_factor: Option<f64>,
    /// llama3: wavelengths shorter than original / this are not scaled.
    pub high_freq_factor: Option<f64>,
    /// llama3: the context the model was first trained with.
    pub original_max_position_embeddings: Option<f64>,
    /// Every other key of the object.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
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
#[allow(missing_docs, reason = "the names are the documentation of `config.json`")]
pub struct RawConfig {
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
    pub max_window_layers: Option<usize>,
    #[serde(alias = "_sliding_window_pattern")]
    pub sliding_window_pattern: Option<usize>,
    pub layer_types: Option<Vec<String>>,
    pub query_pre_attn_scalar: Option<f64>,
    pub attn_logit_softcapping: Option<f64>,
    pub final_logit_softcapping: Option<f64>,
    pub tie_word_embeddings: Option<bool>,
    pub hidden_act: Option<String>,
    /// Gemma's name of `hidden_act`, which it prefers.
    pub hidden_activation: Option<String>,
    pub attention_bias: Option<bool>,
    pub mlp_bias: Option<bool>,
    pub is_causal: Option<bool>,
    pub eos_token_id: Option<TokenIds>,
    /// Every other key of the file.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
    /// Whether a GGUF file has biases on the attention's output; `attention_bias` covers them in
    /// `config.json`.
    #[serde(skip)]
    pub attention_output_bias: Option<bool>,
    /// GGUF's `attention.scale`, which replaces `query_pre_attn_scalar`.
    #[serde(skip)]
    pub attention_scale: Option<f64>,
    /// GGUF's `attention.value_length`, which must be the head's.
    #[serde(skip)]
    pub value_length: Option<usize>,
    /// GGUF's `rope.dimension_count`: how much of a head is rotated.
    #[serde(skip)]
    pub rope_dimension_count: Option<usize>,
    /// GGUF's `vocab_size`, which must equal the number of rows of the embedding.
    #[serde(skip)]
    pub declared_vocab_size: Option<usize>,
}

impl RawConfig {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// An invalid file names the file and the JSON position.
    pub fn from_file(path: &Path) -> Result<Self> {
        Self::from_json(&read_config(path)?).map_err(|reason| Error::invalid_file(path, reason))
    }

    /// Parses the text of a `config.json`.
    ///
    /// # Errors
    /// serde's message.
    pub fn from_json(text: &str) -> std::result::Result<Self, String> {
        let value: Value =
            serde_json::from_str(text).map_err(|e| format!("invalid config.json: {e}"))?;
        // transformers writes a disabled option as null, which reads here as an absent key.
        // Mistral's window is the exception: it is on by default.
        let absent = value.get("sliding_window").is_none();
        let mut value = without_nulls(value);
        if absent && value.get("model_type").is_some_and(|name| name == "mistral") {
            value["sliding_window"] = json!(4096);
        }
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
        let (hidden_size, heads) = (count("embedding_length")?, count("attention.head_count")?);
        let (layers, head_dim) = (count("block_count")?, count("attention.key_length")?);
        let original =
            real_or_count(gguf, &format!("{arch}.rope.scaling.original_context_length"))?;
        // Without a type, llama.cpp scales linearly by either factor.
        let factor = real("rope.scaling.factor")?.or(real("rope.scale_linear")?);
        let rope_type = meta
            .str(&format!("{arch}.rope.scaling.type"))?
            .or(factor.is_some().then_some("linear"))
            .map(str::to_owned);
        let mut attention_scale = real("attention.scale")?;
        if arch == "gemma3" {
            // llama.cpp recognizes the 27B model, which scales queries differently, by its number
            // of layers.
            let per_head = hidden_size.zip(heads).and_then(|(width, n)| width.checked_div(n));
            let scalar = if layers == Some(62) { per_head } else { head_dim.or(per_head) };
            attention_scale = attention_scale.or(scalar.map(|n| (n as f64).powf(-0.5)));
        }
        let prefix = format!("{arch}.");
        let unread = meta
            .keys()
            .filter(|key| key.strip_prefix(&prefix).is_some_and(|key| !GGUF_KEYS.contains(&key)));
        let other =
            unread.filter_map(|key| Some((key.to_owned(), json_of(meta.value(key)?.1)))).collect();
        Ok(Self {
            vocab_size: gguf
                .tensor("token_embd.weight")
                .ok()
                .and_then(|raw| raw.shape.first().copied()),
            hidden_size,
            intermediate_size: count("feed_forward_length")?,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            num_key_value_heads: count("attention.head_count_kv")?,
            head_dim,
            value_length: count("attention.value_length")?,
            max_position_embeddings: count("context_length")?,
            // Every converter writes this key, so a file without it is refused.
            rms_norm_eps: Some(real("attention.layer_norm_rms_epsilon")?.unwrap_or(f64::NAN)),
            rope_theta: real("rope.freq_base")?,
            rope_local_base_freq: real("rope.freq_base_swa")?,
            rope_scaling: rope_type.map(|kind| RopeScaling {
                rope_type: Some(kind),
                factor,
                original_max_position_embeddings: original,
                ..RopeScaling::default()
            }),
            sliding_window: count("attention.sliding_window")?,
            sliding_window_pattern: count("attention.sliding_window_pattern")?,
            attention_scale,
            attention_bias: Some(gguf.contains("blk.0.attn_q.bias")),
            attention_output_bias: Some(gguf.contains("blk.0.attn_output.bias")),
            mlp_bias: Some(gguf.contains("blk.0.ffn_down.bias")),
            is_causal: meta.bool(&format!("{arch}.attention.causal"))?,
            rope_dimension_count: count("rope.dimension_count")?,
            declared_vocab_size: count("vocab_size")?,
            attn_logit_softcapping: real("attn_logit_softcapping")?,
            final_logit_softcapping: real("final_logit_softcapping")?,
            tie_word_embeddings: Some(!gguf.contains("output.weight")),
            model_type: arch,
            other,
            ..Self::default()
        })
    }

    /// An error text for the keys that may change the logits and that candor does not apply; `None`
    /// if there are none.
    pub fn unapplied_keys(&self) -> Option<String> {
        let scaling: Vec<&RopeScaling> = match &self.rope_parameters {
            Some(RopeParameters::ByLayerType { full_attention, sliding_attention }) => {
                vec![full_attention, sliding_attention]
            }
            Some(RopeParameters::Flat(flat)) => vec![flat],
            None => self.rope_scaling.iter().collect(),
        };
        let nested = scaling.iter().flat_map(|scaling| &scaling.other);
        let nested = nested.map(|(key, value)| (format!("rope_scaling.{key}"), value));
        let all = self.other.iter().map(|(key, value)| (key.clone(), value)).chain(nested);
        let left: Vec<(String, &Value)> =
            all.filter(|(key, value)| !is_harmless(key, value)).collect();
        if left.is_empty() {
            return None;
        }
        let quantized = left.iter().any(|(key, _)| key.starts_with("quantization"));
        let shown = left.iter().map(|(key, value)| format!("{key} = {}", shortened(value)));
        let remedy = if quantized {
            "take the model's weights in F32, F16 or BF16, or as a GGUF file"
        } else {
            "remove a key only if the model computes the same without it"
        };
        Some(format!(
            "these keys may change what the model computes and candor does not apply them: {}; \
             {remedy}",
            shown.collect::<Vec<_>>().join(", ")
        ))
    }
}

/// The text of a configuration file of at most [`MAX_CONFIG_BYTES`].
pub(crate) fn read_config(path: &Path) -> Result<String> {
    let size = std::fs::metadata(path).map_err(|e| Error::io(path, e))?.len();
    if size > MAX_CONFIG_BYTES {
        return Err(Error::invalid_file(
            path,
            format!("{size} bytes are too many for a config.json; at most {MAX_CONFIG_BYTES}"),
        ));
    }
    std::fs::read_to_string(path).map_err(|e| Error::io(path, e))
}

/// Whether a key that candor does not read leaves the logits unchanged. A feature that is switched
/// off does, whatever its name, and so does a factor of one.
pub(crate) fn is_harmless(key: &str, value: &Value) -> bool {
    let off = match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            let factor = ["_factor", "_multiplier", "_scale", "_scaling"];
            number == 0.0 || (number == 1.0 && factor.iter().any(|end| key.ends_with(end)))
        }
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(true) => false,
    };
    off || key.starts_with('_')
        || HARMLESS_KEYS.contains(&key)
        || HARMLESS_ENDINGS.iter().any(|end| key.ends_with(end))
}

/// A value as JSON of at most 80 characters.
fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}

/// A GGUF value as JSON; for an array, its length.
fn json_of(value: gguf::Value<'_>) -> Value {
    match value {
        gguf::Value::Integer(number) => json!(number as f64),
        gguf::Value::Float(number) => json!(number),
        gguf::Value::Bool(flag) => json!(flag),
        gguf::Value::String(bytes) => json!(String::from_utf8_lossy(bytes)),
        gguf::Value::Array(array) => json!(format!("array of {}", array.len)),
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
        let old = RawConfig::from_json(
            r#"{"model_type":"llama","rope_theta":5e5,"rope_scaling":{"type":"linear","factor":2.0},"sliding_window":null}"#,
        )
        .unwrap();
        assert_eq!(old.rope_scaling.unwrap().legacy_type.as_deref(), Some("linear"));
        assert_eq!(old.sliding_window, None);
        let new = RawConfig::from_json(
            r#"{"model_type":"llama","rope_parameters":{"rope_type":"default","rope_theta":5e5}}"#,
        )
        .unwrap();
        assert!(matches!(
            new.rope_parameters,
            Some(RopeParameters::Flat(RopeScaling { rope_theta: Some(5e5), .. }))
        ));
        let typed = r#"{"model_type":"gemma3_text","rope_parameters":{"full_attention":{"rope_theta":1e6},"sliding_attention":{"rope_theta":1e4}}}"#;
        assert!(matches!(
            RawConfig::from_json(typed).unwrap().rope_parameters,
            Some(RopeParameters::ByLayerType { .. })
        ));
    }

    #[test]
    fn a_wrong_type_is_named() {
        let error = RawConfig::from_json(r#"{"hidden_size": -3}"#).unwrap_err();
        assert!(error.contains("invalid config.json") && error.contains("-3"), "{error}");
    }
}
