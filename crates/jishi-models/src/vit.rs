//! ViT (Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale"): an
//! encoder of pre-norm Transformer blocks over the patches of an image. Parameter names are those of Hugging Face's
//! `ViTForImageClassification`; checkpoints of `ViTMAEForPreTraining` and with the names of torchvision and timm load too.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use jishi_kernels::Activation;
use jishi_kernels::ops::{self, Attention};
use jishi_recipe::networks::{Pool, VitModel};
use jishi_recipe::{Init, Problem, Problems};
use serde_json::{Value, json};

use crate::config::{Keys, activation_name, put_labels};
use crate::context::Context;
use crate::init::Scope;
use crate::layers::conv::Conv;
use crate::layers::norm::LayerNorm;
use crate::layers::projection::{FeedForwardDropout, Projection, feed_forward, side_by_side};
use crate::layers::resample::bicubic;
use crate::lora::Adapted;
use crate::reference::{Reference, sizes};
use crate::weights::NamedTensor;

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

/// How reference checkpoints name and lay out tensors.
pub const REFERENCE: Reference = Reference {
    prefix: "vit.",
    own_prefix: false,
    heads: &["classifier."],
    optional: &["pooler.", "decoder."],
    renamed: &[],
    turned: &["query", "key", "value", "dense", "classifier"],
    ignored: &["mask_token"],
    aliases: Some(from_aliases),
};

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

/// A ViT with its output layer.
#[derive(Module, Debug)]
pub struct Vit {
    embeddings: Embeddings,
    encoder: Encoder,
    layernorm: LayerNorm,
    /// `[width, classes]`
    classifier: Projection,
    #[module(skip)]
    config: VitConfig,
}

#[derive(Module, Debug)]
struct Embeddings {
    /// `[1, 1, width]`
    cls_token: Option<Param<Tensor<3>>>,
    /// `[1, 1 + patches, width]`; that of the token comes first
    position_embeddings: Param<Tensor<3>>,
    patch_embeddings: Patches,
}

#[derive(Module, Debug)]
struct Patches {
    /// `[width, channels, patch, patch]`
    projection: Conv,
}

#[derive(Module, Debug)]
struct Encoder {
    layer: Vec<VitBlock>,
}

/// A pre-norm Transformer block.
#[derive(Module, Debug)]
pub(crate) struct VitBlock {
    attention: SelfAttention,
    intermediate: Dense,
    output: Dense,
    layernorm_before: LayerNorm,
    layernorm_after: LayerNorm,
}

#[derive(Module, Debug)]
struct SelfAttention {
    attention: Heads,
    output: Dense,
}

#[derive(Module, Debug)]
struct Heads {
    /// `[width, width]` each
    query: Projection,
    key: Projection,
    value: Projection,
}

#[derive(Module, Debug)]
struct Dense {
    dense: Projection,
}

/// Of a block: what is no weight.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockOptions {
    pub(crate) heads: usize,
    pub(crate) activation: Activation,
    pub(crate) epsilon: f64,
    pub(crate) attention_dropout: f64,
    pub(crate) dropout: f64,
    pub(crate) drop_path: f64,
}

/// Deviation of the initial values of tokens and positions.
const DEVIATION: f32 = 0.02;

