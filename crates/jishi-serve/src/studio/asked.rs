//! What a page is asked, and what it answers.

use std::net::SocketAddr;

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::html::{Html, decoded, pairs};
use super::text::Lang;
use super::{Options, guard, who};
use crate::error::ApiError;
use crate::gate::Call;

/// The header in which the script sends the token of its page.
pub const TOKEN_HEADER: &str = "x-studio-token";

/// A request, as far as pages care.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The method.
    pub method: Method,
    /// The parts of the path, decoded.
    pub path: Vec<String>,
    /// The pairs of the query.
    pub query: Vec<(String, String)>,
    /// The headers.
    pub headers: HeaderMap,
    /// The language of the answer.
    pub lang: Lang,
    /// Whether the language was chosen just now, to be kept.
    chosen: bool,
    /// Whether who asks may look.
    pub looks: bool,
    /// Whether who asks may start, stop and try.
    pub acts: bool,
    /// Whether the script asks, and not a form.
    pub by_script: bool,
    /// The body of a POST.
    pub body: Bytes,
    /// The pairs of a form.
    pub form: Vec<(String, String)>,
    /// The address, to come back to.
    pub here: String,
    /// The request, as those see it who answer for models.
    pub call: Call,
}

impl Asked {
    /// Reads a request's head.
    #[must_use]
    pub fn of(parts: &Parts, call: Call, peer: Option<SocketAddr>, options: &Options) -> Self {
        let raw = parts.uri.path();
        let path = raw.split('/').filter(|part| !part.is_empty());
        let path = path.map(decoded).collect();
        let query = pairs(parts.uri.query().unwrap_or_default());
        let wanted = query.iter().find(|(key, _)| key == "lang").and_then(|(_, value)| Lang::named(value));
        let headers = parts.headers.clone();
        let key = call.ticket.key.clone();
        Self {
            lang: wanted.unwrap_or_else(|| Lang::of(&headers)),
            chosen: wanted.is_some(),
            looks: who::may_look(peer, &headers, key.as_deref(), options.everyone),
            acts: who::may_act(peer, &headers, key.as_deref()),
            by_script: headers.contains_key(TOKEN_HEADER),
            method: parts.method.clone(),
            here: raw.to_owned(),
            call,
            path,
            query,
            headers,
            body: Bytes::new(),
            form: Vec::new(),
        }
    }

    /// Takes the body.
    pub fn take(&mut self, bytes: Bytes) {
        if crate::body::kind(&self.headers) == "application/x-www-form-urlencoded" {
            self.form = pairs(&String::from_utf8_lossy(&bytes));
        }
        self.body = bytes;
    }

    /// The token of the page that asks.
    #[must_use]
    pub fn given_token(&self) -> Option<&str> {
        let header = self.headers.get(TOKEN_HEADER).and_then(|v| v.to_str().ok());
        header.or_else(|| self.field("token")).filter(|token| !token.is_empty())
    }

    /// A field of the query.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// A field of the form.
    #[must_use]
    pub fn field(&self, key: &str) -> Option<&str> {
        self.form.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// The answer, with what every answer has.
    #[must_use]
    pub fn finish(&self, reply: Reply) -> Response {
        let Reply { mut response, sandbox } = reply;
        guard(&mut response, sandbox);
        if self.chosen {
            let cookie = format!("lang={}; Path=/; Max-Age=31536000; SameSite=Lax", self.lang.code());
            if let Ok(value) = HeaderValue::from_str(&cookie) {
                response.headers_mut().insert(header::SET_COOKIE, value);
            }
        }
        response
    }
}

/// An answer.
pub struct Reply {
    response: Response,
    /// Whether it is a file of a run, which may do nothing at all.
    sandbox: bool,
}

impl Reply {
    fn of(kind: &'static str, body: impl Into<Body>) -> Self {
        let mut response = Response::new(body.into());
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        Self { response, sandbox: false }
    }

    /// A page.
    #[must_use]
    pub fn page(page: Html) -> Self {
        Self::of("text/html; charset=utf-8", page.document())
    }

    /// A document for the script.
    #[must_use]
    pub fn json(document: &Value) -> Self {
        Self::of("application/json", document.to_string())
    }

    /// A part of this program, which browsers may keep.
    #[must_use]
    pub fn asset(kind: &'static str, text: &'static str) -> Self {
        let mut reply = Self::of(kind, text);
        let keep = HeaderValue::from_static("public, max-age=86400");
        reply.response.headers_mut().insert(header::CACHE_CONTROL, keep);
        reply
    }

    /// A file of a run.
    #[must_use]
    pub fn file(kind: &'static str, bytes: Vec<u8>) -> Self {
        Self { sandbox: true, ..Self::of(kind, bytes) }
    }

    /// An answer of the server's other parts.
    #[must_use]
    pub fn response(response: Response) -> Self {
        Self { response, sandbox: false }
    }

    /// An error for the script.
    #[must_use]
    pub fn api(error: &ApiError) -> Self {
        Self::response(error.clone().into_response())
    }

    /// Another status.
    #[must_use]
    pub fn status(mut self, status: StatusCode) -> Self {
        *self.response.status_mut() = status;
        self
    }

    /// Leads to another page, which is asked for with GET.
    #[must_use]
    pub fn see(path: &str) -> Self {
        let mut reply = Self::of("text/plain", "").status(StatusCode::SEE_OTHER);
        if let Ok(path) = HeaderValue::from_str(path) {
            reply.response.headers_mut().insert(header::LOCATION, path);
        }
        reply
    }
}
