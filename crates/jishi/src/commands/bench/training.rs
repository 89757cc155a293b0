//! Training a workload through the training loop, with its log on.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use jishi_kernels::profile::{self, Entry};
use jishi_recipe::Train;
use jishi_runs::MetricLog;
use jishi_tasks::Task;
use jishi_train::{Event, Observer, Outputs, Plan, Trainer};
use serde_json::{Value, json};

use super::figures::{Figures, profile_json};
use crate::error::CliError;

/// What training measured.
pub struct Trained {
    /// Seconds of each step after the warm-up.
    pub steps: Figures,
    /// Loss of every step, the warm-up's too.
    pub losses: Vec<f64>,
    /// Time by operation.
    pub profile: Option<Value>,
}

impl Trained {
    /// The figures that every training workload has.
    pub fn json(&self, name: &str, precision: &str) -> Value {
        json!({
            "name": name,
            "precision": precision,
            "milliseconds": self.steps.median() * 1e3,
            "spread": self.steps.spread(|s| s * 1e3),
            "losses": self.losses.iter().take(20).collect::<Vec<_>>(),
            "peak_memory": jishi_runs::manifest::peak_memory(),
            "profile": self.profile,
        })
    }
}

/// Trains all of `config.steps`, the first `warm_up` of them unmeasured.
pub fn run<T: Task>(
    task: &T,
    config: &Train,
    model: T::Model,
    warm_up: usize,
    profiled: bool,
) -> Result<Trained, CliError> {
    let mut trainer = Trainer::new(task, config, model);
    let scratch = tempfile::tempdir().map_err(|e| CliError::Failed(e.to_string()))?;
    let mut clock = Clock { warm_up, profiled, times: Vec::new(), losses: Vec::new(), profile: Vec::new() };
    clock.times.push(Instant::now());
    let mut outputs = Outputs {
        log: Some(MetricLog::open(&scratch.path().join("metrics.jsonl"))?),
        ..Outputs::none(&mut clock)
    };
    trainer.run(&mut outputs, &AtomicBool::new(false))?;
    let measured = &clock.times[warm_up..];
    let seconds: Vec<f64> = measured.windows(2).map(|w| (w[1] - w[0]).as_secs_f64()).collect();
    let total: Duration = measured.last().zip(measured.first()).map_or(Duration::ZERO, |(b, a)| *b - *a);
    let profile = profiled.then(|| profile_json(&clock.profile, total, seconds.len()));
    Ok(Trained { steps: Figures::new(seconds), losses: clock.losses, profile })
}

/// Notes when every step ended.
struct Clock {
    warm_up: usize,
    profiled: bool,
    times: Vec<Instant>,
    losses: Vec<f64>,
    profile: Vec<(&'static str, Entry)>,
}

impl Observer for Clock {
    fn begin(&mut self, _: &str, _: Plan, _: &'static str) {}

    fn event(&mut self, event: &Event<'_>) {
        let Event::Step { step, measured, .. } = event else { return };
        self.losses.push(measured.loss);
        if self.profiled {
            // What was found so far is taken at every step, so that the last one counts whoever ends first.
            let found = profile::finish();
            if *step > self.warm_up {
                merge(&mut self.profile, found);
            }
            profile::start();
        }
        self.times.push(Instant::now());
    }

    fn end(&mut self) {
        profile::finish();
    }

    fn say(&mut self, _: &str) {}
}

fn merge(all: &mut Vec<(&'static str, Entry)>, found: Vec<(&'static str, Entry)>) {
    for (name, entry) in found {
        match all.iter_mut().find(|(n, _)| *n == name) {
            Some((_, sum)) => {
                sum.calls += entry.calls;
                sum.time += entry.time;
            }
            None => all.push((name, entry)),
        }
    }
    all.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.time));
}
