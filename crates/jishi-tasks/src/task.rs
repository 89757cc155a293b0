//! What the training loop asks of a task.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::Tensor;
use jishi_data::image::OwnedPicture;
use jishi_models::Context;
use jishi_recipe::Problems;
use serde::Serialize;

/// A split of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SplitName {
    /// Rows to fit on.
    Train,
    /// Rows to watch while training.
    Validation,
    /// Rows to test on at the end.
    Test,
}

impl SplitName {
    /// `train`, `validation` or `test`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// Which values of a metric are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Errors and losses.
    Lower,
    /// Accuracies and scores.
    Higher,
}

/// An error of a task.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// Bad input.
    #[error(transparent)]
    Bad(#[from] Problems),
    /// A model that can't do what it is asked.
    #[error(transparent)]
    Model(#[from] jishi_models::ModelError),
    /// A prediction is NaN or infinite.
    #[error("the model predicts {found} for row {row}: its weights or inputs are too large")]
    NonFinite {
        /// The prediction.
        found: f64,
        /// Row of the evaluated rows, from 0.
        row: usize,
    },
}

/// Loss and metrics over a split.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// Mean loss, as in training but without dropout; in scaled units.
    pub loss: f64,
    /// Metrics by name, in the target's own unit.
    pub metrics: BTreeMap<String, f64>,
}

/// A text that a model wrote for a prompt, to see what it can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// What it was given.
    pub prompt: String,
    /// What it wrote.
    pub text: String,
    /// The text goes on where the prompt ends; a translation does not.
    pub continues: bool,
}

/// Examples, batches, loss and metrics of something to learn. The training loop runs any task.
pub trait Task {
    /// What is trained.
    type Model: Module;
    /// A batch on its way to the model.
    type Batch;

    /// Rows of a split.
    fn rows(&self, split: SplitName) -> usize;

    /// A batch of training rows, numbered within the training split.
    fn batch(&self, rows: &[u32]) -> Self::Batch;

    /// A batch in parts of `most` rows, whose losses are together those of the whole. `pass`: the forward pass of the
    /// part that begins with this row of the batch, for what is drawn anew at every step. Where a batch is as wide as
    /// its longest row, all parts have to be as wide: masks of dropout depend on places.
    fn parts(&self, rows: &[u32], most: usize, _pass: &dyn Fn(usize) -> Context) -> Vec<Self::Batch> {
        rows.chunks(most).map(|part| self.batch(part)).collect()
    }

    /// Updates a step. A task whose model plays against itself has more than one: each has a loss of its own, and
    /// updates parameters of its own ([`Task::turn_of`]), before the next begins.
    fn turns(&self) -> usize {
        1
    }

    /// The turn that updates a parameter.
    fn turn_of(&self, _name: &str) -> usize {
        0
    }

    /// A turn comes in one of so many steps, the last of them.
    fn every(&self, _turn: usize) -> usize {
        1
    }

    /// As [`Task::loss`], of a turn. What is logged is that of the first.
    fn loss_of_turn(
        &self,
        _turn: usize,
        model: &Self::Model,
        batch: &Self::Batch,
        context: &mut Context,
    ) -> Tensor<1> {
        self.loss(model, batch, context)
    }

    /// Sum of the weights of a batch's examples.
    fn weight(&self, batch: &Self::Batch) -> f64;

    /// Sum of the weighted losses of a batch's examples, `[1]`. The loop divides by the weight of the whole
    /// batch, so that a batch that comes in parts has the same loss.
    fn loss(&self, model: &Self::Model, batch: &Self::Batch, context: &mut Context) -> Tensor<1>;

    /// Loss and metrics over a split.
    ///
    /// # Errors
    /// [`TaskError::NonFinite`] where a prediction is NaN or infinite.
    fn evaluate(&self, model: &Self::Model, split: SplitName) -> Result<Evaluation, TaskError>;

    /// What the model writes for the prompts of the recipe; nothing where the task writes no text.
    ///
    /// # Errors
    /// As [`Task::evaluate`].
    fn samples(&self, _model: &Self::Model) -> Result<Vec<Sample>, TaskError> {
        Ok(Vec::new())
    }

    /// Pictures that show what the model can do, side by side; `None` where the task makes no pictures.
    ///
    /// # Errors
    /// As [`Task::evaluate`].
    fn picture(&self, _model: &Self::Model) -> Result<Option<OwnedPicture>, TaskError> {
        Ok(None)
    }

    /// A model of averaged weights, whose running statistics are still those of the weights before they were averaged.
    fn settled(&self, averaged: Self::Model) -> Self::Model {
        averaged
    }

    /// What the learning rate of a parameter is multiplied with, among the names of all that are trained.
    fn learning_rate_scale(&self, _name: &str, _names: &[&str]) -> f64 {
        1.0
    }

    /// Which values of a metric are better.
    fn direction(&self, metric: &str) -> Direction;
}
