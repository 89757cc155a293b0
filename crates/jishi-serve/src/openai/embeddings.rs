//! `/v1/embeddings`: vectors for texts.

use std::sync::Arc;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jishi_data::write::Values;
use jishi_recipe::TaskName;
use serde_json::{Value, json};

use super::MOST;
use crate::batching::Told;
use crate::body;
use crate::error::ApiError;
use crate::fields::{Fields, string};
use crate::gate::Call;
use crate::input::Input;
use crate::limits::Limits;
use crate::model::Kind;
use crate::predict::json_response;

/// Answers a request.
///
/// # Errors
/// Everything that is wrong with it.
pub async fn embeddings(call: Call, headers: HeaderMap, body: Body) -> Result<Response, ApiError> {
    let Call { limits, ticket, .. } = &call;
    let bounded = Limits { body: limits.body.min(MOST), ..(**limits).clone() };
    let bytes = body::json_bytes(&headers, body, &bounded).await?;
    ticket.sent(&bytes);
    let mut fields = Fields::parse(&bytes)?;
    let name = fields.string("model", limits.stop)?;
    let name = name.ok_or_else(|| ApiError::field("model", "expected the name of a model"))?;
    let model = call.model(&name)?;
    let Kind::Predicts { batcher, tokenizer: Some(tokenizer), .. } = &model.kind else {
        return Err(ApiError::field("model", "this model gives no vectors for texts"));
    };
    if model.task != TaskName::TextEmbedding.name() {
        return Err(ApiError::field("model", "this model gives no vectors for texts"));
    }
    let encoded = match fields.string("encoding_format", 16)?.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(ApiError::field("encoding_format", "expected \"float\" or \"base64\"")),
    };
    let texts = texts(&mut fields, limits)?;
    fields.without(&["dimensions"])?;
    fields.end(&["user"])?;
    let (counted, tokenizer) = (texts.clone(), Arc::clone(tokenizer));
    let count = move || counted.iter().map(|t| tokenizer.encode(t).map_or(0, |ids| ids.len())).sum::<usize>();
    let count = tokio::task::spawn_blocking(count);
    ticket.predicts(texts.len());
    let told = batcher.predict(Input::Texts(texts)).await?;
    let tokens = count.await.map_err(|e| ApiError::internal(&e))?;
    ticket.reads(tokens);
    let none = || ApiError::internal(&"a model of embeddings gave none");
    let Told::Rows(columns) = told else { return Err(none()) };
    let Some((_, Values::Vectors(vectors))) = columns.first() else { return Err(none()) };
    let one = |(index, vector): (usize, &Vec<f64>)| {
        let embedding = if encoded {
            // What the model gives is f32; as f64 it has only been written.
            let bytes: Vec<u8> = vector.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect();
            Value::from(STANDARD.encode(bytes))
        } else {
            json!(vector)
        };
        json!({ "object": "embedding", "index": index, "embedding": embedding })
    };
    let data: Vec<Value> = vectors.iter().enumerate().map(one).collect();
    let usage = json!({ "prompt_tokens": tokens, "total_tokens": tokens });
    let document = json!({ "object": "list", "data": data, "model": model.name, "usage": usage });
    Ok(json_response(document.to_string().into_bytes()))
}

fn texts(fields: &mut Fields, limits: &Limits) -> Result<Vec<String>, ApiError> {
    let list = match fields.take("input") {
        Some(Value::Array(list)) => list,
        Some(one) => vec![one],
        None => Vec::new(),
    };
    if list.is_empty() || list.len() > limits.rows {
        let message = format!("expected 1 to {} texts, found {}", limits.rows, list.len());
        return Err(ApiError::field("input", message));
    }
    let one = |(i, value): (usize, Value)| {
        let place = format!("input[{i}]");
        let text = string(value, &place, limits.text)?;
        if text.trim().is_empty() {
            return Err(ApiError::field(place, "there is no text"));
        }
        Ok(text)
    };
    list.into_iter().enumerate().map(one).collect()
}
