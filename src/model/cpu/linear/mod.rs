//! Linear layers on packed weights: y = x Wᵀ + b, and the first half of a gated MLP.
//!
//! ```text
//! let q = PackedMatrix::pack(&raw, &pool)?;      // once, at load; the only copy of the weights
//! let mut x = Activations::default();            // reusable
//! x.set(&pool, input, rows, &[&q, &k, &v]);      // [rows, in] f32, quantized once for all three
//! linear(&pool, &q, &x, bias, output);           // [rows, out] f32
//! linear_n(&pool, &x, [Product { matrix: &q, bias: None, y: &mut yq }, ...]); // one fork-join
//! table.row(token, output);                      // a token's embedding
//! ```
//!
//! Contract: a row's result is bit-identical for any number of other rows, any position among them,
//! any number of threads and any instruction set: every kernel sums in the order that `scalar.rs`
//! defines. Block-quantized weights are multiplied with activations in 8 bits (`quantize.rs`),
//! dense weights with f32. `layout.rs` defines the memory layout of weights.
//!
//! Activation rows are called columns here, since "rows" are the rows of the weights.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod layout;
mod pack;
mod quantize;
mod scalar;

pub use pack::PackedMatrix;
pub use quantize::Activations;

use super::pool::{Pool, SharedSliceMut};
use super::{Isa, elementwise, simd};
use crate::model::spec::Activation;
use layout::{BLOCK, DtypeVisitor, Element, Format, Panel, ROWS, dispatch};

/// Columns per call of a kernel: their sums and one block of their quants stay in the L1 cache.
const MAX_COLUMNS: usize = 64;
/// Least number of multiplications per task, so that claiming a task costs little in comparison.
const MIN_TASK_MULS: usize = 64 << 10;
/// Tasks per thread if there is enough work, so that a delayed thread can take fewer.
const TASKS_PER_THREAD: usize = 8;

/// One of several products of the same activations.
#[derive(Debug)]
pub struct Product<'a> {
    /// `[out, in]`.
    pub matrix: &'a PackedMatrix,
    /// `[out]`.
    pub bias: Option<&'a [f32]>,
    /// `[rows, out]`, overwritten.
    pub y: &'a mut [f32],
}

/// y = x Wᵀ + b: `[rows, in]` to `[rows, out]`.
///
/// # Panics
/// If the shapes do not match, or `x` lacks the form that the matrix needs.
pub fn linear(
    pool: &Pool,
    matrix: &PackedMatrix,
    x: &Activations,
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    linear_n(pool, x, [Product { matrix, bias, y }]);
}

/// Several products of the same activations in one fork-join.
///
/// # Panics
/// Like [`linear`].
pub fn linear_n<const N: usize>(pool: &Pool, x: &Activations, products: [Product<'_>; N]) {
    let rows = x.rows();
    let products = products.map(|product| CheckedProduct::new(product, x));
    let groups: usize = products.iter().map(|product| product.matrix.groups()).sum();
    if groups == 0 || rows == 0 {
        return;
    }
    let tasks = (groups * ROWS * x.width() * rows / MIN_TASK_MULS)
        .clamp(1, pool.threads() * TASKS_PER_THREAD)
        .min(groups);
    pool.for_each(tasks, |task| {
        let (mut start, end) = (task * groups / tasks, (task + 1) * groups / tasks);
        let mut first = 0;
        for product in &products {
            let last = first + product.matrix.groups();
            if start < last.min(end) {
                product.compute_groups(x, start - first..last.min(end) - first);
                start = last.min(end);
            }
            first = last;
        }
    });
}

/// activation(x gateᵀ) * (x upᵀ) as the input of `down`, in one fork-join. A task makes 32 values
/// of each row, which is one block of the quantized input.
///
/// # Panics
/// Like [`linear`], or if the three shapes do not match.
pub fn gate_up(
    pool: &Pool,
    x: &Activations,
    activation: Activation,
    [gate, up, down]: [&PackedMatrix; 3],
    out: &mut Activations,
) {
    let rows = x.rows();
    assert!(
        x.fits(gate) && x.fits(up),
        "activations of width {} were not made for {gate:?} and {up:?}",
        x.width()
    );
    assert!(
        gate.rows() == up.rows() && gate.rows() == down.width(),
        "{gate:?} and {up:?} do not make the input of {down:?}"
    );
    let writer = out.block_writer(rows, down);
    let blocks = gate.rows().div_ceil(BLOCK);
    let tasks = (2 * gate.rows() * x.width() * rows / MIN_TASK_MULS)
        .clamp(1, pool.threads() * TASKS_PER_THREAD)
        .min(blocks.max(1));
    pool.for_each(tasks, |task| {
        let mut sums = [[[0.0f32; ROWS]; MAX_COLUMNS]; 4];
        for start in (0..rows).step_by(MAX_COLUMNS) {
            let columns = MAX_COLUMNS.min(rows - start);
            for block in task * blocks / tasks..(task + 1) * blocks / tasks {
                for (half, sums) in sums.iter_mut().enumerate() {
                    let (matrix, group) = (
                        if half < BLOCK / ROWS { gate } else { up },
                        block * (BLOCK / ROWS) + half % (BLOCK / ROWS),
                    );
                    let sums = &mut sums[..columns];
                    sums.fill([0.0; ROWS]);
                    if group < matrix.groups() {
                        dispatch(
                            matrix.dtype(),
                            MultiplyPanel { panel: matrix.panel(group), x, start, sums },
                        );
                    }
                }
                let count = BLOCK.min(gate.rows() - block * BLOCK);
                let [gate_low, gate_high, up_low, up_high] = &sums;
                for (column, (gate, up)) in gate_low
                    .iter()
                    .zip(gate_high)
                    .zip(up_low.iter().zip(up_high))
                    .take(columns)
                    .enumerate()
                {
                    let concat = |(low, high): (&[f32; ROWS], &[f32; ROWS])| -> [f32; BLOCK] {
                        std::array::from_fn(|i| if i < ROWS { low[i] } else { high[i - ROWS] })
                    };
                    let (mut gate, up) = (concat(gate), concat(up));
                    simd::run(
                        x.isa,
                        elementwise::GatedActivation { activation, x: &mut gate, up: &up },
                    );
                    // SAFETY: one task has this block, and one pass of its loop has this row.
                    unsafe { writer.write(start + column, block, &gate[..count]) };
                }
            }
        }
    });
}

/// A product whose shapes were checked.
struct CheckedProduct<'a> {
    matrix: &'a PackedMatrix,
    bias: Option<&'a [f32]>,
    y: SharedSliceMut<'a, f32>,
}

