//! A fork-join pool of spinning threads. A fork-join costs well under a microsecond, and a step has
//! hundreds of them.
//!
//! Contract: every task runs exactly once, and the call returns after the last one. Every thread
//! has a share of the tasks; it claims them one by one, then helps with the other shares, so that a
//! descheduled thread delays nobody. A thread that arrives late is not waited for. Results must not
//! depend on which thread runs a task.

use std::any::Any;
use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, TryLockError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long an idle worker spins before it sleeps: longer than the gaps between the operations of a
/// step, including sampling.
const SPIN_TIME: Duration = Duration::from_micros(500);
/// Spin iterations between clock reads.
const SPINS_PER_CLOCK_CHECK: usize = 32;
/// Spin iterations of the caller before it yields its core to a worker that still has a task.
const CALLER_SPINS: usize = 2_000;
/// Least number of values per thread for a simple pass.
const MIN_VALUES_PER_THREAD: usize = 8 << 10;
/// Bit of the gate: no more workers may join the job.
const CLOSED: u64 = 1 << 31;

type Task = dyn Fn(usize) + Sync;

/// Keeps data that one thread writes off the cache lines that others read. 128 bytes, because
/// processors fetch lines in pairs.
#[repr(align(128))]
struct CachePadded<T>(T);

#[derive(Clone, Copy)]
struct Job {
    task: *const Task,
    tasks: usize,
}

