//! `jishi import` and `jishi export`: models from others' formats into packages, and back.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use jishi_data::text::labels::Labels;
use jishi_hub::{Dtype, Resolved};
use jishi_models::ImageConfig;
use jishi_recipe::{Domain, Problem, Recipe, TaskName};
use jishi_runs::{Package, RealFs, package};
use serde::Serialize;
use serde_json::Value;

use crate::error::TrainError;
use crate::job::predict::damaged;
use crate::job::{language, vision};

/// What was imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// Folder of the package.
    pub path: PathBuf,
    /// Its task.
    pub task: String,
    /// Its family.
    pub family: String,
    /// Numbers of the model.
    pub parameters: usize,
    /// Tokens of its tokenizer, of a model of text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<usize>,
    /// Labels that it tells, of a model of images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<usize>,
}

/// A format of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// A Hugging Face folder, with `model.safetensors`.
    Safetensors,
    /// A GGUF file.
    Gguf,
}

/// Makes a package in `out` of a model that others made; `say` is told what is fetched and supposed.
///
/// # Errors
/// Nothing there; a family that is not known or without a task; files that do not fit each other; a folder with other things
/// in it.
pub fn import(
    source: &str,
    out: &Path,
    device: &Device,
    say: &mut dyn FnMut(&str),
) -> Result<Imported, TrainError> {
    let found = jishi_hub::resolve(source, Path::new(""), say)?;
    let of_images = match &found {
        Resolved::Checkpoint(found) => {
            found.about.config["model_type"].as_str().is_some_and(ImageConfig::is_family)
        }
        Resolved::Jishi(path) => {
            let package = package::find(Path::new(""), &path.to_string_lossy())?;
            domain(&package)? == Domain::Images
        }
    };
    if of_images {
        vision::transfer::import(found, source, out, device, say)
    } else {
        language::transfer::import(found, source, out, device)
    }
}

/// Writes a package in a format of others, reads it back, and checks that it does the same; `say` is told what others will
/// not find in it.
///
/// # Errors
/// A damaged package; a family or number type that the format does not know; files that are there already; an export that
/// does not give the golden outputs.
pub fn export(
    package: &Path,
    format: ExportFormat,
    dtype: Dtype,
    out: &Path,
    device: &Device,
    say: &mut dyn FnMut(&str),
) -> Result<(), TrainError> {
    is_new(out)?;
    match domain(package)? {
        Domain::Images => vision::transfer::export(package, format, dtype, out, device, say),
        _ => language::transfer::export(package, format, dtype, out, device),
    }
}

/// That there is nothing yet where something is to be written.
pub(crate) fn is_new(out: &Path) -> Result<(), Problem> {
    if !out.exists() {
        return Ok(());
    }
    let problem = Problem::new("there already is such a file or folder, which is not overwritten");
    Err(problem.file(out).help("choose another `--out`, or remove it"))
}

/// What a package's model is given.
pub(crate) fn domain(package: &Path) -> Result<Domain, TrainError> {
    Ok(task(package)?.domain())
}

/// What a package's model is for.
pub(crate) fn task(package: &Path) -> Result<TaskName, TrainError> {
    let name = package::task(package)?;
    serde_json::from_value(name.into()).map_err(|e| damaged(package, "recipe", &e))
}

/// Saves the package of a model that others made.
pub(crate) fn save(
    mut package: Package,
    task: TaskName,
    family: &str,
    out: &Path,
) -> Result<Imported, TrainError> {
    package.manifest.family = family.into();
    package.save(&RealFs, out)?;
    Ok(Imported {
        path: out.to_owned(),
        task: task.name().into(),
        family: family.into(),
        parameters: package.weights.tensors.iter().map(|t| t.data.len()).sum(),
        vocabulary: None,
        labels: None,
    })
}

/// The recipe of a model that others made, of what is said of it besides its name.
pub(crate) fn recipe_of(mut recipe: Value, out: &Path) -> Result<Recipe, Problem> {
    recipe["name"] = out.file_name().map_or_else(|| "model".into(), |n| n.to_string_lossy().into());
    serde_json::from_value(recipe).map_err(|e| Problem::new(e.to_string()))
}

/// The labels of a classifier that others made, which its `config.json` has to name.
pub(crate) fn named(labels: Option<Labels>) -> Result<Labels, Problem> {
    labels.ok_or_else(|| {
        Problem::new("`id2label` of the model's config.json: expected a name for every class from \"0\" on")
            .help("add it: {\"0\": \"negative\", \"1\": \"positive\"}")
    })
}
