//! Detection, from pictures with boxes of one's own in three formats to boxes that were found and drawn.

use jishi_hub::onnx::run;
use jishi_runs::plots::Raster;
use serde_json::{Value, json};

use crate::images::planes;
use crate::place::Place;
use crate::serve::{Served, base64};

const SIDE: usize = 64;
const NAMES: [&str; 2] = ["blue", "red"];

/// Class, left, top, right and bottom of the one or two objects of a scene.
fn objects(number: usize) -> Vec<(usize, [usize; 4])> {
    let sides = |i: usize| [14 + (number * 7 + i * 5) % 12, 14 + (number * 11 + i * 3) % 12];
    let first = ((number * 13) % 12, (number * 17) % 36);
    let second = (34 + (number * 5) % 5, (number * 23) % 36);
    let places = [first, second];
    (0..1 + number % 2)
        .map(|i| {
            let ([w, h], (x, y)) = (sides(i), places[(number + i) % 2]);
            ((number / 2 + i) % 2, [x, y, x + w, y + h])
        })
        .collect()
}

pub fn png(number: usize) -> Vec<u8> {
    Raster::new(SIDE, SIDE, 3, &pixels(number)).to_png()
}

/// Blue and red boxes on a slope.
fn pixels(number: usize) -> Vec<u8> {
    let objects = objects(number);
    let value = |i: usize| {
        let (y, x, c) = (i / (3 * SIDE), i / 3 % SIDE, i % 3);
        let inside = objects.iter().find(|(_, [l, t, r, b])| (*l..*r).contains(&x) && (*t..*b).contains(&y));
        match inside {
            Some((0, _)) => [20, 40, 230][c],
            Some(_) => [220, 30, 30][c],
            None => (60 + x + y + number * 29 % 60) as u8,
        }
    };
    (0..SIDE * SIDE * 3).map(value).collect()
}

/// The graph of a detector gives the boxes that it finds, before those that overlap are left out.
fn goes_out(place: &Place, name: &str) {
    place.jishi(&format!("export {name} --format onnx --out {name}-onnx/model.onnx")).ok();
    let config: Value = serde_json::from_str(&place.text(&format!("{name}-onnx/config.json"))).unwrap();
    assert_eq!(config["id2label"], json!({"0": "blue", "1": "red"}));
    let numbers = [1, 2, 3, 4, 5];
    for number in numbers {
        place.write(&format!("{name}-out/{number}.png"), png(number));
    }
    let input = planes(place, &format!("runs/{name}/model"), &numbers.map(pixels), [SIDE, SIDE]);
    let outputs = run(&place.path(&format!("{name}-onnx/model.onnx")), &[input]).unwrap();
    let [boxes, scores] = &outputs[..] else { panic!("{} outputs", outputs.len()) };
    assert_eq!((boxes.name.as_str(), scores.name.as_str()), ("boxes", "scores"));
    let places = boxes.shape[1];
    assert_eq!((&boxes.shape, &scores.shape), (&vec![5, places, 4], &vec![5, places, 2]));
    let told = place.json(&format!("predict {name} --input {name}-out --score 0.3"))["predictions"].clone();
    let told = told.as_array().unwrap();
    assert!(told.len() >= 5, "{told:?}");
    for found in told {
        let image = found["image"].as_str().unwrap()[..1].parse::<usize>().unwrap() - 1;
        let class = NAMES.iter().position(|name| found["class"] == *name).unwrap();
        let place = |side: &str| found[side].as_f64().unwrap();
        let sides = ["left", "top", "right", "bottom"].map(place);
        let same = (image * places..(image + 1) * places).any(|i| {
            let near = boxes.values[4 * i..].iter().zip(sides).all(|(a, b)| (f64::from(*a) - b).abs() < 0.02);
            near && (f64::from(scores.values[2 * i + class]) - place("score")).abs() < 2e-4
        });
        assert!(same, "{found}");
    }
    let said = place.jishi(&format!("export {name} --format safetensors --out x")).refused().stderr;
    assert!(said.contains("detection") && said.contains("--format onnx"), "{said}");
}

