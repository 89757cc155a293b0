//! GGUF files: one of the reference writer, our own, and damaged ones.

use std::path::Path;

use jishi_hub::{About, Checkpoint, Dtype, TensorData, Weights, gguf};
use jishi_runs::{TensorEntry, TensorFile};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Made by `fixtures/tiny.py` with llama.cpp's own Python package.
const TINY: &[u8] = include_bytes!("fixtures/tiny.gguf");

fn tiny() -> Checkpoint {
    gguf::read_bytes(Path::new("tiny.gguf"), TINY.to_vec()).expect("the reference's file is read")
}

fn message(bytes: Vec<u8>) -> String {
    gguf::read_bytes(Path::new("x.gguf"), bytes).expect_err("it is damaged").to_string()
}

#[test]
fn a_file_of_the_reference_is_read_in_hugging_faces_terms() {
    let model = tiny();
    let config = &model.about.config;
    for (key, value) in [
        ("model_type", json!("llama")),
        ("num_key_value_heads", json!(2)),
        ("head_dim", json!(8)),
        ("rms_norm_eps", json!(1e-5)),
        ("rope_theta", json!(10000.0)),
        ("tie_word_embeddings", json!(true)),
        ("bos_token_id", json!(1)),
        ("vocab_size", json!(10)),
    ] {
        assert_eq!(config[key], value, "{key}");
    }
    assert_eq!(model.about.chat_template.as_deref(), Some("{{ messages }}"));
    for (name, exact) in [
        ("model.embed_tokens.weight", true),
        ("model.layers.0.self_attn.q_proj.weight", true),
        ("model.layers.0.self_attn.v_proj.weight", true),
        ("model.layers.0.self_attn.k_proj.weight", false),
        ("model.layers.0.mlp.gate_proj.weight", false),
        ("model.layers.0.mlp.down_proj.weight", false),
    ] {
        let values = model.tensors.read(name).unwrap();
        for (i, x) in values.iter().enumerate() {
            // Four bits hold about a sixteenth of a block's range.
            let slack = if exact { 0.0 } else { values.len() as f32 / 12.0 };
            assert!((x - i as f32).abs() <= slack, "{name} {i}: {x}");
        }
    }
    let keys = model.tensors.data("model.layers.0.self_attn.k_proj.weight").unwrap();
    assert!(matches!(keys, TensorData::Quantised { kind: Dtype::Q8_0, bytes } if bytes.len() == 16 * 34));
    let error = model.tensors.read("none").unwrap_err().to_string();
    assert!(error.contains("tiny.gguf"), "{error}");
}

#[test]
fn a_sentencepiece_tokenizer_becomes_merges_in_the_order_of_scores() {
    let json: Value = serde_json::from_slice(&tiny().about.tokenizer_json.unwrap()).unwrap();
    assert_eq!(json["model"]["merges"], json!(["▁ a", "a b", "▁ ab", "▁a b"]));
    assert_eq!(json["model"]["byte_fallback"], true);
    assert_eq!(json["model"]["unk_token"], "<unk>");
    assert_eq!(json["added_tokens"].as_array().unwrap().len(), 2);
    assert_eq!(json["post_processor"]["single"][0]["SpecialToken"]["id"], "<s>");
}

