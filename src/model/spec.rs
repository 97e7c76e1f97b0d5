//! An architecture as data: the parameters of the decoder, resolved from a file's [`RawConfig`].
//!
//! A new architecture is a new row of [`ARCHITECTURES`]. Tensor names are Hugging Face's; the row
//! maps them to GGUF's.

use super::config::{RawConfig, RopeParameters, RopeScaling};
use crate::error::{Error, Result};
use crate::format::quoted;

/// Most layers that a model may have, llama.cpp's own limit. A larger count means a broken file.
const MAX_LAYERS: usize = 512;

/// The non-linearity of the gated MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x * sigmoid(x).
    Silu,
    /// GELU by its tanh approximation.
    GeluTanh,
}

impl Activation {
    /// The non-linearity by its name in `hidden_act`.
    fn named(name: &str) -> std::result::Result<Self, String> {
        match name {
            "silu" | "swish" => Ok(Self::Silu),
            "gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" => Ok(Self::GeluTanh),
            other => {
                Err(format!("hidden_act is {}; supported: silu, gelu_pytorch_tanh", quoted(other)))
            }
        }
    }
}

/// The layers that attend through the sliding window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowLayers {
    /// None: the architecture has no window.
    None,
    /// Every layer.
    All,
    /// All but every n-th layer.
    AllButEvery(usize),
    /// With `use_sliding_window`, the layers from `max_window_layers` on.
    FromMaxWindowLayers,
}

/// What all models of an architecture share.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "a table of flags")]
pub struct Architecture {
    /// The name in messages and manifests.
    pub name: &'static str,
    /// `model_type` of `config.json`.
    pub model_types: &'static [&'static str],
    /// `general.architecture` of GGUF.
    pub gguf_architectures: &'static [&'static str],
    /// Biases on the query, key and value projections, and none on the output, whatever
    /// `attention_bias` says.
    pub qkv_bias: bool,
    /// RMS norms on each head's query and key.
    pub qk_norm: bool,
    /// Norms after attention and MLP in addition to those before.
    pub sandwich_norms: bool,
    /// Norms multiply by 1 + weight in safetensors files; GGUF files store the sum.
    pub norm_unit_offset: bool,
    /// Embeddings are multiplied by sqrt(hidden size).
    pub scaled_embeddings: bool,
    /// GGUF files permute the query and key rows; loading restores their order.
    pub gguf_permuted_qk: bool,
    /// The MLP's non-linearity.
    pub activation: Activation,
    /// The layers that attend through the sliding window if the file has no `layer_types`.
    pub window: WindowLayers,
    /// Default of `query_pre_attn_scalar`; `None` if the architecture reads neither this key nor
    /// the soft caps and `rope_local_base_freq`.
    pub query_pre_attn_scalar: Option<f64>,
    /// Default rotary base of the sliding-window layers.
    pub local_rope_theta: Option<f64>,
    /// Default rotary base.
    pub rope_theta: f64,
    /// Default of `tie_word_embeddings`.
    pub tie_word_embeddings: bool,
}

const LLAMA: Architecture = Architecture {
    name: "llama",
    model_types: &["llama"],
    gguf_architectures: &["llama"],
    qkv_bias: false,
    qk_norm: false,
    sandwich_norms: false,
    norm_unit_offset: false,
    scaled_embeddings: false,
    gguf_permuted_qk: true,
    activation: Activation::Silu,
    window: WindowLayers::None,
    query_pre_attn_scalar: None,
    local_rope_theta: None,
    rope_theta: 10_000.0,
    tie_word_embeddings: false,
};

const MISTRAL: Architecture = Architecture {
    name: "mistral",
    model_types: &["mistral"],
    gguf_architectures: &[],
    window: WindowLayers::All,
    ..LLAMA
};

const QWEN2: Architecture = Architecture {
    name: "qwen2",
    model_types: &["qwen2"],
    gguf_architectures: &["qwen2"],
    qkv_bias: true,
    gguf_permuted_qk: false,
    window: WindowLayers::FromMaxWindowLayers,
    ..LLAMA
};

const QWEN3: Architecture = Architecture {
    name: "qwen3",
    model_types: &["qwen3"],
    gguf_architectures: &["qwen3"],
    qkv_bias: false,
    qk_norm: true,
    ..QWEN2
};

