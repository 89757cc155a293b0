//! `jishi check`: every problem before training, and what training will take.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use burn::tensor::Device;
use jishi_data::LedgerSummary;
use jishi_recipe::{Problem, Problems, Recipe};
use jishi_tasks::{SplitName, Task};
use serde::Serialize;

use crate::error::TrainError;
use crate::job::subject::Subject;
use crate::job::work::{Folds, Work, with_prepared};
use crate::trainer::{Plan, Trainer};

/// Steps that are timed, after as many to warm up.
const TIMED_STEPS: usize = 20;

/// What a recipe will do and take.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckReport {
    /// Rows by split.
    pub rows: Vec<(String, usize)>,
    /// What the ledger says of the data so far.
    pub ledger: LedgerSummary,
    /// Sizes of what a model reads, by name: features of a table, or tokens.
    pub inputs: BTreeMap<&'static str, u64>,
    /// What preparation has to tell: columns left out, categories merged.
    pub notes: Vec<String>,
    /// Trainable numbers of the model.
    pub parameters: usize,
    /// Optimiser steps of a run.
    pub steps: usize,
    /// Runs: the number of folds, or 1.
    pub runs: usize,
    /// Estimated peak memory in bytes: what reading and preparing took, with model, gradients and optimiser.
    pub memory: u64,
    /// Estimated disk use in bytes: checkpoints, package, log.
    pub disk: u64,
    /// Bytes free where the runs go, where the system tells.
    pub free_disk: Option<u64>,
    /// Estimated seconds of training, all runs, from timed steps.
    pub seconds: f64,
}

/// Checks a recipe against its data; writes nothing.
///
/// # Errors
/// Everything that is wrong with data and recipe; a disk that is too small.
pub fn check(recipe: &Recipe, base: &Path, root: &Path, device: &Device) -> Result<CheckReport, TrainError> {
    with_prepared(recipe, base, device, Check { recipe, root, device })
}

/// Checking a recipe.
struct Check<'a> {
    recipe: &'a Recipe,
    root: &'a Path,
    device: &'a Device,
}

impl Work for Check<'_> {
    type Output = CheckReport;

    fn run<S: Subject>(self, mut folds: Folds<'_, S>) -> Result<CheckReport, TrainError> {
        folds.try_all()?;
        check_subject(self.recipe, &folds.prepare(0)?, folds.count, self.root, self.device)
    }
}

fn check_subject<S: Subject>(
    recipe: &Recipe,
    subject: &S,
    runs: usize,
    root: &Path,
    device: &Device,
) -> Result<CheckReport, TrainError> {
    let task = subject.task();
    let mut trainer = Trainer::new(task, &recipe.train, subject.model(recipe, device)?);
    let (parameters, plan) = (trainer.parameters(), trainer.plan());

    let timed = TIMED_STEPS.min(plan.total_steps);
    for _ in 0..timed {
        trainer.step()?;
    }
    let started = Instant::now();
    for _ in 0..timed {
        trainer.step()?;
    }
    let step = started.elapsed().as_secs_f64() / timed.max(1) as f64;
    let started = Instant::now();
    let validations = validations(recipe, &plan);
    let validation = if task.rows(SplitName::Validation) > 0 {
        trainer.validate()?;
        started.elapsed().as_secs_f64()
    } else {
        0.0
    };

    let disk = runs as u64 * disk(recipe, &mut trainer)?;
    let free_disk = enough_disk(root, disk)?;
    let splits = [SplitName::Train, SplitName::Validation, SplitName::Test];
    let rows = splits.map(|split| (split.name().to_owned(), task.rows(split))).to_vec();
    Ok(CheckReport {
        rows,
        ledger: subject.ledger().summary(),
        inputs: subject.inputs().into_iter().collect(),
        notes: subject.notes(),
        parameters,
        steps: plan.total_steps,
        runs,
        // The steps that were timed and the checkpoint that was made have all that a run has in memory.
        memory: jishi_runs::manifest::peak_memory().unwrap_or_default(),
        disk,
        free_disk,
        seconds: runs as f64 * (step * plan.total_steps as f64 + validation * validations as f64),
    })
}

/// Estimated bytes on disk of one run: checkpoints, package, log, pictures.
pub(crate) fn disk<T: Task>(recipe: &Recipe, trainer: &mut Trainer<'_, T>) -> Result<u64, TrainError> {
    let plan = trainer.plan();
    // A checkpoint holds weights, optimiser state, average and best weights; one more is written before the
    // oldest goes. A log line takes about 120 bytes.
    let checkpoint: u64 = trainer.save()?.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    let weights = 4 * trainer.parameters() as u64;
    let lines = plan.total_steps / recipe.train.log_every.max(1) + validations(recipe, &plan);
    Ok(checkpoint * (recipe.train.checkpoint.keep as u64 + 1) + weights + 240 * lines as u64 + (1 << 20))
}

fn validations(recipe: &Recipe, plan: &Plan) -> usize {
    plan.total_steps / recipe.train.validate_every.unwrap_or(plan.steps_per_epoch).max(1)
}

/// Refuses a disk with fewer free bytes than `needed`. Gives the free bytes, where the system tells.
pub(crate) fn enough_disk(root: &Path, needed: u64) -> Result<Option<u64>, TrainError> {
    let free_disk = jishi_runs::fs::free_space(root);
    if let Some(free) = free_disk.filter(|free| *free < needed) {
        let words = jishi_runs::error::bytes_words;
        let problem =
            Problem::new(format!("the run will take {} of disk; {} are free", words(needed), words(free)));
        return Err(Problems::from(
            problem.file(root).help("free some space, or choose another folder with `--out`"),
        )
        .into());
    }
    Ok(free_disk)
}
