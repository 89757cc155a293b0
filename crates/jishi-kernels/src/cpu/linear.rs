//! Dense layers: `activation(x · weight + bias) + residual`.
//!
//! In bfloat16 what the backward pass needs is kept in bfloat16 too: it is rounded in any case when the
//! product reads it.

use half::bf16;

use super::activation::{Activation, for_each_activation};
use super::gemm::{
    Left, Part, Precision, Sink, Source, Store, Strided, Value, gemm, round_bits, round_to_bf16,
};
use crate::memory::{buffer, prefetch};
use crate::multiversion;
use crate::simd::Level;
use crate::threads::{SharedMut, parallel};

/// A matrix that is kept for the backward pass.
#[derive(Debug, Clone)]
pub enum Kept {
    /// As it is.
    F32(Vec<f32>),
    /// Rounded.
    Bf16(Vec<bf16>),
}

/// A borrowed matrix, row-major.
#[derive(Debug, Clone, Copy)]
pub enum Matrix<'a> {
    /// As it is.
    F32(&'a [f32]),
    /// Rounded.
    Bf16(&'a [bf16]),
}

impl<'a> Matrix<'a> {
    /// Its rows as lanes of a product.
    #[must_use]
    pub fn rows(self, stride: usize) -> Lanes<'a> {
        match self {
            Self::F32(x) => Lanes::F32(Strided::rows(x, stride)),
            Self::Bf16(x) => Lanes::Bf16(Strided::rows(x, stride)),
        }
    }

    /// Its columns as lanes of a product.
    #[must_use]
    pub fn columns(self, stride: usize) -> Lanes<'a> {
        match self {
            Self::F32(x) => Lanes::F32(Strided::columns(x, stride)),
            Self::Bf16(x) => Lanes::Bf16(Strided::columns(x, stride)),
        }
    }

    /// A part of its values.
    #[must_use]
    pub fn part(self, range: std::ops::Range<usize>) -> Self {
        match self {
            Self::F32(x) => Self::F32(&x[range]),
            Self::Bf16(x) => Self::Bf16(&x[range]),
        }
    }
}

/// Rows or columns of a [`Matrix`].
#[derive(Debug, Clone, Copy)]
pub enum Lanes<'a> {
    /// Of `f32`.
    F32(Strided<'a, f32>),
    /// Of bfloat16.
    Bf16(Strided<'a, bf16>),
}

impl Source for Lanes<'_> {
    fn is_bf16(&self) -> bool {
        matches!(self, Self::Bf16(_))
    }

    fn in_place(&self, lane: usize, from: usize) -> Option<Left<'_>> {
        match self {
            Self::F32(x) => x.in_place(lane, from),
            Self::Bf16(_) => None,
        }
    }

    fn pack(
        &self,
        level: Level,
        lane: usize,
        lanes: usize,
        width: usize,
        from: usize,
        height: usize,
        out: &mut [f32],
    ) {
        match self {
            Self::F32(x) => x.pack(level, lane, lanes, width, from, height, out),
            Self::Bf16(x) => x.pack(level, lane, lanes, width, from, height, out),
        }
    }

    fn pack_pairs(
        &self,
        level: Level,
        lane: usize,
        lanes: usize,
        width: usize,
        from: usize,
        height: usize,
        out: &mut [u32],
    ) {
        match self {
            Self::F32(x) => x.pack_pairs(level, lane, lanes, width, from, height, out),
            Self::Bf16(x) => x.pack_pairs(level, lane, lanes, width, from, height, out),
        }
    }
}

impl Kept {
    /// Room for what a precision keeps; the values are not set.
    #[must_use]
    pub fn buffer(precision: Precision, len: usize) -> Self {
        match precision {
            Precision::F32 => Self::F32(buffer(len)),
            Precision::Bf16 => Self::Bf16(buffer(len)),
        }
    }

    /// Borrows it.
    #[must_use]
    pub fn matrix(&self) -> Matrix<'_> {
        match self {
            Self::F32(x) => Matrix::F32(x),
            Self::Bf16(x) => Matrix::Bf16(x),
        }
    }

    /// A rounded copy.
    #[must_use]
    pub fn rounded(level: Level, x: &[f32]) -> Self {
        Self::Bf16(round_to_bf16(level, x))
    }
}

/// What a linear layer computes besides the product.
#[derive(Debug, Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// `[out]`
    pub bias: Option<&'a [f32]>,
    /// Applied to the product and bias.
    pub activation: Activation,
    /// `[rows, out]`, added last.
    pub residual: Option<&'a [f32]>,
}

