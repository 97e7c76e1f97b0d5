//! Keys, values and queries in 8 bits, for spans that are met in codes (`distant.rs`): made once
//! per span, and kept.
//!
//! Keys and values go in less the span's mean, keys with one scale, values with one per dimension,
//! queries with one per vector. The means go in exactly: the keys' as q·mean, since it is the same
//! for all keys of the span, the values' as mean times the sum of weights (smoothing as in
//! `SageAttention`, Zhang et al., arXiv 2410.02367). Codes depend on the span's 256 keys and values
//! alone.

#![allow(clippy::inline_always)] // What is not inlined into a function with the instructions is compiled without them.

use half::f16;

use super::super::aligned::Lines;
use super::super::simd::{F32x16, Kernel, LANES};
use super::host_kv::{SPAN, Shape, TILE};

/// Codes go from -127 to 127.
const LARGEST: f32 = 127.0;
/// Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
pub(super) const ROUND: f32 = 12_582_912.0;
/// What unsigned codes are moved up by.
const UP: f32 = 128.0;
/// Below the scale of any number that f16 holds: instead of dividing by zero.
const TINY: f32 = 1e-30;
/// Codes that are spread together (`F32x16::spread`).
pub(super) const BLOCK: usize = 64;
/// Tiles whose codes lie side by side.
pub(super) const ABREAST: usize = 4;

/// Runs of four dimensions.
pub(super) fn runs(shape: Shape) -> usize {
    shape.head_dim.div_ceil(4)
}

/// The token of a span that has the weight and the value at `place` of the `run`-th four: four
/// tiles abreast give one each, in the order in which their scores become bytes.
pub(super) fn token(run: usize, place: usize) -> usize {
    run / TILE * ABREAST * TILE + [0, 2, 1, 3][place] * TILE + run % TILE
}

/// One head's keys and values of a span in half precision, as they come out of the cache.
#[derive(Default)]
pub(super) struct Gathered {
    /// `[SPAN / TILE, head_dim, TILE]`.
    pub keys: Lines<f16>,
    /// `[SPAN, stored_dim]`.
    pub values: Lines<f16>,
}

/// One head's keys and values of a span.
#[derive(Clone, Debug, Default)]
pub(super) struct Codes {
    /// `[SPAN / (ABREAST * TILE), head_dim / 4, ABREAST, TILE, 4]`, moved up by 128.
    pub keys: Lines<u8>,
    /// What a key's code stands for.
    pub key_scale: f32,
    /// `[head_dim]`.
    pub key_mean: Vec<f32>,
    /// The largest norm of a key less the mean, as its code has it.
    pub key_norm: f32,
    /// `[SPAN / 4, stored_dim, 4]`, signed; which token is where: [`token`].
    pub values: Lines<u8>,
    /// `[stored_dim]`.
    pub value_scales: Lines<f32>,
    /// `[stored_dim]`.
    pub value_mean: Lines<f32>,
}

/// Fills codes from what was gathered.
pub(super) struct Encode<'a> {
    pub shape: Shape,
    pub from: &'a Gathered,
    pub into: &'a mut Codes,
}

impl Kernel for Encode<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: F32x16>(self) {
        let Self { shape, from, into } = self;
        // SAFETY: the instructions are the caller's promise.
        unsafe {
            encode_keys::<V>(shape, &from.keys, into);
            encode_values::<V>(shape, &from.values, into);
        }
    }
}

/// # Safety
/// V's instructions must be available.
#[inline(always)]
unsafe fn encode_keys<V: F32x16>(shape: Shape, keys: &[f16], into: &mut Codes) {
    let d = shape.head_dim;
    let tiles = keys.chunks_exact(d * TILE);
    into.key_mean.clear();
    into.keys.resize(SPAN * 4 * runs(shape));
    // SAFETY: a dimension of a tile is a register; `into` has room for every tile; the instructions
    // are the caller's promise.
    unsafe {
        for dimension in 0..d {
            let mut sum = V::splat(0.0);
            for tile in tiles.clone() {
                sum = sum.add(V::load_half(tile[dimension * TILE..][..TILE].as_ptr()));
            }
            into.key_mean.push(sum.sum() / SPAN as f32);
        }
        let centred = |tile: &[f16], dimension: usize| {
            V::load_half(tile[dimension * TILE..][..TILE].as_ptr())
                .sub(V::splat(into.key_mean[dimension]))
        };
        let mut largest = V::splat(TINY);
        for tile in tiles.clone() {
            for dimension in 0..d {
                largest = magnitude(centred(tile, dimension)).max(largest);
            }
        }
        let largest = largest.largest();
        into.key_scale = largest / LARGEST;
        let inverse = V::splat(LARGEST / largest);
        let mut norms = V::splat(0.0);
        for (index, tile) in tiles.enumerate() {
            let mut squares = V::splat(0.0);
            for run in 0..runs(shape) {
                let place = (index / ABREAST * runs(shape) + run) * ABREAST + index % ABREAST;
                let codes = &mut into.keys[place * 4 * TILE..][..4 * TILE];
                let code = |i: usize| {
                    let dimension = 4 * run + i;
                    let centred =
                        if dimension < d { centred(tile, dimension) } else { V::splat(0.0) };
                    centred.fma(inverse, V::splat(ROUND + UP))
                };
                let four = [code(0), code(1), code(2), code(3)];
                V::store_four_low_bytes(four, codes.as_mut_ptr());
                for code in four {
                    let code = code.sub(V::splat(ROUND + UP));
                    squares = code.fma(code, squares);
                }
            }
            norms = squares.max(norms);
        }
        into.key_norm = norms.largest().sqrt() * into.key_scale;
    }
}

