//! `mlp`: training steps of an 8→64→64→1 MLP, batch 32, Adam, through the training loop with its logs on.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use jishi_data::Source;
use jishi_kernels::profile;
use jishi_models::TableModel;
use jishi_recipe::{Origin, Recipe};
use jishi_runs::{EventWriter, MetricLog};
use jishi_train::job::prepare;
use jishi_train::{Event, Observer, Outputs, Plan, Trainer};
use serde_json::{Value, json};

use super::figures::{Figures, profile_json};
use crate::cli::DeviceName;
use crate::commands::train;
use crate::error::CliError;

/// Steps a repetition, and repetitions; the first is a warm-up.
const STEPS: usize = 10_000;
const REPETITIONS: usize = 6;

/// Trains it.
pub fn run(profiled: bool) -> Result<Value, CliError> {
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
    let mut seconds = Vec::new();
    let mut profile = None;
    for repetition in 1..=REPETITIONS {
        let mut outputs = Outputs {
            log: Some(MetricLog::open(&scratch.path().join("metrics.jsonl"))?),
            tensorboard: Some(EventWriter::create(&scratch.path().join("tensorboard"), None)?),
            ..Outputs::none(&mut last)
        };
        if profiled {
            profile::start();
        }
        let started = Instant::now();
        trainer.run_to(repetition * STEPS, &mut outputs, &AtomicBool::new(false))?;
        let time = started.elapsed();
        if profiled {
            profile = Some(profile_json(&profile::finish(), time, STEPS));
        }
        seconds.push(time.as_secs_f64() / STEPS as f64);
    }
    let figures = Figures::new(seconds.split_off(1));
    Ok(json!({
        "name": "mlp",
        "precision": "f32",
        "steps_per_second": 1.0 / figures.median(),
        "milliseconds": figures.median() * 1e3,
        "spread": figures.spread(|s| s * 1e3),
        "loss": last.0,
        "peak_memory": jishi_runs::manifest::peak_memory(),
        "profile": profile,
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
