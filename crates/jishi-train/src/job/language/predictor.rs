//! A package of a text model at work: what `jishi evaluate`, `predict` and `generate` use, and nothing else of the run.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use jishi_data::text::corpus::Part;
use jishi_data::text::tokenizer::Tokenizer;
use jishi_data::write::Values;
use jishi_models::{
    CausalModel, EncoderDecoderConfig, EncoderModel, LanguageModel, NamedTensor, Seq2SeqModel, import_weights,
};
use jishi_recipe::{Problem, Recipe, TaskName};
use jishi_runs::Package;
use jishi_tasks::Measured;
use jishi_tasks::language::texts::{EncoderTokens, Texts};
use jishi_tasks::language::translation::{Search, WATCHED};
use jishi_tasks::language::{
    CausalTask, ClassificationTask, DpoTask, EmbeddingTask, LanguageTask, MaskedTask, TranslationTask,
};
use serde_json::{Map, Value};

use super::finish::pack;
use super::package::TextPackage;
use super::pretrained::Pretrained;
use super::source::TextSource;
use super::{TextPipeline, causal, classification, dpo, embedding, examples, masked, translation};
use crate::error::TrainError;
use crate::job::predict::damaged;

/// A loaded text model.
pub struct TextPredictor {
    /// The recipe that it was trained with.
    pub recipe: Recipe,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// Length and labels.
    pub pipeline: TextPipeline,
    model: Loaded,
    device: Device,
    /// Golden texts of the package.
    inputs: Vec<Map<String, Value>>,
}

/// The splits of a task that has no data.
fn no_data<T>() -> [Option<T>; 3] {
    [None, None, None]
}

/// A task without data, and its model.
enum Loaded {
    Causal(CausalTask, CausalModel),
    Dpo(DpoTask, CausalModel),
    Masked(MaskedTask, EncoderModel),
    Classification(ClassificationTask, EncoderModel),
    Embedding(EmbeddingTask, EncoderModel),
    Translation(TranslationTask, Seq2SeqModel),
}

impl TextPredictor {
    /// Loads a package and verifies it.
    ///
    /// # Errors
    /// Everything that is wrong with the package: hashes, sizes, weights that do not fit, a damaged tokenizer.
    pub fn load(dir: &Path, device: &Device) -> Result<Self, TrainError> {
        let TextPackage { recipe, pipeline, tokenizer, tensors, golden } = TextPackage::read(dir)?;
        let weights = Weights::Package(dir, tensors);
        Ok(Self { inputs: golden.inputs, ..Self::of(recipe, pipeline, tokenizer, &weights, device)? })
    }

    /// The model of a recipe with these weights.
    ///
    /// # Errors
    /// Sizes, labels, a tokenizer or weights that do not fit together.
    pub fn of(
        recipe: Recipe,
        pipeline: TextPipeline,
        tokenizer: Arc<Tokenizer>,
        weights: &Weights<'_>,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let (config, length) = (&pipeline.config, pipeline.length);
        let model = match recipe.task {
            TaskName::CausalLm => {
                let task = CausalTask::new(&recipe, &tokenizer, no_data(), None, device);
                let model = weights.of(&task, config, device)?;
                Loaded::Causal(task, model)
            }
            TaskName::Dpo => {
                let task = DpoTask::new(&recipe, &tokenizer, None, device);
                let model = weights.of(&task, config, device)?;
                Loaded::Dpo(task, model)
            }
            TaskName::MaskedLm => {
                let task = MaskedTask::new(&recipe, &tokenizer, length, no_data(), device)
                    .map_err(|e| weights.unfit("tokenizer", &e))?;
                let model = weights.of(&task, config, device)?;
                Loaded::Masked(task, model)
            }
            TaskName::TextClassification => {
                let labels = pipeline.labels.as_ref();
                let labels = labels.ok_or_else(|| weights.unfit("preprocessing", &"there are no labels"))?;
                let task = ClassificationTask::new(&recipe, &tokenizer, labels, length, no_data(), device)
                    .map_err(|e| weights.unfit("labels", &e))?;
                let model = weights.of(&task, config, device)?;
                Loaded::Classification(task, model)
            }
            TaskName::TextEmbedding => {
                let task = EmbeddingTask::new(&recipe, &tokenizer, length, no_data(), device)
                    .map_err(|e| weights.unfit("tokenizer", &e))?;
                let model = weights.of(&task, config, device)?;
                Loaded::Embedding(task, model)
            }
            TaskName::Translation => {
                let sizes =
                    EncoderDecoderConfig::from_hf(config).map_err(|e| weights.unfit("preprocessing", &e))?;
                let special = [sizes.start, sizes.end, sizes.pad];
                let task = TranslationTask::new(&recipe, &tokenizer, special, length, no_data(), device);
                let model = weights.of(&task, config, device)?;
                Loaded::Translation(task, model)
            }
            other => {
                let why = format!("{} is not a task on text", other.name());
                return Err(weights.unfit("recipe", &why));
            }
        };
        Ok(Self { recipe, tokenizer, pipeline, model, device: device.clone(), inputs: Vec::new() })
    }

