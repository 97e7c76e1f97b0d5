//! Kernels in plain Rust. They run everywhere, define the bits that all other kernels must produce,
//! and read single rows.
//!
//! Order of the float operations in every kernel: one accumulator per output, blocks rising. A
//! block adds `fma(f32(integer sum), d dx, acc)`, then, for types with a minimum, one more term.
//! Integer sums are exact, so their order is free. Dense types: one accumulator per output, inputs
//! rising, `fma(w, x, acc)`.

use super::layout::{BLOCK, Element, Format, LINE, Panel, ROWS, Scales};
use super::pack::f16_at_slot;
use super::quantize::{Activations, QuantizedBlock};

/// Scales of one row's block.
#[derive(Clone, Copy, Default)]
pub(super) struct Factors {
    /// Factor of the integer sum. With [`Scales::SuperMin`] it is the product of both levels, which
    /// is exact in f32.
    pub(super) d: f32,
    /// Factor of the activations' sum: the signed minimum, composed likewise.
    pub(super) m: f32,
    /// Integer scales of the two halves; 1 if the type has none.
    pub(super) scale: [i32; 2],
    /// Integer minima of the two halves.
    pub(super) min: [i32; 2],
}

impl Factors {
    /// The factors of row `slot` in block `b`.
    pub(super) fn read<F: Format>(panel: &Panel<'_>, b: usize, slot: usize) -> Self {
        let (scales, supers) = (panel.scales::<F>(b), panel.supers::<F>(b));
        let byte = |array: usize| i32::from(scales[array * ROWS + slot]);
        let one = Self { scale: [1; 2], ..Self::default() };
        match F::SCALES {
            Scales::Plain => Self { d: f16_at_slot(scales, 0, slot), ..one },
            Scales::Min => {
                Self { d: f16_at_slot(scales, 0, slot), m: f16_at_slot(scales, 1, slot), ..one }
            }
            Scales::SuperMin => {
                let [d, e] = [f16_at_slot(supers, 0, slot), f16_at_slot(supers, 1, slot)];
                Self { d: d * byte(0) as f32, m: -e * byte(1) as f32, ..one }
            }
            Scales::Super16 => {
                let signed = |array: usize| i32::from(scales[array * ROWS + slot] as i8);
                Self { d: f16_at_slot(supers, 0, slot), scale: [signed(0), signed(1)], ..one }
            }
            Scales::Super16Min => Self {
                d: f16_at_slot(supers, 0, slot),
                m: -f16_at_slot(supers, 1, slot),
                scale: [byte(0), byte(1)],
                min: [byte(2), byte(3)],
            },
        }
    }
}

/// One row's quants of one block, inputs rising.
pub(super) fn quants<F: Format>(lines: &[u8], slot: usize) -> [i16; BLOCK] {
    let at = |line: usize, i: usize| lines[line * LINE + 4 * slot + i];
    std::array::from_fn(|l| {
        let (k, i) = (l / 4, l % 4);
        if F::BITS == 8 {
            return i16::from(at(k, i) as i8);
        }
        let low = at(k % 4, i) >> (k / 4 * 4) & 15;
        let high = match F::BITS {
            5 => at(4, i) >> k & 1,
            6 => at(4 + k / 4, i) >> (k % 4 * 2) & 3,
            _ => 0,
        };
        i16::from(low | high << 4)
    })
}

/// Adds the product of a group of rows with the columns from `start` on to `sums`, one entry per
/// column.
pub(super) fn quantized<F: Format>(
    panel: &Panel<'_>,
    x: &Activations,
    start: usize,
    sums: &mut [[f32; ROWS]],
) {
    for b in 0..panel.blocks() {
        let rows: [([i16; BLOCK], Factors); ROWS] = std::array::from_fn(|slot| {
            (quants::<F>(panel.quants::<F>(b), slot), Factors::read::<F>(panel, b, slot))
        });
        for (column, sums) in sums.iter_mut().enumerate() {
            let x = x.block(b, start + column);
            for (sum, (quants, factors)) in sums.iter_mut().zip(&rows) {
                *sum = add_block::<F>(*sum, quants, factors, &x);
            }
        }
    }
}

fn add_block<F: Format>(
    sum: f32,
    quants: &[i16; BLOCK],
    factors: &Factors,
    x: &QuantizedBlock,
) -> f32 {
    let (wl, wh) = quants.split_at(BLOCK / 2);
    let (xl, xh) = x.quants.split_at(BLOCK / 2);
    let dot = |w: &[i16], x: &[i8]| {
        w.iter().zip(x).map(|(&w, &x)| i32::from(w) * i32::from(x)).sum::<i32>()
    };
    let weighted = |by: [i32; 2], what: [i32; 2]| by[0] * what[0] + by[1] * what[1];
    let zero = i32::from(F::ZERO_POINT) * weighted(factors.scale, x.sums);
    let product = weighted(factors.scale, [dot(wl, xl), dot(wh, xh)]) - zero;
    let sum = (product as f32).mul_add(factors.d * x.d, sum);
    match F::SCALES {
        Scales::Plain | Scales::Super16 => sum,
        Scales::Min | Scales::SuperMin => factors.m.mul_add(x.s, sum),
        Scales::Super16Min => (weighted(factors.min, x.sums) as f32).mul_add(factors.m * x.d, sum),
    }
}

/// Like [`quantized`], for dense types.
pub(super) fn dense<E: Element>(
    panel: &Panel<'_>,
    x: &Activations,
    start: usize,
    sums: &mut [[f32; ROWS]],
) {
    for (column, sums) in sums.iter_mut().enumerate() {
        for (i, &x) in x.f32_row(start + column).iter().enumerate() {
            for (sum, w) in sums.iter_mut().zip(panel.dense::<E>(i).chunks_exact(E::BYTES)) {
                *sum = E::widen(w).mul_add(x, *sum);
            }
        }
    }
}
