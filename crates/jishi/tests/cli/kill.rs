//! Killed, interrupted and resumed: the run ends as if nothing had happened.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::place::{Place, houses};

const RECIPE: &str = r#"name = "killed"
task = "regression"

[data]
source = "houses.csv"
target = "price"

[model]
family = "mlp"
hidden = [16]
dropout = 0.1

[train]
epochs = 60
batch = 8
ema = 0.99
clip = 1.0
checkpoint = { every_steps = 5, keep = 2 }
early_stopping = { patience = 1000 }

[evaluate]
bootstrap = 200
"#;

/// Optimiser steps of the recipe: 120 rows, a fifth each for validation and test, batches of 8.
const STEPS: u64 = 60 * 9;

fn place() -> Place {
    let place = Place::new();
    place.write("houses.csv", houses(0..120));
    place.write("killed.toml", RECIPE);
    place
}

/// What must be equal to the bit.
fn results(place: &Place, run: &str) -> Vec<(&'static str, Vec<u8>)> {
    [
        "metrics.jsonl",
        "ledger.jsonl",
        "recipe.toml",
        "model/model.safetensors",
        "curves.svg",
        "plots/residuals.svg",
    ]
    .map(|name| (name, place.read(&format!("{run}/{name}"))))
    .to_vec()
}

fn assert_same(expected: &[(&str, Vec<u8>)], found: &[(&str, Vec<u8>)]) {
    for ((name, a), (_, b)) in expected.iter().zip(found) {
        if a != b {
            let (a, b) = (String::from_utf8_lossy(a), String::from_utf8_lossy(b));
            let line = a.lines().zip(b.lines()).position(|(x, y)| x != y);
            panic!("{name} differs at line {line:?}, of {} and {} bytes", a.len(), b.len());
        }
    }
}

