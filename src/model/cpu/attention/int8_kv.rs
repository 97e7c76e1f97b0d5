//! Keys, values and queries in int8, for distant spans (see `int8_attention.rs`). A span is
//! quantized once and cached.
//!
//! The span's mean is subtracted before quantization. Keys have one scale per span, values one per
//! dimension, queries one per vector. The means are added back exactly: that of the keys as q·mean,
//! which is the same for all keys of the span, and that of the values as mean times the sum of
//! weights (smoothing as in `SageAttention`, Zhang et al., arXiv 2410.02367). The int8 values
//! depend on the span's 256 keys and values alone.

use half::f16;

use super::super::aligned::AlignedVec;
use super::super::simd::{F32x16, Kernel, LANES};
use super::host_kv::{SPAN, Shape, TILE};

/// int8 values range from -127 to 127.
const INT8_MAX: f32 = 127.0;
/// Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
pub(super) const ROUND: f32 = 12_582_912.0;
/// Bias that makes int8 keys unsigned.
const KEY_BIAS: f32 = 128.0;
/// Replaces a zero scale, to avoid a division by zero. Smaller than any scale of f16 values.
const MIN_MAGNITUDE: f32 = 1e-30;
/// int8 values that [`F32x16::store_quads`] stores together.
pub(super) const INT8_BLOCK: usize = 64;
/// Tiles that are interleaved.
pub(super) const TILES_PER_GROUP: usize = 4;

/// Quads of dimensions.
pub(super) fn quads(shape: Shape) -> usize {
    shape.head_dim.div_ceil(4)
}

/// The token of a span at `place` of the `quad`-th quad of weights and values. A quad holds one
/// token of each of four interleaved tiles, in the order in which their scores become bytes.
pub(super) fn token_at(quad: usize, place: usize) -> usize {
    quad / TILE * TILES_PER_GROUP * TILE + [0, 2, 1, 3][place] * TILE + quad % TILE
}

/// One head's keys and values of a span in f16, gathered from the cache.
#[derive(Default)]
pub(super) struct F16Span {
    /// `[SPAN / TILE, head_dim, TILE]`.
    pub keys: AlignedVec<f16>,
    /// `[SPAN, stored_dim]`.
    pub values: AlignedVec<f16>,
}

/// One head's keys and values of a span in int8.
#[derive(Clone, Debug, Default)]
pub(super) struct Int8Span {
    /// `[SPAN / (TILES_PER_GROUP * TILE), head_dim / 4, TILES_PER_GROUP, TILE, 4]`, biased by 128.
    pub keys: AlignedVec<u8>,
    /// Scale of the keys.
    pub key_scale: f32,
    /// `[head_dim]`.
    pub key_mean: Vec<f32>,
    /// The largest norm of a quantized key (less the mean).
    pub max_key_norm: f32,
    /// `[SPAN / 4, stored_dim, 4]`, signed, in the order of [`token_at`].
    pub values: AlignedVec<u8>,
    /// `[stored_dim]`.
    pub value_scales: AlignedVec<f32>,
    /// `[stored_dim]`.
    pub value_mean: AlignedVec<f32>,
}

/// Quantizes a gathered span.
pub(super) struct QuantizeSpan<'a> {
    pub shape: Shape,
    pub from: &'a F16Span,
    pub into: &'a mut Int8Span,
}

impl Kernel for QuantizeSpan<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: F32x16>(self) {
        let Self { shape, from, into } = self;
        // SAFETY: the caller guarantees the instructions.
        unsafe {
            quantize_keys::<V>(shape, &from.keys, into);
            quantize_values::<V>(shape, &from.values, into);
        }
    }
}

/// # Safety
/// V's instructions must be available.
#[inline(always)]
unsafe fn quantize_keys<V: F32x16>(shape: Shape, keys: &[f16], into: &mut Int8Span) {
    let d = shape.head_dim;
    let tiles = keys.chunks_exact(d * TILE);
    into.key_mean.clear();
    into.keys.resize(SPAN * 4 * quads(shape));
    // SAFETY: a dimension of a tile is one register; `into` has room for every tile; the caller
    // guarantees the instructions.
    unsafe {
        for dimension in 0..d {
            let mut sum = V::splat(0.0);
            for tile in tiles.clone() {
                sum = sum.add(V::load_half(tile[dimension * TILE..][..TILE].as_ptr()));
            }
            into.key_mean.push(sum.sum() / SPAN as f32);
        }
        let centered = |tile: &[f16], dimension: usize| {
            V::load_half(tile[dimension * TILE..][..TILE].as_ptr())
                .sub(V::splat(into.key_mean[dimension]))
        };
        let mut largest = V::splat(MIN_MAGNITUDE);
        for tile in tiles.clone() {
            for dimension in 0..d {
                largest = abs(centered(tile, dimension)).max(largest);
            }
        }
        let largest = largest.max_lane();
        into.key_scale = largest / INT8_MAX;
        let inverse = V::splat(INT8_MAX / largest);
        let mut norms = V::splat(0.0);
        for (index, tile) in tiles.enumerate() {
            let mut squares = V::splat(0.0);
            for quad in 0..quads(shape) {
                let place = (index / TILES_PER_GROUP * quads(shape) + quad) * TILES_PER_GROUP
                    + index % TILES_PER_GROUP;
                let quants = &mut into.keys[place * 4 * TILE..][..4 * TILE];
                let quant = |i: usize| {
                    let dimension = 4 * quad + i;
                    let centered =
                        if dimension < d { centered(tile, dimension) } else { V::splat(0.0) };
                    centered.fma(inverse, V::splat(ROUND + KEY_BIAS))
                };
                let four = [quant(0), quant(1), quant(2), quant(3)];
                V::store_four_low_bytes(four, quants.as_mut_ptr());
                for quant in four {
                    let quant = quant.sub(V::splat(ROUND + KEY_BIAS));
                    squares = quant.fma(quant, squares);
                }
            }
            norms = squares.max(norms);
        }
        into.max_key_norm = norms.max_lane().sqrt() * into.key_scale;
    }
}

