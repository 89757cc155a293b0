//! ONNX files: what `tract` computes with them is what `jishi` predicts, for other batches and lengths than those that
//! the export was checked with.

use jishi_data::text::tokenizer::Tokenizer;
use jishi_hub::onnx::{Input, Numbers, Output, run};
use jishi_recipe::TokenizerKind;
use serde_json::Value;

use crate::place::Place;
use crate::texts::{RECIPE, messages};
use crate::transfer::Model;

fn tokens(place: &Place, text: &str) -> Vec<i64> {
    let tokenizer = Tokenizer::from_bytes(&place.read("onnx/tokenizer.json"), None).unwrap();
    tokenizer.encode(text).unwrap().into_iter().map(i64::from).collect()
}

/// Computes with `onnx/model.onnx`. Inputs: name and rows.
fn outputs(place: &Place, inputs: &[(&str, Vec<Vec<i64>>)]) -> Output {
    let input = |(name, rows): &(&str, Vec<Vec<i64>>)| Input {
        name: (*name).into(),
        shape: vec![rows.len(), rows[0].len()],
        values: Numbers::I64(rows.concat()),
    };
    let inputs: Vec<Input> = inputs.iter().map(input).collect();
    let mut outputs = run(&place.path("onnx/model.onnx"), &inputs).unwrap();
    assert_eq!(outputs.len(), 1);
    outputs.remove(0)
}

fn softmax(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().fold(f32::MIN, |most, x| most.max(*x));
    let exps: Vec<f64> = logits.iter().map(|x| f64::from(x - most).exp()).collect();
    let sum: f64 = exps.iter().sum();
    exps.into_iter().map(|x| x / sum).collect()
}

#[test]
fn logits_are_those_that_the_model_writes_by() {
    for model in [Model::llama(), Model::gpt2(TokenizerKind::Bpe)] {
        let place = Place::new();
        model.write(&place.path("model"));
        place.jishi("import model --out package").ok();
        let said = place.json("export package --format onnx --out onnx/model.onnx");
        assert_eq!(said["path"], "onnx/model.onnx");
        for file in ["config.json", "tokenizer_config.json", "generation_config.json"] {
            assert!(serde_json::from_str::<Value>(&place.text(&format!("onnx/{file}"))).unwrap().is_object());
        }
        let prompt = "the quick lazy dog";
        let answer =
            place.json("generate model --max-tokens 1 --temperature 0 --log-probabilities 300 --prompt lazy");
        let own = tokens(&place, "lazy");
        let mut other = tokens(&place, prompt);
        other.truncate(own.len());
        other.resize(own.len(), 3);
        let Output { name, shape, values } = outputs(&place, &[("input_ids", vec![other, own.clone()])]);
        assert_eq!((name.as_str(), &shape[..2]), ("logits", [2, own.len()].as_slice()));
        // Of the second row's last place.
        let found = softmax(&values[values.len() - shape[2]..]);
        let top = answer["log_probabilities"][0]["top"].as_array().unwrap();
        assert!(top.len() > 200);
        for step in top {
            let (token, expected) =
                (step["token"].as_u64().unwrap(), step["log_probability"].as_f64().unwrap());
            assert!(
                (found[token as usize].ln() - expected).abs() < 1e-4,
                "{step} {}",
                found[token as usize].ln()
            );
        }
    }
}

/// A short recipe on [`messages`] for another task.
fn recipe(task: &str, target: bool) -> String {
    let recipe = RECIPE.replace("text-classification", task).replace("epochs = 40", "epochs = 1");
    let recipe = recipe.replace(", by = \"stratified\"", "");
    if target { recipe } else { recipe.replace("target = \"label\"\n", "") }
}

