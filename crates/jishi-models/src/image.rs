//! Models of images: those that tell what is in a picture.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use jishi_recipe::{Model, Problem, Problems};
use serde_json::Value;

use crate::context::Context;
use crate::error::ModelError;
use crate::layers::projection::Projection;
use crate::lora::Adapted;
use crate::reference::{Loaded, Reference};
use crate::resnet::{self, ResNet, ResNetConfig};
use crate::vgg::{self, Vgg, VggConfig};
use crate::vit::{self, Vit, VitConfig};
use crate::weights::NamedTensor;

/// Sizes of a model of images.
#[derive(Debug, Clone, PartialEq)]
pub enum ImageConfig {
    /// ResNet.
    ResNet(ResNetConfig),
    /// VGG.
    Vgg(VggConfig),
    /// ViT.
    Vit(VitConfig),
}

impl ImageConfig {
    /// The sizes of a recipe's model of images of a shape, `[height, width, channels]`.
    ///
    /// # Errors
    /// Names all sizes that make no model. A family that is not of images is one.
    pub fn from_recipe(model: &Model, shape: [usize; 3], classes: usize) -> Result<Self, Problems> {
        let [height, width, channels] = shape;
        match model {
            Model::ResNet(model) => {
                ResNetConfig::from_recipe(model, height, width, channels, classes).map(Self::ResNet)
            }
            Model::Vgg(model) => {
                VggConfig::from_recipe(model, height, width, channels, classes).map(Self::Vgg)
            }
            Model::Vit(model) => {
                VitConfig::from_recipe(model, height, width, channels, classes).map(Self::Vit)
            }
            other => {
                let message =
                    format!("`model.family` is \"{}\", which is no model of images", other.family());
                Err(Problem::new(message).help("resnet, vgg and vit are").into())
            }
        }
    }

    /// The sizes of a Hugging Face `config.json`.
    ///
    /// # Errors
    /// Names every key that is missing, damaged, or asks for something that is not supported.
    pub fn from_hf(value: &Value) -> Result<Self, Problems> {
        match value["model_type"].as_str() {
            Some("resnet") => ResNetConfig::from_hf(value).map(Self::ResNet),
            Some("vgg") => VggConfig::from_hf(value).map(Self::Vgg),
            Some("vit" | "vit_mae") => VitConfig::from_hf(value).map(Self::Vit),
            _ => {
                let message = format!("`model_type` is {}, which is no model of images", value["model_type"]);
                Err(Problem::new(message).help("resnet, vgg and vit are").into())
            }
        }
    }

    /// Whether a `model_type` of a Hugging Face `config.json` is a model of images.
    #[must_use]
    pub fn is_family(model_type: &str) -> bool {
        matches!(model_type, "resnet" | "vgg" | "vit" | "vit_mae")
    }

    /// As a Hugging Face `config.json`.
    #[must_use]
    pub fn to_hf(&self) -> Value {
        match self {
            Self::ResNet(config) => config.to_hf(),
            Self::Vgg(config) => config.to_hf(),
            Self::Vit(config) => config.to_hf(),
        }
    }

    /// That these are the sizes of a model.
    ///
    /// # Errors
    /// Names all sizes that make no model.
    pub fn check(&self) -> Result<(), Problems> {
        match self {
            Self::ResNet(config) => config.check(),
            Self::Vgg(config) => config.check(),
            Self::Vit(config) => config.check(),
        }
    }

    /// Classes.
    #[must_use]
    pub fn classes(&self) -> usize {
        match self {
            Self::ResNet(config) => config.classes,
            Self::Vgg(config) => config.classes,
            Self::Vit(config) => config.classes,
        }
    }

    /// Puts an output layer of this many classes on it.
    pub fn set_classes(&mut self, classes: usize) {
        match self {
            Self::ResNet(config) => config.classes = classes,
            Self::Vgg(config) => config.classes = classes,
            Self::Vit(config) => config.classes = classes,
        }
    }

    /// Channels of an image.
    #[must_use]
    pub fn channels(&self) -> usize {
        match self {
            Self::ResNet(config) => config.channels,
            Self::Vgg(config) => config.channels,
            Self::Vit(config) => config.channels,
        }
    }

