//! `[model]`: the families, and what those of tables are made of.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::TaskName;
use crate::generation::{DcganModel, WganGpModel};
use crate::language::{BertModel, EncoderDecoderModel, Gpt2Model, LlamaModel, PretrainedModel};
use crate::networks::{MaeModel, ResNetModel, SsdModel, VggModel, VitModel, YoloModel};

/// The model, by family.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "family", rename_all = "kebab-case")]
pub enum Model {
    /// One dense layer: linear or logistic regression.
    Linear(LinearModel),
    /// A multi-layer perceptron.
    Mlp(MlpModel),
    /// Feature tokenizer + Transformer (Gorishniy et al. 2021).
    FtTransformer(FtTransformerModel),
    /// GPT-2: a decoder with learned positions.
    Gpt2(Gpt2Model),
    /// Llama: a decoder with rotary positions, RMS norm and SwiGLU.
    Llama(LlamaModel),
    /// BERT: an encoder.
    Bert(BertModel),
    /// Transformer: an encoder and a decoder.
    EncoderDecoder(EncoderDecoderModel),
    /// ResNet: residual blocks of convolutions.
    #[serde(rename = "resnet")]
    ResNet(ResNetModel),
    /// VGG: stacks of convolutions.
    Vgg(VggModel),
    /// Vision Transformer: an image as a row of patches.
    Vit(VitModel),
    /// Masked autoencoder: a ViT that learns to tell what it does not see.
    Mae(MaeModel),
    /// YOLO: a detector without anchors.
    Yolo(YoloModel),
    /// SSD: a detector with anchors at every place.
    Ssd(SsdModel),
    /// DCGAN: a generator and a critic of stacked convolutions.
    Dcgan(DcganModel),
    /// WGAN-GP: a residual generator and critic, with a penalty on the critic's slope.
    WganGp(WganGpModel),
    /// A model that was trained before, of any family; `from` alone chooses this.
    Pretrained(PretrainedModel),
}

/// One dense layer over standardised numbers and one-hot categories.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LinearModel {
    /// Initial weights.
    pub init: Init,
}

/// A multi-layer perceptron.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MlpModel {
    /// Width of every hidden layer.
    pub hidden: Vec<usize>,
    /// Activation after every hidden layer.
    pub activation: Activation,
    /// Share of hidden units dropped in training.
    pub dropout: f64,
    /// Normalisation of every hidden layer, before its activation.
    pub norm: Norm,
    /// Add a layer's input to its output where the widths agree.
    pub residual: bool,
    /// How numbers enter the model.
    pub numbers: Numbers,
    /// How categories enter the model.
    pub categories: Categories,
    /// Members of a parameter-efficient ensemble (TabM: Gorishniy et al. 2025); 1 is a plain MLP.
    pub members: usize,
    /// Initial weights.
    pub init: Init,
}

/// Feature tokenizer + Transformer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FtTransformerModel {
    /// Number of blocks.
    pub layers: usize,
    /// Width of every token.
    pub width: usize,
    /// Attention heads; must divide `width`.
    pub heads: usize,
    /// Width of the feed-forward part, as a multiple of `width`.
    pub feed_forward: f64,
    /// Activation of the feed-forward part.
    pub activation: Activation,
    /// Dropout of attention weights.
    pub attention_dropout: f64,
    /// Dropout in the feed-forward part.
    pub dropout: f64,
    /// Dropout of every residual branch.
    pub residual_dropout: f64,
    /// Initial weights.
    pub init: Init,
}

/// An activation function.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// x
    Identity,
    /// 1 / (1 + exp(−x))
    Sigmoid,
    /// tanh(x)
    Tanh,
    /// max(0, x)
    #[default]
    Relu,
    /// max(0.01·x, x)
    LeakyRelu,
    /// x if x > 0, else exp(x) − 1
    Elu,
    /// Self-normalising ELU (Klambauer et al. 2017).
    Selu,
    /// x·Φ(x), exact.
    Gelu,
    /// x·Φ(x), tanh approximation.
    GeluTanh,
    /// x·sigmoid(x), also called swish.
    Silu,
    /// x·tanh(softplus(x))
    Mish,
    /// ln(1 + exp(x))
    Softplus,
    /// x / (1 + |x|)
    Softsign,
    /// x·relu6(x + 3)/6
    HardSwish,
}

/// Normalisation of a layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Norm {
    /// None.
    #[default]
    None,
    /// Batch normalisation (Ioffe & Szegedy 2015).
    Batch,
    /// Layer normalisation (Ba et al. 2016).
    Layer,
}

/// How numbers enter the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Numbers {
    /// Embedding of every number (Gorishniy et al. 2022).
    pub embedding: NumberEmbedding,
    /// Width of a number's embedding. 0: piecewise-linear encodings enter the first layer without one.
    pub width: usize,
    /// Bins of the piecewise-linear encoding, at training quantiles.
    pub bins: usize,
    /// Frequencies of the periodic embedding.
    pub frequencies: usize,
    /// Standard deviation of the periodic embedding's initial frequencies.
    pub sigma: f64,
}

