//! Requests in the form of OpenAI's interface, as schemas. Their bounds are those that [`crate::openai`] holds them to.

use jishi_recipe::TaskName;
use serde_json::{Map, Value, json};

use super::{post, reference};
use crate::gate::Call;
use crate::limits::Limits;
use crate::model::{Kind, Model};
use crate::openai::{ABSENT, IGNORED};

/// The paths that some model here can answer.
pub fn openai(call: &Call) -> Vec<(&'static str, Value)> {
    let limits = &call.limits;
    let names = |fits: &dyn Fn(&Model) -> bool| -> Vec<String> {
        call.models.0.iter().filter(|m| fits(m)).map(|m| m.name.clone()).collect()
    };
    let writes = |m: &Model| matches!(m.kind, Kind::Writes { .. });
    let converses = |m: &Model| matches!(&m.kind, Kind::Writes { generator, .. } if generator.converses());
    let (text, chat, embed) =
        (names(&writes), names(&converses), names(&|m| m.task == TaskName::TextEmbedding.name()));
    let mut all = Vec::new();
    if !text.is_empty() {
        let body = completion(text, limits);
        all.push(("/v1/completions", answered("A text goes on", body, "text_completion")));
    }
    if !chat.is_empty() {
        let body = conversation(chat, limits);
        all.push(("/v1/chat/completions", answered("A conversation goes on", body, "chat.completion")));
    }
    if !embed.is_empty() {
        all.push(("/v1/embeddings", embeddings(embed, limits)));
    }
    all
}

fn answered(summary: &str, body: Value, object: &str) -> Value {
    let answer = json!({
        "type": "object",
        "properties": {
            "id": { "type": "string" },
            "object": { "const": object },
            "created": { "type": "integer" },
            "model": { "type": "string" },
            "choices": { "type": "array", "items": { "type": "object" } },
            "usage": reference("Usage"),
        },
        "required": ["id", "object", "created", "model", "choices", "usage"],
    });
    let mut operation = post(summary, body, answer);
    // Of each event.
    let event =
        json!({ "type": "object", "properties": { "data": { "type": "string" } }, "required": ["data"] });
    let events = json!({ "schema": event });
    operation["responses"]["200"]["content"]["text/event-stream"] = events;
    operation
}

/// `null` counts as left out.
fn or_null(mut schema: Value) -> Value {
    if let Some(kind) = schema["type"].as_str().map(str::to_owned) {
        schema["type"] = json!([kind, "null"]);
        if let Some(Value::Array(values)) = schema.get_mut("enum") {
            values.push(Value::Null);
        }
        return schema;
    }
    json!({ "anyOf": [schema, { "type": "null" }] })
}

