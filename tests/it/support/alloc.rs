//! A counting allocator for the test binary: the bytes that the current thread holds, and the most
//! it held.
//!
//! Counts are per thread, so tests that run beside each other do not disturb one another. Memory
//! maps are not counted.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

impl Counting {
    /// Adds `bytes` to what the thread holds. A thread that is being torn down is not counted.
    fn add(bytes: isize) {
        let held = HELD.try_with(|held| {
            held.set(held.get() + bytes);
            held.get()
        });
        let _ = held.and_then(|held| PEAK.try_with(|peak| peak.set(peak.get().max(held))));
    }
}

// SAFETY: every call goes to the system's allocator unchanged; the counters are plain thread-local
// cells that never allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::add(layout.size() as isize);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        Self::add(-(layout.size() as isize));
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::add(layout.size() as isize);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc_zeroed(layout) }
    }
}

/// Runs `work` and returns its result and the most bytes it held at once on this thread, beyond
/// what was held before.
pub fn peak_bytes<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let result = work();
    (result, (PEAK.get() - before).max(0) as usize)
}

#[test]
fn peak_is_counted() {
    let (kept, peak) = peak_bytes(|| {
        drop(std::hint::black_box(vec![1u8; 5 << 20]));
        std::hint::black_box(vec![0u8; 1 << 20])
    });
    assert!((5 << 20..5 << 20 | 1 << 16).contains(&peak), "{peak} bytes, {} kept", kept.len());
}
