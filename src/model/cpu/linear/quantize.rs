//! Activations as the packed matrices read them: 8 bits per block of 32 inputs, made once per
//! operation and shared by all matrices that multiply the same input; or f32, for dense matrices.
//!
//! Quantisation is that of llama.cpp's `Q8_1` except that the scale stays f32: d = max |x| / 127,
//! code = round(x / d), ties to even, and beside them the codes' sums. A block whose numbers are
//! all below 1e-35 is zero; one with a NaN or an infinity has a NaN scale, which reaches every
//! output of its row and no other row.

use super::super::Isa;
use super::super::pool::{Disjoint, Pool};
use super::layout::BLOCK;
use super::pack::PackedMatrix;
use crate::error::Result;
use crate::model::dtype::Dtype;

/// Below this a block counts as zero: the reciprocal would overflow.
pub(super) const TINY: f32 = 1e-35;

/// The inputs of a product, `[rows, width]`, in the forms that the matrices need. Keeps its memory
/// between uses.
#[derive(Debug)]
pub struct Activations {
    pub(super) isa: Isa,
    rows: usize,
    width: usize,
    /// Whether the forms below are filled.
    coded: bool,
    exact: bool,
    blocks: Blocks,
    /// `[row, width]`.
    numbers: Vec<f32>,
}

/// What is in 8 bits.
#[derive(Debug, Default)]
struct Blocks {
    /// `[block, row, 32]`.
    codes: Vec<i8>,
    /// `[block, row]`.
    scales: Vec<BlockScale>,
    /// `[block, row, 32]`: the codes in 16 bits, a block's even ones before its odd ones, if
    /// `widened`.
    words: Vec<i16>,
    widened: bool,
}

/// What stands beside the codes of a block.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct BlockScale {
    /// What one step of the codes is worth.
    pub(super) d: f32,
    /// d times the sum of the codes.
    pub(super) s: f32,
    /// The sums of the first and the last 16 codes.
    pub(super) sums: [i16; 2],
    /// Minus the sum of all codes: where a kernel whose codes stand above zero begins.
    pub(super) negative: i32,
}

impl BlockScale {
    /// Of a block with a number that is not finite.
    pub(super) const NOT_FINITE: Self =
        Self { d: f32::NAN, s: f32::NAN, sums: [0; 2], negative: 0 };

    /// Number by number: put together elsewhere first, the whole would be read before its parts
    /// have reached the cache.
    pub(super) fn set(&mut self, d: f32, sums: [i16; 2]) {
        let sum = sums[0] + sums[1];
        self.d = d;
        self.s = d * f32::from(sum);
        self.sums = sums;
        self.negative = -i32::from(sum);
    }
}

/// One block, for the scalar kernel.
pub(super) struct QuantizedBlock<'a> {
    pub(super) codes: &'a [i8],
    pub(super) d: f32,
    pub(super) s: f32,
    pub(super) sums: [i32; 2],
}

impl Default for Activations {
    fn default() -> Self {
        Self::with_best(Isa::best())
    }
}

impl Activations {
    /// Empty activations whose products run on `isa`.
    ///
    /// # Errors
    /// `Usage`: this machine has no such instructions.
    pub fn new(isa: Isa) -> Result<Self> {
        Ok(Self::with_best(isa.check()?))
    }

    /// `isa` must be available.
    fn with_best(isa: Isa) -> Self {
        Self {
            isa,
            rows: 0,
            width: 0,
            coded: false,
            exact: false,
            blocks: Blocks::default(),
            numbers: Vec::new(),
        }
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Takes `x`, `[rows, width]` flattened, in the forms that `matrices` (of one width) need.
    ///
    /// # Panics
    /// If `x` is not `rows` times the matrices' width, or the widths differ.
    pub fn set(&mut self, pool: &Pool, x: &[f32], rows: usize, matrices: &[&PackedMatrix]) {
        self.shape(rows, matrices);
        assert!(
            x.len() == rows * self.width,
            "{} activations for {rows} rows of {}",
            x.len(),
            self.width
        );
        if self.exact {
            self.numbers.clear();
            self.numbers.extend_from_slice(x);
        }
        if self.coded {
            let (width, isa) = (self.width, self.isa);
            let out = Coder::new(&mut self.blocks, rows, width, isa);
            pool.over_rows(rows, width, |row| out.row(row, &x[row * width..][..width]));
        }
    }

    /// Has `make` write each row, in parallel, and takes it in the forms that `matrices` (of one
    /// width) need: a norm or an activation function and the quantisation in one pass.
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
        self.shape(rows, matrices);
        let (width, isa, coded) = (self.width, self.isa, self.coded);
        self.numbers.resize(rows * width, 0.0);
        self.exact = true;
        let out = Coder::new(&mut self.blocks, if coded { rows } else { 0 }, width, isa);
        let numbers = Disjoint::new(&mut self.numbers);
        pool.over_rows(rows, width, |row| {
            // SAFETY: each row is made by one task, and rows do not overlap.
            let numbers = unsafe { numbers.slice(row * width, width) };
            make(row, numbers);
            if coded {
                out.row(row, numbers);
            }
        });
    }

