//! Masked autoencoder (He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners"): a ViT sees a few patches of an
//! image, and a small decoder tells the pixels of the others. Afterwards the ViT is what is kept. Parameter names are
//! those of Hugging Face's `ViTMAEForPreTraining`.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};
use jishi_recipe::networks::{MaeModel, VitModel};
use jishi_recipe::{Init, Problems};
use serde_json::{Value, json};

use crate::config::Keys;
use crate::context::Context;
use crate::init::Scope;
use crate::layers::norm::LayerNorm;
use crate::layers::projection::Projection;
use crate::lora::freeze_where;
use crate::reference::{Reference, sizes};
use crate::vit::{BlockOptions, Vit, VitBlock, VitConfig};

/// Sizes of a masked autoencoder.
#[derive(Debug, Clone, PartialEq)]
pub struct MaeConfig {
    /// The ViT.
    pub encoder: VitConfig,
    /// Blocks of the decoder.
    pub layers: usize,
    /// Values a patch in the decoder; a multiple of 4.
    pub width: usize,
    /// Attention heads of the decoder; divides `width`.
    pub heads: usize,
    /// Hidden values of the feed-forward part of the decoder.
    pub hidden: usize,
    /// Share of the patches that the ViT does not see.
    pub mask_ratio: f64,
    /// Whether the pixels of a patch are told relative to their mean and deviation (§4.1, table 1d).
    pub normalised: bool,
}

/// How reference checkpoints name and lay out tensors.
pub const REFERENCE: Reference = Reference {
    prefix: "",
    own_prefix: false,
    heads: &["vit.classifier."],
    optional: &[],
    renamed: &[],
    turned: &["query", "key", "value", "dense", "classifier", "decoder_embed", "decoder_pred"],
    ignored: &[],
    aliases: None,
};

impl MaeConfig {
    /// With three quarters of the patches masked and a decoder of half the width and few blocks.
    #[must_use]
    pub fn new(encoder: VitConfig) -> Self {
        let width = (encoder.width / 2).next_multiple_of(4 * encoder.heads.max(1));
        Self {
            layers: (encoder.layers / 3).max(1),
            width,
            heads: encoder.heads,
            hidden: 4 * width,
            encoder,
            mask_ratio: 0.75,
            normalised: true,
        }
    }

    /// The sizes of a recipe's model of images of a shape, `[height, width, channels]`. `classes`: those of the ViT's
    /// output layer, which is not trained.
    ///
    /// # Errors
    /// Names all sizes that make no model.
    pub fn from_recipe(
        model: &MaeModel,
        [height, width, channels]: [usize; 3],
        classes: usize,
    ) -> Result<Self, Problems> {
        let vit = VitModel {
            layers: model.layers,
            heads: model.heads,
            width: model.width,
            hidden: model.hidden,
            patch: model.patch,
            pool: model.pool,
            ..VitModel::default()
        };
        let usual = Self::new(VitConfig::from_recipe(&vit, height, width, channels, classes)?);
        let width = model.decoder_width.unwrap_or(usual.width);
        let config = Self {
            layers: model.decoder_layers.unwrap_or(usual.layers),
            width,
            hidden: 4 * width,
            mask_ratio: model.mask_ratio,
            normalised: model.norm_pix_loss,
            ..usual
        };
        config.check()?;
        Ok(config)
    }

    /// That these are the sizes of a model.
    ///
    /// # Errors
    /// Names all sizes that make no model.
    pub fn check(&self) -> Result<(), Problems> {
        let Self { ref encoder, layers, width, heads, hidden, mask_ratio, .. } = *self;
        encoder.check()?;
        let seen = self.seen();
        sizes(&[
            (layers > 0, "the decoder has no blocks".into(), "1 or 2 for small images, 8 in the paper"),
            (
                heads > 0 && width > 0 && width.is_multiple_of(heads),
                format!("the decoder's {heads} heads do not divide its width, {width}"),
                "choose a width that is a multiple of the heads",
            ),
            (
                width.is_multiple_of(4) && encoder.width.is_multiple_of(4),
                format!("the widths are {} and {width}", encoder.width),
                "positions on a plane need multiples of 4",
            ),
            (hidden > 0, "the decoder has no hidden values".into(), "4 times its width is usual"),
            (
                (0.0..1.0).contains(&mask_ratio) && seen > 0 && seen < self.patches(),
                format!("{seen} of {} patches are seen", self.patches()),
                "mask a share of patches between 0 and 1, three quarters in the paper, so that some remain",
            ),
        ])
    }

