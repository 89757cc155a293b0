//! Grids of another size: each value of the result is a fixed sum of values of the input, so that a resampling is a
//! product with a constant matrix, and its gradient too.

use burn::tensor::{Device, Tensor, TensorData};

/// The slope of the cubic kernel of PyTorch's `interpolate(mode = "bicubic")`.
const A: f64 = -0.75;

/// How values of one axis are sums of those of another, `[new, old]` row-major.
fn product([rows, columns]: [&[f32]; 2], [new, old]: [[usize; 2]; 2]) -> Vec<f32> {
    let mut matrix = Vec::with_capacity(new[0] * new[1] * old[0] * old[1]);
    for i in 0..new[0] {
        for j in 0..new[1] {
            for h in 0..old[0] {
                let row = rows[i * old[0] + h];
                matrix.extend((0..old[1]).map(|w| row * columns[j * old[1] + w]));
            }
        }
    }
    matrix
}

fn grid(axis: fn(usize, usize) -> Vec<f32>, old: [usize; 2], new: [usize; 2], device: &Device) -> Tensor<2> {
    let (rows, columns) = (axis(old[0], new[0]), axis(old[1], new[1]));
    let values = product([&rows, &columns], [new, old]);
    Tensor::from_data(TensorData::new(values, [new[0] * new[1], old[0] * old[1]]), device)
}

/// Bicubic interpolation of a grid (Keys 1981, with a = −0.75), as PyTorch's without aligned corners.
///
/// # Shapes
/// - output: `[new height · new width, old height · old width]`
#[must_use]
pub fn bicubic(old: [usize; 2], new: [usize; 2], device: &Device) -> Tensor<2> {
    grid(bicubic_axis, old, new, device)
}

/// Adaptive average pooling of a grid: cell i is the mean of pixels `⌊i · old / new⌋` to `⌈(i + 1) · old / new⌉`.
///
/// # Shapes
/// As [`bicubic`].
#[must_use]
pub fn adaptive_average(old: [usize; 2], new: [usize; 2], device: &Device) -> Tensor<2> {
    grid(average_axis, old, new, device)
}

fn bicubic_axis(old: usize, new: usize) -> Vec<f32> {
    let mut matrix = vec![0.0; old * new];
    for i in 0..new {
        let place = (i as f64 + 0.5) * old as f64 / new as f64 - 0.5;
        let first = place.floor();
        let t = place - first;
        let near = |d: f64| ((A + 2.0) * d - (A + 3.0)) * d * d + 1.0;
        let far = |d: f64| ((A * d - 5.0 * A) * d + 8.0 * A) * d - 4.0 * A;
        for (k, weight) in [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)].into_iter().enumerate() {
            let from = (first as i64 + k as i64 - 1).clamp(0, old as i64 - 1) as usize;
            matrix[i * old + from] += weight as f32;
        }
    }
    matrix
}

fn average_axis(old: usize, new: usize) -> Vec<f32> {
    let mut matrix = vec![0.0; old * new];
    for i in 0..new {
        let (first, end) = (i * old / new, ((i + 1) * old).div_ceil(new));
        matrix[i * old + first..i * old + end].fill(1.0 / (end - first) as f32);
    }
    matrix
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-6), "{found:?}");
    }

    /// The numbers are PyTorch's: `interpolate` and `adaptive_avg_pool1d` of unit vectors.
    #[test]
    fn weights_are_those_of_pytorch() {
        close(
            &bicubic_axis(3, 5),
            &[
                1.096, -0.096, 0.0, 0.612, 0.46, -0.072, 0.0, 1.0, 0.0, -0.072, 0.46, 0.612, 0.0, -0.096,
                1.096,
            ],
        );
        close(&average_axis(4, 3), &[0.5, 0.5, 0.0, 0.0, 0.0, 0.5, 0.5, 0.0, 0.0, 0.0, 0.5, 0.5]);
        close(&average_axis(1, 3), &[1.0; 3]);
    }

    #[test]
    fn the_same_size_is_the_identity() {
        let values = |t: Tensor<2>| t.into_data().try_to_vec::<f32>().expect("f32");
        let (size, device) = ([2, 3], Device::flex());
        let identity: Vec<f32> = (0..36).map(|i| if i % 7 == 0 { 1.0 } else { 0.0 }).collect();
        assert_eq!(values(bicubic(size, size, &device)), identity);
        assert_eq!(values(adaptive_average(size, size, &device)), identity);
    }
}
