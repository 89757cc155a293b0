//! A package of an image model at work: what `jishi evaluate` and `predict` use, and nothing else of the run.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use jishi_data::image::{Augmentation, ImageCorpus, Pictures};
use jishi_data::write::Values;
use jishi_models::{ImageConfig, ImageModel, import_weights};
use jishi_recipe::{BadRows, Data, Domain, Image, OneOrMany, Problem, Recipe};
use jishi_runs::Package;
use jishi_tasks::Measured;
use jishi_tasks::vision::classification::LabelledImages;
use jishi_tasks::vision::{ImageClassificationTask, Images};
use serde_json::{Map, Value};

use super::ImagePipeline;
use super::finish::GOLDEN_IMAGE;
use crate::error::TrainError;
use crate::job::predict::damaged;
use crate::trainer::named_tensors;

/// A loaded image model.
pub struct ImagePredictor {
    /// The recipe that it was trained with.
    pub recipe: Recipe,
    /// How images are prepared, and the labels.
    pub pipeline: ImagePipeline,
    task: ImageClassificationTask,
    model: ImageModel,
    package: Package,
}

impl ImagePredictor {
    /// Loads a package and verifies it.
    ///
    /// # Errors
    /// Everything that is wrong with the package: hashes, sizes, weights that do not fit, damaged preprocessing.
    pub fn load(dir: &Path, device: &Device) -> Result<Self, TrainError> {
        Self::new(Package::load(dir)?, dir, device)
    }

    /// As [`ImagePredictor::load`], of a package that was read. `dir` is named in problems.
    ///
    /// # Errors
    /// As [`ImagePredictor::load`].
    pub fn new(package: Package, dir: &Path, device: &Device) -> Result<Self, TrainError> {
        let manifest = &package.manifest;
        let recipe: Recipe =
            serde_json::from_value(manifest.recipe.clone()).map_err(|e| damaged(dir, "recipe", &e))?;
        if recipe.task.domain() != Domain::Images {
            let message = format!("this is a model of {}, and not of images", recipe.task.name());
            return Err(Problem::new(message).file(dir).into());
        }
        let pipeline = ImagePipeline::of(manifest, dir)?;
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
        let task = ImageClassificationTask::new(&recipe, labels, None, device)
            .map_err(|e| damaged(dir, "labels", &e))?;
        let tensors = named_tensors(package.weights.tensors.clone());
        let model = import_weights(ImageModel::init(&config, 0, device), &tensors)
            .map_err(|e| damaged(dir, "weights", &e))?;
        Ok(Self { recipe, pipeline, task, model, package })
    }

    /// Probabilities of pictures, row-major `[pictures, classes]`.
    ///
    /// # Errors
    /// A prediction that is not finite.
    pub fn probabilities(&self, pictures: &Arc<Pictures>) -> Result<Vec<f64>, TrainError> {
        let images = self.images(pictures);
        let inputs = |rows: std::ops::Range<usize>, device: &Device| {
            let rows: Vec<u32> = (rows.start as u32..rows.end as u32).collect();
            images.plain(&rows, device)
        };
        Ok(self.task.predict(&self.model, pictures.len(), inputs)?)
    }

    /// Pictures as the model sees them.
    pub(crate) fn images(&self, pictures: &Arc<Pictures>) -> Images {
        let preparation = &self.pipeline.preparation;
        Images {
            pictures: Arc::clone(pictures),
            preparation: preparation.clone(),
            augmentation: Augmentation::new(&Image::default(), preparation),
        }
    }

    /// Numbers for the package's golden images.
    ///
    /// # Errors
    /// An image that can't be read.
    pub fn golden(&self) -> Result<Vec<Vec<f64>>, TrainError> {
        let values = self.probabilities(&self.golden_pictures()?)?;
        Ok(values.chunks_exact(self.task.head().classes()).map(<[f64]>::to_vec).collect())
    }

