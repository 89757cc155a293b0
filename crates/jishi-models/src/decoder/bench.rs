//! The decoding workload: the same model, weights and tokens as `gen` of `torch_peer.py`, which is measured beside it.

use std::time::{Duration, Instant};

use jishi_kernels::Activation;
use jishi_kernels::cpu::matvec::{Format, PackedWeight};
use jishi_kernels::threads::parallel;

use super::{Decoder, DecoderConfig, most_likely};
use crate::error::ModelError;
use crate::weights::NamedTensor;

/// Figures of one format.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodeFigures {
    /// `f32`, `bf16` or `int8`.
    pub format: &'static str,
    /// Greedy tokens a second after a prompt of 16, until the context is full, the prompt's time included: the median
    /// of the runs.
    pub tokens_per_second: f64,
    /// The slowest and the fastest run.
    pub spread: [f64; 2],
    /// The first tokens.
    pub first: Vec<u32>,
    /// Milliseconds of a forward pass over the whole context, all logits included; the median of the runs.
    pub forward_ms: f64,
    /// Bytes of weights that a token reads.
    pub weight_bytes: usize,
    /// Tokens a second if nothing were done but read the weights on all threads: the best of the runs.
    pub ceiling: f64,
    /// Largest difference of the logits after the prompt from those of `f32`, divided by the largest of those.
    pub logit_error: f64,
}

/// The peer's sizes.
fn config() -> DecoderConfig {
    DecoderConfig {
        layers: 6,
        width: 384,
        heads: 6,
        hidden: 1536,
        context: 256,
        vocabulary: 4096,
        activation: Activation::Gelu,
        epsilon: 1e-5,
    }
}

/// The peer's weights, from its integer hash.
#[must_use]
pub fn peer_tensors(config: &DecoderConfig) -> Vec<NamedTensor> {
    let bound = 0.02 * 3f64.sqrt();
    let value = |i: usize, seed: u64| {
        let mixed = (i as u64).wrapping_mul(2_654_435_761) + seed * 40_503 * 65_537 + 12_345;
        let mut h = mixed as u32;
        h ^= h >> 15;
        h = h.wrapping_mul(2_246_822_519);
        h ^= h >> 13;
        ((f64::from(h) / 4_294_967_296.0 - 0.5) * 2.0 * bound) as f32
    };
    let mut seed = 0;
    let mut tensors = Vec::new();
    let tensor = |name: String, shape: Vec<usize>, data| NamedTensor { name, shape, data, trainable: true };
    // A table or a linear layer's `[out, in]`, which is turned where the reference has `[in, out]`.
    let mut matrix = |name: String, out: usize, inputs: usize, turned: bool| {
        seed += 1;
        if turned {
            let data = (0..inputs * out).map(|at| value(at % out * inputs + at / out, seed)).collect();
            tensor(name, vec![inputs, out], data)
        } else {
            tensor(name, vec![out, inputs], (0..out * inputs).map(|at| value(at, seed)).collect())
        }
    };
    let (width, hidden) = (config.width, config.hidden);
    tensors.push(matrix("wte.weight".into(), config.vocabulary, width, false));
    tensors.push(matrix("wpe.weight".into(), config.context, width, false));
    for layer in 0..config.layers {
        for (name, inputs, out) in [
            ("attn.c_attn", width, 3 * width),
            ("attn.c_proj", width, width),
            ("mlp.c_fc", width, hidden),
            ("mlp.c_proj", hidden, width),
        ] {
            tensors.push(matrix(format!("h.{layer}.{name}.weight"), out, inputs, true));
            tensors.push(tensor(format!("h.{layer}.{name}.bias"), vec![out], vec![0.0; out]));
        }
    }
    tensors.push(matrix("lm_head.weight".into(), config.vocabulary, width, false));
    let norms = (0..config.layers).flat_map(|l| [format!("h.{l}.ln_1"), format!("h.{l}.ln_2")]);
    for norm in norms.chain(["ln_f".to_owned()]) {
        tensors.push(tensor(format!("{norm}.weight"), vec![width], vec![1.0; width]));
        tensors.push(tensor(format!("{norm}.bias"), vec![width], vec![0.0; width]));
    }
    tensors
}

/// Runs the workload for each format, `f32` first. Runs of the formats take turns, after a warm-up of each, so
/// that what else the machine does meets all alike.
///
/// # Errors
/// None, unless the workload itself is wrong.
pub fn bench(runs: usize) -> Result<Vec<DecodeFigures>, ModelError> {
    let config = config();
    let tensors = peer_tensors(&config);
    let prompt: Vec<u32> = (0..16).collect();
    let whole: Vec<u32> = (0..config.context as u32).collect();
    let formats = [Format::F32, Format::Bf16, Format::Int8];
    let mut decoders = Vec::new();
    for format in formats {
        decoders.push(Decoder::new(config.clone(), format, &tensors)?);
    }
    drop(tensors);
    let mut exact = Vec::new();
    let mut figures = Vec::new();
    for decoder in &mut decoders {
        let (mut rates, mut forwards, mut ceiling, mut first) = (Vec::new(), Vec::new(), 0f64, Vec::new());
        for _ in 0..=runs {
            let (time, tokens) = generate(decoder, &prompt)?;
            rates.push(tokens.len() as f64 / time.as_secs_f64());
            first = tokens[..6].to_vec();
        }
        for _ in 0..=runs {
            decoder.rewind(0);
            let started = Instant::now();
            decoder.forward(&whole)?;
            forwards.push(started.elapsed().as_secs_f64() * 1e3);
        }
        for _ in 0..20 * runs {
            ceiling = ceiling.max(1.0 / read(decoder).as_secs_f64());
        }
        decoder.rewind(0);
        let logits = decoder.prefill(&prompt)?.to_vec();
        if exact.is_empty() {
            exact.clone_from(&logits);
        }
        let largest = exact.iter().fold(0f32, |a, b| a.max(b.abs()));
        let error = exact.iter().zip(&logits).fold(0f32, |a, (e, l)| a.max((e - l).abs()));
        // The first run is the warm-up.
        let rates = sorted(&rates[1..]);
        figures.push(DecodeFigures {
            format: decoder.format.name(),
            tokens_per_second: rates[rates.len() / 2],
            spread: [rates[0], rates[rates.len() - 1]],
            first,
            forward_ms: sorted(&forwards[1..])[runs / 2],
            weight_bytes: decoder.weight_bytes(),
            ceiling,
            logit_error: f64::from(error / largest),
        });
    }
    Ok(figures)
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

/// Greedy tokens until the context is full.
fn generate(decoder: &mut Decoder, prompt: &[u32]) -> Result<(Duration, Vec<u32>), ModelError> {
    decoder.rewind(0);
    let mut tokens = Vec::with_capacity(decoder.config.context);
    let started = Instant::now();
    let mut token = most_likely(decoder.prefill(prompt)?);
    tokens.push(token);
    while tokens.len() < decoder.config.context - prompt.len() {
        token = most_likely(decoder.step(token)?);
        tokens.push(token);
    }
    Ok((started.elapsed(), tokens))
}

/// Reads the weights, on all threads, in one parallel call.
fn read(decoder: &Decoder) -> Duration {
    let parts: Vec<&PackedWeight> = decoder.packed().collect();
    let started = Instant::now();
    parallel(parts.len(), |task| {
        std::hint::black_box(parts[task].read(decoder.level));
    });
    started.elapsed()
}