#[test]
fn encoders_give_what_they_predict() {
    for (task, target) in [("text-classification", true), ("text-embedding", true), ("masked-lm", false)] {
        let place = Place::new();
        place.write("messages.csv", messages(0..60));
        place.write("recipe.toml", recipe(task, target));
        place.jishi("train recipe.toml").ok();
        place.jishi("export messages --format onnx --out onnx/model.onnx").ok();
        let texts = ["the goal was left at home", "the guitar"];
        place.write("new.csv", format!("text\n{}\n", texts.join("\n")));
        let own = |text: &str| [vec![2], tokens(&place, text), vec![3]].concat();
        let special = Tokenizer::from_bytes(
            &place.read("onnx/tokenizer.json"),
            Some(&place.read("onnx/tokenizer_config.json")),
        );
        let special = special.unwrap().special;
        assert_eq!((special.cls, special.sep), (Some(2), Some(3)));
        let mut rows: Vec<Vec<i64>> = texts.iter().map(|text| own(text)).collect();
        let time = rows.iter().map(Vec::len).max().unwrap() + 2;
        let mask: Vec<Vec<i64>> =
            rows.iter().map(|row| (0..time).map(|i| (i < row.len()).into()).collect()).collect();
        // What padding is has no effect.
        rows.iter_mut().for_each(|row| row.resize(time, 7));
        let types = vec![vec![0; time]; 2];
        let inputs = [("input_ids", rows), ("attention_mask", mask), ("token_type_ids", types)];
        let Output { name, shape, values } = outputs(&place, &inputs);
        assert_eq!(name, if task == "text-embedding" { "sentence_embedding" } else { "logits" });
        if task == "masked-lm" {
            assert_eq!(shape[..2], [2, time]);
            continue;
        }
        place.jishi("predict messages --input new.csv --output new.jsonl").ok();
        for (line, found) in place.text("new.jsonl").lines().zip(values.chunks_exact(shape[1])) {
            let said: Value = serde_json::from_str(line).unwrap();
            let expected: Vec<f64> = match task {
                "text-embedding" => {
                    said["embedding"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
                }
                _ => ["music", "office", "sport"]
                    .map(|c| said[format!("probability_{c}")].as_f64().unwrap())
                    .to_vec(),
            };
            let found: Vec<f64> = match task {
                "text-embedding" => found.iter().map(|x| f64::from(*x)).collect(),
                _ => softmax(found),
            };
            assert_eq!(found.len(), expected.len());
            assert!(found.iter().zip(&expected).all(|(f, e)| (f - e).abs() < 1e-5), "{found:?} {expected:?}");
        }
    }
}

fn flats() -> String {
    let mut csv = "size,rooms,city,garden,price,class\n".to_owned();
    for i in 0..80 {
        let (size, rooms, city) =
            (30.0 + ((i * 37) % 90) as f64, i % 5 + 1, ["Bern", "Basel", "Genf"][i % 3]);
        let price = 3000.0 * size + 9000.0 * rooms as f64 + if city == "Bern" { 4e4 } else { 0.0 };
        let class = if price < 2.5e5 { "cheap" } else { "dear" };
        csv += &format!("{size},{rooms},{city},{},{price},{class}\n", i % 2 == 0);
    }
    csv
}

/// Trains on flats and exports.
fn flat(model: &str, target: &str) -> Place {
    let place = Place::new();
    place.write("flats.csv", flats());
    let task = if target == "price" { "regression" } else { "classification" };
    let recipe = format!(
        r#"name = "flats"
task = "{task}"

[data]
source = "flats.csv"
target = "{target}"
features = ["size", "rooms", "city", "garden"]
split = {{ validation = 0.2, test = 0.2, seed = 1 }}
scale = {{ number = "none", target = "standard" }}
[model]
{model}
[train]
optimizer = {{ name = "adam", learning_rate = 1e-2 }}
epochs = 2
batch = 16
"#
    );
    place.write("flats.toml", recipe);
    place.jishi("train flats.toml").ok();
    place.jishi("export flats --format onnx --out flats.onnx").ok();
    place
}

#[test]
fn models_of_tables_give_what_they_predict() {
    let mlp = |more: &str| format!("family = \"mlp\"\nhidden = [8, 8]\n{more}");
    for (model, target) in [
        ("family = \"linear\"".to_owned(), "price"),
        ("family = \"linear\"".to_owned(), "class"),
        (
            mlp("members = 3\nnorm = \"batch\"\nresidual = true\nactivation = \"mish\"\n\
                 numbers = { embedding = \"piecewise-linear\", width = 3, bins = 4 }\n\
                 categories = { encoding = \"embedding\", width = 2 }"),
            "price",
        ),
        (
            mlp("norm = \"layer\"\nnumbers = { embedding = \"piecewise-linear\", width = 0, bins = 4 }"),
            "class",
        ),
        (mlp("numbers = { embedding = \"periodic\", width = 3, frequencies = 4 }"), "price"),
        ("family = \"ft-transformer\"\nwidth = 8\nheads = 2\nlayers = 2".to_owned(), "class"),
    ] {
        let place = flat(&model, target);
        place.write("new.csv", "size,rooms,city,garden\n55,2,Bern,true\n97.5,4,Ulm,false\n70,1,Genf,true\n");
        place.jishi("predict flats --input new.csv --output new.jsonl").ok();
        // Without scaling, numbers are those of the file.
        let numbers = Input {
            name: "numbers".into(),
            shape: vec![3, 2],
            values: Numbers::F32(vec![55.0, 2.0, 97.5, 4.0, 70.0, 1.0]),
        };
        let code = |column: usize, value: &str| {
            let package: Value = serde_json::from_str(&place.text("runs/flats/model/model.json")).unwrap();
            let values = package["preprocessing"]["features"][column]["encoding"]["values"].clone();
            let values: Vec<String> = serde_json::from_value(values).unwrap();
            values.iter().position(|v| v == value).map_or(0, |place| place as i64 + 1)
        };
        let rows = [("Bern", "true"), ("Ulm", "false"), ("Genf", "true")];
        let codes: Vec<i64> =
            rows.iter().flat_map(|(city, garden)| [code(2, city), code(3, garden)]).collect();
        assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1);
        let categories = Input { name: "categories".into(), shape: vec![3, 2], values: Numbers::I64(codes) };
        let found = run(&place.path("flats.onnx"), &[numbers, categories]).unwrap().remove(0);
        let columns: &[&str] =
            if target == "price" { &["prediction"] } else { &["probability_cheap", "probability_dear"] };
        assert_eq!(found.name, if target == "price" { "prediction" } else { "probabilities" });
        assert_eq!(found.shape, [3, columns.len()]);
        for (line, found) in place.text("new.jsonl").lines().zip(found.values.chunks_exact(columns.len())) {
            let said: Value = serde_json::from_str(line).unwrap();
            for (column, found) in columns.iter().zip(found) {
                let expected = said[column].as_f64().unwrap();
                assert!(
                    (f64::from(*found) - expected).abs() <= 1e-5 * expected.abs().max(1.0),
                    "{model}: {found} {said}"
                );
            }
        }
    }
}

const TRANSLATION: &str = r#"name = "translate"
task = "translation"

[data]
source = "messages.csv"
target = "label"

[tokenizer]
kind = "char"

[model]
family = "encoder-decoder"
layers = 1
heads = 2
width = 16
context = 32

[train]
steps = 1
batch = 4
"#;

#[test]
fn exports_that_can_not_be_are_refused() {
    let place = Place::new();
    place.write("messages.csv", messages(0..30));
    place.write("translate.toml", TRANSLATION);
    place.jishi("train translate.toml").ok();
    Model::gpt2(TokenizerKind::Bpe).write(&place.path("model"));
    place.jishi("import model --out package").ok();
    place.write("there/config.json", "{}");
    place.refuses(
        "export translate --format onnx --out x.onnx",
        "a model of translation can't be written as ONNX",
    );
    place.refuses("export translate --format onnx --out x.onnx", "`--format safetensors`");
    place.refuses("export package --format onnx --weights bf16 --out x.onnx", "ONNX files get f32 weights");
    place.refuses("export package --format onnx --out model", "not overwritten");
    place.refuses("export package --format onnx --out there/model.onnx", "config.json");
    place.refuses("export none --format onnx --out x.onnx", "none");
}
