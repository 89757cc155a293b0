//! Models of images from others' formats into packages, and back.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use jishi_data::image::{Pictures, Preparation};
use jishi_hub::{About, Dtype, Resolved};
use jishi_models::{Context, ImageConfig, ImageModel, NamedTensor, VitPooling, export_weights, resnet};
use jishi_recipe::{Problem, Recipe, TaskName};
use jishi_runs::package::ColumnSchema;
use jishi_runs::plots::Raster;
use jishi_runs::tensors::{Scalars, TensorFile};
use jishi_tasks::vision::{ImageEmbeddingTask, Images, MaskedImageTask};
use serde_json::{Value, json};

use super::beginning::Pretrained;
use super::package::{AtWork, column, pack};
use super::pretraining::{PretrainedPredictor, Pretraining};
use super::{ImagePipeline, ImagePredictor, preprocessor};
use crate::error::TrainError;
use crate::job::finish::same_golden;
use crate::job::transfer::{ExportFormat, Imported, named, recipe_of, save, task};
use crate::trainer::tensor_entries;

/// Images that an imported model is checked with.
const GOLDEN: usize = 3;

/// Makes a package in `out` of a model of images that others made.
///
/// # Errors
/// As [`Pretrained::of`]; a model without an output layer; a folder with other things in it.
pub fn import(
    resolved: Resolved,
    source: &str,
    out: &Path,
    device: &Device,
    say: &mut dyn FnMut(&str),
) -> Result<Imported, TrainError> {
    if let Resolved::Checkpoint(found) = &resolved {
        found.about.supposed.iter().for_each(|sentence| say(sentence));
    }
    let found = Pretrained::of(resolved)?;
    let labels = named(found.labels.clone())?;
    let preparation = match &found.preparation {
        Some(preparation) => preparation.clone(),
        None => {
            let usual = preprocessor::usual(&found.config)?;
            let [height, width, channels] = usual.shape();
            let figures = if channels == 1 { "to -1…1" } else { "as for ImageNet" };
            say(&format!(
                "there is no preprocessor_config.json: images are scaled to {height} × {width} and normalised {figures}"
            ));
            usual
        }
    };
    let model = found.whole(device)?;
    let family = found.config["model_type"].as_str().unwrap_or_default().to_owned();
    let pipeline = ImagePipeline { config: found.config, preparation, labels: Some(labels) };
    let recipe = recipe_for(source, out, &pipeline.preparation)?;
    let golden: Vec<Vec<u8>> = (0..GOLDEN).map(|i| made_up(i, &pipeline.preparation)).collect();
    let package = pack(&recipe, &pipeline, export_weights(&model), &golden, told(), device)?;
    let imported = save(package, recipe.task, &family, out)?;
    Ok(Imported { labels: pipeline.labels.map(|labels| labels.names.len()), ..imported })
}

/// What a classifier gives.
fn told() -> Vec<ColumnSchema> {
    vec![column("prediction", "category", None)]
}

/// A recipe that says what a model is for and how it is given images.
fn recipe_for(source: &str, out: &Path, preparation: &Preparation) -> Result<Recipe, TrainError> {
    let recipe = json!({
        "task": TaskName::ImageClassification.name(), "data": { "source": source },
        "image": preparation.image(), "model": { "family": "pretrained", "from": source },
    });
    Ok(recipe_of(recipe, out)?)
}

/// A PNG file of a picture that is not like another, somewhat larger than the model's size: stripes and a slope.
fn made_up(number: usize, preparation: &Preparation) -> Vec<u8> {
    let [height, width, _] = preparation.shape();
    let (height, width) = (height + height / 8 + 3 * number, width + width / 8 + 5);
    let channels = preparation.channels().count();
    let value = |i: usize| {
        let (y, x, c) = (i / (width * channels), i / channels % width, i % channels);
        let slope = 160 * y / height + 60 * c * x / width;
        let stripe = 80 * ((x + (number + 1) * y) / (4 + number) % 2);
        ((slope + stripe + 31 * number) % 256) as u8
    };
    let pixels: Vec<u8> = (0..height * width * channels).map(value).collect();
    Raster::new(height, width, channels, &pixels).to_png()
}

/// What is said of a ViT that `transformers` has no class for.
pub(super) const NO_TOKEN: &str = "`transformers` has no ViT without a token in front (`pool = \"mean\"`): names are its own, and there is no `cls_token`";

/// Writes a package of images as a Hugging Face folder. Of a model that was trained without labels, that is what gives
/// vectors of images; of a masked autoencoder also its decoder.
///
/// # Errors
/// As [`crate::job::transfer::export`].
pub fn export(
    dir: &Path,
    format: ExportFormat,
    dtype: Dtype,
    out: &Path,
    device: &Device,
    say: &mut dyn FnMut(&str),
) -> Result<(), TrainError> {
    if format != ExportFormat::Safetensors {
        let problem = Problem::new("GGUF files are of language models, and this is one of images").file(dir);
        return Err(problem.help("choose `--format safetensors` or `--format onnx`").into());
    }
    match task(dir)? {
        TaskName::ImageClassification => classifier(dir, dtype, out, device, say),
        TaskName::MaskedImageModeling => encoder::<MaskedImageTask>(dir, dtype, out, device, say),
        TaskName::ImageEmbedding => encoder::<ImageEmbeddingTask>(dir, dtype, out, device, say),
        other => {
            let message = format!("no other library has this model of {} under its names", other.name());
            Err(Problem::new(message)
                .file(dir)
                .help("choose `--format onnx`, which has the graph with the weights")
                .into())
        }
    }
}

