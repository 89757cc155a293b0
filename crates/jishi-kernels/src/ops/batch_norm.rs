//! Batch normalisation, with a residual sum and ReLU. Channels are the last axis: rows `[rows, channels]` or images NHWC.

use burn::tensor::Tensor;
use burn_flex::FlexTensor;

use super::custom::{Differentiable, Values, apply, is_ours, tensor};
use crate::cpu::batch_norm::{self, Affine, Backward, Moments};
use crate::memory::buffer;
use crate::simd::Level;

/// What comes after the normalisation.
#[derive(Debug, Clone, Default)]
pub struct BatchNorm<const D: usize> {
    /// Added to the normalised values.
    pub residual: Option<Tensor<D>>,
    /// Whether negative results become zero.
    pub relu: bool,
    /// Added to the variance.
    pub eps: f64,
}

/// A batch normalisation in training, and the batch's statistics for the running ones, which carry no gradients.
#[derive(Debug, Clone)]
pub struct BatchNormed<const D: usize> {
    /// As the input.
    pub output: Tensor<D>,
    /// `[channels]`
    pub mean: Tensor<1>,
    /// `[channels]`, divided by the number of rows
    pub variance: Tensor<1>,
}

/// `relu(weight · (x − mean) / √(variance + eps) + bias + residual)` with mean and variance over all axes but the last (Ioffe &
/// Szegedy 2015).
///
/// # Shapes
/// - `x`, residual and output: `[.., channels]`, `weight` and `bias`: `[channels]`
#[must_use]
pub fn batch_norm_train<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    with: BatchNorm<D>,
) -> BatchNormed<D> {
    if !is_ours(&x) {
        return composed::batch_norm_train(x, weight, bias, with);
    }
    let (output, moments) = run(x, weight, bias, None, with);
    let channels = moments.mean.len();
    let statistic = |values| Tensor::from_primitive::<burn::backend::Flex>(tensor(values, [channels]));
    BatchNormed { output, mean: statistic(moments.mean), variance: statistic(moments.variance) }
}

/// The same with given statistics, which are constants.
///
/// # Shapes
/// As [`batch_norm_train`]; `mean` and `variance`: `[channels]`
#[must_use]
pub fn batch_norm<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    [mean, variance]: [Tensor<1>; 2],
    with: BatchNorm<D>,
) -> Tensor<D> {
    if !is_ours(&x) {
        return composed::batch_norm(x, weight, bias, [mean, variance], with);
    }
    let values = |x: Tensor<1>| {
        let x = if x.is_autodiff() { x.inner() } else { x };
        x.into_data().try_to_vec::<f32>().expect("statistics are made as f32")
    };
    let moments = Moments { mean: values(mean), variance: values(variance) };
    run(x, weight, bias, Some(moments), with).0
}

fn run<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    given: Option<Moments>,
    with: BatchNorm<D>,
) -> (Tensor<D>, Moments) {
    let BatchNorm { residual, relu, eps } = with;
    let channels = weight.dims()[0];
    assert_eq!(x.dims()[D - 1], channels, "channels of a batch normalisation");
    let mut inputs = vec![x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch()];
    inputs.extend(residual.map(Tensor::into_dispatch));
    let mut used = None;
    let output = apply(inputs, |inputs, keep| {
        let mut inputs = inputs.into_iter().map(Values::new);
        let [x, weight, bias] = std::array::from_fn(|_| inputs.next().expect("three or four tensors"));
        let residual = inputs.next();
        let (level, training) = (Level::best(), given.is_none());
        let moments = given.unwrap_or_else(|| batch_norm::moments(level, x.get(), channels));
        let affine = Affine { weight: weight.get(), bias: bias.get(), eps: eps as f32, relu };
        let mut y = buffer(x.get().len());
        batch_norm::normalize(level, &affine, &moments, x.get(), residual.as_ref().map(Values::get), &mut y);
        let y = tensor(y, x.shape());
        used = Some(moments.clone());
        let has_residual = residual.is_some();
        let kept = keep.then(|| BatchNormStep {
            y: (has_residual && relu).then(|| Values::new(y.clone())),
            x,
            weight,
            bias,
            moments,
            eps: eps as f32,
            relu,
            training,
            has_residual,
        });
        (y, kept)
    });
    (output, used.expect("the operation ran"))
}

