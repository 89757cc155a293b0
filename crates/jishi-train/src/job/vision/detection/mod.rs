//! `detection`: from images with boxes to a model to train, and to its package.

mod pictures;
mod predictor;

pub use pictures::drawn;
pub use predictor::DetectionPredictor;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use burn::tensor::Device;
use jishi_data::Ledger;
use jishi_data::image::{Augmentation, ImageCorpus, Preparation, Scenes, for_boxes};
use jishi_data::text::labels::Labels;
use jishi_models::{Detector, DetectorConfig, export_weights};
use jishi_recipe::{Problem, Recipe};
use jishi_runs::manifest::RunManifest;
use jishi_runs::package::ColumnSchema;
use jishi_tasks::vision::DetectionTask;
use jishi_tasks::vision::detection::BoxedImages;
use jishi_tasks::{SplitName, Task};

use super::ImagePipeline;
use super::ending::{Said, close, sizes};
use super::package::{column, pack};
use super::source::golden;
use crate::error::TrainError;
use crate::job::finish::{draw, measure_splits};
use crate::job::report::TrainReport;
use crate::job::subject::{Finished, Subject};

/// Boxes are shown from this score on.
pub const SHOWN: f64 = 0.25;

/// Images of a recipe with boxes, prepared, with the task on them and the sizes of the model.
pub struct Prepared {
    task: DetectionTask,
    pipeline: ImagePipeline,
    config: DetectorConfig,
    ledger: Ledger,
    golden: Vec<Vec<u8>>,
    about: String,
}

/// Fits the preparation on the training split alone, and makes the task.
///
/// # Errors
/// Everything that is wrong with the model and the images' sizes.
pub fn prepare(
    recipe: &Recipe,
    source: &ImageCorpus,
    rows: &[Vec<u32>; 3],
    device: &Device,
) -> Result<Prepared, TrainError> {
    let image = recipe.image.clone().unwrap_or_default();
    let (labels, objects) = boxed(source, &rows[0])?;
    let preparation =
        Preparation::fit(&for_boxes(&image), &source.pictures, &rows[0], |row| source.name(row))?;
    let shape = preparation.shape();
    let config = DetectorConfig::from_recipe(&recipe.model, shape, labels.names.len())?;
    let scenes = Scenes {
        pictures: Arc::clone(&source.pictures),
        sizes: source.sizes.clone(),
        objects,
        augmentation: Augmentation::new(&image, &preparation),
        preparation: preparation.clone(),
        mosaic: image.mosaic,
    };
    let golden = golden(source, rows);
    let [height, width, _] = shape;
    let boxes: usize = scenes.objects.iter().map(Vec::len).sum();
    let about = format!(
        "{} images with {boxes} boxes, which the model sees at {height} × {width} pixels; {} classes.",
        source.pictures.len(),
        labels.names.len()
    );
    let written = serde_json::to_value(&config).expect("sizes have string keys alone");
    let pipeline = ImagePipeline { config: written, preparation, labels: Some(labels.clone()) };
    let data = BoxedImages { scenes, rows: rows.clone() };
    let task = DetectionTask::new(recipe, &labels.names, Some(data), device);
    Ok(Prepared { task, pipeline, config, ledger: source.record(rows), golden, about })
}

/// Classes and boxes of images.
fn boxed(
    source: &ImageCorpus,
    train: &[u32],
) -> Result<(Labels, Vec<Vec<jishi_data::image::Object>>), TrainError> {
    let none = || Problem::new("the images have no boxes");
    let labels = source.labels_of(train).ok_or_else(none)?;
    Ok((labels, source.objects.clone().ok_or_else(none)?))
}

impl Subject for Prepared {
    type Task = DetectionTask;

    fn task(&self) -> &DetectionTask {
        &self.task
    }

    fn primary_metric(&self) -> &'static str {
        self.task.primary_metric()
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn inputs(&self) -> Vec<(&'static str, u64)> {
        let boxes: usize = self.task.data().scenes.objects.iter().map(Vec::len).sum();
        let places = self.config.places();
        let mut inputs = sizes(&self.pipeline.preparation);
        inputs.extend([("boxes", boxes as u64), ("places", places as u64)]);
        inputs
    }

    fn notes(&self) -> Vec<String> {
        let labels = self.pipeline.labels.iter();
        let counts = labels.flat_map(|labels| labels.names.iter().zip(&labels.counts));
        let unseen: Vec<&str> = counts.filter(|(_, n)| **n == 0).map(|(name, _)| name.as_str()).collect();
        if unseen.is_empty() {
            return Vec::new();
        }
        vec![format!("classes without a box to train on: {}", unseen.join(", "))]
    }

    fn model(&self, recipe: &Recipe, device: &Device) -> Result<Detector, TrainError> {
        Ok(Detector::init(&self.config, recipe.train.seed, device))
    }

    fn finish(
        &self,
        finished: &Finished<'_, Detector>,
        manifest: &mut RunManifest,
        report: &mut TrainReport,
        started: Instant,
    ) -> Result<(), TrainError> {
        let Finished { run, recipe, model, device } = *finished;
        let shown = RefCell::new(None);
        let mut titles = measure_splits(run, recipe, manifest, report, "images", |split| {
            if self.task.rows(split) == 0 {
                return Ok::<_, TrainError>(None);
            }
            let inspected = self.task.report(model, split)?;
            let measured = inspected.measured.clone();
            *shown.borrow_mut() = Some((split, inspected));
            Ok(Some(measured))
        })?;
        if let Some((split, inspected)) = shown.into_inner().filter(|_| recipe.evaluate.plots) {
            let rows = &self.task.data().rows[split as usize];
            draw(run, pictures::of_split(&self.task, split, rows, &inspected), &mut titles)?;
        }
        let weights = export_weights(model);
        let package = pack(recipe, &self.pipeline, weights, &self.golden, outputs(), device)?;
        let said = Said {
            does: self.task.does(),
            data: self.about.clone(),
            usage: [
                "jishi predict NAME --input photo.jpg",
                "jishi predict NAME --input folder --output boxes.jsonl --draw drawn",
                "jishi evaluate NAME --data folder",
            ],
            limits: vec![
                "It knows objects of the sizes and on the grounds that it was trained on; elsewhere it misses some and sees others that are none.",
            ],
            drawn: titles,
        };
        close(finished, package, said, manifest, report, started)
    }
}

/// What a detector gives, a row for each box.
fn outputs() -> Vec<ColumnSchema> {
    vec![
        column("class", "category", None),
        column("score", "number", Some("how sure it is, 0 to 1")),
        column("left", "number", Some("pixels from the left edge of the image")),
        column("top", "number", Some("pixels from its top edge")),
        column("right", "number", None),
        column("bottom", "number", None),
    ]
}

/// The split that a picture is of, in words.
fn note(split: SplitName, images: usize) -> String {
    format!("{} split, {images} images", split.name())
}