const GEMMA3: Architecture = Architecture {
    name: "gemma3",
    model_types: &["gemma3_text", "gemma3"],
    gguf_architectures: &["gemma3"],
    qk_norm: true,
    sandwich_norms: true,
    norm_unit_offset: true,
    scaled_embeddings: true,
    gguf_permuted_qk: false,
    activation: Activation::GeluTanh,
    window: WindowLayers::AllButEvery(6),
    query_pre_attn_scalar: Some(256.0),
    local_rope_theta: Some(10_000.0),
    rope_theta: 1_000_000.0,
    tie_word_embeddings: true,
    ..LLAMA
};

/// Every supported architecture.
pub static ARCHITECTURES: &[&Architecture] = &[&LLAMA, &MISTRAL, &QWEN2, &QWEN3, &GEMMA3];

impl Architecture {
    /// The architecture with this `model_type` or GGUF name.
    ///
    /// # Errors
    /// A text with the name and the supported ones.
    pub fn named(name: &str) -> std::result::Result<&'static Self, String> {
        ARCHITECTURES
            .iter()
            .find(|f| f.model_types.contains(&name) || f.gguf_architectures.contains(&name))
            .copied()
            .ok_or_else(|| {
                let known: Vec<_> = ARCHITECTURES.iter().map(|f| f.name).collect();
                format!("architecture `{name}` is not supported; supported: {}", known.join(", "))
            })
    }

    /// The GGUF name of a Hugging Face tensor name; `None` for a name that the architecture does
    /// not have.
    pub fn gguf_name(&self, name: &str) -> Option<String> {
        match name {
            "model.embed_tokens.weight" => return Some("token_embd.weight".into()),
            "model.norm.weight" => return Some("output_norm.weight".into()),
            "lm_head.weight" => return Some("output.weight".into()),
            _ => {}
        }
        let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
        let (part, kind) = rest.rsplit_once('.')?;
        let part = match part {
            "input_layernorm" => "attn_norm",
            "self_attn.q_proj" => "attn_q",
            "self_attn.k_proj" => "attn_k",
            "self_attn.v_proj" => "attn_v",
            "self_attn.o_proj" => "attn_output",
            "self_attn.q_norm" => "attn_q_norm",
            "self_attn.k_norm" => "attn_k_norm",
            "post_attention_layernorm" if self.sandwich_norms => "post_attention_norm",
            "post_attention_layernorm" | "pre_feedforward_layernorm" => "ffn_norm",
            "post_feedforward_layernorm" => "post_ffw_norm",
            "mlp.gate_proj" => "ffn_gate",
            "mlp.up_proj" => "ffn_up",
            "mlp.down_proj" => "ffn_down",
            _ => return None,
        };
        Some(format!("blk.{layer}.{part}.{kind}"))
    }
}

/// A rotary embedding: one frequency per pair of head dimensions.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Angle per position of pair i, `[head_dim / 2]`, in radians.
    pub inv_freq: Vec<f64>,
}

impl Rope {
    fn new(
        head_dim: usize,
        theta: f64,
        scaling: Option<&RopeScaling>,
    ) -> std::result::Result<Self, String> {
        let plain = (0..head_dim / 2).map(|i| theta.powf(-2.0 * i as f64 / head_dim as f64));
        let given = scaling.and_then(|s| s.rope_type.as_deref().or(s.legacy_type.as_deref()));
        if let (None, Some(factor)) = (given, scaling.and_then(|s| s.factor)) {
            return Err(format!(
                "rope_scaling has a factor of {factor} and no rope_type; set it to default, \
                 linear or llama3"
            ));
        }
        let kind = given.unwrap_or("default");
        let need = |value: Option<f64>, name: &str| match value {
            Some(v) if v.is_finite() && v > 0.0 => Ok(v),
            Some(v) => Err(format!("rope_scaling.{name} is {v}; it must be a positive number")),
            None => Err(format!("rope_scaling of type `{kind}` lacks `{name}`")),
        };
        let inv_freq = match (kind, scaling) {
            ("default" | "none", _) | (_, None) => plain.collect(),
            ("linear", Some(s)) => {
                let factor = need(s.factor, "factor")?;
                plain.map(|f| f / factor).collect()
            }
            ("llama3", Some(s)) => {
                let factor = need(s.factor, "factor")?;
                let low = need(s.low_freq_factor, "low_freq_factor")?;
                let high = need(s.high_freq_factor, "high_freq_factor")?;
                let original =
                    need(s.original_max_position_embeddings, "original_max_position_embeddings")?;
                plain.map(|f| llama3_frequency(f, factor, low, high, original)).collect()
            }
            (other, Some(_)) => {
                return Err(format!(
                    "rope_scaling of type `{other}` is not supported; supported: default, linear, \
                     llama3"
                ));
            }
        };
        Ok(Self { inv_freq })
    }

