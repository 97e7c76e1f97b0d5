//! Attention to distant keys in 8 bits: what makes a long shared context cheap for many samples.
//!
//! A span behind a query's own (see [`is_distant`]) is met in codes: keys and values less the span's mean, keys with a scale per
//! token, values with one per dimension, queries with one per vector, weights in 255ths of the span's largest. The means go in exactly:
//! the keys' as q·mean, since it is the same for all keys of the span, the values' as mean times the sum of weights (smoothing as in
//! `SageAttention`, Zhang et al., arXiv 2410.02367). Weights are rounded up or down by a fixed pattern over the span's places, so that
//! many small ones keep their sum instead of all becoming zero.
//!
//! Contract: codes depend on the span's 256 keys and values alone, and sums of codes' products are exact integers; so the result is the
//! same to the bit however the cache is cut, in any company and on every instruction set. A number that is not finite in a span's keys
//! or values makes all that the span gives not finite. It knows no parts, rows or tokens.

#![allow(clippy::inline_always)] // What is not inlined into a function with the instructions is compiled without them.

use std::ops::Range;

use half::f16;

use super::attention::STRIDE;
use super::host_kv::{SPAN, Shape, TILE};
use super::lines::Lines;
use super::simd::{F32x16, Kernel, LANES, tanh};

/// Codes go from -127 to 127.
const LARGEST: f32 = 127.0;
/// Weights go from 0 to 255.
const WHOLE: f32 = 255.0;
/// Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
const ROUND: f32 = 12_582_912.0;
/// What unsigned codes are moved up by.
const UP: f32 = 128.0;
/// Below the scale of any number that f16 holds: instead of dividing by zero.
const TINY: f32 = 1e-30;
/// Bytes of a cache line.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;
/// Tiles whose codes lie side by side.
const ABREAST: usize = 4;
/// Query vectors that share a pass over keys or values: as many as registers hold.
const TOGETHER: usize = 6;
/// Query vectors that go through a span together: their scores, and the values' codes after them, stay in the first-level cache.
const BATCH: usize = 24;

/// Whether a query that sees the cache from `start` to below `end` meets the span in codes: all of it is visible, it does not hold the
/// query's own key, and it is not the first, whose first tokens gather much of the attention beside which the others' weights would
/// be lost ("attention sinks", Xiao et al., arXiv 2309.17453).
pub(super) fn is_distant(span: usize, start: usize, end: usize) -> bool {
    span > 0 && start <= span * SPAN && (span + 1) * SPAN < end
}

