//! The semantic operations of the decoder: the one seam between its definition and the devices.
//!
//! [`Ops`] has two implementations: the CPU's own kernels (`cpu/ops.rs`), and candle's tensors on
//! any device (`portable.rs`), which on the CPU is the oracle of the kernels. Activations are `[T,
//! features]`, T being all tokens of a step over all rows. Every operation treats each token on its
//! own or, in `attend`, each row on its own, so that what a row computes depends neither on its
//! neighbours nor on how its tokens were chunked. An operation is as large as what a device would
//! fuse.

use std::ops::Range;

use super::cpu::Buffer;
use super::decoder::Row;
use super::kv::KvSeq;
use super::spec::{Activation, LayerSpec, Rope, Spec};
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

/// What the decoder is made of. Every operation may fail with the tensor backend's error.
pub trait Ops: Sized {
    /// y = x Wᵀ + b.
    type Linear;
    /// An RMS norm's weight, `[features]`, with its epsilon.
    type Norm;
    /// Cosines and sines of a step's positions, each `[T, head_dim / 2]`.
    type Angles;
    /// Activations, `[T, features]`.
    type Value;

    /// Bytes of one cached number, with what may be made of it later.
    fn cache_number_bytes(&self) -> usize;

    /// Builds a linear layer from `[out, in]` and an optional `[out]`. `read` is told of bytes of
    /// `weight` that are not needed again.
    fn load_linear(
        &self,
        weight: &RawTensor<'_>,
        bias: Option<&RawTensor<'_>>,
        read: &dyn Fn(&[u8]),
    ) -> Result<Self::Linear>;

    /// Builds a norm from `[features]`.
    fn load_norm(&self, weight: &RawTensor<'_>, eps: f64) -> Result<Self::Norm>;

    /// Token embeddings, `[T, hidden]`: rows of `table`'s matrix times `scale`.
    fn embed(&self, table: &Self::Linear, tokens: &[u32], scale: f64) -> Result<Self::Value>;

    /// The angles of `positions`, computed in f64.
    fn angles(&self, rope: &Rope, positions: &[usize]) -> Result<Self::Angles>;

    /// Several linear layers of the normed x.
    fn project<const N: usize>(
        &self,
        norm: &Self::Norm,
        x: &Self::Value,
        linears: [&Self::Linear; N],
    ) -> Result<[Self::Value; N]>;

    /// Norms each head of `[T, heads * head_dim]`, where there is a norm, and rotates its halves by
    /// the tokens' angles.
    fn rotate(
        &self,
        angles: &Self::Angles,
        x: Self::Value,
        norm: Option<&Self::Norm>,
        head_dim: usize,
    ) -> Result<Self::Value>;

    /// Appends the rows' new keys and values to their caches, and attends causally over each row's
    /// whole cache. Of q, k and v the first is `[T, heads * head_dim]`, as the result; the others
    /// are `[T, key-value heads * head_dim]`.
    fn attend(
        &self,
        spec: &Spec,
        layer: usize,
        qkv: [Self::Value; 3],
        rows: &mut [Row<'_>],
    ) -> Result<Self::Value>;

    /// A linear layer: `[T, in]` to `[T, out]`.
    fn linear(&self, linear: &Self::Linear, x: &Self::Value) -> Result<Self::Value>;

    /// The gated MLP of the normed x.
    fn feed_forward(
        &self,
        norm: &Self::Norm,
        x: &Self::Value,
        mlp: &GatedMlp<Self::Linear>,
    ) -> Result<Self::Value>;

    /// x + y, or x + norm(y).
    fn add(
        &self,
        x: Self::Value,
        y: &Self::Value,
        norm: Option<&Self::Norm>,
    ) -> Result<Self::Value>;

    /// The tokens at `indices`, which rise.
    fn select_rows(&self, x: Self::Value, indices: &[u32]) -> Result<Self::Value>;

    /// The head of the normed x on the host, `[T, vocab]`, after an optional soft cap c * tanh(z /
    /// c).
    fn logits(
        &self,
        norm: &Self::Norm,
        x: &Self::Value,
        head: &Self::Linear,
        soft_cap: Option<f64>,
    ) -> Result<Buffer>;
}

/// The cache indices that the `t`-th new token of a row sees.
pub fn visible(layer: LayerSpec, kv: &KvSeq, t: usize) -> Range<usize> {
    let end = kv.len() + t + 1;
    let position = kv.next_position() + t;
    let start =
        layer.window.map_or(0, |window| kv.first_index_at((position + 1).saturating_sub(window)));
    start..end
}
