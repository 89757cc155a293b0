//! A decoder gives the logits of the model that was trained.

use burn::tensor::{Device, Int, Tensor, TensorData};
use jishi_kernels::Activation;
use jishi_kernels::cpu::matvec::Format;
use jishi_kernels::cpu::rotary::Llama3;
use jishi_models::language::{CausalConfig, CausalModel, LanguageModel};
use jishi_models::{Context, Gpt2Config, LlamaConfig, RopeScaling, export_weights, import_weights};

const TOKENS: [u32; 14] = [3, 36, 0, 5, 5, 9, 17, 30, 2, 1, 11, 23, 8, 3];

/// Largest difference, divided by the largest of the expected.
fn error(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0f64, |a, b| a.max(b.abs()));
    found.iter().zip(expected).fold(0f64, |a, (f, e)| a.max((f64::from(*f) - e).abs())) / largest
}

#[test]
fn a_trained_model_decodes_with_its_own_weights() {
    let gpt2 = Gpt2Config::new(2, 24, 3, 20, 37);
    let llama = LlamaConfig { kv_heads: 2, ..LlamaConfig::new(2, 24, 4, 20, 37) };
    let llama3 = RopeScaling::Llama3(Llama3 { factor: 8.0, low: 1.0, high: 4.0, context: 16.0 });
    let variants = [
        CausalConfig::Gpt2(Gpt2Config { activation: Activation::Gelu, ..gpt2.clone() }),
        CausalConfig::Gpt2(Gpt2Config { tied: false, ..gpt2 }),
        CausalConfig::Llama(LlamaConfig { rope_scaling: RopeScaling::Linear(2.0), ..llama.clone() }),
        CausalConfig::Llama(LlamaConfig { tied: false, rope_scaling: llama3, ..llama.clone() }),
        CausalConfig::Llama(LlamaConfig {
            attention_bias: true,
            mlp_bias: true,
            rope_scaling: RopeScaling::Factors(vec![1.0, 2.5, 3.0]),
            ..llama
        }),
    ];
    for config in variants {
        let model = CausalModel::init(&config, 0, &Device::flex());
        let mut weights = export_weights(&model);
        for (i, v) in weights.iter_mut().flat_map(|t| &mut t.data).enumerate() {
            *v += ((i * 7) % 13) as f32 * 0.02 - 0.12;
        }
        let model = import_weights(model, &weights).expect("the same names");
        let tokens = TOKENS.map(i64::from).to_vec();
        let tokens = Tensor::<2, Int>::from_data(TensorData::new(tokens, [1, TOKENS.len()]), &Device::flex());
        let expected: Vec<f64> = model
            .logits(tokens, None, &mut Context::evaluation())
            .into_data()
            .convert::<f64>()
            .try_to_vec::<f64>()
            .expect("logits");
        let decoder = model.decoder(Format::F32).expect("a decoder");
        let found = decoder.forward(&mut decoder.sequence(), &TOKENS).expect("logits");
        assert!(error(&found, &expected) < 1e-5, "{config:?}: {}", error(&found, &expected));
        // One token after another, and not all at once.
        let mut sequence = decoder.sequence();
        for (token, expected) in TOKENS.iter().zip(expected.chunks(37)) {
            let found = decoder.step(&mut sequence, *token).expect("logits");
            assert!(error(found, expected) < 1e-5, "{config:?}: {}", error(found, expected));
        }
    }
}
