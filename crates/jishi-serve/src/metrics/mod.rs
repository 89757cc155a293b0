//! What the server counts, and `/metrics`: the text that Prometheus reads.

mod histogram;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use histogram::Histogram;

use crate::route::Route;

/// Bounds of times, in seconds.
const SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
/// Bounds of batches, in rows.
const ROWS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// Counters of a model. A new version goes on with those of the old one.
#[derive(Debug)]
pub struct ModelStats {
    /// Requests that wait.
    pub waiting: AtomicI64,
    /// Texts that are being written or whose prompts are being read.
    pub running: AtomicI64,
    /// Answers that are sent bit by bit.
    pub streams: AtomicI64,
    /// Rows that were predicted together, or texts that took a step together.
    pub batches: Histogram,
    /// Tokens that were read.
    pub tokens_in: AtomicU64,
    /// Tokens of prompts that had been read before.
    pub tokens_reused: AtomicU64,
    /// Tokens that were written.
    pub tokens_out: AtomicU64,
    /// Requests whose client left.
    pub cancelled: AtomicU64,
    /// Times that it was loaded.
    pub loads: AtomicU64,
    /// Times that a new version was refused.
    pub failed_loads: AtomicU64,
}

impl Default for ModelStats {
    fn default() -> Self {
        Self {
            waiting: AtomicI64::default(),
            running: AtomicI64::default(),
            streams: AtomicI64::default(),
            batches: Histogram::new(ROWS),
            tokens_in: AtomicU64::default(),
            tokens_reused: AtomicU64::default(),
            tokens_out: AtomicU64::default(),
            cancelled: AtomicU64::default(),
            loads: AtomicU64::default(),
            failed_loads: AtomicU64::default(),
        }
    }
}

/// A request that was answered or not.
type Answered = (Route, String, u16);

/// Counters of a server.
#[derive(Debug)]
pub struct Metrics {
    started: Instant,
    /// By route, model and status. Models are those that are there, so that clients can't make labels.
    requests: Mutex<BTreeMap<Answered, u64>>,
    seconds: Vec<Histogram>,
    models: Mutex<BTreeMap<String, Arc<ModelStats>>>,
    /// Connections that are open.
    pub connections: AtomicI64,
    /// Requests without a key, or with a wrong one.
    pub unauthorised: AtomicU64,
    /// Requests beyond a key's requests a minute.
    pub limited_requests: AtomicU64,
    /// Requests beyond a key's tokens a minute.
    pub limited_tokens: AtomicU64,
    /// Lines of the audit log that could not be written.
    pub audit_failures: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            requests: Mutex::default(),
            seconds: Route::ALL.iter().map(|_| Histogram::new(SECONDS)).collect(),
            models: Mutex::default(),
            connections: AtomicI64::default(),
            unauthorised: AtomicU64::default(),
            limited_requests: AtomicU64::default(),
            limited_tokens: AtomicU64::default(),
            audit_failures: AtomicU64::default(),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Metrics {
    /// The counters of a model.
    #[must_use]
    pub fn model(&self, name: &str) -> Arc<ModelStats> {
        Arc::clone(locked(&self.models).entry(name.to_owned()).or_default())
    }

    /// Counts a request. A status of 499 is that of a client who left.
    pub fn answered(&self, route: Route, model: &str, status: u16, took: Duration) {
        self.seconds[route as usize].record(took.as_secs_f64());
        *locked(&self.requests).entry((route, model.to_owned(), status)).or_default() += 1;
    }

    /// All of them, in Prometheus's text format 0.0.4.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        let version = env!("CARGO_PKG_VERSION");
        head(&mut out, "jishi_build_info", "gauge", "What serves.");
        let _ = writeln!(out, "jishi_build_info{{version=\"{version}\"}} 1");
        let uptime = self.started.elapsed().as_secs_f64();
        one(&mut out, "jishi_uptime_seconds", "gauge", "Seconds since the server began.", uptime);
        if let Some(bytes) = resident() {
            let help = "Memory of the process that is in use.";
            one(&mut out, "jishi_resident_memory_bytes", "gauge", help, bytes as f64);
        }
        let open = self.connections.load(Ordering::Relaxed) as f64;
        one(&mut out, "jishi_connections", "gauge", "Connections that are open.", open);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let help = "Requests without a key, or with a wrong one.";
        one(&mut out, "jishi_unauthorised_total", "counter", help, count(&self.unauthorised));
        head(&mut out, "jishi_rate_limited_total", "counter", "Requests beyond what a key may in a minute.");
        for (kind, counter) in [("requests", &self.limited_requests), ("tokens", &self.limited_tokens)] {
            let _ = writeln!(out, "jishi_rate_limited_total{{of=\"{kind}\"}} {}", count(counter));
        }
        let help = "Lines of the audit log that could not be written.";
        one(&mut out, "jishi_audit_failures_total", "counter", help, count(&self.audit_failures));

        head(&mut out, "jishi_requests_total", "counter", "Requests; 499 is a client who left.");
        for ((route, model, status), count) in &*locked(&self.requests) {
            let labels = format!("route=\"{}\",model=\"{model}\",status=\"{status}\"", route.path());
            let _ = writeln!(out, "jishi_requests_total{{{labels}}} {count}");
        }
        let name = "jishi_request_seconds";
        head(&mut out, name, "histogram", "Time from a request's head to the end of its answer.");
        for route in Route::ALL {
            let histogram = &self.seconds[route as usize];
            if histogram.count() > 0 {
                histogram.write(&mut out, name, &format!("route=\"{}\"", route.path()));
            }
        }
        self.write_models(&mut out);
        out
    }

