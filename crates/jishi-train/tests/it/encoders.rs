//! Tasks on encoders: they learn, resume to the bit, and their packages do what the trained models do.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;
use jishi_recipe::{Origin, Parsed, parse};
use jishi_tasks::SplitName;
use jishi_train::job::evaluate::{on_file, on_split};
use jishi_train::job::language::TextPredictor;
use jishi_train::job::report::TrainReport;
use jishi_train::job::train::{TrainJob, train};
use jishi_train::job::verify::verify;
use jishi_train::{Silent, TrainError};

const NOUNS: [&str; 6] = ["film", "story", "actor", "music", "scene", "ending"];
const GOOD: [&str; 4] = ["lovely", "splendid", "brilliant", "charming"];
const BAD: [&str; 4] = ["dreadful", "boring", "clumsy", "hollow"];

/// Reviews that a word decides: CSV with `text`, `label` and `other`, a paraphrase.
fn reviews(rows: usize) -> String {
    let mut csv = "text,label,other\n".to_owned();
    for i in 0..rows {
        let (noun, good) = (NOUNS[i % 6], (i / 6) % 2 == 0);
        let word = if good { GOOD[i / 12 % 4] } else { BAD[i / 12 % 4] };
        let label = if good { "positive" } else { "negative" };
        csv += &format!("the {noun} is {word},{label},what a {word} {noun}\n");
    }
    csv
}

fn recipe(task: &str, data: &str, more: &str, train: &str) -> Parsed {
    let text = format!(
        r#"
        name = "texts"
        task = "{task}"
        [data]
        source = "reviews.csv"
        {data}
        split = {{ validation = 0.1, test = 0.2 }}
        [tokenizer]
        kind = "wordpiece"
        vocabulary = 300
        [model]
        family = "bert"
        layers = 1
        heads = 2
        width = 32
        context = 16
        dropout = 0.1
        [train]
        optimizer = {{ name = "adamw", learning_rate = 5e-3 }}
        batch = 16
        {train}
        [evaluate]
        bootstrap = 20
        {more}
        "#
    );
    parse(&text, &Origin::File("texts.toml".into()), &[]).unwrap_or_else(|p| panic!("{p}"))
}

fn device() -> Device {
    Device::flex().autodiff()
}

fn place(rows: usize) -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("reviews.csv"), reviews(rows)).unwrap();
    place
}

fn run(parsed: &Parsed, base: &Path) -> Result<TrainReport, TrainError> {
    let (stop, device) = (AtomicBool::new(false), device());
    let root = base.join("runs");
    let job = TrainJob { parsed, base, root: &root, run: None, resume: false, device: &device, stop: &stop };
    train(&job, &mut Silent)
}

