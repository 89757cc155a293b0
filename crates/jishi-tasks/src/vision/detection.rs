//! `detection`: boxes and classes of the objects of an image.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use jishi_data::image::{Object, Scenes};
use jishi_models::detection::{Output, Truth};
use jishi_models::{Context, Detector, DetectorConfig, LayerRates};
use jishi_recipe::{Precision, Recipe, TaskName};

use crate::measured::Measured;
use crate::metrics::detection::{Curve, Detection, Looked, coco};
use crate::registry::{self, TaskInfo};
use crate::task::{Direction, Evaluation, SplitName, Task, TaskError};

/// Boxes are kept down to this score where precision is measured at every recall.
pub const LEAST: f32 = 0.001;
/// Most boxes of an image.
pub const MOST: usize = 100;

/// Detection of objects.
#[derive(Debug)]
pub struct DetectionTask {
    info: &'static TaskInfo,
    data: Option<BoxedImages>,
    names: Vec<String>,
    batch: usize,
    precision: Precision,
    rates: LayerRates,
    device: Device,
}

/// Images with boxes, split.
#[derive(Debug, Clone)]
pub struct BoxedImages {
    /// The images and their boxes.
    pub scenes: Scenes,
    /// Images of each split.
    pub rows: [Vec<u32>; 3],
}

/// Images on their way to the model.
#[derive(Debug, Clone)]
pub struct SceneBatch {
    /// `[images, height, width, channels]`
    input: Tensor<4>,
    truths: Vec<Vec<Truth>>,
}

/// What a model gives for an image: logits of classes and numbers for boxes.
pub type Raw = (Vec<f32>, Vec<f32>);

/// What was measured of a split, and what was found on its images.
#[derive(Debug, Clone)]
pub struct Inspected {
    /// Loss and metrics.
    pub measured: Measured,
    /// Boxes of each image, in pixels of the picture as it was before it was scaled.
    pub found: Vec<Vec<Detection>>,
    /// Precision over recall of each class that has objects.
    pub curves: Vec<Curve>,
}

impl DetectionTask {
    /// The task of a recipe; `names` are the classes.
    #[must_use]
    pub fn new(recipe: &Recipe, names: &[String], data: Option<BoxedImages>, device: &Device) -> Self {
        Self {
            info: registry::task(TaskName::Detection),
            data,
            names: names.to_vec(),
            batch: recipe.evaluate.batch.min(recipe.train.batch.max(16)),
            precision: recipe.train.precision,
            rates: LayerRates::of(recipe),
            device: device.clone(),
        }
    }

    /// Names of the classes.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// What the task does, as the end of the sentence "A model of the family … that".
    #[must_use]
    pub fn does(&self) -> String {
        let shown = self.names.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
        let more = if self.names.len() > 10 { ", …" } else { "" };
        format!(
            "finds the objects of an image, each with a box around it, of {} classes: {shown}{more}",
            self.names.len()
        )
    }