/// # Safety
/// V's instructions must be available.
#[inline(always)]
unsafe fn quantize_values<V: F32x16>(shape: Shape, values: &[f16], into: &mut Int8Span) {
    let stored = shape.stored_dim();
    into.values.resize(SPAN * stored);
    into.value_scales.resize(stored);
    into.value_mean.resize(stored);
    for column in (0..stored).step_by(LANES) {
        // SAFETY: `stored` is whole registers; the caller guarantees the instructions.
        unsafe {
            let value =
                |token: usize| V::load_half(values[token * stored + column..][..LANES].as_ptr());
            let mut sum = V::splat(0.0);
            for token in 0..SPAN {
                sum = sum.add(value(token));
            }
            let mean = sum.mul(V::splat(1.0 / SPAN as f32));
            let mut largest = V::splat(MIN_MAGNITUDE);
            for token in 0..SPAN {
                largest = abs(value(token).sub(mean)).max(largest);
            }
            let inverse = V::splat(INT8_MAX).div(largest);
            for quad in 0..SPAN / 4 {
                let quant =
                    |i: usize| value(token_at(quad, i)).sub(mean).fma(inverse, V::splat(ROUND));
                let place = &mut into.values[(quad * stored + column) * 4..][..4 * LANES];
                V::store_four_low_bytes(
                    [quant(0), quant(1), quant(2), quant(3)],
                    place.as_mut_ptr(),
                );
            }
            mean.store(into.value_mean[column..][..LANES].as_mut_ptr());
            largest
                .mul(V::splat(1.0 / INT8_MAX))
                .store(into.value_scales[column..][..LANES].as_mut_ptr());
        }
    }
}

/// # Safety
/// V's instructions must be available.
#[inline(always)]
unsafe fn abs<V: F32x16>(x: V) -> V {
    // SAFETY: guaranteed by the caller.
    unsafe { x.max(V::splat(0.0).sub(x)) }
}

/// Query vectors in int8.
#[derive(Default)]
pub(super) struct Int8Queries {
    /// `[vectors, head_dim / 64, 16, 4]`, signed, stored by [`F32x16::store_quads`].
    pub int8: Vec<u8>,
    /// Bytes per vector.
    pub stride: usize,
    /// Scale of the vector, times the attention scale.
    pub scales: Vec<f32>,
    /// Norm of the quantized vector, times the attention scale.
    pub norms: Vec<f32>,
    /// -128 times the sum of the int8 values: cancels the bias of the keys.
    pub bias_corrections: Vec<i32>,
}

/// Quantizes query vectors.
pub(super) struct QuantizeQueries<'a, F> {
    pub shape: Shape,
    pub vectors: usize,
    /// Gives a vector's values, `[head_dim]`.
    pub vector: F,
    pub into: &'a mut Int8Queries,
}

impl<'q, F: Fn(usize) -> &'q [f32]> Kernel for QuantizeQueries<'_, F> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: F32x16>(self) {
        let Self { shape, vectors, vector, into } = self;
        let d = shape.head_dim;
        into.stride = d.div_ceil(INT8_BLOCK) * V::QUAD_BYTES;
        into.int8.resize(vectors * into.stride, 0);
        into.scales.clear();
        into.norms.clear();
        into.bias_corrections.clear();
        for (index, quants) in (0..vectors).zip(into.int8.chunks_exact_mut(into.stride)) {
            let q = &vector(index)[..d];
            // SAFETY: `load_partial` reads what is left of `q`; `bytes` has room for a register;
            // the caller guarantees the instructions.
            unsafe {
                let chunk = |at: usize| V::load_partial(q[at..].as_ptr(), d - at);
                let mut largest = V::splat(MIN_MAGNITUDE);
                for at in (0..d).step_by(LANES) {
                    largest = abs(chunk(at)).max(largest);
                }
                let largest = largest.max_lane();
                let inverse = V::splat(INT8_MAX / largest);
                let (mut sum, mut squares) = (V::splat(0.0), V::splat(0.0));
                for (from, quants) in
                    (0..d).step_by(INT8_BLOCK).zip(quants.chunks_exact_mut(V::QUAD_BYTES))
                {
                    let mut bytes = [0; INT8_BLOCK];
                    for (at, bytes) in (from..d).step_by(LANES).zip(bytes.chunks_exact_mut(LANES)) {
                        let quant = chunk(at).fma(inverse, V::splat(ROUND));
                        let whole = quant.sub(V::splat(ROUND));
                        (sum, squares) = (sum.add(whole), whole.fma(whole, squares));
                        quant.store_low_bytes(bytes.as_mut_ptr());
                    }
                    V::store_quads(bytes.as_ptr(), quants.as_mut_ptr());
                }
                let scale = largest / INT8_MAX * shape.scale;
                into.scales.push(scale);
                into.norms.push(squares.sum().sqrt() * scale);
                into.bias_corrections.push(-(KEY_BIAS as i32) * sum.sum() as i32);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_at_is_a_permutation() {
        let mut tokens: Vec<usize> = (0..SPAN).map(|at| token_at(at / 4, at % 4)).collect();
        assert_eq!(tokens[..8], [0, 32, 16, 48, 1, 33, 17, 49]);
        tokens.sort_unstable();
        assert!(tokens.into_iter().eq(0..SPAN));
    }
}
