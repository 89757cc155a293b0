//! Models of other programs: in, out, and refused. The models are small, and their weights random.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use jishi_data::text::tokenizer::{SpecialSet, TrainOptions, train};
use jishi_hub::{About, Dtype, folder};
use jishi_models::{
    CausalConfig, CausalModel, Gpt2Config, LanguageConfig, LanguageModel, LlamaConfig, RopeScaling,
    export_weights,
};
use jishi_recipe::TokenizerKind;
use jishi_runs::{TensorEntry, TensorFile};
use serde_json::{Value, json};

use crate::place::{Outcome, Place};

const TEXT: &str =
    "The quick brown fox jumps over the lazy dog. 千里之行，始于足下。 A clerk in Bern wrote papers.";

/// A model as `save_pretrained` writes it, before it is written.
pub struct Model {
    about: About,
    tensors: Vec<TensorEntry>,
}

impl Model {
    fn new(kind: TokenizerKind, config: impl Fn(usize) -> CausalConfig) -> Self {
        let recipe = jishi_recipe::Tokenizer { kind, vocabulary: 300, ..Default::default() };
        let options = TrainOptions { recipe, special: SpecialSet::Chat };
        let tokenizer = train([Ok(TEXT.to_owned())], &options).unwrap();
        let config = config(tokenizer.vocabulary());
        let model = CausalModel::init(&config, 7, &Device::flex());
        let tensors = model.reference().to_reference(export_weights(&model));
        let entry = |t: jishi_models::NamedTensor| {
            // Initial biases and norms are all alike; a mistake with them has to show.
            let noise = |i: usize| ((i * 31 + t.name.len() * 7) % 17) as f32 * 0.02 - 0.16;
            let data = t.data.iter().enumerate().map(|(i, x)| x + noise(i)).collect();
            TensorEntry { name: t.name, shape: t.shape, data }
        };
        let about = About {
            config: config.to_hf(),
            tokenizer_json: Some(tokenizer.to_json()),
            tokenizer_config: serde_json::from_slice(&tokenizer.config_json()).ok(),
            ..About::default()
        };
        Self { about, tensors: tensors.into_iter().map(entry).collect() }
    }

    pub fn llama() -> Self {
        Self::new(TokenizerKind::Bpe, |vocabulary| {
            let usual = LlamaConfig::new(2, 32, 4, 64, vocabulary);
            CausalConfig::Llama(LlamaConfig {
                kv_heads: 2,
                tied: false,
                attention_bias: true,
                mlp_bias: true,
                rope_scaling: RopeScaling::Linear(2.0),
                ..usual
            })
        })
    }

    pub fn gpt2(kind: TokenizerKind) -> Self {
        Self::new(kind, |vocabulary| CausalConfig::Gpt2(Gpt2Config::new(2, 32, 4, 64, vocabulary)))
    }

    pub fn write(self, path: &Path) {
        let weights = TensorFile { tensors: self.tensors, ..TensorFile::default() };
        folder::write(path, &self.about, &weights, Dtype::F32).unwrap();
    }
}

/// What a model writes, and the log-probabilities of its choices.
fn written(place: &Place, model: &str) -> Value {
    let mut answer = place.json(&format!(
        "generate {model} --prompt lazy --max-tokens 20 --temperature 0 --log-probabilities 3"
    ));
    for key in ["seconds_to_first_token", "tokens_per_second", "seconds_to_load"] {
        answer.as_object_mut().unwrap().remove(key);
    }
    answer
}

fn close(found: &Value, expected: &Value, most: f64) {
    assert_eq!(found["text"], expected["text"]);
    let steps = |answer: &Value| answer["log_probabilities"].as_array().unwrap().clone();
    assert_eq!(steps(expected).len(), 20);
    for (f, e) in steps(found).iter().zip(steps(expected)) {
        let difference = f["log_probability"].as_f64().unwrap() - e["log_probability"].as_f64().unwrap();
        assert!(difference.abs() <= most, "{f} {e}");
    }
}

