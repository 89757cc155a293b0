//! Pages that try a model: a form for what it reads, with values of its training as hints, and what it says.

use std::path::Path;

use axum::http::StatusCode;
use jishi_data::pipeline::{Encoding, Feature, Pipeline, Scaler};
use jishi_data::write::Values;
use jishi_recipe::{Domain, MissingCategory, MissingNumber, Problem, TaskName};
use jishi_runs::RunError;
use jishi_runs::package::{self, PackageManifest};
use serde_json::{Map, Value};

use super::asked::Reply;
use super::facts::figure;
use super::html::{Html, Tag, a, div, encoded, span, tag};
use super::page::{Cx, scroll};
use super::runs::{Seen, State};
use super::text::T;
use crate::batching::Columns;
use crate::error::ApiError;
use crate::model::Kind;

/// Values of a category that are offered in a list to choose from; of more, some are suggested.
const CHOICES: usize = 40;
/// Classes that are shown with their probabilities.
const CLASSES: usize = 12;

/// What a model is asked.
pub enum Shape {
    /// A row of a table.
    Rows {
        /// Its columns.
        pipeline: Box<Pipeline>,
        /// A row that it saw in training.
        example: Map<String, Value>,
    },
    /// A text.
    Text(TaskName),
    /// A text that goes on.
    Writes {
        /// Whether it knows conversations.
        converses: bool,
    },
    /// A picture, of which it tells what it shows.
    Picture,
    /// A picture, on which it finds objects.
    Boxes,
    /// A seed, of which it makes pictures.
    Seed,
    /// Nothing: it was trained to begin others with.
    Nothing,
}

/// What a model said.
pub struct Outcome {
    /// Columns of a prediction, or why there are none.
    pub result: Result<Columns, ApiError>,
}

/// What the model of a package is asked.
///
/// # Errors
/// A package that is damaged, or of another version.
pub fn shape_of_package(dir: &Path) -> Result<Shape, RunError> {
    let manifest = package::manifest(dir)?;
    let task: Option<TaskName> = serde_json::from_value(manifest.task.clone().into()).ok();
    let Some(task) = task else {
        return Err(Problem::new(format!("this version does not know the task `{}`", manifest.task)).into());
    };
    Ok(match task {
        task if task.continues_text() => {
            let config = std::fs::read_to_string(dir.join("tokenizer_config.json")).unwrap_or_default();
            let template = dir.join("chat_template.jinja").is_file();
            Shape::Writes { converses: template || config.contains("\"chat_template\"") }
        }
        TaskName::ImageClassification => Shape::Picture,
        TaskName::Detection => Shape::Boxes,
        TaskName::ImageGeneration => Shape::Seed,
        task if task.domain() == Domain::Texts => Shape::Text(task),
        task if task.domain() == Domain::Tables => rows(manifest)?,
        _ => Shape::Nothing,
    })
}

fn rows(manifest: PackageManifest) -> Result<Shape, RunError> {
    let damaged =
        |e: serde_json::Error| Problem::new(format!("the package is damaged in its preprocessing: {e}"));
    let pipeline: Pipeline = serde_json::from_value(manifest.preprocessing).map_err(damaged)?;
    let example = manifest.golden.inputs.into_iter().next().unwrap_or_default();
    Ok(Shape::Rows { pipeline: Box::new(pipeline), example })
}

/// What the field of a column is called: no column can be taken for a field of our own.
#[must_use]
pub fn field_of(column: &str) -> String {
    format!("x:{column}")
}

