//! `config.json` of an encoder: candle's configuration, and the tensors that the file must have.
//!
//! Values are checked here, because candle allocates by them, divides by them, or panics on them.
//! A key that changes the result and is not applied is refused by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_transformers::models::{bert, debertav2, modernbert};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::model::{is_harmless, read_config};

/// Largest width, vocabulary and the like.
const MAX_SIZE: usize = 1 << 24;
/// Most layers.
const MAX_LAYERS: usize = 1 << 10;
/// Most positions that a file may declare.
const MAX_POSITIONS: usize = 1 << 20;
/// Most tokens that are read, whatever the file declares: attention takes memory quadratic in it.
const MAX_TOKENS: usize = 1024;
/// What can be loaded: `model_type`, the class that `architectures` names, and prefixes of tensors
/// that the file may have although its encoder does not use them.
const SUPPORTED: [(&str, &str, &[&str]); 3] = [
    ("bert", "BertModel", &["pooler.", "embeddings.position_ids"]),
    ("deberta-v2", "DebertaV2ForSequenceClassification", &["deberta.embeddings.position_ids"]),
    ("modernbert", "ModernBertForSequenceClassification", &[]),
];
/// Keys beside [`is_harmless`] that do not change what an encoder computes.
const HARMLESS: &[&str] = &[
    "decoder_bias",
    "deterministic_flash_attn",
    "gradient_checkpointing",
    "initializer_cutoff_factor",
    "layer_norm_eps",
    "legacy",
    "position_embedding_type",
    "reference_compile",
    "sparse_pred_ignore_index",
    "sparse_prediction",
    "tie_word_embeddings",
];

/// candle's configuration.
pub(super) enum Architecture {
    Bert(bert::Config),
    DebertaV2(Box<debertav2::Config>),
    ModernBert(modernbert::Config),
}

/// A checked `config.json`.
pub(super) struct EncoderConfig {
    pub architecture: Architecture,
    /// Name and shape of every tensor that is used.
    pub tensors: Vec<(String, Vec<usize>)>,
    /// Prefixes of tensors that the file may have beside them.
    pub unused: &'static [&'static str],
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Most tokens of one input, special tokens included.
    pub max_tokens: usize,
    /// The index of the label `entailment`; 0 for an embedding model.
    pub entailment: usize,
}

impl EncoderConfig {
    /// Reads and checks the file; errors name the key, its value and what is supported.
    pub fn from_file(path: &Path) -> Result<Self> {
        let value: Value = serde_json::from_str(&read_config(path)?)
            .map_err(|error| Error::invalid_file(path, format!("invalid JSON: {error}")))?;
        let Value::Object(map) = value else {
            return Err(Error::invalid_file(path, "want a JSON object"));
        };
        let mut fields = Fields { path: path.to_path_buf(), map };
        let model_type: String = fields.required("model_type")?;
        let known = SUPPORTED.iter().find(|(name, ..)| *name == model_type);
        let classes: Vec<String> = fields.take("architectures")?.unwrap_or_default();
        let Some((_, _, unused)) =
            known.filter(|(_, class, _)| classes.is_empty() || classes.iter().any(|c| c == class))
        else {
            let list = SUPPORTED.map(|(name, class, _)| format!("{name} ({class})")).join(", ");
            return Err(fields.error(format!(
                "model_type is {model_type:?} and architectures is {classes:?}; supported \
                 encoders: {list}"
            )));
        };
        let size = Size::read(&mut fields)?;
        let (architecture, tensors, entailment) = match model_type.as_str() {
            "bert" => bert(&mut fields, &size)?,
            "deberta-v2" => deberta_v2(&mut fields, &size)?,
            _ => modern_bert(&mut fields, &size)?,
        };
        fields.finish()?;
        Ok(Self {
            architecture,
            tensors: tensors.0,
            unused,
            vocab_size: size.vocab,
            max_tokens: size.positions.min(MAX_TOKENS),
            entailment,
        })
    }
}

type Parsed = (Architecture, Tensors, usize);

