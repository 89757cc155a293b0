//! The parts of a run's page that change while it trains.

use std::path::Path;
use std::time::UNIX_EPOCH;

use axum::http::StatusCode;
use jishi_runs::RunDir;
use jishi_runs::manifest::RunManifest;
use jishi_runs::table::thousands;
use jishi_tasks::registry::primary_metric;
use serde_json::{Map, Value, json};

use super::asked::Reply;
use super::chart::{Series, chart};
use super::curves::{Curve, Log};
use super::facts::{badge, duration, figure, since, state_word};
use super::files::pictures;
use super::html::{Html, a, div, encoded, span, tag};
use super::launch;
use super::page::{Cx, more};
use super::runs::{Seen, State};
use super::text::T;

/// How far a run is.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Steps that are done, of this fold.
    pub step: u64,
    /// Steps of the whole, of this fold.
    pub total: Option<u64>,
    /// Epochs that are done.
    pub epoch: f64,
    /// Steps a second.
    pub rate: Option<f64>,
    /// Rows of a step.
    pub batch: u64,
    /// Seconds that are left.
    pub left: Option<f64>,
    /// The fold at work, and how many there are.
    pub fold: Option<(usize, usize)>,
}

impl Progress {
    /// That of a run, where it has begun.
    #[must_use]
    pub fn of(cx: &Cx<'_>, run: &Seen) -> Option<Self> {
        let (fold, dir) = run.logs().pop()?;
        let own = manifest_of(&dir)?;
        let log = cx.studio.logs.read(&dir.join("metrics.jsonl"), &own.created);
        let step = log.step.max(own.steps);
        let plan = own.plan.as_ref();
        let total = plan.map(|p| p.steps);
        let changed = std::fs::metadata(dir.join("metrics.jsonl")).and_then(|m| m.modified()).ok();
        let changed = changed.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).map(|d| d.as_secs_f64());
        let rate = plan.and_then(|p| {
            let began: jiff::Timestamp = p.began.parse().ok()?;
            let seconds = changed? - began.as_millisecond() as f64 / 1000.0;
            let steps = log.step.checked_sub(p.from).filter(|steps| *steps > 0)?;
            Some(steps as f64 / seconds.max(0.5))
        });
        let folds = run.manifest.as_ref().and_then(|m| m.recipe.pointer("/data/split/folds")?.as_u64());
        let fold = fold.map(|i| (i, folds.map_or(i, |n| n as usize)));
        let more = fold.map_or(0, |(i, n)| n.saturating_sub(i)) as u64;
        let left =
            rate.zip(total).map(|(rate, total)| (total.saturating_sub(step) + more * total) as f64 / rate);
        Some(Self { step, total, epoch: log.epoch, rate, batch: plan.map_or(0, |p| p.batch), left, fold })
    }

    /// The share that is done, 0 to 1.
    #[must_use]
    pub fn share(&self) -> Option<f64> {
        let share = (self.step as f64 / self.total? as f64).clamp(0.0, 1.0);
        Some(self.fold.map_or(share, |(i, n)| (i as f64 - 1.0 + share) / n.max(1) as f64))
    }
}

fn manifest_of(dir: &Path) -> Option<RunManifest> {
    let (root, name) = (dir.parent()?, dir.file_name()?.to_str()?);
    RunDir::named(root, name)?.manifest().ok()
}

/// The changing parts, for the script.
pub fn answer(cx: &Cx<'_>, name: &str) -> Reply {
    let Some(run) = Seen::find(cx.root(), name) else {
        let gone = div("notice bad")
            .attr("role", "alert")
            .add(cx.t(T::RunGone))
            .add(" ")
            .add(a("/").add(cx.t(T::AllRuns)));
        let html = Html::from(gone).into_string();
        let document = json!({ "parts": { "live-state": html }, "gone": true, "said": cx.t(T::RunGone) });
        return Reply::json(&document).status(StatusCode::NOT_FOUND);
    };
    let mut parts = Map::new();
    for (id, html) in self::parts(cx, &run) {
        parts.insert(id.into(), Value::String(html.into_string()));
    }
    let again = if run.state.lives() { 1.5 } else { 8.0 };
    let said = format!("{}: {}", run.name, state_word(cx, &run.state));
    Reply::json(&json!({ "parts": parts, "again": again, "state": run.state.word(), "said": said }))
}

