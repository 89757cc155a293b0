//! All runs of a folder: found, sorted, and chosen to be compared.

use serde_json::json;

use super::asked::Reply;
use super::facts::{badge, duration, figure, moment, since, state_word};
use super::html::{Html, Tag, a, div, encoded, span, tag};
use super::page::{Cx, scroll};
use super::runs::Seen;
use super::text::T;

/// Columns that runs are sorted by.
const COLUMNS: [(&str, T); 7] = [
    ("run", T::Run),
    ("state", T::State),
    ("task", T::Task),
    ("metric", T::Metric),
    ("steps", T::Steps),
    ("time", T::Time),
    ("began", T::Began),
];

/// The page.
pub fn page(cx: &Cx<'_>) -> Reply {
    let all = Seen::all(cx.root());
    if all.is_empty() {
        let body = vec![served(cx), nothing_yet(cx).into()];
        return Reply::page(cx.frame(cx.t(T::Runs), "/", body));
    }
    let title = div("title")
        .add(tag("h1").add(cx.t(T::Runs)))
        .add(cx.acts().then(|| a("/start").class("button primary").add(cx.t(T::StartRun))));
    let body = [served(cx), Html::from(title), filter(cx, &all).into(), chooser(cx, &all)];
    Reply::page(cx.frame(cx.t(T::Runs), "/", body.to_vec()))
}

/// The models that the server has, to be tried.
fn served(cx: &Cx<'_>) -> Html {
    let models = cx.studio.shared.models();
    if models.0.is_empty() {
        return Html::none();
    }
    let one = |model: &std::sync::Arc<crate::model::Model>| {
        let link = format!("/models/{}", encoded(&model.name));
        div("card")
            .add(div("").add(if cx.asked.acts {
                a(&link).add(&model.name)
            } else {
                span("").add(&model.name)
            }))
            .add(div("quiet").add(format!("{} · {}", model.task, model.family)))
            .add(div("quiet").add(tag("code").add(&model.version)))
    };
    let cards = div("cards served").all(models.0.iter().map(one));
    vec![Html::from(tag("h2").add(cx.t(T::ServedModels))), cards.into()].into()
}

fn nothing_yet(cx: &Cx<'_>) -> Tag {
    div("empty")
        .add(
            tag("img")
                .attr("src", "/studio/icon.svg")
                .attr("alt", "")
                .attr("width", "72")
                .attr("height", "72"),
        )
        .add(tag("h1").add(cx.t(T::NoRuns)))
        .add(tag("p").add(cx.t(T::NoRunsWhy)))
        .add(cx.acts().then(|| tag("p").add(a("/start").class("button primary").add(cx.t(T::StartFirst)))))
        .add(
            tag("p")
                .class("quiet")
                .add(cx.t(T::OrTerminal))
                .add(" ")
                .add(tag("code").add("jishi train house-prices")),
        )
}

/// Fields that say which runs to show.
fn filter(cx: &Cx<'_>, all: &[Seen]) -> Tag {
    let mut states: Vec<(&str, &str)> =
        all.iter().map(|r| (r.state.word(), state_word(cx, &r.state))).collect();
    states.sort_unstable();
    states.dedup();
    let mut tasks: Vec<&str> = all.iter().map(Seen::task).filter(|task| !task.is_empty()).collect();
    tasks.sort_unstable();
    tasks.dedup();
    let choice = |name: &'static str, label: T, none: T, options: Vec<(&str, &str)>| {
        let chosen = cx.asked.get(name).unwrap_or_default();
        let option = |(value, text): (&str, &str)| {
            tag("option").attr("value", value).flag("selected", value == chosen).add(text)
        };
        tag("label").add(span("").add(cx.t(label))).add(
            tag("select")
                .attr("name", name)
                .attr("data-submit", "")
                .add(tag("option").attr("value", "").add(cx.t(none)))
                .all(options.into_iter().map(option)),
        )
    };
    tag("form")
        .class("filter")
        .attr("method", "get")
        .attr("action", "/")
        .attr("role", "search")
        .add(
            tag("label").add(span("").add(cx.t(T::Find))).add(
                tag("input")
                    .attr("type", "search")
                    .attr("name", "q")
                    .attr("placeholder", cx.t(T::FindHint))
                    .attr("value", cx.asked.get("q").unwrap_or_default()),
            ),
        )
        .add(choice("state", T::State, T::AnyState, states))
        .add(choice("task", T::Task, T::AnyTask, tasks.into_iter().map(|t| (t, t)).collect()))
        .add(
            ["sort", "down"]
                .iter()
                .filter_map(|key| Some((*key, cx.asked.get(key)?)))
                .map(|(key, value)| {
                    tag("input").attr("type", "hidden").attr("name", key).attr("value", value)
                })
                .collect::<Vec<_>>(),
        )
        .add(tag("button").attr("type", "submit").add(cx.t(T::Show)))
}

