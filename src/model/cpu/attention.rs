//! Causal attention over a cache of shared segments: what several rows share is read once for all of them.
//!
//! Keys and values are f16, in tiles of 16 tokens with the head's dimensions outermost for keys, so that one register meets the
//! same dimension of sixteen keys and no sum runs across lanes. Queries go through the cache in blocks; a part of the cache that all
//! of a block see is read once for the block, through all query heads that share its key-value head.
//!
//! Contract: what comes out for a query is the same to the bit however its cache is cut into segments, whatever other queries stand
//! beside it and on any number of threads. It depends on the visible range of cache indices alone: a score depends on its own key; the
//! cache is cut into spans of 256 indices at multiples of it; within a span the softmax sums in lanes by index and values are
//! added one key after another by rising index; and spans are merged by their log-sum-exp, rising. Equal on every instruction set.

#![allow(clippy::inline_always)] // What is not inlined into a function with the instructions is compiled without them.

use std::cell::RefCell;
use std::ops::Range;

use half::f16;

use super::Isa;
use super::pool::{Disjoint, Pool};
use super::simd::{F32x16, Kernel, LANES, exp, run};
use super::tiles::{Place, score_tile, softmax, value_tile};

/// Tokens of a tile.
pub(super) const TILE: usize = LANES;
/// Cache indices whose softmax is taken together. Small enough that a block's scores stay in the first-level cache.
pub(super) const SPAN: usize = 256;
/// Numbers from one vector's scores to the next's: not a power of two, or a tile's scores of all vectors would fall into the same few
/// sets of the cache.
pub(super) const STRIDE: usize = SPAN + LANES;
/// How many tiles ahead keys are asked for.
const AHEAD: usize = 2;
/// f16 numbers of a cache line.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 32;
/// Query vectors of a block: enough to make the widening of f16 cheap.
const VECTORS: usize = 48;
/// Items per thread below which the spans of a block are shared out too.
const ITEMS_PER_THREAD: usize = 4;

/// Geometry of a model's attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Query heads.
    pub heads: usize,
    /// Key-value heads.
    pub kv_heads: usize,
    /// Dimensions of a head.
    pub head_dim: usize,
    /// Multiplies the dot product of query and key.
    pub scale: f32,
    /// c of c * tanh(score / c).
    pub soft_cap: Option<f32>,
}

impl Shape {
    /// Query heads that share a key-value head.
    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Dimensions of a stored value: whole registers.
    fn stored_dim(&self) -> usize {
        self.head_dim.next_multiple_of(LANES)
    }
}

/// Keys and values of one layer for consecutive tokens.
#[derive(Clone, Debug, Default)]
pub struct HostKv {
    /// `[tiles, kv_heads, head_dim, TILE]`; free places are zero.
    keys: Vec<f16>,
    /// `[tiles, kv_heads, TILE, stored_dim]`; free places are zero.
    values: Vec<f16>,
    len: usize,
}

impl HostKv {
    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Holds no token.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends tokens: `k` and `v` are `[new, kv_heads * head_dim]`. Numbers beyond f16's range become infinite.
    ///
    /// # Panics
    /// If `k` and `v` differ in length or are not whole tokens.
    pub fn append(&mut self, isa: Isa, shape: Shape, k: &[f32], v: &[f32]) {
        let width = shape.kv_heads * shape.head_dim;
        assert!(k.len() == v.len() && k.len().is_multiple_of(width), "{} keys and {} values of width {width}", k.len(), v.len());
        let tokens = k.len() / width;
        let tiles = (self.len + tokens).div_ceil(TILE);
        self.keys.resize(tiles * width * TILE, f16::ZERO);
        self.values.resize(tiles * shape.kv_heads * TILE * shape.stored_dim(), f16::ZERO);
        run(isa, Append { kv: self, shape, k, v });
        self.len += tokens;
    }
}

struct Append<'a> {
    kv: &'a mut HostKv,
    shape: Shape,
    k: &'a [f32],
    v: &'a [f32],
}