    /// Patches of an image.
    #[must_use]
    pub fn patches(&self) -> usize {
        self.encoder.grid().iter().product()
    }

    /// Patches that the ViT sees.
    #[must_use]
    pub fn seen(&self) -> usize {
        (self.patches() as f64 * (1.0 - self.mask_ratio)) as usize
    }

    /// The sizes of a Hugging Face `config.json`.
    ///
    /// # Errors
    /// Names every key that is missing, damaged, or asks for something that is not supported.
    pub fn from_hf(value: &Value) -> Result<Self, Problems> {
        let encoder = VitConfig::from_hf(value)?;
        let mut keys = Keys::new(value, &["vit_mae"]);
        let config = Self {
            encoder,
            layers: keys.size("decoder_num_hidden_layers"),
            width: keys.size("decoder_hidden_size"),
            heads: keys.size("decoder_num_attention_heads"),
            hidden: keys.size("decoder_intermediate_size"),
            mask_ratio: keys.share("mask_ratio", 0.75),
            normalised: keys.flag("norm_pix_loss", false),
        };
        keys.finish()?;
        config.check()?;
        Ok(config)
    }

    /// As a Hugging Face `config.json`.
    #[must_use]
    pub fn to_hf(&self) -> Value {
        let mut value = self.encoder.to_hf();
        value["architectures"] = json!(["ViTMAEForPreTraining"]);
        value["model_type"] = "vit_mae".into();
        value["decoder_num_hidden_layers"] = self.layers.into();
        value["decoder_hidden_size"] = self.width.into();
        value["decoder_num_attention_heads"] = self.heads.into();
        value["decoder_intermediate_size"] = self.hidden.into();
        value["mask_ratio"] = self.mask_ratio.into();
        value["norm_pix_loss"] = self.normalised.into();
        value
    }
}

/// A ViT and a decoder that tells what it did not see.
#[derive(Module, Debug)]
pub struct MaskedAutoencoder {
    vit: Vit,
    decoder: Decoder,
    #[module(skip)]
    config: MaeConfig,
}

#[derive(Module, Debug)]
struct Decoder {
    /// `[encoder width, width]`
    decoder_embed: Projection,
    /// `[1, 1, width]`: stands for every patch that is not seen
    mask_token: Param<Tensor<3>>,
    /// `[1, tokens + patches, width]`, not trained
    decoder_pos_embed: Param<Tensor<3>>,
    decoder_layers: Vec<VitBlock>,
    decoder_norm: LayerNorm,
    /// `[width, patch · patch · channels]`
    decoder_pred: Projection,
}

/// What a masked autoencoder makes of images.
#[derive(Debug, Clone)]
pub struct Reconstruction {
    /// Pixels of all patches, row by row, of a pixel channel by channel: `[batch, patches, patch · patch · channels]`;
    /// relative to mean and deviation of the patch where the model is `normalised`.
    pub patches: Tensor<3>,
    /// 1 for patches that were not seen, else 0: `[batch, patches]`
    pub hidden: Tensor<2>,
}

/// What a masked autoencoder tells of images, beside what is there.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// Pixels of all patches as the model tells them: see [`Reconstruction::patches`].
    pub told: Tensor<3>,
    /// As they are, `[batch, patches, patch · patch · channels]`.
    pub targets: Tensor<3>,
    /// 1 for patches that were not seen, else 0: `[batch, patches]`
    pub hidden: Tensor<2>,
}

const DEVIATION: f32 = 0.02;
/// Added to the variance of a patch, as in the reference.
const VARIANCE: f64 = 1e-6;

