//! The linear layer of language models: a product, what comes after it, and perhaps a low-rank addition (LoRA, Hu et
//! al. 2021, §4.1): `y = x · W + b + (α / rank) · dropout(x) · A · B`, with the names of the PEFT library.

#![allow(non_snake_case, reason = "names of fields are names of tensors, and these are PEFT's")]

use std::sync::Arc;

use burn::module::{Module, Param, ParamId};
use burn::tensor::{Device, Tensor, TensorData};
use jishi_kernels::Activation;
use jishi_kernels::ops::{self, Int8Matrix};

use crate::context::Context;
use crate::init::Scope;

/// A linear layer.
#[derive(Module, Debug)]
pub struct Projection {
    /// `[in, out]`
    weight: Base,
    /// `[out]`
    pub bias: Option<Param<Tensor<1>>>,
    /// A: `[in, rank]`
    lora_A: Option<Factor>,
    /// B: `[rank, out]`
    lora_B: Option<Factor>,
    /// α / rank
    #[module(skip)]
    scale: f64,
    /// Share of the inputs of the addition that is dropped in training.
    #[module(skip)]
    dropout: f64,
}

/// The weight of a layer.
#[derive(Module, Debug)]
enum Base {
    /// As numbers.
    F32(Param<Tensor<2>>),
    /// As frozen bytes, which are no parameters: they come from the weights that were loaded.
    Int8(Bytes),
}

#[derive(Module, Debug)]
struct Bytes {
    #[module(skip)]
    matrix: Arc<Int8Matrix>,
    /// The device that numbers are made on.
    #[module(skip)]
    device: Device,
}

/// A factor of a low-rank addition.
#[derive(Module, Debug)]
pub struct Factor {
    /// `[in, rank]`, or `[rank, out]`
    pub weight: Param<Tensor<2>>,
}

impl Projection {
    /// A layer with weights that are normal with this deviation, and a bias of zeros or none.
    #[must_use]
    pub fn init(scope: &Scope, [inputs, outputs]: [usize; 2], deviation: f32, bias: bool) -> Self {
        let weight = Base::F32(scope.normal("weight", [inputs, outputs], deviation));
        let bias = bias.then(|| scope.constant(0.0, [outputs]));
        Self { weight, bias, lora_A: None, lora_B: None, scale: 0.0, dropout: 0.0 }
    }

    /// Inputs and outputs.
    #[must_use]
    pub fn dims(&self) -> [usize; 2] {
        match &self.weight {
            Base::F32(weight) => weight.dims(),
            Base::Int8(Bytes { matrix, .. }) => matrix.dims(),
        }
    }

    /// The weight as numbers, `[in, out]`.
    #[must_use]
    pub fn weight(&self) -> Tensor<2> {
        match &self.weight {
            Base::F32(weight) => weight.val(),
            Base::Int8(Bytes { matrix, device }) => {
                Tensor::from_data(TensorData::new(matrix.dequantised(), matrix.dims()), device)
            }
        }
    }

    /// Whether nothing but a product with numbers is to be computed.
    fn is_plain(&self) -> bool {
        !self.has_lora() && matches!(self.weight, Base::F32(_))
    }

    /// Keeps the weight as bytes, frozen.
    pub(crate) fn quantise(&mut self) {
        if let Base::F32(weight) = &self.weight {
            let (value, outputs) = (weight.val(), weight.dims()[1]);
            let device = value.device();
            let numbers = value.inner().into_data().try_to_vec::<f32>().expect("parameters are made as f32");
            let matrix = Arc::new(Int8Matrix::new(&numbers, outputs));
            self.weight = Base::Int8(Bytes { matrix, device });
        }
    }

    /// Whether there is a low-rank addition.
    #[must_use]
    pub fn has_lora(&self) -> bool {
        self.lora_A.is_some()
    }

    /// Adds a low-rank addition that is zero at first: A is uniform in ±1/√in (as PEFT draws it), B is zero. The weight
    /// and bias are frozen.
    pub(crate) fn add_lora(&mut self, scope: &Scope, rank: usize, alpha: f64, dropout: f64) {
        let [inputs, outputs] = self.dims();
        let bound = 1.0 / (inputs.max(1) as f32).sqrt();
        self.lora_A = Some(Factor { weight: scope.uniform("lora_A.weight", [inputs, rank], bound) });
        self.lora_B = Some(Factor { weight: scope.constant(0.0, [rank, outputs]) });
        (self.scale, self.dropout) = (alpha / rank.max(1) as f64, dropout);
    }

    /// Puts the addition into the weight.
    pub(crate) fn merge_lora(&mut self) {
        let (Some(a), Some(b)) = (self.lora_A.take(), self.lora_B.take()) else { return };
        let addition = a.weight.val().inner().matmul(b.weight.val().inner()) * self.scale;
        let device = self.weight().device();
        let sum = self.weight().inner() + addition;
        let sum = if device.is_autodiff() { sum.autodiff() } else { sum };
        self.weight = Base::F32(match &self.weight {
            Base::F32(weight) => {
                let trainable = weight.is_require_grad();
                weight.clone().map(|_| sum.set_require_grad(trainable))
            }
            Base::Int8(_) => Param::initialized(ParamId::new(), sum),
        });
    }

