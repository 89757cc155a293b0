//! `jishi verify-resume`: trains straight and interrupted, and compares every bit.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;
use jishi_recipe::{Model, Norm, Recipe};
use jishi_tasks::Task;
use serde::Serialize;

use crate::error::TrainError;
use crate::job::subject::Subject;
use crate::job::work::{Folds, Work, with_prepared};
use crate::output::{Outputs, Silent};
use crate::trainer::{CheckpointFile, Trainer, decode_tensors};

/// Losses of accumulated batches may differ by this share: the rounding of `f32` sums in another order.
const ROUNDING: f64 = 1e-4;

/// Steps over which losses of accumulated batches are compared; later ones drift apart as any two roundings do.
const ACCUMULATION_STEPS: usize = 10;

/// What the check found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VerifyReport {
    /// Whether everything is as promised.
    pub ok: bool,
    /// Steps that were trained.
    pub steps: usize,
    /// One entry for every interruption.
    pub interruptions: Vec<Interruption>,
    /// One entry for every way to split a batch; empty where the model normalises over the batch.
    pub accumulation: Vec<Accumulation>,
    /// Why accumulation was not compared.
    pub note: Option<String>,
}

/// A run that was stopped after `at` steps and resumed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Interruption {
    /// Steps done before the stop.
    pub at: usize,
    /// The first tensor or value that differs from the run that was never stopped.
    pub first_difference: Option<String>,
}

/// A run whose batches came in parts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Accumulation {
    /// Parts a batch.
    pub parts: usize,
    /// Largest relative difference of a loss from that of whole batches.
    pub largest_difference: f64,
}

/// Trains `steps` steps straight, then stopped and resumed at several points, then with accumulated batches.
///
/// # Errors
/// Those of the data and of training.
pub fn verify(
    recipe: &Recipe,
    base: &Path,
    steps: usize,
    device: &Device,
) -> Result<VerifyReport, TrainError> {
    with_prepared(recipe, base, device, Verify { recipe, steps, device })
}

/// Verifying a recipe.
struct Verify<'a> {
    recipe: &'a Recipe,
    steps: usize,
    device: &'a Device,
}

impl Work for Verify<'_> {
    type Output = VerifyReport;

    fn run<S: Subject>(self, mut folds: Folds<'_, S>) -> Result<VerifyReport, TrainError> {
        verify_subject(self.recipe, &folds.prepare(0)?, self.steps, self.device)
    }
}

fn verify_subject<S: Subject>(
    recipe: &Recipe,
    subject: &S,
    steps: usize,
    device: &Device,
) -> Result<VerifyReport, TrainError> {
    let fresh = || start(recipe, subject, device);

    let mut straight = fresh()?;
    let steps = steps.min(straight.plan().total_steps);
    let expected = advance(&mut straight, steps)?;
    let mut interruptions = Vec::new();
    for at in stops(steps, straight.plan().steps_per_epoch) {
        let mut first = fresh()?;
        let files = advance(&mut first, at)?;
        drop(first);
        let mut second = fresh()?;
        second.restore(at as u64, |name| files.iter().find(|(n, _)| *n == name).map(|(_, b)| b.clone()))?;
        let found = advance(&mut second, steps)?;
        interruptions.push(Interruption { at, first_difference: first_difference(&expected, &found)? });
    }

    let note = if normalises_batches(&recipe.model) {
        Some("batch normalisation sees each part of a batch by itself: losses are not compared".to_owned())
    } else if recipe.task.contrasts() {
        Some("a contrastive loss compares all of a batch: batches are not split into parts".to_owned())
    } else {
        None
    };
    let accumulation = if note.is_none() { accumulate(recipe, subject, device)? } else { Vec::new() };
    let ok = interruptions.iter().all(|i| i.first_difference.is_none())
        && accumulation.iter().all(|a| a.largest_difference <= ROUNDING);
    Ok(VerifyReport { ok, steps, interruptions, accumulation, note })
}

fn start<'a, S: Subject>(
    recipe: &'a Recipe,
    subject: &'a S,
    device: &Device,
) -> Result<Trainer<'a, S::Task>, TrainError> {
    Ok(Trainer::new(subject.task(), &recipe.train, subject.model(recipe, device)?))
}

/// Trains up to `step` and gives the checkpoint there.
fn advance<T: Task>(trainer: &mut Trainer<'_, T>, step: usize) -> Result<Vec<CheckpointFile>, TrainError> {
    trainer.run_to(step, &mut Outputs::none(&mut Silent), &AtomicBool::new(false))?;
    trainer.save()
}

/// The first step, the middle of an epoch, the end of one, and the last but one.
fn stops(steps: usize, steps_per_epoch: usize) -> Vec<usize> {
    let mut stops =
        vec![1, steps / 3, steps_per_epoch, steps_per_epoch + 1, steps / 2, steps.saturating_sub(1)];
    stops.retain(|s| (1..steps).contains(s));
    stops.sort_unstable();
    stops.dedup();
    stops
}

fn first_difference(
    expected: &[CheckpointFile],
    found: &[CheckpointFile],
) -> Result<Option<String>, TrainError> {
    for (name, bytes) in expected {
        let Some((_, other)) = found.iter().find(|(n, _)| n == name) else {
            return Ok(Some(format!("{name} is missing")));
        };
        if bytes == other {
            continue;
        }
        if !name.ends_with(".safetensors") {
            return Ok(Some((*name).to_owned()));
        }
        let (a, b) = (decode_tensors(bytes, Path::new(name))?, decode_tensors(other, Path::new(name))?);
        let differs = a.iter().zip(&b).find(|(a, b)| {
            a.data.len() != b.data.len()
                || a.data.iter().zip(&b.data).any(|(x, y)| x.to_bits() != y.to_bits())
        });
        return Ok(Some(differs.map_or_else(|| (*name).to_owned(), |(a, _)| format!("{name}: {}", a.name))));
    }
    Ok(None)
}

fn normalises_batches(model: &Model) -> bool {
    match model {
        Model::Mlp(mlp) => mlp.norm == Norm::Batch,
        Model::ResNet(_) | Model::Yolo(_) | Model::Ssd(_) => true,
        Model::Vgg(vgg) => vgg.batch_norm,
        Model::Dcgan(_) | Model::WganGp(_) => true,
        _ => false,
    }
}

/// Losses of the first steps with each batch whole, in two parts and in four.
fn accumulate<S: Subject>(
    recipe: &Recipe,
    subject: &S,
    device: &Device,
) -> Result<Vec<Accumulation>, TrainError> {
    let losses = |parts: usize| -> Result<Vec<f64>, TrainError> {
        let mut recipe = recipe.clone();
        recipe.train.accumulate = parts;
        let mut trainer = start(&recipe, subject, device)?;
        let steps = ACCUMULATION_STEPS.min(trainer.plan().total_steps);
        (0..steps).map(|_| Ok(trainer.step()?.loss)).collect()
    };
    let whole = losses(1)?;
    [2, 4]
        .into_iter()
        .filter(|parts| *parts <= recipe.train.batch)
        .map(|parts| {
            let differences = losses(parts)?;
            let largest_difference = whole
                .iter()
                .zip(&differences)
                .map(|(a, b)| (a - b).abs() / a.abs().max(1e-12))
                .fold(0.0, f64::max);
            Ok(Accumulation { parts, largest_difference })
        })
        .collect()
}
