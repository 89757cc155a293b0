//! Sizes of a ViT.

use jishi_kernels::Activation;
use jishi_recipe::networks::{Pool, VitModel};
use jishi_recipe::{Problem, Problems};
use serde_json::{Value, json};

use crate::config::{Keys, activation_name, put_labels};
use crate::reference::sizes;

/// What an image is told by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum VitPooling {
    /// A token of its own in front of the patches (§3.1).
    #[default]
    Cls,
    /// The mean of the patches; there is no other token (appendix D.3).
    Mean,
}

/// Sizes of a ViT.
#[derive(Debug, Clone, PartialEq)]
pub struct VitConfig {
    /// Blocks.
    pub layers: usize,
    /// Values a patch.
    pub width: usize,
    /// Attention heads; divides `width`.
    pub heads: usize,
    /// Hidden values of the feed-forward part.
    pub hidden: usize,
    /// Height and width of the images that there are positions for, in pixels; for others they are interpolated.
    pub image_size: [usize; 2],
    /// Side of a patch, in pixels; divides both of `image_size`.
    pub patch: usize,
    /// Channels of an image.
    pub channels: usize,
    /// Classes.
    pub classes: usize,
    /// What an image is told by.
    pub pooling: VitPooling,
    /// Of the feed-forward part.
    pub activation: Activation,
    /// Added to the variance by norms.
    pub epsilon: f64,
    /// Share of attention dropped in training.
    pub attention_dropout: f64,
    /// Share of embeddings and of what a block adds dropped in training.
    pub dropout: f64,
    /// Share of images for which the last block adds nothing in training; less so the earlier blocks (stochastic depth,
    /// Huang et al. 2016).
    pub drop_path: f64,
}

impl VitConfig {
    /// ViT of these sizes for square images with three channels, without dropout.
    #[must_use]
    pub fn new([layers, width, heads]: [usize; 3], side: usize, patch: usize, classes: usize) -> Self {
        Self {
            layers,
            width,
            heads,
            hidden: 4 * width,
            image_size: [side; 2],
            patch,
            channels: 3,
            classes,
            pooling: VitPooling::Cls,
            activation: Activation::Gelu,
            epsilon: 1e-6,
            attention_dropout: 0.0,
            dropout: 0.0,
            drop_path: 0.0,
        }
    }

    /// ViT-Ti (Touvron et al. 2021, table 1).
    #[must_use]
    pub fn tiny(side: usize, patch: usize, classes: usize) -> Self {
        Self::new([12, 192, 3], side, patch, classes)
    }

    /// ViT-S (Touvron et al. 2021, table 1).
    #[must_use]
    pub fn small(side: usize, patch: usize, classes: usize) -> Self {
        Self::new([12, 384, 6], side, patch, classes)
    }

    /// ViT-B (table 1).
    #[must_use]
    pub fn base(side: usize, patch: usize, classes: usize) -> Self {
        Self::new([12, 768, 12], side, patch, classes)
    }

    /// The sizes of a recipe.
    ///
    /// # Errors
    /// Names all sizes that make no model.
    pub fn from_recipe(
        model: &VitModel,
        height: usize,
        width: usize,
        channels: usize,
        classes: usize,
    ) -> Result<Self, Problems> {
        let config = Self {
            hidden: model.hidden.unwrap_or(4 * model.width),
            image_size: [height, width],
            channels,
            pooling: match model.pool {
                Pool::Cls => VitPooling::Cls,
                Pool::Mean => VitPooling::Mean,
            },
            dropout: model.dropout,
            drop_path: model.drop_path,
            ..Self::new([model.layers, model.width, model.heads], height, model.patch, classes)
        };
        config.check()?;
        Ok(config)
    }

