//! What several families are built from.

use std::collections::BTreeMap;

use jishi_hub::onnx::{Attribute, Dim, Graph, Kind};
use jishi_kernels::Activation;
use jishi_models::NamedTensor;
use jishi_models::layers::activation::fused;
use jishi_recipe::{Activation as Named, Problem};

/// The axes of tokens.
pub(super) const TOKENS: [Dim; 2] = [Dim::Named("batch"), Dim::Named("time")];

/// A graph under construction, and the weights that it takes.
pub(super) struct Builder<'a> {
    pub(super) graph: Graph<'a>,
    tensors: BTreeMap<&'a str, &'a NamedTensor>,
}

/// The heads of an attention.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heads {
    /// Query heads.
    pub(super) queries: usize,
    /// Key and value heads.
    pub(super) keys: usize,
    /// Values a head.
    pub(super) dim: usize,
}

impl<'a> Builder<'a> {
    pub(super) fn new(family: &str, tensors: &'a [NamedTensor]) -> Self {
        Self {
            graph: Graph::new(family),
            tensors: tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect(),
        }
    }

    /// Whether the model has this tensor.
    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The shape of a tensor of the model.
    pub(super) fn shape(&self, name: &str) -> Option<&'a [usize]> {
        self.tensors.get(name).map(|tensor| tensor.shape.as_slice())
    }

    /// A tensor of the model, with its own name.
    pub(super) fn weight(&mut self, name: &str) -> Result<String, Problem> {
        let Some(&tensor) = self.tensors.get(name) else {
            let problem = Problem::new(format!("the model has no tensor `{name}`"));
            return Err(problem.help("the model is damaged: train or fetch it again"));
        };
        self.graph.weights(name, &tensor.shape, &tensor.data)
    }

    /// An operator of two inputs.
    pub(super) fn two(&mut self, operator: &'static str, a: &str, b: &str) -> String {
        self.graph.node(operator, &[a, b], &[])
    }

    /// An operator of one input.
    pub(super) fn one(&mut self, operator: &'static str, x: &str) -> String {
        self.graph.node(operator, &[x], &[])
    }

    /// An operator of an input and a number.
    pub(super) fn with(&mut self, operator: &'static str, x: &str, number: f32) -> String {
        let number = self.graph.number(number);
        self.two(operator, x, &number)
    }

    /// Whole numbers as numbers.
    pub(super) fn floats(&mut self, x: &str) -> String {
        // 1 is the type of 32-bit floating point in `onnx.proto`.
        self.graph.node("Cast", &[x], &[("to", Attribute::Int(1))])
    }

    /// The rows `indices` of a table: `[.., width]`.
    pub(super) fn rows(&mut self, table: &str, indices: &str) -> Result<String, Problem> {
        let table = self.weight(table)?;
        Ok(self.two("Gather", &table, indices))
    }

    /// Places of the second axis, or one of them without the axis.
    pub(super) fn picked(&mut self, x: &str, places: &str) -> String {
        self.graph.node("Gather", &[x, places], &[("axis", Attribute::Int(1))])
    }

    /// `[batch, ..]` as `[batch, values]`
    pub(super) fn flat(&mut self, x: &str) -> String {
        self.graph.node("Flatten", &[x], &[("axis", Attribute::Int(1))])
    }

    /// The places 0, 1, … of tokens: `[time]`.
    pub(super) fn places(&mut self, tokens: &str) -> String {
        let [zero, one] = [0, 1].map(|i| self.graph.integer(i));
        let shape = self.one("Shape", tokens);
        let time = self.two("Gather", &shape, &one);
        self.graph.node("Range", &[&zero, &time, &one], &[])
    }

    /// What is added to the scores of attention so that no position sees a later one: `[time, time]`.
    pub(super) fn causal(&mut self, places: &str) -> String {
        let [first, second] = [0, 1].map(|axis| self.graph.integers(&[axis]));
        let keys = self.two("Unsqueeze", places, &first);
        let queries = self.two("Unsqueeze", places, &second);
        let later = self.two("Greater", &keys, &queries);
        self.hidden_where(&later)
    }

    /// A very low number where `hidden` is true, else 0.
    pub(super) fn hidden_where(&mut self, hidden: &str) -> String {
        let [low, zero] = [f32::MIN, 0.0].map(|x| self.graph.number(x));
        self.graph.node("Where", &[hidden, &low, &zero], &[])
    }

    /// `x · weight`, plus a bias where there is one. `name` is the layer's.
    pub(super) fn linear(&mut self, x: &str, name: &str) -> Result<String, Problem> {
        let weight = self.weight(&format!("{name}.weight"))?;
        let y = self.two("MatMul", x, &weight);
        let bias = format!("{name}.bias");
        if !self.has(&bias) {
            return Ok(y);
        }
        let bias = self.weight(&bias)?;
        Ok(self.two("Add", &y, &bias))
    }

    /// `x · tableᵀ`.
    pub(super) fn against(&mut self, x: &str, table: &str) -> Result<String, Problem> {
        let table = self.weight(table)?;
        let turned = self.transposed(&table, &[1, 0]);
        Ok(self.two("MatMul", x, &turned))
    }

    pub(super) fn layer_norm(&mut self, x: &str, name: &str, epsilon: f64) -> Result<String, Problem> {
        let weight = self.weight(&format!("{name}.weight"))?;
        let bias = self.weight(&format!("{name}.bias"))?;
        let attributes = [("axis", Attribute::Int(-1)), ("epsilon", Attribute::Float(epsilon as f32))];
        Ok(self.graph.node("LayerNormalization", &[x, &weight, &bias], &attributes))
    }

    /// Of `[batch, time, width]`. The operator for it came with operator set 23.
    pub(super) fn rms_norm(&mut self, x: &str, name: &str, epsilon: f64) -> Result<String, Problem> {
        let weight = self.weight(&format!("{name}.weight"))?;
        let square = self.two("Mul", x, x);
        let mean = self.graph.node("ReduceMean", &[&square], &[("axes", Attribute::Ints(vec![-1]))]);
        let mean = self.with("Add", &mean, epsilon as f32);
        let root = self.one("Sqrt", &mean);
        let x = self.two("Div", x, &root);
        Ok(self.two("Mul", &x, &weight))
    }

    /// GELU's two forms are composed: the operator for them came with operator set 20.
    pub(super) fn activated(&mut self, activation: Activation, x: &str) -> String {
        let gate = match activation {
            Activation::Identity => return x.into(),
            Activation::Relu => return self.one("Relu", x),
            Activation::Silu => {
                let gate = self.one("Sigmoid", x);
                return self.two("Mul", x, &gate);
            }
            Activation::Gelu => {
                let inner = self.with("Mul", x, std::f32::consts::FRAC_1_SQRT_2);
                self.one("Erf", &inner)
            }
            Activation::GeluTanh => {
                // √(2/π)·(x + 0.044715·x³), Hendrycks & Gimpel 2016
                let square = self.two("Mul", x, x);
                let inner = self.with("Mul", &square, 0.044_715);
                let inner = self.with("Add", &inner, 1.0);
                let inner = self.two("Mul", &inner, x);
                let inner = self.with("Mul", &inner, 0.797_884_6);
                self.one("Tanh", &inner)
            }
        };
        let gate = self.with("Add", &gate, 1.0);
        let half = self.with("Mul", x, 0.5);
        self.two("Mul", &half, &gate)
    }

    /// Any activation function of a recipe.
    pub(super) fn named(&mut self, activation: Named, x: &str) -> String {
        if let Some(activation) = fused(activation) {
            return self.activated(activation, x);
        }
        match activation {
            Named::LeakyRelu => self.graph.node("LeakyRelu", &[x], &[("alpha", Attribute::Float(0.01))]),
            Named::Mish => {
                // The operator for it came with operator set 18.
                let gate = self.one("Softplus", x);
                let gate = self.one("Tanh", &gate);
                self.two("Mul", x, &gate)
            }
            Named::Sigmoid => self.one("Sigmoid", x),
            Named::Tanh => self.one("Tanh", x),
            Named::Elu => self.one("Elu", x),
            Named::Selu => self.one("Selu", x),
            Named::Softplus => self.one("Softplus", x),
            Named::Softsign => self.one("Softsign", x),
            Named::HardSwish => self.one("HardSwish", x),
            Named::Identity | Named::Relu | Named::Gelu | Named::GeluTanh | Named::Silu => {
                unreachable!("these are fused")
            }
        }
    }

    /// Batch normalisation of the last axis, by the running statistics.
    pub(super) fn batch_norm(&mut self, x: &str, name: &str, epsilon: f64) -> Result<String, Problem> {
        let [weight, bias, mean, variance] = ["weight", "bias", "running_mean", "running_var"]
            .map(|part| self.weight(&format!("{name}.{part}")));
        let variance = self.with("Add", &variance?, epsilon as f32);
        let deviation = self.one("Sqrt", &variance);
        let scale = self.two("Div", &weight?, &deviation);
        let x = self.two("Sub", x, &mean?);
        let x = self.two("Mul", &x, &scale);
        Ok(self.two("Add", &x, &bias?))
    }

    /// Values one after another along the last axis.
    pub(super) fn joined(&mut self, parts: &[&str]) -> String {
        match parts {
            [only] => (*only).into(),
            _ => self.graph.node("Concat", parts, &[("axis", Attribute::Int(-1))]),
        }
    }

    pub(super) fn transposed(&mut self, x: &str, order: &[i64]) -> String {
        self.graph.node("Transpose", &[x], &[("perm", Attribute::Ints(order.to_vec()))])
    }

    /// `[batch, time, ..]` with other axes after the first two.
    pub(super) fn reshaped(&mut self, x: &str, axes: &[i64]) -> String {
        // 0 keeps an axis as it is.
        let shape = self.graph.integers(&[&[0, 0], axes].concat());
        self.two("Reshape", x, &shape)
    }

    /// Parts of the last axis, of these lengths.
    pub(super) fn split<const N: usize>(&mut self, x: &str, lengths: [i64; N]) -> [String; N] {
        let lengths = self.graph.integers(&lengths);
        self.graph.nodes("Split", &[x, &lengths], &[("axis", Attribute::Int(-1))])
    }

    /// Attention of queries `[batch, time, queries · dim]` over keys and values `[batch, time, keys · dim]`: `[batch,
    /// time, queries · dim]`. `mask` is added to the scores; default: none.
    pub(super) fn attention(&mut self, [q, k, v]: [&str; 3], heads: Heads, mask: Option<&str>) -> String {
        let Heads { queries, keys, dim } = heads;
        let [group, keys, size] = [queries / keys, keys, dim].map(|n| n as i64);
        // Heads that share keys are an axis of their own, over which keys and values broadcast.
        let (alone, grouped, shared) = ([keys, size], [keys, group, size], [keys, 1, size]);
        let [q_axes, kv_axes, rows, columns, back]: [&[i64]; 5] = if group == 1 {
            [&alone, &alone, &[0, 2, 1, 3], &[0, 2, 3, 1], &[0, 2, 1, 3]]
        } else {
            [&grouped, &shared, &[0, 2, 3, 1, 4], &[0, 2, 3, 4, 1], &[0, 3, 1, 2, 4]]
        };
        let mut split = |x: &str, axes: &[i64], order: &[i64]| {
            let x = self.reshaped(x, axes);
            self.transposed(&x, order)
        };
        let q = split(q, q_axes, rows); // [batch, heads.., time, dim]
        let k = split(k, kv_axes, columns); // [batch, heads.., dim, time]
        let v = split(v, kv_axes, rows);
        let q = self.with("Mul", &q, 1.0 / (dim as f32).sqrt());
        let mut scores = self.two("MatMul", &q, &k); // [batch, heads.., time, time]
        if let Some(mask) = mask {
            scores = self.two("Add", &scores, mask);
        }
        let shares = self.graph.node("Softmax", &[&scores], &[("axis", Attribute::Int(-1))]);
        let attended = self.two("MatMul", &shares, &v);
        let attended = self.transposed(&attended, back);
        self.reshaped(&attended, &[(queries * dim) as i64])
    }

    /// Makes a value of numbers an output.
    pub(super) fn output(&mut self, name: &str, value: &str, dims: &[Dim]) {
        self.graph.output(name, value, Kind::F32, dims);
    }
}

/// `[batch, time, values]`
pub(super) fn of_tokens(values: usize) -> [Dim; 3] {
    [TOKENS[0], TOKENS[1], Dim::Fixed(values)]
}

/// `[batch, values]`
pub(super) fn of_rows(values: usize) -> [Dim; 2] {
    [TOKENS[0], Dim::Fixed(values)]
}
