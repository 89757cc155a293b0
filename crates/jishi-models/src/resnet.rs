//! ResNet (He et al. 2016, "Deep Residual Learning for Image Recognition"): stages of residual blocks, each stage half as
//! high and wide as the one before. Parameter names are torchvision's: `conv1`, `bn1`, `layer1.0.conv1`,
//! `layer2.0.downsample.0`, `fc`. Checkpoints with the names of Hugging Face's `ResNetForImageClassification` load too.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use jishi_kernels::ops::{self, PoolOptions};
use jishi_recipe::networks::{ResNetModel, Stem as RecipeStem};
use jishi_recipe::{Init, Problem, Problems};
use serde_json::{Value, json};

use crate::config::{Keys, put_labels};
use crate::context::Context;
use crate::init::Scope;
use crate::layers::conv::Conv;
use crate::layers::dense::Linear;
use crate::layers::norm::BatchNorm;
use crate::reference::{Reference, sizes};
use crate::weights::NamedTensor;

/// What an image goes through before the first stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stem {
    /// A 3 × 3 convolution at full size, for images of about 32 pixels (He et al. 2016, §4.2).
    #[default]
    Small,
    /// A 7 × 7 convolution with stride 2 and 3 × 3 max pooling with stride 2 (§3.3).
    Large,
}

/// Sizes of a ResNet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResNetConfig {
    /// Blocks of each of the 1 to 4 stages.
    pub blocks: Vec<usize>,
    /// Whether a block is two narrow 1 × 1 convolutions around a 3 × 3 one, and its result four times as wide (§4.1);
    /// else it is two 3 × 3 ones. Of the three, the second has the stride, as in torchvision ("v1.5").
    pub bottleneck: bool,
    /// What comes before the stages.
    pub stem: Stem,
    /// Channels of the stem. Stage i has `width · 2ⁱ`, four times as many where blocks are bottlenecks.
    pub width: usize,
    /// Channels of an image.
    pub channels: usize,
    /// Classes.
    pub classes: usize,
    /// Whether the last norm of each block starts at zero, so that each block starts as the identity (Goyal et al. 2017,
    /// §5.1).
    pub zero_init: bool,
}

/// How reference checkpoints name and lay out tensors.
pub const REFERENCE: Reference = Reference {
    prefix: "",
    own_prefix: false,
    heads: &["fc."],
    optional: &[],
    renamed: &[],
    turned: &["fc"],
    ignored: &["num_batches_tracked"],
    aliases: Some(from_aliases),
};

/// Images with a side of less than this many pixels are small ones: there, a stem and a head for small images.
pub const SMALL: usize = 96;

/// The narrow part of a bottleneck is a quarter of its result.
const EXPANSION: usize = 4;

impl ResNetConfig {
    /// ResNet-18, 34, 50, 101 or 152 (§4.1, table 1) of images with three channels.
    #[must_use]
    pub fn new(depth: usize, stem: Stem, classes: usize) -> Option<Self> {
        let (blocks, bottleneck) = match depth {
            18 => ([2, 2, 2, 2], false),
            34 => ([3, 4, 6, 3], false),
            50 => ([3, 4, 6, 3], true),
            101 => ([3, 4, 23, 3], true),
            152 => ([3, 8, 36, 3], true),
            _ => return None,
        };
        let blocks = blocks.to_vec();
        Some(Self { blocks, bottleneck, stem, width: 64, channels: 3, classes, zero_init: false })
    }

    /// The sizes of a recipe. Each block starts as the identity.
    ///
    /// # Errors
    /// Names all sizes that make no model.
    pub fn from_recipe(
        model: &ResNetModel,
        height: usize,
        width: usize,
        channels: usize,
        classes: usize,
    ) -> Result<Self, Problems> {
        let stem = match model.stem {
            RecipeStem::Auto if height.min(width) < SMALL => Stem::Small,
            RecipeStem::Small => Stem::Small,
            RecipeStem::Auto | RecipeStem::Large => Stem::Large,
        };
        let Some(usual) = Self::new(model.depth, stem, classes) else {
            let message = format!("`model.depth`: expected 18, 34, 50, 101 or 152, found {}", model.depth);
            return Err(Problem::new(message).into());
        };
        let mut config = Self { width: model.width, channels, zero_init: true, ..usual };
        if let Some(blocks) = &model.blocks {
            (config.blocks, config.bottleneck) = (blocks.clone(), false);
        }
        config.check()?;
        Ok(config)
    }

    /// ResNet-18.
    #[must_use]
    pub fn resnet18(stem: Stem, classes: usize) -> Self {
        Self {
            blocks: vec![2; 4],
            bottleneck: false,
            stem,
            width: 64,
            channels: 3,
            classes,
            zero_init: false,
        }
    }

