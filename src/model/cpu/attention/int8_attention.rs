//! Attention to distant spans in int8, which makes a long shared context cheap for many samples.
//!
//! Which spans: see [`span_uses_int8`]. Scores are 16-bit integers. Their unit is chosen from the
//! norms of the query and of the span's longest key (Cauchy-Schwarz), so that no score overflows.
//! Weights are 255ths of the span's largest weight, computed as 2^-x by a 16-bit polynomial within
//! 0.3 %. They are rounded up or down by a fixed pattern over the positions of the span, so that
//! many small weights keep their sum instead of all becoming zero. Values to which no vector of a
//! pass gives weight are skipped.
//!
//! Contract: integer dot products and the integer softmax are exact. So the result is bit-identical
//! for every segmentation of the cache, every batch and every instruction set. If a key or value of
//! the span is not finite, the span's result is not finite either. This file does not know cache
//! ranges, rows or tokens.

use std::ops::Range;

use super::super::aligned::AlignedVec;
use super::super::simd::{F32x16, Kernel, LANES, U16_LANES, U16x32, tanh};
use super::exp2_u16::{MAX_FRACTION_BITS, ROUNDING_OFFSETS, exp2_neg};
use super::host_kv::{SPAN, Shape, TILE};
use super::int8_kv::{INT8_BLOCK, Int8Queries, Int8Span, ROUND, TILES_PER_GROUP, quads};
use super::tiles::SoftmaxState;

/// Quads (groups of four bytes) in a block of int8 values.
const QUADS: usize = INT8_BLOCK / 4;
/// Scores from one vector to the next. Not a power of two, since all vectors would then map to the
/// same few cache sets.
const STRIDE: usize = SPAN + U16_LANES;
/// The largest weight.
const MAX_WEIGHT: f32 = 255.0;
/// Limit of a score in its unit. Below 2^15 by more than the bound's rounding error.
const MAX_SCORE: f32 = 32_000.0;
/// Bytes of a cache line.
const LINE: usize = 64;
/// Query vectors that share a pass over keys or values, limited by the number of registers.
const MAX_VECTORS: usize = 6;
/// The same for 16 registers, or for few vectors.
const MIN_VECTORS: usize = 4;
/// Query vectors that go through a span together. Their scores, then the int8 values, stay in the
/// L1 cache.
const BATCH: usize = 24;

/// Whether a query that sees cache indices `start..end` attends to the span in int8. It does if the
/// whole span is visible, does not contain the query's own key, and is not the first span. The
/// first tokens attract so much attention that the weights of their neighbors would be lost in int8
/// ("attention sinks", Xiao et al., arXiv 2309.17453).
pub(super) fn span_uses_int8(span: usize, start: usize, end: usize) -> bool {
    span > 0 && start <= span * SPAN && (span + 1) * SPAN < end
}

/// One value per vector of a batch, padded to whole registers.
type PerVector = [f32; BATCH.next_multiple_of(LANES)];

/// One bit per quad of a span.
type QuadMask = u64;
const _: () = assert!(SPAN / 4 == QuadMask::BITS as usize);

/// One thread's buffers.
#[derive(Default)]
pub(super) struct Int8Scratch {
    /// `[BATCH, STRIDE]`: signed; the scores of two adjacent tiles are interleaved.
    scores: AlignedVec<u16>,
    /// `[BATCH, SPAN / 64, QUAD_BYTES]`: int8 weights, stored as quads in the order of
    /// [`token_at`](super::int8_kv::token_at).
    weights: AlignedVec<u8>,
    /// `[vectors]`: the scores of the mean key.
    mean_scores: AlignedVec<f32>,
    /// `[vectors]`.
    score_scales: Vec<ScoreScale>,
    /// Which quads of a vector's weights are not all zero.
    nonzero: [QuadMask; BATCH],
    /// The largest score of the span, and the sum of its weights.
    maxima: PerVector,
    sums: PerVector,
    /// Factors of the earlier sums and of the span's own sums when they are merged.
    old_factors: PerVector,
    new_factors: PerVector,
}