/// Runs of four dimensions.
fn runs(shape: Shape) -> usize {
    shape.head_dim.div_ceil(4)
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
    keys: Lines<u8>,
    key_scales: Lines<f32>,
    /// `[head_dim]`.
    key_mean: Vec<f32>,
    /// `[SPAN / 4, stored_dim, 4]`, signed.
    values: Lines<u8>,
    /// `[stored_dim]`.
    value_scales: Lines<f32>,
    /// `[stored_dim]`.
    value_mean: Lines<f32>,
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
    into.key_scales.resize(SPAN);
    into.keys.resize(SPAN * 4 * runs(shape));
    // SAFETY: a dimension of a tile is a register; `into` has room for every tile; the instructions are the caller's promise.
    unsafe {
        for dimension in 0..d {
            let mut sum = V::splat(0.0);
            for tile in tiles.clone() {
                sum = sum.add(V::load_half(tile[dimension * TILE..][..TILE].as_ptr()));
            }
            into.key_mean.push(sum.sum() / SPAN as f32);
        }
        for (index, (tile, scales)) in tiles.zip(into.key_scales.chunks_exact_mut(TILE)).enumerate() {
            let centred =
                |dimension: usize| V::load_half(tile[dimension * TILE..][..TILE].as_ptr()).sub(V::splat(into.key_mean[dimension]));
            let mut largest = V::splat(TINY);
            for dimension in 0..d {
                largest = magnitude(centred(dimension)).max(largest);
            }
            largest.mul(V::splat(1.0 / LARGEST)).store(scales.as_mut_ptr());
            let inverse = V::splat(LARGEST).div(largest);
            for run in 0..runs(shape) {
                let place = (index / ABREAST * runs(shape) + run) * ABREAST + index % ABREAST;
                let codes = &mut into.keys[place * 4 * TILE..][..4 * TILE];
                let code = |i: usize| {
                    let dimension = 4 * run + i;
                    let centred = if dimension < d { centred(dimension) } else { V::splat(0.0) };
                    centred.fma(inverse, V::splat(ROUND + UP))
                };
                V::store_four_low_bytes([code(0), code(1), code(2), code(3)], codes.as_mut_ptr());
            }
        }
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
            let value = |token: usize| V::load_half(values[token * stored + column..][..LANES].as_ptr());
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
                let code = |i: usize| value(4 * run + i).sub(mean).fma(inverse, V::splat(ROUND));
                let place = &mut into.values[(run * stored + column) * 4..][..4 * LANES];
                V::store_four_low_bytes([code(0), code(1), code(2), code(3)], place.as_mut_ptr());
            }
            mean.store(into.value_mean[column..][..LANES].as_mut_ptr());
            largest.mul(V::splat(1.0 / LARGEST)).store(into.value_scales[column..][..LANES].as_mut_ptr());
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
    /// `[vectors, head_dim / 4, 4]`, signed.
    codes: Vec<u8>,
    /// What a code stands for, times the scores' scale.
    scales: Vec<f32>,
    /// -128 times the codes' sum: what the keys' being moved up adds, taken off.
    offsets: Vec<i32>,
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
        let (d, width) = (shape.head_dim, 4 * runs(shape));
        into.codes.resize(vectors * width, 0);
        into.scales.clear();
        into.offsets.clear();
        for (index, codes) in (0..vectors).zip(into.codes.chunks_exact_mut(width)) {
            let q = &vector(index)[..d];
            // SAFETY: `load_some` reads what is left of `q`; the bytes have room for a register; the instructions are the caller's promise.
            unsafe {
                let part = |at: usize| V::load_some(q[at..].as_ptr(), d - at);
                let mut largest = V::splat(TINY);
                for at in (0..d).step_by(LANES) {
                    largest = magnitude(part(at)).max(largest);
                }
                let largest = largest.largest();
                let inverse = V::splat(LARGEST / largest);
                let mut sum = V::splat(0.0);
                for at in (0..d).step_by(LANES) {
                    let code = part(at).fma(inverse, V::splat(ROUND));
                    sum = sum.add(code.sub(V::splat(ROUND)));
                    let mut bytes = [0; LANES];
                    code.store_low_bytes(bytes.as_mut_ptr());
                    let count = LANES.min(width - at);
                    codes[at..at + count].copy_from_slice(&bytes[..count]);
                }
                into.scales.push(largest / LARGEST * shape.scale);
                into.offsets.push(-(UP as i32) * sum.sum() as i32);
            }
        }
    }
}

/// Buffers of one thread.
#[derive(Default)]
pub(super) struct Buffers {
    /// `[BATCH, STRIDE]`.
    scores: Lines<f32>,
    /// `[BATCH, SPAN]`: codes of weights.
    weights: Lines<u8>,
    /// `[vectors]`: the scores of the keys' mean.
    common: Lines<f32>,
}

/// Some query vectors over a span.
pub(super) struct Distant<'a> {
    pub shape: Shape,
    pub codes: &'a Codes,
    /// Codes to ask memory for.
    pub next: Option<&'a Codes>,
    pub queries: &'a QueryCodes,
    /// All vectors, `[vectors / 16, head_dim, 16]`.
    pub vectors: &'a [f32],
    /// Which of them.
    pub range: Range<usize>,
    pub buffers: &'a mut Buffers,
    /// `[vectors, stored_dim]`, overwritten at `vectors`: sums of values, weighed by e^(score - max).
    pub sums: &'a mut [f32],
    /// `[vectors]`, overwritten there: the largest score.
    pub maxima: &'a mut [f32],
    /// `[vectors]`, overwritten there: the sum of the weights.
    pub weights: &'a mut [f32],
}

impl Kernel for Distant<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: F32x16>(self) {
        let mut this = self;
        this.buffers.scores.resize(BATCH * STRIDE);
        this.buffers.weights.resize(BATCH * SPAN);
        this.buffers.common.resize(this.vectors.len() / this.shape.head_dim);
        for first in (this.range.start / LANES * LANES..this.range.end).step_by(LANES) {
            // SAFETY: there is room for every sixteen vectors; the instructions are the caller's promise.
            unsafe { this.common::<V>(first).store(this.buffers.common[first..][..LANES].as_mut_ptr()) };
        }
        let mut first = this.range.start;
        while first < this.range.end {
            let batch = first..this.range.end.min(first + BATCH);
            this.ask(first);
            // SAFETY: the caller's promise.
            unsafe {
                for tiles in 0..SPAN / TILE / ABREAST {
                    this.each_group::<V>(&batch, Step::Score(tiles));
                }
                this.each_group::<V>(&batch, Step::Weigh);
                this.each_group::<V>(&batch, Step::Sum);
            }
            first = batch.end;
        }
    }
}

