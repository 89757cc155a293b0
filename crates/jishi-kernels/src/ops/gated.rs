//! The product of a gate and a value.

use burn::tensor::Tensor;
use burn_flex::FlexTensor;

use super::custom::{Differentiable, Values, apply, is_ours, tensor};
use crate::cpu::activation::{self, Activation};
use crate::simd::Level;

/// `activation(gate) · x`: with SiLU the SwiGLU pair, with GELU the GEGLU pair (Shazeer 2020, equations 5 and 6).
///
/// # Shapes
/// - `gate`, `x` and output: the same
///
/// # Panics
/// Where the shapes differ: a bug of the model.
#[must_use]
pub fn gated<const D: usize>(gate: Tensor<D>, x: Tensor<D>, activation: Activation) -> Tensor<D> {
    assert_eq!(gate.dims(), x.dims(), "a gate of another shape");
    if !is_ours(&x) {
        return composed::gated(gate, x, activation);
    }
    apply(vec![gate.into_dispatch(), x.into_dispatch()], |inputs, keep| {
        let mut inputs = inputs.into_iter().map(Values::new);
        let [gate, x] = std::array::from_fn(|_| inputs.next().expect("two tensors"));
        let y = activation::gated_forward(Level::best(), activation, gate.get(), x.get());
        let shape = x.shape();
        (tensor(y, shape), keep.then(|| Gated { gate, x, activation }))
    })
}

#[derive(Debug, Clone)]
struct Gated {
    gate: Values,
    x: Values,
    activation: Activation,
}

impl Differentiable for Gated {
    const NAMES: [&'static str; 2] = ["gated", "gated backward"];

    fn backward(self, gradient: FlexTensor, _: &[bool]) -> Vec<Option<FlexTensor>> {
        let Self { gate, x, activation } = self;
        let dy = Values::new(gradient);
        let (dgate, dx) =
            activation::gated_backward(Level::best(), activation, gate.get(), x.get(), dy.get());
        vec![Some(tensor(dgate, gate.shape())), Some(tensor(dx, x.shape()))]
    }
}

/// The same operation of Burn's own.
pub mod composed {
    use burn::tensor::Tensor;

    use super::super::linear::composed::activate;
    use super::Activation;

    /// See [`super::gated`].
    #[must_use]
    pub fn gated<const D: usize>(gate: Tensor<D>, x: Tensor<D>, activation: Activation) -> Tensor<D> {
        activate(activation, gate) * x
    }
}
