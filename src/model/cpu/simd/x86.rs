//! Sixteen lanes on x86: two AVX registers, or one AVX-512 register.

#![allow(clippy::wildcard_imports)] // Intrinsics have a prefix.

use std::arch::x86_64::*;

use half::f16;

use super::{F32x16, U16x32};

/// Every odd one of 32 16-bit lanes.
const ODD: __mmask32 = 0xaaaa_aaaa;

/// Two AVX registers.
#[derive(Clone, Copy)]
pub(super) struct Pair(__m256, __m256);

// SAFETY (of every block below): the trait's contract guarantees the instructions and the memory.
impl F32x16 for Pair {
    const SCORE_VECTORS: usize = 4;
    const VALUE_REGISTERS: usize = 2;
    type Bytes = (__m256i, __m256i);
    /// The even bytes and the odd bytes, in 16 bits.
    type Quad = (__m256i, __m256i);
    const QUAD_BYTES: usize = 128;
    type Ints = (__m256i, __m256i);
    type U16x32 = (__m256i, __m256i);

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_set1_ps(x), _mm256_set1_ps(x)) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
    }
    #[inline(always)]
    unsafe fn load_half(from: *const f16) -> Self {
        // SAFETY: see above.
        unsafe {
            Self(
                _mm256_cvtph_ps(_mm_loadu_si128(from.cast())),
                _mm256_cvtph_ps(_mm_loadu_si128(from.add(8).cast())),
            )
        }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: see above.
        unsafe {
            _mm256_storeu_ps(to, self.0);
            _mm256_storeu_ps(to.add(8), self.1);
        }
    }
    #[inline(always)]
    unsafe fn store_half(self, to: *mut f16) {
        // SAFETY: see above.
        unsafe {
            _mm_storeu_si128(to.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0));
            _mm_storeu_si128(
                to.add(8).cast(),
                _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.1),
            );
        }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1)) }
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_sub_ps(self.0, other.0), _mm256_sub_ps(self.1, other.1)) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1)) }
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_div_ps(self.0, other.0), _mm256_div_ps(self.1, other.1)) }
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_fmadd_ps(self.0, a.0, b.0), _mm256_fmadd_ps(self.1, a.1, b.1)) }
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_max_ps(self.0, other.0), _mm256_max_ps(self.1, other.1)) }
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_min_ps(self.0, other.0), _mm256_min_ps(self.1, other.1)) }
    }
    #[inline(always)]
    unsafe fn exp2_of_low_bits(self) -> Self {
        // SAFETY: see above.
        unsafe {
            let power = |x| {
                let biased = _mm256_add_epi32(_mm256_castps_si256(x), _mm256_set1_epi32(127));
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
            };
            Self(power(self.0), power(self.1))
        }
    }
    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> Self::Bytes {
        // SAFETY: see above.
        unsafe { (_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast())) }
    }
    #[inline(always)]
    unsafe fn store_quads(from: *const u8, to: *mut u8) {
        // SAFETY: see above.
        unsafe {
            for half in 0..2 {
                let codes = _mm256_loadu_si256(from.add(32 * half).cast());
                _mm256_storeu_si256(
                    to.add(32 * half).cast(),
                    _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(codes)),
                );
                _mm256_storeu_si256(to.add(64 + 32 * half).cast(), _mm256_srai_epi16::<8>(codes));
            }
        }
    }
    #[inline(always)]
    unsafe fn store_high_bytes_as_quads(even: Self::U16x32, odd: Self::U16x32, to: *mut u8) {
        // SAFETY: see above.
        unsafe {
            for (place, words) in [even.0, even.1, odd.0, odd.1].into_iter().enumerate() {
                _mm256_storeu_si256(to.add(32 * place).cast(), _mm256_srli_epi16::<8>(words));
            }
        }
    }
    #[inline(always)]
    unsafe fn quad(from: *const u8, index: usize) -> Self::Quad {
        // SAFETY: see above.
        unsafe {
            let two = |from: *const u8| {
                _mm256_set1_epi32(from.add(4 * index).cast::<i32>().read_unaligned())
            };
            (two(from), two(from.add(64)))
        }
    }
    #[inline(always)]
    unsafe fn add_bytes(sums: Self::Ints, from: *const u8) -> Self::Ints {
        // SAFETY: see above.
        unsafe {
            let half = |sum, half: usize| {
                let two = |from: *const u8| _mm256_loadu_si256(from.add(32 * half).cast());
                let words = _mm256_add_epi16(two(from), two(from.add(64)));
                _mm256_add_epi32(sum, _mm256_madd_epi16(words, _mm256_set1_epi16(1)))
            };
            (half(sums.0, 0), half(sums.1, 1))
        }
    }
    #[inline(always)]
    unsafe fn nonzero_quads(from: *const u8) -> u16 {
        // SAFETY: see above.
        unsafe {
            let half = |half: usize| {
                let two = |from: *const u8| _mm256_loadu_si256(from.add(32 * half).cast());
                let zero = _mm256_cmpeq_epi32(
                    _mm256_or_si256(two(from), two(from.add(64))),
                    _mm256_setzero_si256(),
                );
                !_mm256_movemask_ps(_mm256_castsi256_ps(zero)) as u8
            };
            u16::from_le_bytes([half(0), half(1)])
        }
    }
    #[inline(always)]
    unsafe fn splat_int(x: i32) -> Self::Ints {
        // SAFETY: see above.
        unsafe { (_mm256_set1_epi32(x), _mm256_set1_epi32(x)) }
    }
    #[inline(always)]
    unsafe fn dot(sums: Self::Ints, unsigned: Self::Bytes, signed: Self::Quad) -> Self::Ints {
        // `maddubs` would saturate, so even and odd bytes are widened to 16 bits and go through
        // `madd` separately. SAFETY: see above.
        unsafe {
            let half = |sum, u| {
                let even = _mm256_madd_epi16(_mm256_and_si256(u, _mm256_set1_epi16(255)), signed.0);
                let odd = _mm256_madd_epi16(_mm256_srli_epi16::<8>(u), signed.1);
                _mm256_add_epi32(_mm256_add_epi32(sum, even), odd)
            };
            (half(sums.0, unsigned.0), half(sums.1, unsigned.1))
        }
    }
    #[inline(always)]
    unsafe fn dot_quad(sums: Self::Ints, unsigned: Self::Quad, signed: Self::Bytes) -> Self::Ints {
        // SAFETY: see above.
        unsafe {
            let half = |sum, s| {
                let even = _mm256_madd_epi16(
                    unsigned.0,
                    _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(s)),
                );
                let odd = _mm256_madd_epi16(unsigned.1, _mm256_srai_epi16::<8>(s));
                _mm256_add_epi32(_mm256_add_epi32(sum, even), odd)
            };
            (half(sums.0, signed.0), half(sums.1, signed.1))
        }
    }
    #[inline(always)]
    unsafe fn from_ints(x: Self::Ints) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_cvtepi32_ps(x.0), _mm256_cvtepi32_ps(x.1)) }
    }
    #[inline(always)]
    unsafe fn low_u16(even: Self, odd: Self) -> Self::U16x32 {
        // SAFETY: see above.
        unsafe {
            let join = |even, odd| {
                _mm256_blend_epi16::<0xaa>(
                    _mm256_castps_si256(even),
                    _mm256_slli_epi32::<16>(_mm256_castps_si256(odd)),
                )
            };
            (join(even.0, odd.0), join(even.1, odd.1))
        }
    }
    #[inline(always)]
    unsafe fn store_low_bytes(self, to: *mut u8) {
        // SAFETY: see above.
        unsafe {
            let low = |x| _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(255));
            // Packing works within 128-bit lanes, so the permutation reorders the quarters.
            let words = _mm256_packus_epi32(low(self.0), low(self.1));
            let bytes = _mm256_packus_epi16(words, words);
            let ordered =
                _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 0, 4, 1, 5));
            _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(ordered));
        }
    }
    #[inline(always)]
    unsafe fn store_four_low_bytes(four: [Self; 4], to: *mut u8) {
        // SAFETY: see above.
        unsafe {
            let join = |[a, b, c, d]: [__m256; 4]| {
                let low = |x| _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(255));
                let ab = _mm256_or_si256(low(a), _mm256_slli_epi32::<8>(low(b)));
                let cd = _mm256_or_si256(
                    _mm256_slli_epi32::<16>(low(c)),
                    _mm256_slli_epi32::<24>(_mm256_castps_si256(d)),
                );
                _mm256_or_si256(ab, cd)
            };
            _mm256_storeu_si256(to.cast(), join(four.map(|x| x.0)));
            _mm256_storeu_si256(to.add(32).cast(), join(four.map(|x| x.1)));
        }
    }
}

