//! `resnet18`: training steps of ResNet-18 on images of 32 × 32 pixels, as bench/torch_peer.py does them.

use burn::tensor::{Device, Int, Tensor, TensorData};
use jishi_kernels::Precision;
use jishi_kernels::cpu::cross_entropy::Options;
use jishi_kernels::ops;
use jishi_models::{Context, NamedTensor, ResNet, ResNetConfig, Stem, export_weights, import_weights};
use jishi_recipe::{AdamW, Optimizer, Train};
use jishi_tasks::task::{Direction, Evaluation, SplitName, Task, TaskError};
use serde_json::Value;

use super::gpt::precision_name;
use super::{peer, training};
use crate::error::CliError;

const BATCH: usize = 32;
const SIZE: usize = 32;
const CLASSES: usize = 10;
const WARM_UP: usize = 3;
const MEASURED: usize = 12;

/// Trains it.
pub fn run(name: &str, precision: Precision, profiled: bool) -> Result<Value, CliError> {
    train(name, precision, profiled, MEASURED)
}

fn train(name: &str, precision: Precision, profiled: bool, measured: usize) -> Result<Value, CliError> {
    let config = ResNetConfig::resnet18(Stem::Small, CLASSES);
    let model = ResNet::init(&config, 0, &Device::flex().autodiff());
    let weights = peer_weights(&model);
    let counted = weights.iter().filter(|w| w.trainable);
    let parameters: usize = counted.map(|w| w.data.len()).sum();
    let model = import_weights(model, &weights).map_err(jishi_train::TrainError::from)?;
    drop(weights);
    let optimizer =
        AdamW { learning_rate: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.01, decay_all: true };
    let config = Train {
        optimizer: Optimizer::Adamw(optimizer),
        steps: Some(WARM_UP + measured),
        batch: BATCH,
        precision: match precision {
            Precision::F32 => jishi_recipe::Precision::F32,
            Precision::Bf16 => jishi_recipe::Precision::Bf16,
        },
        ..Train::default()
    };
    let trained = training::run(&Images::new(), &config, model, WARM_UP, profiled)?;
    let mut figures = trained.json(name, precision_name(precision));
    figures["images_per_second"] = (BATCH as f64 / trained.steps.median()).into();
    figures["parameters"] = parameters.into();
    Ok(figures)
}

/// The peer's initial weights: convolutions in the order of the model, a block's shortcut last; then the output layer.
fn peer_weights(model: &ResNet) -> Vec<NamedTensor> {
    let mut seeds = vec!["conv1.weight".to_owned()];
    for (layer, block) in (1..=4).flat_map(|layer| [(layer, 0), (layer, 1)]) {
        for part in ["conv1", "conv2", "downsample.0"] {
            if part != "downsample.0" || (layer > 1 && block == 0) {
                seeds.push(format!("layer{layer}.{block}.{part}.weight"));
            }
        }
    }
    let mut weights = export_weights(model);
    for tensor in &mut weights {
        if let Some(place) = seeds.iter().position(|name| *name == tensor.name) {
            let fan_in: usize = tensor.shape[1..].iter().product();
            let bound = 3f64.sqrt() * (2.0 / fan_in as f64).sqrt();
            tensor.data = peer::weights(tensor.data.len(), place as u32 + 1, bound);
        } else if tensor.name == "fc.weight" {
            let shape = [tensor.shape[1], tensor.shape[0]];
            tensor.data = peer::turned_weights(shape, seeds.len() as u32 + 1, 0.04);
        } else if tensor.name == "fc.bias" {
            tensor.data.fill(0.0);
        }
    }
    weights
}

/// One batch of fixed images.
struct Images {
    /// `[batch, height, width, 3]`
    images: Tensor<4>,
    /// `[batch]`
    classes: Tensor<1, Int>,
}

impl Images {
    fn new() -> Self {
        let values = peer::weights(BATCH * 3 * SIZE * SIZE, 777, 1.0);
        // The peer's images are `[batch, 3, height, width]`.
        let mut images = Vec::with_capacity(values.len());
        for image in values.chunks_exact(3 * SIZE * SIZE) {
            for pixel in 0..SIZE * SIZE {
                images.extend((0..3).map(|channel| image[channel * SIZE * SIZE + pixel]));
            }
        }
        let device = Device::flex();
        let classes: Vec<i64> = (0..BATCH).map(|i| (i % CLASSES) as i64).collect();
        Self {
            images: Tensor::from_data(TensorData::new(images, [BATCH, SIZE, SIZE, 3]), &device),
            classes: Tensor::from_data(TensorData::new(classes, [BATCH]), &device),
        }
    }
}

impl Task for Images {
    type Model = ResNet;
    type Batch = ();

    fn rows(&self, split: SplitName) -> usize {
        if split == SplitName::Train { BATCH } else { 0 }
    }

    /// The batch is the same at every step.
    fn batch(&self, _: &[u32]) {}

    fn weight(&self, (): &()) -> f64 {
        BATCH as f64
    }

    fn loss(&self, model: &ResNet, (): &(), context: &mut Context) -> Tensor<1> {
        let logits = model.forward(self.images.clone(), context);
        ops::cross_entropy(logits, self.classes.clone(), Options::default())
    }

    fn evaluate(&self, _: &ResNet, _: SplitName) -> Result<Evaluation, TaskError> {
        Ok(Evaluation { loss: f64::NAN, metrics: std::collections::BTreeMap::new() })
    }

    fn direction(&self, _: &str) -> Direction {
        Direction::Lower
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_losses_are_the_peers() {
        let figures = train("resnet18", Precision::F32, false, 1).expect("it trains");
        // PyTorch 2.15, f32.
        let expected = [2.306_28, 0.284_84, 0.030_02, 0.007_98];
        for (found, expected) in figures["losses"].as_array().expect("losses").iter().zip(expected) {
            let found = found.as_f64().expect("a number");
            assert!(
                (found - expected).abs() < 1e-4 + 0.02 * (2.0 - expected).max(0.0) * expected,
                "{found} {expected}"
            );
        }
        assert_eq!(figures["parameters"], 11_173_962);
    }
}
