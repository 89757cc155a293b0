//! A package of a text model at work: what `jishi evaluate`, `predict` and `generate` use, and nothing else of the run.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use jishi_data::text::corpus::Part;
use jishi_data::text::tokenizer::Tokenizer;
use jishi_data::write::Values;
use jishi_models::language::{CausalModel, EncoderModel};
use jishi_models::{NamedTensor, import_weights};
use jishi_recipe::{Problem, Recipe, TaskName};
use jishi_runs::Package;
use jishi_tasks::language::texts::{EncoderTokens, Texts};
use jishi_tasks::language::{
    CausalTask, ClassificationTask, EmbeddingTask, LanguageTask, MaskedTask, Measured,
};
use serde_json::{Map, Value};

use super::source::TextSource;
use super::{TOKENIZER, TOKENIZER_CONFIG, TextPipeline, causal, classification, embedding, encoder, masked};
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
    Classification(ClassificationTask, EncoderModel),
    Masked(MaskedTask, EncoderModel),
    Embedding(EmbeddingTask, EncoderModel),
}

impl TextPredictor {
    /// Loads a package and verifies it.
    ///
    /// # Errors
    /// Everything that is wrong with the package: hashes, sizes, weights that do not fit, a damaged tokenizer.
    pub fn load(dir: &Path, device: &Device) -> Result<Self, TrainError> {
        let package = Package::load(dir)?;
        let damaged = |what: &str, why: &dyn std::fmt::Display| {
            let why = why.to_string().replace('\n', "; ");
            let problem = Problem::new(format!("the package is damaged in its {what}: {why}"));
            TrainError::Bad(
                problem.file(dir.join("model.json")).help("train or fetch the model again").into(),
            )
        };
        let recipe: Recipe =
            serde_json::from_value(package.manifest.recipe).map_err(|e| damaged("recipe", &e))?;
        let pipeline: TextPipeline = serde_json::from_value(package.manifest.preprocessing)
            .map_err(|e| damaged("preprocessing", &e))?;
        let file = |name: &str| package.files.get(name).map(Vec::as_slice);
        let json = file(TOKENIZER).ok_or_else(|| damaged("files", &format!("there is no {TOKENIZER}")))?;
        let tokenizer =
            Tokenizer::from_bytes(json, file(TOKENIZER_CONFIG)).map_err(|e| damaged("tokenizer", &e))?;
        let tokenizer = Arc::new(tokenizer);
        let tensors: Vec<NamedTensor> = package
            .weights
            .tensors
            .into_iter()
            .map(|t| NamedTensor { name: t.name, shape: t.shape, data: t.data, trainable: true })
            .collect();
        let model = match recipe.task {
            TaskName::CausalLm => {
                let task = CausalTask::new(&recipe, &tokenizer, [None, None, None], None, device);
                let model = load(&task, &pipeline, &tensors, device).map_err(|e| damaged("weights", &e))?;
                Loaded::Causal(task, model)
            }
            TaskName::TextClassification => {
                let labels = pipeline.labels.as_ref();
                let labels = labels.ok_or_else(|| damaged("preprocessing", &"there are no labels"))?;
                let splits = [None, None, None];
                let task =
                    ClassificationTask::new(&recipe, &tokenizer, labels, pipeline.length, splits, device)
                        .map_err(|e| damaged("labels", &e))?;
                let model = load(&task, &pipeline, &tensors, device).map_err(|e| damaged("weights", &e))?;
                Loaded::Classification(task, model)
            }
            TaskName::MaskedLm => {
                let splits = [None, None, None];
                let task = MaskedTask::new(&recipe, &tokenizer, pipeline.length, splits, device)
                    .map_err(|e| damaged("tokenizer", &e))?;
                let model = load(&task, &pipeline, &tensors, device).map_err(|e| damaged("weights", &e))?;
                Loaded::Masked(task, model)
            }
            TaskName::TextEmbedding => {
                let splits = [None, None, None];
                let task = EmbeddingTask::new(&recipe, &tokenizer, pipeline.length, splits, device)
                    .map_err(|e| damaged("tokenizer", &e))?;
                let model = load(&task, &pipeline, &tensors, device).map_err(|e| damaged("weights", &e))?;
                Loaded::Embedding(task, model)
            }
            other => return Err(damaged("recipe", &format!("{} does not learn from text", other.name()))),
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
            Loaded::Classification(task, model) => task.golden(model, inputs)?,
            Loaded::Masked(task, model) => task.golden(model, inputs)?,
            Loaded::Embedding(task, model) => task.golden(model, inputs)?,
        })
    }

    /// The model where it predicts the next token.
    #[must_use]
    pub fn causal(&self) -> Option<&CausalModel> {
        match &self.model {
            Loaded::Causal(_, model) => Some(model),
            Loaded::Classification(..) | Loaded::Masked(..) | Loaded::Embedding(..) => None,
        }
    }

    /// Predictions for the texts of a file, as columns, and how many.
    ///
    /// # Errors
    /// A file that can't be read; a text that can't be predicted; a model that writes text instead.
    pub fn predict(&self, file: &Path) -> Result<(Vec<(String, Values)>, usize), TrainError> {
        let read = || encoder::texts(&self.recipe, file);
        match &self.model {
            Loaded::Causal(..) => {
                let problem = Problem::new("this model writes texts, and predicts no rows");
                Err(problem.help("write with `jishi generate`").into())
            }
            Loaded::Classification(task, model) => {
                let texts = read()?;
                let values = task.predict(model, &self.tokens(&texts)?)?;
                Ok((classification::columns(task, &values), texts.len()))
            }
            Loaded::Masked(task, model) => {
                let texts = read()?;
                Ok((masked::columns(task, model, &self.tokenizer, &texts)?, texts.len()))
            }
            Loaded::Embedding(task, model) => {
                let texts = read()?;
                let (values, width) = task.embed(model, &self.tokens(&texts)?)?;
                Ok((embedding::columns(&values, width), texts.len()))
            }
        }
    }

    fn tokens(&self, texts: &[String]) -> Result<Texts, TrainError> {
        let special = EncoderTokens::of(&self.tokenizer)?;
        let mut tokens = Texts::default();
        for text in texts {
            tokens.push(&special.around(&self.tokenizer, text, self.pipeline.length)?.0);
        }
        Ok(tokens)
    }

    /// Loss and metrics over a part of some documents, and how many examples that was.
    ///
    /// # Errors
    /// A part without documents; texts that the model can't read.
    pub fn evaluate(&self, source: &TextSource, part: Part) -> Result<(Measured, usize), TrainError> {
        let nothing = || {
            let problem = Problem::new(format!("there is no text to evaluate in the {} split", part.name()));
            TrainError::Bad(problem.help("evaluate another split, or a file with `--data PATH`").into())
        };
        match &self.model {
            Loaded::Causal(task, model) => {
                let windows = causal::windows(source, part, &self.tokenizer, self.pipeline.length)?
                    .ok_or_else(nothing)?;
                Ok((task.measure(model, &windows)?.into(), windows.len()))
            }
            Loaded::Classification(task, model) => {
                let labels = task.labels();
                let length = self.pipeline.length;
                let (texts, _) = classification::examples(source, part, &self.tokenizer, labels, length)?
                    .ok_or_else(nothing)?;
                let (resamples, seed) = (self.recipe.evaluate.bootstrap, self.recipe.train.seed);
                Ok((task.measure_texts(model, &texts, resamples, seed)?, texts.classes.len()))
            }
            Loaded::Masked(task, model) => {
                let length = self.pipeline.length;
                let (texts, _) =
                    masked::windows(source, part, &self.tokenizer, length)?.ok_or_else(nothing)?;
                Ok((task.measure(model, &texts)?.into(), texts.len()))
            }
            Loaded::Embedding(task, model) => {
                let length = self.pipeline.length;
                let (pairs, _) =
                    embedding::examples(source, part, &self.tokenizer, length)?.ok_or_else(nothing)?;
                Ok((task.measure(model, &pairs)?.into(), pairs.first.len()))
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