    /// What the package keeps as the numbers of its golden images.
    #[must_use]
    pub fn golden_outputs(&self) -> &[Vec<f64>] {
        &self.package.manifest.golden.outputs
    }

    /// The model itself.
    #[must_use]
    pub fn model(&self) -> &ImageModel {
        &self.model
    }

    /// The package's golden images.
    ///
    /// # Errors
    /// An image that can't be read.
    pub fn golden_pictures(&self) -> Result<Arc<Pictures>, TrainError> {
        let preparation = &self.pipeline.preparation;
        let mut pictures = Vec::new();
        for (name, bytes) in self.golden_files()? {
            pictures.push(preparation.decode(bytes).map_err(|p| p.file(name))?);
        }
        Ok(Arc::new(Pictures::of(preparation.channels(), &pictures)))
    }

    /// Names and bytes of the files of the golden images.
    ///
    /// # Errors
    /// A file that is missing.
    pub fn golden_files(&self) -> Result<Vec<(&str, &[u8])>, TrainError> {
        let Package { manifest, files, .. } = &self.package;
        let file = |input: &Map<String, Value>| {
            let name = input.get(GOLDEN_IMAGE).and_then(Value::as_str).unwrap_or_default();
            let missing = || damaged(Path::new(name), "files", &"a golden image is missing");
            let (name, bytes) = files.get_key_value(name).ok_or_else(missing)?;
            Ok((name.as_str(), bytes.as_slice()))
        };
        manifest.golden.inputs.iter().map(file).collect()
    }

    /// Predictions for an image, the images of a folder, or those that a table names, as columns, and how many images.
    ///
    /// # Errors
    /// Files that are no images, all of them at once; a prediction that is not finite.
    pub fn predict(&self, input: &Path) -> Result<(Vec<(String, Values)>, usize), TrainError> {
        let source = OneOrMany::One(input.to_string_lossy().into_owned());
        let data = Data { source, target: None, bad_rows: BadRows::Error, ..self.recipe.data.clone() };
        let corpus = ImageCorpus::read_plain(&data, &self.image(), Path::new(""))?;
        let mut columns = vec![("image".to_owned(), Values::Words(corpus.paths.clone()))];
        columns.extend(self.predict_pictures(&corpus.pictures)?);
        Ok((columns, corpus.paths.len()))
    }

    /// Predictions for pictures that were read as the package's preparation says, as columns.
    ///
    /// # Errors
    /// A prediction that is not finite.
    pub fn predict_pictures(&self, pictures: &Arc<Pictures>) -> Result<Vec<(String, Values)>, TrainError> {
        Ok(self.task.head().columns(&self.probabilities(pictures)?))
    }

    /// How images are read for this model: to the size that it has learned.
    fn image(&self) -> Image {
        let Image { column, pixels, augment, .. } = self.recipe.image.clone().unwrap_or_default();
        Image { column, pixels, augment, ..self.pipeline.preparation.image() }
    }

    /// The images of a folder or file with labels.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn read(&self, file: &Path) -> Result<ImageCorpus, TrainError> {
        let source = OneOrMany::One(file.to_string_lossy().into_owned());
        let data = Data { source, split: self.recipe.data.split.whole(), ..self.recipe.data.clone() };
        Ok(ImageCorpus::read(&data, &self.image(), self.recipe.task, Path::new(""))?)
    }

    /// Loss and metrics over some images with labels.
    ///
    /// # Errors
    /// A label that is not known; a prediction that is not finite.
    pub fn evaluate(&self, source: &ImageCorpus, rows: &[u32]) -> Result<Measured, TrainError> {
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
        let images = self.images(&source.pictures);
        let data =
            LabelledImages { images, classes: classes.iter().map(of).collect(), rows: Default::default() };
        let (resamples, seed) = (self.recipe.evaluate.bootstrap, self.recipe.train.seed);
        Ok(self.task.measure(&self.model, &data, rows, resamples, seed)?)
    }
}