/// Trains; what the run says of a split, its package says too.
fn trained(parsed: &Parsed, base: &Path) -> TrainReport {
    let report = run(parsed, base).unwrap_or_else(|e| panic!("{e}"));
    let folder = jishi_runs::run::RunDir::open(&base.join("runs"), &report.run).unwrap();
    let again = on_split(&folder, SplitName::Test, &device()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(again.metrics["test"], report.metrics["test"]);
    assert_eq!(again.intervals.get("test"), report.intervals.get("test"));
    report
}

/// Resume at several points, and batches in parts.
fn verified(parsed: &Parsed, base: &Path, parts: usize) {
    let report = verify(&parsed.recipe, base, 25, &device()).unwrap_or_else(|e| panic!("{e}"));
    assert!(report.interruptions.len() >= 4, "{report:?}");
    assert!(report.ok, "{report:#?}");
    assert_eq!(report.accumulation.len(), parts, "{report:?}");
}

fn classification(train: &str) -> Parsed {
    recipe("text-classification", "target = \"label\"", "", train)
}

#[test]
fn labels_are_learned_and_told() {
    let place = place(192);
    let parsed =
        classification("epochs = 15\nloss = { label_smoothing = 0.05, class_weights = \"balanced\" }");
    let report = trained(&parsed, place.path());
    assert!(report.metrics["test"]["accuracy"] >= 0.95, "{report:?}");
    assert!(report.intervals["test"]["accuracy"][0] > 0.5);
    let folder = place.path().join("runs").join(&report.run);
    assert!(folder.join("plots/confusion-matrix.svg").is_file());
    assert!(
        fs::read_to_string(folder.join("README.md"))
            .unwrap()
            .contains("the label of a text, one of negative, positive")
    );

    let input = place.path().join("new.txt");
    fs::write(&input, "the music is charming\nthe scene is hollow\n").unwrap();
    let predictor = TextPredictor::load(&folder.join("model"), &device()).unwrap();
    let (columns, rows) = predictor.predict(&input).unwrap();
    assert_eq!(rows, 2);
    let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["prediction", "probability_negative", "probability_positive"]);
    let jishi_data::write::Values::Words(words) = &columns[0].1 else { panic!("{columns:?}") };
    assert_eq!(words, &["positive", "negative"]);

    // A label that training never saw is named with its place; so is an empty row.
    let file = place.path().join("other.csv");
    fs::write(&file, "text,label\nthe film is boring,neutral\n").unwrap();
    let error = on_file(&folder.join("model"), &file, false, &device()).unwrap_err().to_string();
    assert!(error.contains("other.csv:2: label `neutral` is not known"), "{error}");
    fs::write(&file, "text,label\nthe film is boring,negative\n").unwrap();
    let report = on_file(&folder.join("model"), &file, false, &device()).unwrap();
    assert_eq!((report.rows, report.metrics["test"]["accuracy"]), (1, 1.0));
    fs::write(&input, "the music is charming\n\n \n").unwrap();
    let found = predictor.predict(&input).map(|(_, rows)| rows);
    assert!(found.as_ref().is_ok_and(|rows| *rows == 1) || found.is_err(), "blank lines are no rows");
}

#[test]
fn many_labels_are_learned() {
    let place = tempfile::tempdir().unwrap();
    let mut lines = String::new();
    for i in 0..180 {
        let (noun, word) = (NOUNS[i % 6], if i % 7 < 3 { GOOD[i % 4] } else { BAD[i % 4] });
        let praise = if i % 7 < 3 { "|praise" } else { "" };
        lines += &format!("the {noun} is {word},{noun}{praise},x\n");
    }
    fs::write(place.path().join("reviews.csv"), format!("text,label,other\n{lines}")).unwrap();
    let toml = jishi_recipe::to_toml(&classification("epochs = 250").recipe);
    let sets = [
        "model.dropout=0",
        "train.optimizer.learning_rate=1e-3",
        "train.schedule={ name = \"cosine\", warmup = 100 }",
    ];
    let parsed = parse(&toml, &Origin::File("texts.toml".into()), &sets.map(String::from))
        .unwrap_or_else(|p| panic!("{p}"));
    let report = trained(&parsed, place.path());
    assert!(report.metrics["test"]["f1_micro"] > 0.9, "{report:?}");
    assert!(!place.path().join("runs").join(&report.run).join("plots/confusion-matrix.svg").exists());
}

#[test]
fn classification_resumes_to_the_bit() {
    verified(&classification("epochs = 4"), place(192).path(), 2);
}

#[test]
fn hidden_tokens_are_learned() {
    let place = place(192);
    let parsed = recipe("masked-lm", "", "[text]\nwhole_words = true\npack = false", "epochs = 30");
    let report = trained(&parsed, place.path());
    // Nouns and judgements can be guessed alone: 1 of 6 and 1 of 8. `the` and `is` are sure.
    assert!(report.metrics["test"]["perplexity"] < 6.0, "{report:?}");
    let folder = place.path().join("runs").join(&report.run);
    let input = place.path().join("gaps.txt");
    fs::write(&input, "the film [MASK] boring\n[MASK] scene is [MASK]\n").unwrap();
    let predictor = TextPredictor::load(&folder.join("model"), &device()).unwrap();
    let (columns, rows) = predictor.predict(&input).unwrap();
    assert_eq!(rows, 2);
    let jishi_data::write::Values::Words(filled) = &columns[2].1 else { panic!("{columns:?}") };
    assert_eq!(filled[0], "the film is boring");
    assert_eq!((filled.len(), filled[1] == filled[2]), (3, true), "a row a gap");
    fs::write(&input, "no gap here\n").unwrap();
    let error = predictor.predict(&input).unwrap_err().to_string();
    assert!(error.contains("no `[MASK]`"), "{error}");
}

