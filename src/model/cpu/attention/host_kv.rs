//! The KV cache of one layer in host memory: f16 in the order that attention reads, and int8 copies
//! of whole spans for distant queries.
//!
//! Contract: appended keys and values never change. A span's int8 copy is made once, by the first
//! query that needs it, and does not depend on how the cache is segmented. A span within one
//! segment caches its copy; a span that crosses segments is quantized each time.

use std::sync::OnceLock;

use half::f16;

use super::super::Isa;
use super::super::aligned::AlignedVec;
use super::super::simd::{F32x16, Kernel, LANES, run};
use super::int8_kv::{F16Span, Int8Span, QuantizeSpan};

/// Tokens per tile.
pub(super) const TILE: usize = LANES;
/// Tokens per span: one softmax is computed over a span. Small enough that a block's scores stay in
/// the L1 cache.
pub(super) const SPAN: usize = 256;

/// Shape of a model's attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Query heads.
    pub heads: usize,
    /// Key-value heads.
    pub kv_heads: usize,
    /// Dimensions of a head.
    pub head_dim: usize,
    /// Factor of the dot product of query and key.
    pub scale: f32,
    /// `c` of `c * tanh(score / c)`.
    pub soft_cap: Option<f32>,
}

impl Shape {
    /// Query heads per key-value head.
    pub(super) fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Dimensions of a stored value, padded to whole registers.
    pub(super) fn stored_dim(&self) -> usize {
        self.head_dim.next_multiple_of(LANES)
    }
}

/// Keys and values of one layer for consecutive tokens.
#[derive(Clone, Debug, Default)]
pub struct HostKv {
    /// `[tiles, kv_heads, head_dim, TILE]`; padding is zero.
    pub(super) keys: AlignedVec<f16>,
    /// `[tiles, kv_heads, TILE, stored_dim]`; padding is zero.
    pub(super) values: AlignedVec<f16>,
    len: usize,
    /// Offset of the first cached int8 span, modulo the span length. Set by the first query that
    /// needs one.
    span_phase: OnceLock<usize>,
    /// `[spans, kv_heads]`: made when a query first attends to the span in int8.
    int8_spans: Vec<OnceLock<Int8Span>>,
}

impl HostKv {
    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends tokens: `k` and `v` are `[new, kv_heads * head_dim]`. Values beyond f16's range
    /// become infinite.
    ///
    /// # Panics
    /// If `k` and `v` differ in length or are not whole tokens.
    pub fn append(&mut self, isa: Isa, shape: Shape, k: &[f32], v: &[f32]) {
        let width = shape.kv_heads * shape.head_dim;
        assert!(
            k.len() == v.len() && k.len().is_multiple_of(width),
            "{} keys and {} values of width {width}",
            k.len(),
            v.len()
        );
        let tokens = k.len() / width;
        let tiles = (self.len + tokens).div_ceil(TILE);
        self.keys.resize(tiles * width * TILE);
        self.values.resize(tiles * shape.kv_heads * TILE * shape.stored_dim());
        run(isa, Append { kv: self, shape, k, v });
        self.len += tokens;
        self.int8_spans.resize_with(self.len / SPAN * shape.kv_heads, OnceLock::new);
    }

    /// The slot for the int8 copy of a head's keys and values over the span of tokens that starts
    /// at `first`. `None` if the span is not complete here, or spans start at another offset.
    fn int8_span(&self, shape: Shape, head: usize, first: usize) -> Option<&OnceLock<Int8Span>> {
        let span_phase = *self.span_phase.get_or_init(|| first % SPAN);
        (first % SPAN == span_phase && first + SPAN <= self.len)
            .then(|| self.int8_spans.get(first / SPAN * shape.kv_heads + head))
            .flatten()
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
        let mut half = [f16::ZERO; LANES];
        for (i, (k, v)) in k.chunks_exact(d).zip(v.chunks_exact(d)).enumerate() {
            let (token, head) = (kv.len + i / shape.kv_heads, i % shape.kv_heads);
            let (tile, lane) = (token / TILE * shape.kv_heads + head, token % TILE);
            let keys = &mut kv.keys[tile * d * TILE..][..d * TILE];
            let values = &mut kv.values[(tile * TILE + lane) * stored..][..stored];
            for at in (0..d).step_by(LANES) {
                let count = LANES.min(d - at);
                // SAFETY: k and v have `count` values left; `half` and the rest of the value's row
                // have room for 16.
                unsafe {
                    V::load_partial(k[at..].as_ptr(), count).store_half(half.as_mut_ptr());
                    V::load_partial(v[at..].as_ptr(), count)
                        .store_half(values[at..at + LANES].as_mut_ptr());
                }
                for (place, &x) in keys[at * TILE..].chunks_exact_mut(TILE).zip(&half[..count]) {
                    place[lane] = x;
                }
            }
        }
    }
}

