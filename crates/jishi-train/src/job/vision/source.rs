//! From a recipe to its images.

use std::path::Path;
use std::sync::Arc;

use jishi_data::image::{Augmentation, ImageCorpus, Picture, Preparation, SourceDigest};
use jishi_recipe::{Data, OneOrMany, Recipe};
use jishi_runs::folder::hex;
use jishi_runs::manifest::Fingerprint;
use jishi_runs::plots::Raster;
use jishi_tasks::vision::Images;

use crate::error::TrainError;
use crate::job::prepare::few_dropped;

/// Images that a package keeps to show that it still gives the same.
const GOLDEN: usize = 3;

/// Reads the images of a recipe once; relative paths start at `base`.
///
/// # Errors
/// Everything that is wrong with them; more that can't be used than `data.max_dropped` allows.
pub fn read(recipe: &Recipe, base: &Path) -> Result<ImageCorpus, TrainError> {
    let mut data = recipe.data.clone();
    let named = |name: &String| match name.strip_prefix("package:") {
        Some(package) => {
            let folder = jishi_hub::data::resolve(package, &jishi_hub::data::root()?)?;
            Ok(folder.to_string_lossy().into_owned())
        }
        None => Ok::<_, TrainError>(name.clone()),
    };
    let sources: Vec<String> = data.source.as_slice().iter().map(named).collect::<Result<_, _>>()?;
    data.source = OneOrMany::Many(sources);
    of_data(recipe, &data, base)
}

/// As [`read`], from the sources that a run had read.
///
/// # Errors
/// As [`read`].
pub fn again(recipe: &Recipe, files: &[Fingerprint]) -> Result<ImageCorpus, TrainError> {
    let names = files.iter().map(|f| f.file.clone()).filter(|name| SourceDigest::is_source(name));
    let data = Data { source: OneOrMany::Many(names.collect()), ..recipe.data.clone() };
    of_data(recipe, &data, Path::new(""))
}

fn of_data(recipe: &Recipe, data: &Data, base: &Path) -> Result<ImageCorpus, TrainError> {
    let corpus = ImageCorpus::read(data, &recipe.image.clone().unwrap_or_default(), recipe.task, base)?;
    few_dropped(&corpus.ledger, &recipe.data, "images")?;
    Ok(corpus)
}

/// What the data was when it was read.
#[must_use]
pub fn fingerprints(corpus: &ImageCorpus) -> Vec<Fingerprint> {
    let of = |digest: &SourceDigest| Fingerprint {
        file: digest.name.clone(),
        bytes: digest.bytes,
        sha256: Some(hex(&digest.sha256)),
        modified: None,
    };
    corpus.digests.iter().map(of).collect()
}

/// The images of a corpus on their way to a model: prepared in this way, and changed in training as the recipe says.
#[must_use]
pub fn images(recipe: &Recipe, corpus: &ImageCorpus, preparation: &Preparation) -> Images {
    Images {
        pictures: Arc::clone(&corpus.pictures),
        augmentation: Augmentation::new(&recipe.image.clone().unwrap_or_default(), preparation),
        preparation: preparation.clone(),
    }
}

/// PNG files of a few images, of the test split where there is one.
#[must_use]
pub fn golden(corpus: &ImageCorpus, rows: &[Vec<u32>; 3]) -> Vec<Vec<u8>> {
    let rows = if rows[2].is_empty() { &rows[0] } else { &rows[2] };
    rows.iter().take(GOLDEN).map(|row| raster(corpus.pictures.get(*row as usize)).to_png()).collect()
}

/// What the images are, in words.
#[must_use]
pub fn about(corpus: &ImageCorpus, preparation: &Preparation) -> String {
    let [height, width, channels] = preparation.shape();
    let colours = if channels == 1 { "grey" } else { "colour" };
    format!("{} {colours} images, which the model sees at {height} × {width} pixels", corpus.pictures.len())
}

/// A picture for drawings and files.
#[must_use]
pub fn raster(picture: Picture<'_>) -> Raster {
    Raster::new(picture.height, picture.width, picture.channels, picture.pixels)
}