fn spawn(place: &Place, args: &[&str]) -> Child {
    place.command(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Step of the newest whole checkpoint in a run's folder.
fn checkpointed(place: &Place, run: &str) -> Option<u64> {
    let entries = fs::read_dir(place.path(&format!("{run}/checkpoints"))).ok()?;
    let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
    names.filter_map(|n| n.strip_prefix("step-")?.parse().ok()).max()
}

/// Waits until `ready`; false where the process ended first.
fn wait_for(child: &mut Child, mut ready: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while !ready() {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        assert!(began.elapsed() < Duration::from_secs(120), "the run does not get on");
        sleep(Duration::from_millis(1));
    }
    true
}

fn interrupt(child: &Child) {
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn killed_at_any_moment_a_run_ends_the_same() {
    let straight = place();
    let report = straight.json("train killed.toml");
    assert_eq!(report["steps"].as_u64(), Some(STEPS), "{report}");
    let expected = results(&straight, "runs/killed");

    // Odd delays after a checkpoint land in the writing of the next, in its fsync, in its rename, or between.
    let delays = [0, 1, 3, 7, 13, 2, 5, 11];
    let place = place();
    let mut kills = 0;
    let mut reached = 0;
    for (i, delay) in delays.iter().enumerate() {
        let args: &[&str] =
            if i == 0 { &["train", "killed.toml"] } else { &["train", "killed.toml", "--resume"] };
        let mut child = spawn(&place, args);
        let target = reached + 10;
        if wait_for(&mut child, || checkpointed(&place, "runs/killed").is_some_and(|step| step >= target)) {
            sleep(Duration::from_millis(*delay));
            child.kill().unwrap();
            let status = child.wait().unwrap();
            kills += u32::from(status.code().is_none());
            let list = place.json("runs list");
            if status.code().is_none() {
                assert_eq!(list["runs"][0]["status"], "killed", "{list}");
            }
        }
        reached = checkpointed(&place, "runs/killed").unwrap_or(0);
    }
    assert!(kills >= 4, "the run was too fast to be killed: {kills}");

    // Then while it evaluates, draws and packs.
    for part in ["curves.svg", "plots", "model"] {
        let _ = fs::remove_dir_all(place.path(&format!("runs/killed/{part}")));
        let _ = fs::remove_file(place.path(&format!("runs/killed/{part}")));
        let mut child = spawn(&place, &["train", "killed.toml", "--resume"]);
        if wait_for(&mut child, || place.exists(&format!("runs/killed/{part}"))) {
            child.kill().unwrap();
        }
        child.wait().unwrap();
    }
    let report = place.json("train killed.toml --resume");
    assert_eq!((report["status"].as_str(), report["run"].as_str()), (Some("finished"), Some("killed")));
    assert_same(&expected, &results(&place, "runs/killed"));
    assert_eq!(place.json("evaluate killed")["metrics"]["test"], report["metrics"]["test"]);
    assert!(!place.files().iter().any(|f| f.contains("tmp")), "{:?}", place.files());
    assert_eq!(fs::read_dir(place.path("runs")).unwrap().count(), 1, "resume makes no second run");

    // Resuming what has ended changes nothing.
    place.json("train killed.toml --resume");
    assert_same(&expected, &results(&place, "runs/killed"));
}

#[test]
fn ctrl_c_saves_and_exits() {
    let straight = place();
    straight.json("train killed.toml");
    let place = place();
    let mut child = spawn(&place, &["train", "killed.toml", "--json"]);
    assert!(wait_for(&mut child, || checkpointed(&place, "runs/killed").is_some()), "the run was too fast");
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["status"], "interrupted");
    assert!(stderr.contains("go on with `jishi train killed.toml --resume`"), "{stderr}");
    let steps = report["steps"].as_u64().unwrap();
    assert!(steps < STEPS);
    assert_eq!(checkpointed(&place, "runs/killed"), Some(steps), "it saves where it stops");
    assert_eq!(place.json("runs show killed")["status"]["state"].as_str().unwrap_or_default(), "interrupted");
    // There is no model yet, and the error says what to do.
    let refused = place.jishi("predict killed --input houses.csv").refused();
    assert!(refused.stderr.contains("--resume"), "{}", refused.stderr);

    let report = place.json("train killed.toml --resume");
    assert_eq!((report["status"].as_str(), report["steps"].as_u64()), (Some("finished"), Some(STEPS)));
    assert_same(&results(&straight, "runs/killed"), &results(&place, "runs/killed"));
}

#[test]
fn folds_go_on_where_they_stopped() {
    let shorter = ["--set", "train.epochs=20", "--folds", "3"];
    let straight = place();
    straight.run(&[&["train", "killed.toml"][..], &shorter].concat()).ok();
    let place = place();
    let mut child = spawn(&place, &[&["train", "killed.toml"][..], &shorter].concat());
    let second = "runs/killed/folds/fold-2";
    assert!(wait_for(&mut child, || checkpointed(&place, second).is_some()), "the run was too fast");
    interrupt(&child);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
    place.run(&[&["train", "killed.toml", "--resume"][..], &shorter].concat()).ok();
    for fold in 1..=3 {
        let run = format!("runs/killed/folds/fold-{fold}");
        assert_same(&results(&straight, &run), &results(&place, &run));
    }
    let metrics = |p: &Place| p.json("runs show killed")["metrics"].clone();
    assert_eq!(metrics(&straight), metrics(&place));
}

#[test]
fn resume_refuses_what_has_changed() {
    let place = place();
    place.jishi("train killed.toml --set train.epochs=2").ok();
    let weights = place.read("runs/killed/model/model.safetensors");
    let other = place.jishi("train killed.toml --resume --set train.epochs=3 --set train.batch=4").refused();
    assert!(
        other.stderr.contains("train.epochs") && other.stderr.contains("train.batch"),
        "{}",
        other.stderr
    );
    place.write("houses.csv", houses(1..121));
    let data = place.jishi("train killed.toml --resume --set train.epochs=2").refused();
    assert!(data.stderr.contains("data has changed"), "{}", data.stderr);
    assert!(weights == place.read("runs/killed/model/model.safetensors"));
}

#[test]
fn two_processes_do_not_share_a_run() {
    let place = place();
    let mut child = spawn(&place, &["train", "killed.toml"]);
    assert!(wait_for(&mut child, || checkpointed(&place, "runs/killed").is_some()), "the run was too fast");
    let second = place.jishi("train killed.toml --resume");
    let remove = place.jishi("runs remove killed");
    child.kill().unwrap();
    child.wait().unwrap();
    for outcome in [second, remove] {
        assert!(matches!(outcome.code, Some(1 | 2)), "{}{}", outcome.stdout, outcome.stderr);
        assert!(outcome.stderr.contains("another process"), "{}", outcome.stderr);
    }
    assert!(place.exists("runs/killed/manifest.json"));
}
