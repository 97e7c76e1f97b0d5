//! The decoder's operations: the interface between the decoder and the compute backends.
//!
//! [`Ops`] has two implementations: the CPU's own kernels (`cpu/backend.rs`), and candle's tensors
//! on any device (`candle.rs`), which on the CPU are the oracle of the kernels. Activations are
//! `[T, features]`, where T counts the tokens of all rows of a step. Every operation treats each
//! token independently or, in `attend`, each row, so that a row's result depends neither on the
//! other rows nor on how its tokens were chunked. An operation is as large as what a backend would
//! fuse.

use std::ops::Range;

use super::buffer::Buffer;
use super::decoder::Row;
use super::kv::KvSeq;
use super::spec::{Activation, LayerSpec, ModelConfig, Rope};
use crate::error::Result;
use crate::format::dtype::RawTensor;

/// down(activation(gate x) * up x).
#[derive(Debug)]
pub struct GatedMlp<L> {
    /// `[intermediate, hidden]`.
    pub gate: L,
    /// `[intermediate, hidden]`.
    pub up: L,
    /// `[hidden, intermediate]`.
    pub down: L,
    /// Applied to the gate.
    pub activation: Activation,
}

/// The operations of a compute backend. Each may fail with the tensor backend's error.
pub trait Ops: Sized {
    /// y = x Wᵀ + b.
    type Linear;
    /// An RMS norm's weight, `[features]`, with its epsilon.
    type Norm;
    /// Cosines and sines of a step's positions, each `[T, head_dim / 2]`.
    type CosSin;
    /// Activations, `[T, features]`.
    type Hidden;

    /// Bytes of one cached element, including its int8 copy where the backend makes one.
    fn kv_element_bytes(&self) -> usize;

    /// Builds a linear layer from `[out, in]` and an optional `[out]`. `read` is called with each
    /// part of `weight` after its last use.
    fn load_linear(
        &self,
        weight: &RawTensor<'_>,
        bias: Option<&RawTensor<'_>>,
        read: &dyn Fn(&[u8]),
    ) -> Result<Self::Linear>;

    /// Builds a norm from `[features]`.
    fn load_norm(&self, weight: &RawTensor<'_>, eps: f64) -> Result<Self::Norm>;

    /// Token embeddings, `[T, hidden]`: rows of `table`'s matrix times `scale`.
    fn embed(&self, table: &Self::Linear, tokens: &[u32], scale: f64) -> Result<Self::Hidden>;

    /// Cosines and sines of the rotary angles at `positions`, computed in f64.
    fn cos_sin(&self, rope: &Rope, positions: &[usize]) -> Result<Self::CosSin>;

    /// Norms x and applies several linear layers to it.
    fn norm_linear<const N: usize>(
        &self,
        norm: &Self::Norm,
        x: &Self::Hidden,
        linears: [&Self::Linear; N],
    ) -> Result<[Self::Hidden; N]>;

    /// Applies the rotary embedding to each head of `[T, heads * head_dim]`, after the head's norm
    /// if there is one.
    fn rope(
        &self,
        cos_sin: &Self::CosSin,
        x: Self::Hidden,
        norm: Option<&Self::Norm>,
        head_dim: usize,
    ) -> Result<Self::Hidden>;

    /// Appends the rows' new keys and values to their caches, and attends causally over each row's
    /// whole cache. q and the result are `[T, heads * head_dim]`; k and v are
    /// `[T, key-value heads * head_dim]`.
    fn attend(
        &self,
        config: &ModelConfig,
        layer: usize,
        qkv: [Self::Hidden; 3],
        rows: &mut [Row<'_>],
    ) -> Result<Self::Hidden>;

    /// A linear layer: `[T, in]` to `[T, out]`.
    fn linear(&self, linear: &Self::Linear, x: &Self::Hidden) -> Result<Self::Hidden>;

    /// Norms x and applies the gated MLP.
    fn mlp(
        &self,
        norm: &Self::Norm,
        x: &Self::Hidden,
        mlp: &GatedMlp<Self::Linear>,
    ) -> Result<Self::Hidden>;

    /// x + y, or x + norm(y).
    fn add(
        &self,
        x: Self::Hidden,
        y: &Self::Hidden,
        norm: Option<&Self::Norm>,
    ) -> Result<Self::Hidden>;

    /// The tokens at `indices`, which are ascending.
    fn select_rows(&self, x: Self::Hidden, indices: &[u32]) -> Result<Self::Hidden>;

    /// Norms x and applies the head: logits on the host, `[T, vocab]`, with an optional soft cap c
    /// * tanh(z / c).
    fn logits(
        &self,
        norm: &Self::Norm,
        x: &Self::Hidden,
        lm_head: &Self::Linear,
        soft_cap: Option<f64>,
    ) -> Result<Buffer>;
}

/// The cache indices that the `t`-th new token of a row attends to.
pub fn visible(layer: LayerSpec, kv: &KvSeq, t: usize) -> Range<usize> {
    let end = kv.len() + t + 1;
    let position = kv.next_position() + t;
    let start =
        layer.window.map_or(0, |window| kv.first_index_at((position + 1).saturating_sub(window)));
    start..end
}
