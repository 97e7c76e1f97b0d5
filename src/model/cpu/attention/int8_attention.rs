//! Attention to distant keys in 8 bits: what makes a long shared context cheap for many samples.
//!
//! A span behind a query's own (see [`is_distant`]) is met in codes (`codes.rs`). Scores become
//! whole numbers of 16 bits, in a unit that the norms of the query and of the span's longest key
//! allow (Cauchy-Schwarz), so that none overflows; weights are 255ths of the span's largest, from
//! powers of two by a polynomial of 16 bits, within 0.3 % of each. They are rounded up or down by a
//! fixed pattern over the span's places, so that many small ones keep their sum instead of all
//! becoming zero. Values that no vector of a pass gives any weight are left out.
//!
//! Contract: sums of codes' products are exact integers, and so is all of the softmax; so the
//! result is the same to the bit however the cache is cut, in any company and on every instruction
//! set. A number that is not finite in a span's keys or values makes all that the span gives not
//! finite. It knows no parts, rows or tokens.

#![allow(clippy::inline_always)] // What is not inlined into a function with the instructions is compiled without them.

use std::ops::Range;

use super::super::aligned::Lines;
use super::super::simd::{F32x16, Kernel, LANES, WORDS, Words, tanh};
use super::exp2_u16::{FINEST, THRESHOLDS, power_below};
use super::host_kv::{SPAN, Shape, TILE};
use super::int8_kv::{ABREAST, BLOCK, Codes, QueryCodes, ROUND, runs};
use super::tiles::join;

/// Runs of four of a block of codes.
const RUNS: usize = BLOCK / 4;
/// Words from one vector's scores to the next's: not a power of two, or all vectors' would fall
/// into the same few sets of the cache.
const STRIDE: usize = SPAN + WORDS;
/// Weights go from 0 to 255.
const WHOLE: f32 = 255.0;
/// What a score may be at most, in its unit: below 2^15, by more than what rounding adds to a
/// bound.
const MOST: f32 = 32_000.0;
/// Bytes of a cache line.
const LINE: usize = 64;
/// Query vectors that share a pass over keys or values: as many as registers hold.
const TOGETHER: usize = 6;
/// The same where there are fewer registers or fewer vectors.
const FEW: usize = 4;
/// Query vectors that go through a span together: their scores, and the values' codes after them,
/// stay in the first-level cache.
const BATCH: usize = 24;

/// Whether a query that sees the cache from `start` to below `end` meets the span in codes: all of
/// it is visible, it does not hold the query's own key, and it is not the first, whose first tokens
/// gather much of the attention beside which the others' weights would be lost ("attention sinks",
/// Xiao et al., arXiv 2309.17453).
pub(super) fn is_distant(span: usize, start: usize, end: usize) -> bool {
    span > 0 && start <= span * SPAN && (span + 1) * SPAN < end
}

/// Room for a number of every vector of a batch, in whole registers.
type Each = [f32; BATCH.next_multiple_of(LANES)];

/// A bit for every four of a span's places.
type Fours = u64;
const _: () = assert!(SPAN / 4 == Fours::BITS as usize);

/// Buffers of one thread.
#[derive(Default)]
pub(super) struct Buffers {
    /// `[BATCH, STRIDE]`: signed, the tiles' numbers in turns, two and two of those that lie
    /// abreast.
    scores: Lines<u16>,
    /// `[BATCH, SPAN / 64, 64]`: codes of weights, spread, a place for each
    /// [`token`](super::int8_kv::token).
    weights: Lines<u8>,
    /// `[vectors]`: the scores of the keys' mean.
    common: Lines<f32>,
    /// `[vectors]`.
    units: Vec<Unit>,
    /// Which fours of a vector's weights are not all zero: a bit for each.
    fours: [Fours; BATCH],
    /// The largest score of the span, and the sum of its weights.
    maxima: Each,
    sums: Each,
    /// What earlier sums and the span's are multiplied by where they are added.
    before: Each,
    now: Each,
}