fn gpt2() -> (About, TensorFile) {
    let tokenizer = json!({
        "added_tokens": [{"id": 2, "content": "<|end|>", "special": true}],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 3}, "merges": [["a", "b"]]},
    });
    let about = About {
        config: json!({"model_type": "gpt2", "n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 4, "vocab_size": 5}),
        tokenizer_json: Some(tokenizer.to_string().into_bytes()),
        tokenizer_config: Some(json!({"eos_token": {"content": "<|end|>"}})),
        ..About::default()
    };
    let tensor = |name: &str, shape: &[usize]| TensorEntry {
        name: format!("transformer.{name}"),
        shape: shape.to_vec(),
        data: (0..shape.iter().product()).map(|i: usize| (i as f32).sin()).collect(),
    };
    let tensors = vec![
        tensor("wte.weight", &[5, 32]),
        tensor("wpe.weight", &[4, 32]),
        tensor("h.0.ln_1.bias", &[32]),
        tensor("h.0.attn.c_attn.weight", &[32, 96]),
        tensor("h.0.attn.bias", &[1, 1, 4, 4]),
        tensor("h.0.mlp.c_proj.weight", &[128, 32]),
    ];
    (about, TensorFile { tensors, ..TensorFile::default() })
}

#[test]
fn a_model_comes_back_as_it_went() {
    let (about, weights) = gpt2();
    let dir = tempfile::tempdir().unwrap();
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::Q8_0] {
        let path = dir.path().join("model.gguf");
        gguf::write(&path, &about, &weights, dtype).unwrap();
        let back = gguf::read(&path).unwrap();
        assert_eq!(back.tensors.len(), 5, "the mask is not written");
        for (name, meta) in back.tensors.iter() {
            let before = weights.values(name).unwrap();
            assert_eq!(weights.tensor(name).unwrap().shape, meta.shape, "{name}");
            let slack = if dtype == Dtype::F32 { 0.0 } else { 5e-3 };
            for (a, b) in before.iter().zip(back.tensors.read(name).unwrap()) {
                assert!((a - b).abs() <= slack, "{dtype:?} {name}: {a} {b}");
            }
        }
        let json: Value = serde_json::from_slice(back.about.tokenizer_json.as_deref().unwrap()).unwrap();
        assert_eq!(json["model"]["merges"], json!(["a b"]));
        assert_eq!(json["model"]["vocab"]["[PAD4]"], 4);
        assert_eq!(json["added_tokens"][0]["content"], "<|end|>");
        assert_eq!(back.about.config["eos_token_id"], 2);
    }
}

fn llama(scaling: Value) -> (About, TensorFile) {
    let about = About {
        config: json!({
            "model_type": "llama", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4,
            "num_key_value_heads": 2, "intermediate_size": 64, "max_position_embeddings": 64, "vocab_size": 5,
            "rope_theta": 5000.0, "rope_scaling": scaling, "tie_word_embeddings": true,
        }),
        tokenizer_json: gpt2().0.tokenizer_json,
        ..About::default()
    };
    let tensor = |name: &str, shape: &[usize]| TensorEntry {
        name: name.into(),
        shape: shape.to_vec(),
        data: (0..shape.iter().product()).map(|i: usize| (i as f32).cos()).collect(),
    };
    let tensors = vec![
        tensor("model.embed_tokens.weight", &[5, 32]),
        tensor("model.layers.0.self_attn.q_proj.bias", &[32]),
    ];
    (about, TensorFile { tensors, ..TensorFile::default() })
}

fn through_gguf(scaling: Value) -> Result<(Value, Vec<u8>), String> {
    let (about, weights) = llama(scaling);
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("model.gguf");
    gguf::write(&path, &about, &weights, Dtype::F32).map_err(|e| e.to_string())?;
    let back = gguf::read(&path).expect("what was written is read");
    assert_eq!(back.tensors.len(), 2, "factors are no weights");
    Ok((back.about.config["rope_scaling"].clone(), std::fs::read(&path).expect("the file")))
}

