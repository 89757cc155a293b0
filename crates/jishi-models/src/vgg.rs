//! VGG (Simonyan & Zisserman 2015, "Very Deep Convolutional Networks for Large-Scale Image Recognition"): 3 × 3
//! convolutions in five stages with max pooling in between, and dense layers. Parameter names are torchvision's:
//! `features.0`, `classifier.6`.

use burn::module::Module;
use burn::tensor::{Device, Tensor, activation};
use jishi_kernels::ops::{self, PoolOptions};
use jishi_recipe::networks::VggModel;
use jishi_recipe::{Activation, Init, Problem, Problems};
use serde_json::{Value, json};

use crate::config::{Keys, put_labels};
use crate::context::Context;
use crate::init::Scope;
use crate::layers::conv::Conv;
use crate::layers::dense::Linear;
use crate::layers::norm::BatchNorm;
use crate::layers::resample::adaptive_average;
use crate::reference::{Reference, sizes};
use crate::resnet::SMALL;

/// Sizes of a VGG.
#[derive(Debug, Clone, PartialEq)]
pub struct VggConfig {
    /// Convolutions of each of the 1 to 5 stages.
    pub blocks: Vec<usize>,
    /// Whether there is a batch norm behind each convolution (Ioffe & Szegedy 2015).
    pub batch_norm: bool,
    /// Channels of the first stage; each stage has twice as many as the one before, and at most 8 times these.
    pub width: usize,
    /// Side of the grid of values that the dense layers see: 7 of the original, 1 for small images.
    pub pool: usize,
    /// Values of each hidden dense layer.
    pub hidden: Vec<usize>,
    /// Share of hidden values of the dense layers dropped in training.
    pub dropout: f64,
    /// Channels of an image.
    pub channels: usize,
    /// Classes.
    pub classes: usize,
}

/// How reference checkpoints of a VGG with two hidden dense layers name and lay out tensors.
pub const REFERENCE: Reference = Reference {
    prefix: "",
    own_prefix: false,
    heads: HEADS[2],
    optional: &[],
    renamed: &[],
    turned: &["classifier.0", "classifier.3", "classifier.6", "classifier.9"],
    ignored: &["num_batches_tracked"],
    aliases: None,
};

/// The output layer's name, by the number of hidden dense layers.
const HEADS: [&[&str]; 4] = [&["classifier.0."], &["classifier.3."], &["classifier.6."], &["classifier.9."]];

/// How reference checkpoints name and lay out tensors: the last of the dense layers is the head.
#[must_use]
pub fn reference(config: &VggConfig) -> Reference {
    Reference { heads: HEADS[config.hidden.len().min(HEADS.len() - 1)], ..REFERENCE }
}

impl VggConfig {
    /// VGG-11, 13, 16 or 19 (table 1, columns A, B, D and E) of images with three channels, with the dense layers of
    /// the original.
    #[must_use]
    pub fn new(depth: usize, batch_norm: bool, classes: usize) -> Option<Self> {
        let blocks = match depth {
            11 => [1, 1, 2, 2, 2],
            13 => [2, 2, 2, 2, 2],
            16 => [2, 2, 3, 3, 3],
            19 => [2, 2, 4, 4, 4],
            _ => return None,
        };
        let (blocks, hidden) = (blocks.to_vec(), vec![4096; 2]);
        Some(Self { blocks, batch_norm, width: 64, pool: 7, hidden, dropout: 0.5, channels: 3, classes })
    }

    /// The sizes of a recipe. Images of less than [`SMALL`] pixels become the mean of each channel, others a grid of
    /// 7 × 7.
    ///
    /// # Errors
    /// Names all sizes that make no model.
    pub fn from_recipe(
        model: &VggModel,
        height: usize,
        width: usize,
        channels: usize,
        classes: usize,
    ) -> Result<Self, Problems> {
        let Some(usual) = Self::new(model.depth, model.batch_norm, classes) else {
            let message = format!("`model.depth`: expected 11, 13, 16 or 19, found {}", model.depth);
            return Err(Problem::new(message).into());
        };
        let config = Self {
            width: model.width,
            pool: if height.min(width) < SMALL { 1 } else { usual.pool },
            hidden: model.hidden.clone(),
            dropout: model.dropout,
            channels,
            ..usual
        };
        config.check()?;
        Ok(config)
    }

    /// With one dense layer on the mean of each channel, for small images.
    #[must_use]
    pub fn small(self) -> Self {
        Self { pool: 1, hidden: Vec::new(), ..self }
    }

