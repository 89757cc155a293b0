//! Pre-training on images without labels: from images to a model to train, its package, and the package at work.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use burn::tensor::Device;
use jishi_data::Ledger;
use jishi_data::image::{ImageCorpus, Pictures, Preparation};
use jishi_data::write::Values;
use jishi_models::{
    ImageConfig, ImageModel, MaeConfig, MaskedAutoencoder, NamedTensor, SimClr, VitPooling, export_weights,
    import_weights, mae,
};
use jishi_recipe::{Model, Problem, Problems, Recipe, TaskName};
use jishi_runs::manifest::RunManifest;
use jishi_runs::plots::{Gallery, Tile, gallery};
use jishi_tasks::vision::{ImageEmbeddingTask, ImagePretraining, MaskedImageTask, UnlabelledImages};
use jishi_tasks::{Measured, SplitName, Task};
use serde_json::Value;

use super::beginning::{Beginning, beginning};
use super::ending::{Said, close, sizes};
use super::package::{AtWork, ImagePackage, by_image, column, pack};
use super::source::{self, raster};
use super::{ImagePipeline, transfer};
use crate::error::TrainError;
use crate::job::finish::{measure_splits, write_scene};
use crate::job::language::embedding;
use crate::job::predict::damaged;
use crate::job::report::TrainReport;
use crate::job::subject::{Finished, Subject};

/// Values of a projection that views are compared by: 128 in the paper of SimCLR.
const PROJECTED: usize = 128;
/// Images of a run's picture of what the model does.
const SHOWN: usize = 12;
/// The output layer of a model that has no classes yet.
const NO_CLASSES: usize = 1;

/// Makes the model that training begins with.
type Start<T> = Box<dyn Fn(&Device) -> Result<<T as Task>::Model, TrainError>>;

/// A task without labels, as jobs know it.
pub trait Pretraining: ImagePretraining {
    /// A model of these sizes, to be given weights.
    ///
    /// # Errors
    /// Sizes that make no model.
    fn model(config: &Value, device: &Device) -> Result<Self::Model, Problems>;

    /// What training begins with.
    ///
    /// # Errors
    /// Sizes that make no model; a model that is not there or damaged, or that takes other images.
    fn begin(recipe: &Recipe, base: &Path, shape: [usize; 3]) -> Result<Begun<Self>, TrainError>;

    /// The part of a model that is kept, which gives vectors of images.
    fn encoder(model: &Self::Model) -> ImageModel;

    /// A model as other libraries have it: its `config.json` and its tensors. `say` is told what they lack.
    fn for_others(model: &Self::Model, say: &mut dyn FnMut(&str)) -> (Value, Vec<NamedTensor>);
}

/// What training begins with.
pub struct Begun<T: Task> {
    config: Value,
    start: Start<T>,
    /// How a model from elsewhere was given images, where that is known.
    preparation: Option<Preparation>,
}

impl Pretraining for MaskedImageTask {
    fn model(config: &Value, device: &Device) -> Result<MaskedAutoencoder, Problems> {
        Ok(MaskedAutoencoder::init(&MaeConfig::from_hf(config)?, 0, device))
    }

    fn begin(recipe: &Recipe, _: &Path, shape: [usize; 3]) -> Result<Begun<Self>, TrainError> {
        let Model::Mae(model) = &recipe.model else {
            let message = format!("a model of family \"{}\" has no decoder", recipe.model.family());
            return Err(Problem::new(message).help("write family = \"mae\" in [model]").into());
        };
        let (config, seed) = (MaeConfig::from_recipe(model, shape, NO_CLASSES)?, recipe.train.seed);
        let value = config.to_hf();
        let start: Start<Self> = Box::new(move |device| Ok(MaskedAutoencoder::init(&config, seed, device)));
        Ok(Begun { config: value, start, preparation: None })
    }

    fn encoder(model: &MaskedAutoencoder) -> ImageModel {
        ImageModel::Vit(model.vit().clone())
    }

    /// With the decoder, which `ViTMAEForPreTraining` has too.
    fn for_others(model: &MaskedAutoencoder, say: &mut dyn FnMut(&str)) -> (Value, Vec<NamedTensor>) {
        if model.config().encoder.pooling == VitPooling::Mean {
            say(transfer::NO_TOKEN);
        }
        let mut config = model.config().to_hf();
        transfer::without_labels(&mut config);
        let mut tensors = mae::REFERENCE.to_reference(export_weights(model));
        tensors.retain(|tensor| !tensor.name.starts_with("vit.classifier."));
        (config, tensors)
    }
}

impl Pretraining for ImageEmbeddingTask {
    fn model(config: &Value, device: &Device) -> Result<SimClr, Problems> {
        Ok(SimClr::init(&ImageConfig::from_hf(config)?, PROJECTED, 0, device))
    }

