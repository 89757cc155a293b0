//! How far made images are from real ones, by features of both; equal to reference implementations on stored features
//! (`tests/fixtures/fid.py`).

use super::eigen::Eigen;

/// Images of a block of [`kid`], as in the paper.
const BLOCK: usize = 1000;

/// Features of images, row-major.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Features {
    /// Values of an image.
    pub width: usize,
    /// `[images, width]`
    pub values: Vec<f32>,
}

impl Features {
    /// Images.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len() / self.width.max(1)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Those of the first images, at most so many.
    #[must_use]
    pub fn first(&self, images: usize) -> Self {
        Self { width: self.width, values: self.values[..images.min(self.len()) * self.width].to_vec() }
    }

    fn rows(&self) -> impl Iterator<Item = Vec<f64>> {
        self.values.chunks_exact(self.width.max(1)).map(|row| row.iter().map(|v| f64::from(*v)).collect())
    }
}

/// Mean and covariance of features.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// `[width]`
    mean: Vec<f64>,
    /// Unbiased, `[width, width]`
    covariance: Vec<f64>,
}

impl Moments {
    /// Of two or more images.
    #[must_use]
    pub fn of(features: &Features) -> Self {
        let (n, width) = (features.len(), features.width);
        let mut mean = vec![0.0; width];
        for row in features.rows() {
            mean.iter_mut().zip(&row).for_each(|(m, v)| *m += v / n as f64);
        }
        let mut covariance = vec![0.0; width * width];
        let share = 1.0 / (n as f64 - 1.0).max(1.0);
        for row in features.rows() {
            let from: Vec<f64> = row.iter().zip(&mean).map(|(v, m)| v - m).collect();
            for (i, line) in covariance.chunks_exact_mut(width).enumerate() {
                let scale = from[i] * share;
                line[i..].iter_mut().zip(&from[i..]).for_each(|(c, v)| *c += scale * v);
            }
        }
        for i in 0..width {
            for j in 0..i {
                covariance[i * width + j] = covariance[j * width + i];
            }
        }
        Self { mean, covariance }
    }
}

/// Fréchet distance of two normal distributions (Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule",
/// equation 6): `‖μ₁ − μ₂‖² + tr(C₁ + C₂ − 2 (C₁ C₂)^½)`. The trace of the root is the sum of the roots of the eigenvalues of
/// `C₁^½ C₂ C₁^½`, which is symmetric.
///
/// # Panics
/// Features of different widths.
#[must_use]
pub fn fid(a: &Moments, b: &Moments) -> f64 {
    let n = a.mean.len();
    assert_eq!(n, b.mean.len(), "features of one model");
    let apart: f64 = a.mean.iter().zip(&b.mean).map(|(a, b)| (a - b).powi(2)).sum();
    let trace = |m: &Moments| (0..n).map(|i| m.covariance[i * n + i]).sum::<f64>();
    let root = Eigen::new(a.covariance.clone(), n).square_root();
    let mut between = product(&product(&root, &b.covariance, n), &root, n);
    // Rounding makes it a little lopsided.
    for i in 0..n {
        for j in 0..i {
            let mean = (between[i * n + j] + between[j * n + i]) / 2.0;
            (between[i * n + j], between[j * n + i]) = (mean, mean);
        }
    }
    let roots: f64 = Eigen::new(between, n).values.iter().map(|v| v.max(0.0).sqrt()).sum();
    apart + trace(a) + trace(b) - 2.0 * roots
}

/// The product of two matrices `[n, n]`.
fn product(a: &[f64], b: &[f64], n: usize) -> Vec<f64> {
    let mut out = vec![0.0; n * n];
    for (row, of) in out.chunks_exact_mut(n.max(1)).zip(a.chunks_exact(n.max(1))) {
        for (scale, line) in of.iter().zip(b.chunks_exact(n)) {
            row.iter_mut().zip(line).for_each(|(o, v)| *o += scale * v);
        }
    }
    out
}

