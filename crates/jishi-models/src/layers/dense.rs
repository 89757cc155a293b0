//! Dense layers: of one model, and of the members of a parameter-efficient ensemble.
//!
//! An ensemble of K members shares the weight of a hidden layer; a member has its own scale of the inputs
//! and of the outputs, and its own bias (BatchEnsemble, Wen et al. 2020; TabM, Gorishniy et al. 2025, §3.3):
//! `y = ((x ⊙ r) · W) ⊙ s + b`. Rows are ordered member after member.

use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor};
use jishi_kernels::{Precision, ops};
use jishi_recipe::Activation;

use crate::context::Context;
use crate::init::Scope;
use crate::layers::activation::{activate, fused};

/// `y = x · weight + bias`.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[in, out]`
    pub weight: Param<Tensor<2>>,
    /// `[out]`
    pub bias: Param<Tensor<1>>,
}

impl Linear {
    /// A layer with the model's initial weights.
    #[must_use]
    pub fn init(scope: &Scope, inputs: usize, outputs: usize) -> Self {
        Self {
            weight: scope.weight("weight", [inputs, outputs], inputs, outputs),
            bias: scope.bias("bias", [outputs], inputs),
        }
    }

    /// # Shapes
    /// - input: `[.., in]`
    /// - output: `[.., out]`
    #[must_use]
    pub fn forward<const D: usize>(&self, x: Tensor<D>, context: &Context) -> Tensor<D> {
        self.activated(x, Activation::Identity, context)
    }

    /// `activation(x · weight + bias)`.
    ///
    /// # Shapes
    /// - input: `[.., in]`
    /// - output: `[.., out]`
    #[must_use]
    pub fn activated<const D: usize>(
        &self,
        x: Tensor<D>,
        activation: Activation,
        context: &Context,
    ) -> Tensor<D> {
        let (inside, outside) = match fused(activation) {
            Some(fused) => (fused, Activation::Identity),
            None => (Default::default(), activation),
        };
        let with = ops::Linear {
            bias: Some(self.bias.val()),
            activation: inside,
            residual: None,
            precision: context.precision(),
        };
        activate(outside, ops::linear(x, self.weight.val(), with))
    }
}

/// A hidden layer of an ensemble.
#[derive(Module, Debug)]
pub struct EnsembleLinear {
    /// `[in, out]`, shared
    pub weight: Param<Tensor<2>>,
    /// r, `[members, in]`
    pub input_scale: Param<Tensor<2>>,
    /// s, `[members, out]`
    pub output_scale: Param<Tensor<2>>,
    /// `[members, out]`
    pub bias: Param<Tensor<2>>,
    /// Whether the members share the input rows: the first layer.
    shared_input: bool,
}

impl EnsembleLinear {
    /// A layer with the model's initial weights. Members start apart by the signs of the first layer's
    /// input scales (`first`); every other scale starts at one, and biases start equal.
    #[must_use]
    pub fn init(scope: &Scope, inputs: usize, outputs: usize, members: usize, first: bool) -> Self {
        let bias = scope.bias_values("bias", outputs, inputs).repeat(members);
        Self {
            shared_input: first,
            weight: scope.weight("weight", [inputs, outputs], inputs, outputs),
            input_scale: if first {
                scope.signs("input_scale", [members, inputs])
            } else {
                scope.constant(1.0, [members, inputs])
            },
            output_scale: scope.constant(1.0, [members, outputs]),
            bias: scope.parameter(bias, [members, outputs]),
        }
    }

    /// # Shapes
    /// - input: `[members · batch, in]`, or `[batch, in]` in the first layer
    /// - output: `[members · batch, out]`
    #[must_use]
    pub fn forward(&self, x: Tensor<2>, context: &Context) -> Tensor<2> {
        let [members, inputs] = self.input_scale.dims();
        let outputs = self.output_scale.dims()[1];
        let per_member = |p: &Param<Tensor<2>>, width| p.val().reshape([members, 1, width]);
        let x = by_member(x, members, self.shared_input); // [members or 1, batch, in]
        let x = x * per_member(&self.input_scale, inputs); // [members, batch, in]
        let batch = x.dims()[1];
        let with = ops::Linear { precision: context.precision(), ..ops::Linear::default() };
        let y = ops::linear(x.reshape([members * batch, inputs]), self.weight.val(), with);
        let y = y.reshape([members, batch, outputs]) * per_member(&self.output_scale, outputs)
            + per_member(&self.bias, outputs);
        y.reshape([members * batch, outputs])
    }
}

/// The output layer of an ensemble: one dense layer a member, nothing shared.
#[derive(Module, Debug)]
pub struct EnsembleOutput {
    /// `[members, in, out]`
    pub weight: Param<Tensor<3>>,
    /// `[members, out]`
    pub bias: Param<Tensor<2>>,
    /// Whether the members share the input rows: the first layer.
    shared_input: bool,
}

impl EnsembleOutput {
    /// A layer with the model's initial weights, drawn for each member.
    #[must_use]
    pub fn init(scope: &Scope, inputs: usize, outputs: usize, members: usize, first: bool) -> Self {
        Self {
            shared_input: first,
            weight: scope.weight("weight", [members, inputs, outputs], inputs, outputs),
            bias: scope.bias("bias", [members, outputs], inputs),
        }
    }

    /// # Shapes
    /// - input: `[members · batch, in]`, or `[batch, in]` in the first layer
    /// - output: `[members · batch, out]`
    #[must_use]
    pub fn forward(&self, x: Tensor<2>, context: &Context) -> Tensor<2> {
        let [members, inputs, outputs] = self.weight.dims();
        let x = by_member(x, members, self.shared_input); // [members or 1, batch, in]
        let batch = x.dims()[1];
        let x = rounded(x, context).expand([members, batch, inputs]);
        let y =
            x.matmul(rounded(self.weight.val(), context)) + self.bias.val().reshape([members, 1, outputs]);
        y.reshape([members * batch, outputs])
    }
}

/// A factor of a product that is not one of the fused operations.
fn rounded<const D: usize>(x: Tensor<D>, context: &Context) -> Tensor<D> {
    match context.precision() {
        Precision::F32 => x,
        Precision::Bf16 => x.cast(DType::BF16).cast(DType::F32),
    }
}

/// Rows by member: `[1, batch, width]` where all members share them, else `[members, batch, width]`.
fn by_member(x: Tensor<2>, members: usize, shared: bool) -> Tensor<3> {
    let [rows, width] = x.dims();
    let groups = if shared { 1 } else { members };
    x.reshape([groups, rows / groups, width])
}

/// A hidden layer.
#[derive(Module, Debug)]
pub enum Hidden {
    /// Of one model.
    Single(Linear),
    /// Of an ensemble.
    Ensemble(EnsembleLinear),
}

/// The output layer.
#[derive(Module, Debug)]
pub enum Output {
    /// Of one model.
    Single(Linear),
    /// Of an ensemble.
    Ensemble(EnsembleOutput),
}