    /// That these are the sizes of a model.
    ///
    /// # Errors
    /// Names all sizes that make no model.
    pub fn check(&self) -> Result<(), Problems> {
        sizes(&[
            (
                (1..=5).contains(&self.blocks.len()) && !self.blocks.contains(&0),
                format!("`model.blocks` is {:?}", self.blocks),
                "give the convolutions of 1 to 5 stages, each at least 1",
            ),
            (
                self.hidden.len() < HEADS.len() && !self.hidden.contains(&0),
                format!("`model.hidden` is {:?}", self.hidden),
                "give the sizes of at most 3 layers, each at least 1; [4096, 4096] is the original's",
            ),
            (self.width > 0, "`model.width` is 0".into(), "64 is usual"),
            (self.pool > 0, "`model.pool` is 0".into(), "7 is the original's, 1 is for small images"),
            (
                (0.0..1.0).contains(&self.dropout),
                format!("`model.dropout` is {}", self.dropout),
                "give a share from 0 to below 1",
            ),
            (self.channels > 0, "images have no channels".into(), "1 for grey, 3 for colours"),
            (self.classes > 0, "a classifier of no classes".into(), "the target needs at least two"),
        ])
    }

    fn outputs(&self, stage: usize) -> usize {
        self.width << stage.min(3)
    }

    /// Values of an image before the output layer.
    #[must_use]
    pub fn features(&self) -> usize {
        let grid = self.outputs(self.blocks.len().saturating_sub(1)) * self.pool * self.pool;
        self.hidden.last().copied().unwrap_or(grid)
    }

    /// The sizes of a `config.json` as [`Self::to_hf`] writes it.
    ///
    /// # Errors
    /// Names every key that is missing, damaged, or asks for something that is not supported.
    pub fn from_hf(value: &Value) -> Result<Self, Problems> {
        let mut keys = Keys::new(value, &["vgg"]);
        let config = Self {
            blocks: keys.sizes("depths"),
            batch_norm: keys.flag("batch_norm", false),
            width: keys.size("embedding_size"),
            pool: keys.size("pool_size"),
            hidden: keys.sizes("classifier_sizes"),
            dropout: keys.share("classifier_dropout", 0.5),
            channels: keys.maybe_size("num_channels").unwrap_or(3),
            classes: keys.classes(),
        };
        keys.must("hidden_act", &[json!("relu")]);
        keys.finish()?;
        config.check()?;
        Ok(config)
    }

    /// As a `config.json` in the manner of Hugging Face, whose library has no such model.
    #[must_use]
    pub fn to_hf(&self) -> Value {
        let mut value = json!({
            "architectures": ["VGG"],
            "model_type": "vgg",
            "depths": self.blocks,
            "batch_norm": self.batch_norm,
            "embedding_size": self.width,
            "pool_size": self.pool,
            "classifier_sizes": self.hidden,
            "classifier_dropout": self.dropout,
            "num_channels": self.channels,
            "hidden_act": "relu",
            "torch_dtype": "float32",
        });
        put_labels(&mut value, self.classes);
        value
    }
}

/// A VGG with its output layer.
#[derive(Module, Debug)]
pub struct Vgg {
    features: Vec<Step>,
    classifier: Vec<Dense>,
    #[module(skip)]
    config: VggConfig,
}

/// A step of the convolutions: its place in the list is its number in torchvision's names.
#[derive(Module, Debug)]
enum Step {
    Conv(Conv),
    Norm(BatchNorm),
    /// Whether it is to be done: a norm does it by itself.
    Relu(bool),
    /// Side of the window.
    Pool(usize),
}

/// A step of the dense layers.
#[derive(Module, Debug)]
enum Dense {
    Linear(Linear),
    /// The place of what has no weights: ReLU and dropout are done with the layer before.
    Nothing(bool),
}

impl Vgg {
    /// A model with initial weights from `seed`: of convolutions, normal (He et al. 2015); of dense layers, normal with
    /// variance `2 / in`, so that deep and narrow ones learn too.
    #[must_use]
    pub fn init(config: &VggConfig, seed: u64, device: &Device) -> Self {
        let scope = Scope::new(seed, Init::KaimingNormal, device);
        let mut features = Vec::new();
        let mut inputs = config.channels;
        for (stage, convolutions) in config.blocks.iter().enumerate() {
            let outputs = config.outputs(stage);
            for _ in 0..*convolutions {
                let at = |number: usize| scope.child(&format!("features.{number}"));
                let place = at(features.len());
                features.push(Step::Conv(Conv::init(&place, inputs, outputs, 3, 1).with_bias(&place)));
                if config.batch_norm {
                    features.push(Step::Norm(BatchNorm::init(&at(features.len()), outputs)));
                }
                features.push(Step::Relu(!config.batch_norm));
                inputs = outputs;
            }
            features.push(Step::Pool(2));
        }
        let mut width = inputs * config.pool * config.pool;
        let mut classifier = Vec::new();
        for (i, outputs) in config.hidden.iter().copied().chain([config.classes]).enumerate() {
            if i > 0 {
                classifier.extend([Dense::Nothing(true), Dense::Nothing(true)]);
            }
            let at = scope.child(&format!("classifier.{}", classifier.len()));
            classifier.push(Dense::Linear(Linear::init(&at, width, outputs)));
            width = outputs;
        }
        Self { features, classifier, config: config.clone() }
    }

