//! Every fused operation against its composed twin, values and gradients.

mod attention;
mod cross_entropy;
mod embedding;
mod frozen;
mod gated;
mod linear;
mod norm;
mod rotary;
mod vision;

use burn::tensor::{Device, Tensor, TensorData};

/// Numbers of a fixed sequence, in ±`size`.
pub fn numbers(n: usize, seed: u32, size: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (f64::from(state) / f64::from(u32::MAX) * 2.0 - 1.0) as f32 * size
        })
        .collect()
}

/// A tensor that asks for gradients.
pub fn parameter<const D: usize>(shape: [usize; D], seed: u32) -> Tensor<D> {
    let values = numbers(shape.iter().product(), seed, 1.0);
    Tensor::from_data(TensorData::new(values, shape), &Device::flex().autodiff()).require_grad()
}

/// The values of a tensor.
pub fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.inner().into_data().try_to_vec::<f32>().expect("f32")
}

/// Whether two results agree within `tolerance` of their size, and NaN with NaN.
pub fn close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let size = expected.iter().filter(|v| v.is_finite()).fold(0.0f32, |a, v| a.max(v.abs())).max(1e-3);
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        let same = f == e || (f.is_nan() && e.is_nan()) || (f - e).abs() <= tolerance * size;
        assert!(same, "{what}: value {i} of {} is {f}, the twin's is {e}", found.len());
    }
}

/// An upstream gradient that differs from value to value.
pub fn weigh<const D: usize>(y: Tensor<D>) -> Tensor<1> {
    let shape = y.dims();
    let weights = numbers(shape.iter().product(), 77, 1.0);
    let weights = Tensor::from_data(TensorData::new(weights, shape), &Device::flex());
    (y * weights).sum()
}

/// Compares values and the gradients of these parameters. Each closure is given fresh parameters.
#[macro_export]
macro_rules! compare {
    ($what:expr, $tolerance:expr, [$($name:ident : $shape:expr),+], $fused:expr, $twin:expr) => {{
        let mut seed = 0;
        $( seed += 1; let $name = $crate::parameter($shape, seed); )+
        let fused = $fused($($name.clone()),+);
        let found = $crate::values(fused.clone());
        let mut gradients = $crate::weigh(fused).backward();
        let found_gradients = vec![$($name.grad_remove(&mut gradients).map(|g| g.into_data().try_to_vec::<f32>().expect("f32"))),+];
        seed = 0;
        $( seed += 1; let $name = $crate::parameter($shape, seed); )+
        let twin = $twin($($name.clone()),+);
        $crate::close(&found, &$crate::values(twin.clone()), $tolerance, &format!("{} values", $what));
        let mut gradients = $crate::weigh(twin).backward();
        let expected = vec![$((stringify!($name), $name.grad_remove(&mut gradients).map(|g| g.into_data().try_to_vec::<f32>().expect("f32")))),+];
        for (found, (name, expected)) in found_gradients.iter().zip(&expected) {
            match (found, expected) {
                (Some(f), Some(e)) => $crate::close(f, e, $tolerance, &format!("{} gradient of {name}", $what)),
                (None, None) => {}
                _ => panic!("{}: a gradient of {name} on one side alone", $what),
            }
        }
    }};
}
