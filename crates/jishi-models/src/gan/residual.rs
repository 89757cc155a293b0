//! Residual blocks (Gulrajani et al. 2017, "Improved Training of Wasserstein GANs", appendix F).

use burn::module::Module;
use burn::tensor::{Device, Tensor, activation};
use jishi_kernels::ops::{self, PoolOptions};
use jishi_recipe::Init;

use super::GanConfig;
use super::layers::{Filter, doubled};
use crate::context::Context;
use crate::init::Scope;
use crate::layers::conv::Conv;
use crate::layers::dense::Linear;
use crate::layers::norm::BatchNorm;

/// Doubles a grid until it is an image.
#[derive(Module, Debug)]
pub struct ResidualGenerator {
    input: Linear,
    blocks: Vec<UpBlock>,
    norm: BatchNorm,
    output: Conv,
    start: usize,
}

#[derive(Module, Debug)]
struct UpBlock {
    bn1: BatchNorm,
    conv1: Conv,
    bn2: BatchNorm,
    conv2: Conv,
}

impl ResidualGenerator {
    pub(super) fn init(config: &GanConfig, start: usize, stages: usize, seed: u64, device: &Device) -> Self {
        let scope = Scope::new(seed, Init::XavierUniform, device).child("generator");
        let width = config.width;
        let conv = |scope: &Scope, outputs| Conv::init(scope, width, outputs, 3, 1).with_bias(scope);
        let block = |i: usize| {
            let at = scope.child(&format!("blocks.{i}"));
            UpBlock {
                bn1: BatchNorm::init(&at.child("bn1"), width),
                conv1: conv(&at.child("conv1"), width),
                bn2: BatchNorm::init(&at.child("bn2"), width),
                conv2: conv(&at.child("conv2"), width),
            }
        };
        Self {
            input: Linear::init(&scope.child("input"), config.latent, start * start * width),
            blocks: (0..stages).map(block).collect(),
            norm: BatchNorm::init(&scope.child("norm"), width),
            output: conv(&scope.child("output"), config.channels),
            start,
        }
    }

    pub(super) fn forward(&self, noise: Tensor<2>, context: &mut Context) -> Tensor<4> {
        let [batch, _] = noise.dims();
        let x = self.input.forward(noise, context);
        let width = x.dims()[1] / (self.start * self.start);
        let mut x = x.reshape([batch, self.start, self.start, width]);
        for block in &self.blocks {
            let y = block.bn1.forward_with(x.clone(), None, true, context);
            let y = block.conv1.forward(doubled(y), context);
            let y = block.bn2.forward_with(y, None, true, context);
            x = block.conv2.forward(y, context) + doubled(x);
        }
        let x = self.norm.forward_with(x, None, true, context);
        self.output.forward(x, context).tanh()
    }
}

/// Halves an image twice, and goes through two blocks at that size. No layer sees more than one image, which the
/// penalty of the gradient needs (§4, "No critic batch normalization").
#[derive(Module, Debug)]
pub struct ResidualCritic {
    blocks: Vec<DownBlock>,
    output: Filter,
}

#[derive(Module, Debug)]
struct DownBlock {
    conv1: Filter,
    conv2: Filter,
    /// Of the first block, whose input has other channels.
    shortcut: Option<Filter>,
    halves: bool,
}

/// Blocks of the critic that halve the image, and all.
const HALVING: usize = 2;
const BLOCKS: usize = 4;

impl ResidualCritic {
    pub(super) fn init(config: &GanConfig, seed: u64, device: &Device) -> Self {
        let scope = Scope::new(seed, Init::XavierUniform, device).child("critic");
        let filter = |name: String, inputs: usize, outputs: usize, kernel: usize| {
            let at = scope.child(&name);
            let conv = Conv::init(&at, inputs, outputs, kernel, 1).with_bias(&at);
            Filter::new(conv, &at, config.spectral_norm)
        };
        let width = config.width;
        let block = |i: usize| {
            let inputs = if i == 0 { config.channels } else { width };
            DownBlock {
                conv1: filter(format!("blocks.{i}.conv1"), inputs, width, 3),
                conv2: filter(format!("blocks.{i}.conv2"), width, width, 3),
                shortcut: (i == 0).then(|| filter(format!("blocks.{i}.shortcut"), inputs, width, 1)),
                halves: i < HALVING,
            }
        };
        Self { blocks: (0..BLOCKS).map(block).collect(), output: filter("output".into(), width, 1, 1) }
    }

    pub(super) fn forward(&self, x: Tensor<4>, context: &mut Context) -> Tensor<1> {
        let [batch, ..] = x.dims();
        let mut x = x;
        for block in &self.blocks {
            x = block.forward(x, context);
        }
        let x = ops::global_average(activation::relu(x)); // [batch, width]
        let width = x.dims()[1];
        self.output.forward(x.reshape([batch, 1, 1, width]), context).reshape([batch])
    }
}

impl DownBlock {
    fn forward(&self, x: Tensor<4>, context: &mut Context) -> Tensor<4> {
        // Pixels of an image are not put through ReLU.
        let y = if self.shortcut.is_some() { x.clone() } else { activation::relu(x.clone()) };
        let y = self.conv1.forward(y, context);
        let y = self.conv2.forward(activation::relu(y), context);
        let (x, y) = if self.halves { (halved(x), halved(y)) } else { (x, y) };
        match &self.shortcut {
            Some(conv) => conv.forward(x, context) + y,
            None => x + y,
        }
    }
}

fn halved(x: Tensor<4>) -> Tensor<4> {
    ops::average_pool2d(x, PoolOptions { kernel: [2; 2], stride: [2; 2], padding: [0; 2] }, false)
}
