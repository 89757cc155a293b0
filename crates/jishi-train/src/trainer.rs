//! The one training loop.
//!
//! [`Trainer::step`] does one optimiser step; [`Trainer::run`] does all of them, with validation, early
//! stopping, logging and checkpoints. Everything that decides a later step is in [`Trainer::save`], so a
//! run that is restored goes on bit for bit as if it had never stopped: shuffling and dropout are pure
//! functions of the seed and the step.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jishi_models::{Context, NamedTensor, Rng, export_weights, import_weights};
use jishi_recipe::{EarlyStopping, Train};
use jishi_runs::tensors::TensorEntry;
use jishi_tasks::{Direction, Evaluation, SplitName, Task};
use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::optimizer::{Optimizer, Parameter};
use crate::output::{Event, Outputs, Record};
use crate::schedule::{Plateau, Schedule};
use crate::update::{self, Average, Collected};

/// How many steps a run takes, from the recipe and the number of training rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Rows of the training split.
    pub rows: usize,
    /// Optimiser steps an epoch.
    pub steps_per_epoch: usize,
    /// Optimiser steps of the whole run.
    pub total_steps: usize,
}

impl Plan {
    /// The plan of a run over `rows` training rows.
    #[must_use]
    pub fn new(train: &Train, rows: usize) -> Self {
        let per_epoch = if train.drop_last { rows / train.batch } else { rows.div_ceil(train.batch) };
        // A split shorter than a batch still trains, on what there is.
        let steps_per_epoch = per_epoch.max(1);
        let total_steps = train.steps.unwrap_or_else(|| train.epochs.unwrap_or(100) * steps_per_epoch);
        Self { rows, steps_per_epoch, total_steps }
    }
}

/// Where a run stands: what a checkpoint keeps besides tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Optimiser steps done.
    pub step: usize,
    /// Sum of losses and of weights since the last log line.
    logged: Mean,
    /// Sum of losses and of weights since the last validation.
    validated: Mean,
    /// The best validation so far.
    pub best: Option<Best>,
    /// Validations since the best one.
    pub bad_validations: usize,
    /// Whether early stopping has ended the run.
    pub stopped_early: bool,
    plateau: Plateau,
    optimizer_steps: u64,
    /// Bytes of the metric log at this point; a resumed run truncates it to here.
    pub log_bytes: u64,
}

/// The best validation of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Optimiser steps done when it was measured.
    pub step: usize,
    /// Epochs done, as a fraction.
    pub epoch: f64,
    /// Value of the metric that decides.
    pub value: f64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Mean {
    sum: f64,
    weight: f64,
}

impl Mean {
    fn add(&mut self, sum: f64, weight: f64) {
        self.sum += sum;
        self.weight += weight;
    }

    fn take(&mut self) -> Option<f64> {
        let mean = (self.weight > 0.0).then(|| self.sum / self.weight);
        *self = Self::default();
        mean
    }
}

/// What one optimiser step measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Mean loss of the batch, before the update.
    pub loss: f64,
    /// Rows of the batch.
    pub rows: usize,
    /// Learning rate of the update.
    pub learning_rate: f64,
    /// Global norm of the gradient before clipping; measured where the recipe clips.
    pub gradient_norm: Option<f64>,
}

/// Where the time of training steps went, in this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct StepTime {
    /// All of the steps.
    pub steps: Duration,
    /// Making batches, while no step went on: reading, decoding, augmenting, encoding.
    pub data: Duration,
}

/// Why [`Trainer::run`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All steps are done.
    Finished,
    /// Validation no longer improved.
    StoppedEarly,
    /// Somebody asked to stop; a checkpoint was written.
    Interrupted,
}

