//! Query blocks: consecutive queries whose caches share a prefix go through the cache together.
//!
//! How queries are blocked never changes a result: see the contract of `attention/mod.rs`.

use std::ops::Range;

use super::super::Isa;
use super::super::aligned::AlignedVec;
use super::super::simd::{LANES, run};
use super::host_kv::{KvRange, SPAN, Shape, TILE, cached_int8};
use super::int8_attention::span_uses_int8;
use super::int8_kv::{Int8Queries, Int8Span, QuantizeQueries};

/// Spans per group. The spans of a group are merged with each other before they are merged with
/// earlier groups. A group is one unit of work, small enough that its sums stay in the L1 cache.
/// The first span is a group of its own, because it takes longest (it is always f16).
const SPANS_PER_GROUP: usize = 2;

/// The group of a span.
fn group_of(span: usize) -> usize {
    span.div_ceil(SPANS_PER_GROUP)
}

/// One new token of one row.
#[derive(Clone, Debug)]
pub struct Query<'a> {
    /// The row's cache in order, including the query's own key.
    pub ranges: &'a [KvRange<'a>],
    /// First visible cache index.
    pub start: usize,
    /// End of the visible cache indices.
    pub end: usize,
}

impl Query<'_> {
    pub(super) fn same_row(&self, other: &Self) -> bool {
        std::ptr::eq(self.ranges, other.ranges)
    }

    /// Whether this query attends to the span in int8.
    pub(super) fn uses_int8(&self, span: usize) -> bool {
        span_uses_int8(span, self.start, self.end)
    }

    /// The visible indices of a span that this query attends to in f16, relative to the span's
    /// start.
    pub(super) fn f16_range(&self, span: usize) -> Range<usize> {
        if self.uses_int8(span) {
            return 0..0;
        }
        let first = span * SPAN;
        self.start.clamp(first, first + SPAN) - first..self.end.clamp(first, first + SPAN) - first
    }
}

/// Consecutive queries that go through the cache together.
pub(super) struct QueryBlock<'a> {
    /// Index of the first query.
    pub first: usize,
    pub queries: &'a [Query<'a>],
    /// Number of leading cache ranges that all queries share.
    pub shared: usize,
}

