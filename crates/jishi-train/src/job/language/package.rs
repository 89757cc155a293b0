//! What a package of a text model holds, taken apart: the one place that knows its files.

use std::path::Path;
use std::sync::Arc;

use jishi_data::text::tokenizer::Tokenizer;
use jishi_models::NamedTensor;
use jishi_recipe::{Domain, Problem, Recipe};
use jishi_runs::Package;
use jishi_runs::package::Golden;

use super::{TOKENIZER, TOKENIZER_CONFIG, TextPipeline};
use crate::error::TrainError;
use crate::job::predict::damaged;
use crate::trainer::named_tensors;

/// A package of a text model.
pub struct TextPackage {
    /// The recipe that it was trained with.
    pub recipe: Recipe,
    /// Sizes, length and labels.
    pub pipeline: TextPipeline,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// Its weights, with our own names and layout.
    pub tensors: Vec<NamedTensor>,
    /// Texts whose outputs are known.
    pub golden: Golden,
}

impl TextPackage {
    /// Reads a package and verifies it.
    ///
    /// # Errors
    /// Everything that is wrong with it: hashes, sizes, a damaged recipe, pipeline or tokenizer; a model that is not of
    /// text.
    pub fn read(dir: &Path) -> Result<Self, TrainError> {
        let package = Package::load(dir)?;
        let recipe: Recipe =
            serde_json::from_value(package.manifest.recipe).map_err(|e| damaged(dir, "recipe", &e))?;
        if recipe.task.domain() != Domain::Texts {
            let message = format!("this is a model of {}, and not of text", recipe.task.name());
            return Err(Problem::new(message).file(dir).into());
        }
        let pipeline: TextPipeline = serde_json::from_value(package.manifest.preprocessing)
            .map_err(|e| damaged(dir, "preprocessing", &e))?;
        let file = |name: &str| package.files.get(name).map(Vec::as_slice);
        let json =
            file(TOKENIZER).ok_or_else(|| damaged(dir, "files", &format!("there is no {TOKENIZER}")))?;
        let tokenizer =
            Tokenizer::from_bytes(json, file(TOKENIZER_CONFIG)).map_err(|e| damaged(dir, "tokenizer", &e))?;
        Ok(Self {
            recipe,
            pipeline,
            tokenizer: Arc::new(tokenizer),
            tensors: named_tensors(package.weights.tensors),
            golden: package.manifest.golden,
        })
    }
}
