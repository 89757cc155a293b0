//! The description of the server: an OpenAPI 3.1 document made of the models that are served, and a page of it.

mod page;
mod requests;

use serde_json::{Map, Value, json};

use crate::gate::Call;
use crate::input::Form;
use crate::model::{Kind, Model};
pub use page::page;

/// Errors that every path may answer with.
const ERRORS: [(&str, &str); 13] = [
    ("400", "The request is wrong: `message` says what was expected and found, `param` which field."),
    ("401", "There is no key, or one that is not known."),
    ("403", "The key does not allow this, or a page of another origin asks."),
    ("404", "There is no such model or path."),
    ("405", "The path does not take this method."),
    ("408", "The body took too long to arrive."),
    ("409", "A new version can't be used: the old one goes on."),
    ("413", "The body is too large."),
    ("415", "The body is of a kind that is not read."),
    ("429", "The key has used its requests or tokens of this minute."),
    ("500", "The server failed; its log says why."),
    ("503", "Too many requests wait, or the server is not ready."),
    ("504", "The answer took too long."),
];

/// The document, of the models that a request may ask.
#[must_use]
pub fn document(call: &Call, keys: bool) -> Value {
    let mut paths = Map::new();
    let mut add = |path: &str, method: &str, operation: Value| {
        paths.insert(path.to_owned(), json!({ method: operation }));
    };
    let status = |values: &[&str]| {
        json!({
            "type": "object", "properties": { "status": { "enum": values } }, "required": ["status"],
        })
    };
    let open = |mut operation: Value| {
        operation["security"] = json!([]);
        operation
    };
    add("/healthz", "get", open(get("Whether the server runs", status(&["ok"]))));
    add("/readyz", "get", open(get("Whether all models are there", status(&["ready"]))));
    let mut metrics = get("The server's counters, as Prometheus reads them", json!({ "type": "string" }));
    metrics["responses"]["200"]["content"] = json!({ "text/plain": { "schema": { "type": "string" } } });
    add("/metrics", "get", metrics);
    let list = json!({
        "type": "object",
        "properties": {
            "object": { "const": "list" },
            "data": { "type": "array", "items": reference("Model") },
        },
        "required": ["object", "data"],
    });
    add("/v1/models", "get", get("The models", list));
    for model in &call.models.0 {
        add(&format!("/v1/models/{}", model.name), "get", get("A model", reference("Model")));
        let reload = get("Looks for a new version of a model", reloaded());
        add(&format!("/v1/models/{}/reload", model.name), "post", reload);
        if let Some((what, operation)) = own(model) {
            add(&format!("/v1/models/{}/{what}", model.name), "post", operation);
        }
    }
    for (path, operation) in requests::openai(call) {
        add(path, "post", operation);
    }
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Jishi", "version": env!("CARGO_PKG_VERSION"),
            "description": "Trained models over HTTP. Answers are those of `jishi predict` and `jishi generate`.",
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": { "schemas": schemas(), "responses": errors() },
    });
    if keys {
        document["components"]["securitySchemes"] = json!({ "key": { "type": "http", "scheme": "bearer" } });
        document["security"] = json!([{ "key": [] }]);
    }
    document
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn get(summary: &str, schema: Value) -> Value {
    json!({ "summary": summary, "responses": responses(schema) })
}

fn post(summary: &str, body: Value, answer: Value) -> Value {
    json!({
        "summary": summary,
        "requestBody": { "required": true, "content": { "application/json": { "schema": body } } },
        "responses": responses(answer),
    })
}

fn responses(schema: Value) -> Value {
    let fine =
        json!({ "description": "The answer.", "content": { "application/json": { "schema": schema } } });
    let mut all = Map::from_iter([("200".to_owned(), fine)]);
    for (status, _) in ERRORS {
        all.insert(status.into(), json!({ "$ref": format!("#/components/responses/{status}") }));
    }
    Value::Object(all)
}

fn reloaded() -> Value {
    let text = json!({ "type": "string" });
    json!({
        "type": "object",
        "properties": {
            "id": text, "status": { "enum": ["unchanged", "swapped"] }, "version": text, "from": text,
        },
        "required": ["id", "status", "version"],
    })
}

fn errors() -> Value {
    let one = |(status, what): (&str, &str)| {
        let content = json!({ "application/json": { "schema": reference("Error") } });
        (status.to_owned(), json!({ "description": what, "content": content }))
    };
    Value::Object(ERRORS.into_iter().map(one).collect())
}

fn schemas() -> Value {
    let model = json!({
        "type": "object",
        "properties": {
            "id": { "type": "string" },
            "object": { "const": "model" },
            "created": { "type": "integer" },
            "owned_by": { "type": "string" },
            "version": { "type": "string" },
            "task": { "type": "string" },
            "family": { "type": "string" },
        },
        "required": ["id", "object", "created", "owned_by", "version", "task", "family"],
    });
    let error = json!({
        "type": "object",
        "properties": { "error": {
            "type": "object",
            "properties": {
                "message": { "type": "string" },
                "type": { "type": "string" },
                "param": { "type": ["string", "null"] },
                "code": { "type": "string" },
            },
            "required": ["message", "type", "param", "code"],
        } },
        "required": ["error"],
    });
    let usage = json!({
        "type": "object",
        "properties": {
            "prompt_tokens": { "type": "integer" },
            "completion_tokens": { "type": "integer" },
            "total_tokens": { "type": "integer" },
        },
        "required": ["prompt_tokens", "total_tokens"],
    });
    json!({ "Model": model, "Error": error, "Usage": usage })
}

/// The path of a model that is its own: what comes after its name, and the operation.
fn own(model: &Model) -> Option<(&'static str, Value)> {
    let Kind::Predicts { form, .. } = &model.kind else { return None };
    let body = model.schema["inputs"].clone();
    let named = |mut properties: Value, required: &[&str]| {
        properties["model"] = json!({ "const": model.name });
        properties["version"] = json!({ "type": "string" });
        json!({ "type": "object", "properties": properties, "required": required })
    };
    if matches!(form, Form::Seeds) {
        let images = json!({ "type": "array", "items": { "type": "string", "contentEncoding": "base64" } });
        let answer = named(
            json!({ "seed": { "type": "integer" }, "images": images }),
            &["model", "version", "seed", "images"],
        );
        return Some(("generate", post("Images of a seed, as PNG files in base64", body, answer)));
    }
    let one = json!({ "type": "object" });
    let predictions = json!({ "predictions": { "type": "array", "items": one } });
    let answer = named(predictions, &["model", "version", "predictions"]);
    let summary = format!("Predictions of a model for {}", model.task);
    let mut operation = post(&summary, body, answer);
    if matches!(form, Form::Images(_)) {
        operation["requestBody"]["content"]["image/png"] = json!({ "schema": {} });
        operation["requestBody"]["content"]["image/jpeg"] = json!({ "schema": {} });
        let file = json!({ "type": "string", "contentMediaType": "application/octet-stream" });
        let files = json!({ "type": "object", "properties": { "file": { "type": "array", "items": file } } });
        operation["requestBody"]["content"]["multipart/form-data"] = json!({ "schema": files });
    }
    Some(("predict", operation))
}
