//! Which queries go through the cache together: consecutive ones whose caches begin alike.
//!
//! What is decided here never changes a result: see the contract of `attention.rs`.

#![allow(clippy::inline_always)] // What is not inlined into a function with the instructions is compiled without them.

use std::ops::Range;

use super::super::Isa;
use super::super::aligned::Lines;
use super::super::simd::{LANES, run};
use super::host_kv::{Part, SPAN, Shape, TILE, kept};
use super::int8_attention::is_distant;
use super::int8_kv::{Codes, EncodeQueries, QueryCodes};

/// Spans that are merged with each other before they are with those before them: one piece of work,
/// whose sums stay in the first-level cache. The first span is a group of its own, since it takes
/// longest.
const GROUP: usize = 2;

/// The group that a span belongs to.
fn group_of(span: usize) -> usize {
    span.div_ceil(GROUP)
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
    pub(super) fn same_row(&self, other: &Self) -> bool {
        std::ptr::eq(self.parts, other.parts)
    }

    /// Whether it meets the span in codes.
    pub(super) fn is_distant_to(&self, span: usize) -> bool {
        is_distant(span, self.start, self.end)
    }

    /// The indices of a span that it meets in half precision, counted from its start.
    pub(super) fn within(&self, span: usize) -> Range<usize> {
        if self.is_distant_to(span) {
            return 0..0;
        }
        let first = span * SPAN;
        self.start.clamp(first, first + SPAN) - first..self.end.clamp(first, first + SPAN) - first
    }
}

/// Consecutive queries that go through the cache together.
pub(super) struct Block<'a> {
    /// Index of the first query.
    pub first: usize,
    pub queries: &'a [Query<'a>],
    /// Parts at the beginning of all their caches that are the same.
    pub shared: usize,
}

impl<'a> Block<'a> {
    /// Cuts the queries into blocks of at most `most`, whose caches begin alike.
    pub(super) fn cut(queries: &'a [Query<'a>], most: usize) -> Vec<Self> {
        let mut blocks = Vec::with_capacity(queries.len().div_ceil(most));
        let alike = |a: &Query<'_>, b: &Query<'_>| {
            a.same_row(b) || a.parts.first().zip(b.parts.first()).is_some_and(|(a, b)| a.is(b))
        };
        let mut first = 0;
        while first < queries.len() {
            let rest = &queries[first..];
            let count = rest.iter().take(most).take_while(|query| alike(query, &rest[0])).count();
            let members = &rest[..count];
            let same = |at: usize| {
                members.iter().all(|query| {
                    query.parts.get(at).is_some_and(|part| part.is(&members[0].parts[at]))
                })
            };
            let shared = (0..members[0].parts.len()).take_while(|&at| same(at)).count();
            blocks.push(Self { first, queries: members, shared });
            first += count;
        }
        blocks
    }

    /// A vector of one key-value head, `[head_dim]`.
    #[inline(always)]
    fn vector<'q>(&self, shape: Shape, head: usize, q: &'q [f32], index: usize) -> &'q [f32] {
        let (d, group) = (shape.head_dim, shape.group());
        let from = ((self.first + index / group) * shape.heads + head * group + index % group) * d;
        &q[from..from + d]
    }

    /// Makes the vectors of one key-value head ready for the spans that their queries see.
    pub(super) fn pack(&self, isa: Isa, shape: Shape, head: usize, q: &[f32], out: &mut Packed) {
        let (d, vectors) = (shape.head_dim, self.queries.len() * shape.group());
        out.vectors.resize(vectors.next_multiple_of(LANES) * d);
        for index in 0..vectors {
            let places =
                out.vectors[index / LANES * LANES * d + index % LANES..].iter_mut().step_by(LANES);
            places.zip(self.vector(shape, head, q, index)).for_each(|(place, &x)| *place = x);
        }
        if self.spans().any(|span| self.queries.iter().any(|query| query.is_distant_to(span))) {
            run(
                isa,
                EncodeQueries {
                    shape,
                    vectors,
                    vector: |index| self.vector(shape, head, q, index),
                    into: &mut out.codes,
                },
            );
        }
    }

    /// The spans that some query sees.
    pub(super) fn spans(&self) -> Range<usize> {
        let start = self.queries.iter().map(|query| query.start).min().unwrap_or(0);
        let end = self.queries.iter().map(|query| query.end).max().unwrap_or(0);
        start / SPAN..end.div_ceil(SPAN)
    }

    /// The groups of the spans that some query sees.
    pub(super) fn groups(&self) -> Range<usize> {
        let spans = self.spans();
        if spans.is_empty() { 0..0 } else { group_of(spans.start)..group_of(spans.end - 1) + 1 }
    }

    /// The spans of a group that some query sees.
    pub(super) fn spans_of(&self, group: usize) -> Range<usize> {
        let (spans, end) = (self.spans(), group * GROUP + 1);
        spans.start.max(end.saturating_sub(GROUP))..spans.end.min(end)
    }

    /// The codes of a span, if they are kept and have been made.
    pub(super) fn kept(&self, shape: Shape, head: usize, span: usize) -> Option<&'a Codes> {
        kept(shape, head, self.queries[0].parts, span * SPAN)?.get()
    }

    /// Every part of the queries' caches: the queries (as indices of the block), the part, its
    /// first cache index, and, of parts that are not shared, the one of the same number in the next
    /// row's cache, if there is one.
    #[inline(always)]
    pub(super) fn each_part(
        &self,
        mut visit: impl FnMut(Range<usize>, Part<'a>, usize, Option<Part<'a>>),
    ) {
        let Some(first) = self.queries.first() else { return };
        let mut index = 0;
        for part in &first.parts[..self.shared] {
            visit(0..self.queries.len(), *part, index, None);
            index += part.len();
        }
        let mut at = 0;
        while at < self.queries.len() {
            let row = &self.queries[at];
            let count = self.queries[at..].iter().take_while(|query| query.same_row(row)).count();
            let mut index = index;
            for (number, part) in row.parts.iter().enumerate().skip(self.shared) {
                visit(
                    at..at + count,
                    *part,
                    index,
                    self.queries.get(at + count).and_then(|next| next.parts.get(number)).copied(),
                );
                index += part.len();
            }
            at += count;
        }
    }
}

/// A block's query vectors of one key-value head.
#[derive(Default)]
pub(super) struct Packed {
    /// `[vectors / 16, head_dim, 16]`: side by side, so that their numbers have one address. Free
    /// places hold what they held.
    pub vectors: Lines<f32>,
    /// For distant spans; of an earlier block where there are none.
    pub codes: QueryCodes,
}

/// The tiles of a part that some query sees in the span that begins at `first`: the tile's number,
/// and where its first place lies from there (it may lie before the span, and before the part).
#[inline(always)]
pub(super) fn each_tile(
    queries: &[Query<'_>],
    part: Part<'_>,
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
        .min(index + part.len());
    if start >= end {
        return;
    }
    // Places in the stored tokens.
    let (from, to) = (part.start + start - index, part.start + end - index);
    for tile in from / TILE..to.div_ceil(TILE) {
        visit(tile, (tile * TILE) as isize - part.start as isize + index as isize - first as isize);
    }
}
