mod gpt2;
pub mod llama;
mod many;

use super::*;

/// The weights of bench/torch_peer.py, from its integer hash.
fn peer_tensors(config: &DecoderConfig) -> Vec<NamedTensor> {
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

/// Tensors whose biases and norms are not trivial, large enough that attention is not uniform.
fn tensors(config: &DecoderConfig) -> Vec<NamedTensor> {
    let mut tensors = peer_tensors(config);
    for (t, tensor) in tensors.iter_mut().enumerate() {
        for (i, v) in tensor.data.iter_mut().enumerate() {
            *v =
                *v * 4.0 + if tensor.shape.len() == 1 { ((i * 7 + t) % 11) as f32 * 0.05 - 0.2 } else { 0.0 };
        }
    }
    tensors
}

/// Largest difference, divided by the largest of the expected.
fn error(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0f64, |a, b| a.max(b.abs()));
    found.iter().zip(expected).fold(0f64, |a, (f, e)| a.max((f64::from(*f) - e).abs())) / largest
}