    /// A package of the model, checked with these inputs.
    ///
    /// # Errors
    /// Golden inputs that the model can't read.
    pub fn pack(&self, golden: Vec<Map<String, Value>>) -> Result<Package, TrainError> {
        let Self { recipe, tokenizer, pipeline, model, .. } = self;
        match model {
            Loaded::Causal(task, model) => pack(task, recipe, tokenizer, pipeline, model, golden),
            Loaded::Dpo(task, model) => pack(task, recipe, tokenizer, pipeline, model, golden),
            Loaded::Masked(task, model) => pack(task, recipe, tokenizer, pipeline, model, golden),
            Loaded::Classification(task, model) => pack(task, recipe, tokenizer, pipeline, model, golden),
            Loaded::Embedding(task, model) => pack(task, recipe, tokenizer, pipeline, model, golden),
            Loaded::Translation(task, model) => pack(task, recipe, tokenizer, pipeline, model, golden),
        }
    }

    /// Numbers for the package's golden texts.
    ///
    /// # Errors
    /// Texts that the model can't read.
    pub fn golden(&self, inputs: &[Map<String, Value>]) -> Result<Vec<Vec<f64>>, TrainError> {
        Ok(match &self.model {
            Loaded::Causal(task, model) => task.golden(model, inputs)?,
            Loaded::Dpo(task, model) => task.golden(model, inputs)?,
            Loaded::Masked(task, model) => task.golden(model, inputs)?,
            Loaded::Classification(task, model) => task.golden(model, inputs)?,
            Loaded::Embedding(task, model) => task.golden(model, inputs)?,
            Loaded::Translation(task, model) => task.golden(model, inputs)?,
        })
    }

    /// The model where it predicts the next token.
    #[must_use]
    pub fn causal(&self) -> Option<&CausalModel> {
        match &self.model {
            Loaded::Causal(_, model) | Loaded::Dpo(_, model) => Some(model),
            _ => None,
        }
    }

    /// The model where it reads a text from both sides.
    #[must_use]
    pub fn encoder(&self) -> Option<&EncoderModel> {
        match &self.model {
            Loaded::Masked(_, model) | Loaded::Classification(_, model) | Loaded::Embedding(_, model) => {
                Some(model)
            }
            _ => None,
        }
    }

    /// Translations of texts, in their order. `search`: default as the recipe asks.
    ///
    /// # Errors
    /// A model that does not translate; a text that the tokenizer has no tokens for.
    pub fn translate(&self, texts: &[String], search: Option<Search>) -> Result<Vec<String>, TrainError> {
        let Loaded::Translation(task, model) = &self.model else {
            let task = self.recipe.task.name();
            let message = format!("this model was trained for {task}, and does not translate");
            return Err(Problem::new(message).into());
        };
        Ok(task.translate(model, texts, search.unwrap_or(task.search()))?)
    }

    /// Predictions for the texts of a file, as columns, and how many texts.
    ///
    /// # Errors
    /// A file that can't be read; a text that can't be predicted; a model that continues texts instead.
    pub fn predict(&self, file: &Path) -> Result<(Vec<(String, Values)>, usize), TrainError> {
        if self.recipe.task.continues_text() {
            let problem = Problem::new("this model continues texts, and predicts no rows");
            return Err(problem.help("write with `jishi generate`").into());
        }
        let texts = examples::texts(&self.recipe, file)?;
        Ok((self.predict_texts(&texts)?, texts.len()))
    }