impl Vit {
    /// A model with initial weights from `seed`, as the original's code draws them: matrices as Glorot & Bengio (2010),
    /// normal; patches with variance 1 / in; positions with deviation 0.02; the output layer zero.
    #[must_use]
    pub fn init(config: &VitConfig, seed: u64, device: &Device) -> Self {
        let scope = Scope::new(seed, Init::Zeros, device);
        let VitConfig { layers, width, hidden, patch, channels, classes, .. } = *config;
        let embeddings = scope.child("embeddings");
        let cls = config.pooling == VitPooling::Cls;
        let positions = config.grid().iter().product::<usize>() + usize::from(cls);
        let projection =
            Conv::patches(&embeddings.child("patch_embeddings.projection"), channels, width, patch);
        let block = |i: usize| VitBlock::init(&scope.child(&format!("encoder.layer.{i}")), width, hidden);
        Self {
            embeddings: Embeddings {
                cls_token: cls.then(|| embeddings.normal("cls_token", [1, 1, width], DEVIATION)),
                position_embeddings: embeddings.normal(
                    "position_embeddings",
                    [1, positions, width],
                    DEVIATION,
                ),
                patch_embeddings: Patches { projection },
            },
            encoder: Encoder { layer: (0..layers).map(block).collect() },
            layernorm: LayerNorm::init(&scope.child("layernorm"), width),
            classifier: Projection::init(&scope.child("classifier"), [width, classes], 0.0, true),
            config: config.clone(),
        }
    }

    /// Its sizes.
    #[must_use]
    pub fn config(&self) -> &VitConfig {
        &self.config
    }

    /// Patches of images with their positions, from left to right and from top to bottom. Pixels beyond the last whole
    /// patch are not seen.
    ///
    /// # Shapes
    /// - input: `[batch, height, width, channels]`
    /// - output: `[batch, patches, width]`
    pub(crate) fn patches(&self, x: Tensor<4>, context: &mut Context) -> Tensor<3> {
        let x = self.embeddings.patch_embeddings.projection.forward(x, context);
        let [batch, rows, columns, width] = x.dims();
        x.reshape([batch, rows * columns, width]) + self.positions([rows, columns])
    }

    /// Positions of patches, `[1, patches, width]`.
    fn positions(&self, grid: [usize; 2]) -> Tensor<3> {
        let all = self.embeddings.position_embeddings.val();
        let known = self.config.grid();
        let patches = all.narrow(1, self.tokens(), known[0] * known[1]);
        if grid == known {
            return patches;
        }
        let device = patches.device().inner();
        bicubic(known, grid, &device).unsqueeze::<3>().matmul(patches)
    }

    /// Positions of the tokens in front and of the patches of a grid of `[rows, columns]`: `[1, tokens + patches, width]`.
    #[must_use]
    pub fn all_positions(&self, grid: [usize; 2]) -> Tensor<3> {
        let tokens = self.embeddings.position_embeddings.val().narrow(1, 0, self.tokens());
        Tensor::cat(vec![tokens, self.positions(grid)], 1)
    }

    /// Positions that are sines and cosines, and are not trained.
    pub(crate) fn with_fixed_positions(mut self, device: &Device) -> Self {
        let tokens = self.tokens();
        let values = crate::mae::sines(self.config.grid(), self.config.width, tokens);
        let shape = self.embeddings.position_embeddings.dims();
        let positions = Tensor::from_data(TensorData::new(values, shape), device);
        self.embeddings.position_embeddings = Param::from_tensor(positions).set_require_grad(false);
        self
    }

    /// Tokens in front of the patches.
    pub(crate) fn tokens(&self) -> usize {
        usize::from(self.embeddings.cls_token.is_some())
    }

    /// The last hidden states, of the token in front and of these patches.
    ///
    /// # Shapes
    /// - input: `[batch, patches, width]`
    /// - output: `[batch, tokens + patches, width]`
    pub(crate) fn encode(&self, patches: Tensor<3>, context: &mut Context) -> Tensor<3> {
        let [batch, _, width] = patches.dims();
        let mut x = patches;
        if let Some(token) = &self.embeddings.cls_token {
            let position = self.embeddings.position_embeddings.val().narrow(1, 0, 1);
            let token = (token.val() + position).expand([batch, 1, width]);
            x = Tensor::cat(vec![token, x], 1);
        }
        x = context.dropout(x, self.config.dropout, 1);
        let last = self.encoder.layer.len().saturating_sub(1).max(1);
        for (i, block) in self.encoder.layer.iter().enumerate() {
            let options = self.options(self.config.drop_path * i as f64 / last as f64);
            x = context
                .block(block, x, move |block: &VitBlock, x, context| block.forward(x, options, context));
        }
        self.layernorm.forward_with(x, self.config.epsilon)
    }

