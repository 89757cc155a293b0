//! `jishi evaluate`.

use jishi_recipe::{Problem, TaskName};
use jishi_runs::package;
use jishi_runs::run::RunDir;
use jishi_runs::table::{Align, text_table, thousands};
use jishi_tasks::SplitName;
use jishi_train::job::evaluate::{EvaluationReport, Real, on_file, on_images, on_split, task_of};

use crate::cli::{DeviceName, EvaluateArgs, HeldOut};
use crate::commands::train;
use crate::error::CliError;
use crate::progress::short;

/// Runs the command.
pub fn run(args: &EvaluateArgs, json: bool) -> Result<(), CliError> {
    let device = train::device(DeviceName::Auto)?;
    let split = match args.split {
        HeldOut::Validation => SplitName::Validation,
        HeldOut::Test => SplitName::Test,
    };
    let model = package::find(&args.root, &args.run)?;
    if task_of(&model)? == Some(TaskName::ImageGeneration) {
        let run;
        let real = match &args.data {
            Some(folder) => Real::Folder(folder),
            None => {
                run = RunDir::open(&args.root, &args.run)?;
                Real::Split(&run, split)
            }
        };
        let report = on_images(&model, real, args.samples.as_deref(), &device)?;
        return show(&report, json);
    }
    if args.samples.is_some() {
        let problem = Problem::new("`--samples` is for models that make images").file(&model);
        return Err(CliError::bad(problem.help("leave it out")));
    }
    let report = match &args.data {
        Some(file) => on_file(&model, file, args.ignore_extra, &device)?,
        None => on_split(&RunDir::open(&args.root, &args.run)?, split, &device)?,
    };
    show(&report, json)
}

fn show(report: &EvaluationReport, json: bool) -> Result<(), CliError> {
    if json {
        super::print_json(report)?;
    } else {
        print!("{}", text(report));
    }
    Ok(())
}

fn text(report: &EvaluationReport) -> String {
    let mut text = format!("{}: {} rows\n\n", report.data, thousands(&report.rows.to_string()));
    for (split, metrics) in &report.metrics {
        let rows: Vec<Vec<String>> = metrics
            .iter()
            .map(|(name, value)| {
                let interval = report.intervals.get(split).and_then(|i| i.get(name));
                let interval =
                    interval.map_or(String::new(), |[a, b]| format!("{} – {}", short(*a), short(*b)));
                vec![name.clone(), short(*value), interval]
            })
            .collect();
        let columns = [("metric", Align::Left), ("value", Align::Right), ("95 % interval", Align::Left)];
        text += &text_table(&columns, &rows);
    }
    text
}
