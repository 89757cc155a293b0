//! Embeddings of numbers (Gorishniy et al. 2022, "On Embeddings for Numerical Features in Tabular Deep
//! Learning"): piecewise-linear encoding (§3.2, eq. 1) and periodic activations (§3.3, eq. 2).

use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor, TensorData, activation::relu};

use crate::init::Scope;

/// Piecewise-linear encoding, with the linear layer that follows it, one for each number.
#[derive(Module, Debug)]
pub struct PiecewiseLinear {
    /// `[numbers, bins, width]`; `None` gives the encoding itself.
    pub weight: Option<Param<Tensor<3>>>,
    /// `[numbers, width]`
    pub bias: Option<Param<Tensor<2>>>,
    encoding: Encoding,
}

/// The encoding `clamp((x − edge) / size)` as constants that follow from the bin edges. Without a linear
/// layer, `C` is the number of all bins; with one, every number has as many columns as the largest has bins,
/// and columns that a number lacks stay zero.
#[derive(Module, Debug)]
struct Encoding {
    /// Which number a column belongs to, `[C]`.
    source: Tensor<1, Int>,
    /// 1 / bin size, `[1, C]`.
    slope: Tensor<2>,
    /// −lower edge / bin size, `[1, C]`.
    shift: Tensor<2>,
    /// 0, or very low for the first bin, `[1, C]`.
    lower: Tensor<2>,
    /// 1, or very high for the last bin, `[1, C]`.
    upper: Tensor<2>,
}

impl PiecewiseLinear {
    /// An encoding with these rising bin edges for every number: quantiles of its training values (§3.2.1).
    #[must_use]
    pub fn init(scope: &Scope, edges: &[Vec<f32>], width: usize) -> Self {
        let numbers = edges.len();
        let largest = edges.iter().map(|e| e.len() - 1).max().unwrap_or(0);
        let padded = (width > 0).then_some(largest);
        Self {
            weight: (width > 0).then(|| scope.weight("weight", [numbers, largest, width], largest, width)),
            bias: (width > 0).then(|| scope.bias("bias", [numbers, width], largest)),
            encoding: Encoding::new(scope, edges, padded),
        }
    }

    /// Values a row: `numbers · width`, or the number of all bins.
    #[must_use]
    pub fn outputs(&self) -> usize {
        match &self.weight {
            Some(weight) => weight.dims()[0] * weight.dims()[2],
            None => self.encoding.slope.dims()[1],
        }
    }

    /// # Shapes
    /// - input: `[batch, numbers]`
    /// - output: `[batch, outputs]`
    #[must_use]
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let encoded = self.encoding.forward(x); // [batch, C]
        match (&self.weight, &self.bias) {
            (Some(weight), Some(bias)) => per_number(encoded, weight.val(), bias.val()),
            _ => encoded,
        }
    }
}

impl Encoding {
    fn new(scope: &Scope, edges: &[Vec<f32>], padded: Option<usize>) -> Self {
        let (source, columns) = encoding_columns(edges, padded);
        let device = scope.device().clone().inner();
        let count = source.len();
        let row = |values: Vec<f32>| Tensor::<2>::from_data(TensorData::new(values, [1, count]), &device);
        let [slope, shift, lower, upper] = columns.map(row);
        Self {
            source: Tensor::from_data(TensorData::new(source, [count]), &device),
            slope,
            shift,
            lower,
            upper,
        }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let x = x.select(1, self.source.clone()); // [batch, C]
        let x = x * self.slope.clone() + self.shift.clone();
        x.max_pair(self.lower.clone()).min_pair(self.upper.clone())
    }
}

/// The columns of a piecewise-linear encoding of numbers with these bin edges: which number each belongs to, and its
/// slope, shift, lower and upper bound, `[C]` each. `padded`: every number has so many columns, those without a bin zero;
/// default: as many as it has bins.
#[must_use]
pub fn encoding_columns(edges: &[Vec<f32>], padded: Option<usize>) -> (Vec<i64>, [Vec<f32>; 4]) {
    let mut source = Vec::new();
    let mut columns: [Vec<f32>; 4] = Default::default();
    for (number, edges) in edges.iter().enumerate() {
        let bins = edges.len() - 1;
        for bin in 0..padded.unwrap_or(bins) {
            source.push(number as i64);
            let column = if bin < bins {
                let (from, to) = (edges[bin], edges[bin + 1]);
                let slope = 1.0 / (to - from);
                let lower = if bin == 0 { f32::MIN } else { 0.0 };
                let upper = if bin + 1 == bins { f32::MAX } else { 1.0 };
                [slope, -from * slope, lower, upper]
            } else {
                [0.0; 4]
            };
            columns.iter_mut().zip(column).for_each(|(all, value)| all.push(value));
        }
    }
    (source, columns)
}

