//! ResNet (He et al. 2016, "Deep Residual Learning for Image Recognition"): stages of residual blocks, each stage half as
//! high and wide as the one before. Parameter names are torchvision's: `conv1`, `bn1`, `layer1.0.conv1`,
//! `layer2.0.downsample.0`, `fc`.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use jishi_kernels::Precision;
use jishi_kernels::ops::{self, ConvOptions, PoolOptions};
use jishi_recipe::Init;

use crate::context::Context;
use crate::init::Scope;
use crate::layers::dense::Linear;
use crate::layers::norm::BatchNorm;

/// What an image goes through before the first stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stem {
    /// A 3 × 3 convolution at full size, for images of about 32 pixels (He et al. 2016, §4.2).
    Small,
    /// A 7 × 7 convolution with stride 2 and 3 × 3 max pooling with stride 2 (§3.3).
    Large,
}

/// Sizes of a ResNet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResNetConfig {
    /// Blocks of each stage. Stage i has `64 · 2ⁱ` channels.
    pub blocks: [usize; 4],
    /// What comes before the stages.
    pub stem: Stem,
    /// Channels of an image.
    pub channels: usize,
    /// Classes.
    pub classes: usize,
}

impl ResNetConfig {
    /// ResNet-18.
    #[must_use]
    pub fn resnet18(stem: Stem, classes: usize) -> Self {
        Self { blocks: [2, 2, 2, 2], stem, channels: 3, classes }
    }

    /// ResNet-34.
    #[must_use]
    pub fn resnet34(stem: Stem, classes: usize) -> Self {
        Self { blocks: [3, 4, 6, 3], stem, channels: 3, classes }
    }
}

/// A ResNet with its output layer.
#[derive(Module, Debug)]
pub struct ResNet {
    conv1: Conv,
    bn1: BatchNorm,
    layer1: Vec<Block>,
    layer2: Vec<Block>,
    layer3: Vec<Block>,
    layer4: Vec<Block>,
    fc: Linear,
    #[module(skip)]
    stem: Stem,
}

/// A convolution without bias.
#[derive(Module, Debug)]
struct Conv {
    /// `[out, in, height, width]`
    weight: Param<Tensor<4>>,
    stride: usize,
}

/// Two convolutions and the sum with their input (§3.3).
#[derive(Module, Debug)]
struct Block {
    conv1: Conv,
    bn1: BatchNorm,
    conv2: Conv,
    bn2: BatchNorm,
    /// Brings the input to the result's size (option B).
    downsample: Option<(Conv, BatchNorm)>,
}

impl Conv {
    /// Normal with variance `2 / (out · height · width)` (He et al. 2015).
    fn init(scope: &Scope, inputs: usize, outputs: usize, kernel: usize, stride: usize) -> Self {
        let deviation = (2.0 / (outputs * kernel * kernel) as f32).sqrt();
        Self { weight: scope.normal("weight", [outputs, inputs, kernel, kernel], deviation), stride }
    }

    /// # Shapes
    /// - input: `[batch, height, width, in]`
    /// - output: `[batch, height / stride, width / stride, out]`
    fn forward(&self, x: Tensor<4>, precision: Precision) -> Tensor<4> {
        let weight = self.weight.val();
        let padding = weight.dims()[2] / 2;
        let options = ConvOptions {
            stride: [self.stride; 2],
            padding: [padding; 2],
            precision,
            ..ConvOptions::default()
        };
        ops::conv2d(x, weight, None, options)
    }
}

impl Block {
    fn init(scope: &Scope, inputs: usize, outputs: usize, stride: usize) -> Self {
        let downsample = (stride != 1 || inputs != outputs).then(|| {
            let conv = Conv::init(&scope.child("downsample.0"), inputs, outputs, 1, stride);
            (conv, BatchNorm::init(&scope.child("downsample.1"), outputs))
        });
        Self {
            conv1: Conv::init(&scope.child("conv1"), inputs, outputs, 3, stride),
            bn1: BatchNorm::init(&scope.child("bn1"), outputs),
            conv2: Conv::init(&scope.child("conv2"), outputs, outputs, 3, 1),
            bn2: BatchNorm::init(&scope.child("bn2"), outputs),
            downsample,
        }
    }

    fn forward(&self, x: Tensor<4>, context: &mut Context, precision: Precision) -> Tensor<4> {
        let y = self.conv1.forward(x.clone(), precision);
        let y = self.bn1.forward_with(y, None, true, context);
        let y = self.conv2.forward(y, precision);
        let residual = match &self.downsample {
            None => x,
            Some((conv, norm)) => norm.forward_with(conv.forward(x, precision), None, false, context),
        };
        self.bn2.forward_with(y, Some(residual), true, context)
    }
}