    /// The metric that is shown first.
    #[must_use]
    pub fn primary_metric(&self) -> &'static str {
        self.info.primary_metric
    }

    /// The data.
    ///
    /// # Panics
    /// Where there is none: of a task that only predicts.
    #[must_use]
    pub fn data(&self) -> &BoxedImages {
        self.data.as_ref().expect("the loop asks for rows that are there")
    }

    /// What a model gives for images, batch by batch.
    fn each_batch(
        &self,
        model: &Detector,
        scenes: &Scenes,
        rows: &[u32],
        mut seen: impl FnMut(&[u32], Output) -> Result<(), TaskError>,
    ) -> Result<(), TaskError> {
        let (model, device) = (model.valid(), self.device.clone().inner());
        for rows in rows.chunks(self.batch) {
            let mut values = vec![0.0; rows.len() * scenes.preparation.shape().iter().product::<usize>()];
            scenes.preparation.batch(&scenes.pictures, rows, &mut values);
            let mut context = Context::evaluation().with_precision(self.precision);
            seen(rows, model.forward(tensor(values, scenes, &device), &mut context))?;
        }
        Ok(())
    }

    /// The raw output of a model for images: logits of classes and numbers for boxes of each.
    ///
    /// # Errors
    /// [`TaskError::NonFinite`] where one is NaN or infinite.
    pub fn raw(&self, model: &Detector, scenes: &Scenes, rows: &[u32]) -> Result<Vec<Raw>, TaskError> {
        let mut all = Vec::with_capacity(rows.len());
        self.each_batch(model, scenes, rows, |_, output| {
            all.extend(each_image(output, all.len())?);
            Ok(())
        })?;
        Ok(all)
    }

    /// The objects of images with scores of at least `least`, in pixels of each picture as it was before it was scaled, the
    /// surest first.
    ///
    /// # Errors
    /// As [`Self::raw`].
    pub fn find(
        &self,
        model: &Detector,
        scenes: &Scenes,
        rows: &[u32],
        least: f32,
    ) -> Result<Vec<Vec<Detection>>, TaskError> {
        let (config, mut found) = (model.config(), Vec::with_capacity(rows.len()));
        self.each_batch(model, scenes, rows, |part, output| {
            let images = each_image(output, found.len())?;
            found.extend(
                part.iter().zip(images).map(|(row, output)| boxes(&config, scenes, *row, &output, least)),
            );
            Ok(())
        })?;
        Ok(found)
    }

    /// Loss and metrics over the images of a split, and what was found.
    ///
    /// # Errors
    /// As [`Self::raw`].
    pub fn report(&self, model: &Detector, split: SplitName) -> Result<Inspected, TaskError> {
        let data = self.data();
        self.measure(model, &data.scenes, &data.rows[split as usize])
    }

    /// As [`Self::report`], over any images with boxes.
    ///
    /// # Errors
    /// As [`Self::raw`].
    pub fn measure(&self, model: &Detector, scenes: &Scenes, rows: &[u32]) -> Result<Inspected, TaskError> {
        let (config, mut found, mut sum) = (model.config(), Vec::with_capacity(rows.len()), 0.0);
        self.each_batch(model, scenes, rows, |part, output| {
            let truths: Vec<Vec<Truth>> =
                part.iter().map(|row| learned(&scenes.plain(*row as usize))).collect();
            sum += f64::from(model.loss(output.clone(), &truths).into_scalar::<f32>());
            let images = each_image(output, found.len())?;
            found.extend(
                part.iter().zip(images).map(|(row, output)| boxes(&config, scenes, *row, &output, LEAST)),
            );
            Ok(())
        })?;
        let looked: Vec<Looked> = rows
            .iter()
            .zip(&found)
            .map(|(row, found)| Looked { actual: &scenes.objects[*row as usize], found })
            .collect();
        let report = coco(&looked, self.names.len());
        let loss = sum / rows.len().max(1) as f64;
        let measured = Measured::from(Evaluation { loss, metrics: report.metrics });
        Ok(Inspected { measured, found, curves: report.curves })
    }
}

/// Values as a batch of images.
fn tensor(values: Vec<f32>, scenes: &Scenes, device: &Device) -> Tensor<4> {
    let [height, width, channels] = scenes.preparation.shape();
    let images = values.len() / (height * width * channels).max(1);
    Tensor::from_data(TensorData::new(values, [images, height, width, channels]), device)
}

