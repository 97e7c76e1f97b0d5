//! How a packed matrix lies in memory: the one place that the packing, the kernels and the row
//! reader agree on.
//!
//! Groups of [`ROWS`] output rows follow each other. Within a group, block-quantised types keep
//! three regions, each by block of
//! [`BLOCK`] inputs, rising: codes; scales; and, for the types with two levels of scales, the upper
//! level by [`SUPER`] inputs.
//!
//! Codes of one block: inputs go in eight runs of four. A line of 64 bytes holds one run of all 16
//! rows, four bytes a row, so that four broadcast activations meet 4 inputs of 8 or 16 rows in one
//! register. With `BITS` below 8 there are four lines of nibbles (line j: run j low, run j + 4
//! high), then the upper bits: at 5 bits one line (bit k of a byte belongs to run k), at 6 bits two
//! (line 0 the runs 0 to 3, two bits each, rising; line 1 the runs 4 to 7). Scales are rows-major
//! arrays of 16, as [`Scales`] says.
//!
//! Dense types (F32, F16, BF16) keep, for each input, the 16 rows' numbers side by side.

use crate::model::dtype::Dtype;

/// Output rows per group.
pub(super) const ROWS: usize = 16;
/// Inputs per block: the unit of scales and of quantised activations.
pub(super) const BLOCK: usize = 32;
/// Inputs per upper-level block.
pub(super) const SUPER: usize = 256;
/// How far ahead of the kernels weights are asked for, into the second-level cache: of 16 to 96, 48
/// was best or near it for every model. Asked into the first, they would queue for its few misses
/// at a time: a single stream was a quarter slower that way.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 48;
/// The same for dense types.
#[cfg(target_arch = "x86_64")]
const AHEAD_BYTES: usize = 4096;
/// Groups begin on cache lines.
pub(super) const LINE: usize = 64;

/// What scales the codes of a block; `u` is the code as stored. All arrays hold [`ROWS`] entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scales {
    /// `d (u - ZERO)`: f16 d.
    Plain,
    /// `d u + m`: f16 d, f16 m.
    Min,
    /// `d s u - e t`: u8 s, u8 t; above: f16 d, f16 e.
    SuperMin,
    /// `d s (u - ZERO)` with s per 16 inputs: i8 s of inputs 0 to 15, i8 s of 16 to 31; above: f16
    /// d.
    Super16,
    /// `d s u - e t` with s and t per 16 inputs: u8 s, s, t, t; above: f16 d, f16 e.
    Super16Min,
}

/// A block-quantised type as the kernels see it.
pub(super) trait Format {
    /// Bits of a code: 4, 5, 6, or 8 (then signed).
    const BITS: usize;
    const SCALES: Scales;
    /// What a code of a type without minimum stands above zero: a power of two, or 0.
    const ZERO: i16;

    /// Bytes of a block's codes over all rows of a group.
    const CODE_BYTES: usize = Self::BITS * ROWS * BLOCK / 8;
    const SCALE_BYTES: usize = ROWS
        * match Self::SCALES {
            Scales::Plain | Scales::SuperMin | Scales::Super16 => 2,
            Scales::Min | Scales::Super16Min => 4,
        };
    const SUPER_BYTES: usize = ROWS
        * match Self::SCALES {
            Scales::Plain | Scales::Min => 0,
            Scales::Super16 => 2,
            Scales::SuperMin | Scales::Super16Min => 4,
        };

    /// Bytes of a group that is `width` inputs wide.
    fn group_bytes(width: usize) -> usize {
        let blocks = width / BLOCK;
        (blocks * (Self::CODE_BYTES + Self::SCALE_BYTES)
            + width.div_ceil(SUPER) * Self::SUPER_BYTES)
            .next_multiple_of(LINE)
    }
}

/// The formats, by bits, scales and zero.
pub(super) struct Coded<const BITS: usize, const SCALES: u8, const ZERO: i16>;

const PLAIN: u8 = 0;
const MIN: u8 = 1;
const SUPER_MIN: u8 = 2;
const SUPER_16: u8 = 3;
const SUPER_16_MIN: u8 = 4;

impl<const BITS: usize, const SCALES: u8, const ZERO: i16> Format for Coded<BITS, SCALES, ZERO> {
    const BITS: usize = BITS;
    const SCALES: Scales = match SCALES {
        PLAIN => Scales::Plain,
        MIN => Scales::Min,
        SUPER_MIN => Scales::SuperMin,
        SUPER_16 => Scales::Super16,
        _ => Scales::Super16Min,
    };
    const ZERO: i16 = ZERO;
}

/// A dense element: its bytes, and its value as f32, which is exact.
pub(super) trait Element {
    /// For kernels that widen whole registers.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    const DTYPE: Dtype;
    const BYTES: usize;
    fn widen(bytes: &[u8]) -> f32;
}

pub(super) struct F32;
pub(super) struct F16;
pub(super) struct Bf16;

impl Element for F32 {
    const DTYPE: Dtype = Dtype::F32;
    const BYTES: usize = 4;
    fn widen(bytes: &[u8]) -> f32 {
        f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }
}

impl Element for F16 {
    const DTYPE: Dtype = Dtype::F16;
    const BYTES: usize = 2;
    fn widen(bytes: &[u8]) -> f32 {
        half(bytes, 0)
    }
}

impl Element for Bf16 {
    const DTYPE: Dtype = Dtype::BF16;
    const BYTES: usize = 2;
    fn widen(bytes: &[u8]) -> f32 {
        half::bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
    }
}

