//! Losses, each as the **sum** of the weighted losses of a batch's examples.
//!
//! Divided by the sum of the weights they are PyTorch's with `reduction="mean"`; checked against it, values
//! and gradients, in `tests/it/losses.rs`.

use burn::tensor::activation::{log_sigmoid, log_softmax};
use burn::tensor::{Tensor, TensorData};

/// A loss with its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Loss {
    /// (prediction − target)²
    Mse,
    /// |prediction − target|
    Mae,
    /// ½d² where |d| ≤ δ, else δ(|d| − ½δ) (Huber 1964).
    Huber {
        /// δ, in scaled units.
        delta: f64,
    },
    /// −Σ target · log softmax(logits); class weights and label smoothing are in the target.
    CrossEntropy,
    /// Cross-entropy of one logit's sigmoid.
    BinaryCrossEntropy,
    /// Cross-entropy times (1 − p)^γ (Lin et al. 2017, equation 4).
    Focal {
        /// γ.
        gamma: f64,
    },
}

impl Loss {
    /// Sum over a batch.
    ///
    /// # Shapes
    /// - output: `[rows, 1]` for regression and binary cross-entropy, else `[rows, classes]`
    /// - target: the same; for the cross-entropies see [`class_target`] and [`binary_target`]
    /// - weight: `[rows, 1]`, for binary cross-entropy alone
    ///
    /// The result is `[1]`.
    #[must_use]
    pub fn sum(self, output: Tensor<2>, target: Tensor<2>, weight: Option<Tensor<2>>) -> Tensor<1> {
        match self {
            Self::Mse => {
                let d = output - target;
                (d.clone() * d).sum()
            }
            Self::Mae => (output - target).abs().sum(),
            Self::Huber { delta } => {
                let d = (output - target).abs();
                // |d| cut at δ is both branches' slope: c·|d| − ½c².
                let c = d.clone().clamp_max(delta);
                (c.clone() * d - c.clone() * c * 0.5).sum()
            }
            Self::CrossEntropy => -(log_softmax(output, 1) * target).sum(),
            Self::BinaryCrossEntropy => {
                // −y·ln σ(z) − (1 − y)·ln(1 − σ(z)) = (1 − y)·z − ln σ(z), which never overflows; its slope is
                // right at z = 0 too, where zero weights start.
                let loss = output.clone() * (-target + 1.0) - log_sigmoid(output);
                match weight {
                    Some(weight) => (loss * weight).sum(),
                    None => loss.sum(),
                }
            }
            Self::Focal { gamma } => {
                let log_p = log_softmax(output, 1);
                let rest = (log_p.clone().exp() * -1.0 + 1.0).clamp_min(0.0);
                let modulation = match gamma {
                    0.0 => return -(log_p * target).sum(),
                    1.0 => rest,
                    2.0 => rest.clone() * rest,
                    // A power's slope at zero is infinite for γ < 1.
                    _ => rest.clamp_min(1e-12).powf_scalar(gamma),
                };
                -(modulation * log_p * target).sum()
            }
        }
    }
}

/// Targets of a cross-entropy, row-major `[rows, classes]`: class weights times the smoothed one-hot target,
/// so that the sum of `−target · log p` is PyTorch's weighted, smoothed cross-entropy before its mean.
#[must_use]
pub fn class_target(classes: &[u32], weights: &[f32], smoothing: f64) -> TensorData {
    let n = weights.len();
    let spread = (smoothing / n as f64) as f32;
    let mut values = Vec::with_capacity(classes.len() * n);
    for class in classes {
        values.extend(weights.iter().enumerate().map(|(i, w)| {
            let hit = if i == *class as usize { (1.0 - smoothing) as f32 } else { 0.0 };
            w * (hit + spread)
        }));
    }
    TensorData::new(values, [classes.len(), n])
}

/// Targets and weights of a binary cross-entropy, each `[rows, 1]`.
#[must_use]
pub fn binary_target(classes: &[u32], weights: &[f32], smoothing: f64) -> (TensorData, TensorData) {
    let target = |c: &u32| f64::from(*c).mul_add(1.0 - smoothing, smoothing / 2.0) as f32;
    let targets: Vec<f32> = classes.iter().map(target).collect();
    let weights: Vec<f32> = classes.iter().map(|c| weights[*c as usize]).collect();
    let shape = [classes.len(), 1];
    (TensorData::new(targets, shape), TensorData::new(weights, shape))
}
