//! The kernels for AVX2, FMA and F16C: eight rows a register, the order of `scalar.rs`.
//!
//! `maddubs` adds two products of a code and an activation in 16 bits; how often that may be
//! repeated before widening depends on the code's bits: 15 * 127 * 16, 31 * 127 * 8 and 63 * 127 *
//! 4 (eight, four, two times) stay below 2^15.
//!
//! With few columns, a block of eight rows is unpacked into eight registers, one per run of four
//! inputs, and meets one column after the other; codes of 8 bits lend their sign to the activation
//! first. With more, the sums stay in registers instead: the codes of sixteen rows lie unpacked in
//! the first-level cache, and an activation is loaded once for both halves. Codes of 8 bits are
//! widened to 16 there, as their activations are: a product is then added without a step between.

#![allow(clippy::inline_always)] // What has to be inlined, see `unpack`.
#![allow(clippy::needless_range_loop)] // Registers by number: what goes by iterators is not always unrolled.
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
///
/// # Safety
/// Only for functions that have this file's instructions: as a function of its own it would hand
/// the registers over in memory, and what has features cannot be told to be inlined.
#[inline(always)]
unsafe fn unpack<F: Format>(lines: &[u8], half: usize) -> [__m256i; RUNS] {
    // SAFETY: the caller's promise.
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
}

/// Eight rows' scales of one block.
#[derive(Clone, Copy)]
struct Factors {
    d: __m256,
    m: __m256,
    /// The scale of either half of the block, twice in each 32 bits: for `maddwd` with sums of that
    /// half.
    first: __m256i,
    last: __m256i,
    /// The halves' scales (minima) side by side: for `maddwd` with the activations' two sums.
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
        // The low 16 bits of `a` beside those of `b`.
        let beside = |a, b| _mm256_blend_epi16::<0b1010_1010>(a, _mm256_slli_epi32::<16>(b));
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
                    first: beside(a, a),
                    last: beside(b, b),
                    scales: beside(a, b),
                    ..none
                }
            }
            Scales::Super16Min => {
                let (a, b) = (bytes(0), bytes(1));
                let mins = beside(bytes(2), bytes(3));
                let m = negative(f16s(supers, 1));
                Self {
                    d: f16s(supers, 0),
                    m,
                    first: beside(a, a),
                    last: beside(b, b),
                    scales: beside(a, b),
                    mins,
                }
            }
        }
    }
}

/// The four activations of a run, in every lane.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn run(x: &[i8; BLOCK], k: usize) -> __m256i {
    _mm256_set1_epi32(i32::from_le_bytes([
        x[4 * k] as u8,
        x[4 * k + 1] as u8,
        x[4 * k + 2] as u8,
        x[4 * k + 3] as u8,
    ]))
}

/// Takes off what the codes' zero adds where either half of a block has a scale of its own.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn less_zero<F: Format>(sum: __m256i, f: &Factors, sums: __m256i) -> __m256i {
    let shift = _mm_cvtsi32_si128(F::ZERO.trailing_zeros().cast_signed());
    _mm256_sub_epi32(sum, _mm256_sll_epi32(_mm256_madd_epi16(sums, f.scales), shift))
}

/// The integer sums of eight rows with one column; `sums` are the column's two sums in every lane.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot<F: Format>(w: &[__m256i; RUNS], x: &[i8; BLOCK], f: &Factors, sums: __m256i) -> __m256i {
    let run = |k| run(x, k);
    let ones = _mm256_set1_epi16(1);
    let two = |k: usize| {
        _mm256_add_epi16(
            _mm256_maddubs_epi16(w[k], run(k)),
            _mm256_maddubs_epi16(w[k + 1], run(k + 1)),
        )
    };
    let four = |k: usize| _mm256_add_epi16(two(k), two(k + 2));
    let add = |a, b| _mm256_add_epi32(a, b);
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
            if F::ZERO == 0 { sum } else { less_zero::<F>(sum, f, sums) }
        }
        (8, _) => {
            let signed = |k: usize| {
                let products =
                    _mm256_maddubs_epi16(_mm256_abs_epi8(w[k]), _mm256_sign_epi8(run(k), w[k]));
                _mm256_madd_epi16(products, ones)
            };
            add(
                add(add(signed(0), signed(1)), add(signed(2), signed(3))),
                add(add(signed(4), signed(5)), add(signed(6), signed(7))),
            )
        }
        _ => {
            let sum = if F::BITS == 4 {
                _mm256_madd_epi16(_mm256_add_epi16(four(0), four(4)), ones)
            } else {
                add(_mm256_madd_epi16(four(0), ones), _mm256_madd_epi16(four(4), ones))
            };
            if F::ZERO == 0 {
                sum
            } else {
                _mm256_sub_epi32(sum, _mm256_madd_epi16(sums, _mm256_set1_epi16(F::ZERO)))
            }
        }
    }
}

/// Columns from which on it is faster to keep the sums of codes of so many bits in registers.
pub(super) const fn many(bits: usize) -> usize {
    if bits == 4 { 8 } else { 16 }
}