impl F32x16 for __m512 {
    const SCORE_VECTORS: usize = 16;
    const VALUE_REGISTERS: usize = 4;
    type Bytes = __m512i;
    type Quad = __m512i;
    const QUAD_BYTES: usize = 64;
    type Ints = __m512i;
    type U16x32 = __m512i;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn load_half(from: *const f16) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: see above.
        unsafe { _mm512_storeu_ps(to, self) }
    }
    #[inline(always)]
    unsafe fn store_half(self, to: *mut f16) {
        // SAFETY: see above.
        unsafe {
            _mm256_storeu_si256(to.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self));
        }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_add_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_sub_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_mul_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_div_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_fmadd_ps(self, a, b) }
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_max_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_min_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn exp2_of_low_bits(self) -> Self {
        // SAFETY: see above.
        unsafe {
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_add_epi32(
                _mm512_castps_si512(self),
                _mm512_set1_epi32(127),
            )))
        }
    }
    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store_quads(from: *const u8, to: *mut u8) {
        // SAFETY: see above.
        unsafe { _mm512_storeu_si512(to.cast(), _mm512_loadu_si512(from.cast())) }
    }
    #[inline(always)]
    unsafe fn store_high_bytes_as_quads(even: __m512i, odd: __m512i, to: *mut u8) {
        // SAFETY: see above.
        unsafe {
            // even >> 8 | odd & !mask; the second half in one instruction: a | (b & !c).
            let even = _mm512_srli_epi16::<8>(even);
            let all = _mm512_ternarylogic_epi32::<0b1111_0100>(even, odd, _mm512_set1_epi16(255));
            _mm512_storeu_si512(to.cast(), all);
        }
    }
    #[inline(always)]
    unsafe fn quad(from: *const u8, index: usize) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_set1_epi32(from.add(4 * index).cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn add_bytes(sums: __m512i, from: *const u8) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_dpbusd_epi32(sums, _mm512_loadu_si512(from.cast()), _mm512_set1_epi8(1)) }
    }
    #[inline(always)]
    unsafe fn nonzero_quads(from: *const u8) -> u16 {
        // SAFETY: see above.
        unsafe {
            let codes = _mm512_loadu_si512(from.cast());
            _mm512_test_epi32_mask(codes, codes)
        }
    }
    #[inline(always)]
    unsafe fn splat_int(x: i32) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_set1_epi32(x) }
    }
    #[inline(always)]
    unsafe fn dot(sums: __m512i, unsigned: __m512i, signed: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_dpbusd_epi32(sums, unsigned, signed) }
    }
    #[inline(always)]
    unsafe fn dot_quad(sums: __m512i, unsigned: __m512i, signed: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe { _mm512_dpbusd_epi32(sums, unsigned, signed) }
    }
    #[inline(always)]
    unsafe fn from_ints(x: __m512i) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_cvtepi32_ps(x) }
    }
    #[inline(always)]
    unsafe fn low_u16(even: Self, odd: Self) -> __m512i {
        // SAFETY: see above.
        unsafe {
            _mm512_mask_mov_epi16(
                _mm512_castps_si512(even),
                ODD,
                _mm512_slli_epi32::<16>(_mm512_castps_si512(odd)),
            )
        }
    }
    #[inline(always)]
    unsafe fn store_low_bytes(self, to: *mut u8) {
        // SAFETY: see above.
        unsafe { _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(_mm512_castps_si512(self))) }
    }
    #[inline(always)]
    unsafe fn store_four_low_bytes(four: [Self; 4], to: *mut u8) {
        // SAFETY: see above.
        unsafe {
            // a & mask | b in one instruction.
            let masked = |a, mask, b| _mm512_ternarylogic_epi32::<0b1110_1010>(a, mask, b);
            let [a, b, c, d] = four.map(|x| _mm512_castps_si512(x));
            let byte = _mm512_set1_epi32(255);
            let cd = masked(c, byte, _mm512_slli_epi32::<8>(d));
            let ab = masked(a, byte, _mm512_slli_epi32::<8>(_mm512_and_si512(b, byte)));
            let all = masked(ab, _mm512_set1_epi32(0xffff), _mm512_slli_epi32::<16>(cd));
            _mm512_storeu_si512(to.cast(), all);
        }
    }
}