impl MaskedAutoencoder {
    /// A model with initial weights from `seed`: matrices as Glorot & Bengio (2010), positions fixed sines and cosines.
    /// The ViT's output layer is there for later, and is not trained.
    #[must_use]
    pub fn init(config: &MaeConfig, seed: u64, device: &Device) -> Self {
        let MaeConfig { ref encoder, layers, width, heads: _, hidden, .. } = *config;
        let vit = Vit::init(encoder, seed, device).with_fixed_positions(device);
        let vit = freeze_where(vit, |name| name.starts_with("classifier."));
        let scope = Scope::new(seed, Init::Zeros, device).child("decoder");
        let layer = |name: &str, inputs: usize, outputs: usize| {
            let deviation = (2.0 / (inputs + outputs).max(1) as f32).sqrt();
            Projection::init(&scope.child(name), [inputs, outputs], deviation, true)
        };
        let tokens = vit.tokens();
        let positions = sines(encoder.grid(), width, tokens);
        let shape = [1, tokens + config.patches(), width];
        let block = |i: usize| VitBlock::init(&scope.child(&format!("decoder_layers.{i}")), width, hidden);
        let decoder = Decoder {
            decoder_embed: layer("decoder_embed", encoder.width, width),
            mask_token: scope.normal("mask_token", [1, 1, width], DEVIATION),
            decoder_pos_embed: scope.parameter(positions, shape).set_require_grad(false),
            decoder_layers: (0..layers).map(block).collect(),
            decoder_norm: LayerNorm::init(&scope.child("decoder_norm"), width),
            decoder_pred: layer("decoder_pred", width, encoder.patch.pow(2) * encoder.channels),
        };
        Self { vit, decoder, config: config.clone() }
    }

    /// Its sizes.
    #[must_use]
    pub fn config(&self) -> &MaeConfig {
        &self.config
    }

    /// The ViT, which is what pre-training is for.
    #[must_use]
    pub fn vit(&self) -> &Vit {
        &self.vit
    }

    /// Patches of each image in a random order: those that are seen first. Row after row.
    #[must_use]
    pub fn orders(&self, rows: usize, context: &Context) -> Vec<usize> {
        let patches = self.config.patches();
        let order = |row: usize| {
            let mut rng = context.stream("masked patches", row);
            let mut order: Vec<usize> = (0..patches).collect();
            // Fisher & Yates, as Durstenfeld (1964).
            for i in (1..patches).rev() {
                order.swap(i, rng.below(i as u64 + 1) as usize);
            }
            order
        };
        (0..rows).flat_map(order).collect()
    }

    /// Tells the pixels of images by the patches that come first in `orders`.
    ///
    /// # Shapes
    /// - input: `[batch, height, width, channels]` of the model's size
    /// - orders: `batch · patches`, as from [`Self::orders`]
    #[must_use]
    pub fn reconstruct(&self, x: Tensor<4>, orders: &[usize], context: &mut Context) -> Reconstruction {
        let (patches, seen) = (self.config.patches(), self.config.seen());
        let [batch, ..] = x.dims();
        let device = x.device().inner();
        let int = |places: Vec<i64>| {
            let count = places.len();
            Tensor::<1, Int>::from_data(TensorData::new(places, [count]), &device)
        };
        let (mut visible, mut back) = (Vec::with_capacity(batch * seen), vec![0; batch * patches]);
        let mut hidden = vec![0.0f32; batch * patches];
        for (row, order) in orders.chunks(patches).enumerate() {
            for (i, place) in order.iter().enumerate() {
                let place = row * patches + place;
                back[place] = (row * patches + i) as i64;
                if i < seen {
                    visible.push(place as i64);
                } else {
                    hidden[place] = 1.0;
                }
            }
        }
        let all = self.vit.patches(x, context); // [batch, patches, encoder width]
        let [_, _, width] = all.dims();
        let some =
            all.reshape([batch * patches, width]).select(0, int(visible)).reshape([batch, seen, width]);
        let encoded = self.vit.encode(some, context); // [batch, tokens + seen, encoder width]

        let (decoder, width) = (&self.decoder, self.config.width);
        let x = decoder.decoder_embed.forward(encoded, context); // [batch, tokens + seen, width]
        let tokens = self.vit.tokens();
        let masks = decoder.mask_token.val().expand([batch, patches - seen, width]);
        let all = Tensor::cat(vec![x.clone().narrow(1, tokens, seen), masks], 1);
        let mut x_all =
            all.reshape([batch * patches, width]).select(0, int(back)).reshape([batch, patches, width]);
        if tokens > 0 {
            x_all = Tensor::cat(vec![x.narrow(1, 0, tokens), x_all], 1);
        }
        let mut x = x_all + decoder.decoder_pos_embed.val(); // [batch, tokens + patches, width]
        let options = BlockOptions {
            heads: self.config.heads,
            activation: self.config.encoder.activation,
            epsilon: self.config.encoder.epsilon,
            attention_dropout: 0.0,
            dropout: 0.0,
            drop_path: 0.0,
        };
        for block in &decoder.decoder_layers {
            x = context
                .block(block, x, move |block: &VitBlock, x, context| block.forward(x, options, context));
        }
        let x = decoder.decoder_norm.forward_with(x, self.config.encoder.epsilon).narrow(1, tokens, patches);
        let patches_told = decoder.decoder_pred.forward(x, context); // [batch, patches, pixels]
        let hidden = Tensor::from_data(TensorData::new(hidden, [batch, patches]), &device);
        Reconstruction { patches: patches_told, hidden }
    }

