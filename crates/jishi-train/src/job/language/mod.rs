//! Jobs on text: from documents to a task, from a trained model to a package, and the package at work.

pub mod beginning;
pub mod causal;
pub mod checkpoint;
pub mod classification;
pub mod dpo;
pub mod embedding;
pub mod examples;
pub mod finish;
pub mod generate;
pub mod masked;
pub mod package;
pub mod predictor;
pub mod pretrained;
pub mod source;
pub mod transfer;
pub mod translation;

pub use predictor::TextPredictor;
pub use source::TextSource;

use std::path::Path;

use burn::tensor::Device;
use jishi_data::text::labels::Labels;
use jishi_recipe::{Problem, Recipe, TaskName};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::TrainError;
use crate::job::work::{Folds, Work};

/// Prepares the text of a recipe for its task, and does some work with it: the one place that knows which tasks there are.
///
/// # Errors
/// Everything that is wrong with the data and the model; those of the work.
pub fn with_prepared<W: Work>(
    recipe: &Recipe,
    base: &Path,
    device: &Device,
    work: W,
) -> Result<W::Output, TrainError> {
    match recipe.task {
        TaskName::CausalLm => {
            let prepared = causal::prepare(recipe, base, device)?;
            work.run(Folds::one(prepared.files().to_vec(), prepared))
        }
        TaskName::Dpo => {
            let prepared = dpo::prepare(recipe, base, device)?;
            work.run(Folds::one(prepared.files().to_vec(), prepared))
        }
        TaskName::MaskedLm => {
            let prepared = masked::prepare(recipe, base, device)?;
            work.run(Folds::one(prepared.files().to_vec(), prepared))
        }
        TaskName::TextClassification => {
            let prepared = classification::prepare(recipe, base, device)?;
            work.run(Folds::one(prepared.files().to_vec(), prepared))
        }
        TaskName::TextEmbedding => {
            let prepared = embedding::prepare(recipe, base, device)?;
            work.run(Folds::one(prepared.files().to_vec(), prepared))
        }
        TaskName::Translation => {
            let prepared = translation::prepare(recipe, base, device)?;
            work.run(Folds::one(prepared.files().to_vec(), prepared))
        }
        other => Err(Problem::new(format!("{} is not a task on text", other.name())).into()),
    }
}

/// File of a package that holds its tokenizer.
pub const TOKENIZER: &str = "tokenizer.json";
/// File of a package that holds the names of special tokens and the template of conversations.
pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// What a package keeps of a text model besides weights and tokenizer: its `preprocessing`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TextPipeline {
    /// The model's sizes, as in a Hugging Face `config.json`.
    pub config: Value,
    /// Tokens of an example at most.
    pub length: usize,
    /// The labels of a classification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    /// The model that answers are compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Compared>,
}

/// A model that another is compared with: it is not in the package, and may not be where it was, or as it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// Where it is, seen from where the program ran.
    pub from: String,
    /// Its own outputs for the package's golden texts.
    pub golden: Vec<Vec<f64>>,
}
