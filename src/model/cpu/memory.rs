//! Memory for packed weights, in huge pages if possible.
//!
//! A step reads every weight once, and with 4 kB pages it spends a third of that time on TLB
//! misses. Most matrices are smaller than a huge page, so they share chunks. A chunk is freed with
//! the last of its matrices.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::aligned::CACHE_LINE;

/// Size of a huge page on x86 and most ARM systems.
const HUGE_PAGE: usize = 2 << 20;
/// Size of the chunks that small regions share. Untouched pages take no memory.
const CHUNK: usize = 32 << 20;

/// Zeroed memory that is divided into regions.
struct Chunk {
    /// `len` bytes from a boxed slice.
    memory: *mut u8,
    len: usize,
    /// Offset of the first huge page.
    start: usize,
}

// SAFETY: the memory is not tied to a thread; regions never overlap, and each follows the borrows
// of its owner.
unsafe impl Send for Chunk {}
// SAFETY: as above.
unsafe impl Sync for Chunk {}

impl Chunk {
    /// At least `size` bytes after `start`; `None` if the allocation fails.
    fn new(size: usize) -> Option<Self> {
        let len = size.checked_add(HUGE_PAGE)?;
        let mut memory = Vec::<u8>::new();
        memory.try_reserve_exact(len).ok()?;
        // `vec!` gets zeroed pages from the system, which are first touched by the thread that
        // packs them.
        let memory = vec![0u8; len].into_boxed_slice();
        let memory = Box::into_raw(memory).cast::<u8>();
        let start = memory.align_offset(HUGE_PAGE).min(HUGE_PAGE);
        advise(memory, start, size);
        Some(Self { memory, len, start })
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let slice = std::ptr::slice_from_raw_parts_mut(self.memory, self.len);
        // SAFETY: made by `Box::into_raw` with this length, and no region is left.
        drop(unsafe { Box::from_raw(slice) });
    }
}

/// Requests huge pages for `size` bytes from `memory + start` on. If refused, only speed is lost.
#[cfg(target_os = "linux")]
fn advise(memory: *mut u8, start: usize, size: usize) {
    let whole = size / HUGE_PAGE * HUGE_PAGE;
    if whole > 0 {
        // SAFETY: the range lies inside the allocation, and this advice does not change contents.
        let _ = unsafe {
            rustix::mm::madvise(
                memory.wrapping_add(start).cast(),
                whole,
                rustix::mm::Advice::LinuxHugepage,
            )
        };
    }
}

#[cfg(not(target_os = "linux"))]
fn advise(_memory: *mut u8, _start: usize, _size: usize) {}

/// Zero-initialized bytes that start on a cache line. Regions never overlap.
pub(super) struct Region {
    chunk: Arc<Chunk>,
    offset: usize,
    len: usize,
}

impl Region {
    /// `len` bytes; `None` if the allocation fails.
    pub(super) fn new(len: usize) -> Option<Self> {
        /// The chunk for small regions, and how much of it is used.
        static SHARED: Mutex<(Weak<Chunk>, usize)> = Mutex::new((Weak::new(), 0));
        if len > CHUNK / 4 {
            return Some(Self { chunk: Arc::new(Chunk::new(len)?), offset: 0, len });
        }
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let (chunk, offset) = match shared.0.upgrade().filter(|_| shared.1 + len <= CHUNK) {
            Some(chunk) => (chunk, shared.1),
            None => (Arc::new(Chunk::new(CHUNK)?), 0),
        };
        *shared = (Arc::downgrade(&chunk), (offset + len).next_multiple_of(CACHE_LINE));
        Some(Self { chunk, offset, len })
    }

    fn start(&self) -> *mut u8 {
        self.chunk.memory.wrapping_add(self.chunk.start + self.offset)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: inside the chunk, which lives as long as the region; only this region accesses
        // these bytes, and it is borrowed.
        unsafe { std::slice::from_raw_parts(self.start(), self.len) }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_zero_aligned_and_disjoint() {
        let sizes = [
            0,
            1,
            64,
            100,
            3 << 20,
            7 << 20,
            CHUNK / 4,
            CHUNK / 4 + 1,
            6 << 20,
            8 << 20,
            8 << 20,
            5,
        ];
        let mut regions: Vec<Region> =
            sizes.iter().map(|&size| Region::new(size).unwrap()).collect();
        for (index, region) in regions.iter_mut().enumerate() {
            assert_eq!(region.bytes().len(), sizes[index]);
            assert!(region.bytes().as_ptr().addr().is_multiple_of(CACHE_LINE));
            assert!(region.bytes().iter().all(|&byte| byte == 0), "region {index}");
            region.bytes_mut().fill(index as u8 + 1);
        }
        for (index, region) in regions.iter().enumerate() {
            assert!(region.bytes().iter().all(|&byte| byte == index as u8 + 1), "region {index}");
        }
    }

    #[test]
    fn failed_allocations_are_none() {
        assert!(Region::new(usize::MAX).is_none());
        assert!(Region::new(usize::MAX / 4).is_none());
    }
}
