//! Time by operation, for `jishi bench --profile`. Off, it costs one relaxed load an operation.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

static ON: AtomicBool = AtomicBool::new(false);
static TIMES: Mutex<BTreeMap<&'static str, Entry>> = Mutex::new(BTreeMap::new());

/// What one operation took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Entry {
    /// Times it ran.
    pub calls: u64,
    /// Time of all runs together, on the thread that called it.
    pub time: Duration,
}

/// Starts to measure, from nothing.
pub fn start() {
    times(BTreeMap::clear);
    ON.store(true, Ordering::Relaxed);
}

/// Stops measuring and gives what was found, the longest first.
pub fn finish() -> Vec<(&'static str, Entry)> {
    ON.store(false, Ordering::Relaxed);
    let mut entries: Vec<_> = times(std::mem::take).into_iter().collect();
    entries.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.time));
    entries
}

/// Runs `f` as the operation `name`. Operations inside of it count for both.
pub fn time<R>(name: &'static str, f: impl FnOnce() -> R) -> R {
    if !ON.load(Ordering::Relaxed) {
        return f();
    }
    let started = Instant::now();
    let result = f();
    let time = started.elapsed();
    times(|times| {
        let entry = times.entry(name).or_default();
        entry.calls += 1;
        entry.time += time;
    });
    result
}

fn times<R>(f: impl FnOnce(&mut BTreeMap<&'static str, Entry>) -> R) -> R {
    // A panic elsewhere leaves the figures whole: each is written at once.
    f(&mut TIMES.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_counted_while_it_is_on() {
        time("before", || ());
        start();
        let answer = time("measured", || {
            std::thread::sleep(Duration::from_millis(2));
            42
        });
        time("measured", || ());
        let entries = finish();
        assert_eq!(answer, 42);
        let (_, entry) = entries.iter().find(|(name, _)| *name == "measured").expect("an entry");
        assert!(entry.calls == 2 && entry.time >= Duration::from_millis(2));
        assert!(entries.iter().all(|(name, _)| *name != "before"));
        assert!(finish().is_empty());
    }
}