struct Shared {
    /// Number of the job (upper half), [`CLOSED`], and the number of workers inside (lower bits).
    gate: CachePadded<AtomicU64>,
    /// The next unclaimed task of each thread's share; the caller's share is first.
    next: Vec<CachePadded<AtomicUsize>>,
    /// Written by the caller while the gate is closed and no worker is inside; read by workers
    /// inside.
    job: UnsafeCell<Option<Job>>,
    asleep: Vec<AtomicBool>,
    stop: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is the only field that is not `Sync` by itself. The gate orders its accesses: it is
// written only while the gate is closed and the count is zero, under the pool's lock, and read only
// between entering and leaving. The closure that it points to is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: nothing in it is tied to a thread; the pointer is only used as described above.
unsafe impl Send for Shared {}

/// A fork-join pool. Dropping it ends its threads.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    handles: Vec<Thread>,
    cores: Vec<usize>,
    /// Held during a job. A caller that finds it locked (a nested call, another engine) runs its
    /// tasks itself.
    lock: Mutex<()>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool of `threads` threads (at least one), including the caller. Worker i is pinned to the
    /// i-th physical core available to this process, if there are enough. If the system refuses a
    /// thread, the pool is smaller.
    pub fn new(threads: usize) -> Self {
        let cores = affinity::physical_cores();
        let count = threads.max(1) - 1;
        let shared = Arc::new(Shared {
            gate: CachePadded(AtomicU64::new(CLOSED)),
            next: (0..=count).map(|_| CachePadded(AtomicUsize::new(0))).collect(),
            job: UnsafeCell::new(None),
            asleep: (0..count).map(|_| AtomicBool::new(false)).collect(),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        let spawn = |index: usize| {
            let shared = Arc::clone(&shared);
            let core = if count < cores.len() { cores.get(index + 1).copied() } else { None };
            let work = move || {
                if let Some(core) = core {
                    affinity::pin(core);
                }
                run_worker(&shared, index);
            };
            thread::Builder::new().name(format!("cpu-{}", index + 1)).spawn(work).ok()
        };
        // The `asleep` flags are indexed by worker, so stop at the first refusal.
        let workers: Vec<_> = (0..count).map_while(spawn).collect();
        let handles = workers.iter().map(|worker| worker.thread().clone()).collect();
        Self { shared, workers, handles, cores, lock: Mutex::new(()) }
    }

    /// The process-wide pool: one thread per physical core, created by the first call.
    pub fn global() -> Arc<Self> {
        static POOL: OnceLock<Arc<Pool>> = OnceLock::new();
        Arc::clone(POOL.get_or_init(|| Arc::new(Self::new(physical_cores()))))
    }

    /// Threads that work on a job, including the caller.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Pins the calling thread to the core that the workers leave free. Meant for the thread that
    /// runs the model's steps, not for a library's caller, whose thread may have other uses. Does
    /// nothing if there are fewer cores than threads.
    pub fn pin_caller(&self) {
        if let Some(&core) =
            self.cores.first().filter(|_| self.threads() <= self.cores.len() && self.threads() > 1)
        {
            affinity::pin(core);
        }
    }

    /// Calls `f(index, threads)` once for each index below [`threads`](Self::threads), in parallel
    /// if threads are free.
    ///
    /// # Panics
    /// If `f` panics, after all calls have ended.
    pub fn run(&self, f: impl Fn(usize, usize) + Sync) {
        let threads = self.threads();
        self.for_each(threads, |index| f(index, threads));
    }

    /// Calls `f(task)` once for each task below `tasks`, in any order, in parallel if threads are
    /// free. Called from within a task, or while another thread uses the pool, it runs all tasks on
    /// the calling thread.
    ///
    /// # Panics
    /// If `f` panics, after all calls have ended.
    pub fn for_each(&self, tasks: usize, f: impl Fn(usize) + Sync) {
        let single_threaded = tasks <= 1 || self.workers.is_empty();
        let held =
            if single_threaded { Err(TryLockError::WouldBlock) } else { self.lock.try_lock() };
        match &held {
            // The lock is poisoned if a task panicked, but that job was completed.
            Ok(_) | Err(TryLockError::Poisoned(_)) => self.fork_join(tasks, &f),
            Err(TryLockError::WouldBlock) => (0..tasks).for_each(f),
        }
    }

    /// Calls `f(row)` once for each of `rows` rows of `width` values, like
    /// [`for_each`](Self::for_each). Uses more than one thread only if there is enough work.
    ///
    /// # Panics
    /// If `f` panics.
    pub fn for_each_row(&self, rows: usize, width: usize, f: impl Fn(usize) + Sync) {
        let tasks =
            (rows * width / MIN_VALUES_PER_THREAD).clamp(1, self.threads() * 4).min(rows.max(1));
        self.for_each(tasks, |task| (task * rows / tasks..(task + 1) * rows / tasks).for_each(&f));
    }

    /// Splits `data` into chunks of `len` (the last may be shorter) and calls `f(index, chunk)` for
    /// each, like [`for_each`](Self::for_each).
    ///
    /// # Panics
    /// If `f` panics, or if `len` is zero.
    pub fn for_each_chunk<T: Send>(
        &self,
        data: &mut [T],
        len: usize,
        f: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let chunks = data.len().div_ceil(len);
        let data = SharedSliceMut::new(data);
        // SAFETY: every chunk is taken by one task, chunks do not overlap, and `data` outlives the
        // call.
        self.for_each(chunks, |index| {
            f(index, unsafe { data.slice(index * len, len.min(data.len - index * len)) });
        });
    }

    fn fork_join(&self, tasks: usize, f: &(dyn Fn(usize) + Sync)) {
        let shared = &*self.shared;
        // SAFETY: only the lifetime is erased. `GateGuard` below closes the gate and waits for
        // every worker inside before this call ends, even by a panic, so the pointer is never used
        // later.
        let task: *const Task =
            unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static Task>(f) };
        // SAFETY: the gate is closed and no worker is inside (since the end of the last job), and
        // the lock excludes other callers.
        unsafe { *shared.job.get() = Some(Job { task, tasks }) };
        let shares = shared.next.len();
        for (share, next) in shared.next.iter().enumerate() {
            next.0.store(share * tasks / shares, Ordering::Relaxed);
        }
        let number = (shared.gate.0.load(Ordering::Relaxed) >> 32).wrapping_add(1) << 32;
        shared.gate.0.store(number, Ordering::Release);
        // Either this thread sees that a worker is about to sleep, or the worker sees the open
        // gate.
        fence(Ordering::SeqCst);
        for (asleep, handle) in shared.asleep.iter().zip(&self.handles) {
            if asleep.load(Ordering::Relaxed) {
                handle.unpark();
            }
        }
        let open = GateGuard(shared);
        claim(shared, 0, f, tasks);
        drop(open);
        let panic = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // Workers catch the panics of their tasks; there is nobody to report another panic to.
            let _ = worker.join();
        }
    }
}