/// Periodic embedding: sines and cosines of trained frequencies, then a linear layer for each number and
/// ReLU.
#[derive(Module, Debug)]
pub struct Periodic {
    /// `[numbers, frequencies]`
    pub frequencies: Param<Tensor<2>>,
    /// `[numbers, 2 · frequencies, width]`
    pub weight: Param<Tensor<3>>,
    /// `[numbers, width]`
    pub bias: Param<Tensor<2>>,
}

impl Periodic {
    /// Frequencies normal with standard deviation `sigma`.
    #[must_use]
    pub fn init(scope: &Scope, numbers: usize, frequencies: usize, sigma: f64, width: usize) -> Self {
        let inputs = 2 * frequencies;
        Self {
            frequencies: scope.normal("frequencies", [numbers, frequencies], sigma as f32),
            weight: scope.weight("weight", [numbers, inputs, width], inputs, width),
            bias: scope.bias("bias", [numbers, width], inputs),
        }
    }

    /// Values a row.
    #[must_use]
    pub fn outputs(&self) -> usize {
        let [numbers, _, width] = self.weight.dims();
        numbers * width
    }

    /// # Shapes
    /// - input: `[batch, numbers]`
    /// - output: `[batch, numbers · width]`
    #[must_use]
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let [numbers, frequencies] = self.frequencies.dims();
        let batch = x.dims()[0];
        let x = x.reshape([batch, numbers, 1]) * std::f32::consts::TAU;
        let v = x * self.frequencies.val().reshape([1, numbers, frequencies]); // [batch, numbers, frequencies]
        let v = Tensor::cat(vec![v.clone().sin(), v.cos()], 2); // [batch, numbers, 2 · frequencies]
        relu(per_number(v.reshape([batch, numbers * 2 * frequencies]), self.weight.val(), self.bias.val()))
    }
}

/// A linear layer for each number.
///
/// # Shapes
/// - x: `[batch, numbers · in]`
/// - weight: `[numbers, in, width]`, bias: `[numbers, width]`
/// - output: `[batch, numbers · width]`
fn per_number(x: Tensor<2>, weight: Tensor<3>, bias: Tensor<2>) -> Tensor<2> {
    let [numbers, inputs, width] = weight.dims();
    let batch = x.dims()[0];
    let x = x.reshape([batch, numbers, inputs]).swap_dims(0, 1); // [numbers, batch, in]
    let y = x.matmul(weight).swap_dims(0, 1); // [batch, numbers, width]
    y.reshape([batch, numbers * width]) + bias.reshape([1, numbers * width])
}

/// An embedding of numbers.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a model holds one; a box would gain nothing")]
pub enum NumberEmbeddingLayer {
    /// Piecewise-linear encoding.
    PiecewiseLinear(PiecewiseLinear),
    /// Periodic embedding.
    Periodic(Periodic),
}

impl NumberEmbeddingLayer {
    /// Values a row.
    #[must_use]
    pub fn outputs(&self) -> usize {
        match self {
            Self::PiecewiseLinear(layer) => layer.outputs(),
            Self::Periodic(layer) => layer.outputs(),
        }
    }

    /// # Shapes
    /// - input: `[batch, numbers]`
    /// - output: `[batch, outputs]`
    #[must_use]
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::PiecewiseLinear(layer) => layer.forward(x),
            Self::Periodic(layer) => layer.forward(x),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use jishi_recipe::Init;

    use super::*;

    #[test]
    fn the_encoding_is_that_of_the_paper() {
        let device = Device::flex();
        let scope = Scope::new(1, Init::Torch, &device);
        let edges = vec![vec![0.0, 1.0, 3.0], vec![-1.0, 1.0]];
        let layer = PiecewiseLinear::init(&scope, &edges, 0);
        assert_eq!(layer.outputs(), 3);
        let x = Tensor::<2>::from_data([[0.5, 0.0], [2.0, 3.0], [-1.0, -2.0], [5.0, 1.0]], &device);
        let encoded = layer.forward(x).into_data().try_to_vec::<f32>().expect("f32");
        #[rustfmt::skip]
        assert_eq!(encoded, [
            0.5, 0.0, 0.5,
            1.0, 0.5, 2.0,
            -1.0, 0.0, -0.5,
            1.0, 2.0, 1.0,
        ]);
    }
}
