//! A model family as data: the knobs of the one decoder, resolved from a file's [`Config`].
//!
//! Adding a family is adding a row to [`FAMILIES`]. Tensor names are Hugging Face's; the row maps
//! them to GGUF's.

use super::config::{Config, RopeParameters, RopeScaling};
use crate::error::{Error, Result};

/// More layers than any known model has: a larger count is a broken file (llama.cpp's own limit is
/// 512).
const MAX_LAYERS: usize = 512;

/// The non-linearity of the gated MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x * sigmoid(x).
    Silu,
    /// GELU by its tanh approximation.
    GeluTanh,
}

/// What every model of a family shares.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "a family is a row of yes and no")]
pub struct Family {
    /// The family's name in messages and manifests.
    pub name: &'static str,
    /// `model_type` of `config.json`.
    pub model_types: &'static [&'static str],
    /// `general.architecture` of GGUF.
    pub gguf_architectures: &'static [&'static str],
    /// Biases on the query, key and value projections.
    pub qkv_bias: bool,
    /// RMS norms on each head's query and key.
    pub qk_norm: bool,
    /// Norms after attention and MLP as well as before.
    pub sandwich_norms: bool,
    /// Norm weights are stored minus one in safetensors files (GGUF files have the one folded in).
    pub norms_stored_minus_one: bool,
    /// Embeddings are multiplied by sqrt(hidden size).
    pub scaled_embeddings: bool,
    /// Query and key rows are interleaved in GGUF files and are put back at load.
    pub gguf_interleaved_qk: bool,
    /// The MLP's non-linearity.
    pub activation: Activation,
    /// All but every n-th layer attend through the sliding window.
    pub window_pattern: Option<usize>,
    /// The sliding window applies only where this is said by `use_sliding_window`.
    pub window_is_opt_in: bool,
    /// Rotary base of the sliding-window layers where the file has none.
    pub local_rope_theta: Option<f64>,
    /// Rotary base where the file has none.
    pub rope_theta: f64,
    /// The head shares the embedding's matrix where the file does not say.
    pub tied: bool,
}

const LLAMA: Family = Family {
    name: "llama",
    model_types: &["llama", "mistral"],
    gguf_architectures: &["llama"],
    qkv_bias: false,
    qk_norm: false,
    sandwich_norms: false,
    norms_stored_minus_one: false,
    scaled_embeddings: false,
    gguf_interleaved_qk: true,
    activation: Activation::Silu,
    window_pattern: None,
    window_is_opt_in: false,
    local_rope_theta: None,
    rope_theta: 10_000.0,
    tied: false,
};

const QWEN2: Family = Family {
    name: "qwen2",
    model_types: &["qwen2"],
    gguf_architectures: &["qwen2"],
    qkv_bias: true,
    gguf_interleaved_qk: false,
    window_is_opt_in: true,
    rope_theta: 1_000_000.0,
    ..LLAMA
};

const QWEN3: Family = Family {
    name: "qwen3",
    model_types: &["qwen3"],
    gguf_architectures: &["qwen3"],
    qkv_bias: false,
    qk_norm: true,
    ..QWEN2
};

const GEMMA3: Family = Family {
    name: "gemma3",
    model_types: &["gemma3_text", "gemma3"],
    gguf_architectures: &["gemma3"],
    qk_norm: true,
    sandwich_norms: true,
    norms_stored_minus_one: true,
    scaled_embeddings: true,
    gguf_interleaved_qk: false,
    activation: Activation::GeluTanh,
    window_pattern: Some(6),
    local_rope_theta: Some(10_000.0),
    rope_theta: 1_000_000.0,
    tied: true,
    ..LLAMA
};

/// Every family this build knows.
pub static FAMILIES: &[&Family] = &[&LLAMA, &QWEN2, &QWEN3, &GEMMA3];

impl Family {
    /// The family of a `model_type` or GGUF architecture.
    ///
    /// # Errors
    /// The name, and what is supported.
    pub fn named(name: &str) -> std::result::Result<&'static Self, String> {
        FAMILIES
            .iter()
            .find(|f| f.model_types.contains(&name) || f.gguf_architectures.contains(&name))
            .copied()
            .ok_or_else(|| {
                let known: Vec<_> = FAMILIES.iter().map(|f| f.name).collect();
                format!("architecture `{name}` is not supported; supported: {}", known.join(", "))
            })
    }

    /// The GGUF name of a Hugging Face tensor name; `None` for a name that the family does not
    /// have.
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
        let kind = scaling.and_then(|s| s.rope_type.as_deref()).unwrap_or("default");
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

    /// Divides each frequency by GGUF's `rope_freqs.weight`, which carries llama3 scaling ready
    /// computed.
    ///
    /// # Errors
    /// A count that does not fit, or a factor that is not positive.
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

