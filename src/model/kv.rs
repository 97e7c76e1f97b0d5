//! The KV cache of one sequence: a chain of shared, immutable segments and a growing tail.
//!
//! A frozen [`Segment`] is never written again, so a fork only copies references. A cache index is
//! not a position: dropping tokens shortens the cache and keeps every position.

use std::ops::Range;
use std::sync::Arc;

use candle_core::Tensor;

use super::cpu::Isa;
use super::cpu::attention::{HostKv, Shape};
use crate::error::{Error, Result};

/// Keys and values as tensors of the device, each `[tokens, key-value heads * head_dim]`.
#[derive(Clone, Debug)]
pub struct TensorKv {
    /// Rotated keys.
    pub k: Tensor,
    /// Values.
    pub v: Tensor,
}

impl TensorKv {
    fn narrow(&self, start: usize, len: usize) -> Result<Self> {
        Ok(Self { k: self.k.narrow(0, start, len)?, v: self.v.narrow(0, start, len)? })
    }

    fn cat(parts: &[Self]) -> Result<Self> {
        if let [one] = parts {
            return Ok(one.clone());
        }
        let (k, v): (Vec<_>, Vec<_>) = parts.iter().map(|p| (&p.k, &p.v)).unzip();
        Ok(Self { k: Tensor::cat(&k, 0)?, v: Tensor::cat(&v, 0)? })
    }
}

/// Keys and values of one layer. Keys are already rotated.
#[derive(Debug)]
enum LayerKv {
    /// On a device.
    Tensors(TensorKv),
    /// In half precision, in the order that the CPU's attention reads.
    Host(HostKv),
}

/// Consecutive tokens' keys and values, frozen.
#[derive(Debug)]
pub struct Segment {
    first_position: usize,
    layers: Vec<LayerKv>,
}

/// The visible part of a segment.
#[derive(Clone, Debug)]
pub struct View {
    segment: Arc<Segment>,
    visible: Range<usize>,
}

impl View {
    fn len(&self) -> usize {
        self.visible.len()
    }

    fn positions(&self) -> Range<usize> {
        let first = self.segment.first_position;
        first + self.visible.start..first + self.visible.end
    }

    /// The part of this view in `range` of its own indices.
    fn slice(&self, range: Range<usize>) -> Self {
        Self {
            segment: Arc::clone(&self.segment),
            visible: self.visible.start + range.start..self.visible.start + range.end,
        }
    }
}

#[derive(Debug)]
struct Tail {
    first_position: usize,
    len: usize,
    layers: Vec<Option<LayerKv>>,
}

impl Tail {
    fn new(layers: usize, first_position: usize) -> Self {
        Self { first_position, len: 0, layers: (0..layers).map(|_| None).collect() }
    }
}

/// One token sequence's cache.
#[derive(Debug)]
pub struct KvSeq {
    chain: Vec<View>,
    tail: Tail,
}

impl KvSeq {
    /// An empty cache for `layers` layers.
    pub fn new(layers: usize) -> Self {
        Self { chain: Vec::new(), tail: Tail::new(layers, 0) }
    }

    /// A cache that starts as the given views, in order of position.
    pub fn from_views(layers: usize, chain: Vec<View>) -> Self {
        let next = chain.last().map_or(0, |view| view.positions().end);
        Self { chain, tail: Tail::new(layers, next) }
    }

    /// Number of cached tokens.
    pub fn len(&self) -> usize {
        self.chain.iter().map(View::len).sum::<usize>() + self.tail.len
    }

    /// Whether nothing is cached.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The position that the next token takes.
    pub fn next_position(&self) -> usize {
        self.tail.first_position + self.tail.len
    }