/// The changing parts, by the ids of their places.
#[must_use]
pub fn parts(cx: &Cx<'_>, run: &Seen) -> Vec<(&'static str, Html)> {
    vec![
        ("live-state", state(cx, run)),
        ("live-actions", super::actions::buttons(cx, run)),
        ("live-progress", progress(cx, run)),
        ("live-figures", figures(cx, run)),
        ("live-charts", charts(cx, run)),
        ("live-samples", samples(cx, run)),
        ("live-output", output(run)),
    ]
}

/// The badge, and why it is so.
fn state(cx: &Cx<'_>, run: &Seen) -> Html {
    let mut html = badge(cx, &run.state);
    let why = match &run.state {
        State::Failed(reason) | State::Unreadable(reason) => Some(("notice bad", reason.clone())),
        State::Killed => Some(("notice", cx.t(T::KilledWhy).into())),
        State::Refused => Some(("notice bad", cx.t(T::RefusedWhy).into())),
        State::Preparing => Some(("notice", cx.t(T::PreparingWhy).into())),
        State::Pausing => Some(("notice", cx.t(T::PausingWhy).into())),
        _ => None,
    };
    if let Some((class, why)) = why {
        html.push(div(class).add(why));
    }
    html
}

fn progress(cx: &Cx<'_>, run: &Seen) -> Html {
    if matches!(run.state, State::Finished) {
        return Html::none();
    }
    let Some(progress) = Progress::of(cx, run) else { return Html::none() };
    let Some(manifest) = &run.manifest else { return Html::none() };
    let mut facts: Vec<(T, String)> = Vec::new();
    let step = thousands(&progress.step.to_string());
    facts.push((
        T::Step,
        match progress.total {
            Some(total) => cx.say(T::StepOf, &[&step, &thousands(&total.to_string())]),
            None => step,
        },
    ));
    if let Some((fold, count)) = progress.fold {
        facts.push((T::Fold, cx.say(T::StepOf, &[&fold, &count])));
    }
    facts.push((T::Epoch, format!("{:.1}", progress.epoch)));
    let works = matches!(run.state, State::Running | State::Pausing);
    if let (true, Some(rate)) = (works, progress.rate) {
        facts.push((T::Speed, cx.say(T::RowsASecond, &[&figure(rate * progress.batch as f64)])));
        let done = progress.share().is_some_and(|share| share >= 1.0);
        if done {
            facts.push((T::Left, cx.t(T::Evaluating).into()));
        } else if let Some(left) = progress.left {
            facts.push((T::Left, cx.say(T::About, &[&duration(cx, left)])));
        }
    }
    let time = if works { since(&manifest.created).filter(|_| manifest.wall_seconds == 0.0) } else { None };
    facts.push((T::Time, duration(cx, time.unwrap_or(manifest.wall_seconds))));
    let share = progress.share().unwrap_or(0.0);
    let percent = format!("{:.0} %", share * 100.0);
    let bar = tag("progress")
        .attr("max", "1")
        .attr("value", format!("{share:.4}"))
        .attr("aria-label", cx.t(T::Progress))
        .add(percent.clone());
    let fact = |(name, value): (T, String)| div("").add(tag("dt").add(cx.t(name))).add(tag("dd").add(value));
    div("progress")
        .add(div("bar-line").add(bar).add(span("percent").add(percent)))
        .add(tag("dl").class("inline").all(facts.into_iter().map(fact)))
        .into()
}

