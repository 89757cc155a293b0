//! GPT-2 against its definition, and what holds for all decoders.

use jishi_kernels::Activation;

use super::super::*;
use super::{error, peer_tensors, tensors};

fn tiny() -> DecoderConfig {
    DecoderConfig {
        layers: 2,
        width: 24,
        heads: 3,
        kv_heads: 3,
        head_dim: 8,
        hidden: 100,
        context: 20,
        vocabulary: 37,
        activation: Activation::GeluTanh,
        epsilon: 1e-5,
        family: DecoderFamily::Gpt2,
    }
}

/// The model as its definition says, in `f64`: logits of each position.
fn naive(config: &DecoderConfig, tensors: &[NamedTensor], tokens: &[u32]) -> Vec<Vec<f64>> {
    let get = |name: &str| -> Vec<f64> {
        let tensor = tensors.iter().find(|t| t.name == name).expect("a tensor of this name");
        tensor.data.iter().map(|v| f64::from(*v)).collect()
    };
    let linear = |x: &[f64], name: &str| -> Vec<f64> {
        let (w, b) = (get(&format!("{name}.weight")), get(&format!("{name}.bias")));
        (0..b.len())
            .map(|o| b[o] + x.iter().enumerate().map(|(i, x)| x * w[i * b.len() + o]).sum::<f64>())
            .collect()
    };
    let norm = |x: &[f64], name: &str| -> Vec<f64> {
        let (w, b) = (get(&format!("{name}.weight")), get(&format!("{name}.bias")));
        let n = x.len() as f64;
        let mean = x.iter().sum::<f64>() / n;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        let scale = 1.0 / (variance + f64::from(config.epsilon)).sqrt();
        x.iter().enumerate().map(|(i, x)| (x - mean) * scale * w[i] + b[i]).collect()
    };
    let (width, dim) = (config.width, config.head_dim);
    let (wte, wpe, head) = (get("wte.weight"), get("wpe.weight"), get("lm_head.weight"));
    let mut x: Vec<Vec<f64>> = tokens
        .iter()
        .enumerate()
        .map(|(t, token)| (0..width).map(|i| wte[*token as usize * width + i] + wpe[t * width + i]).collect())
        .collect();
    for layer in 0..config.layers {
        let name = |part: &str| format!("h.{layer}.{part}");
        let qkv: Vec<Vec<f64>> =
            x.iter().map(|x| linear(&norm(x, &name("ln_1")), &name("attn.c_attn"))).collect();
        for t in 0..x.len() {
            let mut inner = vec![0.0; width];
            for h in 0..config.heads {
                let score = |s: usize| {
                    let terms = (0..dim).map(|d| qkv[t][h * dim + d] * qkv[s][width + h * dim + d]);
                    (terms.sum::<f64>() / (dim as f64).sqrt()).exp()
                };
                let weights: Vec<f64> = (0..=t).map(score).collect();
                let total: f64 = weights.iter().sum();
                for d in 0..dim {
                    inner[h * dim + d] =
                        (0..=t).map(|s| weights[s] * qkv[s][2 * width + h * dim + d]).sum::<f64>() / total;
                }
            }
            let out = linear(&inner, &name("attn.c_proj"));
            x[t].iter_mut().zip(out).for_each(|(x, o)| *x += o);
        }
        for x in &mut x {
            let hidden = linear(&norm(x, &name("ln_2")), &name("mlp.c_fc"));
            let gelu =
                |z: &f64| 0.5 * z * (1.0 + (0.797_884_560_802_865_4 * (z + 0.044_715 * z.powi(3))).tanh());
            let out = linear(&hidden.iter().map(gelu).collect::<Vec<_>>(), &name("mlp.c_proj"));
            x.iter_mut().zip(out).for_each(|(x, o)| *x += o);
        }
    }
    let last = |x: &Vec<f64>| -> Vec<f64> {
        let x = norm(x, "ln_f");
        (0..config.vocabulary).map(|o| (0..width).map(|i| x[i] * head[o * width + i]).sum()).collect()
    };
    x.iter().map(last).collect()
}

const TOKENS: [u32; 14] = [3, 36, 0, 5, 5, 9, 17, 30, 2, 1, 11, 23, 8, 3];

#[test]
fn logits_are_those_of_the_definition() {
    let config = tiny();
    let tensors = tensors(&config);
    let expected = naive(&config, &tensors, &TOKENS);
    for (format, bound) in [
        (Format::F32, 1e-5),
        (Format::Bf16, 1.5e-2),
        (Format::Int8, 2.5e-2),
        (Format::Q8_0, 6e-2),
        (Format::Q4_1, 0.6),
    ] {
        let mut decoder = Decoder::new(config.clone(), format, &tensors).expect("a decoder");
        let mut sequence = decoder.sequence();
        let mut worst = 0f64;
        for level in Level::available() {
            decoder.level = level;
            // Step by step.
            sequence.rewind(0);
            for (token, expected) in TOKENS.iter().zip(&expected) {
                worst = worst.max(error(decoder.step(&mut sequence, *token).expect("logits"), expected));
            }
            // All at once, and a prompt in two parts with steps after it.
            sequence.rewind(0);
            let all = decoder.forward(&mut sequence, &TOKENS).expect("logits");
            for (found, expected) in all.chunks_exact(config.vocabulary).zip(&expected) {
                worst = worst.max(error(found, expected));
            }
            sequence.rewind(0);
            worst =
                worst.max(error(decoder.prefill(&mut sequence, &TOKENS[..5]).expect("logits"), &expected[4]));
            worst = worst
                .max(error(decoder.prefill(&mut sequence, &TOKENS[5..12]).expect("logits"), &expected[11]));
            worst = worst.max(error(decoder.step(&mut sequence, TOKENS[12]).expect("logits"), &expected[12]));
            worst = worst
                .max(error(decoder.prefill(&mut sequence, &TOKENS[13..]).expect("logits"), &expected[13]));
            assert_eq!(sequence.position(), 14);
        }
        assert!(worst < bound, "{format:?}: {worst}");
    }
}