    fn options(&self, drop_path: f64) -> BlockOptions {
        let VitConfig { heads, activation, epsilon, attention_dropout, dropout, .. } = self.config;
        BlockOptions { heads, activation, epsilon, attention_dropout, dropout, drop_path }
    }

    /// What the output layer sees.
    ///
    /// # Shapes
    /// - input: `[batch, height, width, channels]`
    /// - output: `[batch, width]`
    pub fn features(&self, x: Tensor<4>, context: &mut Context) -> Tensor<2> {
        let x = self.patches(x, context);
        let x = self.encode(x, context); // [batch, tokens + patches, width]
        let [batch, _, width] = x.dims();
        let x = match self.config.pooling {
            VitPooling::Cls => x.narrow(1, 0, 1),
            VitPooling::Mean => x.mean_dim(1),
        };
        x.reshape([batch, width])
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
        self.classifier.forward(x, context)
    }
}

impl Adapted for Vit {
    fn each_projection(&mut self, f: &mut dyn FnMut(&str, &mut Projection)) {
        for (i, block) in self.encoder.layer.iter_mut().enumerate() {
            let VitBlock { attention, intermediate, output, .. } = block;
            let at = format!("encoder.layer.{i}");
            let Heads { query, key, value } = &mut attention.attention;
            for (name, layer) in [("query", query), ("key", key), ("value", value)] {
                f(&format!("{at}.attention.attention.{name}"), layer);
            }
            f(&format!("{at}.attention.output.dense"), &mut attention.output.dense);
            f(&format!("{at}.intermediate.dense"), &mut intermediate.dense);
            f(&format!("{at}.output.dense"), &mut output.dense);
        }
    }
}

impl VitBlock {
    pub(crate) fn init(scope: &Scope, width: usize, hidden: usize) -> Self {
        let layer = |name: &str, inputs: usize, outputs: usize| {
            let deviation = (2.0 / (inputs + outputs).max(1) as f32).sqrt();
            Projection::init(&scope.child(name), [inputs, outputs], deviation, true)
        };
        Self {
            attention: SelfAttention {
                attention: Heads {
                    query: layer("attention.attention.query", width, width),
                    key: layer("attention.attention.key", width, width),
                    value: layer("attention.attention.value", width, width),
                },
                output: Dense { dense: layer("attention.output.dense", width, width) },
            },
            intermediate: Dense { dense: layer("intermediate.dense", width, hidden) },
            output: Dense { dense: layer("output.dense", hidden, width) },
            layernorm_before: LayerNorm::init(&scope.child("layernorm_before"), width),
            layernorm_after: LayerNorm::init(&scope.child("layernorm_after"), width),
        }
    }

    /// # Shapes
    /// - input and output: `[batch, time, width]`
    pub(crate) fn forward(&self, x: Tensor<3>, options: BlockOptions, context: &mut Context) -> Tensor<3> {
        let BlockOptions { heads, activation, epsilon, attention_dropout, dropout, drop_path } = options;
        let [_, time, _] = x.dims();
        let normed = self.layernorm_before.forward_with(x.clone(), epsilon);
        let Heads { query, key, value } = &self.attention.attention;
        let qkv = side_by_side(&[query, key, value], normed, context); // [batch, time, 3 · width]
        let attention = Attention {
            dropout: context.attention_dropout(attention_dropout, heads * time),
            precision: context.precision(),
            ..Attention::new(heads)
        };
        let attended = ops::self_attention(qkv, &attention); // [batch, time, width]
        let dense = &self.attention.output.dense;
        if !context.drops(drop_path) {
            let x = dense.added(attended, x, dropout, context);
            let normed = self.layernorm_after.forward_with(x.clone(), epsilon);
            let dropouts = FeedForwardDropout { inner: 0.0, outer: dropout };
            let pair = [&self.intermediate.dense, &self.output.dense];
            return feed_forward(pair, normed, x, activation, dropouts, context);
        }
        let y = dense.forward(attended, context);
        let y = context.dropout(y, dropout, 1);
        let x = x + context.drop_path(y, drop_path);
        let normed = self.layernorm_after.forward_with(x.clone(), epsilon);
        let hidden = self.intermediate.dense.activated(normed, activation, context); // [batch, time, hidden]
        let y = self.output.dense.forward(hidden, context);
        let y = context.dropout(y, dropout, 1);
        x + context.drop_path(y, drop_path)
    }
}

