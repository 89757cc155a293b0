//! Tasks on text, from a file of one's own to predictions and answers.

use crate::place::Place;

/// Messages with a label that a word decides.
pub fn messages(rows: std::ops::Range<usize>) -> String {
    let mut csv = "text,label\n".to_owned();
    for i in rows {
        let (word, label) = [("invoice", "office"), ("goal", "sport"), ("guitar", "music")][i % 3];
        let place = ["home", "town", "school", "work"][i / 3 % 4];
        csv += &format!("the {word} was left at {place},{label}\n");
    }
    csv
}

/// Sorts them.
pub const RECIPE: &str = r#"name = "messages"
task = "text-classification"

[data]
source = "messages.csv"
target = "label"
split = { validation = 0.1, test = 0.2, by = "stratified" }

[tokenizer]
kind = "wordpiece"
vocabulary = 300

[model]
family = "bert"
layers = 1
heads = 2
width = 32
context = 16

[train]
optimizer = { name = "adamw", learning_rate = 5e-3 }
epochs = 40
batch = 16

[evaluate]
bootstrap = 20
"#;

#[test]
fn labels_from_a_file_to_predictions() {
    let place = Place::new();
    place.write("messages.csv", messages(0..120));
    place.write("messages.toml", RECIPE);
    assert_eq!(place.json("check messages.toml")["ledger"]["rows_read"], 120);
    assert_eq!(place.json("verify-resume messages.toml --steps 12")["ok"], true);
    let report = place.json("train messages.toml");
    assert!(report["metrics"]["test"]["accuracy"].as_f64().unwrap() >= 0.95, "{report}");
    for split in ["validation", "test"] {
        let again = place.json(&format!("evaluate messages --split {split}"));
        assert_eq!(again["metrics"][split], report["metrics"][split]);
        assert_eq!(again["intervals"][split], report["intervals"][split]);
    }
    assert!(place.exists("runs/messages/plots/confusion-matrix.png"));

    place.write("new.jsonl", "{\"text\": \"the goal was left at home\", \"id\": 7}\n");
    let csv = place.jishi("predict messages --input new.jsonl").ok().stdout;
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0], "prediction,probability_music,probability_office,probability_sport");
    assert!(lines.len() == 2 && lines[1].starts_with("sport,"), "{csv}");
    let said = place.json("predict messages --input new.jsonl --output p.parquet");
    assert_eq!((said["rows"].as_u64(), place.exists("p.parquet")), (Some(1), true));

    place.write("wrong.csv", "txet\nthe goal was left at home\n");
    let wrong = place.jishi("predict messages --input wrong.csv").refused().stderr;
    assert!(wrong.contains("there is no column `text`") && wrong.contains("did you mean `txet`"), "{wrong}");
    place.write("empty.csv", "text,n\nthe goal was left,1\n,2\n");
    let empty = place.jishi("predict messages --input empty.csv").refused().stderr;
    assert!(empty.contains("this row has no text") && empty.contains("empty.csv:3"), "{empty}");
}

const BEFORE: &str = r#"name = "before"
task = "causal-lm"

[data]
source = "talk.jsonl"
split = { validation = 0.0, test = 0.0 }

[tokenizer]
kind = "char"

[model]
family = "gpt2"
layers = 1
heads = 2
width = 32
context = 32

[train]
optimizer = { name = "adamw", learning_rate = 5e-3 }
steps = 200
batch = 8
"#;

const PREFERENCES: &str = r#"name = "polite"
task = "dpo"

[data]
source = "pairs.jsonl"
split = { validation = 0.2, test = 0.2 }

[text]
prompt = "prompt"
column = "chosen"
rejected = "rejected"

[model]
from = "runs/before"

[train]
optimizer = { name = "adamw", learning_rate = 3e-4 }
epochs = 6
batch = 8

[generate]
temperature = 0.0

[evaluate]
bootstrap = 20
"#;

#[test]
fn preferences_from_a_file_to_answers() {
    let place = Place::new();
    let (mut talk, mut pairs) = (String::new(), String::new());
    for i in 0..60 {
        let ask = format!("{} {i}:", ["send", "open", "call"][i % 3]);
        let answer = if i / 3 % 2 == 0 { "gladly" } else { "never" };
        talk += &format!("{{\"text\": \"{ask} {answer}\"}}\n");
        pairs += &format!("{{\"prompt\": \"{ask}\", \"chosen\": \" gladly\", \"rejected\": \" never\"}}\n");
    }
    place.write("talk.jsonl", talk);
    place.write("pairs.jsonl", pairs);
    place.write("before.toml", BEFORE);
    place.write("polite.toml", PREFERENCES);
    place.json("train before.toml");
    assert_eq!(place.json("check polite.toml")["ledger"]["rows_read"], 60);
    let report = place.json("train polite.toml");
    assert!(report["metrics"]["test"]["accuracy"].as_f64().unwrap() > 0.9, "{report}");
    let again = place.json("evaluate polite --split test");
    assert_eq!(again["metrics"]["test"], report["metrics"]["test"]);
    assert_eq!(again["intervals"]["test"], report["intervals"]["test"]);
    let ask = |model: &str| {
        place.run(&["generate", model, "--prompt", "call 7:", "--max-tokens", "12"]).ok().stdout
    };
    let answer = ask("polite");
    assert!(answer.contains("gladly"), "{answer}");
    // What others read writes the same: the export is read back and compared before it is there.
    place.jishi("export polite --format safetensors --out polite-hf").ok();
    let other = ask("./polite-hf");
    assert!(other.contains("gladly"), "{other}");
    let refused = place.jishi("predict polite --input pairs.jsonl").refused().stderr;
    assert!(refused.contains("continues texts") && refused.contains("jishi generate"), "{refused}");
    let refused = place.jishi("train polite.toml --set train.loss.beta=0").refused().stderr;
    assert!(refused.contains("`train.loss.beta`: expected a number above 0"), "{refused}");
}
