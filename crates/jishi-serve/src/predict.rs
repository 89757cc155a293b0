//! `POST /v1/models/NAME/predict`.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jishi_data::write::{OutputFormat, to_bytes};
use serde_json::json;

use crate::batching::{Columns, Told};
use crate::body;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::gate::Call;
use crate::input::{Form, Input};
use crate::limits::Limits;
use crate::model::{Kind, Model};
use crate::multipart;

/// Answers a request.
///
/// # Errors
/// Everything that is wrong with it.
pub async fn predict(
    model: Arc<Model>,
    call: Call,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let Kind::Predicts { batcher, form, .. } = &model.kind else {
        let message = "this model writes text, and predicts nothing: ask `/v1/completions`";
        return Err(ApiError::bad(message));
    };
    if matches!(form, Form::Seeds) {
        let message = format!(
            "this model makes images, and predicts nothing: ask `/v1/models/{}/generate`",
            model.name
        );
        return Err(ApiError::bad(message));
    }
    let input = input(form, &call, &headers, body).await?;
    call.ticket.predicts(input.len());
    let told = batcher.predict(input).await?;
    Ok(json_response(answer(&model, &told)?))
}

/// Makes images: `{"count": 4, "seed": 1}`, both of which may be left out.
///
/// # Errors
/// Everything that is wrong with the request; a model that makes none.
pub async fn generate(
    model: Arc<Model>,
    call: Call,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let Kind::Predicts { batcher, form: Form::Seeds, .. } = &model.kind else {
        return Err(ApiError::bad("this model makes no images"));
    };
    let bytes = body::json_bytes(&headers, body, &call.limits).await?;
    call.ticket.sent(&bytes);
    let mut fields = Fields::parse(&bytes)?;
    let count = fields.whole("count", 1..=call.limits.images)?.unwrap_or(1);
    let seed = match fields.take("seed") {
        None => RandomState::new().build_hasher().finish() >> 11,
        Some(value) => {
            value.as_u64().ok_or_else(|| ApiError::field("seed", "expected a whole number of 0 or more"))?
        }
    };
    fields.end(&[])?;
    call.ticket.predicts(count);
    let Told::Files(files) = batcher.predict(Input::Seed { seed, count, grid: false }).await? else {
        return Err(ApiError::internal(&"a model that makes images made none"));
    };
    let images: Vec<String> = files.iter().map(|file| STANDARD.encode(file)).collect();
    let Model { name, version, .. } = &*model;
    let document = json!({ "model": name, "version": version, "seed": seed, "images": images });
    Ok(json_response(document.to_string().into_bytes()))
}

async fn input(form: &Form, call: &Call, headers: &HeaderMap, body: Body) -> Result<Input, ApiError> {
    let (kind, limits) = (body::kind(headers), &call.limits);
    if kind.starts_with("image/") || kind == "application/octet-stream" {
        let bytes = body::bytes(headers, body, limits).await?;
        call.ticket.sent(&bytes);
        return aside(form, bytes, limits, |form, bytes, limits| form.file(bytes, limits)).await;
    }
    if kind == "multipart/form-data" {
        let header = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let boundary = multipart::boundary(header)?;
        let bytes = body::bytes(headers, body, limits).await?;
        call.ticket.sent(&bytes);
        return aside(form, bytes, limits, move |form, bytes, limits| {
            form.files(&multipart::parts(bytes, &boundary, limits.rows)?, limits)
        })
        .await;
    }
    let bytes = body::json_bytes(headers, body, limits).await?;
    call.ticket.sent(&bytes);
    // A few rows or texts are read in less time than another thread takes to begin.
    match form {
        Form::Images(_) => aside(form, bytes, limits, Form::parse).await,
        _ if bytes.len() > 64 << 10 => aside(form, bytes, limits, Form::parse).await,
        _ => form.parse(&bytes, limits),
    }
}

/// Reads on a thread where it holds up nobody.
async fn aside(
    form: &Form,
    bytes: Bytes,
    limits: &Arc<Limits>,
    read: impl FnOnce(&Form, &[u8], &Limits) -> Result<Input, ApiError> + Send + 'static,
) -> Result<Input, ApiError> {
    let (form, limits) = (form.clone(), Arc::clone(limits));
    let read = tokio::task::spawn_blocking(move || read(&form, &bytes, &limits));
    read.await.map_err(|e| ApiError::internal(&e))?
}

/// Predictions as `jishi predict --json` writes them: a row for each input; of objects on images a list of rows.
fn answer(model: &Model, told: &Told) -> Result<Vec<u8>, ApiError> {
    // Names and versions are plain: they need no escapes.
    let mut all =
        format!("{{\"model\":\"{}\",\"version\":\"{}\",\"predictions\":[", model.name, model.version)
            .into_bytes();
    match told {
        Told::Rows(columns) => rows(&mut all, columns)?,
        Told::Lists(lists) => {
            for (i, columns) in lists.iter().enumerate() {
                all.extend_from_slice(if i > 0 { b",{\"objects\":[" } else { b"{\"objects\":[" });
                rows(&mut all, columns)?;
                all.extend_from_slice(b"]}");
            }
        }
        Told::Files(_) => return Err(ApiError::internal(&"files where rows were expected")),
    }
    all.extend_from_slice(b"]}");
    Ok(all)
}

/// Rows as objects with commas between them.
fn rows(all: &mut Vec<u8>, columns: &Columns) -> Result<(), ApiError> {
    let lines = to_bytes(columns, OutputFormat::Jsonl).map_err(|e| ApiError::internal(&e))?;
    for (i, line) in lines.split(|b| *b == b'\n').filter(|line| !line.is_empty()).enumerate() {
        if i > 0 {
            all.push(b',');
        }
        all.extend_from_slice(line);
    }
    Ok(())
}

/// A document of JSON.
pub fn json_response(document: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(document));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
