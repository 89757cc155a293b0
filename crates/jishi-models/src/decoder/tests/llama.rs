//! Llama against its definition, and against the reference implementation.

use std::borrow::Cow;

use jishi_kernels::Activation;
use jishi_kernels::cpu::matvec::BlockKind;
use jishi_kernels::cpu::rotary::{Layout, Llama3};

use super::super::*;
use super::error;

/// A Llama as its definition says, in `f64`.
struct Naive<'a> {
    config: &'a DecoderConfig,
    tensors: &'a [NamedTensor],
}

impl Naive<'_> {
    fn get(&self, name: &str) -> Option<Vec<f64>> {
        let tensor = self.tensors.iter().find(|t| t.name == name)?;
        Some(tensor.data.iter().map(|v| f64::from(*v)).collect())
    }

    fn linear(&self, x: &[f64], name: &str) -> Vec<f64> {
        let weight = self.get(&format!("{name}.weight")).expect("a weight");
        let outputs = weight.len() / x.len();
        let bias = self.get(&format!("{name}.bias")).unwrap_or_else(|| vec![0.0; outputs]);
        let sum = |o: usize| x.iter().enumerate().map(|(i, x)| x * weight[i * outputs + o]).sum::<f64>();
        (0..outputs).map(|o| bias[o] + sum(o)).collect()
    }

    fn norm(&self, x: &[f64], name: &str) -> Vec<f64> {
        let weight = self.get(&format!("{name}.weight")).expect("a weight");
        let square = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        let scale = 1.0 / (square + f64::from(self.config.epsilon)).sqrt();
        x.iter().zip(weight).map(|(x, w)| x * scale * w).collect()
    }

    fn frequency(&self, pair: usize) -> f64 {
        let DecoderFamily::Llama(rotary) = &self.config.family else { panic!("a Llama") };
        let plain = rotary.theta.powf(-2.0 * pair as f64 / self.config.head_dim as f64);
        match &rotary.scaling {
            RotaryScaling::None => plain,
            RotaryScaling::Linear { factor } => plain / factor,
            RotaryScaling::Factors(factors) => plain * factors[pair],
            RotaryScaling::Llama3(l) => {
                // As in the reference: by wavelengths.
                let wavelength = std::f64::consts::TAU / plain;
                if wavelength < l.context / l.high {
                    plain
                } else if wavelength > l.context / l.low {
                    plain / l.factor
                } else {
                    let smooth = (l.context / wavelength - l.low) / (l.high - l.low);
                    (1.0 - smooth) * plain / l.factor + smooth * plain
                }
            }
        }
    }

    fn rotate(&self, x: &mut [f64], position: usize) {
        let DecoderFamily::Llama(rotary) = &self.config.family else { panic!("a Llama") };
        let dim = self.config.head_dim;
        for head in x.chunks_exact_mut(dim) {
            for pair in 0..dim / 2 {
                let (a, b) = match rotary.layout {
                    Layout::Half => (pair, pair + dim / 2),
                    Layout::Interleaved => (2 * pair, 2 * pair + 1),
                };
                let (sin, cos) = (position as f64 * self.frequency(pair)).sin_cos();
                (head[a], head[b]) = (head[a] * cos - head[b] * sin, head[b] * cos + head[a] * sin);
            }
        }
    }

    fn logits(&self, tokens: &[u32]) -> Vec<Vec<f64>> {
        let (config, dim) = (self.config, self.config.head_dim);
        let table = self.get("model.embed_tokens.weight").expect("a table");
        let row = |t: &u32| table[*t as usize * config.width..][..config.width].to_vec();
        let mut x: Vec<Vec<f64>> = tokens.iter().map(row).collect();
        for layer in 0..config.layers {
            let name = |part: &str| format!("model.layers.{layer}.{part}");
            let mut keys = Vec::new();
            for (t, x) in x.iter_mut().enumerate() {
                let normed = self.norm(x, &name("input_layernorm"));
                let [mut q, mut k, v] =
                    ["q", "k", "v"].map(|p| self.linear(&normed, &name(&format!("self_attn.{p}_proj"))));
                self.rotate(&mut q, t);
                self.rotate(&mut k, t);
                keys.push((k, v));
                let mut inner = Vec::new();
                for (h, q) in q.chunks_exact(dim).enumerate() {
                    let part = h / config.group() * dim..(h / config.group() + 1) * dim;
                    let weights: Vec<f64> = keys
                        .iter()
                        .map(|(k, _)| {
                            let dot: f64 = q.iter().zip(&k[part.clone()]).map(|(q, k)| q * k).sum();
                            (dot / (dim as f64).sqrt()).exp()
                        })
                        .collect();
                    let total: f64 = weights.iter().sum();
                    inner.extend(
                        part.map(|d| {
                            weights.iter().zip(&keys).map(|(w, (_, v))| w * v[d]).sum::<f64>() / total
                        }),
                    );
                }
                let out = self.linear(&inner, &name("self_attn.o_proj"));
                x.iter_mut().zip(out).for_each(|(x, o)| *x += o);
                let normed = self.norm(x, &name("post_attention_layernorm"));
                let [gate, up] =
                    ["gate", "up"].map(|p| self.linear(&normed, &name(&format!("mlp.{p}_proj"))));
                let inner: Vec<f64> = gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
                let out = self.linear(&inner, &name("mlp.down_proj"));
                x.iter_mut().zip(out).for_each(|(x, o)| *x += o);
            }
        }
        let head = self.get("lm_head.weight").unwrap_or(table);
        x.iter()
            .map(|x| {
                let x = self.norm(x, "model.norm");
                head.chunks_exact(config.width).map(|h| h.iter().zip(&x).map(|(h, x)| h * x).sum()).collect()
            })
            .collect()
    }
}

