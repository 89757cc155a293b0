//! Multi-layer perceptron, with embeddings of numbers (Gorishniy et al. 2022, "On Embeddings for Numerical
//! Features in Tabular Deep Learning") and, with `members` > 1, as a parameter-efficient ensemble
//! (Gorishniy et al. 2025, "TabM: Advancing Tabular Deep Learning with Parameter-Efficient Ensembling").
//!
//! A hidden layer is: linear → norm → activation → dropout → plus its input, where widths agree and
//! `residual` is set. One member is a plain MLP, at no extra cost.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use jishi_recipe::{Activation, CategoryEncoding, MlpModel, Norm, NumberEmbedding};

use crate::context::Context;
use crate::init::Scope;
use crate::layers::activation::activate;
use crate::layers::dense::{EnsembleLinear, EnsembleOutput, Hidden, Linear, Output};
use crate::layers::embedding::CategoryEmbedding;
use crate::layers::norm::{BatchNorm, LayerNorm, NormLayer};
use crate::layers::numbers::{NumberEmbeddingLayer, Periodic, PiecewiseLinear};
use crate::table::{TableInput, TableShape};

/// A multi-layer perceptron.
#[derive(Module, Debug)]
pub struct Mlp {
    number_embedding: Option<NumberEmbeddingLayer>,
    category_embedding: Option<CategoryEmbedding>,
    layers: Vec<Hidden>,
    norms: Vec<NormLayer>,
    output: Output,
    #[module(skip)]
    activation: Activation,
    dropout: f64,
    residual: bool,
    members: usize,
    numbers: usize,
}

impl Mlp {
    /// A model with initial weights from `seed`.
    #[must_use]
    pub fn init(config: &MlpModel, shape: &TableShape, seed: u64, device: &Device) -> Self {
        let scope = Scope::new(seed, config.init, device);
        let numbers = &config.numbers;
        let at = scope.child("number_embedding");
        let number_embedding = match numbers.embedding {
            _ if shape.numbers == 0 => None,
            NumberEmbedding::None => None,
            NumberEmbedding::PiecewiseLinear => Some(NumberEmbeddingLayer::PiecewiseLinear(
                PiecewiseLinear::init(&at, &shape.bin_edges, numbers.width),
            )),
            NumberEmbedding::Periodic => Some(NumberEmbeddingLayer::Periodic(Periodic::init(
                &at,
                shape.numbers,
                numbers.frequencies,
                numbers.sigma,
                numbers.width,
            ))),
        };
        let embeds =
            config.categories.encoding == CategoryEncoding::Embedding && !shape.cardinalities.is_empty();
        let category_embedding = embeds.then(|| {
            CategoryEmbedding::init(
                &scope.child("category_embedding"),
                &shape.cardinalities,
                config.categories.width,
            )
        });

        let category_width = match &category_embedding {
            Some(_) => shape.cardinalities.len() * config.categories.width,
            None => shape.one_hot_width(),
        };
        let mut width =
            number_embedding.as_ref().map_or(shape.numbers, NumberEmbeddingLayer::outputs) + category_width;
        let members = config.members;
        let (mut layers, mut norms) = (Vec::new(), Vec::new());
        for (i, &hidden) in config.hidden.iter().enumerate() {
            let at = scope.child(&format!("layers.{i}"));
            layers.push(if members == 1 {
                Hidden::Single(Linear::init(&at, width, hidden))
            } else {
                Hidden::Ensemble(EnsembleLinear::init(&at, width, hidden, members, i == 0))
            });
            let at = scope.child(&format!("norms.{i}"));
            match config.norm {
                Norm::None => {}
                Norm::Layer => norms.push(NormLayer::Layer(LayerNorm::init(&at, hidden))),
                Norm::Batch => norms.push(NormLayer::Batch(BatchNorm::init(&at, hidden))),
            }
            width = hidden;
        }
        let at = scope.child("output");
        let output = if members == 1 {
            Output::Single(Linear::init(&at, width, shape.outputs))
        } else {
            Output::Ensemble(EnsembleOutput::init(&at, width, shape.outputs, members, layers.is_empty()))
        };
        Self {
            number_embedding,
            category_embedding,
            layers,
            norms,
            output,
            activation: config.activation,
            dropout: config.dropout,
            residual: config.residual,
            members,
            numbers: shape.numbers,
        }
    }

    /// Members of the ensemble.
    #[must_use]
    pub fn members(&self) -> usize {
        self.members
    }

    /// # Shapes
    /// - input: `dense` `[batch, numbers + one-hot]`, `codes` `[batch, columns]` where categories are embedded
    /// - output: `[members · batch, outputs]`, member after member
    pub fn forward(&self, input: TableInput, context: &mut Context) -> Tensor<2> {
        let mut x = self.features(input); // [batch, features]
        for (i, layer) in self.layers.iter().enumerate() {
            let skip = self.residual.then(|| x.clone());
            x = match (layer, self.norms.get(i)) {
                (Hidden::Single(linear), None) => linear.activated(x, self.activation, context), // [batch, hidden]
                (layer, norm) => {
                    x = match layer {
                        Hidden::Single(linear) => linear.forward(x, context), // [batch, hidden]
                        Hidden::Ensemble(linear) => linear.forward(x, context), // [members · batch, hidden]
                    };
                    if let Some(norm) = norm {
                        x = norm.forward(x, context);
                    }
                    activate(self.activation, x)
                }
            };
            x = context.dropout(x, self.dropout, self.members);
            if let Some(skip) = skip.filter(|skip| skip.dims() == x.dims()) {
                x = x + skip;
            }
        }
        match &self.output {
            Output::Single(linear) => linear.forward(x, context),
            Output::Ensemble(linear) => linear.forward(x, context),
        }
    }

    /// What enters the first layer, `[batch, features]`: numbers or their embeddings, then categories.
    fn features(&self, input: TableInput) -> Tensor<2> {
        let TableInput { dense, codes } = input;
        if self.number_embedding.is_none() && self.category_embedding.is_none() {
            return dense;
        }
        let [batch, width] = dense.dims();
        let mut parts = Vec::with_capacity(3);
        match &self.number_embedding {
            Some(embedding) => {
                parts.push(embedding.forward(dense.clone().narrow(1, 0, self.numbers)));
                if width > self.numbers {
                    parts.push(dense.narrow(1, self.numbers, width - self.numbers));
                }
            }
            None if width > 0 => parts.push(dense),
            None => {}
        }
        if let (Some(embedding), Some(codes)) = (&self.category_embedding, codes) {
            let vectors = embedding.forward(codes); // [batch, columns, width]
            let [_, columns, width] = vectors.dims();
            parts.push(vectors.reshape([batch, columns * width]));
        }
        if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(parts, 1) }
    }
}
