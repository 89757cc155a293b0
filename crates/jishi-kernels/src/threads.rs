//! The threads that kernels run on.
//!
//! [`parallel`] splits work into numbered tasks. Which thread runs a task depends on timing, what the task
//! computes does not: tasks own their part of the output, and the number of tasks follows from shapes, never
//! from the number of threads. So results are the same on any number of threads.
//!
//! Between two calls, workers look for work for a while before they sleep: the operations of a training step
//! or of a token follow each other within microseconds, while waking a thread costs tens of them.

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// How long an idle worker looks for work before it sleeps.
const AWAKE: Duration = Duration::from_micros(200);

/// Threads that kernels run on: the machine's, or as many as `JISHI_THREADS` says.
#[must_use]
pub fn threads() -> usize {
    pool().workers.len() + 1
}

/// Runs `f(0)`, …, `f(tasks - 1)`, each once, on all threads; returns when all are done. Called from within a
/// task, or while another thread is here, it runs on the calling thread alone.
///
/// # Panics
/// When a task panics.
pub fn parallel(tasks: usize, f: impl Fn(usize) + Sync) {
    pool().run(tasks, &f);
}

/// Splits `data` into chunks of `size` and runs `f(index, chunk)` for each, as [`parallel`] does.
pub fn parallel_chunks<T: Send>(data: &mut [T], size: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    let len = data.len();
    let shared = SharedMut::new(data);
    parallel(len.div_ceil(size.max(1)), |task| {
        let start = task * size;
        // SAFETY: chunks of different tasks do not overlap.
        f(task, unsafe { shared.slice(start, size.min(len - start)) });
    });
}

/// [`parallel_chunks`], after which the task that ends last runs `last` on all of the data: what follows from the
/// parts together costs no second call.
pub fn parallel_chunks_then<T: Send>(
    data: &mut [T],
    size: usize,
    f: impl Fn(usize, &mut [T]) + Sync,
    last: impl FnOnce(&mut [T]) + Send,
) {
    let len = data.len();
    let tasks = len.div_ceil(size.max(1));
    let shared = SharedMut::new(data);
    let (done, last) = (AtomicUsize::new(0), Mutex::new(Some(last)));
    parallel(tasks, |task| {
        let start = task * size;
        // SAFETY: chunks of different tasks do not overlap.
        f(task, unsafe { shared.slice(start, size.min(len - start)) });
        if done.fetch_add(1, Ordering::AcqRel) + 1 == tasks {
            let last = last.lock().ok().and_then(|mut last| last.take());
            if let Some(last) = last {
                // SAFETY: every task has given its chunk back, which it showed by counting itself.
                last(unsafe { shared.slice(0, len) });
            }
        }
    });
}

/// A slice whose disjoint parts are written by several tasks.
#[derive(Debug)]
pub struct SharedMut<'a, T> {
    pointer: *mut T,
    len: usize,
    lifetime: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: the parts that `slice` gives out are disjoint by its contract, so this is a split borrow.
unsafe impl<T: Send> Send for SharedMut<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedMut<'_, T> {}

impl<'a, T> SharedMut<'a, T> {
    /// Takes the slice for as long as tasks write to it.
    #[must_use]
    pub fn new(data: &'a mut [T]) -> Self {
        Self { pointer: data.as_mut_ptr(), len: data.len(), lifetime: std::marker::PhantomData }
    }

    /// A part of the slice.
    ///
    /// # Safety
    /// No two parts that are alive at the same time may overlap.
    ///
    /// # Panics
    /// Where the part is not inside the slice.
    #[must_use]
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn slice(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start.checked_add(len).is_some_and(|end| end <= self.len), "a part outside of its slice");
        // SAFETY: inside the slice, which this borrows mutably; disjoint by contract.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.add(start), len) }
    }
}

/// A call of [`parallel`] as its workers see it.
#[derive(Clone, Copy)]
struct Job {
    run: *const (dyn Fn(usize) + Sync),
    tasks: usize,
}

/// `state` holds the number of the job (upper half), whether it takes workers, and how many are inside.
const OPEN: u64 = 1 << 31;
const INSIDE: u64 = OPEN - 1;

struct Shared {
    state: AtomicU64,
    job: UnsafeCell<Job>,
    next: AtomicUsize,
    panicked: AtomicBool,
    asleep: Vec<AtomicBool>,
}

// SAFETY: `job` is written only while the state is closed and nobody is inside, and read only from inside.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `job` is used only while the call that made it waits.
unsafe impl Send for Shared {}

struct Pool {
    shared: Arc<Shared>,
    busy: AtomicBool,
    workers: Vec<Thread>,
}

fn pool() -> &'static Pool {
    static POOL: OnceLock<Pool> = OnceLock::new();
    POOL.get_or_init(|| {
        let available = std::thread::available_parallelism().map_or(1, usize::from);
        let asked = std::env::var("JISHI_THREADS").ok().and_then(|n| n.parse().ok());
        Pool::new(asked.unwrap_or(available).clamp(1, 1024))
    })
}

fn nothing(_: usize) {}

