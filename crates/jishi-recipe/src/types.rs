//! Every key of a recipe, its type, its default and its meaning.
//!
//! The doc comments here are what `jishi recipe schema` and the reference page show to users.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::generation::{DcganModel, WganGpModel};
use crate::language::{
    BertModel, EncoderDecoderModel, Generate, Gpt2Model, LlamaModel, PretrainedModel, Text, Tokenizer,
};
use crate::networks::{MaeModel, ResNetModel, SsdModel, VggModel, VitModel, YoloModel};
use crate::vision::Image;

/// A recipe: one TOML file that describes a whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name of the run: the folder under `runs/`. Letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// One line that says what the recipe does.
    #[serde(default)]
    pub description: Option<String>,
    /// What is learned.
    pub task: TaskName,
    /// Where the data comes from and how it is prepared.
    pub data: Data,
    /// How text is read, where the task learns from text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Text>,
    /// How text becomes tokens, where the task learns from text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<Tokenizer>,
    /// How images are read and changed, where the task learns from images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    /// The model.
    pub model: Model,
    /// How it is trained.
    #[serde(default)]
    pub train: Train,
    /// How it is evaluated.
    #[serde(default)]
    pub evaluate: Evaluate,
    /// What is written to see what the model can do, where the task makes text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate: Option<Generate>,
}

/// What is learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TaskName {
    /// Predict a number from a row of a table.
    Regression,
    /// Predict one of two or more classes from a row of a table.
    Classification,
    /// Predict the next token of a text, and so write texts.
    CausalLm,
    /// Prefer chosen answers to rejected ones: direct preference optimisation (Rafailov et al. 2023).
    Dpo,
    /// Predict tokens that were hidden from a text: pre-training of encoders.
    MaskedLm,
    /// Predict one or several labels of a text.
    TextClassification,
    /// Write a text for a text: a translation, or any other answer.
    Translation,
    /// Give texts of like meaning vectors that are close to each other.
    TextEmbedding,
    /// Predict one or several labels of an image.
    ImageClassification,
    /// Tell the patches that were hidden from an image: pre-training without labels.
    MaskedImageModeling,
    /// Give views of one image vectors that are close to each other: pre-training without labels (Chen et al. 2020).
    ImageEmbedding,
    /// Find the objects of an image: a box and a class for each.
    Detection,
    /// Make images like those that it was shown.
    ImageGeneration,
}

/// What a task learns from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// Rows of a table.
    Tables,
    /// Texts.
    Texts,
    /// Images.
    Images,
}

/// Where the data comes from and how it is prepared. Everything is fitted on the training split alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// A path, a glob, `builtin:NAME` or `package:NAME` (what `jishi data get NAME` fetched); or a list of them. Relative paths start at the recipe's folder.
    pub source: OneOrMany,
    /// File format. `auto` goes by the name's ending (`.csv`, `.tsv`, `.jsonl`, `.parquet`, each also with `.gz` or `.zst`).
    #[serde(default)]
    pub format: Format,
    /// Field separator of CSV files: one character. Default: `,` (a tab for TSV).
    #[serde(default)]
    pub delimiter: Option<String>,
    /// Column to predict: a number, a class, labels, or a text. `causal-lm`, `dpo` and `masked-lm` have none; for
    /// `text-embedding` it is the second of a pair.
    #[serde(default)]
    pub target: Option<String>,
    /// Columns to learn from. Default: all but the target, `ignore`, and the columns that the split uses.
    #[serde(default)]
    pub features: Option<Vec<String>>,
    /// Columns to leave out.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// Column types that override what is inferred: `{ zip = "category", sold = "date" }`.
    #[serde(default)]
    pub types: BTreeMap<String, ColumnType>,
    /// Field values that mean "missing", besides the empty field.
    #[serde(default = "default_missing_values")]
    pub missing_values: Vec<String>,
    /// What to do with missing values.
    #[serde(default)]
    pub missing: Missing,
    /// How numbers are scaled.
    #[serde(default)]
    pub scale: Scale,
    /// Categories seen in fewer training rows than this share the slot of unknown categories.
    #[serde(default = "one")]
    pub min_category_count: usize,
    /// At most this many categories a column, the most frequent first; the rest share the slot of unknown categories.
    #[serde(default = "default_max_categories")]
    pub max_categories: usize,
    /// Rows held out for validation and test.
    #[serde(default)]
    pub split: Split,
    /// What to do with rows that can't be read (a wrong number of fields, a value that is not of the column's type).
    #[serde(default)]
    pub bad_rows: BadRows,
    /// Training refuses when a larger share of the input rows than this had to be dropped (0 to 1).
    #[serde(default = "default_max_dropped")]
    pub max_dropped: f64,
    /// Data whose typed columns take more bytes than this is trained from a memory-mapped cache on disk instead of memory.
    #[serde(default = "default_memory_limit")]
    pub memory_limit: u64,
}

