//! Hugging Face folders: whole ones, ones with parts missing, and ones that are refused.

use std::fs;
use std::path::Path;

use jishi_hub::{About, Dtype, Pooling, Resolved, SentenceTransformer, folder, read};
use jishi_runs::atomic::write_real;
use jishi_runs::{TensorEntry, TensorFile};
use serde_json::json;

fn model() -> (About, TensorFile) {
    let about = About {
        config: json!({"model_type": "bert", "hidden_size": 4}),
        tokenizer_json: Some(b"{\"model\":{}}".to_vec()),
        tokenizer_config: Some(json!({"model_max_length": 8})),
        special_tokens_map: Some(json!({"pad_token": "[PAD]"})),
        generation_config: Some(json!({"eos_token_id": 1})),
        chat_template: Some("{{ x }}".into()),
        sentence: Some(SentenceTransformer {
            pooling: Pooling::Cls,
            normalise: true,
            max_seq_length: Some(256),
        }),
    };
    let tensor = |name: &str, shape: Vec<usize>, data: &[f32]| TensorEntry {
        name: name.into(),
        shape,
        data: data.to_vec(),
    };
    let tensors =
        vec![tensor("b", vec![2, 2], &[1.0, -0.5, 1e-3, 4.0]), tensor("a", vec![3], &[0.1, 0.2, 0.3])];
    (about, TensorFile { tensors, ..TensorFile::default() })
}

fn message(dir: &Path) -> String {
    folder::read(dir).expect_err("it is refused").to_string()
}

fn put(dir: &Path, name: &str, text: &str) {
    write_real(&dir.join(name), text.as_bytes()).expect("written");
}

#[test]
fn a_folder_comes_back_as_it_went() {
    let (about, weights) = model();
    for (dtype, slack) in [(Dtype::F32, 0.0), (Dtype::F16, 1e-3), (Dtype::BF16, 1e-2)] {
        let dir = tempfile::tempdir().unwrap();
        folder::write(dir.path(), &about, &weights, dtype).unwrap();
        let mut back = folder::read(dir.path()).unwrap();
        back.about.config.as_object_mut().unwrap().remove("torch_dtype");
        assert_eq!(back.about, about);
        for tensor in &weights.tensors {
            assert_eq!(back.tensors.meta(&tensor.name).unwrap().dtype, dtype);
            for (a, b) in tensor.data.iter().zip(back.tensors.read(&tensor.name).unwrap()) {
                assert!((a - b).abs() <= slack, "{dtype:?}: {a} {b}");
            }
        }
        let bytes = fs::read(dir.path().join("model.safetensors")).unwrap();
        let (_, theirs) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(theirs.metadata().as_ref().unwrap()["format"], "pt");
        safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert!(matches!(read(dir.path()).unwrap(), Resolved::Checkpoint(_)));
    }
    let dir = tempfile::tempdir().unwrap();
    assert!(folder::write(dir.path(), &about, &weights, Dtype::Q8_0).is_err());
}

#[test]
fn parts_are_joined_and_missing_ones_named() {
    let (about, weights) = model();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    folder::write(dir, &about, &weights, Dtype::F32).unwrap();
    fs::rename(dir.join("model.safetensors"), dir.join("model-1.safetensors")).unwrap();
    let index = |map: serde_json::Value| {
        put(dir, "model.safetensors.index.json", &json!({"weight_map": map}).to_string())
    };
    index(json!({"a": "model-1.safetensors", "b": "model-1.safetensors"}));
    assert_eq!(folder::read(dir).unwrap().tensors.len(), 2);
    index(json!({"a": "model-1.safetensors", "c": "model-2.safetensors", "d": "model-3.safetensors"}));
    let error = message(dir);
    assert!(error.contains("model-2.safetensors") && error.contains("model-3.safetensors"), "{error}");
    index(json!({"a": "model-1.safetensors", "c": "model-1.safetensors"}));
    assert!(message(dir).contains("the first is \"c\""));
    for outside in ["../x.safetensors", "/etc/passwd", "x.bin"] {
        index(json!({"a": outside}));
        assert!(message(dir).contains("weight_map"));
    }
}

#[test]
fn refusals_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    assert!(message(&dir.join("none")).contains("expected a folder"));
    assert!(message(dir).contains("no config.json"));
    put(dir, "config.json", "{\"model_type\": \"gpt2\"}");
    assert!(message(dir).contains("neither model.safetensors"));
    put(dir, "pytorch_model.bin", "\u{80}");
    assert!(message(dir).contains("save_pretrained"));
    put(dir, "model.safetensors", "12345678{}");
    assert!(message(dir).contains("safetensors header"));
    put(dir, "config.json", "{");
    assert!(message(dir).contains("config.json"));
}

#[test]
fn any_path_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let error = |name: &str| read(&dir.join(name)).expect_err("it is refused").to_string();
    assert!(error("none").contains("hf:ORG/NAME"));
    for (name, word) in
        [("x.bin", "pickle"), ("x.safetensors", "config.json"), ("x.txt", "another kind"), ("x.gguf", "GGUF")]
    {
        put(dir, name, "text");
        assert!(error(name).contains(word), "{name}");
    }
    put(dir, "model.json", "{}");
    assert!(matches!(read(dir).unwrap(), Resolved::Jishi(path) if path == dir));
}
