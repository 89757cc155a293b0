//! Linear and logistic regression: one dense layer over standardised numbers and one-hot categories.

use burn::module::Module;
use burn::tensor::Tensor;
use jishi_recipe::LinearModel;

use crate::context::Context;
use crate::init::Scope;
use crate::layers::dense::Linear;
use crate::table::{TableInput, TableShape};

/// One dense layer.
#[derive(Module, Debug)]
pub struct LinearFamily {
    output: Linear,
}

impl LinearFamily {
    /// A model with initial weights from `seed`.
    #[must_use]
    pub fn init(config: &LinearModel, shape: &TableShape, seed: u64, device: &burn::tensor::Device) -> Self {
        let scope = Scope::new(seed, config.init, device);
        Self { output: Linear::init(&scope.child("output"), shape.dense_width(), shape.outputs) }
    }

    /// # Shapes
    /// - input: `dense` `[batch, numbers + one-hot]`
    /// - output: `[batch, outputs]`
    #[must_use]
    pub fn forward(&self, input: TableInput, context: &Context) -> Tensor<2> {
        self.output.forward(input.dense, context)
    }
}
