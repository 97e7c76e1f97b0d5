//! The one decoder: embedding, attention and gated MLP with the norms that the [`Spec`] names, and the head.

use candle_core::{DType, Tensor};

use super::LoadOptions;
use super::kv::{KvSeq, LayerKv};
use super::ops::{Angles, Linear, Norm, Ops};
use super::spec::Spec;
use super::weights::WeightSource;
use crate::error::{Error, Result};

/// One row of a step: new tokens of one sequence.
pub struct Row<'a> {
    /// The new tokens, at least one.
    pub tokens: &'a [u32],
    /// The sequence's cache; the forward pass appends to it.
    pub kv: &'a mut KvSeq,
    /// How many of the last tokens' logits are wanted.
    pub logits: usize,
}

/// Logits of a step in the order of rows and tokens.
#[derive(Debug)]
pub struct Logits {
    vocab_size: usize,
    values: Vec<f32>,
}

impl Logits {
    /// The raw logits of each wanted token, `[vocab_size]`.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.vocab_size)
    }
}

struct Layer {
    input_norm: Norm,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    qk_norms: Option<(Norm, Norm)>,
    post_attention_norm: Norm,
    feedforward_norms: Option<(Norm, Norm)>,
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// A loaded model. Immutable: any number of threads may run it, each with its own caches.
pub struct Model {
    spec: Spec,
    ops: Ops,
    embedding: Linear,
    layers: Vec<Layer>,
    norm: Norm,
    head: Option<Linear>,
}

impl Model {
    /// Loads every weight of `source` onto the device.
    ///
    /// # Errors
    /// An invalid file, or a device that cannot be used.
    pub fn load(source: &WeightSource, options: LoadOptions) -> Result<Self> {
        let spec = source.spec()?;
        let device = options.device.open()?;
        let quantized = matches!(source, WeightSource::Gguf(_)) && source.dtypes()?.iter().any(|(dtype, _)| dtype.block_len() > 1);
        let dtype = if quantized { DType::F32 } else { options.dtype.resolve(&device) };
        let ops = Ops::new(device, dtype);
        let loader = Loader { source, spec: &spec, ops: &ops };
        let embedding = loader.linear("model.embed_tokens", false)?;
        let layers = (0..spec.layers.len()).map(|i| loader.layer(i)).collect::<Result<_>>()?;
        let norm = loader.norm("model.norm")?;
        let head = if spec.tied { None } else { Some(loader.linear("lm_head", false)?) };
        Ok(Self { spec, ops, embedding, layers, norm, head })
    }

    /// The model's shape.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// An empty cache of this model's shape.
    pub fn new_kv(&self) -> KvSeq {
        KvSeq::new(self.spec.layers.len())
    }

    /// Bytes that one token takes in the cache, over all layers.
    pub fn kv_bytes_per_token(&self) -> usize {
        2 * self.spec.layers.len() * self.spec.key_value_size() * self.ops.cache_number_bytes()
    }