/// One file of a checkpoint.
pub type CheckpointFile = (&'static str, Vec<u8>);

/// A training run in memory.
pub struct Trainer<'a, T: Task> {
    task: &'a T,
    config: &'a Train,
    plan: Plan,
    /// `None` only while an update has it.
    model: Option<T::Model>,
    optimizer: Optimizer,
    schedule: Schedule,
    average: Option<Average>,
    best_weights: Option<Vec<NamedTensor>>,
    progress: Progress,
    epoch_order: Option<(usize, Vec<u32>)>,
    time: StepTime,
}

impl<'a, T: Task> Trainer<'a, T> {
    /// A run at its start.
    pub fn new(task: &'a T, config: &'a Train, model: T::Model) -> Self {
        let plan = Plan::new(config, task.rows(SplitName::Train));
        let weights = trainable(&model);
        let average =
            config.ema.map(|decay| Average::new(decay, weights.iter().map(|w| w.data.clone()).collect()));
        let names: Vec<&str> = weights.iter().map(|w| w.name.as_str()).collect();
        let rates: Vec<f64> = names.iter().map(|name| task.learning_rate_scale(name, &names)).collect();
        let parameters = weights
            .into_iter()
            .zip(rates)
            .map(|(w, rate)| {
                let every = task.every(task.turn_of(&w.name)) as u64;
                Parameter { name: w.name, shape: w.shape, rate, every }
            })
            .collect();
        let schedule = Schedule::new(&config.schedule, plan.total_steps, plan.steps_per_epoch);
        let progress = Progress {
            step: 0,
            logged: Mean::default(),
            validated: Mean::default(),
            best: None,
            bad_validations: 0,
            stopped_early: false,
            plateau: schedule.state(),
            optimizer_steps: 0,
            log_bytes: 0,
        };
        let optimizer = Optimizer::new(&config.optimizer, parameters);
        Self {
            task,
            config,
            plan,
            model: Some(model),
            optimizer,
            schedule,
            average,
            best_weights: None,
            progress,
            epoch_order: None,
            time: StepTime::default(),
        }
    }

    /// Where the time of the steps went that this process did.
    #[must_use]
    pub fn time(&self) -> StepTime {
        self.time
    }

    /// The plan of the run.
    #[must_use]
    pub fn plan(&self) -> Plan {
        self.plan
    }

    fn model(&self) -> &T::Model {
        self.model.as_ref().expect("only an update takes the model, and gives it back")
    }

    /// Where the run stands.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Epochs done, as a fraction.
    #[must_use]
    pub fn epoch(&self) -> f64 {
        self.progress.step as f64 / self.plan.steps_per_epoch as f64
    }

    /// The task.
    #[must_use]
    pub fn task(&self) -> &T {
        self.task
    }

