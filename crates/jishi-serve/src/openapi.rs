//! The server as an OpenAPI document (version 3.1), made of the same schemas and bounds that requests are checked with.

use serde_json::{Map, Value, json};

use crate::limits::Limits;
use crate::model::{Kind, Models};

/// The document, for the models that are served now.
#[must_use]
pub fn document(models: &Models, limits: &Limits) -> Value {
    let mut paths = Map::new();
    let mut path = |name: &str, value: Value| {
        paths.insert(name.to_owned(), value);
    };
    path("/healthz", json!({ "get": operation("Whether the server runs", None, &json!({ "type": "object" }), &[]) }));
    let ready = json!({ "type": "object" });
    path("/readyz", json!({ "get": operation("Whether all models are there", None, &ready, &[503]) }));
    path("/v1/models", json!({ "get": operation("The models", None, &list_schema(), &[]) }));
    for model in &models.0 {
        let name = &model.name;
        let described = json!({ "type": "object", "required": ["id", "version", "task"] });
        let summary = format!("What `{name}` is asked and tells");
        path(&format!("/v1/models/{name}"), json!({ "get": operation(&summary, None, &described, &[]) }));
        if matches!(model.kind, Kind::Predicts { .. }) {
            let answer = json!({
                "type": "object",
                "required": ["model", "version", "predictions"],
                "properties": {
                    "model": { "type": "string" },
                    "version": { "type": "string" },
                    "predictions": { "type": "array", "items": { "type": "object" } },
                },
            });
            let summary = format!("Predictions of `{name}`");
            let body = Some(&model.schema["inputs"]);
            let value = operation(&summary, body, &answer, &[400, 408, 413, 415, 500, 503, 504]);
            path(&format!("/v1/models/{name}/predict"), json!({ "post": value }));
        }
    }
    let errors = [400, 404, 408, 413, 415, 500, 503, 504];
    let writes: Vec<&str> = models.0.iter().filter(|m| matches!(m.kind, Kind::Writes { .. })).map(|m| m.name.as_str()).collect();
    if !writes.is_empty() {
        let answer = json!({ "type": "object", "required": ["id", "object", "created", "model", "choices"] });
        let body = text_schema(&writes, limits, false);
        let value = operation("A text goes on", Some(&body), &answer, &errors);
        path("/v1/completions", json!({ "post": value }));
        let body = text_schema(&writes, limits, true);
        let value = operation("A conversation goes on", Some(&body), &answer, &errors);
        path("/v1/chat/completions", json!({ "post": value }));
    }
    let vectors: Vec<&str> =
        models.0.iter().filter(|m| m.task == "text-embedding").map(|m| m.name.as_str()).collect();
    if !vectors.is_empty() {
        let text = json!({ "type": "string", "minLength": 1, "maxLength": limits.text });
        let body = json!({
            "type": "object",
            "properties": {
                "model": { "enum": vectors },
                "input": { "anyOf": [text, {
                    "type": "array", "items": text, "minItems": 1, "maxItems": limits.rows,
                }] },
                "encoding_format": { "enum": ["float", "base64"] },
            },
            "required": ["model", "input"],
            "additionalProperties": false,
        });
        let answer = json!({ "type": "object", "required": ["object", "data", "model", "usage"] });
        path("/v1/embeddings", json!({ "post": operation("Vectors for texts", Some(&body), &answer, &errors) }));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Jishi",
            "description": "Models that were trained with Jishi",
            "version": env!("CARGO_PKG_VERSION"),
        },
        "paths": paths,
        "components": { "schemas": { "Error": error_schema() } },
    })
}

fn operation(summary: &str, body: Option<&Value>, answer: &Value, errors: &[u16]) -> Value {
    let mut responses = Map::new();
    let content = |schema: &Value| json!({ "application/json": { "schema": schema } });
    responses.insert("200".into(), json!({ "description": "The answer", "content": content(answer) }));
    let error = json!({ "$ref": "#/components/schemas/Error" });
    for status in errors {
        let why = match status {
            400 => "The request is wrong",
            404 => "There is no such model",
            408 => "The body took too long to arrive",
            413 => "The body is too large",
            415 => "The body is of a kind that is not read",
            503 => "Too many requests wait, or models are being loaded",
            504 => "The answer took too long",
            _ => "The server failed",
        };
        responses.insert(status.to_string(), json!({ "description": why, "content": content(&error) }));
    }
    let mut operation = json!({ "summary": summary, "responses": responses });
    if let Some(body) = body {
        operation["requestBody"] = json!({ "required": true, "content": content(body) });
    }
    operation
}

fn list_schema() -> Value {
    json!({
        "type": "object",
        "required": ["object", "data"],
        "properties": { "object": { "const": "list" }, "data": { "type": "array", "items": {
            "type": "object", "required": ["id", "object", "created", "owned_by", "version"],
        } } },
    })
}

fn error_schema() -> Value {
    json!({
        "type": "object",
        "required": ["error"],
        "properties": { "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": { "type": "string" },
                "type": { "enum": ["invalid_request_error", "server_error"] },
                "param": { "type": ["string", "null"] },
                "code": { "type": "string" },
            },
        } },
    })
}

fn text_schema(models: &[&str], limits: &Limits, chat: bool) -> Value {
    let whole = |least: usize, most: usize| json!({ "type": "integer", "minimum": least, "maximum": most });
    let stop = json!({ "type": "string", "minLength": 1, "maxLength": limits.stop });
    let mut body = json!({
        "type": "object",
        "properties": {
            "model": { "enum": models },
            "max_tokens": whole(1, limits.tokens),
            "temperature": { "type": "number", "minimum": 0, "maximum": 2 },
            "top_p": { "type": "number", "exclusiveMinimum": 0, "maximum": 1 },
            "top_k": whole(0, 1 << 20),
            "min_p": { "type": "number", "minimum": 0, "maximum": 1 },
            "repetition_penalty": { "type": "number", "minimum": 0.01, "maximum": 100 },
            "n": whole(1, limits.choices),
            "seed": { "type": "integer" },
            "stop": { "anyOf": [stop, { "type": "array", "items": stop, "maxItems": limits.stops }] },
            "stream": { "type": "boolean" },
        },
        "required": ["model"],
    });
    let text = json!({ "type": "string", "maxLength": limits.text });
    if chat {
        body["properties"]["messages"] = json!({
            "type": "array", "minItems": 1, "maxItems": limits.messages, "items": {
                "type": "object",
                "properties": { "role": { "enum": ["system", "user", "assistant"] }, "content": text },
                "required": ["role", "content"],
            },
        });
        body["properties"]["logprobs"] = json!({ "type": "boolean" });
        body["properties"]["top_logprobs"] = whole(0, limits.top);
        body["required"] = json!(["model", "messages"]);
    } else {
        body["properties"]["prompt"] =
            json!({ "anyOf": [text, { "type": "array", "items": text, "minItems": 1, "maxItems": limits.prompts }] });
        body["properties"]["logprobs"] = whole(0, limits.top);
        body["required"] = json!(["model", "prompt"]);
    }
    body
}
