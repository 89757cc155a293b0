//! A classifier of images as a judge of images that were made: by what it sees in them before its output layer, and by the
//! labels that it tells.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use jishi_data::image::{Pictures, Preparation};
use jishi_models::{Context, ImageModel};

use crate::metrics::generation::Features;
use crate::metrics::most_probable;
use crate::task::TaskError;

/// A trained classifier that looks at images which others made.
#[derive(Debug)]
pub struct Judge {
    model: ImageModel,
    preparation: Preparation,
    labels: Vec<String>,
    batch: usize,
    device: Device,
}

/// What a [`Judge`] saw.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// What its output layer was given, `[images, features]`.
    pub features: Features,
    /// The most probable label of each image, `[images]`.
    pub classes: Vec<u32>,
}

impl Judge {
    /// A classifier with its labels; it looks at `batch` images at a time.
    #[must_use]
    pub fn new(
        model: &ImageModel,
        preparation: Preparation,
        labels: Vec<String>,
        batch: usize,
        device: &Device,
    ) -> Self {
        Self {
            model: model.valid(),
            preparation,
            labels,
            batch: batch.max(1),
            device: device.clone().inner(),
        }
    }

    /// Names of its labels.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Values of an image before its output layer.
    #[must_use]
    pub fn width(&self) -> usize {
        self.model.config().features()
    }

    /// `[height, width, channels]` of the images that it was trained on.
    #[must_use]
    pub fn shape(&self) -> [usize; 3] {
        self.preparation.shape()
    }

    /// Looks at pictures.
    ///
    /// # Errors
    /// [`TaskError::NonFinite`] where it sees no numbers.
    pub fn see(&self, pictures: &Pictures) -> Result<Seen, TaskError> {
        let [height, width, channels] = self.shape();
        let mut seen =
            Seen { features: Features { width: self.width(), values: Vec::new() }, classes: Vec::new() };
        for first in (0..pictures.len()).step_by(self.batch) {
            let rows: Vec<u32> =
                (first..(first + self.batch).min(pictures.len())).map(|i| i as u32).collect();
            let mut values = vec![0.0; rows.len() * height * width * channels];
            self.preparation.batch(pictures, &rows, &mut values);
            let x = TensorData::new(values, [rows.len(), height, width, channels]);
            let mut context = Context::evaluation();
            let features = self.model.features(Tensor::from_data(x, &self.device), &mut context);
            let logits = self.model.classes(features.clone(), &mut context); // [rows, classes]
            let numbers = |x: Tensor<2>| x.into_data().try_to_vec::<f32>().expect("models give f32");
            let (features, logits) = (numbers(features), numbers(logits));
            if let Some(i) = features.iter().position(|v| !v.is_finite()) {
                let row = first + i / self.width();
                return Err(TaskError::NonFinite { found: f64::from(features[i]), row });
            }
            seen.features.values.extend(features);
            for row in logits.chunks_exact(self.labels.len().max(1)) {
                let row: Vec<f64> = row.iter().map(|v| f64::from(*v)).collect();
                seen.classes.push(most_probable(&row) as u32);
            }
        }
        Ok(seen)
    }
}
