//! Dense layers with what comes after them, and the feed-forward pair of a Transformer.

use std::sync::Arc;

use burn::tensor::Tensor;
use burn_flex::FlexTensor;

use super::custom::{Differentiable, Values, apply, is_ours, tensor};
use crate::cpu::activation::Activation;
use crate::cpu::feed_forward::{self, FeedForwardShape, Parameters};
use crate::cpu::gemm::Precision;
use crate::cpu::linear::{self, Epilogue, Kept, Matrix, Wanted};
use crate::simd::Level;

/// What a linear layer computes besides the product.
#[derive(Debug, Clone, Default)]
pub struct Linear<const D: usize> {
    /// `[out]`
    pub bias: Option<Tensor<1>>,
    /// Applied to the product and bias.
    pub activation: Activation,
    /// `[.., out]`, added last.
    pub residual: Option<Tensor<D>>,
    /// How the product is computed.
    pub precision: Precision,
}

/// `activation(x · weight + bias) + residual`.
///
/// # Shapes
/// - `x`: `[.., in]`, `weight`: `[in, out]`
/// - output: `[.., out]`
#[must_use]
pub fn linear<const D: usize>(x: Tensor<D>, weight: Tensor<2>, with: Linear<D>) -> Tensor<D> {
    if !is_ours(&x) {
        return composed::linear(x, weight, with);
    }
    let Linear { bias, activation, residual, precision } = with;
    let (has_bias, has_residual) = (bias.is_some(), residual.is_some());
    let mut inputs = vec![x.into_dispatch(), weight.into_dispatch()];
    inputs.extend(bias.map(Tensor::into_dispatch));
    inputs.extend(residual.map(Tensor::into_dispatch));
    apply(inputs, |inputs, keep| {
        let mut inputs = inputs.into_iter().map(Values::new);
        let mut next = || inputs.next().expect("as many tensors as were given");
        let (x, weight) = (next(), next());
        let bias = has_bias.then(&mut next);
        let residual = has_residual.then(&mut next);
        let [inputs, outputs] = matrix_dims(&weight);
        let mut shape = x.shape();
        let rows = x.get().len() / inputs.max(1);
        shape[D - 1] = outputs;
        let level = Level::best();
        let x = Operand::new(level, precision, x, keep);
        let epilogue = Epilogue {
            bias: bias.as_ref().map(Values::get),
            activation,
            residual: residual.as_ref().map(Values::get),
        };
        let keep_z = keep && activation != Activation::Identity;
        let dims = [rows, inputs, outputs];
        let (y, z) = linear::forward(level, precision, dims, x.matrix(), weight.get(), epilogue, keep_z);
        let kept = keep.then(|| LinearStep {
            x,
            weight,
            z: z.map(Arc::new),
            activation,
            precision,
            dims,
            has_bias,
            has_residual,
        });
        (tensor(y, shape), kept)
    })
}

/// An input that is kept: itself, or its rounded copy.
#[derive(Debug, Clone)]
enum Operand {
    Itself(Values),
    Rounded(Arc<Kept>, burn::tensor::Shape),
}

impl Operand {
    /// In bfloat16 a kept input is rounded once, for this pass and the backward one.
    fn new(level: Level, precision: Precision, x: Values, keep: bool) -> Self {
        if precision == Precision::Bf16 && keep {
            let shape = x.shape();
            Self::Rounded(Arc::new(Kept::rounded(level, x.get())), shape)
        } else {
            Self::Itself(x)
        }
    }

    fn matrix(&self) -> Matrix<'_> {
        match self {
            Self::Itself(x) => Matrix::F32(x.get()),
            Self::Rounded(x, _) => x.matrix(),
        }
    }

    fn shape(&self) -> burn::tensor::Shape {
        match self {
            Self::Itself(x) => x.shape(),
            Self::Rounded(_, shape) => shape.clone(),
        }
    }
}

#[derive(Debug, Clone)]
struct LinearStep {
    x: Operand,
    weight: Values,
    z: Option<Arc<Kept>>,
    activation: Activation,
    precision: Precision,
    dims: [usize; 3],
    has_bias: bool,
    has_residual: bool,
}