fn object(required: &[&str], fields: Vec<(&str, Value)>) -> Value {
    let mut properties = Map::new();
    for (name, schema) in fields {
        let schema = if required.contains(&name) { schema } else { or_null(schema) };
        properties.insert(name.into(), schema);
    }
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

fn number(least: f64, most: f64) -> Value {
    json!({ "type": "number", "minimum": least, "maximum": most })
}

fn whole(least: u64, most: u64) -> Value {
    json!({ "type": "integer", "minimum": least, "maximum": most })
}

fn model(names: Vec<String>) -> Value {
    json!({ "type": "string", "enum": names })
}

/// Fields that both kinds of requests for text have.
fn sampling(limits: &Limits) -> Vec<(&'static str, Value)> {
    let tokens = limits.tokens as u64;
    let stop = json!({ "type": "string", "minLength": 1, "maxLength": limits.stop });
    let stops = json!({ "anyOf": [stop, { "type": "array", "items": stop, "maxItems": limits.stops }] });
    let schema = object(&["schema"], vec![("schema", json!({ "type": "object" }))]);
    let mut schema = schema;
    // Others than the schema have no effect.
    schema["additionalProperties"] = json!(true);
    let format = json!({ "anyOf": [
        { "type": "object", "properties": { "type": { "const": "text" } }, "required": ["type"] },
        {
            "type": "object",
            "properties": { "type": { "const": "json_schema" }, "json_schema": schema },
            "required": ["type", "json_schema"],
        },
    ] });
    let mut fields = vec![
        ("max_tokens", whole(1, tokens)),
        ("max_completion_tokens", whole(1, tokens)),
        ("temperature", number(0.0, 2.0)),
        ("top_p", number(1e-6, 1.0)),
        ("top_k", whole(0, 1 << 20)),
        ("min_p", number(0.0, 1.0)),
        ("repetition_penalty", number(0.01, 100.0)),
        ("seed", json!({ "type": "integer", "minimum": i64::MIN, "maximum": u64::MAX })),
        ("stop", stops),
        ("n", whole(1, limits.choices as u64)),
        ("stream", json!({ "type": "boolean" })),
        ("response_format", format),
    ];
    fields.extend(IGNORED.map(|name| (name, json!({ "description": "without effect" }))));
    fields.extend(ABSENT.map(|name| (name, json!({ "enum": [0, false, "none", [], {}] }))));
    fields
}

fn completion(names: Vec<String>, limits: &Limits) -> Value {
    let text = text(limits);
    let tokens = json!({ "type": "array", "items": { "type": "integer", "minimum": 0 }, "minItems": 1 });
    let texts = json!({ "type": "array", "items": text, "minItems": 1, "maxItems": limits.prompts });
    let lists = json!({ "type": "array", "items": tokens, "minItems": 1, "maxItems": limits.prompts });
    let mut fields = vec![
        ("model", model(names)),
        ("prompt", json!({ "anyOf": [text, texts, tokens, lists] })),
        ("logprobs", whole(0, limits.top as u64)),
        ("best_of", whole(1, limits.choices as u64)),
    ];
    fields.extend(sampling(limits));
    let mut schema = object(&["model", "prompt"], fields);
    // All answers are given: the best of more are not chosen.
    let same = |n: usize| {
        let given = if n == 1 { json!({ "enum": [1, null] }) } else { json!({ "const": n }) };
        let required: &[&str] = if n == 1 { &[] } else { &["n"] };
        json!({ "properties": { "n": given, "best_of": { "const": n } }, "required": required })
    };
    let none = json!({ "properties": { "best_of": { "type": "null" } } });
    schema["anyOf"] = std::iter::once(none).chain((1..=limits.choices).map(same)).collect();
    schema
}

fn conversation(names: Vec<String>, limits: &Limits) -> Value {
    // Others than these have no effect.
    let part = json!({
        "type": "object",
        "properties": { "type": { "const": "text" }, "text": text(limits) },
        "required": ["type", "text"],
    });
    let content = json!({ "anyOf": [text(limits), { "type": "array", "items": part }] });
    let roles = ["system", "developer", "user", "assistant"];
    let message = json!({
        "type": "object",
        "properties": { "role": { "type": "string", "enum": roles }, "content": content },
        "required": ["role", "content"],
    });
    let messages = json!({ "type": "array", "items": message, "minItems": 1, "maxItems": limits.messages });
    let mut fields = vec![
        ("model", model(names)),
        ("messages", messages),
        ("logprobs", json!({ "type": "boolean" })),
        ("top_logprobs", whole(0, limits.top as u64)),
    ];
    fields.extend(sampling(limits));
    let mut schema = object(&["model", "messages"], fields);
    schema["anyOf"] = json!([
        { "properties": { "top_logprobs": { "type": "null" } } },
        { "properties": { "logprobs": { "const": true } }, "required": ["logprobs"] },
    ]);
    schema
}

fn text(limits: &Limits) -> Value {
    json!({ "type": "string", "maxLength": limits.text })
}

fn embeddings(names: Vec<String>, limits: &Limits) -> Value {
    // A text of blanks has no vector.
    let text = json!({ "type": "string", "pattern": "\\S", "maxLength": limits.text });
    let texts = json!({ "type": "array", "items": text, "minItems": 1, "maxItems": limits.rows });
    let body = object(
        &["model", "input"],
        vec![
            ("model", model(names)),
            ("input", json!({ "anyOf": [text, texts] })),
            ("encoding_format", json!({ "type": "string", "enum": ["float", "base64"] })),
            ("user", json!({})),
        ],
    );
    let answer = json!({
        "type": "object",
        "properties": {
            "object": { "const": "list" },
            "data": { "type": "array", "items": { "type": "object" } },
            "model": { "type": "string" },
            "usage": reference("Usage"),
        },
        "required": ["object", "data", "model", "usage"],
    });
    post("Vectors of texts", body, answer)
}
