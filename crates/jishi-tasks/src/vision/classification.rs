//! `image-classification`: one label an image, or many.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use jishi_data::text::labels::Labels;
use jishi_models::{Context, ImageModel, LayerRates};
use jishi_recipe::{Precision, Recipe, TaskName};

use crate::labelling::LabelHead;
use crate::measured::{ClassOutputs, Measured};
use crate::registry::{self, TaskInfo};
use crate::task::{Direction, Evaluation, SplitName, Task, TaskError};
use crate::vision::Images;

/// Classification of images.
#[derive(Debug)]
pub struct ImageClassificationTask {
    info: &'static TaskInfo,
    data: Option<LabelledImages>,
    head: LabelHead,
    batch: usize,
    precision: Precision,
    rates: LayerRates,
    device: Device,
}

/// Images with the labels of each, split.
#[derive(Debug, Clone)]
pub struct LabelledImages {
    /// The images.
    pub images: Images,
    /// The classes of each, `[images]`; exactly one where an image has one label.
    pub classes: Vec<Vec<u32>>,
    /// Images of each split.
    pub rows: [Vec<u32>; 3],
}

/// Images on their way to the model.
#[derive(Debug, Clone)]
pub struct ImageBatch {
    /// `[images, height, width, channels]`
    input: Tensor<4>,
    /// `[images, classes]`
    target: Tensor<2>,
    weight: f64,
}

impl ImageClassificationTask {
    /// The task of a recipe.
    ///
    /// # Errors
    /// Class weights that don't fit the labels.
    pub fn new(
        recipe: &Recipe,
        labels: &Labels,
        data: Option<LabelledImages>,
        device: &Device,
    ) -> Result<Self, TaskError> {
        Ok(Self {
            info: registry::task(TaskName::ImageClassification),
            data,
            head: LabelHead::new(recipe, labels)?,
            batch: recipe.evaluate.batch,
            precision: recipe.train.precision,
            rates: LayerRates::of(recipe),
            device: device.clone(),
        })
    }
}

impl ImageClassificationTask {
    /// The labels, and what is made of probabilities.
    #[must_use]
    pub fn head(&self) -> &LabelHead {
        &self.head
    }

    /// What the task does, as the end of the sentence "A model of the family … that".
    #[must_use]
    pub fn does(&self) -> String {
        let many = self.head.labels().many;
        let what = if many { "the labels of an image, any number" } else { "the label of an image, one" };
        format!("tells {what} of {}", self.head.listed())
    }

    /// The metric that is shown first.
    #[must_use]
    pub fn primary_metric(&self) -> &'static str {
        self.info.primary_metric
    }

    /// Its data; none where a trained model is at work.
    #[must_use]
    pub fn data(&self) -> Option<&LabelledImages> {
        self.data.as_ref()
    }

    fn rows_there(&self) -> &LabelledImages {
        self.data.as_ref().expect("the loop asks for rows that are there")
    }

    /// Probabilities of images, row-major `[images, classes]`. `inputs` gives the images of a batch of rows,
    /// `[rows, height, width, channels]`.
    ///
    /// # Errors
    /// [`TaskError::NonFinite`] where one is NaN or infinite.
    pub fn predict(
        &self,
        model: &ImageModel,
        images: usize,
        inputs: impl Fn(std::ops::Range<usize>, &Device) -> Tensor<4>,
    ) -> Result<Vec<f64>, TaskError> {
        self.each_batch(model, images, inputs, |_, _| {})
    }

    fn each_batch(
        &self,
        model: &ImageModel,
        images: usize,
        inputs: impl Fn(std::ops::Range<usize>, &Device) -> Tensor<4>,
        mut seen: impl FnMut(std::ops::Range<usize>, Tensor<2>),
    ) -> Result<Vec<f64>, TaskError> {
        let (n, model, device) = (self.head.classes(), model.valid(), self.device.clone().inner());
        let mut values = vec![0.0; images * n];
        for first in (0..images).step_by(self.batch) {
            let rows = first..(first + self.batch).min(images);
            let mut context = Context::evaluation().with_precision(self.precision);
            let logits = model.forward(inputs(rows.clone(), &device), &mut context); // [rows, classes]
            seen(rows.clone(), logits.clone());
            let logits = logits.into_data().try_to_vec::<f32>().expect("models give f32");
            self.head.probabilities(&logits, first, &mut values[first * n..rows.end * n])?;
        }
        Ok(values)
    }

    /// Loss and metrics over the images of a split, with intervals from `resamples` draws.
    ///
    /// # Errors
    /// As [`Self::predict`].
    pub fn report(
        &self,
        model: &ImageModel,
        split: SplitName,
        resamples: usize,
        seed: u64,
    ) -> Result<Measured, TaskError> {
        let data = self.rows_there();
        self.measure(model, data, &data.rows[split as usize], resamples, seed)
    }

    /// As [`Self::report`], over any images.
    ///
    /// # Errors
    /// As [`Self::predict`].
    pub fn measure(
        &self,
        model: &ImageModel,
        data: &LabelledImages,
        rows: &[u32],
        resamples: usize,
        seed: u64,
    ) -> Result<Measured, TaskError> {
        let actual: Vec<Vec<u32>> = rows.iter().map(|row| data.classes[*row as usize].clone()).collect();
        let (mut sum, mut weight) = (0.0, 0.0);
        let inputs = |part: std::ops::Range<usize>, device: &Device| data.images.plain(&rows[part], device);
        let values = self.each_batch(model, rows.len(), inputs, |part, logits| {
            let targets = self.head.targets(actual[part].iter().map(Vec::as_slice));
            let target = self.head.tensor(targets.values, &logits.device());
            sum += f64::from(self.head.sum(logits, target).into_scalar::<f32>());
            weight += targets.weight;
        })?;
        let (mut metrics, intervals) = self.head.measure(&actual, &values, resamples, seed);
        let labels = self.head.labels();
        let first: Vec<u32> = actual.iter().filter_map(|c| c.first().copied()).collect();
        if !labels.many {
            metrics.insert("top5_accuracy".into(), self.head.top5(&actual, &values));
            let ece = crate::metrics::calibration_error(
                &first,
                &values,
                self.head.classes(),
                &vec![1.0; first.len()],
            );
            metrics.insert("ece".into(), ece);
        }
        let classes = (!labels.many).then(|| ClassOutputs {
            names: labels.names.clone(),
            actual: first,
            probabilities: values,
        });
        Ok(Measured { evaluation: Evaluation { loss: sum / weight, metrics }, intervals, classes })
    }
}