pub fn tiny(scaling: RotaryScaling, layout: Layout) -> DecoderConfig {
    DecoderConfig {
        layers: 2,
        width: 40,
        heads: 6,
        kv_heads: 2,
        // Not width / heads.
        head_dim: 16,
        hidden: 112,
        context: 300,
        vocabulary: 37,
        activation: Activation::Silu,
        epsilon: 1e-6,
        family: DecoderFamily::Llama(RotaryPositions { theta: 10_000.0, layout, scaling }),
    }
}

pub fn tensors(config: &DecoderConfig, tied: bool, biases: bool) -> Vec<NamedTensor> {
    let mut tensors: Vec<NamedTensor> = Vec::new();
    let mut add = |name: &str, shape: &[usize]| {
        let (seed, size) = (tensors.len() as u32 + 1, shape.iter().product::<usize>() as u32);
        let value = |i: u32| {
            let h = (i.wrapping_add(seed.wrapping_mul(40_503 * 77))).wrapping_mul(2_654_435_761);
            let h = (h ^ h >> 15).wrapping_mul(2_246_822_519);
            let x = (h >> 8) as f32 / 8_388_608.0 - 1.0;
            if name.ends_with("norm.weight") { 1.0 + 0.3 * x } else { 0.4 * x }
        };
        let data = (0..size).map(value).collect();
        tensors.push(NamedTensor { name: name.into(), shape: shape.into(), data, trainable: true });
    };
    let (width, hidden) = (config.width, config.hidden);
    let (queries, keys) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
    add("model.embed_tokens.weight", &[config.vocabulary, width]);
    for layer in 0..config.layers {
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        add(&name("input_layernorm.weight"), &[width]);
        add(&name("post_attention_layernorm.weight"), &[width]);
        for (part, inputs, outputs) in [
            ("self_attn.q_proj", width, queries),
            ("self_attn.k_proj", width, keys),
            ("self_attn.v_proj", width, keys),
            ("self_attn.o_proj", queries, width),
            ("mlp.gate_proj", width, hidden),
            ("mlp.up_proj", width, hidden),
            ("mlp.down_proj", hidden, width),
        ] {
            add(&name(&format!("{part}.weight")), &[inputs, outputs]);
            if biases && part.starts_with("self_attn") && part != "self_attn.o_proj" {
                add(&name(&format!("{part}.bias")), &[outputs]);
            }
        }
    }
    add("model.norm.weight", &[width]);
    if !tied {
        add("lm_head.weight", &[config.vocabulary, width]);
    }
    tensors
}

