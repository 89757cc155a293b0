//! Image classification, from a folder of one's own to predictions, and models of images from and to other programs.

use std::fs;

use jishi_hub::onnx::{Input, Numbers, run};
use jishi_hub::{Dtype, folder};
use jishi_runs::plots::Raster;
use serde_json::Value;

use crate::place::Place;
use crate::transfer::Model;

/// A PNG file of [`pixels`].
pub fn png(class: usize, number: usize, side: usize) -> Vec<u8> {
    Raster::new(side, side, 3, &pixels(class, number, side)).to_png()
}

/// `side` × `side` colours, bright where a class is: left, right or top.
fn pixels(class: usize, number: usize, side: usize) -> Vec<u8> {
    let bright = |y: usize, x: usize| match class {
        0 => x < side / 2,
        1 => x >= side / 2,
        _ => y < side / 2,
    };
    let value = |i: usize| {
        let (y, x, c) = (i / (3 * side), i / 3 % side, i % 3);
        let noise = (i * 37 + number * 91 + class * 13) % 40;
        (if bright(y, x) { 190 } else { 20 } + noise + 5 * c) as u8
    };
    (0..side * side * 3).map(value).collect()
}

/// Pictures of [`pixels`], by class and number, as a graph of the model in `package` takes them.
pub fn input(place: &Place, package: &str, pictures: &[(usize, usize)], side: usize) -> Input {
    let all = pictures.iter().map(|(class, number)| pixels(*class, *number, side)).collect::<Vec<_>>();
    planes(place, package, &all, [side, side])
}

/// Pictures of three colours of a size that is the model's, `[height, width]`, as a graph of it takes them.
pub fn planes(place: &Place, package: &str, pictures: &[Vec<u8>], [height, width]: [usize; 2]) -> Input {
    let manifest: Value = serde_json::from_str(&place.text(&format!("{package}/model.json"))).unwrap();
    let preparation = &manifest["preprocessing"]["preparation"];
    let figure = |key: &str, channel: usize| preparation[key][channel].as_f64().unwrap() as f32;
    let mut values = Vec::new();
    for pixels in pictures {
        for c in 0..3 {
            let (mean, std) = (figure("mean", c), figure("std", c));
            let plane = pixels.iter().skip(c).step_by(3);
            values.extend(plane.map(|v| (f32::from(*v) / 255.0 - mean) / std));
        }
    }
    let shape = vec![pictures.len(), 3, height, width];
    Input { name: "pixel_values".into(), shape, values: Numbers::F32(values) }
}

/// A folder for each of the three classes, with `n` pictures each.
pub fn pictures(place: &Place, folder: &str, n: usize) {
    for (class, name) in ["left", "right", "top"].into_iter().enumerate() {
        for i in 0..n {
            place.write(&format!("{folder}/{name}/{i}.png"), png(class, i, 12));
        }
    }
}

pub fn recipe(name: &str, model: &str) -> String {
    format!(
        r#"name = "{name}"
task = "image-classification"

[data]
source = "pictures"
split = {{ validation = 0.1, test = 0.2, by = "stratified" }}

[image]
size = 12
augment = [{{ name = "random-crop", padding = 1 }}, {{ name = "random-erasing", p = 0.2 }}]
mixup = 0.1

[model]
{model}

[train]
optimizer = {{ name = "adamw", learning_rate = 5e-3 }}
epochs = 6
batch = 8
ema = 0.9

[evaluate]
bootstrap = 20
"#
    )
}

pub const RESNET: &str = "family = \"resnet\"\nblocks = [1, 1]\nwidth = 8";
const FAMILIES: [(&str, &str); 4] = [
    ("resnet", RESNET),
    ("bottleneck", "family = \"resnet\"\ndepth = 50\nwidth = 2\nstem = \"large\""),
    ("vgg", "family = \"vgg\"\ndepth = 11\nwidth = 4\nbatch_norm = true\nhidden = [8]"),
    ("vit", "family = \"vit\"\nlayers = 1\nheads = 2\nwidth = 16\npatch = 4"),
];

