//! A package of a text model at work: what `jishi evaluate`, `predict` and `generate` use, and nothing else of the run.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use jishi_data::text::corpus::Part;
use jishi_data::text::tokenizer::Tokenizer;
use jishi_models::language::CausalModel;
use jishi_models::{NamedTensor, import_weights};
use jishi_recipe::{Problem, Recipe, TaskName};
use jishi_tasks::Evaluation;
use jishi_tasks::language::{CausalTask, LanguageTask};
use serde_json::{Map, Value};

use super::package::{TextPackage, damaged};
use super::source::TextSource;
use super::{TextPipeline, causal};
use crate::error::TrainError;

/// A loaded text model.
pub struct TextPredictor {
    /// The recipe that it was trained with.
    pub recipe: Recipe,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// Length and labels.
    pub pipeline: TextPipeline,
    model: Loaded,
}

/// A task without data, and its model.
enum Loaded {
    Causal(CausalTask, CausalModel),
}

impl TextPredictor {
    /// Loads a package and verifies it.
    ///
    /// # Errors
    /// Everything that is wrong with the package: hashes, sizes, weights that do not fit, a damaged tokenizer.
    pub fn load(dir: &Path, device: &Device) -> Result<Self, TrainError> {
        let TextPackage { recipe, pipeline, tokenizer, tensors, .. } = TextPackage::read(dir)?;
        let model = match recipe.task {
            TaskName::CausalLm => {
                let task = CausalTask::new(&recipe, &tokenizer, [None, None, None], None, device);
                let model =
                    load(&task, &pipeline, &tensors, device).map_err(|e| damaged(dir, "weights", &e))?;
                Loaded::Causal(task, model)
            }
            other => {
                let why = format!("{} can't be trained by this version", other.name());
                return Err(damaged(dir, "recipe", &why));
            }
        };
        Ok(Self { recipe, tokenizer, pipeline, model })
    }

    /// Numbers for the package's golden texts.
    ///
    /// # Errors
    /// Texts that the model can't read.
    pub fn golden(&self, inputs: &[Map<String, Value>]) -> Result<Vec<Vec<f64>>, TrainError> {
        Ok(match &self.model {
            Loaded::Causal(task, model) => task.golden(model, inputs)?,
        })
    }

    /// The model where it predicts the next token.
    #[must_use]
    pub fn causal(&self) -> Option<&CausalModel> {
        match &self.model {
            Loaded::Causal(_, model) => Some(model),
        }
    }

    /// Loss and metrics over a part of some documents, and how many examples that was.
    ///
    /// # Errors
    /// A part without documents; texts that the model can't read.
    pub fn evaluate(&self, source: &TextSource, part: Part) -> Result<(Evaluation, usize), TrainError> {
        let nothing = || {
            let problem = Problem::new(format!("there is no text to evaluate in the {} split", part.name()));
            TrainError::Bad(problem.help("evaluate another split, or a file with `--data PATH`").into())
        };
        match &self.model {
            Loaded::Causal(task, model) => {
                let windows = causal::windows(source, part, &self.tokenizer, self.pipeline.length)?
                    .ok_or_else(nothing)?;
                Ok((task.measure(model, &windows)?, windows.len()))
            }
        }
    }
}

fn load<T: LanguageTask>(
    task: &T,
    pipeline: &TextPipeline,
    tensors: &[NamedTensor],
    device: &Device,
) -> Result<T::Model, jishi_models::ModelError> {
    import_weights(task.build(&pipeline.config, device)?, tensors)
}
