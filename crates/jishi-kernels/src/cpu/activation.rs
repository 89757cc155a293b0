//! Activation functions and their slopes, as PyTorch defines them.

use crate::math::{erf, exp, sigmoid, tanh};
use crate::memory::buffer;
use crate::multiversion;
use crate::simd::{Level, madd};
use crate::threads::{SharedMut, parallel, parallel_chunks};

/// An activation function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Activation {
    /// x
    #[default]
    Identity,
    /// max(x, 0)
    Relu,
    /// x·Φ(x) (Hendrycks & Gimpel 2016)
    Gelu,
    /// Its approximation by tanh, as GPT-2 has it.
    GeluTanh,
    /// x·σ(x) (Elfwing et al. 2018)
    Silu,
}

const SQRT_2_OVER_PI: f32 = 0.797_884_6;
const CUBE: f32 = 0.044_715;

impl Activation {
    /// The function's value.
    #[inline(always)]
    #[must_use]
    pub fn value<const FMA: bool>(self, x: f32) -> f32 {
        match self {
            Self::Identity => x,
            // Not `max`, which would lose NaN.
            Self::Relu => {
                if x < 0.0 {
                    0.0
                } else {
                    x
                }
            }
            Self::Gelu => 0.5 * x * (1.0 + erf::<FMA>(x * std::f32::consts::FRAC_1_SQRT_2)),
            Self::GeluTanh => {
                let inner = SQRT_2_OVER_PI * x * madd::<FMA>(CUBE * x, x, 1.0);
                0.5 * x * (1.0 + tanh::<FMA>(inner))
            }
            Self::Silu => x * sigmoid::<FMA>(x),
        }
    }

    /// The function's slope at `x`.
    #[inline(always)]
    #[must_use]
    pub fn slope<const FMA: bool>(self, x: f32) -> f32 {
        match self {
            Self::Identity => 1.0,
            Self::Relu => {
                if x > 0.0 {
                    1.0
                } else {
                    0.0
                }
            }
            Self::Gelu => {
                let phi = 0.5 * (1.0 + erf::<FMA>(x * std::f32::consts::FRAC_1_SQRT_2));
                madd::<FMA>(x * 0.398_942_3, exp::<FMA>(-0.5 * x * x), phi)
            }
            Self::GeluTanh => {
                let t = tanh::<FMA>(SQRT_2_OVER_PI * x * madd::<FMA>(CUBE * x, x, 1.0));
                let inner = SQRT_2_OVER_PI * madd::<FMA>(3.0 * CUBE * x, x, 1.0);
                0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * inner
            }
            Self::Silu => {
                let s = sigmoid::<FMA>(x);
                s * (1.0 + x * (1.0 - s))
            }
        }
    }
}

/// Values a task.
const CHUNK: usize = 1 << 14;

/// The function of every value.
#[must_use]
pub fn forward(level: Level, activation: Activation, x: &[f32]) -> Vec<f32> {
    let mut y = buffer(x.len());
    parallel_chunks(&mut y, CHUNK, |task, y| values(level, activation, &x[task * CHUNK..][..y.len()], y));
    y
}

/// The gradient of the function's input from that of its output.
#[must_use]
pub fn backward(level: Level, activation: Activation, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let mut dx = buffer(x.len());
    parallel_chunks(&mut dx, CHUNK, |task, dx| {
        let at = task * CHUNK;
        slopes(level, activation, &x[at..][..dx.len()], &dy[at..][..dx.len()], dx);
    });
    dx
}

/// `function(gate) · x`: with SiLU the SwiGLU pair (Shazeer 2020, equation 6).
#[must_use]
pub fn gated_forward(level: Level, activation: Activation, gate: &[f32], x: &[f32]) -> Vec<f32> {
    let mut y = buffer(x.len());
    parallel_chunks(&mut y, CHUNK, |task, y| {
        let at = task * CHUNK;
        gated_values(level, activation, &gate[at..][..y.len()], &x[at..][..y.len()], y);
    });
    y
}

/// Gradients of the gate and of the other factor.
#[must_use]
pub fn gated_backward(
    level: Level,
    activation: Activation,
    gate: &[f32],
    x: &[f32],
    dy: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    let (mut dgate, mut dx) = (buffer(x.len()), buffer(x.len()));
    let (gates, others) = (SharedMut::new(&mut dgate), SharedMut::new(&mut dx));
    parallel(x.len().div_ceil(CHUNK), |task| {
        let (at, len) = (task * CHUNK, CHUNK.min(x.len() - task * CHUNK));
        // SAFETY: chunks of different tasks do not overlap.
        let (dgate, dx) = unsafe { (gates.slice(at, len), others.slice(at, len)) };
        gated_slopes(level, activation, &gate[at..][..len], &x[at..][..len], &dy[at..][..len], dgate, dx);
    });
    (dgate, dx)
}