#[test]
fn a_folder_of_pictures_to_predictions() {
    let place = Place::new();
    pictures(&place, "pictures", 20);
    place.write("sides.toml", recipe("sides", RESNET));
    assert_eq!(place.json("check sides.toml")["ledger"]["rows_read"], 60);
    assert_eq!(place.json("verify-resume sides.toml --steps 9")["ok"], true);
    let report = place.json("train sides.toml");
    assert!(report["metrics"]["test"]["accuracy"].as_f64().unwrap() >= 0.9, "{report}");
    for split in ["validation", "test"] {
        let again = place.json(&format!("evaluate sides --split {split}"));
        assert_eq!(again["metrics"][split], report["metrics"][split]);
        assert_eq!(again["intervals"][split], report["intervals"][split]);
    }
    for plot in ["curves", "plots/confusion-matrix"] {
        assert!(place.exists(&format!("runs/sides/{plot}.png")), "{plot}");
    }
    place.write("new/b.png", png(2, 77, 12));
    place.write("new/a.png", png(1, 78, 12));
    let csv = place.jishi("predict sides --input new").ok().stdout;
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0], "image,prediction,probability_left,probability_right,probability_top");
    assert!(lines[1].starts_with("a.png,right,") && lines[2].starts_with("b.png,top,"), "{csv}");
    let one = place.jishi("predict sides --input new/b.png").ok().stdout;
    assert_eq!(
        one.lines().nth(1).map(|l| l.split_once(',').unwrap().1),
        lines[2].split_once(',').map(|l| l.1)
    );
}

