//! `[train]` and `[evaluate]`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the model is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Train {
    /// The optimiser.
    pub optimizer: Optimizer,
    /// Learning-rate schedule.
    pub schedule: Schedule,
    /// Passes over the training split. Default: 100, unless `steps` is given.
    pub epochs: Option<usize>,
    /// Optimiser steps, in place of `epochs`.
    pub steps: Option<usize>,
    /// Examples an optimiser step.
    pub batch: usize,
    /// Split every batch into this many parts and add up their gradients; the loss is that of the whole batch.
    pub accumulate: usize,
    /// Clip the gradient to this global norm.
    pub clip: Option<f64>,
    /// Keep an exponential moving average of the weights with this decay and evaluate with it.
    pub ema: Option<f64>,
    /// The loss.
    pub loss: Loss,
    /// Stop when validation no longer improves and keep the best weights.
    pub early_stopping: Option<EarlyStopping>,
    /// When checkpoints are written.
    pub checkpoint: Checkpoint,
    /// Validate every so many steps. Default: at the end of every epoch.
    pub validate_every: Option<usize>,
    /// Write a line to the metric log every so many steps.
    pub log_every: usize,
    /// Leave out the last batch of an epoch where it is short.
    pub drop_last: bool,
    /// Seed of initial weights, shuffling and dropout.
    pub seed: u64,
    /// Number type of the computation.
    pub precision: Precision,
}

/// An optimiser, with PyTorch's semantics and defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum Optimizer {
    /// Stochastic gradient descent, with momentum and Nesterov momentum as options.
    Sgd(Sgd),
    /// RMSprop (Hinton 2012).
    Rmsprop(Rmsprop),
    /// Adam (Kingma & Ba 2015); weight decay is added to the gradient.
    Adam(Adam),
    /// AdamW (Loshchilov & Hutter 2019); weight decay is decoupled.
    Adamw(AdamW),
    /// Muon (Jordan et al. 2024) for hidden matrices, AdamW for the rest.
    Muon(Muon),
}

/// Stochastic gradient descent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sgd {
    /// Learning rate.
    pub learning_rate: f64,
    /// Momentum.
    pub momentum: f64,
    /// Dampening of the momentum.
    pub dampening: f64,
    /// Nesterov momentum; needs `momentum`.
    pub nesterov: bool,
    /// Weight decay, added to the gradient.
    pub weight_decay: f64,
    /// Decay norms, biases and embeddings too.
    pub decay_all: bool,
}

/// RMSprop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rmsprop {
    /// Learning rate.
    pub learning_rate: f64,
    /// Smoothing constant.
    pub alpha: f64,
    /// Term added to the denominator.
    pub eps: f64,
    /// Momentum.
    pub momentum: f64,
    /// Divide by the variance instead of the second moment.
    pub centered: bool,
    /// Weight decay, added to the gradient.
    pub weight_decay: f64,
    /// Decay norms, biases and embeddings too.
    pub decay_all: bool,
}

/// Adam.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Adam {
    /// Learning rate.
    pub learning_rate: f64,
    /// Decay of the first and second moment.
    pub betas: [f64; 2],
    /// Term added to the denominator.
    pub eps: f64,
    /// Weight decay, added to the gradient.
    pub weight_decay: f64,
    /// Decay norms, biases and embeddings too.
    pub decay_all: bool,
}

/// AdamW.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdamW {
    /// Learning rate.
    pub learning_rate: f64,
    /// Decay of the first and second moment.
    pub betas: [f64; 2],
    /// Term added to the denominator.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Decay norms, biases and embeddings too.
    pub decay_all: bool,
}

/// Muon: momentum, orthogonalised by five Newton–Schulz steps; matrices only, AdamW for the rest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Muon {
    /// Learning rate of the matrices.
    pub learning_rate: f64,
    /// Momentum.
    pub momentum: f64,
    /// Nesterov momentum.
    pub nesterov: bool,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Newton–Schulz steps.
    pub ns_steps: usize,
    /// Learning rate of everything else, by AdamW.
    pub adamw_learning_rate: f64,
    /// AdamW's decay of the first and second moment.
    pub adamw_betas: [f64; 2],
    /// Decay norms, biases and embeddings too.
    pub decay_all: bool,
}

/// Learning-rate schedule. `warmup` steps rise linearly from zero first, in every schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// Shape after the warm-up.
    pub name: ScheduleName,
    /// Steps of linear warm-up.
    pub warmup: usize,
    /// `linear`, `cosine`: the last learning rate, as a share of the first.
    pub final_share: f64,
    /// `step`: multiply by `gamma` every so many epochs.
    pub step_epochs: usize,
    /// `step`, `plateau`: the factor.
    pub gamma: f64,
    /// `plateau`: validations without improvement before the factor is applied.
    pub patience: usize,
    /// `one-cycle`: share of the steps spent rising to the learning rate.
    pub rise: f64,
}

/// Shape of a learning-rate schedule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleName {
    /// Always the same.
    #[default]
    Constant,
    /// A straight line down to `final_share`.
    Linear,
    /// Half a cosine down to `final_share`.
    Cosine,
    /// Times `gamma` every `step_epochs` epochs.
    Step,
    /// Up and down again (Smith & Topin 2018), as PyTorch's `OneCycleLR`.
    OneCycle,
    /// Times `gamma` when validation loss has not improved for `patience` validations.
    Plateau,
}

