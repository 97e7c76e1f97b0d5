//! Thirty-two 16-bit integers, the width of sixteen f32 lanes: arithmetic at half the price where
//! 16 bits are enough.
//!
//! Every operation is exact modulo 2^16, so all instruction sets agree.

use super::LANES;

/// How many.
pub(in super::super) const WORDS: usize = 2 * LANES;

/// Thirty-two words, unsigned unless said.
///
/// The functions are `unsafe` as those of [`F32x16`](super::F32x16) are, and for the same reason.
pub(in super::super) trait Words: Copy {
    /// # Safety
    /// The instruction set must be available, as for every function below.
    unsafe fn splat(x: u16) -> Self;
    /// # Safety
    /// 32 words must be readable at `from`.
    unsafe fn load(from: *const u16) -> Self;
    /// # Safety
    /// 32 words must be writable at `to`.
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
    /// The high halves of the products.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn mul_high(self, other: Self) -> Self;
    /// Times 2^`by`; 0 from 16 on.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn shift_left(self, by: u16) -> Self;
    /// Over 2^`by`, rounded down; 0 from 16 on.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn shift_right(self, by: u16) -> Self;
    /// Over 2^n, rounded down, with an n for each; 0 from 16 on.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn shift_right_each(self, by: Self) -> Self;
    /// The largest one, as signed integers.
    ///
    /// # Safety
    /// See the trait.
    #[inline(always)]
    unsafe fn largest_signed(self) -> i16 {
        let mut words = [0; WORDS];
        // SAFETY: the array has 32 places; the instructions are the caller's promise.
        unsafe { self.store(words.as_mut_ptr()) };
        words.into_iter().fold(i16::MIN, |largest, word| largest.max(word.cast_signed()))
    }
}

impl Words for [u16; WORDS] {
    #[inline(always)]
    unsafe fn splat(x: u16) -> Self {
        [x; WORDS]
    }
    #[inline(always)]
    unsafe fn load(from: *const u16) -> Self {
        // SAFETY: the caller's promise; arrays of u16 may lie anywhere that u16 may.
        unsafe { from.cast::<Self>().read() }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut u16) {
        // SAFETY: the caller's promise.
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

    /// All operations on two registers, one after the other.
    struct All([u16; WORDS], [u16; WORDS], u16);

    impl Kernel for All {
        type Out = (Vec<u16>, i16);

        unsafe fn run<V: F32x16>(self) -> Self::Out {
            let mut words = vec![0; 9 * WORDS];
            // SAFETY: arrays and vectors have room for what is loaded and stored; the instructions
            // are the caller's promise.
            unsafe {
                let (a, b) = (V::Words::load(self.0.as_ptr()), V::Words::load(self.1.as_ptr()));
                let float = |words: &[u16; WORDS], at: usize| {
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
                    V::Words::splat(self.2),
                    V::low_words(float(&self.0, 0), float(&self.0, LANES)),
                ];
                results
                    .into_iter()
                    .zip(words.chunks_exact_mut(WORDS))
                    .for_each(|(x, place)| x.store(place.as_mut_ptr()));
                (words, a.largest_signed())
            }
        }
    }

    #[test]
    fn words_are_the_same_everywhere() {
        let mut state = 1u64;
        let mut draw = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as u16
        };
        for round in 0..300u16 {
            let a: [u16; WORDS] = std::array::from_fn(|_| draw());
            // Shifts by few and by many, and any words.
            let b: [u16; WORDS] =
                std::array::from_fn(|i| if i % 2 == 0 { draw() % 20 } else { draw() });
            let want = run(Isa::Scalar, All(a, b, round % 18));
            assert_eq!(want.1, a.iter().map(|word| word.cast_signed()).max().unwrap());
            assert_eq!(
                (want.0[0], want.0[3 * WORDS + 1]),
                (a[0].wrapping_add(b[0]), ((u32::from(a[1]) * u32::from(b[1])) >> 16) as u16)
            );
            assert_eq!((want.0[8 * WORDS], want.0[8 * WORDS + 1]), (a[0], a[LANES]));
            for isa in Isa::ALL.iter().filter(|isa| isa.is_available()) {
                assert_eq!(run(*isa, All(a, b, round % 18)), want, "{isa:?}");
            }
        }
    }
}
