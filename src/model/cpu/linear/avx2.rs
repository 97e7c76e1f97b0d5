//! Kernels for AVX2, FMA and F16C: eight rows per register, in the order of `scalar.rs`.
//!
//! `maddubs` adds two products of a quant and an activation in 16 bits. How often sums can be added
//! before they must be widened to 32 bits depends on the bits of the quants: 15 * 127 * 16 (4 bits,
//! eight times), 31 * 127 * 8 (5 bits, four times) and 63 * 127 * 4 (6 bits, twice) stay below
//! 2^15.
//!
//! With few columns, a block of eight rows is unpacked into eight registers, one per quad of
//! inputs, and multiplied with one column after the other. 8-bit quants transfer their sign to the
//! activation first. With many columns, the sums stay in registers instead: the quants of sixteen
//! rows are unpacked to the L1 cache, and an activation is loaded once for both halves. There,
//! 8-bit quants and their activations are widened to 16 bits, so that a product is added without
//! another step.

// Arrays of registers are indexed: loops over iterators are not always unrolled.
#![allow(clippy::needless_range_loop)]
#![allow(clippy::wildcard_imports)] // Intrinsics have a prefix.

use std::arch::x86_64::*;

use super::layout::{BLOCK, Element, Format, LINE, Panel, ROWS, Scales};
use super::quantize::{Activations, BlockScale, ZERO_THRESHOLD};
use crate::format::dtype::Dtype;

/// Rows per register.
const LANES: usize = 8;
/// Quads (groups of four inputs) per block.
const QUADS: usize = BLOCK / 4;

/// Loads 32 bytes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn load(bytes: &[u8], at: usize) -> __m256i {
    let bytes = &bytes[at..at + 32];
    // SAFETY: the slice has 32 bytes, and the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// Loads 16 bytes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn load_half(bytes: &[u8], at: usize) -> __m128i {
    let bytes = &bytes[at..at + 16];
    // SAFETY: the slice has 16 bytes, and the load needs no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// Loads 8 bytes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn load_quarter(bytes: &[u8], at: usize) -> __m128i {
    let bytes = &bytes[at..at + 8];
    // SAFETY: the slice has 8 bytes, and the load needs no alignment.
    unsafe { _mm_loadl_epi64(bytes.as_ptr().cast()) }
}

/// Eight rows' quants of one block, one register per quad.
///
/// # Safety
/// Only for functions that enable this file's instructions. This function cannot enable them
/// itself, since `target_feature` excludes `inline(always)`, and a call would pass the registers
/// through memory.
#[inline(always)]
unsafe fn unpack<F: Format>(lines: &[u8], half: usize) -> [__m256i; QUADS] {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let line = |j: usize| load(lines, j * LINE + half * 32);
        if F::BITS == 8 {
            return [line(0), line(1), line(2), line(3), line(4), line(5), line(6), line(7)];
        }
        let nibble = _mm256_set1_epi8(15);
        let [a, b, c, d] = [line(0), line(1), line(2), line(3)];
        let low = |v| _mm256_and_si256(v, nibble);
        let high = |v| _mm256_and_si256(_mm256_srli_epi16::<4>(v), nibble);
        let w = [low(a), low(b), low(c), low(d), high(a), high(b), high(c), high(d)];
        match F::BITS {
            5 => {
                let (h, bit) = (line(4), _mm256_set1_epi8(16));
                // Shifts cross bytes; the mask removes the neighbor's bits.
                let or = |w, h| _mm256_or_si256(w, _mm256_and_si256(h, bit));
                [
                    or(w[0], _mm256_slli_epi16::<4>(h)),
                    or(w[1], _mm256_slli_epi16::<3>(h)),
                    or(w[2], _mm256_slli_epi16::<2>(h)),
                    or(w[3], _mm256_slli_epi16::<1>(h)),
                    or(w[4], h),
                    or(w[5], _mm256_srli_epi16::<1>(h)),
                    or(w[6], _mm256_srli_epi16::<2>(h)),
                    or(w[7], _mm256_srli_epi16::<3>(h)),
                ]
            }
            6 => {
                let (h, g, bits) = (line(4), line(5), _mm256_set1_epi8(48));
                let or = |w, h| _mm256_or_si256(w, _mm256_and_si256(h, bits));
                [
                    or(w[0], _mm256_slli_epi16::<4>(h)),
                    or(w[1], _mm256_slli_epi16::<2>(h)),
                    or(w[2], h),
                    or(w[3], _mm256_srli_epi16::<2>(h)),
                    or(w[4], _mm256_slli_epi16::<4>(g)),
                    or(w[5], _mm256_slli_epi16::<2>(g)),
                    or(w[6], g),
                    or(w[7], _mm256_srli_epi16::<2>(g)),
                ]
            }
            _ => w,
        }
    }
}