/// The metrics that the run ended with, the first of its task large; while it trains, the last ones.
fn figures(cx: &Cx<'_>, run: &Seen) -> Html {
    let Some(manifest) = &run.manifest else { return Html::none() };
    let first = primary_metric(&manifest.task).unwrap_or("loss");
    let card = |label: String, value: f64, interval: Option<[f64; 2]>, big: bool| {
        let interval = interval.map(|[low, high]| {
            let text = format!("{} – {}", figure(low), figure(high));
            tag("div").class("quiet").attr("title", cx.t(T::Interval)).add(text)
        });
        div(if big { "card big" } else { "card" })
            .add(div("label").add(label))
            .add(div("figure").add(figure(value)))
            .add(interval)
    };
    let split = ["test", "validation"].into_iter().find(|s| manifest.metrics.contains_key(*s));
    if let Some(split) = split {
        let metrics = &manifest.metrics[split];
        let mut all: Vec<_> = metrics.iter().collect();
        all.sort_by_key(|(name, _)| (name.as_str() != first, *name == "loss"));
        let name = if split == "test" { T::OnTest } else { T::OnValidation };
        let cards = all
            .into_iter()
            .take(8)
            .map(|(name, metric)| card(name.clone(), metric.value, metric.interval, name == first));
        return vec![Html::from(tag("p").class("over").add(cx.t(name))), div("cards").all(cards).into()]
            .into();
    }
    let Some((_, dir)) = run.logs().pop() else { return Html::none() };
    let created = manifest_of(&dir).map(|m| m.created).unwrap_or_default();
    let log = cx.studio.logs.read(&dir.join("metrics.jsonl"), &created);
    let of =
        |split: &str, name: &str| log.curves.get(&(split.to_owned(), name.to_owned())).map(|c| c.last[1]);
    let wanted = [("train", "loss", T::TrainingLoss), ("validation", "loss", T::ValidationLoss)];
    let mut cards: Vec<Html> = wanted
        .iter()
        .filter_map(|(split, name, label)| {
            Some(card(cx.t(*label).into(), of(split, name)?, None, false).into())
        })
        .collect();
    if let Some(value) = of("validation", first).filter(|_| first != "loss") {
        cards.push(card(first.to_owned(), value, None, false).into());
    }
    if cards.is_empty() {
        return Html::none();
    }
    vec![Html::from(tag("p").class("over").add(cx.t(T::SoFar))), div("cards").all(cards).into()].into()
}

/// A run's logs: its own, or one a fold.
#[must_use]
pub fn logs(cx: &Cx<'_>, run: &Seen) -> Vec<(Option<usize>, Log)> {
    let read = |(fold, dir): (Option<usize>, std::path::PathBuf)| {
        let created = manifest_of(&dir).map(|m| m.created).unwrap_or_default();
        (fold, cx.studio.logs.read(&dir.join("metrics.jsonl"), &created))
    };
    run.logs().into_iter().map(read).collect()
}

/// What curves there are, the most important first: split and name.
#[must_use]
pub fn kinds(task: &str, logs: &[(Option<usize>, Log)]) -> Vec<(String, String)> {
    let first = primary_metric(task).unwrap_or("loss");
    let mut kinds: Vec<(String, String)> = Vec::new();
    for (_, log) in logs {
        kinds.extend(log.curves.keys().filter(|key| key.1 != "loss").cloned());
    }
    let place = |(split, name): &(String, String)| {
        (name != first, split != "validation", ["learning_rate", "gradient_norm"].contains(&name.as_str()))
    };
    kinds.sort_by(|a, b| (place(a), a).cmp(&(place(b), b)));
    kinds.dedup();
    kinds
}

/// What a curve is called.
#[must_use]
pub fn curve_name(cx: &Cx<'_>, split: &str, name: &str) -> String {
    match (split, name) {
        (_, "learning_rate") => cx.t(T::LearningRate).into(),
        (_, "gradient_norm") => cx.t(T::GradientNorm).into(),
        ("validation", name) => cx.say(T::ValidationOf, &[&name]),
        ("train", name) => cx.say(T::TrainingOf, &[&name]),
        (split, name) => format!("{split} {name}"),
    }
}

