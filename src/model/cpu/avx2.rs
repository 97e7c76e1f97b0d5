//! The kernels for AVX2, FMA and F16C: eight rows a register, the order of `scalar.rs`.
//!
//! A block of eight rows is unpacked once into eight registers, one per run of four inputs, and meets all columns. `maddubs` adds two
//! products of a code and an activation in 16 bits; how often that may be repeated before widening depends on the code's bits:
//! 15 * 127 * 16, 31 * 127 * 8 and 63 * 127 * 4 (eight, four, two times) stay below 2^15. Codes of 8 bits lend
//! their sign to the activation first.

#![allow(clippy::wildcard_imports)] // The intrinsics' names are their prefix.

use std::arch::x86_64::*;

use super::layout::{BLOCK, Element, Format, LINE, Panel, ROWS, Scales};
use super::quantize::{Activations, BlockScale, TINY};
use crate::model::dtype::Dtype;

/// Rows in a register.
const LANES: usize = 8;
/// Runs of four inputs in a block.
const RUNS: usize = BLOCK / 4;

/// Reads 32 bytes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn load(bytes: &[u8], at: usize) -> __m256i {
    let bytes = &bytes[at..at + 32];
    // SAFETY: the slice has 32 bytes, and the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// Reads 16 bytes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn load_half(bytes: &[u8], at: usize) -> __m128i {
    let bytes = &bytes[at..at + 16];
    // SAFETY: the slice has 16 bytes, and the load needs no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// Reads 8 bytes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn load_quarter(bytes: &[u8], at: usize) -> __m128i {
    let bytes = &bytes[at..at + 8];
    // SAFETY: the slice has 8 bytes, and the load needs no alignment.
    unsafe { _mm_loadl_epi64(bytes.as_ptr().cast()) }
}

/// Eight rows' codes of one block, one register per run of four inputs.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn unpack<F: Format>(lines: &[u8], half: usize) -> [__m256i; RUNS] {
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
            // Shifts cross bytes; the mask drops what came over.
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