/// Eight rows' scales of one block.
#[derive(Clone, Copy)]
struct Factors {
    d: __m256,
    m: __m256,
    /// The scale of either half of the block, twice per 32 bits: for `maddwd` with that half's
    /// sums.
    first: __m256i,
    last: __m256i,
    /// The scales (minima) of both halves, interleaved: for `maddwd` with the activations' two
    /// sums.
    scales: __m256i,
    mins: __m256i,
}

impl Factors {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn none() -> Self {
        let (zero, none) = (_mm256_setzero_ps(), _mm256_setzero_si256());
        Self { d: zero, m: zero, first: none, last: none, scales: none, mins: none }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn read<F: Format>(panel: &Panel<'_>, b: usize, half: usize) -> Self {
        let (scales, supers) = (panel.scales::<F>(b), panel.supers::<F>(b));
        let f16s = |bytes: &[u8], array: usize| {
            _mm256_cvtph_ps(load_half(bytes, array * ROWS * 2 + half * 16))
        };
        let bytes =
            |array: usize| _mm256_cvtepu8_epi32(load_quarter(scales, array * ROWS + half * LANES));
        let floats = |array: usize| _mm256_cvtepi32_ps(bytes(array));
        let negative = |v| _mm256_xor_ps(v, _mm256_set1_ps(-0.0));
        // The low 16 bits of `a` and of `b`, interleaved.
        let interleave16 = |a, b| _mm256_blend_epi16::<0b1010_1010>(a, _mm256_slli_epi32::<16>(b));
        let none = Self::none();
        let plain = |d, m| Self { d, m, ..none };
        match F::SCALES {
            Scales::Plain => plain(f16s(scales, 0), none.m),
            Scales::Min => plain(f16s(scales, 0), f16s(scales, 1)),
            Scales::SuperMin => plain(
                _mm256_mul_ps(f16s(supers, 0), floats(0)),
                _mm256_mul_ps(negative(f16s(supers, 1)), floats(1)),
            ),
            Scales::Super16 => {
                let signed = |array: usize| {
                    _mm256_cvtepi8_epi32(load_quarter(scales, array * ROWS + half * LANES))
                };
                let (a, b) = (signed(0), signed(1));
                Self {
                    d: f16s(supers, 0),
                    first: interleave16(a, a),
                    last: interleave16(b, b),
                    scales: interleave16(a, b),
                    ..none
                }
            }
            Scales::Super16Min => {
                let (a, b) = (bytes(0), bytes(1));
                let mins = interleave16(bytes(2), bytes(3));
                let m = negative(f16s(supers, 1));
                Self {
                    d: f16s(supers, 0),
                    m,
                    first: interleave16(a, a),
                    last: interleave16(b, b),
                    scales: interleave16(a, b),
                    mins,
                }
            }
        }
    }
}

/// Broadcasts a quad of activations.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn quad(x: &[i8; BLOCK], k: usize) -> __m256i {
    _mm256_set1_epi32(i32::from_le_bytes([
        x[4 * k] as u8,
        x[4 * k + 1] as u8,
        x[4 * k + 2] as u8,
        x[4 * k + 3] as u8,
    ]))
}

/// Subtracts the contribution of the zero point if each half of a block has its own scale.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn subtract_zero_point<F: Format>(sum: __m256i, f: &Factors, sums: __m256i) -> __m256i {
    let shift = _mm_cvtsi32_si128(F::ZERO_POINT.trailing_zeros().cast_signed());
    _mm256_sub_epi32(sum, _mm256_sll_epi32(_mm256_madd_epi16(sums, f.scales), shift))
}