    /// Appends keys and values of new tokens to one layer. [`Self::advance`] counts them once every
    /// layer has them.
    ///
    /// # Errors
    /// The tensor backend's error.
    pub fn append(&mut self, layer: usize, new: TensorKv) -> Result<()> {
        let slot = &mut self.tail.layers[layer];
        *slot = Some(LayerKv::Tensors(match slot.take() {
            Some(LayerKv::Tensors(old)) => TensorKv::cat(&[old, new])?,
            _ => new,
        }));
        Ok(())
    }

    /// As [`Self::append`], for the CPU's own attention: `k` and `v` are `[new, key-value heads *
    /// head_dim]`.
    pub fn append_host(&mut self, layer: usize, isa: Isa, shape: Shape, k: &[f32], v: &[f32]) {
        let slot = &mut self.tail.layers[layer];
        if !matches!(slot, Some(LayerKv::Host(_))) {
            *slot = Some(LayerKv::Host(HostKv::default()));
        }
        if let Some(LayerKv::Host(kv)) = slot {
            kv.append(isa, shape, k, v);
        }
    }

    /// Adds `tokens` to the length, after every layer has appended them.
    pub fn advance(&mut self, tokens: usize) {
        self.tail.len += tokens;
    }

    /// All keys and values of a layer in cache order, including those appended but not yet counted.
    ///
    /// # Errors
    /// The tensor backend's error.
    pub fn gather(&self, layer: usize) -> Result<TensorKv> {
        let mut parts = Vec::with_capacity(self.chain.len() + 1);
        for view in &self.chain {
            if let LayerKv::Tensors(kv) = &view.segment.layers[layer] {
                parts.push(kv.narrow(view.visible.start, view.len())?);
            }
        }
        if let Some(LayerKv::Tensors(kv)) = &self.tail.layers[layer] {
            parts.push(kv.clone());
        }
        TensorKv::cat(&parts)
    }

    /// Visits what [`Self::append_host`] stored for a layer with its visible tokens, in cache
    /// order; including those appended but not yet counted.
    pub fn for_each_host_range<'a>(
        &'a self,
        layer: usize,
        mut visit: impl FnMut(&'a HostKv, Range<usize>),
    ) {
        for view in &self.chain {
            if let LayerKv::Host(kv) = &view.segment.layers[layer] {
                visit(kv, view.visible.clone());
            }
        }
        if let Some(LayerKv::Host(kv)) = &self.tail.layers[layer] {
            visit(kv, 0..kv.len());
        }
    }

    /// The first cache index whose position is at least `position`.
    pub fn first_index_at(&self, position: usize) -> usize {
        let mut index = 0;
        for view in &self.chain {
            let positions = view.positions();
            if position < positions.end {
                return index + position.saturating_sub(positions.start);
            }
            index += view.len();
        }
        index + position.saturating_sub(self.tail.first_position)
    }

    /// Moves the tail into the shared chain.
    pub fn freeze(&mut self) {
        if self.tail.len == 0 {
            return;
        }
        let next = Tail::new(self.tail.layers.len(), self.next_position());
        let tail = std::mem::replace(&mut self.tail, next);
        let segment = Segment {
            first_position: tail.first_position,
            layers: tail.layers.into_iter().flatten().collect(),
        };
        self.chain.push(View { segment: Arc::new(segment), visible: 0..tail.len });
    }

