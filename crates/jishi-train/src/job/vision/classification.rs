//! `image-classification`: from images with labels to a model to train.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use jishi_data::image::{Augmentation, ImageCorpus, Picture, Preparation};
use jishi_recipe::{Problem, Recipe};
use jishi_runs::plots::Raster;
use jishi_tasks::vision::classification::LabelledImages;
use jishi_tasks::vision::{ImageClassificationTask, Images};

use super::ImagePipeline;
use super::beginning::{Beginning, beginning};
use super::finish::Prepared;
use crate::error::TrainError;

/// Images that a package keeps to show that it still gives the same.
const GOLDEN: usize = 3;

/// Fits preparation and labels on the training split alone, and makes the task.
///
/// # Errors
/// Everything that is wrong with the labels and the model.
pub fn prepare(
    recipe: &Recipe,
    base: &Path,
    source: &ImageCorpus,
    rows: &[Vec<u32>; 3],
    device: &Device,
) -> Result<Prepared, TrainError> {
    let image = recipe.image.clone().unwrap_or_default();
    let none = || Problem::new("the images have no labels");
    let labels = source.labels_of(&rows[0]).ok_or_else(none)?;
    let classes = source.labels.as_ref().map(|(_, classes)| classes.clone()).unwrap_or_default();
    let mut preparation = Preparation::fit(&image, &source.pictures, &rows[0], |row| source.name(row))?;
    let Beginning { config, start, preparation: known } =
        beginning(recipe, base, preparation.shape(), labels.names.len())?;
    if let (None, Some(known)) = (image.normalize, known) {
        // Weights fit the figures that they were trained with.
        preparation = preparation.figures(known.mean(), known.std())?;
    }
    let images = Images {
        pictures: Arc::clone(&source.pictures),
        augmentation: Augmentation::new(&image, &preparation),
        preparation: preparation.clone(),
    };
    let of_golden = if rows[2].is_empty() { &rows[0] } else { &rows[2] };
    let of_golden = of_golden.iter().take(GOLDEN);
    let golden = of_golden.map(|row| raster(source.pictures.get(*row as usize)).to_png()).collect();
    let [height, width, channels] = preparation.shape();
    let colours = if channels == 1 { "grey" } else { "colour" };
    let about = format!(
        "{} {colours} images, which the model sees at {height} × {width} pixels; {} labels.",
        source.pictures.len(),
        labels.names.len()
    );
    let mut config = config.to_hf();
    labels.put_into(&mut config);
    let pipeline = ImagePipeline { config, preparation, labels: Some(labels.clone()) };
    let data = LabelledImages { images, classes, rows: rows.clone() };
    let task = ImageClassificationTask::new(recipe, &labels, Some(data), device)?;
    Ok(Prepared { task, pipeline, ledger: source.record(rows), golden, about, start })
}

/// A picture for drawings and files.
#[must_use]
pub fn raster(picture: Picture<'_>) -> Raster {
    Raster::new(picture.height, picture.width, picture.channels, picture.pixels)
}
