//! Images on their way to a model: prepared, and changed at random in training.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use jishi_data::image::{Augmentation, Mix, Pictures, Preparation};
use jishi_models::Context;
use jishi_recipe::Image;

/// Pictures, and how they become what a model reads.
#[derive(Debug, Clone)]
pub struct Images {
    /// The pictures as they were read.
    pub pictures: Arc<Pictures>,
    /// Size, colours and scale.
    pub preparation: Preparation,
    /// Random changes in training.
    pub augmentation: Augmentation,
}

impl Images {
    /// Pictures that are not changed in training.
    #[must_use]
    pub fn plainly(pictures: &Arc<Pictures>, preparation: &Preparation) -> Self {
        Self {
            pictures: Arc::clone(pictures),
            preparation: preparation.clone(),
            augmentation: Augmentation::new(&Image::default(), preparation),
        }
    }

    /// As prediction sees them.
    ///
    /// # Shapes
    /// - output: `[rows, height, width, channels]`
    #[must_use]
    pub fn plain(&self, rows: &[u32], device: &Device) -> Tensor<4> {
        let mut values = vec![0.0; rows.len() * self.size()];
        self.preparation.batch(&self.pictures, rows, &mut values);
        self.tensor(values, device)
    }

    /// As training sees a whole batch in this pass, `[rows, height, width, channels]`.
    #[must_use]
    pub fn changed(&self, rows: &[u32], pass: &Context) -> Vec<f32> {
        self.view(rows, pass, "augment")
    }

    /// As [`Self::changed`]; views with different names are changed differently.
    #[must_use]
    pub fn view(&self, rows: &[u32], pass: &Context, name: &str) -> Vec<f32> {
        let mut values = vec![0.0; rows.len() * self.size()];
        let draws = |place: usize| {
            let mut random = pass.stream(name, place);
            move || random.next_u32()
        };
        self.augmentation.batch(&self.pictures, rows, draws, &mut values);
        values
    }

    /// How the images of a whole batch are mixed in this pass.
    #[must_use]
    pub fn mix(&self, pass: &Context) -> Mix {
        let mut random = pass.stream("mix", 0);
        self.augmentation.mix(&mut || random.next_u32())
    }

    /// # Shapes
    /// - output: `[rows, height, width, channels]`
    #[must_use]
    pub fn tensor(&self, values: Vec<f32>, device: &Device) -> Tensor<4> {
        let [height, width, channels] = self.preparation.shape();
        let rows = values.len() / self.size().max(1);
        Tensor::from_data(TensorData::new(values, [rows, height, width, channels]), device)
    }

    /// Values of an image.
    pub(crate) fn size(&self) -> usize {
        self.preparation.shape().iter().product()
    }
}