    /// A second sequence with the same cache. The tail is frozen and shared; nothing is copied.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        self.freeze();
        Self {
            chain: self.chain.clone(),
            tail: Tail::new(self.tail.layers.len(), self.tail.first_position),
        }
    }

    /// The views of the first `len` cached tokens; the tail is frozen first.
    pub fn prefix(&mut self, len: usize) -> Vec<View> {
        self.freeze();
        slice_chain(&self.chain, 0..len)
    }

    /// Drops all but the first `len` cached tokens. The next token takes the position after the
    /// last one kept.
    ///
    /// # Errors
    /// A usage error when fewer are cached.
    pub fn truncate(&mut self, len: usize) -> Result<()> {
        self.check_range(&(0..len))?;
        *self = Self::from_views(self.tail.layers.len(), self.prefix(len));
        Ok(())
    }

    /// Drops the cached tokens in `range` (cache indices). Positions do not change, nor does the
    /// next token's.
    ///
    /// # Errors
    /// A usage error when the range is not cached.
    pub fn drop_range(&mut self, range: Range<usize>) -> Result<()> {
        self.check_range(&range)?;
        self.freeze();
        let mut kept = slice_chain(&self.chain, 0..range.start);
        kept.extend(slice_chain(&self.chain, range.end..self.len()));
        self.chain = kept;
        Ok(())
    }

    fn check_range(&self, range: &Range<usize>) -> Result<()> {
        if range.start > range.end || range.end > self.len() {
            return Err(Error::usage(format!(
                "cache range {range:?} is outside the {} cached tokens",
                self.len()
            )));
        }
        Ok(())
    }
}

/// The part of a chain in `range` of its cache indices; empty views are left out.
pub fn slice_chain(chain: &[View], range: Range<usize>) -> Vec<View> {
    let mut first = 0;
    let mut out = Vec::new();
    for view in chain {
        let start = range.start.clamp(first, first + view.len()) - first;
        let end = range.end.clamp(first, first + view.len()) - first;
        if start < end {
            out.push(view.slice(start..end));
        }
        first += view.len();
    }
    out
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// One layer whose key and value at each token are the token's number.
    fn push(kv: &mut KvSeq, numbers: &[f32]) {
        let t = Tensor::new(numbers, &Device::Cpu).unwrap().reshape(((), 1)).unwrap();
        kv.append(0, TensorKv { k: t.clone(), v: t }).unwrap();
        kv.advance(numbers.len());
    }

    fn keys(kv: &KvSeq) -> Vec<f32> {
        kv.gather(0).unwrap().k.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn forks_share_the_past_and_not_the_future() {
        let mut a = KvSeq::new(1);
        push(&mut a, &[0.0, 1.0]);
        let mut b = a.fork();
        push(&mut a, &[2.0]);
        push(&mut b, &[3.0, 4.0]);
        assert_eq!((keys(&a), keys(&b)), (vec![0.0, 1.0, 2.0], vec![0.0, 1.0, 3.0, 4.0]));
        assert_eq!((a.next_position(), b.next_position()), (3, 4));
    }

    #[test]
    fn truncate_rewinds_positions_and_drop_keeps_them() {
        let check = |edit: fn(&mut KvSeq), expected: &[f32], next: usize| {
            let mut kv = KvSeq::new(1);
            push(&mut kv, &[0.0, 1.0, 2.0]);
            kv.freeze();
            push(&mut kv, &[3.0, 4.0]);
            edit(&mut kv);
            push(&mut kv, &[9.0]);
            assert_eq!(keys(&kv), expected);
            assert_eq!(kv.next_position(), next);
        };
        check(|kv| kv.truncate(4).unwrap(), &[0.0, 1.0, 2.0, 3.0, 9.0], 5);
        check(|kv| kv.truncate(2).unwrap(), &[0.0, 1.0, 9.0], 3);
        check(|kv| kv.drop_range(1..4).unwrap(), &[0.0, 4.0, 9.0], 6);
        check(
            |kv| assert!(kv.truncate(6).is_err() && kv.drop_range(4..6).is_err()),
            &[0.0, 1.0, 2.0, 3.0, 4.0, 9.0],
            6,
        );
    }

    #[test]
    fn windows_go_by_position() {
        let mut kv = KvSeq::new(1);
        push(&mut kv, &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        kv.drop_range(1..4).unwrap();
        push(&mut kv, &[6.0]);
        // Kept positions: 0, 4, 5, 6 at indices 0..4.
        let check =
            |position, index| assert_eq!(kv.first_index_at(position), index, "position {position}");
        check(0, 0);
        check(1, 1);
        check(4, 1);
        check(5, 2);
        check(6, 3);
    }
}