/// One loop for each function, so that none asks which in its loop.
macro_rules! for_each_activation {
    ($activation:ident, |$a:ident| $body:expr) => {
        match $activation {
            Activation::Identity => {
                let $a = Activation::Identity;
                $body
            }
            Activation::Relu => {
                let $a = Activation::Relu;
                $body
            }
            Activation::Gelu => {
                let $a = Activation::Gelu;
                $body
            }
            Activation::GeluTanh => {
                let $a = Activation::GeluTanh;
                $body
            }
            Activation::Silu => {
                let $a = Activation::Silu;
                $body
            }
        }
    };
}
pub(crate) use for_each_activation;

multiversion! {
    /// `y = f(x)`.
    pub fn values(activation: Activation, x: &[f32], y: &mut [f32]) {
        for_each_activation!(activation, |a| for (x, y) in x.iter().zip(y) {
            *y = a.value::<FMA>(*x);
        });
    }

    /// `dx = f'(x) · dy`.
    pub fn slopes(activation: Activation, x: &[f32], dy: &[f32], dx: &mut [f32]) {
        for_each_activation!(activation, |a| for ((x, dy), dx) in x.iter().zip(dy).zip(dx) {
            *dx = a.slope::<FMA>(*x) * dy;
        });
    }

    pub(super) fn gated_values(activation: Activation, gate: &[f32], x: &[f32], y: &mut [f32]) {
        for_each_activation!(activation, |a| for ((g, x), y) in gate.iter().zip(x).zip(y) {
            *y = a.value::<FMA>(*g) * x;
        });
    }

    fn gated_slopes(activation: Activation, gate: &[f32], x: &[f32], dy: &[f32], dgate: &mut [f32], dx: &mut [f32]) {
        let n = gate.len();
        let (x, dy, dgate, dx) = (&x[..n], &dy[..n], &mut dgate[..n], &mut dx[..n]);
        for_each_activation!(activation, |a| for i in 0..n {
            dgate[i] = a.slope::<FMA>(gate[i]) * x[i] * dy[i];
            dx[i] = a.value::<FMA>(gate[i]) * dy[i];
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Activation; 5] =
        [Activation::Identity, Activation::Relu, Activation::Gelu, Activation::GeluTanh, Activation::Silu];

    fn exact(activation: Activation, x: f64) -> f64 {
        match activation {
            Activation::Identity => x,
            Activation::Relu => x.max(0.0),
            Activation::GeluTanh => {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
            }
            Activation::Silu => x / (1.0 + (-x).exp()),
            // Φ by Simpson's rule from 0.
            Activation::Gelu => {
                let density = |t: f64| (-0.5 * t * t).exp() / (2.0 * std::f64::consts::PI).sqrt();
                let (n, h) = (400, x / 400.0);
                let weight = |i: usize| if i == 0 || i == n { 1.0 } else { 2.0 * (1 + i % 2) as f64 };
                let area: f64 = (0..=n).map(|i| weight(i) * density(i as f64 * h)).sum::<f64>() * h / 3.0;
                x * (0.5 + area)
            }
        }
    }

    #[test]
    fn values_and_slopes_are_those_of_the_definitions() {
        let x: Vec<f32> = (-1001..1001).map(|i| i as f32 * 0.00731 + 1e-3).collect();
        let ones = vec![1.0; x.len()];
        for level in Level::available() {
            for activation in ALL {
                let (y, dx) = (forward(level, activation, &x), backward(level, activation, &x, &ones));
                for i in 0..x.len() {
                    let z = f64::from(x[i]);
                    let slope = (exact(activation, z + 1e-5) - exact(activation, z - 1e-5)) / 2e-5;
                    assert!((f64::from(y[i]) - exact(activation, z)).abs() < 2e-6, "{activation:?} {z}");
                    assert!((f64::from(dx[i]) - slope).abs() < 4e-6, "{activation:?} {z} {} {slope}", dx[i]);
                }
            }
        }
    }

    #[test]
    fn extremes_stay_finite_and_nan_stays() {
        for level in Level::available() {
            for activation in ALL {
                let y = forward(level, activation, &[1e30, -1e30, f32::NAN, 0.0]);
                assert!(
                    y[0] == 1e30 && (y[1] == 0.0 || activation == Activation::Identity),
                    "{activation:?} {y:?}"
                );
                assert!(y[2].is_nan() && y[3] == 0.0, "{activation:?} {y:?}");
            }
        }
    }

    #[test]
    fn gates_are_products() {
        let gate: Vec<f32> = (0..40_001).map(|i| (i % 97) as f32 * 0.1 - 5.0).collect();
        let x: Vec<f32> = (0..40_001).map(|i| (i % 89) as f32 * 0.05 - 2.0).collect();
        for level in Level::available() {
            let y = gated_forward(level, Activation::Silu, &gate, &x);
            let (dgate, dx) = gated_backward(level, Activation::Silu, &gate, &x, &gate);
            let (value, slope) =
                (forward(level, Activation::Silu, &gate), backward(level, Activation::Silu, &gate, &gate));
            for i in 0..x.len() {
                assert!((y[i] - value[i] * x[i]).abs() < 1e-5);
                assert!(
                    (dgate[i] - slope[i] * x[i]).abs() < 1e-4 && (dx[i] - value[i] * gate[i]).abs() < 1e-4
                );
            }
        }
    }
}