/// Embedding of numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NumberEmbedding {
    /// The scaled number itself.
    #[default]
    None,
    /// Piecewise-linear encoding, then a linear layer for each feature (§3.2).
    PiecewiseLinear,
    /// sin and cos of trained frequencies, then a linear layer and ReLU (§3.3).
    Periodic,
}

/// How categories enter the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Categories {
    /// Encoding of categories.
    pub encoding: CategoryEncoding,
    /// Width of a category's embedding.
    pub width: usize,
}

/// Encoding of categories. Slot 0 of every column is the category that was never seen in training.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CategoryEncoding {
    /// A 0/1 input a category; an unknown category is all zeros.
    #[default]
    OneHot,
    /// A trained vector a category.
    Embedding,
}

/// Named initial weights, drawn from the run's seed. Biases start at zero except for `torch`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// Weights and biases uniform in ±1/√fan_in, as PyTorch's `Linear`.
    #[default]
    Torch,
    /// Uniform in ±√(6/(fan_in+fan_out)), as Keras (Glorot & Bengio 2010).
    XavierUniform,
    /// Normal with variance 2/(fan_in+fan_out).
    XavierNormal,
    /// Uniform in ±√(6/fan_in) (He et al. 2015).
    KaimingUniform,
    /// Normal with variance 2/fan_in.
    KaimingNormal,
    /// Normal with standard deviation 0.02.
    Normal,
    /// All zero; for `linear` alone.
    Zeros,
}

impl Model {
    /// The name in a recipe.
    #[must_use]
    pub fn family(&self) -> &'static str {
        match self {
            Self::Linear(_) => "linear",
            Self::Mlp(_) => "mlp",
            Self::FtTransformer(_) => "ft-transformer",
            Self::Gpt2(_) => "gpt2",
            Self::Llama(_) => "llama",
            Self::Bert(_) => "bert",
            Self::EncoderDecoder(_) => "encoder-decoder",
            Self::ResNet(_) => "resnet",
            Self::Vgg(_) => "vgg",
            Self::Vit(_) => "vit",
            Self::Mae(_) => "mae",
            Self::Yolo(_) => "yolo",
            Self::Ssd(_) => "ssd",
            Self::Dcgan(_) => "dcgan",
            Self::WganGp(_) => "wgan-gp",
            Self::Pretrained(_) => "pretrained",
        }
    }

    /// The tasks that it can be trained for.
    #[must_use]
    pub fn tasks(&self) -> &'static [TaskName] {
        use TaskName::{
            CausalLm, Classification, Detection, Dpo, ImageClassification, ImageEmbedding, ImageGeneration,
            MaskedImageModeling, MaskedLm, Regression, TextClassification, TextEmbedding, Translation,
        };
        match self {
            Self::Linear(_) | Self::Mlp(_) | Self::FtTransformer(_) => &[Regression, Classification],
            Self::Gpt2(_) | Self::Llama(_) => &[CausalLm],
            Self::Bert(_) => &[MaskedLm, TextClassification, TextEmbedding],
            Self::EncoderDecoder(_) => &[Translation],
            Self::ResNet(_) | Self::Vgg(_) | Self::Vit(_) => &[ImageClassification, ImageEmbedding],
            Self::Mae(_) => &[MaskedImageModeling],
            Self::Yolo(_) | Self::Ssd(_) => &[Detection],
            Self::Dcgan(_) | Self::WganGp(_) => &[ImageGeneration],
            Self::Pretrained(_) => &[
                CausalLm,
                Dpo,
                MaskedLm,
                TextClassification,
                Translation,
                TextEmbedding,
                ImageClassification,
                ImageEmbedding,
            ],
        }
    }
}

impl Default for LinearModel {
    fn default() -> Self {
        Self { init: Init::XavierUniform }
    }
}

impl Default for MlpModel {
    fn default() -> Self {
        Self {
            hidden: vec![64, 64],
            activation: Activation::Relu,
            dropout: 0.0,
            norm: Norm::None,
            residual: false,
            numbers: Numbers::default(),
            categories: Categories::default(),
            members: 1,
            init: Init::Torch,
        }
    }
}

impl Default for FtTransformerModel {
    fn default() -> Self {
        Self {
            layers: 3,
            width: 64,
            heads: 8,
            feed_forward: 4.0 / 3.0,
            activation: Activation::Relu,
            attention_dropout: 0.2,
            dropout: 0.1,
            residual_dropout: 0.0,
            init: Init::Torch,
        }
    }
}

impl Default for Numbers {
    fn default() -> Self {
        Self { embedding: NumberEmbedding::None, width: 16, bins: 32, frequencies: 24, sigma: 0.1 }
    }
}

impl Default for Categories {
    fn default() -> Self {
        Self { encoding: CategoryEncoding::OneHot, width: 8 }
    }
}
