//! Attention to distant keys in 8 bits: what makes a long shared context cheap for many samples.
//!
//! A span behind a query's own (see [`is_distant`]) is met in codes (`codes.rs`). Scores become whole numbers of 16 bits, in a unit that
//! the norms of the query and of the span's longest key allow (Cauchy-Schwarz), so that none overflows; weights are 255ths of the
//! span's largest, from powers of two by a polynomial of 16 bits, within 0.3 % of each. They are rounded up or down by a fixed pattern
//! over the span's places, so that many small ones keep their sum instead of all becoming zero.
//!
//! Contract: sums of codes' products are exact integers, and so is all of the softmax; so the result is the same to the bit however the
//! cache is cut, in any company and on every instruction set. A number that is not finite in a span's keys or values makes all that
//! the span gives not finite. It knows no parts, rows or tokens.

#![allow(clippy::inline_always)] // What is not inlined into a function with the instructions is compiled without them.

use std::ops::Range;

use super::codes::{ABREAST, Codes, QueryCodes, ROUND, runs};
use super::host_kv::{SPAN, Shape, TILE};
use super::lines::Lines;
use super::simd::{F32x16, Kernel, LANES, WORDS, Words, tanh};

/// Words from one vector's scores to the next's: not a power of two, or all vectors' would fall into the same few sets of the cache.
const STRIDE: usize = SPAN + WORDS;
/// Weights go from 0 to 255.
const WHOLE: f32 = 255.0;
/// What a score may be at most, in its unit: below 2^15, by more than what rounding adds to a bound.
const MOST: f32 = 32_000.0;
/// The finest unit: 2^-12 of a doubling.
const FINEST: i32 = 12;
/// Bytes of a cache line.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;
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

/// Buffers of one thread.
#[derive(Default)]
pub(super) struct Buffers {
    /// `[BATCH, STRIDE]`: signed, the tiles' numbers in turns, two and two of those that lie abreast.
    scores: Lines<u16>,
    /// `[BATCH, SPAN]`: codes of weights, a place for each [`token`](super::codes::token).
    weights: Lines<u8>,
    /// `[vectors]`: the scores of the keys' mean.
    common: Lines<f32>,
    /// `[vectors]`.
    units: Vec<Unit>,
}

/// In what a vector's scores with a span are counted: doublings of a weight over 2^`bits`.
#[derive(Clone, Copy, Default)]
struct Unit {
    bits: u16,
    /// So many make one of a score, which is a logarithm to base e.
    per_score: f32,
}

