//! Jobs on images.

use std::path::Path;

use burn::tensor::Device;
use jishi_recipe::{Problem, Recipe};

use crate::error::TrainError;
use crate::job::work::Work;

/// Prepares the images of a recipe for its task, and does some work with them.
pub fn with_prepared<W: Work>(
    recipe: &Recipe,
    _base: &Path,
    _device: &Device,
    _work: W,
) -> Result<W::Output, TrainError> {
    Err(Problem::new(format!("{} is not there yet", recipe.task.name())).into())
}
