//! Counts of values by size.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// Parts of one that sums are kept in.
const PARTS: f64 = 1e6;

/// Counts of values that are at most so large.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One more than there are bounds.
    counts: Vec<AtomicU64>,
    sum: AtomicU64,
}

impl Histogram {
    /// An empty one with these bounds, the smallest first.
    #[must_use]
    pub fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0) }
    }

    /// Counts a value of 0 or more.
    pub fn record(&self, value: f64) {
        let place = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(self.bounds.len());
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add((value * PARTS).round() as u64, Ordering::Relaxed);
    }

    /// Number of values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|c| c.load(Ordering::Relaxed)).sum()
    }

    /// Its lines, as Prometheus reads them. `labels`: those that it has, without braces.
    pub fn write(&self, out: &mut String, name: &str, labels: &str) {
        let mut sum = 0;
        for (i, count) in self.counts.iter().enumerate() {
            sum += count.load(Ordering::Relaxed);
            let bound = self.bounds.get(i).map_or("+Inf".to_owned(), f64::to_string);
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {sum}");
        }
        let total = self.sum.load(Ordering::Relaxed) as f64 / PARTS;
        let _ = writeln!(out, "{name}_sum{{{labels}}} {total}");
        let _ = writeln!(out, "{name}_count{{{labels}}} {sum}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_of_all_that_are_smaller() {
        let histogram = Histogram::new(&[0.5, 2.0]);
        for value in [0.25, 0.5, 1.0, 3.0] {
            histogram.record(value);
        }
        let mut out = String::new();
        histogram.write(&mut out, "x", "a=\"b\"");
        let expected = "x_bucket{a=\"b\",le=\"0.5\"} 2\nx_bucket{a=\"b\",le=\"2\"} 3\n\
                        x_bucket{a=\"b\",le=\"+Inf\"} 4\nx_sum{a=\"b\"} 4.75\nx_count{a=\"b\"} 4\n";
        assert_eq!((out.as_str(), histogram.count()), (expected, 4));
    }
}