/// The runs that were asked for, in the order that was asked for.
fn shown(cx: &Cx<'_>, all: &[Seen]) -> Vec<Seen> {
    let words = cx.asked.get("q").unwrap_or_default().to_lowercase();
    let is =
        |key: &str, value: &str| cx.asked.get(key).is_none_or(|wanted| wanted.is_empty() || wanted == value);
    let described = |run: &Seen| {
        let text = run.manifest.as_ref().and_then(|m| m.recipe["description"].as_str()).unwrap_or_default();
        format!("{} {} {} {text}", run.name, run.task(), run.family()).to_lowercase()
    };
    let fits = |run: &&Seen| {
        let text = described(run);
        words.split_whitespace().all(|word| text.contains(word))
            && is("state", run.state.word())
            && is("task", run.task())
    };
    let mut found: Vec<Seen> = all.iter().filter(fits).cloned().collect();
    let metric = |run: &Seen| run.headline().map_or(f64::NAN, |(_, m)| m.value);
    let steps = |run: &Seen| run.manifest.as_ref().map_or(0, |m| m.steps);
    let time = |run: &Seen| run.manifest.as_ref().map_or(0.0, |m| m.wall_seconds);
    match cx.asked.get("sort").unwrap_or_default() {
        "run" => found.sort_by(|a, b| a.name.cmp(&b.name)),
        "state" => found.sort_by_key(|run| run.state.word()),
        "task" => found.sort_by(|a, b| (a.task(), a.family()).cmp(&(b.task(), b.family()))),
        "metric" => found.sort_by(|a, b| metric(a).total_cmp(&metric(b))),
        "steps" => found.sort_by_key(steps),
        "time" => found.sort_by(|a, b| time(a).total_cmp(&time(b))),
        "began" => found.sort_by(|a, b| a.began().cmp(&b.began())),
        _ => {}
    }
    if cx.asked.get("down").is_some() {
        found.reverse();
    }
    found
}

/// The table, in a form that compares the chosen ones. It is kept fresh while a run is at work.
fn chooser(cx: &Cx<'_>, all: &[Seen]) -> Html {
    let query: Vec<String> =
        cx.asked.query.iter().map(|(k, v)| format!("{}={}", encoded(k), encoded(v))).collect();
    let form = tag("form")
        .class("chooser")
        .attr("method", "get")
        .attr("action", "/compare")
        .attr("data-chooser", "")
        .add(
            div("")
                .attr("id", "runs")
                .attr("data-live", format!("/studio/runs?{}", query.join("&")))
                .add(table(cx, all)),
        )
        .add(
            div("compare")
                .add(tag("button").attr("type", "submit").add(cx.t(T::CompareChosen)))
                .add(span("quiet").add(cx.t(T::CompareHint))),
        );
    form.into()
}

/// The table alone, for the script.
pub fn live(cx: &Cx<'_>) -> Reply {
    let all = Seen::all(cx.root());
    let html = if all.is_empty() { nothing_yet(cx).into() } else { table(cx, &all) };
    let soon = if all.iter().any(|run| run.state.lives()) { 2 } else { 10 };
    Reply::json(&json!({ "parts": { "runs": html.into_string() }, "again": soon }))
}

