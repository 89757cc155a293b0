//! From a file of one's own to predictions, for both tasks.

use serde_json::Value;

use crate::place::{HOUSES, Place, houses, trained};

/// `houses` with a column of three classes in place of the price.
fn classes(rows: std::ops::Range<usize>) -> String {
    let csv = houses(rows);
    let mut lines = csv.lines();
    let mut out = lines.next().unwrap().replace("price", "band") + "\n";
    for line in lines {
        let (features, price) = line.rsplit_once(',').unwrap();
        let band = match price.parse::<u64>().unwrap() {
            0..180_000 => "cheap",
            180_000..260_000 => "fair",
            _ => "dear",
        };
        out += &format!("{features},{band}\n");
    }
    out
}

fn number(value: &Value, pointer: &str) -> f64 {
    value.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer} in {value}"))
}

fn columns(text: &str) -> Vec<Vec<String>> {
    text.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

/// Reads what `predict` wrote, through the reader of Jishi's own tables.
fn parquet_numbers(place: &Place, name: &str, column: &str) -> Vec<f64> {
    let source = [jishi_data::Source::File(place.path(name))];
    let table = jishi_data::read(&source, &jishi_data::ReadOptions::default()).unwrap();
    let column = table.column_index(column).unwrap();
    (0..table.chunks()).flat_map(|i| table.chunk(i).numbers(column).values().to_vec()).collect()
}

/// `recipe new` → `check` → `train` with nothing edited but the length of training.
fn from_file(data: &str, target: &str) -> (Place, Value) {
    let place = Place::new();
    place.write("mine.csv", data);
    place.jishi(&format!("recipe new --data mine.csv --target {target} --output mine.toml")).ok();
    // It never writes over a file.
    place.jishi(&format!("recipe new --data mine.csv --target {target} --output mine.toml")).refused();
    let check = place.json("check mine.toml");
    assert_eq!(number(&check, "/ledger/rows_read"), 120.0, "{check}");
    assert_eq!(place.files(), ["mine.csv", "mine.toml"], "check writes nothing");
    let text = place.jishi("check mine.toml").ok().stdout;
    assert!(text.contains("no problem found"), "{text}");
    let report = place.json("train mine.toml --set train.epochs=30 --set evaluate.bootstrap=50");
    (place, report)
}

#[test]
fn regression_from_a_file_to_predictions() {
    let (place, report) = from_file(&houses(0..120), "price");
    assert_eq!(report["run"], "mine");
    assert_eq!(report["task"], "regression");
    for name in ["manifest.json", "recipe.toml", "ledger.jsonl", "metrics.jsonl", "curves.svg", "curves.png"]
    {
        assert!(!place.read(&format!("runs/mine/{name}")).is_empty());
    }
    for name in ["README.md", "evaluation.json", "model/model.json", "model/model.safetensors"] {
        assert!(!place.read(&format!("runs/mine/{name}")).is_empty());
    }
    assert!(place.files().iter().any(|f| f.starts_with("runs/mine/plots/") && f.ends_with(".svg")));
    assert!(place.files().iter().any(|f| f.starts_with("runs/mine/tensorboard/")));
    assert!(!place.files().iter().any(|f| f.contains(".tmp")), "{:?}", place.files());

    // What train said is what evaluate says, split by split, to the last digit.
    for split in ["validation", "test"] {
        let again = place.json(&format!("evaluate mine --split {split}"));
        assert_eq!(again["metrics"][split], report["metrics"][split]);
        assert_eq!(again["intervals"][split], report["intervals"][split]);
    }
    // The model has learned something, and says so.
    assert!(number(&report, "/metrics/test/r2") > 0.5, "{report}");

    // Ten new rows, one of a quarter that training never saw, and no target.
    let new: String =
        houses(200..210).lines().map(|l| format!("{}\n", l.rsplit_once(',').unwrap().0)).collect();
    let new = new.replacen("south", "harbour", 1);
    assert!(new.contains("harbour"));
    place.write("new.csv", &new);
    let csv = place.jishi("predict mine --input new.csv").ok().stdout;
    let rows = columns(&csv);
    assert_eq!((rows.len(), rows[0].as_slice()), (11, ["prediction".to_owned()].as_slice()));
    let values: Vec<f64> = rows[1..].iter().map(|r| r[0].parse().unwrap()).collect();
    assert!(values.iter().all(|v| v.is_finite() && (0.0..1e6).contains(v)), "{values:?}");

    for name in ["p.csv", "p.jsonl", "p.parquet"] {
        let said = place.json(&format!("predict mine --input new.csv --output {name}"));
        assert_eq!((said["rows"].as_u64(), said["output"].as_str()), (Some(10), Some(name)));
    }
    assert_eq!(place.text("p.csv"), csv);
    let jsonl: Vec<f64> = place
        .text("p.jsonl")
        .lines()
        .map(|l| number(&serde_json::from_str(l).unwrap(), "/prediction"))
        .collect();
    assert_eq!(jsonl, values);
    assert_eq!(parquet_numbers(&place, "p.parquet", "prediction"), values);
    let document = place.json("predict mine --input new.csv");
    let listed: Vec<f64> =
        document["predictions"].as_array().unwrap().iter().map(|p| number(p, "/prediction")).collect();
    assert_eq!(listed, values);

    // The package alone, elsewhere, predicts the same.
    let elsewhere = Place::new();
    for name in ["model/model.json", "model/model.safetensors"] {
        elsewhere.write(name, place.read(&format!("runs/mine/{name}")));
    }
    elsewhere.write("new.csv", &new);
    assert_eq!(elsewhere.jishi("predict model --input new.csv").ok().stdout, csv);

    // Evaluating a file: the mean error of its predictions.
    place.write("later.csv", houses(300..340));
    let report = place.json("evaluate mine --data later.csv");
    assert_eq!((report["rows"].as_u64(), report["data"].as_str()), (Some(40), Some("later.csv")));
    let predicted = columns(&place.jishi("predict mine --input later.csv").ok().stdout);
    let actual = columns(&houses(300..340));
    let errors = predicted[1..].iter().zip(&actual[1..]);
    let mae =
        errors.map(|(p, a)| (p[0].parse::<f64>().unwrap() - a[5].parse::<f64>().unwrap()).abs()).sum::<f64>();
    let told = number(&report, "/metrics/test/mae");
    assert!((mae / 40.0 - told).abs() < 1e-6 * told, "{mae} {told}");
}

#[test]
fn classification_gives_probabilities() {
    let (place, report) = from_file(&classes(0..120), "band");
    assert_eq!(report["task"], "classification");
    assert!(number(&report, "/metrics/test/accuracy") > 0.5, "{report}");
    let again = place.json("evaluate mine");
    assert_eq!(again["metrics"]["test"], report["metrics"]["test"]);

    let new = classes(200..230).replacen("south", "harbour", 1);
    place.write("new.csv", &new);
    let csv = place.jishi("predict mine --input new.csv").ok().stdout;
    let rows = columns(&csv);
    assert_eq!(rows[0], ["prediction", "probability_cheap", "probability_dear", "probability_fair"]);
    let mut predicted = std::collections::BTreeSet::new();
    for row in &rows[1..] {
        let values: Vec<f64> = row[1..].iter().map(|v| v.parse().unwrap()).collect();
        assert!((values.iter().sum::<f64>() - 1.0).abs() < 1e-6, "{row:?}");
        let largest = (0..3).max_by(|a, b| values[*a].total_cmp(&values[*b])).unwrap();
        assert_eq!(row[0], ["cheap", "dear", "fair"][largest]);
        predicted.insert(row[0].clone());
    }
    assert!(predicted.len() > 1, "{predicted:?}");

    place.jishi("predict mine --input new.csv --output p.jsonl").ok();
    place.jishi("predict mine --input new.csv --output p.parquet").ok();
    let dear: Vec<f64> = rows[1..].iter().map(|r| r[2].parse().unwrap()).collect();
    let lines: Vec<Value> = place.text("p.jsonl").lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.iter().map(|l| number(l, "/probability_dear")).collect::<Vec<_>>(), dear);
    assert_eq!(
        lines.iter().map(|l| l["prediction"].as_str().unwrap()).collect::<Vec<_>>(),
        rows[1..].iter().map(|r| r[0].as_str()).collect::<Vec<_>>()
    );
    assert_eq!(parquet_numbers(&place, "p.parquet", "probability_dear"), dear);
}