impl Unit {
    /// The finest unit, a power of two, in which scores from -`bound` to `bound` have 16 bits. Where not even whole doublings have,
    /// scores are squeezed: who is largest is still told, and all that is near it is beyond any use.
    fn for_scores_up_to(bound: f32) -> Self {
        let room = MOST / (bound * std::f32::consts::LOG2_E);
        let bits = ((room.to_bits() >> 23) as i32 - 127).clamp(0, FINEST);
        let doubling = room.min((1 << bits) as f32);
        Self { bits: bits as u16, per_score: doubling * std::f32::consts::LOG2_E }
    }
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
        let (cap, norms, longest) = (this.shape.soft_cap, &this.queries.norms[this.range.clone()], this.codes.key_norm);
        this.buffers.units.resize(this.range.end, Unit::default());
        for (unit, norm) in this.buffers.units[this.range.clone()].iter_mut().zip(norms) {
            *unit = Unit::for_scores_up_to(cap.unwrap_or(norm * longest));
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
                Step::Score(tiles) => match (V::WIDTH >= 4, self.shape.soft_cap) {
                    (true, None) => self.score::<V, N, ABREAST, false>(group, tiles),
                    (true, Some(_)) => self.score::<V, N, ABREAST, true>(group, tiles),
                    (false, None) => (0..2).for_each(|pair| self.score::<V, N, 2, false>(group, 2 * tiles + pair)),
                    (false, Some(_)) => (0..2).for_each(|pair| self.score::<V, N, 2, true>(group, 2 * tiles + pair)),
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
    unsafe fn score<V: F32x16, const N: usize, const T: usize, const CAPPED: bool>(&mut self, Group { first, slot }: Group, index: usize) {
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
            let scales: [V; T] = std::array::from_fn(|t| V::load(codes.key_scales[(index * T + t) * TILE..][..TILE].as_ptr()));
            let cap = self.shape.soft_cap.unwrap_or_default();
            for (i, sums) in sums.into_iter().enumerate() {
                let (scale, Unit { per_score, .. }) = (self.queries.scales[first + i], self.buffers.units[first + i]);
                let places = &mut self.buffers.scores[(slot + i) * STRIDE + index * T * TILE..][..T * TILE];
                let mut scores = [V::splat(0.0); T];
                for (score, (sum, key)) in scores.iter_mut().zip(sums.into_iter().zip(scales)) {
                    let product = V::from_ints(sum).mul(key);
                    *score = if CAPPED {
                        let score = product.fma(V::splat(scale), V::splat(self.buffers.common[first + i]));
                        tanh(score.div(V::splat(cap))).mul(V::splat(cap)).fma(V::splat(per_score), V::splat(ROUND))
                    } else {
                        product.fma(V::splat(scale * per_score), V::splat(ROUND))
                    };
                }
                for (pair, places) in scores.as_chunks::<2>().0.iter().zip(places.chunks_exact_mut(WORDS)) {
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
        let Buffers { scores, weights, common, units } = &mut *self.buffers;
        let (scores, weights) = (&scores[slot * STRIDE..][..N * STRIDE], &mut weights[slot * SPAN..][..N * SPAN]);
        // SAFETY: whole registers; the instructions are the caller's promise.
        unsafe {
            // What sums lanes up waits for itself, so the vectors' sums stand side by side.
            let mut maxima = [V::Words::splat(i16::MIN.cast_unsigned()); N];
            for (max, scores) in maxima.iter_mut().zip(scores.chunks_exact(STRIDE)) {
                for words in scores[..SPAN].chunks_exact(WORDS) {
                    *max = max.max_signed(V::Words::load(words.as_ptr()));
                }
            }
            let maxima = maxima.map(|max| max.largest_signed());
            let each = maxima.iter().zip(&units[first..]).zip(scores.chunks_exact(STRIDE).zip(weights.chunks_exact_mut(SPAN)));
            for ((max, unit), (scores, weights)) in each {
                let max = V::Words::splat(max.cast_unsigned());
                let pairs = scores[..SPAN].chunks_exact(2 * WORDS).zip(THRESHOLDS.chunks_exact(2));
                for ((scores, thresholds), weights) in pairs.zip(weights.chunks_exact_mut(2 * WORDS)) {
                    let weight = |half: usize| {
                        let below = max.sub(V::Words::load(scores[half * WORDS..].as_ptr()));
                        power_below::<V::Words>(below, unit.bits).add(V::Words::load(thresholds[half].as_ptr()))
                    };
                    weight(0).store_high_bytes(weight(1), weights.as_mut_ptr());
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
                let common = common[first + i];
                // Codes are always finite: what is not shows in the mean, which all the span's keys went into.
                let whole = if common.is_finite() { 1.0 / WHOLE } else { f32::NAN };
                let max = f32::from(maxima[i]) / units[first + i].per_score;
                // What is capped has the mean's score in it.
                self.maxima[first + i] = if self.shape.soft_cap.is_none() { max + common } else { max };
                self.weights[first + i] = V::from_ints(sum).sum() * whole;
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

/// 255 * 256 over 2^(x / 2^bits), rounded, within 0.3 % and 2 of it. 2^-f is 1 - f (a - b f) for a fraction f.
///
/// # Safety
/// W's instructions must be available.
#[inline(always)]
unsafe fn power_below<W: Words>(x: W, bits: u16) -> W {
    /// The largest relative error, 0.0023, is as small as that of any a and b; times 255 * 256.
    const A: u16 = 43_881;
    const B: u16 = 11_306;
    // SAFETY: the caller's promise.
    unsafe {
        // In 65,536ths: what is whole falls off.
        let fraction = x.shift_left(16 - bits);
        let slope = W::splat(A).sub(fraction.mul_high(W::splat(B)));
        W::splat(LARGEST_WEIGHT).sub(fraction.mul_high(slope)).shift_right_each(x.shift_right(bits))
    }
}

/// The code 255 and eight bits more.
const LARGEST_WEIGHT: u16 = 255 << 8;

/// What is added to weights in 256ths of a code before they are rounded down: 0 to 255, evenly over any run of places (the golden
/// ratio's multiples), so that x becomes the integer above it at a share x - floor(x) of the places.
static THRESHOLDS: [[u16; WORDS]; SPAN / WORDS] = {
    /// 2^32 over the golden ratio.
    const STEP: u32 = 2_654_435_769;
    let mut all = [[0; WORDS]; SPAN / WORDS];
    let mut at = 0;
    while at < SPAN {
        all[at / WORDS][at % WORDS] = ((at as u32 + 1).wrapping_mul(STEP) >> 24) as u16;
        at += 1;
    }
    all
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_even_and_never_carry_the_largest_weight_over() {
        let all: Vec<u16> = THRESHOLDS.iter().flatten().copied().collect();
        assert!(all.iter().all(|t| *t < 256 && (LARGEST_WEIGHT + t) >> 8 == 255));
        // A weight of x 255ths becomes one at a share x of the places: within 4 of 256.
        for x in [0.1, 0.25, 0.5, 0.9] {
            let ones = all.iter().filter(|t| ((256.0 * x) as u16 + **t) >> 8 == 1).count();
            assert!((ones as f64 - 256.0 * x).abs() <= 4.0, "{x}: {ones}");
        }
    }

    #[test]
    fn powers_are_near_those_of_the_library() {
        let check = |bits: u16| {
            for x in 0..=u16::MAX {
                // SAFETY: plain Rust runs everywhere.
                let power = unsafe { power_below::<[u16; WORDS]>([x; WORDS], bits) }[0];
                let want = f64::from(LARGEST_WEIGHT) * (-f64::from(x) / f64::from(1 << bits)).exp2();
                assert!((f64::from(power) - want).abs() <= 0.003 * want + 2.0, "2^-({x} / 2^{bits}): {power}, not {want}");
            }
        };
        (0..=FINEST as u16).for_each(check);
    }

    #[test]
    fn units_leave_room_for_every_score() {
        let check = |bound: f32, bits: u16| {
            let unit = Unit::for_scores_up_to(bound);
            assert_eq!(unit.bits, bits, "{bound}");
            assert!(bound * unit.per_score < 32_767.0, "{bound}");
            // The finest one that does, where there is a choice.
            assert!(bits == 0 || i32::from(bits) == FINEST || 2.0 * bound * unit.per_score > MOST, "{bound}");
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
