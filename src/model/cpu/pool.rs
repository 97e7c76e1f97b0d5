//! One pool of spinning threads: a fork-join costs well under a microsecond, and a step does
//! hundreds of them.
//!
//! Contract: every task runs exactly once, and the call returns after the last of them. Every
//! thread has a share of the tasks, claims them one by one and then helps out with the others', so
//! a thread that the system keeps from running delays nobody. A thread that came too late is shut
//! out instead of waited for. Which thread runs a task must not show in its result. Knows nothing
//! of matrices.

use std::any::Any;
use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, TryLockError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long an idle worker spins before it sleeps: longer than the gaps between the operations of a
/// step, and than a sampler takes.
const SPIN: Duration = Duration::from_micros(500);
/// Pauses between two looks at the clock.
const PAUSES: usize = 32;
/// Pauses of the caller before it offers its core to a worker that holds the last task.
const CALLER_PAUSES: usize = 2_000;
/// Numbers that a simple pass should at least have to be worth another thread.
const WORTH_A_THREAD: usize = 8 << 10;
/// Set in the gate when no more workers may join the job.
const CLOSED: u64 = 1 << 31;

type Task = dyn Fn(usize) + Sync;

/// Keeps what one thread writes out of the cache lines that others read; 128 because processors
/// fetch lines in pairs.
#[repr(align(128))]
struct Apart<T>(T);

#[derive(Clone, Copy)]
struct Job {
    task: *const Task,
    tasks: usize,
}

struct Shared {
    /// Number of the job (upper half), [`CLOSED`], and how many workers are inside (lower bits).
    gate: Apart<AtomicU64>,
    /// The next unclaimed task of each thread's share, the caller's first.
    next: Vec<Apart<AtomicUsize>>,
    /// Written by the caller while the gate is closed and nobody inside; read by workers that are
    /// inside.
    job: UnsafeCell<Option<Job>>,
    asleep: Vec<AtomicBool>,
    stop: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is the only field that is not `Sync` by itself. The gate orders its accesses: it is
// written only while the gate is closed and its count is zero, under the pool's lock, and read only
// between entering and leaving. The closure that it points to is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: nothing in it belongs to one thread; the pointer is only followed as said above.
unsafe impl Send for Shared {}

/// A fork-join pool. Dropping it ends its threads.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    handles: Vec<Thread>,
    cores: Vec<usize>,
    /// Held during a job. A caller that finds it taken (a nested call, another engine) does its
    /// tasks itself.
    lock: Mutex<()>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool of `threads` threads, the caller among them; at least one. Worker i is pinned to the
    /// i-th physical core that this process may use, if there are enough of them. Threads that the
    /// system refuses are done without.
    pub fn new(threads: usize) -> Self {
        let cores = affinity::physical_cores();
        let count = threads.max(1) - 1;
        let shared = Arc::new(Shared {
            gate: Apart(AtomicU64::new(CLOSED)),
            next: (0..=count).map(|_| Apart(AtomicUsize::new(0))).collect(),
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
                work(&shared, index);
            };
            thread::Builder::new().name(format!("cpu-{}", index + 1)).spawn(work).ok()
        };
        // The sleepers' flags go by index: stop at the first refusal.
        let workers: Vec<_> = (0..count).map_while(spawn).collect();
        let handles = workers.iter().map(|worker| worker.thread().clone()).collect();
        Self { shared, workers, handles, cores, lock: Mutex::new(()) }
    }

    /// The pool of the process: one thread per physical core, made at the first call.
    pub fn global() -> Arc<Self> {
        static POOL: OnceLock<Arc<Pool>> = OnceLock::new();
        Arc::clone(POOL.get_or_init(|| Arc::new(Self::new(physical_cores()))))
    }

    /// Threads that work on a job, the caller among them.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Pins the calling thread to the core that the workers leave free. For the thread that runs
    /// the model's steps; not for a library's caller, who may have other plans with his thread.
    /// Does nothing where there are fewer cores than threads.
    pub fn pin_caller(&self) {
        if let Some(&core) =
            self.cores.first().filter(|_| self.threads() <= self.cores.len() && self.threads() > 1)
        {
            affinity::pin(core);
        }
    }

    /// Calls `f(index, threads)` once for each index below [`threads`](Self::threads), in parallel
    /// where threads are free.
    ///
    /// # Panics
    /// With `f`'s panic, after every call has ended.
    pub fn run(&self, f: impl Fn(usize, usize) + Sync) {
        let threads = self.threads();
        self.for_each(threads, |index| f(index, threads));
    }

    /// Calls `f(task)` once for each task below `tasks`, in any order, in parallel where threads
    /// are free. Called from within a task, or while another thread uses the pool, it runs them all
    /// on the calling thread.
    ///
    /// # Panics
    /// With `f`'s panic, after every call has ended.
    pub fn for_each(&self, tasks: usize, f: impl Fn(usize) + Sync) {
        let alone = tasks <= 1 || self.workers.is_empty();
        let held = if alone { Err(TryLockError::WouldBlock) } else { self.lock.try_lock() };
        match &held {
            // A poisoned lock says that a task panicked; the job was wound up all the same.
            Ok(_) | Err(TryLockError::Poisoned(_)) => self.fork_join(tasks, &f),
            Err(TryLockError::WouldBlock) => (0..tasks).for_each(f),
        }
    }