#[test]
fn other_formats_give_the_same_model() {
    let place = trained();
    let csv = houses(0..120);
    place.write("houses.tsv", csv.replace(',', "\t"));
    let header: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
    let jsonl: String = csv
        .lines()
        .skip(1)
        .map(|line| {
            let fields = header.iter().zip(line.split(',')).map(|(name, value)| match (*name, value) {
                (_, "") => format!("\"{name}\": null"),
                ("quarter" | "garden" | "built", value) => format!("\"{name}\": \"{value}\""),
                (_, value) => format!("\"{name}\": {value}"),
            });
            format!("{{{}}}\n", fields.collect::<Vec<_>>().join(", "))
        })
        .collect();
    place.write("houses.jsonl", jsonl);
    // Quoted, with spaces and long line ends, and in two files.
    let (first, second): (Vec<_>, Vec<_>) = csv.lines().skip(1).enumerate().partition(|(i, _)| *i < 50);
    for (name, part) in [("part-1.csv", first), ("part-2.csv", second)] {
        let mut text = csv.lines().next().unwrap().to_owned() + "\r\n";
        for (_, line) in part {
            let quoted: Vec<String> = line
                .split(',')
                .map(|f| if f.is_empty() { String::new() } else { format!("\"{f}\"") })
                .collect();
            text += &(quoted.join(",") + "\r\n");
        }
        place.write(name, text);
    }
    let weights = place.read("runs/houses/model/model.safetensors");
    for (i, source) in ["houses.tsv", "houses.jsonl", "part-*.csv"].iter().enumerate() {
        place.json(&format!("train houses.toml --set data.source={source}"));
        assert!(place.read(&format!("runs/houses-{}/model/model.safetensors", i + 2)) == weights, "{source}");
    }
}