    /// Divides each frequency by GGUF's `rope_freqs.weight`, which holds precomputed llama3
    /// scaling.
    ///
    /// # Errors
    /// A wrong number of factors, or a factor that is not positive.
    pub fn divide(&mut self, factors: &[f32]) -> std::result::Result<(), String> {
        if factors.len() != self.inv_freq.len() {
            return Err(format!(
                "rope_freqs.weight has {} values; the head has {} pairs",
                factors.len(),
                self.inv_freq.len()
            ));
        }
        for (frequency, &factor) in self.inv_freq.iter_mut().zip(factors) {
            if !(factor.is_finite() && factor > 0.0) {
                return Err(format!(
                    "rope_freqs.weight holds {factor}; every factor must be a positive number"
                ));
            }
            *frequency /= f64::from(factor);
        }
        Ok(())
    }
}

/// Llama 3.1's frequency scaling: long wavelengths by `factor`, short ones not at all, and a linear
/// blend between them.
fn llama3_frequency(f: f64, factor: f64, low: f64, high: f64, original: f64) -> f64 {
    let wavelength = 2.0 * std::f64::consts::PI / f;
    if wavelength < original / high {
        f
    } else if wavelength > original / low {
        f / factor
    } else {
        let smooth = (original / wavelength - low) / (high - low);
        (1.0 - smooth) * f / factor + smooth * f
    }
}

/// The parameters of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerSpec {
    /// Index into [`ModelConfig::ropes`].
    pub rope: usize,
    /// A key is visible when it is fewer than this many positions back; `None` sees everything.
    pub window: Option<usize>,
}

/// The linear layers that have biases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Biases {
    /// Query, key and value projections.
    pub qkv: bool,
    /// The attention's output projection.
    pub attention_output: bool,
    /// All of the MLP.
    pub mlp: bool,
}

/// A model's hyper-parameters, with every number resolved and checked.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names are those of `config.json`")]
pub struct ModelConfig {
    pub architecture: &'static Architecture,
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_attention_heads: usize,
    pub num_key_value_heads: usize,
    pub head_dim: usize,
    pub max_position_embeddings: usize,
    pub rms_norm_eps: f64,
    /// Multiplies the dot product of query and key.
    pub attention_scale: f64,
    /// Multiplies the embeddings.
    pub embedding_scale: f64,
    pub attn_logit_softcapping: Option<f64>,
    pub final_logit_softcapping: Option<f64>,
    pub activation: Activation,
    pub biases: Biases,
    pub tie_word_embeddings: bool,
    pub ropes: Vec<Rope>,
    pub layers: Vec<LayerSpec>,
}

/// A tensor that the model needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Hugging Face name.
    pub name: String,
    /// Row-major shape, outermost first.
    pub shape: Vec<usize>,
}