/// Kernel distance (Bińkowski et al. 2018, "Demystifying MMD GANs", §4): the unbiased squared maximum mean discrepancy with
/// the kernel `(x · y / width + 1)³`, mean over blocks of at most 1,000 images of each, one after another.
///
/// # Panics
/// Features of different widths; fewer than two images.
#[must_use]
pub fn kid(a: &Features, b: &Features) -> f64 {
    assert_eq!(a.width, b.width, "features of one model");
    let least = a.len().min(b.len());
    assert!(least > 1, "two images or more");
    let size = least.min(BLOCK);
    let blocks = least / size;
    let (a, b): (Vec<Vec<f64>>, Vec<Vec<f64>>) = (a.rows().collect(), b.rows().collect());
    let of = |i: usize| discrepancy(&a[i * size..(i + 1) * size], &b[i * size..(i + 1) * size]);
    (0..blocks).map(of).sum::<f64>() / blocks as f64
}

/// The unbiased squared discrepancy of two lists of the same length (Gretton et al. 2012, equation 4).
fn discrepancy(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    let kernel = |x: &[f64], y: &[f64]| (dot(x, y) / x.len() as f64 + 1.0).powi(3);
    let n = a.len() as f64;
    let within = |of: &[Vec<f64>]| -> f64 {
        (1..of.len()).map(|i| of[..i].iter().map(|y| kernel(&of[i], y)).sum::<f64>()).sum()
    };
    let across: f64 = a.iter().map(|x| b.iter().map(|y| kernel(x, y)).sum::<f64>()).sum();
    2.0 * (within(a) + within(b)) / (n * (n - 1.0)) - 2.0 * across / (n * n)
}

/// In eight sums, which a processor adds side by side.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use jishi_models::Rng;

    use super::*;

    fn features(n: usize, width: usize, shift: f32, seed: u64) -> Features {
        let mut rng = Rng::new(seed, 0);
        Features { width, values: (0..n * width).map(|_| rng.normal() + shift).collect() }
    }

    #[test]
    fn images_are_no_distance_from_themselves_and_farther_the_more_they_differ() {
        let real = features(300, 12, 0.0, 1);
        let moments = Moments::of(&real);
        assert!(fid(&moments, &moments).abs() < 1e-9);
        let far = |shift| {
            let other = features(300, 12, shift, 2);
            (fid(&moments, &Moments::of(&other)), kid(&real, &other))
        };
        let ((near, near_kid), (middle, middle_kid), (most, most_kid)) = (far(0.0), far(0.5), far(1.0));
        assert!(near < 1.0 && near < middle && middle < most, "{near} {middle} {most}");
        assert!(near_kid.abs() < 0.05 && near_kid < middle_kid && middle_kid < most_kid);
        // Of normal distributions with the same covariance: the squared distance of the means.
        assert!((most - 12.0).abs() < 2.0, "{most}");
    }

    #[test]
    fn fewer_images_than_values_still_have_a_distance() {
        let (a, b) = (features(5, 20, 0.0, 3), features(6, 20, 0.0, 4));
        let found = fid(&Moments::of(&a), &Moments::of(&b));
        assert!(found.is_finite() && found > 0.0);
        assert!((found - fid(&Moments::of(&b), &Moments::of(&a))).abs() < 1e-6);
    }

    #[test]
    fn blocks_are_measured_one_by_one() {
        let (a, b) = (features(2_500, 3, 0.0, 5), features(2_100, 3, 0.2, 6));
        let block = |of: &Features, i: usize| Features {
            width: 3,
            values: of.values[i * 3_000..(i + 1) * 3_000].to_vec(),
        };
        let mean = (kid(&block(&a, 0), &block(&b, 0)) + kid(&block(&a, 1), &block(&b, 1))) / 2.0;
        assert!((kid(&a, &b) - mean).abs() < 1e-12);
    }
}