/// One value or a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One value.
    One(String),
    /// A list.
    Many(Vec<String>),
}

/// File format of the data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// By the name's ending.
    #[default]
    Auto,
    /// Comma-separated values with a header line (RFC 4180).
    Csv,
    /// Tab-separated values with a header line.
    Tsv,
    /// One JSON object a line.
    Jsonl,
    /// Apache Parquet.
    Parquet,
}

/// Type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ColumnType {
    /// A real number.
    Number,
    /// One of a set of values.
    Category,
    /// True or false.
    Boolean,
    /// A day or a moment (ISO 8601); becomes year, month, day, weekday and days since 1970.
    Date,
}

/// What to do with missing values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Missing {
    /// Missing numbers and dates.
    pub number: MissingNumber,
    /// Missing categories and booleans.
    pub category: MissingCategory,
    /// Rows without a target.
    pub target: MissingTarget,
    /// Add a 0/1 feature for every numeric column that misses values in training.
    pub indicator: bool,
}

/// Policy for missing numbers. Statistics come from the training split.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MissingNumber {
    /// Take the median.
    #[default]
    Median,
    /// Take the mean.
    Mean,
    /// Take zero.
    Zero,
    /// Drop the row and say so in the ledger.
    Drop,
    /// Stop with an error.
    Error,
}

/// Policy for missing categories.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MissingCategory {
    /// Missing is a category of its own.
    #[default]
    Own,
    /// Take the most frequent category.
    MostFrequent,
    /// Drop the row and say so in the ledger.
    Drop,
    /// Stop with an error.
    Error,
}

/// Policy for rows without a target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MissingTarget {
    /// Stop with an error.
    #[default]
    Error,
    /// Drop the row and say so in the ledger.
    Drop,
}

/// Policy for rows that can't be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BadRows {
    /// Stop with an error that lists them.
    #[default]
    Error,
    /// Drop them and say so in the ledger.
    Drop,
}

/// How numbers are scaled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Scale {
    /// Numeric features.
    pub number: Scaling,
    /// The target of a regression. Metrics and predictions are always in the target's own unit.
    pub target: Scaling,
    /// Single columns that differ: `{ Lot_Area = "log" }`.
    pub columns: BTreeMap<String, Scaling>,
}

/// A scaling of numbers, fitted on the training split.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scaling {
    /// As they are.
    None,
    /// Subtract the mean, divide by the standard deviation.
    #[default]
    Standard,
    /// Map the range to 0…1.
    MinMax,
    /// Subtract the median, divide by the interquartile range.
    Robust,
    /// Map the empirical distribution to a standard normal one.
    Quantile,
    /// sign(x)·ln(1+|x|), then standard.
    Log,
}

/// Rows held out for validation and test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Split {
    /// Share of all rows held out for validation; 0 trains without one.
    pub validation: f64,
    /// Share of all rows held out for the test; 0 tests nothing. Has no place beside `folds`.
    pub test: f64,
    /// Number of folds of a cross-validation, in place of `test`: each fold is the test set once. With by = "time", a fold trains on the rows before it.
    pub folds: Option<usize>,
    /// Seed of the shuffle. `random` splits are those of scikit-learn's `train_test_split` and `KFold` for the same seed.
    pub seed: u32,
    /// How rows are assigned.
    pub by: SplitBy,
    /// The column that `group`, `time` and `column` splits go by.
    pub column: Option<String>,
}