impl ModelConfig {
    /// Resolves a configuration.
    ///
    /// # Errors
    /// One text that names every missing, unsupported or out-of-range value.
    pub fn resolve(raw: &RawConfig) -> std::result::Result<Self, String> {
        let architecture = Architecture::named(&raw.model_type)?;
        let mut faults = Vec::new();
        let mut count = |name: &str, value: Option<usize>, max: usize| match value {
            Some(v) if (1..=max).contains(&v) => v,
            Some(v) => {
                faults.push(format!("{name} is {v}; it must be 1 to {max}"));
                1
            }
            None => {
                faults.push(format!("{name} is missing"));
                1
            }
        };
        let hidden_size = count("hidden_size", raw.hidden_size, 1 << 20);
        let num_attention_heads = count("num_attention_heads", raw.num_attention_heads, 1 << 16);
        let num_hidden_layers = count("num_hidden_layers", raw.num_hidden_layers, MAX_LAYERS);
        let vocab_size = count("vocab_size", raw.vocab_size, 1 << 26);
        let intermediate_size = count("intermediate_size", raw.intermediate_size, 1 << 24);
        let num_key_value_heads = count(
            "num_key_value_heads",
            raw.num_key_value_heads.or(Some(num_attention_heads)),
            num_attention_heads,
        );
        let head_dim =
            count("head_dim", raw.head_dim.or(Some(hidden_size / num_attention_heads)), 1 << 14);
        let max_position_embeddings =
            count("max_position_embeddings", raw.max_position_embeddings, 1 << 30);
        if raw.head_dim.is_none() && !hidden_size.is_multiple_of(num_attention_heads) {
            faults.push(format!(
                "hidden_size {hidden_size} is not a multiple of \
                                 num_attention_heads {num_attention_heads}"
            ));
        }
        if !head_dim.is_multiple_of(2) {
            faults.push(format!("head_dim is {head_dim}; rotary embeddings need an even number"));
        }
        if !num_attention_heads.is_multiple_of(num_key_value_heads) {
            faults.push(format!(
                "num_attention_heads {num_attention_heads} is not a multiple of \
                               num_key_value_heads {num_key_value_heads}"
            ));
        }
        let mut positive = |name: &str, value: f64| {
            if !(value.is_finite() && value > 0.0) {
                faults.push(format!("{name} is {value}; it must be a positive number"));
            }
            value
        };
        let rms_norm_eps = positive("rms_norm_eps", raw.rms_norm_eps.unwrap_or(1e-6));
        let scalar = raw
            .query_pre_attn_scalar
            .or(architecture.query_pre_attn_scalar)
            .unwrap_or(head_dim as f64);
        let attention_scale =
            positive("attention scale", raw.attention_scale.unwrap_or_else(|| scalar.powf(-0.5)));
        for (name, cap) in [
            ("attn_logit_softcapping", raw.attn_logit_softcapping),
            ("final_logit_softcapping", raw.final_logit_softcapping),
        ] {
            cap.map(|cap| positive(name, cap));
        }
        if rms_norm_eps >= 1.0 {
            faults.push(format!("rms_norm_eps is {rms_norm_eps}; it must be below 1"));
        }
        faults.extend(unsupported(architecture, raw, head_dim, vocab_size));
        let activation = raw.hidden_activation.as_deref().or(raw.hidden_act.as_deref());
        let activation = activation
            .map_or(Ok(architecture.activation), Activation::named)
            .unwrap_or_else(|fault| {
                faults.push(fault);
                architecture.activation
            });
        let ropes = ropes(architecture, raw, head_dim).unwrap_or_else(|fault| {
            faults.push(fault);
            Vec::new()
        });
        let layers = layers(architecture, raw, num_hidden_layers).unwrap_or_else(|fault| {
            faults.push(fault);
            Vec::new()
        });
        if !faults.is_empty() {
            return Err(faults.join("; "));
        }
        Ok(Self {
            architecture,
            vocab_size,
            hidden_size,
            intermediate_size,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            max_position_embeddings,
            rms_norm_eps,
            attention_scale,
            embedding_scale: if architecture.scaled_embeddings {
                (hidden_size as f64).sqrt()
            } else {
                1.0
            },
            attn_logit_softcapping: raw.attn_logit_softcapping,
            final_logit_softcapping: raw.final_logit_softcapping,
            activation,
            biases: biases(architecture, raw),
            tie_word_embeddings: raw
                .tie_word_embeddings
                .unwrap_or(architecture.tie_word_embeddings),
            ropes,
            layers,
        })
    }

