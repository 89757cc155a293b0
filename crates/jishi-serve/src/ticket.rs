//! What is known of a request while it is answered, and what is told of it at its end, however it ends.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::audit::Audit;
use crate::keys::Key;
use crate::metrics::Metrics;
use crate::model::Model;
use crate::route::Route;

/// Status of a request whose client left before it was answered.
pub const LEFT: u16 = 499;

/// Where requests are told of.
#[derive(Debug, Default)]
pub struct Books {
    /// Counters.
    pub metrics: Metrics,
    /// A log of every request.
    pub audit: Option<Audit>,
    /// Whether every request is told on stderr.
    pub access: bool,
}

/// A request.
#[derive(Debug)]
pub struct Ticket {
    /// Its name in logs.
    pub id: String,
    /// Its path.
    pub route: Route,
    /// The key that it came with.
    pub key: Option<Arc<Key>>,
    method: String,
    peer: IpAddr,
    started: Instant,
    books: Arc<Books>,
    model: OnceLock<Arc<Model>>,
    rows: AtomicU64,
    tokens_in: AtomicU64,
    tokens_out: AtomicU64,
    end: Mutex<End>,
}

/// What becomes known last.
#[derive(Debug, Default)]
struct End {
    status: Option<u16>,
    /// The answer is sent bit by bit.
    streams: bool,
    /// The client left before the answer was sent.
    left: bool,
    input: Option<(&'static str, String)>,
}

impl Ticket {
    /// Of a request that has begun. `id`: the client's own name for it.
    #[must_use]
    pub fn new(books: &Arc<Books>, route: Route, method: &str, peer: IpAddr, id: Option<&str>) -> Self {
        let plain = |id: &&str| {
            let fine = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            !id.is_empty() && id.len() <= 64 && id.chars().all(fine)
        };
        let own = || format!("{:016x}", RandomState::new().build_hasher().finish());
        Self {
            id: id.filter(plain).map_or_else(own, str::to_owned),
            route,
            key: None,
            method: method.chars().take(16).collect(),
            peer,
            started: Instant::now(),
            books: Arc::clone(books),
            model: OnceLock::new(),
            rows: AtomicU64::new(0),
            tokens_in: AtomicU64::new(0),
            tokens_out: AtomicU64::new(0),
            end: Mutex::default(),
        }
    }

    fn end(&self) -> MutexGuard<'_, End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who asks, for taking turns: a key, or an address.
    #[must_use]
    pub fn client(&self) -> String {
        self.key.as_ref().map_or_else(|| self.peer.to_string(), |key| format!("key {}", key.name))
    }

    /// Which model answers.
    pub fn asks(&self, model: &Arc<Model>) {
        let _ = self.model.set(Arc::clone(model));
    }

    /// What was sent, where somebody wants to know.
    pub fn sent(&self, bytes: &[u8]) {
        if let Some(audit) = &self.books.audit {
            self.end().input = Some(audit.input(bytes));
        }
    }

    /// Rows, texts or images that are predicted.
    pub fn predicts(&self, rows: usize) {
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// Tokens that are read.
    pub fn reads(&self, tokens: usize) {
        self.tokens_in.fetch_add(tokens as u64, Ordering::Relaxed);
        self.charge(tokens as u64);
        if let Some(model) = self.model.get() {
            model.stats.tokens_in.fetch_add(tokens as u64, Ordering::Relaxed);
        }
    }

    /// Tokens that were written.
    pub fn writes(&self, tokens: usize) {
        self.tokens_out.fetch_add(tokens as u64, Ordering::Relaxed);
        self.charge(tokens as u64);
        if let Some(model) = self.model.get() {
            model.stats.tokens_out.fetch_add(tokens as u64, Ordering::Relaxed);
        }
    }

    fn charge(&self, tokens: u64) {
        if let Some(bucket) = self.key.as_ref().and_then(|key| key.tokens.as_ref()) {
            bucket.take(tokens, Instant::now());
        }
    }

    /// The answer comes bit by bit.
    pub fn streams(&self) {
        self.end().streams = true;
        if let Some(model) = self.model.get() {
            model.stats.streams.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The answer begins.
    pub fn answers(&self, status: u16) {
        self.end().status = Some(status);
    }

    fn line(&self, end: &End, status: u16, milliseconds: f64) -> Map<String, Value> {
        let now = Timestamp::now();
        let now = Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now);
        let mut line = Map::new();
        let mut tell = |key: &str, value: Value| drop(line.insert(key.to_owned(), value));
        tell("time", now.to_string().into());
        tell("id", self.id.clone().into());
        tell("peer", self.peer.to_string().into());
        tell("key", self.key.as_ref().map(|key| key.name.clone()).into());
        tell("method", self.method.clone().into());
        tell("route", self.route.path().into());
        if let Some(model) = self.model.get() {
            tell("model", model.name.clone().into());
            tell("version", model.version.clone().into());
        }
        tell("status", status.into());
        tell("milliseconds", ((milliseconds * 1e3).round() / 1e3).into());
        let counts = [("rows", &self.rows), ("tokens_in", &self.tokens_in), ("tokens_out", &self.tokens_out)];
        for (name, count) in counts {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                tell(name, count.into());
            }
        }
        if end.streams {
            tell("stream", true.into());
        }
        if end.left {
            tell("left", true.into());
        }
        line
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut end = std::mem::take(self.end.get_mut().unwrap_or_else(PoisonError::into_inner));
        let took = self.started.elapsed();
        end.left |= end.status.is_none();
        let status = end.status.unwrap_or(LEFT);
        let (stats, name) = match self.model.get() {
            Some(model) => (Some(&model.stats), model.name.as_str()),
            None => (None, ""),
        };
        if let Some(stats) = stats {
            stats.cancelled.fetch_add(u64::from(end.left), Ordering::Relaxed);
            stats.streams.fetch_sub(i64::from(end.streams), Ordering::Relaxed);
        }
        self.books.metrics.answered(self.route, name, status, took);
        let Books { audit, access, metrics } = &*self.books;
        if audit.is_none() && !access {
            return;
        }
        let mut line = self.line(&end, status, took.as_secs_f64() * 1e3);
        if *access {
            eprintln!("{}", Value::Object(line.clone()));
        }
        if let Some(audit) = audit {
            if let Some((key, input)) = end.input {
                line.insert(key.to_owned(), input.into());
            }
            if let Err(error) = audit.write(&line)
                && metrics.audit_failures.fetch_add(1, Ordering::Relaxed) == 0
            {
                eprintln!("error: the audit log can't be written: {error}");
            }
        }
    }
}

/// An answer on its way, with its request: that ends when the answer does.
pub struct Tracked {
    body: Body,
    ticket: Arc<Ticket>,
    ended: bool,
}

impl Tracked {
    /// An answer to a request.
    #[must_use]
    pub fn new(body: Body, ticket: Arc<Ticket>) -> Self {
        Self { body, ticket, ended: false }
    }
}

impl HttpBody for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.ended |= matches!(frame, Poll::Ready(None));
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        if !self.ended && !self.body.is_end_stream() {
            self.ticket.end().left = true;
        }
    }
}
