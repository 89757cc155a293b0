//! `image-generation`: from images to a generator in a package.

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::Device;
use jishi_data::Ledger;
use jishi_data::image::{ImageCorpus, OwnedPicture, Preparation};
use jishi_models::{Gan, GanConfig, export_weights};
use jishi_recipe::{Image, Normalize, Problem, Recipe};
use jishi_runs::manifest::RunManifest;
use jishi_runs::package::{Golden, Package, PackageManifest};
use jishi_runs::run::RunDir;
use jishi_runs::tensors::{Scalars, TensorFile};
use jishi_tasks::vision::making::grid;
use jishi_tasks::vision::{ImageGenerationTask, Judge, UnlabelledImages};
use jishi_tasks::{SplitName, Task};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ending::{Said, close, sizes};
use super::package::column;
use super::source::{self, raster};
use super::{AtWork, ImageGenerator, ImagePredictor};
use crate::error::TrainError;
use crate::job::finish::measure_splits;
use crate::job::predict::damaged;
use crate::job::report::TrainReport;
use crate::job::subject::{Finished, Subject};
use crate::job::train::recipe_json;
use crate::trainer::tensor_entries;

/// Pictures that a package keeps to show that it still gives the same.
const GOLDEN: usize = 3;
/// Key of a golden input: the numbers that a picture is made from.
pub const GOLDEN_LATENT: &str = "latent";
/// Rows and columns of the picture of ways between pictures.
const WAYS: (usize, usize) = (6, 10);
/// Pictures of the grid in the report, in rows of so many.
const GRID: (usize, usize) = (100, 10);

/// What a package keeps of a generator besides its weights: its `preprocessing`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GeneratorPipeline {
    /// The sizes of generator and critic.
    pub config: GanConfig,
    /// How a picture becomes what the critic sees; a made one goes the other way.
    pub preparation: Preparation,
    /// The classifier that judges what it makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<PathBuf>,
}

impl GeneratorPipeline {
    /// That of a package in the folder `dir`, checked.
    ///
    /// # Errors
    /// A package that is damaged, or not of a generator.
    pub fn of(manifest: &PackageManifest, dir: &Path) -> Result<Self, TrainError> {
        let pipeline: Self = serde_json::from_value(manifest.preprocessing.clone())
            .map_err(|e| damaged(dir, "preprocessing", &e))?;
        pipeline.preparation.check().map_err(|e| damaged(dir, "preprocessing", &e))?;
        pipeline.config.check().map_err(|e| damaged(dir, "preprocessing", &e))?;
        let GanConfig { side, channels, .. } = pipeline.config;
        if pipeline.preparation.shape() != [side, side, channels] {
            return Err(damaged(dir, "preprocessing", &"sizes of model and pictures differ"));
        }
        Ok(pipeline)
    }
}

/// Images of a recipe, prepared, with the task on them and the sizes of the model.
pub struct Prepared {
    task: ImageGenerationTask,
    pipeline: GeneratorPipeline,
    ledger: Ledger,
    about: String,
}

/// Makes the task of images, which need no labels.
///
/// # Errors
/// Images that are not square or of a size that no generator makes; a classifier that is missing or does not fit.
pub fn prepare(
    recipe: &Recipe,
    base: &Path,
    corpus: &ImageCorpus,
    rows: &[Vec<u32>; 3],
    device: &Device,
) -> Result<Prepared, TrainError> {
    let image = recipe.image.clone().unwrap_or_default();
    let image = Image { normalize: Some(Normalize::Half), ..image };
    let preparation = Preparation::fit(&image, &corpus.pictures, &rows[0], |row| corpus.name(row))?;
    let config = GanConfig::from_recipe(&recipe.model, preparation.shape())?;
    let features = recipe.evaluate.features.as_ref().map(|name| place(base, name));
    let judge = match &features {
        Some(path) => Some(judge(path, recipe.evaluate.batch, device)?),
        None => None,
    };
    let images = source::images(recipe, corpus, &preparation);
    let colours = if config.channels == 1 { "grey" } else { "colour" };
    let about =
        format!("{} {colours} images of {} × {} pixels.", corpus.pictures.len(), config.side, config.side);
    let data = UnlabelledImages { images, rows: rows.clone() };
    let task = ImageGenerationTask::new(recipe, data, judge, device)?;
    let pipeline = GeneratorPipeline { config, preparation, features };
    Ok(Prepared { task, pipeline, ledger: corpus.record(rows), about })
}

/// Where the classifier of a recipe is, from any folder.
fn place(base: &Path, name: &str) -> PathBuf {
    let path = base.join(name);
    std::path::absolute(&path).unwrap_or(path)
}