#[test]
fn pictures_that_are_none_are_all_named_at_once() {
    let place = Place::new();
    pictures(&place, "pictures", 12);
    place.write("pictures/left/broken.png", &png(0, 3, 12)[..80]);
    place.write("pictures/right/text.jpg", "no picture");
    fs::create_dir(place.path("pictures/empty")).unwrap();
    place.write("sides.toml", recipe("sides", RESNET));
    let before = place.files();
    let said = place.jishi("train sides.toml").refused().stderr;
    for words in ["left/broken.png", "right/text.jpg", "empty"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(place.files(), before);

    // Those that are to be left out are counted.
    fs::remove_dir(place.path("pictures/empty")).unwrap();
    let set = "--set data.bad_rows=drop --set data.max_dropped=0.2";
    let check = place.json(&format!("check sides.toml {set}"));
    assert_eq!(check["ledger"]["dropped"], 2, "{}", check["ledger"]);

    let vit = FAMILIES[3].1.replace("patch = 4", "patch = 5");
    place.write("vit.toml", recipe("vit", &vit));
    let said = place.jishi(&format!("train vit.toml {set}")).refused().stderr;
    assert!(said.contains("model.patch") || said.contains("patch"), "{said}");
}

/// Probabilities of the pictures of a folder.
fn probabilities(place: &Place, model: &str) -> Vec<Vec<f64>> {
    let csv = place.jishi(&format!("predict {model} --input new")).ok().stdout;
    let row = |line: &str| line.split(',').skip(2).map(|x| x.parse().unwrap()).collect();
    csv.lines().skip(1).map(row).collect()
}

fn near(a: &[Vec<f64>], b: &[Vec<f64>]) {
    assert_eq!((a.len(), a[0].len()), (b.len(), b[0].len()));
    for (a, b) in a.iter().flatten().zip(b.iter().flatten()) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
}

#[test]
fn models_go_out_and_come_back_as_they_were() {
    let place = Place::new();
    pictures(&place, "pictures", 12);
    for i in 0..4 {
        // Larger than the model's size, and of another shape.
        place.write(&format!("new/{i}.png"), png(i % 3, i, 12 + 5 * i));
    }
    for (name, model) in FAMILIES {
        place.write("it.toml", recipe(name, model));
        place.jishi("train it.toml --set train.epochs=2").ok();
        let own = probabilities(&place, name);
        place.jishi(&format!("export {name} --format safetensors --out hf-{name}")).ok();
        let imported = place.json(&format!("import hf-{name} --out back-{name}"));
        assert_eq!((&imported["labels"], &imported["vocabulary"]), (&3.into(), &Value::Null));
        near(&probabilities(&place, &format!("back-{name}")), &own);
        let read = folder::read(&place.path(&format!("hf-{name}"))).unwrap();
        let stem = read.tensors.meta("resnet.embedder.embedder.convolution.weight").is_some();
        assert_eq!(stem, name == "bottleneck", "names of `transformers` where it has the model");
        place.jishi(&format!("export {name} --format safetensors --weights bf16 --out half-{name}")).ok();
        let said = place.jishi(&format!("export {name} --format gguf --out x.gguf")).refused().stderr;
        assert!(said.contains("language models"), "{said}");

        place.jishi(&format!("export {name} --format onnx --out onnx-{name}/model.onnx")).ok();
        let json = |file: &str| -> Value {
            serde_json::from_str(&place.text(&format!("onnx-{name}/{file}"))).unwrap()
        };
        assert_eq!(json("config.json")["id2label"]["2"], "top");
        assert_eq!(json("preprocessor_config.json")["crop_size"]["height"], 12);
        // Another batch than that of the export: logits whose softmax is the prediction.
        let values: Vec<f32> = (0..5 * 3 * 144).map(|i| (i % 17) as f32 * 0.1 - 0.8).collect();
        let input = |rows: usize| Input {
            name: "pixel_values".into(),
            shape: vec![rows, 3, 12, 12],
            values: Numbers::F32(values[..rows * 3 * 144].to_vec()),
        };
        let out = |rows| run(&place.path(&format!("onnx-{name}/model.onnx")), &[input(rows)]).unwrap();
        let (five, one) = (out(5), out(1));
        assert_eq!((five[0].shape.as_slice(), one[0].shape.as_slice()), (&[5, 3][..], &[1, 3][..]));
        for (a, b) in five[0].values.iter().zip(&one[0].values) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
    }
}

#[test]
fn fine_tuning_keeps_the_figures_of_the_model_that_it_begins_with() {
    let place = Place::new();
    pictures(&place, "pictures", 12);
    place.write(
        "first.toml",
        recipe("first", RESNET).replace("size = 12", "size = 12\nnormalize = \"imagenet\""),
    );
    place.jishi("train first.toml --set train.epochs=2").ok();
    place.jishi("export first --format safetensors --out hf").ok();
    let mean = |model: &str| {
        let manifest: Value = serde_json::from_str(&place.text(&format!("{model}/model.json"))).unwrap();
        manifest["preprocessing"]["preparation"]["mean"].clone()
    };
    for (name, from) in [("of-run", "runs/first"), ("of-folder", "hf")] {
        place.write("next.toml", recipe(name, &format!("from = \"{from}\"")));
        place.jishi("train next.toml --set train.epochs=1").ok();
        assert_eq!(mean(&format!("runs/{name}/model")), mean("runs/first/model"));
    }
    place.jishi("train next.toml --set train.epochs=1 --set image.normalize=half --set name=own").ok();
    assert_eq!(mean("runs/own/model"), serde_json::json!([0.5, 0.5, 0.5]));

    // A model of text is none of images, and said to be that.
    Model::llama().write(&place.path("llama"));
    place.write("next.toml", recipe("wrong", "from = \"llama\""));
    let said = place.jishi("train next.toml").refused().stderr;
    assert!(said.contains("llama") && said.contains("no model of images"), "{said}");
    // One whose tensors are another's is named by them.
    let mut config: Value = serde_json::from_str(&place.text("hf/config.json")).unwrap();
    config["depths"] = serde_json::json!([2]);
    config["hidden_sizes"] = serde_json::json!([8]);
    place.write("hf/config.json", config.to_string());
    let said = place.jishi("import hf --out package").refused().stderr;
    for words in [
        "`layer1.1.conv1.weight` of shape [8, 8, 3, 3] is missing",
        "`layer2.0.conv1.weight` is not part of this model",
        "`fc.weight` should have shape",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn numbers_of_eight_bits_are_refused_for_images() {
    let place = Place::new();
    pictures(&place, "pictures", 12);
    place.write("it.toml", recipe("it", RESNET));
    place.jishi("train it.toml --set train.epochs=1").ok();
    place.jishi("export it --format safetensors --weights q8_0 --out x").refused();
    let sizes: Vec<usize> = ["f32", "f16"]
        .map(|weights| {
            place.jishi(&format!("export it --format safetensors --weights {weights} --out {weights}")).ok();
            place.read(&format!("{weights}/model.safetensors")).len()
        })
        .to_vec();
    assert!(sizes[1] < sizes[0]);
    assert_eq!(Dtype::F16.bytes(&[3]), Some(6));
}
