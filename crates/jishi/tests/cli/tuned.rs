//! Models of text that begin with others: pre-trained and fine-tuned, exported and imported, and translated with.

use crate::place::Place;

/// Messages with a label that a word decides.
fn messages(rows: usize) -> String {
    let mut csv = "text,label\n".to_owned();
    for i in 0..rows {
        let (word, label) = [("invoice", "office"), ("goal", "sport"), ("guitar", "music")][i % 3];
        let place = ["home", "town", "school", "work"][i / 3 % 4];
        csv += &format!("the {word} was left at {place},{label}\n");
    }
    csv
}

fn recipe(name: &str, task: &str, data: &str, model: &str, train: &str) -> String {
    format!(
        r#"name = "{name}"
task = "{task}"
[data]
{data}
{model}
[train]
optimizer = {{ name = "adamw", learning_rate = 3e-3 }}
batch = 16
{train}
"#
    )
}

/// What a model writes for a prompt.
fn written(place: &Place, model: &str, prompt: &str, more: &[&str]) -> String {
    let args = [&["generate", model, "--prompt", prompt, "--json"], more].concat();
    place.run(&args).ok().json()["text"].as_str().unwrap().to_owned()
}

const MESSAGES: &str = "source = \"messages.csv\"\nsplit = { validation = 0.1, test = 0.2 }";
const LABELLED: &str =
    "source = \"messages.csv\"\ntarget = \"label\"\nsplit = { validation = 0.1, test = 0.2 }";
const BERT: &str = r#"[tokenizer]
kind = "wordpiece"
vocabulary = 300
[model]
family = "bert"
layers = 2
heads = 2
width = 32
context = 16"#;

#[test]
fn an_encoder_is_pretrained_tuned_exported_and_imported() {
    let place = Place::new();
    place.write("messages.csv", messages(240));
    place.write("hidden.toml", recipe("hidden", "masked-lm", MESSAGES, BERT, "epochs = 20"));
    place.json("train hidden.toml");

    let ways = [
        ("whole", "layer_decay = 0.8"),
        ("last", "train = \"last\"\nlast_layers = 1"),
        ("lora", "lora = { rank = 4, alpha = 8.0, base = \"int8\" }"),
    ];
    for (name, way) in ways {
        let model = format!("[model]\nfrom = \"runs/hidden\"\n{way}");
        let file = format!("{name}.toml");
        place.write(&file, recipe(name, "text-classification", LABELLED, &model, "epochs = 40"));
        let report = place.json(&format!("train {file}"));
        assert!(report["metrics"]["test"]["accuracy"].as_f64().unwrap() >= 0.9, "{name}: {report}");
        assert_eq!(place.json(&format!("verify-resume {file} --steps 9"))["ok"], true, "{name}");
        let again = place.json(&format!("evaluate {name}"));
        assert_eq!(again["metrics"]["test"], report["metrics"]["test"], "{name}");

        place.json(&format!("export {name} --format safetensors --out {name}-hf"));
        let imported = place.json(&format!("import {name}-hf --out {name}-again"));
        assert_eq!(imported["task"], "text-classification");
        place.write("new.csv", "text\nthe guitar was left at school\n");
        let predict = |model: &str| place.jishi(&format!("predict {model} --input new.csv")).ok().stdout;
        assert_eq!(predict(name), predict(&format!("{name}-again")));
        assert!(predict(name).contains("\nmusic,"), "{}", predict(name));
    }
}

#[test]
fn a_decoder_is_tuned_on_answers() {
    let place = Place::new();
    let mut rows = String::new();
    for i in 0..240 {
        let (a, b) = (i % 9, i / 9 % 9);
        rows += &format!("{{\"prompt\": \"{a} then {b} is \", \"text\": \"{a}{b}.\"}}\n");
    }
    place.write("answers.jsonl", rows);
    let small = "[tokenizer]\nkind = \"char\"\n[model]\nfamily = \"llama\"\nlayers = 2\nheads = 2\nwidth = 32\ncontext = 32";
    let data = "source = \"answers.jsonl\"\nsplit = { validation = 0.1, test = 0.1 }\n[text]\nprompt = \"prompt\"\npack = false";
    place.write("first.toml", recipe("first", "causal-lm", data, small, "epochs = 8"));
    place.json("train first.toml");
    let lora = "[model]\nfrom = \"runs/first\"\nlora = { rank = 4, alpha = 8.0 }";
    place.write("more.toml", recipe("more", "causal-lm", data, lora, "epochs = 25"));
    let report = place.json("train more.toml");
    let before = place.json("evaluate first")["metrics"]["test"]["loss"].as_f64().unwrap();
    let after = report["metrics"]["test"]["loss"].as_f64().unwrap();
    assert!(after < before, "{after} {before}");
    assert_eq!(place.json("verify-resume more.toml --steps 9")["ok"], true);
    // Of additions and what they were added to, one model is packed.
    let text =
        |model: &str| written(&place, model, "3 then 5 is ", &["--temperature", "0", "--max-tokens", "4"]);
    place.json("export more --format safetensors --out more-hf");
    place.json("import more-hf --out more-again");
    assert_eq!(text("more"), text("more-again"));
    assert!(text("more").starts_with("35."), "{}", text("more"));
}

#[test]
fn texts_are_translated() {
    let place = Place::new();
    let words = [("one", "uno"), ("two", "due"), ("three", "tre"), ("four", "quattro"), ("five", "cinque")];
    let mut csv = "en,it\n".to_owned();
    for i in 0..400 {
        let [a, b, c] = [i % 5, i / 5 % 5, i / 25 % 5].map(|i| words[i]);
        csv += &format!("{} {} {},{} {} {}\n", a.0, b.0, c.0, a.1, b.1, c.1);
    }
    csv += "one two,\n";
    place.write("numbers.csv", csv);
    let data = "source = \"numbers.csv\"\ntarget = \"it\"\nmax_dropped = 0.05\nsplit = { validation = 0.05, test = 0.1 }\n[text]\ncolumn = \"en\"";
    let model = "[tokenizer]\nkind = \"wordpiece\"\nvocabulary = 300\n[model]\nfamily = \"encoder-decoder\"\nlayers = 1\nheads = 2\nwidth = 48\ncontext = 16";
    place.write("numbers.toml", recipe("numbers", "translation", data, model, "epochs = 40"));
    let checked = place.json("check numbers.toml");
    assert_eq!(checked["ledger"]["dropped"], 1, "{checked}");
    assert_eq!(place.json("verify-resume numbers.toml --steps 9")["ok"], true);
    let report = place.json("train numbers.toml");
    assert!(report["metrics"]["test"]["chrf"].as_f64().unwrap() > 90.0, "{report}");
    assert_eq!(place.json("evaluate numbers")["metrics"]["test"], report["metrics"]["test"]);

    place.write("new.txt", "two five one\n\nfour four three\n");
    let csv = place.jishi("predict numbers --input new.txt").ok().stdout;
    assert_eq!(csv, "prediction\ndue cinque uno\n\nquattro quattro tre\n");
    for more in [&[][..], &["--beams", "3"]] {
        assert_eq!(written(&place, "numbers", "five two two", more), "cinque due due");
    }
    let refused = place.jishi("generate numbers --prompt one --temperature 0.8").refused().stderr;
    assert!(refused.contains("most likely"), "{refused}");
    place.json("export numbers --format safetensors --out numbers-hf");
    assert_eq!(place.json("import numbers-hf --out again")["task"], "translation");
    assert_eq!(written(&place, "again", "five two two", &[]), "cinque due due");
}