#[test]
fn a_model_comes_in_and_goes_out_as_it_was() {
    for (name, model) in [("llama", Model::llama()), ("gpt2", Model::gpt2(TokenizerKind::Bpe))] {
        let place = Place::new();
        model.write(&place.path(name));
        let original = written(&place, name);
        let imported = place.json(&format!("import {name} --out package"));
        assert_eq!(imported["family"], name);
        close(&written(&place, "package"), &original, 1e-5);
        place.jishi("export package --format safetensors --out again").ok();
        let read = |dir: &str| place.read(&format!("{dir}/model.safetensors"));
        assert!(folder::read(&place.path("again")).unwrap().tensors.len() > 10);
        assert_eq!(read("again").len(), read(name).len());
        // Without these, `transformers` ends texts with the number that GPT-2 and Llama have for it.
        let json = |file: &str| serde_json::from_str::<Value>(&place.text(&format!("again/{file}"))).unwrap();
        let (config, generation) = (json("config.json"), json("generation_config.json"));
        assert_eq!((&config["bos_token_id"], &config["eos_token_id"]), (&json!(0), &json!(0)));
        assert_eq!(generation["eos_token_id"], json!([0, 2]));
        let names = &json("tokenizer_config.json")["model_input_names"];
        assert_eq!(*names, json!(["input_ids", "attention_mask"]));
        close(&written(&place, "again"), &original, 1e-5);
        place.jishi("export package --format gguf --out model.gguf").ok();
        close(&written(&place, "model.gguf"), &original, 1e-5);
        place.jishi("import model.gguf --out second").ok();
        close(&written(&place, "second"), &original, 1e-5);
        for (format, weights) in [
            ("safetensors", "f16"),
            ("safetensors", "bf16"),
            ("gguf", "f16"),
            ("gguf", "bf16"),
            ("gguf", "q8_0"),
        ] {
            let out = format!("{weights}.{format}");
            place.jishi(&format!("export package --format {format} --weights {weights} --out {out}")).ok();
            assert!(place.json(&format!("generate {out} --prompt lazy --max-tokens 3"))["tokens"].is_u64());
        }
    }
}

#[test]
fn exports_that_can_not_be_are_refused() {
    let place = Place::new();
    Model::gpt2(TokenizerKind::Char).write(&place.path("letters"));
    place.jishi("import letters --out package").ok();
    place.refuses("export package --format gguf --out x.gguf", "a way that llama.cpp has no name for");
    place.refuses("export package --format safetensors --weights q8_0 --out x", "f32, f16 or bf16");
    place.refuses("export package --format safetensors --out package", "not overwritten");
    place.refuses("export none --format safetensors --out x", "none");
}

/// Importing refuses; what it says comes back.
fn refused(place: &Place, source: &str) -> Outcome {
    let before = place.files();
    let import = place.jishi(&format!("import {source} --out package")).refused();
    assert_eq!(place.files(), before);
    import
}

/// All that is said of a model after a change.
fn changed(change: impl FnOnce(&mut Model)) -> String {
    let place = Place::new();
    let mut model = Model::llama();
    change(&mut model);
    model.write(&place.path("model"));
    refused(&place, "model").stderr
}

