//! Vectors that start on a cache line, so that loading a register never touches two lines.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use half::f16;

/// Bytes of a cache line, and of the widest register.
pub(super) const CACHE_LINE: usize = 64;

/// A cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct CacheLine([u8; CACHE_LINE]);

/// Plain data: every bit pattern is a valid value, and a cache line holds a whole number of them.
///
/// # Safety
/// Implementers must fulfill both.
pub(super) unsafe trait Pod: Copy {}

// SAFETY: any bits are a byte.
unsafe impl Pod for u8 {}
// SAFETY: any bits are a number or a NaN, and so below.
unsafe impl Pod for f16 {}
// SAFETY: as above.
unsafe impl Pod for f32 {}
// SAFETY: any bits are a word.
unsafe impl Pod for u16 {}

/// A growing array that starts on a cache line.
#[derive(Clone)]
pub(super) struct AlignedVec<T> {
    memory: Vec<CacheLine>,
    len: usize,
    of: PhantomData<T>,
}

impl<T> Default for AlignedVec<T> {
    fn default() -> Self {
        Self { memory: Vec::new(), len: 0, of: PhantomData }
    }
}

impl<T: Pod> AlignedVec<T> {
    /// Sets the length. New elements are 0, or their values from before the array was shortened.
    pub(super) fn resize(&mut self, len: usize) {
        let lines = (len * size_of::<T>()).div_ceil(CACHE_LINE);
        if lines > self.memory.len() {
            self.memory.resize(lines, CacheLine([0; CACHE_LINE]));
        }
        self.len = len;
    }
}

impl<T: Pod> Deref for AlignedVec<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `resize` made room for `len` numbers, and any bits are one.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().cast(), self.len) }
    }
}

impl<T: Pod> DerefMut for AlignedVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_mut_ptr().cast(), self.len) }
    }
}

impl<T> fmt::Debug for AlignedVec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} numbers", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_aligned_and_keep_their_values() {
        let mut numbers = AlignedVec::<f32>::default();
        assert!(numbers.is_empty());
        for len in [1, 16, 17, 1000] {
            numbers.resize(len);
            assert_eq!(
                (numbers.len(), numbers.as_ptr().align_offset(CACHE_LINE), numbers[len - 1]),
                (len, 0, 0.0)
            );
            numbers[len - 1] = len as f32;
        }
        assert_eq!((numbers[0], numbers[15], numbers[16], numbers[999]), (1.0, 16.0, 17.0, 1000.0));
    }
}