fn bert(fields: &mut Fields, size: &Size) -> Result<Parsed> {
    fields.only("hidden_act", "gelu")?;
    fields.only("position_embedding_type", "absolute")?;
    let config = bert::Config {
        vocab_size: size.vocab,
        hidden_size: size.hidden,
        num_hidden_layers: size.layers,
        num_attention_heads: size.heads,
        intermediate_size: size.intermediate,
        max_position_embeddings: size.positions,
        type_vocab_size: fields.size("type_vocab_size", MAX_SIZE)?,
        layer_norm_eps: fields.positive("layer_norm_eps", Some(1e-12))?,
        model_type: None,
        ..bert::Config::default()
    };
    let mut tensors = Tensors::default();
    tensors.add("embeddings.word_embeddings.weight", &[size.vocab, size.hidden]);
    tensors.add("embeddings.position_embeddings.weight", &[size.positions, size.hidden]);
    tensors.add("embeddings.token_type_embeddings.weight", &[config.type_vocab_size, size.hidden]);
    tensors.norm("embeddings.LayerNorm", size.hidden);
    tensors.bert_layers("encoder", &["query", "key", "value"], size);
    Ok((Architecture::Bert(config), tensors, 0))
}

fn deberta_v2(fields: &mut Fields, size: &Size) -> Result<Parsed> {
    for (key, supported) in [
        ("hidden_act", json!("gelu")),
        ("pooler_hidden_act", json!("gelu")),
        ("type_vocab_size", json!(0)),
        ("pooler_hidden_size", json!(size.hidden)),
        ("embedding_size", json!(size.hidden)),
        ("attention_head_size", json!(size.hidden / size.heads)),
        ("conv_kernel_size", json!(0)),
    ] {
        fields.only(key, supported)?;
    }
    // Their defaults are the opposite.
    for (key, supported) in [("relative_attention", true), ("position_biased_input", false)] {
        if fields.required::<bool>(key)? != supported {
            return Err(fields.error(format!("{key} is {}, supported is {supported}", !supported)));
        }
    }
    let span = |value: Option<i64>| usize::try_from(value.unwrap_or(-1)).unwrap_or(0);
    let (max_relative, buckets) =
        (span(fields.take("max_relative_positions")?), span(fields.take("position_buckets")?));
    let limit = if max_relative == 0 { size.positions } else { max_relative };
    if limit > MAX_POSITIONS || buckets > MAX_POSITIONS || buckets == 1 {
        return Err(fields.error(format!(
            "max_relative_positions is {max_relative} and position_buckets {buckets}; want at \
             most {MAX_POSITIONS}, and not one bucket"
        )));
    }
    let norm: String = fields.take("norm_rel_ebd")?.unwrap_or_else(|| "none".into());
    let pos_att_type: Vec<String> = match fields.take::<Value>("pos_att_type")? {
        Some(Value::String(text)) => text.split('|').map(str::to_owned).collect(),
        other => serde_json::from_value(other.unwrap_or(json!([])))
            .map_err(|error| fields.error(format!("pos_att_type: {error}")))?,
    };
    if !["none", "layer_norm"].contains(&norm.as_str())
        || pos_att_type.iter().any(|kind| kind != "c2p" && kind != "p2c")
    {
        return Err(fields.error(format!(
            "norm_rel_ebd is {norm:?} and pos_att_type {pos_att_type:?}; supported: none or \
             layer_norm, and c2p and p2c"
        )));
    }
    let share: bool = fields.take("share_att_key")?.unwrap_or(false);
    let (labels, entailment) = fields.labels()?;
    let mut tensors = Tensors::default();
    tensors.add("deberta.embeddings.word_embeddings.weight", &[size.vocab, size.hidden]);
    tensors.norm("deberta.embeddings.LayerNorm", size.hidden);
    let mut projections = vec!["query_proj", "key_proj", "value_proj"];
    for (kind, projection) in [("c2p", "pos_key_proj"), ("p2c", "pos_query_proj")] {
        if !share && pos_att_type.iter().any(|wanted| wanted == kind) {
            projections.push(projection);
        }
    }
    tensors.bert_layers("deberta.encoder", &projections, size);
    let rows = 2 * if buckets > 0 { buckets } else { limit };
    tensors.add("deberta.encoder.rel_embeddings.weight", &[rows, size.hidden]);
    if norm == "layer_norm" {
        tensors.norm("deberta.encoder.LayerNorm", size.hidden);
    }
    tensors.linear("pooler.dense", size.hidden, size.hidden);
    tensors.linear("classifier", labels.len(), size.hidden);
    let config = debertav2::Config {
        vocab_size: size.vocab,
        hidden_size: size.hidden,
        num_hidden_layers: size.layers,
        num_attention_heads: size.heads,
        intermediate_size: size.intermediate,
        hidden_act: debertav2::HiddenAct::Gelu,
        hidden_dropout_prob: 0.0,
        attention_probs_dropout_prob: 0.0,
        max_position_embeddings: size.positions,
        type_vocab_size: 0,
        initializer_range: 0.0,
        layer_norm_eps: fields.positive("layer_norm_eps", Some(1e-7))?,
        relative_attention: true,
        max_relative_positions: limit as isize,
        pad_token_id: None,
        position_biased_input: false,
        pos_att_type,
        position_buckets: (buckets > 0).then_some(buckets as isize),
        share_att_key: Some(share),
        attention_head_size: None,
        embedding_size: None,
        norm_rel_ebd: Some(norm),
        conv_kernel_size: None,
        conv_groups: None,
        conv_act: None,
        id2label: Some((0..).zip(labels).collect()),
        label2id: None,
        pooler_dropout: Some(0.0),
        pooler_hidden_act: Some(debertav2::HiddenAct::Gelu),
        pooler_hidden_size: Some(size.hidden),
        cls_dropout: None,
    };
    Ok((Architecture::DebertaV2(Box::new(config)), tensors, entailment))
}

