//! A pool of buffers for activations: after the first steps, no allocation is needed.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Most free buffers to keep.
const MAX_FREE: usize = 16;

/// Free buffers.
#[derive(Debug, Default)]
pub struct BufferPool(Mutex<Vec<Vec<f32>>>);

impl BufferPool {
    /// A buffer of `len` values; the contents are unspecified.
    pub(crate) fn take(self: &Arc<Self>, len: usize) -> Buffer {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = free.iter().enumerate().filter(|(_, values)| values.len() >= len);
        let best = fits.min_by_key(|(_, values)| values.len()).map(|(at, _)| at);
        let values = best.map(|at| free.swap_remove(at));
        drop(free);
        Buffer {
            values: values.unwrap_or_else(|| vec![0.0; len]),
            len,
            pool: Some(Arc::clone(self)),
        }
    }

    fn give_back(&self, values: Vec<f32>) {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        free.push(values);
        if free.len() > MAX_FREE {
            // The smallest buffer is the cheapest to allocate again.
            let smallest =
                free.iter().enumerate().min_by_key(|(_, values)| values.len()).map(|(at, _)| at);
            smallest.map(|at| free.swap_remove(at));
        }
    }
}

/// Values that return to their [`BufferPool`] when dropped.
#[derive(Debug)]
pub struct Buffer {
    /// At least `len` long.
    values: Vec<f32>,
    len: usize,
    pool: Option<Arc<BufferPool>>,
}

impl From<Vec<f32>> for Buffer {
    fn from(values: Vec<f32>) -> Self {
        Self { len: values.len(), values, pool: None }
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.values[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.give_back(std::mem::take(&mut self.values));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_fitting_buffer_is_reused() {
        let arena = Arc::new(BufferPool::default());
        let at = |buffer: &Buffer| buffer.as_ptr();
        let (small, large) = (arena.take(10), arena.take(1000));
        let (small_at, large_at) = (at(&small), at(&large));
        drop((small, large));
        let (first, second, third) = (arena.take(8), arena.take(9), arena.take(500));
        assert_eq!((at(&first), at(&second)), (small_at, large_at));
        assert_eq!((first.len(), second.len(), third.len()), (8, 9, 500));
    }
}