/// As `scalar::coded`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn coded<F: Format>(
    panel: &Panel<'_>,
    x: &Activations,
    start: usize,
    sums: &mut [[f32; ROWS]],
) {
    // Sums of codes of 6 bits are widened after every second run: they would gain nothing.
    if F::BITS == 6 || sums.len() < many(F::BITS) {
        few_columns::<F>(panel, x, start, sums);
        return;
    }
    // As many columns side by side as registers hold: sums that are widened on the way take two.
    match (F::BITS, F::SCALES) {
        (8, _) => many_columns::<F, { 2 * RUNS }, 4>(panel, x, start, sums),
        (4, Scales::Plain | Scales::Min | Scales::SuperMin) => {
            many_columns::<F, RUNS, 4>(panel, x, start, sums);
        }
        _ => many_columns::<F, RUNS, 2>(panel, x, start, sums),
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
        let codes = x.block_codes(b, start, columns).as_chunks::<BLOCK>().0;
        let scales = x.block_scales(b, start, columns);
        panel.prefetch::<F>(b);
        for half in 0..ROWS / LANES {
            // SAFETY: this function has the instructions.
            let w = unsafe { unpack::<F>(panel.codes::<F>(b), half) };
            let f = Factors::read::<F>(panel, b, half);
            for ((x, scale), sums) in codes.iter().zip(scales).zip(&mut *sums) {
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

/// Takes N columns at once through a block, in so many STEPS.
#[target_feature(enable = "avx2,fma,f16c")]
fn many_columns<F: Format, const STEPS: usize, const N: usize>(
    panel: &Panel<'_>,
    x: &Activations,
    start: usize,
    sums: &mut [[f32; ROWS]],
) {
    let columns = sums.len();
    let mut planes = [[_mm256_setzero_si256(); STEPS]; 2];
    for b in 0..panel.blocks() {
        panel.prefetch::<F>(b);
        for (half, plane) in planes.iter_mut().enumerate() {
            // SAFETY: this function has the instructions.
            let codes = unsafe { unpack::<F>(panel.codes::<F>(b), half) };
            for k in 0..RUNS {
                if F::BITS == 8 {
                    [plane[k], plane[RUNS + k]] = widen_codes(codes[k]);
                } else {
                    plane[k] = codes[k];
                }
            }
        }
        let f = [Factors::read::<F>(panel, b, 0), Factors::read::<F>(panel, b, 1)];
        let (scales, more_scales) = x.block_scales(b, start, columns).as_chunks::<N>();
        let x = if F::BITS == 8 {
            as_steps(x.block_words(b, start, columns))
        } else {
            as_steps(x.block_codes(b, start, columns))
        };
        let (x, more_x) = x.as_chunks::<STEPS>().0.as_chunks::<N>();
        let (each, more) = sums.as_chunks_mut::<N>();
        for ((x, scales), sums) in x.iter().zip(scales).zip(each) {
            add_columns::<F, STEPS, N>(&planes, &f, x, scales, sums);
        }
        for ((x, scale), sums) in more_x.iter().zip(more_scales).zip(more) {
            add_columns::<F, STEPS, 1>(
                &planes,
                &f,
                std::array::from_ref(x),
                std::array::from_ref(scale),
                std::array::from_mut(sums),
            );
        }
    }
}

/// The activations of each step, four in 8 bits or two in 16.
fn as_steps<T>(numbers: &[T]) -> &[[u8; 4]] {
    // SAFETY: a slice of bytes is what it is asked as, of the same length; only integers come here.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), size_of_val(numbers) / 4) }
}

/// A block's codes of both halves of the rows: a register for each run of four inputs or, in 16
/// bits, for the even ones of each run and then for the odd ones.
type Planes<const STEPS: usize> = [[__m256i; STEPS]; 2];

/// The even bytes and the odd ones, in 16 bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn widen_codes(codes: __m256i) -> [__m256i; 2] {
    [_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(codes)), _mm256_srai_epi16::<8>(codes)]
}

/// Does nothing that the compiler knows: it would add in another order, in which the sums do not
/// fit the registers.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn hold<const N: usize>(sums: &mut [[__m256i; 2]; N]) {
    for pair in sums {
        let [mut a, mut b] = *pair;
        // SAFETY: no instruction at all.
        unsafe {
            std::arch::asm!("/* {a} {b} */", a = inout(ymm_reg) a, b = inout(ymm_reg) b, options(pure, nomem, nostack, preserves_flags));
        }
        *pair = [a, b];
    }
}

/// The integer sums of sixteen rows with some columns, by halves.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_columns<F: Format, const STEPS: usize, const N: usize>(
    planes: &Planes<STEPS>,
    f: &[Factors; 2],
    x: &[[[u8; 4]; STEPS]; N],
) -> [[__m256i; 2]; N] {
    let step = |column: usize, k: usize| _mm256_set1_epi32(i32::from_le_bytes(x[column][k]));
    let none = [[_mm256_setzero_si256(); 2]; N];
    let mut products = none;
    if F::BITS == 8 {
        for k in 0..STEPS {
            let (low, high) = (planes[0][k], planes[1][k]);
            for i in 0..N {
                let x = step(i, k);
                products[i][0] = _mm256_add_epi32(products[i][0], _mm256_madd_epi16(low, x));
                products[i][1] = _mm256_add_epi32(products[i][1], _mm256_madd_epi16(high, x));
            }
            hold(&mut products);
        }
        return products;
    }
    // How many runs fit 16 bits, and in how many the scale is the same. Codes of 6 bits do not come
    // here.
    let together = match (F::BITS, F::SCALES) {
        (5, _) | (_, Scales::Super16 | Scales::Super16Min) => 4,
        _ => RUNS,
    };
    for from in (0..RUNS).step_by(together) {
        let mut words = none;
        for k in from..from + together {
            let (low, high) = (planes[0][k], planes[1][k]);
            for i in 0..N {
                let x = step(i, k);
                words[i][0] = _mm256_add_epi16(words[i][0], _mm256_maddubs_epi16(low, x));
                words[i][1] = _mm256_add_epi16(words[i][1], _mm256_maddubs_epi16(high, x));
            }
            hold(&mut words);
        }
        for (products, words) in products.iter_mut().zip(&words) {
            for ((product, words), f) in products.iter_mut().zip(words).zip(f) {
                let scale = match F::SCALES {
                    Scales::Super16 | Scales::Super16Min if from < RUNS / 2 => f.first,
                    Scales::Super16 | Scales::Super16Min => f.last,
                    _ => _mm256_set1_epi16(1),
                };
                *product = _mm256_add_epi32(*product, _mm256_madd_epi16(*words, scale));
            }
        }
    }
    products
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn add_columns<F: Format, const STEPS: usize, const N: usize>(
    planes: &Planes<STEPS>,
    f: &[Factors; 2],
    x: &[[[u8; 4]; STEPS]; N],
    scales: &[BlockScale; N],
    sums: &mut [[f32; ROWS]; N],
) {
    let products = dot_columns::<F, STEPS, N>(planes, f, x);
    for i in 0..N {
        let (scale, sums) = (&scales[i], &mut sums[i]);
        let pair = pair(scale);
        for half in 0..2 {
            let (product, f) = (products[i][half], &f[half]);
            let product = match F::SCALES {
                _ if F::ZERO == 0 => product,
                Scales::Super16 | Scales::Super16Min => less_zero::<F>(product, f, pair),
                _ => {
                    let shift = _mm_cvtsi32_si128(F::ZERO.trailing_zeros().cast_signed());
                    _mm256_add_epi32(
                        product,
                        _mm256_sll_epi32(_mm256_set1_epi32(scale.negative), shift),
                    )
                }
            };
            add_block::<F>(product, f, pair, scale, &mut sums[half * LANES..]);
        }
    }
}

/// A column's two sums, in every lane.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn pair(scale: &BlockScale) -> __m256i {
    _mm256_set1_epi32(i32::from(scale.sums[0]) & 0xffff | i32::from(scale.sums[1]) << 16)
}

