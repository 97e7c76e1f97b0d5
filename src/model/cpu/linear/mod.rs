//! Matrix products of packed weights, and the gated MLP's first half.

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

use super::pool::{Disjoint, Pool};
use super::{Isa, elementwise, simd};
use crate::model::spec::Activation;
use layout::{BLOCK, Element, Format, Panel, ROWS, Visit, visit};

/// Columns that a kernel takes at once: their sums and one block of their codes stay in the
/// first-level cache.
const COLUMNS: usize = 64;
/// Multiplications that a task should at least have, so that claiming it costs little.
const TASK: usize = 64 << 10;
/// Tasks per thread where there is enough to do: a thread that lags takes fewer.
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
/// If the shapes do not fit, or `x` was not made for a matrix of this kind.
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
/// As [`linear`].
pub fn linear_n<const N: usize>(pool: &Pool, x: &Activations, products: [Product<'_>; N]) {
    let rows = x.rows();
    let works = products.map(|product| Work::new(product, x));
    let groups: usize = works.iter().map(|work| work.matrix.groups()).sum();
    if groups == 0 || rows == 0 {
        return;
    }
    let tasks = (groups * ROWS * x.width() * rows / TASK)
        .clamp(1, pool.threads() * TASKS_PER_THREAD)
        .min(groups);
    pool.for_each(tasks, |task| {
        let (mut start, end) = (task * groups / tasks, (task + 1) * groups / tasks);
        let mut first = 0;
        for work in &works {
            let last = first + work.matrix.groups();
            if start < last.min(end) {
                work.groups(x, start - first..last.min(end) - first);
                start = last.min(end);
            }
            first = last;
        }
    });
}

/// activation(x gateᵀ) * (x upᵀ) as the input of `down`, in one fork-join: a task makes 32 numbers
/// of each row, which is a block of the quantised input.
///
/// # Panics
/// As [`linear`]; or if the three shapes do not fit each other.
pub fn gated(
    pool: &Pool,
    x: &Activations,
    activation: Activation,
    [gate, up, down]: [&PackedMatrix; 3],
    out: &mut Activations,
) {
    let rows = x.rows();
    assert!(
        x.serves(gate) && x.serves(up),
        "activations of width {} were not made for {gate:?} and {up:?}",
        x.width()
    );
    assert!(
        gate.rows() == up.rows() && gate.rows() == down.width(),
        "{gate:?} and {up:?} do not make the input of {down:?}"
    );
    let writer = out.writer(rows, down);
    let blocks = gate.rows().div_ceil(BLOCK);
    let tasks = (2 * gate.rows() * x.width() * rows / TASK)
        .clamp(1, pool.threads() * TASKS_PER_THREAD)
        .min(blocks.max(1));
    pool.for_each(tasks, |task| {
        let mut sums = [[[0.0f32; ROWS]; COLUMNS]; 4];
        for start in (0..rows).step_by(COLUMNS) {
            let columns = COLUMNS.min(rows - start);
            for block in task * blocks / tasks..(task + 1) * blocks / tasks {
                for (half, sums) in sums.iter_mut().enumerate() {
                    let (matrix, group) = (
                        if half < BLOCK / ROWS { gate } else { up },
                        block * (BLOCK / ROWS) + half % (BLOCK / ROWS),
                    );
                    let sums = &mut sums[..columns];
                    sums.fill([0.0; ROWS]);
                    if group < matrix.groups() {
                        visit(
                            matrix.dtype(),
                            Multiply { panel: matrix.panel(group), x, start, sums },
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
                    let join = |(low, high): (&[f32; ROWS], &[f32; ROWS])| -> [f32; BLOCK] {
                        std::array::from_fn(|i| if i < ROWS { low[i] } else { high[i - ROWS] })
                    };
                    let (mut gate, up) = (join(gate), join(up));
                    simd::run(x.isa, elementwise::Gate { activation, x: &mut gate, up: &up });
                    // SAFETY: one task has this block, and one pass this row.
                    unsafe { writer.put(start + column, block, &gate[..count]) };
                }
            }
        }
    });
}

/// A product whose shapes were checked.
struct Work<'a> {
    matrix: &'a PackedMatrix,
    bias: Option<&'a [f32]>,
    y: Disjoint<'a, f32>,
}

impl<'a> Work<'a> {
    fn new(Product { matrix, bias, y }: Product<'a>, x: &Activations) -> Self {
        assert!(
            x.serves(matrix),
            "activations of width {} were not made for {matrix:?}",
            x.width()
        );
        assert!(
            y.len() == x.rows() * matrix.rows(),
            "{} outputs for {} rows of {matrix:?}",
            y.len(),
            x.rows()
        );
        assert!(
            bias.is_none_or(|bias| bias.len() == matrix.rows()),
            "a bias has one number per output of {matrix:?}"
        );
        Self { matrix, bias, y: Disjoint::new(y) }
    }

    /// The outputs of some groups of rows. No two tasks may have the same group.
    fn groups(&self, x: &Activations, groups: std::ops::Range<usize>) {
        let mut sums = [[0.0f32; ROWS]; COLUMNS];
        for start in (0..x.rows()).step_by(COLUMNS) {
            let columns = COLUMNS.min(x.rows() - start);
            for group in groups.clone() {
                let sums = &mut sums[..columns];
                sums.fill([0.0; ROWS]);
                visit(
                    self.matrix.dtype(),
                    Multiply { panel: self.matrix.panel(group), x, start, sums },
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
            simd::run(isa, elementwise::Put { sums, bias, column });
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
struct Multiply<'a> {
    panel: Panel<'a>,
    x: &'a Activations,
    start: usize,
    sums: &'a mut [[f32; ROWS]],
}

impl Visit for Multiply<'_> {
    type Out = ();

    fn coded<F: Format>(self) {
        match self.x.isa {
            Isa::Scalar => scalar::coded::<F>(&self.panel, self.x, self.start, self.sums),
            // SAFETY: activations are made with available instructions only.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { avx2::coded::<F>(&self.panel, self.x, self.start, self.sums) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => unsafe {
                avx512::coded::<F>(&self.panel, self.x, self.start, self.sums);
            },
        }
    }

    fn dense<E: Element>(self) {
        match self.x.isa {
            Isa::Scalar => scalar::dense::<E>(&self.panel, self.x, self.start, self.sums),
            // SAFETY: activations are made with available instructions only.
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