fn modern_bert(fields: &mut Fields, size: &Size) -> Result<Parsed> {
    fields.only("hidden_activation", "gelu")?;
    fields.only("classifier_activation", "gelu")?;
    if !(size.hidden / size.heads).is_multiple_of(2) {
        return Err(fields.error("hidden_size / num_attention_heads is odd, want an even number"));
    }
    let classifier_pooling = match fields.take::<String>("classifier_pooling")?.as_deref() {
        None | Some("cls") => modernbert::ClassifierPooling::CLS,
        Some("mean") => modernbert::ClassifierPooling::MEAN,
        Some(other) => {
            let reason = format!("classifier_pooling is {other:?}, supported: cls, mean");
            return Err(fields.error(reason));
        }
    };
    let (period, global, local) = attention_pattern(fields, size)?;
    let (labels, entailment) = fields.labels()?;
    let count = labels.len();
    let id2label = (0..).zip(labels).map(|(id, label): (usize, _)| (id.to_string(), label));
    let config = modernbert::Config {
        vocab_size: size.vocab,
        hidden_size: size.hidden,
        num_hidden_layers: size.layers,
        num_attention_heads: size.heads,
        intermediate_size: size.intermediate,
        // candle makes tables of this length.
        max_position_embeddings: size.positions.min(MAX_TOKENS),
        layer_norm_eps: fields.positive("norm_eps", Some(1e-5))?,
        pad_token_id: 0,
        global_attn_every_n_layers: period,
        global_rope_theta: global,
        local_attention: fields.size("local_attention", MAX_SIZE)?,
        local_rope_theta: local,
        classifier_config: Some(modernbert::ClassifierConfig {
            id2label: id2label.collect(),
            label2id: std::collections::HashMap::new(),
            classifier_pooling,
        }),
    };
    let (h, i) = (size.hidden, size.intermediate);
    let mut tensors = Tensors::default();
    tensors.add("model.embeddings.tok_embeddings.weight", &[size.vocab, h]);
    tensors.add("model.embeddings.norm.weight", &[h]);
    for layer in 0..size.layers {
        let at = format!("model.layers.{layer}");
        // The embedding's norm stands in for the first layer's.
        if layer > 0 {
            tensors.add(&format!("{at}.attn_norm.weight"), &[h]);
        }
        tensors.add(&format!("{at}.attn.Wqkv.weight"), &[3 * h, h]);
        tensors.add(&format!("{at}.attn.Wo.weight"), &[h, h]);
        tensors.add(&format!("{at}.mlp_norm.weight"), &[h]);
        tensors.add(&format!("{at}.mlp.Wi.weight"), &[2 * i, h]);
        tensors.add(&format!("{at}.mlp.Wo.weight"), &[h, i]);
    }
    tensors.add("model.final_norm.weight", &[h]);
    tensors.add("head.dense.weight", &[h, h]);
    tensors.add("head.norm.weight", &[h]);
    tensors.linear("classifier", count, h);
    Ok((Architecture::ModernBert(config), tensors, entailment))
}