impl U16x32 for (__m256i, __m256i) {
    #[inline(always)]
    unsafe fn splat(x: u16) -> Self {
        // SAFETY: see above.
        unsafe { (_mm256_set1_epi16(x.cast_signed()), _mm256_set1_epi16(x.cast_signed())) }
    }
    #[inline(always)]
    unsafe fn load(from: *const u16) -> Self {
        // SAFETY: see above.
        unsafe { (_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(16).cast())) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut u16) {
        // SAFETY: see above.
        unsafe {
            _mm256_storeu_si256(to.cast(), self.0);
            _mm256_storeu_si256(to.add(16).cast(), self.1);
        }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { (_mm256_add_epi16(self.0, other.0), _mm256_add_epi16(self.1, other.1)) }
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { (_mm256_sub_epi16(self.0, other.0), _mm256_sub_epi16(self.1, other.1)) }
    }
    #[inline(always)]
    unsafe fn max_signed(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { (_mm256_max_epi16(self.0, other.0), _mm256_max_epi16(self.1, other.1)) }
    }
    #[inline(always)]
    unsafe fn mul_high(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { (_mm256_mulhi_epu16(self.0, other.0), _mm256_mulhi_epu16(self.1, other.1)) }
    }
    #[inline(always)]
    unsafe fn shift_left(self, by: u16) -> Self {
        // SAFETY: see above.
        unsafe {
            let by = _mm_cvtsi32_si128(by.into());
            (_mm256_sll_epi16(self.0, by), _mm256_sll_epi16(self.1, by))
        }
    }
    #[inline(always)]
    unsafe fn shift_right(self, by: u16) -> Self {
        // SAFETY: see above.
        unsafe {
            let by = _mm_cvtsi32_si128(by.into());
            (_mm256_srl_epi16(self.0, by), _mm256_srl_epi16(self.1, by))
        }
    }
    #[inline(always)]
    unsafe fn shift_right_each(self, by: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            // Per-lane shifts exist for 32 bits only. An odd 16-bit lane is shifted in place,
            // together with the one below it; an even one is masked first.
            let shift = |x, by| {
                let low = _mm256_set1_epi32(0xffff);
                let even = _mm256_srlv_epi32(_mm256_and_si256(x, low), _mm256_and_si256(by, low));
                let odd = _mm256_srlv_epi32(x, _mm256_srli_epi32::<16>(by));
                _mm256_blend_epi16::<0xaa>(even, odd)
            };
            (shift(self.0, by.0), shift(self.1, by.1))
        }
    }
}