/// Integer dot products of eight rows with one column. `sums` are the column's two sums, broadcast.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot<F: Format>(w: &[__m256i; QUADS], x: &[i8; BLOCK], f: &Factors, sums: __m256i) -> __m256i {
    let quad = |k| quad(x, k);
    let ones = _mm256_set1_epi16(1);
    let two_quads = |k: usize| {
        _mm256_add_epi16(
            _mm256_maddubs_epi16(w[k], quad(k)),
            _mm256_maddubs_epi16(w[k + 1], quad(k + 1)),
        )
    };
    let four_quads = |k: usize| _mm256_add_epi16(two_quads(k), two_quads(k + 2));
    let add = |a, b| _mm256_add_epi32(a, b);
    match (F::BITS, F::SCALES) {
        (_, Scales::Super16 | Scales::Super16Min) => {
            let scaled = |k: usize, scale| {
                if F::BITS < 6 {
                    _mm256_madd_epi16(four_quads(k), scale)
                } else {
                    add(
                        _mm256_madd_epi16(two_quads(k), scale),
                        _mm256_madd_epi16(two_quads(k + 2), scale),
                    )
                }
            };
            let sum = add(scaled(0, f.first), scaled(4, f.last));
            if F::ZERO_POINT == 0 { sum } else { subtract_zero_point::<F>(sum, f, sums) }
        }
        (8, _) => {
            let signed = |k: usize| {
                let products =
                    _mm256_maddubs_epi16(_mm256_abs_epi8(w[k]), _mm256_sign_epi8(quad(k), w[k]));
                _mm256_madd_epi16(products, ones)
            };
            add(
                add(add(signed(0), signed(1)), add(signed(2), signed(3))),
                add(add(signed(4), signed(5)), add(signed(6), signed(7))),
            )
        }
        _ => {
            let sum = if F::BITS == 4 {
                _mm256_madd_epi16(_mm256_add_epi16(four_quads(0), four_quads(4)), ones)
            } else {
                add(_mm256_madd_epi16(four_quads(0), ones), _mm256_madd_epi16(four_quads(4), ones))
            };
            if F::ZERO_POINT == 0 {
                sum
            } else {
                _mm256_sub_epi32(sum, _mm256_madd_epi16(sums, _mm256_set1_epi16(F::ZERO_POINT)))
            }
        }
    }
}

/// Number of columns from which it is faster to keep the sums in registers, for quants of `bits`
/// bits.
pub(super) const fn min_many_columns(bits: usize) -> usize {
    if bits == 4 { 8 } else { 16 }
}

/// Like `scalar::quantized`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn quantized<F: Format>(
    panel: &Panel<'_>,
    x: &Activations,
    start: usize,
    sums: &mut [[f32; ROWS]],
) {
    // Sums of 6-bit quants are widened after every second quad, so they would gain nothing.
    if F::BITS == 6 || sums.len() < min_many_columns(F::BITS) {
        few_columns::<F>(panel, x, start, sums);
        return;
    }
    // As many columns per pass as registers allow: sums that are widened in between take two
    // registers.
    match (F::BITS, F::SCALES) {
        (8, _) => many_columns::<F, { 2 * QUADS }, 4>(panel, x, start, sums),
        (4, Scales::Plain | Scales::Min | Scales::SuperMin) => {
            many_columns::<F, QUADS, 4>(panel, x, start, sums);
        }
        _ => many_columns::<F, QUADS, 2>(panel, x, start, sums),
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn few_columns<F: Format>(
    panel: &Panel<'_>,
    x: &Activations,
    start: usize,
    sums: &mut [[f32; ROWS]],
) {
    let columns = sums.len();
    for b in 0..panel.blocks() {
        let quants = x.block_quants(b, start, columns).as_chunks::<BLOCK>().0;
        let scales = x.block_scales(b, start, columns);
        panel.prefetch::<F>(b);
        for half in 0..ROWS / LANES {
            // SAFETY: this function enables the instructions.
            let w = unsafe { unpack::<F>(panel.quants::<F>(b), half) };
            let f = Factors::read::<F>(panel, b, half);
            for ((x, scale), sums) in quants.iter().zip(scales).zip(&mut *sums) {
                let pair = pair(scale);
                add_block::<F>(
                    dot::<F>(&w, x, &f, pair),
                    &f,
                    pair,
                    scale,
                    &mut sums[half * LANES..],
                );
            }
        }
    }
}

/// Multiplies a block with N columns at once, in STEPS steps.
#[target_feature(enable = "avx2,fma,f16c")]
fn many_columns<F: Format, const STEPS: usize, const N: usize>(
    panel: &Panel<'_>,
    x: &Activations,
    start: usize,
    sums: &mut [[f32; ROWS]],
) {
    let columns = sums.len();
    let mut unpacked = [[_mm256_setzero_si256(); STEPS]; 2];
    for b in 0..panel.blocks() {
        panel.prefetch::<F>(b);
        for (half, plane) in unpacked.iter_mut().enumerate() {
            // SAFETY: this function enables the instructions.
            let quants = unsafe { unpack::<F>(panel.quants::<F>(b), half) };
            for k in 0..QUADS {
                if F::BITS == 8 {
                    [plane[k], plane[QUADS + k]] = widen_to_int16(quants[k]);
                } else {
                    plane[k] = quants[k];
                }
            }
        }
        let f = [Factors::read::<F>(panel, b, 0), Factors::read::<F>(panel, b, 1)];
        let (scales, more_scales) = x.block_scales(b, start, columns).as_chunks::<N>();
        let x = if F::BITS == 8 {
            as_steps(x.block_int16(b, start, columns))
        } else {
            as_steps(x.block_quants(b, start, columns))
        };
        let (x, more_x) = x.as_chunks::<STEPS>().0.as_chunks::<N>();
        let (each, more) = sums.as_chunks_mut::<N>();
        for ((x, scales), sums) in x.iter().zip(scales).zip(each) {
            add_columns::<F, STEPS, N>(&unpacked, &f, x, scales, sums);
        }
        for ((x, scale), sums) in more_x.iter().zip(more_scales).zip(more) {
            add_columns::<F, STEPS, 1>(
                &unpacked,
                &f,
                std::array::from_ref(x),
                std::array::from_ref(scale),
                std::array::from_mut(sums),
            );
        }
    }
}

/// The activations of each step: four in 8 bits or two in 16.
fn as_steps<T>(numbers: &[T]) -> &[[u8; 4]] {
    // SAFETY: the same bytes as a byte slice, with the same length; all callers pass integers.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), size_of_val(numbers) / 4) }
}

/// A block's quants of both halves of the rows: one register per quad, or in 16 bits one for the
/// even inputs of each quad, then one for the odd inputs.
type UnpackedRows<const STEPS: usize> = [[__m256i; STEPS]; 2];

/// Widens the even and the odd bytes to 16 bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn widen_to_int16(quants: __m256i) -> [__m256i; 2] {
    [_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(quants)), _mm256_srai_epi16::<8>(quants)]
}

