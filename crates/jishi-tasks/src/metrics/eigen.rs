//! Eigenvalues and eigenvectors of symmetric matrices.

/// Rotations an eigenvalue may take; three are usual.
const MOST_ROTATIONS: usize = 60;

/// A symmetric matrix as eigenvalues and eigenvectors.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Eigen {
    /// Eigenvalues, in no order, `[n]`
    pub values: Vec<f64>,
    /// The eigenvector of each value as a row, `[n, n]`
    pub vectors: Vec<f64>,
}

impl Eigen {
    /// Of a symmetric matrix `[n, n]`, row-major: by reflections to three diagonals, then by implicit QR steps with
    /// Wilkinson's shift (Golub & Van Loan 2013, "Matrix Computations", §8.3).
    pub fn new(mut matrix: Vec<f64>, n: usize) -> Self {
        let (mut values, mut beside) = (vec![0.0; n], vec![0.0; n.saturating_sub(1)]);
        let mut vectors = tridiagonal(&mut matrix, n, &mut values, &mut beside);
        diagonal(&mut values, &mut beside, &mut vectors);
        Self { values, vectors }
    }

    /// The square root of a matrix without negative eigenvalues, `[n, n]`. Those that rounding made negative count as 0.
    pub fn square_root(&self) -> Vec<f64> {
        let n = self.values.len();
        let mut root = vec![0.0; n * n];
        for (value, vector) in self.values.iter().zip(self.vectors.chunks_exact(n.max(1))) {
            let scale = value.max(0.0).sqrt();
            for (row, a) in root.chunks_exact_mut(n).zip(vector) {
                add(row, scale * a, vector);
            }
        }
        root
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `into + scale · of`.
fn add(into: &mut [f64], scale: f64, of: &[f64]) {
    for (a, b) in into.iter_mut().zip(of) {
        *a += scale * b;
    }
}

/// Writes the diagonal and what is beside it of `Qᵀ · matrix · Q`, and gives `Qᵀ`.
fn tridiagonal(matrix: &mut [f64], n: usize, values: &mut [f64], beside: &mut [f64]) -> Vec<f64> {
    let mut reflections: Vec<Vec<f64>> = Vec::new();
    for k in 0..n {
        values[k] = matrix[k * n + k];
        let first = k + 1;
        if first >= n {
            break;
        }
        let mut v = matrix[k * n + first..(k + 1) * n].to_vec();
        let length = dot(&v, &v).sqrt();
        let image = if v[0] > 0.0 { -length } else { length };
        v[0] -= image;
        let of_v = dot(&v, &v).sqrt();
        beside[k] = image;
        if of_v == 0.0 {
            reflections.push(Vec::new());
            continue;
        }
        v.iter_mut().for_each(|x| *x /= of_v);
        // What is left, B, becomes B − v wᵀ − w vᵀ, with w = 2 (B v − (vᵀ B v) v).
        let mut w: Vec<f64> = (first..n).map(|i| dot(&matrix[i * n + first..(i + 1) * n], &v)).collect();
        let along = dot(&v, &w);
        w.iter_mut().zip(&v).for_each(|(w, v)| *w = 2.0 * (*w - along * v));
        for (i, row) in (first..n).enumerate() {
            let row = &mut matrix[row * n + first..(row + 1) * n];
            add(row, -v[i], &w);
            add(row, -w[i], &v);
        }
        reflections.push(v);
    }
    // Qᵀ is the product of all reflections, the last one leftmost.
    let mut vectors = vec![0.0; n * n];
    (0..n).for_each(|i| vectors[i * n + i] = 1.0);
    for (k, v) in reflections.iter().enumerate() {
        if v.is_empty() {
            continue;
        }
        let first = k + 1;
        let mut sums = vec![0.0; n];
        for (i, x) in v.iter().enumerate() {
            add(&mut sums, *x, &vectors[(first + i) * n..(first + i + 1) * n]);
        }
        for (i, x) in v.iter().enumerate() {
            add(&mut vectors[(first + i) * n..(first + i + 1) * n], -2.0 * x, &sums);
        }
    }
    vectors
}

/// Makes what is beside the diagonal vanish, turning the rows of `vectors` along.
fn diagonal(values: &mut [f64], beside: &mut [f64], vectors: &mut [f64]) {
    let n = values.len();
    let largest = values.iter().chain(beside.iter()).fold(0.0_f64, |most, v| most.max(v.abs()));
    let (mut end, mut left) = (n.saturating_sub(1), MOST_ROTATIONS * n);
    let small = |values: &[f64], beside: &[f64], i: usize| {
        let near = values[i].abs() + values[i + 1].abs();
        beside[i].abs() <= f64::EPSILON * near.max(largest * f64::EPSILON)
    };
    while end > 0 && left > 0 {
        let mut start = end;
        while start > 0 && !small(values, beside, start - 1) {
            start -= 1;
        }
        if start == end {
            end -= 1;
            continue;
        }
        left -= 1;
        let (half, last) = ((values[end - 1] - values[end]) / 2.0, beside[end - 1]);
        let shift = values[end] - last * last / (half + half.hypot(last).copysign(half));
        let (mut x, mut z) = (values[start] - shift, beside[start]);
        for k in start..end {
            let length = x.hypot(z);
            let (c, s) = if length == 0.0 { (1.0, 0.0) } else { (x / length, z / length) };
            if k > start {
                beside[k - 1] = length;
            }
            let (a, b, d) = (values[k], beside[k], values[k + 1]);
            values[k] = c * c * a + 2.0 * c * s * b + s * s * d;
            values[k + 1] = s * s * a - 2.0 * c * s * b + c * c * d;
            beside[k] = c * s * (d - a) + (c * c - s * s) * b;
            if k + 1 < end {
                z = s * beside[k + 1];
                beside[k + 1] *= c;
                x = beside[k];
            }
            let (upper, lower) = vectors[k * n..(k + 2) * n].split_at_mut(n);
            for (p, q) in upper.iter_mut().zip(lower) {
                (*p, *q) = (c * *p + s * *q, c * *q - s * *p);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jishi_models::Rng;

    use super::*;

    /// A symmetric matrix of random numbers, of which `rank` eigenvalues are not 0.
    fn matrix(n: usize, rank: usize, seed: u64) -> Vec<f64> {
        let mut rng = Rng::new(seed, 0);
        let mut matrix = vec![0.0; n * n];
        for _ in 0..rank {
            let v: Vec<f64> = (0..n).map(|_| f64::from(rng.normal())).collect();
            for (row, a) in matrix.chunks_exact_mut(n).zip(&v) {
                add(row, *a, &v);
            }
        }
        matrix
    }

    fn product(a: &[f64], b: &[f64], n: usize) -> Vec<f64> {
        let at = |i: usize, j: usize| (0..n).map(|k| a[i * n + k] * b[k * n + j]).sum();
        (0..n * n).map(|i| at(i / n, i % n)).collect()
    }

    #[test]
    fn vectors_are_turned_by_the_matrix_into_multiples_of_themselves() {
        for (n, rank) in [(1, 1), (2, 2), (3, 1), (17, 17), (40, 12), (5, 0)] {
            let of = matrix(n, rank, n as u64);
            let Eigen { values, vectors } = Eigen::new(of.clone(), n);
            for (i, value) in values.iter().enumerate() {
                let v = &vectors[i * n..(i + 1) * n];
                for (row, x) in of.chunks_exact(n).zip(v) {
                    assert!((dot(row, v) - value * x).abs() < 1e-10 * (1.0 + n as f64), "{n} {i}");
                }
                for j in 0..n {
                    let expected = if i == j { 1.0 } else { 0.0 };
                    assert!((dot(v, &vectors[j * n..(j + 1) * n]) - expected).abs() < 1e-11);
                }
            }
            assert_eq!(values.iter().filter(|v| v.abs() > 1e-9).count(), rank.min(n));
        }
    }

    #[test]
    fn the_square_root_times_itself_is_the_matrix() {
        let of = matrix(23, 9, 4);
        let root = Eigen::new(of.clone(), 23).square_root();
        for (a, b) in product(&root, &root, 23).iter().zip(&of) {
            assert!((a - b).abs() < 1e-9, "{a} {b}");
        }
    }

    #[test]
    fn a_matrix_that_is_diagonal_keeps_its_values() {
        let mut values = Eigen::new(vec![3.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 2.0], 3).values;
        values.sort_by(f64::total_cmp);
        assert_eq!(values, [-1.0, 2.0, 3.0]);
    }
}