impl Kernel for Append<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: F32x16>(self) {
        let Self { kv, shape, k, v } = self;
        let (d, stored) = (shape.head_dim, shape.stored_dim());
        let mut narrow = [f16::ZERO; LANES];
        for (i, (k, v)) in k.chunks_exact(d).zip(v.chunks_exact(d)).enumerate() {
            let (token, head) = (kv.len + i / shape.kv_heads, i % shape.kv_heads);
            let (tile, lane) = (token / TILE * shape.kv_heads + head, token % TILE);
            let keys = &mut kv.keys[tile * d * TILE..][..d * TILE];
            let values = &mut kv.values[(tile * TILE + lane) * stored..][..stored];
            for at in (0..d).step_by(LANES) {
                let count = LANES.min(d - at);
                // SAFETY: `count` numbers are left in k and v; `narrow` and what is left of the value's place have room for 16.
                unsafe {
                    V::load_some(k[at..].as_ptr(), count).store_half(narrow.as_mut_ptr());
                    V::load_some(v[at..].as_ptr(), count).store_half(values[at..at + LANES].as_mut_ptr());
                }
                for (place, &x) in keys[at * TILE..].chunks_exact_mut(TILE).zip(&narrow[..count]) {
                    place[lane] = x;
                }
            }
        }
    }
}

/// The visible part of one layer's stored tokens.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// The tokens.
    pub kv: &'a HostKv,
    /// First visible token.
    pub start: usize,
    /// End of the visible tokens.
    pub end: usize,
}

impl Part<'_> {
    fn len(&self) -> usize {
        self.end - self.start
    }

    fn is(&self, other: &Self) -> bool {
        std::ptr::eq(self.kv, other.kv) && (self.start, self.end) == (other.start, other.end)
    }
}

/// One new token of one row.
#[derive(Clone, Debug)]
pub struct Query<'a> {
    /// Its row's cache in order, its own key among it.
    pub parts: &'a [Part<'a>],
    /// First visible cache index.
    pub start: usize,
    /// End of the visible cache indices.
    pub end: usize,
}

impl Query<'_> {
    fn same_row(&self, other: &Self) -> bool {
        std::ptr::eq(self.parts, other.parts)
    }

    /// The visible indices of a span, counted from its start.
    fn within(&self, span: usize) -> Range<usize> {
        let first = span * SPAN;
        self.start.clamp(first, first + SPAN) - first..self.end.clamp(first, first + SPAN) - first
    }
}

/// Consecutive queries that go through the cache together.
struct Block<'a> {
    /// Index of the first query.
    first: usize,
    queries: &'a [Query<'a>],
    /// Parts at the beginning of all their caches that are the same.
    shared: usize,
}

