//! Thirty-two 16-bit integers, as wide as sixteen f32 lanes: arithmetic at half the cost if 16 bits
//! are enough.
//!
//! Every operation is exact modulo 2^16, so all instruction sets agree.

use super::LANES;

/// Number of lanes.
pub(in super::super) const U16_LANES: usize = 2 * LANES;

/// Thirty-two 16-bit integers, unsigned unless noted.
///
/// The functions are `unsafe` for the same reason as those of [`F32x16`](super::F32x16).
pub(in super::super) trait U16x32: Copy {
    /// # Safety
    /// The instruction set must be available, as for every function below.
    unsafe fn splat(x: u16) -> Self;
    /// # Safety
    /// 32 values must be readable at `from`.
    unsafe fn load(from: *const u16) -> Self;
    /// # Safety
    /// 32 values must be writable at `to`.
    unsafe fn store(self, to: *mut u16);
    /// # Safety
    /// See the trait.
    unsafe fn add(self, other: Self) -> Self;
    /// # Safety
    /// See the trait.
    unsafe fn sub(self, other: Self) -> Self;
    /// The larger one, as signed integers.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn max_signed(self, other: Self) -> Self;
    /// The high half of the product.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn mul_high(self, other: Self) -> Self;
    /// Times 2^`by`; 0 if `by` is 16 or more.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn shift_left(self, by: u16) -> Self;
    /// Divided by 2^`by`, rounded down; 0 if `by` is 16 or more.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn shift_right(self, by: u16) -> Self;
    /// Divided by 2^n, rounded down, with an n per lane; 0 if n is 16 or more.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn shift_right_each(self, by: Self) -> Self;
    /// The largest lane, as signed integers.
    ///
    /// # Safety
    /// See the trait.
    #[inline(always)]
    unsafe fn max_lane_signed(self) -> i16 {
        let mut words = [0; U16_LANES];
        // SAFETY: the array has 32 elements; the caller guarantees the instructions.
        unsafe { self.store(words.as_mut_ptr()) };
        words.into_iter().fold(i16::MIN, |largest, word| largest.max(word.cast_signed()))
    }
}

impl U16x32 for [u16; U16_LANES] {
    #[inline(always)]
    unsafe fn splat(x: u16) -> Self {
        [x; U16_LANES]
    }
    #[inline(always)]
    unsafe fn load(from: *const u16) -> Self {
        // SAFETY: guaranteed by the caller; an array of u16 has the alignment of u16.
        unsafe { from.cast::<Self>().read() }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut u16) {
        // SAFETY: guaranteed by the caller.
        unsafe { to.cast::<Self>().write(self) };
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i].wrapping_add(other[i]))
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i].wrapping_sub(other[i]))
    }
    #[inline(always)]
    unsafe fn max_signed(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i].cast_signed().max(other[i].cast_signed()).cast_unsigned())
    }
    #[inline(always)]
    unsafe fn mul_high(self, other: Self) -> Self {
        std::array::from_fn(|i| ((u32::from(self[i]) * u32::from(other[i])) >> 16) as u16)
    }
    #[inline(always)]
    unsafe fn shift_left(self, by: u16) -> Self {
        self.map(|x| x.checked_shl(by.into()).unwrap_or(0))
    }
    #[inline(always)]
    unsafe fn shift_right(self, by: u16) -> Self {
        self.map(|x| x.checked_shr(by.into()).unwrap_or(0))
    }
    #[inline(always)]
    unsafe fn shift_right_each(self, by: Self) -> Self {
        std::array::from_fn(|i| self[i].checked_shr(by[i].into()).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{F32x16, Kernel, run};
    use super::*;
    use crate::model::cpu::Isa;

    /// All operations on two registers in sequence.
    struct All([u16; U16_LANES], [u16; U16_LANES], u16);

    impl Kernel for All {
        type Out = (Vec<u16>, i16);

        unsafe fn run<V: F32x16>(self) -> Self::Out {
            let mut words = vec![0; 9 * U16_LANES];
            // SAFETY: arrays and vectors have room for what is loaded and stored; the caller
            // guarantees the instructions.
            unsafe {
                let (a, b) = (V::U16x32::load(self.0.as_ptr()), V::U16x32::load(self.1.as_ptr()));
                let float = |words: &[u16; U16_LANES], at: usize| {
                    let bits: Vec<f32> = words[at..at + LANES]
                        .iter()
                        .map(|&word| f32::from_bits(word.into()))
                        .collect();
                    V::load(bits.as_ptr())
                };
                let results = [
                    a.add(b),
                    a.sub(b),
                    a.max_signed(b),
                    a.mul_high(b),
                    a.shift_left(self.2),
                    a.shift_right(self.2),
                    a.shift_right_each(b),
                    V::U16x32::splat(self.2),
                    V::low_u16(float(&self.0, 0), float(&self.0, LANES)),
                ];
                results
                    .into_iter()
                    .zip(words.chunks_exact_mut(U16_LANES))
                    .for_each(|(x, place)| x.store(place.as_mut_ptr()));
                (words, a.max_lane_signed())
            }
        }
    }

    #[test]
    fn operations_agree_on_every_isa() {
        let mut state = 1u64;
        let mut draw = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as u16
        };
        for round in 0..300u16 {
            let a: [u16; U16_LANES] = std::array::from_fn(|_| draw());
            // Small and large shift counts, and arbitrary values.
            let b: [u16; U16_LANES] =
                std::array::from_fn(|i| if i % 2 == 0 { draw() % 20 } else { draw() });
            let want = run(Isa::Scalar, All(a, b, round % 18));
            assert_eq!(want.1, a.iter().map(|word| word.cast_signed()).max().unwrap());
            assert_eq!(
                (want.0[0], want.0[3 * U16_LANES + 1]),
                (a[0].wrapping_add(b[0]), ((u32::from(a[1]) * u32::from(b[1])) >> 16) as u16)
            );
            assert_eq!((want.0[8 * U16_LANES], want.0[8 * U16_LANES + 1]), (a[0], a[LANES]));
            for isa in Isa::ALL.iter().filter(|isa| isa.is_available()) {
                assert_eq!(run(*isa, All(a, b, round % 18)), want, "{isa:?}");
            }
        }
    }
}
