//! The decoder, generic over [`Ops`]: embedding, layers of attention and gated MLP as
//! [`ModelConfig`] describes them, and the head.

use super::buffer::Buffer;
use super::kv::KvSeq;
use super::ops::{GatedMlp, Ops};
use super::spec::ModelConfig;
use super::weights::WeightSource;
use crate::error::{Error, Result};
use crate::format::dtype::RawTensor;

/// One row of a step: the new tokens of one sequence.
pub struct Row<'a> {
    /// The new tokens, at least one.
    pub tokens: &'a [u32],
    /// The sequence's cache; the forward pass appends to it.
    pub kv: &'a mut KvSeq,
    /// Number of tokens at the end whose logits are returned.
    pub logits: usize,
}

/// Logits of a step, ordered by row and token.
#[derive(Debug)]
pub struct Logits {
    vocab_size: usize,
    values: Buffer,
}

impl Logits {
    fn none(vocab_size: usize) -> Self {
        Self { vocab_size, values: Vec::new().into() }
    }

    /// The raw logits of each requested token, `[vocab_size]`.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.vocab_size)
    }
}

struct Layer<O: Ops> {
    input_norm: O::Norm,
    q: O::Linear,
    k: O::Linear,
    v: O::Linear,
    o: O::Linear,
    qk_norms: Option<(O::Norm, O::Norm)>,
    /// Norms of the outputs of attention and of the MLP, before they are added to the residual.
    output_norms: Option<(O::Norm, O::Norm)>,
    mlp_norm: O::Norm,
    mlp: GatedMlp<O::Linear>,
}

/// The weights on a device, and the forward pass.
pub struct Decoder<O: Ops> {
    ops: O,
    embedding: O::Linear,
    layers: Vec<Layer<O>>,
    norm: O::Norm,
    lm_head: Option<O::Linear>,
}

/// A step's tokens.
struct StepBuffers {
    tokens: Vec<u32>,
    positions: Vec<usize>,
    /// Indices of the tokens whose logits are requested.
    logit_indices: Vec<u32>,
}

impl StepBuffers {
    fn new(rows: &[Row<'_>]) -> Self {
        let count = rows.iter().map(|row| row.tokens.len()).sum();
        let mut tokens = Vec::with_capacity(count);
        let mut positions = Vec::with_capacity(count);
        let mut logit_indices = Vec::with_capacity(count);
        for row in rows {
            let next = row.kv.next_position();
            tokens.extend_from_slice(row.tokens);
            positions.extend(next..next + row.tokens.len());
            let end = tokens.len() as u32;
            logit_indices.extend(end - row.logits.min(row.tokens.len()) as u32..end);
        }
        Self { tokens, positions, logit_indices }
    }
}

impl<O: Ops> Decoder<O> {
    /// Loads every weight of `source`.
    ///
    /// # Errors
    /// An invalid file, or the tensor backend's error.
    pub fn load(source: &WeightSource, config: &ModelConfig, ops: O) -> Result<Self> {
        let loader = Loader { source, config, ops: &ops };
        let embedding = loader.linear("model.embed_tokens", false)?;
        let layers = (0..config.layers.len()).map(|i| loader.layer(i)).collect::<Result<_>>()?;
        let norm = loader.norm("model.norm")?;
        let lm_head =
            if config.tie_word_embeddings { None } else { Some(loader.linear("lm_head", false)?) };
        source.release_all();
        Ok(Self { ops, embedding, layers, norm, lm_head })
    }

    /// The device.
    pub fn ops(&self) -> &O {
        &self.ops
    }