    /// Mean squared error of the pixels that were not seen, of each image (§3, "Reconstruction target").
    ///
    /// # Shapes
    /// - input: `[batch, height, width, channels]`
    /// - output: `[batch]`
    #[must_use]
    pub fn loss(&self, x: Tensor<4>, context: &mut Context) -> Tensor<1> {
        let orders = self.orders(x.dims()[0], context);
        self.loss_of(x, &orders, context)
    }

    /// [`Self::loss`] with patches in these orders.
    ///
    /// # Shapes
    /// As [`Self::loss`] and [`Self::reconstruct`].
    #[must_use]
    pub fn loss_of(&self, x: Tensor<4>, orders: &[usize], context: &mut Context) -> Tensor<1> {
        let seen = self.config.seen();
        let Comparison { told, targets, hidden } = self.compare(x, orders, context);
        let [batch, count, _] = told.dims();
        let errors = (told - targets).square().mean_dim(2).reshape([batch, count]); // [batch, patches]
        let each = (errors * hidden).sum_dim(1) / (count - seen) as f64;
        each.reshape([batch])
    }

    /// What the model tells of images, beside what is there.
    ///
    /// # Shapes
    /// As [`Self::loss`] and [`Self::reconstruct`].
    #[must_use]
    pub fn compare(&self, x: Tensor<4>, orders: &[usize], context: &mut Context) -> Comparison {
        let mut targets = self.pixels(x.clone());
        if self.config.normalised {
            let [mean, deviation] = moments(targets.clone());
            targets = (targets - mean) / deviation;
        }
        let Reconstruction { patches, hidden } = self.reconstruct(x, orders, context);
        Comparison { told: patches, targets, hidden }
    }

    /// Images with their hidden patches in the middle of all values, and with what the model tells in their places. Where
    /// patches are told relative to their mean and deviation, those of the image are used: they are not told.
    ///
    /// # Shapes
    /// - input and outputs: `[batch, height, width, channels]`
    /// - orders: as [`Self::reconstruct`]
    #[must_use]
    pub fn filled(&self, x: Tensor<4>, orders: &[usize], context: &mut Context) -> (Tensor<4>, Tensor<4>) {
        let pixels = self.pixels(x.clone());
        let Reconstruction { patches: mut told, hidden } = self.reconstruct(x, orders, context);
        if self.config.normalised {
            let [mean, deviation] = moments(pixels.clone());
            told = told * deviation + mean;
        }
        let [batch, count] = hidden.dims();
        let hidden = hidden.reshape([batch, count, 1]);
        let covered = pixels * (-hidden.clone() + 1.0);
        let filled = covered.clone() + told * hidden;
        (self.image(covered), self.image(filled))
    }

    /// Images as patches of pixels.
    ///
    /// # Shapes
    /// - input: `[batch, height, width, channels]`
    /// - output: `[batch, patches, patch · patch · channels]`
    #[must_use]
    pub fn pixels(&self, x: Tensor<4>) -> Tensor<3> {
        let [batch, _, _, channels] = x.dims();
        let (side, [rows, columns]) = (self.config.encoder.patch, self.config.encoder.grid());
        let x = x.reshape([batch, rows, side, columns, side * channels]).swap_dims(2, 3);
        x.reshape([batch, rows * columns, side * side * channels])
    }

