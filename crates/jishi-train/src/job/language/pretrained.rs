//! Models to begin with: what `model.from` names, for any task.

use std::path::Path;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Device;
use jishi_data::text::tokenizer::Tokenizer;
use jishi_hub::Resolved;
use jishi_models::lora::Adapted;
use jishi_models::{LanguageModel, NamedTensor, Reference, add_lora, freeze, reference_of};
use jishi_recipe::{PretrainedModel, Problem, Problems};
use serde_json::Value;

use super::checkpoint;
use super::package::TextPackage;
use crate::error::TrainError;

/// A model that was trained before: its sizes, tokenizer and weights.
pub struct Pretrained {
    /// Its sizes, as in a Hugging Face `config.json`.
    pub config: Value,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    tensors: Tensors,
}

/// Weights by who made them.
enum Tensors {
    /// With names and layout of the reference checkpoints.
    Reference(Vec<NamedTensor>),
    /// With our own.
    Own(Vec<NamedTensor>),
}

impl Pretrained {
    /// Reads what `from` names; relative paths start at `base`.
    ///
    /// # Errors
    /// Nothing there; no model, or one of a family that is not known; a model without a tokenizer, or with more tokens
    /// than it has embeddings for.
    pub fn read(from: &str, base: &Path, say: &mut dyn FnMut(&str)) -> Result<Self, TrainError> {
        let found = match jishi_hub::resolve(from, base, say)? {
            Resolved::Jishi(path) => {
                Self::package(&jishi_runs::package::find(Path::new(""), &path.to_string_lossy())?)?
            }
            Resolved::Checkpoint(found) => {
                reference_of(&found.about.config)?;
                let mut tensors = Vec::new();
                let mut problems = Vec::new();
                for (name, meta) in found.tensors.iter() {
                    match found.tensors.read(name) {
                        Ok(data) => {
                            let (name, shape) = (name.to_owned(), meta.shape.clone());
                            tensors.push(NamedTensor { name, shape, data, trainable: true });
                        }
                        Err(problem) => problems.push(problem),
                    }
                }
                Problems(problems).into_result()?;
                let tokenizer = Arc::new(checkpoint::tokenizer(&found)?);
                Self { config: found.about.config, tokenizer, tensors: Tensors::Reference(tensors) }
            }
        };
        let (tokens, known) =
            (found.tokenizer.vocabulary(), found.config["vocab_size"].as_u64().unwrap_or(0) as usize);
        if tokens > known {
            let problem = Problem::new(format!(
                "the tokenizer of `{from}` has {tokens} tokens, its model knows {known}"
            ));
            return Err(problem.help("the files of two models were mixed").into());
        }
        Ok(found)
    }

    fn package(dir: &Path) -> Result<Self, TrainError> {
        let TextPackage { pipeline, tokenizer, tensors, .. } = TextPackage::read(dir)?;
        Ok(Self { config: pipeline.config, tokenizer, tensors: Tensors::Own(tensors) })
    }

    /// The model as training begins: with these weights, and frozen or with low-rank additions as a recipe says.
    ///
    /// # Errors
    /// As [`Self::put`] and [`adapt`].
    pub fn begin<M: LanguageModel>(
        &self,
        sizes: &M::Config,
        recipe: &PretrainedModel,
        seed: u64,
        device: &Device,
    ) -> Result<M, TrainError> {
        let fresh = M::init(sizes, seed, device);
        let reference = fresh.reference();
        adapt(self.put(fresh, &reference)?, recipe, seed, device)
    }

    /// Puts the weights into a model of the same sizes. A head that the weights lack keeps its initial ones, and one
    /// that the model lacks is left out.
    ///
    /// # Errors
    /// Names every tensor that is missing, unknown or of another shape.
    pub fn put<M: Module>(&self, model: M, reference: &Reference) -> Result<M, TrainError> {
        Ok(reference.load(model, self.tensors(reference))?.0)
    }

    /// [`Self::put`] into a model that is used as it is: a head has to be there.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn put_whole<M: Module>(&self, model: M, reference: &Reference) -> Result<M, TrainError> {
        Ok(reference.load_whole(model, self.tensors(reference))?)
    }

    fn tensors(&self, reference: &Reference) -> Vec<NamedTensor> {
        match &self.tensors {
            Tensors::Reference(tensors) => tensors.clone(),
            Tensors::Own(tensors) => reference.to_reference(tensors.clone()),
        }
    }
}

/// Freezes what is not trained and adds low-rank additions, as a recipe says.
///
/// # Errors
/// Targets that no layer's name ends with.
pub fn adapt<M: Adapted>(
    model: M,
    recipe: &PretrainedModel,
    seed: u64,
    device: &Device,
) -> Result<M, TrainError> {
    match &recipe.lora {
        Some(lora) => Ok(add_lora(model, lora, seed, device)?),
        None => Ok(freeze(model, recipe.train, recipe.last_layers)),
    }
}