/// Closes the gate and waits for the workers inside, also if the caller's own task panics.
struct GateGuard<'a>(&'a Shared);

impl Drop for GateGuard<'_> {
    fn drop(&mut self) {
        let mut pauses = 0;
        let mut gate = self.0.gate.0.fetch_or(CLOSED, Ordering::AcqRel) | CLOSED;
        while gate & (CLOSED - 1) != 0 {
            if pauses < CALLER_SPINS {
                pauses += 1;
                std::hint::spin_loop();
            } else {
                thread::yield_now();
            }
            gate = self.0.gate.0.load(Ordering::Acquire);
        }
    }
}

/// Runs the rest of thread `own`'s share, then of the other shares. A share is a range of adjacent
/// tasks and the same in every job, so that a thread's data stays in its core's cache.
fn claim(shared: &Shared, own: usize, f: &(dyn Fn(usize) + Sync), tasks: usize) {
    let shares = shared.next.len();
    for share in (own..shares).chain(0..own) {
        let end = (share + 1) * tasks / shares;
        loop {
            let task = shared.next[share].0.fetch_add(1, Ordering::Relaxed);
            if task >= end {
                break;
            }
            f(task);
        }
    }
}

/// Main loop of a worker.
fn run_worker(shared: &Shared, index: usize) {
    let mut seen = 0;
    while let Some(gate) = wait_for_job(shared, index, seen) {
        if shared
            .gate
            .0
            .compare_exchange(gate, gate + 1, Ordering::AcqRel, Ordering::Relaxed)
            .is_err()
        {
            continue;
        }
        seen = gate >> 32;
        // SAFETY: this worker is inside: the caller wrote the job before it opened the gate, and
        // changes it only after this worker left.
        if let Some(job) = unsafe { *shared.job.get() } {
            // SAFETY: the closure lives until the caller has seen this worker leave.
            let task = unsafe { &*job.task };
            if let Err(panic) =
                catch_unwind(AssertUnwindSafe(|| claim(shared, index + 1, task, job.tasks)))
            {
                *shared.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
            }
        }
        shared.gate.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Waits for the gate of a joinable job other than number `seen`; `None` when the pool ends. Spins
/// at first, then sleeps.
fn wait_for_job(shared: &Shared, index: usize, seen: u64) -> Option<u64> {
    let open = || {
        Some(shared.gate.0.load(Ordering::Acquire))
            .filter(|gate| gate & CLOSED == 0 && gate >> 32 != seen)
    };
    loop {
        let started = Instant::now();
        while started.elapsed() < SPIN_TIME {
            for _ in 0..SPINS_PER_CLOCK_CHECK {
                if let Some(gate) = open() {
                    return Some(gate);
                }
                std::hint::spin_loop();
            }
            if shared.stop.load(Ordering::Relaxed) {
                return None;
            }
        }
        shared.asleep[index].store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let found = loop {
            if shared.stop.load(Ordering::SeqCst) {
                return None;
            }
            match open() {
                // Woken up: the job may be over already, but others follow, so spin again.
                None if !shared.asleep[index].load(Ordering::Relaxed) => break None,
                None => {
                    thread::park();
                    shared.asleep[index].store(false, Ordering::Relaxed);
                }
                found => break found,
            }
        };
        shared.asleep[index].store(false, Ordering::Relaxed);
        if found.is_some() {
            return found;
        }
    }
}

/// A slice whose disjoint parts are written by several tasks at once.
pub(super) struct SharedSliceMut<'a, T> {
    start: *mut T,
    pub(super) len: usize,
    data: PhantomData<&'a mut [T]>,
}

// SAFETY: elements are accessible only through `slice`, whose callers guarantee that no two tasks
// take the same element; `T` may move between threads.
unsafe impl<T: Send> Sync for SharedSliceMut<'_, T> {}

impl<'a, T> SharedSliceMut<'a, T> {
    pub(super) fn new(data: &'a mut [T]) -> Self {
        Self { start: data.as_mut_ptr(), len: data.len(), data: PhantomData }
    }

    /// `len` elements from `start` on.
    ///
    /// # Safety
    /// No overlapping part may be alive.
    ///
    /// # Panics
    /// If the part is not inside the slice.
    #[allow(clippy::mut_from_ref)] // The caller's guarantee replaces the exclusive borrow.
    pub(super) unsafe fn slice(&self, start: usize, len: usize) -> &'a mut [T] {
        assert!(
            start <= self.len && len <= self.len - start,
            "part {start} + {len} of a slice of {}",
            self.len
        );
        // SAFETY: inside the slice (asserted), which is borrowed mutably for 'a; not aliased, as
        // the caller guarantees.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
}

/// Physical cores that this process may use, at least one: the default number of threads.
pub fn physical_cores() -> usize {
    let allowed = thread::available_parallelism().map_or(1, usize::from);
    match affinity::physical_cores().len() {
        0 => allowed,
        cores => cores.min(allowed),
    }
}

#[cfg(target_os = "linux")]
mod affinity {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    /// The first allowed processor of each physical core.
    pub(super) fn physical_cores() -> Vec<usize> {
        let Ok(allowed) = sched_getaffinity(None) else { return Vec::new() };
        let mut cores = Vec::new();
        let mut first = Vec::new();
        for cpu in (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)) {
            let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
            // Such as `0-1` or `0,64`: the list identifies the core. If unreadable, every processor
            // counts as a core.
            let core = std::fs::read_to_string(path).unwrap_or_else(|_| cpu.to_string());
            if !cores.contains(&core) {
                cores.push(core);
                first.push(cpu);
            }
        }
        first
    }

    /// Pins the calling thread to one processor. If refused, only speed is lost.
    pub(super) fn pin(cpu: usize) {
        let mut set = CpuSet::new();
        set.set(cpu);
        let _ = sched_setaffinity(None, &set);
    }
}

