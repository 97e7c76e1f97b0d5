//! Activations' memory that is used again: after the first steps nothing is allocated.
//!
//! Knows lengths only.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Idle buffers that are kept.
const KEPT: usize = 16;

/// Idle buffers.
#[derive(Debug, Default)]
pub struct Arena(Mutex<Vec<Vec<f32>>>);

impl Arena {
    /// A buffer of `len` numbers, whatever they are.
    pub(super) fn take(self: &Arc<Self>, len: usize) -> Buffer {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = idle.iter().enumerate().filter(|(_, numbers)| numbers.len() >= len);
        let best = fits.min_by_key(|(_, numbers)| numbers.len()).map(|(at, _)| at);
        let numbers = best.map(|at| idle.swap_remove(at));
        drop(idle);
        Buffer {
            numbers: numbers.unwrap_or_else(|| vec![0.0; len]),
            len,
            home: Some(Arc::clone(self)),
        }
    }

    fn give_back(&self, numbers: Vec<f32>) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(numbers);
        if idle.len() > KEPT {
            // The smallest are the cheapest to make again.
            let smallest =
                idle.iter().enumerate().min_by_key(|(_, numbers)| numbers.len()).map(|(at, _)| at);
            smallest.map(|at| idle.swap_remove(at));
        }
    }
}

/// Numbers that go back to their [`Arena`] when they are dropped.
#[derive(Debug)]
pub struct Buffer {
    /// At least `len`.
    numbers: Vec<f32>,
    len: usize,
    home: Option<Arc<Arena>>,
}

impl From<Vec<f32>> for Buffer {
    fn from(numbers: Vec<f32>) -> Self {
        Self { len: numbers.len(), numbers, home: None }
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.numbers[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.numbers[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            home.give_back(std::mem::take(&mut self.numbers));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_that_fits_is_used_again() {
        let arena = Arc::new(Arena::default());
        let at = |buffer: &Buffer| buffer.as_ptr();
        let (small, large) = (arena.take(10), arena.take(1000));
        let (small_at, large_at) = (at(&small), at(&large));
        drop((small, large));
        let (first, second, third) = (arena.take(8), arena.take(9), arena.take(500));
        assert_eq!((at(&first), at(&second)), (small_at, large_at));
        assert_eq!((first.len(), second.len(), third.len()), (8, 9, 500));
    }
}
