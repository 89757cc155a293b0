//! The studio: pages with which people watch, compare, start and try runs.
//!
//! - Pages are made here, on the server, of tags that escape what is in them ([`html`]). A script of our own keeps live
//!   parts fresh and streams answers; everything but streams and uploads works without it.
//! - Nothing is fetched from elsewhere, and no page of elsewhere can do anything: a strict content security policy, a
//!   token in every form, and one function that says who may act ([`who::may_act`]).
//! - A run that is started here is a process of its own ([`launch`]); the studio only reads its folder.

mod actions;
mod asked;
mod chart;
mod compare;
mod curves;
mod facts;
mod files;
mod html;
mod launch;
mod list;
mod live;
mod markdown;
mod page;
mod run;
mod runs;
mod start;
mod text;
mod tried;
mod tries;
mod try_it;
mod who;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use burn::tensor::Device;

use crate::app::Shared;
use crate::body;
use crate::error::ApiError;
use crate::gate::{Call, Peer};
use crate::model::Loading;
use asked::{Asked, Reply};
use curves::Logs;
use page::Cx;
use text::T;
use tried::Tried;

/// Bytes of a form at most; pictures that are tried have the server's own bound.
const FORM: usize = 1 << 20;

/// What the studio shows, and with what it trains.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folder that holds the runs.
    pub root: PathBuf,
    /// Folder with recipes of one's own: `*.toml` in it, and in `recipes` in it.
    pub recipes: PathBuf,
    /// This program: it trains in processes of its own.
    pub program: Option<PathBuf>,
    /// Whether everybody who reaches the address may look. Else only this machine may.
    pub everyone: bool,
}

impl Options {
    /// Runs of a folder, recipes of the folder in which the program was started, for this machine alone.
    #[must_use]
    pub fn here(root: &Path) -> Self {
        let program = std::env::current_exe().ok();
        Self { root: root.to_owned(), recipes: PathBuf::from("."), program, everyone: false }
    }
}

/// What all pages share.
pub struct Studio {
    options: Options,
    shared: Arc<Shared>,
    /// Only our own pages know it: a form without it was not ours.
    token: String,
    logs: Logs,
    tried: Tried,
    /// One check of a recipe at a time: it trains a few steps.
    checks: std::sync::Mutex<()>,
}

impl Studio {
    /// The package of a model that is served.
    fn package_of(&self, name: &str) -> Option<PathBuf> {
        let place = self.shared.models().0.iter().position(|m| m.name == name)?;
        self.shared.keeper.get()?.package(place)
    }
}

/// The paths of the studio.
pub fn router<S: Clone + Send + Sync + 'static>(
    options: Options,
    shared: Arc<Shared>,
    device: &Device,
) -> Router<S> {
    let tried = Tried::new(Loading {
        root: options.root.clone(),
        format: None,
        device: device.clone(),
        limits: Arc::clone(&shared.limits),
        books: Arc::clone(&shared.books),
    });
    let studio = Arc::new(Studio {
        options,
        shared,
        token: who::token(),
        logs: Logs::default(),
        tried,
        checks: std::sync::Mutex::new(()),
    });
    let mut router = Router::new();
    for path in ["/", "/runs", "/runs/{*rest}", "/compare", "/start", "/models/{*rest}", "/studio/{*rest}"] {
        router = router.route(path, any(handle));
    }
    router.with_state(studio)
}

async fn handle(State(studio): State<Arc<Studio>>, request: Request) -> Response {
    let peer = request.extensions().get::<Peer>().map(|Peer(address)| *address);
    let (mut parts, body) = request.into_parts();
    let call = match Call::from_request_parts(&mut parts, &studio.shared).await {
        Ok(call) => call,
        Err(error) => return error.into_response(),
    };
    let mut asked = Asked::of(&parts, call, peer, &studio.options);
    let reply = if asked.looks { answer(&studio, &mut asked, body).await } else { refused(&studio, &asked) };
    asked.finish(reply)
}

/// Somebody from elsewhere looks at a server's studio.
fn refused(studio: &Arc<Studio>, asked: &Asked) -> Reply {
    Cx::new(studio, asked).message(StatusCode::FORBIDDEN, T::NotFromElsewhere, T::NotFromElsewhereWhy)
}

async fn answer(studio: &Arc<Studio>, asked: &mut Asked, body: Body) -> Reply {
    if let Some(asset) = page::asset(&asked.path) {
        return asset;
    }
    if asked.method == Method::POST {
        let mut limits = (*studio.shared.limits).clone();
        if !asked.path.ends_with(&["try".to_owned(), "image".to_owned()]) {
            limits.body = limits.body.min(FORM);
        }
        match body::bytes(&asked.headers, body, &limits).await {
            Ok(bytes) => asked.take(bytes),
            Err(error) => return Reply::api(&error),
        }
        let known = asked.given_token() == Some(studio.token.as_str());
        if !asked.acts || !known {
            let why = if asked.acts { T::FormIsOld } else { T::MayNotActWhy };
            return if asked.by_script {
                let mut error = ApiError::bad(why.of(asked.lang));
                error.status = StatusCode::FORBIDDEN;
                Reply::api(&error)
            } else {
                Cx::new(studio, asked).message(StatusCode::FORBIDDEN, T::MayNotAct, why)
            };
        }
        if let Some(reply) = tries::answer(studio, asked).await {
            return reply;
        }
    } else if asked.method != Method::GET && asked.method != Method::HEAD {
        return Reply::api(&ApiError::method());
    } else if let Some(reply) = tries::picture(studio, asked).await {
        return reply;
    }
    // Files are read, and curves made of them, where that holds up nobody.
    let (studio, own) = (Arc::clone(studio), asked.clone());
    match tokio::task::spawn_blocking(move || pages(&studio, &own)).await {
        Ok(reply) => reply,
        Err(error) => Reply::api(&ApiError::internal(&error)),
    }
}

/// The page at a path.
fn pages(studio: &Arc<Studio>, asked: &Asked) -> Reply {
    let cx = Cx::new(studio, asked);
    let path: Vec<&str> = asked.path.iter().map(String::as_str).collect();
    if asked.method == Method::POST {
        return match path.as_slice() {
            ["start"] => start::post(&cx),
            ["runs", name, action] => actions::post(&cx, name, action),
            _ => cx.nothing(),
        };
    }
    match path.as_slice() {
        [] | ["runs"] => list::page(&cx),
        ["studio", "runs"] => list::live(&cx),
        ["start"] => start::page(&cx),
        ["compare"] => compare::page(&cx),
        ["runs", name] => run::page(&cx, name),
        ["runs", name, "live"] => live::answer(&cx, name),
        ["runs", name, "ask", action] => actions::ask(&cx, name, action),
        ["runs", name, "try"] => try_it::page(&cx, name, None),
        ["runs", name, "files", file @ ..] => files::answer(&cx, name, file),
        ["models", name] => try_it::served(&cx, name, None),
        _ => cx.nothing(),
    }
}

/// Headers of every answer of the studio.
fn guard(response: &mut Response, sandbox: bool) {
    let headers = response.headers_mut();
    let policy = if sandbox {
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
    } else {
        "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; \
         frame-ancestors 'none'"
    };
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}