    /// Its sizes.
    #[must_use]
    pub fn config(&self) -> &VggConfig {
        &self.config
    }

    /// What the output layer sees.
    ///
    /// # Shapes
    /// - input: `[batch, height, width, channels]`
    /// - output: `[batch, features]`
    pub fn features(&self, x: Tensor<4>, context: &mut Context) -> Tensor<2> {
        let mut x = x;
        for step in &self.features {
            x = match step {
                Step::Conv(conv) => conv.forward(x, context),
                Step::Norm(norm) => norm.forward_with(x, None, true, context),
                Step::Relu(true) => activation::relu(x),
                Step::Relu(false) => x,
                Step::Pool(side) => pool(x, *side),
            };
        }
        let mut x = self.grid(x); // [batch, channels · pool · pool]
        for dense in self.classifier.iter().take(self.classifier.len().saturating_sub(1)) {
            if let Dense::Linear(linear) = dense {
                x = linear.activated(x, Activation::Relu, context);
                x = context.dropout(x, self.config.dropout, 1);
            }
        }
        x
    }

    /// The grid of values that the dense layers see, channel by channel as in torchvision.
    ///
    /// # Shapes
    /// - input: `[batch, height, width, channels]`
    /// - output: `[batch, channels · pool · pool]`
    fn grid(&self, x: Tensor<4>) -> Tensor<2> {
        let [batch, height, width, channels] = x.dims();
        let side = self.config.pool;
        if side == 1 {
            return ops::global_average(x);
        }
        let cells = x.reshape([batch, height * width, channels]);
        let cells = if [height, width] == [side; 2] {
            cells
        } else {
            let means = adaptive_average([height, width], [side; 2], &cells.device().inner());
            let means = means.reshape([1, side * side, height * width]);
            means.expand([batch, side * side, height * width]).matmul(cells)
        };
        cells.swap_dims(1, 2).reshape([batch, channels * side * side])
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
        match self.classifier.last() {
            Some(Dense::Linear(linear)) => linear.forward(x, context),
            _ => x,
        }
    }
}

/// The largest value of each window. What is smaller than a window stays as it is: small images.
fn pool(x: Tensor<4>, side: usize) -> Tensor<4> {
    let [_, height, width, _] = x.dims();
    if height.min(width) < side {
        return x;
    }
    ops::max_pool2d(x, PoolOptions { kernel: [side; 2], stride: [side; 2], padding: [0; 2] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::export_weights;

    #[test]
    fn names_and_shapes_are_torchvisions() {
        let narrow = |depth, norm| VggConfig {
            width: 4,
            hidden: vec![8, 8],
            ..VggConfig::new(depth, norm, 5).expect("a known depth")
        };
        let shapes = |config: &VggConfig| -> Vec<(String, Vec<usize>)> {
            let weights = export_weights(&Vgg::init(config, 0, &Device::flex()));
            weights.into_iter().map(|w| (w.name, w.shape)).collect()
        };
        let plain = shapes(&narrow(16, false));
        assert_eq!(plain.len(), 32);
        assert_eq!(plain[24], ("features.28.weight".to_owned(), vec![32, 32, 3, 3]));
        assert_eq!(plain[26], ("classifier.0.weight".to_owned(), vec![32 * 49, 8]));
        assert_eq!(plain[31], ("classifier.6.bias".to_owned(), vec![5]));
        let normed = shapes(&narrow(11, true));
        let of = |name: &str| normed.iter().find(|n| n.0 == name).map(|n| n.1.clone());
        assert_eq!(of("features.25.weight"), Some(vec![32, 32, 3, 3]));
        assert_eq!(of("features.26.running_var"), Some(vec![32]));
        assert_eq!(of("features.27.weight"), None);
    }

    #[test]
    fn images_of_any_size_go_through() {
        for config in [VggConfig::new(11, true, 5), VggConfig::new(11, false, 5).map(VggConfig::small)] {
            let mut config = VggConfig { width: 2, channels: 1, ..config.expect("a known depth") };
            config.hidden.iter_mut().for_each(|n| *n = 6);
            let model = Vgg::init(&config, 0, &Device::flex());
            for (height, width) in [(28, 28), (8, 40), (65, 33)] {
                let x = Tensor::ones([2, height, width, 1], &Device::flex());
                assert_eq!(model.forward(x, &mut Context::evaluation()).dims(), [2, 5]);
            }
        }
    }
}