    /// Width of the query projection.
    pub fn query_size(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// Width of the key projection, and of the value projection.
    pub fn key_value_size(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    /// Every tensor of the model with its shape.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let mut out = Vec::new();
        let mut add =
            |name: String, shape: &[usize]| out.push(TensorSpec { name, shape: shape.to_vec() });
        let (hidden, q, kv, mlp) =
            (self.hidden_size, self.query_size(), self.key_value_size(), self.intermediate_size);
        add("model.embed_tokens.weight".into(), &[self.vocab_size, hidden]);
        for layer in 0..self.layers.len() {
            let mut add =
                |part: &str, shape: &[usize]| add(format!("model.layers.{layer}.{part}"), shape);
            for (part, width) in [("q_proj", q), ("k_proj", kv), ("v_proj", kv)] {
                add(&format!("self_attn.{part}.weight"), &[width, hidden]);
                if self.biases.qkv {
                    add(&format!("self_attn.{part}.bias"), &[width]);
                }
            }
            add("self_attn.o_proj.weight", &[hidden, q]);
            if self.biases.attention_output {
                add("self_attn.o_proj.bias", &[hidden]);
            }
            if self.architecture.qk_norm {
                add("self_attn.q_norm.weight", &[self.head_dim]);
                add("self_attn.k_norm.weight", &[self.head_dim]);
            }
            add("input_layernorm.weight", &[hidden]);
            add("post_attention_layernorm.weight", &[hidden]);
            if self.architecture.sandwich_norms {
                add("pre_feedforward_layernorm.weight", &[hidden]);
                add("post_feedforward_layernorm.weight", &[hidden]);
            }
            for (part, out, width) in
                [("gate_proj", mlp, hidden), ("up_proj", mlp, hidden), ("down_proj", hidden, mlp)]
            {
                add(&format!("mlp.{part}.weight"), &[out, width]);
                if self.biases.mlp {
                    add(&format!("mlp.{part}.bias"), &[out]);
                }
            }
        }
        add("model.norm.weight".into(), &[hidden]);
        if !self.tie_word_embeddings {
            add("lm_head.weight".into(), &[self.vocab_size, hidden]);
        }
        out
    }

    /// Checks that every tensor is present with the right shape.
    ///
    /// # Errors
    /// An invalid file, with up to eight of the mismatches.
    pub fn check(
        &self,
        path: &std::path::Path,
        shape_of: impl Fn(&str) -> Option<Vec<usize>>,
    ) -> Result<()> {
        let faults: Vec<String> = self
            .tensors()
            .into_iter()
            .filter_map(|tensor| match shape_of(&tensor.name) {
                None => Some(format!("tensor {} is missing", tensor.name)),
                Some(shape) if shape != tensor.shape => Some(format!(
                    "tensor {} is {shape:?}; {:?} is needed",
                    tensor.name, tensor.shape
                )),
                Some(_) => None,
            })
            .collect();
        if faults.is_empty() {
            return Ok(());
        }
        let more = faults.len().saturating_sub(8);
        let tail = if more > 0 { format!("; and {more} more") } else { String::new() };
        Err(Error::invalid_file(
            path,
            format!("{}{tail}", faults.iter().take(8).cloned().collect::<Vec<_>>().join("; ")),
        ))
    }
}

/// The rotary embeddings: first that of the global layers, then that of the sliding-window layers
/// if it differs.
fn ropes(
    architecture: &Architecture,
    raw: &RawConfig,
    head_dim: usize,
) -> std::result::Result<Vec<Rope>, String> {
    let (global, local) = match &raw.rope_parameters {
        Some(RopeParameters::ByLayerType { full_attention, sliding_attention }) => {
            (Some(full_attention), Some(sliding_attention))
        }
        Some(RopeParameters::Flat(flat)) => (Some(flat), None),
        None => (raw.rope_scaling.as_ref(), None),
    };
    let theta =
        global.and_then(|s| s.rope_theta).or(raw.rope_theta).unwrap_or(architecture.rope_theta);
    let local_theta = local
        .and_then(|s| s.rope_theta)
        .or(raw.rope_local_base_freq)
        .or(architecture.local_rope_theta);
    if let Some(bad) =
        [Some(theta), local_theta].into_iter().flatten().find(|t| !(t.is_finite() && *t > 0.0))
    {
        return Err(format!("rope_theta is {bad}; it must be a positive number"));
    }
    let mut ropes = vec![Rope::new(head_dim, theta, global)?];
    if let Some(theta) = local_theta {
        ropes.push(Rope::new(head_dim, theta, local)?);
    }
    Ok(ropes)
}

/// Which linear layers have biases. Qwen 2 has the same ones whatever the file says.
fn biases(architecture: &Architecture, raw: &RawConfig) -> Biases {
    let attention = raw.attention_bias == Some(true);
    Biases {
        qkv: architecture.qkv_bias || attention,
        attention_output: raw.attention_output_bias.unwrap_or(attention && !architecture.qkv_bias),
        mlp: raw.mlp_bias == Some(true),
    }
}

/// What the file asks for and the decoder does not support, by key and value.
fn unsupported(
    architecture: &Architecture,
    raw: &RawConfig,
    head_dim: usize,
    vocab_size: usize,
) -> Vec<String> {
    let mut faults: Vec<String> = raw.unapplied_keys().into_iter().collect();
    if let Some(rotated) = raw.rope_dimension_count.filter(|&rotated| rotated != head_dim) {
        faults.push(format!(
            "rope.dimension_count is {rotated} and a head has {head_dim} dimensions; only whole \
             heads are rotated"
        ));
    }
    if let Some(length) = raw.value_length.filter(|&length| length != head_dim) {
        faults.push(format!(
            "attention.value_length is {length} and a key has {head_dim} dimensions; only values \
             of the keys' length are supported"
        ));
    }
    if let Some(declared) = raw.declared_vocab_size.filter(|&declared| declared != vocab_size) {
        faults.push(format!("vocab_size is {declared} and the embedding has {vocab_size} rows"));
    }
    if raw.is_causal == Some(false) {
        faults.push("is_causal is false; only causal models are supported".into());
    }
    if architecture.query_pre_attn_scalar.is_none() {
        let gemma_keys = [
            ("query_pre_attn_scalar", raw.query_pre_attn_scalar),
            ("attn_logit_softcapping", raw.attn_logit_softcapping),
            ("final_logit_softcapping", raw.final_logit_softcapping),
            ("rope_local_base_freq", raw.rope_local_base_freq),
        ];
        faults.extend(gemma_keys.into_iter().filter_map(|(key, value)| {
            Some(format!(
                "{key} is {}; {} models have no such setting, remove it",
                value?, architecture.name
            ))
        }));
    }
    faults
}

/// The window of every layer. Explicit `layer_types` take precedence over the architecture's
/// layers.
fn layers(
    architecture: &Architecture,
    raw: &RawConfig,
    count: usize,
) -> std::result::Result<Vec<LayerSpec>, String> {
    let types = raw.layer_types.as_deref();
    if let Some(types) = types.filter(|types| types.len() != count) {
        return Err(format!("layer_types has {} entries for {count} layers", types.len()));
    }
    let mut named = types.iter().copied().flatten();
    if let Some(other) =
        named.find(|t| !matches!(t.as_str(), "full_attention" | "sliding_attention"))
    {
        return Err(format!(
            "layer type `{other}` is not supported; supported: full_attention, sliding_attention"
        ));
    }
    let every = match architecture.window {
        WindowLayers::AllButEvery(every) => raw.sliding_window_pattern.unwrap_or(every),
        _ => 1,
    };
    let wanted = raw.use_sliding_window;
    // 28 is transformers' own default.
    let first = raw.max_window_layers.unwrap_or(28);
    let slides = |layer: usize| match (types, architecture.window) {
        (Some(types), _) => types[layer] == "sliding_attention",
        (None, WindowLayers::None) => false,
        (None, WindowLayers::All) => true,
        (None, WindowLayers::AllButEvery(_)) => !(layer + 1).is_multiple_of(every),
        (None, WindowLayers::FromMaxWindowLayers) => wanted == Some(true) && layer >= first,
    };
    let sliding = (0..count).filter(|&layer| slides(layer)).count();
    let narrow = |window: usize| raw.max_position_embeddings.is_none_or(|most| window < most);
    match (architecture.window, raw.sliding_window) {
        (_, Some(0)) => return Err("sliding_window is 0; it must be at least 1".into()),
        (WindowLayers::None, window) => {
            let asked = types.is_none() && wanted != Some(false) && window.is_some_and(narrow);
            if sliding > 0 || asked {
                return Err(format!(
                    "sliding_window is {}; {} models have no sliding window, remove it",
                    window.unwrap_or_default(),
                    architecture.name
                ));
            }
        }
        (WindowLayers::FromMaxWindowLayers, _) if sliding > 0 && wanted != Some(true) => {
            return Err("layer_types has sliding_attention and use_sliding_window is not true; \
                        set it to true"
                .into());
        }
        _ if every == 0 => {
            return Err("sliding_window_pattern is 0; it must be at least 1".into());
        }
        // A null turns Mistral's window off.
        (WindowLayers::All, _) | (_, Some(_)) => {}
        (_, None) if sliding == 0 => {}
        (_, None) => {
            return Err(format!(
                "sliding_window is missing and {sliding} of {count} layers need it"
            ));
        }
    }
    let two_ropes = raw.rope_local_base_freq.or(architecture.local_rope_theta).is_some()
        || matches!(raw.rope_parameters, Some(RopeParameters::ByLayerType { .. }));
    let layer = |i: usize| {
        let window = raw.sliding_window.filter(|_| slides(i));
        LayerSpec { rope: usize::from(two_ropes && window.is_some()), window }
    };
    Ok((0..count).map(layer).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(model_type: &str) -> RawConfig {
        RawConfig {
            model_type: model_type.into(),
            vocab_size: Some(64),
            hidden_size: Some(32),
            intermediate_size: Some(48),
            num_hidden_layers: Some(7),
            num_attention_heads: Some(4),
            max_position_embeddings: Some(128),
            ..RawConfig::default()
        }
    }

    #[test]
    fn gemma_windows_all_but_every_sixth_layer() {
        let config =
            ModelConfig::resolve(&RawConfig { sliding_window: Some(8), ..raw("gemma3_text") })
                .unwrap();
        let windows: Vec<_> = config.layers.iter().map(|l| (l.rope, l.window)).collect();
        let mut expected = vec![(1, Some(8)); 7];
        expected[5] = (0, None);
        assert_eq!(windows, expected);
        assert_eq!(config.ropes.len(), 2);
    }

    #[test]
    fn qwen_windows_the_layers_after_max_window_layers() {
        let windows = |max_window_layers| {
            let raw = RawConfig {
                sliding_window: Some(16),
                use_sliding_window: Some(true),
                max_window_layers,
                ..raw("qwen2")
            };
            let layers = ModelConfig::resolve(&raw).unwrap().layers;
            layers.iter().map(|l| l.window.is_some()).collect::<Vec<_>>()
        };
        assert_eq!(windows(Some(5)), [false, false, false, false, false, true, true]);
        assert_eq!(windows(None), [false; 7]);
        assert_eq!(windows(Some(0)), [true; 7]);
    }

    #[test]
    fn mistral_windows_every_layer_and_qwen_only_on_request() {
        let mistral =
            ModelConfig::resolve(&RawConfig { sliding_window: Some(16), ..raw("mistral") })
                .unwrap();
        assert!(mistral.layers.iter().all(|l| l.window == Some(16) && l.rope == 0));
        let qwen =
            ModelConfig::resolve(&RawConfig { sliding_window: Some(16), ..raw("qwen2") }).unwrap();
        assert!(qwen.layers.iter().all(|l| l.window.is_none()));
    }

    #[test]
    fn every_fault_is_listed_at_once() {
        let check = |change: fn(&mut RawConfig), expected: &[&str]| {
            let mut bad = raw("llama");
            change(&mut bad);
            let text = ModelConfig::resolve(&bad).unwrap_err();
            assert!(expected.iter().all(|e| text.contains(e)), "{text}");
        };
        check(
            |c| c.num_hidden_layers = Some(513),
            &["num_hidden_layers is 513; it must be 1 to 512"],
        );
        check(|c| c.num_attention_heads = Some(0), &["num_attention_heads is 0"]);
        check(
            |c| c.num_attention_heads = Some(5),
            &["hidden_size 32 is not a multiple of num_attention_heads 5"],
        );
        check(|c| c.head_dim = Some(7), &["head_dim is 7"]);
        check(|c| c.rms_norm_eps = Some(f64::NAN), &["rms_norm_eps is NaN"]);
        check(|c| c.rope_theta = Some(0.0), &["rope_theta is 0"]);
        check(
            |c| (c.vocab_size, c.hidden_size) = (None, Some(0)),
            &["vocab_size is missing", "hidden_size is 0"],
        );
        check(
            |c| c.model_type = "mamba".into(),
            &[
                "architecture `mamba` is not supported; supported: llama, mistral, qwen2, qwen3, gemma3",
            ],
        );
    }

    /// The raw of a small llama with more keys, as `config.json` gives them.
    fn resolved(model_type: &str, keys: &str) -> std::result::Result<ModelConfig, String> {
        let text = format!(
            r#"{{"model_type":"{model_type}","vocab_size":64,"hidden_size":32,
            "intermediate_size":48,"num_hidden_layers":2,"num_attention_heads":4,
            "max_position_embeddings":128{keys}}}"#
        );
        ModelConfig::resolve(&RawConfig::from_json(&text)?)
    }

