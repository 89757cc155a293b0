//! `jishi bench`: Jishi's own workloads.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use jishi_data::Source;
use jishi_models::TableModel;
use jishi_recipe::{Origin, Problem, Recipe};
use jishi_runs::{EventWriter, MetricLog};
use jishi_train::job::prepare;
use jishi_train::{Event, Observer, Outputs, Plan, Trainer};

use crate::cli::{BenchArgs, DeviceName};
use crate::commands::train;
use crate::error::CliError;

/// Workloads: `mlp` is training steps of an 8→64→64→1 MLP, batch 32, Adam, through the training loop with its
/// logs on; `csv` is reading and preparing a file.
const WORKLOADS: [&str; 2] = ["mlp", "csv"];

/// Runs the command.
pub fn run(args: &BenchArgs, json: bool) -> Result<(), CliError> {
    for name in &args.names {
        if !WORKLOADS.contains(&name.as_str()) {
            let problem = Problem::new(format!("no workload is called `{name}`"));
            return Err(CliError::bad(problem.help(format!("workloads: {}", WORKLOADS.join(", ")))));
        }
    }
    let mut figures = Vec::new();
    if args.names.is_empty() || args.names.iter().any(|n| n == "mlp") {
        figures.push(mlp()?);
    }
    if args.names.iter().any(|n| n == "csv") {
        let Some(path) = &args.csv else {
            let problem = Problem::new("the workload `csv` needs a file");
            return Err(CliError::bad(
                problem.help("name it with `--csv PATH`; bench/make_csv.py makes one"),
            ));
        };
        figures.push(csv(path, &args.target)?);
    }
    let report = serde_json::json!({ "workloads": figures });
    if json {
        println!("{report}");
    } else {
        println!("{report:#}");
    }
    Ok(())
}

/// Steps a repetition, and repetitions; the first is a warm-up.
const STEPS: usize = 10_000;
const REPETITIONS: usize = 6;

fn mlp() -> Result<serde_json::Value, CliError> {
    let recipe = mlp_recipe()?;
    let device = train::device(DeviceName::Auto)?;
    let bytes: Arc<[u8]> = mlp_data().into_bytes().into();
    let source = [Source::Memory { name: "bench.csv".into(), bytes }];
    let source = prepare::Source::from_files(&recipe, &source)?;
    let splits = source.splits(&recipe)?.swap_remove(0);
    let prepared = source.prepare(&recipe, splits, &device)?;
    let model = TableModel::init(&recipe.model, prepared.task.model_shape(), recipe.train.seed, &device)
        .map_err(jishi_train::TrainError::from)?;
    let mut trainer = Trainer::new(&prepared.task, &recipe.train, model);

    let scratch = tempfile::tempdir().map_err(|e| CliError::Failed(e.to_string()))?;
    let mut last = LastLoss(f64::NAN);
    let mut speeds = Vec::new();
    for repetition in 1..=REPETITIONS {
        let mut outputs = Outputs {
            log: Some(MetricLog::open(&scratch.path().join("metrics.jsonl"))?),
            tensorboard: Some(EventWriter::create(&scratch.path().join("tensorboard"), None)?),
            ..Outputs::none(&mut last)
        };
        let started = Instant::now();
        trainer.run_to(repetition * STEPS, &mut outputs, &AtomicBool::new(false))?;
        speeds.push(STEPS as f64 / started.elapsed().as_secs_f64());
    }
    let mut speeds = speeds.split_off(1);
    speeds.sort_by(f64::total_cmp);
    Ok(serde_json::json!({
        "name": "mlp",
        "steps_per_second": speeds[speeds.len() / 2],
        "spread": [speeds[0], speeds[speeds.len() - 1]],
        "loss": last.0,
        "peak_memory": jishi_runs::manifest::peak_memory(),
    }))
}

/// Reads a CSV, infers its types, splits it, fits scalers and vocabularies, and encodes every row.
fn csv(path: &Path, target: &str) -> Result<serde_json::Value, CliError> {
    let text = r#"
        name = "bench-csv"
        task = "regression"
        [data]
        source = "bench.csv"
        target = "TARGET"
        missing = { target = "drop" }
        max_dropped = 1.0
        memory_limit = 17179869184
        split = { validation = 0, test = 0.2 }
        [model]
        family = "linear"
        "#;
    let set = format!("data.target={target}");
    let recipe = jishi_recipe::parse(text, &Origin::Builtin("bench-csv".into()), &[set])?.recipe;
    let device = train::device(DeviceName::Auto)?;
    let started = Instant::now();
    let source = prepare::Source::from_files(&recipe, &[Source::File(path.to_owned())])?;
    let read = started.elapsed().as_secs_f64();
    let splits = source.splits(&recipe)?.swap_remove(0);
    let prepared = source.prepare(&recipe, splits, &device)?;
    let all = started.elapsed().as_secs_f64();
    let bytes = std::fs::metadata(path).map_or(0, |m| m.len());
    Ok(serde_json::json!({
        "name": "csv",
        "rows": source.table.rows,
        "columns": prepared.task.model_shape().dense_width(),
        "read_seconds": read,
        "prepare_seconds": all - read,
        "seconds": all,
        "megabytes_per_second": bytes as f64 / 1e6 / all,
        "peak_memory": jishi_runs::manifest::peak_memory(),
    }))
}

struct LastLoss(f64);

impl Observer for LastLoss {
    fn begin(&mut self, _: &str, _: Plan, _: &'static str) {}

    fn event(&mut self, event: &Event<'_>) {
        if let Event::Step { measured, .. } = event {
            self.0 = measured.loss;
        }
    }

    fn end(&mut self) {}

    fn say(&mut self, _: &str) {}
}

fn mlp_recipe() -> Result<Recipe, CliError> {
    let text = format!(
        r#"
        name = "bench-mlp"
        task = "regression"
        [data]
        source = "bench.csv"
        target = "y"
        scale = {{ number = "none", target = "none" }}
        split = {{ validation = 0, test = 0 }}
        [model]
        family = "mlp"
        hidden = [64, 64]
        [train]
        optimizer = {{ name = "adam", learning_rate = 1e-3 }}
        steps = {}
        batch = 32
        "#,
        REPETITIONS * STEPS
    );
    Ok(jishi_recipe::parse(&text, &Origin::Builtin("bench-mlp".into()), &[])?.recipe)
}

/// 1,024 rows of eight numbers in ±½ and their sum, from an integer hash.
fn mlp_data() -> String {
    let mut text = "a,b,c,d,e,f,g,h,y\n".to_owned();
    let mut state = 5_u64;
    for _ in 0..1024 {
        let mut sum = 0.0;
        for _ in 0..8 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let x = (state >> 40) as f64 / f64::from(1 << 24) - 0.5;
            sum += x;
            // Writing to a string does not fail.
            let _ = write!(text, "{x},");
        }
        let _ = writeln!(text, "{sum}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workload_is_what_it_says() {
        let recipe = mlp_recipe().expect("the recipe parses");
        let source = [Source::Memory { name: "bench.csv".into(), bytes: mlp_data().into_bytes().into() }];
        let table = jishi_data::read(&source, &jishi_data::ReadOptions::default()).expect("the data reads");
        assert_eq!((table.rows, table.columns.len(), recipe.train.batch), (1024, 9, 32));
    }
}
