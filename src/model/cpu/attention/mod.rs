//! Causal attention over a cache of shared segments. Keys and values that several rows share are
//! read once for all of them.
//!
//! Keys and values are f16, in tiles of 16 tokens. A tile of keys has the head's dimensions
//! outermost, so that a register holds one dimension of sixteen keys and no sum crosses lanes.
//! Queries go through the cache in blocks. A range of the cache that all queries of a block share
//! is read once for the block, for all query heads of a key-value head. Distant spans use int8
//! (`int8_attention.rs`).
//!
//! Contract: a query's result is bit-identical for every segmentation of its cache, every batch,
//! every number of threads and every instruction set. It depends on the visible range of cache
//! indices alone:
//! - A score depends on its own key.
//! - The cache is divided into spans of 256 indices, and whether a span uses int8 depends on the
//!   visible range.
//! - Within a span, the softmax sums in lanes by index, and values are added one by one by rising
//!   index.
//! - Spans are merged by their log-sum-exp in rising order: first within a group (`blocks.rs`),
//!   then the groups.

mod blocks;
mod exp2_u16;
mod host_kv;
mod int8_attention;
mod int8_kv;
mod tiles;

use std::cell::RefCell;

use super::Isa;
use super::aligned::AlignedVec;
use super::pool::{Pool, SharedSliceMut};
use super::simd::{F32x16, Kernel, LANES, run};
use blocks::{PackedQueries, QueryBlock, for_each_tile};
use host_kv::{SPAN, SpanQuantizer, TILE};
use int8_attention::{Int8Attention, Int8Scratch, Prefetch};
use int8_kv::Int8Span;
use tiles::{SoftmaxState, TilePosition, TilePrefetch, score_tile, softmax, value_tile};

pub use blocks::Query;
pub use host_kv::{HostKv, KvRange, Shape};

/// Scores from one vector to the next. Not a power of two, since all vectors' scores of a tile
/// would then map to the same few cache sets.
pub(super) const SCORE_STRIDE: usize = SPAN + LANES;
/// How many tiles ahead keys and values are prefetched within a row.
const PREFETCH_TILES: usize = 2;
/// Query vectors per block: enough to amortize the conversion from f16.
const BLOCK_VECTORS: usize = 48;
/// Items per thread below which the spans of a block are distributed too.
const ITEMS_PER_THREAD: usize = 4;

/// One thread's buffers.
#[derive(Default)]
struct Scratch {
    packed: PackedQueries,
    span: SpanScratch,
    partial: Partial,
    total: Partial,
}

/// Buffers for one span.
#[derive(Default)]
struct SpanScratch {
    /// Result of the span's f16 part.
    f16_partial: Partial,
    /// `[vectors, SCORE_STRIDE]`: scores, then weights.
    scores: AlignedVec<f32>,
    quantizer: SpanQuantizer,
    int8: Int8Scratch,
}

/// Buffers that all threads fill and the calling thread owns.
#[derive(Default)]
struct SharedScratch {
    /// Item and group of spans of each task.
    tasks: Vec<(usize, usize)>,
    packed: Vec<PackedQueries>,
    partials: Vec<Partial>,
}

/// Attention of a block's vectors over part of the cache.
#[derive(Default)]
struct Partial {
    /// `[vectors, stored_dim]`: sums of values, weighted by e^(score - max).
    sums: AlignedVec<f32>,
    /// `[vectors]`, padded to whole registers: the largest score. The lowest finite value if
    /// nothing was visible, so that differences are never NaN.
    maxima: AlignedVec<f32>,
    /// `[vectors]`, padded to whole registers: the sum of the weights.
    weight_sums: AlignedVec<f32>,
}

impl Partial {
    /// Sets the size; the contents are unspecified.
    fn resize(&mut self, vectors: usize, stored: usize) {
        self.sums.resize(vectors * stored);
        self.maxima.resize(vectors.next_multiple_of(LANES));
        self.weight_sums.resize(vectors.next_multiple_of(LANES));
    }