    /// Trainable numbers of the model.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.optimizer.parameters().iter().map(|p| p.shape.iter().product::<usize>()).sum()
    }

    /// Step of the weights that [`Trainer::result`] gives, where early stopping chose them.
    #[must_use]
    pub fn best_step(&self) -> Option<usize> {
        self.best_weights.as_ref().and(self.progress.best.as_ref()).map(|b| b.step)
    }

    /// The model that the run gives: the best weights under early stopping, else the averaged ones, else the last.
    ///
    /// # Errors
    /// When kept weights do not fit the model.
    pub fn result(&self) -> Result<T::Model, TrainError> {
        match &self.best_weights {
            Some(best) => Ok(import_weights(self.model().clone(), best)?),
            None => self.evaluated_model(),
        }
    }

    /// The weights that validation sees: the moving average where the recipe keeps one.
    fn evaluated_model(&self) -> Result<T::Model, TrainError> {
        let Some(average) = &self.average else {
            return Ok(self.model().clone());
        };
        let mut weights = export_weights(self.model());
        for (w, a) in weights.iter_mut().filter(|w| w.trainable).zip(average.values()) {
            w.data.clone_from(a);
        }
        Ok(self.task.settled(import_weights(self.model().clone(), &weights)?))
    }

    /// One optimiser step: a batch, in as many parts as the recipe accumulates.
    ///
    /// # Errors
    /// A loss that is not finite; the weights are then as they were before the step.
    pub fn step(&mut self) -> Result<Step, TrainError> {
        let began = Instant::now();
        let rows = self.next_rows();
        let part = rows.len().div_ceil(self.config.accumulate);
        let (seed, step, precision) = (self.config.seed, self.progress.step as u64, self.config.precision);
        let context = |first_row: usize| Context::training(seed, step, first_row).with_precision(precision);
        let batches = self.task.parts(&rows, part, &context);
        self.time.data += began.elapsed();
        let weight: f64 = batches.iter().map(|b| self.task.weight(b)).sum();

        let factor = self.schedule.factor(self.progress.step);
        self.optimizer.begin_step();
        if let Some(average) = &mut self.average {
            average.begin_step();
        }
        let (mut first, mut gradient_norm) = (None, None);
        for turn in 0..self.task.turns() {
            if !(self.progress.step + 1).is_multiple_of(self.task.every(turn)) {
                continue;
            }
            let (of_turn, gradients) = self.gradients(turn, &batches, |i| context(i * part));
            first.get_or_insert(of_turn);
            let loss = of_turn / weight;
            if !loss.is_finite() {
                return Err(TrainError::NonFinite { step: self.progress.step + 1, loss, last_good: None });
            }
            let mut scale = 1.0 / weight;
            if let Some(limit) = self.config.clip {
                let own = update::global_norm(&gradients) * scale;
                scale *= update::clip_factor(own, limit);
                gradient_norm = Some(own.max(gradient_norm.unwrap_or(0.0)));
            }
            // The update writes the weights in place, which needs the only handle to them.
            self.model = self.model.take().map(|model| {
                let average = self.average.as_mut();
                update::apply(model, &gradients, &mut self.optimizer, factor, scale as f32, average)
            });
        }
        let sum = first.unwrap_or_default();
        let loss = sum / weight;
        self.progress.step += 1;
        self.progress.logged.add(sum, weight);
        self.progress.validated.add(sum, weight);
        self.time.steps += began.elapsed();
        let learning_rate = self.optimizer.learning_rate() * factor;
        Ok(Step { loss, rows: rows.len(), learning_rate, gradient_norm })
    }

    /// The sum of a turn's losses over the parts of a batch, and the gradients of its parameters.
    fn gradients(
        &mut self,
        turn: usize,
        batches: &[T::Batch],
        context: impl Fn(usize) -> Context,
    ) -> (f64, Collected) {
        let mut gradients: Collected = Vec::new();
        let mut sum = 0.0;
        for (i, batch) in batches.iter().enumerate() {
            let mut context = context(i);
            let loss = self.task.loss_of_turn(turn, self.model(), batch, &mut context);
            sum += f64::from(loss.clone().into_scalar::<f32>());
            update::collect(self.model(), &mut loss.backward(), &mut gradients);
            if context.has_updates() {
                self.model = self.model.take().map(|model| context.apply_updates(model));
            }
        }
        if self.task.turns() > 1 {
            for (gradient, parameter) in gradients.iter_mut().zip(self.optimizer.parameters()) {
                if self.task.turn_of(&parameter.name) != turn {
                    *gradient = None;
                }
            }
        }
        (sum, gradients)
    }

    /// Evaluates the validation split and updates early stopping and the `plateau` schedule.
    ///
    /// # Errors
    /// A prediction that is not finite.
    pub fn validate(&mut self) -> Result<Evaluation, TrainError> {
        let model = self.evaluated_model()?;
        self.judge(&model)
    }

    /// As [`Trainer::validate`], of a model that is there already.
    fn judge(&mut self, model: &T::Model) -> Result<Evaluation, TrainError> {
        let evaluation = self.task.evaluate(model, SplitName::Validation)?;
        self.schedule.observe(evaluation.loss);
        let stopping = self.config.early_stopping.clone();
        let (metric, min_delta) = match &stopping {
            Some(EarlyStopping { metric, min_delta, .. }) => (metric.as_str(), *min_delta),
            None => ("loss", 0.0),
        };
        let value = if metric == "loss" { evaluation.loss } else { evaluation.metrics[metric] };
        let higher = self.task.direction(metric) == Direction::Higher;
        let improved = self.progress.best.as_ref().is_none_or(|best| {
            if higher { value > best.value + min_delta } else { value < best.value - min_delta }
        });
        if improved {
            self.progress.best = Some(Best { step: self.progress.step, epoch: self.epoch(), value });
            self.progress.bad_validations = 0;
            if stopping.is_some() {
                self.best_weights = Some(export_weights(model));
            }
        } else {
            self.progress.bad_validations += 1;
        }
        self.progress.stopped_early = stopping.is_some_and(|s| self.progress.bad_validations >= s.patience);
        Ok(evaluation)
    }

    /// Trains to the end, or until `stop` is set.
    ///
    /// # Errors
    /// A loss or prediction that is not finite; a log or checkpoint that can't be written.
    pub fn run(&mut self, outputs: &mut Outputs<'_>, stop: &AtomicBool) -> Result<Ended, TrainError> {
        self.run_to(self.plan.total_steps, outputs, stop)
    }

    /// As [`Trainer::run`], but at most to step `until`: what a run does up to there does not depend on it.
    ///
    /// # Errors
    /// As [`Trainer::run`].
    pub fn run_to(
        &mut self,
        until: usize,
        outputs: &mut Outputs<'_>,
        stop: &AtomicBool,
    ) -> Result<Ended, TrainError> {
        let until = until.min(self.plan.total_steps);
        let mut last_checkpoint = (Instant::now(), self.progress.step);
        let validates = self.task.rows(SplitName::Validation) > 0;
        let every = self.config.validate_every.unwrap_or(self.plan.steps_per_epoch);
        while self.progress.step < until && !self.progress.stopped_early {
            let step = self.step().map_err(|e| with_last_good(e, outputs))?;
            let done = self.progress.step;
            outputs.observe(&Event::Step { step: done, epoch: self.epoch(), measured: step });
            let last = done == self.plan.total_steps;
            if done.is_multiple_of(self.config.log_every) || last {
                self.log_step(step, outputs)?;
            }
            if done.is_multiple_of(every) || last {
                self.log_validation(validates, outputs)?;
            }
            let stopping = stop.load(Ordering::Relaxed);
            if stopping || self.checkpoint_due(last_checkpoint) {
                self.checkpoint(outputs)?;
                last_checkpoint = (Instant::now(), done);
            }
            if stopping && !last {
                return Ok(Ended::Interrupted);
            }
        }
        // A finished run can be resumed too: it then has nothing left to do.
        if outputs.checkpoints.is_some() && last_checkpoint.1 != self.progress.step {
            self.checkpoint(outputs)?;
        }
        Ok(if self.progress.stopped_early { Ended::StoppedEarly } else { Ended::Finished })
    }

    fn checkpoint_due(&self, (time, step): (Instant, usize)) -> bool {
        let c = &self.config.checkpoint;
        c.every_steps.is_some_and(|n| self.progress.step - step >= n)
            || time.elapsed() >= Duration::try_from_secs_f64(c.every_seconds).unwrap_or(Duration::MAX)
    }

    fn log_step(&mut self, step: Step, outputs: &mut Outputs<'_>) -> Result<(), TrainError> {
        let Some(loss) = self.progress.logged.take() else {
            return Ok(());
        };
        outputs.record(&Record {
            step: self.progress.step,
            epoch: self.epoch(),
            split: SplitName::Train,
            loss,
            learning_rate: Some(step.learning_rate),
            gradient_norm: step.gradient_norm,
            metrics: &BTreeMap::new(),
        })?;
        Ok(())
    }

    fn log_validation(&mut self, validates: bool, outputs: &mut Outputs<'_>) -> Result<(), TrainError> {
        let train_loss = self.progress.validated.take().unwrap_or(f64::NAN);
        let (step, epoch) = (self.progress.step, self.epoch());
        let model = self.evaluated_model()?;
        let evaluation = if validates { Some(self.judge(&model)?) } else { None };
        if let Some(evaluation) = &evaluation {
            outputs.record(&Record {
                step,
                epoch,
                split: SplitName::Validation,
                loss: evaluation.loss,
                learning_rate: None,
                gradient_norm: None,
                metrics: &evaluation.metrics,
            })?;
        }
        let best = self.progress.best.as_ref();
        outputs.observe(&Event::Validation {
            step,
            epoch,
            train_loss,
            evaluation: evaluation.as_ref(),
            best: best.is_some_and(|b| b.step == step),
        });
        let samples = self.task.samples(&model)?;
        outputs.samples(step, &samples)?;
        if let Some(picture) = self.task.picture(&model)? {
            outputs.picture(step, picture.view())?;
        }
        Ok(())
    }

    fn checkpoint(&mut self, outputs: &mut Outputs<'_>) -> Result<(), TrainError> {
        self.progress.log_bytes = outputs.sync()?;
        let files = self.save()?;
        outputs.checkpoint(self.progress.step as u64, &files)?;
        Ok(())
    }

    /// Everything that decides the rest of the run, as the files of a checkpoint.
    ///
    /// # Errors
    /// Tensors that can't be serialised.
    pub fn save(&mut self) -> Result<Vec<CheckpointFile>, TrainError> {
        let (steps, state) = self.optimizer.export();
        self.progress.optimizer_steps = steps;
        self.progress.plateau = self.schedule.state();
        let state: Vec<NamedTensor> = state
            .into_iter()
            .map(|(name, shape, data)| NamedTensor { name, shape, data, trainable: false })
            .collect();
        let mut files = vec![
            ("model.safetensors", encode_tensors(&export_weights(self.model()))?),
            ("optimizer.safetensors", encode_tensors(&state)?),
            (
                "progress.json",
                serde_json::to_vec_pretty(&self.progress).expect("progress holds numbers alone"),
            ),
        ];
        if let Some(average) = &self.average {
            let mut weights = trainable(self.model());
            for (w, a) in weights.iter_mut().zip(average.values()) {
                w.data.clone_from(a);
            }
            files.push(("average.safetensors", encode_tensors(&weights)?));
        }
        if let Some(best) = &self.best_weights {
            files.push(("best.safetensors", encode_tensors(best)?));
        }
        Ok(files)
    }

    /// Takes back what [`Trainer::save`] gave.
    ///
    /// # Errors
    /// A file that is missing or does not fit the recipe.
    pub fn restore(&mut self, step: u64, file: impl Fn(&str) -> Option<Vec<u8>>) -> Result<(), TrainError> {
        let misfit = |reason: String| TrainError::Checkpoint { step, reason };
        let need = |name: &str| file(name).ok_or_else(|| misfit(format!("{name} is missing")));
        let read = |name: &str| decode_tensors(&need(name)?, Path::new(name));
        let progress: Progress = serde_json::from_slice(&need("progress.json")?)
            .map_err(|e| misfit(format!("progress.json: {e}")))?;
        self.model = Some(import_weights(self.model().clone(), &read("model.safetensors")?)?);
        let mut state: BTreeMap<String, Vec<f32>> =
            read("optimizer.safetensors")?.into_iter().map(|t| (t.name, t.data)).collect();
        self.optimizer
            .import(progress.optimizer_steps, |name| state.remove(name))
            .map_err(|name| misfit(format!("optimizer state {name} is missing or has another size")))?;
        if let Some(average) = &mut self.average {
            let mut kept: BTreeMap<String, Vec<f32>> =
                read("average.safetensors")?.into_iter().map(|t| (t.name, t.data)).collect();
            let values = self
                .optimizer
                .parameters()
                .iter()
                .map(|p| {
                    let size: usize = p.shape.iter().product();
                    kept.remove(&p.name).filter(|v| v.len() == size).ok_or_else(|| {
                        misfit(format!("average of {} is missing or has another size", p.name))
                    })
                })
                .collect::<Result<_, _>>()?;
            average.restore(progress.optimizer_steps, values);
        }
        self.best_weights = match file("best.safetensors") {
            Some(bytes) => Some(decode_tensors(&bytes, Path::new("best.safetensors"))?),
            None => None,
        };
        self.schedule.restore(progress.plateau.clone());
        self.progress = progress;
        Ok(())
    }

    /// Rows of the next batch: a slice of the epoch's permutation.
    fn next_rows(&mut self) -> Vec<u32> {
        let epoch = self.progress.step / self.plan.steps_per_epoch;
        if self.epoch_order.as_ref().is_none_or(|(e, _)| *e != epoch) {
            self.epoch_order = Some((epoch, shuffled(self.plan.rows, self.config.seed, epoch as u64)));
        }
        let order = self.epoch_order.as_ref().map_or(&[][..], |(_, order)| order);
        let start = (self.progress.step % self.plan.steps_per_epoch) * self.config.batch;
        order[start..(start + self.config.batch).min(order.len())].to_vec()
    }
}

