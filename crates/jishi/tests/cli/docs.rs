//! Every recipe and every command line of the documentation works.
//!
//! What a page can rely on: `houses.csv` (the Ames data), `new-houses.csv` (its first five rows without the price)
//! and `tumours.csv` (the breast-cancer data) lie in the folder that its commands run in, in the order of the page.
//! - A `toml` block with a `task` is a recipe. Its first line may name its file: `# houses.toml`. A block without is a
//!   part of one: put into a recipe for `houses.csv`, it must parse too.
//! - In `console` blocks lines that start with `$ jishi` or `$ cargo run --release --` are commands; in `sh` blocks
//!   so are lines without `$`. A command whose output is shown with an `error:` must exit with 2, others with 0.
//! - `ignore` after the language leaves a block out (a recipe that names its file is still written).
//!
//! Training is cut short, so that figures differ from those on the page; whether they are right is for its author.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use jishi_recipe::{Origin, parse};
use serde_json::{Map, Value, json};

use crate::place::{Outcome, Place};

struct Block {
    language: String,
    ignore: bool,
    line: usize,
    lines: Vec<String>,
}

/// Fenced blocks of a page.
fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for (i, line) in text.lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(info), None) => {
                let mut words = info.split([' ', ',']);
                let language = words.next().unwrap_or_default().to_owned();
                open = Some(Block {
                    language,
                    ignore: words.any(|w| w == "ignore"),
                    line: i + 1,
                    lines: Vec::new(),
                });
            }
            (None, Some(block)) => block.lines.push(line.to_owned()),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    found
}

/// A command of a page, and whether the page shows that it fails.
#[derive(Debug, PartialEq)]
struct Shown {
    line: String,
    fails: bool,
}

fn commands(block: &Block) -> Vec<Shown> {
    if !matches!(block.language.as_str(), "console" | "sh" | "bash" | "shell") {
        return Vec::new();
    }
    let prompts = block.language == "console" || block.lines.iter().any(|l| l.starts_with("$ "));
    let mut found: Vec<Shown> = Vec::new();
    let mut lines = block.lines.iter();
    while let Some(line) = lines.next() {
        let Some(line) = (if prompts { line.strip_prefix("$ ") } else { Some(line.as_str()) }) else {
            if let Some(last) = found.last_mut() {
                last.fails |= line.starts_with("error:");
            }
            continue;
        };
        let mut line = line.to_owned();
        while line.ends_with('\\') {
            line.pop();
            line += lines.next().map_or("", String::as_str);
        }
        let line = line.replacen("cargo run --release -- ", "jishi ", 1);
        if line.starts_with("jishi ") {
            found.push(Shown { line, fails: false });
        }
    }
    found
}

/// The command as it is run here: training and checks cut short.
fn shortened(line: &str) -> String {
    let end =
        [" | ", " > ", " # ", "  #", " && "].iter().filter_map(|m| line.find(m)).min().unwrap_or(line.len());
    let (command, rest) = line.split_at(end);
    let more = match command.split_whitespace().nth(1) {
        Some("train") => " --set train.epochs=2 --set evaluate.bootstrap=20",
        Some("verify-resume") => " --steps 10",
        Some("bench") => " --help",
        _ => "",
    };
    // What a page says of steps and epochs itself goes first, and is overridden.
    format!("{}{more}{rest}", without_steps(command))
}

/// A flag that is given once alone.
fn without_steps(command: &str) -> String {
    let words: Vec<&str> = command.split(' ').collect();
    match words.iter().position(|w| *w == "--steps") {
        Some(at) if command.starts_with("jishi verify-resume") => {
            [&words[..at], &words[(at + 2).min(words.len())..]].concat().join(" ")
        }
        _ => command.to_owned(),
    }
}

/// A TOML text as a tree.
fn tree(text: &str) -> Result<Map<String, Value>, String> {
    toml_edit::de::from_str(text).map_err(|e| e.to_string())
}

/// Puts a part of a recipe into a whole one.
fn completed(part: Map<String, Value>) -> String {
    let mut whole = json!({
        "name": "houses",
        "task": "regression",
        "data": { "source": "houses.csv", "target": "Sale_Price" },
        "model": { "family": "mlp" },
    });
    let part = Value::Object(part);
    let loss = part.pointer("/train/loss/name").and_then(Value::as_str);
    if matches!(loss, Some("cross-entropy" | "binary-cross-entropy" | "focal")) {
        whole["task"] = json!("classification");
    }
    merge(&mut whole, part);
    toml_edit::ser::to_string(&whole).unwrap()
}

fn merge(into: &mut Value, part: Value) {
    match (into, part) {
        // Another family has other keys.
        (Value::Object(old), Value::Object(new)) if !new.contains_key("family") => {
            for (key, value) in new {
                merge(old.entry(key).or_insert(Value::Null), value);
            }
        }
        (old, new) => *old = new,
    }
}

fn check_recipe(place: &Place, page: &str, block: &Block) {
    let text = block.lines.join("\n") + "\n";
    let name = block
        .lines
        .first()
        .and_then(|l| l.strip_prefix("# "))
        .filter(|n| n.ends_with(".toml") && !n.contains(' '));
    if let Some(name) = name {
        place.write(name, &text);
    }
    if block.ignore {
        return;
    }
    let table = tree(&text).unwrap_or_else(|e| panic!("{page}:{}: {e}", block.line));
    let text = if table.contains_key("task") { text } else { completed(table) };
    if let Err(problems) = parse(&text, &Origin::File(PathBuf::from(page)), &[]) {
        panic!("{page}: the recipe at line {} is wrong:\n{problems}\n{text}", block.line);
    }
}

