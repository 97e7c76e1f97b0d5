//! Weights of keys from their scores, in 16 bits: powers of two by a polynomial, rounded so that
//! small ones keep their sum.
//!
//! Exact arithmetic of whole numbers, so all instruction sets agree. Knows neither keys nor values.

#![allow(clippy::inline_always)] // What is not inlined into a function with the instructions is compiled without them.

use super::super::simd::{WORDS, Words};
use super::host_kv::SPAN;

/// The finest unit of scores: 2^-12 of a doubling.
pub(super) const FINEST: i32 = 12;

/// 255 * 256 over 2^(x / 2^bits), rounded, within 0.3 % and 2 of it. 2^-f is 1 - f (a - b f) for a
/// fraction f.
///
/// # Safety
/// W's instructions must be available.
#[inline(always)]
pub(super) unsafe fn power_below<W: Words>(x: W, bits: u16) -> W {
    /// The largest relative error, 0.0023, is as small as that of any a and b; times 255 * 256.
    const A: u16 = 43_881;
    const B: u16 = 11_306;
    // SAFETY: the caller's promise.
    unsafe {
        // In 65,536ths: what is whole falls off.
        let fraction = x.shift_left(16 - bits);
        let slope = W::splat(A).sub(fraction.mul_high(W::splat(B)));
        W::splat(LARGEST_WEIGHT).sub(fraction.mul_high(slope)).shift_right_each(x.shift_right(bits))
    }
}

/// The code 255 and eight bits more.
const LARGEST_WEIGHT: u16 = 255 << 8;

/// What is added to weights in 256ths of a code before they are rounded down: 0 to 255, evenly over
/// any run of places (the golden ratio's multiples), so that x becomes the integer above it at a
/// share x - floor(x) of the places.
pub(super) static THRESHOLDS: [[u16; WORDS]; SPAN / WORDS] = {
    /// 2^32 over the golden ratio.
    const STEP: u32 = 2_654_435_769;
    let mut all = [[0; WORDS]; SPAN / WORDS];
    let mut at = 0;
    while at < SPAN {
        all[at / WORDS][at % WORDS] = ((at as u32 + 1).wrapping_mul(STEP) >> 24) as u16;
        at += 1;
    }
    all
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_even_and_never_carry_the_largest_weight_over() {
        let all: Vec<u16> = THRESHOLDS.iter().flatten().copied().collect();
        assert!(all.iter().all(|t| *t < 256 && (LARGEST_WEIGHT + t) >> 8 == 255));
        // A weight of x 255ths becomes one at a share x of the places: within 4 of 256.
        for x in [0.1, 0.25, 0.5, 0.9] {
            let ones = all.iter().filter(|t| ((256.0 * x) as u16 + **t) >> 8 == 1).count();
            assert!((ones as f64 - 256.0 * x).abs() <= 4.0, "{x}: {ones}");
        }
    }

    #[test]
    fn powers_are_near_those_of_the_library() {
        let check = |bits: u16| {
            for x in 0..=u16::MAX {
                // SAFETY: plain Rust runs everywhere.
                let power = unsafe { power_below::<[u16; WORDS]>([x; WORDS], bits) }[0];
                let want =
                    f64::from(LARGEST_WEIGHT) * (-f64::from(x) / f64::from(1 << bits)).exp2();
                assert!(
                    (f64::from(power) - want).abs() <= 0.003 * want + 2.0,
                    "2^-({x} / 2^{bits}): {power}, not {want}"
                );
            }
        };
        (0..=FINEST as u16).for_each(check);
    }
}
