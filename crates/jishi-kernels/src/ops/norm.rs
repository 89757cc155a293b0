//! Layer normalisation and RMS normalisation.

use burn::tensor::Tensor;
use burn_flex::FlexTensor;

use super::custom::{Differentiable, Values, apply, is_ours, tensor};
use crate::cpu::norm::{self, Statistics};
use crate::simd::Level;

/// Layer normalisation over the last axis (Ba et al. 2016): `weight · (x − mean) / √(variance + eps) + bias`.
///
/// # Shapes
/// - `x` and output: `[.., width]`, `weight` and `bias`: `[width]`
#[must_use]
pub fn layer_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, bias: Tensor<1>, eps: f64) -> Tensor<D> {
    if !is_ours(&x) {
        return composed::layer_norm(x, weight, bias, eps);
    }
    run(vec![x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch()], eps)
}

/// RMS normalisation over the last axis (Zhang & Sennrich 2019): `weight · x / √(mean(x²) + eps)`.
///
/// # Shapes
/// - `x` and output: `[.., width]`, `weight`: `[width]`
#[must_use]
pub fn rms_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, eps: f64) -> Tensor<D> {
    if !is_ours(&x) {
        return composed::rms_norm(x, weight, eps);
    }
    run(vec![x.into_dispatch(), weight.into_dispatch()], eps)
}

fn run<const D: usize>(inputs: Vec<burn::backend::DispatchTensor>, eps: f64) -> Tensor<D> {
    apply(inputs, |inputs, keep| {
        let mut inputs = inputs.into_iter().map(Values::new);
        let mut next = || inputs.next().expect("two or three tensors");
        let (x, weight) = (next(), next());
        let bias = inputs.next();
        let centred = bias.is_some();
        let bias = bias.as_ref().map(Values::get);
        let (y, statistics) = norm::forward(Level::best(), x.get(), weight.get(), bias, eps as f32);
        let shape = x.shape();
        (tensor(y, shape), keep.then(|| Norm { x, weight, statistics, centred }))
    })
}

#[derive(Debug, Clone)]
struct Norm {
    x: Values,
    weight: Values,
    statistics: Statistics,
    centred: bool,
}

impl Differentiable for Norm {
    const NAMES: [&'static str; 2] = ["norm", "norm backward"];

    fn backward(self, gradient: FlexTensor, _: &[bool]) -> Vec<Option<FlexTensor>> {
        let Self { x, weight, statistics, centred } = self;
        let dy = Values::new(gradient);
        let (dx, dweight, dbias) =
            norm::backward(Level::best(), x.get(), &statistics, weight.get(), centred, dy.get());
        vec![
            Some(tensor(dx, x.shape())),
            Some(tensor(dweight, weight.shape())),
            dbias.map(|dbias| tensor(dbias, weight.shape())),
        ]
    }
}

/// The same operations of Burn's own.
pub mod composed {
    use burn::tensor::Tensor;
    use burn::tensor::module;

    /// See [`super::layer_norm`].
    #[must_use]
    pub fn layer_norm<const D: usize>(
        x: Tensor<D>,
        weight: Tensor<1>,
        bias: Tensor<1>,
        eps: f64,
    ) -> Tensor<D> {
        module::layer_norm(x, weight, Some(bias), eps)
    }

    /// See [`super::rms_norm`].
    #[must_use]
    pub fn rms_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, eps: f64) -> Tensor<D> {
        let square = x.clone().square().mean_dim(D - 1);
        x / (square + eps).sqrt() * weight.unsqueeze()
    }
}