fn builtin(name: &str) -> Vec<u8> {
    jishi_data::builtin::get(name).unwrap().csv().unwrap().to_vec()
}

/// The data sets that pages speak of, from those built in.
fn prepare(place: &Place) {
    let ames = String::from_utf8(builtin("ames")).unwrap();
    place.write("houses.csv", &ames);
    place.write("tumours.csv", builtin("breast-cancer"));
    let mut reader = csv::Reader::from_reader(ames.as_bytes());
    let target = reader.headers().unwrap().iter().position(|h| h == "Sale_Price").unwrap();
    let mut writer = csv::Writer::from_writer(Vec::new());
    let header = reader.headers().unwrap().clone();
    for record in std::iter::once(header).chain(reader.records().take(5).map(Result::unwrap)) {
        writer.write_record(record.iter().enumerate().filter(|(i, _)| *i != target).map(|f| f.1)).unwrap();
    }
    place.write("new-houses.csv", writer.into_inner().unwrap());
    fs::create_dir(place.path("bin")).unwrap();
    symlink(env!("CARGO_BIN_EXE_jishi"), place.path("bin/jishi")).unwrap();
}

/// Runs a page from top to bottom; gives the number of recipes and commands.
fn run_page(page: &str, text: &str) -> (usize, usize) {
    let place = Place::new();
    prepare(&place);
    let path = format!("{}:{}", place.path("bin").display(), std::env::var("PATH").unwrap_or_default());
    let (mut recipes, mut count) = (0, 0);
    for block in blocks(text) {
        if block.language == "toml" {
            check_recipe(&place, page, &block);
            recipes += 1;
        }
        if block.ignore {
            continue;
        }
        for shown in commands(&block) {
            let line = shortened(&shown.line);
            let mut command = Command::new("sh");
            command.args(["-c", &line]).current_dir(place.path("")).env("PATH", &path);
            let outcome = Outcome::of(&mut command);
            let expected = if shown.fails { 2 } else { 0 };
            assert_eq!(
                outcome.code,
                Some(expected),
                "{page}:{}: {line}\n{}{}",
                block.line,
                outcome.stdout,
                outcome.stderr
            );
            count += 1;
        }
    }
    (recipes, count)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn pages() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = ["README.md", "README.zh-CN.md"].map(|n| root().join(n)).to_vec();
    found.retain(|p| p.is_file());
    let pattern = root().join("docs/**/*.md").display().to_string();
    found.extend(glob::glob(&pattern).unwrap().map(Result::unwrap));
    found
}

#[test]
fn every_recipe_and_command_of_the_documentation_works() {
    let pages = pages();
    assert!(pages.len() >= 3, "{pages:?}");
    let mut total = (0, 0);
    for page in &pages {
        let name = page.strip_prefix(root()).unwrap().display().to_string();
        let (recipes, commands) = run_page(&name, &fs::read_to_string(page).unwrap());
        eprintln!("{name}: {recipes} recipes, {commands} commands");
        total = (total.0 + recipes, total.1 + commands);
    }
    if root().join("README.md").is_file() {
        assert!(total.1 > 0, "the README has commands");
    }
}

#[test]
fn the_reference_is_what_the_code_says() {
    let generated = Place::new().jishi("recipe reference").ok().stdout;
    let kept = fs::read_to_string(root().join("docs/reference/recipe.md")).unwrap();
    assert!(generated == kept, "run `jishi recipe reference > docs/reference/recipe.md`");
}

#[test]
fn links_lead_somewhere() {
    let mut checked = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for part in text.split("](").skip(1) {
            let target = part.split([')', '#', ' ']).next().unwrap();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            assert!(page.parent().unwrap().join(target).exists(), "{}: no {target}", page.display());
            checked += 1;
        }
    }
    assert!(checked > 0);
}

#[test]
fn blocks_and_commands_are_found() {
    let page = "```toml\n# a.toml\ntask = 1\n```\n```console\n$ jishi check a.toml --set \\\n  train.epochs=2\nerror: no\njishi is not a command here\n$ ls\n```\n\
        ```sh\ncargo run --release -- train x # a word\n```\n```text\njishi train y\n```\n```sh ignore\njishi z\n```\n";
    let found = blocks(page);
    assert_eq!(
        found.iter().map(|b| b.language.as_str()).collect::<Vec<_>>(),
        ["toml", "console", "sh", "text", "sh"]
    );
    assert_eq!(found.iter().map(|b| b.ignore).collect::<Vec<_>>(), [false, false, false, false, true]);
    let all: Vec<Shown> = found[..4].iter().flat_map(commands).collect();
    assert_eq!(all.len(), 2);
    assert_eq!(all[0], Shown { line: "jishi check a.toml --set   train.epochs=2".into(), fails: true });
    assert_eq!(
        shortened(&all[1].line),
        "jishi train x --set train.epochs=2 --set evaluate.bootstrap=20 # a word"
    );
    assert_eq!(shortened("jishi verify-resume x --steps 200"), "jishi verify-resume x --steps 10");
    assert_eq!(
        shortened("jishi predict r --input new-houses.csv > p.csv"),
        "jishi predict r --input new-houses.csv > p.csv"
    );
}

#[test]
fn parts_of_recipes_are_completed() {
    let whole =
        completed(tree("[train]\nloss = { name = \"focal\" }\n[model]\nfamily = \"linear\"\n").unwrap());
    assert!(parse(&whole, &Origin::File("x".into()), &[]).is_ok(), "{whole}");
    let wrong = completed(tree("[train]\nepoch = 3\n").unwrap());
    assert!(parse(&wrong, &Origin::File("x".into()), &[]).is_err(), "{wrong}");
}
