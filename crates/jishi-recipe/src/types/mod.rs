//! Every key of a recipe, its type, its default and its meaning.
//!
//! The doc comments here are what `jishi recipe schema` and the reference page show to users.

mod data;
mod model;
mod train;

pub use data::*;
pub use model::*;
pub use train::*;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::language::{Generate, Text, Tokenizer};
use crate::vision::Image;

/// A recipe: one TOML file that describes a whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name of the run: the folder under `runs/`. Letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// One line that says what the recipe does.
    #[serde(default)]
    pub description: Option<String>,
    /// What is learned.
    pub task: TaskName,
    /// Where the data comes from and how it is prepared.
    pub data: Data,
    /// How text is read, where the task learns from text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Text>,
    /// How text becomes tokens, where the task learns from text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<Tokenizer>,
    /// How images are read and changed, where the task learns from images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    /// The model.
    pub model: Model,
    /// How it is trained.
    #[serde(default)]
    pub train: Train,
    /// How it is evaluated.
    #[serde(default)]
    pub evaluate: Evaluate,
    /// What is written to see what the model can do, where the task makes text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate: Option<Generate>,
}

/// What is learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TaskName {
    /// Predict a number from a row of a table.
    Regression,
    /// Predict one of two or more classes from a row of a table.
    Classification,
    /// Predict the next token of a text, and so write texts.
    CausalLm,
    /// Prefer chosen answers to rejected ones: direct preference optimisation (Rafailov et al. 2023).
    Dpo,
    /// Predict tokens that were hidden from a text: pre-training of encoders.
    MaskedLm,
    /// Predict one or several labels of a text.
    TextClassification,
    /// Write a text for a text: a translation, or any other answer.
    Translation,
    /// Give texts of like meaning vectors that are close to each other.
    TextEmbedding,
    /// Predict one or several labels of an image.
    ImageClassification,
    /// Tell the patches that were hidden from an image: pre-training without labels.
    MaskedImageModeling,
    /// Give views of one image vectors that are close to each other: pre-training without labels (Chen et al. 2020).
    ImageEmbedding,
    /// Find the objects of an image: a box and a class for each.
    Detection,
    /// Make images like those that it was shown.
    ImageGeneration,
}

/// What a task learns from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// Rows of a table.
    Tables,
    /// Texts.
    Texts,
    /// Images.
    Images,
}

impl TaskName {
    /// What the task learns from.
    #[must_use]
    pub fn domain(self) -> Domain {
        match self {
            Self::Regression | Self::Classification => Domain::Tables,
            Self::ImageClassification
            | Self::MaskedImageModeling
            | Self::ImageEmbedding
            | Self::Detection
            | Self::ImageGeneration => Domain::Images,
            Self::CausalLm
            | Self::Dpo
            | Self::MaskedLm
            | Self::TextClassification
            | Self::Translation
            | Self::TextEmbedding => Domain::Texts,
        }
    }

    /// Whether the trained model writes text.
    #[must_use]
    pub fn writes_text(self) -> bool {
        self.continues_text() || self == Self::Translation
    }

    /// Whether the loss compares all examples of a batch with each other.
    #[must_use]
    pub fn contrasts(self) -> bool {
        matches!(self, Self::TextEmbedding | Self::ImageEmbedding)
    }

    /// Whether the trained model predicts the next token, and so continues a text.
    #[must_use]
    pub fn continues_text(self) -> bool {
        matches!(self, Self::CausalLm | Self::Dpo)
    }

    /// The name in a recipe.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Regression => "regression",
            Self::Classification => "classification",
            Self::CausalLm => "causal-lm",
            Self::Dpo => "dpo",
            Self::MaskedLm => "masked-lm",
            Self::TextClassification => "text-classification",
            Self::Translation => "translation",
            Self::TextEmbedding => "text-embedding",
            Self::ImageClassification => "image-classification",
            Self::MaskedImageModeling => "masked-image-modeling",
            Self::ImageEmbedding => "image-embedding",
            Self::Detection => "detection",
            Self::ImageGeneration => "image-generation",
        }
    }
}