/// An optimization barrier. Without it, the compiler reorders the additions so that the sums do not
/// fit in the registers.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn keep_in_registers<const N: usize>(sums: &mut [[__m256i; 2]; N]) {
    for pair in sums {
        let [mut a, mut b] = *pair;
        // SAFETY: contains no instruction.
        unsafe {
            std::arch::asm!(
                "/* {a} {b} */",
                a = inout(ymm_reg) a,
                b = inout(ymm_reg) b,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        *pair = [a, b];
    }
}

/// Integer dot products of sixteen rows with N columns, by halves.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_columns<F: Format, const STEPS: usize, const N: usize>(
    unpacked: &UnpackedRows<STEPS>,
    f: &[Factors; 2],
    x: &[[[u8; 4]; STEPS]; N],
) -> [[__m256i; 2]; N] {
    let step = |column: usize, k: usize| _mm256_set1_epi32(i32::from_le_bytes(x[column][k]));
    let none = [[_mm256_setzero_si256(); 2]; N];
    let mut products = none;
    if F::BITS == 8 {
        for k in 0..STEPS {
            let (low, high) = (unpacked[0][k], unpacked[1][k]);
            for i in 0..N {
                let x = step(i, k);
                products[i][0] = _mm256_add_epi32(products[i][0], _mm256_madd_epi16(low, x));
                products[i][1] = _mm256_add_epi32(products[i][1], _mm256_madd_epi16(high, x));
            }
            keep_in_registers(&mut products);
        }
        return products;
    }
    // How many quads can be added in 16 bits, and share a scale. 6-bit quants do not get here.
    let quads_per_sum = match (F::BITS, F::SCALES) {
        (5, _) | (_, Scales::Super16 | Scales::Super16Min) => 4,
        _ => QUADS,
    };
    for from in (0..QUADS).step_by(quads_per_sum) {
        let mut sums16 = none;
        for k in from..from + quads_per_sum {
            let (low, high) = (unpacked[0][k], unpacked[1][k]);
            for i in 0..N {
                let x = step(i, k);
                sums16[i][0] = _mm256_add_epi16(sums16[i][0], _mm256_maddubs_epi16(low, x));
                sums16[i][1] = _mm256_add_epi16(sums16[i][1], _mm256_maddubs_epi16(high, x));
            }
            keep_in_registers(&mut sums16);
        }
        for (products, sums16) in products.iter_mut().zip(&sums16) {
            for ((product, sums16), f) in products.iter_mut().zip(sums16).zip(f) {
                let scale = match F::SCALES {
                    Scales::Super16 | Scales::Super16Min if from < QUADS / 2 => f.first,
                    Scales::Super16 | Scales::Super16Min => f.last,
                    _ => _mm256_set1_epi16(1),
                };
                *product = _mm256_add_epi32(*product, _mm256_madd_epi16(*sums16, scale));
            }
        }
    }
    products
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn add_columns<F: Format, const STEPS: usize, const N: usize>(
    unpacked: &UnpackedRows<STEPS>,
    f: &[Factors; 2],
    x: &[[[u8; 4]; STEPS]; N],
    scales: &[BlockScale; N],
    sums: &mut [[f32; ROWS]; N],
) {
    let products = dot_columns::<F, STEPS, N>(unpacked, f, x);
    for i in 0..N {
        let (scale, sums) = (&scales[i], &mut sums[i]);
        let pair = pair(scale);
        for half in 0..2 {
            let (product, f) = (products[i][half], &f[half]);
            let product = match F::SCALES {
                _ if F::ZERO_POINT == 0 => product,
                Scales::Super16 | Scales::Super16Min => subtract_zero_point::<F>(product, f, pair),
                _ => {
                    let shift = _mm_cvtsi32_si128(F::ZERO_POINT.trailing_zeros().cast_signed());
                    _mm256_add_epi32(
                        product,
                        _mm256_sll_epi32(_mm256_set1_epi32(scale.neg_sum), shift),
                    )
                }
            };
            add_block::<F>(product, f, pair, scale, &mut sums[half * LANES..]);
        }
    }
}

/// A column's two sums, broadcast.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn pair(scale: &BlockScale) -> __m256i {
    _mm256_set1_epi32(i32::from(scale.sums[0]) & 0xffff | i32::from(scale.sums[1]) << 16)
}