impl<'a> CheckedProduct<'a> {
    fn new(Product { matrix, bias, y }: Product<'a>, x: &Activations) -> Self {
        assert!(x.fits(matrix), "activations of width {} were not made for {matrix:?}", x.width());
        assert!(
            y.len() == x.rows() * matrix.rows(),
            "{} outputs for {} rows of {matrix:?}",
            y.len(),
            x.rows()
        );
        assert!(
            bias.is_none_or(|bias| bias.len() == matrix.rows()),
            "a bias has one value per output of {matrix:?}"
        );
        Self { matrix, bias, y: SharedSliceMut::new(y) }
    }

    /// The outputs of some groups of rows. No two tasks may have the same group.
    fn compute_groups(&self, x: &Activations, groups: std::ops::Range<usize>) {
        let mut sums = [[0.0f32; ROWS]; MAX_COLUMNS];
        for start in (0..x.rows()).step_by(MAX_COLUMNS) {
            let columns = MAX_COLUMNS.min(x.rows() - start);
            for group in groups.clone() {
                let sums = &mut sums[..columns];
                sums.fill([0.0; ROWS]);
                dispatch(
                    self.matrix.dtype(),
                    MultiplyPanel { panel: self.matrix.panel(group), x, start, sums },
                );
                self.store(x.isa, group, start, sums);
            }
        }
    }

    fn store(&self, isa: Isa, group: usize, start: usize, sums: &[[f32; ROWS]]) {
        let (out, first) = (self.matrix.rows(), group * ROWS);
        let count = ROWS.min(out - first);
        let bias = self.bias.map(|bias| &bias[first..][..count]);
        // SAFETY: one task has this group, and the outputs of different groups and columns do not
        // overlap.
        let column = |column: usize| unsafe { self.y.slice((start + column) * out + first, count) };
        if count == ROWS {
            simd::run(isa, elementwise::StoreColumns { sums, bias, column });
            return;
        }
        for (index, sums) in sums.iter().enumerate() {
            let y = column(index);
            match bias {
                Some(bias) => {
                    y.iter_mut().zip(sums).zip(bias).for_each(|((y, sum), bias)| *y = sum + bias);
                }
                None => y.copy_from_slice(&sums[..count]),
            }
        }
    }
}

/// Adds the product of one group of rows with the columns from `start` on to `sums`.
struct MultiplyPanel<'a> {
    panel: Panel<'a>,
    x: &'a Activations,
    start: usize,
    sums: &'a mut [[f32; ROWS]],
}

impl DtypeVisitor for MultiplyPanel<'_> {
    type Out = ();

    fn quantized<F: Format>(self) {
        match self.x.isa {
            Isa::Scalar => scalar::quantized::<F>(&self.panel, self.x, self.start, self.sums),
            // SAFETY: activations only have available instruction sets.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe {
                avx2::quantized::<F>(&self.panel, self.x, self.start, self.sums);
            },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => unsafe {
                avx512::quantized::<F>(&self.panel, self.x, self.start, self.sums);
            },
        }
    }

    fn dense<E: Element>(self) {
        match self.x.isa {
            Isa::Scalar => scalar::dense::<E>(&self.panel, self.x, self.start, self.sums),
            // SAFETY: activations only have available instruction sets.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { avx2::dense::<E>(&self.panel, self.x, self.start, self.sums) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => unsafe {
                avx512::dense::<E>(&self.panel, self.x, self.start, self.sums);
            },
        }
    }
}