impl<'a> Block<'a> {
    /// Cuts the queries into blocks of at most `most`, whose caches begin alike.
    fn cut(queries: &'a [Query<'a>], most: usize) -> Vec<Self> {
        let alike = |a: &Query<'_>, b: &Query<'_>| a.same_row(b) || a.parts.first().zip(b.parts.first()).is_some_and(|(a, b)| a.is(b));
        let mut blocks = Vec::with_capacity(queries.len().div_ceil(most) + 1);
        let mut first = 0;
        while first < queries.len() {
            let rest = &queries[first..];
            let count = rest.iter().take(most).take_while(|query| alike(query, &rest[0])).count();
            let members = &rest[..count];
            let same = |at: usize| members.iter().all(|query| query.parts.get(at).is_some_and(|part| part.is(&members[0].parts[at])));
            let shared = (0..members[0].parts.len()).take_while(|&at| same(at)).count();
            blocks.push(Self { first, queries: members, shared });
            first += count;
        }
        blocks
    }

    /// Puts the vectors of one key-value head side by side: see [`Scratch::vectors`]. Free places hold what they held.
    fn pack(&self, shape: Shape, head: usize, q: &[f32], out: &mut Vec<f32>) {
        let (d, group) = (shape.head_dim, shape.group());
        out.resize((self.queries.len() * group).next_multiple_of(LANES) * d, 0.0);
        for index in 0..self.queries.len() * group {
            let from = ((self.first + index / group) * shape.heads + head * group + index % group) * d;
            let places = out[index / LANES * LANES * d + index % LANES..].iter_mut().step_by(LANES);
            places.zip(&q[from..from + d]).for_each(|(place, &x)| *place = x);
        }
    }

    /// The spans that some query sees.
    fn spans(&self) -> Range<usize> {
        let start = self.queries.iter().map(|query| query.start).min().unwrap_or(0);
        let end = self.queries.iter().map(|query| query.end).max().unwrap_or(0);
        start / SPAN..end.div_ceil(SPAN)
    }

    /// Every part that some query sees in `span`: the queries (as indices of the block), the part, and its first cache index.
    #[inline(always)]
    fn each_part(&self, mut visit: impl FnMut(Range<usize>, Part<'a>, usize)) {
        let Some(first) = self.queries.first() else { return };
        let mut index = 0;
        for part in &first.parts[..self.shared] {
            visit(0..self.queries.len(), *part, index);
            index += part.len();
        }
        let mut at = 0;
        while at < self.queries.len() {
            let row = &self.queries[at];
            let count = self.queries[at..].iter().take_while(|query| query.same_row(row)).count();
            let mut index = index;
            for part in &row.parts[self.shared..] {
                visit(at..at + count, *part, index);
                index += part.len();
            }
            at += count;
        }
    }
}

/// Buffers that one thread reuses.
#[derive(Default)]
struct Scratch {
    /// `[vectors / 16, head_dim, 16]`: a block's query vectors side by side, so that their numbers have one address.
    vectors: Vec<f32>,
    /// `[vectors, STRIDE]`: scores, then weights.
    scores: Vec<f32>,
    partial: Partial,
    total: Partial,
}

/// Attention over some of the cache, of every vector of a block.
#[derive(Default)]
struct Partial {
    /// `[vectors, stored_dim]`: sums of values, weighed by e^(score - max).
    sums: Vec<f32>,
    /// `[vectors, 2]`: the largest score, and the sum of the weights; minus infinity and 0 where nothing was visible.
    norms: Vec<[f32; 2]>,
}

impl Partial {
    fn clear(&mut self, vectors: usize, stored: usize) {
        self.sums.clear();
        self.sums.resize(vectors * stored, 0.0);
        self.norms.clear();
        self.norms.resize(vectors, [f32::NEG_INFINITY, 0.0]);
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// softmax(scale * q kᵀ) v of every query: `q` and `out` are `[queries, heads * head_dim]`.
///
/// # Panics
/// If `q` or `out` has another length.
pub fn attend(pool: &Pool, isa: Isa, shape: Shape, queries: &[Query<'_>], q: &[f32], out: &mut [f32]) {
    let width = shape.heads * shape.head_dim;
    assert!(q.len() == queries.len() * width && out.len() == q.len(), "{} queries of {width} numbers", queries.len());
    let blocks = Block::cut(queries, (VECTORS / shape.group()).max(1));
    let out = Disjoint::new(out);
    let items = blocks.len() * shape.kv_heads;
    let each = |item: usize| (&blocks[item / shape.kv_heads], item % shape.kv_heads);
    let spans: usize = blocks.iter().map(|block| block.spans().len()).sum();
    if items >= ITEMS_PER_THREAD * pool.threads() || spans == blocks.len() || pool.threads() == 1 {
        pool.for_each(items, |item| {
            let (block, head) = each(item);
            SCRATCH.with_borrow_mut(|scratch| run(isa, Whole { shape, block, head, q, out: &out, scratch }));
        });
        return;
    }
    // Few queries over a long cache: the spans of a block are shared out too, and merged afterwards as they would have been.
    let pieces: Vec<(usize, usize)> = (0..items).flat_map(|item| each(item).0.spans().map(move |span| (item, span))).collect();
    let mut partials: Vec<Partial> = pieces.iter().map(|_| Partial::default()).collect();
    pool.for_each_chunk(&mut partials, 1, |piece, partial| {
        let (item, span) = pieces[piece];
        let (block, head) = each(item);
        SCRATCH.with_borrow_mut(|Scratch { vectors, scores, .. }| {
            block.pack(shape, head, q, vectors);
            run(isa, Piece { shape, block, head, q: vectors, span, scores, partial: &mut partial[0] });
        });
    });
    pool.for_each(items, |item| {
        let (block, head) = each(item);
        let mine = pieces.iter().zip(&partials).filter(|((of, _), _)| *of == item).map(|(_, partial)| partial);
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.total.clear(block.queries.len() * shape.group(), shape.stored_dim());
            mine.for_each(|partial| run(isa, Merge { stored: shape.stored_dim(), from: partial, into: &mut scratch.total }));
            finish(shape, block, head, &scratch.total, &out);
        });
    });
}

/// One key-value head of a block, over all spans.
struct Whole<'a> {
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
        let Self { shape, block, head, q, out, scratch } = self;
        let Scratch { vectors, scores, partial, total } = scratch;
        let stored = shape.stored_dim();
        block.pack(shape, head, q, vectors);
        total.clear(block.queries.len() * shape.group(), stored);
        for span in block.spans() {
            // SAFETY: the instructions are the caller's promise.
            unsafe {
                Piece { shape, block, head, q: vectors, span, scores, partial }.run::<V>();
                Merge { stored, from: partial, into: total }.run::<V>();
            }
        }
        finish(shape, block, head, total, out);
    }
}

