//! Models of images as graphs: `pixel_values` `[batch, channels, height, width]`, as Hugging Face's processors give them, to
//! `logits` `[batch, classes]`.

use std::path::Path;

use burn::tensor::Device;
use jishi_hub::onnx::{Attribute, Dim, Graph, Input, Kind, Numbers};
use jishi_hub::{About, folder};
use jishi_models::layers::norm::EPS;
use jishi_models::vgg::VggConfig;
use jishi_models::vit::{Vit, VitConfig, VitPooling};
use jishi_models::{Context, ImageConfig, ImageModel, NamedTensor, ResNetConfig, Stem, export_weights};
use jishi_recipe::Problem;

use super::layers::{Builder, Heads, of_rows};
use super::{Proof, beside, describe, numbers, publish};
use crate::error::TrainError;
use crate::job::finish::same_golden;
use crate::job::vision::{AtWork, ImagePredictor, preprocessor};

/// Writes the model of a package of images, with sizes, labels and how it is given images beside it.
///
/// # Errors
/// As [`super::export`].
pub(super) fn export(package: &Path, out: &Path, device: &Device) -> Result<(), TrainError> {
    let model = ImagePredictor::load(package, device)?;
    same_golden("the model package", package, &model.golden()?, model.package().golden_outputs())?;
    let pipeline = &model.package().pipeline;
    let about = About {
        config: pipeline.config.clone(),
        preprocessor_config: preprocessor::write(&pipeline.preparation),
        ..About::default()
    };
    let folder = beside(out, &about)?;
    let shape = pipeline.preparation.shape();
    let tensors = export_weights(model.model());
    let positions = match model.model() {
        ImageModel::Vit(vit) => positions(vit, shape),
        _ => Vec::new(),
    };
    let mut graph = graph(&model.model().config(), shape, &tensors, &positions)?;
    describe(&mut graph, model.package().recipe.task, pipeline.labels.as_ref());
    publish(out, &graph, &proof(&model, device)?)?;
    Ok(folder::write_about(folder, &about)?)
}

/// The logits of the package's golden images.
fn proof(model: &ImagePredictor, device: &Device) -> Result<Proof, TrainError> {
    let pictures = model.package().golden_pictures()?;
    let rows: Vec<u32> = (0..pictures.len() as u32).collect();
    let x = model.package().images(&pictures).plain(&rows, &device.clone().inner());
    let planes = x.clone().permute([0, 3, 1, 2]); // [batch, channels, height, width]
    let shape = planes.dims().to_vec();
    let values = Numbers::F32(planes.into_data().iter::<f32>().collect());
    let input = Input { name: "pixel_values".into(), shape, values };
    let logits = model.model().forward(x, &mut Context::evaluation());
    Ok(Proof { inputs: vec![input], outputs: vec![numbers("logits", logits)] })
}

/// Positions of the token and of the patches of images of this shape, `[1 + patches, width]`.
fn positions(vit: &Vit, [height, width, _]: [usize; 3]) -> Vec<f32> {
    let patch = vit.config().patch;
    vit.all_positions([height / patch, width / patch]).into_data().iter::<f32>().collect()
}

fn graph<'a>(
    config: &ImageConfig,
    shape: [usize; 3],
    tensors: &'a [NamedTensor],
    positions: &'a [f32],
) -> Result<Graph<'a>, Problem> {
    let [height, width, channels] = shape;
    let family = match config {
        ImageConfig::ResNet(_) => "resnet",
        ImageConfig::Vgg(_) => "vgg",
        ImageConfig::Vit(_) => "vit",
    };
    let mut b = Builder::new(family, tensors);
    let dims = [Dim::Named("batch"), Dim::Fixed(channels), Dim::Fixed(height), Dim::Fixed(width)];
    let x = b.graph.input("pixel_values", Kind::F32, &dims);
    let logits = match config {
        ImageConfig::ResNet(config) => resnet(&mut b, config, &x)?,
        ImageConfig::Vgg(config) => vgg(&mut b, config, &x, [height, width])?,
        ImageConfig::Vit(config) => vit(&mut b, config, &x, [height, width], positions)?,
    };
    b.output("logits", &logits, &of_rows(config.classes()));
    Ok(b.graph)
}

impl<'a> Builder<'a> {
    /// A convolution of `[batch, channels, height, width]`, with a bias where there is one.
    fn convolution(&mut self, x: &str, name: &str, stride: usize, padding: usize) -> Result<String, Problem> {
        let weight = self.weight(&format!("{name}.weight"))?;
        let bias = format!("{name}.bias");
        let bias = if self.has(&bias) { Some(self.weight(&bias)?) } else { None };
        let inputs: Vec<&str> = [x, &weight].into_iter().chain(bias.as_deref()).collect();
        let attributes = [
            ("strides", Attribute::Ints(vec![stride as i64; 2])),
            ("pads", Attribute::Ints(vec![padding as i64; 4])),
        ];
        Ok(self.graph.node("Conv", &inputs, &attributes))
    }

    /// Batch normalisation of the channels of `[batch, channels, height, width]`, by the running statistics.
    fn channel_norm(&mut self, x: &str, name: &str) -> Result<String, Problem> {
        let mut inputs = vec![x.to_owned()];
        for part in ["weight", "bias", "running_mean", "running_var"] {
            inputs.push(self.weight(&format!("{name}.{part}"))?);
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let epsilon = [("epsilon", Attribute::Float(EPS as f32))];
        Ok(self.graph.node("BatchNormalization", &inputs, &epsilon))
    }

    fn max_pool(&mut self, x: &str, side: i64, stride: i64, padding: i64) -> String {
        let attributes = [
            ("kernel_shape", Attribute::Ints(vec![side; 2])),
            ("strides", Attribute::Ints(vec![stride; 2])),
            ("pads", Attribute::Ints(vec![padding; 4])),
        ];
        self.graph.node("MaxPool", &[x], &attributes)
    }
}

/// He et al. 2016; see [`jishi_models::resnet`].
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
    let x = b.flat(&x); // [batch, features]
    b.linear(&x, "fc")
}

/// Simonyan & Zisserman 2015; see [`jishi_models::vgg`].
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
    b.linear(&x, &format!("classifier.{}", 3 * config.hidden.len()))
}

/// Dosovitskiy et al. 2021; see [`jishi_models::vit`]. `positions`: `[tokens + patches, width]`.
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
    let x = b.layer_norm(&x, "layernorm", config.epsilon)?;
    let x = if tokens > 0 {
        let first = b.graph.integer(0);
        b.picked(&x, &first)
    } else {
        let attributes = [("axes", Attribute::Ints(vec![1])), ("keepdims", Attribute::Int(0))];
        b.graph.node("ReduceMean", &[&x], &attributes)
    }; // [batch, width]
    b.linear(&x, "classifier")
}
