//! Layers of generators and critics.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use jishi_kernels::ops::{self, ConvOptions};

use crate::context::Context;
use crate::init::Scope;
use crate::layers::conv::Conv;

/// A convolution whose weight may be divided by its largest singular value (Miyato et al. 2018, "Spectral Normalization
/// for Generative Adversarial Networks", §2.1). Each training pass takes one step of the power iteration, which goes on
/// from a vector that is saved with the weights (appendix A, algorithm 1).
#[derive(Module, Debug)]
pub(super) struct Filter {
    conv: Conv,
    /// The left singular vector as far as it is known, `[out]`, not trained
    direction: Option<Param<Tensor<1>>>,
}

impl Filter {
    pub(super) fn new(conv: Conv, scope: &Scope, spectral_norm: bool) -> Self {
        let outputs = conv.weight.dims()[0];
        let start = 1.0 / (outputs.max(1) as f32).sqrt();
        Self { conv, direction: spectral_norm.then(|| scope.buffer(start, [outputs])) }
    }

    /// # Shapes
    /// - input: `[batch, height, width, in]`
    /// - output: `[batch, height / stride, width / stride, out]`
    pub(super) fn forward(&self, x: Tensor<4>, context: &mut Context) -> Tensor<4> {
        let Some(direction) = &self.direction else { return self.conv.forward(x, context) };
        let weight = self.conv.weight.val();
        let [outputs, inputs, height, width] = weight.dims();
        let flat = weight.clone().reshape([outputs, inputs * height * width]);
        // Directions count as constants: of a singular value, that is its gradient.
        let fixed = if flat.is_autodiff() { flat.clone().inner() } else { flat.clone() };
        let known = direction.val();
        let known = if known.is_autodiff() { known.inner() } else { known };
        let mut left = known.reshape([1, outputs]);
        let right = unit(left.clone().matmul(fixed.clone())); // [1, in · height · width]
        if context.is_training() {
            left = unit(right.clone().matmul(fixed.transpose()));
            context.update(direction.id, left.clone().reshape([outputs]));
        }
        let (left, right) =
            if flat.is_autodiff() { (left.autodiff(), right.autodiff()) } else { (left, right) };
        let largest = left.matmul(flat).matmul(right.transpose()); // [1, 1]
        let weight = weight / largest.clamp_min(1e-12).reshape([1, 1, 1, 1]);
        self.conv.forward_with(x, weight, context)
    }
}

fn unit(x: Tensor<2>) -> Tensor<2> {
    let length = x.clone().square().sum_dim(1).sqrt().clamp_min(1e-12);
    x / length
}

/// A transposed convolution without bias.
#[derive(Module, Debug)]
pub(super) struct Unfilter {
    /// `[in, out, height, width]`
    weight: Param<Tensor<4>>,
    stride: usize,
    padding: usize,
}

impl Unfilter {
    /// Normal with deviation 0.02 (Radford et al. 2016, §4).
    pub(super) fn init(
        scope: &Scope,
        [inputs, outputs]: [usize; 2],
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> Self {
        Self { weight: scope.normal("weight", [inputs, outputs, kernel, kernel], 0.02), stride, padding }
    }

    /// # Shapes
    /// - input: `[batch, height, width, in]`
    /// - output: `[batch, (height − 1) · stride − 2 · padding + kernel, …, out]`
    pub(super) fn forward(&self, x: Tensor<4>, context: &Context) -> Tensor<4> {
        let options = ConvOptions {
            stride: [self.stride; 2],
            padding: [self.padding; 2],
            precision: context.precision(),
            ..ConvOptions::default()
        };
        ops::conv_transpose2d(x, self.weight.val(), None, options)
    }
}

/// Each pixel as four.
///
/// # Shapes
/// - input: `[batch, height, width, channels]`
/// - output: `[batch, 2 · height, 2 · width, channels]`
pub(crate) fn doubled(x: Tensor<4>) -> Tensor<4> {
    let [batch, height, width, channels] = x.dims();
    let x = x.reshape([batch, height, 1, width, 1, channels]);
    let x: Tensor<6> = x.expand([batch, height, 2, width, 2, channels]);
    x.reshape([batch, 2 * height, 2 * width, channels])
}