impl Split {
    /// As it is for data that is not split: all of it is one part.
    #[must_use]
    pub fn whole(&self) -> Self {
        Self { validation: 0.0, test: 0.0, folds: None, by: SplitBy::Random, ..self.clone() }
    }
}

/// How rows are assigned to splits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SplitBy {
    /// Shuffled.
    #[default]
    Random,
    /// Shuffled, with the same share of every class in every split (`classification`).
    Stratified,
    /// Rows with the same value of `column` stay together.
    Group,
    /// Ordered by `column`: the earliest rows train, the latest test.
    Time,
    /// `column` holds `train`, `validation` or `test`.
    Column,
}

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

fn one() -> usize {
    1
}

fn default_missing_values() -> Vec<String> {
    ["NA", "N/A", "NaN", "nan", "null", "NULL", "?"].map(String::from).to_vec()
}

fn default_max_categories() -> usize {
    1000
}

fn default_max_dropped() -> f64 {
    0.05
}

fn default_memory_limit() -> u64 {
    256 << 20
}

impl OneOrMany {
    /// The values as a slice.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(v) => std::slice::from_ref(v),
            Self::Many(v) => v,
        }
    }
}

impl TaskName {
    /// What the task learns from.
    #[must_use]
    pub fn domain(self) -> Domain {
        match self {
            Self::Regression | Self::Classification => Domain::Tables,
            Self::ImageClassification
            | Self::MaskedImageModeling
            | Self::ImageEmbedding
            | Self::Detection
            | Self::ImageGeneration => Domain::Images,
            Self::CausalLm
            | Self::Dpo
            | Self::MaskedLm
            | Self::TextClassification
            | Self::Translation
            | Self::TextEmbedding => Domain::Texts,
        }
    }

    /// Whether the trained model writes text.
    #[must_use]
    pub fn writes_text(self) -> bool {
        self.continues_text() || self == Self::Translation
    }

    /// Whether the loss compares all examples of a batch with each other.
    #[must_use]
    pub fn contrasts(self) -> bool {
        matches!(self, Self::TextEmbedding | Self::ImageEmbedding)
    }

    /// Whether the trained model predicts the next token, and so continues a text.
    #[must_use]
    pub fn continues_text(self) -> bool {
        matches!(self, Self::CausalLm | Self::Dpo)
    }

    /// The name in a recipe.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Regression => "regression",
            Self::Classification => "classification",
            Self::CausalLm => "causal-lm",
            Self::Dpo => "dpo",
            Self::MaskedLm => "masked-lm",
            Self::TextClassification => "text-classification",
            Self::Translation => "translation",
            Self::TextEmbedding => "text-embedding",
            Self::ImageClassification => "image-classification",
            Self::MaskedImageModeling => "masked-image-modeling",
            Self::ImageEmbedding => "image-embedding",
            Self::Detection => "detection",
            Self::ImageGeneration => "image-generation",
        }
    }
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

impl Data {
    /// The column to predict. Recipes of tables have one; without, this is empty.
    #[must_use]
    pub fn target(&self) -> &str {
        self.target.as_deref().unwrap_or_default()
    }
}

impl Default for Missing {
    fn default() -> Self {
        Self {
            number: MissingNumber::Median,
            category: MissingCategory::Own,
            target: MissingTarget::Error,
            indicator: false,
        }
    }
}

impl Default for Scale {
    fn default() -> Self {
        Self { number: Scaling::Standard, target: Scaling::Standard, columns: BTreeMap::new() }
    }
}

impl Default for Split {
    fn default() -> Self {
        Self { validation: 0.2, test: 0.2, folds: None, seed: 42, by: SplitBy::Random, column: None }
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