#[test]
fn masks_resume_to_the_bit_and_do_not_depend_on_parts() {
    verified(&recipe("masked-lm", "", "[text]\npack = false", "epochs = 4"), place(192).path(), 2);
    verified(&recipe("masked-lm", "", "", "steps = 25"), place(192).path(), 2);
}

#[test]
fn pairs_are_learned() {
    let place = place(48);
    let parsed = recipe("text-embedding", "target = \"other\"", "", "epochs = 40");
    let report = trained(&parsed, place.path());
    assert!(report.metrics["test"]["mrr"] > 0.8, "{report:?}");
    verified(&parsed, place.path(), 0);
    let folder = place.path().join("runs").join(&report.run);
    let input = place.path().join("new.csv");
    fs::write(&input, "text\nthe music is lovely\n").unwrap();
    let (columns, _) =
        TextPredictor::load(&folder.join("model"), &device()).unwrap().predict(&input).unwrap();
    let jishi_data::write::Values::Vectors(vectors) = &columns[0].1 else { panic!("{columns:?}") };
    let length: f64 = vectors[0].iter().map(|x| x * x).sum();
    assert!(vectors[0].len() == 32 && (length - 1.0).abs() < 1e-5, "{length}");
}

#[test]
fn long_texts_lose_their_end_or_are_dropped_and_the_ledger_says_so() {
    let place = place(96);
    let long = format!("{} and so on{}", "the film is boring", " and on".repeat(30));
    let csv = reviews(96).replacen("the film is lovely", &long, 1);
    fs::write(place.path().join("reviews.csv"), csv).unwrap();
    let ledger = |overlong: &str| {
        let more = format!("[text]\noverlong = \"{overlong}\"");
        let parsed = recipe("text-classification", "target = \"label\"", &more, "steps = 1");
        run(&parsed, place.path()).map(|report| {
            fs::read_to_string(place.path().join("runs").join(report.run).join("ledger.jsonl")).unwrap()
        })
    };
    let kept = ledger("truncate").unwrap_or_else(|e| panic!("{e}"));
    assert!(kept.contains("more than 16 tokens: lost its end") && kept.contains("\"used\":96"), "{kept}");
    let dropped = ledger("drop").unwrap_or_else(|e| panic!("{e}"));
    assert!(dropped.contains("\"used\":95") && dropped.contains("\"dropped\":1"), "{dropped}");
    let error = ledger("error").unwrap_err().to_string();
    assert!(error.contains("reviews.csv:2: this document has more than 16 tokens"), "{error}");
}

#[test]
fn bad_input_is_named() {
    let place = place(96);
    let fails = |data: &str| {
        let parsed = recipe("text-classification", data, "", "steps = 1");
        run(&parsed, place.path()).unwrap_err().to_string()
    };
    let error = fails("target = \"lable\"");
    assert!(error.contains("there is no column `lable`") && error.contains("`label`"), "{error}");
    let parsed = recipe("text-embedding", "target = \"other\"", "", "steps = 1");
    assert_eq!(parsed.recipe.train.accumulate, 1);
    let text = jishi_recipe::to_toml(&parsed.recipe).replace("accumulate = 1", "accumulate = 2");
    let problems = parse(&text, &Origin::File("texts.toml".into()), &[]).unwrap_err().to_string();
    assert!(problems.contains("compares all of a batch"), "{problems}");

    let csv = reviews(96).replacen(",positive,", ",odd,", 1);
    fs::write(place.path().join("reviews.csv"), csv).unwrap();
    // The one row with the odd label is in one split alone: either the others lack it, or training has it.
    let parsed = recipe("text-classification", "target = \"label\"", "", "steps = 1");
    match run(&parsed, place.path()) {
        Ok(report) => assert!(report.rows["train"] > 0),
        Err(error) => assert!(error.to_string().contains("label `odd` (1 documents) is in the"), "{error}"),
    }
}
