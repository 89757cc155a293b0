//! What packages of image models have in common: how images are read for them, and the golden ones that they keep.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use jishi_data::image::{Augmentation, ImageCorpus, Pictures};
use jishi_data::write::Values;
use jishi_models::NamedTensor;
use jishi_recipe::{BadRows, Data, Domain, Image, OneOrMany, Problem, Recipe, TaskName};
use jishi_runs::Package;
use jishi_runs::package::{ColumnSchema, Golden, PackageManifest};
use jishi_runs::tensors::{Scalars, TensorFile};
use jishi_tasks::Measured;
use jishi_tasks::vision::{ImageEmbeddingTask, Images, MaskedImageTask};
use serde_json::{Map, Value};

use super::detection::DetectionPredictor;
use super::pretraining::PretrainedPredictor;
use super::{ImageGenerator, ImagePipeline, ImagePredictor};
use crate::error::TrainError;
use crate::job::finish::same_golden;
use crate::job::predict::damaged;
use crate::job::train::recipe_json;
use crate::job::transfer::task;
use crate::trainer::{named_tensors, tensor_entries};

/// Key of a golden input: the name of the package's file that is the image.
const GOLDEN_IMAGE: &str = "image";

/// A model of images at work.
pub trait AtWork {
    /// Its package.
    fn package(&self) -> &ImagePackage;

    /// What it gives for images, as columns, and how many rows they have.
    ///
    /// # Errors
    /// A prediction that is not finite.
    fn told(&self, images: &ImageCorpus) -> Result<(Vec<(String, Values)>, usize), TrainError>;

    /// Loss and metrics over some images.
    ///
    /// # Errors
    /// Labels that are missing or not known; a prediction that is not finite.
    fn evaluate(&self, source: &ImageCorpus, rows: &[u32]) -> Result<Measured, TrainError>;

    /// Numbers for the package's golden images.
    ///
    /// # Errors
    /// An image that can't be read.
    fn golden(&self) -> Result<Vec<Vec<f64>>, TrainError>;

    /// Predictions for an image, the images of a folder, or those that a table names: see [`Self::told`].
    ///
    /// # Errors
    /// Files that are no images, all of them at once; a prediction that is not finite.
    fn predict(&self, input: &Path) -> Result<(Vec<(String, Values)>, usize), TrainError> {
        self.told(&self.package().read_plain(input)?)
    }
}

/// Loads the package in a folder and verifies it.
///
/// # Errors
/// Everything that is wrong with the package: hashes, sizes, weights that do not fit, damaged preprocessing.
pub fn load(dir: &Path, device: &Device) -> Result<Box<dyn AtWork>, TrainError> {
    at_work(ImagePackage::load(dir)?, dir, device)
}

fn at_work(package: ImagePackage, dir: &Path, device: &Device) -> Result<Box<dyn AtWork>, TrainError> {
    Ok(match package.recipe.task {
        TaskName::MaskedImageModeling => {
            Box::new(PretrainedPredictor::<MaskedImageTask>::new(package, dir, device)?)
        }
        TaskName::ImageEmbedding => {
            Box::new(PretrainedPredictor::<ImageEmbeddingTask>::new(package, dir, device)?)
        }
        TaskName::Detection => Box::new(DetectionPredictor::new(package, dir, device)?),
        _ => Box::new(ImagePredictor::new(package, dir, device)?),
    })
}

/// A package of an image model that was read.
pub struct ImagePackage {
    /// The recipe that it was trained with.
    pub recipe: Recipe,
    /// How images are prepared, and the labels.
    pub pipeline: ImagePipeline,
    package: Package,
}

impl ImagePackage {
    /// Reads the package in a folder and verifies it.
    ///
    /// # Errors
    /// Everything that is wrong with the package: hashes, sizes, damaged preprocessing.
    pub fn load(dir: &Path) -> Result<Self, TrainError> {
        Self::new(Package::load(dir)?, dir)
    }