/// A permutation of `0..n` that depends on the seed and the epoch alone (Fisher–Yates).
fn shuffled(n: usize, seed: u64, epoch: u64) -> Vec<u32> {
    let mut rng = Rng::new(seed, jishi_models::rng::stream("shuffle", epoch));
    let mut order: Vec<u32> = (0..n as u32).collect();
    for i in (1..n).rev() {
        order.swap(i, rng.below(i as u64 + 1) as usize);
    }
    order
}

fn trainable<M: burn::module::Module>(model: &M) -> Vec<NamedTensor> {
    export_weights(model).into_iter().filter(|w| w.trainable).collect()
}

fn with_last_good(error: TrainError, outputs: &Outputs<'_>) -> TrainError {
    match error {
        TrainError::NonFinite { step, loss, .. } => {
            TrainError::NonFinite { step, loss, last_good: outputs.last_checkpoint }
        }
        other => other,
    }
}

/// Serialises named tensors for a checkpoint or package.
///
/// # Errors
/// Names that are there twice: a bug of the model.
pub fn encode_tensors(named: &[NamedTensor]) -> Result<Vec<u8>, TrainError> {
    let entries = named.iter().map(|t| (t.name.as_str(), t.shape.as_slice(), t.data.as_slice()));
    Ok(jishi_runs::tensors::encode(entries, &jishi_runs::tensors::Scalars::default())?)
}

/// Reads named tensors back. `path` is named in problems.
///
/// # Errors
/// Everything that is wrong with the bytes.
pub fn decode_tensors(bytes: &[u8], path: &Path) -> Result<Vec<NamedTensor>, TrainError> {
    let file = jishi_runs::tensors::decode(bytes, path)?;
    Ok(named_tensors(file.tensors))
}

/// Tensors of a file as those of a model.
#[must_use]
pub fn named_tensors(entries: Vec<TensorEntry>) -> Vec<NamedTensor> {
    let named = |t: TensorEntry| NamedTensor { name: t.name, shape: t.shape, data: t.data, trainable: true };
    entries.into_iter().map(named).collect()
}

/// Tensors of a model as those of a file.
#[must_use]
pub fn tensor_entries(named: Vec<NamedTensor>) -> Vec<TensorEntry> {
    named.into_iter().map(|t| TensorEntry { name: t.name, shape: t.shape, data: t.data }).collect()
}
