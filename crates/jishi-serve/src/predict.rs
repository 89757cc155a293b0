//! `POST /v1/models/NAME/predict`.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use jishi_data::write::{OutputFormat, to_bytes};

use crate::batching::Columns;
use crate::body;
use crate::error::ApiError;
use crate::input::{Form, Input};
use crate::limits::Limits;
use crate::model::{Kind, Model};

/// Answers a request.
///
/// # Errors
/// Everything that is wrong with it.
pub async fn predict(
    model: Arc<Model>,
    headers: HeaderMap,
    body: Body,
    limits: Arc<Limits>,
) -> Result<Response, ApiError> {
    let Kind::Predicts { batcher, form, .. } = &model.kind else {
        let message = "this model writes text, and predicts nothing: ask `/v1/completions`";
        return Err(ApiError::bad(message));
    };
    let input = input(form, &headers, body, &limits).await?;
    let columns = batcher.predict(input).await?;
    Ok(json_response(answer(&model, &columns)?))
}

async fn input(
    form: &Form,
    headers: &HeaderMap,
    body: Body,
    limits: &Arc<Limits>,
) -> Result<Input, ApiError> {
    let kind = body::kind(headers);
    if kind.starts_with("image/") || kind == "application/octet-stream" {
        let bytes = body::bytes(headers, body, limits).await?;
        return aside(form, bytes, limits, |form, bytes, limits| form.file(bytes, limits)).await;
    }
    let bytes = body::json_bytes(headers, body, limits).await?;
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

/// Predictions as `jishi predict --json` writes them, a row each.
fn answer(model: &Model, columns: &Columns) -> Result<Vec<u8>, ApiError> {
    let lines = to_bytes(columns, OutputFormat::Jsonl).map_err(|e| ApiError::internal(&e))?;
    // Names and versions are plain: they need no escapes.
    let mut all =
        format!("{{\"model\":\"{}\",\"version\":\"{}\",\"predictions\":[", model.name, model.version)
            .into_bytes();
    for (i, line) in lines.split(|b| *b == b'\n').filter(|line| !line.is_empty()).enumerate() {
        if i > 0 {
            all.push(b',');
        }
        all.extend_from_slice(line);
    }
    all.extend_from_slice(b"]}");
    Ok(all)
}

/// A document of JSON.
pub fn json_response(document: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(document));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