/// Scales the integer sums of eight rows with one column, and adds them.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn add_block<F: Format>(
    product: __m256i,
    f: &Factors,
    pair: __m256i,
    scale: &BlockScale,
    sums: &mut [f32],
) {
    let sums = &mut sums[..LANES];
    let d = _mm256_set1_ps(scale.d);
    let product = _mm256_cvtepi32_ps(product);
    // SAFETY: the slice has eight values, and neither access needs alignment.
    let sum = unsafe { _mm256_loadu_ps(sums.as_ptr()) };
    let sum = _mm256_fmadd_ps(product, _mm256_mul_ps(f.d, d), sum);
    let sum = match F::SCALES {
        Scales::Plain | Scales::Super16 => sum,
        Scales::Min | Scales::SuperMin => _mm256_fmadd_ps(f.m, _mm256_set1_ps(scale.s), sum),
        Scales::Super16Min => {
            let mins = _mm256_cvtepi32_ps(_mm256_madd_epi16(pair, f.mins));
            _mm256_fmadd_ps(mins, _mm256_mul_ps(f.m, d), sum)
        }
    };
    // SAFETY: as above.
    unsafe { _mm256_storeu_ps(sums.as_mut_ptr(), sum) }
}

/// Sixteen rows' values of one input.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn widen<E: Element>(bytes: &[u8]) -> [__m256; 2] {
    match E::DTYPE {
        Dtype::F16 => [_mm256_cvtph_ps(load_half(bytes, 0)), _mm256_cvtph_ps(load_half(bytes, 16))],
        Dtype::BF16 => [0, 16].map(|at| {
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(load_half(
                bytes, at,
            ))))
        }),
        _ => [_mm256_castsi256_ps(load(bytes, 0)), _mm256_castsi256_ps(load(bytes, 32))],
    }
}

