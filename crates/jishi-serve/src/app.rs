//! The paths of the server.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::gate::{Call, gate};
use crate::keys::Keys;
use crate::limits::Limits;
use crate::model::{Model, Models};
use crate::openai::{self, Style};
use crate::openapi;
use crate::predict::{generate, json_response, predict};
use crate::reload::{Keeper, Reloaded};
use crate::ticket::Books;

/// What all requests share.
pub struct Shared {
    models: RwLock<Arc<Models>>,
    keys: RwLock<Option<Arc<Keys>>>,
    /// What loads models again.
    pub keeper: OnceLock<Arc<Keeper>>,
    /// New versions that could not take the place of old ones, by the names of the models.
    pub troubles: Mutex<BTreeMap<String, String>>,
    /// Where requests are told of.
    pub books: Arc<Books>,
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
    pub fn new(limits: Arc<Limits>, books: Arc<Books>, keys: Option<Keys>) -> Self {
        Self {
            models: RwLock::default(),
            keys: RwLock::new(keys.map(Arc::new)),
            keeper: OnceLock::new(),
            troubles: Mutex::default(),
            books,
            limits,
            ready: false.into(),
            ending: false.into(),
        }
    }

    /// The keys, where there are some.
    #[must_use]
    pub fn keys(&self) -> Option<Arc<Keys>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts others in their place.
    pub fn set_keys(&self, keys: Keys) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(keys));
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

    /// Puts a new version in the place of a model. Requests that have begun end with the old one.
    pub fn swap(&self, i: usize, model: Model) {
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        let mut all = (**models).clone();
        if let Some(place) = all.0.get_mut(i) {
            *place = Arc::new(model);
        }
        *models = Arc::new(all);
    }
}

type Answer = Result<Response, ApiError>;

/// All paths.
pub fn router(shared: Arc<Shared>, studio: Router<Arc<Shared>>) -> Router {
    Router::new()
        .merge(studio)
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(described))
        .route("/docs", get(docs))
        .route("/v1/models", get(models))
        .route("/v1/models/{name}", get(model))
        .route("/v1/models/{name}/predict", post(predictions))
        .route("/v1/models/{name}/generate", post(made))
        .route("/v1/models/{name}/reload", post(reload))
        .route("/v1/completions", post(completions))
        .route("/v1/chat/completions", post(chat))
        .route("/v1/embeddings", post(embeddings))
        .fallback(|| async { ApiError::not_found("there is nothing at this path").into_response() })
        .method_not_allowed_fallback(|| async { ApiError::method().into_response() })
        .layer(from_fn_with_state(Arc::clone(&shared), gate))
        .with_state(shared)
}

async fn healthz() -> Response {
    json_response(br#"{"status":"ok"}"#.to_vec())
}

async fn readyz(State(shared): State<Arc<Shared>>, call: Call) -> Answer {
    if shared.ending.load(Ordering::SeqCst) {
        return Err(ApiError::not_ready("the server is about to end"));
    }
    if !shared.ready.load(Ordering::SeqCst) {
        return Err(ApiError::not_ready("models are being loaded"));
    }
    if shared.keys().is_some() && call.ticket.key.is_none() {
        return Ok(json_response(br#"{"status":"ready"}"#.to_vec()));
    }
    let troubles = shared.troubles.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let one = |model: &Arc<Model>| {
        let mut entry = json!({ "id": model.name, "version": model.version });
        if let Some(trouble) = troubles.get(&model.name) {
            entry["trouble"] = trouble.clone().into();
        }
        entry
    };
    let models: Vec<Value> = call.models.0.iter().map(one).collect();
    Ok(document(&json!({ "status": "ready", "models": models })))
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let mut response = Response::new(Body::from(shared.books.metrics.text()));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

async fn described(State(shared): State<Arc<Shared>>, call: Call) -> Response {
    document(&openapi::document(&call, shared.keys().is_some()))
}

async fn docs(State(shared): State<Arc<Shared>>, call: Call) -> Response {
    let page = openapi::page(&openapi::document(&call, shared.keys().is_some()));
    let mut response = Response::new(Body::from(page));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    response
}

fn document(value: &Value) -> Response {
    json_response(value.to_string().into_bytes())
}

async fn models(call: Call) -> Response {
    let list: Vec<Value> = call.models.0.iter().map(|m| Value::Object(m.listed())).collect();
    document(&json!({ "object": "list", "data": list }))
}

/// A name in a path; one that is not UTF-8 is no name.
type Name = Result<Path<String>, axum::extract::rejection::PathRejection>;

fn name_of(name: Name) -> Result<String, ApiError> {
    name.map(|Path(name)| name).map_err(|_| ApiError::not_found("there is nothing at this path"))
}

async fn model(call: Call, name: Name) -> Answer {
    Ok(document(&call.model(&name_of(name)?)?.described()))
}

async fn predictions(call: Call, name: Name, headers: HeaderMap, body: Body) -> Answer {
    predict(call.model(&name_of(name)?)?, call, headers, body).await
}

async fn made(call: Call, name: Name, headers: HeaderMap, body: Body) -> Answer {
    generate(call.model(&name_of(name)?)?, call, headers, body).await
}

async fn reload(State(shared): State<Arc<Shared>>, call: Call, name: Name) -> Answer {
    let model = call.model(&name_of(name)?)?;
    if shared.keys().is_none() && !call.local {
        return Err(ApiError::forbidden("without keys this is for requests of the server's own machine"));
    }
    let place = shared.models().0.iter().position(|m| Arc::ptr_eq(m, &model));
    let (Some(keeper), Some(place)) = (shared.keeper.get().cloned(), place) else {
        return Err(ApiError::no_model(&model.name));
    };
    let reloaded = tokio::task::spawn_blocking(move || keeper.reload(place, true));
    let (name, mut said) = (&model.name, json!({ "id": &model.name, "status": "unchanged" }));
    match reloaded.await.map_err(|e| ApiError::internal(&e))?? {
        Reloaded::Unchanged => said["version"] = model.version.clone().into(),
        Reloaded::Swapped { from, to } => {
            said = json!({ "id": name, "status": "swapped", "from": from, "version": to });
        }
    }
    Ok(document(&said))
}

async fn completions(call: Call, headers: HeaderMap, body: Body) -> Answer {
    openai::complete(Style::Completion, call, headers, body).await
}

async fn chat(call: Call, headers: HeaderMap, body: Body) -> Answer {
    openai::complete(Style::Chat, call, headers, body).await
}

async fn embeddings(call: Call, headers: HeaderMap, body: Body) -> Answer {
    openai::embeddings(call, headers, body).await
}
