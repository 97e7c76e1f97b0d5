//! Tiny models with random weights, from the recipes `models/tiny-*.toml`: as a GGUF file and as a
//! Hugging Face folder.
//!
//! A weight is a function of the recipe's seed, its Hugging Face name and its index, so anyone can
//! build the same model: the goldens come from an outside implementation that did. The names, the
//! permutation of Llama's q and k rows, Gemma's +1 and the rope factors are those of llama.cpp's
//! `convert_hf_to_gguf.py`.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::fs;
use std::path::Path;

use candor::internals::format::dtype::Dtype;
use safetensors::tensor::{Dtype as Stored, TensorView};
use serde_json::json;

use super::gguf_writer::{Tensor, Value, Writer, encode};

/// The first ids of the tokenizer are the 256 bytes; these follow, with their GGUF token types (1
/// normal, 3 control, 5 unused).
const EXTRA_TOKENS: [(&str, i32); 8] = [
    ("<|endoftext|>", 3),
    ("<|im_start|>", 3),
    ("<|im_end|>", 3),
    ("Ġt", 1),
    ("he", 1),
    ("Ġthe", 1),
    ("<unused0>", 5),
    ("<unused1>", 5),
];
/// The merges that make tokens 259 to 261.
const MERGES: [&str; 3] = ["Ġ t", "h e", "Ġt he"];
/// `ChatML`.
const CHAT_TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}\
    {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// What a weight is, which decides its distribution and how it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A matrix `[out_features, in_features]`.
    Linear,
    /// The token embedding `[vocab_size, hidden_size]`.
    Embedding,
    /// A vector added to a linear layer's output.
    Bias,
    /// The weight of an RMS norm.
    Norm,
}

/// One weight of a model under its two names.
#[derive(Clone, Debug)]
pub struct Weight {
    /// Hugging Face's name.
    pub name: String,
    /// llama.cpp's name.
    pub gguf_name: String,
    /// Row-major, outermost first.
    pub shape: Vec<usize>,
    /// What it is.
    pub kind: Kind,
    /// The values, as Hugging Face stores them.
    pub values: Vec<f32>,
}

/// A recipe of a tiny model. A test may change the config before it builds.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Seed of all weights.
    pub seed: u64,
    /// The keys of Hugging Face's `config.json`, verbatim.
    pub config: toml::Table,
    /// The tensors whose names end so are zero.
    pub zero: Option<&'static str>,
    /// The name of one more tensor, which no model has.
    pub extra: Option<&'static str>,
}

impl Recipe {
    /// The names of all recipes.
    pub const ALL: [&str; 4] = ["llama", "qwen2", "qwen3", "gemma3"];