impl<'a> QueryBlock<'a> {
    /// Splits the queries into blocks of at most `max_queries` whose caches share a prefix.
    pub(super) fn split(queries: &'a [Query<'a>], max_queries: usize) -> Vec<Self> {
        let mut blocks = Vec::with_capacity(queries.len().div_ceil(max_queries));
        let share_prefix = |a: &Query<'_>, b: &Query<'_>| {
            a.same_row(b) || a.ranges.first().zip(b.ranges.first()).is_some_and(|(a, b)| a.is(b))
        };
        let mut first = 0;
        while first < queries.len() {
            let rest = &queries[first..];
            let count = rest
                .iter()
                .take(max_queries)
                .take_while(|query| share_prefix(query, &rest[0]))
                .count();
            let members = &rest[..count];
            let same = |at: usize| {
                members.iter().all(|query| {
                    query.ranges.get(at).is_some_and(|range| range.is(&members[0].ranges[at]))
                })
            };
            let shared = (0..members[0].ranges.len()).take_while(|&at| same(at)).count();
            blocks.push(Self { first, queries: members, shared });
            first += count;
        }
        blocks
    }

    /// One query vector of a key-value head, `[head_dim]`.
    #[inline(always)]
    fn vector<'q>(&self, shape: Shape, head: usize, q: &'q [f32], index: usize) -> &'q [f32] {
        let (d, group) = (shape.head_dim, shape.group());
        let from = ((self.first + index / group) * shape.heads + head * group + index % group) * d;
        &q[from..from + d]
    }

    /// Packs the query vectors of one key-value head, and quantizes them if any span needs int8.
    pub(super) fn pack(
        &self,
        isa: Isa,
        shape: Shape,
        head: usize,
        q: &[f32],
        out: &mut PackedQueries,
    ) {
        let (d, vectors) = (shape.head_dim, self.queries.len() * shape.group());
        out.vectors.resize(vectors.next_multiple_of(LANES) * d);
        for index in 0..vectors {
            let places =
                out.vectors[index / LANES * LANES * d + index % LANES..].iter_mut().step_by(LANES);
            places.zip(self.vector(shape, head, q, index)).for_each(|(place, &x)| *place = x);
        }
        if self.spans().any(|span| self.queries.iter().any(|query| query.uses_int8(span))) {
            run(
                isa,
                QuantizeQueries {
                    shape,
                    vectors,
                    vector: |index| self.vector(shape, head, q, index),
                    into: &mut out.int8,
                },
            );
        }
    }

    /// The spans that at least one query sees.
    pub(super) fn spans(&self) -> Range<usize> {
        let start = self.queries.iter().map(|query| query.start).min().unwrap_or(0);
        let end = self.queries.iter().map(|query| query.end).max().unwrap_or(0);
        start / SPAN..end.div_ceil(SPAN)
    }

    /// The groups of the spans that at least one query sees.
    pub(super) fn groups(&self) -> Range<usize> {
        let spans = self.spans();
        if spans.is_empty() { 0..0 } else { group_of(spans.start)..group_of(spans.end - 1) + 1 }
    }

    /// The spans of a group that at least one query sees.
    pub(super) fn spans_of(&self, group: usize) -> Range<usize> {
        let (spans, end) = (self.spans(), group * SPANS_PER_GROUP + 1);
        spans.start.max(end.saturating_sub(SPANS_PER_GROUP))..spans.end.min(end)
    }

    /// The int8 form of a span, if it is cacheable and already made.
    pub(super) fn cached_int8(
        &self,
        shape: Shape,
        head: usize,
        span: usize,
    ) -> Option<&'a Int8Span> {
        cached_int8(shape, head, self.queries[0].ranges, span * SPAN)?.get()
    }

    /// Calls `visit` for every range of the queries' caches, with: the queries (indices in the
    /// block), the range, its first cache index, and, for a range that is not shared, the range of
    /// the same number in the next row's cache, if any.
    #[inline(always)]
    pub(super) fn for_each_range(
        &self,
        mut visit: impl FnMut(Range<usize>, KvRange<'a>, usize, Option<KvRange<'a>>),
    ) {
        let Some(first) = self.queries.first() else { return };
        let mut index = 0;
        for range in &first.ranges[..self.shared] {
            visit(0..self.queries.len(), *range, index, None);
            index += range.len();
        }
        let mut at = 0;
        while at < self.queries.len() {
            let row = &self.queries[at];
            let count = self.queries[at..].iter().take_while(|query| query.same_row(row)).count();
            let mut index = index;
            for (number, range) in row.ranges.iter().enumerate().skip(self.shared) {
                visit(
                    at..at + count,
                    *range,
                    index,
                    self.queries.get(at + count).and_then(|next| next.ranges.get(number)).copied(),
                );
                index += range.len();
            }
            at += count;
        }
    }
}

/// A block's query vectors of one key-value head.
#[derive(Default)]
pub(super) struct PackedQueries {
    /// `[vectors / 16, head_dim, 16]`: interleaved, so that sixteen vectors' values of one
    /// dimension are contiguous. Padding keeps stale values.
    pub vectors: AlignedVec<f32>,
    /// The vectors in int8. Stale if no span needs them.
    pub int8: Int8Queries,
}

/// Calls `visit` for each tile of a range that some query sees within the span that starts at
/// `first`: with the tile's number, and the offset of the tile's first token from the start of the
/// span (negative if the tile starts before the span or the range).
#[inline(always)]
pub(super) fn for_each_tile(
    queries: &[Query<'_>],
    range: KvRange<'_>,
    index: usize,
    first: usize,
    mut visit: impl FnMut(usize, isize),
) {
    let start = queries.iter().map(|query| query.start).min().unwrap_or(0).max(first).max(index);
    let end = queries
        .iter()
        .map(|query| query.end)
        .max()
        .unwrap_or(0)
        .min(first + SPAN)
        .min(index + range.len());
    if start >= end {
        return;
    }
    // Indices of stored tokens.
    let (from, to) = (range.start + start - index, range.start + end - index);
    for tile in from / TILE..to.div_ceil(TILE) {
        visit(
            tile,
            (tile * TILE) as isize - range.start as isize + index as isize - first as isize,
        );
    }
}