/// The int8 span that is needed next. It is prefetched between the products, one or two cache lines
/// at a time. Prefetching all of it at once would fill the line fill buffers, and the products
/// would stall.
#[derive(Clone, Copy, Default)]
pub(super) struct Prefetch<'a> {
    keys: &'a [u8],
    values: &'a [u8],
    /// The next line to prefetch: keys first, then values.
    line: usize,
    /// Lines to prefetch per quad of dimensions.
    lines_per_quad: usize,
}

impl<'a> Prefetch<'a> {
    pub(super) fn of(codes: Option<&'a Int8Span>) -> Self {
        codes.map_or_else(Self::default, |Int8Span { keys, values, .. }| Self {
            keys,
            values,
            ..Self::default()
        })
    }

    /// Distributes the lines over `quads` steps.
    fn distribute(&mut self, quads: usize) {
        self.lines_per_quad = (self.keys.len() + self.values.len()).div_ceil(LINE).div_ceil(quads);
    }

    /// The address of the next `quads * lines_per_quad` lines. Past the end, an address that is
    /// harmless to prefetch.
    #[inline(always)]
    fn next_lines(&mut self, quads: usize) -> *const u8 {
        let at = self.line * LINE;
        self.line += quads * self.lines_per_quad;
        let bytes = if at < self.keys.len() {
            self.keys.get(at..)
        } else {
            self.values.get(at - self.keys.len()..)
        };
        bytes.unwrap_or_default().as_ptr()
    }
}

/// Prefetches a cache line. Any address is allowed.
#[inline(always)]
fn prefetch_line(line: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that the program could see, and no address is wrong.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(line.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}

/// The unit of a vector's scores with a span: one doubling of the weight is 2^`fraction_bits`.
#[derive(Clone, Copy, Default)]
struct ScoreScale {
    fraction_bits: u16,
    /// Units per natural logarithm, the scale of a score.
    units_per_score: f32,
    /// Factor of an int8 dot product: gives units, or, with a soft cap, a score.
    factor: f32,
}

impl ScoreScale {
    /// The finest unit, a power of two, in which scores from -`bound` to `bound` fit in 16 bits. If
    /// not even whole doublings fit, scores are compressed further: the largest score is still
    /// found, and the relative weights of near ones no longer matter.
    fn for_scores_up_to(bound: f32) -> Self {
        let room = MAX_SCORE / (bound * std::f32::consts::LOG2_E);
        let fraction_bits = ((room.to_bits() >> 23) as i32 - 127).clamp(0, MAX_FRACTION_BITS);
        let doubling = room.min((1 << fraction_bits) as f32);
        Self {
            fraction_bits: fraction_bits as u16,
            units_per_score: doubling * std::f32::consts::LOG2_E,
            factor: 0.0,
        }
    }
}

/// Attention of some query vectors to a span.
pub(super) struct Int8Attention<'a> {
    pub shape: Shape,
    pub span: &'a Int8Span,
    /// The span to prefetch meanwhile.
    pub prefetch: Prefetch<'a>,
    pub queries: &'a Int8Queries,
    /// All query vectors, `[vectors / 16, head_dim, 16]`.
    pub vectors: &'a [f32],
    /// The vectors to process.
    pub range: Range<usize>,
    pub scratch: &'a mut Int8Scratch,
    /// `[vectors, stored_dim]`: sums of values, weighted by e^(score - max). These three fields
    /// hold the result of earlier spans; this span is merged into them.
    pub sums: &'a mut [f32],
    /// `[vectors]`: the largest score.
    pub maxima: &'a mut [f32],
    /// `[vectors]`: the sum of the weights.
    pub weight_sums: &'a mut [f32],
}

