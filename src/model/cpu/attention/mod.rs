//! Causal attention over a cache of shared segments: what several rows share is read once for all
//! of them.
//!
//! Keys and values are f16, in tiles of 16 tokens with the head's dimensions outermost for keys, so
//! that one register meets the same dimension of sixteen keys and no sum runs across lanes. Queries
//! go through the cache in blocks; a part of the cache that all of a block see is read once for the
//! block, through all query heads that share its key-value head. Whole spans behind a query's own,
//! except the first, are met in 8 bits (`distant.rs`).
//!
//! Contract: what comes out for a query is the same to the bit however its cache is cut into
//! segments, whatever other queries stand beside it and on any number of threads. It depends on the
//! visible range of cache indices alone: a score depends on its own key; the cache is cut into
//! spans of 256 indices at multiples of it, and whether a span is met in 8 bits depends on that
//! range too; within a span the softmax sums in lanes by index and values are added one key after
//! another by rising index; and spans are merged by their log-sum-exp, rising: those of a group
//! (`blocks.rs`) first, then the groups. Equal on every instruction set.

#![allow(clippy::inline_always)] // What is not inlined into a function with the instructions is compiled without them.

mod blocks;
mod exp2_u16;
mod host_kv;
mod int8_attention;
mod int8_kv;
mod tiles;

use std::cell::RefCell;

use super::Isa;
use super::aligned::Lines;
use super::pool::{Disjoint, Pool};
use super::simd::{F32x16, Kernel, LANES, run};
use blocks::{Block, Packed, each_tile};
use host_kv::{Encoder, SPAN, TILE};
use int8_attention::{Ahead, Buffers, Distant};
use int8_kv::Codes;
use tiles::{Place, Soon, join, score_tile, softmax, value_tile};

pub use blocks::Query;
pub use host_kv::{HostKv, Part, Shape};

/// Numbers from one vector's scores to the next's: not a power of two, or a tile's scores of all
/// vectors would fall into the same few sets of the cache.
pub(super) const STRIDE: usize = SPAN + LANES;
/// How many tiles ahead keys and values are asked for, where they are not the next row's.
const AHEAD: usize = 2;
/// Query vectors of a block: enough to make the widening of f16 cheap.
const VECTORS: usize = 48;
/// Items per thread below which the spans of a block are shared out too.
const ITEMS_PER_THREAD: usize = 4;

/// Buffers that one thread reuses.
#[derive(Default)]
struct Scratch {
    packed: Packed,
    work: Work,
    partial: Partial,
    total: Partial,
}

/// What a span leaves nothing in.
#[derive(Default)]
struct Work {
    /// Of a span that is met in half precision.
    near: Partial,
    /// `[vectors, STRIDE]`: scores, then weights.
    scores: Lines<f32>,
    encoder: Encoder,
    buffers: Buffers,
}

/// Buffers that all threads fill, which the calling one reuses.
#[derive(Default)]
struct Common {
    /// Item and group of spans of what is shared out.
    pieces: Vec<(usize, usize)>,
    packed: Vec<Packed>,
    partials: Vec<Partial>,
}

/// Attention over some of the cache, of every vector of a block.
#[derive(Default)]
struct Partial {
    /// `[vectors, stored_dim]`: sums of values, weighed by e^(score - max).
    sums: Lines<f32>,
    /// `[vectors]`, up to whole registers: the largest score; the lowest finite number where
    /// nothing was visible, so that differences of two are numbers.
    maxima: Lines<f32>,
    /// `[vectors]`, up to whole registers: the sum of the weights.
    weights: Lines<f32>,
}

impl Partial {
    /// Makes room; what is there is of no account.
    fn resize(&mut self, vectors: usize, stored: usize) {
        self.sums.resize(vectors * stored);
        self.maxima.resize(vectors.next_multiple_of(LANES));
        self.weights.resize(vectors.next_multiple_of(LANES));
    }

    /// Nothing was visible yet.
    fn clear(&mut self, vectors: usize, stored: usize) {
        self.resize(vectors, stored);
        self.sums.fill(0.0);
        self.maxima.fill(f32::MIN);
        self.weights.fill(0.0);
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
    static COMMON: RefCell<Common> = RefCell::default();
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
        "{} queries of {width} numbers",
        queries.len()
    );
    let blocks = Block::cut(queries, (VECTORS / shape.group()).max(1));
    attend_blocks(pool, isa, shape, &blocks, q, &Disjoint::new(out));
}