    /// `x · weight + bias`, and the addition.
    ///
    /// # Shapes
    /// - input: `[.., in]`, output: `[.., out]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>, context: &mut Context) -> Tensor<D> {
        self.with(x, Activation::Identity, None, context)
    }

    /// `activation(x · weight + bias)`.
    ///
    /// # Shapes
    /// - input: `[.., in]`, output: `[.., out]`
    pub fn activated<const D: usize>(
        &self,
        x: Tensor<D>,
        activation: Activation,
        context: &mut Context,
    ) -> Tensor<D> {
        self.with(x, activation, None, context)
    }

    /// `residual + dropout(x · weight + bias)`.
    ///
    /// # Shapes
    /// - x: `[.., in]`, residual and output: `[.., out]`
    pub fn added<const D: usize>(
        &self,
        x: Tensor<D>,
        residual: Tensor<D>,
        dropout: f64,
        context: &mut Context,
    ) -> Tensor<D> {
        if context.drops(dropout) {
            let y = self.forward(x, context);
            residual + context.dropout(y, dropout, 1)
        } else {
            self.with(x, Activation::Identity, Some(residual), context)
        }
    }

    fn product<const D: usize>(&self, x: Tensor<D>, with: ops::Linear<D>) -> Tensor<D> {
        match &self.weight {
            Base::F32(weight) => ops::linear(x, weight.val(), with),
            Base::Int8(Bytes { matrix, .. }) => {
                let ops::Linear { bias, activation, residual, precision } = with;
                let inner = ops::Linear { bias, activation: Activation::Identity, residual: None, precision };
                let y = ops::composed::activate(activation, ops::linear_int8(x, matrix, inner));
                match residual {
                    Some(residual) => y + residual,
                    None => y,
                }
            }
        }
    }

    fn with<const D: usize>(
        &self,
        x: Tensor<D>,
        activation: Activation,
        residual: Option<Tensor<D>>,
        context: &mut Context,
    ) -> Tensor<D> {
        let precision = context.precision();
        let bias = self.bias.as_ref().map(Param::val);
        let (Some(a), Some(b)) = (&self.lora_A, &self.lora_B) else {
            let with = ops::Linear { bias, activation, residual, precision };
            return self.product(x, with);
        };
        let with = ops::Linear { bias, activation: Activation::Identity, residual, precision };
        let y = self.product(x.clone(), with); // [.., out]
        let x = context.dropout(x, self.dropout, 1);
        let plain = ops::Linear { precision, ..ops::Linear::default() };
        let low = ops::linear(x, a.weight.val(), plain) * self.scale; // [.., rank]
        let with = ops::Linear { residual: Some(y), precision, ..ops::Linear::default() };
        ops::composed::activate(activation, ops::linear(low, b.weight.val(), with))
    }
}

/// Results of several layers for one input, one behind the other: one product where no layer has an addition.
///
/// # Shapes
/// - input: `[.., in]`, output: `[.., Σ out]`
pub fn side_by_side<const D: usize>(
    layers: &[&Projection],
    x: Tensor<D>,
    context: &mut Context,
) -> Tensor<D> {
    let biases: Vec<Tensor<1>> = layers.iter().filter_map(|l| l.bias.as_ref().map(Param::val)).collect();
    if biases.len() == layers.len() && layers.iter().all(|layer| layer.is_plain()) {
        let weight = Tensor::cat(layers.iter().map(|layer| layer.weight()).collect(), 1);
        let bias = Some(Tensor::cat(biases, 0));
        let with = ops::Linear { bias, precision: context.precision(), ..ops::Linear::default() };
        return ops::linear(x, weight, with);
    }
    Tensor::cat(layers.iter().map(|layer| layer.forward(x.clone(), context)).collect(), D - 1)
}

/// `residual + dropout(activation(x · first) · second)`: the feed-forward pair (Vaswani et al. 2017, §3.3), in one
/// operation where nothing is in between.
///
/// # Shapes
/// - x, residual and output: `[.., width]`
pub fn feed_forward<const D: usize>(
    [first, second]: [&Projection; 2],
    x: Tensor<D>,
    residual: Tensor<D>,
    activation: Activation,
    dropouts: FeedForwardDropout,
    context: &mut Context,
) -> Tensor<D> {
    let drops = context.drops(dropouts.inner) || context.drops(dropouts.outer);
    let plain = first.is_plain() && second.is_plain() && !drops;
    if let (Some(b1), Some(b2), true) = (&first.bias, &second.bias, plain) {
        let weights = [first.weight(), second.weight()];
        let biases = [b1.val(), b2.val()];
        return ops::feed_forward(x, weights, biases, residual, activation, context.precision());
    }
    let hidden = first.activated(x, activation, context); // [.., hidden]
    let hidden = context.dropout(hidden, dropouts.inner, 1);
    second.added(hidden, residual, dropouts.outer, context)
}

/// Dropout of a feed-forward pair.
#[derive(Debug, Clone, Copy, Default)]
pub struct FeedForwardDropout {
    /// Of the hidden values.
    pub inner: f64,
    /// Of the result, before the residual.
    pub outer: f64,
}
