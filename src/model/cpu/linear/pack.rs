//! Packed matrices: repacked from the file's blocks once at load, in parallel; the only copy in
//! memory.
//!
//! Packing moves bits and changes no value: [`PackedMatrix::row`] returns exactly what the format
//! defines (the `dequantize_row` functions of `ggml-quants.c`).

use super::super::memory::Region;
use super::super::pool::Pool;
use super::layout::{
    self, BLOCK, DtypeVisitor, Element, Format, LINE, Panel, ROWS, SUPER, Scales, dispatch, f16_at,
};
use super::scalar::{self, Factors};
use crate::error::{Error, Result};
use crate::format::dtype::{Dtype, RawTensor};

/// Bytes to pack before their source is released.
const CHUNK_BYTES: usize = 8 << 20;

/// An `[out, in]` matrix in the kernels' layout.
pub struct PackedMatrix {
    dtype: Dtype,
    rows: usize,
    width: usize,
    group_bytes: usize,
    /// The groups of rows.
    region: Region,
}

impl std::fmt::Debug for PackedMatrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "PackedMatrix({} [{}, {}], {} bytes)",
            self.dtype,
            self.rows,
            self.width,
            self.bytes()
        )
    }
}

impl PackedMatrix {
    /// Repacks `raw`, an `[out, in]` tensor of any supported type. `in` must be a multiple of the
    /// type's block length.
    ///
    /// # Errors
    /// `Backend`: the shape is not two-dimensional, the width is not whole blocks, or the number of
    /// bytes does not match the shape.
    pub fn pack(raw: &RawTensor<'_>, pool: &Pool) -> Result<Self> {
        Self::pack_and_release(raw, pool, &|_| ())
    }

    /// Like [`pack`](Self::pack). Calls `release` with each chunk of `raw`'s bytes that is no
    /// longer needed, so that a mapped file and its packed copy are never both in memory as a
    /// whole.
    ///
    /// # Errors
    /// Like [`pack`](Self::pack).
    pub fn pack_and_release(
        raw: &RawTensor<'_>,
        pool: &Pool,
        release: &dyn Fn(&[u8]),
    ) -> Result<Self> {
        let &[rows, width] = raw.shape.as_slice() else {
            return Err(Error::Backend(format!(
                "a matrix must have two dimensions; this tensor has shape {:?}",
                raw.shape
            )));
        };
        let wanted = raw.dtype.bytes_for(width).and_then(|row| row.checked_mul(rows));
        if wanted != Some(raw.bytes.len()) {
            let (dtype, bytes) = (raw.dtype, raw.bytes.len());
            return Err(Error::Backend(format!(
                "{bytes} bytes do not make a {dtype} matrix of {rows} rows of {width} values; rows \
                 must be whole blocks"
            )));
        }
        let group_bytes = dispatch(raw.dtype, GroupBytes(width));
        let region = group_bytes.checked_mul(rows.div_ceil(ROWS)).and_then(Region::new);
        let refused = || {
            Error::Resources(format!(
                "not enough memory for a matrix of {rows} x {width} values; use a smaller model"
            ))
        };
        let mut region = region.ok_or_else(refused)?;
        if rows > 0 && width > 0 {
            let source_bytes = raw.bytes.len() / rows * ROWS;
            let chunk = (CHUNK_BYTES / group_bytes).max(1);
            let chunks = region
                .bytes_mut()
                .chunks_mut(chunk * group_bytes)
                .zip(raw.bytes.chunks(chunk * source_bytes));
            for (groups, source) in chunks {
                pool.for_each_chunk(groups, group_bytes, |group, panel| {
                    let rows =
                        source[group * source_bytes..].chunks_exact(source_bytes / ROWS).take(ROWS);
                    for (slot, bytes) in rows.enumerate() {
                        dispatch(
                            raw.dtype,
                            PackRow { dtype: raw.dtype, bytes, slot, panel, width },
                        );
                    }
                });
                release(source);
            }
        }
        Ok(Self { dtype: raw.dtype, rows, width, group_bytes, region })
    }