#[test]
fn runs_are_listed_shown_compared_plotted_and_removed() {
    let place = trained();
    let second = place.json("train houses.toml --set train.optimizer.learning_rate=0.1 --seed 7");
    assert_eq!(second["run"], "houses-2");
    let list = place.json("runs list");
    let names: Vec<&str> =
        list["runs"].as_array().unwrap().iter().map(|r| r["run"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 2);
    assert!(names.contains(&"houses") && names.contains(&"houses-2"));
    assert!(list["runs"].as_array().unwrap().iter().all(|r| r["status"] == "finished"));
    assert!(place.jishi("runs").ok().stdout.contains("houses-2"));

    let shown = place.json("runs show houses-2");
    assert_eq!(shown["name"], "houses-2");
    assert_eq!(shown["recipe"]["train"]["seed"], 7);
    assert!(place.jishi("runs show houses-2").ok().stdout.contains("finished"));

    let comparison = place.json("runs compare houses houses-2").to_string();
    for key in ["learning_rate", "seed", "rmse"] {
        assert!(comparison.contains(key), "{key}: {comparison}");
    }
    assert!(!comparison.contains("\"model.family\""), "equal keys are left out: {comparison}");
    let text = place.jishi("runs compare houses houses-2").ok().stdout;
    assert!(text.contains("learning_rate") && text.contains("0.05") && text.contains("0.1"), "{text}");

    assert_eq!(place.json("plot houses houses-2 --output both.svg")["output"], "both.svg");
    place.jishi("plot houses houses-2 --output both.png").ok();
    let svg = place.text("both.svg");
    assert!(svg.starts_with("<svg") || svg.starts_with("<?xml"), "{}", &svg[..80]);
    assert!(svg.contains("houses-2") && svg.trim_end().ends_with("</svg>"));
    assert!(place.read("both.png").starts_with(b"\x89PNG\r\n\x1a\n"));

    let removed = place.json("runs remove houses-2");
    assert_eq!(removed["removed"], "runs/houses-2");
    assert!(!place.exists("runs/houses-2"));
    assert!(place.exists("runs/houses"));
    place.jishi("runs show houses-2").refused();
}

#[test]
fn folds_give_mean_and_spread() {
    let place = Place::new();
    place.write("houses.csv", houses(0..120));
    place.write("houses.toml", HOUSES);
    let report = place.json("train houses.toml --folds 3");
    let folds = report["folds"].as_array().unwrap();
    assert_eq!(folds.len(), 3);
    let values: Vec<f64> = folds.iter().map(|f| number(f, "/metrics/test/rmse")).collect();
    let mean = values.iter().sum::<f64>() / 3.0;
    assert!((number(&report, "/metrics/test/rmse") - mean).abs() < 1e-9 * mean);
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 2.0;
    assert!((number(&report, "/spread/test/rmse") - variance.sqrt()).abs() < 1e-6);
    // Every row is tested once.
    let tested: f64 = folds.iter().map(|f| number(f, "/rows/test")).sum();
    assert_eq!(tested, 120.0);
    for fold in 1..=3 {
        assert!(place.exists(&format!("runs/houses/folds/fold-{fold}/model/model.json")));
    }
    // A fold is a run: its own rows are those it is evaluated on.
    let again = place.json("evaluate runs/houses/folds/fold-2");
    assert_eq!(again["metrics"]["test"], folds[1]["metrics"]["test"]);
    // What has no model of its own says what to do.
    let refused = place.jishi("predict houses --input houses.csv").refused();
    assert!(refused.stderr.contains("each of its folds has one"), "{}", refused.stderr);
}

#[test]
fn the_same_recipe_gives_the_same_run() {
    let place = trained();
    place.jishi("train houses.toml").ok();
    for name in ["metrics.jsonl", "ledger.jsonl", "recipe.toml", "model/model.safetensors", "curves.svg"] {
        let (first, second) =
            (place.read(&format!("runs/houses/{name}")), place.read(&format!("runs/houses-2/{name}")));
        if name == "curves.svg" {
            let text = |b| String::from_utf8(b).unwrap().replace("houses-2", "houses");
            assert!(text(first) == text(second), "{name}");
        } else {
            assert!(first == second, "{name}");
        }
    }
}

#[test]
fn data_is_inspected() {
    let place = Place::new();
    place.write("houses.csv", houses(0..120));
    let text = place.jishi("data inspect houses.csv --target price").ok().stdout;
    for word in ["area", "quarter", "date", "120"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert_eq!(place.json("data inspect houses.csv")["rows"], 120);
    assert_eq!(place.json("data inspect builtin:ames --target Sale_Price")["rows"], 2930);
    place.jishi("data inspect houses.csv --target cost").refused();
    assert_eq!(place.files(), ["houses.csv"]);
}
