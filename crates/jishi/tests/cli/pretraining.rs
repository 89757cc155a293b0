//! Pre-training on images without labels, and what becomes of its models.

use jishi_hub::folder;
use jishi_hub::onnx::run;
use serde_json::{Value, json};

use crate::images::{input, pictures, png};
use crate::place::Place;
use crate::serve::{Served, base64};

fn recipe(name: &str, task: &str, image: &str, model: &str, batch: usize) -> String {
    format!(
        r#"name = "{name}"
task = "{task}"

[data]
source = "pictures"
split = {{ validation = 0.1, test = 0.2 }}

[image]
size = 12
{image}

[model]
{model}

[train]
optimizer = {{ name = "adamw", learning_rate = 5e-3 }}
epochs = 6
batch = {batch}

[evaluate]
bootstrap = 20
"#
    )
}

const MAE: &str = "family = \"mae\"\nlayers = 2\nheads = 2\nwidth = 16\npatch = 3\ndecoder_layers = 1\nnorm_pix_loss = false";
const RESNET: &str = "family = \"resnet\"\nblocks = [1, 1]\nwidth = 8";
const AUGMENT: &str = "augment = [{ name = \"random-crop\", padding = 2 }, { name = \"color-jitter\" }]";

fn mae(name: &str) -> String {
    recipe(name, "masked-image-modeling", "", MAE, 8)
}

fn simclr(name: &str, image: &str, batch: usize) -> String {
    recipe(name, "image-embedding", image, RESNET, batch)
}

/// What gives vectors of images goes out as a folder and as a graph, and gives the same there.
fn goes_out(place: &Place, width: usize) {
    let pictures = [(0, 3), (1, 4), (2, 5)];
    for (i, (class, number)) in pictures.into_iter().enumerate() {
        place.write(&format!("out/{i}.png"), png(class, number, 12));
    }
    let told = place.json("predict first --input out")["predictions"].clone();
    place.jishi("export first --format onnx --out onnx/model.onnx").ok();
    let found = run(&place.path("onnx/model.onnx"), &[input(place, "runs/first/model", &pictures, 12)]);
    let found = found.unwrap();
    assert_eq!((found[0].name.as_str(), &found[0].shape), ("features", &vec![3, width]));
    for (values, told) in found[0].values.chunks_exact(width).zip(told.as_array().unwrap()) {
        let told = told["embedding"].as_array().unwrap();
        for (value, told) in values.iter().zip(told) {
            assert!((f64::from(*value) - told.as_f64().unwrap()).abs() < 1e-4, "{value} {told}");
        }
    }
    let config: Value = serde_json::from_str(&place.text("onnx/config.json")).unwrap();
    assert!(config["id2label"].is_null(), "{config}");
    let vit = config["model_type"] == "vit";
    assert_eq!(config["architectures"][0], if vit { "ViTModel" } else { "ResNetModel" });
    assert_eq!(found.len(), if vit { 2 } else { 1 });
    if vit {
        assert_eq!((found[1].name.as_str(), &found[1].shape), ("last_hidden_state", &vec![3, 17, width]));
    }

    place.jishi("export first --format safetensors --out hf").ok();
    let tensors = folder::read(&place.path("hf")).unwrap().tensors;
    let has = |name: &str| tensors.meta(name).is_some();
    if vit {
        assert!(has("vit.encoder.layer.1.output.dense.bias") && has("decoder.decoder_pred.weight"));
    } else {
        assert!(has("layer2.0.conv1.weight"));
    }
    assert!(!has("vit.classifier.weight") && !has("fc.weight"));
    place.refuses("import hf --out package", "`id2label`");
    place.refuses("export first --format gguf --out x.gguf", "language models");
}