    /// Output features.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Input features.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Bytes in memory: what one pass over the matrix reads.
    pub fn bytes(&self) -> usize {
        self.groups() * self.group_bytes
    }

    /// The type in the file.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Writes row `i` as f32 to `out`, which has `width` elements.
    ///
    /// # Panics
    /// If there is no row `i`, or `out` has another length.
    pub fn row(&self, i: usize, out: &mut [f32]) {
        assert!(
            i < self.rows && out.len() == self.width,
            "row {i} of {self:?} into {} numbers",
            out.len()
        );
        dispatch(self.dtype, ReadRow { panel: self.panel(i / ROWS), slot: i % ROWS, out });
    }

    pub(super) fn groups(&self) -> usize {
        self.rows.div_ceil(ROWS)
    }

    pub(super) fn panel(&self, group: usize) -> Panel<'_> {
        Panel::new(&self.region.bytes()[group * self.group_bytes..][..self.group_bytes], self.width)
    }
}

struct GroupBytes(usize);

impl DtypeVisitor for GroupBytes {
    type Out = usize;
    fn quantized<F: Format>(self) -> usize {
        F::group_bytes(self.0)
    }
    fn dense<E: Element>(self) -> usize {
        (self.0 * ROWS * E::BYTES).next_multiple_of(LINE)
    }
}

struct PackRow<'a> {
    dtype: Dtype,
    bytes: &'a [u8],
    slot: usize,
    panel: &'a mut [u8],
    width: usize,
}

impl DtypeVisitor for PackRow<'_> {
    type Out = ();

    fn quantized<F: Format>(self) {
        let blocks = self.width / BLOCK;
        let per_block = self.dtype.block_len() / BLOCK;
        for b in 0..blocks {
            let raw =
                &self.bytes[b / per_block * self.dtype.block_bytes()..][..self.dtype.block_bytes()];
            let block = UnpackedBlock::read(self.dtype, raw, b % per_block);
            let (quants, scales, supers) = layout::offsets::<F>(blocks, b);
            write_quants::<F>(
                &block.quants,
                &mut self.panel[quants..][..F::QUANT_BYTES],
                self.slot,
            );
            match F::SCALES {
                Scales::Plain | Scales::Min => scatter::<2>(
                    &block.scales,
                    &mut self.panel[scales..][..F::SCALE_BYTES],
                    self.slot,
                ),
                _ => scatter::<1>(
                    &block.scales,
                    &mut self.panel[scales..][..F::SCALE_BYTES],
                    self.slot,
                ),
            }
            scatter::<2>(&block.supers, &mut self.panel[supers..][..F::SUPER_BYTES], self.slot);
        }
    }

    fn dense<E: Element>(self) {
        for (element, slots) in
            self.bytes.chunks_exact(E::BYTES).zip(self.panel.chunks_exact_mut(ROWS * E::BYTES))
        {
            slots[self.slot * E::BYTES..][..E::BYTES].copy_from_slice(element);
        }
    }
}

/// Writes a row's values of `N` bytes to its slot in each of the arrays in `to`.
fn scatter<const N: usize>(numbers: &[u8], to: &mut [u8], slot: usize) {
    for (number, array) in numbers.chunks_exact(N).zip(to.chunks_exact_mut(N * ROWS)) {
        array[slot * N..][..N].copy_from_slice(number);
    }
}