#[test]
fn scaled_rotary_frequencies_come_back() {
    let scaling = |value: Value| through_gguf(value).unwrap().0;
    assert_eq!(scaling(Value::Null), Value::Null);
    let linear = json!({"rope_type": "linear", "factor": 4.0});
    assert_eq!(scaling(linear.clone()), linear);
    assert_eq!(scaling(json!({"type": "linear", "factor": 4.0})), linear);
    let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                        "original_max_position_embeddings": 32});
    let found = scaling(llama3);
    // What `transformers` divides the frequencies of a head of 8 by: of 5.1 turns in 32 positions, 0.6, 0.07, 0.009.
    let factors: Vec<f64> =
        found["short_factor"].as_array().unwrap().iter().map(|f| f.as_f64().unwrap()).collect();
    assert_eq!((&found["rope_type"], found["long_factor"].clone()), (&json!("longrope"), json!(factors)));
    assert_eq!(factors, [1.0, 8.0, 8.0, 8.0]);
    assert_eq!(scaling(found.clone()), found);
    for (scaling, words) in [
        (json!({"rope_type": "yarn", "factor": 2.0}), "yarn"),
        (json!({"rope_type": "linear", "factor": -1}), "number above 0"),
        (json!({"rope_type": "llama3", "factor": 8.0}), "low_freq_factor"),
        (json!({"rope_type": "longrope", "short_factor": [1], "long_factor": [1]}), "expected 4 factors"),
        (
            json!({"rope_type": "longrope", "short_factor": [1, 1, 1, 1], "long_factor": [2, 2, 2, 2]}),
            "longrope",
        ),
    ] {
        let error = through_gguf(scaling).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn factors_that_make_no_sense_are_refused() {
    let ones = json!([1.0, 1.5, 2.0, 2.5]);
    let scaling =
        json!({"rope_type": "longrope", "short_factor": ones, "long_factor": ones, "attention_factor": 1.0});
    let (found, bytes) = through_gguf(scaling.clone()).unwrap();
    assert_eq!(found, scaling);
    let values: Vec<u8> = [1.0f32, 1.5, 2.0, 2.5].iter().flat_map(|x| x.to_le_bytes()).collect();
    let at = bytes.windows(16).position(|w| w == values).unwrap();
    for bad in [f32::NAN, 0.0, -1.0, f32::INFINITY] {
        let mut bytes = bytes.clone();
        bytes[at..at + 4].copy_from_slice(&bad.to_le_bytes());
        assert!(message(bytes).contains("4 factors above 0"));
    }
    let name = b"rope_freqs.weight";
    let at = bytes.windows(name.len()).position(|w| w == name).unwrap() + name.len() + 4;
    let mut short = bytes;
    short[at] = 3;
    assert!(message(short).contains("[3] of F32"));
}

#[test]
fn what_gguf_has_no_words_for_is_refused() {
    let (about, weights) = gpt2();
    let dir = tempfile::tempdir().unwrap();
    let error = |about: &About, dtype| {
        gguf::write(&dir.path().join("x.gguf"), about, &weights, dtype).unwrap_err().to_string()
    };
    assert!(error(&about, Dtype::Q4_K).contains("expected F32, F16, BF16 or Q8_0"));
    let mut other = about.clone();
    other.config["model_type"] = "bert".into();
    assert!(error(&other, Dtype::F32).contains("expected a model of the family"));
    let mut other = about.clone();
    other.tokenizer_json = Some(br#"{"model":{"type":"Unigram"}}"#.to_vec());
    assert!(error(&other, Dtype::F32).contains("Unigram"));
    let mut other = about.clone();
    other.config["vocab_size"] = 2.into();
    assert!(error(&other, Dtype::F32).contains("not below the model's vocab_size"));
    let mut other = about;
    other.config["model_type"] = "llama".into();
    assert!(error(&other, Dtype::F32).contains("is not one of a llama model"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn lengths_that_lie_are_refused_before_memory_is_taken() {
    let mut bytes = TINY.to_vec();
    bytes[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(message(bytes).contains("tensors"));
    let mut bytes = TINY.to_vec();
    bytes[16..24].copy_from_slice(&(1u64 << 60).to_le_bytes());
    assert!(message(bytes).contains("metadata values"));
    let mut bytes = TINY.to_vec();
    bytes[24..32].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(message(bytes).contains("bytes of text"));
    assert!(message(TINY[..TINY.len() - 40].to_vec()).contains("cut off"));
    let mut bytes = TINY.to_vec();
    bytes[4] = 1;
    assert!(message(bytes).contains("version 2 or 3"));
    assert!(message(b"GGML".to_vec()).contains("does not begin with"));
    // A list in a list in a list …
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(0u64.to_le_bytes());
    bytes.extend(1u64.to_le_bytes());
    bytes.extend([1, 0, 0, 0, 0, 0, 0, 0, b'x', 9, 0, 0, 0]);
    for _ in 0..100_000 {
        bytes.extend([9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    }
    assert!(message(bytes).contains("nested too deep"));
}

proptest! {
    #[test]
    fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = gguf::read_bytes(Path::new("x"), [b"GGUF\x03\0\0\0", &bytes[..]].concat());
    }

    #[test]
    fn changed_bytes_never_panic(changes in proptest::collection::vec((0usize..3000, any::<u8>()), 1..4)) {
        let mut bytes = TINY.to_vec();
        for (at, value) in changes {
            bytes[at] = value;
        }
        if let Ok(model) = gguf::read_bytes(Path::new("x"), bytes) {
            for (name, meta) in model.tensors.iter() {
                let values = model.tensors.read(name).unwrap();
                prop_assert_eq!(values.len(), meta.shape.iter().product::<usize>());
            }
        }
    }
}
