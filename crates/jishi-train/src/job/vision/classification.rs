//! `image-classification`: from images with labels to a model to train.

use std::path::Path;

use burn::tensor::Device;
use jishi_data::image::{ImageCorpus, Preparation};
use jishi_recipe::{Problem, Recipe};
use jishi_tasks::vision::ImageClassificationTask;
use jishi_tasks::vision::classification::LabelledImages;

use super::beginning::{Beginning, beginning};
use super::finish::Prepared;
use super::{ImagePipeline, source};
use crate::error::TrainError;

/// Fits preparation and labels on the training split alone, and makes the task.
///
/// # Errors
/// Everything that is wrong with the labels and the model.
pub fn prepare(
    recipe: &Recipe,
    base: &Path,
    corpus: &ImageCorpus,
    rows: &[Vec<u32>; 3],
    device: &Device,
) -> Result<Prepared, TrainError> {
    let image = recipe.image.clone().unwrap_or_default();
    let none = || Problem::new("the images have no labels");
    let labels = corpus.labels_of(&rows[0]).ok_or_else(none)?;
    let classes = corpus.labels.as_ref().map(|(_, classes)| classes.clone()).unwrap_or_default();
    let mut preparation = Preparation::fit(&image, &corpus.pictures, &rows[0], |row| corpus.name(row))?;
    let Beginning { config, start, preparation: known } =
        beginning(recipe, base, preparation.shape(), labels.names.len())?;
    if let (None, Some(known)) = (image.normalize, known) {
        // Weights fit the figures that they were trained with.
        preparation = preparation.figures(known.mean(), known.std())?;
    }
    let about = format!("{}; {} labels.", source::about(corpus, &preparation), labels.names.len());
    let mut config = config.to_hf();
    labels.put_into(&mut config);
    let images = source::images(recipe, corpus, &preparation);
    let data = LabelledImages { images, classes, rows: rows.clone() };
    let pipeline = ImagePipeline { config, preparation, labels: Some(labels.clone()) };
    let task = ImageClassificationTask::new(recipe, &labels, Some(data), device)?;
    Ok(Prepared {
        task,
        pipeline,
        ledger: corpus.record(rows),
        golden: source::golden(corpus, rows),
        about,
        start,
    })
}
