//! Kernels for AVX-512 with VNNI: sixteen rows per register, in the order of `scalar.rs`.
//!
//! `vpdpbusd` adds four products of an unsigned quant and a signed activation in 32 bits, and
//! broadcasts the activations from memory in the same instruction. 8-bit quants are biased by 128
//! to be unsigned; 128·Σx is subtracted afterwards.

#![allow(clippy::wildcard_imports)] // Intrinsics have a prefix.

use std::arch::x86_64::*;

use super::layout::{BLOCK, Element, Format, LINE, Panel, ROWS, Scales};
use super::quantize::{Activations, BlockScale};
use crate::format::dtype::Dtype;

/// Quads (groups of four inputs) per block.
const QUADS: usize = BLOCK / 4;

/// Loads 64 bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
fn load(bytes: &[u8], at: usize) -> __m512i {
    let bytes = &bytes[at..at + 64];
    // SAFETY: the slice has 64 bytes, and the load needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// Loads 32 bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
fn load_half(bytes: &[u8], at: usize) -> __m256i {
    let bytes = &bytes[at..at + 32];
    // SAFETY: the slice has 32 bytes, and the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// Loads 16 bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
fn load_quarter(bytes: &[u8], at: usize) -> __m128i {
    let bytes = &bytes[at..at + 16];
    // SAFETY: the slice has 16 bytes, and the load needs no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// Sixteen rows' quants of one block, one register per quad; 8-bit quants are biased by 128.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
fn unpack<F: Format>(lines: &[u8]) -> [__m512i; QUADS] {
    let line = |j: usize| load(lines, j * LINE);
    if F::BITS == 8 {
        let up = |j: usize| _mm512_xor_si512(line(j), _mm512_set1_epi8(-128));
        return [up(0), up(1), up(2), up(3), up(4), up(5), up(6), up(7)];
    }
    let nibble = _mm512_set1_epi8(15);
    let [a, b, c, d] = [line(0), line(1), line(2), line(3)];
    let low = |v| _mm512_and_si512(v, nibble);
    let high = |v| _mm512_and_si512(_mm512_srli_epi16::<4>(v), nibble);
    let w = [low(a), low(b), low(c), low(d), high(a), high(b), high(c), high(d)];
    // a | (b & mask) in one instruction. Shifts cross bytes; the mask removes the neighbor's bits.
    match F::BITS {
        5 => {
            let (h, bit) = (line(4), _mm512_set1_epi8(16));
            let or = |w, h| _mm512_ternarylogic_epi32::<0b1111_1000>(w, h, bit);
            [
                or(w[0], _mm512_slli_epi16::<4>(h)),
                or(w[1], _mm512_slli_epi16::<3>(h)),
                or(w[2], _mm512_slli_epi16::<2>(h)),
                or(w[3], _mm512_slli_epi16::<1>(h)),
                or(w[4], h),
                or(w[5], _mm512_srli_epi16::<1>(h)),
                or(w[6], _mm512_srli_epi16::<2>(h)),
                or(w[7], _mm512_srli_epi16::<3>(h)),
            ]
        }
        6 => {
            let (h, g, bits) = (line(4), line(5), _mm512_set1_epi8(48));
            let or = |w, h| _mm512_ternarylogic_epi32::<0b1111_1000>(w, h, bits);
            [
                or(w[0], _mm512_slli_epi16::<4>(h)),
                or(w[1], _mm512_slli_epi16::<2>(h)),
                or(w[2], h),
                or(w[3], _mm512_srli_epi16::<2>(h)),
                or(w[4], _mm512_slli_epi16::<4>(g)),
                or(w[5], _mm512_slli_epi16::<2>(g)),
                or(w[6], g),
                or(w[7], _mm512_srli_epi16::<2>(g)),
            ]
        }
        _ => w,
    }
}

/// Sixteen rows' scales of one block.
#[derive(Clone, Copy)]
struct Factors {
    d: __m512,
    m: __m512,
    /// The scale of either half of the block.
    first: __m512i,
    last: __m512i,
    /// The scales (minima) of both halves in 16 bits, interleaved: for `maddwd` with the
    /// activations' two sums.
    scales: __m512i,
    mins: __m512i,
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
fn factors<F: Format>(panel: &Panel<'_>, b: usize) -> Factors {
    let (scales, supers) = (panel.scales::<F>(b), panel.supers::<F>(b));
    let f16s = |bytes: &[u8], array: usize| _mm512_cvtph_ps(load_half(bytes, array * ROWS * 2));
    let bytes = |array: usize| _mm512_cvtepu8_epi32(load_quarter(scales, array * ROWS));
    let floats = |array: usize| _mm512_cvtepi32_ps(bytes(array));
    let negative = |v| {
        _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(v), _mm512_set1_epi32(i32::MIN)))
    };
    let interleave16 = |a, b| {
        _mm512_or_si512(_mm512_and_si512(a, _mm512_set1_epi32(0xffff)), _mm512_slli_epi32::<16>(b))
    };
    let none = _mm512_setzero_si512();
    let plain = |d, m| Factors { d, m, first: none, last: none, scales: none, mins: none };
    let zero = _mm512_setzero_ps();
    match F::SCALES {
        Scales::Plain => plain(f16s(scales, 0), zero),
        Scales::Min => plain(f16s(scales, 0), f16s(scales, 1)),
        Scales::SuperMin => plain(
            _mm512_mul_ps(f16s(supers, 0), floats(0)),
            _mm512_mul_ps(negative(f16s(supers, 1)), floats(1)),
        ),
        Scales::Super16 => {
            let signed = |array: usize| _mm512_cvtepi8_epi32(load_quarter(scales, array * ROWS));
            let (a, b) = (signed(0), signed(1));
            Factors {
                d: f16s(supers, 0),
                m: zero,
                first: a,
                last: b,
                scales: interleave16(a, b),
                mins: none,
            }
        }
        Scales::Super16Min => {
            let (a, b) = (bytes(0), bytes(1));
            let m = negative(f16s(supers, 1));
            Factors {
                d: f16s(supers, 0),
                m,
                first: a,
                last: b,
                scales: interleave16(a, b),
                mins: interleave16(bytes(2), bytes(3)),
            }
        }
    }
}

/// Columns per pass: independent chains of `vpdpbusd` hide its latency of five cycles.
const COLUMNS_PER_PASS: usize = 4;

/// Integer dot products of sixteen rows with N columns. `sums` are each column's two sums,
/// broadcast.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
fn dot<F: Format, const N: usize>(
    w: &[__m512i; QUADS],
    x: &[[i8; BLOCK]; N],
    f: &Factors,
    scales: &[BlockScale; N],
    sums: &[__m512i; N],
) -> [__m512i; N] {
    let quad = |x: &[i8; BLOCK], k: usize| {
        _mm512_set1_epi32(i32::from_le_bytes([
            x[4 * k] as u8,
            x[4 * k + 1] as u8,
            x[4 * k + 2] as u8,
            x[4 * k + 3] as u8,
        ]))
    };
    let four_quads = |mut sums: [__m512i; N], from: usize| {
        for (k, w) in w.iter().enumerate().skip(from).take(4) {
            for (sum, x) in sums.iter_mut().zip(x) {
                *sum = _mm512_dpbusd_epi32(*sum, *w, quad(x, k));
            }
        }
        sums
    };
    let none = [_mm512_setzero_si512(); N];
    if matches!(F::SCALES, Scales::Super16 | Scales::Super16Min) {
        let (first, last) = (four_quads(none, 0), four_quads(none, 4));
        return std::array::from_fn(|i| {
            let sum = _mm512_add_epi32(
                _mm512_mullo_epi32(first[i], f.first),
                _mm512_mullo_epi32(last[i], f.last),
            );
            if F::ZERO_POINT == 0 {
                return sum;
            }
            let shift = _mm_cvtsi32_si128(F::ZERO_POINT.trailing_zeros().cast_signed());
            _mm512_sub_epi32(sum, _mm512_sll_epi32(_mm512_madd_epi16(sums[i], f.scales), shift))
        });
    }
    // The sums start at minus the contribution of the zero point.
    let zero: i16 = if F::BITS == 8 { 128 } else { F::ZERO_POINT };
    let start = if zero == 0 {
        none
    } else {
        let shift = _mm_cvtsi32_si128(zero.trailing_zeros().cast_signed());
        std::array::from_fn(|i| _mm512_sll_epi32(_mm512_set1_epi32(scales[i].neg_sum), shift))
    };
    four_quads(four_quads(start, 0), 4)
}

/// Like `scalar::quantized`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) fn quantized<F: Format>(
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
        let w = unpack::<F>(panel.quants::<F>(b));
        let f = factors::<F>(panel, b);
        let ((quants, more_quants), (scales, more_scales)) =
            (quants.as_chunks::<COLUMNS_PER_PASS>(), scales.as_chunks::<COLUMNS_PER_PASS>());
        let (each, more) = sums.as_chunks_mut::<COLUMNS_PER_PASS>();
        for ((x, scales), sums) in quants.iter().zip(scales).zip(each) {
            add_block::<F, COLUMNS_PER_PASS>(&w, &f, x, scales, sums);
        }
        for ((x, scale), sums) in more_quants.iter().zip(more_scales).zip(more) {
            add_block::<F, 1>(
                &w,
                &f,
                std::array::from_ref(x),
                std::array::from_ref(scale),
                std::array::from_mut(sums),
            );
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
fn add_block<F: Format, const N: usize>(
    w: &[__m512i; QUADS],
    f: &Factors,
    x: &[[i8; BLOCK]; N],
    scales: &[BlockScale; N],
    sums: &mut [[f32; ROWS]; N],
) {
    let pair = |scale: &BlockScale| {
        _mm512_set1_epi32(i32::from(scale.sums[0]) & 0xffff | i32::from(scale.sums[1]) << 16)
    };
    let pairs: [__m512i; N] = std::array::from_fn(|i| pair(&scales[i]));
    let products = dot::<F, N>(w, x, f, scales, &pairs);
    for (i, (sums, scale)) in sums.iter_mut().zip(scales).enumerate() {
        let d = _mm512_set1_ps(scale.d);
        // SAFETY: the array has sixteen values, and neither access needs alignment.
        let sum = unsafe { _mm512_loadu_ps(sums.as_ptr()) };
        let sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products[i]), _mm512_mul_ps(f.d, d), sum);
        let sum = match F::SCALES {
            Scales::Plain | Scales::Super16 => sum,
            Scales::Min | Scales::SuperMin => _mm512_fmadd_ps(f.m, _mm512_set1_ps(scale.s), sum),
            Scales::Super16Min => {
                let mins = _mm512_cvtepi32_ps(_mm512_madd_epi16(pairs[i], f.mins));
                _mm512_fmadd_ps(mins, _mm512_mul_ps(f.m, d), sum)
            }
        };
        // SAFETY: as above.
        unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), sum) }
    }
}

