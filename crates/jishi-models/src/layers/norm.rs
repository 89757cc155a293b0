//! Normalisation layers, with PyTorch's semantics.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use jishi_kernels::ops;

use crate::context::Context;
use crate::init::Scope;

/// Added to the variance, where nothing else is said.
pub const EPS: f64 = 1e-5;
const MOMENTUM: f64 = 0.1;

/// Layer normalisation over the last axis (Ba et al. 2016).
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// `[width]`
    pub weight: Param<Tensor<1>>,
    /// `[width]`
    pub bias: Param<Tensor<1>>,
}

impl LayerNorm {
    /// The identity scale and shift over `width` values.
    #[must_use]
    pub fn init(scope: &Scope, width: usize) -> Self {
        Self { weight: scope.constant(1.0, [width]), bias: scope.constant(0.0, [width]) }
    }

    /// # Shapes
    /// - input and output: `[.., width]`
    #[must_use]
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.forward_with(x, EPS)
    }

    /// The same with another number added to the variance.
    ///
    /// # Shapes
    /// - input and output: `[.., width]`
    #[must_use]
    pub fn forward_with<const D: usize>(&self, x: Tensor<D>, epsilon: f64) -> Tensor<D> {
        ops::layer_norm(x, self.weight.val(), self.bias.val(), epsilon)
    }
}

/// Root mean square normalisation over the last axis (Zhang & Sennrich 2019).
#[derive(Module, Debug)]
pub struct RmsNorm {
    /// `[width]`
    pub weight: Param<Tensor<1>>,
}

impl RmsNorm {
    /// The identity scale over `width` values.
    #[must_use]
    pub fn init(scope: &Scope, width: usize) -> Self {
        Self { weight: scope.constant(1.0, [width]) }
    }

    /// # Shapes
    /// - input and output: `[.., width]`
    #[must_use]
    pub fn forward<const D: usize>(&self, x: Tensor<D>, epsilon: f64) -> Tensor<D> {
        ops::rms_norm(x, self.weight.val(), epsilon)
    }
}

/// Batch normalisation over the rows (Ioffe & Szegedy 2015). Running statistics move by a tenth of the way
/// to the batch's mean and unbiased variance in every training pass.
#[derive(Module, Debug)]
pub struct BatchNorm {
    /// `[width]`
    pub weight: Param<Tensor<1>>,
    /// `[width]`
    pub bias: Param<Tensor<1>>,
    /// `[width]`, not trained
    pub running_mean: Param<Tensor<1>>,
    /// `[width]`, not trained
    pub running_var: Param<Tensor<1>>,
}

impl BatchNorm {
    /// The identity scale and shift over `width` values; mean 0, variance 1.
    #[must_use]
    pub fn init(scope: &Scope, width: usize) -> Self {
        Self {
            weight: scope.constant(1.0, [width]),
            bias: scope.constant(0.0, [width]),
            running_mean: scope.buffer(0.0, [width]),
            running_var: scope.buffer(1.0, [width]),
        }
    }

    /// New running statistics go to the context.
    ///
    /// # Shapes
    /// - input and output: `[rows, width]`
    pub fn forward(&self, x: Tensor<2>, context: &mut Context) -> Tensor<2> {
        self.forward_with(x, None, false, context)
    }

    /// The same over all axes but the last, plus a residual, through ReLU.
    ///
    /// # Shapes
    /// - input, residual and output: `[.., width]`
    pub fn forward_with<const D: usize>(
        &self,
        x: Tensor<D>,
        residual: Option<Tensor<D>>,
        relu: bool,
        context: &mut Context,
    ) -> Tensor<D> {
        let (weight, bias) = (self.weight.val(), self.bias.val());
        let with = ops::BatchNorm { residual, relu, eps: EPS };
        // A norm that is not trained does not change: what it is part of is used as it was.
        let frozen = weight.is_autodiff() && !self.weight.is_require_grad();
        if !context.is_training() || frozen {
            let statistics = [self.running_mean.val(), self.running_var.val()];
            return ops::batch_norm(x, weight, bias, statistics, with);
        }
        let rows: usize = x.dims()[..D - 1].iter().product();
        let normed = ops::batch_norm_train(x, weight, bias, with);
        // One row has no variance to learn from.
        if rows > 1 {
            let unbiased = normed.variance * (rows as f64 / (rows - 1) as f64);
            for (running, new) in [(&self.running_mean, normed.mean), (&self.running_var, unbiased)] {
                let old = running.val();
                let old = if old.is_autodiff() { old.inner() } else { old };
                context.update(running.id, old * (1.0 - MOMENTUM) + new * MOMENTUM);
            }
        }
        normed.output
    }
}

/// The normalisation of a hidden layer.
#[derive(Module, Debug)]
pub enum NormLayer {
    /// Layer normalisation.
    Layer(LayerNorm),
    /// Batch normalisation.
    Batch(BatchNorm),
}

impl NormLayer {
    /// # Shapes
    /// - input and output: `[rows, width]`
    pub fn forward(&self, x: Tensor<2>, context: &mut Context) -> Tensor<2> {
        match self {
            Self::Layer(norm) => norm.forward(x),
            Self::Batch(norm) => norm.forward(x, context),
        }
    }
}
