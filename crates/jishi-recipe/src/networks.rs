//! Keys of the model families of recipes that learn from images.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// ResNet (He et al. 2016): residual blocks of convolutions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResNetModel {
    /// 18, 34, 50, 101 or 152 layers; from 50 on with bottlenecks.
    pub depth: usize,
    /// Blocks of each of the stages, in place of those that `depth` says: `[1, 1, 1]` is a small one.
    pub blocks: Option<Vec<usize>>,
    /// Channels of the first stage; each further stage has twice as many.
    pub width: usize,
    /// What an image goes through first.
    pub stem: Stem,
}

/// What an image goes through before the first stage of a network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Stem {
    /// `small` for images of less than 96 pixels, else `large`.
    #[default]
    Auto,
    /// A 3 × 3 convolution at full size (He et al. 2016, §4.2).
    Small,
    /// A 7 × 7 convolution and max pooling, each with stride 2 (§3.3).
    Large,
}

/// VGG (Simonyan & Zisserman 2015): plain stacks of 3 × 3 convolutions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VggModel {
    /// 11, 13, 16 or 19 layers.
    pub depth: usize,
    /// Normalise after every convolution.
    pub batch_norm: bool,
    /// Channels of the first stack; 64 in the paper.
    pub width: usize,
    /// Width of every hidden layer after the convolutions, at most 3; `[4096, 4096]` in the paper.
    pub hidden: Vec<usize>,
    /// Share of the hidden layers dropped in training.
    pub dropout: f64,
}

/// Vision Transformer (Dosovitskiy et al. 2021): an image as a row of patches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VitModel {
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads; must divide `width`.
    pub heads: usize,
    /// Values a patch.
    pub width: usize,
    /// Width of the feed-forward part. Default: 4 times `width`.
    pub hidden: Option<usize>,
    /// Height and width of a patch, in pixels; must divide those of the image.
    pub patch: usize,
    /// What the classes are told from.
    pub pool: Pool,
    /// Share of values dropped after embeddings, attention and feed-forward parts in training.
    pub dropout: f64,
    /// Share of examples that skip the last block in training; earlier blocks less, the first none (Huang et al. 2016).
    pub drop_path: f64,
}

/// Masked autoencoder (He et al. 2022): a ViT that sees a few patches of an image, and a decoder that tells the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MaeModel {
    /// Number of blocks of the ViT.
    pub layers: usize,
    /// Attention heads of the ViT and of the decoder; must divide both widths.
    pub heads: usize,
    /// Values a patch in the ViT; a multiple of 4.
    pub width: usize,
    /// Width of the ViT's feed-forward part. Default: 4 times `width`.
    pub hidden: Option<usize>,
    /// Height and width of a patch, in pixels; must divide those of the image.
    pub patch: usize,
    /// What classes are told from, when the ViT is trained for them.
    pub pool: Pool,
    /// Share of the patches that the ViT does not see.
    pub mask_ratio: f64,
    /// Tell the pixels of a patch relative to their mean and deviation (§4.1, table 1d): better features, and pictures
    /// that are harder to look at.
    pub norm_pix_loss: bool,
    /// Number of blocks of the decoder. Default: a third of `layers`.
    pub decoder_layers: Option<usize>,
    /// Values a patch in the decoder; a multiple of 4. Default: half of `width`.
    pub decoder_width: Option<usize>,
}

/// What becomes of a row of patches at the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Pool {
    /// A position of its own before the patches.
    #[default]
    Cls,
    /// The mean of all patches.
    Mean,
}

/// YOLO without anchors: a backbone of cross-stage blocks, levels that are joined from above and below, and a head that
/// tells classes and boxes apart (Redmon et al. 2016; Feng et al. 2021; Li et al. 2020).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct YoloModel {
    /// Width and depth together.
    pub scale: YoloScale,
    /// Channels of the first convolution, in place of those that `scale` says.
    pub width: Option<usize>,
    /// Blocks of the first stage, in place of those that `scale` says; the two stages in the middle have twice as many.
    pub depth: Option<usize>,
    /// Boxes of a class that overlap a surer one by more than this (intersection over union) are left out.
    pub nms: f64,
}

/// Width and depth of a YOLO.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum YoloScale {
    /// Nano: width 16, depth 1.
    #[default]
    N,
    /// Small: width 32, depth 1.
    S,
    /// Medium: width 48, depth 2.
    M,
}

/// SSD (Liu et al. 2016): anchors of several sizes and shapes at every place of several levels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SsdModel {
    /// What comes before the levels.
    pub backbone: SsdBackbone,
    /// Channels of its first stage; 64 in the paper. Default: 64 for `vgg`, 24 for `light`.
    pub width: Option<usize>,
    /// Boxes of a class that overlap a surer one by more than this (intersection over union) are left out.
    pub nms: f64,
}

/// What comes before the levels of an SSD.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SsdBackbone {
    /// One or two convolutions a stage: for small images and few processors.
    #[default]
    Light,
    /// VGG-16, normalised after every convolution (SSD300).
    Vgg,
}

impl YoloModel {
    /// Channels of the first convolution.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width.unwrap_or(match self.scale {
            YoloScale::N => 16,
            YoloScale::S => 32,
            YoloScale::M => 48,
        })
    }

    /// Blocks of the first stage.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.depth.unwrap_or(if self.scale == YoloScale::M { 2 } else { 1 })
    }
}

impl Default for YoloModel {
    fn default() -> Self {
        Self { scale: YoloScale::N, width: None, depth: None, nms: 0.6 }
    }
}

impl Default for SsdModel {
    fn default() -> Self {
        Self { backbone: SsdBackbone::Light, width: None, nms: 0.45 }
    }
}

impl Default for ResNetModel {
    fn default() -> Self {
        Self { depth: 18, blocks: None, width: 64, stem: Stem::Auto }
    }
}

impl Default for VggModel {
    fn default() -> Self {
        Self { depth: 11, batch_norm: true, width: 64, hidden: vec![512, 512], dropout: 0.5 }
    }
}

impl Default for MaeModel {
    fn default() -> Self {
        Self {
            layers: 6,
            heads: 3,
            width: 192,
            hidden: None,
            patch: 4,
            pool: Pool::Cls,
            mask_ratio: 0.75,
            norm_pix_loss: true,
            decoder_layers: None,
            decoder_width: None,
        }
    }
}

impl Default for VitModel {
    fn default() -> Self {
        Self {
            layers: 6,
            heads: 3,
            width: 192,
            hidden: None,
            patch: 4,
            pool: Pool::Cls,
            dropout: 0.0,
            drop_path: 0.0,
        }
    }
}
