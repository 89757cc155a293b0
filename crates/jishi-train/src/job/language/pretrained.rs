//! Models to begin with: what `model.from` names, for any task.

use std::path::Path;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Device;
use jishi_data::text::tokenizer::Tokenizer;
use jishi_hub::Resolved;
use jishi_models::{LanguageModel, Reference, reference_of};
use jishi_recipe::{PretrainedModel, Problem};
use serde_json::Value;

use super::checkpoint;
use super::package::TextPackage;
use crate::error::TrainError;
use crate::job::weights::{Weights, adapt};

/// A model that was trained before: its sizes, tokenizer and weights.
pub struct Pretrained {
    /// Its sizes, as in a Hugging Face `config.json`.
    pub config: Value,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// Its weights.
    pub weights: Weights,
}

impl Pretrained {
    /// Reads what `from` names; relative paths start at `base`.
    ///
    /// # Errors
    /// Nothing there; no model, or one of a family that is not known; a model without a tokenizer, or with more tokens
    /// than it has embeddings for.
    pub fn read(from: &str, base: &Path, say: &mut dyn FnMut(&str)) -> Result<Self, TrainError> {
        Self::of(jishi_hub::resolve(from, base, say)?, from)
    }

    /// As [`Self::read`], of what `from` was resolved to.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn of(resolved: Resolved, from: &str) -> Result<Self, TrainError> {
        let found = match resolved {
            Resolved::Jishi(path) => {
                Self::package(&jishi_runs::package::find(Path::new(""), &path.to_string_lossy())?)?
            }
            Resolved::Checkpoint(found) => {
                reference_of(&found.about.config)?;
                let weights = Weights::of_checkpoint(&found)?;
                let tokenizer = Arc::new(checkpoint::tokenizer(&found)?);
                Self { config: found.about.config, tokenizer, weights }
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
        Ok(Self { config: pipeline.config, tokenizer, weights: Weights::Own(tensors) })
    }

    /// The model as training begins: with these weights, and frozen or with low-rank additions as a recipe says.
    ///
    /// # Errors
    /// As [`Weights::put`] and [`adapt`].
    pub fn begin<M: LanguageModel>(
        &self,
        sizes: &M::Config,
        recipe: &PretrainedModel,
        seed: u64,
        device: &Device,
    ) -> Result<M, TrainError> {
        let fresh = M::init(sizes, seed, device);
        let reference = fresh.reference();
        adapt(self.weights.put(fresh, &reference)?, recipe, seed, device)
    }

    /// The weights, in a model that is used as it is.
    ///
    /// # Errors
    /// As [`Weights::put_whole`].
    pub fn put_whole<M: Module>(&self, model: M, reference: &Reference) -> Result<M, TrainError> {
        self.weights.put_whole(model, reference)
    }
}