impl ResNet {
    /// A model with initial weights from `seed`.
    #[must_use]
    pub fn init(config: &ResNetConfig, seed: u64, device: &Device) -> Self {
        let scope = Scope::new(seed, Init::Torch, device);
        let stage = |number: usize| -> Vec<Block> {
            let outputs = 64 << number;
            let block = |i: usize| {
                let first = i == 0 && number > 0;
                let at = scope.child(&format!("layer{}.{i}", number + 1));
                Block::init(
                    &at,
                    if first { outputs / 2 } else { outputs },
                    outputs,
                    if first { 2 } else { 1 },
                )
            };
            (0..config.blocks[number]).map(block).collect()
        };
        let (kernel, stride) = match config.stem {
            Stem::Small => (3, 1),
            Stem::Large => (7, 2),
        };
        Self {
            conv1: Conv::init(&scope.child("conv1"), config.channels, 64, kernel, stride),
            bn1: BatchNorm::init(&scope.child("bn1"), 64),
            layer1: stage(0),
            layer2: stage(1),
            layer3: stage(2),
            layer4: stage(3),
            fc: Linear::init(&scope.child("fc"), 512, config.classes),
            stem: config.stem,
        }
    }

    /// # Shapes
    /// - input: `[batch, height, width, channels]`
    /// - output: logits `[batch, classes]`
    pub fn forward(&self, x: Tensor<4>, context: &mut Context, precision: Precision) -> Tensor<2> {
        let x = self.conv1.forward(x, precision);
        let mut x = self.bn1.forward_with(x, None, true, context); // [batch, height, width, 64]
        if self.stem == Stem::Large {
            x = ops::max_pool2d(x, PoolOptions { kernel: [3; 2], stride: [2; 2], padding: [1; 2] });
        }
        for block in [&self.layer1, &self.layer2, &self.layer3, &self.layer4].into_iter().flatten() {
            x = block.forward(x, context, precision);
        }
        let x = ops::global_average(x); // [batch, 512]
        let with = ops::Linear { bias: Some(self.fc.bias.val()), precision, ..ops::Linear::default() };
        ops::linear(x, self.fc.weight.val(), with)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;
    use crate::weights::export_weights;

    #[test]
    fn names_and_shapes_are_torchvisions() {
        let device = Device::flex();
        let model = ResNet::init(&ResNetConfig::resnet18(Stem::Large, 1000), 0, &device);
        let weights = export_weights(&model);
        let shape = |name: &str| {
            weights
                .iter()
                .find(|w| w.name == name)
                .map(|w| w.shape.clone())
                .unwrap_or_else(|| panic!("{name}"))
        };
        assert_eq!(shape("conv1.weight"), [64, 3, 7, 7]);
        assert_eq!(shape("bn1.running_var"), [64]);
        assert_eq!(shape("layer1.1.conv2.weight"), [64, 64, 3, 3]);
        assert_eq!(shape("layer2.0.downsample.0.weight"), [128, 64, 1, 1]);
        assert_eq!(shape("layer2.0.downsample.1.running_mean"), [128]);
        assert_eq!(shape("layer4.1.bn2.bias"), [512]);
        // Matrices of this project are `[in, out]`.
        assert_eq!(shape("fc.weight"), [512, 1000]);
        // torchvision's number for ResNet-18, and its running statistics.
        let trained: usize =
            weights.iter().filter(|w| !w.name.contains("running")).map(|w| w.data.len()).sum();
        assert_eq!(trained, 11_689_512);
        let x = Tensor::zeros([2, 64, 48, 3], &device);
        assert_eq!(model.forward(x, &mut Context::evaluation(), Precision::F32).dims(), [2, 1000]);
    }

    #[test]
    fn training_updates_running_statistics() {
        let model = ResNet::init(&ResNetConfig::resnet18(Stem::Small, 10), 0, &Device::flex().autodiff());
        let mut context = Context::training(0, 0, 0);
        // Images that differ: equal ones have no variance, and what comes after would be zero.
        let values: Vec<f32> = (0..4 * 16 * 16 * 3).map(|i| (i * 7919 % 255) as f32 / 128.0 - 1.0).collect();
        let x = Tensor::from_data(TensorData::new(values, [4, 16, 16, 3]), &Device::flex().autodiff());
        let _ = model.forward(x, &mut context, Precision::F32);
        let before = export_weights(&model);
        let after = export_weights(&context.apply_updates(model));
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(before.data != after.data, before.name.contains("running"), "{}", before.name);
        }
    }
}