impl Task for ImageClassificationTask {
    type Model = ImageModel;
    type Batch = ImageBatch;

    fn rows(&self, split: SplitName) -> usize {
        self.data.as_ref().map_or(0, |data| data.rows[split as usize].len())
    }

    fn batch(&self, rows: &[u32]) -> ImageBatch {
        self.parts(rows, rows.len().max(1), &|_| Context::evaluation()).swap_remove(0)
    }

    fn parts(&self, rows: &[u32], most: usize, pass: &dyn Fn(usize) -> Context) -> Vec<ImageBatch> {
        let data = self.rows_there();
        let train = &data.rows[SplitName::Train as usize];
        let rows: Vec<u32> = rows.iter().map(|row| train[*row as usize]).collect();
        let (pass, classes) = (pass(0), self.head.classes());
        let mut values = data.images.changed(&rows, &pass);
        let mut targets = self.head.targets(rows.iter().map(|row| data.classes[*row as usize].as_slice()));
        let mut weights: Vec<f32> =
            rows.iter().map(|row| self.head.weight(&data.classes[*row as usize])).collect();
        let mix = data.images.mix(&pass);
        mix.pictures(&mut values, data.images.preparation.shape());
        mix.targets(&mut targets.values, classes);
        mix.targets(&mut weights, 1);
        // Constants need no tape.
        let device = self.device.clone().inner();
        let size = values.len() / rows.len().max(1);
        let parts =
            values.chunks(most * size).zip(targets.values.chunks(most * classes)).zip(weights.chunks(most));
        parts
            .map(|((values, targets), weights)| ImageBatch {
                input: data.images.tensor(values.to_vec(), &device),
                target: self.head.tensor(targets.to_vec(), &device),
                weight: weights.iter().map(|w| f64::from(*w)).sum(),
            })
            .collect()
    }

    fn weight(&self, batch: &ImageBatch) -> f64 {
        batch.weight
    }

    fn loss(&self, model: &ImageModel, batch: &ImageBatch, context: &mut Context) -> Tensor<1> {
        self.head.sum(model.forward(batch.input.clone(), context), batch.target.clone())
    }

    fn evaluate(&self, model: &ImageModel, split: SplitName) -> Result<Evaluation, TaskError> {
        Ok(self.report(model, split, 0, 0)?.evaluation)
    }

    fn learning_rate_scale(&self, name: &str, names: &[&str]) -> f64 {
        self.rates.scale(name, names)
    }

    fn direction(&self, metric: &str) -> Direction {
        self.info.direction(metric)
    }
}