/// Divides by the weights' sums and writes the head's columns.
fn finish(shape: Shape, block: &Block<'_>, head: usize, total: &Partial, out: &Disjoint<'_, f32>) {
    let (d, stored, group) = (shape.head_dim, shape.stored_dim(), shape.group());
    for (vector, ([_, sum], sums)) in total.norms.iter().zip(total.sums.chunks_exact(stored)).enumerate() {
        let (query, member) = (block.first + vector / group, vector % group);
        let at = query * shape.heads * d + (head * group + member) * d;
        // SAFETY: one item has this block and head, and the columns of different ones do not overlap.
        let place = unsafe { out.slice(at, d) };
        place.iter_mut().zip(sums).for_each(|(y, x)| *y = x / sum);
    }
}

/// Adds one span's result to that of the spans before it.
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
        let each = from.norms.iter().zip(from.sums.chunks_exact(stored)).zip(&mut into.norms).zip(into.sums.chunks_exact_mut(stored));
        for (((&[max, sum], sums), norm), totals) in each {
            if sum == 0.0 {
                continue;
            }
            if norm[1] == 0.0 {
                *norm = [max, sum];
                totals.copy_from_slice(sums);
                continue;
            }
            let largest = if max > norm[0] { max } else { norm[0] };
            // SAFETY: the chunks are whole registers; the instructions are the caller's promise.
            unsafe {
                let (a, b) = (exp(V::splat(norm[0] - largest)), exp(V::splat(max - largest)));
                *norm = [largest, V::splat(norm[1]).mul(a).lanes()[0] + V::splat(sum).mul(b).lanes()[0]];
                for (total, sum) in totals.chunks_exact_mut(LANES).zip(sums.chunks_exact(LANES)) {
                    V::load(sum.as_ptr()).fma(b, V::load(total.as_ptr()).mul(a)).store(total.as_mut_ptr());
                }
            }
        }
    }
}

/// One key-value head of a block, over one span.
struct Piece<'a> {
    shape: Shape,
    block: &'a Block<'a>,
    head: usize,
    /// The block's vectors as [`Block::pack`] puts them.
    q: &'a [f32],
    span: usize,
    scores: &'a mut Vec<f32>,
    partial: &'a mut Partial,
}

