//! FT-Transformer (Gorishniy et al. 2021, "Revisiting Deep Learning Models for Tabular Data", §3.3).
//!
//! Every column becomes a token, a CLS token is added, pre-norm Transformer blocks follow, and the head reads
//! the CLS token. As in the paper's reference: the first block has no norm before its attention, the
//! feed-forward part is gated (ReGLU for `relu`), and the last block computes the CLS token alone.

use burn::module::{Module, Param};
use burn::tensor::activation::{relu, softmax};
use burn::tensor::{Device, Tensor};
use jishi_recipe::{Activation, FtTransformerModel};

use crate::context::Context;
use crate::init::Scope;
use crate::layers::activation::activate;
use crate::layers::dense::Linear;
use crate::layers::embedding::CategoryEmbedding;
use crate::layers::norm::LayerNorm;
use crate::table::{TableInput, TableShape};

/// Feature tokenizer + Transformer.
#[derive(Module, Debug)]
pub struct FtTransformer {
    embedding: Tokenizer,
    layers: Vec<Block>,
    norm: LayerNorm,
    output: Linear,
}

/// Columns to tokens (§3.3, "Feature Tokenizer").
#[derive(Module, Debug)]
struct Tokenizer {
    /// `[width]`
    cls: Param<Tensor<1>>,
    /// `[numbers, width]`
    number_weight: Option<Param<Tensor<2>>>,
    /// `[numbers, width]`
    number_bias: Option<Param<Tensor<2>>>,
    categories: Option<CategoryEmbedding>,
    /// `[columns, width]`
    category_bias: Option<Param<Tensor<2>>>,
}

impl Tokenizer {
    fn init(scope: &Scope, shape: &TableShape, width: usize) -> Self {
        let bound = 1.0 / (width as f32).sqrt();
        let (numbers, columns) = (shape.numbers, shape.cardinalities.len());
        let matrix = |name, rows: usize| (rows > 0).then(|| scope.uniform(name, [rows, width], bound));
        Self {
            cls: scope.uniform("cls", [width], bound),
            number_weight: matrix("number_weight", numbers),
            number_bias: matrix("number_bias", numbers),
            categories: (columns > 0)
                .then(|| CategoryEmbedding::init(&scope.child("categories"), &shape.cardinalities, width)),
            category_bias: matrix("category_bias", columns),
        }
    }

    /// # Shapes
    /// - output: `[batch, 1 + numbers + columns, width]`, the CLS token first
    fn forward(&self, input: TableInput) -> Tensor<3> {
        let batch = input.dense.dims()[0];
        let [width] = self.cls.dims();
        let mut tokens = vec![self.cls.val().reshape([1, 1, width]).expand([batch, 1, width])];
        if let (Some(weight), Some(bias)) = (&self.number_weight, &self.number_bias) {
            let [numbers, _] = weight.dims();
            let x = input.dense.narrow(1, 0, numbers).reshape([batch, numbers, 1]);
            let row = [1, numbers, width];
            tokens.push(x * weight.val().reshape(row) + bias.val().reshape(row)); // [batch, numbers, width]
        }
        if let (Some(table), Some(bias), Some(codes)) = (&self.categories, &self.category_bias, input.codes) {
            let columns = bias.dims()[0];
            tokens.push(table.forward(codes) + bias.val().reshape([1, columns, width])); // [batch, columns, width]
        }
        Tensor::cat(tokens, 1)
    }
}

/// One pre-norm block: attention, then the gated feed-forward part.
#[derive(Module, Debug)]
struct Block {
    attention_norm: Option<LayerNorm>,
    query: Linear,
    key: Linear,
    value: Linear,
    attention_output: Linear,
    feed_forward_norm: LayerNorm,
    /// `[width, 2 · hidden]`: values, then gates
    expand: Linear,
    /// `[hidden, width]`
    contract: Linear,
    heads: usize,
    #[module(skip)]
    activation: Activation,
    attention_dropout: f64,
    dropout: f64,
    residual_dropout: f64,
}

