//! Softmax weights in 16-bit integers: 2^-x by a polynomial, and rounding offsets that preserve the
//! sum of small weights.
//!
//! All arithmetic is exact integer arithmetic, so all instruction sets agree to the bit.

use super::super::simd::{U16_LANES, U16x32};
use super::host_kv::SPAN;

/// Most fraction bits of a score: its unit is then 2^-12 of a doubling.
pub(super) const MAX_FRACTION_BITS: i32 = 12;

/// 255 * 256 * 2^-(x / 2^`bits`), rounded, with an error of at most 0.3 % plus 2. The fraction f
/// uses 2^-f = 1 - f (a - b f).
///
/// # Safety
/// W's instructions must be available.
#[inline(always)]
pub(super) unsafe fn exp2_neg<W: U16x32>(x: W, bits: u16) -> W {
    /// Coefficients a and b times 65,536, which minimize the largest relative error (0.0023).
    const A: u16 = 43_881;
    const B: u16 = 11_306;
    // SAFETY: guaranteed by the caller.
    unsafe {
        // The fraction in 65,536ths; the shift drops the integer part.
        let fraction = x.shift_left(16 - bits);
        let slope = W::splat(A).sub(fraction.mul_high(W::splat(B)));
        W::splat(LARGEST_WEIGHT).sub(fraction.mul_high(slope)).shift_right_each(x.shift_right(bits))
    }
}

/// The weight 255 with eight fraction bits.
const LARGEST_WEIGHT: u16 = 255 << 8;

/// Added to weights with eight fraction bits before they are rounded down to integers. The offsets
/// are spread evenly over 0 to 255 (multiples of the golden ratio), so a weight x is rounded up at
/// a share x - floor(x) of the positions. Rounding to nearest would turn many small weights into
/// zeros and lose their sum.
pub(super) static ROUNDING_OFFSETS: [[u16; U16_LANES]; SPAN / U16_LANES] = {
    /// 2^32 / golden ratio.
    const STEP: u32 = 2_654_435_769;
    let mut all = [[0; U16_LANES]; SPAN / U16_LANES];
    let mut at = 0;
    while at < SPAN {
        all[at / U16_LANES][at % U16_LANES] = ((at as u32 + 1).wrapping_mul(STEP) >> 24) as u16;
        at += 1;
    }
    all
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_offsets_are_even_and_keep_the_largest_weight() {
        let all: Vec<u16> = ROUNDING_OFFSETS.iter().flatten().copied().collect();
        assert!(all.iter().all(|t| *t < 256 && (LARGEST_WEIGHT + t) >> 8 == 255));
        // A weight of x becomes 1 at a share x of the positions, within 4 of 256.
        for x in [0.1, 0.25, 0.5, 0.9] {
            let ones = all.iter().filter(|t| ((256.0 * x) as u16 + **t) >> 8 == 1).count();
            assert!((ones as f64 - 256.0 * x).abs() <= 4.0, "{x}: {ones}");
        }
    }

    #[test]
    fn exp2_is_near_the_library() {
        let check = |bits: u16| {
            for x in 0..=u16::MAX {
                // SAFETY: plain Rust runs everywhere.
                let power = unsafe { exp2_neg::<[u16; U16_LANES]>([x; U16_LANES], bits) }[0];
                let want =
                    f64::from(LARGEST_WEIGHT) * (-f64::from(x) / f64::from(1 << bits)).exp2();
                assert!(
                    (f64::from(power) - want).abs() <= 0.003 * want + 2.0,
                    "2^-({x} / 2^{bits}): {power}, not {want}"
                );
            }
        };
        (0..=MAX_FRACTION_BITS as u16).for_each(check);
    }
}