fn table(cx: &Cx<'_>, all: &[Seen]) -> Html {
    let runs = shown(cx, all);
    if runs.is_empty() {
        return div("empty small").add(tag("p").add(cx.t(T::NoRunFits))).into();
    }
    let head = COLUMNS.map(|(key, text)| {
        let sorted = cx.asked.get("sort") == Some(key);
        let down = cx.asked.get("down").is_some();
        let kept = cx.asked.query.iter().filter(|(k, _)| !["sort", "down", "lang"].contains(&k.as_str()));
        let mut query: String = kept.map(|(k, v)| format!("{}={}&", encoded(k), encoded(v))).collect();
        query += &format!("sort={key}");
        if sorted && !down {
            query += "&down=1";
        }
        let order = sorted.then_some(if down { "descending" } else { "ascending" });
        let arrow = if sorted { if down { " ↓" } else { " ↑" } } else { "" };
        tag("th")
            .attr("scope", "col")
            .class(if ["metric", "steps", "time"].contains(&key) { "number" } else { "" })
            .maybe("aria-sort", order)
            .add(
                a(&format!("/?{query}")).add(cx.t(text)).add(span("").attr("aria-hidden", "true").add(arrow)),
            )
    });
    let table = tag("table")
        .class("runs")
        .add(tag("caption").class("sr").add(cx.t(T::Runs)))
        .add(
            tag("thead")
                .add(tag("tr").add(tag("th").class("check").add(span("sr").add(cx.t(T::Choose)))).all(head)),
        )
        .add(tag("tbody").all(runs.iter().map(|run| row(cx, run))));
    scroll(cx.t(T::Runs), table)
}

fn row(cx: &Cx<'_>, run: &Seen) -> Tag {
    let named =
        |text: T, class: &str, inside: Html| tag("td").class(class).attr("data-name", cx.t(text)).add(inside);
    let manifest = run.manifest.as_ref();
    let described = manifest.and_then(|m| m.recipe["description"].as_str());
    let about = run.headline();
    let metric = about.map_or(Html::none(), |(name, metric)| {
        vec![Html::from(span("figure").add(figure(metric.value))), span("unit").add(name).into()].into()
    });
    let seconds = manifest.map(|m| match since(&m.created) {
        Some(now) if run.state.lives() && m.wall_seconds == 0.0 => now,
        _ => m.wall_seconds,
    });
    let link = format!("/runs/{}", encoded(&run.name));
    tag("tr")
        .add(
            tag("td").class("check").add(
                tag("input")
                    .attr("type", "checkbox")
                    .attr("name", "run")
                    .attr("value", &run.name)
                    .attr("aria-label", cx.say(T::ChooseRun, &[&run.name])),
            ),
        )
        .add(
            tag("th")
                .attr("scope", "row")
                .add(a(&link).add(&run.name))
                .add(described.map(|text| div("quiet").add(text))),
        )
        .add(named(T::State, "", badge(cx, &run.state)))
        .add(named(
            T::Task,
            "",
            vec![Html::from(div("").add(run.task())), div("quiet").add(run.family()).into()].into(),
        ))
        .add(named(T::Metric, "number", metric))
        .add(named(T::Steps, "number", steps(cx, run)))
        .add(named(T::Time, "number", seconds.map(|s| Html::from(duration(cx, s))).into()))
        .add(named(T::Began, "", run.began().map(|began| moment(cx, began)).into()))
}

/// Steps that are done, as the log tells where a process is at work.
fn steps(cx: &Cx<'_>, run: &Seen) -> Html {
    let Some(manifest) = &run.manifest else { return Html::none() };
    let done = if run.state.lives() {
        super::live::Progress::of(cx, run).map_or(manifest.steps, |p| p.step)
    } else {
        manifest.steps
    };
    jishi_runs::table::thousands(&done.to_string()).into()
}
