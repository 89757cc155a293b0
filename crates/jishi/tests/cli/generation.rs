//! Image generation, from pictures without labels to pictures that nobody drew.

use jishi_hub::onnx::{Input, Numbers, run};
use jishi_runs::plots::Raster;
use serde_json::{Value, json};

use crate::place::Place;
use crate::serve::{Served, base64};

/// A grey picture of 12 × 12 pixels: a bright bar, standing or lying.
fn png(kind: usize, number: usize) -> Vec<u8> {
    let at = 2 + number % 8;
    let value = |i: usize| {
        let (y, x) = (i / 12, i % 12);
        let on = if kind == 0 { x == at || x == at + 1 } else { y == at || y == at + 1 };
        if on { 230 - (number * 7 % 30) as u8 } else { (number * 13 % 20) as u8 }
    };
    Raster::new(12, 12, 1, &(0..144).map(value).collect::<Vec<u8>>()).to_png()
}

/// The graph of a generator makes the package's golden pictures of their latents.
fn goes_out(place: &Place, name: &str) {
    place.jishi(&format!("export {name} --format onnx --out {name}-onnx/model.onnx")).ok();
    let manifest: Value =
        serde_json::from_str(&place.text(&format!("runs/{name}/model/model.json"))).unwrap();
    let golden = &manifest["golden"];
    let numbers = |value: &Value| -> Vec<f32> {
        value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
    };
    for i in 0..2 {
        let latent = numbers(&golden["inputs"][i]["latent"]);
        let input =
            Input { name: "latent".into(), shape: vec![1, latent.len()], values: Numbers::F32(latent) };
        let found = run(&place.path(&format!("{name}-onnx/model.onnx")), &[input]).unwrap().remove(0);
        assert_eq!((found.name.as_str(), &found.shape), ("images", &vec![1, 1, 12, 12]));
        let expected = numbers(&golden["outputs"][i]);
        assert_eq!(found.values.len(), expected.len());
        for (found, expected) in found.values.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-4, "{found} {expected}");
        }
    }
    let config: Value = serde_json::from_str(&place.text(&format!("{name}-onnx/config.json"))).unwrap();
    assert_eq!(config["latent"], 8);
    place.refuses(&format!("export {name} --format safetensors --out x"), "--format onnx");
}

pub fn pictures(place: &Place, folder: &str, n: usize, labels: bool) {
    for i in 0..n {
        for (kind, name) in ["standing", "lying"].into_iter().enumerate() {
            let path =
                if labels { format!("{folder}/{name}/{i}.png") } else { format!("{folder}/{name}-{i}.png") };
            place.write(&path, png(kind, i));
        }
    }
}

pub fn recipe(name: &str, model: &str, more: &str) -> String {
    format!(
        r#"name = "{name}"
task = "image-generation"

[data]
source = "pictures"
split = {{ validation = 0.2, test = 0.2 }}

[image]
channels = "gray"

[model]
{model}

[train]
optimizer = {{ name = "adam", learning_rate = 1e-3, betas = [0.5, 0.999] }}
epochs = 3
batch = 8
ema = 0.9

[evaluate]
{more}
"#
    )
}

pub const DCGAN: &str = "family = \"dcgan\"\nlatent = 8\nwidth = 4";
const WGAN: &str = "family = \"wgan-gp\"\nlatent = 8\nwidth = 4\ncritic_steps = 3";

/// A classifier of the pictures with 4 features, as `runs/NAME`.
fn classifier(place: &Place, name: &str, image: &str, width: usize) {
    place.write(
        "classifier.toml",
        format!(
            r#"name = "{name}"
task = "image-classification"

[data]
source = "labelled"
split = {{ validation = 0.0, test = 0.2 }}

[image]
{image}

[model]
family = "resnet"
blocks = [1]
width = {width}

[train]
epochs = 2
batch = 8
"#
        ),
    );
    place.jishi("train classifier.toml").ok();
}

