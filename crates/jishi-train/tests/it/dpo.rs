//! Preferences: answers that were chosen become likelier, resume is exact, and the package is a model that writes.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;
use jishi_recipe::{Origin, Parsed, parse};
use jishi_runs::run::RunDir;
use jishi_tasks::SplitName;
use jishi_train::job::evaluate::{on_file, on_split};
use jishi_train::job::language::TextPredictor;
use jishi_train::job::language::generate::{Request, TextGenerator};
use jishi_train::job::report::TrainReport;
use jishi_train::job::train::{TrainJob, train};
use jishi_train::job::verify::verify;
use jishi_train::{Silent, TrainError};

use crate::resume::StopAt;

const PAIRS: usize = 64;

fn device() -> Device {
    Device::flex().autodiff()
}

fn question(i: usize) -> String {
    let (animal, does) = (["cat", "dog", "owl", "fox"][i % 4], ["sing", "swim", "read", "jump"][i / 4 % 4]);
    format!("does the {animal} {does} {}?", i / 16)
}

/// Questions with the answer that was chosen, "yes", and the one that was rejected.
fn pairs(rows: usize) -> String {
    let mut lines = String::new();
    for i in 0..rows {
        let line =
            serde_json::json!({"prompt": question(i), "chosen": " yes", "rejected": " no, it never does"});
        lines += &format!("{line}\n");
    }
    lines
}

fn parsed(text: &str) -> Parsed {
    parse(text, &Origin::File("pairs.toml".into()), &[]).unwrap_or_else(|p| panic!("{p}"))
}

fn run(parsed: &Parsed, base: &Path) -> Result<TrainReport, TrainError> {
    let (stop, device) = (AtomicBool::new(false), device());
    let root = base.join("runs");
    let job = TrainJob { parsed, base, root: &root, run: None, resume: false, device: &device, stop: &stop };
    train(&job, &mut Silent)
}

/// A folder with pairs, and a model that answers either way alike.
fn place() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    let mut text = String::new();
    for i in 0..2 * PAIRS {
        let answer = if (i / PAIRS + i).is_multiple_of(2) { "yes" } else { "no, it never does" };
        text += &format!("{} {answer}\n", question(i % PAIRS));
    }
    fs::write(place.path().join("text.txt"), text).unwrap();
    fs::write(place.path().join("pairs.jsonl"), pairs(PAIRS)).unwrap();
    let before = r#"
        name = "before"
        task = "causal-lm"
        [data]
        source = "text.txt"
        split = { validation = 0.0, test = 0.0 }
        [text]
        document = "line"
        [tokenizer]
        kind = "char"
        [model]
        family = "gpt2"
        layers = 1
        heads = 2
        width = 32
        context = 64
        [train]
        optimizer = { name = "adamw", learning_rate = 5e-3 }
        steps = 250
        batch = 8
        [evaluate]
        plots = false
    "#;
    run(&parsed(before), place.path()).unwrap_or_else(|e| panic!("{e}"));
    place
}

fn recipe(model: &str, train: &str, text: &str) -> Parsed {
    // Additions begin at nothing.
    let rate = if model.contains("lora") { 1e-3 } else { 1e-4 };
    parsed(&format!(
        r#"
        name = "after"
        task = "dpo"
        [data]
        source = "pairs.jsonl"
        split = {{ validation = 0.25, test = 0.25 }}
        [text]
        prompt = "prompt"
        column = "chosen"
        rejected = "rejected"
        {text}
        [model]
        from = "runs/before"
        {model}
        [train]
        optimizer = {{ name = "adamw", learning_rate = {rate} }}
        batch = 8
        {train}
        [generate]
        prompts = ["does the cat swim 1?"]
        temperature = 0.0
        max_tokens = 8
        [evaluate]
        bootstrap = 20
        plots = false
        "#
    ))
}

