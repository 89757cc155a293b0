//! A run's page.

use std::fs;
use std::io::{BufRead, BufReader, Read};

use jishi_data::ledger::{Action, Entry, LedgerSummary};
use jishi_runs::compare::compare;
use jishi_runs::error::bytes_words;
use jishi_runs::manifest::RunManifest;
use jishi_runs::table::thousands;

use super::asked::Reply;
use super::facts::{duration, facts, moment, value};
use super::files::pictures;
use super::html::{Html, Tag, a, div, encoded, span, tag};
use super::live;
use super::markdown;
use super::page::{Cx, more, scroll, section};
use super::runs::Seen;
use super::text::T;

/// Entries of a ledger that are shown, and bytes of it that are read.
const ENTRIES: usize = 200;
const LEDGER: u64 = 8 << 20;
/// Bytes of a model card or recipe that are shown.
const TEXT: u64 = 1 << 20;

/// The page.
pub fn page(cx: &Cx<'_>, name: &str) -> Reply {
    let Some(run) = Seen::find(cx.root(), name) else { return cx.nothing() };
    let link = format!("/runs/{}", encoded(&run.name));
    let parts = live::parts(cx, &run);
    let place = |id: &str| -> Tag {
        let html = parts.iter().find(|(part, _)| *part == id).map(|(_, html)| html.clone());
        div("").attr("id", id).add(html)
    };
    let manifest = run.manifest.as_ref();
    let about = manifest.map(|m| about(cx, m));
    let title = div("title")
        .add(div("").add(tag("p").class("over").add(a("/").add(cx.t(T::Runs)))).add(tag("h1").add(&run.name)))
        .add(place("live-actions"));
    let mut sections: Vec<(&str, T, Html)> = vec![("curves", T::Curves, place("live-charts").into())];
    let makes = ["causal-lm", "dpo", "translation", "image-generation"].contains(&run.task());
    if run.dir.join("samples").is_dir() || (run.state.lives() && makes) {
        sections.push(("samples", T::Samples, place("live-samples").into()));
    }
    let plots = plots(cx, &run, &link);
    if !plots.is_empty() {
        sections.push(("plots", T::Plots, plots));
    }
    if let Some(manifest) = manifest {
        sections.push(("recipe", T::Recipe, recipe(cx, &run, manifest, &link)));
        sections.push(("data", T::Data, data(cx, &run, manifest)));
    }
    if let Some(card) = text_of(&run, "README.md") {
        let rendered = div("markdown").add(markdown::render(&card, &format!("{link}/files")));
        sections.push(("card", T::ModelCard, more("card", cx.t(T::ShowCard), rendered).into()));
    }
    if let Some(manifest) = manifest {
        let all: Html = vec![machine(cx, manifest), checkpoints(cx, &run)].into();
        sections.push(("facts", T::Facts, all));
    }
    let says = run.dir.join(super::launch::OUTPUT).is_file();
    if says || run.state.lives() {
        let inside = place("live-output");
        let shown = if manifest.is_none() {
            inside.into()
        } else {
            more("output", cx.t(T::ShowOutput), inside).into()
        };
        sections.push(("output", T::Output, shown));
    }
    let links = sections.iter().map(|(id, title, _)| a(&format!("#{id}")).add(cx.t(*title)));
    let nav = tag("nav").class("within").attr("aria-label", cx.t(T::OnThisPage)).all(links);
    let body = tag("article")
        .attr("data-live", format!("{link}/live"))
        .attr("data-state", run.state.word())
        .add(title)
        .add(place("live-state"))
        .add(about)
        .add(place("live-progress"))
        .add(place("live-figures"))
        .add(nav)
        .all(sections.into_iter().map(|(id, title, html)| section(id, cx.t(title), html)));
    Reply::page(cx.frame(&run.name, "", body))
}

fn about(cx: &Cx<'_>, manifest: &RunManifest) -> Html {
    let described = manifest.recipe["description"].as_str().filter(|text| !text.is_empty());
    let line = [
        manifest.task.clone(),
        manifest.family.clone(),
        cx.say(T::ParametersOf, &[&thousands(&manifest.parameters.to_string())]),
    ];
    let line = line.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" · ");
    vec![
        Html::from(described.map(|text| tag("p").class("lede").add(text))),
        tag("p").class("quiet").add(line).add(" · ").add(moment(cx, &manifest.created)).into(),
    ]
    .into()
}