pub const TOKENS: [u32; 14] = [3, 36, 0, 5, 5, 9, 17, 30, 2, 1, 11, 23, 8, 3];

#[test]
fn logits_are_those_of_the_definition() {
    let llama3 = Llama3 { factor: 8.0, low: 1.0, high: 4.0, context: 32.0 };
    let stretched = RotaryScaling::Factors((0..8).map(|i| 1.0 / (1.0 + f64::from(i))).collect());
    let cases = [
        (RotaryScaling::None, Layout::Half, true, false),
        (RotaryScaling::Linear { factor: 2.5 }, Layout::Half, false, true),
        (RotaryScaling::Llama3(llama3), Layout::Half, false, false),
        (stretched, Layout::Interleaved, true, true),
    ];
    for (scaling, layout, tied, biases) in cases {
        let config = tiny(scaling, layout);
        let tensors = tensors(&config, tied, biases);
        let expected = Naive { config: &config, tensors: &tensors }.logits(&TOKENS);
        for (format, bound) in
            [(Format::F32, 1e-5), (Format::Bf16, 3e-2), (Format::Int8, 0.1), (Format::Q8_0, 0.1)]
        {
            let mut decoder = Decoder::new(config.clone(), format, &tensors).expect("a decoder");
            let mut worst = 0f64;
            for level in Level::available() {
                decoder.level = level;
                let mut sequence = decoder.sequence();
                for (token, expected) in TOKENS.iter().zip(&expected) {
                    worst = worst.max(error(decoder.step(&mut sequence, *token).expect("logits"), expected));
                }
                sequence.rewind(0);
                let all = decoder.forward(&mut sequence, &TOKENS).expect("logits");
                for (found, expected) in all.chunks_exact(config.vocabulary).zip(&expected) {
                    worst = worst.max(error(found, expected));
                }
                sequence.rewind(0);
                for (tokens, last) in [(&TOKENS[..5], 4), (&TOKENS[5..12], 11), (&TOKENS[12..], 13)] {
                    let logits = decoder.prefill(&mut sequence, tokens).expect("logits");
                    worst = worst.max(error(logits, &expected[last]));
                }
            }
            assert!(worst < bound, "{format:?} {:?}: {worst}", config.family);
        }
    }
}

/// The same tensors with linear layers as `[out, in]`, of which each is read once and no two at a time.
struct Turned {
    tensors: Vec<NamedTensor>,
    kind: Option<BlockKind>,
}

impl TensorSource for Turned {
    fn order(&self) -> MatrixOrder {
        MatrixOrder::OutIn
    }

    fn has(&self, name: &str) -> bool {
        self.tensors.has(name)
    }

    fn tensor(&self, name: &str) -> Result<StoredTensor<'_>, Problem> {
        let tensor = self.tensors.iter().find(|t| t.name == name).expect("only asked for what is there");
        let (mut shape, mut data) = (tensor.shape.clone(), Cow::Borrowed(&tensor.data[..]));
        if shape.len() == 2 && !name.contains("embed") && !name.contains("lm_head") {
            let (inputs, outputs) = (shape[0], shape[1]);
            data = (0..inputs * outputs).map(|at| data[at % inputs * outputs + at / inputs]).collect();
            shape.reverse();
        }
        let values = match self.kind {
            Some(kind) if shape.len() == 2 => StoredValues::Blocks(kind, q8_0(&data).into()),
            _ => StoredValues::F32(data),
        };
        Ok(StoredTensor { shape, values })
    }
}

/// Blocks as llama.cpp makes them.
fn q8_0(values: &[f32]) -> Vec<u8> {
    let block = |values: &[f32]| {
        let scale = values.iter().fold(0f32, |a, b| a.max(b.abs())) / 127.0;
        // The scale is a power of two, so that its 16 bits are exact.
        let scale = 2f32.powf(scale.log2().ceil());
        let half = (((scale.to_bits() >> 23) as i32 - 127 + 15) as u16) << 10;
        let numbers = values.iter().map(|v| ((v / scale).round() as i8).cast_unsigned());
        half.to_le_bytes().into_iter().chain(numbers).collect::<Vec<u8>>()
    };
    values.chunks(32).flat_map(block).collect()
}

