//! Keys and values of one layer, in the order that attention reads, and in 8 bits for distant
//! queries.
//!
//! Contract: what was appended stays as it is. Codes are made of whole spans of the cache, once,
//! when a query first asks, and are the same wherever the cache is cut; a span that lies in one
//! piece of the cache keeps them, one across a cut has them made every time.

#![allow(clippy::inline_always)] // What is not inlined into a function with the instructions is compiled without them.

use std::sync::OnceLock;

use half::f16;

use super::super::Isa;
use super::super::aligned::Lines;
use super::super::simd::{F32x16, Kernel, LANES, run};
use super::int8_kv::{Codes, Encode, Gathered};

/// Tokens of a tile.
pub(super) const TILE: usize = LANES;
/// Cache indices whose softmax is taken together. Small enough that a block's scores stay in the
/// first-level cache.
pub(super) const SPAN: usize = 256;

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
    pub(super) fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Dimensions of a stored value: whole registers.
    pub(super) fn stored_dim(&self) -> usize {
        self.head_dim.next_multiple_of(LANES)
    }
}

/// Keys and values of one layer for consecutive tokens.
#[derive(Clone, Debug, Default)]
pub struct HostKv {
    /// `[tiles, kv_heads, head_dim, TILE]`; free places are zero.
    pub(super) keys: Lines<f16>,
    /// `[tiles, kv_heads, TILE, stored_dim]`; free places are zero.
    pub(super) values: Lines<f16>,
    len: usize,
    /// Which tokens the spans of [`Self::codes`] begin with, modulo their length: the first query
    /// that asks decides.
    phase: OnceLock<usize>,
    /// `[spans, kv_heads]`: made when a query first meets the span in codes.
    codes: Vec<OnceLock<Codes>>,
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

    /// Appends tokens: `k` and `v` are `[new, kv_heads * head_dim]`. Numbers beyond f16's range
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
        self.codes.resize_with(self.len / SPAN * shape.kv_heads, OnceLock::new);
    }

    /// Where the codes of a head's keys and values are kept for the span of tokens that begins at
    /// `first`; `None` if the span is not whole here, or spans begin elsewhere.
    fn codes(&self, shape: Shape, head: usize, first: usize) -> Option<&OnceLock<Codes>> {
        let phase = *self.phase.get_or_init(|| first % SPAN);
        (first % SPAN == phase && first + SPAN <= self.len)
            .then(|| self.codes.get(first / SPAN * shape.kv_heads + head))
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
        let mut narrow = [f16::ZERO; LANES];
        for (i, (k, v)) in k.chunks_exact(d).zip(v.chunks_exact(d)).enumerate() {
            let (token, head) = (kv.len + i / shape.kv_heads, i % shape.kv_heads);
            let (tile, lane) = (token / TILE * shape.kv_heads + head, token % TILE);
            let keys = &mut kv.keys[tile * d * TILE..][..d * TILE];
            let values = &mut kv.values[(tile * TILE + lane) * stored..][..stored];
            for at in (0..d).step_by(LANES) {
                let count = LANES.min(d - at);
                // SAFETY: `count` numbers are left in k and v; `narrow` and what is left of the
                // value's place have room for 16.
                unsafe {
                    V::load_some(k[at..].as_ptr(), count).store_half(narrow.as_mut_ptr());
                    V::load_some(v[at..].as_ptr(), count)
                        .store_half(values[at..at + LANES].as_mut_ptr());
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
    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        std::ptr::eq(self.kv, other.kv) && (self.start, self.end) == (other.start, other.end)
    }
}

/// Codes of spans that no piece of the cache keeps.
#[derive(Default)]
pub(super) struct Encoder {
    gathered: Gathered,
    codes: Codes,
}

impl Encoder {
    /// The codes of a head's keys and values over the span of cache indices that begins at `first`;
    /// all of it must be there.
    pub(super) fn codes<'a>(
        &'a mut self,
        isa: Isa,
        shape: Shape,
        head: usize,
        parts: &[Part<'a>],
        first: usize,
    ) -> &'a Codes {
        let Self { gathered, codes } = self;
        if let Some(kept) = kept(shape, head, parts, first) {
            return kept.get_or_init(|| {
                let mut codes = Codes::default();
                gathered.take(shape, head, parts, first);
                run(isa, Encode { shape, from: gathered, into: &mut codes });
                codes
            });
        }
        gathered.take(shape, head, parts, first);
        run(isa, Encode { shape, from: gathered, into: codes });
        codes
    }
}

/// Where the codes of a span are kept: see [`Encoder::codes`]; `None` if it does not lie in one
/// part or that keeps other spans.
pub(super) fn kept<'a>(
    shape: Shape,
    head: usize,
    parts: &[Part<'a>],
    first: usize,
) -> Option<&'a OnceLock<Codes>> {
    let mut index = 0;
    for part in parts {
        if index <= first && first + SPAN <= index + part.len() {
            return part.kv.codes(shape, head, part.start + first - index);
        }
        index += part.len();
    }
    None
}

impl Gathered {
    /// Takes a head's keys and values of the span of the parts' indices that begins at `first`.
    fn take(&mut self, shape: Shape, head: usize, parts: &[Part<'_>], first: usize) {
        let (d, stored) = (shape.head_dim, shape.stored_dim());
        self.keys.resize(SPAN * d);
        self.values.resize(SPAN * stored);
        let mut index = 0;
        for part in parts {
            // Tokens of the part, and where the first of them goes.
            let (start, end) = (first.max(index), (first + SPAN).min(index + part.len()));
            let (mut token, mut to) =
                ((part.start + start).wrapping_sub(index), start.wrapping_sub(first));
            index += part.len();
            while start < end && to < end - first {
                let (tile, lane) = (token / TILE * shape.kv_heads + head, token % TILE);
                let count = (TILE - lane).min(TILE - to % TILE).min(end - first - to);
                let keys = &part.kv.keys[tile * d * TILE..][..d * TILE];
                let places = &mut self.keys[to / TILE * d * TILE..][..d * TILE];
                for (place, keys) in places.chunks_exact_mut(TILE).zip(keys.chunks_exact(TILE)) {
                    place[to % TILE..][..count].copy_from_slice(&keys[lane..][..count]);
                }
                let values = &part.kv.values[(tile * TILE + lane) * stored..][..count * stored];
                self.values[to * stored..][..count * stored].copy_from_slice(values);
                (token, to) = (token + count, to + count);
            }
        }
    }
}
