//! Memory layout of a packed matrix, shared by packing, kernels and row reader.
//!
//! A matrix is a sequence of groups of [`ROWS`] output rows. A group of a block-quantized type has
//! three regions: quants, scales, and, for types with two levels of scales, the upper scales. The
//! first two are ordered by block of [`BLOCK`] inputs, the third by superblock of [`SUPER`] inputs.
//!
//! Quants of a block: the inputs form eight quads. A line of 64 bytes holds one quad of all 16
//! rows, four bytes per row, so that a broadcast quad of activations meets four inputs of 8 or 16
//! rows in one register. With fewer than 8 bits there are four lines of nibbles (line j holds quad
//! j in the low and quad j + 4 in the high nibbles), then the upper bits: at 5 bits one line (bit k
//! of a byte belongs to quad k), at 6 bits two lines (the first holds quads 0 to 3, two bits each,
//! rising; the second quads 4 to 7). Scales are arrays of 16, one entry per row, see [`Scales`].
//!
//! Dense types (F32, F16, BF16) store, for each input, the values of the 16 rows.

use crate::format::dtype::Dtype;

/// Output rows per group.
pub(super) const ROWS: usize = 16;
/// Inputs per block: the unit of scales and of quantized activations.
pub(super) const BLOCK: usize = 32;
/// Inputs per superblock.
pub(super) const SUPER: usize = 256;
/// Prefetch distance of weights, into the L2 cache. Of 16 to 96 blocks, 48 was best or close to it
/// for every model. Prefetching into L1 would compete for its few line fill buffers; a single
/// sample was a quarter slower that way.
#[cfg(target_arch = "x86_64")]
const PREFETCH_BLOCKS: usize = 48;
/// The same for dense types.
#[cfg(target_arch = "x86_64")]
const PREFETCH_BYTES: usize = 4096;
/// Bytes per line of quants. Groups start on cache lines.
pub(super) const LINE: usize = 64;

/// Scales of a block's quants; `u` is the stored quant. All arrays have [`ROWS`] entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scales {
    /// `d (u - z)`, z the zero point: f16 d.
    Plain,
    /// `d u + m`: f16 d, f16 m.
    Min,
    /// `d s u - e t`: u8 s, u8 t; upper: f16 d, f16 e.
    SuperMin,
    /// `d s (u - z)` with one s per 16 inputs: i8 s of inputs 0 to 15, i8 s of 16 to 31; upper: f16
    /// d.
    Super16,
    /// `d s u - e t` with one s and t per 16 inputs: u8 s, s, t, t; upper: f16 d, f16 e.
    Super16Min,
}

/// A block-quantized type as the kernels see it.
pub(super) trait Format {
    /// Bits per quant: 4, 5, 6, or 8 (then signed).
    const BITS: usize;
    const SCALES: Scales;
    /// Zero point of a type without minimum: a power of two, or 0.
    const ZERO_POINT: i16;

    /// Bytes of a block's quants over all rows of a group.
    const QUANT_BYTES: usize = Self::BITS * ROWS * BLOCK / 8;
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

    /// Bytes of a group with `width` inputs.
    fn group_bytes(width: usize) -> usize {
        let blocks = width / BLOCK;
        (blocks * (Self::QUANT_BYTES + Self::SCALE_BYTES)
            + width.div_ceil(SUPER) * Self::SUPER_BYTES)
            .next_multiple_of(LINE)
    }
}

/// A format by bits, scales and zero point.
pub(super) struct BlockFormat<const BITS: usize, const SCALES: u8, const ZERO: i16>;

const PLAIN: u8 = 0;
const MIN: u8 = 1;
const SUPER_MIN: u8 = 2;
const SUPER_16: u8 = 3;
const SUPER_16_MIN: u8 = 4;

impl<const BITS: usize, const SCALES: u8, const ZERO: i16> Format
    for BlockFormat<BITS, SCALES, ZERO>
{
    const BITS: usize = BITS;
    const SCALES: Scales = match SCALES {
        PLAIN => Scales::Plain,
        MIN => Scales::Min,
        SUPER_MIN => Scales::SuperMin,
        SUPER_16 => Scales::Super16,
        _ => Scales::Super16Min,
    };
    const ZERO_POINT: i16 = ZERO;
}

/// A dense element type. Conversion to f32 is exact.
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
        f16_at(bytes, 0)
    }
}

impl Element for Bf16 {
    const DTYPE: Dtype = Dtype::BF16;
    const BYTES: usize = 2;
    fn widen(bytes: &[u8]) -> f32 {
        half::bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
    }
}

/// The f16 value `index` of an array.
pub(super) fn f16_at(bytes: &[u8], index: usize) -> f32 {
    half::f16::from_le_bytes([bytes[2 * index], bytes[2 * index + 1]]).to_f32()
}

/// Work that is compiled once per type.
pub(super) trait DtypeVisitor {
    type Out;
    fn quantized<F: Format>(self) -> Self::Out;
    fn dense<E: Element>(self) -> Self::Out;
}