    #[test]
    fn keys_that_change_the_result_are_obeyed() {
        let llama = |keys: &str| resolved("llama", keys).unwrap();
        let plain = llama("");
        assert_eq!(plain.activation, Activation::Silu);
        let act = |name: &str| llama(&format!(r#","hidden_act":"{name}""#)).activation;
        assert_eq!(act("gelu_pytorch_tanh"), Activation::GeluTanh);
        assert_eq!(act("silu"), Activation::Silu);
        let none = Biases { qkv: false, attention_output: false, mlp: false };
        assert_eq!(plain.biases, none);
        let biased = llama(r#","attention_bias":true,"mlp_bias":true"#);
        assert_eq!(biased.biases, Biases { qkv: true, attention_output: true, mlp: true });
        // Qwen 2 ignores the key.
        let qwen = resolved("qwen2", r#","attention_bias":true"#).unwrap();
        assert_eq!(qwen.biases, Biases { qkv: true, ..none });
        // Both names of the rope's type may be there.
        let linear = llama(
            r#","rope_scaling":{"type":"linear","rope_type":"linear","factor":2.0,"finetuned":false}"#,
        );
        assert_eq!(linear.ropes[0].inv_freq[0], 0.5);
        let window = |keys: &str| resolved("mistral", keys).unwrap().layers[0].window;
        assert_eq!(window(""), Some(4096));
        assert_eq!(window(r#","sliding_window":null"#), None);
        assert_eq!(window(r#","sliding_window":16"#), Some(16));
        let scale = resolved("gemma3_text", r#","sliding_window":8"#).unwrap().attention_scale;
        assert_eq!(scale, 0.0625);
    }

    #[test]
    fn keys_that_change_nothing_are_accepted() {
        resolved(
            "llama",
            r#","architectures":["LlamaForCausalLM"],"torch_dtype":"bfloat16","use_cache":true,
            "_name_or_path":"x","transformers_version":"4.44.0","initializer_range":0.02,
            "attention_dropout":0.1,"pretraining_tp":1,"pad_token_id":2,"bos_token_id":1,
            "eos_token_id":[2,3],"partial_rotary_factor":1.0,"qk_layernorm":false,"num_experts":0,
            "rope_interleaved":false,"is_llama_config":true,"residual_multiplier":1,
            "transformers.js_config":{"dtype":"q4"},"quantization_config":null"#,
        )
        .unwrap();
        resolved(
            "qwen2",
            r#","use_sliding_window":false,"sliding_window":32,"max_window_layers":1,
            "layer_types":["full_attention","full_attention"]"#,
        )
        .unwrap();
        resolved(
            "gemma3_text",
            r#","sliding_window":8,"_sliding_window_pattern":2,"attn_logit_softcapping":null,
            "use_bidirectional_attention":false,"cache_implementation":"hybrid",
            "hidden_activation":"gelu_pytorch_tanh","hidden_act":"gelu_pytorch_tanh""#,
        )
        .unwrap();
    }

    #[test]
    fn keys_that_change_the_result_and_are_not_understood_are_refused() {
        let check = |model_type: &str, keys: &str, want: &str| {
            let text = resolved(model_type, keys).map(drop).unwrap_err();
            assert!(text.contains(want), "{keys}: got `{text}`, want `{want}`");
        };
        check("llama", r#","hidden_act":"relu""#, "hidden_act is \"relu\"; supported: silu");
        check("llama", r#","hidden_act":"gelu""#, "hidden_act is \"gelu\"");
        for key in [
            r#""residual_multiplier":0.22"#,
            r#""logits_scaling":8.0"#,
            r#""attention_multiplier":0.0078125"#,
            r#""qk_layernorm":true"#,
            r#""partial_rotary_factor":0.5"#,
            r#""num_local_experts":8"#,
            r#""auto_map":{"AutoModel":"code.Model"}"#,
        ] {
            let name = key.split('"').nth(1).unwrap();
            check("llama", &format!(",{key}"), &format!("does not apply them: {name} = "));
        }
        check(
            "llama",
            r#","quantization_config":{"bits":4}"#,
            "quantization_config = {\"bits\":4}; take the model's weights in F32",
        );
        check("llama", r#","final_logit_softcapping":30.0"#, "final_logit_softcapping is 30");
        check("llama", r#","sliding_window":16"#, "llama models have no sliding window");
        check("qwen3", r#","is_causal":false"#, "is_causal is false");
        check(
            "qwen2",
            r#","sliding_window":16,"layer_types":["full_attention","sliding_attention"]"#,
            "use_sliding_window is not true",
        );
        check("gemma3_text", "", "sliding_window is missing and 2 of 2 layers need it");
        let scaling = |keys: &str| format!(r#","rope_scaling":{{{keys}}}"#);
        check("llama", &scaling(r#""factor":2.0"#), "a factor of 2 and no rope_type");
        check("llama", &scaling(r#""rope_type":"yarn","factor":2.0"#), "type `yarn`");
        check(
            "llama",
            &scaling(r#""rope_type":"default","mrope_section":[16,24,24]"#),
            "rope_scaling.mrope_section = [16,24,24]",
        );
    }

    #[test]
    fn every_tensor_has_a_gguf_name() {
        for architecture in ARCHITECTURES {
            let raw = RawConfig {
                sliding_window: Some(8),
                use_sliding_window: Some(false),
                attention_bias: Some(true),
                mlp_bias: Some(true),
                ..raw(architecture.model_types[0])
            };
            let config = ModelConfig::resolve(&raw).unwrap();
            let mut names: Vec<_> =
                config.tensors().iter().map(|t| architecture.gguf_name(&t.name).unwrap()).collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "{}", architecture.name);
        }
    }
}