impl Differentiable for LinearStep {
    const NAMES: [&'static str; 2] = ["linear", "linear backward"];

    fn backward(self, gradient: FlexTensor, wanted: &[bool]) -> Vec<Option<FlexTensor>> {
        let level = Level::best();
        let dy = Values::new(gradient);
        let dz = self.z.map(|z| linear::activation_gradient(level, self.activation, z.matrix(), dy.get()));
        let dz = dz.as_deref().unwrap_or(dy.get());
        let asked = Wanted { x: wanted[0], weight: wanted[1], bias: self.has_bias && wanted[2] };
        let found =
            linear::backward(level, self.precision, self.dims, self.x.matrix(), self.weight.get(), dz, asked);
        let outputs = self.dims[2];
        let mut gradients = vec![
            found.x.map(|dx| tensor(dx, self.x.shape())),
            found.weight.map(|dw| tensor(dw, self.weight.shape())),
        ];
        if self.has_bias {
            gradients.push(found.bias.map(|db| tensor(db, [outputs])));
        }
        if self.has_residual {
            gradients.push(Some(dy.into_tensor()));
        }
        gradients
    }
}

/// `activation(x · w1 + b1) · w2 + b2 + residual`: the feed-forward pair (Vaswani et al. 2017, §3.3). The values in
/// between are computed again in the backward pass instead of kept.
///
/// # Shapes
/// - `x`, `residual` and output: `[.., width]`
/// - `w1`: `[width, hidden]`, `b1`: `[hidden]`, `w2`: `[hidden, width]`, `b2`: `[width]`
#[must_use]
pub fn feed_forward<const D: usize>(
    x: Tensor<D>,
    [w1, w2]: [Tensor<2>; 2],
    [b1, b2]: [Tensor<1>; 2],
    residual: Tensor<D>,
    activation: Activation,
    precision: Precision,
) -> Tensor<D> {
    if !is_ours(&x) {
        return composed::feed_forward(x, [w1, w2], [b1, b2], residual, activation, precision);
    }
    let inputs = vec![
        x.into_dispatch(),
        w1.into_dispatch(),
        b1.into_dispatch(),
        w2.into_dispatch(),
        b2.into_dispatch(),
        residual.into_dispatch(),
    ];
    apply(inputs, |inputs, keep| {
        let mut inputs = inputs.into_iter().map(Values::new);
        let [x, w1, b1, w2, b2, residual] = std::array::from_fn(|_| inputs.next().expect("six tensors"));
        let [width, hidden] = matrix_dims(&w1);
        let shape = x.shape();
        let rows = x.get().len() / width.max(1);
        let level = Level::best();
        let x = Operand::new(level, precision, x, keep);
        let ff = FeedForwardShape { rows, width, hidden };
        let parameters = Parameters { w1: w1.get(), b1: b1.get(), w2: w2.get(), b2: b2.get() };
        let matrix = x.matrix();
        let (y, z) =
            feed_forward::forward(level, precision, ff, activation, matrix, parameters, residual.get(), keep);
        let kept = z.map(|z| FeedForwardStep { x, z: Arc::new(z), w1, w2, activation, precision });
        (tensor(y, shape), kept)
    })
}

#[derive(Debug, Clone)]
struct FeedForwardStep {
    x: Operand,
    z: Arc<Kept>,
    w1: Values,
    w2: Values,
    activation: Activation,
    precision: Precision,
}

impl Differentiable for FeedForwardStep {
    const NAMES: [&'static str; 2] = ["feed-forward", "feed-forward backward"];

    fn backward(self, gradient: FlexTensor, wanted: &[bool]) -> Vec<Option<FlexTensor>> {
        let [width, hidden] = matrix_dims(&self.w1);
        let dy = Values::new(gradient);
        let shape = FeedForwardShape { rows: dy.get().len() / width.max(1), width, hidden };
        let found = feed_forward::backward(
            Level::best(),
            self.precision,
            shape,
            self.activation,
            self.x.matrix(),
            self.z.matrix(),
            self.w1.get(),
            self.w2.get(),
            dy.get(),
            [wanted[0], wanted[1], wanted[3]],
        );
        vec![
            found.first.x.map(|dx| tensor(dx, self.x.shape())),
            found.first.weight.map(|dw| tensor(dw, self.w1.shape())),
            found.first.bias.map(|db| tensor(db, [hidden])),
            found.second.weight.map(|dw| tensor(dw, self.w2.shape())),
            found.second.bias.map(|db| tensor(db, [width])),
            Some(dy.into_tensor()),
        ]
    }
}

fn matrix_dims(matrix: &Values) -> [usize; 2] {
    let shape = matrix.shape();
    [shape[0], shape[1]]
}

/// The same operations of Burn's own.
pub mod composed {
    use burn::tensor::{DType, Tensor, activation as burn_activation, module};

    use super::{Activation, Linear, Precision};

    /// Rounds to bfloat16 and back where the precision asks for it.
    fn rounded<const D: usize>(x: Tensor<D>, precision: Precision) -> Tensor<D> {
        match precision {
            Precision::F32 => x,
            Precision::Bf16 => x.cast(DType::BF16).cast(DType::F32),
        }
    }

    /// An activation function.
    #[must_use]
    pub fn activate<const D: usize>(activation: Activation, x: Tensor<D>) -> Tensor<D> {
        match activation {
            Activation::Identity => x,
            Activation::Relu => burn_activation::relu(x),
            Activation::Gelu => burn_activation::gelu(x),
            Activation::GeluTanh => {
                let inner = (x.clone() * x.clone() * 0.044_715 + 1.0) * x.clone() * 0.797_884_560_802_865_4;
                (inner.tanh() + 1.0) * x * 0.5
            }
            Activation::Silu => burn_activation::sigmoid(x.clone()) * x,
        }
    }

    /// See [`super::linear`].
    #[must_use]
    pub fn linear<const D: usize>(x: Tensor<D>, weight: Tensor<2>, with: Linear<D>) -> Tensor<D> {
        let Linear { bias, activation, residual, precision } = with;
        let y = module::linear(rounded(x, precision), rounded(weight, precision), bias);
        let y = activate(activation, y);
        match residual {
            Some(residual) => y + residual,
            None => y,
        }
    }

    /// See [`super::feed_forward`].
    #[must_use]
    pub fn feed_forward<const D: usize>(
        x: Tensor<D>,
        [w1, w2]: [Tensor<2>; 2],
        [b1, b2]: [Tensor<1>; 2],
        residual: Tensor<D>,
        activation: Activation,
        precision: Precision,
    ) -> Tensor<D> {
        let first = Linear { bias: Some(b1), activation, residual: None, precision };
        let second =
            Linear { bias: Some(b2), activation: Activation::Identity, residual: Some(residual), precision };
        linear(linear(x, w1, first), w2, second)
    }
}
