//! `gpt-s` and `gpt-m`: training steps of two GPTs, as bench/torch_peer.py does them.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use jishi_kernels::cpu::cross_entropy::Options;
use jishi_kernels::{Activation, Precision};
use jishi_models::{Context, Gpt2, Gpt2Config, NamedTensor, export_weights, import_weights};
use jishi_recipe::{AdamW, Optimizer, Train};
use jishi_tasks::task::{Direction, Evaluation, SplitName, Task, TaskError};
use serde_json::Value;

use super::figures::ceiling;
use super::{peer, training};
use crate::error::CliError;

/// A size.
pub struct Size {
    pub config: Gpt2Config,
    batch: usize,
    measured: usize,
}

/// GPT-S: 4 layers, 128 wide, context 128, batch 16, 1,024 tokens.
pub fn small() -> Size {
    Size { config: config(4, 128, 4, 128, 1024), batch: 16, measured: 30 }
}

/// GPT-M: 6 layers, 384 wide, context 256, batch 8, 4,096 tokens.
pub fn medium() -> Size {
    Size { config: config(6, 384, 6, 256, 4096), batch: 8, measured: 15 }
}

fn config(layers: usize, width: usize, heads: usize, context: usize, vocabulary: usize) -> Gpt2Config {
    let sizes = Gpt2Config::new(layers, width, heads, context, vocabulary);
    Gpt2Config { tied: false, activation: Activation::Gelu, ..sizes }
}

const WARM_UP: usize = 5;

/// Trains one size.
pub fn run(name: &str, size: &Size, precision: Precision, profiled: bool) -> Result<Value, CliError> {
    let device = Device::flex().autodiff();
    let model = Gpt2::init(&size.config, 0, &device);
    let weights = peer_weights(&model, &size.config);
    let model = import_weights(model, &weights).map_err(jishi_train::TrainError::from)?;
    let parameters: usize = weights.iter().map(|w| w.data.len()).sum();
    drop(weights);
    let task = NextToken::new(size);
    let optimizer =
        AdamW { learning_rate: 3e-4, betas: [0.9, 0.95], eps: 1e-8, weight_decay: 0.1, decay_all: true };
    let config = Train {
        optimizer: Optimizer::Adamw(optimizer),
        steps: Some(WARM_UP + size.measured),
        batch: size.batch,
        precision: match precision {
            Precision::F32 => jishi_recipe::Precision::F32,
            Precision::Bf16 => jishi_recipe::Precision::Bf16,
        },
        ..Train::default()
    };
    let trained = training::run(&task, &config, model, WARM_UP, profiled)?;
    let tokens = (size.batch * size.config.context) as f64;
    let mut figures = trained.json(name, precision_name(precision));
    figures["tokens_per_second"] = (tokens / trained.steps.median()).into();
    figures["parameters"] = parameters.into();
    let work = operations(&size.config, size.batch) / trained.steps.median();
    figures["share_of_ceiling"] = (work / ceiling(precision)).into();
    Ok(figures)
}

/// Name of a precision in figures.
pub fn precision_name(precision: Precision) -> &'static str {
    match precision {
        Precision::F32 => "f32",
        Precision::Bf16 => "bf16",
    }
}

/// Multiplications and additions of a step's products: forward, and twice as many backward. Attention counts the
/// pairs that a causal mask leaves.
fn operations(config: &Gpt2Config, batch: usize) -> f64 {
    let Gpt2Config { layers, width, context, vocabulary, .. } = *config;
    let rows = (batch * context) as f64;
    let dense = (12 * layers * width * width + vocabulary * width) as f64;
    let attention = (layers * width) as f64 * (context + 1) as f64;
    3.0 * 2.0 * rows * (dense + attention)
}

/// The peer's initial weights: tables, layers in order, then the output layer; biases zero.
pub fn peer_weights<M: Module>(model: &M, config: &Gpt2Config) -> Vec<NamedTensor> {
    let bound = 0.02 * 3.0f64.sqrt();
    let place = |name: &str| match name {
        "wte.weight" => Some(1),
        "wpe.weight" => Some(2),
        "lm_head.weight" => Some(3 + 4 * config.layers as u32),
        _ => {
            let (layer, part) = name.strip_prefix("h.")?.split_once('.')?;
            let parts = ["attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight"];
            let part = parts.iter().position(|p| *p == part)?;
            Some(3 + 4 * layer.parse::<u32>().ok()? + part as u32)
        }
    };
    let mut weights = export_weights(model);
    for tensor in &mut weights {
        if let Some(seed) = place(&tensor.name) {
            tensor.data = if tensor.name.starts_with("h.") {
                peer::turned_weights([tensor.shape[1], tensor.shape[0]], seed, bound)
            } else {
                peer::weights(tensor.data.len(), seed, bound)
            };
        }
    }
    weights
}

/// The next token of fixed sequences.
struct NextToken {
    batch: usize,
    time: usize,
    /// `[batch, time]`
    tokens: Tensor<2, Int>,
    /// `[batch · time]`
    targets: Tensor<1, Int>,
}

impl NextToken {
    fn new(size: &Size) -> Self {
        let (batch, time) = (size.batch, size.config.context);
        let vocabulary = size.config.vocabulary as f64;
        let all: Vec<i64> =
            peer::uniform(batch * (time + 1), 999).into_iter().map(|u| (u * vocabulary) as i64).collect();
        let (mut tokens, mut targets) = (Vec::<i64>::new(), Vec::<i64>::new());
        for row in all.chunks_exact(time + 1) {
            tokens.extend(&row[..time]);
            targets.extend(&row[1..]);
        }
        let device = Device::flex();
        Self {
            batch,
            time,
            tokens: Tensor::from_data(TensorData::new(tokens, [batch, time]), &device),
            targets: Tensor::from_data(TensorData::new(targets, [batch * time]), &device),
        }
    }
}

impl Task for NextToken {
    type Model = Gpt2;
    type Batch = ();

    fn rows(&self, split: SplitName) -> usize {
        if split == SplitName::Train { self.batch } else { 0 }
    }

    /// The batch is the same at every step; the order of its rows does not matter to the loss.
    fn batch(&self, _: &[u32]) {}

    fn weight(&self, (): &()) -> f64 {
        (self.batch * self.time) as f64
    }

    fn loss(&self, model: &Gpt2, (): &(), context: &mut Context) -> Tensor<1> {
        model.loss(self.tokens.clone(), None, self.targets.clone(), Options::default(), context)
    }

    fn evaluate(&self, _: &Gpt2, _: SplitName) -> Result<Evaluation, TaskError> {
        Ok(Evaluation { loss: f64::NAN, metrics: std::collections::BTreeMap::new() })
    }

    fn direction(&self, _: &str) -> Direction {
        Direction::Lower
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_losses_are_the_peers() {
        let size = Size { measured: 1, ..small() };
        let figures = run("gpt-s", &size, Precision::F32, false).expect("it trains");
        // PyTorch 2.15, f32.
        let expected = [6.963_96, 6.843_12, 6.736_36, 6.648_02];
        for (found, expected) in figures["losses"].as_array().expect("losses").iter().zip(expected) {
            let found = found.as_f64().expect("a number");
            assert!((found - expected).abs() < 1e-4, "{found} {expected}");
        }
        assert_eq!(figures["parameters"], 1_071_872);
    }
}