/// Codes that will be needed soon. They are asked for between the products, a cache line or two at
/// a time: all at once they would fill the processor's list of misses, and the products would wait.
#[derive(Clone, Copy, Default)]
pub(super) struct Ahead<'a> {
    keys: &'a [u8],
    values: &'a [u8],
    /// The line that is next, the values' after the keys'.
    line: usize,
    /// Lines for a run of four dimensions of a score.
    per_run: usize,
}

impl<'a> Ahead<'a> {
    pub(super) fn of(codes: Option<&'a Codes>) -> Self {
        codes.map_or_else(Self::default, |Codes { keys, values, .. }| Self {
            keys,
            values,
            ..Self::default()
        })
    }

    /// Spreads the lines over so many runs.
    fn spread(&mut self, runs: usize) {
        self.per_run = (self.keys.len() + self.values.len()).div_ceil(LINE).div_ceil(runs);
    }

    /// Where the lines of so many runs begin; beside keys and values where there are none left.
    #[inline(always)]
    fn next(&mut self, runs: usize) -> *const u8 {
        let at = self.line * LINE;
        self.line += runs * self.per_run;
        let bytes = if at < self.keys.len() {
            self.keys.get(at..)
        } else {
            self.values.get(at - self.keys.len()..)
        };
        bytes.unwrap_or_default().as_ptr()
    }
}

/// Asks for a cache line, of which nothing needs to be there.
#[inline(always)]
fn prefetch(line: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that the program could see, and no address is wrong.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(line.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}

/// In what a vector's scores with a span are counted: doublings of a weight over 2^`bits`.
#[derive(Clone, Copy, Default)]
struct Unit {
    bits: u16,
    /// So many make one of a score, which is a logarithm to base e.
    per_score: f32,
    /// What a product of codes stands for: in units, or as a score where that is capped yet.
    factor: f32,
}

impl Unit {
    /// The finest unit, a power of two, in which scores from -`bound` to `bound` have 16 bits.
    /// Where not even whole doublings have, scores are squeezed: who is largest is still told, and
    /// all that is near it is beyond any use.
    fn for_scores_up_to(bound: f32) -> Self {
        let room = MOST / (bound * std::f32::consts::LOG2_E);
        let bits = ((room.to_bits() >> 23) as i32 - 127).clamp(0, FINEST);
        let doubling = room.min((1 << bits) as f32);
        Self { bits: bits as u16, per_score: doubling * std::f32::consts::LOG2_E, factor: 0.0 }
    }
}

/// Some query vectors over a span.
pub(super) struct Distant<'a> {
    pub shape: Shape,
    pub codes: &'a Codes,
    /// What to ask memory for meanwhile.
    pub ahead: Ahead<'a>,
    pub queries: &'a QueryCodes,
    /// All vectors, `[vectors / 16, head_dim, 16]`.
    pub vectors: &'a [f32],
    /// Which of them.
    pub range: Range<usize>,
    pub buffers: &'a mut Buffers,
    /// `[vectors, stored_dim]`: sums of values, weighed by e^(score - max). This and what follows
    /// have the spans before in them, and get this one too.
    pub sums: &'a mut [f32],
    /// `[vectors]`: the largest score.
    pub maxima: &'a mut [f32],
    /// `[vectors]`: the sum of the weights.
    pub weights: &'a mut [f32],
}

