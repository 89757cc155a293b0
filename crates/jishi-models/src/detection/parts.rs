//! Layers of detectors.

use burn::module::Module;
use burn::tensor::Tensor;
use jishi_kernels::ops::{self, PoolOptions};
use jishi_recipe::Activation;

use crate::context::Context;
use crate::init::Scope;
use crate::layers::activation::activate;
use crate::layers::conv::Conv;
use crate::layers::norm::BatchNorm;

/// A convolution, a batch norm and ReLU, which here costs nothing beside the norm.
#[derive(Module, Debug)]
pub(super) struct ConvNorm {
    conv: Conv,
    norm: BatchNorm,
}

impl ConvNorm {
    pub(super) fn init(scope: &Scope, inputs: usize, outputs: usize, kernel: usize, stride: usize) -> Self {
        Self {
            conv: Conv::init(&scope.child("conv"), inputs, outputs, kernel, stride),
            norm: BatchNorm::init(&scope.child("norm"), outputs),
        }
    }

    pub(super) fn forward(&self, x: Tensor<4>, context: &mut Context) -> Tensor<4> {
        self.forward_with(x, None, context)
    }

    /// The same with SiLU in place of ReLU. At the start nearly all places of a detector find nothing, which pushes what its
    /// head sees below zero; there ReLU has no slope, and may never come back.
    pub(super) fn smooth(&self, x: Tensor<4>, context: &mut Context) -> Tensor<4> {
        let x = self.conv.forward(x, context);
        activate(Activation::Silu, self.norm.forward_with(x, None, false, context))
    }

    /// The same with a residual before ReLU.
    fn forward_with(&self, x: Tensor<4>, residual: Option<Tensor<4>>, context: &mut Context) -> Tensor<4> {
        let x = self.conv.forward(x, context);
        self.norm.forward_with(x, residual, true, context)
    }
}

/// A cross-stage block (Wang et al. 2020, "CSPNet", §3.2): half of the channels go through residual blocks, the other half
/// past them.
#[derive(Module, Debug)]
pub(super) struct CrossStage {
    through: ConvNorm,
    past: ConvNorm,
    blocks: Vec<(ConvNorm, ConvNorm)>,
    join: ConvNorm,
    residual: bool,
}

impl CrossStage {
    pub(super) fn init(scope: &Scope, [inputs, outputs]: [usize; 2], blocks: usize, residual: bool) -> Self {
        let half = outputs / 2;
        let conv = |name: String, inputs, outputs, kernel| {
            ConvNorm::init(&scope.child(&name), inputs, outputs, kernel, 1)
        };
        Self {
            through: conv("through".into(), inputs, half, 1),
            past: conv("past".into(), inputs, half, 1),
            blocks: (0..blocks)
                .map(|i| {
                    (
                        conv(format!("blocks.{i}.0"), half, half, 3),
                        conv(format!("blocks.{i}.1"), half, half, 3),
                    )
                })
                .collect(),
            join: conv("join".into(), 2 * half, outputs, 1),
            residual,
        }
    }

    pub(super) fn forward(&self, x: Tensor<4>, context: &mut Context) -> Tensor<4> {
        let past = self.past.forward(x.clone(), context);
        let mut x = self.through.forward(x, context);
        for (first, second) in &self.blocks {
            let y = first.forward(x.clone(), context);
            x = second.forward_with(y, self.residual.then_some(x), context);
        }
        self.join.forward(Tensor::cat(vec![x, past], 3), context)
    }
}

/// What is around each place, at several distances (He et al. 2015, "Spatial Pyramid Pooling"; windows of 5, 9 and 13 as
/// one, two and three of 5).
#[derive(Module, Debug)]
pub(super) struct Pyramid {
    narrow: ConvNorm,
    join: ConvNorm,
}

impl Pyramid {
    pub(super) fn init(scope: &Scope, width: usize) -> Self {
        Self {
            narrow: ConvNorm::init(&scope.child("narrow"), width, width / 2, 1, 1),
            join: ConvNorm::init(&scope.child("join"), 2 * width, width, 1, 1),
        }
    }

    pub(super) fn forward(&self, x: Tensor<4>, context: &mut Context) -> Tensor<4> {
        let mut all = vec![self.narrow.forward(x, context)];
        for _ in 0..3 {
            let wider = all[all.len() - 1].clone();
            all.push(ops::max_pool2d(wider, PoolOptions { kernel: [5; 2], stride: [1; 2], padding: [2; 2] }));
        }
        self.join.forward(Tensor::cat(all, 3), context)
    }
}

/// The last convolution of a head: small weights, and a bias that says how rare things are.
pub(super) fn last(scope: &Scope, inputs: usize, outputs: usize, kernel: usize, bias: f32) -> Conv {
    let mut conv = Conv::init(scope, inputs, outputs, kernel, 1).with_bias_of(scope, bias);
    conv.weight = scope.normal("weight", [outputs, inputs, kernel, kernel], 0.01);
    conv
}

/// Values of all places of levels, one after another.
///
/// # Shapes
/// - input: `[batch, height, width, of_place · values]` each
/// - output: `[batch, places, values]`
pub(super) fn joined(levels: Vec<Tensor<4>>, values: usize) -> Tensor<3> {
    let flat = levels.into_iter().map(|x| {
        let [batch, height, width, channels] = x.dims();
        x.reshape([batch, height * width * channels / values, values])
    });
    Tensor::cat(flat.collect(), 1)
}
