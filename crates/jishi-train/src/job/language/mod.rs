//! Jobs on text: from documents to a task, from a trained model to a package, and the package at work.

pub mod causal;
pub mod checkpoint;
pub mod finish;
pub mod generate;
pub mod predictor;
pub mod source;

pub use predictor::TextPredictor;
pub use source::TextSource;

use jishi_data::text::labels::Labels;
use serde::{Deserialize, Serialize};
use serde_json::Value;

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
}
