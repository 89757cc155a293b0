//! Models of images as graphs: `pixel_values` `[batch, channels, height, width]`, as Hugging Face's processors give them, to
//! `logits` `[batch, classes]`; of a model that was trained without labels, to `features` `[batch, features]`, and of a
//! ViT also to `last_hidden_state` `[batch, tokens + patches, width]`.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use jishi_data::image::Preparation;
use jishi_hub::onnx::{Attribute, Dim, Graph, Input, Kind, Numbers};
use jishi_hub::{About, folder};
use jishi_models::vgg::VggConfig;
use jishi_models::vit::{VitConfig, VitPooling};
use jishi_models::{Context, ImageConfig, ImageModel, NamedTensor, ResNetConfig, Stem, export_weights};
use jishi_recipe::{Problem, TaskName};
use jishi_tasks::vision::{ImageEmbeddingTask, MaskedImageTask};
use serde_json::{Value, json};

use super::layers::{Builder, Heads, of_rows, of_tokens};
use super::{Proof, beside, describe, detector, generator, numbers, publish};
use crate::error::TrainError;
use crate::job::finish::same_golden;
use crate::job::transfer::task;
use crate::job::vision::pretraining::{PretrainedPredictor, Pretraining};
use crate::job::vision::{AtWork, ImagePackage, ImagePredictor, preprocessor, transfer};

/// Writes the model of a package of images, with sizes, labels and how it is given images beside it.
///
/// # Errors
/// As [`super::export`].
pub(super) fn export(package: &Path, out: &Path, device: &Device) -> Result<(), TrainError> {
    match task(package)? {
        TaskName::Detection => detector::export(package, out, device),
        TaskName::ImageGeneration => generator::export(package, out, device),
        TaskName::MaskedImageModeling => encoder::<MaskedImageTask>(package, out, device),
        TaskName::ImageEmbedding => encoder::<ImageEmbeddingTask>(package, out, device),
        _ => classifier(package, out, device),
    }
}

fn classifier(dir: &Path, out: &Path, device: &Device) -> Result<(), TrainError> {
    let known = ImagePredictor::load(dir, device)?;
    same_golden("the model package", dir, &known.golden()?, known.package().golden_outputs())?;
    let (package, model) = (known.package(), known.model());
    let x = golden(package, device)?;
    let logits = model.forward(x.clone(), &mut Context::evaluation());
    let (shape, tensors) = (package.pipeline.preparation.shape(), export_weights(model));
    let positions = positions(model, shape);
    let mut graph = graph(&model.config(), shape, &tensors, &positions, true)?;
    describe(&mut graph, package.recipe.task, package.pipeline.labels.as_ref());
    let proof = Proof { inputs: vec![pixels(x)], outputs: vec![numbers("logits", logits)] };
    let about = about(package.pipeline.config.clone(), &package.pipeline.preparation, &mut graph);
    write(out, &about, &graph, &proof)
}

/// Writes the part of a model that was trained without labels which gives vectors of images.
fn encoder<T: Pretraining>(dir: &Path, out: &Path, device: &Device) -> Result<(), TrainError> {
    let known = PretrainedPredictor::<T>::load(dir, device)?;
    same_golden("the model package", dir, &known.golden()?, known.package().golden_outputs())?;
    let (package, model) = (known.package(), T::encoder(known.model()));
    let (shape, tensors) = (package.pipeline.preparation.shape(), export_weights(&model));
    let positions = positions(&model, shape);
    let mut graph = graph(&model.config(), shape, &tensors, &positions, false)?;
    describe(&mut graph, package.recipe.task, None);
    let x = golden(package, device)?;
    let context = &mut Context::evaluation();
    let mut outputs = vec![numbers("features", model.features(x.clone(), context))];
    if let ImageModel::Vit(vit) = &model {
        outputs.push(numbers("last_hidden_state", vit.hidden(x.clone(), context)));
    }
    let proof = Proof { inputs: vec![pixels(x)], outputs };
    let about = about(transfer::without_head(&model.config()), &package.pipeline.preparation, &mut graph);
    write(out, &about, &graph, &proof)
}

/// What is beside an ONNX file of images. The graph says how it is given images too: there are ways that no
/// `preprocessor_config.json` has words for.
pub(super) fn about(config: Value, preparation: &Preparation, graph: &mut Graph<'_>) -> About {
    graph.metadata.insert("preparation".into(), json!(preparation).to_string());
    About { config, preprocessor_config: preprocessor::write(preparation), ..About::default() }
}

/// Writes a graph, and what is beside it.
pub(super) fn write(out: &Path, about: &About, graph: &Graph<'_>, proof: &Proof) -> Result<(), TrainError> {
    let folder = beside(out, about)?;
    publish(out, graph, proof)?;
    Ok(folder::write_about(folder, about)?)
}

/// The package's golden images as its model sees them, `[images, height, width, channels]`.
pub(super) fn golden(package: &ImagePackage, device: &Device) -> Result<Tensor<4>, TrainError> {
    let pictures = package.golden_pictures()?;
    let rows: Vec<u32> = (0..pictures.len() as u32).collect();
    Ok(package.images(&pictures).plain(&rows, &device.clone().inner()))
}