    /// Predictions for texts, as columns; none of a model that continues texts.
    ///
    /// # Errors
    /// A text that can't be predicted; a prediction that is not finite.
    pub fn predict_texts(&self, texts: &[String]) -> Result<Vec<(String, Values)>, TrainError> {
        Ok(match &self.model {
            Loaded::Causal(..) | Loaded::Dpo(..) => Vec::new(),
            Loaded::Masked(task, model) => masked::columns(task, model, &self.tokenizer, texts)?,
            Loaded::Classification(task, model) => {
                task.head().columns(&task.predict(model, &self.tokens(texts)?)?)
            }
            Loaded::Embedding(task, model) => {
                let (values, width) = task.embed(model, &self.tokens(texts)?)?;
                embedding::columns(&values, width)
            }
            Loaded::Translation(..) => translation::columns(self.translate(texts, None)?),
        })
    }

    fn tokens(&self, texts: &[String]) -> Result<Texts, TrainError> {
        let special = EncoderTokens::of(&self.tokenizer)?;
        let mut tokens = Texts::default();
        for text in texts {
            tokens.push(&special.around(&self.tokenizer, text, self.pipeline.length)?.0);
        }
        Ok(tokens)
    }

    /// Loss and metrics over a part of some documents, and how many examples that was. The ledger of the documents gets
    /// those that are not used as they are.
    ///
    /// # Errors
    /// A part without documents; texts that the model can't read.
    pub fn evaluate(&self, source: &mut TextSource, part: Part) -> Result<(Measured, usize), TrainError> {
        let nothing = || {
            let problem = Problem::new(format!("there is no text to evaluate in the {} split", part.name()));
            TrainError::Bad(problem.help("evaluate another split, or a file with `--data PATH`").into())
        };
        let (tokenizer, length) = (&self.tokenizer, self.pipeline.length);
        match &self.model {
            Loaded::Causal(task, model) => {
                let windows = causal::windows(source, part, tokenizer, length)?.ok_or_else(nothing)?;
                Ok((task.measure(model, &windows)?.into(), windows.len()))
            }
            Loaded::Dpo(task, model) => {
                let pairs = dpo::pairs(source, part, tokenizer, length)?.ok_or_else(nothing)?;
                let compared = self.pipeline.reference.as_ref();
                let reference = dpo::reference(task, &self.recipe, compared, &self.inputs, &self.device)?;
                let pairs = task.against(&reference, pairs)?;
                let (resamples, seed) = (self.recipe.evaluate.bootstrap, self.recipe.train.seed);
                Ok((task.measure(model, &pairs, resamples, seed)?, pairs.len()))
            }
            Loaded::Masked(task, model) => {
                let texts = masked::windows(source, part, tokenizer, length)?.ok_or_else(nothing)?;
                Ok((task.measure(model, &texts)?.into(), texts.len()))
            }
            Loaded::Classification(task, model) => {
                let texts = classification::labelled(source, part, tokenizer, task.head().labels(), length)?
                    .ok_or_else(nothing)?;
                let (resamples, seed) = (self.recipe.evaluate.bootstrap, self.recipe.train.seed);
                Ok((task.measure_texts(model, &texts, resamples, seed)?, texts.classes.len()))
            }
            Loaded::Embedding(task, model) => {
                let pairs = embedding::pairs(source, part, tokenizer, length)?.ok_or_else(nothing)?;
                Ok((task.measure(model, &pairs)?.into(), pairs.first.len()))
            }
            Loaded::Translation(task, model) => {
                let pairs = translation::pairs(source, part, tokenizer, length, true)?.ok_or_else(nothing)?;
                let watched = (part == Part::Validation).then_some(WATCHED);
                Ok((task.measure(model, &pairs, watched)?.into(), pairs.len()))
            }
        }
    }
}

/// Where a model's weights come from.
pub enum Weights<'a> {
    /// A package in this folder, with our own names and layout.
    Package(&'a Path, Vec<NamedTensor>),
    /// A model that others may have made.
    Pretrained(&'a Pretrained),
}

impl Weights<'_> {
    /// A task's model with them.
    fn of<T: LanguageTask>(&self, task: &T, config: &Value, device: &Device) -> Result<T::Model, TrainError> {
        let fresh = task.build(config, device).map_err(|e| self.unfit("preprocessing", &e))?;
        match self {
            Self::Package(dir, tensors) => {
                import_weights(fresh, tensors).map_err(|e| damaged(dir, "weights", &e))
            }
            Self::Pretrained(found) => {
                let reference = fresh.reference();
                found.put_whole(fresh, &reference)
            }
        }
    }

    fn unfit(&self, what: &str, why: &dyn std::fmt::Display) -> TrainError {
        match self {
            Self::Package(dir, _) => damaged(dir, what, why),
            Self::Pretrained(_) => Problem::new(format!("the model's {what} can't be used: {why}")).into(),
        }
    }
}
