//! The inner loops of f16 attention: scores of a tile of keys, softmax of a span, weighted sums of
//! a tile of values.
//!
//! The order of every sum depends on positions in the tile and the span only, never on how many
//! vectors share a pass. For the layouts see `attention/mod.rs`.

use std::ops::Range;

use half::f16;

use super::super::simd::{F32x16, LANES, exp, tanh};
use super::SCORE_STRIDE;
use super::host_kv::{SPAN, Shape, TILE};

/// f16 values per cache line.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 32;

/// Position of a tile's scores: token i of the tile is at `at + i` of the span, for i in
/// `from..to`.
pub(super) struct TilePosition {
    pub at: isize,
    pub from: usize,
    pub to: usize,
}

impl TilePosition {
    /// # Safety
    /// V's instructions must be available.
    #[inline(always)]
    unsafe fn store<V: F32x16>(&self, sum: V, row: &mut [f32]) {
        if (self.from, self.to) == (0, TILE) {
            // SAFETY: the whole tile lies inside the span, which the slice's bounds confirm.
            unsafe { sum.store(row[self.at as usize..][..TILE].as_mut_ptr()) };
        } else {
            // SAFETY: guaranteed by the caller.
            let lanes = unsafe { sum.lanes() };
            let start = (self.at + self.from as isize) as usize;
            row[start..start + self.to - self.from].copy_from_slice(&lanes[self.from..self.to]);
        }
    }
}

/// A tile of keys and a tile of values to prefetch: slices that start with the tile, or empty ones.
/// They are prefetched between the products, one cache line at a time. Prefetching all at once
/// would fill the line fill buffers, and the products would stall.
#[derive(Clone, Copy)]
pub(super) struct TilePrefetch<'a> {
    pub keys: &'a [f16],
    pub values: &'a [f16],
}

impl TilePrefetch<'_> {
    /// Prefetches the `at`-th cache line, keys and values alternating: one tile of each for `at` in
    /// `0..head_dim`.
    #[inline(always)]
    fn prefetch_line(self, at: usize) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
            let numbers = if at.is_multiple_of(2) { self.keys } else { self.values };
            if let Some(line) = numbers.get(at / 2 * LINE..) {
                // SAFETY: the address is at most the slice's end, and a prefetch has no visible
                // effect.
                unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) }
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (self.keys, self.values, at);
    }
}

/// Dot products of a tile's keys with some vectors of `q`, which was packed by
/// [`QueryBlock::pack`](super::blocks::QueryBlock::pack).
///
/// # Safety
/// V's instructions must be available.
#[inline(always)]
pub(super) unsafe fn score_tile<V: F32x16>(
    keys: &[f16],
    vectors: Range<usize>,
    q: &[f32],
    scores: &mut [f32],
    place: &TilePosition,
    prefetch: TilePrefetch<'_>,
) {
    let mut at = vectors.start;
    let mut prefetch = Some(prefetch);
    while at < vectors.end {
        let prefetch = prefetch.take();
        let side_by_side = (vectors.end - at).min(LANES - at % LANES);
        // SAFETY: guaranteed by the caller. (The number of vectors per pass does not change any
        // sum.)
        at += unsafe {
            match side_by_side {
                16.. if V::SCORE_VECTORS >= 16 => {
                    score_vectors::<V, 16>(keys, at, q, scores, place, prefetch)
                }
                8.. if V::SCORE_VECTORS >= 8 => {
                    score_vectors::<V, 8>(keys, at, q, scores, place, prefetch)
                }
                4.. => score_vectors::<V, 4>(keys, at, q, scores, place, prefetch),
                3 => score_vectors::<V, 3>(keys, at, q, scores, place, prefetch),
                2 => score_vectors::<V, 2>(keys, at, q, scores, place, prefetch),
                _ => score_vectors::<V, 1>(keys, at, q, scores, place, prefetch),
            }
        };
    }
}

/// # Safety
/// V's instructions must be available.
#[inline(always)]
unsafe fn score_vectors<V: F32x16, const N: usize>(
    keys: &[f16],
    first: usize,
    q: &[f32],
    scores: &mut [f32],
    place: &TilePosition,
    prefetch: Option<TilePrefetch<'_>>,
) -> usize {
    let q = &q[first / LANES * LANES * (keys.len() / TILE)..][..keys.len()];
    // SAFETY: guaranteed by the caller; every chunk has 16 values, of which N from `first % 16` on
    // belong to these vectors.
    unsafe {
        let mut sums = [V::splat(0.0); N];
        for (dimension, (key, q)) in keys.chunks_exact(TILE).zip(q.chunks_exact(LANES)).enumerate()
        {
            if let Some(prefetch) = prefetch {
                prefetch.prefetch_line(dimension);
            }
            let (key, q) = (V::load_half(key.as_ptr()), q.as_ptr().add(first % LANES));
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = V::splat(*q.add(i)).fma(key, *sum);
            }
        }
        for (i, sum) in sums.into_iter().enumerate() {
            place.store(sum, &mut scores[(first + i) * SCORE_STRIDE..][..SPAN]);
        }
    }
    N
}