fn attend_blocks(
    pool: &Pool,
    isa: Isa,
    shape: Shape,
    blocks: &[Block<'_>],
    q: &[f32],
    out: &Disjoint<'_, f32>,
) {
    let items = blocks.len() * shape.kv_heads;
    let each = |item: usize| (&blocks[item / shape.kv_heads], item % shape.kv_heads);
    let groups: usize = blocks.iter().map(|block| block.groups().len()).sum();
    if items >= ITEMS_PER_THREAD * pool.threads() || groups == blocks.len() || pool.threads() == 1 {
        pool.for_each(items, |item| {
            let (block, head) = each(item);
            SCRATCH.with_borrow_mut(|scratch| {
                run(isa, Whole { isa, shape, block, head, q, out, scratch });
            });
        });
        return;
    }
    // Few queries over a long cache: the spans of a block are shared out too, and merged afterwards
    // as they would have been. Blocks that meet the same keys do so one after the other.
    COMMON.with_borrow_mut(|Common { pieces, packed, partials, .. }| {
        pieces.clear();
        pieces.extend(
            (0..items).flat_map(|item| each(item).0.groups().map(move |group| (item, group))),
        );
        pieces.sort_unstable_by_key(|&(item, group)| (item % shape.kv_heads, group, item));
        let pieces = &*pieces;
        packed.resize_with(packed.len().max(items), Packed::default);
        partials.resize_with(partials.len().max(pieces.len()), Partial::default);
        pool.for_each_chunk(&mut packed[..items], 1, |item, packed| {
            let (block, head) = each(item);
            block.pack(isa, shape, head, q, &mut packed[0]);
        });
        pool.for_each_chunk(&mut partials[..pieces.len()], 1, |piece, partial| {
            let (item, group) = pieces[piece];
            let (block, head) = each(item);
            // The other threads most likely take the pieces between; this one's next will find its
            // codes in the cache.
            let next = pieces.get(piece + pool.threads()).and_then(|&(item, group)| {
                let (block, head) = each(item);
                block.kept(shape, head, block.spans_of(group).start)
            });
            SCRATCH.with_borrow_mut(|Scratch { work, .. }| {
                let partial = &mut partial[0];
                run(
                    isa,
                    Piece {
                        isa,
                        shape,
                        block,
                        head,
                        packed: &packed[item],
                        group,
                        next,
                        work,
                        partial,
                    },
                );
            });
        });
        pool.for_each(items, |item| {
            let (block, head) = each(item);
            let mine = pieces
                .iter()
                .zip(&*partials)
                .filter(|((of, _), _)| *of == item)
                .map(|(_, partial)| partial);
            SCRATCH.with_borrow_mut(|scratch| {
                scratch.total.clear(block.queries.len() * shape.group(), shape.stored_dim());
                mine.for_each(|partial| {
                    run(
                        isa,
                        Merge {
                            stored: shape.stored_dim(),
                            from: partial,
                            into: &mut scratch.total,
                        },
                    );
                });
                finish(shape, block, head, &scratch.total, out);
            });
        });
    });
}

/// One key-value head of a block, over all spans.
struct Whole<'a> {
    isa: Isa,
    shape: Shape,
    block: &'a Block<'a>,
    head: usize,
    q: &'a [f32],
    out: &'a Disjoint<'a, f32>,
    scratch: &'a mut Scratch,
}

impl Kernel for Whole<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: F32x16>(self) {
        let Self { isa, shape, block, head, q, out, scratch } = self;
        let Scratch { packed, work, partial, total } = scratch;
        let stored = shape.stored_dim();
        block.pack(isa, shape, head, q, packed);
        total.clear(block.queries.len() * shape.group(), stored);
        for group in block.groups() {
            // SAFETY: the instructions are the caller's promise.
            unsafe {
                Piece { isa, shape, block, head, packed, group, next: None, work, partial }
                    .run::<V>();
                Merge { stored, from: partial, into: total }.run::<V>();
            }
        }
        finish(shape, block, head, total, out);
    }
}

