//! ViT (Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale"): an
//! encoder of pre-norm Transformer blocks over the patches of an image. Parameter names are those of Hugging Face's
//! `ViTForImageClassification`; checkpoints of `ViTMAEForPreTraining` and with the names of torchvision and timm load too.

mod aliases;
mod config;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use jishi_kernels::Activation;
use jishi_kernels::ops::{self, Attention};
use jishi_recipe::Init;

pub use config::{VitConfig, VitPooling};

use crate::context::Context;
use crate::init::Scope;
use crate::layers::conv::Conv;
use crate::layers::norm::LayerNorm;
use crate::layers::projection::{FeedForwardDropout, Projection, feed_forward, side_by_side};
use crate::layers::resample::bicubic;
use crate::lora::Adapted;
use crate::reference::Reference;

/// How reference checkpoints name and lay out tensors.
pub const REFERENCE: Reference = Reference {
    prefix: "vit.",
    own_prefix: false,
    heads: &["classifier."],
    optional: &["pooler.", "decoder."],
    renamed: &[],
    turned: &["query", "key", "value", "dense", "classifier"],
    ignored: &["mask_token"],
    aliases: Some(aliases::to_hf),
};

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

    /// The last hidden states, of the token in front and of all patches.
    ///
    /// # Shapes
    /// - input: `[batch, height, width, channels]`
    /// - output: `[batch, tokens + patches, width]`
    pub fn hidden(&self, x: Tensor<4>, context: &mut Context) -> Tensor<3> {
        let x = self.patches(x, context);
        self.encode(x, context)
    }

    /// What the output layer sees.
    ///
    /// # Shapes
    /// - input: `[batch, height, width, channels]`
    /// - output: `[batch, width]`
    pub fn features(&self, x: Tensor<4>, context: &mut Context) -> Tensor<2> {
        let x = self.hidden(x, context); // [batch, tokens + patches, width]
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