/// Llama 3.1's frequency scaling: long wavelengths by `factor`, short ones not at all, between them
/// a linear blend.
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

/// What differs from layer to layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerSpec {
    /// Index into [`Spec::ropes`].
    pub rope: usize,
    /// A key is visible when it is fewer than this many positions back; `None` sees everything.
    pub window: Option<usize>,
}

/// A model's shape: the family's row with every number resolved and checked.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names are those of `config.json`")]
pub struct Spec {
    pub family: &'static Family,
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
    pub tied: bool,
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

impl Spec {
    /// Resolves a configuration.
    ///
    /// # Errors
    /// Every number that is missing or out of range, in one message.
    pub fn resolve(config: &Config) -> std::result::Result<Self, String> {
        let family = Family::named(&config.model_type)?;
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
        let hidden_size = count("hidden_size", config.hidden_size, 1 << 20);
        let num_attention_heads = count("num_attention_heads", config.num_attention_heads, 1 << 16);
        let num_hidden_layers = count("num_hidden_layers", config.num_hidden_layers, MAX_LAYERS);
        let vocab_size = count("vocab_size", config.vocab_size, 1 << 26);
        let intermediate_size = count("intermediate_size", config.intermediate_size, 1 << 24);
        let num_key_value_heads = count(
            "num_key_value_heads",
            config.num_key_value_heads.or(Some(num_attention_heads)),
            num_attention_heads,
        );
        let head_dim =
            count("head_dim", config.head_dim.or(Some(hidden_size / num_attention_heads)), 1 << 14);
        let max_position_embeddings =
            count("max_position_embeddings", config.max_position_embeddings, 1 << 30);
        if config.head_dim.is_none() && !hidden_size.is_multiple_of(num_attention_heads) {
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
        let rms_norm_eps = positive("rms_norm_eps", config.rms_norm_eps.unwrap_or(1e-6));
        let scalar = config.query_pre_attn_scalar.unwrap_or(head_dim as f64);
        let attention_scale = positive(
            "attention scale",
            config.attention_scale.unwrap_or_else(|| scalar.powf(-0.5)),
        );
        for (name, cap) in [
            ("attn_logit_softcapping", config.attn_logit_softcapping),
            ("final_logit_softcapping", config.final_logit_softcapping),
        ] {
            cap.map(|cap| positive(name, cap));
        }
        if rms_norm_eps >= 1.0 {
            faults.push(format!("rms_norm_eps is {rms_norm_eps}; it must be below 1"));
        }
        if let Some(rotated) = config.rope_dimension_count.filter(|&rotated| rotated != head_dim) {
            faults.push(format!(
                "rope.dimension_count is {rotated} and a head has {head_dim} \
                                 dimensions; only whole heads are rotated"
            ));
        }
        if let Some(declared) =
            config.declared_vocab_size.filter(|&declared| declared != vocab_size)
        {
            faults
                .push(format!("vocab_size is {declared} and the embedding has {vocab_size} rows"));
        }
        let ropes = ropes(family, config, head_dim).unwrap_or_else(|fault| {
            faults.push(fault);
            Vec::new()
        });
        let layers = layers(family, config, num_hidden_layers).unwrap_or_else(|fault| {
            faults.push(fault);
            Vec::new()
        });
        if !faults.is_empty() {
            return Err(faults.join("; "));
        }
        Ok(Self {
            family,
            vocab_size,
            hidden_size,
            intermediate_size,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            max_position_embeddings,
            rms_norm_eps,
            attention_scale,
            embedding_scale: if family.scaled_embeddings {
                (hidden_size as f64).sqrt()
            } else {
                1.0
            },
            attn_logit_softcapping: config.attn_logit_softcapping,
            final_logit_softcapping: config.final_logit_softcapping,
            tied: config.tie_word_embeddings.unwrap_or(family.tied),
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
                if self.family.qkv_bias {
                    add(&format!("self_attn.{part}.bias"), &[width]);
                }
            }
            add("self_attn.o_proj.weight", &[hidden, q]);
            if self.family.qk_norm {
                add("self_attn.q_norm.weight", &[self.head_dim]);
                add("self_attn.k_norm.weight", &[self.head_dim]);
            }
            add("input_layernorm.weight", &[hidden]);
            add("post_attention_layernorm.weight", &[hidden]);
            if self.family.sandwich_norms {
                add("pre_feedforward_layernorm.weight", &[hidden]);
                add("post_feedforward_layernorm.weight", &[hidden]);
            }
            add("mlp.gate_proj.weight", &[mlp, hidden]);
            add("mlp.up_proj.weight", &[mlp, hidden]);
            add("mlp.down_proj.weight", &[hidden, mlp]);
        }
        add("model.norm.weight".into(), &[hidden]);
        if !self.tied {
            add("lm_head.weight".into(), &[self.vocab_size, hidden]);
        }
        out
    }

    /// Checks that every tensor is there with the right shape.
    ///
    /// # Errors
    /// An invalid file with up to eight of the mismatches.
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

/// The rotary embeddings: of global layers first, of sliding-window layers second where they
/// differ.
fn ropes(
    family: &Family,
    config: &Config,
    head_dim: usize,
) -> std::result::Result<Vec<Rope>, String> {
    let (global, local) = match &config.rope_parameters {
        Some(RopeParameters::ByLayerType { full_attention, sliding_attention }) => {
            (Some(full_attention), Some(sliding_attention))
        }
        Some(RopeParameters::Flat(flat)) => (Some(flat), None),
        None => (config.rope_scaling.as_ref(), None),
    };
    let theta =
        global.and_then(|s| s.rope_theta).or(config.rope_theta).unwrap_or(family.rope_theta);
    let local_theta = local
        .and_then(|s| s.rope_theta)
        .or(config.rope_local_base_freq)
        .or(family.local_rope_theta);
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

/// Which layers look through the window. Explicit `layer_types` win over the family's pattern.
fn layers(
    family: &Family,
    config: &Config,
    count: usize,
) -> std::result::Result<Vec<LayerSpec>, String> {
    let opted_in = !family.window_is_opt_in || config.use_sliding_window == Some(true);
    let window = config.sliding_window.filter(|_| opted_in);
    if window == Some(0) {
        return Err("sliding_window is 0; it must be at least 1".into());
    }
    let pattern = config.sliding_window_pattern.or(family.window_pattern);
    let slides = |layer: usize| match (&config.layer_types, pattern) {
        (Some(types), _) => types.get(layer).is_some_and(|t| t == "sliding_attention"),
        (None, Some(every)) => every == 0 || !(layer + 1).is_multiple_of(every),
        (None, None) => true,
    };
    if let Some(types) = config.layer_types.as_ref().filter(|types| types.len() != count) {
        return Err(format!("layer_types has {} entries for {count} layers", types.len()));
    }
    if let Some(other) = config
        .layer_types
        .iter()
        .flatten()
        .find(|t| !matches!(t.as_str(), "full_attention" | "sliding_attention"))
    {
        return Err(format!(
            "layer type `{other}` is not supported; supported: full_attention, sliding_attention"
        ));
    }
    let two_ropes = config.rope_local_base_freq.or(family.local_rope_theta).is_some()
        || matches!(config.rope_parameters, Some(RopeParameters::ByLayerType { .. }));
    let layer = |i: usize| {
        let window = window.filter(|_| slides(i));
        LayerSpec { rope: usize::from(two_ropes && window.is_some()), window }
    };
    Ok((0..count).map(layer).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(model_type: &str) -> Config {
        Config {
            model_type: model_type.into(),
            vocab_size: Some(64),
            hidden_size: Some(32),
            intermediate_size: Some(48),
            num_hidden_layers: Some(7),
            num_attention_heads: Some(4),
            max_position_embeddings: Some(128),
            ..Config::default()
        }
    }

    #[test]
    fn gemma_windows_all_but_every_sixth_layer() {
        let spec =
            Spec::resolve(&Config { sliding_window: Some(8), ..config("gemma3_text") }).unwrap();
        let windows: Vec<_> = spec.layers.iter().map(|l| (l.rope, l.window)).collect();
        let mut expected = vec![(1, Some(8)); 7];
        expected[5] = (0, None);
        assert_eq!(windows, expected);
        assert_eq!(spec.ropes.len(), 2);
    }

    #[test]
    fn mistral_windows_every_layer_and_qwen_only_on_request() {
        let mistral =
            Spec::resolve(&Config { sliding_window: Some(16), ..config("mistral") }).unwrap();
        assert!(mistral.layers.iter().all(|l| l.window == Some(16) && l.rope == 0));
        let qwen = Spec::resolve(&Config { sliding_window: Some(16), ..config("qwen2") }).unwrap();
        assert!(qwen.layers.iter().all(|l| l.window.is_none()));
    }

    #[test]
    fn every_fault_is_listed_at_once() {
        let check = |change: fn(&mut Config), expected: &[&str]| {
            let mut bad = config("llama");
            change(&mut bad);
            let text = Spec::resolve(&bad).unwrap_err();
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
            &["architecture `mamba` is not supported; supported: llama, qwen2, qwen3, gemma3"],
        );
    }

    #[test]
    fn every_tensor_has_a_gguf_name() {
        for family in FAMILIES {
            let spec = Spec::resolve(&config(family.model_types[0])).unwrap();
            let mut names: Vec<_> =
                spec.tensors().iter().map(|t| family.gguf_name(&t.name).unwrap()).collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "{}", family.name);
        }
    }
}