impl Kernel for Piece<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<V: F32x16>(self) {
        let Self { shape, block, head, q, span, scores, partial } = self;
        let (d, stored, group) = (shape.head_dim, shape.stored_dim(), shape.group());
        let vectors = block.queries.len() * group;
        partial.clear(vectors, stored);
        scores.resize(vectors * STRIDE, 0.0);
        let first = span * SPAN;
        let tile_of = |tile: usize| tile * shape.kv_heads + head;
        block.each_part(|members, part, index| {
            each_tile(&block.queries[members.clone()], part, index, first, |tile, at| {
                let keys = &part.kv.keys[tile_of(tile) * d * TILE..][..d * TILE];
                // A head's tiles lie apart, which the processor's own prefetching does not follow.
                prefetch(&part.kv.keys, tile_of(tile + AHEAD) * d * TILE, d * TILE);
                prefetch(&part.kv.values, tile_of(tile) * TILE * stored, TILE * stored);
                // The tile's places that belong to the part and to the span.
                let from = (part.start as isize - (tile * TILE) as isize).max(-at).max(0) as usize;
                let to = (part.end - tile * TILE).min(TILE).min((SPAN as isize - at) as usize);
                let place = Place { at, from, to };
                let all = members.start * group..members.end * group;
                // SAFETY: `keys` is a whole tile; the instructions are the caller's promise.
                unsafe { score_tile::<V>(keys, all, q, scores, &place) };
            });
        });
        for (index, norm) in partial.norms.iter_mut().enumerate() {
            let visible = block.queries[index / group].within(span);
            if !visible.is_empty() {
                // SAFETY: the instructions are the caller's promise.
                *norm = unsafe { softmax::<V>(&mut scores[index * STRIDE..][..SPAN], visible, shape) };
            }
        }
        block.each_part(|members, part, index| {
            each_tile(&block.queries[members.clone()], part, index, first, |tile, at| {
                let values = &part.kv.values[tile_of(tile) * TILE * stored..][..TILE * stored];
                let low = (part.start as isize - (tile * TILE) as isize).max(-at).max(0);
                let high = ((part.end - tile * TILE).min(TILE) as isize).min(SPAN as isize - at);
                let seen = |member: usize| {
                    let visible = block.queries[member].within(span);
                    let (from, to) = ((visible.start as isize - at).max(low), (visible.end as isize - at).min(high));
                    from as usize..to.max(from) as usize
                };
                // Queries that see the same keys of the tile go together; a masked key is not even multiplied by zero.
                let mut start = members.start;
                while start < members.end {
                    let keys = seen(start);
                    let count = (start..members.end).take_while(|&member| seen(member) == keys).count();
                    let run = start * group..(start + count) * group;
                    start += count;
                    let weights = |vector: usize| {
                        // SAFETY: the visible keys of the tile lie inside the span, so these places are inside `scores`.
                        unsafe { scores.as_ptr().offset((vector * STRIDE) as isize + at) }
                    };
                    // SAFETY: as said; `values` is a whole tile; the instructions are the caller's promise.
                    unsafe { value_tile::<V>(values, stored, keys, run, &weights, &mut partial.sums) };
                }
            });
        });
    }
}

/// Asks for `len` numbers from `start` on, as far as there are any.
#[inline(always)]
fn prefetch(numbers: &[f16], start: usize, len: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in numbers.get(start..start + len).unwrap_or_default().chunks(LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: the address is inside the slice, and a prefetch reads nothing that the program could see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (numbers, start, len);
}

/// The tiles of a part that some query sees in the span that begins at `first`: the tile's number, and where its first place lies
/// from there (it may lie before the span, and before the part).
#[inline(always)]
fn each_tile(queries: &[Query<'_>], part: Part<'_>, index: usize, first: usize, mut visit: impl FnMut(usize, isize)) {
    let start = queries.iter().map(|query| query.start).min().unwrap_or(0).max(first).max(index);
    let end = queries.iter().map(|query| query.end).max().unwrap_or(0).min(first + SPAN).min(index + part.len());
    if start >= end {
        return;
    }
    // Places in the stored tokens.
    let (from, to) = (part.start + start - index, part.start + end - index);
    for tile in from / TILE..to.div_ceil(TILE) {
        visit(tile, (tile * TILE) as isize - part.start as isize + index as isize - first as isize);
    }
}
