//! Activation functions, as PyTorch defines them.

use burn::tensor::{Tensor, activation as burn_activation};
use jishi_kernels::Activation as Fused;
use jishi_recipe::Activation;

/// Constants of Klambauer et al. 2017, "Self-Normalizing Neural Networks", with PyTorch's digits.
const SELU_ALPHA: f64 = 1.673_263_242_354_377_2;
const SELU_SCALE: f64 = 1.050_700_987_355_480_5;

/// Applies an activation function to every element.
#[must_use]
pub fn activate<const D: usize>(activation: Activation, x: Tensor<D>) -> Tensor<D> {
    match activation {
        Activation::Identity => x,
        Activation::Sigmoid => burn_activation::sigmoid(x),
        Activation::Tanh => x.tanh(),
        Activation::Relu => burn_activation::relu(x),
        Activation::LeakyRelu => burn_activation::leaky_relu(x, 0.01),
        Activation::Elu => elu(x, 1.0),
        Activation::Selu => elu(x, SELU_ALPHA) * SELU_SCALE,
        Activation::Gelu => burn_activation::gelu(x),
        Activation::GeluTanh => {
            // √(2/π)·(x + 0.044715·x³), Hendrycks & Gimpel 2016
            let inner = (x.clone() * x.clone() * 0.044_715 + 1.0) * x.clone() * 0.797_884_560_802_865_4;
            (inner.tanh() + 1.0) * x * 0.5
        }
        Activation::Silu => burn_activation::sigmoid(x.clone()) * x,
        Activation::Mish => softplus(x.clone()).tanh() * x,
        Activation::Softplus => softplus(x),
        Activation::Softsign => x.clone() / (x.abs() + 1.0),
        Activation::HardSwish => (x.clone() / 6.0 + 0.5).clamp(0.0, 1.0) * x,
    }
}

/// The same function where a layer's matrix product can apply it in passing.
#[must_use]
pub fn fused(activation: Activation) -> Option<Fused> {
    match activation {
        Activation::Identity => Some(Fused::Identity),
        Activation::Relu => Some(Fused::Relu),
        Activation::Gelu => Some(Fused::Gelu),
        Activation::GeluTanh => Some(Fused::GeluTanh),
        Activation::Silu => Some(Fused::Silu),
        _ => None,
    }
}

/// x where it is positive, else α(exp(x) − 1). The exponential never sees a positive number, so that
/// neither it nor its gradient overflows.
fn elu<const D: usize>(x: Tensor<D>, alpha: f64) -> Tensor<D> {
    let negative = (x.clone().clamp_max(0.0).exp() - 1.0) * alpha;
    burn_activation::relu(x) + negative
}

/// ln(1 + exp(x)) = −ln(sigmoid(−x)), which neither overflows nor loses small values.
fn softplus<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    burn_activation::log_sigmoid(x.neg()).neg()
}