    /// That these are the sizes of a model.
    ///
    /// # Errors
    /// Names all sizes that make no model.
    pub fn check(&self) -> Result<(), Problems> {
        let Self { layers, width, heads, hidden, image_size, patch, .. } = *self;
        let share = |rate: f64, key: &str| {
            let help = "give a share from 0 to below 1";
            ((0.0..1.0).contains(&rate), format!("`model.{key}` is {rate}"), help)
        };
        sizes(&[
            (layers > 0, "`model.layers` is 0".into(), "12 is usual, 6 for small images"),
            (
                width > 0 && heads > 0 && width.is_multiple_of(heads),
                format!("`model.heads` is {heads} and does not divide `model.width`, {width}"),
                "choose a width that is a multiple of the heads",
            ),
            (hidden > 0, "`model.hidden` is 0".into(), "leave it out for 4 times the width"),
            (
                patch > 0 && image_size.iter().all(|side| *side >= patch && side.is_multiple_of(patch)),
                format!(
                    "`model.patch` is {patch} and does not divide images of {} × {}",
                    image_size[0], image_size[1]
                ),
                "choose a side that is a multiple of the patch: 28 with 4 or 7, 32 with 4, 224 with 16",
            ),
            share(self.attention_dropout, "attention_dropout"),
            share(self.dropout, "dropout"),
            share(self.drop_path, "drop_path"),
            (self.channels > 0, "images have no channels".into(), "1 for grey, 3 for colours"),
            (self.classes > 0, "a classifier of no classes".into(), "the target needs at least two"),
        ])
    }

    /// Rows and columns of patches of an image that there are positions for.
    #[must_use]
    pub fn grid(&self) -> [usize; 2] {
        self.image_size.map(|side| side / self.patch.max(1))
    }

    /// The sizes of a Hugging Face `config.json`; `pooling` and `drop_path_rate` are keys of ours.
    ///
    /// # Errors
    /// Names every key that is missing, damaged, or asks for something that is not supported.
    pub fn from_hf(value: &Value) -> Result<Self, Problems> {
        let mut keys = Keys::new(value, &["vit", "vit_mae"]);
        let pooling = if keys.text("pooling", "cls") == "mean" { VitPooling::Mean } else { VitPooling::Cls };
        let image_size = match keys.get("image_size") {
            Some(Value::Array(_)) => keys.sizes("image_size"),
            _ => vec![keys.maybe_size("image_size").unwrap_or(224); 2],
        };
        let Ok(image_size) = <[usize; 2]>::try_from(image_size) else {
            return Err(Problem::new("`image_size`: expected one side, or height and width").into());
        };
        let config = Self {
            layers: keys.size("num_hidden_layers"),
            width: keys.size("hidden_size"),
            heads: keys.size("num_attention_heads"),
            hidden: keys.size("intermediate_size"),
            image_size,
            patch: keys.maybe_size("patch_size").unwrap_or(16),
            channels: keys.maybe_size("num_channels").unwrap_or(3),
            classes: keys.classes(),
            pooling,
            activation: keys.activation("hidden_act", "gelu"),
            epsilon: keys.positive("layer_norm_eps", 1e-12),
            attention_dropout: keys.share("attention_probs_dropout_prob", 0.0),
            dropout: keys.share("hidden_dropout_prob", 0.0),
            drop_path: keys.share("drop_path_rate", 0.0),
        };
        keys.divides(["num_attention_heads", "hidden_size"], config.heads, config.width);
        keys.must("qkv_bias", &[json!(true)]);
        keys.must("pooling", &[json!("cls"), json!("mean")]);
        keys.finish()?;
        config.check()?;
        Ok(config)
    }

    /// As a Hugging Face `config.json`.
    #[must_use]
    pub fn to_hf(&self) -> Value {
        let mut value = json!({
            "architectures": ["ViTForImageClassification"],
            "model_type": "vit",
            "num_hidden_layers": self.layers,
            "hidden_size": self.width,
            "num_attention_heads": self.heads,
            "intermediate_size": self.hidden,
            "image_size": match self.image_size {
                [height, width] if height == width => json!(height),
                sides => json!(sides),
            },
            "patch_size": self.patch,
            "num_channels": self.channels,
            "hidden_act": activation_name(self.activation),
            "layer_norm_eps": self.epsilon,
            "attention_probs_dropout_prob": self.attention_dropout,
            "hidden_dropout_prob": self.dropout,
            "qkv_bias": true,
            "pooling": match self.pooling {
                VitPooling::Cls => "cls",
                VitPooling::Mean => "mean",
            },
            "drop_path_rate": self.drop_path,
            "torch_dtype": "float32",
        });
        put_labels(&mut value, self.classes);
        value
    }
}