/// x / 2^by per 16-bit lane, 0 if `by` is 16 or more. The compiler adds a comparison to the
/// intrinsic for that case, which the instruction itself already handles.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn shift_right_each(mut x: __m512i, by: __m512i) -> __m512i {
    // SAFETY: an instruction of AVX-512 BW that writes one register.
    unsafe {
        std::arch::asm!(
            "vpsrlvw {x}, {x}, {by}",
            x = inout(zmm_reg) x,
            by = in(zmm_reg) by,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    x
}

impl U16x32 for __m512i {
    #[inline(always)]
    unsafe fn splat(x: u16) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_set1_epi16(x.cast_signed()) }
    }
    #[inline(always)]
    unsafe fn load(from: *const u16) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut u16) {
        // SAFETY: see above.
        unsafe { _mm512_storeu_si512(to.cast(), self) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_add_epi16(self, other) }
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_sub_epi16(self, other) }
    }
    #[inline(always)]
    unsafe fn max_signed(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_max_epi16(self, other) }
    }
    #[inline(always)]
    unsafe fn mul_high(self, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_mulhi_epu16(self, other) }
    }
    #[inline(always)]
    unsafe fn shift_left(self, by: u16) -> Self {
        // SAFETY: see above.
        // By multiplying: the shifts of this kernel have too few ports as it is.
        unsafe { _mm512_mullo_epi16(self, Self::splat(1u16.checked_shl(by.into()).unwrap_or(0))) }
    }
    #[inline(always)]
    unsafe fn shift_right(self, by: u16) -> Self {
        // SAFETY: see above.
        unsafe { _mm512_srl_epi16(self, _mm_cvtsi32_si128(by.into())) }
    }
    #[inline(always)]
    unsafe fn shift_right_each(self, by: Self) -> Self {
        // SAFETY: see above.
        unsafe { shift_right_each(self, by) }
    }
}
