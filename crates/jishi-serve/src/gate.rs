//! Who gets in: every request gets its ticket here, shows its key where there are keys, and is told of at its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::app::Shared;
use crate::error::ApiError;
use crate::keys::{Key, presented};
use crate::limits::Limits;
use crate::model::{Model, Models};
use crate::route::{Needs, Route};
use crate::ticket::{Ticket, Tracked};

/// A request's name in logs; a client may give its own.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// A request that got in, as those see it who answer.
#[derive(Debug, Clone)]
pub struct Call {
    /// The models that it may ask.
    pub models: Arc<Models>,
    /// Bounds on it.
    pub limits: Arc<Limits>,
    /// What is told of it.
    pub ticket: Arc<Ticket>,
    /// Whether it comes from this machine.
    pub local: bool,
}

impl Call {
    /// A model by its name.
    ///
    /// # Errors
    /// There is none, or none that the key is for.
    pub fn model(&self, name: &str) -> Result<Arc<Model>, ApiError> {
        let model = self.models.find(name).cloned().ok_or_else(|| ApiError::no_model(name))?;
        self.ticket.asks(&model);
        Ok(model)
    }
}

impl FromRequestParts<Arc<Shared>> for Call {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, ApiError> {
        let missing = || ApiError::internal(&"a request came around the gate");
        let ticket = parts.extensions.get::<Arc<Ticket>>().cloned().ok_or_else(missing)?;
        let Peer(peer) = parts.extensions.get::<Peer>().copied().ok_or_else(missing)?;
        let mut models = shared.models();
        if let Some(key) = &ticket.key
            && models.0.iter().any(|model| !key.is_for(&model.name))
        {
            let own = models.0.iter().filter(|model| key.is_for(&model.name));
            models = Arc::new(Models(own.cloned().collect()));
        }
        let (limits, local) = (Arc::clone(&shared.limits), peer.ip().is_loopback());
        Ok(Self { models, limits, ticket, local })
    }
}

/// Lets a request in, or says why not.
pub async fn gate(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    let (ticket, refused) = match ticket(&shared, &request) {
        Ok(entered) => entered,
        Err(error) => return error.into_response(),
    };
    let response = match refused {
        Some(error) => error.into_response(),
        None => {
            request.extensions_mut().insert(Arc::clone(&ticket));
            next.run(request).await
        }
    };
    ticket.answers(response.status().as_u16());
    let (mut parts, body) = response.into_parts();
    if let Ok(id) = HeaderValue::from_str(&ticket.id) {
        parts.headers.insert(REQUEST_ID, id);
    }
    Response::from_parts(parts, Body::new(Tracked::new(body, ticket)))
}

/// A request's ticket, and why it is refused, where it is.
fn ticket(shared: &Shared, request: &Request) -> Result<(Arc<Ticket>, Option<ApiError>), ApiError> {
    let Some(Peer(peer)) = request.extensions().get::<Peer>().copied() else {
        return Err(ApiError::internal(&"a request without an address"));
    };
    let (headers, method) = (request.headers(), request.method());
    let route = Route::of(request.uri().path());
    let id = headers.get(REQUEST_ID).and_then(|v| v.to_str().ok());
    let mut ticket = Ticket::new(&shared.books, route, method.as_str(), peer.ip(), id);
    let refused = match admit(shared, route, headers) {
        Ok(key) => {
            ticket.key = key;
            elsewhere(method, headers).then(|| {
                let error = ApiError::forbidden("a page of another origin asks");
                ApiError { code: "other_origin", ..error }
            })
        }
        Err(error) => Some(error),
    };
    Ok((Arc::new(ticket), refused))
}

/// The key of a request that may go on.
fn admit(shared: &Shared, route: Route, headers: &HeaderMap) -> Result<Option<Arc<Key>>, ApiError> {
    let Some(keys) = shared.keys() else { return Ok(None) };
    let header = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let shown = header.and_then(presented);
    let key = shown.as_ref().and_then(|text| keys.find(text));
    let needs = route.needs();
    if needs == Needs::Nothing {
        return Ok(key);
    }
    let metrics = &shared.books.metrics;
    let Some(key) = key else {
        metrics.unauthorised.fetch_add(1, Ordering::Relaxed);
        return Err(ApiError::unauthorised(match shown {
            Some(_) => "this key is not known",
            None => "expected a key in the header `Authorization: Bearer KEY`",
        }));
    };
    if let Needs::Scope(scope) = needs
        && !key.allows(scope)
    {
        return Err(ApiError::forbidden(format!("this key does not allow `{}`", scope.name())));
    }
    let now = Instant::now();
    if let Some(Err(seconds)) = key.tokens.as_ref().map(|bucket| bucket.open(now)) {
        metrics.limited_tokens.fetch_add(1, Ordering::Relaxed);
        return Err(ApiError::rate_limited("this key has used its tokens of this minute", seconds));
    }
    if let Some(Err(seconds)) = key.requests.as_ref().map(|bucket| bucket.admit(now)) {
        metrics.limited_requests.fetch_add(1, Ordering::Relaxed);
        return Err(ApiError::rate_limited("this key has used its requests of this minute", seconds));
    }
    Ok(Some(key))
}

/// Whether a page of elsewhere shows what is asked for, a picture for example: making one takes a while.
#[must_use]
pub fn embedded_elsewhere(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").and_then(|v| v.to_str().ok());
    site.is_some_and(|site| !["same-origin", "none"].contains(&site))
}

/// A page of elsewhere can't use a browser to ask what it could not ask itself.
fn elsewhere(method: &Method, headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|v| v.to_str().ok());
    let Some(origin) = text(header::ORIGIN) else { return false };
    let host = origin.split_once("://").map_or(origin, |(_, host)| host);
    method != Method::GET && method != Method::HEAD && Some(host) != text(header::HOST)
}