impl Block {
    fn init(scope: &Scope, config: &FtTransformerModel, first: bool) -> Self {
        let width = config.width;
        let hidden = (width as f64 * config.feed_forward) as usize;
        let linear = |name, inputs, outputs| Linear::init(&scope.child(name), inputs, outputs);
        Self {
            attention_norm: (!first).then(|| LayerNorm::init(&scope.child("attention_norm"), width)),
            query: linear("query", width, width),
            key: linear("key", width, width),
            value: linear("value", width, width),
            attention_output: linear("attention_output", width, width),
            feed_forward_norm: LayerNorm::init(&scope.child("feed_forward_norm"), width),
            expand: linear("expand", width, 2 * hidden),
            contract: linear("contract", hidden, width),
            heads: config.heads,
            activation: config.activation,
            attention_dropout: config.attention_dropout,
            dropout: config.dropout,
            residual_dropout: config.residual_dropout,
        }
    }

    /// # Shapes
    /// - input: `[batch, tokens, width]`
    /// - output: the same, or `[batch, 1, width]` where only the CLS token is asked for
    fn forward(&self, x: Tensor<3>, cls_only: bool, context: &mut Context) -> Tensor<3> {
        let normed = match &self.attention_norm {
            Some(norm) => norm.forward(x.clone()),
            None => x.clone(),
        };
        let cls = |x: Tensor<3>| if cls_only { x.narrow(1, 0, 1) } else { x };
        let attended = self.attend(cls(normed.clone()), normed, context);
        let x = cls(x) + context.dropout(attended, self.residual_dropout, 1);

        let y = self.expand.forward(self.feed_forward_norm.forward(x.clone()), context); // [batch, tokens, 2 · hidden]
        let hidden = y.dims()[2] / 2;
        let values = y.clone().narrow(2, 0, hidden);
        let gates = activate(self.activation, y.narrow(2, hidden, hidden));
        let y = context.dropout(values * gates, self.dropout, 1);
        let y = self.contract.forward(y, context); // [batch, tokens, width]
        x + context.dropout(y, self.residual_dropout, 1)
    }

    /// Multi-head attention (Vaswani et al. 2017) from `queries` `[batch, q, width]` to `x` `[batch, k, width]`.
    fn attend(&self, queries: Tensor<3>, x: Tensor<3>, context: &mut Context) -> Tensor<3> {
        let [batch, q, width] = queries.dims();
        let depth = width / self.heads;
        let split = |x: Tensor<3>| {
            let tokens = x.dims()[1];
            x.reshape([batch, tokens, self.heads, depth]).swap_dims(1, 2) // [batch, heads, tokens, depth]
        };
        let queries = split(self.query.forward(queries, context));
        let keys = split(self.key.forward(x.clone(), context));
        let values = split(self.value.forward(x, context));
        let scores = queries.matmul(keys.transpose()) / (depth as f64).sqrt(); // [batch, heads, q, k]
        let shares = context.dropout(softmax(scores, 3), self.attention_dropout, 1);
        let y = shares.matmul(values).swap_dims(1, 2).reshape([batch, q, width]);
        self.attention_output.forward(y, context)
    }
}

impl FtTransformer {
    /// A model with initial weights from `seed`.
    #[must_use]
    pub fn init(config: &FtTransformerModel, shape: &TableShape, seed: u64, device: &Device) -> Self {
        let scope = Scope::new(seed, config.init, device);
        let block = |i| Block::init(&scope.child(&format!("layers.{i}")), config, i == 0);
        Self {
            embedding: Tokenizer::init(&scope.child("embedding"), shape, config.width),
            layers: (0..config.layers).map(block).collect(),
            norm: LayerNorm::init(&scope.child("norm"), config.width),
            output: Linear::init(&scope.child("output"), config.width, shape.outputs),
        }
    }

    /// # Shapes
    /// - input: `dense` `[batch, numbers]`, `codes` `[batch, columns]`
    /// - output: `[batch, outputs]`
    pub fn forward(&self, input: TableInput, context: &mut Context) -> Tensor<2> {
        let batch = input.dense.dims()[0];
        let mut x = self.embedding.forward(input); // [batch, 1 + numbers + columns, width]
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward(x, i + 1 == self.layers.len(), context);
        }
        let width = x.dims()[2];
        let cls = x.reshape([batch, width]);
        self.output.forward(relu(self.norm.forward(cls)), context)
    }
}