impl Pool {
    fn new(threads: usize) -> Self {
        let idle: &'static (dyn Fn(usize) + Sync) = &nothing;
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            job: UnsafeCell::new(Job { run: idle, tasks: 0 }),
            next: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            asleep: (1..threads).map(|_| AtomicBool::new(false)).collect(),
        });
        let start = |index: usize| {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name(format!("jishi-kernels-{index}"));
            builder.spawn(move || work(&shared, index)).ok().map(|handle| handle.thread().clone())
        };
        // A machine that gives fewer threads than asked computes the same with fewer.
        let workers = (0..threads - 1).map_while(start).collect();
        Self { shared, busy: AtomicBool::new(false), workers }
    }

    fn run(&self, tasks: usize, f: &(dyn Fn(usize) + Sync)) {
        if tasks <= 1 || self.workers.is_empty() || self.busy.swap(true, Ordering::Acquire) {
            (0..tasks).for_each(f);
            return;
        }
        let shared = &*self.shared;
        // SAFETY: `Closing` waits, even on a panic, until no worker is inside the job.
        let run: *const (dyn Fn(usize) + Sync + 'static) = unsafe { std::mem::transmute(f) };
        // SAFETY: the state is closed and nobody is inside: this thread alone is here, by `busy`.
        unsafe { *shared.job.get() = Job { run, tasks } };
        shared.next.store(0, Ordering::Relaxed);
        let number = (shared.state.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        let closing = Closing { pool: self };
        shared.state.store(number << 32 | OPEN, Ordering::SeqCst);
        for (thread, asleep) in self.workers.iter().zip(&shared.asleep) {
            if asleep.load(Ordering::SeqCst) {
                thread.unpark();
            }
        }
        loop {
            let task = shared.next.fetch_add(1, Ordering::Relaxed);
            if task >= tasks {
                break;
            }
            f(task);
        }
        drop(closing);
        if shared.panicked.swap(false, Ordering::Relaxed) {
            self.busy.store(false, Ordering::Release);
            panic!("a task of a kernel panicked");
        }
        self.busy.store(false, Ordering::Release);
    }
}

/// Ends a job: no worker gets in any more, and those inside are waited for.
struct Closing<'a> {
    pool: &'a Pool,
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let shared = &*self.pool.shared;
        if std::thread::panicking() {
            shared.next.store(usize::MAX / 2, Ordering::Relaxed);
        }
        shared.state.fetch_and(!OPEN, Ordering::AcqRel);
        while shared.state.load(Ordering::Acquire) & INSIDE != 0 {
            std::hint::spin_loop();
        }
        if std::thread::panicking() {
            self.pool.busy.store(false, Ordering::Release);
        }
    }
}

fn work(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        let state = wait(shared, index, seen);
        if shared.state.compare_exchange(state, state + 1, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            continue;
        }
        seen = state >> 32;
        // SAFETY: inside the job, so the call that wrote it waits for this thread.
        let job = unsafe { *shared.job.get() };
        // SAFETY: as above: the closure lives until nobody is inside.
        let run = unsafe { &*job.run };
        let result = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let task = shared.next.fetch_add(1, Ordering::Relaxed);
                if task >= job.tasks {
                    break;
                }
                run(task);
            }
        }));
        if result.is_err() {
            shared.panicked.store(true, Ordering::Relaxed);
        }
        shared.state.fetch_sub(1, Ordering::Release);
    }
}

/// The state with a job that this worker has not seen.
fn wait(shared: &Shared, index: usize, seen: u64) -> u64 {
    let fresh = |state: u64| state & OPEN != 0 && state >> 32 != seen;
    loop {
        let started = Instant::now();
        loop {
            for _ in 0..64 {
                let state = shared.state.load(Ordering::Acquire);
                if fresh(state) {
                    return state;
                }
                std::hint::spin_loop();
            }
            if started.elapsed() > AWAKE {
                break;
            }
        }
        shared.asleep[index].store(true, Ordering::SeqCst);
        if !fresh(shared.state.load(Ordering::SeqCst)) {
            std::thread::park();
        }
        shared.asleep[index].store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once() {
        let pool = Pool::new(4);
        for tasks in [0, 1, 2, 7, 1000] {
            let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
            pool.run(tasks, &|task| {
                counts[task].fetch_add(1, Ordering::Relaxed);
            });
            assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn calls_from_many_threads_and_from_tasks_are_served() {
        let pool = Pool::new(3);
        let sum = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        pool.run(5, &|_| {
                            pool.run(2, &|_| {
                                sum.fetch_add(1, Ordering::Relaxed);
                            });
                        });
                    }
                });
            }
        });
        assert_eq!(sum.load(Ordering::Relaxed), 4 * 50 * 5 * 2);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
        let pool = Pool::new(2);
        for _ in 0..20 {
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(8, &|task| assert!(task != 3, "task 3"));
            }));
            assert!(result.is_err());
            let sum = AtomicUsize::new(0);
            pool.run(8, &|task| {
                sum.fetch_add(task, Ordering::Relaxed);
            });
            assert_eq!(sum.load(Ordering::Relaxed), 28);
        }
    }

    #[test]
    fn chunks_cover_the_slice() {
        let mut data = vec![0; 1001];
        parallel_chunks(&mut data, 10, |index, chunk| chunk.fill(index));
        assert!(data.iter().enumerate().all(|(i, v)| *v == i / 10));
    }

    #[test]
    fn the_last_task_sees_all_chunks() {
        let mut data = vec![0; 1001];
        for _ in 0..100 {
            let mut sum = 0;
            parallel_chunks_then(
                &mut data,
                10,
                |index, chunk| chunk.fill(index),
                |all| sum = all.iter().sum(),
            );
            assert_eq!(sum, (0..1001).map(|i| i / 10).sum::<usize>());
        }
    }
}
