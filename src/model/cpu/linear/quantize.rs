//! Activations in the forms that packed matrices need: 8 bits per block of 32 inputs, or f32 for
//! dense matrices. They are made once per operation and shared by all matrices with the same input.
//!
//! Quantization is that of llama.cpp's `Q8_1`, except that the scale stays f32: d = max |x| / 127,
//! quant = round(x / d) with ties to even, plus the sums of the quants. A block whose values are
//! all below 1e-35 is zero. A block with a NaN or infinity gets a NaN scale, which makes every
//! output of its row NaN and affects no other row.

use super::super::Isa;
use super::super::pool::{Pool, SharedSliceMut};
use super::layout::BLOCK;
use super::pack::PackedMatrix;
use crate::error::Result;
use crate::format::dtype::Dtype;

/// Blocks whose values are all below this are zero: the reciprocal would overflow.
pub(super) const ZERO_THRESHOLD: f32 = 1e-35;

/// The inputs of a product, `[rows, width]`, in the forms that the matrices need. Reuses its
/// memory.
#[derive(Debug)]
pub struct Activations {
    pub(super) isa: Isa,
    rows: usize,
    width: usize,
    /// Which of the forms below are filled.
    quantized: bool,
    has_f32: bool,
    blocks: QuantizedBlocks,
    /// `[row, width]`.
    values: Vec<f32>,
}

/// The 8-bit form.
#[derive(Debug, Default)]
struct QuantizedBlocks {
    /// `[block, row, 32]`.
    quants: Vec<i8>,
    /// `[block, row]`.
    scales: Vec<BlockScale>,
    /// `[block, row, 32]`: the quants in 16 bits, within a block the even ones before the odd ones.
    /// Only if `has_int16`.
    int16: Vec<i16>,
    has_int16: bool,
}

/// Scale and sums of a block's quants.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct BlockScale {
    /// Value of one quant step.
    pub(super) d: f32,
    /// d times the sum of the quants.
    pub(super) s: f32,
    /// The sums of the first and the last 16 quants.
    pub(super) sums: [i16; 2],
    /// Minus the sum of all quants: the initial value in kernels whose weights are biased.
    pub(super) neg_sum: i32,
}

impl BlockScale {
    /// Of a block with a value that is not finite.
    pub(super) const NOT_FINITE: Self = Self { d: f32::NAN, s: f32::NAN, sums: [0; 2], neg_sum: 0 };

    /// Sets field by field. Assigning a whole struct would load it right after its parts were
    /// stored, which stalls (store forwarding).
    pub(super) fn set(&mut self, d: f32, sums: [i16; 2]) {
        let sum = sums[0] + sums[1];
        self.d = d;
        self.s = d * f32::from(sum);
        self.sums = sums;
        self.neg_sum = -i32::from(sum);
    }
}

/// One block, for the scalar kernel.
pub(super) struct QuantizedBlock<'a> {
    pub(super) quants: &'a [i8],
    pub(super) d: f32,
    pub(super) s: f32,
    pub(super) sums: [i32; 2],
}

impl Default for Activations {
    fn default() -> Self {
        Self::unchecked(Isa::best())
    }
}

impl Activations {
    /// Empty activations whose products use `isa`.
    ///
    /// # Errors
    /// `Usage`: this machine lacks the instructions.
    pub fn new(isa: Isa) -> Result<Self> {
        Ok(Self::unchecked(isa.check()?))
    }

