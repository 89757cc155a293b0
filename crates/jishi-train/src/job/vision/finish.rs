//! The end of a run on images: evaluation, pictures, package, model card.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use burn::tensor::Device;
use jishi_data::Ledger;
use jishi_models::{ImageModel, export_weights};
use jishi_recipe::Recipe;
use jishi_runs::RealFs;
use jishi_runs::card::About;
use jishi_runs::manifest::RunManifest;
use jishi_runs::package::{ColumnSchema, Golden, Package, PackageManifest};
use jishi_runs::tensors::{Scalars, TensorFile};
use jishi_tasks::Task;
use jishi_tasks::vision::ImageClassificationTask;
use serde_json::Map;

use super::beginning::Start;
use super::{ImagePipeline, ImagePredictor};
use crate::error::TrainError;
use crate::job::finish::{end, measure_splits, model_card, same_golden};
use crate::job::report::TrainReport;
use crate::job::subject::{Finished, Subject};
use crate::job::train::recipe_json;
use crate::trainer::tensor_entries;

/// Key of a golden input: the name of the package's file that is the image.
pub const GOLDEN_IMAGE: &str = "image";

/// Images of a recipe, prepared, with the task on them and the model to begin with.
pub struct Prepared {
    /// The task, with its data.
    pub task: ImageClassificationTask,
    /// What the package keeps besides the weights.
    pub pipeline: ImagePipeline,
    /// Every image: used, dropped or changed.
    pub ledger: Ledger,
    /// PNG files of a few images, to check the package with.
    pub golden: Vec<Vec<u8>>,
    /// What the data is, in a sentence.
    pub about: String,
    /// Makes the model.
    pub start: Start,
}

impl Subject for Prepared {
    type Task = ImageClassificationTask;

    fn task(&self) -> &ImageClassificationTask {
        &self.task
    }

    fn primary_metric(&self) -> &'static str {
        self.task.primary_metric()
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn inputs(&self) -> Vec<(&'static str, u64)> {
        let [height, width, channels] = self.pipeline.preparation.shape();
        vec![("height", height as u64), ("width", width as u64), ("channels", channels as u64)]
    }

    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    fn model(&self, _: &Recipe, device: &Device) -> Result<ImageModel, TrainError> {
        (self.start)(device)
    }

    fn finish(
        &self,
        finished: &Finished<'_, ImageModel>,
        manifest: &mut RunManifest,
        report: &mut TrainReport,
        started: Instant,
    ) -> Result<(), TrainError> {
        let Finished { run, recipe, model, device } = *finished;
        let (resamples, seed) = (recipe.evaluate.bootstrap, recipe.train.seed);
        let drawn = measure_splits(run, recipe, manifest, report, "images", |split| {
            let there = self.task.rows(split) > 0;
            there.then(|| self.task.report(model, split, resamples, seed)).transpose()
        })?;
        let mut package = pack(recipe, &self.pipeline, model, &self.golden, device)?;
        package.manifest.metrics = manifest.metrics.clone();
        package.save(&RealFs, &run.model())?;
        replay(&run.model(), &package.manifest.golden, device)?;
        let name = run.name();
        let usage = vec![
            format!("jishi predict {name} --input photo.png"),
            format!("jishi predict {name} --input folder --output predictions.csv"),
            format!("jishi evaluate {name} --data folder"),
        ];
        let about =
            About::Model { does: self.task.does(), data: self.about.clone(), usage, samples: Vec::new() };
        let limits = vec![
            "It knows images like those that it was trained on; of any other it still tells one of its labels.".to_owned(),
        ];
        end(run, manifest, report, started, |manifest| {
            model_card(&name, recipe, manifest, about, drawn, limits)
        })
    }
}

/// A package of a model, with golden images and what the package itself gives for them.
///
/// # Errors
/// A golden image that can't be read.
pub fn pack(
    recipe: &Recipe,
    pipeline: &ImagePipeline,
    model: &ImageModel,
    golden: &[Vec<u8>],
    device: &Device,
) -> Result<Package, TrainError> {
    let preprocessing = serde_json::to_value(pipeline).expect("a pipeline has string keys alone");
    let mut packed = PackageManifest::new(env!("CARGO_PKG_VERSION"), recipe_json(recipe), preprocessing);
    let column =
        |name: &str, kind: &str| ColumnSchema { name: name.into(), kind: kind.into(), description: None };
    packed.inputs = vec![column("image", "image")];
    packed.outputs = vec![column("prediction", "category")];
    let name = |i: usize| format!("golden-{i}.png");
    let files: BTreeMap<String, Vec<u8>> =
        golden.iter().enumerate().map(|(i, png)| (name(i), png.clone())).collect();
    let input = |i: usize| Map::from_iter([(GOLDEN_IMAGE.to_owned(), name(i).into())]);
    packed.golden = Golden { inputs: (0..golden.len()).map(input).collect(), outputs: Vec::new() };
    let tensors = tensor_entries(export_weights(model));
    let mut package =
        Package { manifest: packed, weights: TensorFile { tensors, scalars: Scalars::default() }, files };
    let predictor = ImagePredictor::new(package.clone(), Path::new("model"), device)?;
    package.manifest.golden.outputs = predictor.golden()?;
    Ok(package)
}

/// Loads the package from disk and compares with what the trained model gave.
fn replay(dir: &Path, golden: &Golden, device: &Device) -> Result<(), TrainError> {
    let found = ImagePredictor::load(dir, device)?.golden()?;
    same_golden("the model package", dir, &found, &golden.outputs)
}