    /// As [`Model::forward`](super::Model::forward).
    ///
    /// # Errors
    /// The same.
    pub fn forward(&self, config: &ModelConfig, rows: &mut [Row<'_>]) -> Result<Logits> {
        let StepBuffers { tokens, positions, logit_indices } = StepBuffers::new(rows);
        if let Some(bad) = tokens.iter().find(|&&id| id as usize >= config.vocab_size) {
            return Err(Error::usage(format!(
                "token id {bad} is outside the model's vocabulary of {}",
                config.vocab_size
            )));
        }
        if tokens.is_empty() {
            return Ok(Logits::none(config.vocab_size));
        }
        let ops = &self.ops;
        let cos_sin = config
            .ropes
            .iter()
            .map(|rope| ops.cos_sin(rope, &positions))
            .collect::<Result<Vec<_>>>()?;
        let mut x = ops.embed(&self.embedding, &tokens, config.embedding_scale)?; // [T, hidden]
        for (i, layer) in self.layers.iter().enumerate() {
            let cos_sin = &cos_sin[config.layers[i].rope];
            let (q_norm, k_norm) = layer.qk_norms.as_ref().map(|(q, k)| (q, k)).unzip();
            let (attention_norm, mlp_norm) =
                layer.output_norms.as_ref().map(|(attention, mlp)| (attention, mlp)).unzip();
            // [T, heads * head_dim]
            let [q, k, v] =
                ops.norm_linear(&layer.input_norm, &x, [&layer.q, &layer.k, &layer.v])?;
            let q = ops.rope(cos_sin, q, q_norm, config.head_dim)?;
            let k = ops.rope(cos_sin, k, k_norm, config.head_dim)?;
            let mut attended = ops.attend(config, i, [q, k, v], rows)?;
            if i + 1 == self.layers.len() {
                // After the last layer's keys and values, only the tokens whose logits are
                // requested are needed.
                if logit_indices.is_empty() {
                    break;
                }
                x = ops.select_rows(x, &logit_indices)?;
                attended = ops.select_rows(attended, &logit_indices)?;
            }
            x = ops.add(x, &ops.linear(&layer.o, &attended)?, attention_norm)?;
            let fed = ops.mlp(&layer.mlp_norm, &x, &layer.mlp)?;
            x = ops.add(x, &fed, mlp_norm)?;
        }
        for row in rows.iter_mut() {
            row.kv.advance(row.tokens.len());
        }
        if logit_indices.is_empty() {
            return Ok(Logits::none(config.vocab_size));
        }
        let lm_head = self.lm_head.as_ref().unwrap_or(&self.embedding);
        Ok(Logits {
            vocab_size: config.vocab_size,
            values: ops.logits(&self.norm, &x, lm_head, config.final_logit_softcapping)?,
        })
    }
}

struct Loader<'a, O> {
    source: &'a WeightSource,
    config: &'a ModelConfig,
    ops: &'a O,
}

impl<O: Ops> Loader<'_, O> {
    fn linear(&self, name: &str, bias: bool) -> Result<O::Linear> {
        let weight = self.source.get(self.config, &format!("{name}.weight"))?;
        let bias: Option<RawTensor<'_>> =
            bias.then(|| self.source.get(self.config, &format!("{name}.bias"))).transpose()?;
        self.ops.load_linear(&weight, bias.as_ref(), &|bytes| self.source.release(bytes))
    }

    fn norm(&self, name: &str) -> Result<O::Norm> {
        self.ops.load_norm(
            &self.source.get(self.config, &format!("{name}.weight"))?,
            self.config.rms_norm_eps,
        )
    }

    fn layer(&self, i: usize) -> Result<Layer<O>> {
        let architecture = self.config.architecture;
        let at = |part: &str| format!("model.layers.{i}.{part}");
        let norm = |part: &str| self.norm(&at(part));
        let biases = self.config.biases;
        let projection =
            |part: &str| self.linear(&at(&format!("self_attn.{part}_proj")), biases.qkv);
        let mlp = |part: &str| self.linear(&at(&format!("mlp.{part}_proj")), biases.mlp);
        // Without sandwich norms, `post_attention_layernorm` is the MLP's input norm.
        let (mlp_norm, output_norms) = if architecture.sandwich_norms {
            let output_norms =
                (norm("post_attention_layernorm")?, norm("post_feedforward_layernorm")?);
            (norm("pre_feedforward_layernorm")?, Some(output_norms))
        } else {
            (norm("post_attention_layernorm")?, None)
        };
        Ok(Layer {
            input_norm: norm("input_layernorm")?,
            q: projection("q")?,
            k: projection("k")?,
            v: projection("v")?,
            o: self.linear(&at("self_attn.o_proj"), biases.attention_output)?,
            qk_norms: architecture
                .qk_norm
                .then(|| Ok::<_, Error>((norm("self_attn.q_norm")?, norm("self_attn.k_norm")?)))
                .transpose()?,
            output_norms,
            mlp_norm,
            mlp: GatedMlp {
                gate: mlp("gate")?,
                up: mlp("up")?,
                down: mlp("down")?,
                activation: self.config.activation,
            },
        })
    }
}