    /// Calls `f(row)` once for each of `rows` rows of `width` numbers, as
    /// [`for_each`](Self::for_each), on more than one thread only where there is enough to do.
    ///
    /// # Panics
    /// With `f`'s panic.
    pub fn over_rows(&self, rows: usize, width: usize, f: impl Fn(usize) + Sync) {
        let tasks = (rows * width / WORTH_A_THREAD).clamp(1, self.threads() * 4).min(rows.max(1));
        self.for_each(tasks, |task| (task * rows / tasks..(task + 1) * rows / tasks).for_each(&f));
    }

    /// Splits `data` into chunks of `len` (the last may be shorter) and calls `f(index, chunk)` for
    /// each, as [`for_each`](Self::for_each).
    ///
    /// # Panics
    /// With `f`'s panic, or if `len` is zero.
    pub fn for_each_chunk<T: Send>(
        &self,
        data: &mut [T],
        len: usize,
        f: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let chunks = data.len().div_ceil(len);
        let data = Disjoint::new(data);
        // SAFETY: every chunk is taken by one task, chunks do not overlap, and `data` outlives the
        // call.
        self.for_each(chunks, |index| {
            f(index, unsafe { data.slice(index * len, len.min(data.len - index * len)) });
        });
    }

    fn fork_join(&self, tasks: usize, f: &(dyn Fn(usize) + Sync)) {
        let shared = &*self.shared;
        // SAFETY: only the lifetime is forgotten. `Open` below shuts the gate and waits for every
        // worker inside before this call ends, even by a panic, so that nobody follows the pointer
        // later.
        let task: *const Task =
            unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static Task>(f) };
        // SAFETY: the gate is closed and empty (the last job's end), and the lock keeps other
        // callers out.
        unsafe { *shared.job.get() = Some(Job { task, tasks }) };
        let shares = shared.next.len();
        for (share, next) in shared.next.iter().enumerate() {
            next.0.store(share * tasks / shares, Ordering::Relaxed);
        }
        let number = (shared.gate.0.load(Ordering::Relaxed) >> 32).wrapping_add(1) << 32;
        shared.gate.0.store(number, Ordering::Release);
        // Either this sees that a worker is about to sleep, or the worker sees the open gate.
        fence(Ordering::SeqCst);
        for (asleep, handle) in shared.asleep.iter().zip(&self.handles) {
            if asleep.load(Ordering::Relaxed) {
                handle.unpark();
            }
        }
        let open = Open(shared);
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
            // Workers catch the panics of their tasks; one of their own has nobody left to hear it.
            let _ = worker.join();
        }
    }
}

/// Shuts the gate and waits for those inside, also when the caller's own task panics.
struct Open<'a>(&'a Shared);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let mut pauses = 0;
        let mut gate = self.0.gate.0.fetch_or(CLOSED, Ordering::AcqRel) | CLOSED;
        while gate & (CLOSED - 1) != 0 {
            if pauses < CALLER_PAUSES {
                pauses += 1;
                std::hint::spin_loop();
            } else {
                thread::yield_now();
            }
            gate = self.0.gate.0.load(Ordering::Acquire);
        }
    }
}

/// Runs what is left of thread `own`'s share, then of the others'. A share is a run of neighbours,
/// and the same every time: what a thread reads and writes stays in its core's cache.
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

/// A worker's life.
fn work(shared: &Shared, index: usize) {
    let mut seen = 0;
    while let Some(gate) = wait(shared, index, seen) {
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
        // changes it only after this one left.
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

/// The gate of a job after number `seen` that may still be joined; `None` when the pool ends. Spins
/// at first, then sleeps.
fn wait(shared: &Shared, index: usize, seen: u64) -> Option<u64> {
    let open = || {
        Some(shared.gate.0.load(Ordering::Acquire))
            .filter(|gate| gate & CLOSED == 0 && gate >> 32 != seen)
    };
    loop {
        let started = Instant::now();
        while started.elapsed() < SPIN {
            for _ in 0..PAUSES {
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
                // Woken: the job may be over already, but others follow, so spin again.
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

/// A slice whose parts several tasks write at once.
pub(super) struct Disjoint<'a, T> {
    start: *mut T,
    pub(super) len: usize,
    data: PhantomData<&'a mut [T]>,
}

// SAFETY: it only hands out parts through `slice`, whose callers promise that no two tasks take the
// same; `T` may move between threads.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(super) fn new(data: &'a mut [T]) -> Self {
        Self { start: data.as_mut_ptr(), len: data.len(), data: PhantomData }
    }

    /// `len` elements from `start` on.
    ///
    /// # Safety
    /// No other part that overlaps may be alive.
    ///
    /// # Panics
    /// If the part is not inside the slice.
    #[allow(clippy::mut_from_ref)] // That is its purpose; the promise above stands in for the borrow.
    pub(super) unsafe fn slice(&self, start: usize, len: usize) -> &'a mut [T] {
        assert!(
            start <= self.len && len <= self.len - start,
            "part {start} + {len} of a slice of {}",
            self.len
        );
        // SAFETY: inside the slice (above), which is borrowed mutably for 'a; not shared by the
        // caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
}

/// Physical cores that this process may use: what a pool should have threads. At least one.
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
            // Such as `0-1` or `0,64`: the list names the core. Without it, every processor is its
            // own.
            let core = std::fs::read_to_string(path).unwrap_or_else(|_| cpu.to_string());
            if !cores.contains(&core) {
                cores.push(core);
                first.push(cpu);
            }
        }
        first
    }

    /// Keeps the calling thread on one processor. A refusal costs speed only.
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
            thread::sleep(4 * SPIN);
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
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
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
