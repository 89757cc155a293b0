//! `image-embedding`: views of one image get vectors that are close, those of others are far (SimCLR: Chen et al. 2020).

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use jishi_models::simclr::nt_xent;
use jishi_models::{Context, LayerRates, SimClr};
use jishi_recipe::{Precision, Recipe, TaskName};

use super::pretraining::{ImagePretraining, UnlabelledImages, finite, pass};
use crate::metrics::retrieval::retrieval;
use crate::registry::{self, TaskInfo};
use crate::task::{Direction, Evaluation, SplitName, Task, TaskError};
use crate::vision::Images;

/// Similarities are divided by it, where the recipe says nothing.
const TEMPERATURE: f64 = 0.5;
/// Streams of the random changes of each view.
const VIEWS: [&str; 2] = ["augment", "augment again"];

/// Vectors for images.
#[derive(Debug)]
pub struct ImageEmbeddingTask {
    info: &'static TaskInfo,
    data: Option<UnlabelledImages>,
    temperature: f64,
    /// Images of a batch of training: those that a loss compares.
    compared: usize,
    batch: usize,
    precision: Precision,
    rates: LayerRates,
    device: Device,
}

/// Two views of each image on their way to the model, `[images, height, width, channels]`.
#[derive(Debug, Clone)]
pub struct ViewBatch {
    views: [Tensor<4>; 2],
}

impl ImageEmbeddingTask {
    /// What `of` gives for images of a batch, row-major, and the values a row.
    fn each_batch(
        &self,
        rows: usize,
        of: impl Fn(std::ops::Range<usize>, &Device, &mut Context) -> Tensor<2>,
    ) -> Result<(Vec<f32>, usize), TaskError> {
        let device = self.device.clone().inner();
        let (mut values, mut width) = (Vec::new(), 0);
        for first in (0..rows).step_by(self.batch) {
            let mut context = Context::evaluation().with_precision(self.precision);
            let found = of(first..(first + self.batch).min(rows), &device, &mut context);
            width = found.dims()[1];
            let found = found.into_data().try_to_vec::<f32>().expect("models give f32");
            finite(&found, width, first)?;
            values.extend(found);
        }
        Ok((values, width))
    }
}

/// Rows of length 1.
fn unit(values: &mut [f32], width: usize) {
    for row in values.chunks_exact_mut(width.max(1)) {
        let length = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt().max(1e-12);
        row.iter_mut().for_each(|v| *v = (f64::from(*v) / length) as f32);
    }
}

impl ImagePretraining for ImageEmbeddingTask {
    fn new(recipe: &Recipe, data: Option<UnlabelledImages>, device: &Device) -> Self {
        Self {
            info: registry::task(TaskName::ImageEmbedding),
            data,
            temperature: recipe.train.loss.temperature.unwrap_or(TEMPERATURE),
            compared: recipe.train.batch,
            batch: recipe.evaluate.batch,
            precision: recipe.train.precision,
            rates: LayerRates::of(recipe),
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
        "gives views of one image vectors that are close to each other".into()
    }

    /// The loss is that of projections, the metrics are those of features: whether the other view of an image is found
    /// among those of all. Views are the same in every evaluation.
    fn measure(&self, model: &SimClr, images: &Images, rows: &[u32]) -> Result<Evaluation, TaskError> {
        let model = model.valid();
        let mut features = Vec::new();
        let mut projections = Vec::new();
        let (mut width, mut outputs) = (0, 0);
        for name in VIEWS {
            let (mut found, size) = self.each_batch(rows.len(), |part, device, context| {
                let view = images.view(&rows[part.clone()], &pass(part.start), name);
                model.model().features(images.tensor(view, device), context)
            })?;
            let (projected, size_projected) = self.each_batch(rows.len(), |part, device, context| {
                let part = &found[part.start * size..part.end * size];
                let part = TensorData::new(part.to_vec(), [part.len() / size, size]);
                model.project(Tensor::from_data(part, device), context)
            })?;
            projections.push(projected);
            unit(&mut found, size);
            features.push(found);
            (width, outputs) = (size, size_projected);
        }
        let device = self.device.clone().inner();
        let mut loss = 0.0;
        let parts = projections[0].chunks(self.compared * outputs);
        for (first, second) in parts.zip(projections[1].chunks(self.compared * outputs)) {
            let views = TensorData::new([first, second].concat(), [2 * first.len() / outputs, outputs]);
            loss +=
                f64::from(nt_xent(Tensor::from_data(views, &device), self.temperature).into_scalar::<f32>());
        }
        let metrics = retrieval(&features[0], &features[1], width, &device);
        Ok(Evaluation { loss: loss / (2 * rows.len()) as f64, metrics })
    }

    fn embed(&self, model: &SimClr, images: &Images, rows: &[u32]) -> Result<(Vec<f32>, usize), TaskError> {
        let model = model.valid();
        self.each_batch(rows.len(), |part, device, context| {
            model.model().features(images.plain(&rows[part], device), context)
        })
    }
}

impl Task for ImageEmbeddingTask {
    type Model = SimClr;
    type Batch = ViewBatch;

    fn rows(&self, split: SplitName) -> usize {
        self.data.as_ref().map_or(0, |data| data.rows[split as usize].len())
    }

    fn batch(&self, rows: &[u32]) -> ViewBatch {
        self.parts(rows, rows.len().max(1), &|_| Context::evaluation()).swap_remove(0)
    }

    fn parts(&self, rows: &[u32], most: usize, pass: &dyn Fn(usize) -> Context) -> Vec<ViewBatch> {
        let data = self.data.as_ref().expect("the loop asks for rows that are there");
        let train = &data.rows[SplitName::Train as usize];
        let rows: Vec<u32> = rows.iter().map(|row| train[*row as usize]).collect();
        let pass = pass(0);
        // Constants need no tape.
        let device = self.device.clone().inner();
        let [first, second] = VIEWS.map(|name| data.images.view(&rows, &pass, name));
        let size = most * data.images.size();
        let parts = first.chunks(size).zip(second.chunks(size));
        let tensor = |values: &[f32]| data.images.tensor(values.to_vec(), &device);
        parts.map(|(first, second)| ViewBatch { views: [tensor(first), tensor(second)] }).collect()
    }

    /// Both views of each image have a loss.
    fn weight(&self, batch: &ViewBatch) -> f64 {
        2.0 * batch.views[0].dims()[0] as f64
    }

    fn loss(&self, model: &SimClr, batch: &ViewBatch, context: &mut Context) -> Tensor<1> {
        let [first, second] = batch.views.clone();
        model.loss(first, second, self.temperature, context)
    }

    fn evaluate(&self, model: &SimClr, split: SplitName) -> Result<Evaluation, TaskError> {
        let data = self.data.as_ref().expect("the loop evaluates splits that are there");
        self.measure(model, &data.images, &data.rows[split as usize])
    }

    fn learning_rate_scale(&self, name: &str, names: &[&str]) -> f64 {
        self.rates.scale(name, names)
    }

    fn direction(&self, metric: &str) -> Direction {
        self.info.direction(metric)
    }
}