#[derive(Debug, Clone)]
struct BatchNormStep {
    x: Values,
    y: Option<Values>,
    weight: Values,
    bias: Values,
    moments: Moments,
    eps: f32,
    relu: bool,
    training: bool,
    has_residual: bool,
}

impl Differentiable for BatchNormStep {
    const NAMES: [&'static str; 2] = ["batch norm", "batch norm backward"];

    fn backward(self, gradient: FlexTensor, wanted: &[bool]) -> Vec<Option<FlexTensor>> {
        let Self { x, y, weight, bias, moments, eps, relu, training, has_residual } = self;
        let dy = Values::new(gradient);
        let affine = Affine { weight: weight.get(), bias: bias.get(), eps, relu };
        let pass = Backward { x: x.get(), dy: dy.get(), y: y.as_ref().map(Values::get), training };
        let mut dx = wanted[0].then(|| buffer::<f32>(x.get().len()));
        let mut dresidual = (has_residual && relu && wanted[3]).then(|| buffer::<f32>(x.get().len()));
        let found = batch_norm::backward(
            Level::best(),
            &affine,
            &moments,
            &pass,
            dx.as_deref_mut(),
            dresidual.as_deref_mut(),
        );
        let mut gradients = vec![
            dx.map(|dx| tensor(dx, x.shape())),
            Some(tensor(found.weight, weight.shape())),
            Some(tensor(found.bias, bias.shape())),
        ];
        if has_residual {
            // Without ReLU the gradient is the residual's as it is.
            gradients.push(if relu {
                dresidual.map(|d| tensor(d, x.shape()))
            } else {
                Some(dy.into_tensor())
            });
        }
        gradients
    }
}

/// The same operations of Burn's own.
pub mod composed {
    use burn::tensor::{Tensor, activation, module};

    use super::{BatchNorm, BatchNormed};

    fn finish<const D: usize>(x: Tensor<D>, residual: Option<Tensor<D>>, relu: bool) -> Tensor<D> {
        let x = match residual {
            Some(residual) => x + residual,
            None => x,
        };
        if relu { activation::relu(x) } else { x }
    }

    /// See [`super::batch_norm_train`].
    #[must_use]
    pub fn batch_norm_train<const D: usize>(
        x: Tensor<D>,
        weight: Tensor<1>,
        bias: Tensor<1>,
        with: BatchNorm<D>,
    ) -> BatchNormed<D> {
        let shape = x.dims();
        let rows = x.reshape([-1, shape[D - 1] as i32]);
        let normed = module::batch_norm_train::<2>(rows, weight, bias, with.eps);
        let output = finish(normed.output.reshape(shape), with.residual, with.relu);
        let inner = |x: Tensor<1>| if x.is_autodiff() { x.inner() } else { x };
        BatchNormed { output, mean: inner(normed.mean), variance: inner(normed.variance) }
    }

    /// See [`super::batch_norm`].
    #[must_use]
    pub fn batch_norm<const D: usize>(
        x: Tensor<D>,
        weight: Tensor<1>,
        bias: Tensor<1>,
        [mean, variance]: [Tensor<1>; 2],
        with: BatchNorm<D>,
    ) -> Tensor<D> {
        let shape = x.dims();
        let rows = x.reshape([-1, shape[D - 1] as i32]);
        let normed = module::batch_norm::<2>(rows, weight, bias, mean, variance, with.eps);
        finish(normed.reshape(shape), with.residual, with.relu)
    }
}