/// Writes a row's quants of one block to its slot in the lines.
fn write_quants<F: Format>(quants: &[u8; BLOCK], to: &mut [u8], slot: usize) {
    let quad = |k: usize| {
        u32::from_le_bytes([quants[4 * k], quants[4 * k + 1], quants[4 * k + 2], quants[4 * k + 3]])
    };
    let upper = |k: usize| quad(k) >> 4 & 0x0303_0303;
    let mut put = |line: usize, word: u32| {
        to[line * LINE + 4 * slot..][..4].copy_from_slice(&word.to_le_bytes());
    };
    if F::BITS == 8 {
        (0..8).for_each(|k| put(k, quad(k)));
        return;
    }
    (0..4).for_each(|j| put(j, quad(j) & 0x0f0f_0f0f | (quad(j + 4) & 0x0f0f_0f0f) << 4));
    match F::BITS {
        5 => put(4, (0..8).fold(0, |word, k| word | upper(k) << k)),
        6 => (0..2).for_each(|half| {
            put(4 + half, (0..4).fold(0, |word, k| word | upper(4 * half + k) << (2 * k)));
        }),
        _ => {}
    }
}

/// One row's block of 32, unpacked from the file.
#[derive(Default)]
struct UnpackedBlock {
    /// In the form of [`Format`].
    quants: [u8; BLOCK],
    /// The row's scales in the order of [`Scales`]; f16 as two bytes. Unused ones are 0.
    scales: [u8; 4],
    supers: [u8; 4],
}

impl UnpackedBlock {
    /// Reads `sub_block` (of 32 inputs) of the file's block `raw`. For the layouts see `block_q*`
    /// in `ggml-common.h`.
    fn read(dtype: Dtype, raw: &[u8], sub_block: usize) -> Self {
        let mut block = Self::default();
        match dtype {
            Dtype::Q4_0 => block.legacy(raw, 2, None),
            Dtype::Q4_1 => block.legacy(raw, 4, None),
            Dtype::Q5_0 => block.legacy(raw, 2, Some(2)),
            Dtype::Q5_1 => block.legacy(raw, 4, Some(4)),
            Dtype::Q8_0 => {
                block.scales[..2].copy_from_slice(&raw[..2]);
                block.quants.copy_from_slice(&raw[2..34]);
            }
            Dtype::Q2K => block.q2_k(raw, sub_block),
            Dtype::Q3K => block.q3_k(raw, sub_block),
            Dtype::Q4K => block.q45_k(raw, sub_block, None, &raw[16..144]),
            Dtype::Q5K => block.q45_k(raw, sub_block, Some(&raw[16..48]), &raw[48..176]),
            Dtype::Q6K => block.q6_k(raw, sub_block),
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => {}
        }
        block
    }

