//! Bodies of requests, as bytes: not too large, and not too slow.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use futures_util::StreamExt;
use serde::Deserialize;

use crate::error::ApiError;
use crate::limits::Limits;

/// The kind that a body says it is, without parameters, in lower case.
pub fn kind(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Reads a body.
///
/// # Errors
/// One that is too large, too slow, or cut short.
pub async fn bytes(headers: &HeaderMap, body: Body, limits: &Limits) -> Result<Bytes, ApiError> {
    let said = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if said.is_some_and(|bytes| bytes > limits.body as u64) {
        return Err(ApiError::too_large(limits.body));
    }
    let read = async {
        let mut stream = body.into_data_stream();
        let mut all = Vec::new();
        while let Some(part) = stream.next().await {
            let part = part.map_err(|_| ApiError::bad("the body was cut short"))?;
            if all.len() + part.len() > limits.body {
                return Err(ApiError::too_large(limits.body));
            }
            all.extend_from_slice(&part);
        }
        Ok(Bytes::from(all))
    };
    tokio::time::timeout(limits.arrival, read).await.map_err(|_| ApiError::slow())?
}

/// Reads a body that says it is JSON.
///
/// # Errors
/// As [`bytes`]; another kind.
pub async fn json_bytes(headers: &HeaderMap, body: Body, limits: &Limits) -> Result<Bytes, ApiError> {
    let kind = kind(headers);
    if kind != "application/json" && !kind.ends_with("+json") {
        let found = if kind.is_empty() { "none".into() } else { format!("`{kind}`") };
        return Err(ApiError::media_type(format!(
            "expected the header `Content-Type: application/json`, found {found}"
        )));
    }
    bytes(headers, body, limits).await
}

/// JSON as a type.
///
/// # Errors
/// What is no JSON, or of another type, with its place.
pub fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let what = match error.classify() {
            serde_json::error::Category::Data => "the body is not what is expected here",
            _ => "the body is not JSON",
        };
        let mut said = error.to_string();
        if said.len() > 300 {
            said = said.chars().take(300).collect();
        }
        ApiError::bad(format!("{what}: {said}"))
    })
}