/// Trains a recipe without labels, and a classifier that begins with its model.
fn learns(place: &Place, text: &str, (metric, least): (&str, f64), width: usize) {
    place.write("first.toml", text);
    assert_eq!(place.json("verify-resume first.toml --steps 7")["ok"], true);
    let report = place.json("train first.toml --set train.epochs=40");
    let metrics = &report["metrics"];
    assert!(metrics["test"][metric].as_f64().unwrap() > least, "{report}");
    for split in ["validation", "test"] {
        let again = place.json(&format!("evaluate first --split {split}"));
        assert_eq!(again["metrics"][split], metrics[split]);
    }
    place.write("new/a.png", png(1, 78, 12));
    place.write("new/b.png", png(2, 77, 15));
    let all = &place.json("predict first --input new")["predictions"];
    assert_eq!(all[0]["image"], "a.png");
    assert_eq!(all[1]["embedding"].as_array().unwrap().len(), width);
    let one = &place.json("predict first --input new/b.png")["predictions"];
    assert_eq!(one[0]["embedding"], all[1]["embedding"]);
    // A server gives the same vectors.
    let server = Served::start(place, "first");
    let images = ["a", "b"].map(|name| base64(&place.read(&format!("new/{name}.png"))));
    let told = server.post("/v1/models/first/predict", &json!({ "inputs": images })).ok();
    for i in 0..2 {
        assert_eq!(told["predictions"][i], json!({ "embedding": all[i]["embedding"] }), "{i}");
    }
    server.post("/v1/models/first/generate", &json!({})).refused(400, "makes no images");
    drop(server);
    goes_out(place, width);

    for (train, from) in [("all", "runs/first"), ("last", "hf")] {
        let model = format!("from = \"{from}\"\ntrain = \"{train}\"");
        place.write("next.toml", recipe(train, "image-classification", "", &model, 8));
        let report = place.json("train next.toml --set train.epochs=12 --set data.split.by=stratified");
        let accuracy = report["metrics"]["test"]["accuracy"].as_f64().unwrap();
        assert!(accuracy >= if train == "all" { 0.9 } else { 0.6 }, "{train}: {report}");
    }
    let mean = |run: &str| {
        let manifest: Value =
            serde_json::from_str(&place.text(&format!("runs/{run}/model/model.json"))).unwrap();
        manifest["preprocessing"]["preparation"]["mean"].clone()
    };
    assert_eq!(mean("all"), mean("first"));
}

#[test]
fn a_masked_autoencoder_learns_and_is_begun_with() {
    let place = Place::new();
    pictures(&place, "pictures", 20);
    learns(&place, &mae("first"), ("r2", 0.3), 16);
    assert!(place.exists("runs/first/plots/hidden-patches.png"));
}

#[test]
fn views_are_compared_and_the_model_is_begun_with() {
    let place = Place::new();
    pictures(&place, "pictures", 20);
    learns(&place, &simclr("first", AUGMENT, 16), ("mrr", 0.4), 16);
}

#[test]
fn pictures_need_no_labels() {
    let place = Place::new();
    for i in 0..20 {
        place.write(&format!("pictures/{i}.png"), png(i % 3, i, 12));
    }
    place.write("first.toml", mae("first"));
    assert_eq!(place.json("train first.toml --set train.epochs=1")["rows"]["test"], 4);
}

#[test]
fn what_makes_no_sense_without_labels_is_refused() {
    let place = Place::new();
    pictures(&place, "pictures", 4);
    place.write("mae.toml", mae("it"));
    place.write("same.toml", simclr("it", "", 8));
    place.write("views.toml", simclr("it", AUGMENT, 8));
    for (command, words) in [
        ("check same.toml", "all views are equal"),
        ("check views.toml --set train.accumulate=2", "compares all of a batch"),
        ("check views.toml --set train.loss.temperature=0", "`train.loss.temperature`"),
        ("check mae.toml --set train.loss.temperature=0.1", "text-embedding and image-embedding"),
        ("check mae.toml --set train.loss.name=focal", "has a loss of its own"),
        ("check mae.toml --set data.target=label", "learns without labels"),
        ("check mae.toml --set image.mixup=0.2", "mixes images and their labels"),
        ("check mae.toml --set model.mask_ratio=1", "`model.mask_ratio`"),
        ("check mae.toml --set model.decoder_width=6", "multiple of 4"),
        ("check mae.toml --set model.patch=5", "patch"),
        ("check mae.toml --set task=image-classification", "can't be trained for"),
    ] {
        let said = place.jishi(command).refused().stderr;
        assert!(said.contains(words), "{command}: {said}");
    }
}
