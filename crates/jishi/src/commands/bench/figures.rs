//! Figures of a workload: medians and spreads, and the ceiling that they are held against.

use std::time::{Duration, Instant};

use jishi_kernels::cpu::gemm::{Precision, Store, Strided, gemm};
use jishi_kernels::profile::Entry;
use jishi_kernels::{Level, threads};
use serde_json::{Value, json};

/// Times of a workload's repetitions.
pub struct Figures(Vec<f64>);

impl Figures {
    /// From seconds, in any order.
    pub fn new(mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        Self(seconds)
    }

    /// The middle one.
    pub fn median(&self) -> f64 {
        self.0[self.0.len() / 2]
    }

    /// The least and the largest, as `f` turns them.
    pub fn spread(&self, f: impl Fn(f64) -> f64) -> Value {
        json!([f(self.0[0]), f(self.0[self.0.len() - 1])])
    }
}

/// Time by operation, with the share of all of it; `total` includes what no operation measured.
pub fn profile_json(entries: &[(&'static str, Entry)], total: Duration, repetitions: usize) -> Value {
    let measured: Duration = entries.iter().map(|(_, e)| e.time).sum();
    let rest = Entry { calls: repetitions as u64, time: total.saturating_sub(measured) };
    let row = |name: &str, entry: &Entry| {
        json!({
            "operation": name,
            "calls": entry.calls,
            "milliseconds_each": entry.time.as_secs_f64() * 1e3 / repetitions as f64,
            "share": entry.time.as_secs_f64() / total.as_secs_f64(),
        })
    };
    let mut rows: Vec<Value> = entries.iter().map(|(name, entry)| row(name, entry)).collect();
    rows.push(row("rest", &rest));
    Value::Array(rows)
}

/// Operations a second of a large product on all threads, the best of several: what this machine can do.
pub fn ceiling(precision: Precision) -> f64 {
    const N: usize = 768;
    let a: Vec<f32> = (0..N * N).map(|i| (i % 13) as f32 - 6.0).collect();
    let mut c = vec![0.0; N * N];
    let mut best = f64::INFINITY;
    for _ in 0..12 {
        let started = Instant::now();
        let (rows, columns) = (Strided::rows(&a, N), Strided::columns(&a, N));
        gemm(Level::best(), precision, [N, N, N], &rows, &columns, &Store::new(&mut c, N));
        best = best.min(started.elapsed().as_secs_f64());
    }
    2.0 * (N as f64).powi(3) / best
}

/// What the figures were measured on.
pub fn machine() -> Value {
    json!({
        "processor": processor(),
        "threads": threads::threads(),
        "simd": Level::best().name(),
        "jishi": env!("CARGO_PKG_VERSION"),
    })
}

fn processor() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