impl Kernel for Int8Attention<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: F32x16>(self) {
        let mut this = self;
        this.scratch.scores.resize(BATCH * STRIDE);
        this.scratch.weights.resize(BATCH * weight_bytes::<V>());
        this.scratch.mean_scores.resize(this.vectors.len() / this.shape.head_dim);
        for first in (this.range.start / LANES * LANES..this.range.end).step_by(LANES) {
            // SAFETY: there is room for every sixteen vectors; the caller guarantees
            // the instructions.
            unsafe {
                this.mean_scores::<V>(first)
                    .store(this.scratch.mean_scores[first..][..LANES].as_mut_ptr());
            };
        }
        let (cap, norms, longest) =
            (this.shape.soft_cap, &this.queries.norms[this.range.clone()], this.span.max_key_norm);
        this.scratch.score_scales.resize(this.range.end, ScoreScale::default());
        let scales =
            this.queries.scales[this.range.clone()].iter().map(|scale| scale * this.span.key_scale);
        for (score_scale, (norm, scale)) in
            this.scratch.score_scales[this.range.clone()].iter_mut().zip(norms.iter().zip(scales))
        {
            *score_scale = ScoreScale::for_scores_up_to(cap.unwrap_or(norm * longest));
            score_scale.factor =
                if cap.is_some() { scale } else { scale * score_scale.units_per_score };
        }
        let vectors_per_pass = if V::VALUE_REGISTERS >= 4 { MAX_VECTORS } else { MIN_VECTORS };
        this.prefetch.distribute(
            this.range.len().div_ceil(vectors_per_pass)
                * (SPAN / TILE / TILES_PER_GROUP)
                * quads(this.shape),
        );
        let mut first = this.range.start;
        while first < this.range.end {
            let batch = first..this.range.end.min(first + BATCH);
            // SAFETY: guaranteed by the caller.
            unsafe {
                for tile_group in 0..SPAN / TILE / TILES_PER_GROUP {
                    this.for_each_group::<V>(&batch, Step::Score(tile_group));
                }
                this.for_each_group::<V>(&batch, Step::Softmax);
                this.merge::<V>(&batch);
                this.for_each_group::<V>(&batch, Step::WeightedSum);
            }
            first = batch.end;
        }
    }
}

/// Bytes of a vector's weights over a span.
const fn weight_bytes<V: F32x16>() -> usize {
    SPAN / INT8_BLOCK * V::QUAD_BYTES
}

/// What a group of vectors computes.
#[derive(Clone, Copy)]
enum Step {
    /// Scores with one group of key tiles.
    Score(usize),
    /// Weights from the scores.
    Softmax,
    /// Weighted sums of the values.
    WeightedSum,
}

/// Some of a batch's vectors: every `step`-th vector from `first`, whose position in the buffers is
/// `slot`.
#[derive(Clone, Copy)]
struct VectorGroup {
    first: usize,
    slot: usize,
    step: usize,
}