/// What a group of vectors does next.
#[derive(Clone, Copy)]
enum Step {
    /// Meets the keys of so many-th tiles that lie abreast.
    Score(usize),
    /// Makes weights of its scores.
    Weigh,
    /// Sums values.
    Sum,
}

/// Some of a batch's vectors: from which, and where in the buffers the first of them is.
#[derive(Clone, Copy)]
struct Group {
    first: usize,
    slot: usize,
}

impl Distant<'_> {
    /// Takes the vectors of a batch through a step, as many at once as registers allow; the order of a sum does not depend on that.
    ///
    /// # Safety
    /// V's instructions must be available.
    #[inline(always)]
    unsafe fn each_group<V: F32x16>(&mut self, batch: &Range<usize>, step: Step) {
        let mut at = batch.start;
        while at < batch.end {
            let group = Group { first: at, slot: at - batch.start };
            // SAFETY: the caller's promise.
            at += unsafe {
                match batch.end - at {
                    TOGETHER.. if V::WIDTH >= 4 => self.step::<V, TOGETHER>(group, step),
                    4.. => self.step::<V, 4>(group, step),
                    3 => self.step::<V, 3>(group, step),
                    2 => self.step::<V, 2>(group, step),
                    _ => self.step::<V, 1>(group, step),
                }
            };
        }
    }

    /// # Safety
    /// V's instructions must be available.
    #[inline(always)]
    unsafe fn step<V: F32x16, const N: usize>(&mut self, group: Group, step: Step) -> usize {
        // SAFETY: the caller's promise.
        unsafe {
            match step {
                Step::Score(tiles) if V::WIDTH >= 4 => self.score::<V, N, ABREAST>(group, tiles),
                Step::Score(tiles) => (0..ABREAST).for_each(|tile| self.score::<V, N, 1>(group, tiles * ABREAST + tile)),
                Step::Weigh => self.weigh::<V, N>(group),
                Step::Sum => {
                    let stored = self.shape.stored_dim();
                    let mut column = 0;
                    while column < stored {
                        let width = V::WIDTH.min((stored - column) / LANES);
                        column += LANES
                            * match width {
                                4.. => self.sum::<V, N, 4>(group, column),
                                2.. => self.sum::<V, N, 2>(group, column),
                                _ => self.sum::<V, N, 1>(group, column),
                            };
                    }
                }
            }
        }
        N
    }

    /// Asks for the part of the next codes that belongs to the vectors from `first` on.
    #[inline(always)]
    fn ask(&self, first: usize) {
        #[cfg(target_arch = "x86_64")]
        if let Some(next) = self.next {
            use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
            let passes = self.range.len().div_ceil(BATCH);
            for bytes in [&next.keys, &next.values] {
                let lines = bytes.len() / LINE;
                let pass = (first - self.range.start) / BATCH;
                for line in bytes[lines * pass / passes * LINE..lines * (pass + 1) / passes * LINE].chunks(LINE) {
                    // SAFETY: the address is inside the slice, and a prefetch reads nothing that the program could see.
                    unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
                }
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = first;
    }

    /// Scores of N vectors, times the scores' scale, with the `index`-th T tiles of keys.
    ///
    /// # Safety
    /// V's instructions must be available.
    #[inline(always)]
    unsafe fn score<V: F32x16, const N: usize, const T: usize>(&mut self, Group { first, slot }: Group, index: usize) {
        let (runs, codes) = (runs(self.shape), self.codes);
        let queries: [&[u8]; N] = std::array::from_fn(|i| &self.queries.codes[(first + i) * 4 * runs..][..4 * runs]);
        let abreast = 4 * TILE * ABREAST;
        let keys = &codes.keys[index * T / ABREAST * abreast * runs..][..abreast * runs];
        // SAFETY: the slices above and below bound every address; the instructions are the caller's promise.
        unsafe {
            let mut sums: [[V::Ints; T]; N] = std::array::from_fn(|i| [V::splat_int(self.queries.offsets[first + i]); T]);
            for (run, keys) in keys.chunks_exact(abreast).enumerate() {
                let keys: [V::Bytes; T] = std::array::from_fn(|t| V::bytes(keys.as_ptr().add((index * T % ABREAST + t) * 4 * TILE)));
                for i in 0..N {
                    let q = V::four_bytes(queries[i].as_ptr().add(4 * run));
                    for t in 0..T {
                        sums[i][t] = V::dot(sums[i][t], keys[t], q);
                    }
                }
            }
            for (i, sums) in sums.into_iter().enumerate() {
                let (scale, common) = (V::splat(self.queries.scales[first + i]), V::splat(self.buffers.common[first + i]));
                for (t, sum) in sums.into_iter().enumerate() {
                    let place = (index * T + t) * TILE;
                    let score = V::from_ints(sum).mul(V::load(codes.key_scales[place..][..TILE].as_ptr())).fma(scale, common);
                    score.store(self.buffers.scores[(slot + i) * STRIDE + place..][..TILE].as_mut_ptr());
                }
            }
        }
    }

    /// The scores of the keys' mean, of sixteen vectors from the `first` on.
    ///
    /// # Safety
    /// V's instructions must be available.
    #[inline(always)]
    unsafe fn common<V: F32x16>(&self, first: usize) -> V {
        let d = self.shape.head_dim;
        let vectors = &self.vectors[first * d..][..LANES * d];
        // SAFETY: every chunk is a register; the instructions are the caller's promise.
        unsafe {
            // Four sums side by side: one alone would wait for itself.
            let mut sums = [V::splat(0.0); 4];
            for (q, mean) in vectors.chunks(4 * LANES).zip(self.codes.key_mean.chunks(4)) {
                for ((sum, q), &mean) in sums.iter_mut().zip(q.chunks_exact(LANES)).zip(mean) {
                    *sum = V::load(q.as_ptr()).fma(V::splat(mean), *sum);
                }
            }
            let [a, b, c, d] = sums;
            a.add(b).add(c.add(d)).mul(V::splat(self.shape.scale))
        }
    }

    /// Turns the scores of N vectors into codes of weights, and gives the largest score and the weights' sum of each.
    ///
    /// # Safety
    /// V's instructions must be available.
    #[inline(always)]
    unsafe fn weigh<V: F32x16, const N: usize>(&mut self, Group { first, slot }: Group) {
        let Buffers { scores, weights, common } = &mut *self.buffers;
        let (scores, weights) = (&mut scores[slot * STRIDE..][..N * STRIDE], &mut weights[slot * SPAN..][..N * SPAN]);
        // SAFETY: whole registers; the instructions are the caller's promise.
        unsafe {
            if let Some(cap) = self.shape.soft_cap {
                for chunk in scores.chunks_exact_mut(LANES) {
                    tanh(V::load(chunk.as_ptr()).div(V::splat(cap))).mul(V::splat(cap)).store(chunk.as_mut_ptr());
                }
            }
            // What sums lanes up waits for itself, so the vectors' sums stand side by side.
            let mut maxima = [V::splat(f32::NEG_INFINITY); N];
            for (max, scores) in maxima.iter_mut().zip(scores.chunks_exact(STRIDE)) {
                for chunk in scores[..SPAN].chunks_exact(LANES) {
                    *max = V::load(chunk.as_ptr()).max(*max);
                }
            }
            let maxima = maxima.map(|max| max.largest());
            for ((max, scores), weights) in maxima.iter().zip(scores.chunks_exact(STRIDE)).zip(weights.chunks_exact_mut(SPAN)) {
                let scores = scores[..SPAN].chunks_exact(LANES);
                for ((chunk, weights), threshold) in scores.zip(weights.chunks_exact_mut(LANES)).zip(&THRESHOLDS) {
                    let weight = coarse_exp(V::load(chunk.as_ptr()).sub(V::splat(*max)));
                    let code = weight.fma(V::splat(WHOLE), V::load(threshold.as_ptr())).add(V::splat(ROUND));
                    code.store_low_bytes(weights.as_mut_ptr());
                }
            }
            let one = V::four_bytes([1; 4].as_ptr());
            let mut sums = [V::splat_int(0); N];
            for (sum, weights) in sums.iter_mut().zip(weights.chunks_exact(SPAN)) {
                for codes in weights.chunks_exact(4 * LANES) {
                    *sum = V::dot(*sum, V::bytes(codes.as_ptr()), one);
                }
            }
            for (i, sum) in sums.into_iter().enumerate() {
                // Codes are always finite: what is not shows in the mean, which all the span's keys went into.
                let whole = if common[first + i].is_finite() { 1.0 / WHOLE } else { f32::NAN };
                (self.maxima[first + i], self.weights[first + i]) = (maxima[i], V::from_ints(sum).sum() * whole);
            }
        }
    }

    /// Weighed sums of W registers of values from `column` on, for N vectors.
    ///
    /// # Safety
    /// V's instructions must be available.
    #[inline(always)]
    unsafe fn sum<V: F32x16, const N: usize, const W: usize>(&mut self, Group { first, slot }: Group, column: usize) -> usize {
        let stored = self.shape.stored_dim();
        let codes = self.codes;
        let weights: [&[u8]; N] = std::array::from_fn(|i| &self.buffers.weights[(slot + i) * SPAN..][..SPAN]);
        // SAFETY: the slices bound every address; the instructions are the caller's promise.
        unsafe {
            let mut sums = [[V::splat_int(0); W]; N];
            for (run, values) in codes.values[..SPAN * stored].chunks_exact(4 * stored).enumerate() {
                let values: [V::Bytes; W] = std::array::from_fn(|w| V::bytes(values.as_ptr().add(4 * (column + w * LANES))));
                for i in 0..N {
                    let weight = V::four_bytes(weights[i].as_ptr().add(4 * run));
                    for w in 0..W {
                        sums[i][w] = V::dot(sums[i][w], weight, values[w]);
                    }
                }
            }
            for (i, sums) in sums.into_iter().enumerate() {
                let total = V::splat(self.weights[first + i]);
                for (w, sum) in sums.into_iter().enumerate() {
                    let at = column + w * LANES;
                    let scale = V::load(codes.value_scales[at..][..LANES].as_ptr()).mul(V::splat(1.0 / WHOLE));
                    let mean = V::load(codes.value_mean[at..][..LANES].as_ptr()).mul(total);
                    let place = &mut self.sums[(first + i) * stored + at..][..LANES];
                    V::from_ints(sum).fma(scale, mean).store(place.as_mut_ptr());
                }
            }
        }
        W
    }
}

/// e^x within 2e-4 of it, for x to 0: far below half a 255th. Below -87 what it is there. 2^n times a polynomial that is 1 at 0.
///
/// # Safety
/// V's instructions must be available.
#[inline(always)]
unsafe fn coarse_exp<V: F32x16>(x: V) -> V {
    // SAFETY: the caller's promise.
    unsafe {
        let x = x.max(V::splat(-87.0));
        let shifted = x.fma(V::splat(std::f32::consts::LOG2_E), V::splat(ROUND));
        let r = V::splat(ROUND).sub(shifted).fma(V::splat(std::f32::consts::LN_2), x);
        let y = r.fma(V::splat(1.0 / 6.0), V::splat(0.5)).fma(r, V::splat(1.0)).fma(r, V::splat(1.0));
        y.mul(shifted.power_of_low_bits())
    }
}

/// What is added to 255ths of weights before they are rounded to the nearest: from -1/2 to below 1/2, evenly over any run of places (the
/// golden ratio's multiples), so that x becomes the integer above it at a share x - floor(x) of the places.
static THRESHOLDS: [[f32; LANES]; SPAN / LANES] = {
    /// 2^32 over the golden ratio.
    const STEP: u32 = 2_654_435_769;
    let mut all = [[0.0; LANES]; SPAN / LANES];
    let mut at = 0;
    while at < SPAN {
        // 16 bits: exact in f32, and never 1/2.
        let share = ((at as u32 + 1).wrapping_mul(STEP) >> 16) as f32 / 65_536.0;
        all[at / LANES][at % LANES] = share - 0.5;
        at += 1;
    }
    all
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_even_and_never_carry_the_largest_weight_over() {
        let all: Vec<f32> = THRESHOLDS.iter().flatten().copied().collect();
        assert!(all.iter().all(|t| (-0.5..0.5).contains(t) && (WHOLE + t + ROUND) - ROUND <= WHOLE));
        // A weight of x 255ths becomes one at a share x of the places: within 4 of 256.
        for x in [0.1, 0.25, 0.5, 0.9] {
            let ones = all.iter().filter(|t| (x + **t + ROUND) - ROUND == 1.0).count();
            assert!((ones as f32 - 256.0 * x).abs() <= 4.0, "{x}: {ones}");
        }
    }

    #[test]
    fn distant_means_whole_not_first_and_not_the_querys_own() {
        let check = |span, start, end, distant| assert_eq!(is_distant(span, start, end), distant, "{span} from {start} to {end}");
        check(0, 0, 4096, false);
        check(1, 0, 512, false);
        check(1, 0, 513, true);
        check(1, 256, 513, true);
        check(1, 257, 513, false);
        check(15, 0, 4096, false);
        check(15, 0, 4097, true);
    }
}