    /// Patches of pixels as images: the inverse of [`Self::pixels`].
    ///
    /// # Shapes
    /// - input: `[batch, patches, patch · patch · channels]`
    /// - output: `[batch, height, width, channels]`
    #[must_use]
    pub fn image(&self, patches: Tensor<3>) -> Tensor<4> {
        let [batch, _, values] = patches.dims();
        let (side, [rows, columns]) = (self.config.encoder.patch, self.config.encoder.grid());
        let channels = values / (side * side);
        let x = patches.reshape([batch, rows, columns, side, side * channels]).swap_dims(2, 3);
        x.reshape([batch, rows * side, columns * side, channels])
    }
}

/// Mean and deviation of each patch, `[batch, patches, 1]`: of the unbiased variance, as in the reference.
fn moments(patches: Tensor<3>) -> [Tensor<3>; 2] {
    let (variance, mean) = patches.var_mean(2);
    [mean, (variance + VARIANCE).sqrt()]
}

/// Positions on a plane: sines and cosines of the column, then of the row (He et al. 2022, appendix A.1, after Vaswani et
/// al. 2017, §3.5). Zeros for the tokens in front.
pub(crate) fn sines([rows, columns]: [usize; 2], width: usize, tokens: usize) -> Vec<f32> {
    let quarter = width / 4;
    let mut values = vec![0.0; tokens * width];
    values.reserve(rows * columns * width);
    let frequency = |i: usize| 1.0 / 10_000f64.powf(i as f64 / quarter.max(1) as f64);
    for row in 0..rows {
        for column in 0..columns {
            for place in [column, row] {
                let angle = |i: usize| place as f64 * frequency(i);
                values.extend((0..quarter).map(|i| angle(i).sin() as f32));
                values.extend((0..quarter).map(|i| angle(i).cos() as f32));
            }
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_the_columns_then_the_rows() {
        let values = sines([2, 3], 8, 1);
        assert_eq!(values.len(), 7 * 8);
        assert_eq!(values[..8], [0.0; 8]);
        // Row 1, column 2: frequencies are 1 and 1/100.
        let expected = [
            2f32.sin(),
            0.02f32.sin(),
            2f32.cos(),
            0.02f32.cos(),
            1f32.sin(),
            0.01f32.sin(),
            1f32.cos(),
            0.01f32.cos(),
        ];
        let close = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-6;
        assert!(values[6 * 8..].iter().zip(&expected).all(close), "{:?}", &values[48..]);
    }

    #[test]
    fn images_become_patches_and_come_back() {
        let encoder = VitConfig { image_size: [4, 6], ..VitConfig::new([1, 8, 2], 4, 2, 3) };
        let model = MaskedAutoencoder::init(&MaeConfig::new(encoder), 0, &Device::flex());
        let x = Tensor::<1, Int>::arange(0..4 * 6 * 3, &Device::flex()).float().reshape([1, 4, 6, 3]);
        let patches = model.pixels(x.clone());
        assert_eq!(patches.dims(), [1, 6, 12]);
        let values = |t: Tensor<4>| t.into_data().try_to_vec::<f32>().expect("f32");
        let second = patches.clone().narrow(1, 1, 1).into_data().try_to_vec::<f32>().expect("f32");
        assert_eq!(second, [6., 7., 8., 9., 10., 11., 24., 25., 26., 27., 28., 29.]);
        assert_eq!(values(model.image(patches)), values(x));
    }

    #[test]
    fn a_share_of_the_patches_is_masked_anew_each_step() {
        let model =
            MaskedAutoencoder::init(&MaeConfig::new(VitConfig::new([1, 8, 2], 16, 4, 3)), 0, &Device::flex());
        assert_eq!((model.config().patches(), model.config().seen()), (16, 4));
        let orders = |step, first, rows| model.orders(rows, &Context::training(1, step, first));
        assert_eq!(orders(3, 0, 4), [orders(3, 0, 1), orders(3, 1, 3)].concat());
        assert_ne!(orders(3, 0, 1), orders(4, 0, 1));
        let mut order = orders(3, 0, 1);
        order.sort_unstable();
        assert_eq!(order, (0..16).collect::<Vec<_>>());
    }
}
