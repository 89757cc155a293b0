//! Tasks on text, from a file of one's own to predictions.

use crate::place::Place;

/// Messages with a label that a word decides.
fn messages(rows: std::ops::Range<usize>) -> String {
    let mut csv = "text,label\n".to_owned();
    for i in rows {
        let (word, label) = [("invoice", "office"), ("goal", "sport"), ("guitar", "music")][i % 3];
        let place = ["home", "town", "school", "work"][i / 3 % 4];
        csv += &format!("the {word} was left at {place},{label}\n");
    }
    csv
}

const RECIPE: &str = r#"name = "messages"
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