#[test]
fn chosen_answers_become_likelier() {
    let place = place();
    let report = run(&recipe("", "epochs = 6", ""), place.path()).unwrap_or_else(|e| panic!("{e}"));
    for split in ["validation", "test"] {
        let metrics = &report.metrics[split];
        assert!(metrics["accuracy"] > 0.9 && metrics["margin"] > 0.1, "{report:?}");
        assert!(metrics["chosen_reward"] > 0.0, "{report:?}");
        assert!(metrics["loss"] < 2f64.ln() - 0.05, "{report:?}");
    }
    // What the run says of a split its package says too, with the model that it is compared with.
    let folder = RunDir::open(&place.path().join("runs"), &report.run).unwrap();
    let again = on_split(&folder, SplitName::Test, &device()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(again.metrics["test"], report.metrics["test"]);
    assert_eq!(again.intervals.get("test"), report.intervals.get("test"));

    let package = place.path().join("runs/after/model");
    let other = place.path().join("other.jsonl");
    fs::write(&other, pairs(5)).unwrap();
    let of_file = on_file(&package, &other, false, &device()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((of_file.rows, of_file.metrics["test"]["accuracy"]), (5, 1.0));

    // It is a model that writes: by itself, and as the one that another run begins with.
    let mut generator = TextGenerator::from_package(&package, None).unwrap_or_else(|e| panic!("{e}"));
    generator.defaults.max_tokens = 4;
    let request = Request { options: generator.defaults.clone(), ..Request::default() };
    let prompt = generator.text("does the cat swim 1?").unwrap();
    let answer = generator.generate(&prompt, &request, &mut |_| ControlFlow::Continue(()));
    assert_eq!(answer.unwrap_or_else(|e| panic!("{e}")).text, " yes");
    let predictor = TextPredictor::load(&package, &device()).unwrap();
    assert!(predictor.causal().is_some());
    assert!(predictor.predict(&other).unwrap_err().to_string().contains("continues texts"));
    let card = fs::read_to_string(place.path().join("runs/after/README.md")).unwrap();
    assert!(card.contains("does the cat swim 1?") && card.contains("jishi generate after"), "{card}");

    // Another model in the place of the reference is not taken for it.
    let compared = place.path().join("runs/before");
    fs::rename(&compared, place.path().join("runs/kept")).unwrap();
    fs::create_dir(&compared).unwrap();
    fs::rename(&package, compared.join("model")).unwrap();
    let manifest = "manifest.json";
    fs::copy(place.path().join("runs/kept").join(manifest), compared.join(manifest)).unwrap();
    let error = on_file(&compared.join("model"), &other, false, &device()).unwrap_err().to_string();
    assert!(error.contains("has changed since this one was trained"), "{error}");
    fs::rename(compared.join("model"), &package).unwrap();
    fs::remove_dir_all(&compared).unwrap();

    // A package without its reference can write and can't be compared.
    let error = on_file(&package, &other, false, &device()).unwrap_err().to_string();
    assert!(error.contains("there is no such file or folder") && error.contains("before"), "{error}");
}

#[test]
fn preferences_resume_to_the_bit_and_do_not_depend_on_parts() {
    let place = place();
    for model in
        ["dropout = 0.1", "lora = { rank = 2, dropout = 0.1 }", "lora = { rank = 2, base = \"int8\" }"]
    {
        let parsed = recipe(model, "steps = 14", "");
        let report = verify(&parsed.recipe, place.path(), 14, &device()).unwrap_or_else(|e| panic!("{e}"));
        assert!(report.interruptions.len() >= 4 && report.accumulation.len() == 2, "{report:?}");
        assert!(report.ok, "{model}: {report:#?}");
    }
}

#[test]
fn a_stopped_run_asks_its_reference_again_and_ends_as_one_that_was_never_stopped() {
    let place = place();
    let parsed = recipe("dropout = 0.1", "epochs = 3\ncheckpoint = { every_steps = 3 }", "");
    let go = |root: &str, resume: bool, step: usize| {
        let (stop, device, root) = (AtomicBool::new(false), device(), place.path().join(root));
        let base = place.path();
        let job =
            TrainJob { parsed: &parsed, base, root: &root, run: None, resume, device: &device, stop: &stop };
        train(&job, &mut StopAt { step, stop: &stop }).unwrap_or_else(|e| panic!("{e}"))
    };
    assert_eq!(go("straight", false, usize::MAX).status, "finished");
    assert_eq!(go("stopped", false, 5).status, "interrupted");
    assert_eq!(go("stopped", true, usize::MAX).status, "finished");
    for file in ["metrics.jsonl", "model/model.safetensors", "ledger.jsonl"] {
        let read = |root: &str| fs::read(place.path().join(root).join("after").join(file)).unwrap();
        assert_eq!(read("straight"), read("stopped"), "{file} differs");
    }
}

#[test]
fn low_rank_additions_are_compared_with_the_base() {
    let place = place();
    let lora = "lora = { rank = 4, alpha = 8 }";
    // Nothing is learned in a step of no size: the base is its own reference.
    let still =
        recipe(lora, "steps = 1\nschedule = { name = \"linear\", warmup = 0, final_share = 1.0 }", "");
    let mut still = still;
    if let jishi_recipe::Optimizer::Adamw(adamw) = &mut still.recipe.train.optimizer {
        (adamw.learning_rate, adamw.weight_decay) = (1e-30, 0.0);
    }
    let report = run(&still, place.path()).unwrap_or_else(|e| panic!("{e}"));
    let metrics = &report.metrics["validation"];
    assert!(metrics["margin"].abs() < 1e-6 && (metrics["loss"] - 2f64.ln()).abs() < 1e-6, "{report:?}");
    let accumulated = recipe(lora, "epochs = 10\naccumulate = 2", "");
    let report = run(&accumulated, place.path()).unwrap_or_else(|e| panic!("{e}"));
    assert!(report.metrics["validation"]["accuracy"] > 0.9, "{report:?}");
}

#[test]
fn pairs_of_no_use_are_in_the_ledger() {
    let place = place();
    let mut lines: Vec<String> = pairs(40).lines().map(str::to_owned).collect();
    lines[0] = r#"{"prompt": "does the cat sing 0?", "chosen": " yes", "rejected": " yes"}"#.into();
    lines[1] = r#"{"prompt": "does the dog sing 0?", "chosen": " yes"}"#.into();
    lines[2] =
        format!(r#"{{"prompt": "{} sing 0?", "chosen": " yes", "rejected": " no"}}"#, "the cat ".repeat(9));
    lines[3] =
        format!(r#"{{"prompt": "does it?", "chosen": " yes", "rejected": " no{}"}}"#, ", no".repeat(20));
    fs::write(place.path().join("pairs.jsonl"), lines.join("\n")).unwrap();
    let ledger = |overlong: &str| {
        let text = format!("overlong = \"{overlong}\"");
        let mut parsed = recipe("", "steps = 1", &text);
        parsed.recipe.data.max_dropped = 0.5;
        run(&parsed, place.path()).map(|report| {
            fs::read_to_string(place.path().join("runs").join(report.run).join("ledger.jsonl")).unwrap()
        })
    };
    let kept = ledger("truncate").unwrap_or_else(|e| panic!("{e}"));
    for reason in [
        "the chosen and the rejected answer are the same",
        "no rejected answer",
        "more than 64 tokens before its answer",
        "more than 64 tokens: lost its end",
    ] {
        assert!(kept.contains(reason), "{reason}: {kept}");
    }
    assert!(kept.contains("\"used\":37") && kept.contains("\"dropped\":3"), "{kept}");
    let dropped = ledger("drop").unwrap_or_else(|e| panic!("{e}"));
    assert!(dropped.contains("\"used\":36") && dropped.contains("\"dropped\":4"), "{dropped}");
    let error = ledger("error").unwrap_err().to_string();
    assert!(error.contains("this document has more than 64 tokens"), "{error}");
}

#[test]
fn bad_input_is_named() {
    let place = place();
    let fails = |text: &str| {
        let mut parsed = recipe("", "steps = 1", "");
        let file = place.path().join("pairs.jsonl");
        fs::write(&file, text).unwrap();
        parsed.recipe.data.max_dropped = 0.0;
        run(&parsed, place.path()).unwrap_err().to_string()
    };
    let error = fails(&pairs(20).replace("\"rejected\"", "\"rejekted\""));
    assert!(error.contains("there is no column `rejected`") && error.contains("`rejekted`"), "{error}");
    let error = fails(&pairs(20).replace("\" no, it never does\"", "[\"no\", \"never\"]"));
    assert!(error.contains("pairs.jsonl:1: expected text in `rejected`"), "{error}");
    let error = fails(&pairs(20).replacen("\" no, it never does\"", "\" \"", 1));
    assert!(error.contains("of the documents would be dropped"), "{error}");

    let error = fails(&pairs(20).replace(" no, it never does", " yes"));
    assert!(error.contains("there is no pair to learn from"), "{error}");

    fs::write(place.path().join("pairs.jsonl"), pairs(20)).unwrap();
    let mut parsed = recipe("", "steps = 1", "");
    let jishi_recipe::Model::Pretrained(model) = &mut parsed.recipe.model else { panic!("{parsed:?}") };
    model.from = "runs/nothing".into();
    let error = run(&parsed, place.path()).unwrap_err().to_string();
    assert!(error.contains("there is no such file or folder") && error.contains("runs/nothing"), "{error}");
    let mut plain = recipe("", "steps = 1", "");
    plain.recipe.data.source = jishi_recipe::OneOrMany::One("text.txt".into());
    let error = run(&plain, place.path()).unwrap_err().to_string();
    assert!(error.contains("plain text files have no column"), "{error}");
}