    fn write_models(&self, out: &mut String) {
        let models = locked(&self.models);
        let mut all = |name: &str, kind, help, value: &dyn Fn(&ModelStats) -> i64| {
            head(out, name, kind, help);
            for (model, stats) in &*models {
                let _ = writeln!(out, "{name}{{model=\"{model}\"}} {}", value(stats));
            }
        };
        let gauge = |value: &AtomicI64| value.load(Ordering::Relaxed);
        let count = |value: &AtomicU64| i64::try_from(value.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
        all("jishi_waiting_requests", "gauge", "Requests that wait for a model.", &|m| gauge(&m.waiting));
        all("jishi_running_texts", "gauge", "Texts that are being written.", &|m| gauge(&m.running));
        all("jishi_streams", "gauge", "Answers that are sent bit by bit.", &|m| gauge(&m.streams));
        all("jishi_tokens_in_total", "counter", "Tokens of prompts and texts.", &|m| count(&m.tokens_in));
        let help = "Tokens of prompts that had been read before.";
        all("jishi_tokens_reused_total", "counter", help, &|m| count(&m.tokens_reused));
        all("jishi_tokens_out_total", "counter", "Tokens that were written.", &|m| count(&m.tokens_out));
        all("jishi_cancelled_total", "counter", "Requests whose client left.", &|m| count(&m.cancelled));
        all("jishi_model_loads_total", "counter", "Versions that were loaded.", &|m| count(&m.loads));
        let help = "Versions that were refused.";
        all("jishi_model_load_failures_total", "counter", help, &|m| count(&m.failed_loads));
        let name = "jishi_batch_rows";
        head(out, name, "histogram", "Rows that were predicted together, texts that took a step together.");
        for (model, stats) in &*models {
            stats.batches.write(out, name, &format!("model=\"{model}\""));
        }
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn one(out: &mut String, name: &str, kind: &str, help: &str, value: f64) {
    head(out, name, kind, help);
    let _ = writeln!(out, "{name} {value}");
}

/// Bytes of memory of this process that are in use, where the system tells.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_one_that_prometheus_reads() {
        let metrics = Metrics::default();
        metrics.answered(Route::Predict, "houses", 200, Duration::from_millis(3));
        metrics.answered(Route::Predict, "houses", 200, Duration::from_millis(30));
        metrics.answered(Route::Other, "", 404, Duration::ZERO);
        metrics.model("houses").batches.record(3.0);
        metrics.model("houses").tokens_out.fetch_add(7, Ordering::Relaxed);
        let text = metrics.text();
        let mut named = std::collections::HashSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(named.insert(name.to_owned()), "{name} comes twice");
                assert!(["gauge", "counter", "histogram"].contains(&kind), "{line}");
                continue;
            }
            if line.starts_with("# HELP ") {
                continue;
            }
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let name = sample.split('{').next().unwrap();
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|s| name.strip_suffix(s));
            assert!(named.contains(name) || base.is_some_and(|b| named.contains(b)), "{line}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
        let route = "route=\"/v1/models/{name}/predict\"";
        for line in [
            format!("jishi_requests_total{{{route},model=\"houses\",status=\"200\"}} 2"),
            format!("jishi_request_seconds_bucket{{{route},le=\"0.005\"}} 1"),
            format!("jishi_request_seconds_count{{{route}}} 2"),
            "jishi_requests_total{route=\"other\",model=\"\",status=\"404\"} 1".into(),
            "jishi_batch_rows_bucket{model=\"houses\",le=\"4\"} 1".into(),
            "jishi_tokens_out_total{model=\"houses\"} 7".into(),
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }
}
