//! Tasks that learn from text, one file each.

pub mod causal;
pub mod writer;

pub use causal::CausalTask;
pub use writer::Writer;

use jishi_models::ModelError;
use serde_json::{Map, Value};

use crate::task::{Task, TaskError};

/// A task on text, for what is the same of all of them: packing and checking a model.
pub trait LanguageTask: Task {
    /// The metric that is shown first.
    fn primary_metric(&self) -> &'static str;

    /// What a model of the task does, as the end of the sentence "A model of the family … that".
    fn does(&self) -> String;

    /// A model's sizes, as a Hugging Face `config.json`.
    fn config(&self, model: &Self::Model) -> Value;

    /// A model of these sizes, for weights to be put into.
    ///
    /// # Errors
    /// Sizes that make no model of the task.
    fn build(&self, config: &Value, device: &burn::tensor::Device) -> Result<Self::Model, ModelError>;

    /// The model with its low-rank additions put into its weights: what is packed and served.
    fn plain(&self, model: &Self::Model) -> Self::Model;

    /// Numbers that a model gives for inputs, to show that its package gives the same.
    ///
    /// # Errors
    /// Inputs that the model can't read.
    fn golden(&self, model: &Self::Model, inputs: &[Map<String, Value>]) -> Result<Vec<Vec<f64>>, TaskError>;
}

/// The text of an input row.
pub(crate) fn text_of<'a>(row: &'a Map<String, Value>, key: &str) -> &'a str {
    row.get(key).and_then(Value::as_str).unwrap_or_default()
}