/// A text of the run's folder, as far as it is shown.
fn text_of(run: &Seen, name: &str) -> Option<String> {
    let mut bytes = Vec::new();
    fs::File::open(run.dir.join(name)).ok()?.take(TEXT).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn plots(cx: &Cx<'_>, run: &Seen, link: &str) -> Html {
    let mut all = pictures(&run.dir, "");
    // The curves are above, and live.
    all.retain(|path| !path.starts_with("curves"));
    all.extend(pictures(&run.dir, "plots"));
    if all.is_empty() {
        return Html::none();
    }
    let one = |path: &String| {
        let file = format!("{link}/files/{}", path.split('/').map(encoded).collect::<Vec<_>>().join("/"));
        let stem = path.rsplit('/').next().unwrap_or_default();
        let name = stem.rsplit_once('.').map_or(stem, |(name, _)| name).replace(['-', '_'], " ");
        let picture =
            tag("img").attr("src", &file).attr("alt", cx.say(T::PlotOf, &[&name])).attr("loading", "lazy");
        tag("figure").class("plot-file").add(a(&file).add(picture)).add(tag("figcaption").add(name))
    };
    div("plots").all(all.iter().map(one)).into()
}

fn recipe(cx: &Cx<'_>, run: &Seen, manifest: &RunManifest, link: &str) -> Html {
    let others: Vec<Seen> =
        Seen::all(cx.root()).into_iter().filter(|r| r.name != run.name && r.manifest.is_some()).collect();
    let mut html = Html::none();
    if !others.is_empty() {
        let chosen = cx.asked.get("against").unwrap_or_default();
        let option = |other: &Seen| {
            tag("option").attr("value", &other.name).flag("selected", other.name == chosen).add(&other.name)
        };
        let form = tag("form")
            .class("filter")
            .attr("method", "get")
            .attr("action", format!("{link}#recipe"))
            .add(
                tag("label").add(span("").add(cx.t(T::DifferencesFrom))).add(
                    tag("select")
                        .attr("name", "against")
                        .attr("data-submit", "")
                        .add(tag("option").attr("value", "").add(cx.t(T::NoOther)))
                        .all(others.iter().map(option)),
                ),
            )
            .add(tag("button").attr("type", "submit").add(cx.t(T::Show)));
        html.push(form);
        if let Some(other) = others.iter().find(|other| other.name == chosen)
            && let Some(theirs) = &other.manifest
        {
            html.push(differences(
                cx,
                &[(run.name.clone(), manifest.clone()), (other.name.clone(), theirs.clone())],
            ));
        }
    }
    let text = text_of(run, "recipe.toml").unwrap_or_else(|| manifest.recipe.to_string());
    html.push(more(
        "recipe",
        cx.t(T::ShowRecipe),
        tag("pre").attr("tabindex", "0").add(tag("code").add(text)),
    ));
    html
}

/// Keys of recipes that differ.
#[must_use]
pub fn differences(cx: &Cx<'_>, runs: &[(String, RunManifest)]) -> Html {
    let comparison = compare(runs);
    if comparison.differences.is_empty() {
        return tag("p").class("quiet").add(cx.t(T::SameRecipe)).into();
    }
    let head = tag("tr")
        .add(tag("th").attr("scope", "col").add(cx.t(T::Key)))
        .all(comparison.runs.iter().map(|name| tag("th").attr("scope", "col").add(name)));
    let row = |row: &jishi_runs::compare::Row<serde_json::Value>| {
        let cell = |v: &Option<serde_json::Value>| tag("td").add(v.as_ref().map_or("–".to_owned(), value));
        tag("tr")
            .add(tag("th").attr("scope", "row").add(tag("code").add(&row.key)))
            .all(row.values.iter().map(cell))
    };
    let table = tag("table")
        .add(tag("caption").class("sr").add(cx.t(T::Differences)))
        .add(tag("thead").add(head))
        .add(tag("tbody").all(comparison.differences.iter().map(row)));
    scroll(cx.t(T::Differences), table)
}

/// What became of the rows.
fn data(cx: &Cx<'_>, run: &Seen, manifest: &RunManifest) -> Html {
    let mut rows: Vec<(String, Html)> = Vec::new();
    for name in ["read", "train", "validation", "test", "dropped"] {
        if let Some(count) = manifest.rows.get(name) {
            let label = match name {
                "read" => T::RowsRead,
                "train" => T::RowsTrain,
                "validation" => T::RowsValidation,
                "test" => T::RowsTest,
                _ => T::RowsDropped,
            };
            rows.push((cx.t(label).into(), thousands(&count.to_string()).into()));
        }
    }
    if manifest.data.len() > 3 {
        let bytes = manifest.data.iter().map(|data| data.bytes).sum();
        let all = cx.say(T::FilesOf, &[&manifest.data.len(), &bytes_words(bytes)]);
        rows.push((cx.t(T::File).into(), all.into()));
    }
    for data in manifest.data.iter().filter(|_| manifest.data.len() <= 3) {
        let file = data.file.rsplit(['/', '\\']).next().unwrap_or_default();
        rows.push((cx.t(T::File).into(), format!("{file} ({})", bytes_words(data.bytes)).into()));
    }
    let mut html = facts(rows);
    let dir = run.logs().first().map_or(run.dir.clone(), |(_, dir)| dir.clone());
    let Ok(file) = fs::File::open(dir.join("ledger.jsonl")) else { return html };
    let mut lines = BufReader::new(file.take(LEDGER)).lines().map_while(Result::ok);
    let summary: Option<LedgerSummary> = lines.next().and_then(|line| serde_json::from_str(&line).ok());
    let entries: Vec<Entry> = lines
        .filter_map(|line| serde_json::from_str(&line).ok())
        .filter(|entry: &Entry| entry.action != Action::Used)
        .take(ENTRIES)
        .collect();
    if entries.is_empty() {
        if summary.is_some() {
            html.push(tag("p").class("quiet").add(cx.t(T::LedgerEmpty)));
        }
        return html;
    }
    let row = |entry: &Entry| {
        let action = if entry.action == Action::Dropped { T::Dropped } else { T::Changed };
        let span = |&(first, last): &(u64, u64)| {
            if first == last { first.to_string() } else { format!("{first}–{last}") }
        };
        let mut lines: Vec<String> = entry.lines.iter().take(6).map(span).collect();
        if entry.lines.len() > 6 {
            lines.push("…".into());
        }
        let file = entry.file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        tag("tr")
            .add(tag("td").add(cx.t(action)))
            .add(tag("td").class("number").add(thousands(&entry.rows.to_string())))
            .add(tag("td").add(&entry.reason))
            .add(tag("td").add(entry.column.clone().unwrap_or_default()))
            .add(tag("td").class("quiet").add(format!("{file}: {}", lines.join(", "))))
    };
    let head = [T::Action, T::Rows, T::Reason, T::Column, T::Lines];
    let table = tag("table")
        .add(tag("caption").class("sr").add(cx.t(T::Ledger)))
        .add(tag("thead").add(tag("tr").all(head.map(|h| tag("th").attr("scope", "col").add(cx.t(h))))))
        .add(tag("tbody").all(entries.iter().map(row)));
    let title = cx.say(T::LedgerOf, &[&entries.len()]);
    html.push(more("ledger", &title, scroll(cx.t(T::Ledger), table)));
    html
}

fn machine(cx: &Cx<'_>, manifest: &RunManifest) -> Html {
    let environment = &manifest.environment;
    let machine = format!("{}, {}", environment.os, environment.arch);
    let mut rows: Vec<(String, Html)> = vec![
        (cx.t(T::Began).into(), moment(cx, &manifest.created)),
        (cx.t(T::Time).into(), duration(cx, manifest.wall_seconds).into()),
        (cx.t(T::Steps).into(), thousands(&manifest.steps.to_string()).into()),
        (cx.t(T::Seed).into(), manifest.seed.to_string().into()),
        (cx.t(T::Machine).into(), machine.into()),
        (cx.t(T::Threads).into(), environment.threads.to_string().into()),
        (cx.t(T::Program).into(), format!("jishi {}", manifest.jishi_version).into()),
        (
            cx.t(T::RecipeHash).into(),
            tag("code").add(manifest.recipe_sha256.chars().take(12).collect::<String>()).into(),
        ),
    ];
    if let Some(step) = manifest.best_step {
        rows.push((cx.t(T::BestStep).into(), thousands(&step.to_string()).into()));
    }
    if let Some(share) = manifest.data_share() {
        rows.push((cx.t(T::MakingBatches).into(), format!("{:.2} %", 100.0 * share).into()));
    }
    if let Some(bytes) = manifest.peak_memory {
        rows.push((cx.t(T::PeakMemory).into(), bytes_words(bytes).into()));
    }
    if !environment.cpu_features.is_empty() {
        rows.push((cx.t(T::Extensions).into(), environment.cpu_features.join(", ").into()));
    }
    facts(rows)
}

/// The checkpoints that there are.
fn checkpoints(cx: &Cx<'_>, run: &Seen) -> Html {
    let Ok(entries) = fs::read_dir(run.dir.join("checkpoints")) else { return Html::none() };
    let mut found: Vec<(u64, u64)> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let step = entry.file_name().to_str()?.strip_prefix("step-")?.parse().ok()?;
            let files = fs::read_dir(entry.path()).ok()?.filter_map(Result::ok);
            let bytes = files.filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum();
            Some((step, bytes))
        })
        .collect();
    if found.is_empty() {
        return Html::none();
    }
    found.sort_unstable();
    let one = |(step, bytes): &(u64, u64)| {
        let step = cx.say(T::AtStep, &[&thousands(&step.to_string())]);
        tag("li").add(step).add(" ").add(span("quiet").add(bytes_words(*bytes)))
    };
    vec![
        Html::from(tag("h3").add(cx.t(T::Checkpoints))),
        tag("ul").class("plain").all(found.iter().map(one)).into(),
    ]
    .into()
}