fn classifier(
    dir: &Path,
    dtype: Dtype,
    out: &Path,
    device: &Device,
    say: &mut dyn FnMut(&str),
) -> Result<(), TrainError> {
    let known = ImagePredictor::load(dir, device)?;
    let (model, package) = (known.model(), known.package());
    let ImagePipeline { config, preparation, .. } = &package.pipeline;
    let tensors = for_others(model, export_weights(model), say);
    if let Some(found) = write(config.clone(), tensors, preparation, dtype, out, say)? {
        let model = found.whole(device)?;
        let preparation = found.preparation.unwrap_or_else(|| preparation.clone());
        let pipeline = ImagePipeline { config: found.config, preparation, labels: found.labels };
        let golden: Vec<Vec<u8>> =
            package.golden_files()?.into_iter().map(|(_, bytes)| bytes.to_vec()).collect();
        let weights = export_weights(&model);
        let again = pack(&package.recipe, &pipeline, weights, &golden, told(), device)?.manifest.golden;
        same_golden("what was exported", out, &again.outputs, package.golden_outputs())?;
    }
    Ok(())
}

fn encoder<T: Pretraining>(
    dir: &Path,
    dtype: Dtype,
    out: &Path,
    device: &Device,
    say: &mut dyn FnMut(&str),
) -> Result<(), TrainError> {
    let known = PretrainedPredictor::<T>::load(dir, device)?;
    let package = known.package();
    let preparation = &package.pipeline.preparation;
    let (config, tensors) = T::for_others(known.model(), say);
    if let Some(found) = write(config, tensors, preparation, dtype, out, say)? {
        let model = found.body(device)?;
        let preparation = found.preparation.as_ref().unwrap_or(preparation);
        let mut pictures = Vec::new();
        for (name, bytes) in package.golden_files()? {
            pictures.push(preparation.decode(bytes).map_err(|p| p.file(name))?);
        }
        let pictures = Arc::new(Pictures::of(preparation.channels(), &pictures));
        let images = Images::plainly(&pictures, preparation);
        let rows: Vec<u32> = (0..pictures.len() as u32).collect();
        let mut context = Context::evaluation().with_precision(package.recipe.train.precision);
        let features = model.features(images.plain(&rows, &device.clone().inner()), &mut context);
        let width = features.dims()[1];
        let values: Vec<f64> = features.into_data().iter::<f64>().collect();
        let again: Vec<Vec<f64>> = values.chunks_exact(width.max(1)).map(<[f64]>::to_vec).collect();
        same_golden("what was exported", out, &again, package.golden_outputs())?;
    }
    Ok(())
}

/// A `config.json` that names no labels.
pub(super) fn without_labels(config: &mut Value) {
    let Some(config) = config.as_object_mut() else { return };
    for key in ["id2label", "label2id", "num_labels"] {
        config.remove(key);
    }
}

/// The `config.json` of a model without its output layer.
#[must_use]
pub fn without_head(config: &ImageConfig) -> Value {
    let mut value = config.to_hf();
    without_labels(&mut value);
    match config {
        ImageConfig::ResNet(_) => value["architectures"] = json!(["ResNetModel"]),
        ImageConfig::Vit(_) => value["architectures"] = json!(["ViTModel"]),
        ImageConfig::Vgg(_) => {}
    }
    value
}

/// Tensors of a model as other libraries name them.
pub(super) fn for_others(
    model: &ImageModel,
    tensors: Vec<NamedTensor>,
    say: &mut dyn FnMut(&str),
) -> Vec<NamedTensor> {
    let tensors = model.reference().to_reference(tensors);
    match &model.config() {
        ImageConfig::ResNet(config) if config.stem == resnet::Stem::Large => {
            return resnet::to_hf_names(tensors);
        }
        ImageConfig::ResNet(_) => {
            say(
                "`transformers` has no ResNet for small images: names are those of torchvision, with a 3 × 3 `conv1`",
            );
        }
        ImageConfig::Vgg(_) => say("`transformers` has no VGG: names are those of torchvision"),
        ImageConfig::Vit(config) if config.pooling == VitPooling::Mean => say(NO_TOKEN),
        ImageConfig::Vit(_) => {}
    }
    tensors
}

/// Writes a folder, and reads it back where numbers are not rounded.
fn write(
    config: Value,
    mut tensors: Vec<NamedTensor>,
    preparation: &Preparation,
    dtype: Dtype,
    out: &Path,
    say: &mut dyn FnMut(&str),
) -> Result<Option<Pretrained>, TrainError> {
    // Nothing of inference needs them, but PyTorch misses them where they are not there.
    let norms = tensors.iter().filter_map(|tensor| tensor.name.strip_suffix(".running_var"));
    let counts = norms.map(|norm| NamedTensor {
        name: format!("{norm}.num_batches_tracked"),
        shape: Vec::new(),
        data: vec![0.0],
        trainable: false,
    });
    let counts: Vec<NamedTensor> = counts.collect();
    tensors.extend(counts);
    let preprocessor = preprocessor::write(preparation);
    if preprocessor.is_none() {
        say("no preprocessor_config.json says how this model is given images: there is none in the folder");
    }
    let about = About { config, preprocessor_config: preprocessor, ..About::default() };
    let weights = TensorFile { tensors: tensor_entries(tensors), scalars: Scalars::default() };
    jishi_hub::folder::write(out, &about, &weights, dtype)?;
    // Other number types round.
    if dtype == Dtype::F32 { Ok(Some(Pretrained::of(jishi_hub::read(out)?)?)) } else { Ok(None) }
}