/// The same `n` scenes as COCO JSON, Pascal VOC XML and YOLO text.
pub fn scenes(place: &Place, n: usize) {
    let (mut images, mut boxes) = (Vec::new(), Vec::new());
    for number in 0..n {
        let name = format!("{number:03}");
        for folder in ["coco/images", "voc/JPEGImages", "yolo"] {
            place.write(&format!("{folder}/{name}.png"), png(number));
        }
        images.push(json!({"id": number, "file_name": format!("{name}.png"), "width": SIDE, "height": SIDE}));
        let (mut xml, mut text) = (String::new(), String::new());
        for (class, [l, t, r, b]) in objects(number) {
            boxes.push(json!({"id": boxes.len() + 1, "image_id": number, "category_id": class,
                              "bbox": [l, t, r - l, b - t], "iscrowd": 0}));
            xml += &format!(
                "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{r}</xmax><ymax>{b}</ymax></bndbox></object>",
                NAMES[class],
                l + 1,
                t + 1
            );
            let share = |a: usize, b: usize| (a + b) as f64 / 2.0 / SIDE as f64;
            let size = |a: usize, b: usize| (b - a) as f64 / SIDE as f64;
            text += &format!("{class} {} {} {} {}\n", share(l, r), share(t, b), size(l, r), size(t, b));
        }
        place.write(
            &format!("voc/Annotations/{name}.xml"),
            format!("<annotation><filename>{name}.png</filename>{xml}</annotation>"),
        );
        place.write(&format!("yolo/{name}.txt"), text);
    }
    let categories: Vec<Value> =
        NAMES.iter().enumerate().map(|(id, name)| json!({"id": id, "name": name})).collect();
    let coco = json!({"images": images, "annotations": boxes, "categories": categories});
    place.write("coco/boxes.json", coco.to_string());
    place.write("yolo/classes.txt", NAMES.join("\n"));
}

pub fn recipe(name: &str, model: &str, epochs: usize) -> String {
    format!(
        r#"name = "{name}"
task = "detection"

[data]
source = "coco"
split = {{ validation = 0.1, test = 0.2 }}

[image]
size = 64
augment = [{{ name = "horizontal-flip" }}, {{ name = "affine", degrees = 0.0, translate = 0.05, scale = [0.9, 1.1] }}]

[model]
{model}

[train]
optimizer = {{ name = "adamw", learning_rate = 5e-3 }}
schedule = {{ name = "one-cycle" }}
epochs = {epochs}
batch = 8
ema = 0.9
clip = 10.0
"#
    )
}

/// Of a YOLO that tells the classes apart whatever its seed: narrower or with fewer steps, some find places alone.
fn long(name: &str) -> String {
    recipe(name, YOLO, 40).replace("batch = 8", "batch = 4").replace("width = 8", "width = 16")
}

pub const YOLO: &str = "family = \"yolo\"\nwidth = 8";
const SSD: &str = "family = \"ssd\"\nwidth = 8";

#[test]
fn boxes_in_three_formats_to_predictions() {
    let place = Place::new();
    scenes(&place, 60);
    place.write("boxes.toml", long("boxes"));
    let check = place.json("check boxes.toml");
    assert_eq!((&check["ledger"]["rows_read"], &check["inputs"]["boxes"]), (&60.into(), &90.into()));
    let set = "--set image.mosaic=0.5";
    assert_eq!(place.json(&format!("verify-resume boxes.toml --steps 8 {set}"))["ok"], true);
    let report = place.json("train boxes.toml");
    let test = &report["metrics"]["test"];
    assert!(test["map_50"].as_f64().unwrap() >= 0.8, "{report}");
    assert!(
        test["map"].as_f64().unwrap() >= 0.4 && test["map"].as_f64() <= test["map_50"].as_f64(),
        "{report}"
    );
    for split in ["validation", "test"] {
        let again = place.json(&format!("evaluate boxes --split {split}"));
        assert_eq!(again["metrics"][split], report["metrics"][split]);
    }
    for plot in ["curves", "plots/boxes", "plots/pr"] {
        assert!(place.exists(&format!("runs/boxes/{plot}.png")), "{plot}");
    }

    // The same data gives the same figures, whatever its format.
    let figures = ["coco", "voc", "yolo", "coco/boxes.json"].map(|source| {
        let report = place.json(&format!("train boxes.toml --set train.epochs=2 --set data.source={source}"));
        let data = place.json(&format!("evaluate boxes --data {source}"));
        (report["metrics"].clone(), data["metrics"].clone())
    });
    assert!(figures.iter().all(|f| *f == figures[0]), "{figures:?}");
    assert!(figures[0].1["test"]["map_50"].as_f64().unwrap() >= 0.8);

    // A larger picture: boxes are in its own pixels.
    let large: Vec<u8> = (0..3 * 128 * 192).map(|_| 90).collect();
    let mut raster = Raster::new(128, 192, 3, &large);
    for y in 40..88 {
        for x in 100..140 {
            raster.rgb[(y * 192 + x) * 3..][..3].copy_from_slice(&[220, 30, 30]);
        }
    }
    place.write("new/large.png", raster.to_png());
    place.write("new/small.png", png(1));
    let csv = place.jishi("predict boxes --input new --score 0.1 --draw drawn").ok().stdout;
    let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines[0].join(","), "image,class,score,left,top,right,bottom");
    let large =
        lines.iter().find(|l| l[0] == "large.png" && l[1] == "red").unwrap_or_else(|| panic!("{csv}"));
    for (found, expected) in large[3..].iter().zip([100.0, 40.0, 140.0, 88.0]) {
        assert!((found.parse::<f64>().unwrap() - expected).abs() < 16.0, "{csv}");
    }
    assert!(place.read("drawn/large.png").starts_with(b"\x89PNG") && place.exists("drawn/small.png"));
    let fewer = place.json("predict boxes --input new/small.png --score 0.9999");
    assert_eq!(fewer["predictions"].as_array().unwrap().len(), 0);
    let said = place.jishi("predict boxes --input new --score 3").refused().stderr;
    assert!(said.contains("0 to 1"), "{said}");
    goes_out(&place, "boxes");
}