/// Finishes tiles of a linear layer in place. Sums of slices gather in `y`.
struct Finish<'a> {
    y: SharedMut<'a, f32>,
    /// The values before the activation.
    z: Option<KeptMut<'a>>,
    epilogue: Epilogue<'a>,
    columns: usize,
}

pub(super) enum KeptMut<'a> {
    F32(SharedMut<'a, f32>),
    Bf16(SharedMut<'a, bf16>),
}

impl<'a> KeptMut<'a> {
    pub(super) fn new(kept: &'a mut Kept) -> Self {
        match kept {
            Kept::F32(z) => Self::F32(SharedMut::new(z)),
            Kept::Bf16(z) => Self::Bf16(SharedMut::new(z)),
        }
    }

    /// Writes values from place `at` on.
    ///
    /// # Safety
    /// Places of different calls are disjoint.
    #[inline(always)]
    pub(super) unsafe fn set(&self, at: usize, values: &[f32]) {
        match self {
            // SAFETY: disjoint by this function's contract.
            Self::F32(z) => unsafe { z.slice(at, values.len()) }.copy_from_slice(values),
            Self::Bf16(z) => {
                // SAFETY: as above.
                for (z, v) in unsafe { z.slice(at, values.len()) }.iter_mut().zip(values) {
                    *z = bf16::from_bits(round_bits(*v) as u16);
                }
            }
        }
    }
}

impl KeptMut<'_> {
    /// Writes a part of a row to place `at`.
    ///
    /// # Safety
    /// Places of different calls are disjoint.
    #[inline(always)]
    pub(super) unsafe fn put<const W: usize>(&self, at: usize, part: &Part<'_, W>) {
        match self {
            // SAFETY: disjoint by this function's contract.
            Self::F32(z) => part.write(unsafe { z.slice(at, part.count) }),
            // SAFETY: as above.
            Self::Bf16(z) => part.round(unsafe { z.slice(at, part.count) }),
        }
    }
}

impl Sink for Finish<'_> {
    #[inline(always)]
    unsafe fn take<const FMA: bool, const W: usize>(
        &self,
        row: usize,
        column: usize,
        mut part: Part<'_, W>,
        first: bool,
        last: bool,
    ) {
        let at = row * self.columns + column;
        // SAFETY: places are disjoint by this function's contract.
        let out = unsafe { self.y.slice(at, part.count) };
        if !first {
            part.add(out);
        }
        if last {
            if let Some(bias) = self.epilogue.bias {
                part.add(&bias[column..]);
            }
            if let Some(z) = &self.z {
                // SAFETY: as above.
                unsafe { z.put(at, &part) };
            }
            let activation = self.epilogue.activation;
            for_each_activation!(activation, |a| for v in part.values.iter_mut() {
                *v = a.value::<FMA>(*v);
            });
            if let Some(residual) = self.epilogue.residual {
                part.add(&residual[at..]);
            }
        }
        part.write(out);
    }

    #[inline(always)]
    fn expect(&self, row: usize, column: usize) {
        if let Some(residual) = self.epilogue.residual {
            prefetch(residual, row * self.columns + column);
        }
    }
}

/// `y = activation(x · weight + bias) + residual`.
///
/// # Shapes
/// - `x`: `[rows, in]`, `weight`: `[in, out]`
/// - output: `[rows, out]`, and, where asked for, the values before the activation
#[must_use]
pub fn forward(
    level: Level,
    precision: Precision,
    [rows, inputs, outputs]: [usize; 3],
    x: Matrix<'_>,
    weight: &[f32],
    epilogue: Epilogue<'_>,
    keep: bool,
) -> (Vec<f32>, Option<Kept>) {
    let shape = [rows, inputs, outputs];
    forward_from(level, precision, shape, x, &Strided::columns(weight, outputs), epilogue, keep)
}

/// [`forward`] with a weight, `[in, out]`, that is read from elsewhere.
#[must_use]
pub fn forward_from(
    level: Level,
    precision: Precision,
    [rows, inputs, outputs]: [usize; 3],
    x: Matrix<'_>,
    weight: &impl Source,
    epilogue: Epilogue<'_>,
    keep: bool,
) -> (Vec<f32>, Option<Kept>) {
    let mut y = buffer(rows * outputs);
    let mut z = keep.then(|| Kept::buffer(precision, rows * outputs));
    let sink =
        Finish { y: SharedMut::new(&mut y), z: z.as_mut().map(KeptMut::new), epilogue, columns: outputs };
    let shape = [rows, outputs, inputs];
    gemm(level, precision, shape, &x.rows(inputs), weight, &sink);
    (y, z)
}