/// The page of a run's model.
pub fn page(cx: &Cx<'_>, name: &str, outcome: Option<&Outcome>) -> Reply {
    let Some(run) = Seen::find(cx.root(), name) else { return cx.nothing() };
    let link = format!("/runs/{}", encoded(&run.name));
    if !cx.asked.acts {
        return cx.message(StatusCode::FORBIDDEN, T::MayNotAct, T::MayNotActWhy);
    }
    let (State::Finished, Some(dir)) = (&run.state, run.package()) else {
        return cx.message(StatusCode::NOT_FOUND, T::NoModel, T::NoModelWhy);
    };
    match shape_of_package(&dir) {
        Ok(shape) => show(cx, &run.name, &link, &shape, outcome),
        Err(error) => super::actions::failed(cx, &error),
    }
}

/// The page of a model that is served.
pub fn served(cx: &Cx<'_>, name: &str, outcome: Option<&Outcome>) -> Reply {
    let Some(model) = cx.studio.shared.models().find(name).cloned() else { return cx.nothing() };
    if !cx.asked.acts {
        return cx.message(StatusCode::FORBIDDEN, T::MayNotAct, T::MayNotActWhy);
    }
    let link = format!("/models/{}", encoded(&model.name));
    // Only models that write text are served without a package.
    let shape = match (&model.kind, cx.studio.package_of(name)) {
        (Kind::Writes { generator, .. }, _) => Shape::Writes { converses: generator.converses() },
        (Kind::Predicts { .. }, Some(dir)) => match shape_of_package(&dir) {
            Ok(shape) => shape,
            Err(error) => return super::actions::failed(cx, &error),
        },
        (Kind::Predicts { .. }, None) => Shape::Nothing,
    };
    show(cx, &model.name, &link, &shape, outcome)
}

fn show(cx: &Cx<'_>, name: &str, link: &str, shape: &Shape, outcome: Option<&Outcome>) -> Reply {
    let (lede, inside) = match shape {
        Shape::Rows { pipeline, example } => (T::TryRow, row_form(cx, link, pipeline, example)),
        Shape::Text(task) => (text_lede(*task), text_form(cx, link)),
        Shape::Writes { converses } => (T::TryWrite, writing(cx, link, *converses)),
        Shape::Picture => (T::TryPicture, upload(cx, link, false)),
        Shape::Boxes => (T::TryBoxes, upload(cx, link, true)),
        Shape::Seed => (T::TrySeed, seeds(cx, link)),
        Shape::Nothing => (T::TryNothing, Html::none()),
    };
    let target = match shape {
        Shape::Rows { pipeline, .. } => pipeline.target().column().to_owned(),
        _ => cx.t(T::Answer).to_owned(),
    };
    let said = outcome.map(|outcome| match &outcome.result {
        Ok(columns) => result(cx, &target, columns),
        Err(error) => div("notice bad").attr("role", "alert").add(&error.message).into(),
    });
    let answer = said.map(|html| {
        div("answer").attr("id", "answer").attr("role", "status").attr("tabindex", "-1").add(html)
    });
    let back = if link.starts_with("/runs") { link } else { "/" };
    let body = vec![
        Html::from(tag("p").class("over").add(a("/").add(cx.t(T::Runs))).add(" / ").add(a(back).add(name))),
        div("title").add(tag("h1").add(cx.say(T::TryOf, &[&name]))).into(),
        tag("p").class("lede").add(cx.t(lede)).into(),
        answer.into(),
        inside,
    ];
    Reply::page(cx.frame(&cx.say(T::TryOf, &[&name]), "", body))
}

fn text_lede(task: TaskName) -> T {
    match task {
        TaskName::MaskedLm => T::TryMasked,
        TaskName::Translation => T::TryTranslate,
        TaskName::TextEmbedding => T::TryEmbed,
        _ => T::TryClassify,
    }
}

/// A form that is answered by a page.
fn form(cx: &Cx<'_>, link: &str, inside: impl Into<Html>) -> Tag {
    tag("form")
        .class("panel")
        .attr("method", "post")
        .attr("action", format!("{link}/try"))
        .add(cx.token())
        .add(inside)
        .add(
            div("actions").add(
                tag("button")
                    .attr("type", "submit")
                    .class("primary")
                    .attr("data-busy", cx.t(T::Asking))
                    .add(cx.t(T::Ask)),
            ),
        )
}

