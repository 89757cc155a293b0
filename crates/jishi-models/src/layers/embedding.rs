//! Trained vectors for categories.

use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor, TensorData, module as functional};

use crate::init::Scope;

/// One table of vectors for all category columns; slot 0 of a column is the category that was never seen.
#[derive(Module, Debug)]
pub struct CategoryEmbedding {
    /// `[Σ cardinalities, width]`
    pub weight: Param<Tensor<2>>,
    /// First row of every column, `[1, columns]`; follows from the cardinalities.
    offsets: Tensor<2, Int>,
}

impl CategoryEmbedding {
    /// Vectors uniform in ±1/√width (Gorishniy et al. 2021, reference implementation).
    #[must_use]
    pub fn init(scope: &Scope, cardinalities: &[usize], width: usize) -> Self {
        let mut rows = 0;
        let offsets: Vec<i64> = cardinalities
            .iter()
            .map(|cardinality| {
                rows += cardinality;
                (rows - cardinality) as i64
            })
            .collect();
        let weight = scope.uniform("weight", [rows, width], 1.0 / (width as f32).sqrt());
        let data = TensorData::new(offsets, [1, cardinalities.len()]);
        Self { weight, offsets: Tensor::from_data(data, &scope.device().clone().inner()) }
    }

    /// # Shapes
    /// - codes: `[batch, columns]`
    /// - output: `[batch, columns, width]`
    #[must_use]
    pub fn forward(&self, codes: Tensor<2, Int>) -> Tensor<3> {
        functional::embedding(self.weight.val(), codes + self.offsets.clone())
    }
}