    /// Resets to the attention over nothing.
    fn clear(&mut self, vectors: usize, stored: usize) {
        self.resize(vectors, stored);
        self.sums.fill(0.0);
        self.maxima.fill(f32::MIN);
        self.weight_sums.fill(0.0);
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
    static SHARED: RefCell<SharedScratch> = RefCell::default();
}

/// softmax(scale * q kᵀ) v of every query: `q` and `out` are `[queries, heads * head_dim]`.
///
/// # Panics
/// If `q` or `out` has another length.
pub fn attend(
    pool: &Pool,
    isa: Isa,
    shape: Shape,
    queries: &[Query<'_>],
    q: &[f32],
    out: &mut [f32],
) {
    let width = shape.heads * shape.head_dim;
    assert!(
        q.len() == queries.len() * width && out.len() == q.len(),
        "{} queries of {width} values",
        queries.len()
    );
    let blocks = QueryBlock::split(queries, (BLOCK_VECTORS / shape.group()).max(1));
    attend_blocks(pool, isa, shape, &blocks, q, &SharedSliceMut::new(out));
}

fn attend_blocks(
    pool: &Pool,
    isa: Isa,
    shape: Shape,
    blocks: &[QueryBlock<'_>],
    q: &[f32],
    out: &SharedSliceMut<'_, f32>,
) {
    let items = blocks.len() * shape.kv_heads;
    let block_and_head = |item: usize| (&blocks[item / shape.kv_heads], item % shape.kv_heads);
    let groups: usize = blocks.iter().map(|block| block.groups().len()).sum();
    if items >= ITEMS_PER_THREAD * pool.threads() || groups == blocks.len() || pool.threads() == 1 {
        pool.for_each(items, |item| {
            let (block, head) = block_and_head(item);
            SCRATCH.with_borrow_mut(|scratch| {
                run(isa, HeadTask { isa, shape, block, head, q, out, scratch });
            });
        });
        return;
    }
    // Few queries over a long cache: groups of spans are distributed over the threads, and merged
    // afterwards in the same order as without. Tasks with the same keys are neighbors.
    SHARED.with_borrow_mut(|SharedScratch { tasks, packed, partials }| {
        tasks.clear();
        tasks.extend(
            (0..items)
                .flat_map(|item| block_and_head(item).0.groups().map(move |group| (item, group))),
        );
        tasks.sort_unstable_by_key(|&(item, group)| (item % shape.kv_heads, group, item));
        let tasks = &*tasks;
        packed.resize_with(packed.len().max(items), PackedQueries::default);
        partials.resize_with(partials.len().max(tasks.len()), Partial::default);
        pool.for_each_chunk(&mut packed[..items], 1, |item, packed| {
            let (block, head) = block_and_head(item);
            block.pack(isa, shape, head, q, &mut packed[0]);
        });
        pool.for_each_chunk(&mut partials[..tasks.len()], 1, |task, partial| {
            let (item, group) = tasks[task];
            let (block, head) = block_and_head(item);
            // The other threads most likely take the tasks in between, so this thread prefetches
            // the span of the task after those.
            let next = tasks.get(task + pool.threads()).and_then(|&(item, group)| {
                let (block, head) = block_and_head(item);
                block.cached_int8(shape, head, block.spans_of(group).start)
            });
            SCRATCH.with_borrow_mut(|Scratch { span: scratch, .. }| {
                let partial = &mut partial[0];
                run(
                    isa,
                    SpanGroupTask {
                        isa,
                        shape,
                        block,
                        head,
                        packed: &packed[item],
                        group,
                        next,
                        scratch,
                        partial,
                    },
                );
            });
        });
        pool.for_each(items, |item| {
            let (block, head) = block_and_head(item);
            let mine = tasks
                .iter()
                .zip(&*partials)
                .filter(|((of, _), _)| *of == item)
                .map(|(_, partial)| partial);
            SCRATCH.with_borrow_mut(|scratch| {
                scratch.total.clear(block.queries.len() * shape.group(), shape.stored_dim());
                mine.for_each(|partial| {
                    run(
                        isa,
                        MergePartial {
                            stored: shape.stored_dim(),
                            from: partial,
                            into: &mut scratch.total,
                        },
                    );
                });
                write_output(shape, block, head, &scratch.total, out);
            });
        });
    });
}

/// One key-value head of a block, over all spans.
struct HeadTask<'a> {
    isa: Isa,
    shape: Shape,
    block: &'a QueryBlock<'a>,
    head: usize,
    q: &'a [f32],
    out: &'a SharedSliceMut<'a, f32>,
    scratch: &'a mut Scratch,
}

impl Kernel for HeadTask<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: F32x16>(self) {
        let Self { isa, shape, block, head, q, out, scratch } = self;
        let Scratch { packed, span: scratch, partial, total } = scratch;
        let stored = shape.stored_dim();
        block.pack(isa, shape, head, q, packed);
        total.clear(block.queries.len() * shape.group(), stored);
        for group in block.groups() {
            // SAFETY: the caller guarantees the instructions.
            unsafe {
                SpanGroupTask {
                    isa,
                    shape,
                    block,
                    head,
                    packed,
                    group,
                    next: None,
                    scratch,
                    partial,
                }
                .run::<V>();
                MergePartial { stored, from: partial, into: total }.run::<V>();
            }
        }
        write_output(shape, block, head, total, out);
    }
}

/// Divides by the sums of weights and writes the head's columns.
fn write_output(
    shape: Shape,
    block: &QueryBlock<'_>,
    head: usize,
    total: &Partial,
    out: &SharedSliceMut<'_, f32>,
) {
    let (d, stored, group) = (shape.head_dim, shape.stored_dim(), shape.group());
    for (vector, (sum, sums)) in
        total.weight_sums.iter().zip(total.sums.chunks_exact(stored)).enumerate()
    {
        let (query, member) = (block.first + vector / group, vector % group);
        let at = query * shape.heads * d + (head * group + member) * d;
        // SAFETY: one item has this block and head, and the columns of different items do not
        // overlap.
        let place = unsafe { out.slice(at, d) };
        place.iter_mut().zip(sums).for_each(|(y, x)| *y = x / sum);
    }
}

/// Merges the result of some spans into that of the earlier spans.
struct MergePartial<'a> {
    stored: usize,
    from: &'a Partial,
    into: &'a mut Partial,
}