    /// `isa` must be available.
    fn unchecked(isa: Isa) -> Self {
        Self {
            isa,
            rows: 0,
            width: 0,
            quantized: false,
            has_f32: false,
            blocks: QuantizedBlocks::default(),
            values: Vec::new(),
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values per row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Takes `x`, `[rows, width]` flattened, in the forms that `matrices` (of one width) need.
    ///
    /// # Panics
    /// If `x` is not `rows` times the matrices' width, or the widths differ.
    pub fn set(&mut self, pool: &Pool, x: &[f32], rows: usize, matrices: &[&PackedMatrix]) {
        self.prepare(rows, matrices);
        assert!(
            x.len() == rows * self.width,
            "{} activations for {rows} rows of {}",
            x.len(),
            self.width
        );
        if self.has_f32 {
            self.values.clear();
            self.values.extend_from_slice(x);
        }
        if self.quantized {
            let (width, isa) = (self.width, self.isa);
            let out = Quantizer::new(&mut self.blocks, rows, width, isa);
            pool.for_each_row(rows, width, |row| out.row(row, &x[row * width..][..width]));
        }
    }

    /// Calls `make` to write each row, in parallel, and takes it in the forms that `matrices` (of
    /// one width) need: a norm or an activation function and the quantization in one pass.
    ///
    /// # Panics
    /// If the matrices' widths differ.
    pub fn fill(
        &mut self,
        pool: &Pool,
        rows: usize,
        matrices: &[&PackedMatrix],
        make: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        self.prepare(rows, matrices);
        let (width, isa, quantized) = (self.width, self.isa, self.quantized);
        self.values.resize(rows * width, 0.0);
        self.has_f32 = true;
        let out = Quantizer::new(&mut self.blocks, if quantized { rows } else { 0 }, width, isa);
        let values = SharedSliceMut::new(&mut self.values);
        pool.for_each_row(rows, width, |row| {
            // SAFETY: each row is made by one task, and rows do not overlap.
            let values = unsafe { values.slice(row * width, width) };
            make(row, values);
            if quantized {
                out.row(row, values);
            }
        });
    }

    /// Takes values block by block as they are made, in the forms that `matrix` needs: for products
    /// whose output is another input.
    pub(super) fn block_writer(&mut self, rows: usize, matrix: &PackedMatrix) -> BlockWriter<'_> {
        self.prepare(rows, &[matrix]);
        let (width, isa, quantized) = (self.width, self.isa, self.quantized);
        let values = if self.has_f32 { rows * width } else { 0 };
        self.values.resize(values, 0.0);
        let quantizer =
            Quantizer::new(&mut self.blocks, if quantized { rows } else { 0 }, width, isa);
        BlockWriter {
            quantizer: quantized.then_some(quantizer),
            values: (values > 0).then(|| SharedSliceMut::new(&mut self.values)),
            width,
        }
    }

    fn prepare(&mut self, rows: usize, matrices: &[&PackedMatrix]) {
        self.width = matrices.first().map_or(0, |matrix| matrix.width());
        assert!(
            matrices.iter().all(|matrix| matrix.width() == self.width),
            "matrices with the same input must have the same width: {matrices:?}"
        );
        self.rows = rows;
        self.quantized = matrices.iter().any(|matrix| matrix.dtype().is_quantized());
        self.has_f32 = matrices.iter().any(|matrix| !matrix.dtype().is_quantized());
        self.blocks.has_int16 = matrices.iter().any(|matrix| self.needs_int16(matrix));
    }

    /// Whether the form that `matrix` needs is filled.
    pub(super) fn fits(&self, matrix: &PackedMatrix) -> bool {
        let int16 = self.blocks.has_int16 || !self.needs_int16(matrix);
        self.width == matrix.width()
            && if matrix.dtype().is_quantized() { self.quantized && int16 } else { self.has_f32 }
    }

    /// Whether the product with `matrix` needs 16-bit quants.
    fn needs_int16(&self, matrix: &PackedMatrix) -> bool {
        matrix.dtype() == Dtype::Q8_0
            && match self.isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => self.rows >= super::avx2::min_many_columns(8),
                _ => false,
            }
    }

    pub(super) fn f32_row(&self, row: usize) -> &[f32] {
        &self.values[row * self.width..][..self.width]
    }

    /// The quants of block `b`, for `rows` rows from `start` on, 32 each.
    pub(super) fn block_quants(&self, b: usize, start: usize, rows: usize) -> &[i8] {
        &self.blocks.quants[(b * self.rows + start) * BLOCK..][..rows * BLOCK]
    }

    /// The scales of [`block_quants`](Self::block_quants).
    pub(super) fn block_scales(&self, b: usize, start: usize, rows: usize) -> &[BlockScale] {
        &self.blocks.scales[b * self.rows + start..][..rows]
    }

    /// [`block_quants`](Self::block_quants) in 16 bits, 32 each. Only if a matrix [needs
    /// them](Self::needs_int16).
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub(super) fn block_int16(&self, b: usize, start: usize, rows: usize) -> &[i16] {
        &self.blocks.int16[(b * self.rows + start) * BLOCK..][..rows * BLOCK]
    }

    pub(super) fn block(&self, b: usize, row: usize) -> QuantizedBlock<'_> {
        let scale = self.block_scales(b, row, 1)[0];
        let sums = scale.sums.map(i32::from);
        QuantizedBlock { quants: self.block_quants(b, row, 1), d: scale.d, s: scale.s, sums }
    }
}