fn charts(cx: &Cx<'_>, run: &Seen) -> Html {
    let logs = logs(cx, run);
    let damaged: u64 = logs.iter().map(|(_, log)| log.damaged).sum();
    let folded = logs.first().is_some_and(|(fold, _)| fold.is_some());
    let series = |split: &str, name: &str, colour: usize, label: Option<String>| -> Vec<Series> {
        let key = (split.to_owned(), name.to_owned());
        let one = |(fold, log): &(Option<usize>, Log)| {
            let curve: &Curve = log.curves.get(&key)?;
            let (label, colour) = match fold {
                Some(i) => (cx.say(T::FoldNumber, &[i]), i - 1),
                None => (label.clone().unwrap_or_else(|| curve_name(cx, split, name)), colour),
            };
            Some(Series { name: label, colour, pale: false, points: curve.points() })
        };
        logs.iter().filter_map(one).collect()
    };
    let mut drawn: Vec<Html> = Vec::new();
    if folded {
        drawn.push(chart(cx, "train", cx.t(T::TrainingLoss), &series("train", "loss", 0, None)));
        drawn.push(chart(cx, "validation", cx.t(T::ValidationLoss), &series("validation", "loss", 0, None)));
    } else {
        let mut both = series("train", "loss", 0, Some(cx.t(T::Training).into()));
        both.extend(series("validation", "loss", 1, Some(cx.t(T::Validation).into())));
        drawn.push(chart(cx, "loss", cx.t(T::Loss), &both));
    }
    let (mut more_of, mut first) = (Vec::new(), Vec::new());
    for (split, name) in kinds(run.task(), &logs) {
        let title = curve_name(cx, &split, &name);
        let colour = if split == "validation" { 1 } else { 2 };
        let html = chart(cx, &format!("{split}-{name}"), &title, &series(&split, &name, colour, None));
        if first.len() < 2 && split == "validation" { first.push(html) } else { more_of.push(html) }
    }
    drawn.extend(first);
    drawn.retain(|html| !html.is_empty());
    more_of.retain(|html| !html.is_empty());
    if drawn.is_empty() && more_of.is_empty() {
        let why = if run.state.lives() { T::CurvesSoon } else { T::NoCurves };
        return div("empty small").add(tag("p").add(cx.t(why))).into();
    }
    let mut html: Html = div("charts").all(drawn).into();
    if !more_of.is_empty() {
        html.push(more("more-curves", cx.t(T::MoreCurves), div("charts").all(more_of)));
    }
    if damaged > 0 {
        html.push(tag("p").class("quiet").add(cx.say(T::DamagedLines, &[&damaged])));
    }
    html
}

/// What the model wrote or made while it trained, the last first.
fn samples(cx: &Cx<'_>, run: &Seen) -> Html {
    const EARLIER: usize = 11;
    let files = format!("/runs/{}/files", encoded(&run.name));
    let step_of = |name: &str| {
        let digits: String = name.chars().filter(char::is_ascii_digit).collect();
        thousands(digits.trim_start_matches('0'))
    };
    let mut pictures = pictures(&run.dir, "samples");
    pictures.reverse();
    let picture = |path: &String, class: &str| {
        let step = cx.say(T::AtStep, &[&step_of(path)]);
        tag("figure")
            .class(class)
            .add(
                tag("img")
                    .attr("src", format!("{files}/{path}"))
                    .attr("alt", cx.say(T::MadeAt, &[&step]))
                    .attr("loading", "lazy"),
            )
            .add(tag("figcaption").add(step))
    };
    let mut html = Html::none();
    if let Some(last) = pictures.first() {
        html.push(picture(last, "sample"));
    }
    if pictures.len() > 1 {
        let all = pictures[1..].iter().take(EARLIER).map(|p| picture(p, "sample small"));
        html.push(more("earlier-pictures", cx.t(T::Earlier), div("samples").all(all)));
    }
    let mut texts = text_files(&run.dir.join("samples"));
    texts.reverse();
    let text = |name: &String| -> Html {
        let read = std::fs::read(run.dir.join("samples").join(name)).ok();
        let list: Vec<Value> = read.and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();
        let one = |sample: &Value| {
            let field = |key: &str| sample[key].as_str().unwrap_or_default().to_owned();
            let between = if sample["continues"] == Value::Bool(true) { "" } else { " → " };
            tag("blockquote").class("text").add(tag("b").add(field("prompt"))).add(between).add(field("text"))
        };
        let step = cx.say(T::AtStep, &[&step_of(name)]);
        vec![Html::from(tag("p").class("over").add(step)), div("texts").all(list.iter().map(one)).into()]
            .into()
    };
    if let Some(last) = texts.first() {
        html.push(text(last));
    }
    if texts.len() > 1 {
        let all: Vec<Html> = texts[1..].iter().take(EARLIER).map(text).collect();
        html.push(more("earlier-texts", cx.t(T::Earlier), all));
    }
    html
}

fn text_files(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|n| n.ends_with(".json")).collect();
    names.sort();
    names
}

/// The last words of the process.
fn output(run: &Seen) -> Html {
    match launch::last_words(&run.dir) {
        Some(words) => tag("pre").class("output").attr("tabindex", "0").add(words).into(),
        None => Html::none(),
    }
}