/// Images as the input of a graph.
pub(super) fn pixels(x: Tensor<4>) -> Input {
    let planes = x.permute([0, 3, 1, 2]); // [batch, channels, height, width]
    let shape = planes.dims().to_vec();
    let values = Numbers::F32(planes.into_data().iter::<f32>().collect());
    Input { name: "pixel_values".into(), shape, values }
}

/// The axes of images of a shape, `[height, width, channels]`, in a graph.
pub(super) fn planes([height, width, channels]: [usize; 3]) -> [Dim; 4] {
    [Dim::Named("batch"), Dim::Fixed(channels), Dim::Fixed(height), Dim::Fixed(width)]
}

/// Positions of a ViT's token and of the patches of images of this shape, `[tokens + patches, width]`.
fn positions(model: &ImageModel, [height, width, _]: [usize; 3]) -> Vec<f32> {
    let ImageModel::Vit(vit) = model else { return Vec::new() };
    let patch = vit.config().patch;
    vit.all_positions([height / patch, width / patch]).into_data().iter::<f32>().collect()
}

/// A model with its output layer, or what is before it.
fn graph<'a>(
    config: &ImageConfig,
    shape: [usize; 3],
    tensors: &'a [NamedTensor],
    positions: &'a [f32],
    whole: bool,
) -> Result<Graph<'a>, Problem> {
    let family = match config {
        ImageConfig::ResNet(_) => "resnet",
        ImageConfig::Vgg(_) => "vgg",
        ImageConfig::Vit(_) => "vit",
    };
    let mut b = Builder::new(family, tensors);
    let x = b.graph.input("pixel_values", Kind::F32, &planes(shape));
    let sides = [shape[0], shape[1]];
    let mut hidden = None;
    let (features, head) = match config {
        ImageConfig::ResNet(config) => (resnet(&mut b, config, &x)?, "fc".to_owned()),
        ImageConfig::Vgg(config) => {
            (vgg(&mut b, config, &x, sides)?, format!("classifier.{}", 3 * config.hidden.len()))
        }
        ImageConfig::Vit(config) => {
            let all = hidden.insert(vit(&mut b, config, &x, sides, positions)?);
            (pooled(&mut b, config, all), "classifier".to_owned())
        }
    };
    if whole {
        let logits = b.linear(&features, &head)?;
        b.output("logits", &logits, &of_rows(config.classes()));
        return Ok(b.graph);
    }
    b.output("features", &features, &of_rows(config.features()));
    if let Some(hidden) = hidden {
        b.output("last_hidden_state", &hidden, &of_tokens(config.features()));
    }
    Ok(b.graph)
}

/// `[batch, features]`: He et al. 2016; see [`jishi_models::resnet`].
fn resnet(b: &mut Builder<'_>, config: &ResNetConfig, x: &str) -> Result<String, Problem> {
    let large = config.stem == Stem::Large;
    b.graph.scope("stem");
    let (stride, padding) = if large { (2, 3) } else { (1, 1) };
    let x = b.convolution(x, "conv1", stride, padding)?;
    let x = b.channel_norm(&x, "bn1")?;
    let mut x = b.one("Relu", &x);
    if large {
        x = b.max_pool(&x, 3, 2, 1);
    }
    for (stage, blocks) in config.blocks.iter().enumerate() {
        for block in 0..*blocks {
            let at = format!("layer{}.{block}", stage + 1);
            b.graph.scope(&at);
            let stride = if block == 0 && stage > 0 { 2 } else { 1 };
            // Strides and paddings of the convolutions.
            let layers: &[(usize, usize)] =
                if config.bottleneck { &[(1, 0), (stride, 1), (1, 0)] } else { &[(stride, 1), (1, 1)] };
            let mut y = x.clone();
            for (i, (stride, padding)) in layers.iter().enumerate() {
                y = b.convolution(&y, &format!("{at}.conv{}", i + 1), *stride, *padding)?;
                y = b.channel_norm(&y, &format!("{at}.bn{}", i + 1))?;
                if i + 1 < layers.len() {
                    y = b.one("Relu", &y);
                }
            }
            if b.has(&format!("{at}.downsample.0.weight")) {
                x = b.convolution(&x, &format!("{at}.downsample.0"), stride, 0)?;
                x = b.channel_norm(&x, &format!("{at}.downsample.1"))?;
            }
            let sum = b.two("Add", &y, &x);
            x = b.one("Relu", &sum);
        }
    }
    b.graph.scope("output");
    let x = b.one("GlobalAveragePool", &x);
    Ok(b.flat(&x)) // [batch, features]
}