    /// Takes the numbers as they are made, block by block, in the forms that `matrix` needs: for
    /// products that end in another input.
    pub(super) fn writer(&mut self, rows: usize, matrix: &PackedMatrix) -> BlockWriter<'_> {
        self.shape(rows, &[matrix]);
        let (width, isa, coded) = (self.width, self.isa, self.coded);
        let numbers = if self.exact { rows * width } else { 0 };
        self.numbers.resize(numbers, 0.0);
        let coder = Coder::new(&mut self.blocks, if coded { rows } else { 0 }, width, isa);
        BlockWriter {
            coder: coded.then_some(coder),
            numbers: (numbers > 0).then(|| Disjoint::new(&mut self.numbers)),
            width,
        }
    }

    fn shape(&mut self, rows: usize, matrices: &[&PackedMatrix]) {
        self.width = matrices.first().map_or(0, |matrix| matrix.width());
        assert!(
            matrices.iter().all(|matrix| matrix.width() == self.width),
            "matrices of one input have one width: {matrices:?}"
        );
        self.rows = rows;
        self.coded = matrices.iter().any(|matrix| matrix.dtype().is_quantized());
        self.exact = matrices.iter().any(|matrix| !matrix.dtype().is_quantized());
        self.blocks.widened = matrices.iter().any(|matrix| self.takes_words(matrix));
    }

    /// Whether `matrix` finds the form that it needs.
    pub(super) fn serves(&self, matrix: &PackedMatrix) -> bool {
        let words = self.blocks.widened || !self.takes_words(matrix);
        self.width == matrix.width()
            && if matrix.dtype().is_quantized() { self.coded && words } else { self.exact }
    }

    /// Whether the product with `matrix` takes codes in 16 bits.
    fn takes_words(&self, matrix: &PackedMatrix) -> bool {
        matrix.dtype() == Dtype::Q8_0
            && match self.isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => self.rows >= super::avx2::many(8),
                _ => false,
            }
    }

    pub(super) fn exact_row(&self, row: usize) -> &[f32] {
        &self.numbers[row * self.width..][..self.width]
    }

    /// The codes of block `b`, of `rows` rows from `start` on, 32 each.
    pub(super) fn block_codes(&self, b: usize, start: usize, rows: usize) -> &[i8] {
        &self.blocks.codes[(b * self.rows + start) * BLOCK..][..rows * BLOCK]
    }

    /// The scales beside [`block_codes`](Self::block_codes).
    pub(super) fn block_scales(&self, b: usize, start: usize, rows: usize) -> &[BlockScale] {
        &self.blocks.scales[b * self.rows + start..][..rows]
    }

    /// The widened codes beside [`block_codes`](Self::block_codes), 32 each; only for matrices of 8
    /// bits, and where [`Self::takes_words`] says.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub(super) fn block_words(&self, b: usize, start: usize, rows: usize) -> &[i16] {
        &self.blocks.words[(b * self.rows + start) * BLOCK..][..rows * BLOCK]
    }

    pub(super) fn block(&self, b: usize, row: usize) -> QuantizedBlock<'_> {
        let scale = self.block_scales(b, row, 1)[0];
        let sums = scale.sums.map(i32::from);
        QuantizedBlock { codes: self.block_codes(b, row, 1), d: scale.d, s: scale.s, sums }
    }
}