/// # Safety
/// V's instructions must be available.
#[inline(always)]
unsafe fn encode_values<V: F32x16>(shape: Shape, values: &[f16], into: &mut Codes) {
    let stored = shape.stored_dim();
    into.values.resize(SPAN * stored);
    into.value_scales.resize(stored);
    into.value_mean.resize(stored);
    for column in (0..stored).step_by(LANES) {
        // SAFETY: `stored` is whole registers; the instructions are the caller's promise.
        unsafe {
            let value =
                |token: usize| V::load_half(values[token * stored + column..][..LANES].as_ptr());
            let mut sum = V::splat(0.0);
            for token in 0..SPAN {
                sum = sum.add(value(token));
            }
            let mean = sum.mul(V::splat(1.0 / SPAN as f32));
            let mut largest = V::splat(TINY);
            for token in 0..SPAN {
                largest = magnitude(value(token).sub(mean)).max(largest);
            }
            let inverse = V::splat(LARGEST).div(largest);
            for run in 0..SPAN / 4 {
                let code = |i: usize| value(token(run, i)).sub(mean).fma(inverse, V::splat(ROUND));
                let place = &mut into.values[(run * stored + column) * 4..][..4 * LANES];
                V::store_four_low_bytes([code(0), code(1), code(2), code(3)], place.as_mut_ptr());
            }
            mean.store(into.value_mean[column..][..LANES].as_mut_ptr());
            largest
                .mul(V::splat(1.0 / LARGEST))
                .store(into.value_scales[column..][..LANES].as_mut_ptr());
        }
    }
}

/// # Safety
/// V's instructions must be available.
#[inline(always)]
unsafe fn magnitude<V: F32x16>(x: V) -> V {
    // SAFETY: the caller's promise.
    unsafe { x.max(V::splat(0.0).sub(x)) }
}

/// Query vectors in 8 bits.
#[derive(Default)]
pub(super) struct QueryCodes {
    /// `[vectors, head_dim / 64, 16, 4]`, signed, and spread as the instructions take them.
    pub codes: Vec<u8>,
    /// Bytes of a vector's.
    pub stride: usize,
    /// What a code stands for, times the scores' scale.
    pub scales: Vec<f32>,
    /// The vector's norm, as its code has it, times the scores' scale.
    pub norms: Vec<f32>,
    /// -128 times the codes' sum: what the keys' being moved up adds, taken off.
    pub offsets: Vec<i32>,
}

/// Fills the codes of query vectors.
pub(super) struct EncodeQueries<'a, F> {
    pub shape: Shape,
    pub vectors: usize,
    /// A vector's numbers, `[head_dim]`.
    pub vector: F,
    pub into: &'a mut QueryCodes,
}

impl<'q, F: Fn(usize) -> &'q [f32]> Kernel for EncodeQueries<'_, F> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: F32x16>(self) {
        let Self { shape, vectors, vector, into } = self;
        let d = shape.head_dim;
        into.stride = d.div_ceil(BLOCK) * V::SPREAD;
        into.codes.resize(vectors * into.stride, 0);
        into.scales.clear();
        into.norms.clear();
        into.offsets.clear();
        for (index, codes) in (0..vectors).zip(into.codes.chunks_exact_mut(into.stride)) {
            let q = &vector(index)[..d];
            // SAFETY: `load_some` reads what is left of `q`; the bytes have room for a register;
            // the instructions are the caller's promise.
            unsafe {
                let part = |at: usize| V::load_some(q[at..].as_ptr(), d - at);
                let mut largest = V::splat(TINY);
                for at in (0..d).step_by(LANES) {
                    largest = magnitude(part(at)).max(largest);
                }
                let largest = largest.largest();
                let inverse = V::splat(LARGEST / largest);
                let (mut sum, mut squares) = (V::splat(0.0), V::splat(0.0));
                for (from, codes) in (0..d).step_by(BLOCK).zip(codes.chunks_exact_mut(V::SPREAD)) {
                    let mut bytes = [0; BLOCK];
                    for (at, bytes) in (from..d).step_by(LANES).zip(bytes.chunks_exact_mut(LANES)) {
                        let code = part(at).fma(inverse, V::splat(ROUND));
                        let whole = code.sub(V::splat(ROUND));
                        (sum, squares) = (sum.add(whole), whole.fma(whole, squares));
                        code.store_low_bytes(bytes.as_mut_ptr());
                    }
                    V::spread(bytes.as_ptr(), codes.as_mut_ptr());
                }
                let scale = largest / LARGEST * shape.scale;
                into.scales.push(scale);
                into.norms.push(squares.sum().sqrt() * scale);
                into.offsets.push(-(UP as i32) * sum.sum() as i32);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_of_a_span_has_one_place() {
        let mut tokens: Vec<usize> = (0..SPAN).map(|at| token(at / 4, at % 4)).collect();
        assert_eq!(tokens[..8], [0, 32, 16, 48, 1, 33, 17, 49]);
        tokens.sort_unstable();
        assert!(tokens.into_iter().eq(0..SPAN));
    }
}
