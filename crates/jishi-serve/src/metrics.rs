//! What the server has done, in the text format of Prometheus (exposition format 0.0.4).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper ends of the histogram of durations, in seconds.
const ENDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// Counts since the server began.
#[derive(Debug, Default)]
pub struct Metrics {
    /// By route and status.
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    /// By route.
    durations: Mutex<BTreeMap<&'static str, Histogram>>,
    /// By model: tokens of prompts and of answers.
    tokens: Mutex<BTreeMap<String, [u64; 2]>>,
    running: AtomicI64,
}

#[derive(Debug, Default, Clone)]
struct Histogram {
    counts: [u64; ENDS.len()],
    sum: f64,
    all: u64,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Metrics {
    /// A request has begun.
    pub fn begin(&self) {
        self.running.fetch_add(1, Ordering::Relaxed);
    }

    /// A request has been answered; of a stream, its head.
    pub fn end(&self, route: &'static str, status: u16, took: Duration) {
        self.running.fetch_sub(1, Ordering::Relaxed);
        *locked(&self.requests).entry((route, status)).or_default() += 1;
        let mut durations = locked(&self.durations);
        let histogram = durations.entry(route).or_default();
        let seconds = took.as_secs_f64();
        histogram.all += 1;
        histogram.sum += seconds;
        for (count, end) in histogram.counts.iter_mut().zip(ENDS) {
            *count += u64::from(seconds <= end);
        }
    }

    /// A request that was left before it was answered.
    pub fn left(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }

    /// Tokens of a prompt and of its answers.
    pub fn tokens(&self, model: &str, prompt: usize, written: usize) {
        let mut tokens = locked(&self.tokens);
        let counts = tokens.entry(model.to_owned()).or_default();
        counts[0] += prompt as u64;
        counts[1] += written as u64;
    }

    /// All of it.
    #[must_use]
    pub fn text(&self, models: &[(String, String)]) -> String {
        let mut out = String::new();
        let mut head = |out: &mut String, name: &str, kind: &str, help: &str| {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        };
        head(&mut out, "jishi_requests_total", "counter", "Requests that were answered.");
        for ((route, status), count) in locked(&self.requests).iter() {
            let _ = writeln!(out, "jishi_requests_total{{route=\"{route}\",status=\"{status}\"}} {count}");
        }
        let name = "jishi_request_duration_seconds";
        head(&mut out, name, "histogram", "Time until a request was answered; of a stream, until it began.");
        for (route, histogram) in locked(&self.durations).iter() {
            for (count, end) in histogram.counts.iter().zip(ENDS) {
                let _ = writeln!(out, "{name}_bucket{{route=\"{route}\",le=\"{end}\"}} {count}");
            }
            let Histogram { sum, all, .. } = histogram;
            let _ = writeln!(out, "{name}_bucket{{route=\"{route}\",le=\"+Inf\"}} {all}");
            let _ = writeln!(out, "{name}_sum{{route=\"{route}\"}} {sum}\n{name}_count{{route=\"{route}\"}} {all}");
        }
        head(&mut out, "jishi_requests_running", "gauge", "Requests that are being answered.");
        let _ = writeln!(out, "jishi_requests_running {}", self.running.load(Ordering::Relaxed));
        head(&mut out, "jishi_tokens_total", "counter", "Tokens of prompts and of answers.");
        for (model, [prompt, written]) in locked(&self.tokens).iter() {
            let _ = writeln!(out, "jishi_tokens_total{{model=\"{model}\",kind=\"prompt\"}} {prompt}");
            let _ = writeln!(out, "jishi_tokens_total{{model=\"{model}\",kind=\"answer\"}} {written}");
        }
        head(&mut out, "jishi_model", "gauge", "Models that are served, with their versions.");
        for (model, version) in models {
            let _ = writeln!(out, "jishi_model{{model=\"{model}\",version=\"{version}\"}} 1");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_told() {
        let metrics = Metrics::default();
        for (status, milliseconds) in [(200, 3), (200, 700), (400, 0)] {
            metrics.begin();
            metrics.end("predict", status, Duration::from_millis(milliseconds));
        }
        metrics.begin();
        metrics.tokens("talk", 5, 7);
        metrics.tokens("talk", 1, 1);
        let text = metrics.text(&[("talk".into(), "00ff".into())]);
        for line in [
            "jishi_requests_total{route=\"predict\",status=\"200\"} 2",
            "jishi_request_duration_seconds_bucket{route=\"predict\",le=\"0.001\"} 1",
            "jishi_request_duration_seconds_bucket{route=\"predict\",le=\"0.005\"} 2",
            "jishi_request_duration_seconds_bucket{route=\"predict\",le=\"+Inf\"} 3",
            "jishi_requests_running 1",
            "jishi_tokens_total{model=\"talk\",kind=\"answer\"} 8",
            "jishi_model{model=\"talk\",version=\"00ff\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }
}
