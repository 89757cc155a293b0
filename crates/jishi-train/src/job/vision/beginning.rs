//! What training on images begins with: a model that is new, or one that was trained before.

use std::path::Path;

use burn::tensor::Device;
use jishi_data::image::Preparation;
use jishi_data::text::labels::Labels;
use jishi_hub::Resolved;
use jishi_models::{ImageConfig, ImageModel};
use jishi_recipe::{Model, PretrainedModel, Problem, Problems, Recipe};
use serde_json::Value;

use super::pretraining::kept;
use super::{ImagePackage, ImagePipeline, preprocessor};
use crate::error::TrainError;
use crate::job::weights::{Weights, adapt};

/// Makes the model that training begins with.
pub type Start = Box<dyn Fn(&Device) -> Result<ImageModel, TrainError>>;

/// A model of images that was trained before.
pub struct Pretrained {
    /// Its sizes, as in a Hugging Face `config.json`.
    pub config: Value,
    /// How it was given images, where that is known.
    pub preparation: Option<Preparation>,
    /// Its labels, where it has some.
    pub labels: Option<Labels>,
    weights: Weights,
}

impl Pretrained {
    /// Reads what `from` names; relative paths start at `base`.
    ///
    /// # Errors
    /// Nothing there; no model, or one that is not of images.
    pub fn read(from: &str, base: &Path, say: &mut dyn FnMut(&str)) -> Result<Self, TrainError> {
        Self::of(jishi_hub::resolve(from, base, say)?)
    }

    /// As [`Self::read`], of what was resolved.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn of(resolved: Resolved) -> Result<Self, TrainError> {
        match resolved {
            Resolved::Jishi(path) => {
                let dir = jishi_runs::package::find(Path::new(""), &path.to_string_lossy())?;
                let package = ImagePackage::load(&dir)?;
                let weights = Weights::Own(kept(package.recipe.task, package.weights()));
                let ImagePipeline { config, preparation, labels } = package.pipeline;
                Ok(Self { config, preparation: Some(preparation), labels, weights })
            }
            Resolved::Checkpoint(found) => {
                let config = found.about.config.clone();
                ImageConfig::from_hf(&config)?;
                let preparation = match &found.about.preprocessor_config {
                    Some(value) => Some(preprocessor::read(value, &config)?),
                    None => None,
                };
                let weights = Weights::of_checkpoint(&found)?;
                Ok(Self { labels: Labels::of_config(&config), config, preparation, weights })
            }
        }
    }

    /// The model as it is.
    ///
    /// # Errors
    /// Names every tensor that is missing, unknown or of another shape.
    pub fn whole(&self, device: &Device) -> Result<ImageModel, TrainError> {
        let model = ImageModel::init(&ImageConfig::from_hf(&self.config)?, 0, device);
        let reference = model.reference();
        self.weights.put_whole(model, &reference)
    }

    /// The model, whose output layer may be new.
    ///
    /// # Errors
    /// As [`Self::whole`].
    pub fn body(&self, device: &Device) -> Result<ImageModel, TrainError> {
        let model = ImageModel::init(&ImageConfig::from_hf(&self.config)?, 0, device);
        let reference = model.reference();
        self.weights.put(model, &reference)
    }

    /// The model as training of these sizes begins: with these weights, and frozen or with low-rank additions as a
    /// recipe says.
    ///
    /// # Errors
    /// Names every tensor that is missing, unknown or of another shape; a head may be new.
    fn begin(
        &self,
        sizes: &ImageConfig,
        recipe: &PretrainedModel,
        seed: u64,
        device: &Device,
    ) -> Result<ImageModel, TrainError> {
        let model = ImageModel::init(sizes, seed, device);
        let reference = model.reference();
        adapt(self.weights.put(model, &reference)?, recipe, seed, device)
    }
}

/// What training begins with.
pub struct Beginning {
    /// The model's sizes.
    pub config: ImageConfig,
    /// Makes the model.
    pub start: Start,
    /// How a model from elsewhere was given images, where that is known.
    pub preparation: Option<Preparation>,
}

/// The sizes of a recipe's model of images of a shape, `[height, width, channels]`, and what makes it.
///
/// # Errors
/// Sizes that make no model; a model that is not there or damaged, or that takes other images.
pub fn beginning(
    recipe: &Recipe,
    base: &Path,
    shape: [usize; 3],
    classes: usize,
) -> Result<Beginning, TrainError> {
    let seed = recipe.train.seed;
    let Model::Pretrained(model) = &recipe.model else {
        let config = ImageConfig::from_recipe(&recipe.model, shape, classes)?;
        let sizes = config.clone();
        let start: Start = Box::new(move |device| Ok(ImageModel::init(&sizes, seed, device)));
        return Ok(Beginning { config, start, preparation: None });
    };
    let found = Pretrained::read(&model.from, base, &mut |line| eprintln!("{line}"))?;
    let mut config = ImageConfig::from_hf(&found.config).map_err(|problems| {
        let about = |p: Problem| Problem { message: format!("`model.from`: {}", p.message), ..p };
        Problems(problems.0.into_iter().map(about).collect())
    })?;
    if config.channels() != shape[2] {
        let words = |channels: usize| if channels == 1 { "grey" } else { "coloured" };
        let message = format!(
            "`model.from`: the model takes {} images, and these are {}",
            words(config.channels()),
            words(shape[2])
        );
        let help = if config.channels() == 1 {
            "set `image.channels` to \"gray\""
        } else {
            "set `image.channels` to \"rgb\""
        };
        return Err(Problem::new(message).help(help).into());
    }
    let multiple = config.multiple();
    if shape[..2].iter().any(|side| !side.is_multiple_of(multiple)) {
        let message = format!(
            "the model cuts images into patches of {multiple} × {multiple} pixels, and these have {} × {}",
            shape[0], shape[1]
        );
        let near = shape[0].div_ceil(multiple) * multiple;
        return Err(Problem::new(message).help(format!("for example: size = {near} in [image]")).into());
    }
    config.set_classes(classes);
    if let Some(rate) = model.dropout {
        config.set_dropout(rate);
    }
    let (sizes, model) = (config.clone(), model.clone());
    let preparation = found.preparation.clone();
    let start: Start = Box::new(move |device: &Device| found.begin(&sizes, &model, seed, device));
    Ok(Beginning { config, start, preparation })
}