/// `ModernBERT`'s layers: every how many attend to the whole text, the first among them, and the
/// rope's base in those and in the others; with the keys of transformers 4 or 5.
fn attention_pattern(fields: &mut Fields, size: &Size) -> Result<(usize, f64, f64)> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Rope {
        rope_theta: f64,
        rope_type: Option<String>,
    }
    let period = match fields.take::<Vec<String>>("layer_types")? {
        None => fields.size("global_attn_every_n_layers", MAX_SIZE)?,
        Some(types) => {
            let kind = |global| if global { "full_attention" } else { "sliding_attention" };
            let second = types.iter().skip(1).position(|t| t == kind(true)).map(|index| index + 1);
            let period = second.unwrap_or(size.layers);
            let regular = (0..size.layers).map(|layer| kind(layer.is_multiple_of(period)));
            if !types.iter().map(String::as_str).eq(regular) {
                return Err(fields.error(
                    "layer_types is irregular; supported is full_attention in every n-th of \
                     num_hidden_layers layers, else sliding_attention",
                ));
            }
            fields.only("global_attn_every_n_layers", period)?;
            period
        }
    };
    let Some(mut ropes) = fields.take::<BTreeMap<String, Rope>>("rope_parameters")? else {
        let global = fields.positive("global_rope_theta", None)?;
        return Ok((period, global, fields.positive("local_rope_theta", None)?));
    };
    let mut theta = |kind: &str| match ropes.remove(kind) {
        Some(Rope { rope_theta, rope_type })
            if rope_theta.is_finite()
                && rope_theta > 0.0
                && rope_type.as_deref().is_none_or(|name| name == "default") =>
        {
            Ok(rope_theta)
        }
        _ => Err(fields.error(format!(
            "rope_parameters has no {kind} with a positive rope_theta and rope_type default"
        ))),
    };
    Ok((period, theta("full_attention")?, theta("sliding_attention")?))
}

/// The sizes that all architectures have.
struct Size {
    vocab: usize,
    hidden: usize,
    intermediate: usize,
    layers: usize,
    heads: usize,
    positions: usize,
}

impl Size {
    fn read(fields: &mut Fields) -> Result<Self> {
        let size = Self {
            vocab: fields.size("vocab_size", MAX_SIZE)?,
            hidden: fields.size("hidden_size", MAX_SIZE)?,
            intermediate: fields.size("intermediate_size", MAX_SIZE)?,
            layers: fields.size("num_hidden_layers", MAX_LAYERS)?,
            heads: fields.size("num_attention_heads", MAX_SIZE)?,
            positions: fields.size("max_position_embeddings", MAX_POSITIONS)?,
        };
        if !size.hidden.is_multiple_of(size.heads) {
            return Err(fields.error(format!(
                "hidden_size is {}, not a multiple of num_attention_heads, {}",
                size.hidden, size.heads
            )));
        }
        // A pair takes three special tokens.
        if size.positions < 8 {
            return Err(fields.error("max_position_embeddings is below 8, too few for a pair"));
        }
        Ok(size)
    }
}

/// Names and shapes.
#[derive(Default)]
struct Tensors(Vec<(String, Vec<usize>)>);

impl Tensors {
    fn add(&mut self, name: &str, shape: &[usize]) {
        self.0.push((name.to_owned(), shape.to_vec()));
    }