/// A visible range of one layer's stored tokens.
#[derive(Clone, Copy, Debug)]
pub struct KvRange<'a> {
    /// The tokens.
    pub kv: &'a HostKv,
    /// First visible token.
    pub start: usize,
    /// End of the visible tokens.
    pub end: usize,
}

impl KvRange<'_> {
    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        std::ptr::eq(self.kv, other.kv) && (self.start, self.end) == (other.start, other.end)
    }
}

/// Quantizes spans to int8; holds the result for spans that no segment can cache.
#[derive(Default)]
pub(super) struct SpanQuantizer {
    f16_span: F16Span,
    int8: Int8Span,
}

impl SpanQuantizer {
    /// The int8 copy of a head's keys and values over the span of cache indices that starts at
    /// `first`. The whole span must be visible.
    pub(super) fn int8_span<'a>(
        &'a mut self,
        isa: Isa,
        shape: Shape,
        head: usize,
        ranges: &[KvRange<'a>],
        first: usize,
    ) -> &'a Int8Span {
        let Self { f16_span, int8 } = self;
        if let Some(cached) = cached_int8(shape, head, ranges, first) {
            return cached.get_or_init(|| {
                let mut int8 = Int8Span::default();
                f16_span.gather(shape, head, ranges, first);
                run(isa, QuantizeSpan { shape, from: f16_span, into: &mut int8 });
                int8
            });
        }
        f16_span.gather(shape, head, ranges, first);
        run(isa, QuantizeSpan { shape, from: f16_span, into: int8 });
        int8
    }
}

/// The slot for the cached int8 copy of a span (see [`SpanQuantizer::int8_span`]). `None` if the
/// span crosses ranges, or the range's cached spans start at another offset.
pub(super) fn cached_int8<'a>(
    shape: Shape,
    head: usize,
    ranges: &[KvRange<'a>],
    first: usize,
) -> Option<&'a OnceLock<Int8Span>> {
    let mut index = 0;
    for range in ranges {
        if index <= first && first + SPAN <= index + range.len() {
            return range.kv.int8_span(shape, head, range.start + first - index);
        }
        index += range.len();
    }
    None
}

impl F16Span {
    /// Gathers a head's keys and values of the span of cache indices that starts at `first`.
    fn gather(&mut self, shape: Shape, head: usize, ranges: &[KvRange<'_>], first: usize) {
        let (d, stored) = (shape.head_dim, shape.stored_dim());
        self.keys.resize(SPAN * d);
        self.values.resize(SPAN * stored);
        let mut index = 0;
        for range in ranges {
            // The first token to copy within the range, and its destination in the span.
            let (start, end) = (first.max(index), (first + SPAN).min(index + range.len()));
            let (mut token, mut to) =
                ((range.start + start).wrapping_sub(index), start.wrapping_sub(first));
            index += range.len();
            while start < end && to < end - first {
                let (tile, lane) = (token / TILE * shape.kv_heads + head, token % TILE);
                let count = (TILE - lane).min(TILE - to % TILE).min(end - first - to);
                let keys = &range.kv.keys[tile * d * TILE..][..d * TILE];
                let places = &mut self.keys[to / TILE * d * TILE..][..d * TILE];
                for (place, keys) in places.chunks_exact_mut(TILE).zip(keys.chunks_exact(TILE)) {
                    place[to % TILE..][..count].copy_from_slice(&keys[lane..][..count]);
                }
                let values = &range.kv.values[(tile * TILE + lane) * stored..][..count * stored];
                self.values[to * stored..][..count * stored].copy_from_slice(values);
                (token, to) = (token + count, to + count);
            }
        }
    }
}