impl Kernel for Distant<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: F32x16>(self) {
        let mut this = self;
        this.buffers.scores.resize(BATCH * STRIDE);
        this.buffers.weights.resize(BATCH * spread::<V>());
        this.buffers.common.resize(this.vectors.len() / this.shape.head_dim);
        for first in (this.range.start / LANES * LANES..this.range.end).step_by(LANES) {
            // SAFETY: there is room for every sixteen vectors; the instructions are the caller's
            // promise.
            unsafe {
                this.common::<V>(first).store(this.buffers.common[first..][..LANES].as_mut_ptr());
            };
        }
        let (cap, norms, longest) =
            (this.shape.soft_cap, &this.queries.norms[this.range.clone()], this.codes.key_norm);
        this.buffers.units.resize(this.range.end, Unit::default());
        let scales = this.queries.scales[this.range.clone()]
            .iter()
            .map(|scale| scale * this.codes.key_scale);
        for (unit, (norm, scale)) in
            this.buffers.units[this.range.clone()].iter_mut().zip(norms.iter().zip(scales))
        {
            *unit = Unit::for_scores_up_to(cap.unwrap_or(norm * longest));
            unit.factor = if cap.is_some() { scale } else { scale * unit.per_score };
        }
        let together = if V::WIDTH >= 4 { TOGETHER } else { FEW };
        this.ahead.spread(
            this.range.len().div_ceil(together) * (SPAN / TILE / ABREAST) * runs(this.shape),
        );
        let mut first = this.range.start;
        while first < this.range.end {
            let batch = first..this.range.end.min(first + BATCH);
            // SAFETY: the caller's promise.
            unsafe {
                for tiles in 0..SPAN / TILE / ABREAST {
                    this.each_group::<V>(&batch, Step::Score(tiles));
                }
                this.each_group::<V>(&batch, Step::Weigh);
                this.merge::<V>(&batch);
                this.each_group::<V>(&batch, Step::Sum);
            }
            first = batch.end;
        }
    }
}