    fn begin(recipe: &Recipe, base: &Path, shape: [usize; 3]) -> Result<Begun<Self>, TrainError> {
        let Beginning { config, start, preparation } = beginning(recipe, base, shape, NO_CLASSES)?;
        let seed = recipe.train.seed;
        let start: Start<Self> =
            Box::new(move |device| Ok(SimClr::of(start(device)?, PROJECTED, seed, device)));
        Ok(Begun { config: config.to_hf(), start, preparation })
    }

    fn encoder(model: &SimClr) -> ImageModel {
        model.model().clone()
    }

    fn for_others(model: &SimClr, say: &mut dyn FnMut(&str)) -> (Value, Vec<NamedTensor>) {
        let model = model.model();
        let heads = model.reference().heads;
        let body = export_weights(model).into_iter();
        let body = body.filter(|tensor| !heads.iter().any(|head| tensor.name.starts_with(head)));
        (transfer::without_head(&model.config()), transfer::for_others(model, body.collect(), say))
    }
}

/// Weights of a package without what was there for pre-training alone, named as in a model of images.
#[must_use]
pub fn kept(task: TaskName, tensors: Vec<NamedTensor>) -> Vec<NamedTensor> {
    let prefix = match task {
        TaskName::MaskedImageModeling => "vit.",
        TaskName::ImageEmbedding => "model.",
        _ => return tensors,
    };
    let kept = |tensor: NamedTensor| {
        let name = tensor.name.strip_prefix(prefix)?.to_owned();
        Some(NamedTensor { name, ..tensor })
    };
    tensors.into_iter().filter_map(kept).collect()
}

/// Images of a recipe, prepared, with the task on them and the model to begin with.
pub struct Prepared<T: Pretraining> {
    task: T,
    pipeline: ImagePipeline,
    ledger: Ledger,
    golden: Vec<Vec<u8>>,
    about: String,
    start: Start<T>,
}

/// Fits the preparation on the training split alone, and makes the task.
///
/// # Errors
/// Everything that is wrong with the model.
pub fn prepare<T: Pretraining>(
    recipe: &Recipe,
    base: &Path,
    corpus: &ImageCorpus,
    rows: &[Vec<u32>; 3],
    device: &Device,
) -> Result<Prepared<T>, TrainError> {
    let image = recipe.image.clone().unwrap_or_default();
    let mut preparation = Preparation::fit(&image, &corpus.pictures, &rows[0], |row| corpus.name(row))?;
    let Begun { config, start, preparation: known } = T::begin(recipe, base, preparation.shape())?;
    if let (None, Some(known)) = (image.normalize, known) {
        // Weights fit the figures that they were trained with.
        preparation = preparation.figures(known.mean(), known.std())?;
    }
    let about = format!("{}, without labels.", source::about(corpus, &preparation));
    let images = source::images(recipe, corpus, &preparation);
    let task = T::new(recipe, Some(UnlabelledImages { images, rows: rows.clone() }), device);
    let pipeline = ImagePipeline { config, preparation, labels: None };
    let (ledger, golden) = (corpus.record(rows), source::golden(corpus, rows));
    Ok(Prepared { task, pipeline, ledger, golden, about, start })
}

impl<T: Pretraining> Subject for Prepared<T> {
    type Task = T;

    fn task(&self) -> &T {
        &self.task
    }

    fn primary_metric(&self) -> &'static str {
        self.task.primary_metric()
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn inputs(&self) -> Vec<(&'static str, u64)> {
        sizes(&self.pipeline.preparation)
    }

    fn model(&self, _: &Recipe, device: &Device) -> Result<T::Model, TrainError> {
        (self.start)(device)
    }

    fn finish(
        &self,
        finished: &Finished<'_, T::Model>,
        manifest: &mut RunManifest,
        report: &mut TrainReport,
        started: Instant,
    ) -> Result<(), TrainError> {
        let Finished { run, recipe, model, device } = *finished;
        let mut drawn = measure_splits(run, recipe, manifest, report, "images", |split| {
            let there = self.task.rows(split) > 0;
            there.then(|| self.task.evaluate(model, split).map(Measured::from)).transpose()
        })?;
        if recipe.evaluate.plots {
            drawn.extend(self.draw(finished)?);
        }
        let weights = export_weights(model);
        let outputs = vec![column("embedding", "vector", None)];
        let package = pack(recipe, &self.pipeline, weights, &self.golden, outputs, device)?;
        let said = Said {
            does: self.task.does(),
            data: self.about.clone(),
            usage: [
                "jishi train classifier.toml --set model.from=NAME",
                "jishi predict NAME --input folder --output embeddings.jsonl",
                "jishi evaluate NAME --data folder",
            ],
            limits: vec!["It tells no labels: it is there to begin with, where images with labels are few."],
            drawn,
        };
        close(finished, package, said, manifest, report, started)
    }
}

