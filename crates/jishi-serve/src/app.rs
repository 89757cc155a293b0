//! The paths of the server.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Path, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::limits::Limits;
use crate::model::{Model, Models};
use crate::openai::{self, Style};
use crate::predict::{json_response, predict};

/// What all requests share.
#[derive(Debug)]
pub struct Shared {
    models: RwLock<Arc<Models>>,
    /// Bounds on requests.
    pub limits: Arc<Limits>,
    /// Whether all models are there.
    pub ready: AtomicBool,
    /// Whether the server is about to end.
    pub ending: AtomicBool,
}

impl Shared {
    /// No models yet.
    #[must_use]
    pub fn new(limits: Arc<Limits>) -> Self {
        Self { models: RwLock::default(), limits, ready: false.into(), ending: false.into() }
    }

    /// The models as they are now.
    #[must_use]
    pub fn models(&self) -> Arc<Models> {
        Arc::clone(&self.models.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts others in their place. Requests that have begun end with those they began with.
    pub fn replace(&self, models: Models) {
        *self.models.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(models);
        self.ready.store(true, Ordering::SeqCst);
    }

    fn wanted(&self, name: &str) -> Result<Arc<Model>, ApiError> {
        self.models().find(name).cloned().ok_or_else(|| ApiError::no_model(name))
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

type Answer = Result<Response, ApiError>;

/// All paths.
pub fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/v1/models", get(models))
        .route("/v1/models/{name}", get(model))
        .route("/v1/models/{name}/predict", post(predictions))
        .route("/v1/completions", post(completions))
        .route("/v1/chat/completions", post(chat))
        .route("/v1/embeddings", post(embeddings))
        .fallback(|| async { ApiError::not_found("there is nothing at this path").into_response() })
        .method_not_allowed_fallback(|| async { ApiError::method().into_response() })
        .layer(from_fn(same_origin))
        .with_state(shared)
}

/// A page of elsewhere can't use a browser to ask what it could not ask itself.
async fn same_origin(request: Request, next: Next) -> Response {
    if elsewhere(request.method(), request.headers()) {
        let mut error = ApiError::bad("a page of another origin asks");
        error.status = StatusCode::FORBIDDEN;
        error.code = "other_origin";
        return error.into_response();
    }
    next.run(request).await
}

fn elsewhere(method: &Method, headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|v| v.to_str().ok());
    let Some(origin) = text(header::ORIGIN) else { return false };
    let host = origin.split_once("://").map_or(origin, |(_, host)| host);
    method != Method::GET && method != Method::HEAD && Some(host) != text(header::HOST)
}

async fn healthz() -> Response {
    json_response(br#"{"status":"ok"}"#.to_vec())
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Answer {
    if shared.ending.load(Ordering::SeqCst) {
        return Err(ApiError::not_ready("the server is about to end"));
    }
    if !shared.ready.load(Ordering::SeqCst) {
        return Err(ApiError::not_ready("models are being loaded"));
    }
    Ok(json_response(br#"{"status":"ready"}"#.to_vec()))
}

fn document(value: &Value) -> Response {
    json_response(value.to_string().into_bytes())
}

async fn models(State(shared): State<Arc<Shared>>) -> Response {
    let list: Vec<Value> = shared.models().0.iter().map(|m| Value::Object(m.listed())).collect();
    document(&json!({ "object": "list", "data": list }))
}

/// A name in a path; one that is not UTF-8 is no name.
type Name = Result<Path<String>, axum::extract::rejection::PathRejection>;

fn name_of(name: Name) -> Result<String, ApiError> {
    name.map(|Path(name)| name).map_err(|_| ApiError::not_found("there is nothing at this path"))
}

async fn model(State(shared): State<Arc<Shared>>, name: Name) -> Answer {
    Ok(document(&shared.wanted(&name_of(name)?)?.described()))
}

async fn predictions(
    State(shared): State<Arc<Shared>>,
    name: Name,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let model = shared.wanted(&name_of(name)?)?;
    predict(model, headers, body, Arc::clone(&shared.limits)).await
}

async fn write(shared: Arc<Shared>, style: Style, peer: Peer, headers: HeaderMap, body: Body) -> Answer {
    let client = peer.0.ip().to_string();
    openai::complete(style, shared.models(), headers, body, Arc::clone(&shared.limits), client).await
}

async fn completions(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    write(shared, Style::Completion, peer, headers, body).await
}

async fn chat(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    write(shared, Style::Chat, peer, headers, body).await
}

async fn embeddings(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Body) -> Answer {
    openai::embeddings(shared.models(), headers, body, Arc::clone(&shared.limits)).await
}