impl Kernel for MergePartial<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: F32x16>(self) {
        let Self { stored, from, into } = self;
        let sums = from.sums.chunks(LANES * stored).zip(into.sums.chunks_mut(LANES * stored));
        let (maxima, weights) =
            (into.maxima.chunks_exact_mut(LANES), into.weight_sums.chunks_exact_mut(LANES));
        let from = from.maxima.chunks_exact(LANES).zip(from.weight_sums.chunks_exact(LANES));
        for (((max, weight), (old_max, old_weight)), (sums, totals)) in
            from.zip(maxima.zip(weights)).zip(sums)
        {
            // SAFETY: the chunks are whole registers; the caller guarantees the instructions.
            unsafe {
                let earlier = SoftmaxState {
                    max: V::load(old_max.as_ptr()),
                    sum: V::load(old_weight.as_ptr()),
                };
                let later =
                    SoftmaxState { max: V::load(max.as_ptr()), sum: V::load(weight.as_ptr()) };
                let (merged, [old_factor, new_factor]) = earlier.merge(later);
                merged.max.store(old_max.as_mut_ptr());
                merged.sum.store(old_weight.as_mut_ptr());
                let factors = old_factor.lanes().into_iter().zip(new_factor.lanes());
                for ((totals, sums), (a, b)) in
                    totals.chunks_exact_mut(stored).zip(sums.chunks_exact(stored)).zip(factors)
                {
                    let (a, b) = (V::splat(a), V::splat(b));
                    for (total, sum) in totals.chunks_exact_mut(LANES).zip(sums.chunks_exact(LANES))
                    {
                        V::load(sum.as_ptr())
                            .fma(b, V::load(total.as_ptr()).mul(a))
                            .store(total.as_mut_ptr());
                    }
                }
            }
        }
    }
}

/// One key-value head of a block, over one group of spans.
struct SpanGroupTask<'a> {
    isa: Isa,
    shape: Shape,
    block: &'a QueryBlock<'a>,
    head: usize,
    /// The block's vectors, packed by [`QueryBlock::pack`].
    packed: &'a PackedQueries,
    group: usize,
    /// The int8 span that is needed next, to prefetch.
    next: Option<&'a Int8Span>,
    scratch: &'a mut SpanScratch,
    partial: &'a mut Partial,
}

impl Kernel for SpanGroupTask<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: F32x16>(mut self) {
        let (vectors, stored) =
            (self.block.queries.len() * self.shape.group(), self.shape.stored_dim());
        self.partial.clear(vectors, stored);
        for span in self.block.spans_of(self.group) {
            // SAFETY: the caller guarantees the instructions.
            unsafe {
                if self.block.queries.iter().any(|query| !query.f16_range(span).is_empty()) {
                    self.scratch.f16_partial.clear(vectors, stored);
                    self.f16_span::<V>(span);
                    MergePartial { stored, from: &self.scratch.f16_partial, into: self.partial }
                        .run::<V>();
                }
                self.int8_span::<V>(span);
            }
        }
    }
}

