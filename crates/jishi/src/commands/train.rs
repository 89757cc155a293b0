//! `jishi train`.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::Device;
use jishi_recipe::{Parsed, Problem, Provenance, Recipe, TaskName};
use jishi_runs::RunDir;
use jishi_runs::table::{Align, text_table, thousands};
use jishi_train::job::report::TrainReport;
use jishi_train::job::train::{TrainJob, train};

use crate::cli::{DeviceName, ResumeArgs, TrainArgs};
use crate::commands::{Loaded, load};
use crate::error::CliError;
use crate::progress::{Progress, duration, short};

/// Set by Ctrl-C, SIGTERM and the live view's `q`.
static STOP: AtomicBool = AtomicBool::new(false);

/// Runs the command.
pub fn run(args: &TrainArgs, json: bool) -> Result<(), CliError> {
    let loaded = load(&args.recipe)?;
    let asked = Asked { root: &args.out, run: args.run.as_deref(), resume: args.resume, watch: args.watch };
    let again = match &args.run {
        Some(run) => format!("jishi resume {run}"),
        None => format!("jishi train {} --resume", args.recipe.recipe),
    };
    go(&loaded, &asked, args.device, &again, json)
}

/// `jishi resume`: goes on with a run by what its folder tells.
pub fn resume(args: &ResumeArgs, json: bool) -> Result<(), CliError> {
    let found = RunDir::open(&args.root, &args.run)?;
    let manifest = found.manifest()?;
    let damaged = |e: &dyn std::fmt::Display| {
        let problem = Problem::new(format!("the recipe in the run's manifest can't be read: {e}"));
        CliError::bad(problem.file(found.path()).help("use the version of jishi that began the run"))
    };
    let recipe: Recipe = serde_json::from_value(manifest.recipe).map_err(|e| damaged(&e))?;
    let provenance = manifest.defaults.into_iter();
    let provenance = provenance.map(|d| Provenance { key: d.key, value: d.value, from: d.from }).collect();
    let source_text = jishi_recipe::to_toml(&recipe);
    let base = manifest.base.unwrap_or_default();
    // From the same folder, files keep the names that they had.
    let here = std::env::current_dir().ok().and_then(|here| Some(base.strip_prefix(here).ok()?.to_owned()));
    let parsed = Parsed { recipe, source_text, provenance };
    let loaded = Loaded { parsed, base: here.unwrap_or(base) };
    let path = std::fs::canonicalize(found.path()).map_err(|e| damaged(&e))?;
    let (Some(root), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Err(damaged(&"the folder has no name"));
    };
    let asked = Asked { root, run: Some(name), resume: true, watch: args.watch };
    go(&loaded, &asked, args.device, &format!("jishi resume {}", args.run), json)
}

/// What the arguments ask for.
struct Asked<'a> {
    root: &'a Path,
    run: Option<&'a str>,
    resume: bool,
    watch: bool,
}

fn go(
    loaded: &Loaded,
    asked: &Asked<'_>,
    device_name: DeviceName,
    again: &str,
    json: bool,
) -> Result<(), CliError> {
    let device = device(device_name)?;
    // A second Ctrl-C ends the process at once: checkpoints are never torn.
    let handler = ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    });
    handler.map_err(|e| CliError::Failed(format!("can't listen to Ctrl-C: {e}")))?;
    let job = TrainJob {
        parsed: &loaded.parsed,
        base: &loaded.base,
        root: asked.root,
        run: asked.run,
        resume: asked.resume,
        device: &device,
        stop: &STOP,
    };
    let report = train(&job, &mut Progress::new(asked.watch, &STOP))?;
    if json {
        super::print_json(&report)?;
    } else {
        print!("{}", summary(&report));
    }
    if report.status == "interrupted" {
        eprintln!("stopped and saved; go on with `{again}`");
    }
    Ok(())
}

/// The device to compute on, with autodiff.
pub fn device(name: DeviceName) -> Result<Device, CliError> {
    match name {
        DeviceName::Cpu | DeviceName::Auto => Ok(Device::flex().autodiff()),
        DeviceName::Gpu => Err(CliError::bad(
            Problem::new("this build has no GPU backend").help("use `--device cpu`, or leave it out"),
        )),
    }
}

/// What a run gave, for people.
fn summary(report: &TrainReport) -> String {
    let mut text = format!(
        "\n{} {} after {} steps ({:.0} epochs) in {}",
        report.run,
        report.status,
        thousands(&report.steps.to_string()),
        report.epochs,
        if report.seconds < 60.0 { format!("{:.1} s", report.seconds) } else { duration(report.seconds) },
    );
    if let Some(step) = report.best_step {
        text += &format!("; best weights at step {step}");
    }
    if !report.folds.is_empty() {
        text += &format!("; mean ± standard deviation over {} folds", report.folds.len());
    }
    text += "\n\n";
    text += &metrics_table(report);
    text += &format!("\nrun         {}\n", report.path.display());
    if report.folds.is_empty() && report.status != "interrupted" {
        text += &format!("model card  {}\n", report.path.join("README.md").display());
        let path = report.path.display();
        text += &if [TaskName::CausalLm, TaskName::Dpo].map(TaskName::name).contains(&report.task.as_str()) {
            format!("generate    jishi generate {path} --prompt TEXT\n")
        } else if report.task == TaskName::ImageGeneration.name() {
            format!("generate    jishi generate {path} --output grid.png\n")
        } else {
            format!("predict     jishi predict {path} --input FILE\n")
        };
    }
    text
}

fn metrics_table(report: &TrainReport) -> String {
    let splits: Vec<&String> = report.metrics.keys().collect();
    let Some(first) = splits.first() else {
        return String::new();
    };
    let mut columns = vec![("metric", Align::Left)];
    columns.extend(splits.iter().map(|s| (s.as_str(), Align::Left)));
    let rows: Vec<Vec<String>> = report.metrics[*first]
        .keys()
        .map(|name| {
            let mut row = vec![name.clone()];
            row.extend(splits.iter().map(|split| {
                let value = report.metrics[*split].get(name).copied().unwrap_or(f64::NAN);
                let mut cell = short(value);
                if let Some([low, high]) = report.intervals.get(*split).and_then(|i| i.get(name)) {
                    cell += &format!("  [{}, {}]", short(*low), short(*high));
                }
                if let Some(spread) = report.spread.get(*split).and_then(|s| s.get(name)) {
                    cell += &format!(" ± {}", short(*spread));
                }
                cell
            }));
            row
        })
        .collect();
    text_table(&columns, &rows)
}
