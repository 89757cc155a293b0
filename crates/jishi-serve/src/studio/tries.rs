//! Questions to models from the pages that try them.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use serde_json::{Map, Value, json};

use super::asked::{Asked, Reply};
use super::page::Cx;
use super::runs::Seen;
use super::text::T;
use super::try_it::{Outcome, field_of};
use super::{Studio, try_it};
use crate::batching::{Columns, Told};
use crate::error::ApiError;
use crate::gate::{self, Call};
use crate::input::{Form, Input};
use crate::model::{Kind, Model, Models};
use crate::openai::{self, Style};
use crate::predict::predict;

/// Who is asked: the model of a run, or one that is served.
async fn target(studio: &Arc<Studio>, first: &str, name: &str) -> Result<Arc<Model>, ApiError> {
    if first == "models" {
        return studio.shared.models().find(name).cloned().ok_or_else(|| ApiError::no_model(name));
    }
    let (own, wanted) = (Arc::clone(studio), name.to_owned());
    let look = move || Seen::find(&own.options.root, &wanted)?.package();
    let found = tokio::task::spawn_blocking(look).await.map_err(|e| ApiError::internal(&e))?;
    let dir = found.ok_or_else(|| ApiError::not_found("this run has no model to try"))?;
    studio.tried.get(name, &dir).await
}

/// Answers a question, where it is one.
pub async fn answer(studio: &Arc<Studio>, asked: &Asked) -> Option<Reply> {
    let path: Vec<&str> = asked.path.iter().map(String::as_str).collect();
    let (first, name, kind) = match path.as_slice() {
        [first @ ("runs" | "models"), name, "try"] => (*first, *name, "form"),
        [first @ ("runs" | "models"), name, "try", kind @ ("text" | "image")] => (*first, *name, *kind),
        _ => return None,
    };
    let target = target(studio, first, name).await;
    Some(match kind {
        "form" => form(studio, asked, first, name, target).await,
        kind => {
            let reply = match target {
                Ok(model) if kind == "text" => text(asked, model).await,
                Ok(model) => image(asked, model).await,
                Err(error) => Err(error),
            };
            reply.unwrap_or_else(|error| Reply::api(&error))
        }
    })
}

/// The picture that a generator makes.
pub async fn picture(studio: &Arc<Studio>, asked: &Asked) -> Option<Reply> {
    let path: Vec<&str> = asked.path.iter().map(String::as_str).collect();
    let [first @ ("runs" | "models"), name, "grid.png"] = path.as_slice() else { return None };
    if !asked.acts || asked.method != Method::GET || gate::embedded_elsewhere(&asked.headers) {
        return Some(Reply::api(&ApiError::not_found(T::MayNotActWhy.of(asked.lang))));
    }
    let number =
        |key: &str, default: u64| asked.get(key).and_then(|v| v.trim().parse().ok()).unwrap_or(default);
    let most = studio.shared.limits.images;
    let (seed, count) = (number("seed", 42), number("count", 64).clamp(1, most as u64) as usize);
    let made = async {
        let model = target(studio, first, name).await?;
        let Kind::Predicts { batcher, form: Form::Seeds, .. } = &model.kind else {
            return Err(ApiError::bad("this model makes no images"));
        };
        match batcher.predict(Input::Seed { seed, count, grid: true }).await? {
            Told::Files(files) => files.into_iter().next().ok_or_else(|| ApiError::internal(&"no grid")),
            _ => Err(ApiError::internal(&"a model that makes images made none")),
        }
    };
    Some(match made.await {
        Ok(png) => Reply::file("image/png", png),
        Err(error) => Reply::api(&error),
    })
}

/// A form was sent: the answer is the page with what the model said.
async fn form(
    studio: &Arc<Studio>,
    asked: &Asked,
    first: &str,
    name: &str,
    target: Result<Arc<Model>, ApiError>,
) -> Reply {
    let result = match target {
        Ok(model) => ask(studio, asked, &model).await,
        Err(error) => Err(error),
    };
    let outcome = Outcome { result };
    let (own, request) = (Arc::clone(studio), asked.clone());
    let (served, name) = (first == "models", name.to_owned());
    let page = move || {
        let cx = Cx::new(&own, &request);
        if served {
            try_it::served(&cx, &name, Some(&outcome))
        } else {
            try_it::page(&cx, &name, Some(&outcome))
        }
    };
    match tokio::task::spawn_blocking(page).await {
        Ok(reply) => reply,
        Err(error) => Reply::api(&ApiError::internal(&error)),
    }
}

async fn ask(studio: &Arc<Studio>, asked: &Asked, model: &Model) -> Result<Columns, ApiError> {
    let Kind::Predicts { batcher, form, .. } = &model.kind else {
        return Err(ApiError::bad("this model writes text, and predicts nothing"));
    };
    let input = match form {
        Form::Rows(pipeline) => {
            let mut row = Map::new();
            for feature in pipeline.features() {
                let given = asked.field(&field_of(&feature.column)).unwrap_or_default().trim();
                row.insert(feature.column.clone(), value(feature, given));
            }
            Value::Object(row)
        }
        Form::Texts { .. } => Value::String(asked.field("text").unwrap_or_default().to_owned()),
        Form::Images(_) | Form::Seeds => return Err(ApiError::bad("this model reads no form")),
    };
    let body = json!({ "inputs": [input] }).to_string();
    match batcher.predict(form.parse(body.as_bytes(), &studio.shared.limits)?).await? {
        Told::Rows(columns) => Ok(columns),
        Told::Lists(_) | Told::Files(_) => Err(ApiError::bad("this model reads no form")),
    }
}

/// What was typed, as a value of the column.
fn value(feature: &jishi_data::pipeline::Feature, given: &str) -> Value {
    if given.is_empty() {
        return Value::Null;
    }
    match feature.kind() {
        // What is no number goes on as it is: the reader says what it expected.
        jishi_recipe::ColumnType::Number => match serde_json::from_str::<serde_json::Number>(given) {
            Ok(number) => Value::Number(number),
            Err(_) => given
                .parse::<f64>()
                .ok()
                .and_then(serde_json::Number::from_f64)
                .map_or_else(|| given.into(), Value::Number),
        },
        _ => given.into(),
    }
}

/// Text is written, and comes bit by bit, as the server's own interface gives it.
async fn text(asked: &Asked, model: Arc<Model>) -> Result<Reply, ApiError> {
    let mut fields: Map<String, Value> = crate::body::parse(&asked.body)?;
    fields.insert("model".into(), model.name.clone().into());
    let style = if fields.contains_key("messages") { Style::Chat } else { Style::Completion };
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let models = Arc::new(Models(vec![model]));
    let body = Body::from(Value::Object(fields).to_string());
    let response = openai::complete(style, Call { models, ..asked.call.clone() }, headers, body).await?;
    Ok(Reply::response(response))
}

/// A picture was sent: the answer is the server's own.
async fn image(asked: &Asked, model: Arc<Model>) -> Result<Reply, ApiError> {
    let body = Body::from(asked.body.clone());
    Ok(Reply::response(predict(model, asked.call.clone(), asked.headers.clone(), body).await?))
}
