//! A trained model in Hugging Face's terms, wherever it came from.

use std::borrow::Cow;

use jishi_recipe::Problem;
use jishi_runs::TensorFile;
use serde_json::Value;

use crate::tensors::Tensors;

/// A trained model: what is said about it, and its weights.
#[derive(Debug, Default)]
pub struct Checkpoint {
    /// Everything but the weights.
    pub about: About,
    /// The weights, under Hugging Face's names.
    pub tensors: Tensors,
}

/// Everything about a model but its weights: small files.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct About {
    /// A Hugging Face `config.json`.
    pub config: Value,
    /// A `tokenizer.json`.
    pub tokenizer_json: Option<Vec<u8>>,
    /// A `tokenizer_config.json`.
    pub tokenizer_config: Option<Value>,
    /// A `special_tokens_map.json`.
    pub special_tokens_map: Option<Value>,
    /// A `generation_config.json`.
    pub generation_config: Option<Value>,
    /// A `preprocessor_config.json`: how images become numbers.
    pub preprocessor_config: Option<Value>,
    /// The template, in Jinja, that turns a conversation into text.
    pub chat_template: Option<String>,
    /// What makes a sentence embedding of an encoder's outputs.
    pub sentence: Option<SentenceTransformer>,
    /// What no file says and had to be supposed, in sentences.
    pub supposed: Vec<String>,
}

impl About {
    /// `model_type` of the config.
    #[must_use]
    pub fn model_type(&self) -> &str {
        self.config.get("model_type").and_then(Value::as_str).unwrap_or_default()
    }

    /// A number of the config that is zero or more.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<usize> {
        self.config.get(key)?.as_u64()?.try_into().ok()
    }
}

/// The modules of a sentence-transformers folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentenceTransformer {
    /// How outputs become one vector.
    pub pooling: Pooling,
    /// Whether vectors are scaled to length one.
    pub normalise: bool,
    /// Tokens that are read at most.
    pub max_seq_length: Option<usize>,
}

/// How an encoder's outputs, one a token, become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The first.
    Cls,
    /// Their largest, value by value.
    Max,
    /// The last.
    Last,
}

/// Weights that can be written: of a checkpoint, or in memory.
pub trait Weights {
    /// Names and shapes, in the order in which they are written.
    fn list(&self) -> Vec<(String, Vec<usize>)>;

    /// Values of one of them.
    ///
    /// # Errors
    /// A [`Problem`] where there is none of this name.
    fn values(&self, name: &str) -> Result<Cow<'_, [f32]>, Problem>;
}

impl Weights for TensorFile {
    fn list(&self) -> Vec<(String, Vec<usize>)> {
        self.tensors.iter().map(|t| (t.name.clone(), t.shape.clone())).collect()
    }

    fn values(&self, name: &str) -> Result<Cow<'_, [f32]>, Problem> {
        let tensor = self.tensor(name).ok_or_else(|| Problem::new(format!("there is no tensor {name:?}")))?;
        Ok(Cow::Borrowed(&tensor.data))
    }
}