impl SpanGroupTask<'_> {
    /// Attention of the queries that use int8 for the span.
    ///
    /// # Safety
    /// V's instructions must be available.
    #[inline(always)]
    unsafe fn int8_span<V: F32x16>(&mut self, span: usize) {
        let Self { isa, shape, block, head, packed, .. } = *self;
        let next = if block.spans_of(self.group).contains(&(span + 1)) {
            block.cached_int8(shape, head, span + 1)
        } else {
            self.next
        };
        let (group, first) = (shape.group(), span * SPAN);
        let shared: usize = block.queries[0].ranges[..block.shared].iter().map(KvRange::len).sum();
        let mut at = 0;
        while let Some(from) =
            (at..block.queries.len()).find(|&member| block.queries[member].uses_int8(span))
        {
            let row = &block.queries[from];
            let same = |query: &&Query<'_>| {
                query.uses_int8(span) && (shared >= first + SPAN || query.same_row(row))
            };
            at = from + block.queries[from..].iter().take_while(same).count();
            let int8 = self.scratch.quantizer.int8_span(isa, shape, head, row.ranges, first);
            let (scratch, queries, vectors, prefetch) =
                (&mut self.scratch.int8, &packed.int8, &packed.vectors, Prefetch::of(next));
            let Partial { sums, maxima, weight_sums } = &mut *self.partial;
            // SAFETY: the caller guarantees the instructions.
            unsafe {
                Int8Attention {
                    shape,
                    span: int8,
                    prefetch,
                    queries,
                    vectors,
                    range: from * group..at * group,
                    scratch,
                    sums,
                    maxima,
                    weight_sums,
                }
                .run::<V>();
            }
        }
    }

    /// Attention of the queries that use f16 for the span.
    ///
    /// # Safety
    /// V's instructions must be available.
    #[inline(always)]
    unsafe fn f16_span<V: F32x16>(&mut self, span: usize) {
        let Self { shape, block, head, packed, .. } = *self;
        let SpanScratch { f16_partial: partial, scores, .. } = &mut *self.scratch;
        let q = &packed.vectors;
        let (d, stored, group) = (shape.head_dim, shape.stored_dim(), shape.group());
        let vectors = block.queries.len() * group;
        scores.resize(vectors * SCORE_STRIDE);
        let first = span * SPAN;
        let tile_of = |tile: usize| tile * shape.kv_heads + head;
        block.for_each_range(|members, range, index, next| {
            for_each_tile(&block.queries[members.clone()], range, index, first, |tile, at| {
                let keys = &range.kv.keys[tile_of(tile) * d * TILE..][..d * TILE];
                // The tiles of a head are not contiguous, and the next row's tiles can be anywhere,
                // so the hardware prefetcher does not follow.
                let (kv, next_tile) =
                    next.map_or((range.kv, tile + PREFETCH_TILES), |next| (next.kv, tile));
                let next_keys = kv.keys.get(tile_of(next_tile) * d * TILE..).unwrap_or_default();
                let next_values =
                    kv.values.get(tile_of(next_tile) * TILE * stored..).unwrap_or_default();
                let prefetch = TilePrefetch { keys: next_keys, values: next_values };
                // The positions of the tile that belong to both the range and the span.
                let from = (range.start as isize - (tile * TILE) as isize).max(-at).max(0) as usize;
                let to = (range.end - tile * TILE).min(TILE).min((SPAN as isize - at) as usize);
                let position = TilePosition { at, from, to };
                let all = members.start * group..members.end * group;
                // SAFETY: `keys` is a whole tile; the caller guarantees the instructions.
                unsafe { score_tile::<V>(keys, all, q, scores, &position, prefetch) };
            });
        });
        for index in 0..vectors {
            let visible = block.queries[index / group].f16_range(span);
            if !visible.is_empty() {
                // SAFETY: the caller guarantees the instructions.
                [partial.maxima[index], partial.weight_sums[index]] = unsafe {
                    softmax::<V>(&mut scores[index * SCORE_STRIDE..][..SPAN], visible, shape)
                };
            }
        }
        block.for_each_range(|members, range, index, _| {
            for_each_tile(&block.queries[members.clone()], range, index, first, |tile, at| {
                let values = &range.kv.values[tile_of(tile) * TILE * stored..][..TILE * stored];
                let low = (range.start as isize - (tile * TILE) as isize).max(-at).max(0);
                let high = ((range.end - tile * TILE).min(TILE) as isize).min(SPAN as isize - at);
                let visible_keys = |member: usize| {
                    let visible = block.queries[member].f16_range(span);
                    let (from, to) = (
                        (visible.start as isize - at).max(low),
                        (visible.end as isize - at).min(high),
                    );
                    from as usize..to.max(from) as usize
                };
                // Queries that see the same keys of the tile are processed together. A masked key
                // is skipped, not multiplied by zero.
                let mut start = members.start;
                while start < members.end {
                    let keys = visible_keys(start);
                    let count = (start..members.end)
                        .take_while(|&member| visible_keys(member) == keys)
                        .count();
                    let run = start * group..(start + count) * group;
                    start += count;
                    let weights = |vector: usize| {
                        // SAFETY: the visible keys of the tile lie inside the span, so these
                        // positions are inside `scores`.
                        unsafe { scores.as_ptr().offset((vector * SCORE_STRIDE) as isize + at) }
                    };
                    // SAFETY: as said; `values` is a whole tile; the caller guarantees
                    // the instructions.
                    unsafe {
                        value_tile::<V>(values, stored, keys, run, &weights, &mut partial.sums);
                    };
                }
            });
        });
    }
}