/// Names of torchvision and timm, where the three matrices of attention are one, as Hugging Face's without its prefix.
fn from_aliases(tensors: Vec<NamedTensor>) -> Vec<NamedTensor> {
    let theirs = ["conv_proj.weight", "patch_embed.proj.weight"];
    if !tensors.iter().any(|t| theirs.contains(&&*t.name)) {
        return tensors;
    }
    let mut renamed = Vec::with_capacity(tensors.len());
    for mut tensor in tensors {
        let Some((name, whole)) = hf_name(&tensor.name) else {
            renamed.push(tensor);
            continue;
        };
        if !whole {
            tensor.name = name;
            renamed.push(tensor);
            continue;
        }
        let rows = tensor.shape.first().copied().unwrap_or_default();
        let (third, each) = (rows / 3, tensor.data.len() / 3);
        for (i, part) in ["query", "key", "value"].into_iter().enumerate() {
            let mut shape = tensor.shape.clone();
            shape.iter_mut().take(1).for_each(|rows| *rows = third);
            let data = tensor.data[i * each..][..each].to_vec();
            let name = name.replace("qkv", part);
            renamed.push(NamedTensor { name, shape, data, trainable: tensor.trainable });
        }
    }
    renamed
}

/// A name of Hugging Face for one of torchvision or timm, and whether it stands for `qkv`, three tensors in one.
fn hf_name(name: &str) -> Option<(String, bool)> {
    let plain = |name: &str| Some((name.to_owned(), false));
    match name {
        "class_token" | "cls_token" => return plain("embeddings.cls_token"),
        "encoder.pos_embedding" | "pos_embed" => return plain("embeddings.position_embeddings"),
        _ => {}
    }
    // torchvision's matrix of attention is a parameter of its own.
    let name = name.replace("in_proj_weight", "in_proj.weight").replace("in_proj_bias", "in_proj.bias");
    let (place, leaf) = name.rsplit_once('.')?;
    let layer = match place {
        "conv_proj" | "patch_embed.proj" => "embeddings.patch_embeddings.projection".to_owned(),
        "encoder.ln" | "norm" => "layernorm".to_owned(),
        "heads.head" | "head" => "classifier".to_owned(),
        _ => {
            let block = place
                .strip_prefix("encoder.layers.encoder_layer_")
                .or_else(|| place.strip_prefix("blocks."))?;
            let (number, part) = block.split_once('.')?;
            let part = match part {
                "ln_1" | "norm1" => "layernorm_before",
                "ln_2" | "norm2" => "layernorm_after",
                "self_attention.in_proj" | "attn.qkv" => "attention.attention.qkv",
                "self_attention.out_proj" | "attn.proj" => "attention.output.dense",
                "mlp.0" | "mlp.linear_1" | "mlp.fc1" => "intermediate.dense",
                "mlp.3" | "mlp.linear_2" | "mlp.fc2" => "output.dense",
                _ => return None,
            };
            format!("encoder.layer.{number}.{part}")
        }
    };
    let whole = layer.ends_with(".qkv");
    Some((format!("{layer}.{leaf}"), whole))
}