#[test]
fn tensors_that_are_wrong_are_named_together() {
    let said = changed(|model| {
        model.tensors.retain(|t| t.name != "model.norm.weight" && t.name != "lm_head.weight");
        let mut odd = model.tensors[1].clone();
        odd.name = "model.layers.9.odd.weight".into();
        model.tensors.push(odd);
        let narrow =
            model.tensors.iter_mut().find(|t| t.name.ends_with("0.self_attn.k_proj.weight")).unwrap();
        narrow.shape = vec![8, 64];
    });
    for part in [
        "`model.norm.weight` of shape [32] is missing",
        "`lm_head.weight` of shape",
        "`model.layers.9.odd.weight` is not part of this model",
        "`model.layers.0.self_attn.k_proj.weight` should have shape [32, 16] and has [64, 8]",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(said.matches("error: ").count(), 4, "{said}");
}

#[test]
fn an_output_layer_that_is_missing_is_not_made_up() {
    let place = Place::new();
    let mut model = Model::llama();
    model.tensors.retain(|t| t.name != "lm_head.weight");
    model.write(&place.path("model"));
    for said in [refused(&place, "model"), place.jishi("generate model --prompt a").refused()] {
        assert!(said.stderr.contains("lm_head.weight"), "{}", said.stderr);
    }
    // A tied model has none; a copy in the file, which others do not read, is not read here.
    let mut tied = Model::gpt2(TokenizerKind::Bpe);
    tied.about.config["tie_word_embeddings"] = true.into();
    let plain = place.path("tied");
    let table = tied.tensors.iter().find(|t| t.name == "transformer.wte.weight").unwrap().clone();
    let copy = TensorEntry { name: "lm_head.weight".into(), data: vec![0.5; table.data.len()], ..table };
    let with = Model { about: tied.about.clone(), tensors: [tied.tensors.clone(), vec![copy]].concat() };
    tied.write(&plain);
    with.write(&place.path("copy"));
    close(&written(&place, "copy"), &written(&place, "tied"), 0.0);
}

#[test]
fn other_families_and_foreign_tokenizers_are_refused() {
    let said = changed(|model| model.about.config["model_type"] = "mamba".into());
    assert!(said.contains("bert, gpt2, llama, marian") && said.contains("\"mamba\""), "{said}");
    let said = changed(|model| {
        model.about.config["rope_scaling"] = json!({ "rope_type": "yarn", "factor": 2.0 });
        model.about.config["hidden_act"] = "odd".into();
    });
    assert!(said.contains("yarn") && said.contains("odd"), "{said}");
    let said = changed(|model| {
        let mut json: Value = serde_json::from_slice(model.about.tokenizer_json.as_ref().unwrap()).unwrap();
        let id = json["model"]["vocab"].as_object().unwrap().len();
        json["added_tokens"].as_array_mut().unwrap().push(json!({
            "id": id, "content": "<|more|>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        }));
        model.about.tokenizer_json = Some(json.to_string().into_bytes());
    });
    assert!(said.contains("has 263 tokens") && said.contains("knows 262"), "{said}");
    let said = changed(|model| model.about.tokenizer_json = None);
    assert!(said.contains("no tokenizer.json"), "{said}");
    let said = changed(|model| model.about.tokenizer_json = Some(b"{\"model\": 3}".to_vec()));
    assert!(said.contains("not a `tokenizer.json`"), "{said}");
}

#[test]
fn files_that_are_cut_or_lie_are_refused() {
    let place = Place::new();
    Model::llama().write(&place.path("model"));
    place.jishi("import model --out whole").ok();
    place.jishi("export whole --format gguf --out whole.gguf").ok();
    let whole = place.read("model/model.safetensors");
    for (length, words) in [(0, "header"), (7, "header"), (100, "header"), (whole.len() - 1, "bytes")] {
        place.write("model/model.safetensors", &whole[..length]);
        let said = refused(&place, "model").stderr;
        assert!(said.contains(words) && said.contains("model.safetensors"), "{length}: {said}");
        assert_eq!(place.jishi("generate model --prompt a").refused().code, Some(2));
    }
    let gguf = place.read("whole.gguf");
    let lies = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = gguf.clone();
        change(&mut bytes);
        place.write("lie.gguf", &bytes);
        let said = refused(&place, "lie.gguf").stderr;
        assert_eq!(place.jishi("generate lie.gguf --prompt a").refused().stderr, said);
        assert!(said.contains("lie.gguf"), "{said}");
        said
    };
    let cut = lies(&|bytes| bytes.truncate(bytes.len() - 4096));
    assert!(cut.contains("cut off"), "{cut}");
    let said = lies(&|bytes| bytes[8..16].copy_from_slice(&u64::MAX.to_le_bytes()));
    assert!(said.contains("tensors"), "{said}");
    let said = lies(&|bytes| bytes[16..24].copy_from_slice(&(1u64 << 50).to_le_bytes()));
    assert!(said.contains("metadata values"), "{said}");
    // The shape of a tensor: another width than the config's.
    let at = find(&gguf, b"output_norm.weight") + "output_norm.weight".len() + 4;
    place.write("lie.gguf", [&gguf[..at], &16u64.to_le_bytes(), &gguf[at + 8..]].concat());
    let said = refused(&place, "lie.gguf").stderr;
    assert!(said.contains("`model.norm.weight` should have shape [32] and has [16]"), "{said}");
    fs::write(place.path("lie.gguf"), "GGUF").unwrap();
    refused(&place, "lie.gguf");
    refused(&place, "nothing");
}

fn find(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).position(|window| window == part).unwrap()
}