/// Eight rows' scales of one block.
#[derive(Clone, Copy)]
struct Factors {
    d: __m256,
    m: __m256,
    /// The scale of either half of the block, twice in each 32 bits: for `maddwd` with sums of that half.
    first: __m256i,
    last: __m256i,
    /// The halves' scales (minima) side by side: for `maddwd` with the activations' two sums.
    scales: __m256i,
    mins: __m256i,
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn factors<F: Format>(panel: &Panel<'_>, b: usize, half: usize) -> Factors {
    let (scales, supers) = (panel.scales::<F>(b), panel.supers::<F>(b));
    let f16s = |bytes: &[u8], array: usize| _mm256_cvtph_ps(load_half(bytes, array * ROWS * 2 + half * 16));
    let bytes = |array: usize| _mm256_cvtepu8_epi32(load_quarter(scales, array * ROWS + half * LANES));
    let floats = |array: usize| _mm256_cvtepi32_ps(bytes(array));
    let negative = |v| _mm256_xor_ps(v, _mm256_set1_ps(-0.0));
    // The low 16 bits of `a` beside those of `b`.
    let beside = |a, b| _mm256_blend_epi16::<0b1010_1010>(a, _mm256_slli_epi32::<16>(b));
    let none = _mm256_setzero_si256();
    let plain = |d, m| Factors { d, m, first: none, last: none, scales: none, mins: none };
    let zero = _mm256_setzero_ps();
    match F::SCALES {
        Scales::Plain => plain(f16s(scales, 0), zero),
        Scales::Min => plain(f16s(scales, 0), f16s(scales, 1)),
        Scales::SuperMin => plain(_mm256_mul_ps(f16s(supers, 0), floats(0)), _mm256_mul_ps(negative(f16s(supers, 1)), floats(1))),
        Scales::Super16 => {
            let signed = |array: usize| _mm256_cvtepi8_epi32(load_quarter(scales, array * ROWS + half * LANES));
            let (a, b) = (signed(0), signed(1));
            Factors { d: f16s(supers, 0), m: zero, first: beside(a, a), last: beside(b, b), scales: beside(a, b), mins: none }
        }
        Scales::Super16Min => {
            let (a, b) = (bytes(0), bytes(1));
            let mins = beside(bytes(2), bytes(3));
            let m = negative(f16s(supers, 1));
            Factors { d: f16s(supers, 0), m, first: beside(a, a), last: beside(b, b), scales: beside(a, b), mins }
        }
    }
}

/// The integer sums of eight rows with one column; `sums` are the column's two sums in every lane.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot<F: Format>(w: &[__m256i; RUNS], x: &[i8; BLOCK], f: &Factors, sums: __m256i) -> __m256i {
    let run =
        |k: usize| _mm256_set1_epi32(i32::from_le_bytes([x[4 * k] as u8, x[4 * k + 1] as u8, x[4 * k + 2] as u8, x[4 * k + 3] as u8]));
    let ones = _mm256_set1_epi16(1);
    let two = |k: usize| _mm256_add_epi16(_mm256_maddubs_epi16(w[k], run(k)), _mm256_maddubs_epi16(w[k + 1], run(k + 1)));
    let four = |k: usize| _mm256_add_epi16(two(k), two(k + 2));
    let add = |a, b| _mm256_add_epi32(a, b);
    let zero_shift = F::ZERO.trailing_zeros();
    match (F::BITS, F::SCALES) {
        (_, Scales::Super16 | Scales::Super16Min) => {
            let weighed = |k: usize, scale| {
                if F::BITS < 6 {
                    _mm256_madd_epi16(four(k), scale)
                } else {
                    add(_mm256_madd_epi16(two(k), scale), _mm256_madd_epi16(two(k + 2), scale))
                }
            };
            let sum = add(weighed(0, f.first), weighed(4, f.last));
            if F::ZERO == 0 {
                return sum;
            }
            let zero = _mm256_madd_epi16(sums, f.scales);
            _mm256_sub_epi32(sum, _mm256_sll_epi32(zero, _mm_cvtsi32_si128(zero_shift.cast_signed())))
        }
        (8, _) => {
            let signed = |k: usize| {
                let products = _mm256_maddubs_epi16(_mm256_abs_epi8(w[k]), _mm256_sign_epi8(run(k), w[k]));
                _mm256_madd_epi16(products, ones)
            };
            add(add(add(signed(0), signed(1)), add(signed(2), signed(3))), add(add(signed(4), signed(5)), add(signed(6), signed(7))))
        }
        _ => {
            let sum = if F::BITS == 4 {
                _mm256_madd_epi16(_mm256_add_epi16(four(0), four(4)), ones)
            } else {
                add(_mm256_madd_epi16(four(0), ones), _mm256_madd_epi16(four(4), ones))
            };
            if F::ZERO == 0 { sum } else { _mm256_sub_epi32(sum, _mm256_madd_epi16(sums, _mm256_set1_epi16(F::ZERO))) }
        }
    }
}