impl Int8Attention<'_> {
    /// Runs a step for all vectors of a batch, as many at once as registers allow. That number does
    /// not change the order of any sum.
    ///
    /// # Safety
    /// V's instructions must be available.
    #[inline(always)]
    unsafe fn for_each_group<V: F32x16>(&mut self, batch: &Range<usize>, step: Step) {
        // Different queries of one head have more keys of zero weight in common than different
        // heads of one query, and keys without any weight are skipped.
        let heads = self.shape.group();
        let by_head = matches!(step, Step::WeightedSum)
            && batch.len().is_multiple_of(heads)
            && batch.len() / heads >= MIN_VECTORS;
        let interleave = if by_head { heads } else { 1 };
        for offset in 0..interleave {
            let mut slot = offset;
            while slot < batch.len() {
                let group = VectorGroup { first: batch.start + slot, slot, step: interleave };
                // SAFETY: guaranteed by the caller.
                let count = unsafe {
                    match (batch.len() - slot).div_ceil(interleave) {
                        6 | 9.. if V::VALUE_REGISTERS >= 4 => {
                            self.run_step::<V, MAX_VECTORS>(group, step)
                        }
                        4.. => self.run_step::<V, MIN_VECTORS>(group, step),
                        3 => self.run_step::<V, 3>(group, step),
                        2 => self.run_step::<V, 2>(group, step),
                        _ => self.run_step::<V, 1>(group, step),
                    }
                };
                slot += count * interleave;
            }
        }
    }

    /// # Safety
    /// V's instructions must be available.
    #[inline(always)]
    unsafe fn run_step<V: F32x16, const N: usize>(
        &mut self,
        group: VectorGroup,
        step: Step,
    ) -> usize {
        // SAFETY: guaranteed by the caller.
        unsafe {
            match step {
                Step::Score(tile_group) => match (V::VALUE_REGISTERS >= 4, self.shape.soft_cap) {
                    (true, None) => self.score::<V, N, TILES_PER_GROUP, false>(group, tile_group),
                    (true, Some(_)) => self.score::<V, N, TILES_PER_GROUP, true>(group, tile_group),
                    (false, None) => self.score::<V, N, 1, false>(group, tile_group),
                    (false, Some(_)) => self.score::<V, N, 1, true>(group, tile_group),
                },
                Step::Softmax => self.softmax::<V, N>(group),
                Step::WeightedSum => {
                    let stored = self.shape.stored_dim();
                    let mut column = 0;
                    while column < stored {
                        let width = V::VALUE_REGISTERS.min((stored - column) / LANES);
                        column += LANES
                            * match width {
                                4.. => self.weighted_sum::<V, N, 4>(group, column),
                                _ => self.weighted_sum::<V, N, 1>(group, column),
                            };
                    }
                }
            }
        }
        N
    }

    /// Scores of N vectors with one group of key tiles, T tiles at a time.
    ///
    /// # Safety
    /// V's instructions must be available.
    #[inline(always)]
    unsafe fn score<V: F32x16, const N: usize, const T: usize, const CAPPED: bool>(
        &mut self,
        VectorGroup { first, slot, .. }: VectorGroup,
        tile_group: usize,
    ) {
        let (quads, lines_per_quad) = (quads(self.shape), self.prefetch.lines_per_quad);
        let mut next_line = self.prefetch.next_lines(quads);
        let stride = self.queries.stride;
        let queries = &self.queries.int8[first * stride..][..N * stride];
        let biases = &self.queries.bias_corrections[first..][..N];
        let keys = &self.span.keys[tile_group * TILES_PER_GROUP * TILE * 4 * quads..]
            [..TILES_PER_GROUP * TILE * 4 * quads];
        // SAFETY: the slices above and below bound every address; the caller guarantees the
        // instructions.
        unsafe {
            let mut sums = [[V::splat_int(0); TILES_PER_GROUP]; N];
            for first_tile in (0..TILES_PER_GROUP).step_by(T) {
                let mut now: [[V::Ints; T]; N] =
                    std::array::from_fn(|i| [V::splat_int(biases[i]); T]);
                for (block, keys) in keys.chunks(QUADS * TILES_PER_GROUP * TILE * 4).enumerate() {
                    let queries = queries.as_ptr().add(block * V::QUAD_BYTES);
                    for (quad, keys) in keys.chunks_exact(TILES_PER_GROUP * TILE * 4).enumerate() {
                        let keys: [V::Bytes; T] = std::array::from_fn(|t| {
                            V::bytes(keys.as_ptr().add((first_tile + t) * 4 * TILE))
                        });
                        for (i, now) in now.iter_mut().enumerate() {
                            let q = V::quad(queries.add(i * stride), quad);
                            for (sum, key) in now.iter_mut().zip(keys) {
                                *sum = V::dot(*sum, key, q);
                            }
                        }
                        if first_tile == 0 {
                            for _ in 0..lines_per_quad {
                                prefetch_line(next_line);
                                next_line = next_line.wrapping_add(LINE);
                            }
                        }
                    }
                }
                for i in 0..N {
                    sums[i][first_tile..first_tile + T].copy_from_slice(&now[i]);
                }
            }
            let cap = self.shape.soft_cap.unwrap_or_default();
            let Int8Scratch { scores, mean_scores, score_scales, .. } = &mut *self.scratch;
            let (score_scales, mean_scores) =
                (&score_scales[first..][..N], &mean_scores[first..][..N]);
            let places = &mut scores[slot * STRIDE..][..N * STRIDE];
            for i in 0..N {
                let ScoreScale { units_per_score, factor, .. } = score_scales[i];
                let scores = sums[i].map(|sum| {
                    let sum = V::from_ints(sum);
                    if CAPPED {
                        let score = sum.fma(V::splat(factor), V::splat(mean_scores[i]));
                        tanh(score.div(V::splat(cap)))
                            .mul(V::splat(cap))
                            .fma(V::splat(units_per_score), V::splat(ROUND))
                    } else {
                        sum.fma(V::splat(factor), V::splat(ROUND))
                    }
                });
                let places = &mut places[i * STRIDE + tile_group * TILES_PER_GROUP * TILE..]
                    [..TILES_PER_GROUP * TILE];
                for (pair, places) in
                    scores.as_chunks::<2>().0.iter().zip(places.chunks_exact_mut(U16_LANES))
                {
                    V::low_u16(pair[0], pair[1]).store(places.as_mut_ptr());
                }
            }
        }
    }

    /// The scores of the mean key, for sixteen vectors from `first` on.
    ///
    /// # Safety
    /// V's instructions must be available.
    #[inline(always)]
    unsafe fn mean_scores<V: F32x16>(&self, first: usize) -> V {
        let d = self.shape.head_dim;
        let vectors = &self.vectors[first * d..][..LANES * d];
        // SAFETY: every chunk is a register; the caller guarantees the instructions.
        unsafe {
            // Four independent sums: a single chain would be bound by its latency.
            let mut sums = [V::splat(0.0); 4];
            let ((fours, rest), (means, more)) =
                (vectors.as_chunks::<{ 4 * LANES }>(), self.span.key_mean.as_chunks::<4>());
            for (q, mean) in fours.iter().zip(means) {
                for i in 0..4 {
                    sums[i] = V::load(q[i * LANES..].as_ptr()).fma(V::splat(mean[i]), sums[i]);
                }
            }
            for i in 0..3 {
                if let Some(&mean) = more.get(i) {
                    sums[i] =
                        V::load(rest[i * LANES..][..LANES].as_ptr()).fma(V::splat(mean), sums[i]);
                }
            }
            let [a, b, c, d] = sums;
            a.add(b).add(c.add(d)).mul(V::splat(self.shape.scale))
        }
    }

    /// Turns the scores of N vectors into int8 weights, and computes each vector's largest score
    /// and sum of weights.
    ///
    /// # Safety
    /// V's instructions must be available.
    #[inline(always)]
    unsafe fn softmax<V: F32x16, const N: usize>(
        &mut self,
        VectorGroup { first, slot, .. }: VectorGroup,
    ) {
        let Int8Scratch {
            scores,
            weights,
            nonzero,
            mean_scores,
            score_scales,
            maxima,
            sums: totals,
            ..
        } = &mut *self.scratch;
        let stride = weight_bytes::<V>();
        let (scores, weights) =
            (&scores[slot * STRIDE..][..N * STRIDE], &mut weights[slot * stride..][..N * stride]);
        // SAFETY: the slices are whole registers; the caller guarantees the instructions.
        unsafe {
            // Reductions over lanes are latency-bound, so the vectors' reductions are interleaved.
            let mut largest = [V::U16x32::splat(i16::MIN.cast_unsigned()); N];
            for (max, scores) in largest.iter_mut().zip(scores.chunks_exact(STRIDE)) {
                for words in scores[..SPAN].chunks_exact(U16_LANES) {
                    *max = max.max_signed(V::U16x32::load(words.as_ptr()));
                }
            }
            let largest = largest.map(|max| max.max_lane_signed());
            let each = largest
                .iter()
                .zip(&score_scales[first..])
                .zip(scores.chunks_exact(STRIDE).zip(weights.chunks_exact_mut(stride)));
            for ((max, &ScoreScale { fraction_bits, .. }), (scores, weights)) in each {
                let max = V::U16x32::splat(max.cast_unsigned());
                let pairs = scores[..SPAN]
                    .chunks_exact(2 * U16_LANES)
                    .zip(ROUNDING_OFFSETS.chunks_exact(2));
                for ((scores, offsets), weights) in
                    pairs.zip(weights.chunks_exact_mut(V::QUAD_BYTES))
                {
                    let weight = |half: usize| {
                        let below = max.sub(V::U16x32::load(scores[half * U16_LANES..].as_ptr()));
                        exp2_neg::<V::U16x32>(below, fraction_bits)
                            .add(V::U16x32::load(offsets[half].as_ptr()))
                    };
                    V::store_high_bytes_as_quads(weight(0), weight(1), weights.as_mut_ptr());
                }
            }
            let mut sums = [V::splat_int(0); N];
            for ((sum, nonzero), weights) in
                sums.iter_mut().zip(&mut nonzero[slot..]).zip(weights.chunks_exact(stride))
            {
                *nonzero = 0;
                for (block, codes) in weights.chunks_exact(V::QUAD_BYTES).enumerate() {
                    *sum = V::add_bytes(*sum, codes.as_ptr());
                    *nonzero |= QuadMask::from(V::nonzero_quads(codes.as_ptr())) << (block * QUADS);
                }
            }
            for (i, sum) in sums.into_iter().enumerate() {
                let mean_score = mean_scores[first + i];
                // int8 values are always finite. A key that is not finite shows in the mean key,
                // which depends on all keys of the span.
                let whole = if mean_score.is_finite() { 1.0 / MAX_WEIGHT } else { f32::NAN };
                let max = f32::from(largest[i]) / score_scales[first + i].units_per_score;
                // A capped score already includes the mean key's score.
                maxima[slot + i] =
                    if self.shape.soft_cap.is_none() { max + mean_score } else { max };
                totals[slot + i] = V::from_ints(sum).sum() * whole;
            }
        }
    }

    /// Merges the maxima and sums of a batch into those of the earlier spans.
    ///
    /// # Safety
    /// V's instructions must be available.
    #[inline(always)]
    unsafe fn merge<V: F32x16>(&mut self, batch: &Range<usize>) {
        let Int8Scratch { maxima, sums, old_factors, new_factors, .. } = &mut *self.scratch;
        for at in (0..batch.len()).step_by(LANES) {
            let count = LANES.min(batch.len() - at);
            let places = batch.start + at..batch.start + at + count;
            let (old_maxima, old_sums) =
                (&mut self.maxima[places.clone()], &mut self.weight_sums[places]);
            // SAFETY: the arrays are whole registers; `count` old values are read and written; the
            // caller guarantees the instructions.
            unsafe {
                let earlier = SoftmaxState {
                    max: V::load_partial(old_maxima.as_ptr(), count),
                    sum: V::load_partial(old_sums.as_ptr(), count),
                };
                let later = SoftmaxState {
                    max: V::load(maxima[at..][..LANES].as_ptr()),
                    sum: V::load(sums[at..][..LANES].as_ptr()),
                };
                let (merged, [old_factor, new_factor]) = earlier.merge(later);
                merged.max.store_partial(old_maxima.as_mut_ptr(), count);
                merged.sum.store_partial(old_sums.as_mut_ptr(), count);
                old_factor.store(old_factors[at..][..LANES].as_mut_ptr());
                new_factor.store(new_factors[at..][..LANES].as_mut_ptr());
            }
        }
    }

    /// Adds the weighted sums of W registers of values, from `column` on, for N vectors.
    ///
    /// # Safety
    /// V's instructions must be available.
    #[inline(always)]
    unsafe fn weighted_sum<V: F32x16, const N: usize, const W: usize>(
        &mut self,
        VectorGroup { first, slot, step }: VectorGroup,
        column: usize,
    ) -> usize {
        let stored = self.shape.stored_dim();
        let span = self.span;
        let stride = weight_bytes::<V>();
        let Int8Scratch { weights, nonzero, sums: totals, old_factors, new_factors, .. } =
            &*self.scratch;
        let weights = &weights[slot * stride..][..((N - 1) * step + 1) * stride];
        let values = &span.values[..SPAN * stored];
        let mut nonzero = (0..N).fold(0, |all, i| all | nonzero[slot + i * step]);
        // SAFETY: the slices bound every address; the caller guarantees the instructions.
        unsafe {
            let mut sums = [[V::splat_int(0); W]; N];
            while nonzero != 0 {
                let at = nonzero.trailing_zeros() as usize;
                nonzero &= nonzero - 1;
                let weights = weights.as_ptr().add(at / QUADS * V::QUAD_BYTES);
                let values: [V::Bytes; W] = std::array::from_fn(|w| {
                    V::bytes(values.as_ptr().add(4 * (at * stored + column + w * LANES)))
                });
                for (i, sums) in sums.iter_mut().enumerate() {
                    let weight = V::quad(weights.add(i * step * stride), at % QUADS);
                    for (sum, value) in sums.iter_mut().zip(values) {
                        *sum = V::dot_quad(*sum, weight, value);
                    }
                }
            }
            let scales: [V; W] = std::array::from_fn(|w| {
                V::load(span.value_scales[column + w * LANES..][..LANES].as_ptr())
            });
            let means: [V; W] = std::array::from_fn(|w| {
                V::load(span.value_mean[column + w * LANES..][..LANES].as_ptr())
            });
            for (i, sums) in sums.into_iter().enumerate() {
                let (slot, vector) = (slot + i * step, first + i * step);
                let (total, old_factor, new_factor) = (
                    V::splat(totals[slot]),
                    V::splat(old_factors[slot]),
                    V::splat(new_factors[slot]),
                );
                let place = &mut self.sums[vector * stored + column..][..W * LANES];
                for (w, sum) in sums.into_iter().enumerate() {
                    let scale = scales[w].mul(V::splat(1.0 / MAX_WEIGHT));
                    let sum = V::from_ints(sum).fma(scale, means[w].mul(total));
                    let place = place[w * LANES..][..LANES].as_mut_ptr();
                    sum.fma(new_factor, V::load(place).mul(old_factor)).store(place);
                }
            }
        }
        W
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn score_scales_leave_room_for_every_score() {
        let check = |bound: f32, fraction_bits: u16| {
            let scale = ScoreScale::for_scores_up_to(bound);
            assert_eq!(scale.fraction_bits, fraction_bits, "{bound}");
            assert!(bound * scale.units_per_score < 32_767.0, "{bound}");
            // No finer unit would fit, unless the limits apply.
            assert!(
                fraction_bits == 0
                    || i32::from(fraction_bits) == MAX_FRACTION_BITS
                    || 2.0 * bound * scale.units_per_score > MAX_SCORE,
                "{bound}"
            );
        };
        check(0.0, 12);
        check(5.0, 12);
        check(6.0, 11);
        check(44.0, 8);
        check(22_000.0, 0);
        check(1e9, 0);
        check(f32::MAX, 0);
    }

    #[test]
    fn distant_spans_are_complete_not_first_and_not_the_querys_own() {
        let check = |span, start, end, distant| {
            assert_eq!(span_uses_int8(span, start, end), distant, "{span} from {start} to {end}");
        };
        check(0, 0, 4096, false);
        check(1, 0, 512, false);
        check(1, 0, 513, true);
        check(1, 256, 513, true);
        check(1, 257, 513, false);
        check(15, 0, 4096, false);
        check(15, 0, 4097, true);
    }
}
