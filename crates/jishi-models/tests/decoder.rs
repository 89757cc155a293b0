//! A decoder gives the logits of the model that was trained.

use burn::tensor::{Device, Int, Tensor, TensorData};
use jishi_kernels::Activation;
use jishi_kernels::cpu::matvec::Format;
use jishi_models::{Context, Decoder, Gpt2, Gpt2Config, export_weights, import_weights};

const TOKENS: [u32; 14] = [3, 36, 0, 5, 5, 9, 17, 30, 2, 1, 11, 23, 8, 3];

/// Largest difference, divided by the largest of the expected.
fn error(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0f64, |a, b| a.max(b.abs()));
    found.iter().zip(expected).fold(0f64, |a, (f, e)| a.max((f64::from(*f) - e).abs())) / largest
}

#[test]
fn a_trained_model_decodes_with_its_own_weights() {
    for tied in [false, true] {
        let config = Gpt2Config { tied, activation: Activation::Gelu, ..Gpt2Config::new(2, 24, 3, 20, 37) };
        let model = Gpt2::init(&config, 0, &Device::flex());
        let mut weights = export_weights(&model);
        for (i, v) in weights.iter_mut().flat_map(|t| &mut t.data).enumerate() {
            *v += ((i * 7) % 13) as f32 * 0.02 - 0.12;
        }
        let model = import_weights(model, &weights).expect("the same names");
        let tokens = TOKENS.map(i64::from).to_vec();
        let tokens = Tensor::<2, Int>::from_data(TensorData::new(tokens, [1, TOKENS.len()]), &Device::flex());
        let expected: Vec<f64> = model
            .forward(tokens, None, &mut Context::evaluation())
            .into_data()
            .convert::<f64>()
            .try_to_vec::<f64>()
            .expect("logits");
        let decoder = Decoder::new((&config).into(), Format::F32, &weights).expect("a decoder");
        let found = decoder.forward(&mut decoder.sequence(), &TOKENS).expect("logits");
        assert!(error(&found, &expected) < 1e-5, "{}", error(&found, &expected));
    }
}