/// The f16 number `index` of an array of them.
pub(super) fn half(bytes: &[u8], index: usize) -> f32 {
    half::f16::from_le_bytes([bytes[2 * index], bytes[2 * index + 1]]).to_f32()
}

/// Something to do that is compiled once per type.
pub(super) trait Visit {
    type Out;
    fn coded<F: Format>(self) -> Self::Out;
    fn dense<E: Element>(self) -> Self::Out;
}

/// Calls the visitor's function for `dtype`: the only match over all types.
pub(super) fn visit<V: Visit>(dtype: Dtype, visitor: V) -> V::Out {
    match dtype {
        Dtype::F32 => visitor.dense::<F32>(),
        Dtype::F16 => visitor.dense::<F16>(),
        Dtype::BF16 => visitor.dense::<Bf16>(),
        Dtype::Q4_0 => visitor.coded::<Coded<4, PLAIN, 8>>(),
        Dtype::Q4_1 => visitor.coded::<Coded<4, MIN, 0>>(),
        Dtype::Q5_0 => visitor.coded::<Coded<5, PLAIN, 16>>(),
        Dtype::Q5_1 => visitor.coded::<Coded<5, MIN, 0>>(),
        Dtype::Q8_0 => visitor.coded::<Coded<8, PLAIN, 0>>(),
        Dtype::Q2K => visitor.coded::<Coded<4, SUPER_16_MIN, 0>>(),
        Dtype::Q3K => visitor.coded::<Coded<4, SUPER_16, 4>>(),
        Dtype::Q4K => visitor.coded::<Coded<4, SUPER_MIN, 0>>(),
        Dtype::Q5K => visitor.coded::<Coded<5, SUPER_MIN, 0>>(),
        Dtype::Q6K => visitor.coded::<Coded<6, SUPER_16, 32>>(),
    }
}

/// One group of rows.
#[derive(Clone, Copy)]
pub(super) struct Panel<'a> {
    bytes: &'a [u8],
    /// Inputs.
    pub(super) width: usize,
}

impl<'a> Panel<'a> {
    /// `bytes` is one group of a matrix of `width` inputs.
    pub(super) fn new(bytes: &'a [u8], width: usize) -> Self {
        Self { bytes, width }
    }

    pub(super) fn blocks(&self) -> usize {
        self.width / BLOCK
    }

    /// The codes of block `b`: [`Format::CODE_BYTES`].
    pub(super) fn codes<F: Format>(&self, b: usize) -> &'a [u8] {
        &self.bytes[b * F::CODE_BYTES..][..F::CODE_BYTES]
    }

    /// The scales of block `b`: [`Format::SCALE_BYTES`].
    pub(super) fn scales<F: Format>(&self, b: usize) -> &'a [u8] {
        &self.bytes[self.blocks() * F::CODE_BYTES + b * F::SCALE_BYTES..][..F::SCALE_BYTES]
    }

    /// The upper-level scales above block `b`: [`Format::SUPER_BYTES`].
    pub(super) fn supers<F: Format>(&self, b: usize) -> &'a [u8] {
        let start = self.blocks() * (F::CODE_BYTES + F::SCALE_BYTES);
        &self.bytes[start + b / (SUPER / BLOCK) * F::SUPER_BYTES..][..F::SUPER_BYTES]
    }

    /// Asks for the codes and scales of the block that is [`AHEAD`] blocks after `b`, in this group
    /// or a later one. The processor's own prefetching loses the thread at every page and between
    /// the regions; this doubled the speed of products of few columns.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub(super) fn prefetch<F: Format>(&self, b: usize) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        let blocks = self.blocks();
        let (group, b) = (self.bytes.len() * ((b + AHEAD) / blocks), (b + AHEAD) % blocks);
        let (codes, scales, supers) = offsets::<F>(blocks, b);
        let ask = |at: usize| {
            let line = self.bytes.as_ptr().wrapping_add(group + at);
            // SAFETY: a prefetch reads nothing that the program could see, and ignores addresses
            // that are not mapped.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) }
        };
        (0..F::CODE_BYTES / LINE).for_each(|line| ask(codes + line * LINE));
        ask(scales);
        if F::SUPER_BYTES > 0 && b.is_multiple_of(SUPER / BLOCK) {
            ask(supers);
        }
    }

    /// Asks for the numbers of the input [`AHEAD_BYTES`] after input `i`.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub(super) fn prefetch_dense<E: Element>(&self, i: usize) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let line = self.bytes.as_ptr().wrapping_add(i * ROWS * E::BYTES + AHEAD_BYTES);
        // SAFETY: as above.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
    }

    /// The dense numbers of input `i`, one per row.
    pub(super) fn dense<E: Element>(&self, i: usize) -> &'a [u8] {
        &self.bytes[i * ROWS * E::BYTES..][..ROWS * E::BYTES]
    }
}

/// Byte offsets of the regions that block `b` of a group touches: (codes, scales, upper scales).
/// For writing; [`Panel`] reads.
pub(super) fn offsets<F: Format>(blocks: usize, b: usize) -> (usize, usize, usize) {
    let scales = blocks * F::CODE_BYTES;
    let supers = scales + blocks * F::SCALE_BYTES;
    (b * F::CODE_BYTES, scales + b * F::SCALE_BYTES, supers + b / (SUPER / BLOCK) * F::SUPER_BYTES)
}
