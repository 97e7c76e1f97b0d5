//! The inner loops of attention: scores of a tile of keys, the softmax of a span, weighed sums of a
//! tile of values.
//!
//! The order of every sum is fixed by places in the tile and the span, never by how many vectors
//! share a pass. Layouts are those that `attention.rs` states.

#![allow(clippy::inline_always)] // What is not inlined into a function with the instructions is compiled without them.

use std::ops::Range;

use half::f16;

use super::super::simd::{F32x16, LANES, exp, tanh};
use super::STRIDE;
use super::host_kv::{SPAN, Shape, TILE};

/// f16 numbers of a cache line: two dimensions of a tile's keys, or some of one of its values.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 32;

/// Where a tile's scores go: place i of the tile at `at + i` of the span, for i from `from` to
/// below `to`.
pub(super) struct Place {
    pub at: isize,
    pub from: usize,
    pub to: usize,
}

impl Place {
    /// # Safety
    /// V's instructions must be available.
    #[inline(always)]
    unsafe fn store<V: F32x16>(&self, sum: V, row: &mut [f32]) {
        if (self.from, self.to) == (0, TILE) {
            // SAFETY: the whole tile lies inside the span, which the slice's bounds confirm.
            unsafe { sum.store(row[self.at as usize..][..TILE].as_mut_ptr()) };
        } else {
            // SAFETY: the caller's promise.
            let lanes = unsafe { sum.lanes() };
            let start = (self.at + self.from as isize) as usize;
            row[start..start + self.to - self.from].copy_from_slice(&lanes[self.from..self.to]);
        }
    }
}

/// A tile of keys and one of values that will be needed soon: slices that begin with it, or with
/// nothing. They are asked for between the products, a cache line at a time: all at once they would
/// fill the processor's list of misses, and the products would wait.
#[derive(Clone, Copy)]
pub(super) struct Soon<'a> {
    pub keys: &'a [f16],
    pub values: &'a [f16],
}

impl Soon<'_> {
    /// Asks for a cache line of either in turns, the `at`-th of both together: a tile of each for
    /// `at` from 0 to below `head_dim`.
    #[inline(always)]
    fn ask(self, at: usize) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
            let numbers = if at.is_multiple_of(2) { self.keys } else { self.values };
            if let Some(line) = numbers.get(at / 2 * LINE..) {
                // SAFETY: the address is at most the slice's end, and a prefetch reads nothing that
                // the program could see.
                unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) }
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (self.keys, self.values, at);
    }
}

/// Dot products of a tile's keys with some vectors of `q`, which lies as [`Block::pack`] puts it.
///
/// # Safety
/// V's instructions must be available.
#[inline(always)]
pub(super) unsafe fn score_tile<V: F32x16>(
    keys: &[f16],
    vectors: Range<usize>,
    q: &[f32],
    scores: &mut [f32],
    place: &Place,
    soon: Soon<'_>,
) {
    let mut at = vectors.start;
    let mut soon = Some(soon);
    while at < vectors.end {
        let soon = soon.take();
        let side_by_side = (vectors.end - at).min(LANES - at % LANES);
        // The order of a sum does not depend on how many vectors share a pass.
        // SAFETY: the caller's promise.
        at += unsafe {
            match side_by_side {
                16.. if V::SCORES >= 16 => score_some::<V, 16>(keys, at, q, scores, place, soon),
                8.. if V::SCORES >= 8 => score_some::<V, 8>(keys, at, q, scores, place, soon),
                4.. => score_some::<V, 4>(keys, at, q, scores, place, soon),
                3 => score_some::<V, 3>(keys, at, q, scores, place, soon),
                2 => score_some::<V, 2>(keys, at, q, scores, place, soon),
                _ => score_some::<V, 1>(keys, at, q, scores, place, soon),
            }
        };
    }
}

/// # Safety
/// V's instructions must be available.
#[inline(always)]
unsafe fn score_some<V: F32x16, const N: usize>(
    keys: &[f16],
    first: usize,
    q: &[f32],
    scores: &mut [f32],
    place: &Place,
    soon: Option<Soon<'_>>,
) -> usize {
    let q = &q[first / LANES * LANES * (keys.len() / TILE)..][..keys.len()];
    // SAFETY: the caller's promise; every chunk is 16 numbers, of which these vectors' are N from
    // `first % 16` on.
    unsafe {
        let mut sums = [V::splat(0.0); N];
        for (dimension, (key, q)) in keys.chunks_exact(TILE).zip(q.chunks_exact(LANES)).enumerate()
        {
            if let Some(soon) = soon {
                soon.ask(dimension);
            }
            let (key, q) = (V::load_half(key.as_ptr()), q.as_ptr().add(first % LANES));
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = V::splat(*q.add(i)).fma(key, *sum);
            }
        }
        for (i, sum) in sums.into_iter().enumerate() {
            place.store(sum, &mut scores[(first + i) * STRIDE..][..SPAN]);
        }
    }
    N
}

