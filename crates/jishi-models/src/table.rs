//! A model of table rows: any of the families.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use jishi_recipe::{CategoryEncoding, Init, Model, NumberEmbedding, Problem, Problems};
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::ModelError;
use crate::ft_transformer::FtTransformer;
use crate::linear::LinearFamily;
use crate::mlp::Mlp;

/// What a model has to know of a prepared table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TableShape {
    /// Numeric features.
    pub numbers: usize,
    /// Slots of every category column; slot 0 is the category that was never seen.
    pub cardinalities: Vec<usize>,
    /// Outputs of the model: 1 for a regression and for a binary cross-entropy, else the classes.
    pub outputs: usize,
    /// Bin edges of every number, rising, for the piecewise-linear encoding; else empty.
    #[serde(default)]
    pub bin_edges: Vec<Vec<f32>>,
}

impl TableShape {
    /// Columns of all one-hot categories: slot 0 has none.
    #[must_use]
    pub fn one_hot_width(&self) -> usize {
        self.cardinalities.iter().map(|c| c.saturating_sub(1)).sum()
    }

    /// Columns of numbers and one-hot categories together.
    #[must_use]
    pub fn dense_width(&self) -> usize {
        self.numbers + self.one_hot_width()
    }
}

/// A batch of table rows.
#[derive(Debug, Clone)]
pub struct TableInput {
    /// `[batch, numbers]`, or `[batch, numbers + one-hot]` where [`uses_one_hot`].
    pub dense: Tensor<2>,
    /// `[batch, columns]`: a slot for every category column. Needed unless [`uses_one_hot`].
    pub codes: Option<Tensor<2, Int>>,
}

/// Whether a model takes categories as 0/1 columns of [`TableInput::dense`] rather than as codes.
#[must_use]
pub fn uses_one_hot(model: &Model) -> bool {
    match model {
        Model::Linear(_) => true,
        Model::Mlp(mlp) => mlp.categories.encoding == CategoryEncoding::OneHot,
        _ => false,
    }
}

/// A model of table rows.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a run holds one; a box would gain nothing")]
pub enum TableModel {
    /// One dense layer.
    Linear(LinearFamily),
    /// A multi-layer perceptron.
    Mlp(Mlp),
    /// Feature tokenizer + Transformer.
    FtTransformer(FtTransformer),
}

impl TableModel {
    /// A model with initial weights from `seed`. On an autodiff device its parameters ask for gradients.
    ///
    /// # Errors
    /// All values of the configuration, or of the shape, that make no model.
    pub fn init(config: &Model, shape: &TableShape, seed: u64, device: &Device) -> Result<Self, ModelError> {
        check(config, shape).into_result()?;
        Ok(match config {
            Model::Linear(config) => Self::Linear(LinearFamily::init(config, shape, seed, device)),
            Model::Mlp(config) => Self::Mlp(Mlp::init(config, shape, seed, device)),
            Model::FtTransformer(config) => {
                Self::FtTransformer(FtTransformer::init(config, shape, seed, device))
            }
            other => return Err(ModelError::Bad(no_table_model(other).into())),
        })
    }

    /// Members of the ensemble; 1 where the model is none.
    #[must_use]
    pub fn members(&self) -> usize {
        match self {
            Self::Mlp(mlp) => mlp.members(),
            Self::Linear(_) | Self::FtTransformer(_) => 1,
        }
    }

    /// Scaled predictions or logits.
    ///
    /// # Shapes
    /// - input: see [`TableInput`]
    /// - output: `[members · batch, outputs]`, member after member; the training loss is the mean over the
    ///   members' losses, the prediction the mean of their predictions
    pub fn forward(&self, input: TableInput, context: &mut Context) -> Tensor<2> {
        match self {
            Self::Linear(model) => model.forward(input, context),
            Self::Mlp(model) => model.forward(input, context),
            Self::FtTransformer(model) => model.forward(input, context),
        }
    }
}

fn no_table_model(model: &Model) -> Problem {
    Problem::new(format!("a model of family `{}` does not read tables", model.family()))
        .help("families of tables: linear, mlp, ft-transformer")
}

fn check(config: &Model, shape: &TableShape) -> Problems {
    let mut problems = Vec::new();
    let mut need = |ok: bool, message: String, help: &str| {
        if !ok {
            problems.push(Problem::new(message).help(help));
        }
    };
    let features = shape.numbers + shape.cardinalities.len();
    need(features > 0, "the table has no feature to learn from".into(), "name columns in `data.features`");
    need(shape.outputs > 0, "the model has no output".into(), "the target needs at least two classes");
    let share = |v: f64| (0.0..1.0).contains(&v);
    match config {
        Model::Mlp(c) => {
            need(
                c.hidden.iter().all(|h| *h > 0),
                format!("`model.hidden` is {:?}: every layer needs a width of at least 1", c.hidden),
                "leave out the layer",
            );
            need(c.members > 0, "`model.members` is 0".into(), "1 is a plain MLP");
            need(
                share(c.dropout),
                format!("`model.dropout` is {}", c.dropout),
                "give a share from 0 to below 1",
            );
            need(
                c.init != Init::Zeros || c.hidden.is_empty(),
                "`model.init` is `zeros`, with which hidden layers never learn".into(),
                "choose another initialiser, `torch` for example",
            );
            let embeds = c.categories.encoding == CategoryEncoding::Embedding;
            need(!embeds || c.categories.width > 0, "`model.categories.width` is 0".into(), "8 is usual");
            let periodic = c.numbers.embedding == NumberEmbedding::Periodic;
            need(
                !periodic || (c.numbers.width > 0 && c.numbers.frequencies > 0),
                "a periodic embedding needs `model.numbers.width` and `frequencies` of at least 1".into(),
                "16 and 24 are usual",
            );
            let edges_fit = shape.bin_edges.len() == shape.numbers
                && shape.bin_edges.iter().all(|e| e.len() > 1 && e.windows(2).all(|w| w[0] < w[1]));
            need(
                c.numbers.embedding != NumberEmbedding::PiecewiseLinear || edges_fit,
                format!(
                    "a piecewise-linear encoding of {} numbers needs rising bin edges for each and has {}",
                    shape.numbers,
                    shape.bin_edges.len()
                ),
                "the package's shape is damaged: train again",
            );
        }
        Model::FtTransformer(c) => {
            need(
                c.width > 0 && c.heads > 0 && c.width.is_multiple_of(c.heads),
                format!("`model.heads` is {} and does not divide `model.width`, {}", c.heads, c.width),
                "choose a width that is a multiple of the heads",
            );
            need(c.layers > 0, "`model.layers` is 0".into(), "3 is usual");
            need(
                c.feed_forward.is_finite() && c.width as f64 * c.feed_forward >= 1.0,
                format!("`model.feed_forward` is {}", c.feed_forward),
                "give a multiple of the width, such as 1.333",
            );
            for (name, rate) in [
                ("attention_dropout", c.attention_dropout),
                ("dropout", c.dropout),
                ("residual_dropout", c.residual_dropout),
            ] {
                need(share(rate), format!("`model.{name}` is {rate}"), "give a share from 0 to below 1");
            }
            need(
                c.init != Init::Zeros,
                "`model.init` is `zeros`, with which a Transformer never learns".into(),
                "choose another initialiser, `torch` for example",
            );
        }
        _ => {}
    }
    Problems(problems)
}
