//! `decode`: greedy tokens of GPT-M, one at a time, as `gen` of bench/torch_peer.py makes them.

use burn::tensor::Device;
use jishi_kernels::cpu::matvec::Format;
use jishi_models::decoder::measure;
use jishi_models::{Decoder, Gpt2};
use serde_json::{Value, json};

use super::figures::Figures;
use super::gpt;
use crate::cli::BenchPrecision;
use crate::error::CliError;

/// Measured runs.
const RUNS: usize = 5;

/// Decodes with weights in a format.
pub fn run(precision: BenchPrecision) -> Result<Value, CliError> {
    let format = match precision {
        BenchPrecision::F32 => Format::F32,
        BenchPrecision::Bf16 => Format::Bf16,
        BenchPrecision::Int8 => Format::Int8,
    };
    let config = gpt::medium().config;
    let model = Gpt2::init(&config, 0, &Device::flex());
    let weights = gpt::peer_weights(&model, &config);
    drop(model);
    let decoder = Decoder::new((&config).into(), format, &weights);
    drop(weights);
    let decoder = decoder.map_err(jishi_train::TrainError::from)?;
    let measured = measure(&decoder, RUNS).map_err(jishi_train::TrainError::from)?;
    let (tokens, positions) = (measured.tokens.len() as f64, config.context as f64);
    let (generated, forward) = (Figures::new(measured.generated), Figures::new(measured.forward));
    let rate = tokens / generated.median();
    Ok(json!({
        "name": "decode",
        "precision": precision.name(),
        "tokens_per_second": rate,
        "spread": generated.spread(|s| tokens / s),
        "share_of_ceiling": rate * measured.read,
        "ceiling_tokens_per_second": 1.0 / measured.read,
        "weight_bytes": measured.weight_bytes,
        "forward_milliseconds": forward.median() * 1e3,
        "forward_tokens_per_second": positions / forward.median(),
        "first_tokens": measured.tokens[..6],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_tokens_are_the_peers() {
        let figures = run(BenchPrecision::F32).expect("it decodes");
        assert_eq!(figures["first_tokens"], json!([1160, 4018, 1160, 141, 946, 1160]));
        assert!(figures["tokens_per_second"].as_f64().is_some_and(|rate| rate > 0.0));
    }
}
