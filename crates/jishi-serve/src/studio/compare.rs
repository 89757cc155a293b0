//! Runs side by side.

use std::collections::BTreeSet;

use jishi_runs::compare::compare;
use jishi_runs::manifest::RunManifest;

use super::asked::Reply;
use super::chart::{COLOURS, Series, chart};
use super::curves::Log;
use super::facts::{badge, duration, figure};
use super::html::{Html, a, div, encoded, span, tag};
use super::live::{curve_name, kinds, logs};
use super::page::{Cx, scroll, section};
use super::run::differences;
use super::runs::Seen;
use super::text::T;

/// Runs that are compared at most: as many as there are colours.
const MOST: usize = COLOURS;

/// The page.
pub fn page(cx: &Cx<'_>) -> Reply {
    let mut names: Vec<&str> = Vec::new();
    for (_, name) in cx.asked.query.iter().filter(|(key, _)| key == "run") {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let found: Vec<Seen> = names.iter().filter_map(|name| Seen::find(cx.root(), name)).take(MOST).collect();
    let runs: Vec<Seen> = found.into_iter().filter(|run| run.manifest.is_some()).collect();
    let title = cx.t(T::CompareTitle);
    if runs.len() < 2 {
        let body = div("empty")
            .add(tag("h1").add(title))
            .add(tag("p").add(cx.t(T::CompareTwo)))
            .add(tag("p").add(a("/").class("button primary").add(cx.t(T::AllRuns))));
        return Reply::page(cx.frame(title, "", body));
    }
    let manifests: Vec<(String, RunManifest)> =
        runs.iter().filter_map(|run| Some((run.name.clone(), run.manifest.clone()?))).collect();
    let item = |(i, run): (usize, &Seen)| {
        tag("li")
            .add(span(&format!("swatch s{i}")).attr("aria-hidden", "true"))
            .add(a(&format!("/runs/{}", encoded(&run.name))).add(&run.name))
            .add(badge(cx, &run.state))
    };
    let body = vec![
        Html::from(tag("p").class("over").add(a("/").add(cx.t(T::Runs)))),
        div("title").add(tag("h1").add(title)).into(),
        tag("ul").class("legend big").all(runs.iter().enumerate().map(item)).into(),
        section("curves", cx.t(T::Curves), charts(cx, &runs)).into(),
        section("metrics", cx.t(T::Metrics), metrics(cx, &manifests)).into(),
        section("recipe", cx.t(T::Differences), differences(cx, &manifests)).into(),
    ];
    Reply::page(cx.frame(title, "", body))
}

fn charts(cx: &Cx<'_>, runs: &[Seen]) -> Html {
    // Of a cross-validation the first fold stands for all.
    let all: Vec<Option<Log>> =
        runs.iter().map(|run| logs(cx, run).into_iter().next().map(|(_, log)| log)).collect();
    let series = |split: &str, name: &str| -> Vec<Series> {
        let key = (split.to_owned(), name.to_owned());
        let one = |(i, run): (usize, &Seen)| {
            let points = all[i].as_ref()?.curves.get(&key)?.points();
            Some(Series { name: run.name.clone(), colour: i, pale: false, points })
        };
        runs.iter().enumerate().filter_map(one).collect()
    };
    let mut drawn = vec![
        chart(cx, "validation", cx.t(T::ValidationLoss), &series("validation", "loss")),
        chart(cx, "train", cx.t(T::TrainingLoss), &series("train", "loss")),
    ];
    let mut wanted: Vec<(String, String)> = Vec::new();
    for (run, log) in runs.iter().zip(&all) {
        let Some(log) = log else { continue };
        wanted.extend(kinds(run.task(), &[(None, log.clone())]).into_iter().take(4));
    }
    let mut seen = BTreeSet::new();
    for (split, name) in wanted.into_iter().filter(|key| seen.insert(key.clone())).take(8) {
        let title = curve_name(cx, &split, &name);
        drawn.push(chart(cx, &format!("{split}-{name}"), &title, &series(&split, &name)));
    }
    drawn.retain(|html| !html.is_empty());
    if drawn.is_empty() {
        return div("empty small").add(tag("p").add(cx.t(T::NoCurves))).into();
    }
    div("charts").all(drawn).into()
}

fn metrics(cx: &Cx<'_>, runs: &[(String, RunManifest)]) -> Html {
    let comparison = compare(runs);
    let head = tag("tr")
        .add(tag("th").attr("scope", "col").add(cx.t(T::Metric)))
        .all(comparison.runs.iter().map(|name| tag("th").attr("scope", "col").class("number").add(name)));
    let mut body = tag("tbody");
    for row in &comparison.metrics {
        let cell = |value: &Option<jishi_runs::Metric>| {
            let interval = value
                .and_then(|m| m.interval)
                .map(|[low, high]| div("quiet").add(format!("{} – {}", figure(low), figure(high))));
            tag("td").class("number").add(value.map_or("–".into(), |m| figure(m.value))).add(interval)
        };
        body = body.add(
            tag("tr").add(tag("th").attr("scope", "row").add(&row.key)).all(row.values.iter().map(cell)),
        );
    }
    for row in &comparison.facts {
        let label = match row.key.as_str() {
            "parameters" => T::Parameters,
            "epochs" => T::Epochs,
            "steps" => T::Steps,
            "seconds" => T::Time,
            _ => T::PeakMemory,
        };
        let cell = |value: &Option<f64>| {
            let text = match (row.key.as_str(), value) {
                (_, None) => "–".into(),
                ("seconds", Some(seconds)) => duration(cx, *seconds),
                ("peak memory (MB)", Some(mega)) => format!("{} MB", figure(*mega)),
                (_, Some(value)) => figure(*value),
            };
            tag("td").class("number").add(text)
        };
        body = body.add(
            tag("tr")
                .class("fact")
                .add(tag("th").attr("scope", "row").add(cx.t(label)))
                .all(row.values.iter().map(cell)),
        );
    }
    let table = tag("table")
        .add(tag("caption").class("sr").add(cx.t(T::Metrics)))
        .add(tag("thead").add(head))
        .add(body);
    scroll(cx.t(T::Metrics), table)
}
