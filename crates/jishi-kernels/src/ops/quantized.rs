//! Dense layers whose weight is bytes: frozen, and a quarter of the memory (as the 8-bit base of Dettmers et al. 2023,
//! "QLoRA", with whole columns instead of blocks). A layer is dequantised when it is used and kept as bytes alone.

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use burn_flex::FlexTensor;

use super::custom::{Differentiable, Values, apply, is_ours, tensor};
use super::linear::{Linear, composed};
use crate::cpu::activation::Activation;
use crate::cpu::gemm::Precision;
use crate::cpu::linear::{self, Epilogue, Matrix, Wanted};
use crate::memory::buffer;
use crate::simd::Level;
use crate::threads::parallel_chunks;

/// A matrix of whole numbers in ±127 with a scale for each output.
#[derive(Debug, Clone, PartialEq)]
pub struct Int8Matrix {
    /// `[in, out]`
    values: Vec<i8>,
    /// `[out]`
    scales: Vec<f32>,
}

impl Int8Matrix {
    /// Rounds a matrix `[in, out]` to whole numbers: the largest of a column becomes ±127.
    #[must_use]
    pub fn new(weight: &[f32], outputs: usize) -> Self {
        let mut scales = vec![0.0f32; outputs];
        for row in weight.chunks_exact(outputs.max(1)) {
            scales.iter_mut().zip(row).for_each(|(s, w)| *s = s.max(w.abs()));
        }
        scales.iter_mut().for_each(|s| *s /= 127.0);
        let byte = |w: f32, scale: f32| if scale > 0.0 { (w / scale).round() as i8 } else { 0 };
        let rows = weight.chunks_exact(outputs.max(1));
        let values = rows.flat_map(|row| row.iter().zip(&scales).map(|(w, s)| byte(*w, *s))).collect();
        Self { values, scales }
    }

    /// `[in, out]`
    #[must_use]
    pub fn dims(&self) -> [usize; 2] {
        [self.values.len() / self.scales.len().max(1), self.scales.len()]
    }

    /// As numbers again, `[in, out]`.
    #[must_use]
    pub fn dequantised(&self) -> Vec<f32> {
        let outputs = self.scales.len().max(1);
        let rows = (1usize << 15).div_ceil(outputs);
        let mut out = buffer(self.values.len());
        parallel_chunks(&mut out, rows * outputs, |task, out| {
            let values = &self.values[task * rows * outputs..];
            for (out, values) in out.chunks_exact_mut(outputs).zip(values.chunks_exact(outputs)) {
                for ((o, v), s) in out.iter_mut().zip(values).zip(&self.scales) {
                    *o = f32::from(*v) * s;
                }
            }
        });
        out
    }
}

/// [`super::linear`] with a frozen weight of bytes. Its activation has to be the identity.
///
/// # Shapes
/// - `x`: `[.., in]`, output: `[.., out]`
///
/// # Panics
/// With an activation: a bug of the model.
#[must_use]
pub fn linear_int8<const D: usize>(x: Tensor<D>, weight: &Arc<Int8Matrix>, with: Linear<D>) -> Tensor<D> {
    assert_eq!(with.activation, Activation::Identity, "an activation of a layer of bytes");
    let [inputs, outputs] = weight.dims();
    if !is_ours(&x) {
        let data = TensorData::new(weight.dequantised(), [inputs, outputs]);
        let weight = Tensor::from_data(data, &x.device().inner());
        return composed::linear(x, weight, with);
    }
    let Linear { bias, residual, precision, .. } = with;
    let (has_bias, has_residual) = (bias.is_some(), residual.is_some());
    let mut given = vec![x.into_dispatch()];
    given.extend(bias.map(Tensor::into_dispatch));
    given.extend(residual.map(Tensor::into_dispatch));
    apply(given, |given, keep| {
        let mut given = given.into_iter().map(Values::new);
        let mut next = || given.next().expect("as many tensors as were given");
        let x = next();
        let bias = has_bias.then(&mut next);
        let residual = has_residual.then(&mut next);
        let mut shape = x.shape();
        let rows = x.get().len() / inputs.max(1);
        let epilogue = Epilogue {
            bias: bias.as_ref().map(Values::get),
            activation: Activation::Identity,
            residual: residual.as_ref().map(Values::get),
        };
        let (dims, matrix) = ([rows, inputs, outputs], Matrix::F32(x.get()));
        let numbers = weight.dequantised();
        let (y, _) = linear::forward(Level::best(), precision, dims, matrix, &numbers, epilogue, false);
        let kept = keep.then(|| Int8Step {
            weight: Arc::clone(weight),
            shape: shape.clone(),
            dims,
            precision,
            has_bias,
            has_residual,
        });
        shape[D - 1] = outputs;
        (tensor(y, shape), kept)
    })
}

#[derive(Debug, Clone)]
struct Int8Step {
    weight: Arc<Int8Matrix>,
    shape: burn::tensor::Shape,
    dims: [usize; 3],
    precision: Precision,
    has_bias: bool,
    has_residual: bool,
}

impl Differentiable for Int8Step {
    const NAMES: [&'static str; 2] = ["linear of bytes", "linear of bytes backward"];

    fn backward(self, gradient: FlexTensor, wanted: &[bool]) -> Vec<Option<FlexTensor>> {
        let dy = Values::new(gradient);
        let asked = Wanted { x: wanted[0], weight: false, bias: self.has_bias && wanted[1] };
        // The gradient of the input needs the weight alone, that of the bias nothing.
        let nothing = Matrix::F32(&[]);
        let numbers = if asked.x { self.weight.dequantised() } else { Vec::new() };
        let level = Level::best();
        let found = linear::backward(level, self.precision, self.dims, nothing, &numbers, dy.get(), asked);
        let mut gradients = vec![found.x.map(|dx| tensor(dx, self.shape))];
        if self.has_bias {
            gradients.push(found.bias.map(|db| tensor(db, [self.dims[2]])));
        }
        if self.has_residual {
            gradients.push(Some(dy.into_tensor()));
        }
        gradients
    }
}