    /// `Q4_0`, `Q4_1`, `Q5_0`, `Q5_1`: f16 scales, a word of upper bits at `high` (5 bits only), 16
    /// bytes of nibbles.
    fn legacy(&mut self, raw: &[u8], scales: usize, high: Option<usize>) {
        self.scales[..scales].copy_from_slice(&raw[..scales]);
        let nibbles = &raw[raw.len() - BLOCK / 2..];
        let bits = high
            .map_or(0, |at| u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]));
        for (l, &byte) in nibbles.iter().enumerate() {
            self.quants[l] = byte & 15 | ((bits >> l & 1) as u8) << 4;
            self.quants[l + 16] = byte >> 4 | ((bits >> (l + 16) & 1) as u8) << 4;
        }
    }

    fn q2_k(&mut self, raw: &[u8], sub_block: usize) {
        let (scales, quants) = (&raw[..16], &raw[16 + sub_block / 4 * 32..]);
        for (quant, byte) in self.quants.iter_mut().zip(quants) {
            *quant = byte >> (sub_block % 4 * 2) & 3;
        }
        let [a, b] = [scales[2 * sub_block], scales[2 * sub_block + 1]];
        self.scales = [a & 15, b & 15, a >> 4, b >> 4];
        self.supers.copy_from_slice(&raw[80..84]);
    }

    fn q3_k(&mut self, raw: &[u8], sub_block: usize) {
        let (high, quants, scales) = (&raw[..32], &raw[32 + sub_block / 4 * 32..], &raw[96..108]);
        for ((quant, byte), high) in self.quants.iter_mut().zip(quants).zip(high) {
            *quant = byte >> (sub_block % 4 * 2) & 3 | (high >> sub_block & 1) << 2;
        }
        let scale = |i: usize| {
            let low = if i < 8 { scales[i] & 15 } else { scales[i - 8] >> 4 };
            (low | (scales[8 + i % 4] >> (i / 4 * 2) & 3) << 4).wrapping_sub(32)
        };
        self.scales[..2].copy_from_slice(&[scale(2 * sub_block), scale(2 * sub_block + 1)]);
        self.supers[..2].copy_from_slice(&raw[108..110]);
    }

    fn q45_k(&mut self, raw: &[u8], sub_block: usize, high: Option<&[u8]>, quants: &[u8]) {
        for (quant, byte) in self.quants.iter_mut().zip(&quants[sub_block / 2 * 32..]) {
            *quant = byte >> (sub_block % 2 * 4) & 15;
        }
        for (quant, high) in self.quants.iter_mut().zip(high.into_iter().flatten()) {
            *quant |= (high >> sub_block & 1) << 4;
        }
        let s = &raw[4..16];
        let (scale, min) = if sub_block < 4 {
            (s[sub_block] & 63, s[sub_block + 4] & 63)
        } else {
            (
                s[sub_block + 4] & 15 | s[sub_block - 4] >> 6 << 4,
                s[sub_block + 4] >> 4 | s[sub_block] >> 6 << 4,
            )
        };
        self.scales[..2].copy_from_slice(&[scale, min]);
        self.supers.copy_from_slice(&raw[..4]);
    }

    fn q6_k(&mut self, raw: &[u8], sub_block: usize) {
        let (half, quarter) = (sub_block / 4, sub_block % 4);
        let low = &raw[half * 64 + quarter % 2 * 32..];
        let high = &raw[128 + half * 32..];
        for ((quant, low), high) in self.quants.iter_mut().zip(low).zip(high) {
            *quant = low >> (quarter / 2 * 4) & 15 | (high >> (2 * quarter) & 3) << 4;
        }
        self.scales[..2].copy_from_slice(&raw[192 + 2 * sub_block..][..2]);
        self.supers[..2].copy_from_slice(&raw[208..210]);
    }
}

struct ReadRow<'a> {
    panel: Panel<'a>,
    slot: usize,
    out: &'a mut [f32],
}

impl DtypeVisitor for ReadRow<'_> {
    type Out = ();

    fn quantized<F: Format>(self) {
        for (b, out) in self.out.chunks_exact_mut(BLOCK).enumerate() {
            let quants = scalar::quants::<F>(self.panel.quants::<F>(b), self.slot);
            let factors = Factors::read::<F>(&self.panel, b, self.slot);
            for (l, (out, quant)) in out.iter_mut().zip(quants).enumerate() {
                let [scale, min] =
                    [factors.scale[l / (BLOCK / 2)] as f32, factors.min[l / (BLOCK / 2)] as f32];
                let quant = f32::from(quant);
                *out = match F::SCALES {
                    Scales::Plain => factors.d * (quant - f32::from(F::ZERO_POINT)),
                    Scales::Super16 => factors.d * scale * (quant - f32::from(F::ZERO_POINT)),
                    Scales::Min | Scales::SuperMin => factors.d * quant + factors.m,
                    Scales::Super16Min => factors.d * scale * quant + factors.m * min,
                };
            }
        }
    }

    fn dense<E: Element>(self) {
        for (i, out) in self.out.iter_mut().enumerate() {
            *out = E::widen(&self.panel.dense::<E>(i)[self.slot * E::BYTES..]);
        }
    }
}

const _: () = assert!(SUPER.is_multiple_of(BLOCK));

/// The f16 of row `slot` in the `array`-th array of f16.
pub(super) fn f16_at_slot(arrays: &[u8], array: usize, slot: usize) -> f32 {
    f16_at(arrays, array * ROWS + slot)
}