/// Sixteen rows' values of one input.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
fn widen<E: Element>(bytes: &[u8]) -> __m512 {
    match E::DTYPE {
        Dtype::F16 => _mm512_cvtph_ps(load_half(bytes, 0)),
        Dtype::BF16 => {
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(load_half(bytes, 0))))
        }
        _ => _mm512_castsi512_ps(load(bytes, 0)),
    }
}

/// Like `scalar::dense`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
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
        let now = rest.len().min(8);
        let now = if now.is_power_of_two() { now } else { now.next_power_of_two() / 2 };
        let (columns, others) = std::mem::take(&mut rest).split_at_mut(now);
        match columns.len() {
            8 => dense_columns::<E, 8>(panel, x, start, columns),
            4 => dense_columns::<E, 4>(panel, x, start, columns),
            2 => dense_columns::<E, 2>(panel, x, start, columns),
            _ => dense_columns::<E, 1>(panel, x, start, columns),
        }
        start += now;
        rest = others;
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
fn dense_columns<E: Element, const N: usize>(
    panel: &Panel<'_>,
    x: &Activations,
    start: usize,
    sums: &mut [[f32; ROWS]],
) {
    let x: [&[f32]; N] = std::array::from_fn(|column| &x.f32_row(start + column)[..panel.width]);
    let mut acc = [_mm512_setzero_ps(); N];
    for i in 0..panel.width {
        panel.prefetch_dense::<E>(i);
        let w = widen::<E>(panel.dense::<E>(i));
        for (acc, x) in acc.iter_mut().zip(x) {
            *acc = _mm512_fmadd_ps(w, _mm512_set1_ps(x[i]), *acc);
        }
    }
    for (sums, acc) in sums.iter_mut().zip(acc) {
        // SAFETY: the array has sixteen values, and the store needs no alignment.
        unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), acc) }
    }
}