/// Gradients of a linear layer without activation; each only where it is asked for.
#[derive(Debug, Default)]
pub struct Gradients {
    /// `[rows, in]`
    pub x: Option<Vec<f32>>,
    /// `[in, out]`
    pub weight: Option<Vec<f32>>,
    /// `[out]`
    pub bias: Option<Vec<f32>>,
}

/// Which gradients are asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Of the input.
    pub x: bool,
    /// Of the weight.
    pub weight: bool,
    /// Of the bias.
    pub bias: bool,
}

/// Gradients from `dz`, that of the product and bias.
#[must_use]
pub fn backward(
    level: Level,
    precision: Precision,
    [rows, inputs, outputs]: [usize; 3],
    x: Matrix<'_>,
    weight: &[f32],
    dz: &[f32],
    wanted: Wanted,
) -> Gradients {
    Gradients {
        x: wanted.x.then(|| {
            let mut dx = buffer(rows * inputs);
            let (a, b) = (Strided::rows(dz, outputs), Strided::rows(weight, outputs));
            gemm(level, precision, [rows, inputs, outputs], &a, &b, &Store::new(&mut dx, inputs));
            dx
        }),
        weight: wanted.weight.then(|| {
            weight_gradient(level, precision, [rows, inputs, outputs], &x.columns(inputs), Matrix::F32(dz))
        }),
        bias: wanted.bias.then(|| column_sums(level, dz, outputs)),
    }
}

/// `xᵀ · dz`, where the lanes of `x` are its columns.
pub(super) fn weight_gradient(
    level: Level,
    precision: Precision,
    [rows, inputs, outputs]: [usize; 3],
    x: &impl Source,
    dz: Matrix<'_>,
) -> Vec<f32> {
    let mut dw = buffer(inputs * outputs);
    gemm(level, precision, [inputs, outputs, rows], x, &dz.columns(outputs), &Store::new(&mut dw, outputs));
    dw
}

/// `dz = dy · activation'(z)`.
#[must_use]
pub fn activation_gradient(level: Level, activation: Activation, z: Matrix<'_>, dy: &[f32]) -> Vec<f32> {
    match z {
        Matrix::F32(z) => super::activation::backward(level, activation, z, dy),
        Matrix::Bf16(z) => {
            let mut dz = buffer(dy.len());
            let chunk = 1 << 14;
            crate::threads::parallel_chunks(&mut dz, chunk, |task, dz| {
                let at = task * chunk;
                slopes_bf16(level, activation, &z[at..][..dz.len()], &dy[at..][..dz.len()], dz);
            });
            dz
        }
    }
}

multiversion! {
    fn slopes_bf16(activation: Activation, z: &[bf16], dy: &[f32], dz: &mut [f32]) {
        for_each_activation!(activation, |a| for ((z, dy), dz) in z.iter().zip(dy).zip(dz) {
            *dz = a.slope::<FMA>(z.widen()) * dy;
        });
    }

    fn add_rows(rows: &[f32], sums: &mut [f32]) {
        for row in rows.chunks_exact(sums.len().max(1)) {
            for (s, v) in sums.iter_mut().zip(row) {
                *s += v;
            }
        }
    }
}

/// Sums of the columns of a matrix `[rows, columns]`, 128 rows at a time, then of those sums.
#[must_use]
pub fn column_sums(level: Level, x: &[f32], columns: usize) -> Vec<f32> {
    const ROWS: usize = 128;
    if columns == 0 {
        return Vec::new();
    }
    let rows = x.len() / columns;
    let tasks = rows.div_ceil(ROWS);
    let mut partial = vec![0.0f32; tasks.max(1) * columns];
    let sums = SharedMut::new(&mut partial);
    let sum = |task: usize| {
        // SAFETY: every task has its own sums.
        let sums = unsafe { sums.slice(task * columns, columns) };
        add_rows(level, &x[task * ROWS * columns..((task + 1) * ROWS * columns).min(x.len())], sums);
    };
    // A small sum costs less than waking anybody for it.
    if x.len() < 1 << 15 {
        (0..tasks).for_each(sum);
    } else {
        parallel(tasks, sum);
    }
    let mut total = partial[..columns].to_vec();
    for part in partial.chunks_exact(columns).skip(1) {
        total.iter_mut().zip(part).for_each(|(t, p)| *t += p);
    }
    total
}
