//! Jobs on images: from files to a task, from a trained model to a package, and the package at work.

pub mod beginning;
pub mod classification;
pub mod detection;
mod ending;
pub mod finish;
pub mod galleries;
pub mod generation;
pub mod generator;
pub mod package;
pub mod predictor;
pub mod preprocessor;
pub mod pretraining;
pub mod source;
pub mod transfer;

pub use generator::ImageGenerator;
pub use package::{AtWork, ImagePackage, load};
pub use predictor::ImagePredictor;

use std::path::Path;

use burn::tensor::Device;
use jishi_data::image::Preparation;
use jishi_data::text::labels::Labels;
use jishi_recipe::{Problem, Recipe, TaskName};
use jishi_runs::package::PackageManifest;
use jishi_tasks::vision::{ImageEmbeddingTask, MaskedImageTask};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::TrainError;
use crate::job::predict::damaged;
use crate::job::work::{Folds, Work};

/// What a package keeps of an image model besides its weights: its `preprocessing`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImagePipeline {
    /// The model's sizes, as in a Hugging Face `config.json`.
    pub config: Value,
    /// How an image becomes what the model reads.
    pub preparation: Preparation,
    /// The labels of a classification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
}

impl ImagePipeline {
    /// That of a package in the folder `dir`, checked.
    ///
    /// # Errors
    /// A package that is damaged, or not of an image model.
    pub fn of(manifest: &PackageManifest, dir: &Path) -> Result<Self, TrainError> {
        let pipeline: Self = serde_json::from_value(manifest.preprocessing.clone())
            .map_err(|e| damaged(dir, "preprocessing", &e))?;
        pipeline.preparation.check().map_err(|e| damaged(dir, "preprocessing", &e))?;
        Ok(pipeline)
    }
}

/// Reads the images of a recipe, and does some work with them: the one place that knows which tasks on images there are.
///
/// # Errors
/// Everything that is wrong with the data and the model; those of the work.
pub fn with_prepared<W: Work>(
    recipe: &Recipe,
    base: &Path,
    device: &Device,
    work: W,
) -> Result<W::Output, TrainError> {
    let source = source::read(recipe, base)?;
    let splits = source.splits(&recipe.data.split)?;
    let (count, files) = (splits.len(), source::fingerprints(&source));
    match recipe.task {
        TaskName::ImageClassification => work.run(Folds::new(count, files, |fold: usize| {
            classification::prepare(recipe, base, &source, &splits[fold], device)
        })),
        TaskName::MaskedImageModeling => work.run(Folds::new(count, files, |fold: usize| {
            pretraining::prepare::<MaskedImageTask>(recipe, base, &source, &splits[fold], device)
        })),
        TaskName::ImageEmbedding => work.run(Folds::new(count, files, |fold: usize| {
            pretraining::prepare::<ImageEmbeddingTask>(recipe, base, &source, &splits[fold], device)
        })),
        TaskName::Detection => work.run(Folds::new(count, files, |fold: usize| {
            detection::prepare(recipe, &source, &splits[fold], device)
        })),
        TaskName::ImageGeneration => work.run(Folds::new(count, files, |fold: usize| {
            generation::prepare(recipe, base, &source, &splits[fold], device)
        })),
        other => Err(Problem::new(format!("{} is not a task on images", other.name())).into()),
    }
}