/// Calls the visitor's function for `dtype`. The only match over all types.
pub(super) fn dispatch<V: DtypeVisitor>(dtype: Dtype, visitor: V) -> V::Out {
    match dtype {
        Dtype::F32 => visitor.dense::<F32>(),
        Dtype::F16 => visitor.dense::<F16>(),
        Dtype::BF16 => visitor.dense::<Bf16>(),
        Dtype::Q4_0 => visitor.quantized::<BlockFormat<4, PLAIN, 8>>(),
        Dtype::Q4_1 => visitor.quantized::<BlockFormat<4, MIN, 0>>(),
        Dtype::Q5_0 => visitor.quantized::<BlockFormat<5, PLAIN, 16>>(),
        Dtype::Q5_1 => visitor.quantized::<BlockFormat<5, MIN, 0>>(),
        Dtype::Q8_0 => visitor.quantized::<BlockFormat<8, PLAIN, 0>>(),
        Dtype::Q2K => visitor.quantized::<BlockFormat<4, SUPER_16_MIN, 0>>(),
        Dtype::Q3K => visitor.quantized::<BlockFormat<4, SUPER_16, 4>>(),
        Dtype::Q4K => visitor.quantized::<BlockFormat<4, SUPER_MIN, 0>>(),
        Dtype::Q5K => visitor.quantized::<BlockFormat<5, SUPER_MIN, 0>>(),
        Dtype::Q6K => visitor.quantized::<BlockFormat<6, SUPER_16, 32>>(),
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
    /// `bytes` is one group of a matrix with `width` inputs.
    pub(super) fn new(bytes: &'a [u8], width: usize) -> Self {
        Self { bytes, width }
    }

    pub(super) fn blocks(&self) -> usize {
        self.width / BLOCK
    }

    /// The quants of block `b`: [`Format::QUANT_BYTES`].
    pub(super) fn quants<F: Format>(&self, b: usize) -> &'a [u8] {
        &self.bytes[b * F::QUANT_BYTES..][..F::QUANT_BYTES]
    }

    /// The scales of block `b`: [`Format::SCALE_BYTES`].
    pub(super) fn scales<F: Format>(&self, b: usize) -> &'a [u8] {
        &self.bytes[self.blocks() * F::QUANT_BYTES + b * F::SCALE_BYTES..][..F::SCALE_BYTES]
    }

    /// The upper scales of block `b`: [`Format::SUPER_BYTES`].
    pub(super) fn supers<F: Format>(&self, b: usize) -> &'a [u8] {
        let start = self.blocks() * (F::QUANT_BYTES + F::SCALE_BYTES);
        &self.bytes[start + b / (SUPER / BLOCK) * F::SUPER_BYTES..][..F::SUPER_BYTES]
    }

    /// Prefetches the quants and scales [`PREFETCH_BLOCKS`] blocks after `b`, in this group or a
    /// later one. The hardware prefetcher stops at every page and region; this doubled the speed of
    /// products with few columns.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub(super) fn prefetch<F: Format>(&self, b: usize) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        let blocks = self.blocks();
        let (group, b) =
            (self.bytes.len() * ((b + PREFETCH_BLOCKS) / blocks), (b + PREFETCH_BLOCKS) % blocks);
        let (quants, scales, supers) = offsets::<F>(blocks, b);
        let prefetch = |at: usize| {
            let line = self.bytes.as_ptr().wrapping_add(group + at);
            // SAFETY: a prefetch has no visible effect, and ignores unmapped addresses.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) }
        };
        (0..F::QUANT_BYTES / LINE).for_each(|line| prefetch(quants + line * LINE));
        prefetch(scales);
        if F::SUPER_BYTES > 0 && b.is_multiple_of(SUPER / BLOCK) {
            prefetch(supers);
        }
    }

    /// Prefetches the values [`PREFETCH_BYTES`] after input `i`.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub(super) fn prefetch_dense<E: Element>(&self, i: usize) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let line = self.bytes.as_ptr().wrapping_add(i * ROWS * E::BYTES + PREFETCH_BYTES);
        // SAFETY: as above.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
    }

    /// The dense values of input `i`, one per row.
    pub(super) fn dense<E: Element>(&self, i: usize) -> &'a [u8] {
        &self.bytes[i * ROWS * E::BYTES..][..ROWS * E::BYTES]
    }
}

/// Byte offsets of block `b` within a group: (quants, scales, upper scales). For packing; kernels
/// read through [`Panel`].
pub(super) fn offsets<F: Format>(blocks: usize, b: usize) -> (usize, usize, usize) {
    let scales = blocks * F::QUANT_BYTES;
    let supers = scales + blocks * F::SCALE_BYTES;
    (b * F::QUANT_BYTES, scales + b * F::SCALE_BYTES, supers + b / (SUPER / BLOCK) * F::SUPER_BYTES)
}