    /// The recipe `models/tiny-{name}.toml`.
    pub fn load(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("models/tiny-{name}.toml"));
        let text =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut table: toml::Table = text.parse().unwrap();
        let Some(toml::Value::Table(config)) = table.remove("config") else {
            panic!("{name}: no [config]")
        };
        Self { seed: table["seed"].as_integer().unwrap() as u64, config, zero: None, extra: None }
    }

    fn text(&self, key: &str) -> &str {
        self.config[key].as_str().unwrap_or_else(|| panic!("{key} is a string"))
    }

    fn maybe(&self, key: &str) -> Option<usize> {
        self.config.get(key).and_then(toml::Value::as_integer).map(|n| n as usize)
    }

    fn size(&self, key: &str) -> usize {
        self.maybe(key).unwrap_or_else(|| panic!("{key} is a count"))
    }

    fn flag(&self, key: &str) -> bool {
        self.config.get(key).and_then(toml::Value::as_bool).unwrap_or_default()
    }

    fn float(&self, key: &str) -> f64 {
        self.config[key].as_float().unwrap_or_else(|| panic!("{key} is a float"))
    }

    fn head_dim(&self) -> usize {
        self.maybe("head_dim")
            .unwrap_or_else(|| self.size("hidden_size") / self.size("num_attention_heads"))
    }

    /// The architecture's name in GGUF.
    fn arch(&self) -> &str {
        self.text("model_type").trim_end_matches("_text")
    }

    fn is_gemma(&self) -> bool {
        self.arch() == "gemma3"
    }

    /// All weights, embedding first, then layer by layer.
    pub fn weights(&self) -> Vec<Weight> {
        let (hidden, vocab) = (self.size("hidden_size"), self.size("vocab_size"));
        let mut all = vec![self.weight(
            "model.embed_tokens.weight",
            "token_embd.weight",
            &[vocab, hidden],
            Kind::Embedding,
        )];
        for layer in 0..self.size("num_hidden_layers") {
            all.extend(self.layer(layer));
        }
        all.push(self.weight("model.norm.weight", "output_norm.weight", &[hidden], Kind::Norm));
        if !self.config["tie_word_embeddings"].as_bool().unwrap() {
            all.push(self.weight(
                "lm_head.weight",
                "output.weight",
                &[vocab, hidden],
                Kind::Linear,
            ));
        }
        all.extend(self.extra.map(|name| self.weight(name, name, &[4], Kind::Bias)));
        all
    }

    fn layer(&self, layer: usize) -> Vec<Weight> {
        let (hidden, inner, head) =
            (self.size("hidden_size"), self.size("intermediate_size"), self.head_dim());
        let q = self.size("num_attention_heads") * head;
        let kv = self.size("num_key_value_heads") * head;
        let mut rows: Vec<(&str, &str, Vec<usize>, Kind)> = vec![
            ("self_attn.q_proj.weight", "attn_q.weight", vec![q, hidden], Kind::Linear),
            ("self_attn.k_proj.weight", "attn_k.weight", vec![kv, hidden], Kind::Linear),
            ("self_attn.v_proj.weight", "attn_v.weight", vec![kv, hidden], Kind::Linear),
            ("self_attn.o_proj.weight", "attn_output.weight", vec![hidden, q], Kind::Linear),
            ("mlp.gate_proj.weight", "ffn_gate.weight", vec![inner, hidden], Kind::Linear),
            ("mlp.up_proj.weight", "ffn_up.weight", vec![inner, hidden], Kind::Linear),
            ("mlp.down_proj.weight", "ffn_down.weight", vec![hidden, inner], Kind::Linear),
            ("input_layernorm.weight", "attn_norm.weight", vec![hidden], Kind::Norm),
        ];
        if self.is_gemma() {
            rows.push((
                "post_attention_layernorm.weight",
                "post_attention_norm.weight",
                vec![hidden],
                Kind::Norm,
            ));
            rows.push((
                "pre_feedforward_layernorm.weight",
                "ffn_norm.weight",
                vec![hidden],
                Kind::Norm,
            ));
            rows.push((
                "post_feedforward_layernorm.weight",
                "post_ffw_norm.weight",
                vec![hidden],
                Kind::Norm,
            ));
        } else {
            rows.push((
                "post_attention_layernorm.weight",
                "ffn_norm.weight",
                vec![hidden],
                Kind::Norm,
            ));
        }
        if self.arch() == "qwen2" || self.flag("attention_bias") {
            rows.push(("self_attn.q_proj.bias", "attn_q.bias", vec![q], Kind::Bias));
            rows.push(("self_attn.k_proj.bias", "attn_k.bias", vec![kv], Kind::Bias));
            rows.push(("self_attn.v_proj.bias", "attn_v.bias", vec![kv], Kind::Bias));
        }
        if self.flag("attention_bias") {
            rows.push(("self_attn.o_proj.bias", "attn_output.bias", vec![hidden], Kind::Bias));
        }
        if self.flag("mlp_bias") {
            rows.push(("mlp.gate_proj.bias", "ffn_gate.bias", vec![inner], Kind::Bias));
            rows.push(("mlp.up_proj.bias", "ffn_up.bias", vec![inner], Kind::Bias));
            rows.push(("mlp.down_proj.bias", "ffn_down.bias", vec![hidden], Kind::Bias));
        }
        if self.is_gemma() || self.arch() == "qwen3" {
            rows.push(("self_attn.q_norm.weight", "attn_q_norm.weight", vec![head], Kind::Norm));
            rows.push(("self_attn.k_norm.weight", "attn_k_norm.weight", vec![head], Kind::Norm));
        }
        let weight = |(hf, gguf, shape, kind): (&str, &str, Vec<usize>, Kind)| {
            self.weight(
                &format!("model.layers.{layer}.{hf}"),
                &format!("blk.{layer}.{gguf}"),
                &shape,
                kind,
            )
        };
        rows.into_iter().map(weight).collect()
    }

    fn weight(&self, name: &str, gguf_name: &str, shape: &[usize], kind: Kind) -> Weight {
        let (center, amplitude) = match kind {
            Kind::Linear => (0.0, (3.0 / shape[1] as f64).sqrt()),
            Kind::Embedding => (0.0, if self.is_gemma() { 0.2 } else { 1.0 }),
            Kind::Bias => (0.0, 0.1),
            Kind::Norm => (if self.is_gemma() { 0.0 } else { 1.0 }, 0.1),
        };
        let count: usize = shape.iter().product();
        let amplitude =
            if self.zero.is_some_and(|end| name.ends_with(end)) { 0.0 } else { amplitude };
        let values = (0..count as u64).map(|index| {
            (center + amplitude * (2.0 * uniform(self.seed, name, index) - 1.0)) as f32
        });
        Weight {
            name: name.into(),
            gguf_name: gguf_name.into(),
            shape: shape.into(),
            kind,
            values: values.collect(),
        }
    }

    /// The model as a GGUF file, with linear weights stored as `linear` (F32, F16, BF16, `Q8_0` or
    /// `Q4_0`) and everything else as F32.
    pub fn gguf(&self, linear: Dtype) -> Vec<u8> {
        self.writer(linear).bytes()
    }

    /// The same before it is put together, for tests that spoil it.
    pub fn writer(&self, linear: Dtype) -> Writer {
        let mut writer = Writer::default();
        self.set_hyperparameters(&mut writer);
        set_tokenizer(&mut writer);
        writer.set("general.file_type", linear.ggml());
        if let Some(factors) = self.rope_factors() {
            writer.tensors.push(Tensor::new(
                "rope_freqs.weight",
                &[factors.len()],
                Dtype::F32,
                &factors,
            ));
        }
        for weight in self.weights() {
            let dtype = if weight.kind == Kind::Linear { linear } else { Dtype::F32 };
            writer.tensors.push(Tensor::new(
                &weight.gguf_name,
                &weight.shape,
                dtype,
                &self.gguf_values(&weight),
            ));
        }
        writer
    }

    fn set_hyperparameters(&self, writer: &mut Writer) {
        writer.set("general.architecture", self.arch());
        writer.set("general.name", &format!("tiny {}", self.arch()));
        let mut set =
            |key: &str, value: Value| writer.set(&format!("{}.{key}", self.arch()), value);
        for (key, config) in [
            ("block_count", "num_hidden_layers"),
            ("context_length", "max_position_embeddings"),
            ("embedding_length", "hidden_size"),
            ("feed_forward_length", "intermediate_size"),
            ("attention.head_count", "num_attention_heads"),
            ("attention.head_count_kv", "num_key_value_heads"),
            ("vocab_size", "vocab_size"),
        ] {
            set(key, (self.size(config) as u32).into());
        }
        set("attention.layer_norm_rms_epsilon", (self.float("rms_norm_eps") as f32).into());
        set("rope.freq_base", (self.float("rope_theta") as f32).into());
        if let Some(head_dim) = self.maybe("head_dim") {
            set("attention.key_length", (head_dim as u32).into());
            set("attention.value_length", (head_dim as u32).into());
        }
        if self.arch() == "llama" {
            set("rope.dimension_count", (self.head_dim() as u32).into());
        }
        if self.is_gemma() {
            set("attention.sliding_window", (self.size("sliding_window") as u32).into());
            set(
                "attention.scale",
                (self.size("query_pre_attn_scalar") as f32).sqrt().recip().into(),
            );
        }
    }

    /// What each rotary frequency is divided by under Llama 3's scaling, `[head_dim / 2]`.
    fn rope_factors(&self) -> Option<Vec<f32>> {
        let scaling = self.config.get("rope_scaling")?.as_table()?;
        let get = |key: &str| {
            scaling[key].as_float().unwrap_or_else(|| scaling[key].as_integer().unwrap() as f64)
        };
        let (factor, low, high) = (get("factor"), get("low_freq_factor"), get("high_freq_factor"));
        let original = get("original_max_position_embeddings");
        let head = self.head_dim();
        let of = |pair: usize| {
            let wavelength = TAU * self.float("rope_theta").powf((2 * pair) as f64 / head as f64);
            let smooth = ((original / wavelength - low) / (high - low)).clamp(0.0, 1.0);
            (1.0 / ((1.0 - smooth) / factor + smooth)) as f32
        };
        Some((0..head / 2).map(of).collect())
    }

    /// A weight's values in the order and form that GGUF stores.
    pub fn gguf_values(&self, weight: &Weight) -> Vec<f32> {
        if self.is_gemma() && weight.kind == Kind::Norm {
            return weight.values.iter().map(|value| value + 1.0).collect();
        }
        if self.arch() == "llama"
            && (weight.name.contains("q_proj") || weight.name.contains("k_proj"))
        {
            let width = weight.shape.get(1).copied().unwrap_or(1);
            return interleave(&weight.values, self.head_dim(), width);
        }
        weight.values.clone()
    }

    /// The model as a Hugging Face folder: `config.json`, weights of `dtype` (F32, F16 or BF16) in
    /// one file or in `shards` with an index, `tokenizer.json` and `tokenizer_config.json`.
    pub fn write_hf(&self, folder: &Path, dtype: Dtype, shards: usize) {
        let mut config = serde_json::to_value(&self.config).unwrap();
        config["torch_dtype"] = json!(match dtype {
            Dtype::F16 => "float16",
            Dtype::BF16 => "bfloat16",
            _ => "float32",
        });
        write_json(&folder.join("config.json"), &config);
        write_tokenizer(folder);
        let weights = self.weights();
        if shards == 1 {
            write_safetensors(&folder.join("model.safetensors"), dtype, &weights);
            return;
        }
        let mut map = BTreeMap::new();
        for (index, part) in weights.chunks(weights.len().div_ceil(shards)).enumerate() {
            let file = format!("model-{:05}-of-{shards:05}.safetensors", index + 1);
            write_safetensors(&folder.join(&file), dtype, part);
            map.extend(part.iter().map(|weight| (weight.name.clone(), file.clone())));
        }
        let total: usize =
            weights.iter().map(|weight| weight.values.len() * dtype.block_bytes()).sum();
        write_json(
            &folder.join("model.safetensors.index.json"),
            &json!({"metadata": {"total_size": total}, "weight_map": map}),
        );
    }
}