#[test]
fn pictures_without_labels_to_pictures_that_nobody_drew() {
    let place = Place::new();
    pictures(&place, "pictures", 25, false);
    pictures(&place, "labelled", 15, true);
    classifier(&place, "bars", "channels = \"gray\"", 4);
    for (name, model) in [("plain", DCGAN), ("residual", WGAN)] {
        place.write("it.toml", recipe(name, model, "features = \"runs/bars\"\nsamples = 60"));
        assert_eq!(place.json("check it.toml")["ledger"]["rows_read"], 50);
        assert_eq!(place.json("verify-resume it.toml --steps 9")["ok"], true, "{name}");
        let report = place.json("train it.toml");
        let test = &report["metrics"]["test"];
        for metric in ["fid", "kid", "loss"] {
            assert!(test[metric].as_f64().unwrap().is_finite(), "{metric}: {report}");
        }
        let share = |key: &str| test[key].as_f64().unwrap();
        let shares = [share("class_share.lying"), share("class_share.standing")];
        assert!((shares[0] + shares[1] - 1.0).abs() < 1e-12);
        assert_eq!(share("class_share_max"), shares[0].max(shares[1]));
        assert_eq!(share("class_share_min"), shares[0].min(shares[1]));
        let files =
            ["plots/samples.png", "plots/interpolation.png", "samples/step-00000004.png", "curves.png"];
        for file in files {
            assert!(place.exists(&format!("runs/{name}/{file}")), "{file}");
        }

        // The package judges itself as the run did; its generator alone is in it.
        let again = place.json(&format!("evaluate {name}"));
        for metric in ["fid", "kid", "class_share_max"] {
            assert_eq!(again["metrics"]["test"][metric], test[metric], "{metric}");
        }
        goes_out(&place, name);
        // The same seed makes the same pictures, however many.
        place.jishi(&format!("generate {name} --output a.png --count 9 --seed 3")).ok();
        place.jishi(&format!("generate {name} --output b.png --count 9 --seed 3")).ok();
        place.jishi(&format!("generate {name} --output c.png --count 9 --seed 4")).ok();
        assert_eq!(place.read("a.png"), place.read("b.png"));
        assert_ne!(place.read("a.png"), place.read("c.png"));
        let made = place.json(&format!("generate {name} --output {name}-many --count 70 --seed 3"));
        assert_eq!(made["images"], 70);
        place.jishi(&format!("generate {name} --output {name}-few --count 7 --seed 3")).ok();
        assert_eq!(
            place.read(&format!("{name}-many/000006.png")),
            place.read(&format!("{name}-few/000006.png"))
        );

        // Pictures of a folder are judged as those that the model makes.
        let report = place.json(&format!("evaluate {name} --samples pictures"));
        let real = report["metrics"]["test"]["fid"].as_f64().unwrap();
        assert!(real < test["fid"].as_f64().unwrap(), "{real}: {test}");
        let own = place.json(&format!("evaluate {name} --data pictures --samples pictures"));
        assert!(own["metrics"]["test"]["fid"].as_f64().unwrap().abs() < 1e-6, "{own}");
    }
    // A server makes the same.
    let server = Served::start(&place, "plain residual");
    for name in ["plain", "residual"] {
        let path = format!("/v1/models/{name}/generate");
        let made = server.post(&path, &json!({ "seed": 3, "count": 7 })).ok();
        assert_eq!((made["seed"].as_u64(), made["model"].as_str()), (Some(3), Some(name)));
        let file = |i: usize| base64(&place.read(&format!("{name}-few/{i:06}.png")));
        assert_eq!(made["images"], json!((0..7).map(file).collect::<Vec<_>>()), "{name}");
        let any = [0, 1].map(|_| server.post(&path, &json!({})).ok());
        assert_ne!(any[0]["images"], any[1]["images"]);
        let again = server.post(&path, &json!({ "seed": any[0]["seed"] })).ok();
        assert_eq!(again["images"], any[0]["images"]);
    }
    let path = "/v1/models/plain/generate";
    server.post(path, &json!({ "count": 0 })).refused(400, "`count`: expected a whole number from 1 to 256");
    server.post(path, &json!({ "seed": -1 })).refused(400, "`seed`");
    server.post(path, &json!({ "prompt": "x" })).refused(400, "`prompt`: this field is not known");
    server.post("/v1/models/plain/predict", &json!({ "inputs": [1] })).refused(400, "/generate");
    drop(server);
    let said = place.jishi("predict plain --input pictures").refused().stderr;
    assert!(said.contains("jishi generate"), "{said}");
    let said = place.jishi("generate plain --prompt hello").refused().stderr;
    assert!(said.contains("makes images"), "{said}");
    let said = place.jishi("generate plain --output x.png --count 0").refused().stderr;
    assert!(said.contains("--count"), "{said}");
    let said = place.jishi("evaluate bars --samples pictures").refused().stderr;
    assert!(said.contains("--samples"), "{said}");
}

#[test]
fn a_generator_without_a_judge_trains_and_has_no_distance() {
    let place = Place::new();
    pictures(&place, "pictures", 12, false);
    place.write("it.toml", recipe("plain", &format!("{DCGAN}\nspectral_norm = true"), ""));
    let report = place.json("train it.toml");
    assert_eq!(report["metrics"]["test"]["fid"], Value::Null);
    let said = place.jishi("evaluate plain").refused().stderr;
    assert!(said.contains("evaluate.features"), "{said}");
}

#[test]
fn judges_that_do_not_fit_are_refused_before_training() {
    let place = Place::new();
    pictures(&place, "pictures", 20, false);
    pictures(&place, "labelled", 12, true);
    classifier(&place, "colour", "channels = \"rgb\"", 4);
    classifier(&place, "large", "channels = \"gray\"\nsize = 16", 4);
    classifier(&place, "wide", "channels = \"gray\"", 16);
    let refused = |model: &str, more: &str| {
        place.write("it.toml", recipe("it", model, more));
        let before = place.files();
        let said = place.jishi("train it.toml").refused().stderr;
        assert_eq!(place.files(), before, "{said}");
        said
    };
    for (name, words) in [
        ("missing", vec!["no run or package", "missing"]),
        ("colour", vec!["in colour", "in grey"]),
        ("large", vec!["16 × 16", "12 × 12"]),
        // 8 pictures to validate on, and 16 features.
        ("wide", vec!["8 images", "16 features"]),
    ] {
        let said = refused(DCGAN, &format!("features = \"runs/{name}\"\nsamples = 40"));
        for word in words {
            assert!(said.contains(word), "{name}, {word}: {said}");
        }
    }
    let said = refused(DCGAN, "features = \"runs/large\"\nsamples = 1");
    assert!(said.contains("evaluate.samples"), "{said}");
    place.write("it.toml", recipe("it", DCGAN, ""));
    for (set, word) in [
        ("image.size=22", "22 pixels a side"),
        ("image.size=[12,14]", "square"),
        ("image.normalize=imagenet", "image.normalize"),
        ("image.mixup=0.2", "image.mixup"),
        ("train.early_stopping.metric=loss", "early stopping"),
        ("train.early_stopping.metric=fid", "evaluate.features"),
        ("model.width=0", "model.width"),
        ("train.loss.name=cross-entropy", "train.loss.name"),
        ("data.split.folds=3", "folds"),
        ("task=image-classification", "dcgan"),
    ] {
        let said = place.jishi(&format!("check it.toml --set {set}")).refused().stderr;
        assert!(said.contains(word), "{set}: {said}");
    }
}