#[test]
fn an_output_layer_that_is_missing_is_the_table_of_tokens() {
    let config = tiny();
    let mut tied = tensors(&config);
    let table = tied[0].data.clone();
    let head = tied.iter().position(|t| t.name == "lm_head.weight").expect("an output layer");
    tied[head].data = table;
    let whole = Decoder::new(config.clone(), Format::F32, &tied).expect("a decoder");
    tied.remove(head);
    for tensor in &mut tied {
        tensor.name = format!("transformer.{}", tensor.name);
    }
    let decoder = Decoder::new(config, Format::F32, &tied).expect("a decoder");
    let (mut sequence, mut other) = (decoder.sequence(), whole.sequence());
    assert_eq!(decoder.step(&mut sequence, 3).expect("logits"), whole.step(&mut other, 3).expect("logits"));
}

#[test]
fn greedy_tokens_are_the_peers() {
    let config = DecoderConfig {
        layers: 6,
        width: 384,
        heads: 6,
        kv_heads: 6,
        head_dim: 64,
        hidden: 1536,
        context: 256,
        vocabulary: 4096,
        activation: Activation::Gelu,
        epsilon: 1e-5,
        family: DecoderFamily::Gpt2,
    };
    let tensors = peer_tensors(&config);
    let prompt: Vec<u32> = (0..16).collect();
    let mut exact = Vec::new();
    for (format, bound) in [(Format::F32, 0.0), (Format::Bf16, 0.01), (Format::Int8, 0.02)] {
        let decoder = Decoder::new(config.clone(), format, &tensors).expect("a decoder");
        let mut sequence = decoder.sequence();
        let logits: Vec<f64> =
            decoder.prefill(&mut sequence, &prompt).expect("logits").iter().map(|l| f64::from(*l)).collect();
        if format == Format::F32 {
            exact.clone_from(&logits);
        }
        let logits: Vec<f32> = logits.iter().map(|l| *l as f32).collect();
        let error = error(&logits, &exact);
        assert!(error <= bound, "{format:?}: {error}");
        sequence.rewind(0);
        let tokens = generate(&decoder, &mut sequence, &prompt).expect("tokens");
        assert_eq!(tokens.len(), 240);
        if format != Format::Int8 {
            assert_eq!(tokens[..6], [1160, 4018, 1160, 141, 946, 1160], "{format:?}");
        }
    }
}

#[test]
fn a_decoder_is_measured() {
    let config = DecoderConfig { context: 24, ..tiny() };
    let decoder = Decoder::new(config.clone(), Format::Int8, &tensors(&config)).expect("a decoder");
    let figures = measure(&decoder, 3).expect("figures");
    assert_eq!((figures.tokens.len(), figures.generated.len(), figures.forward.len()), (8, 3, 3));
    assert!(figures.read > 0.0 && figures.weight_bytes > 10_000);
}

#[test]
fn every_problem_is_named() {
    let config = tiny();
    let mut tensors = tensors(&config);
    tensors.retain(|t| t.name != "h.1.mlp.c_fc.bias");
    tensors[0].shape = vec![1, 2];
    let message = Decoder::new(config.clone(), Format::F32, &tensors).expect_err("problems").to_string();
    assert!(message.contains("h.1.mlp.c_fc.bias") && message.contains("wte.weight"), "{message}");
    let odd = DecoderConfig { heads: 5, ..config.clone() };
    assert!(Decoder::new(odd, Format::F32, &tensors).is_err());
    let none = DecoderConfig { heads: 0, ..config };
    assert!(Decoder::new(none, Format::F32, &tensors).is_err());
}

#[test]
fn tokens_and_positions_that_do_not_exist_are_refused() {
    let config = tiny();
    let decoder = Decoder::new(config.clone(), Format::F32, &tensors(&config)).expect("a decoder");
    let mut sequence = decoder.sequence();
    assert!(decoder.step(&mut sequence, 37).is_err());
    assert!(decoder.prefill(&mut sequence, &[]).is_err());
    assert!(decoder.prefill(&mut sequence, &[0; 21]).is_err());
    assert!(decoder.prefill(&mut sequence, &[0; 20]).is_ok());
    assert!(decoder.step(&mut sequence, 0).is_err());
    sequence.rewind(19);
    assert!(decoder.step(&mut sequence, 0).is_ok());
}