    /// Values of an image before the output layer.
    #[must_use]
    pub fn features(&self) -> usize {
        match self {
            Self::ResNet(config) => config.features(),
            Self::Vgg(config) => config.features(),
            Self::Vit(config) => config.width,
        }
    }

    /// What the sides of an image have to be multiples of.
    #[must_use]
    pub fn multiple(&self) -> usize {
        match self {
            Self::ResNet(_) | Self::Vgg(_) => 1,
            Self::Vit(config) => config.patch,
        }
    }

    /// Drops this share in training wherever the family drops something.
    pub fn set_dropout(&mut self, rate: f64) {
        match self {
            Self::ResNet(_) => {}
            Self::Vgg(config) => config.dropout = rate,
            Self::Vit(config) => (config.dropout, config.attention_dropout) = (rate, rate),
        }
    }
}

/// A model of images.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub enum ImageModel {
    /// ResNet.
    ResNet(ResNet),
    /// VGG.
    Vgg(Vgg),
    /// ViT.
    Vit(Vit),
}

impl ImageModel {
    /// A model with initial weights from `seed`. On an autodiff device its parameters ask for gradients.
    #[must_use]
    pub fn init(config: &ImageConfig, seed: u64, device: &Device) -> Self {
        match config {
            ImageConfig::ResNet(config) => Self::ResNet(ResNet::init(config, seed, device)),
            ImageConfig::Vgg(config) => Self::Vgg(Vgg::init(config, seed, device)),
            ImageConfig::Vit(config) => Self::Vit(Vit::init(config, seed, device)),
        }
    }

    /// Its sizes.
    #[must_use]
    pub fn config(&self) -> ImageConfig {
        match self {
            Self::ResNet(model) => ImageConfig::ResNet(model.config().clone()),
            Self::Vgg(model) => ImageConfig::Vgg(model.config().clone()),
            Self::Vit(model) => ImageConfig::Vit(model.config().clone()),
        }
    }

    /// How reference checkpoints name and lay out its tensors.
    #[must_use]
    pub fn reference(&self) -> Reference {
        match self {
            Self::ResNet(_) => resnet::REFERENCE,
            Self::Vgg(model) => vgg::reference(model.config()),
            Self::Vit(_) => vit::REFERENCE,
        }
    }

    /// Puts a checkpoint's tensors into the model: see [`Reference::load`].
    ///
    /// # Errors
    /// Names every tensor that is missing, unknown, double or of another shape.
    pub fn load(self, tensors: Vec<NamedTensor>) -> Result<(Self, Loaded), ModelError> {
        self.reference().load(self, tensors)
    }

    /// Logits of classes.
    ///
    /// # Shapes
    /// - input: `[batch, height, width, channels]`
    /// - output: `[batch, classes]`
    pub fn forward(&self, x: Tensor<4>, context: &mut Context) -> Tensor<2> {
        match self {
            Self::ResNet(model) => model.forward(x, context),
            Self::Vgg(model) => model.forward(x, context),
            Self::Vit(model) => model.forward(x, context),
        }
    }

    /// What the output layer sees.
    ///
    /// # Shapes
    /// - input: `[batch, height, width, channels]`
    /// - output: `[batch, features]`
    pub fn features(&self, x: Tensor<4>, context: &mut Context) -> Tensor<2> {
        match self {
            Self::ResNet(model) => model.features(x, context),
            Self::Vgg(model) => model.features(x, context),
            Self::Vit(model) => model.features(x, context),
        }
    }

    /// Logits of classes, of what [`Self::features`] gives.
    ///
    /// # Shapes
    /// - input: `[batch, features]`
    /// - output: `[batch, classes]`
    pub fn classes(&self, features: Tensor<2>, context: &mut Context) -> Tensor<2> {
        match self {
            Self::ResNet(model) => model.classes(features, context),
            Self::Vgg(model) => model.classes(features, context),
            Self::Vit(model) => model.classes(features, context),
        }
    }
}

impl Adapted for ImageModel {
    fn each_projection(&mut self, f: &mut dyn FnMut(&str, &mut Projection)) {
        match self {
            Self::ResNet(_) | Self::Vgg(_) => {}
            Self::Vit(model) => model.each_projection(f),
        }
    }
}