/// `[batch, features]`: Simonyan & Zisserman 2015; see [`jishi_models::vgg`].
fn vgg(b: &mut Builder<'_>, config: &VggConfig, x: &str, mut sides: [usize; 2]) -> Result<String, Problem> {
    let (mut x, mut number) = (x.to_owned(), 0);
    for convolutions in &config.blocks {
        for _ in 0..*convolutions {
            b.graph.scope(&format!("features.{number}"));
            x = b.convolution(&x, &format!("features.{number}"), 1, 1)?;
            number += 1;
            if config.batch_norm {
                x = b.channel_norm(&x, &format!("features.{number}"))?;
                number += 1;
            }
            x = b.one("Relu", &x);
            number += 1;
        }
        x = b.max_pool(&x, 2, 2, 0);
        sides = sides.map(|side| side / 2);
        number += 1;
    }
    b.graph.scope("classifier");
    let pool = config.pool;
    if pool == 1 {
        x = b.one("GlobalAveragePool", &x);
    } else if sides != [pool; 2] {
        if sides.iter().any(|side| *side < pool || !side.is_multiple_of(pool)) {
            let message = format!(
                "ONNX has no operator that brings {} × {} values to {pool} × {pool}",
                sides[0], sides[1]
            );
            let help = format!(
                "train it on images whose sides are multiples of {}, or with `pool = 1`",
                pool << config.blocks.len()
            );
            return Err(Problem::new(message).help(help));
        }
        let window = sides.map(|side| (side / pool) as i64).to_vec();
        let attributes =
            [("kernel_shape", Attribute::Ints(window.clone())), ("strides", Attribute::Ints(window))];
        x = b.graph.node("AveragePool", &[&x], &attributes);
    }
    x = b.flat(&x); // [batch, channels · pool · pool]
    for layer in 0..config.hidden.len() {
        x = b.linear(&x, &format!("classifier.{}", 3 * layer))?;
        x = b.one("Relu", &x);
    }
    Ok(x)
}

/// All tokens behind the last norm, `[batch, tokens + patches, width]`: Dosovitskiy et al. 2021; see [`jishi_models::vit`].
/// `positions`: `[tokens + patches, width]`.
fn vit<'a>(
    b: &mut Builder<'a>,
    config: &VitConfig,
    x: &str,
    [height, width]: [usize; 2],
    positions: &'a [f32],
) -> Result<String, Problem> {
    let heads = Heads { queries: config.heads, keys: config.heads, dim: config.width / config.heads };
    let patches = (height / config.patch) * (width / config.patch);
    b.graph.scope("embeddings");
    let x = b.convolution(x, "embeddings.patch_embeddings.projection", config.patch, 0)?;
    let shape = b.graph.integers(&[0, config.width as i64, patches as i64]);
    let x = b.two("Reshape", &x, &shape);
    let mut x = b.transposed(&x, &[0, 2, 1]); // [batch, patches, width]
    let tokens = usize::from(config.pooling == VitPooling::Cls);
    if tokens > 0 {
        // The token broadcasts to the batch by the sum with a column of zeros.
        let token = b.weight("embeddings.cls_token")?;
        let zero = b.graph.integers(&[0]);
        let first = b.picked(&x, &zero); // [batch, 1, width]
        let nothing = b.with("Mul", &first, 0.0);
        let token = b.two("Add", &nothing, &token);
        x = b.graph.node("Concat", &[&token, &x], &[("axis", Attribute::Int(1))]);
    }
    let shape = [1, tokens + patches, config.width];
    let positions = b.graph.weights("positions", &shape, positions)?;
    x = b.two("Add", &x, &positions);
    for layer in 0..config.layers {
        let at = format!("encoder.layer.{layer}");
        b.graph.scope(&at);
        let normed = b.layer_norm(&x, &format!("{at}.layernorm_before"), config.epsilon)?;
        let parts = ["query", "key", "value"].map(|part| format!("{at}.attention.attention.{part}"));
        let [q, k, v] = [&parts[0], &parts[1], &parts[2]].map(|part| b.linear(&normed, part));
        let attended = b.attention([&q?, &k?, &v?], heads, None);
        let y = b.linear(&attended, &format!("{at}.attention.output.dense"))?;
        x = b.two("Add", &x, &y);
        let normed = b.layer_norm(&x, &format!("{at}.layernorm_after"), config.epsilon)?;
        let hidden = b.linear(&normed, &format!("{at}.intermediate.dense"))?;
        let hidden = b.activated(config.activation, &hidden);
        let y = b.linear(&hidden, &format!("{at}.output.dense"))?;
        x = b.two("Add", &x, &y);
    }
    b.graph.scope("output");
    b.layer_norm(&x, "layernorm", config.epsilon)
}

/// What a ViT's image is told by, `[batch, width]`, of all tokens.
fn pooled(b: &mut Builder<'_>, config: &VitConfig, x: &str) -> String {
    match config.pooling {
        VitPooling::Cls => {
            let first = b.graph.integer(0);
            b.picked(x, &first)
        }
        VitPooling::Mean => {
            let attributes = [("axes", Attribute::Ints(vec![1])), ("keepdims", Attribute::Int(0))];
            b.graph.node("ReduceMean", &[x], &attributes)
        }
    }
}