    /// As [`Self::load`], of a package that was read. `dir` is named in problems.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn new(package: Package, dir: &Path) -> Result<Self, TrainError> {
        let recipe: Recipe = serde_json::from_value(package.manifest.recipe.clone())
            .map_err(|e| damaged(dir, "recipe", &e))?;
        if recipe.task.domain() != Domain::Images {
            let message = format!("this is a model of {}, and not of images", recipe.task.name());
            return Err(Problem::new(message).file(dir).into());
        }
        if recipe.task == TaskName::ImageGeneration {
            let problem = Problem::new("this model makes images, and tells nothing of them").file(dir);
            return Err(problem.help("use `jishi generate`").into());
        }
        let pipeline = ImagePipeline::of(&package.manifest, dir)?;
        Ok(Self { recipe, pipeline, package })
    }

    /// The weights.
    #[must_use]
    pub fn weights(&self) -> Vec<NamedTensor> {
        named_tensors(self.package.weights.tensors.clone())
    }

    /// Pictures as the model sees them.
    #[must_use]
    pub fn images(&self, pictures: &Arc<Pictures>) -> Images {
        let preparation = &self.pipeline.preparation;
        Images {
            pictures: Arc::clone(pictures),
            preparation: preparation.clone(),
            augmentation: Augmentation::new(&self.recipe.image.clone().unwrap_or_default(), preparation),
        }
    }

    /// What the package keeps as the numbers of its golden images.
    #[must_use]
    pub fn golden_outputs(&self) -> &[Vec<f64>] {
        &self.package.manifest.golden.outputs
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

    /// An image, the images of a folder, or those that a table names.
    ///
    /// # Errors
    /// Files that are no images, all of them at once.
    pub fn read_plain(&self, input: &Path) -> Result<ImageCorpus, TrainError> {
        plain(&self.recipe, &self.image(), input)
    }

    /// The images of a folder or file, with labels where the task has some.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn read(&self, file: &Path) -> Result<ImageCorpus, TrainError> {
        let source = OneOrMany::One(file.to_string_lossy().into_owned());
        let data = Data { source, split: self.recipe.data.split.whole(), ..self.recipe.data.clone() };
        Ok(ImageCorpus::read(&data, &self.image(), self.recipe.task, Path::new(""))?)
    }

    /// How images are read for this model: to the size that it has learned.
    fn image(&self) -> Image {
        let Image { column, pixels, mut augment, .. } = self.recipe.image.clone().unwrap_or_default();
        if self.recipe.task == TaskName::Detection {
            // Crops of training need no room around pictures with boxes.
            augment.clear();
        }
        Image { column, pixels, augment, ..self.pipeline.preparation.image() }
    }
}

/// A column of what a model takes or gives.
#[must_use]
pub fn column(name: &str, kind: &str, description: Option<&str>) -> ColumnSchema {
    ColumnSchema { name: name.into(), kind: kind.into(), description: description.map(str::to_owned) }
}

/// Columns of one value for each image: its name, and what is `told`.
pub(super) fn by_image(images: &ImageCorpus, told: Vec<(String, Values)>) -> (Vec<(String, Values)>, usize) {
    let mut columns = vec![("image".to_owned(), Values::Words(images.paths.clone()))];
    columns.extend(told);
    (columns, images.paths.len())
}

/// A package of a model, with golden images and what the package itself gives for them. `outputs`: what it gives.
///
/// # Errors
/// A golden image that can't be read.
pub fn pack(
    recipe: &Recipe,
    pipeline: &ImagePipeline,
    weights: Vec<NamedTensor>,
    golden: &[Vec<u8>],
    outputs: Vec<ColumnSchema>,
    device: &Device,
) -> Result<Package, TrainError> {
    let preprocessing = serde_json::to_value(pipeline).expect("a pipeline has string keys alone");
    let mut packed = PackageManifest::new(env!("CARGO_PKG_VERSION"), recipe_json(recipe), preprocessing);
    packed.inputs = vec![column("image", "image", None)];
    packed.outputs = outputs;
    let name = |i: usize| format!("golden-{i}.png");
    let files: BTreeMap<String, Vec<u8>> =
        golden.iter().enumerate().map(|(i, png)| (name(i), png.clone())).collect();
    let input = |i: usize| Map::from_iter([(GOLDEN_IMAGE.to_owned(), name(i).into())]);
    packed.golden = Golden { inputs: (0..golden.len()).map(input).collect(), outputs: Vec::new() };
    let tensors = tensor_entries(weights);
    let mut package =
        Package { manifest: packed, weights: TensorFile { tensors, scalars: Scalars::default() }, files };
    let dir = Path::new("model");
    package.manifest.golden.outputs =
        at_work(ImagePackage::new(package.clone(), dir)?, dir, device)?.golden()?;
    Ok(package)
}

/// Loads the package from disk and compares with what the trained model gave.
///
/// # Errors
/// A package that does not do what the model did.
pub fn replay(dir: &Path, golden: &Golden, device: &Device) -> Result<(), TrainError> {
    let again = match task(dir)? {
        TaskName::ImageGeneration => ImageGenerator::load(dir, device)?.golden()?,
        _ => load(dir, device)?.golden()?,
    };
    same_golden("the model package", dir, &again, &golden.outputs)
}

/// An image, the images of a folder, or those that a table names, read in this way; all have to be there.
///
/// # Errors
/// Files that are no images, all of them at once.
pub(super) fn plain(recipe: &Recipe, image: &Image, input: &Path) -> Result<ImageCorpus, TrainError> {
    let source = OneOrMany::One(input.to_string_lossy().into_owned());
    let data = Data { source, target: None, bad_rows: BadRows::Error, ..recipe.data.clone() };
    Ok(ImageCorpus::read_plain(&data, image, Path::new(""))?)
}