/// Turns the visible scores of a span into e^(scale * score - max) and returns the maximum and the
/// sum, which is summed in lanes by position.
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
    // SAFETY: whole registers of the row; the caller guarantees the instructions.
    unsafe {
        let scale = V::splat(shape.scale);
        for chunk in row[start..end].chunks_exact_mut(LANES) {
            let mut s = V::load(chunk.as_ptr()).mul(scale);
            if let Some(cap) = shape.soft_cap {
                s = tanh(s.div(V::splat(cap))).mul(V::splat(cap));
            }
            s.store(chunk.as_mut_ptr());
        }
        // Positions outside the visible range hold stale values.
        row[start..visible.start].fill(f32::NEG_INFINITY);
        row[visible.end..end].fill(f32::NEG_INFINITY);
        let row = &mut row[start..end];
        let mut max = V::splat(f32::NEG_INFINITY);
        for chunk in row.chunks_exact(LANES) {
            max = V::load(chunk.as_ptr()).max(max);
        }
        let max = max.max_lane();
        let mut sum = V::splat(0.0);
        for chunk in row.chunks_exact_mut(LANES) {
            let weight = exp(V::load(chunk.as_ptr()).sub(V::splat(max)));
            weight.store(chunk.as_mut_ptr());
            sum = sum.add(weight);
        }
        [max, sum.sum()]
    }
}

/// Adds a tile's values in `keys`, weighted, to the sums of some vectors.
///
/// # Safety
/// V's instructions must be available, and `weights(vector)` readable at the positions in `keys`.
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
        let width = V::VALUE_REGISTERS.min((stored - column) / LANES);
        let mut at = vectors.start;
        while at < vectors.end {
            let left = vectors.end - at;
            // SAFETY: guaranteed by the caller.
            at += unsafe {
                match (width, left) {
                    (4, 6..) => {
                        value_vectors::<V, 6, 4>(values, stored, &keys, column, at, weights, sums)
                    }
                    (4, 4..) => {
                        value_vectors::<V, 4, 4>(values, stored, &keys, column, at, weights, sums)
                    }
                    (4, 3) => {
                        value_vectors::<V, 3, 4>(values, stored, &keys, column, at, weights, sums)
                    }
                    (4, 2) => {
                        value_vectors::<V, 2, 4>(values, stored, &keys, column, at, weights, sums)
                    }
                    (4, _) => {
                        value_vectors::<V, 1, 4>(values, stored, &keys, column, at, weights, sums)
                    }
                    (2.., 3..) => {
                        value_vectors::<V, 3, 2>(values, stored, &keys, column, at, weights, sums)
                    }
                    (2.., 2) => {
                        value_vectors::<V, 2, 2>(values, stored, &keys, column, at, weights, sums)
                    }
                    (2.., _) => {
                        value_vectors::<V, 1, 2>(values, stored, &keys, column, at, weights, sums)
                    }
                    (_, 4..) => {
                        value_vectors::<V, 4, 1>(values, stored, &keys, column, at, weights, sums)
                    }
                    _ => value_vectors::<V, 1, 1>(values, stored, &keys, column, at, weights, sums),
                }
            };
        }
        column += LANES * if width == 3 { 2 } else { width };
    }
}

/// # Safety
/// As [`value_tile`]; `column + 16 W` must not exceed `stored`.
#[inline(always)]
unsafe fn value_vectors<V: F32x16, const N: usize, const W: usize>(
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
    // SAFETY: guaranteed by the caller; the slices above bound every address.
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

/// Each lane's softmax over some keys.
#[derive(Clone, Copy)]
pub(super) struct SoftmaxState<V> {
    /// The largest score.
    pub max: V,
    /// The sum of e^(score - max).
    pub sum: V,
}

impl<V: F32x16> SoftmaxState<V> {
    /// Merges the softmax of earlier keys with that of later ones. Returns also the factors by
    /// which the earlier and the later weighted sums of values must be multiplied.
    ///
    /// # Safety
    /// V's instructions must be available.
    #[inline(always)]
    pub unsafe fn merge(self, later: Self) -> (Self, [V; 2]) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let max = later.max.max(self.max);
            let (old, new) = (exp(self.max.sub(max)), exp(later.max.sub(max)));
            (Self { max, sum: later.sum.fma(new, self.sum.mul(old)) }, [old, new])
        }
    }
}