    fn linear(&mut self, name: &str, outputs: usize, inputs: usize) {
        self.add(&format!("{name}.weight"), &[outputs, inputs]);
        self.add(&format!("{name}.bias"), &[outputs]);
    }

    fn norm(&mut self, name: &str, width: usize) {
        self.add(&format!("{name}.weight"), &[width]);
        self.add(&format!("{name}.bias"), &[width]);
    }

    fn bert_layers(&mut self, prefix: &str, projections: &[&str], size: &Size) {
        let (h, i) = (size.hidden, size.intermediate);
        for layer in 0..size.layers {
            let at = format!("{prefix}.layer.{layer}");
            for projection in projections {
                self.linear(&format!("{at}.attention.self.{projection}"), h, h);
            }
            self.linear(&format!("{at}.attention.output.dense"), h, h);
            self.norm(&format!("{at}.attention.output.LayerNorm"), h);
            self.linear(&format!("{at}.intermediate.dense"), i, h);
            self.linear(&format!("{at}.output.dense"), h, i);
            self.norm(&format!("{at}.output.LayerNorm"), h);
        }
    }
}

/// The keys of the file that are not read yet.
struct Fields {
    path: PathBuf,
    map: Map<String, Value>,
}

impl Fields {
    fn error(&self, reason: impl std::fmt::Display) -> Error {
        Error::invalid_file(&self.path, reason)
    }

    /// The value of `key`; `None` if it is absent or null.
    fn take<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>> {
        match self.map.remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value)
                .map(Some)
                .map_err(|error| self.error(format!("{key}: {error}"))),
        }
    }

    fn required<T: DeserializeOwned>(&mut self, key: &str) -> Result<T> {
        self.take(key)?.ok_or_else(|| self.error(format!("{key} is missing")))
    }

    fn size(&mut self, key: &str, most: usize) -> Result<usize> {
        let value = self.required(key)?;
        if !(1..=most).contains(&value) {
            return Err(self.error(format!("{key} is {value}, want 1 to {most}")));
        }
        Ok(value)
    }

    fn positive(&mut self, key: &str, default: Option<f64>) -> Result<f64> {
        let value: f64 = match (self.take(key)?, default) {
            (Some(value), _) | (None, Some(value)) => value,
            (None, None) => return Err(self.error(format!("{key} is missing"))),
        };
        if !value.is_finite() || value <= 0.0 {
            return Err(self.error(format!("{key} is {value}, want a positive number")));
        }
        Ok(value)
    }

    /// Refuses every value of `key` but `supported`, which is also the default.
    fn only(&mut self, key: &str, supported: impl Into<Value>) -> Result<()> {
        let supported = supported.into();
        match self.take::<Value>(key)? {
            Some(value) if value != supported => {
                Err(self.error(format!("{key} is {value}, supported is {supported}")))
            }
            _ => Ok(()),
        }
    }

    /// The labels in order of their index, and the index of `entailment`.
    fn labels(&mut self) -> Result<(Vec<String>, usize)> {
        let labels: BTreeMap<usize, String> = self.required("id2label")?;
        let contiguous = labels.keys().copied().eq(0..labels.len());
        let labels: Vec<String> = labels.into_values().collect();
        let mut found = (0..).zip(&labels).filter(|(_, l)| l.eq_ignore_ascii_case("entailment"));
        match (found.next(), found.next()) {
            (Some((index, _)), None) if contiguous && labels.len() > 1 => Ok((labels, index)),
            _ => Err(self.error(format!(
                "id2label is {labels:?}; want labels 0, 1, ... of which one is \"entailment\""
            ))),
        }
    }

    /// Refuses keys that were not read and may change the result.
    fn finish(self) -> Result<()> {
        let unread = |(key, value): &(&String, &Value)| {
            !HARMLESS.contains(&key.as_str()) && !is_harmless(key, value)
        };
        let unread: Vec<&str> =
            self.map.iter().filter(unread).map(|(key, _)| key.as_str()).take(8).collect();
        if unread.is_empty() {
            return Ok(());
        }
        Err(self.error(format!(
            "these keys may change what the encoder computes and candor does not apply them: {}",
            unread.join(", ")
        )))
    }
}