fn row_form(cx: &Cx<'_>, link: &str, pipeline: &Pipeline, example: &Map<String, Value>) -> Html {
    let fields = pipeline.features().iter().map(|feature| {
        let name = field_of(&feature.column);
        let of_example = example.get(&feature.column).map(plain).unwrap_or_default();
        let value = cx.asked.field(&name).map_or(of_example, str::to_owned);
        field(cx, feature, &name, &value)
    });
    form(cx, link, div("fields").all(fields)).into()
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            // Whole numbers as people write them.
            Some(whole) if whole.fract() == 0.0 && whole.abs() < 1e15 => format!("{whole:.0}"),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

fn field(cx: &Cx<'_>, feature: &Feature, name: &str, value: &str) -> Tag {
    let label = |inside: Tag, hint: Option<String>| {
        tag("label")
            .add(span("").add(&feature.column))
            .add(inside)
            .add(hint.map(|hint| span("quiet").add(hint)))
    };
    let text = |kind: &str| {
        tag("input").attr("name", name).attr("value", value).attr("type", kind).attr("autocomplete", "off")
    };
    match &feature.encoding {
        Encoding::Number { missing, value: slot, .. } => {
            let needed = matches!(missing, MissingNumber::Drop | MissingNumber::Error);
            let hint = slot.as_ref().and_then(|slot| usual(cx, &slot.scaler));
            label(text("text").attr("inputmode", "decimal").flag("required", needed), hint)
        }
        Encoding::Date { missing, .. } => {
            let needed = matches!(missing, MissingNumber::Drop | MissingNumber::Error);
            let day: String = value.chars().take(10).collect();
            let input = tag("input").attr("name", name).attr("type", "date").attr("value", day);
            label(input.flag("required", needed), None)
        }
        Encoding::Category { values, missing, .. } if values.len() <= CHOICES => {
            let needed = matches!(missing, MissingCategory::Drop | MissingCategory::Error);
            let option =
                |text: &String| tag("option").attr("value", text).flag("selected", text == value).add(text);
            let mut select = tag("select").attr("name", name);
            if !needed {
                select =
                    select.add(tag("option").attr("value", "").flag("selected", value.is_empty()).add("–"));
            }
            // A value that training did not know can still be asked.
            let own = Some(value.to_owned()).filter(|v| !v.is_empty() && !values.contains(v));
            label(select.all(values.iter().map(option)).add(own.as_ref().map(option)), None)
        }
        Encoding::Category { values, .. } => {
            let id = format!("list-{name}");
            let list = tag("datalist")
                .attr("id", &id)
                .all(values.iter().take(200).map(|v| tag("option").attr("value", v)));
            label(text("text").attr("list", &id), Some(cx.say(T::ValuesKnown, &[&values.len()]))).add(list)
        }
    }
}

/// What values of training were like, as far as the scaling tells.
fn usual(cx: &Cx<'_>, scaler: &Scaler) -> Option<String> {
    let range = |low: f64, high: f64| {
        let fine = low.is_finite() && high.is_finite();
        fine.then(|| cx.say(T::Usually, &[&figure(low), &figure(high)]))
    };
    match scaler {
        Scaler::None {} => None,
        Scaler::Standard { mean, deviation } => {
            Some(cx.say(T::Around, &[&figure(*mean), &figure(*deviation)]))
        }
        Scaler::MinMax { min, max } => range(*min, *max),
        Scaler::Robust { .. } => range(scaler.unscale(-1.0), scaler.unscale(1.0)),
        Scaler::Quantile { quantiles } => range(*quantiles.first()?, *quantiles.last()?),
        Scaler::Log { .. } => range(scaler.unscale(-2.0), scaler.unscale(2.0)),
    }
}

fn text_form(cx: &Cx<'_>, link: &str) -> Html {
    let area = tag("textarea")
        .attr("name", "text")
        .attr("rows", "5")
        .flag("required", true)
        .add(cx.asked.field("text").unwrap_or_default());
    form(cx, link, tag("label").class("whole").add(span("").add(cx.t(T::Text))).add(area)).into()
}

/// What a model says: a number, a class with the probabilities of all, or a table.
fn result(cx: &Cx<'_>, target: &str, columns: &Columns) -> Html {
    let first = |values: &Values| match values {
        Values::Numbers(v) => v.first().map(|v| figure(*v)),
        Values::Words(v) => v.first().cloned(),
        Values::Vectors(v) => v.first().map(|v| {
            let shown: Vec<String> = v.iter().take(8).map(|x| figure(*x)).collect();
            cx.say(T::VectorOf, &[&v.len(), &shown.join(", ")])
        }),
    };
    let rows = columns.first().map_or(0, |(_, values)| values.len());
    if rows != 1 {
        return table(columns, rows);
    }
    let mut shares: Vec<(&str, f64)> = columns
        .iter()
        .filter_map(|(name, values)| match values {
            Values::Numbers(v) => Some((name.strip_prefix("probability_")?, *v.first()?)),
            _ => None,
        })
        .collect();
    let told = columns.iter().find(|(name, _)| name == "prediction").and_then(|(_, values)| first(values));
    let mut html: Html = match &told {
        Some(told) => vec![Html::from(div("label").add(target)), div("told").add(told).into()].into(),
        None => Html::none(),
    };
    let ranks = columns.iter().any(|(name, _)| name == "token_1");
    if told.is_none() || ranks {
        html.push(table(columns, rows));
    } else if !shares.is_empty() {
        shares.sort_by(|a, b| b.1.total_cmp(&a.1));
        let bar = |(name, share): &(&str, f64)| {
            let text = format!("{:.1} %", share * 100.0);
            tag("li")
                .add(span("name").add(*name))
                .add(
                    tag("progress")
                        .attr("max", "1")
                        .attr("value", format!("{share:.4}"))
                        .attr("aria-label", *name)
                        .add(text.clone()),
                )
                .add(span("percent").add(text))
        };
        html.push(tag("ul").class("shares").all(shares.iter().take(CLASSES).map(bar)));
    }
    html
}

fn table(columns: &Columns, rows: usize) -> Html {
    let cell = |values: &Values, row: usize| match values {
        Values::Numbers(v) => v.get(row).map(|v| figure(*v)),
        Values::Words(v) => v.get(row).cloned(),
        Values::Vectors(v) => v
            .get(row)
            .map(|v| format!("{} …", v.iter().take(4).map(|x| figure(*x)).collect::<Vec<_>>().join(", "))),
    };
    let head = tag("tr").all(columns.iter().map(|(name, _)| tag("th").attr("scope", "col").add(name)));
    let line = |row: usize| {
        tag("tr").all(columns.iter().map(|(_, values)| tag("td").add(cell(values, row).unwrap_or_default())))
    };
    let body = tag("tbody").all((0..rows.min(100)).map(line));
    scroll("", tag("table").add(tag("thead").add(head)).add(body))
}

/// A form that the script answers, bit by bit.
fn writing(cx: &Cx<'_>, link: &str, converses: bool) -> Html {
    let number = |name: &'static str, label: T, value: &str| {
        tag("label").add(span("").add(cx.t(label))).add(
            tag("input")
                .attr("name", name)
                .attr("type", "text")
                .attr("inputmode", "decimal")
                .attr("value", value)
                .attr("autocomplete", "off"),
        )
    };
    let prompt = tag("label")
        .class("whole")
        .add(span("").add(cx.t(T::Prompt)))
        .add(tag("textarea").attr("name", "prompt").attr("rows", "4").flag("required", true));
    let way = converses.then(|| {
        tag("label")
            .class("check")
            .add(tag("input").attr("type", "checkbox").attr("name", "chat").flag("checked", true))
            .add(span("").add(cx.t(T::AsConversation)))
    });
    let form = tag("form")
        .class("panel")
        .attr("data-writes", format!("{link}/try/text"))
        .add(prompt)
        .add(way)
        .add(
            tag("fieldset")
                .class("fields")
                .add(tag("legend").class("sr").add(cx.t(T::Settings)))
                .add(number("max_tokens", T::MaxTokens, "200"))
                .add(number("temperature", T::Temperature, ""))
                .add(number("top_p", T::TopP, ""))
                .add(number("seed", T::Seed, "42")),
        )
        .add(
            div("actions")
                .add(tag("button").attr("type", "submit").class("primary").add(cx.t(T::Write)))
                .add(
                    tag("button")
                        .attr("type", "button")
                        .attr("data-stop", "")
                        .flag("disabled", true)
                        .add(cx.t(T::StopWriting)),
                ),
        );
    let out = div("answer written")
        .attr("data-written", "")
        .attr("role", "log")
        .attr("aria-live", "polite")
        .attr("aria-label", cx.t(T::Answer))
        .flag("hidden", true);
    vec![Html::from(form), out.into(), noscript(cx)].into()
}