/// Takes blocks of 32 values, in any order.
pub(super) struct BlockWriter<'a> {
    quantizer: Option<Quantizer<'a>>,
    values: Option<SharedSliceMut<'a, f32>>,
    width: usize,
}

impl BlockWriter<'_> {
    /// Takes block `block` of row `row`. The last block is shorter if the width is not a multiple
    /// of 32.
    ///
    /// # Safety
    /// No two tasks may write the same block of the same row.
    pub(super) unsafe fn write(&self, row: usize, block: usize, x: &[f32]) {
        if let (Some(quantizer), Some(x)) = (&self.quantizer, x.as_array()) {
            // SAFETY: guaranteed by the caller.
            unsafe { quantizer.block(row, block, x) };
        }
        if let Some(values) = &self.values {
            // SAFETY: guaranteed by the caller.
            unsafe { values.slice(row * self.width + block * BLOCK, x.len()) }.copy_from_slice(x);
        }
    }
}

/// Destination of quantized rows.
struct Quantizer<'a> {
    quants: SharedSliceMut<'a, i8>,
    scales: SharedSliceMut<'a, BlockScale>,
    int16: Option<SharedSliceMut<'a, i16>>,
    rows: usize,
    isa: Isa,
}

impl<'a> Quantizer<'a> {
    fn new(
        QuantizedBlocks { quants, scales, int16, has_int16 }: &'a mut QuantizedBlocks,
        rows: usize,
        width: usize,
        isa: Isa,
    ) -> Self {
        quants.resize(rows * width, 0);
        scales.resize(rows * (width / BLOCK), BlockScale::default());
        let int16 = has_int16.then(|| {
            int16.resize(rows * width, 0);
            SharedSliceMut::new(int16)
        });
        Self {
            quants: SharedSliceMut::new(quants),
            scales: SharedSliceMut::new(scales),
            int16,
            rows,
            isa,
        }
    }

    /// Quantizes row `row`. No two tasks may have the same row.
    fn row(&self, row: usize, x: &[f32]) {
        for (b, x) in x.as_chunks().0.iter().enumerate() {
            // SAFETY: one task has this row: every caller distributes whole rows.
            unsafe { self.block(row, b, x) };
        }
    }

    /// Quantizes one block of a row.
    ///
    /// # Safety
    /// No two tasks may have the same block of the same row.
    unsafe fn block(&self, row: usize, b: usize, x: &[f32; BLOCK]) {
        let at = b * self.rows + row;
        // SAFETY: guaranteed by the caller; different rows and blocks do not overlap.
        let (quants, scale) =
            unsafe { (self.quants.slice(at * BLOCK, BLOCK), self.scales.slice(at, 1)) };
        if let Some(quants) = quants.first_chunk_mut() {
            quantize_block(self.isa, x, quants, &mut scale[0]);
            if let Some(int16) = &self.int16 {
                // SAFETY: as above.
                let (even, odd) = unsafe { int16.slice(at * BLOCK, BLOCK) }.split_at_mut(BLOCK / 2);
                for ((even, odd), quants) in even.iter_mut().zip(odd).zip(quants.as_chunks::<2>().0)
                {
                    (*even, *odd) = (quants[0].into(), quants[1].into());
                }
            }
        }
    }
}

fn quantize_block(isa: Isa, x: &[f32; BLOCK], quants: &mut [i8; BLOCK], scale: &mut BlockScale) {
    match isa {
        Isa::Scalar => scalar_block(x, quants, scale),
        // SAFETY: activations only have available instruction sets, and both of these include what
        // the function needs.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::Avx512Vnni => unsafe { super::avx2::quantize(x, quants, scale) },
    }
}

fn scalar_block(x: &[f32; BLOCK], quants: &mut [i8; BLOCK], scale: &mut BlockScale) {
    if x.iter().any(|x| !x.is_finite()) {
        quants.fill(0);
        *scale = BlockScale::NOT_FINITE;
        return;
    }
    let max = x.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    let (d, inverse) = if max < ZERO_THRESHOLD { (0.0, 0.0) } else { (max / 127.0, 127.0 / max) };
    for (quant, x) in quants.iter_mut().zip(x) {
        *quant = (x * inverse).round_ties_even() as i8;
    }
    let sum = |quants: &[i8]| quants.iter().map(|&quant| i16::from(quant)).sum::<i16>();
    let sums = [sum(&quants[..BLOCK / 2]), sum(&quants[BLOCK / 2..])];
    scale.set(d, sums);
}
