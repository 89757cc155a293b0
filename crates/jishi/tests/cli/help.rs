//! Help, lists, the schema, and usage errors.

use serde_json::Value;

use crate::place::{Place, snapshot};

const COMMANDS: [&str; 33] = [
    "",
    "train",
    "resume",
    "check",
    "evaluate",
    "predict",
    "import",
    "export",
    "generate",
    "serve",
    "keys",
    "keys add",
    "keys list",
    "keys remove",
    "studio",
    "runs",
    "runs list",
    "runs show",
    "runs compare",
    "runs remove",
    "plot",
    "data",
    "data list",
    "data get",
    "data inspect",
    "recipe",
    "recipe list",
    "recipe show",
    "recipe new",
    "recipe schema",
    "recipe reference",
    "verify-resume",
    "bench",
];

#[test]
fn every_command_explains_itself() {
    let place = Place::new();
    for command in COMMANDS {
        let help = place.jishi(&format!("{command} --help")).ok();
        assert_eq!(help.stderr, "");
        let name = format!("help {command}").trim().replace(' ', "-");
        snapshot(&name, &help.shown());
    }
}

#[test]
fn no_command_is_missing_here() {
    let mut listed = 1;
    for command in ["", "keys", "runs", "data", "recipe"] {
        let help = Place::new().jishi(&format!("{command} --help")).ok().stdout;
        let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
        for line in commands.lines().filter(|l| l.starts_with("  ") && !l.starts_with("   ")) {
            let word = line.split_whitespace().next().unwrap();
            if word != "help" {
                let full = format!("{command} {word}");
                assert!(COMMANDS.contains(&full.trim()), "{full}");
                listed += 1;
            }
        }
    }
    assert_eq!(listed, COMMANDS.len());
}

#[test]
fn lists_and_texts() {
    let place = Place::new();
    for line in ["recipe list", "recipe show house-prices-linear", "data list", "runs list"] {
        snapshot(&line.replace(' ', "-"), &place.jishi(line).ok().shown());
    }
    for (line, key) in [
        ("recipe list", "recipes"),
        ("recipe show house-prices", "text"),
        ("data list", "data"),
        ("runs list", "runs"),
        ("runs", "runs"),
    ] {
        let document = place.json(line);
        assert!(document.get(key).is_some(), "{line}: {document}");
    }
    assert!(place.jishi("--version").ok().stdout.starts_with("jishi 0."));
    assert!(place.files().is_empty());
}

#[test]
fn the_schema_describes_a_recipe() {
    let schema: Value = Place::new().jishi("recipe schema").ok().json();
    for key in ["name", "task", "data", "model", "train", "evaluate"] {
        assert!(schema["properties"][key].is_object(), "{key}");
    }
    let reference = Place::new().jishi("recipe reference").ok().stdout;
    assert!(reference.starts_with('#') && reference.contains("learning_rate"));
    assert_eq!(Place::new().json("recipe reference")["reference"], reference);
    assert_eq!(Place::new().json("recipe schema"), schema);
}

#[test]
fn wrong_usage_is_refused_before_anything_happens() {
    let place = Place::new();
    let mut words = String::new();
    for line in [
        "",
        "tarin house-prices",
        "train",
        "train house-prices --epochs 3",
        "train house-prices --folds many",
        "train house-prices --device gpu",
        "train house-prices --set",
        "train house-prices --set train.epochs",
        "train house-prices --set train.epoch=3",
        "train house-prices --set train.epochs=three",
        "train house-prices --folds 1",
        "evaluate run --split train",
        "evaluate run",
        "predict run --input new.csv",
        "predict run --input new.csv --output new.xlsx",
        "plot run --output curves.pdf",
        "runs show run",
        "runs compare run",
        "runs remove run",
        "recipe show house-price",
        "recipe show something-else",
        "recipe new --data houses.csv",
        "bench everything",
        "verify-resume house-prices --steps many",
    ] {
        let outcome = place.jishi(line);
        assert_eq!(outcome.code, Some(2), "{line}: {}{}", outcome.stdout, outcome.stderr);
        assert_eq!(outcome.stdout, "", "{line}");
        if !line.is_empty() {
            words += &outcome.shown();
            words.push('\n');
        }
    }
    snapshot("usage", &words);
    let json = place.jishi("train --json --epochs 3");
    assert_eq!((json.code, json.json()["error"].as_str()), (Some(2), Some("bad usage")));
    assert!(place.files().is_empty());
}
