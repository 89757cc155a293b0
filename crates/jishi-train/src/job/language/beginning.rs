//! What training on text begins with, whatever the task: a model that is new, or one that was trained before.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use jishi_data::text::tokenizer::{SpecialSet, Tokenizer};
use jishi_models::{BertHead, EncoderConfig, EncoderModel, LanguageConfig, LanguageModel};
use jishi_recipe::{Model, Problem, Problems, Recipe, TaskName};

use super::finish::Start;
use super::pretrained::Pretrained;
use super::source::TextSource;
use crate::error::TrainError;

/// A tokenizer, and a model that may be new or trained before.
pub struct Beginning<M: LanguageModel> {
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// Its sizes.
    pub config: M::Config,
    /// Tokens of an example at most.
    pub length: usize,
    /// Makes the model.
    pub start: Start<M>,
}

impl<M: LanguageModel> Beginning<M> {
    /// That of a recipe. `sizes`: those of a new model, none where the recipe's family is not one of `M`'s; `change`:
    /// what the task changes in those of a model that was trained before.
    ///
    /// # Errors
    /// A family that can't do the task; sizes that make no model; a model that is not there or damaged; a
    /// `text.max_length` beyond the context.
    pub fn of(
        recipe: &Recipe,
        source: &TextSource,
        base: &Path,
        special: SpecialSet,
        sizes: impl Fn(&Model, &Tokenizer) -> Option<Result<M::Config, Problems>>,
        change: impl Fn(&mut M::Config),
    ) -> Result<Self, TrainError> {
        let seed = recipe.train.seed;
        let (tokenizer, config, start): (_, M::Config, Start<M>) = match &recipe.model {
            Model::Pretrained(model) => {
                let found = Pretrained::read(&model.from, base, &mut |line| eprintln!("{line}"))?;
                let mut config = M::Config::from_hf(&found.config).map_err(|problems| {
                    let about = |p: Problem| Problem { message: format!("`model.from`: {}", p.message), ..p };
                    Problems(problems.0.into_iter().map(about).collect())
                })?;
                change(&mut config);
                if let Some(rate) = model.dropout {
                    config.set_dropout(rate);
                }
                let (tokenizer, sizes, model) = (Arc::clone(&found.tokenizer), config.clone(), model.clone());
                let start = move |device: &Device| found.begin(&sizes, &model, seed, device);
                (tokenizer, config, Box::new(start))
            }
            model => {
                // That the family does not fit is said before a tokenizer is trained.
                if !model.tasks().contains(&recipe.task) {
                    return Err(unfit(model, recipe.task));
                }
                let tokenizer = Arc::new(source.tokenizer(recipe, special, base)?);
                let config = sizes(model, &tokenizer).ok_or_else(|| unfit(model, recipe.task))??;
                let sizes = config.clone();
                (tokenizer, config, Box::new(move |device: &Device| Ok(M::init(&sizes, seed, device))))
            }
        };
        let context = config.context();
        let length = source.text.max_length.unwrap_or(context);
        if length > context {
            let problem =
                Problem::new(format!("`text.max_length` is {length}, and the model's context {context}"));
            return Err(problem.help("make it smaller, or leave it out").into());
        }
        Ok(Self { tokenizer, config, length, start })
    }
}

impl Beginning<EncoderModel> {
    /// That of a recipe for an encoder with a head.
    ///
    /// # Errors
    /// As [`Beginning::of`].
    pub fn encoder(
        recipe: &Recipe,
        source: &TextSource,
        base: &Path,
        head: BertHead,
    ) -> Result<Self, TrainError> {
        let sizes = |model: &Model, tokenizer: &Tokenizer| match model {
            Model::Bert(model) => Some(EncoderConfig::from_bert(model, tokenizer.vocabulary(), head)),
            _ => None,
        };
        Self::of(recipe, source, base, SpecialSet::Encoder, sizes, |config| config.set_head(head))
    }
}

fn unfit(model: &Model, task: TaskName) -> TrainError {
    let message = format!("a model of family `{}` can't be trained for {}", model.family(), task.name());
    Problem::new(message).help("choose another `model.family`").into()
}
