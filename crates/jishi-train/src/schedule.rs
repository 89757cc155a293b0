//! Learning-rate schedules: the factor that multiplies the recipe's learning rate.

use jishi_recipe::{Schedule as Config, ScheduleName};
use serde::{Deserialize, Serialize};

/// A schedule over a known number of steps. All but `plateau` are pure functions of the step.
#[derive(Debug, Clone)]
pub struct Schedule {
    config: Config,
    total_steps: usize,
    steps_per_epoch: usize,
    plateau: Plateau,
}

/// State of the `plateau` schedule, as PyTorch's `ReduceLROnPlateau` with its relative threshold of 1e-4.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plateau {
    factor: f64,
    best: Option<f64>,
    bad: usize,
}

impl Schedule {
    /// A schedule for a run of `total_steps` with `steps_per_epoch`.
    #[must_use]
    pub fn new(config: &Config, total_steps: usize, steps_per_epoch: usize) -> Self {
        Self {
            config: config.clone(),
            total_steps,
            steps_per_epoch: steps_per_epoch.max(1),
            plateau: Plateau { factor: 1.0, best: None, bad: 0 },
        }
    }

    /// Factor for the update that follows `done` updates.
    #[must_use]
    pub fn factor(&self, done: usize) -> f64 {
        let c = &self.config;
        if done < c.warmup {
            return (done + 1) as f64 / c.warmup as f64;
        }
        let after = done - c.warmup;
        let length = self.total_steps.saturating_sub(c.warmup).max(1);
        let share = (after as f64 / length as f64).min(1.0);
        match c.name {
            ScheduleName::Constant => 1.0,
            ScheduleName::Linear => 1.0 + (c.final_share - 1.0) * share,
            ScheduleName::Cosine => cosine(1.0, c.final_share, share),
            ScheduleName::Step => c.gamma.powf((after / (c.step_epochs * self.steps_per_epoch)) as f64),
            ScheduleName::OneCycle => one_cycle(after, length, c.rise),
            ScheduleName::Plateau => self.plateau.factor,
        }
    }

    /// Tells the schedule a validation loss; only `plateau` listens.
    pub fn observe(&mut self, loss: f64) {
        if self.config.name != ScheduleName::Plateau {
            return;
        }
        let p = &mut self.plateau;
        if p.best.is_none_or(|best| loss < best * (1.0 - 1e-4)) {
            p.best = Some(loss);
            p.bad = 0;
            return;
        }
        p.bad += 1;
        if p.bad > self.config.patience {
            p.factor *= self.config.gamma;
            p.bad = 0;
        }
    }

    /// State for a checkpoint.
    #[must_use]
    pub fn state(&self) -> Plateau {
        self.plateau.clone()
    }

    /// Takes back what [`Schedule::state`] gave.
    pub fn restore(&mut self, state: Plateau) {
        self.plateau = state;
    }
}

fn cosine(from: f64, to: f64, share: f64) -> f64 {
    to + (from - to) * (1.0 + (std::f64::consts::PI * share).cos()) / 2.0
}

/// PyTorch's `OneCycleLR` with its defaults: from 1/25 up to 1, then down to 1/25/10⁴, cosine both ways.
fn one_cycle(step: usize, total: usize, rise: f64) -> f64 {
    let top = rise * total as f64 - 1.0;
    let end = total as f64 - 1.0;
    let step = (step as f64).min(end);
    let (start, low) = (1.0 / 25.0, 1.0 / 25.0 / 1e4);
    if step <= top {
        cosine(start, 1.0, if top > 0.0 { step / top } else { 1.0 })
    } else {
        cosine(1.0, low, ((step - top) / (end - top)).min(1.0))
    }
}