    /// That these are the sizes of a model.
    ///
    /// # Errors
    /// Names all sizes that make no model.
    pub fn check(&self) -> Result<(), Problems> {
        sizes(&[
            (
                (1..=4).contains(&self.blocks.len()) && !self.blocks.contains(&0),
                format!("`model.blocks` is {:?}", self.blocks),
                "give the blocks of 1 to 4 stages, each at least 1",
            ),
            (self.width > 0, "`model.width` is 0".into(), "64 is usual"),
            (self.channels > 0, "images have no channels".into(), "1 for grey, 3 for colours"),
            (self.classes > 0, "a classifier of no classes".into(), "the target needs at least two"),
        ])
    }

    /// Channels of the last stage: values of an image before the output layer.
    #[must_use]
    pub fn features(&self) -> usize {
        self.outputs(self.blocks.len().saturating_sub(1))
    }

    fn outputs(&self, stage: usize) -> usize {
        (self.width << stage) * if self.bottleneck { EXPANSION } else { 1 }
    }

    /// The sizes of a Hugging Face `config.json`.
    ///
    /// # Errors
    /// Names every key that is missing, damaged, or asks for something that is not supported.
    pub fn from_hf(value: &Value) -> Result<Self, Problems> {
        let mut keys = Keys::new(value, &["resnet"]);
        let bottleneck = keys.text("layer_type", "bottleneck") == "bottleneck";
        let stem = if keys.text("stem", "large") == "small" { Stem::Small } else { Stem::Large };
        let config = Self {
            blocks: keys.sizes("depths"),
            bottleneck,
            stem,
            width: keys.size("embedding_size"),
            channels: keys.maybe_size("num_channels").unwrap_or(3),
            classes: keys.classes(),
            zero_init: false,
        };
        let expected: Vec<usize> =
            (0..config.blocks.len().min(4)).map(|stage| config.outputs(stage)).collect();
        let found = keys.sizes("hidden_sizes");
        if found != expected {
            let message =
                format!("`hidden_sizes` is {found:?}, which is not supported: expected {expected:?}");
            keys.problem(message, "each stage is twice as wide as the one before");
        }
        keys.must("layer_type", &[json!("bottleneck"), json!("basic")]);
        keys.must("stem", &[json!("small"), json!("large")]);
        keys.must("hidden_act", &[json!("relu")]);
        keys.must("downsample_in_first_stage", &[json!(false)]);
        keys.must("downsample_in_bottleneck", &[json!(false)]);
        keys.finish()?;
        config.check()?;
        Ok(config)
    }

    /// As a Hugging Face `config.json`; `stem` is a key of ours, which that library does not know.
    #[must_use]
    pub fn to_hf(&self) -> Value {
        let mut value = json!({
            "architectures": ["ResNetForImageClassification"],
            "model_type": "resnet",
            "depths": self.blocks,
            "hidden_sizes": (0..self.blocks.len()).map(|stage| self.outputs(stage)).collect::<Vec<_>>(),
            "embedding_size": self.width,
            "layer_type": if self.bottleneck { "bottleneck" } else { "basic" },
            "stem": if self.stem == Stem::Small { "small" } else { "large" },
            "num_channels": self.channels,
            "hidden_act": "relu",
            "downsample_in_first_stage": false,
            "downsample_in_bottleneck": false,
            "torch_dtype": "float32",
        });
        put_labels(&mut value, self.classes);
        value
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
    config: ResNetConfig,
}

/// Two or three convolutions and the sum with their input (§3.3, §4.1).
#[derive(Module, Debug)]
struct Block {
    conv1: Conv,
    bn1: BatchNorm,
    conv2: Conv,
    bn2: BatchNorm,
    /// Of a bottleneck.
    conv3: Option<Conv>,
    bn3: Option<BatchNorm>,
    /// Brings the input to the result's size (option B).
    downsample: Option<(Conv, BatchNorm)>,
}

impl Block {
    fn init(scope: &Scope, inputs: usize, width: usize, stride: usize, config: &ResNetConfig) -> Self {
        let conv = |name: &str, inputs, outputs, kernel, stride| {
            Conv::init(&scope.child(name), inputs, outputs, kernel, stride)
        };
        let norm = |name: &str, width| BatchNorm::init(&scope.child(name), width);
        let last = |name: &str, width| {
            let norm = norm(name, width);
            let scale = if config.zero_init { 0.0 } else { 1.0 };
            BatchNorm { weight: scope.child(name).constant(scale, [width]), ..norm }
        };
        let outputs = width * if config.bottleneck { EXPANSION } else { 1 };
        let downsample = (stride != 1 || inputs != outputs)
            .then(|| (conv("downsample.0", inputs, outputs, 1, stride), norm("downsample.1", outputs)));
        if config.bottleneck {
            return Self {
                conv1: conv("conv1", inputs, width, 1, 1),
                bn1: norm("bn1", width),
                conv2: conv("conv2", width, width, 3, stride),
                bn2: norm("bn2", width),
                conv3: Some(conv("conv3", width, outputs, 1, 1)),
                bn3: Some(last("bn3", outputs)),
                downsample,
            };
        }
        Self {
            conv1: conv("conv1", inputs, width, 3, stride),
            bn1: norm("bn1", width),
            conv2: conv("conv2", width, width, 3, 1),
            bn2: last("bn2", width),
            conv3: None,
            bn3: None,
            downsample,
        }
    }