/// Takes blocks of 32 numbers, in any order.
pub(super) struct BlockWriter<'a> {
    coder: Option<Coder<'a>>,
    numbers: Option<Disjoint<'a, f32>>,
    width: usize,
}

impl BlockWriter<'_> {
    /// Takes block `block` of row `row`; the last one of a width that is no multiple of 32 is
    /// shorter.
    ///
    /// # Safety
    /// No two tasks may take the same block of the same row.
    pub(super) unsafe fn put(&self, row: usize, block: usize, x: &[f32]) {
        if let (Some(coder), Some(x)) = (&self.coder, x.as_array()) {
            // SAFETY: the caller's promise.
            unsafe { coder.block(row, block, x) };
        }
        if let Some(numbers) = &self.numbers {
            // SAFETY: the caller's promise.
            unsafe { numbers.slice(row * self.width + block * BLOCK, x.len()) }.copy_from_slice(x);
        }
    }
}

/// Where quantised rows go.
struct Coder<'a> {
    codes: Disjoint<'a, i8>,
    scales: Disjoint<'a, BlockScale>,
    words: Option<Disjoint<'a, i16>>,
    rows: usize,
    isa: Isa,
}

impl<'a> Coder<'a> {
    fn new(
        Blocks { codes, scales, words, widened }: &'a mut Blocks,
        rows: usize,
        width: usize,
        isa: Isa,
    ) -> Self {
        codes.resize(rows * width, 0);
        scales.resize(rows * (width / BLOCK), BlockScale::default());
        let words = widened.then(|| {
            words.resize(rows * width, 0);
            Disjoint::new(words)
        });
        Self { codes: Disjoint::new(codes), scales: Disjoint::new(scales), words, rows, isa }
    }

    /// Quantises row `row`. No two tasks may have the same row.
    fn row(&self, row: usize, x: &[f32]) {
        for (b, x) in x.as_chunks().0.iter().enumerate() {
            // SAFETY: one task has this row: every caller goes by rows.
            unsafe { self.block(row, b, x) };
        }
    }

    /// Quantises one block of a row.
    ///
    /// # Safety
    /// No two tasks may have the same block of the same row.
    unsafe fn block(&self, row: usize, b: usize, x: &[f32; BLOCK]) {
        let at = b * self.rows + row;
        // SAFETY: the caller's promise, and the places of different rows and blocks do not overlap.
        let (codes, scale) =
            unsafe { (self.codes.slice(at * BLOCK, BLOCK), self.scales.slice(at, 1)) };
        if let Some(codes) = codes.first_chunk_mut() {
            quantize_block(self.isa, x, codes, &mut scale[0]);
            if let Some(words) = &self.words {
                // SAFETY: as above.
                let (even, odd) = unsafe { words.slice(at * BLOCK, BLOCK) }.split_at_mut(BLOCK / 2);
                for ((even, odd), codes) in even.iter_mut().zip(odd).zip(codes.as_chunks::<2>().0) {
                    (*even, *odd) = (codes[0].into(), codes[1].into());
                }
            }
        }
    }
}

fn quantize_block(isa: Isa, x: &[f32; BLOCK], codes: &mut [i8; BLOCK], scale: &mut BlockScale) {
    match isa {
        Isa::Scalar => scalar_block(x, codes, scale),
        // SAFETY: activations are made with available instructions only, and both of these include
        // what the function needs.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::Avx512Vnni => unsafe { super::avx2::quantize(x, codes, scale) },
    }
}

fn scalar_block(x: &[f32; BLOCK], codes: &mut [i8; BLOCK], scale: &mut BlockScale) {
    if x.iter().any(|x| !x.is_finite()) {
        codes.fill(0);
        *scale = BlockScale::NOT_FINITE;
        return;
    }
    let max = x.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    let (d, inverse) = if max < TINY { (0.0, 0.0) } else { (max / 127.0, 127.0 / max) };
    for (code, x) in codes.iter_mut().zip(x) {
        *code = (x * inverse).round_ties_even() as i8;
    }
    let sum = |codes: &[i8]| codes.iter().map(|&code| i16::from(code)).sum::<i16>();
    let sums = [sum(&codes[..BLOCK / 2]), sum(&codes[BLOCK / 2..])];
    scale.set(d, sums);
}