fn upload(cx: &Cx<'_>, link: &str, boxes: bool) -> Html {
    let input =
        tag("input").attr("type", "file").attr("name", "file").attr("accept", "image/*").attr("id", "file");
    let form = tag("form")
        .class("panel drop")
        .attr("data-sees", format!("{link}/try/image"))
        .attr("data-none", cx.t(T::NothingFound))
        .attr("data-asking", cx.t(T::Asking))
        .add(
            tag("label")
                .attr("for", "file")
                .class("whole")
                .add(span("").add(cx.t(T::ChoosePicture)))
                .add(input),
        )
        .add(span("quiet").add(cx.t(T::PictureStays)));
    let seen = div(if boxes { "seen boxes" } else { "seen" }).attr("data-seen", "").flag("hidden", true);
    let out = div("answer")
        .attr("data-said", "")
        .attr("role", "status")
        .attr("aria-live", "polite")
        .flag("hidden", true);
    vec![Html::from(form), div("side").add(seen).add(out).into(), noscript(cx)].into()
}

fn seeds(cx: &Cx<'_>, link: &str) -> Html {
    let given = |key: &str, default: &str| cx.asked.get(key).unwrap_or(default).to_owned();
    let (seed, count) = (given("seed", "42"), given("count", "64"));
    let number = |name: &'static str, label: T, value: &str, most: String| {
        tag("label").add(span("").add(cx.t(label))).add(
            tag("input")
                .attr("name", name)
                .attr("type", "number")
                .attr("min", "1")
                .attr("max", most)
                .attr("value", value),
        )
    };
    let form = tag("form")
        .class("panel")
        .attr("method", "get")
        .attr("action", format!("{link}/try"))
        .add(div("fields").add(number("seed", T::Seed, &seed, u32::MAX.to_string())).add(number(
            "count",
            T::HowMany,
            &count,
            cx.studio.shared.limits.images.to_string(),
        )))
        .add(div("actions").add(tag("button").attr("type", "submit").class("primary").add(cx.t(T::Make))));
    let made = cx.asked.get("seed").is_some().then(|| {
        let file = format!("{link}/grid.png?seed={}&count={}", encoded(&seed), encoded(&count));
        tag("figure")
            .class("sample")
            .add(tag("img").attr("src", file).attr("alt", cx.say(T::MadeOf, &[&count, &seed])))
    });
    vec![Html::from(form), made.into()].into()
}

fn noscript(cx: &Cx<'_>) -> Html {
    tag("noscript").add(tag("p").class("notice").add(cx.t(T::NeedsScript))).into()
}
