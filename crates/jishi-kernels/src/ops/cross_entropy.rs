//! Softmax cross-entropy, alone and together with the layer that makes the logits.

use burn::tensor::{Int, Tensor};
use burn_flex::FlexTensor;

use super::custom::{Differentiable, Values, apply, indices, is_ours, is_tracked, tensor};
use crate::cpu::cross_entropy::{self, Layout, Options};
use crate::cpu::gemm::Precision;
use crate::cpu::linear::{Kept, Matrix};
use crate::simd::Level;

/// Sum of the cross-entropies of rows, divided by the caller as the loss needs it.
///
/// # Shapes
/// - `logits`: `[rows, classes]`, `targets`: `[rows]`
/// - output: `[1]`
///
/// # Panics
/// When a target that counts is no class.
#[must_use]
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>, options: Options) -> Tensor<1> {
    if !is_ours(&logits) {
        return composed::cross_entropy(logits, targets, options);
    }
    let targets = indices(targets);
    let [_, classes] = logits.dims();
    apply(vec![logits.into_dispatch()], |mut inputs, keep| {
        let logits = Values::new(inputs.remove(0));
        let (loss, gradient, _) =
            cross_entropy::cross_entropy(Level::best(), logits.get(), &targets, classes, options);
        let gradient = keep.then(|| Scaled { gradients: vec![Some(tensor(gradient, logits.shape()))] });
        (tensor(vec![loss], [1]), gradient)
    })
}

/// [`cross_entropy`] of `x · weight`, where the logits are never in memory all at once.
///
/// # Shapes
/// - `x`: `[rows, width]`, `weight`: `[width, classes]`, or `[classes, width]` as `layout` says, `targets`: `[rows]`
/// - output: `[1]`
///
/// # Panics
/// When a target that counts is no class.
#[must_use]
pub fn linear_cross_entropy(
    x: Tensor<2>,
    weight: Tensor<2>,
    layout: Layout,
    targets: Tensor<1, Int>,
    options: Options,
    precision: Precision,
) -> Tensor<1> {
    if !is_ours(&x) {
        return composed::linear_cross_entropy(x, weight, layout, targets, options, precision);
    }
    let targets = indices(targets);
    let [rows, width] = x.dims();
    let dims = weight.dims();
    let classes = if layout == Layout::InOut { dims[1] } else { dims[0] };
    let wants_weight = is_tracked(&weight);
    apply(vec![x.into_dispatch(), weight.into_dispatch()], |mut inputs, keep| {
        let (weight, x) = (Values::new(inputs.remove(1)), Values::new(inputs.remove(0)));
        let level = Level::best();
        let rounded = (precision == Precision::Bf16).then(|| Kept::rounded(level, x.get()));
        let matrix = rounded.as_ref().map_or(Matrix::F32(x.get()), Kept::matrix);
        let found = cross_entropy::linear_cross_entropy(
            level,
            precision,
            matrix,
            weight.get(),
            layout,
            &targets,
            [width, classes],
            options,
            wants_weight,
        );
        let gradients = keep.then(|| Scaled {
            gradients: vec![
                Some(tensor(found.dx, [rows, width])),
                wants_weight.then(|| tensor(found.dweight, dims)),
            ],
        });
        (tensor(vec![found.loss], [1]), gradients)
    })
}

/// Gradients that were found with the loss; the upstream gradient, one number, multiplies them.
#[derive(Debug, Clone)]
struct Scaled {
    gradients: Vec<Option<FlexTensor>>,
}

impl Differentiable for Scaled {
    const NAMES: [&'static str; 2] = ["cross-entropy", "cross-entropy backward"];

    fn backward(self, gradient: FlexTensor, wanted: &[bool]) -> Vec<Option<FlexTensor>> {
        let scale = Values::new(gradient).get()[0];
        let scaled = |mut gradient: FlexTensor| {
            if scale != 1.0 {
                let values = gradient.storage_mut::<f32>();
                crate::threads::parallel_chunks(values, 1 << 15, |_, values| {
                    values.iter_mut().for_each(|v| *v *= scale);
                });
            }
            gradient
        };
        self.gradients.into_iter().zip(wanted).map(|(g, wanted)| g.filter(|_| *wanted).map(scaled)).collect()
    }
}

/// The same operations of Burn's own.
pub mod composed {
    use burn::tensor::activation::log_softmax;
    use burn::tensor::{Int, Tensor, TensorData};

    use super::super::linear::{Linear, composed::linear};
    use super::{Layout, Options, Precision, indices};

    /// See [`super::cross_entropy`].
    #[must_use]
    pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>, options: Options) -> Tensor<1> {
        let [rows, classes] = logits.dims();
        let spread = options.label_smoothing / classes as f32;
        let mut shares = vec![0.0f32; rows * classes];
        for (row, target) in indices(targets).into_iter().enumerate() {
            if Some(target) != options.ignore_index {
                let row = &mut shares[row * classes..][..classes];
                row.fill(spread);
                row[target as usize] += 1.0 - options.label_smoothing;
            }
        }
        let shares =
            Tensor::<2>::from_data(TensorData::new(shares, [rows, classes]), &logits.device().inner());
        -(log_softmax(logits, 1) * shares).sum()
    }

    /// See [`super::linear_cross_entropy`].
    #[must_use]
    pub fn linear_cross_entropy(
        x: Tensor<2>,
        weight: Tensor<2>,
        layout: Layout,
        targets: Tensor<1, Int>,
        options: Options,
        precision: Precision,
    ) -> Tensor<1> {
        let weight = if layout == Layout::InOut { weight } else { weight.transpose() };
        cross_entropy(linear(x, weight, Linear { precision, ..Linear::default() }), targets, options)
    }
}