#[cfg(not(target_os = "linux"))]
mod affinity {
    pub(super) fn physical_cores() -> Vec<usize> {
        Vec::new()
    }

    pub(super) fn pin(_cpu: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(threads: usize, tasks: usize) {
        let pool = Pool::new(threads);
        assert_eq!(pool.threads(), threads);
        for round in 0..300 {
            let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
            pool.for_each(tasks, |task| {
                counts[task].fetch_add(1, Ordering::Relaxed);
            });
            assert!(
                counts.iter().all(|count| count.load(Ordering::Relaxed) == 1),
                "{threads} threads, {tasks} tasks, round {round}"
            );
        }
    }

    #[test]
    fn every_task_runs_once() {
        for (threads, tasks) in [(1, 5), (2, 0), (2, 1), (2, 2), (2, 33), (3, 8), (5, 100)] {
            check(threads, tasks);
        }
    }

    #[test]
    fn sleepers_wake() {
        let pool = Pool::new(2);
        for _ in 0..5 {
            thread::sleep(4 * SPIN_TIME);
            let both = AtomicUsize::new(0);
            // The caller's task ends only when a worker has taken the other one.
            pool.run(|_, _| {
                both.fetch_add(1, Ordering::SeqCst);
                let started = Instant::now();
                while both.load(Ordering::SeqCst) < 2 {
                    assert!(started.elapsed() < Duration::from_secs(20), "the worker sleeps on");
                    thread::yield_now();
                }
            });
        }
    }

    #[test]
    fn nested_and_concurrent_calls_end() {
        let pool = Pool::new(2);
        let total = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    pool.for_each(50, |_| {
                        pool.for_each(4, |_| _ = total.fetch_add(1, Ordering::Relaxed));
                    });
                });
            }
        });
        assert_eq!(total.into_inner(), 3 * 50 * 4);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_survives() {
        let pool = Pool::new(2);
        for bad in 0..8 {
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.for_each(8, |task| assert!(task != bad, "task {bad}"));
            }));
            assert!(result.is_err(), "task {bad}");
        }
        let sum = AtomicUsize::new(0);
        pool.for_each(10, |task| _ = sum.fetch_add(task, Ordering::Relaxed));
        assert_eq!(sum.into_inner(), 45);
    }

    #[test]
    fn chunks_cover_the_slice() {
        let pool = Pool::new(2);
        let mut data = vec![0; 103];
        pool.for_each_chunk(&mut data, 10, |index, chunk| chunk.fill(index + 1));
        assert!(data.iter().enumerate().all(|(i, &value)| value == i / 10 + 1));
    }
}
