//! Stacks of convolutions (Radford et al. 2016, "Unsupervised Representation Learning with Deep Convolutional Generative
//! Adversarial Networks", §3).

use burn::module::Module;
use burn::tensor::{Device, Tensor, activation};
use jishi_recipe::Init;

use super::GanConfig;
use super::layers::{Filter, Unfilter};
use crate::context::Context;
use crate::init::Scope;
use crate::layers::conv::Conv;
use crate::layers::norm::BatchNorm;

/// Slope of the critic's activation below zero.
const LEAK: f64 = 0.2;
/// Windows of 4 × 4 with stride 2.
const KERNEL: usize = 4;

/// Doubles a grid until it is an image.
#[derive(Module, Debug)]
pub struct DcganGenerator {
    layers: Vec<Unfilter>,
    /// Behind all layers but the last.
    norms: Vec<BatchNorm>,
}

impl DcganGenerator {
    pub(super) fn init(config: &GanConfig, start: usize, stages: usize, seed: u64, device: &Device) -> Self {
        let scope = Scope::new(seed, Init::Normal, device).child("generator");
        let at = |i: usize| scope.child(&format!("layers.{i}"));
        let channels = |stage: usize| config.width << (stages - 1 - stage);
        let mut layers = vec![Unfilter::init(&at(0), [config.latent, channels(0)], start, 1, 0)];
        for stage in 1..=stages {
            let outputs = if stage == stages { config.channels } else { channels(stage) };
            layers.push(Unfilter::init(&at(stage), [channels(stage - 1), outputs], KERNEL, 2, 1));
        }
        let norm = |stage: usize| BatchNorm::init(&scope.child(&format!("norms.{stage}")), channels(stage));
        Self { layers, norms: (0..stages).map(norm).collect() }
    }

    pub(super) fn forward(&self, noise: Tensor<2>, context: &mut Context) -> Tensor<4> {
        let [batch, latent] = noise.dims();
        let mut x = noise.reshape([batch, 1, 1, latent]);
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward(x, context);
            if let Some(norm) = self.norms.get(i) {
                x = norm.forward_with(x, None, true, context);
            }
        }
        x.tanh()
    }
}

/// Halves an image until it is a number.
#[derive(Module, Debug)]
pub struct DcganCritic {
    layers: Vec<Filter>,
    /// Behind all layers but the first and the last; none with spectral norm.
    norms: Vec<BatchNorm>,
}

impl DcganCritic {
    pub(super) fn init(config: &GanConfig, start: usize, stages: usize, seed: u64, device: &Device) -> Self {
        let scope = Scope::new(seed, Init::Normal, device).child("critic");
        let channels = |stage: usize| config.width << stage;
        let filter =
            |i: usize, [inputs, outputs]: [usize; 2], kernel: usize, stride: usize, padding: usize| {
                let at = scope.child(&format!("layers.{i}"));
                let mut conv = Conv::init(&at, inputs, outputs, kernel, stride).with_padding(padding);
                conv.weight = at.normal("weight", [outputs, inputs, kernel, kernel], 0.02);
                // A batch norm behind it has a bias.
                let bias = config.spectral_norm || i == 0 || i == stages;
                let conv = if bias { conv.with_bias(&at) } else { conv };
                Filter::new(conv, &at, config.spectral_norm)
            };
        let mut layers = Vec::with_capacity(stages + 1);
        for stage in 0..stages {
            let inputs = if stage == 0 { config.channels } else { channels(stage - 1) };
            layers.push(filter(stage, [inputs, channels(stage)], KERNEL, 2, 1));
        }
        layers.push(filter(stages, [channels(stages - 1), 1], start, 1, 0));
        let norm =
            |stage: usize| BatchNorm::init(&scope.child(&format!("norms.{}", stage - 1)), channels(stage));
        let norms = if config.spectral_norm { Vec::new() } else { (1..stages).map(norm).collect() };
        Self { layers, norms }
    }

    pub(super) fn forward(&self, x: Tensor<4>, context: &mut Context) -> Tensor<1> {
        let [batch, ..] = x.dims();
        let mut x = x;
        for (i, layer) in self.layers.iter().enumerate() {
            if i > 0 {
                x = activation::leaky_relu(x, LEAK);
            }
            x = layer.forward(x, context);
            if let Some(norm) = i.checked_sub(1).and_then(|norm| self.norms.get(norm)) {
                x = norm.forward_with(x, None, false, context);
            }
        }
        x.reshape([batch])
    }
}