/// The output of each image of a batch; `first` is the number of the first.
fn each_image(output: Output, first: usize) -> Result<Vec<Raw>, TaskError> {
    let images = output.classes.dims()[0].max(1);
    let values = |x: Tensor<3>| x.into_data().try_to_vec::<f32>().expect("models give f32");
    let (classes, boxes) = (values(output.classes), values(output.boxes));
    let (of_classes, of_boxes) = (classes.len() / images, boxes.len() / images);
    let each = classes.chunks_exact(of_classes).zip(boxes.chunks_exact(of_boxes)).enumerate();
    each.map(|(i, (classes, boxes))| match classes.iter().chain(boxes).find(|x| !x.is_finite()) {
        Some(found) => Err(TaskError::NonFinite { found: f64::from(*found), row: first + i }),
        None => Ok((classes.to_vec(), boxes.to_vec())),
    })
    .collect()
}

/// What was found on an image, on its picture as it was.
fn boxes(
    config: &DetectorConfig,
    scenes: &Scenes,
    row: u32,
    (classes, numbers): &Raw,
    least: f32,
) -> Vec<Detection> {
    let size = scenes.sizes[row as usize];
    let (way, edge) = (scenes.preparation.way(size), [size[1] as f64, size[0] as f64]);
    let one = |found: jishi_models::detection::Found| {
        let place = way.back(found.place.map(f64::from));
        // What lies in the black around a picture is cut.
        let place: [f64; 4] = std::array::from_fn(|i| place[i].clamp(0.0, edge[i % 2]));
        let detection = Detection { class: found.class as u32, score: f64::from(found.score), place };
        (place[2] > place[0] && place[3] > place[1]).then_some(detection)
    };
    config.find(classes, numbers, least, MOST).into_iter().filter_map(one).collect()
}

/// What a model learns of the boxes of an image: groups say nothing of a single object.
fn learned(objects: &[Object]) -> Vec<Truth> {
    let single = objects.iter().filter(|object| !object.crowd);
    single.map(|o| Truth { class: o.class as usize, place: o.place.map(|side| side as f32) }).collect()
}

impl Task for DetectionTask {
    type Model = Detector;
    type Batch = SceneBatch;

    fn rows(&self, split: SplitName) -> usize {
        self.data.as_ref().map_or(0, |data| data.rows[split as usize].len())
    }

    fn batch(&self, rows: &[u32]) -> SceneBatch {
        self.parts(rows, rows.len().max(1), &|_| Context::evaluation()).swap_remove(0)
    }

    fn parts(&self, rows: &[u32], most: usize, pass: &dyn Fn(usize) -> Context) -> Vec<SceneBatch> {
        let data = self.data();
        let train = &data.rows[SplitName::Train as usize];
        let rows: Vec<u32> = rows.iter().map(|row| train[*row as usize]).collect();
        let pass = pass(0);
        let draws = |place: usize| {
            let mut random = pass.stream("augment", place);
            move || random.next_u32()
        };
        let scenes = data.scenes.batch(&rows, train, draws);
        // Constants need no tape.
        let device = self.device.clone().inner();
        let part = |scenes: &[jishi_data::image::Scene]| SceneBatch {
            input: tensor(
                scenes.iter().flat_map(|s| s.values.iter().copied()).collect(),
                &data.scenes,
                &device,
            ),
            truths: scenes.iter().map(|scene| learned(&scene.objects)).collect(),
        };
        scenes.chunks(most).map(part).collect()
    }

    /// Images: the loss of a batch is the mean over its objects, times its images. A batch that comes in parts has a mean
    /// for each part, as its norms have.
    fn weight(&self, batch: &SceneBatch) -> f64 {
        batch.truths.len() as f64
    }

    fn loss(&self, model: &Detector, batch: &SceneBatch, context: &mut Context) -> Tensor<1> {
        model.loss(model.forward(batch.input.clone(), context), &batch.truths)
    }

    fn evaluate(&self, model: &Detector, split: SplitName) -> Result<Evaluation, TaskError> {
        Ok(self.report(model, split)?.measured.evaluation)
    }

    fn learning_rate_scale(&self, name: &str, names: &[&str]) -> f64 {
        self.rates.scale(name, names)
    }

    fn direction(&self, metric: &str) -> Direction {
        self.info.direction(metric)
    }
}