/// Turns the visible scores of a span into e^(scale * score - max) and returns the maximum and
/// their sum, in lanes by place.
///
/// # Safety
/// V's instructions must be available.
#[inline(always)]
pub(super) unsafe fn softmax<V: F32x16>(
    row: &mut [f32],
    visible: Range<usize>,
    shape: Shape,
) -> [f32; 2] {
    let (start, end) = (visible.start / LANES * LANES, visible.end.next_multiple_of(LANES));
    // SAFETY: whole registers of the row; the instructions are the caller's promise.
    unsafe {
        let scale = V::splat(shape.scale);
        for chunk in row[start..end].chunks_exact_mut(LANES) {
            let mut s = V::load(chunk.as_ptr()).mul(scale);
            if let Some(cap) = shape.soft_cap {
                s = tanh(s.div(V::splat(cap))).mul(V::splat(cap));
            }
            s.store(chunk.as_mut_ptr());
        }
        // Places beside the visible ones hold what an earlier use left there.
        row[start..visible.start].fill(f32::NEG_INFINITY);
        row[visible.end..end].fill(f32::NEG_INFINITY);
        let row = &mut row[start..end];
        let mut max = V::splat(f32::NEG_INFINITY);
        for chunk in row.chunks_exact(LANES) {
            max = V::load(chunk.as_ptr()).max(max);
        }
        let max = max.largest();
        let mut sum = V::splat(0.0);
        for chunk in row.chunks_exact_mut(LANES) {
            let weight = exp(V::load(chunk.as_ptr()).sub(V::splat(max)));
            weight.store(chunk.as_mut_ptr());
            sum = sum.add(weight);
        }
        [max, sum.sum()]
    }
}

/// Adds a tile's values in `keys`, weighed, to the sums of some vectors.
///
/// # Safety
/// V's instructions must be available, and `weights(vector)` readable at the places in `keys`.
#[inline(always)]
pub(super) unsafe fn value_tile<V: F32x16>(
    values: &[f16],
    stored: usize,
    keys: Range<usize>,
    vectors: Range<usize>,
    weights: &impl Fn(usize) -> *const f32,
    sums: &mut [f32],
) {
    if keys.is_empty() {
        return;
    }
    let mut column = 0;
    while column < stored {
        let width = V::WIDTH.min((stored - column) / LANES);
        let mut at = vectors.start;
        while at < vectors.end {
            let left = vectors.end - at;
            // SAFETY: the caller's promise.
            at += unsafe {
                match (width, left) {
                    (4, 6..) => {
                        value_some::<V, 6, 4>(values, stored, &keys, column, at, weights, sums)
                    }
                    (4, 4..) => {
                        value_some::<V, 4, 4>(values, stored, &keys, column, at, weights, sums)
                    }
                    (4, 3) => {
                        value_some::<V, 3, 4>(values, stored, &keys, column, at, weights, sums)
                    }
                    (4, 2) => {
                        value_some::<V, 2, 4>(values, stored, &keys, column, at, weights, sums)
                    }
                    (4, _) => {
                        value_some::<V, 1, 4>(values, stored, &keys, column, at, weights, sums)
                    }
                    (2.., 3..) => {
                        value_some::<V, 3, 2>(values, stored, &keys, column, at, weights, sums)
                    }
                    (2.., 2) => {
                        value_some::<V, 2, 2>(values, stored, &keys, column, at, weights, sums)
                    }
                    (2.., _) => {
                        value_some::<V, 1, 2>(values, stored, &keys, column, at, weights, sums)
                    }
                    (_, 4..) => {
                        value_some::<V, 4, 1>(values, stored, &keys, column, at, weights, sums)
                    }
                    _ => value_some::<V, 1, 1>(values, stored, &keys, column, at, weights, sums),
                }
            };
        }
        column += LANES * if width == 3 { 2 } else { width };
    }
}

/// # Safety
/// As [`value_tile`]; `column + 16 W` must not exceed `stored`.
#[inline(always)]
unsafe fn value_some<V: F32x16, const N: usize, const W: usize>(
    values: &[f16],
    stored: usize,
    keys: &Range<usize>,
    column: usize,
    first: usize,
    weights: &impl Fn(usize) -> *const f32,
    sums: &mut [f32],
) -> usize {
    let weights: [*const f32; N] = std::array::from_fn(|i| weights(first + i));
    let values = &values[..TILE * stored];
    let sums = &mut sums[first * stored..][..N * stored];
    // SAFETY: the caller's promise; the slices above bound every address.
    unsafe {
        let mut acc: [[V; W]; N] = std::array::from_fn(|i| {
            std::array::from_fn(|w| V::load(sums.as_ptr().add(i * stored + column + w * LANES)))
        });
        for key in keys.clone() {
            let value: [V; W] = std::array::from_fn(|w| {
                V::load_half(values.as_ptr().add(key * stored + column + w * LANES))
            });
            for i in 0..N {
                let weight = V::splat(*weights[i].add(key));
                for w in 0..W {
                    acc[i][w] = weight.fma(value[w], acc[i][w]);
                }
            }
        }
        for (i, acc) in acc.into_iter().enumerate() {
            for (w, acc) in acc.into_iter().enumerate() {
                acc.store(sums.as_mut_ptr().add(i * stored + column + w * LANES));
            }
        }
    }
    N
}

/// Two softmaxes over different keys as one.
pub(super) struct Joint<V> {
    /// The larger of the largest scores.
    pub max: V,
    /// The sum of all weights, relative to that.
    pub weight: V,
    /// What the earlier keys' sums of values are multiplied by.
    pub before: V,
    /// What the later keys' are.
    pub now: V,
}

/// Joins each lane's softmax, (largest score, sum of weights), with that of later keys.
///
/// # Safety
/// V's instructions must be available.
#[inline(always)]
pub(super) unsafe fn join<V: F32x16>(
    (old_max, old_weight): (V, V),
    (new_max, new_weight): (V, V),
) -> Joint<V> {
    // SAFETY: the caller's promise.
    unsafe {
        let max = new_max.max(old_max);
        let (before, now) = (exp(old_max.sub(max)), exp(new_max.sub(max)));
        Joint { max, weight: new_weight.fma(now, old_weight.mul(before)), before, now }
    }
}
