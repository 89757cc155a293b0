//! The convolution of image models.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use jishi_kernels::ops::{self, ConvOptions};

use crate::context::Context;
use crate::init::Scope;

/// A convolution of images.
#[derive(Module, Debug)]
pub struct Conv {
    /// `[out, in, height, width]`
    pub weight: Param<Tensor<4>>,
    /// `[out]`
    pub bias: Option<Param<Tensor<1>>>,
    stride: usize,
    padding: usize,
}

impl Conv {
    /// Without bias, square, with zeros around the image that keep its size where `stride` is 1: normal with variance
    /// `2 / (out · height · width)` (He et al. 2015, §2.2, backward).
    #[must_use]
    pub fn init(scope: &Scope, inputs: usize, outputs: usize, kernel: usize, stride: usize) -> Self {
        let deviation = (2.0 / (outputs * kernel * kernel) as f32).sqrt();
        let weight = scope.normal("weight", [outputs, inputs, kernel, kernel], deviation);
        Self { weight, bias: None, stride, padding: kernel / 2 }
    }

    /// One that cuts an image into patches of `side` pixels: normal with variance `1 / in`, bias zero.
    #[must_use]
    pub fn patches(scope: &Scope, inputs: usize, outputs: usize, side: usize) -> Self {
        let deviation = (1.0 / (inputs * side * side).max(1) as f32).sqrt();
        let weight = scope.normal("weight", [outputs, inputs, side, side], deviation);
        Self { weight, bias: Some(scope.constant(0.0, [outputs])), stride: side, padding: 0 }
    }

    /// With a bias of zeros.
    #[must_use]
    pub fn with_bias(self, scope: &Scope) -> Self {
        self.with_bias_of(scope, 0.0)
    }

    /// With a bias of this value.
    #[must_use]
    pub fn with_bias_of(self, scope: &Scope, value: f32) -> Self {
        let outputs = self.weight.dims()[0];
        Self { bias: Some(scope.constant(value, [outputs])), ..self }
    }

    /// With this many zeros on each side of the image.
    #[must_use]
    pub fn with_padding(self, padding: usize) -> Self {
        Self { padding, ..self }
    }

    /// # Shapes
    /// - input: `[batch, height, width, in]`
    /// - output: `[batch, height / stride, width / stride, out]`
    pub fn forward(&self, x: Tensor<4>, context: &Context) -> Tensor<4> {
        self.forward_with(x, self.weight.val(), context)
    }

    /// The same with another weight of the same shape in place of its own.
    ///
    /// # Shapes
    /// As [`Self::forward`]; weight: `[out, in, height, width]`
    pub fn forward_with(&self, x: Tensor<4>, weight: Tensor<4>, context: &Context) -> Tensor<4> {
        let options = ConvOptions {
            stride: [self.stride; 2],
            padding: [self.padding; 2],
            precision: context.precision(),
            ..ConvOptions::default()
        };
        ops::conv2d(x, weight, self.bias.as_ref().map(Param::val), options)
    }
}
