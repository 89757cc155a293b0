//! From a recipe to its images.

use std::path::Path;

use jishi_data::image::{ImageCorpus, SourceDigest};
use jishi_recipe::{Data, OneOrMany, Recipe};
use jishi_runs::folder::hex;
use jishi_runs::manifest::Fingerprint;

use crate::error::TrainError;
use crate::job::prepare::few_dropped;

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