/// As `scalar::coded`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn coded<F: Format>(panel: &Panel<'_>, x: &Activations, start: usize, sums: &mut [[f32; ROWS]]) {
    let columns = sums.len();
    for b in 0..panel.blocks() {
        let codes = x.block_codes(b, start, columns).as_chunks::<BLOCK>().0;
        let scales = x.block_scales(b, start, columns);
        panel.prefetch::<F>(b);
        for half in 0..ROWS / LANES {
            let w = unpack::<F>(panel.codes::<F>(b), half);
            let f = factors::<F>(panel, b, half);
            for ((x, scale), sums) in codes.iter().zip(scales).zip(&mut *sums) {
                add_block::<F>(&w, &f, x, scale, &mut sums[half * LANES..]);
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn add_block<F: Format>(w: &[__m256i; RUNS], f: &Factors, x: &[i8; BLOCK], scale: &BlockScale, sums: &mut [f32]) {
    let sums = &mut sums[..LANES];
    let pair = _mm256_set1_epi32(i32::from(scale.sums[0]) & 0xffff | i32::from(scale.sums[1]) << 16);
    let d = _mm256_set1_ps(scale.d);
    let product = _mm256_cvtepi32_ps(dot::<F>(w, x, f, pair));
    // SAFETY: the slice has eight numbers, and neither access needs alignment.
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

/// Sixteen rows' numbers of one input.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn widen<E: Element>(bytes: &[u8]) -> [__m256; 2] {
    match E::DTYPE {
        Dtype::F16 => [_mm256_cvtph_ps(load_half(bytes, 0)), _mm256_cvtph_ps(load_half(bytes, 16))],
        Dtype::BF16 => [0, 16].map(|at| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(load_half(bytes, at))))),
        _ => [_mm256_castsi256_ps(load(bytes, 0)), _mm256_castsi256_ps(load(bytes, 32))],
    }
}

/// As `scalar::dense`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn dense<E: Element>(panel: &Panel<'_>, x: &Activations, start: usize, sums: &mut [[f32; ROWS]]) {
    let mut rest = sums;
    let mut start = start;
    // The order of the sums does not depend on how many columns share a pass.
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
fn dense_columns<E: Element, const N: usize>(panel: &Panel<'_>, x: &Activations, start: usize, sums: &mut [[f32; ROWS]]) {
    let x: [&[f32]; N] = std::array::from_fn(|column| &x.exact_row(start + column)[..panel.width]);
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
        // SAFETY: both halves have eight numbers, and the stores need no alignment.
        unsafe {
            _mm256_storeu_ps(low.as_mut_ptr(), acc[0]);
            _mm256_storeu_ps(high.as_mut_ptr(), acc[1]);
        }
    }
}

/// Quantises one block, as `quantize::scalar_block`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn quantize(x: &[f32; BLOCK], codes: &mut [i8; BLOCK]) -> BlockScale {
    // SAFETY: the array has 32 numbers, and the loads need no alignment.
    let v = unsafe { [0, 8, 16, 24].map(|at| _mm256_loadu_ps(x.as_ptr().add(at))) };
    let sign = _mm256_set1_ps(-0.0);
    let abs = |v| _mm256_andnot_ps(sign, v);
    let max = _mm256_max_ps(_mm256_max_ps(abs(v[0]), abs(v[1])), _mm256_max_ps(abs(v[2]), abs(v[3])));
    // x - x is zero, or NaN where x is not finite.
    let off = |v| _mm256_sub_ps(v, v);
    let off = _mm256_add_ps(_mm256_add_ps(off(v[0]), off(v[1])), _mm256_add_ps(off(v[2]), off(v[3])));
    if _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_UNORD_Q>(off, off)) != 0 {
        codes.fill(0);
        return BlockScale::NOT_FINITE;
    }
    let max = _mm_max_ps(_mm256_castps256_ps128(max), _mm256_extractf128_ps::<1>(max));
    let max = _mm_max_ps(max, _mm_movehl_ps(max, max));
    let max = _mm_cvtss_f32(_mm_max_ss(max, _mm_movehdup_ps(max)));
    let (d, inverse) = if max < TINY { (0.0, 0.0) } else { (max / 127.0, 127.0 / max) };
    let inverse = _mm256_set1_ps(inverse);
    let round = |v| _mm256_cvtps_epi32(_mm256_mul_ps(v, inverse));
    // 16 numbers each; packing works within 128 bits, so the quarters are put back in order.
    let order = |v| _mm256_permute4x64_epi64::<0b11_01_10_00>(v);
    let first = order(_mm256_packs_epi32(round(v[0]), round(v[1])));
    let last = order(_mm256_packs_epi32(round(v[2]), round(v[3])));
    // SAFETY: the array has 32 bytes, and the store needs no alignment.
    unsafe { _mm256_storeu_si256(codes.as_mut_ptr().cast(), order(_mm256_packs_epi16(first, last))) };
    let sums = [horizontal(first), horizontal(last)];
    BlockScale::new(d, sums)
}

/// The sum of sixteen codes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn horizontal(v: __m256i) -> i16 {
    let v = _mm_add_epi16(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
    let v = _mm_madd_epi16(v, _mm_set1_epi16(1));
    let v = _mm_add_epi32(v, _mm_shuffle_epi32::<0b01_00_11_10>(v));
    let v = _mm_add_epi32(v, _mm_shuffle_epi32::<0b00_00_00_01>(v));
    _mm_cvtsi128_si32(v) as i16
}