#[test]
fn a_server_finds_what_the_command_line_finds() {
    let place = Place::new();
    scenes(&place, 60);
    place.write("boxes.toml", long("boxes"));
    place.jishi("train boxes.toml").ok();
    // Also one of another size: its boxes are in its own pixels.
    let large: Vec<u8> = (0..3 * 128 * 192).map(|i| if i / 3 % 192 > 120 { 220 } else { 60 }).collect();
    place.write("new/0.png", Raster::new(128, 192, 3, &large).to_png());
    for i in 1..9 {
        place.write(&format!("new/{i}.png"), png(i));
    }
    let all = place.json("predict boxes --input new")["predictions"].clone();
    let expected: Vec<Vec<Value>> = (0..9)
        .map(|i| {
            let rows = all.as_array().unwrap().iter().filter(|row| row["image"] == format!("{i}.png"));
            let mut rows: Vec<Value> = rows.cloned().collect();
            rows.iter_mut().for_each(|row| drop(row.as_object_mut().unwrap().shift_remove("image")));
            rows
        })
        .collect();
    assert!(expected.iter().any(|rows| !rows.is_empty()), "{all}");
    let server = Served::start(&place, "boxes");
    let image = |i: usize| base64(&place.read(&format!("new/{i}.png")));
    let path = "/v1/models/boxes/predict";
    let images: Vec<String> = (0..9).map(image).collect();
    let found = server.post(path, &json!({ "inputs": images })).ok();
    for (i, rows) in expected.iter().enumerate() {
        assert_eq!(found["predictions"][i], json!({ "objects": rows }), "{i}");
        // Whatever stands beside an image.
        let one = server.ask("POST", path, "image/png", &place.read(&format!("new/{i}.png"))).ok();
        assert_eq!(one["predictions"], json!([{ "objects": rows }]), "{i}");
    }
}

#[test]
fn an_ssd_learns_the_same_boxes() {
    let place = Place::new();
    scenes(&place, 60);
    place.write("boxes.toml", recipe("ssd", SSD, 40));
    let report = place.json("train boxes.toml");
    assert!(report["metrics"]["test"]["map_50"].as_f64().unwrap() >= 0.8, "{report}");
    let again = place.json("evaluate ssd --split test");
    assert_eq!(again["metrics"]["test"], report["metrics"]["test"]);
    goes_out(&place, "ssd");
    let vgg = "--set name=vgg --set model.backbone=vgg --set model.width=4";
    place.jishi(&format!("train boxes.toml --set train.epochs=1 {vgg}")).ok();
    place.jishi("export vgg --format onnx --out vgg-onnx/model.onnx").ok();
}

#[test]
fn labels_that_are_wrong_are_refused_in_every_format() {
    let place = Place::new();
    scenes(&place, 10);
    place.write("boxes.toml", recipe("boxes", YOLO, 1));
    place.write("yolo/003.txt", "0 0.5 0.5 0.2\n");
    place.write("yolo/004.txt", "<annotation/>");
    place.write("voc/Annotations/003.xml", "{\"images\": []}");
    place.write(
        "coco/boxes.json",
        place.text("coco/boxes.json").replace("\"image_id\":3,", "\"image_id\":333,"),
    );
    let before = place.files();
    for (source, words) in [
        ("yolo", vec!["003.txt", "five numbers", "004.txt", "Pascal VOC XML"]),
        ("voc", vec!["003.xml", "COCO JSON"]),
        ("coco", vec!["image 333", "`images`"]),
        ("new", vec!["no such file"]),
    ] {
        let said = place.jishi(&format!("train boxes.toml --set data.source={source}")).refused().stderr;
        assert!(words.iter().all(|word| said.contains(word)), "{source}: {said}");
    }
    assert_eq!(place.files(), before);
    for (set, words) in [
        ("image.size=70", "multiples of 32"),
        ("image.mixup=0.2", "image.mixup"),
        ("model.nms=0", "model.nms"),
        ("model.family=resnet", "can't be trained for detection"),
        ("data.split.by=stratified", "stratified"),
    ] {
        let set = format!("train boxes.toml --set data.bad_rows=drop --set data.max_dropped=1 --set {set}");
        let set = if set.contains("resnet") { set + " --set model.width=8" } else { set };
        let said = place.jishi(&set).refused().stderr;
        assert!(said.contains(words), "{words}: {said}");
    }
    // Told to leave out what is wrong, it trains on the rest.
    let report = place
        .json("train boxes.toml --set data.source=yolo --set data.bad_rows=drop --set data.max_dropped=0.5");
    assert_eq!((&report["rows"]["read"], &report["rows"]["dropped"]), (&10.into(), &2.into()));
}
