//! Generators as graphs: `latent` `[batch, latent]`, standard normal, to `images` `[batch, channels, height, width]`, from −1
//! (black) to 1 (white).

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use jishi_hub::About;
use jishi_hub::onnx::{Attribute, Graph, Input, Kind, Numbers};
use jishi_models::{Context, GanConfig, GanKind, NamedTensor, export_weights};
use jishi_recipe::Problem;
use serde_json::json;

use super::layers::{Builder, of_rows};
use super::{Proof, describe, image, numbers};
use crate::error::TrainError;
use crate::job::finish::same_golden;
use crate::job::vision::ImageGenerator;

/// Writes the generator of a pair.
///
/// # Errors
/// As [`super::export`].
pub(super) fn export(dir: &Path, out: &Path, device: &Device) -> Result<(), TrainError> {
    let known = ImageGenerator::load(dir, device)?;
    same_golden("the model package", dir, &known.golden()?, known.golden_outputs())?;
    let (config, preparation) = (&known.pipeline.config, &known.pipeline.preparation);
    let tensors = export_weights(known.generator());
    let mut graph = graph(config, &tensors)?;
    describe(&mut graph, known.recipe.task, None);
    graph.metadata.insert("preparation".into(), json!(preparation).to_string());
    let written = serde_json::to_value(config).expect("sizes have string keys alone");
    let latents = known.latents()?;
    let rows = latents.len() / config.latent;
    let noise = TensorData::new(latents.clone(), [rows, config.latent]);
    let noise = Tensor::<2>::from_data(noise, &device.clone().inner());
    let images = known.generator().forward(noise, &mut Context::evaluation());
    let values = Numbers::F32(latents);
    let proof = Proof {
        inputs: vec![Input { name: "latent".into(), shape: vec![rows, config.latent], values }],
        outputs: vec![numbers("images", images.permute([0, 3, 1, 2]))],
    };
    image::write(out, &About { config: written, ..About::default() }, &graph, &proof)
}

fn graph<'a>(config: &GanConfig, tensors: &'a [NamedTensor]) -> Result<Graph<'a>, Problem> {
    let family = match config.kind {
        GanKind::Dcgan => "dcgan",
        GanKind::ResNet => "wgan-gp",
    };
    let mut b = Builder::new(family, tensors);
    let latent = b.graph.input("latent", Kind::F32, &of_rows(config.latent));
    let images = match config.kind {
        GanKind::Dcgan => dcgan(&mut b, config, &latent)?,
        GanKind::ResNet => residual(&mut b, config, &latent)?,
    };
    let images = b.one("Tanh", &images);
    b.output("images", &images, &image::planes([config.side, config.side, config.channels]));
    Ok(b.graph)
}

/// See [`jishi_models::gan`].
fn dcgan(b: &mut Builder<'_>, config: &GanConfig, latent: &str) -> Result<String, Problem> {
    let (_, stages) = config.stages();
    let axes = b.graph.integers(&[2, 3]);
    let mut x = b.two("Unsqueeze", latent, &axes); // [batch, latent, 1, 1]
    for layer in 0..=stages {
        b.graph.scope(&format!("layers.{layer}"));
        let weight = b.weight(&format!("layers.{layer}.weight"))?;
        let (stride, padding) = if layer == 0 { (1, 0) } else { (2, 1) };
        let attributes =
            [("strides", Attribute::Ints(vec![stride; 2])), ("pads", Attribute::Ints(vec![padding; 4]))];
        x = b.graph.node("ConvTranspose", &[&x, &weight], &attributes);
        if layer < stages {
            x = b.channel_norm(&x, &format!("norms.{layer}"))?;
            x = b.one("Relu", &x);
        }
    }
    Ok(x)
}

/// See [`jishi_models::gan`].
fn residual(b: &mut Builder<'_>, config: &GanConfig, latent: &str) -> Result<String, Problem> {
    let (start, stages) = config.stages();
    b.graph.scope("input");
    let x = b.linear(latent, "input")?;
    let shape = b.graph.integers(&[0, start as i64, start as i64, config.width as i64]);
    let x = b.two("Reshape", &x, &shape);
    let mut x = b.transposed(&x, &[0, 3, 1, 2]); // [batch, width, start, start]
    for block in 0..stages {
        let at = format!("blocks.{block}");
        b.graph.scope(&at);
        let y = b.channel_norm(&x, &format!("{at}.bn1"))?;
        let y = b.one("Relu", &y);
        let y = b.doubled(&y);
        let y = b.convolution(&y, &format!("{at}.conv1"), 1, 1)?;
        let y = b.channel_norm(&y, &format!("{at}.bn2"))?;
        let y = b.one("Relu", &y);
        let y = b.convolution(&y, &format!("{at}.conv2"), 1, 1)?;
        let larger = b.doubled(&x);
        x = b.two("Add", &y, &larger);
    }
    b.graph.scope("output");
    let x = b.channel_norm(&x, "norm")?;
    let x = b.one("Relu", &x);
    b.convolution(&x, "output", 1, 1)
}