    /// Runs the new tokens of all rows through the model, appends them to their caches and returns the wanted logits.
    ///
    /// What a row gets is the same to the bit whatever other rows are there and however its past was chunked.
    ///
    /// # Errors
    /// A token id outside the vocabulary, or the tensor backend's error; the caches are then unusable.
    pub fn forward(&self, rows: &mut [Row<'_>]) -> Result<Logits> {
        let tokens: Vec<u32> = rows.iter().flat_map(|row| row.tokens).copied().collect();
        if let Some(bad) = tokens.iter().find(|&&id| id as usize >= self.spec.vocab_size) {
            return Err(Error::usage(format!("token id {bad} is outside the model's vocabulary of {}", self.spec.vocab_size)));
        }
        if tokens.is_empty() {
            return Ok(Logits { vocab_size: self.spec.vocab_size, values: Vec::new() });
        }
        let positions: Vec<usize> = rows.iter().flat_map(|row| (0..row.tokens.len()).map(|t| row.kv.next_position() + t)).collect();
        let angles: Vec<Angles> = self.spec.ropes.iter().map(|rope| self.ops.angles(rope, &positions)).collect::<Result<_>>()?;
        let mut x = self.ops.embed(&self.embedding, &tokens, self.spec.embedding_scale)?; // [T, hidden]
        for (i, layer) in self.layers.iter().enumerate() {
            let attended = self.attention(i, layer, &x, &angles[self.spec.layers[i].rope], rows)?;
            x = self.mlp(layer, &x, &attended)?;
        }
        for row in rows.iter_mut() {
            row.kv.advance(row.tokens.len());
        }
        self.logits(&x, rows)
    }

    fn attention(&self, i: usize, layer: &Layer, x: &Tensor, angles: &Angles, rows: &mut [Row<'_>]) -> Result<Tensor> {
        let (ops, head_dim) = (&self.ops, self.spec.head_dim);
        let normed = ops.norm(&layer.input_norm, x)?;
        let [mut q, mut k, v] = ops.linear_n([&layer.q, &layer.k, &layer.v], &normed)?; // [T, heads * head_dim]
        if let Some((q_norm, k_norm)) = &layer.qk_norms {
            q = ops.norm_heads(q_norm, &q, head_dim)?;
            k = ops.norm_heads(k_norm, &k, head_dim)?;
        }
        q = ops.rope(angles, &q, head_dim)?;
        k = ops.rope(angles, &k, head_dim)?;
        let mut outputs = Vec::with_capacity(rows.len());
        let mut first = 0;
        for row in rows.iter_mut() {
            let new = row.tokens.len();
            row.kv.append(i, LayerKv { k: k.narrow(0, first, new)?, v: v.narrow(0, first, new)? })?;
            outputs.push(ops.attend(&self.spec, i, &q.narrow(0, first, new)?, row.kv)?);
            first += new;
        }
        ops.linear(&layer.o, &Tensor::cat(&outputs, 0)?)
    }

    /// The residual after attention and the MLP: `[T, hidden]`.
    fn mlp(&self, layer: &Layer, x: &Tensor, attended: &Tensor) -> Result<Tensor> {
        let ops = &self.ops;
        let (x, normed) = if let Some((pre, _)) = &layer.feedforward_norms {
            // Sandwich: each sub-layer's output is normed before it joins the residual.
            let x = ops.add(x, &ops.norm(&layer.post_attention_norm, attended)?)?;
            let normed = ops.norm(pre, &x)?;
            (x, normed)
        } else {
            let x = ops.add(x, attended)?;
            let normed = ops.norm(&layer.post_attention_norm, &x)?;
            (x, normed)
        };
        let [gate, up] = ops.linear_n([&layer.gate, &layer.up], &normed)?; // [T, intermediate]
        let mut down = ops.linear(&layer.down, &ops.glu(self.spec.family.activation, &gate, &up)?)?;
        if let Some((_, post)) = &layer.feedforward_norms {
            down = ops.norm(post, &down)?;
        }
        ops.add(&x, &down)
    }

    fn logits(&self, x: &Tensor, rows: &[Row<'_>]) -> Result<Logits> {
        let mut wanted = Vec::new();
        let mut first = 0;
        for row in rows {
            let end = first + row.tokens.len();
            wanted.extend((end - row.logits.min(row.tokens.len())..end).map(|t| t as u32));
            first = end;
        }
        let vocab_size = self.spec.vocab_size;
        if wanted.is_empty() {
            return Ok(Logits { vocab_size, values: Vec::new() });
        }
        let x = self.ops.norm(&self.norm, &self.ops.select_rows(x, &wanted)?)?;
        let z = self.ops.linear(self.head.as_ref().unwrap_or(&self.embedding), &x)?; // [wanted, vocab]
        Ok(Logits { vocab_size, values: self.ops.to_host(&z, self.spec.final_logit_softcapping)? })
    }
}

struct Loader<'a> {
    source: &'a WeightSource,
    spec: &'a Spec,
    ops: &'a Ops,
}

impl Loader<'_> {
    fn linear(&self, name: &str, bias: bool) -> Result<Linear> {
        let weight = self.source.get(self.spec, &format!("{name}.weight"))?;
        let bias = bias.then(|| self.source.get(self.spec, &format!("{name}.bias"))).transpose()?;
        self.ops.load_linear(weight, bias)
    }

    fn norm(&self, name: &str) -> Result<Norm> {
        self.ops.load_norm(self.source.get(self.spec, &format!("{name}.weight"))?, self.spec.rms_norm_eps)
    }

    fn layer(&self, i: usize) -> Result<Layer> {
        let family = self.spec.family;
        let at = |part: &str| format!("model.layers.{i}.{part}");
        let norm = |part: &str| self.norm(&at(part));
        let projection = |part: &str| self.linear(&at(&format!("self_attn.{part}_proj")), family.qkv_bias);
        let mlp = |part: &str| self.linear(&at(&format!("mlp.{part}_proj")), false);
        Ok(Layer {
            input_norm: norm("input_layernorm")?,
            q: projection("q")?,
            k: projection("k")?,
            v: projection("v")?,
            o: self.linear(&at("self_attn.o_proj"), false)?,
            qk_norms: family.qk_norm.then(|| Ok::<_, Error>((norm("self_attn.q_norm")?, norm("self_attn.k_norm")?))).transpose()?,
            post_attention_norm: norm("post_attention_layernorm")?,
            feedforward_norms: family
                .sandwich_norms
                .then(|| Ok::<_, Error>((norm("pre_feedforward_layernorm")?, norm("post_feedforward_layernorm")?)))
                .transpose()?,
            gate: mlp("gate")?,
            up: mlp("up")?,
            down: mlp("down")?,
        })
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Model({}, {} layers, {} wide)", self.spec.family.name, self.layers.len(), self.spec.hidden_size)
    }
}