/// The classifier whose features images are compared by.
///
/// # Errors
/// A package that is missing, damaged, or not of a classifier of images.
pub fn judge(path: &Path, batch: usize, device: &Device) -> Result<Judge, TrainError> {
    if !path.is_dir() {
        let problem = Problem::new("`evaluate.features`: there is no run or package here").file(path);
        let help = "train a classifier first, for example `jishi train mnist`, or leave out `features`";
        return Err(problem.help(help).into());
    }
    let dir = jishi_runs::package::find(Path::new(""), &path.to_string_lossy())?;
    let predictor = ImagePredictor::load(&dir, device)?;
    let pipeline = &predictor.package().pipeline;
    let labels = pipeline.labels.as_ref().map(|labels| labels.names.clone()).unwrap_or_default();
    Ok(Judge::new(predictor.model(), pipeline.preparation.clone(), labels, batch, device))
}

impl Subject for Prepared {
    type Task = ImageGenerationTask;

    fn task(&self) -> &ImageGenerationTask {
        &self.task
    }

    fn primary_metric(&self) -> &'static str {
        self.task.primary_metric()
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn inputs(&self) -> Vec<(&'static str, u64)> {
        let mut inputs = vec![("latent", self.pipeline.config.latent as u64)];
        inputs.extend(sizes(&self.pipeline.preparation));
        inputs
    }

    fn model(&self, recipe: &Recipe, device: &Device) -> Result<Gan, TrainError> {
        Ok(Gan::init(&self.pipeline.config, recipe.train.seed, device))
    }

    fn finish(
        &self,
        finished: &Finished<'_, Gan>,
        manifest: &mut RunManifest,
        report: &mut TrainReport,
        started: Instant,
    ) -> Result<(), TrainError> {
        let Finished { run, recipe, model, device } = *finished;
        let mut drawn = measure_splits(run, recipe, manifest, report, "images", |split: SplitName| {
            let there = self.task.rows(split) > 0;
            there.then(|| self.task.report(model, split)).transpose()
        })?;
        if recipe.evaluate.plots {
            let (maker, seed) = (self.task.maker(model), recipe.train.seed);
            let ((count, columns), (rows, steps)) = (GRID, WAYS);
            let samples = grid(&maker.of_seed(seed, count)?, columns);
            let ways = grid(&maker.between(seed, rows, steps)?, steps);
            for (name, title, picture) in [
                ("samples", "Images that it makes", samples),
                ("interpolation", "From one image to another, in rows", ways),
            ] {
                let path = format!("plots/{name}.png");
                write_picture(run, &path, &picture)?;
                drawn.push((title.to_owned(), path));
            }
        }
        let package = self.pack(recipe, model, device)?;
        let [height, width, channels] = self.pipeline.preparation.shape();
        let colours = if channels == 1 { "grey" } else { "colour" };
        let said = Said {
            does: format!("makes {colours} images of {height} × {width} pixels"),
            data: self.about.clone(),
            usage: [
                "jishi generate NAME --output grid.png --count 64 --seed 1",
                "jishi generate NAME --output folder --count 1000",
                "jishi evaluate NAME",
            ],
            limits: vec![
                "It makes images like those that it was trained on, and may make some of them again.",
                "Distances are measured on features of one classifier: those of another can't be compared with them.",
            ],
            drawn,
        };
        close(finished, package, said, manifest, report, started)
    }
}

impl Prepared {
    /// A package of the generator alone, with golden latents and what the package itself makes of them.
    fn pack(&self, recipe: &Recipe, model: &Gan, device: &Device) -> Result<Package, TrainError> {
        let preprocessing = serde_json::to_value(&self.pipeline).expect("a pipeline has string keys alone");
        let mut packed = PackageManifest::new(env!("CARGO_PKG_VERSION"), recipe_json(recipe), preprocessing);
        packed.inputs = vec![column(GOLDEN_LATENT, "numbers", None)];
        packed.outputs = vec![column("image", "image", None)];
        let latents = self.task.maker(model).latents(recipe.train.seed, 0..GOLDEN);
        let input =
            |latent: &[f32]| Map::from_iter([(GOLDEN_LATENT.to_owned(), Value::from(latent.to_vec()))]);
        let inputs = latents.chunks_exact(self.pipeline.config.latent).map(input).collect();
        packed.golden = Golden { inputs, outputs: Vec::new() };
        let tensors = tensor_entries(export_weights(model.generator()));
        let weights = TensorFile { tensors, scalars: Scalars::default() };
        let mut package = Package { manifest: packed, weights, files: Default::default() };
        let generator = ImageGenerator::new(package.clone(), Path::new("model"), device)?;
        package.manifest.golden.outputs = generator.golden()?;
        Ok(package)
    }
}

/// Writes a picture into a run.
fn write_picture(run: &RunDir, path: &str, picture: &OwnedPicture) -> Result<(), TrainError> {
    Ok(run.write(path, &raster(picture.view()).to_png())?)
}