/// A number in [0, 1) from seed, tensor name (FNV-1a) and index (splitmix64), with 24 random bits.
fn uniform(seed: u64, name: &str, index: u64) -> f64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mut z = (hash ^ seed).wrapping_add((index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    (z >> 40) as f64 / f64::from(1 << 24)
}

/// Llama's rows `[head, 2, head_dim / 2]` as GGUF stores them: `[head, head_dim / 2, 2]`, so that
/// rotary pairs are neighbors.
fn interleave(values: &[f32], head_dim: usize, in_features: usize) -> Vec<f32> {
    let rows: Vec<&[f32]> = values.chunks_exact(in_features).collect();
    let from =
        |row: usize| row / head_dim * head_dim + row % 2 * (head_dim / 2) + row % head_dim / 2;
    (0..rows.len()).flat_map(|row| rows[from(row)].iter().copied()).collect()
}

fn set_tokenizer(writer: &mut Writer) {
    let types = [1; 256].into_iter().chain(EXTRA_TOKENS.map(|(_, ty)| ty));
    writer.set("tokenizer.ggml.model", "gpt2");
    writer.set("tokenizer.ggml.pre", "smollm");
    writer.set("tokenizer.ggml.tokens", Value::array(&tokens()));
    writer.set("tokenizer.ggml.token_type", Value::array(types));
    writer.set("tokenizer.ggml.merges", Value::array(MERGES));
    writer.set("tokenizer.ggml.bos_token_id", 256u32);
    writer.set("tokenizer.ggml.eos_token_id", 258u32);
    writer.set("tokenizer.ggml.unknown_token_id", 256u32);
    writer.set("tokenizer.ggml.add_bos_token", false);
    writer.set("tokenizer.chat_template", CHAT_TEMPLATE);
}

/// All tokens by id: the bytes 0 to 255 in GPT-2's alphabet, then [`EXTRA_TOKENS`].
fn tokens() -> Vec<String> {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut next = 256;
    let mut letter = |byte: u8| {
        if printable(&byte) {
            return char::from(byte).to_string();
        }
        next += 1;
        char::from_u32(next - 1).unwrap().to_string()
    };
    let mut all: Vec<String> = (0..=255).map(&mut letter).collect();
    all.extend(EXTRA_TOKENS.map(|(token, _)| token.to_owned()));
    all
}

/// The same tokenizer as `tokenizer.json`. `SmolLM` splits single digits, then by GPT-2's pattern.
fn write_tokenizer(folder: &Path) {
    let added = |(id, token, ty): (usize, &String, i32)| {
        let special = ty == 3;
        json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": special})
    };
    let all = tokens();
    let types = EXTRA_TOKENS.map(|(_, ty)| ty);
    let extra =
        all.iter().enumerate().skip(256).zip(types).map(|((id, token), ty)| (id, token, ty));
    let vocab: serde_json::Map<_, _> =
        all.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "added_tokens": extra.filter(|(_, _, ty)| *ty != 1).map(added).collect::<Vec<_>>(),
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocab, "merges": MERGES},
    });
    write_json(&folder.join("tokenizer.json"), &tokenizer);
    let config = json!({"tokenizer_class": "GPT2Tokenizer", "bos_token": "<|endoftext|>", "eos_token": "<|im_end|>",
        "unk_token": "<|endoftext|>", "add_bos_token": false, "chat_template": CHAT_TEMPLATE});
    write_json(&folder.join("tokenizer_config.json"), &config);
}

fn write_json(path: &Path, value: &serde_json::Value) {
    fs::write(path, serde_json::to_vec_pretty(value).unwrap()).unwrap();
}

fn write_safetensors(path: &Path, dtype: Dtype, weights: &[Weight]) {
    let stored = match dtype {
        Dtype::F16 => Stored::F16,
        Dtype::BF16 => Stored::BF16,
        _ => Stored::F32,
    };
    let encoded: Vec<Vec<u8>> =
        weights.iter().map(|weight| encode(dtype, &weight.values)).collect();
    let view =
        |weight: &Weight, bytes| TensorView::new(stored, weight.shape.clone(), bytes).unwrap();
    let views = weights
        .iter()
        .zip(&encoded)
        .map(|(weight, bytes)| (weight.name.clone(), view(weight, bytes)));
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}