#[test]
fn matrices_are_read_in_either_order() {
    let config = tiny(RotaryScaling::None, Layout::Half);
    let tensors = tensors(&config, false, true);
    for format in [Format::F32, Format::Q4_0] {
        let decoder = Decoder::new(config.clone(), format, &tensors).expect("a decoder");
        let source = Turned { tensors: tensors.clone(), kind: None };
        let turned = Decoder::load(config.clone(), format, &source).expect("a decoder");
        let [a, b] = [&decoder, &turned].map(|d| d.forward(&mut d.sequence(), &TOKENS).expect("logits"));
        assert_eq!(a, b);
    }
}

#[test]
fn blocks_stay_blocks_or_become_numbers() {
    // Inputs of every matrix are whole blocks; heads of 32 are not cut, heads of 16 in groups of 3 are.
    for (head_dim, heads) in [(32, 6), (16, 6)] {
        let config = DecoderConfig {
            width: 64,
            hidden: 128,
            head_dim,
            heads,
            ..tiny(RotaryScaling::None, Layout::Half)
        };
        let source = Turned { tensors: tensors(&config, true, false), kind: Some(BlockKind::Q8_0) };
        let exact = Decoder::load(config.clone(), Format::F32, &source).expect("a decoder");
        let exact = exact.forward(&mut exact.sequence(), &TOKENS).expect("logits");
        let exact: Vec<f64> = exact.into_iter().map(f64::from).collect();
        let decoder = Decoder::load(config.clone(), Format::Q8_0, &source).expect("a decoder");
        assert!(decoder.packed().all(|p| p.format() == Format::Q8_0));
        let found = decoder.forward(&mut decoder.sequence(), &TOKENS).expect("logits");
        assert!(error(&found, &exact) < 6e-2, "{}", error(&found, &exact));
    }
}

#[test]
fn sizes_that_make_no_llama_are_named() {
    let good = tiny(RotaryScaling::None, Layout::Half);
    let problem = |config: DecoderConfig| {
        Decoder::new(config, Format::F32, &tensors(&good, true, false)).expect_err("a problem").to_string()
    };
    let heads = problem(DecoderConfig { kv_heads: 4, ..good.clone() });
    assert!(heads.contains("6 heads are no multiple of 4 key heads"), "{heads}");
    let odd = problem(DecoderConfig { head_dim: 15, ..good.clone() });
    assert!(odd.contains("15 values"), "{odd}");
    let factor = problem(tiny(RotaryScaling::Linear { factor: 0.0 }, Layout::Half));
    assert!(factor.contains("factor of 0"), "{factor}");
    let missing = problem(DecoderConfig { layers: 3, ..good.clone() });
    assert!(missing.contains("layers.2.mlp.gate_proj.weight"), "{missing}");
}

/// What transformers computes for the same weights: see tests/fixtures/llama.py.
pub fn reference() -> serde_json::Value {
    serde_json::from_str(include_str!("../../../tests/fixtures/llama.json")).expect("a fixture")
}

#[test]
fn logits_are_the_reference_implementations() {
    let llama3 = Llama3 { factor: 8.0, low: 1.0, high: 4.0, context: 32.0 };
    let reference = reference();
    let cases = reference["logits"].as_array().expect("cases");
    assert_eq!(cases.len(), 3);
    for case in cases {
        let scaling = match case["scaling"].as_str() {
            None => RotaryScaling::None,
            Some("llama3") => RotaryScaling::Llama3(llama3),
            Some(_) => RotaryScaling::Linear { factor: 2.5 },
        };
        let config = tiny(scaling, Layout::Half);
        let tensors = tensors(&config, case["tied"] == true, false);
        let decoder = Decoder::new(config, Format::F32, &tensors).expect("a decoder");
        let all = decoder.forward(&mut decoder.sequence(), &TOKENS).expect("logits");
        let found: Vec<f32> = [0, 6, 13].iter().flat_map(|t| all[t * 37..][..37].to_vec()).collect();
        let expected: Vec<f64> =
            case["logits"].as_array().expect("logits").iter().filter_map(serde_json::Value::as_f64).collect();
        for (found, expected) in found.iter().zip(&expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-4, "{found}, not {expected}");
        }
        assert_eq!(found.len(), expected.len());
    }
}