    fn forward(&self, x: Tensor<4>, context: &mut Context) -> Tensor<4> {
        let y = self.conv1.forward(x.clone(), context);
        let y = self.bn1.forward_with(y, None, true, context);
        let y = self.conv2.forward(y, context);
        let (y, norm) = match (&self.conv3, &self.bn3) {
            (Some(conv), Some(norm)) => {
                let y = self.bn2.forward_with(y, None, true, context);
                (conv.forward(y, context), norm)
            }
            _ => (y, &self.bn2),
        };
        let residual = match &self.downsample {
            None => x,
            Some((conv, norm)) => norm.forward_with(conv.forward(x, context), None, false, context),
        };
        norm.forward_with(y, Some(residual), true, context)
    }
}

impl ResNet {
    /// A model with initial weights from `seed`: of convolutions, normal (He et al. 2015); of the output layer, as
    /// PyTorch's.
    #[must_use]
    pub fn init(config: &ResNetConfig, seed: u64, device: &Device) -> Self {
        let scope = Scope::new(seed, Init::Torch, device);
        let stage = |number: usize| -> Vec<Block> {
            let before = if number == 0 { config.width } else { config.outputs(number - 1) };
            let block = |i: usize| {
                let at = scope.child(&format!("layer{}.{i}", number + 1));
                let inputs = if i == 0 { before } else { config.outputs(number) };
                let stride = if i == 0 && number > 0 { 2 } else { 1 };
                Block::init(&at, inputs, config.width << number, stride, config)
            };
            (0..config.blocks.get(number).copied().unwrap_or_default()).map(block).collect()
        };
        let (kernel, stride) = match config.stem {
            Stem::Small => (3, 1),
            Stem::Large => (7, 2),
        };
        Self {
            conv1: Conv::init(&scope.child("conv1"), config.channels, config.width, kernel, stride),
            bn1: BatchNorm::init(&scope.child("bn1"), config.width),
            layer1: stage(0),
            layer2: stage(1),
            layer3: stage(2),
            layer4: stage(3),
            fc: Linear::init(&scope.child("fc"), config.features(), config.classes),
            config: config.clone(),
        }
    }

    /// Its sizes.
    #[must_use]
    pub fn config(&self) -> &ResNetConfig {
        &self.config
    }

    /// What the output layer sees.
    ///
    /// # Shapes
    /// - input: `[batch, height, width, channels]`
    /// - output: `[batch, features]`
    pub fn features(&self, x: Tensor<4>, context: &mut Context) -> Tensor<2> {
        let x = self.conv1.forward(x, context);
        let mut x = self.bn1.forward_with(x, None, true, context); // [batch, height, width, 64]
        if self.config.stem == Stem::Large {
            x = ops::max_pool2d(x, PoolOptions { kernel: [3; 2], stride: [2; 2], padding: [1; 2] });
        }
        for block in [&self.layer1, &self.layer2, &self.layer3, &self.layer4].into_iter().flatten() {
            x = block.forward(x, context);
        }
        ops::global_average(x)
    }

    /// # Shapes
    /// - input: `[batch, height, width, channels]`
    /// - output: logits `[batch, classes]`
    pub fn forward(&self, x: Tensor<4>, context: &mut Context) -> Tensor<2> {
        let x = self.features(x, context);
        self.classes(x, context)
    }