/// Like `scalar::dense`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn dense<E: Element>(
    panel: &Panel<'_>,
    x: &Activations,
    start: usize,
    sums: &mut [[f32; ROWS]],
) {
    let mut rest = sums;
    let mut start = start;
    // The order of the sums does not depend on the number of columns per pass.
    while !rest.is_empty() {
        let now = rest.len().min(4);
        let now = if now.is_power_of_two() { now } else { now.next_power_of_two() / 2 };
        let (columns, others) = std::mem::take(&mut rest).split_at_mut(now);
        match columns.len() {
            4 => dense_columns::<E, 4>(panel, x, start, columns),
            2 => dense_columns::<E, 2>(panel, x, start, columns),
            _ => dense_columns::<E, 1>(panel, x, start, columns),
        }
        start += now;
        rest = others;
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn dense_columns<E: Element, const N: usize>(
    panel: &Panel<'_>,
    x: &Activations,
    start: usize,
    sums: &mut [[f32; ROWS]],
) {
    let x: [&[f32]; N] = std::array::from_fn(|column| &x.f32_row(start + column)[..panel.width]);
    let mut acc = [[_mm256_setzero_ps(); 2]; N];
    for i in 0..panel.width {
        panel.prefetch_dense::<E>(i);
        let [low, high] = widen::<E>(panel.dense::<E>(i));
        for (acc, x) in acc.iter_mut().zip(x) {
            let x = _mm256_set1_ps(x[i]);
            acc[0] = _mm256_fmadd_ps(low, x, acc[0]);
            acc[1] = _mm256_fmadd_ps(high, x, acc[1]);
        }
    }
    for (sums, acc) in sums.iter_mut().zip(acc) {
        let (low, high) = sums.split_at_mut(LANES);
        // SAFETY: both halves have eight values, and the stores need no alignment.
        unsafe {
            _mm256_storeu_ps(low.as_mut_ptr(), acc[0]);
            _mm256_storeu_ps(high.as_mut_ptr(), acc[1]);
        }
    }
}

/// Quantizes one block, like `quantize::scalar_block`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn quantize(x: &[f32; BLOCK], quants: &mut [i8; BLOCK], scale: &mut BlockScale) {
    // SAFETY: the array has 32 values, and the loads need no alignment.
    let v = unsafe { [0, 8, 16, 24].map(|at| _mm256_loadu_ps(x.as_ptr().add(at))) };
    let sign = _mm256_set1_ps(-0.0);
    let abs = |v| _mm256_andnot_ps(sign, v);
    let max =
        _mm256_max_ps(_mm256_max_ps(abs(v[0]), abs(v[1])), _mm256_max_ps(abs(v[2]), abs(v[3])));
    // x - x is 0, or NaN if x is not finite.
    let off = |v| _mm256_sub_ps(v, v);
    let off =
        _mm256_add_ps(_mm256_add_ps(off(v[0]), off(v[1])), _mm256_add_ps(off(v[2]), off(v[3])));
    if _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_UNORD_Q>(off, off)) != 0 {
        quants.fill(0);
        *scale = BlockScale::NOT_FINITE;
        return;
    }
    let max = _mm_max_ps(_mm256_castps256_ps128(max), _mm256_extractf128_ps::<1>(max));
    let max = _mm_max_ps(max, _mm_movehl_ps(max, max));
    let max = _mm_cvtss_f32(_mm_max_ss(max, _mm_movehdup_ps(max)));
    let (d, inverse) = if max < ZERO_THRESHOLD { (0.0, 0.0) } else { (max / 127.0, 127.0 / max) };
    let inverse = _mm256_set1_ps(inverse);
    let round = |v| _mm256_cvtps_epi32(_mm256_mul_ps(v, inverse));
    // 16 values each. Packing works within 128-bit lanes, so the quarters are reordered.
    let order = |v| _mm256_permute4x64_epi64::<0b11_01_10_00>(v);
    let first = order(_mm256_packs_epi32(round(v[0]), round(v[1])));
    let last = order(_mm256_packs_epi32(round(v[2]), round(v[3])));
    // SAFETY: the array has 32 bytes, and the store needs no alignment.
    unsafe {
        _mm256_storeu_si256(quants.as_mut_ptr().cast(), order(_mm256_packs_epi16(first, last)));
    };
    scale.set(d, [horizontal(first), horizontal(last)]);
}

/// The sum of sixteen quants.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn horizontal(v: __m256i) -> i16 {
    let v = _mm_add_epi16(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
    let v = _mm_madd_epi16(v, _mm_set1_epi16(1));
    let v = _mm_add_epi32(v, _mm_shuffle_epi32::<0b01_00_11_10>(v));
    let v = _mm_add_epi32(v, _mm_shuffle_epi32::<0b00_00_00_01>(v));
    _mm_cvtsi128_si32(v) as i16
}