/// The loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Loss {
    /// Which loss. `auto`: `mse` for regression, `cross-entropy` for classification.
    pub name: LossName,
    /// `huber`: where the loss turns from quadratic to linear, in scaled units.
    pub delta: f64,
    /// Classification: share of the target spread over all classes. `dpo`: chance that a pair is the wrong way round
    /// (Mitchell 2023), below 0.5.
    pub label_smoothing: f64,
    /// Classification: weight of every class; `balanced` weighs by inverse frequency.
    pub class_weights: ClassWeights,
    /// `focal`: focusing parameter (Lin et al. 2017).
    pub gamma: f64,
    /// `dpo`: β of the paper, which keeps the model close to the one it began as; larger is closer.
    pub beta: f64,
    /// `text-embedding`, `image-embedding`: similarities are divided by it; smaller looks at the nearest alone. Default:
    /// 0.05 for texts, 0.5 for images.
    pub temperature: Option<f64>,
}

/// Name of a loss.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LossName {
    /// By the task.
    #[default]
    Auto,
    /// Mean squared error.
    Mse,
    /// Mean absolute error.
    Mae,
    /// Huber loss.
    Huber,
    /// Categorical cross-entropy over a softmax.
    CrossEntropy,
    /// Binary cross-entropy over a sigmoid; two classes.
    BinaryCrossEntropy,
    /// Focal loss.
    Focal,
}

/// Weights of classes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ClassWeights {
    /// `none` or `balanced`.
    Named(NamedClassWeights),
    /// A weight for every class, by its name.
    ByClass(BTreeMap<String, f64>),
}

/// Named weights of classes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NamedClassWeights {
    /// All one.
    #[default]
    None,
    /// n / (classes · count), as scikit-learn.
    Balanced,
}

/// Stop when validation no longer improves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EarlyStopping {
    /// Validations without improvement before training stops.
    pub patience: usize,
    /// Metric of the validation split that decides: `loss` or any metric of the task.
    pub metric: String,
    /// Smaller changes than this are no improvement.
    pub min_delta: f64,
}

/// When checkpoints are written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Checkpoint {
    /// Every so many steps. Default: by time alone.
    pub every_steps: Option<usize>,
    /// Every so many seconds.
    pub every_seconds: f64,
    /// Keep this many of the last checkpoints.
    pub keep: usize,
}

/// Number type of the computation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 32-bit floating point.
    #[default]
    F32,
    /// Layers multiply and convolve bfloat16 factors with `f32` sums; weights, reductions and optimiser stay in `f32`.
    Bf16,
}

/// How the model is evaluated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Evaluate {
    /// Bootstrap resamples for the 95 % intervals; 0 leaves them out.
    pub bootstrap: usize,
    /// Rows a forward pass in evaluation and prediction.
    pub batch: usize,
    /// Draw the evaluation plots.
    pub plots: bool,
    /// `image-generation`: a run or package of an image classifier, as `"runs/mnist"`, whose features FID and KID are
    /// measured on, and whose labels tell how many images there are of each kind. Relative paths start at the recipe's folder.
    pub features: Option<String>,
    /// `image-generation`: images that are made to be measured. While it trains, no more than there are in the
    /// validation split.
    pub samples: usize,
}

impl Default for Train {
    fn default() -> Self {
        Self {
            optimizer: Optimizer::default(),
            schedule: Schedule::default(),
            epochs: None,
            steps: None,
            batch: 32,
            accumulate: 1,
            clip: None,
            ema: None,
            loss: Loss::default(),
            early_stopping: None,
            checkpoint: Checkpoint::default(),
            validate_every: None,
            log_every: 10,
            drop_last: false,
            seed: 42,
            precision: Precision::F32,
        }
    }
}

impl Default for Optimizer {
    fn default() -> Self {
        Self::Adamw(AdamW::default())
    }
}

impl Default for Sgd {
    fn default() -> Self {
        Self {
            learning_rate: 1e-3,
            momentum: 0.0,
            dampening: 0.0,
            nesterov: false,
            weight_decay: 0.0,
            decay_all: false,
        }
    }
}

impl Default for Rmsprop {
    fn default() -> Self {
        Self {
            learning_rate: 1e-2,
            alpha: 0.99,
            eps: 1e-8,
            momentum: 0.0,
            centered: false,
            weight_decay: 0.0,
            decay_all: false,
        }
    }
}

impl Default for Adam {
    fn default() -> Self {
        Self { learning_rate: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0, decay_all: false }
    }
}

impl Default for AdamW {
    fn default() -> Self {
        Self { learning_rate: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 1e-2, decay_all: false }
    }
}

impl Default for Muon {
    fn default() -> Self {
        Self {
            learning_rate: 1e-3,
            momentum: 0.95,
            nesterov: true,
            weight_decay: 0.1,
            ns_steps: 5,
            adamw_learning_rate: 1e-3,
            adamw_betas: [0.9, 0.999],
            decay_all: false,
        }
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            name: ScheduleName::Constant,
            warmup: 0,
            final_share: 0.0,
            step_epochs: 30,
            gamma: 0.1,
            patience: 10,
            rise: 0.3,
        }
    }
}

impl Default for Loss {
    fn default() -> Self {
        Self {
            name: LossName::Auto,
            delta: 1.0,
            label_smoothing: 0.0,
            class_weights: ClassWeights::Named(NamedClassWeights::None),
            gamma: 2.0,
            beta: 0.1,
            temperature: None,
        }
    }
}

impl Default for EarlyStopping {
    fn default() -> Self {
        Self { patience: 10, metric: "loss".into(), min_delta: 0.0 }
    }
}

impl Default for Checkpoint {
    fn default() -> Self {
        Self { every_steps: None, every_seconds: 60.0, keep: 2 }
    }
}

impl Default for Evaluate {
    fn default() -> Self {
        Self { bootstrap: 1000, batch: 1024, plots: true, features: None, samples: 10_000 }
    }
}