/// Bytes of a vector's weights over a span.
const fn spread<V: F32x16>() -> usize {
    SPAN / BLOCK * V::SPREAD
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

/// Some of a batch's vectors: every `step`-th from the `first` on, which has the place `slot` in
/// the buffers.
#[derive(Clone, Copy)]
struct Group {
    first: usize,
    slot: usize,
    step: usize,
}

impl Distant<'_> {
    /// Takes the vectors of a batch through a step, as many at once as registers allow; the order
    /// of a sum does not depend on that.
    ///
    /// # Safety
    /// V's instructions must be available.
    #[inline(always)]
    unsafe fn each_group<V: F32x16>(&mut self, batch: &Range<usize>, step: Step) {
        // A head's queries give the same keys no weight more often than the heads of a query do,
        // and what none gives any is left out.
        let heads = self.shape.group();
        let by_head = matches!(step, Step::Sum)
            && batch.len().is_multiple_of(heads)
            && batch.len() / heads >= FEW;
        let lines = if by_head { heads } else { 1 };
        for line in 0..lines {
            let mut slot = line;
            while slot < batch.len() {
                let group = Group { first: batch.start + slot, slot, step: lines };
                // SAFETY: the caller's promise.
                let count = unsafe {
                    match (batch.len() - slot).div_ceil(lines) {
                        6 | 9.. if V::WIDTH >= 4 => self.step::<V, TOGETHER>(group, step),
                        4.. => self.step::<V, FEW>(group, step),
                        3 => self.step::<V, 3>(group, step),
                        2 => self.step::<V, 2>(group, step),
                        _ => self.step::<V, 1>(group, step),
                    }
                };
                slot += count * lines;
            }
        }
    }

    /// # Safety
    /// V's instructions must be available.
    #[inline(always)]
    unsafe fn step<V: F32x16, const N: usize>(&mut self, group: Group, step: Step) -> usize {
        // SAFETY: the caller's promise.
        unsafe {
            match step {
                Step::Score(tiles) => match (V::WIDTH >= 4, self.shape.soft_cap) {
                    (true, None) => self.score::<V, N, ABREAST, false>(group, tiles),
                    (true, Some(_)) => self.score::<V, N, ABREAST, true>(group, tiles),
                    (false, None) => self.score::<V, N, 1, false>(group, tiles),
                    (false, Some(_)) => self.score::<V, N, 1, true>(group, tiles),
                },
                Step::Weigh => self.weigh::<V, N>(group),
                Step::Sum => {
                    let stored = self.shape.stored_dim();
                    let mut column = 0;
                    while column < stored {
                        let width = V::WIDTH.min((stored - column) / LANES);
                        column += LANES
                            * match width {
                                4.. => self.sum::<V, N, 4>(group, column),
                                _ => self.sum::<V, N, 1>(group, column),
                            };
                    }
                }
            }
        }
        N
    }

    /// Scores of N vectors, times the scores' scale, with the `index`-th T tiles of keys.
    ///
    /// # Safety
    /// V's instructions must be available.
    #[inline(always)]
    unsafe fn score<V: F32x16, const N: usize, const T: usize, const CAPPED: bool>(
        &mut self,
        Group { first, slot, .. }: Group,
        tiles: usize,
    ) {
        let (runs, per_run) = (runs(self.shape), self.ahead.per_run);
        let mut ahead = self.ahead.next(runs);
        let stride = self.queries.stride;
        let queries = &self.queries.codes[first * stride..][..N * stride];
        let offsets = &self.queries.offsets[first..][..N];
        let keys =
            &self.codes.keys[tiles * ABREAST * TILE * 4 * runs..][..ABREAST * TILE * 4 * runs];
        // SAFETY: the slices above and below bound every address; the instructions are the caller's
        // promise.
        unsafe {
            let mut sums = [[V::splat_int(0); ABREAST]; N];
            for part in (0..ABREAST).step_by(T) {
                let mut now: [[V::Ints; T]; N] =
                    std::array::from_fn(|i| [V::splat_int(offsets[i]); T]);
                for (block, keys) in keys.chunks(RUNS * ABREAST * TILE * 4).enumerate() {
                    let queries = queries.as_ptr().add(block * V::SPREAD);
                    for (run, keys) in keys.chunks_exact(ABREAST * TILE * 4).enumerate() {
                        let keys: [V::Bytes; T] = std::array::from_fn(|t| {
                            V::bytes(keys.as_ptr().add((part + t) * 4 * TILE))
                        });
                        for (i, now) in now.iter_mut().enumerate() {
                            let q = V::four(queries.add(i * stride), run);
                            for (sum, key) in now.iter_mut().zip(keys) {
                                *sum = V::dot(*sum, key, q);
                            }
                        }
                        if part == 0 {
                            for _ in 0..per_run {
                                prefetch(ahead);
                                ahead = ahead.wrapping_add(LINE);
                            }
                        }
                    }
                }
                for i in 0..N {
                    sums[i][part..part + T].copy_from_slice(&now[i]);
                }
            }
            let cap = self.shape.soft_cap.unwrap_or_default();
            let Buffers { scores, common, units, .. } = &mut *self.buffers;
            let (units, common) = (&units[first..][..N], &common[first..][..N]);
            let places = &mut scores[slot * STRIDE..][..N * STRIDE];
            for i in 0..N {
                let Unit { per_score, factor, .. } = units[i];
                let scores = sums[i].map(|sum| {
                    let sum = V::from_ints(sum);
                    if CAPPED {
                        let score = sum.fma(V::splat(factor), V::splat(common[i]));
                        tanh(score.div(V::splat(cap)))
                            .mul(V::splat(cap))
                            .fma(V::splat(per_score), V::splat(ROUND))
                    } else {
                        sum.fma(V::splat(factor), V::splat(ROUND))
                    }
                });
                let places = &mut places[i * STRIDE + tiles * ABREAST * TILE..][..ABREAST * TILE];
                for (pair, places) in
                    scores.as_chunks::<2>().0.iter().zip(places.chunks_exact_mut(WORDS))
                {
                    V::low_words(pair[0], pair[1]).store(places.as_mut_ptr());
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
            let ((fours, rest), (means, more)) =
                (vectors.as_chunks::<{ 4 * LANES }>(), self.codes.key_mean.as_chunks::<4>());
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

    /// Turns the scores of N vectors into codes of weights, and gives the largest score and the
    /// weights' sum of each.
    ///
    /// # Safety
    /// V's instructions must be available.
    #[inline(always)]
    unsafe fn weigh<V: F32x16, const N: usize>(&mut self, Group { first, slot, .. }: Group) {
        let Buffers { scores, weights, fours, common, units, maxima, sums: totals, .. } =
            &mut *self.buffers;
        let span = spread::<V>();
        let (scores, weights) =
            (&scores[slot * STRIDE..][..N * STRIDE], &mut weights[slot * span..][..N * span]);
        // SAFETY: whole registers; the instructions are the caller's promise.
        unsafe {
            // What sums lanes up waits for itself, so the vectors' sums stand side by side.
            let mut largest = [V::Words::splat(i16::MIN.cast_unsigned()); N];
            for (max, scores) in largest.iter_mut().zip(scores.chunks_exact(STRIDE)) {
                for words in scores[..SPAN].chunks_exact(WORDS) {
                    *max = max.max_signed(V::Words::load(words.as_ptr()));
                }
            }
            let largest = largest.map(|max| max.largest_signed());
            let each = largest
                .iter()
                .zip(&units[first..])
                .zip(scores.chunks_exact(STRIDE).zip(weights.chunks_exact_mut(span)));
            for ((max, &Unit { bits, .. }), (scores, weights)) in each {
                let max = V::Words::splat(max.cast_unsigned());
                let pairs = scores[..SPAN].chunks_exact(2 * WORDS).zip(THRESHOLDS.chunks_exact(2));
                for ((scores, thresholds), weights) in
                    pairs.zip(weights.chunks_exact_mut(V::SPREAD))
                {
                    let weight = |half: usize| {
                        let below = max.sub(V::Words::load(scores[half * WORDS..].as_ptr()));
                        power_below::<V::Words>(below, bits)
                            .add(V::Words::load(thresholds[half].as_ptr()))
                    };
                    V::spread_high_bytes(weight(0), weight(1), weights.as_mut_ptr());
                }
            }
            let mut sums = [V::splat_int(0); N];
            for ((sum, fours), weights) in
                sums.iter_mut().zip(&mut fours[slot..]).zip(weights.chunks_exact(span))
            {
                *fours = 0;
                for (block, codes) in weights.chunks_exact(V::SPREAD).enumerate() {
                    *sum = V::add_codes(*sum, codes.as_ptr());
                    *fours |= Fours::from(V::fours_not_zero(codes.as_ptr())) << (block * RUNS);
                }
            }
            for (i, sum) in sums.into_iter().enumerate() {
                let common = common[first + i];
                // Codes are always finite: what is not shows in the mean, which all the span's keys
                // went into.
                let whole = if common.is_finite() { 1.0 / WHOLE } else { f32::NAN };
                let max = f32::from(largest[i]) / units[first + i].per_score;
                // What is capped has the mean's score in it.
                maxima[slot + i] = if self.shape.soft_cap.is_none() { max + common } else { max };
                totals[slot + i] = V::from_ints(sum).sum() * whole;
            }
        }
    }

    /// Puts the largest scores and the weights' sums of a batch to those of the spans before.
    ///
    /// # Safety
    /// V's instructions must be available.
    #[inline(always)]
    unsafe fn merge<V: F32x16>(&mut self, batch: &Range<usize>) {
        let Buffers { maxima, sums, before, now, .. } = &mut *self.buffers;
        for at in (0..batch.len()).step_by(LANES) {
            let count = LANES.min(batch.len() - at);
            let places = batch.start + at..batch.start + at + count;
            let (old_maxima, old_weights) =
                (&mut self.maxima[places.clone()], &mut self.weights[places]);
            // SAFETY: the arrays have whole registers; `count` old numbers are read and written;
            // the instructions are the caller's promise.
            unsafe {
                let new = (
                    V::load(maxima[at..][..LANES].as_ptr()),
                    V::load(sums[at..][..LANES].as_ptr()),
                );
                let old = (
                    V::load_some(old_maxima.as_ptr(), count),
                    V::load_some(old_weights.as_ptr(), count),
                );
                let joint = join(old, new);
                joint.max.store_some(old_maxima.as_mut_ptr(), count);
                joint.weight.store_some(old_weights.as_mut_ptr(), count);
                joint.before.store(before[at..][..LANES].as_mut_ptr());
                joint.now.store(now[at..][..LANES].as_mut_ptr());
            }
        }
    }

    /// Adds weighed sums of W registers of values from `column` on, for N vectors.
    ///
    /// # Safety
    /// V's instructions must be available.
    #[inline(always)]
    unsafe fn sum<V: F32x16, const N: usize, const W: usize>(
        &mut self,
        Group { first, slot, step }: Group,
        column: usize,
    ) -> usize {
        let stored = self.shape.stored_dim();
        let codes = self.codes;
        let span = spread::<V>();
        let Buffers { weights, fours, sums: totals, before, now, .. } = &*self.buffers;
        let weights = &weights[slot * span..][..((N - 1) * step + 1) * span];
        let values = &codes.values[..SPAN * stored];
        let mut fours = (0..N).fold(0, |all, i| all | fours[slot + i * step]);
        // SAFETY: the slices bound every address; the instructions are the caller's promise.
        unsafe {
            let mut sums = [[V::splat_int(0); W]; N];
            while fours != 0 {
                let at = fours.trailing_zeros() as usize;
                fours &= fours - 1;
                let weights = weights.as_ptr().add(at / RUNS * V::SPREAD);
                let values: [V::Bytes; W] = std::array::from_fn(|w| {
                    V::bytes(values.as_ptr().add(4 * (at * stored + column + w * LANES)))
                });
                for (i, sums) in sums.iter_mut().enumerate() {
                    let weight = V::four(weights.add(i * step * span), at % RUNS);
                    for (sum, value) in sums.iter_mut().zip(values) {
                        *sum = V::dot_four(*sum, weight, value);
                    }
                }
            }
            let scales: [V; W] = std::array::from_fn(|w| {
                V::load(codes.value_scales[column + w * LANES..][..LANES].as_ptr())
            });
            let means: [V; W] = std::array::from_fn(|w| {
                V::load(codes.value_mean[column + w * LANES..][..LANES].as_ptr())
            });
            for (i, sums) in sums.into_iter().enumerate() {
                let (slot, vector) = (slot + i * step, first + i * step);
                let (total, before, now) =
                    (V::splat(totals[slot]), V::splat(before[slot]), V::splat(now[slot]));
                let place = &mut self.sums[vector * stored + column..][..W * LANES];
                for (w, sum) in sums.into_iter().enumerate() {
                    let scale = scales[w].mul(V::splat(1.0 / WHOLE));
                    let sum = V::from_ints(sum).fma(scale, means[w].mul(total));
                    let place = place[w * LANES..][..LANES].as_mut_ptr();
                    sum.fma(now, V::load(place).mul(before)).store(place);
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
    fn units_leave_room_for_every_score() {
        let check = |bound: f32, bits: u16| {
            let unit = Unit::for_scores_up_to(bound);
            assert_eq!(unit.bits, bits, "{bound}");
            assert!(bound * unit.per_score < 32_767.0, "{bound}");
            // The finest one that does, where there is a choice.
            assert!(
                bits == 0 || i32::from(bits) == FINEST || 2.0 * bound * unit.per_score > MOST,
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
    fn distant_means_whole_not_first_and_not_the_querys_own() {
        let check = |span, start, end, distant| {
            assert_eq!(is_distant(span, start, end), distant, "{span} from {start} to {end}");
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
