//! Real models, where `JISHI_DATA` has them: `cargo test --workspace --test it real -- --ignored`.
//! `crates/jishi-hub/tests/fixtures/parity.py` then compares what they write under `$OUT` with the reference.

use std::path::PathBuf;

use burn::tensor::{Device, Int, Tensor, TensorData};
use jishi_models::{Bert, BertConfig, BertInput, Context, bert};
use jishi_train::job::language::pretrained::Pretrained;

/// Those of `parity.py`.
const TEXTS: [&str; 5] = [
    "The quick brown fox jumps over the lazy dog.",
    "In 1905 a clerk in Bern wrote four papers.",
    "Once upon a time",
    "def add(a, b):\n    return",
    "千里之行，始于足下。",
];

#[test]
#[ignore = "needs data that was fetched"]
fn sentences_have_vectors() {
    let place = |name: &str| PathBuf::from(std::env::var_os(name).expect(name));
    let model = Pretrained::read("minilm", &place("JISHI_DATA"), &mut |_| {}).unwrap();
    let config = BertConfig::from_hf(&model.config).unwrap();
    let bert = model.put(Bert::init(&config, 0, &Device::flex()), &bert::REFERENCE).unwrap();
    let vectors = TEXTS.map(|text| {
        let tokens: Vec<i64> =
            model.tokenizer.encode_single(text).unwrap().ids.into_iter().map(i64::from).collect();
        let shape = [1, tokens.len()];
        let tokens = Tensor::<2, Int>::from_data(TensorData::new(tokens, shape), &Device::flex());
        let input = BertInput { tokens, types: None, mask: None };
        let vector = bert.embed(input, &mut Context::evaluation()).into_data().try_to_vec::<f32>().unwrap();
        assert!((vector.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
        vector
    });
    jishi_runs::atomic::write_json(
        &jishi_runs::RealFs,
        &place("OUT").join("vectors.json"),
        &serde_json::json!(vectors),
    )
    .unwrap();
}
