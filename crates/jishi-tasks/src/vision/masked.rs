//! `masked-image-modeling`: patches of an image are hidden, and the model tells their pixels (He et al. 2022).

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use jishi_data::image::OwnedPicture;
use jishi_models::mae::Comparison;
use jishi_models::{Context, MaskedAutoencoder};
use jishi_recipe::{Precision, Recipe, TaskName};

use super::pretraining::{ImagePretraining, UnlabelledImages, finite, pass};
use crate::registry::{self, TaskInfo};
use crate::task::{Direction, Evaluation, SplitName, Task, TaskError};
use crate::vision::Images;

/// Telling what is hidden of images.
#[derive(Debug)]
pub struct MaskedImageTask {
    info: &'static TaskInfo,
    data: Option<UnlabelledImages>,
    batch: usize,
    precision: Precision,
    device: Device,
}

/// Images on their way to the model.
#[derive(Debug, Clone)]
pub struct MaskedBatch {
    /// `[images, height, width, channels]`
    input: Tensor<4>,
}

impl MaskedImageTask {
    fn context(&self) -> Context {
        Context::evaluation().with_precision(self.precision)
    }

    /// Batches of the rows of an evaluation: the number of the first, the images, and the patches in the order that is
    /// drawn for them.
    fn each_batch(
        &self,
        model: &MaskedAutoencoder,
        images: &Images,
        rows: &[u32],
        mut seen: impl FnMut(usize, Tensor<4>, &[usize]) -> Result<(), TaskError>,
    ) -> Result<(), TaskError> {
        let device = self.device.clone().inner();
        for (i, part) in rows.chunks(self.batch).enumerate() {
            let first = i * self.batch;
            let orders = model.orders(part.len(), &pass(first));
            seen(first, images.plain(part, &device), &orders)?;
        }
        Ok(())
    }
}

impl ImagePretraining for MaskedImageTask {
    fn new(recipe: &Recipe, data: Option<UnlabelledImages>, device: &Device) -> Self {
        Self {
            info: registry::task(TaskName::MaskedImageModeling),
            data,
            batch: recipe.evaluate.batch,
            precision: recipe.train.precision,
            device: device.clone(),
        }
    }

    fn data(&self) -> Option<&UnlabelledImages> {
        self.data.as_ref()
    }

    fn primary_metric(&self) -> &'static str {
        self.info.primary_metric
    }

    fn does(&self) -> String {
        "tells the hidden patches of an image, and gives vectors of images".into()
    }

    fn measure(
        &self,
        model: &MaskedAutoencoder,
        images: &Images,
        rows: &[u32],
    ) -> Result<Evaluation, TaskError> {
        let model = model.valid();
        // Of all hidden pixels: how many, their sum, their squares' sum, and that of the errors.
        let (mut count, mut sum, mut squares, mut errors) = (0.0, 0.0, 0.0, 0.0);
        self.each_batch(&model, images, rows, |first, input, orders| {
            let Comparison { told, targets, hidden } = model.compare(input, orders, &mut self.context());
            let [batch, patches, pixels] = told.dims();
            let hidden = hidden.reshape([batch, patches, 1]);
            // Sums over a patch first: those of a whole batch would lose digits in f32.
            let of = |values: Tensor<3>| -> Vec<f32> {
                (values * hidden.clone()).sum_dim(2).into_data().try_to_vec().expect("models give f32")
            };
            let wrong = of((told - targets.clone()).square());
            finite(&wrong, patches, first)?;
            let total = |values: Vec<f32>| values.into_iter().map(f64::from).sum::<f64>();
            count += total(hidden.clone().into_data().try_to_vec().expect("models give f32")) * pixels as f64;
            sum += total(of(targets.clone()));
            squares += total(of(targets.square()));
            errors += total(wrong);
            Ok(())
        })?;
        let spread = squares - sum * sum / count;
        let r2 = if spread > 0.0 { 1.0 - errors / spread } else { 0.0 };
        Ok(Evaluation { loss: errors / count, metrics: [("r2".to_owned(), r2)].into() })
    }

    fn embed(
        &self,
        model: &MaskedAutoencoder,
        images: &Images,
        rows: &[u32],
    ) -> Result<(Vec<f32>, usize), TaskError> {
        let (model, device) = (model.valid(), self.device.clone().inner());
        let (mut values, mut width) = (Vec::new(), 0);
        for (i, part) in rows.chunks(self.batch).enumerate() {
            let features = model.vit().features(images.plain(part, &device), &mut self.context());
            width = features.dims()[1];
            let features = features.into_data().try_to_vec::<f32>().expect("models give f32");
            finite(&features, width, i * self.batch)?;
            values.extend(features);
        }
        Ok((values, width))
    }

    fn shown(
        &self,
        model: &MaskedAutoencoder,
        images: &Images,
        rows: &[u32],
    ) -> Result<Vec<Vec<(OwnedPicture, &'static str)>>, TaskError> {
        let model = model.valid();
        let mut all = Vec::new();
        let (size, preparation) = (images.size(), &images.preparation);
        self.each_batch(&model, images, rows, |_, input, orders| {
            let (covered, filled) = model.filled(input.clone(), orders, &mut self.context());
            let values =
                [input, covered, filled].map(|t| t.into_data().try_to_vec::<f32>().expect("models give f32"));
            // Where patches are told relative to their mean and deviation, those are not told.
            let told = if model.config().normalised { "told, true contrast" } else { "what it tells" };
            let names = ["image", "what it sees", told];
            for i in 0..values[0].len() / size.max(1) {
                let picture = |values: &Vec<f32>| preparation.picture(&values[i * size..][..size]);
                all.push(values.iter().map(picture).zip(names).collect());
            }
            Ok(())
        })?;
        Ok(all)
    }
}

impl Task for MaskedImageTask {
    type Model = MaskedAutoencoder;
    type Batch = MaskedBatch;

    fn rows(&self, split: SplitName) -> usize {
        self.data.as_ref().map_or(0, |data| data.rows[split as usize].len())
    }

    fn batch(&self, rows: &[u32]) -> MaskedBatch {
        self.parts(rows, rows.len().max(1), &|_| Context::evaluation()).swap_remove(0)
    }

    fn parts(&self, rows: &[u32], most: usize, pass: &dyn Fn(usize) -> Context) -> Vec<MaskedBatch> {
        let data = self.data.as_ref().expect("the loop asks for rows that are there");
        let parts = data.parts(rows, most, &pass(0), &self.device);
        parts.into_iter().map(|input| MaskedBatch { input }).collect()
    }

    fn weight(&self, batch: &MaskedBatch) -> f64 {
        batch.input.dims()[0] as f64
    }

    fn loss(&self, model: &MaskedAutoencoder, batch: &MaskedBatch, context: &mut Context) -> Tensor<1> {
        model.loss(batch.input.clone(), context).sum()
    }

    fn evaluate(&self, model: &MaskedAutoencoder, split: SplitName) -> Result<Evaluation, TaskError> {
        let data = self.data.as_ref().expect("the loop evaluates splits that are there");
        self.measure(model, &data.images, &data.rows[split as usize])
    }

    fn direction(&self, metric: &str) -> Direction {
        self.info.direction(metric)
    }
}
