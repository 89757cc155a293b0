//! SimCLR (Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual Representations"): a model of images
//! learns that two views of one picture belong together. Afterwards the model without the projection is what is kept.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use jishi_kernels::cpu::cross_entropy::Options;
use jishi_kernels::ops;
use jishi_recipe::{Activation, Init};

use crate::context::Context;
use crate::image::{ImageConfig, ImageModel};
use crate::init::Scope;
use crate::layers::dense::Linear;
use crate::lora::freeze_where;

/// A model of images and a projection of its features.
#[derive(Module, Debug)]
pub struct SimClr {
    model: ImageModel,
    /// `[features, features]` and `[features, outputs]`
    projection: (Linear, Linear),
}

impl SimClr {
    /// A model with initial weights from `seed`, whose projection gives `outputs` values, 128 in the paper. The model's
    /// output layer is there for later, and is not trained.
    #[must_use]
    pub fn init(config: &ImageConfig, outputs: usize, seed: u64, device: &Device) -> Self {
        Self::of(ImageModel::init(config, seed, device), outputs, seed, device)
    }

    /// The same for a model that is there.
    #[must_use]
    pub fn of(model: ImageModel, outputs: usize, seed: u64, device: &Device) -> Self {
        let heads = model.reference().heads;
        let model = freeze_where(model, |name| heads.iter().any(|head| name.starts_with(head)));
        let scope = Scope::new(seed, Init::KaimingNormal, device);
        let features = model.config().features();
        let layer = |name: &str, outputs| Linear::init(&scope.child(name), features, outputs);
        Self { model, projection: (layer("projection.0", features), layer("projection.1", outputs)) }
    }

    /// The model of images, which is what pre-training is for.
    #[must_use]
    pub fn model(&self) -> &ImageModel {
        &self.model
    }

    /// Projections of images.
    ///
    /// # Shapes
    /// - input: `[batch, height, width, channels]`
    /// - output: `[batch, outputs]`
    pub fn forward(&self, x: Tensor<4>, context: &mut Context) -> Tensor<2> {
        let x = self.model.features(x, context);
        self.project(x, context)
    }

    /// Projections of features (§2.1, g).
    ///
    /// # Shapes
    /// - input: `[batch, features]`
    /// - output: `[batch, outputs]`
    pub fn project(&self, features: Tensor<2>, context: &mut Context) -> Tensor<2> {
        let x = self.projection.0.activated(features, Activation::Relu, context);
        self.projection.1.forward(x, context)
    }

    /// Sum of the losses of all views, `[1]`: see [`nt_xent`].
    ///
    /// # Shapes
    /// - first, second: two views of each picture, `[batch, height, width, channels]`
    pub fn loss(
        &self,
        first: Tensor<4>,
        second: Tensor<4>,
        temperature: f64,
        context: &mut Context,
    ) -> Tensor<1> {
        nt_xent(self.forward(Tensor::cat(vec![first, second], 0), context), temperature)
    }
}

/// Normalised temperature-scaled cross-entropy (§2.1, equation 1): of each view, that its other view is chosen among all
/// others of the batch. The sum over views, `[1]`.
///
/// # Shapes
/// - projections: `[2 · batch, outputs]`, the second views behind the first
#[must_use]
pub fn nt_xent(projections: Tensor<2>, temperature: f64) -> Tensor<1> {
    let [views, _] = projections.dims();
    let device = projections.device().inner();
    let length = projections.clone().square().sum_dim(1).clamp_min(1e-16).sqrt();
    let unit = projections / length;
    let alike = unit.clone().matmul(unit.transpose()) / temperature; // [views, views]
    // A view is not compared with itself.
    let itself = Tensor::<2>::eye(views, &device) * -1e9;
    let others = (0..views).map(|i| ((i + views / 2) % views) as i64).collect::<Vec<_>>();
    let others = Tensor::<1, Int>::from_data(TensorData::new(others, [views]), &device);
    ops::cross_entropy(alike + itself, others, Options::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(values: &[[f32; 2]], temperature: f64) -> f32 {
        let data = TensorData::new(values.concat(), [values.len(), 2]);
        nt_xent(Tensor::from_data(data, &Device::flex()), temperature).into_scalar::<f32>()
    }

    #[test]
    fn the_loss_is_the_papers() {
        // Two pictures at right angles whose views are the same: of each view, −ln(e² / (e² + 2)) at temperature 1/2.
        let views = [[3.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 7.0]];
        let expected = 4.0 * (1.0 + 2.0 * (-2.0f32).exp()).ln();
        assert!((loss(&views, 0.5) - expected).abs() < 1e-5);
        // Views that are swapped are further from each other than from those of the other picture.
        let swapped = [views[0], views[1], views[3], views[2]];
        assert!(loss(&swapped, 0.5) > 4.0 * 2.0);
    }
}
