//! `jishi runs`: list, show, compare, remove.

use std::path::Path;

use jishi_runs::compare::compare;
use jishi_runs::run::{RunDir, list};
use jishi_runs::table::{Align, text_table, thousands};
use jishi_runs::{RunManifest, Status};

use jishi_tasks::registry::primary_metric;

use crate::cli::RunsCommand;
use crate::error::CliError;
use crate::progress::{duration, short};

/// Runs the command.
pub fn run(command: Option<RunsCommand>, root: &Path, json: bool) -> Result<(), CliError> {
    match command.unwrap_or(RunsCommand::List) {
        RunsCommand::List => list_runs(root, json),
        RunsCommand::Show { run } => show(root, &run, json),
        RunsCommand::Compare { runs } => {
            let mut found = Vec::new();
            for spec in &runs {
                let run = RunDir::open(root, spec)?;
                found.push((run.name(), run.manifest()?));
            }
            let comparison = compare(&found);
            if json {
                super::print_json(&comparison)?;
            } else {
                print!("{}", comparison.to_text());
            }
            Ok(())
        }
        RunsCommand::Remove { run } => {
            let run = RunDir::open(root, &run)?;
            let path = run.path().to_owned();
            run.remove()?;
            if json {
                println!("{}", serde_json::json!({ "removed": path }));
            } else {
                println!("removed {}", path.display());
            }
            Ok(())
        }
    }
}

fn list_runs(root: &Path, json: bool) -> Result<(), CliError> {
    let mut runs = list(root)?;
    runs.reverse();
    if json {
        let list: Vec<_> = runs
            .iter()
            .map(|r| match &r.manifest {
                Ok(m) => serde_json::json!({
                    "run": r.name, "path": r.path, "status": status(m, r.in_use), "task": m.task,
                    "family": m.family, "created": m.created, "metrics": m.metrics, "seconds": m.wall_seconds,
                }),
                Err(e) => serde_json::json!({ "run": r.name, "path": r.path, "error": e.to_string() }),
            })
            .collect();
        println!("{}", serde_json::json!({ "runs": list }));
        return Ok(());
    }
    if runs.is_empty() {
        println!("no runs in {}; train one with `jishi train house-prices`", root.display());
        return Ok(());
    }
    let rows: Vec<Vec<String>> = runs
        .iter()
        .map(|r| match &r.manifest {
            Ok(m) => vec![
                r.name.clone(),
                status(m, r.in_use).to_owned(),
                format!("{} {}", m.task, m.family),
                headline(m),
                m.created.replace('T', " ").replace('Z', ""),
                duration(m.wall_seconds),
            ],
            Err(e) => vec![
                r.name.clone(),
                "unreadable".into(),
                e.to_string(),
                String::new(),
                String::new(),
                String::new(),
            ],
        })
        .collect();
    let columns = ["run", "status", "what", "test metric", "began (UTC)", "time"].map(|c| (c, Align::Left));
    print!("{}", text_table(&columns, &rows));
    Ok(())
}

/// A run that says it is at work while no process holds it was killed.
fn status(manifest: &RunManifest, in_use: bool) -> &'static str {
    match manifest.status {
        Status::Running if !in_use => "killed",
        _ => manifest.status.word(),
    }
}

fn headline(manifest: &RunManifest) -> String {
    let shown = || {
        let first = primary_metric(&manifest.task)?;
        let metric = manifest.metrics.get("test")?.get(first)?;
        Some(format!("{first} {}", short(metric.value)))
    };
    shown().unwrap_or_default()
}

fn share_of_a_step(share: f64) -> String {
    format!("{} % of a step", short(100.0 * share))
}

fn show(root: &Path, spec: &str, json: bool) -> Result<(), CliError> {
    let run = RunDir::open(root, spec)?;
    let manifest = run.manifest()?;
    if json {
        super::print_json(&manifest)?;
        return Ok(());
    }
    let mut rows = vec![
        ["run".to_owned(), run.path().display().to_string()],
        ["status".into(), status_words(&manifest, run.in_use())],
        ["what".into(), format!("{} with {}", manifest.task, manifest.family)],
        ["began".into(), manifest.created.clone()],
        ["time".into(), duration(manifest.wall_seconds)],
        ["making batches".into(), manifest.data_share().map_or("-".into(), share_of_a_step)],
        ["parameters".into(), thousands(&manifest.parameters.to_string())],
        [
            "steps".into(),
            format!("{} ({:.1} epochs)", thousands(&manifest.steps.to_string()), manifest.epochs),
        ],
    ];
    rows.extend(manifest.data.iter().map(|d| ["data".into(), format!("{} ({} bytes)", d.file, d.bytes)]));
    rows.extend(manifest.rows.iter().map(|(k, v)| [format!("rows {k}"), v.to_string()]));
    for (split, metrics) in &manifest.metrics {
        rows.extend(metrics.iter().map(|(name, metric)| {
            let interval =
                metric.interval.map_or(String::new(), |[a, b]| format!("  [{}, {}]", short(a), short(b)));
            [format!("{split} {name}"), short(metric.value) + &interval]
        }));
    }
    let rows: Vec<Vec<String>> = rows.into_iter().map(Into::into).collect();
    print!("{}", text_table(&[("", Align::Left), ("", Align::Left)], &rows));
    Ok(())
}

fn status_words(manifest: &RunManifest, in_use: bool) -> String {
    match &manifest.status {
        Status::Interrupted { reason } | Status::Failed { reason } => {
            format!("{}: {reason}", manifest.status.word())
        }
        _ => status(manifest, in_use).to_owned(),
    }
}
