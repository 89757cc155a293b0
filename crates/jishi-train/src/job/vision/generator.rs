//! A package of a generator at work: what `jishi generate` and `evaluate` use, and nothing else of the run.

use std::path::Path;

use burn::tensor::Device;
use jishi_data::image::{ImageCorpus, OwnedPicture, Pictures};
use jishi_models::{Generator, import_weights};
use jishi_recipe::{Image, Problem, Recipe, TaskName};
use jishi_runs::Package;
use jishi_runs::package::Golden;
use jishi_tasks::metrics::generation::Moments;
use jishi_tasks::vision::generation::{enough, fits, judged, real};
use jishi_tasks::vision::{Images, Judge, Maker};
use serde_json::Value;

use super::generation::{GOLDEN_LATENT, GeneratorPipeline, judge};
use super::package::plain;
use crate::error::TrainError;
use crate::job::predict::damaged;
use crate::job::report::Metrics;
use crate::trainer::named_tensors;

/// Values of a golden picture that are compared, at most.
const GOLDEN_VALUES: usize = 512;

/// A loaded generator.
pub struct ImageGenerator {
    /// The recipe that it was trained with.
    pub recipe: Recipe,
    /// Its sizes, and what its pictures are.
    pub pipeline: GeneratorPipeline,
    generator: Generator,
    maker: Maker,
    golden: Golden,
    device: Device,
}

impl ImageGenerator {
    /// Loads a package and verifies it.
    ///
    /// # Errors
    /// Everything that is wrong with the package: hashes, sizes, weights that do not fit; a model that makes no images.
    pub fn load(dir: &Path, device: &Device) -> Result<Self, TrainError> {
        Self::new(Package::load(dir)?, dir, device)
    }

    /// As [`ImageGenerator::load`], of a package that was read. `dir` is named in problems.
    ///
    /// # Errors
    /// As [`ImageGenerator::load`].
    pub fn new(package: Package, dir: &Path, device: &Device) -> Result<Self, TrainError> {
        let manifest = package.manifest;
        let recipe: Recipe =
            serde_json::from_value(manifest.recipe.clone()).map_err(|e| damaged(dir, "recipe", &e))?;
        if recipe.task != TaskName::ImageGeneration {
            let message = format!("this is a model of {}, and makes no images", recipe.task.name());
            return Err(Problem::new(message).file(dir).into());
        }
        let pipeline = GeneratorPipeline::of(&manifest, dir)?;
        let empty = Generator::init(&pipeline.config, 0, device);
        let generator = import_weights(empty, &named_tensors(package.weights.tensors))
            .map_err(|e| damaged(dir, "weights", &e))?;
        let GeneratorPipeline { config, preparation, .. } = &pipeline;
        let maker = Maker::new(&generator, config.latent, preparation, recipe.train.precision, device);
        Ok(Self { recipe, pipeline, generator, maker, golden: manifest.golden, device: device.clone() })
    }

    /// Pictures of a seed: the same for the same seed, whatever their number.
    ///
    /// # Errors
    /// A model that gives no numbers.
    pub fn make(&self, seed: u64, count: usize) -> Result<Vec<OwnedPicture>, TrainError> {
        Ok(self.maker.of_seed(seed, count)?)
    }

    /// The package's golden latents, `[count, latent]`.
    ///
    /// # Errors
    /// Latents of another length.
    pub fn latents(&self) -> Result<Vec<f32>, TrainError> {
        let mut latents = Vec::new();
        for input in &self.golden.inputs {
            let latent = input.get(GOLDEN_LATENT).and_then(Value::as_array);
            let latent: Vec<f32> =
                latent.into_iter().flatten().filter_map(Value::as_f64).map(|v| v as f32).collect();
            if latent.len() != self.pipeline.config.latent {
                let why = format!("a latent has {} numbers", latent.len());
                return Err(damaged(Path::new("model"), "golden inputs", &why));
            }
            latents.extend(latent);
        }
        Ok(latents)
    }

    /// Numbers for the package's golden latents: values of each picture, at even distances.
    ///
    /// # Errors
    /// Latents of another length.
    pub fn golden(&self) -> Result<Vec<Vec<f64>>, TrainError> {
        let size: usize = self.pipeline.preparation.shape().iter().product();
        let some = |values: &[f32]| {
            let every = size.div_ceil(GOLDEN_VALUES);
            values.iter().step_by(every).map(|v| f64::from(*v)).collect()
        };
        Ok(self.maker.values(&self.latents()?)?.chunks_exact(size).map(some).collect())
    }

    /// What the package keeps as the numbers of its golden latents.
    #[must_use]
    pub fn golden_outputs(&self) -> &[Vec<f64>] {
        &self.golden.outputs
    }

    /// The generator itself.
    #[must_use]
    pub fn generator(&self) -> &Generator {
        &self.generator
    }

    /// The classifier that judges pictures.
    fn judge(&self) -> Result<Judge, TrainError> {
        let Some(path) = &self.pipeline.features else {
            let problem = Problem::new("the recipe names no classifier to judge images by");
            let help = "name one when training: `--set evaluate.features=runs/NAME`";
            return Err(problem.help(help).into());
        };
        judge(path, self.recipe.evaluate.batch, &self.device)
    }

    /// Metrics of what it makes, or of pictures of `others`, against some real images.
    ///
    /// # Errors
    /// A classifier that is missing or does not fit; too few images; a model that gives no numbers.
    pub fn evaluate(
        &self,
        corpus: &ImageCorpus,
        rows: &[u32],
        others: Option<&Path>,
    ) -> Result<Metrics, TrainError> {
        let judge = self.judge()?;
        fits(&judge, &self.pipeline.preparation)?;
        enough(&judge, rows.len(), "there are")?;
        let seen = match others {
            Some(folder) => {
                let others = self.read(folder)?;
                enough(&judge, others.pictures.len(), &format!("{} holds", folder.display()))?;
                let all: Vec<u32> = (0..others.pictures.len() as u32).collect();
                real(&judge, &self.images(&others), &all)?
            }
            None => {
                let made = self.make(self.recipe.train.seed, self.recipe.evaluate.samples)?;
                judge.see(&Pictures::of(self.pipeline.preparation.channels(), &made))?
            }
        };
        let real = real(&judge, &self.images(corpus), rows)?.features;
        Ok(judged(&judge, &seen, (&real, &Moments::of(&real)), true))
    }

    /// The pictures of a folder, a file of them or a table, at the size of those that it makes.
    ///
    /// # Errors
    /// Files that are no images, all of them at once.
    pub fn read(&self, input: &Path) -> Result<ImageCorpus, TrainError> {
        let Image { column, pixels, .. } = self.recipe.image.clone().unwrap_or_default();
        plain(&self.recipe, &Image { column, pixels, ..self.pipeline.preparation.image() }, input)
    }

    fn images(&self, corpus: &ImageCorpus) -> Images {
        Images::plainly(&corpus.pictures, &self.pipeline.preparation)
    }
}
