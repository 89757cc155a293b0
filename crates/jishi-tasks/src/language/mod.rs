//! Tasks that learn from text, one file each.

pub mod causal;
pub mod classification;
pub mod dpo;
pub mod embedding;
pub mod masked;
pub mod texts;
pub mod translation;
pub mod writer;

pub use causal::CausalTask;
pub use classification::ClassificationTask;
pub use dpo::DpoTask;
pub use embedding::EmbeddingTask;
pub use masked::MaskedTask;
pub use translation::TranslationTask;
pub use writer::Writer;

use burn::tensor::Device;
use jishi_data::text::windows::IGNORE;
use jishi_models::{LanguageConfig, LanguageModel, ModelError, merge_lora};
use serde_json::{Map, Value};

use crate::measured::{ClassOutputs, Measured};
use crate::task::{SplitName, Task, TaskError};

/// [`IGNORE`] as an index of Burn's, which are never negative.
pub(crate) const NOTHING: u32 = i32::MAX as u32;

/// Tokens as indices of Burn's.
pub(crate) fn indices(tokens: &[u32]) -> Vec<i32> {
    tokens.iter().map(|t| if *t == IGNORE { NOTHING as i32 } else { *t as i32 }).collect()
}

/// A task on text, for what is the same of all of them: packing and checking a model.
pub trait LanguageTask: Task<Model: LanguageModel> {
    /// The metric that is shown first.
    fn primary_metric(&self) -> &'static str;

    /// What a model of the task does, as the end of the sentence "A model of the family … that".
    fn does(&self) -> String;

    /// A model's sizes, as a Hugging Face `config.json`.
    fn config(&self, model: &Self::Model) -> Value {
        model.config().to_hf()
    }

    /// A model of these sizes, for weights to be put into.
    ///
    /// # Errors
    /// Sizes that make no model of the task.
    fn build(&self, config: &Value, device: &Device) -> Result<Self::Model, ModelError> {
        Ok(Self::Model::init(&<Self::Model as LanguageModel>::Config::from_hf(config)?, 0, device))
    }

    /// The model with its low-rank additions put into its weights: what is packed and served.
    fn plain(&self, model: &Self::Model) -> Self::Model {
        merge_lora(model.clone())
    }

    /// Numbers that a model gives for inputs, to show that its package gives the same.
    ///
    /// # Errors
    /// Inputs that the model can't read.
    fn golden(&self, model: &Self::Model, inputs: &[Map<String, Value>]) -> Result<Vec<Vec<f64>>, TaskError>;

    /// All that a run's report says of a split. `resamples`: draws of the bootstrap.
    ///
    /// # Errors
    /// As [`Task::evaluate`].
    fn report(
        &self,
        model: &Self::Model,
        split: SplitName,
        _resamples: usize,
        _seed: u64,
    ) -> Result<Measured, TaskError> {
        Ok(self.evaluate(model, split)?.into())
    }
}

/// The text of an input row.
pub(crate) fn text_of<'a>(row: &'a Map<String, Value>, key: &str) -> &'a str {
    row.get(key).and_then(Value::as_str).unwrap_or_default()
}