/// Divides by the weights' sums and writes the head's columns.
fn finish(shape: Shape, block: &Block<'_>, head: usize, total: &Partial, out: &Disjoint<'_, f32>) {
    let (d, stored, group) = (shape.head_dim, shape.stored_dim(), shape.group());
    for (vector, (sum, sums)) in
        total.weights.iter().zip(total.sums.chunks_exact(stored)).enumerate()
    {
        let (query, member) = (block.first + vector / group, vector % group);
        let at = query * shape.heads * d + (head * group + member) * d;
        // SAFETY: one item has this block and head, and the columns of different ones do not
        // overlap.
        let place = unsafe { out.slice(at, d) };
        place.iter_mut().zip(sums).for_each(|(y, x)| *y = x / sum);
    }
}

/// Adds the result of some spans to that of the ones before them.
struct Merge<'a> {
    stored: usize,
    from: &'a Partial,
    into: &'a mut Partial,
}

impl Kernel for Merge<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: F32x16>(self) {
        let Self { stored, from, into } = self;
        let sums = from.sums.chunks(LANES * stored).zip(into.sums.chunks_mut(LANES * stored));
        let (maxima, weights) =
            (into.maxima.chunks_exact_mut(LANES), into.weights.chunks_exact_mut(LANES));
        let from = from.maxima.chunks_exact(LANES).zip(from.weights.chunks_exact(LANES));
        for (((max, weight), (old_max, old_weight)), (sums, totals)) in
            from.zip(maxima.zip(weights)).zip(sums)
        {
            // SAFETY: the chunks are whole registers; the instructions are the caller's promise.
            unsafe {
                let old = (V::load(old_max.as_ptr()), V::load(old_weight.as_ptr()));
                let joint = join(old, (V::load(max.as_ptr()), V::load(weight.as_ptr())));
                joint.max.store(old_max.as_mut_ptr());
                joint.weight.store(old_weight.as_mut_ptr());
                let factors = joint.before.lanes().into_iter().zip(joint.now.lanes());
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

/// One key-value head of a block, over a group of spans.
struct Piece<'a> {
    isa: Isa,
    shape: Shape,
    block: &'a Block<'a>,
    head: usize,
    /// The block's vectors as [`Block::pack`] puts them.
    packed: &'a Packed,
    group: usize,
    /// Codes that will be needed after this.
    next: Option<&'a Codes>,
    work: &'a mut Work,
    partial: &'a mut Partial,
}

impl Kernel for Piece<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: F32x16>(mut self) {
        let (vectors, stored) =
            (self.block.queries.len() * self.shape.group(), self.shape.stored_dim());
        self.partial.clear(vectors, stored);
        for span in self.block.spans_of(self.group) {
            // SAFETY: the instructions are the caller's promise.
            unsafe {
                if self.block.queries.iter().any(|query| !query.within(span).is_empty()) {
                    self.work.near.clear(vectors, stored);
                    self.near::<V>(span);
                    Merge { stored, from: &self.work.near, into: self.partial }.run::<V>();
                }
                self.distant::<V>(span);
            }
        }
    }
}

impl Piece<'_> {
    /// Queries that meet the span in codes.
    ///
    /// # Safety
    /// V's instructions must be available.
    #[inline(always)]
    unsafe fn distant<V: F32x16>(&mut self, span: usize) {
        let Self { isa, shape, block, head, packed, .. } = *self;
        let next = if block.spans_of(self.group).contains(&(span + 1)) {
            block.kept(shape, head, span + 1)
        } else {
            self.next
        };
        let (group, first) = (shape.group(), span * SPAN);
        let shared: usize = block.queries[0].parts[..block.shared].iter().map(Part::len).sum();
        let mut at = 0;
        while let Some(from) =
            (at..block.queries.len()).find(|&member| block.queries[member].is_distant_to(span))
        {
            let row = &block.queries[from];
            let same = |query: &&Query<'_>| {
                query.is_distant_to(span) && (shared >= first + SPAN || query.same_row(row))
            };
            at = from + block.queries[from..].iter().take_while(same).count();
            let codes = self.work.encoder.codes(isa, shape, head, row.parts, first);
            let (buffers, queries, vectors, ahead) =
                (&mut self.work.buffers, &packed.codes, &packed.vectors, Ahead::of(next));
            let Partial { sums, maxima, weights } = &mut *self.partial;
            // SAFETY: the instructions are the caller's promise.
            unsafe {
                Distant {
                    shape,
                    codes,
                    ahead,
                    queries,
                    vectors,
                    range: from * group..at * group,
                    buffers,
                    sums,
                    maxima,
                    weights,
                }
                .run::<V>();
            }
        }
    }

    /// Queries that meet the span in half precision.
    ///
    /// # Safety
    /// V's instructions must be available.
    #[inline(always)]
    unsafe fn near<V: F32x16>(&mut self, span: usize) {
        let Self { shape, block, head, packed, .. } = *self;
        let Work { near: partial, scores, .. } = &mut *self.work;
        let q = &packed.vectors;
        let (d, stored, group) = (shape.head_dim, shape.stored_dim(), shape.group());
        let vectors = block.queries.len() * group;
        scores.resize(vectors * STRIDE);
        let first = span * SPAN;
        let tile_of = |tile: usize| tile * shape.kv_heads + head;
        block.each_part(|members, part, index, next| {
            each_tile(&block.queries[members.clone()], part, index, first, |tile, at| {
                let keys = &part.kv.keys[tile_of(tile) * d * TILE..][..d * TILE];
                // A head's tiles lie apart, which the processor's own prefetching does not follow,
                // and a row's own ones anywhere.
                let (kv, ahead) = next.map_or((part.kv, tile + AHEAD), |next| (next.kv, tile));
                let keys_soon = kv.keys.get(tile_of(ahead) * d * TILE..).unwrap_or_default();
                let values_soon =
                    kv.values.get(tile_of(ahead) * TILE * stored..).unwrap_or_default();
                let soon = Soon { keys: keys_soon, values: values_soon };
                // The tile's places that belong to the part and to the span.
                let from = (part.start as isize - (tile * TILE) as isize).max(-at).max(0) as usize;
                let to = (part.end - tile * TILE).min(TILE).min((SPAN as isize - at) as usize);
                let place = Place { at, from, to };
                let all = members.start * group..members.end * group;
                // SAFETY: `keys` is a whole tile; the instructions are the caller's promise.
                unsafe { score_tile::<V>(keys, all, q, scores, &place, soon) };
            });
        });
        for index in 0..vectors {
            let visible = block.queries[index / group].within(span);
            if !visible.is_empty() {
                // SAFETY: the instructions are the caller's promise.
                [partial.maxima[index], partial.weights[index]] =
                    unsafe { softmax::<V>(&mut scores[index * STRIDE..][..SPAN], visible, shape) };
            }
        }
        block.each_part(|members, part, index, _| {
            each_tile(&block.queries[members.clone()], part, index, first, |tile, at| {
                let values = &part.kv.values[tile_of(tile) * TILE * stored..][..TILE * stored];
                let low = (part.start as isize - (tile * TILE) as isize).max(-at).max(0);
                let high = ((part.end - tile * TILE).min(TILE) as isize).min(SPAN as isize - at);
                let seen = |member: usize| {
                    let visible = block.queries[member].within(span);
                    let (from, to) = (
                        (visible.start as isize - at).max(low),
                        (visible.end as isize - at).min(high),
                    );
                    from as usize..to.max(from) as usize
                };
                // Queries that see the same keys of the tile go together; a masked key is not even
                // multiplied by zero.
                let mut start = members.start;
                while start < members.end {
                    let keys = seen(start);
                    let count =
                        (start..members.end).take_while(|&member| seen(member) == keys).count();
                    let run = start * group..(start + count) * group;
                    start += count;
                    let weights = |vector: usize| {
                        // SAFETY: the visible keys of the tile lie inside the span, so these places
                        // are inside `scores`.
                        unsafe { scores.as_ptr().offset((vector * STRIDE) as isize + at) }
                    };
                    // SAFETY: as said; `values` is a whole tile; the instructions are the caller's
                    // promise.
                    unsafe {
                        value_tile::<V>(values, stored, keys, run, &weights, &mut partial.sums);
                    };
                }
            });
        });
    }
}