impl<T: Pretraining> Prepared<T> {
    /// A picture of what the model does with a few images: its title and file.
    fn draw(&self, finished: &Finished<'_, T::Model>) -> Result<Option<(String, String)>, TrainError> {
        let data = self.task.data().expect("training has data");
        let splits = [SplitName::Test, SplitName::Validation, SplitName::Train];
        let Some(split) = splits.into_iter().find(|split| self.task.rows(*split) > 0) else {
            return Ok(None);
        };
        let rows = &data.rows[split as usize];
        let rows = &rows[..rows.len().min(SHOWN)];
        let shown = self.task.shown(finished.model, &data.images, rows)?;
        if shown.is_empty() {
            return Ok(None);
        }
        let tiles = shown.iter().flatten().map(|(picture, caption)| Tile {
            raster: raster(picture.view()),
            caption: vec![(*caption).to_owned()],
            boxes: Vec::new(),
        });
        let note =
            format!("{} split; patches that it does not see are drawn anew for each image", split.name());
        let scene = gallery(&Gallery {
            title: "What the model tells of hidden patches",
            note: &note,
            columns: 6,
            side: 120.0,
            tiles: tiles.collect(),
        });
        let name = "plots/hidden-patches";
        write_scene(finished.run, name, &scene)?;
        Ok(Some(("What the model tells of hidden patches".to_owned(), format!("{name}.png"))))
    }
}

/// A loaded model that was trained without labels: it gives vectors of images.
pub struct PretrainedPredictor<T: Pretraining> {
    package: ImagePackage,
    task: T,
    model: T::Model,
}

impl<T: Pretraining> PretrainedPredictor<T> {
    /// Loads a package and verifies it.
    ///
    /// # Errors
    /// Everything that is wrong with the package: hashes, sizes, weights that do not fit, damaged preprocessing.
    pub fn load(dir: &Path, device: &Device) -> Result<Self, TrainError> {
        Self::new(ImagePackage::load(dir)?, dir, device)
    }

    /// Of a package that was read. `dir` is named in problems.
    ///
    /// # Errors
    /// Sizes or weights that do not fit.
    pub fn new(package: ImagePackage, dir: &Path, device: &Device) -> Result<Self, TrainError> {
        let model =
            T::model(&package.pipeline.config, device).map_err(|e| damaged(dir, "preprocessing", &e))?;
        let model = import_weights(model, &package.weights()).map_err(|e| damaged(dir, "weights", &e))?;
        let task = T::new(&package.recipe, None, device);
        Ok(Self { package, task, model })
    }

    /// The model itself.
    #[must_use]
    pub fn model(&self) -> &T::Model {
        &self.model
    }

    fn embed(&self, pictures: &Arc<Pictures>) -> Result<(Vec<f32>, usize), TrainError> {
        let rows: Vec<u32> = (0..pictures.len() as u32).collect();
        Ok(self.task.embed(&self.model, &self.package.images(pictures), &rows)?)
    }
}

impl<T: Pretraining> AtWork for PretrainedPredictor<T> {
    fn package(&self) -> &ImagePackage {
        &self.package
    }

    fn told(&self, images: &ImageCorpus) -> Result<(Vec<(String, Values)>, usize), TrainError> {
        let (values, width) = self.embed(&images.pictures)?;
        Ok(by_image(images, embedding::columns(&values, width)))
    }

    fn evaluate(&self, source: &ImageCorpus, rows: &[u32]) -> Result<Measured, TrainError> {
        let images = self.package.images(&source.pictures);
        Ok(self.task.measure(&self.model, &images, rows)?.into())
    }

    fn golden(&self) -> Result<Vec<Vec<f64>>, TrainError> {
        let (values, width) = self.embed(&self.package.golden_pictures()?)?;
        Ok(values.chunks_exact(width.max(1)).map(|v| v.iter().map(|x| f64::from(*x)).collect()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_for_pre_training_alone_is_not_kept() {
        let tensor =
            |name: &str| NamedTensor { name: name.into(), shape: vec![1], data: vec![0.0], trainable: true };
        let names = |task, names: &[&str]| -> Vec<String> {
            kept(task, names.iter().map(|n| tensor(n)).collect()).into_iter().map(|t| t.name).collect()
        };
        assert_eq!(names(TaskName::MaskedImageModeling, &["vit.layer", "decoder.layer"]), ["layer"]);
        assert_eq!(names(TaskName::ImageEmbedding, &["model.conv1", "projection.0"]), ["conv1"]);
        assert_eq!(names(TaskName::ImageClassification, &["vit.layer"]), ["vit.layer"]);
    }
}
