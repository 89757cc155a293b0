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
        preprocessor_config: Some(json!({"image_mean": [0.5, 0.5, 0.5]})),
        chat_template: Some("{{ x }}".into()),
        sentence: Some(SentenceTransformer {
            pooling: Pooling::Cls,
            normalise: true,
            max_seq_length: Some(256),
        }),
        supposed: Vec::new(),
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
    for outside in ["../x.safetensors", "/etc/passwd", "x.py"] {
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
    assert!(message(dir).contains("torch.save"));
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
    for (name, word) in [
        ("x.bin", "torch.save"),
        ("x.safetensors", "safetensors header"),
        ("x.txt", "another kind"),
        ("x.gguf", "GGUF"),
    ] {
        put(dir, name, "text");
        assert!(error(name).contains(word), "{name}");
    }
    put(dir, "model.json", "{}");
    assert!(matches!(read(dir).unwrap(), Resolved::Jishi(path) if path == dir));
}

/// Weights of zeros: names with shapes, one after the other.
fn zeros(list: &str) -> TensorFile {
    let tensor = |line: &str| {
        let (name, shape) = line.trim().split_once(' ').expect("a name and a shape");
        let shape: Vec<usize> = shape.split(' ').map(|n| n.parse().expect("a size")).collect();
        TensorEntry { name: name.into(), data: vec![0.0; shape.iter().product()], shape }
    };
    let tensors = list.trim().lines().map(tensor).collect();
    TensorFile { tensors, ..TensorFile::default() }
}

const RESNET: &str = "conv1.weight 2 3 7 7
    layer1.0.conv1.weight 2 2 1 1
    layer1.0.conv2.weight 2 2 3 3
    layer1.0.conv3.weight 8 2 1 1
    layer1.1.conv1.weight 2 8 1 1
    layer2.0.conv1.weight 4 8 1 1
    fc.weight 5 16";
const VGG: &str = "features.0.weight 2 1 3 3
    features.3.weight 4 2 3 3
    features.5.weight 4 4 3 3
    classifier.0.weight 6 16
    classifier.3.weight 5 6";
const VIT: &str = "conv_proj.weight 64 3 4 4
    class_token 1 1 64
    encoder.pos_embedding 1 10 64
    encoder.layers.encoder_layer_0.mlp.0.weight 8 64
    encoder.layers.encoder_layer_1.mlp.0.weight 8 64
    heads.head.weight 5 64";

#[test]
fn weights_alone_are_told_by_their_names_and_shapes() {
    let dir = tempfile::tempdir().unwrap();
    let config = |list: &str| {
        let path = dir.path().join("x.safetensors");
        folder::write_safetensors(&path, &zeros(list), Dtype::F32).unwrap();
        let found = read(&path).map_err(|e| e.to_string())?;
        let Resolved::Checkpoint(model) = found else { panic!("not a run") };
        Ok::<_, String>(model.about.config)
    };
    let normed = VGG
        .replace("features.3.", "features.4.")
        .replace("features.5.", "features.7.")
        .replace("classifier.0", "features.1.running_mean 2\nclassifier.0");
    let timm = "patch_embed.proj.weight 128 1 2 2\npos_embed 1 9 128\nblocks.0.mlp.fc1.weight 8 128\nhead.weight 5 128";
    for (list, expected) in [
        (
            RESNET,
            json!({"model_type": "resnet", "depths": [2, 1], "hidden_sizes": [8, 16], "embedding_size": 2,
                "layer_type": "bottleneck", "stem": "large", "num_channels": 3}),
        ),
        (
            VGG,
            json!({"model_type": "vgg", "depths": [1, 2], "batch_norm": false, "embedding_size": 2, "pool_size": 2,
                "classifier_sizes": [6], "num_channels": 1}),
        ),
        (&normed, json!({"model_type": "vgg", "depths": [1, 2], "batch_norm": true})),
        (
            VIT,
            json!({"model_type": "vit", "num_hidden_layers": 2, "num_attention_heads": 1, "image_size": 12,
                "patch_size": 4, "intermediate_size": 8, "pooling": "cls"}),
        ),
        (timm, json!({"model_type": "vit", "num_attention_heads": 2, "image_size": 6, "pooling": "mean"})),
    ] {
        let found = config(list).expect("a known model");
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(found[key], *value, "{key} of {found}");
        }
        assert_eq!(found["id2label"].as_object().unwrap().len(), 5);
    }
    for (list, word) in [
        (RESNET.replace("layer1.0.conv2.weight 2 2", "layer1.0.conv2.weight 2 1"), "ResNeXt"),
        (RESNET.replace("7 7", "5 5"), "5 × 5"),
        (VGG.replace("features.0.weight 2 1 3 3", "features.0.weight 2 1 11 11"), "features.0.weight"),
        (VGG.replace("features.5", "features.8"), "other layers"),
        (VGG.replace("6 16", "6 12"), "dense layers"),
        (VIT.replace("1 10 64", "1 9 64"), "no square"),
        (VIT.replace("64", "48"), "config.json"),
        (VIT.replace("heads.head", "other"), "heads.head.weight"),
        ("wte.weight 2 2".to_owned(), "torchvision"),
    ] {
        let problem = config(&list).expect_err("another model");
        assert!(problem.contains(word), "{word}: {problem}");
    }
    // A config.json beside them says what they are.
    put(dir.path(), "config.json", "{\"model_type\": \"vit\", \"x\": 1}");
    assert_eq!(config(&VIT.replace("64", "48")).expect("a config")["x"], 1);
}
