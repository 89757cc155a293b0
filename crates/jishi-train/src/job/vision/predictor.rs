//! A package of a classifier of images at work: what `jishi evaluate` and `predict` use, and nothing else of the run.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use jishi_data::image::{ImageCorpus, Pictures};
use jishi_data::write::Values;
use jishi_models::{ImageConfig, ImageModel, import_weights};
use jishi_recipe::{Problem, TaskName};
use jishi_tasks::Measured;
use jishi_tasks::vision::ImageClassificationTask;
use jishi_tasks::vision::classification::LabelledImages;

use super::package::{AtWork, ImagePackage, by_image};
use crate::error::TrainError;
use crate::job::predict::damaged;

/// A loaded classifier of images.
pub struct ImagePredictor {
    package: ImagePackage,
    task: ImageClassificationTask,
    model: ImageModel,
}

impl ImagePredictor {
    /// Loads a package and verifies it.
    ///
    /// # Errors
    /// Everything that is wrong with the package: hashes, sizes, weights that do not fit, damaged preprocessing.
    pub fn load(dir: &Path, device: &Device) -> Result<Self, TrainError> {
        Self::new(ImagePackage::load(dir)?, dir, device)
    }

    /// As [`ImagePredictor::load`], of a package that was read. `dir` is named in problems.
    ///
    /// # Errors
    /// As [`ImagePredictor::load`].
    pub fn new(package: ImagePackage, dir: &Path, device: &Device) -> Result<Self, TrainError> {
        let ImagePackage { recipe, pipeline, .. } = &package;
        if recipe.task != TaskName::ImageClassification {
            let message = format!("this is a model of {}, and tells no labels", recipe.task.name());
            let help =
                "train it for labels first: task = \"image-classification\" and `model.from` with its name";
            return Err(Problem::new(message).file(dir).help(help).into());
        }
        let labels = pipeline.labels.as_ref();
        let labels = labels.ok_or_else(|| damaged(dir, "preprocessing", &"there are no labels"))?;
        let config = ImageConfig::from_hf(&pipeline.config).map_err(|e| damaged(dir, "preprocessing", &e))?;
        if config.classes() != labels.names.len() {
            let why = format!(
                "the model tells {} classes and there are {} labels",
                config.classes(),
                labels.names.len()
            );
            return Err(damaged(dir, "preprocessing", &why));
        }
        let task = ImageClassificationTask::new(recipe, labels, None, device)
            .map_err(|e| damaged(dir, "labels", &e))?;
        let model = import_weights(ImageModel::init(&config, 0, device), &package.weights())
            .map_err(|e| damaged(dir, "weights", &e))?;
        Ok(Self { package, task, model })
    }

    /// Probabilities of pictures, row-major `[pictures, classes]`.
    ///
    /// # Errors
    /// A prediction that is not finite.
    pub fn probabilities(&self, pictures: &Arc<Pictures>) -> Result<Vec<f64>, TrainError> {
        let images = self.package.images(pictures);
        let inputs = |rows: std::ops::Range<usize>, device: &Device| {
            let rows: Vec<u32> = (rows.start as u32..rows.end as u32).collect();
            images.plain(&rows, device)
        };
        Ok(self.task.predict(&self.model, pictures.len(), inputs)?)
    }

    /// Predictions for pictures that were read as the package's preparation says, as columns.
    ///
    /// # Errors
    /// A prediction that is not finite.
    pub fn predict_pictures(&self, pictures: &Arc<Pictures>) -> Result<Vec<(String, Values)>, TrainError> {
        Ok(self.task.head().columns(&self.probabilities(pictures)?))
    }

    /// The model itself.
    #[must_use]
    pub fn model(&self) -> &ImageModel {
        &self.model
    }
}

impl AtWork for ImagePredictor {
    fn package(&self) -> &ImagePackage {
        &self.package
    }

    fn told(&self, images: &ImageCorpus) -> Result<(Vec<(String, Values)>, usize), TrainError> {
        Ok(by_image(images, self.predict_pictures(&images.pictures)?))
    }

    fn golden(&self) -> Result<Vec<Vec<f64>>, TrainError> {
        let values = self.probabilities(&self.package.golden_pictures()?)?;
        Ok(values.chunks_exact(self.task.head().classes()).map(<[f64]>::to_vec).collect())
    }

    fn evaluate(&self, source: &ImageCorpus, rows: &[u32]) -> Result<Measured, TrainError> {
        let known = self.task.head().labels();
        let Some((labels, classes)) = &source.labels else {
            return Err(Problem::new("the images have no labels to compare with").into());
        };
        let own: Vec<Option<u32>> = labels.names.iter().map(|name| known.class(name)).collect();
        let unknown: Vec<&str> =
            labels.names.iter().map(String::as_str).filter(|name| known.class(name).is_none()).collect();
        if !unknown.is_empty() {
            let message = format!("the model does not know these labels: {}", unknown.join(", "));
            let help = format!("it tells {}", self.task.head().listed());
            return Err(Problem::new(message).help(help).into());
        }
        let of = |classes: &Vec<u32>| classes.iter().filter_map(|c| own[*c as usize]).collect();
        let images = self.package.images(&source.pictures);
        let data =
            LabelledImages { images, classes: classes.iter().map(of).collect(), rows: Default::default() };
        let (resamples, seed) = (self.package.recipe.evaluate.bootstrap, self.package.recipe.train.seed);
        Ok(self.task.measure(&self.model, &data, rows, resamples, seed)?)
    }
}