    /// Logits of features.
    pub(crate) fn classes(&self, x: Tensor<2>, context: &mut Context) -> Tensor<2> {
        self.fc.forward(x, context)
    }
}

/// Names of Hugging Face's library as torchvision's.
fn from_aliases(mut tensors: Vec<NamedTensor>) -> Vec<NamedTensor> {
    let theirs =
        |t: &NamedTensor| t.name.contains("embedder.embedder.") || t.name.contains("encoder.stages.");
    if !tensors.iter().any(theirs) {
        return tensors;
    }
    for tensor in &mut tensors {
        if let Some(name) = from_hf_name(&tensor.name) {
            tensor.name = name;
        }
    }
    tensors
}

fn from_hf_name(name: &str) -> Option<String> {
    let name = name.strip_prefix("resnet.").unwrap_or(name);
    let (place, leaf) = name.rsplit_once('.')?;
    if place == "classifier.1" {
        return Some(format!("fc.{leaf}"));
    }
    let (place, kind) = place.rsplit_once('.')?;
    let convolution = match kind {
        "convolution" => true,
        "normalization" => false,
        _ => return None,
    };
    let layer = if place == "embedder.embedder" {
        if convolution { "conv1".to_owned() } else { "bn1".to_owned() }
    } else {
        let parts: Vec<&str> = place.strip_prefix("encoder.stages.")?.split('.').collect();
        let [stage, "layers", block, ref part @ ..] = parts[..] else { return None };
        let stage = stage.parse::<usize>().ok()?.checked_add(1)?;
        let part = match *part {
            ["shortcut"] => format!("downsample.{}", usize::from(!convolution)),
            ["layer", number] => {
                let number = number.parse::<usize>().ok()?.checked_add(1)?;
                format!("{}{number}", if convolution { "conv" } else { "bn" })
            }
            _ => return None,
        };
        format!("layer{stage}.{block}.{part}")
    };
    Some(format!("{layer}.{leaf}"))
}

/// Tensors with torchvision's names by those of Hugging Face's library, which reads them where the stem is
/// [`Stem::Large`].
#[must_use]
pub fn to_hf_names(mut tensors: Vec<NamedTensor>) -> Vec<NamedTensor> {
    for tensor in &mut tensors {
        if let Some(name) = to_hf_name(&tensor.name) {
            tensor.name = name;
        }
    }
    tensors
}

fn to_hf_name(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.split('.').collect();
    let layer = |part: &str| {
        let (kind, number) = part
            .strip_prefix("conv")
            .map(|number| ("convolution", number))
            .or_else(|| part.strip_prefix("bn").map(|number| ("normalization", number)))?;
        Some((kind, number.parse::<usize>().ok()?.checked_sub(1)?))
    };
    Some(match parts[..] {
        ["fc", leaf] => format!("classifier.1.{leaf}"),
        [part, leaf] => format!("resnet.embedder.embedder.{}.{leaf}", layer(part)?.0),
        [stage, block, ref part @ .., leaf] => {
            let stage = stage.strip_prefix("layer")?.parse::<usize>().ok()?.checked_sub(1)?;
            let part = match *part {
                ["downsample", "0"] => "shortcut.convolution".to_owned(),
                ["downsample", "1"] => "shortcut.normalization".to_owned(),
                [part] => {
                    let (kind, number) = layer(part)?;
                    format!("layer.{number}.{kind}")
                }
                _ => return None,
            };
            format!("resnet.encoder.stages.{stage}.layers.{block}.{part}.{leaf}")
        }
        _ => return None,
    })
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
        let x = Tensor::zeros([2, 64, 48, 3], &device);
        assert_eq!(model.forward(x, &mut Context::evaluation()).dims(), [2, 1000]);
    }

    /// torchvision's numbers of parameters.
    #[test]
    fn depths_are_torchvisions() {
        for (depth, parameters) in [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032)] {
            let config = ResNetConfig::new(depth, Stem::Large, 1000).expect("a known depth");
            let weights = export_weights(&ResNet::init(&config, 0, &Device::flex()));
            let trained = weights.iter().filter(|w| !w.name.contains("running"));
            assert_eq!(trained.map(|w| w.data.len()).sum::<usize>(), parameters, "{depth}");
        }
        assert_eq!(ResNetConfig::new(20, Stem::Large, 1000), None);
    }

    #[test]
    fn names_of_hugging_face_go_there_and_back() {
        let sizes =
            ResNetConfig { width: 4, ..ResNetConfig::new(50, Stem::Large, 3).expect("a known depth") };
        let weights = export_weights(&ResNet::init(&sizes, 0, &Device::flex()));
        let theirs = to_hf_names(weights.clone());
        assert!(theirs.iter().zip(&weights).all(|(a, b)| a.name != b.name));
        assert!(
            theirs.iter().any(|t| t.name == "resnet.encoder.stages.2.layers.5.layer.1.normalization.bias")
        );
        assert_eq!(from_aliases(theirs), weights);
    }

    #[test]
    fn training_updates_running_statistics() {
        let model = ResNet::init(&ResNetConfig::resnet18(Stem::Small, 10), 0, &Device::flex().autodiff());
        let mut context = Context::training(0, 0, 0);
        // Images that differ: equal ones have no variance, and what comes after would be zero.
        let values: Vec<f32> = (0..4 * 16 * 16 * 3).map(|i| (i * 7919 % 255) as f32 / 128.0 - 1.0).collect();
        let x = Tensor::from_data(TensorData::new(values, [4, 16, 16, 3]), &Device::flex().autodiff());
        let _ = model.forward(x, &mut context);
        let before = export_weights(&model);
        let after = export_weights(&context.apply_updates(model));
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(before.data != after.data, before.name.contains("running"), "{}", before.name);
        }
    }
}