/// Adds what the integer sums of eight rows with one column stand for.
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
        Dtype::BF16 => [0, 16].map(|at| {
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(load_half(
                bytes, at,
            ))))
        }),
        _ => [_mm256_castsi256_ps(load(bytes, 0)), _mm256_castsi256_ps(load(bytes, 32))],
    }
}

/// As `scalar::dense`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn dense<E: Element>(
    panel: &Panel<'_>,
    x: &Activations,
    start: usize,
    sums: &mut [[f32; ROWS]],
) {
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
fn dense_columns<E: Element, const N: usize>(
    panel: &Panel<'_>,
    x: &Activations,
    start: usize,
    sums: &mut [[f32; ROWS]],
) {
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
pub(super) fn quantize(x: &[f32; BLOCK], codes: &mut [i8; BLOCK], scale: &mut BlockScale) {
    // SAFETY: the array has 32 numbers, and the loads need no alignment.
    let v = unsafe { [0, 8, 16, 24].map(|at| _mm256_loadu_ps(x.as_ptr().add(at))) };
    let sign = _mm256_set1_ps(-0.0);
    let abs = |v| _mm256_andnot_ps(sign, v);
    let max =
        _mm256_max_ps(_mm256_max_ps(abs(v[0]), abs(v[1])), _mm256_max_ps(abs(v[2]), abs(v[3])));
    // x - x is zero, or NaN where x is not finite.
    let off = |v| _mm256_sub_ps(v, v);
    let off =
        _mm256_add_ps(_mm256_add_ps(off(v[0]), off(v[1])), _mm256_add_ps(off(v[2]), off(v[3])));
    if _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_UNORD_Q>(off, off)) != 0 {
        codes.fill(0);
        *scale = BlockScale::NOT_FINITE;
        return;
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
    unsafe {
        _mm256_storeu_si256(codes.as_mut_ptr().cast(), order(_mm256_packs_epi16(first, last)));
    };
    scale.set(d, [horizontal(first), horizontal(last)]);
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
