//! Everything that can be wrong with what a user gives: one clear error, exit 2, nothing written.
//!
//! The snapshots are what the user reads. A change of one is a change of the product: read it as a newcomer would.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::place::{HOUSES, Outcome, Place, houses, snapshot, trained};

/// Training, checking and looking at bad data: each refuses, none writes. The words of `train` are the snapshot.
fn bad_data(name: &str, csv: impl AsRef<[u8]>, changes: &[(&str, &str)]) {
    let place = Place::new();
    place.write("houses.csv", csv);
    refused_recipe(&place, name, &changed(HOUSES, changes));
}

fn changed(recipe: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(recipe.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    })
}

fn refused_recipe(place: &Place, name: &str, recipe: &str) {
    place.write("houses.toml", recipe);
    let before = place.files();
    let train = place.jishi("train houses.toml").refused();
    assert_eq!(place.files(), before);
    assert_eq!(place.jishi("check houses.toml").refused().stderr, train.stderr);
    assert_eq!(place.files(), before);
    // The same as one document, for programs.
    let json = place.jishi("train houses.toml --json");
    assert_eq!(json.code, Some(2));
    let problems = json.json()["problems"].as_array().unwrap().len();
    assert_eq!(train.stderr.matches("error: ").count(), problems, "{}", train.stderr);
    snapshot(&format!("bad-{name}"), &train.shown());
}

const CLASSIFY: (&str, &str) = ("\"regression\"", "\"classification\"");

#[test]
fn files() {
    let place = Place::new();
    refused_recipe(&place, "no-such-file", HOUSES);
    place.write("hauses.csv", houses(0..40));
    refused_recipe(&place, "no-such-file-but-one-like-it", HOUSES);
    refused_recipe(&place, "no-file-matches", &changed(HOUSES, &[("houses.csv", "data/*.csv")]));
    refused_recipe(&place, "no-such-builtin", &changed(HOUSES, &[("houses.csv", "builtin:amse")]));

    bad_data("empty-file", "", &[]);
    bad_data("header-only", "area,rooms,price\n", &[]);
    bad_data("blank-lines-only", "\n\n\n", &[]);
    bad_data("no-header", "80,3,200000\n90,4,220000\n85,3,210000\n", &[]);
    bad_data("not-utf-8", b"area,quarter,price\n80,north,200000\n90,s\xfcd,220000\n", &[]);
    bad_data("utf-16", b"\xff\xfea\0,\0p\0r\0i\0c\0e\0\n\0", &[]);
    bad_data("not-a-table", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01", &[]);
    bad_data("truncated-gzip", b"\x1f\x8b\x08\0\0\0\0\0", &[]);
}

#[test]
fn rows() {
    let ragged = houses(0..40).replacen(",no,", ",", 2).replacen(",yes,", ",yes,yes,", 1);
    bad_data("ragged-rows", &ragged, &[]);
    bad_data("unclosed-quote", houses(0..40).replacen(",south,", ",\"south,", 1), &[]);
    // Half of the rows dropped is more than the recipe allows.
    let half = houses(0..40).replace(",no,", ",");
    bad_data("too-many-dropped", half, &[("target = ", "bad_rows = \"drop\"\ntarget = ")]);
    let words = houses(0..40).replacen("\n", "\nmany,2,north,no,2001-01-01,100000\n", 1);
    bad_data("mistyped-values", words, &[("target = ", "types = { area = \"number\" }\ntarget = ")]);
    let date = houses(0..40).replacen("-0", "-9", 3);
    bad_data("mistyped-dates", date, &[("target = ", "types = { built = \"date\" }\ntarget = ")]);
}

#[test]
fn columns() {
    bad_data("duplicate-column", houses(0..40).replacen("rooms", "area", 1), &[]);
    bad_data("unnamed-column", houses(0..40).replacen("rooms", "", 1), &[]);
    bad_data(
        "missing-columns",
        houses(0..40),
        &[("target = ", "features = [\"aera\", \"rooms\", \"age\"]\ntarget = ")],
    );
    bad_data(
        "missing-columns-to-ignore",
        houses(0..40),
        &[("target = ", "ignore = [\"id\", \"room\"]\ntarget = ")],
    );
    bad_data("no-target-column", houses(0..40), &[("\"price\"", "\"pirce\"")]);
    bad_data("no-target-column-nothing-near", houses(0..40), &[("\"price\"", "\"outcome\"")]);
    bad_data("target-alone", "price\n1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n", &[]);

    let names: Vec<String> = (0..200_000).map(|i| format!("column_{i}")).collect();
    let header = names.join(",");
    let row = vec!["1"; names.len()].join(",");
    bad_data("huge-header", format!("{header}\n{row}\n{row}\n"), &[]);
    bad_data("huge-line", format!("area,price\n1,2\n{}", "9".repeat(70 << 20)), &[]);
}

#[test]
fn targets() {
    let edit = |from: &str, to: &str| {
        let csv = houses(0..40);
        let lines: Vec<String> = csv
            .lines()
            .enumerate()
            .map(|(i, line)| {
                if i % 13 == 4 {
                    line.rsplit_once(',').unwrap().0.to_owned() + "," + to
                } else {
                    line.replace(from, to)
                }
            })
            .collect();
        lines.join("\n")
    };
    bad_data("missing-target", edit("#", ""), &[]);
    bad_data("nan-target", edit("#", "NaN"), &[]);
    bad_data("infinite-target", edit("#", "inf"), &[]);
    bad_data("overflowing-target", edit("#", "1e999"), &[]);
    bad_data("word-target", edit("#", "expensive"), &[]);
    bad_data("one-class", houses(0..40).replace(",yes,", ",no,"), &[CLASSIFY, ("\"price\"", "\"garden\"")]);
    bad_data("a-class-a-row", houses(0..40), &[CLASSIFY]);
    bad_data("regression-of-words", houses(0..40), &[("\"price\"", "\"quarter\"")]);
    bad_data("constant-target", "a,price\n1,5\n2,5\n3,5\n4,5\n5,5\n6,5\n7,5\n8,5\n", &[]);
}

#[test]
fn too_few_rows() {
    let folds = ("target = \"price\"", "target = \"price\"\nsplit = { validation = 0, folds = 10 }");
    bad_data("fewer-rows-than-folds", houses(0..6), &[folds]);
    bad_data("one-row", houses(0..1), &[]);
    let stratified = ("target = \"price\"", "target = \"garden\"\nsplit = { by = \"stratified\" }");
    let mut csv = houses(0..40).replace(",yes,", ",no,");
    csv = csv.replacen(",no,", ",yes,", 1);
    bad_data("one-row-of-a-class", &csv, &[CLASSIFY, stratified]);
    // The fold whose test set has that row can't be trained: none is.
    let folds = ("target = \"price\"", "target = \"garden\"\nsplit = { validation = 0, folds = 4 }");
    bad_data("class-missing-in-a-fold", &csv, &[CLASSIFY, folds]);
}

#[test]
fn recipes() {
    let place = Place::new();
    place.write("houses.csv", houses(0..40));
    let many = r#"name = "my houses"
task = "regresion"
titel = "Houses"

[data]
source = "houses.csv"
targt = "price"
scale = { number = "z-score" }
split = { validation = 0.6, test = 0.6, seeds = 1 }

[model]
family = "mlp"
hiden = [64]
dropout = 1.5
activation = "rellu"

[train]
epochs = 5
steps = 100
batch = 0
optimizer = { name = "adamw", lr = 0.1 }
schedule = { name = "cosin" }
"#;
    refused_recipe(&place, "many-mistakes", many);
    refused_recipe(&place, "not-toml", "name = \"x\"\ntask regression\n");
    refused_recipe(&place, "empty-recipe", "");
    let contradictions = r#"name = "x"
task = "regression"

[data]
source = "houses.csv"
target = "price"
features = ["area", "price"]
split = { by = "stratified", folds = 3, test = 0.1 }

[model]
family = "ft-transformer"
width = 10
heads = 3

[train]
epochs = 3
steps = 30
loss = { name = "cross-entropy" }
optimizer = { name = "sgd", nesterov = true }
early_stopping = { metric = "accuracy" }
"#;
    refused_recipe(&place, "contradictions", contradictions);
    let before = place.files();
    let mut words = String::new();
    for line in [
        "train house-price",
        "train nothing-like-it",
        "train missing.toml",
        "train houses.csv",
        "train .",
        "check house-prices --set train.batch=-1 --set model.width=3",
    ] {
        words += &place.jishi(line).refused().shown();
        words.push('\n');
    }
    snapshot("bad-recipe-names", &words);
    assert_eq!(place.files(), before);
}

#[test]
fn own_files_for_a_new_recipe() {
    let place = Place::new();
    place.write("empty.csv", "");
    place.write("ragged.csv", "a,b\n1,2\n1,2,3\n");
    place.write("one.csv", "a,b\n1,x\n2,x\n3,x\n");
    place.write("houses.csv", houses(0..40));
    let before = place.files();
    let mut words = String::new();
    for line in [
        "recipe new --data none.csv --target y --output r.toml",
        "recipe new --data empty.csv --target y --output r.toml",
        "recipe new --data ragged.csv --target b --output r.toml",
        "recipe new --data houses.csv --target pirce --output r.toml",
        "recipe new --data houses.csv --target price --output no/such/folder/r.toml",
        "data inspect none.csv",
        "data inspect empty.csv",
        "data inspect houses.csv --target pirce",
        "data inspect houses.csv --target outcome",
    ] {
        words += &place.jishi(line).refused().shown();
        words.push('\n');
    }
    snapshot("bad-own-files", &words);
    assert_eq!(place.files(), before);
}

#[test]
fn inputs_of_predictions() {
    let place = trained();
    let rows = houses(300..306);
    let without_target: String =
        rows.lines().map(|l| format!("{}\n", l.rsplit_once(',').unwrap().0)).collect();
    let drop_column = |n: usize| -> String {
        let keep = |l: &str| {
            l.split(',').enumerate().filter(|(i, _)| *i != n).map(|f| f.1).collect::<Vec<_>>().join(",")
        };
        without_target.lines().map(|l| keep(l) + "\n").collect()
    };
    place.write("missing.csv", drop_column(1));
    place.write("misnamed.csv", without_target.replacen("quarter", "qaurter", 1));
    place.write(
        "extra.csv",
        without_target.replacen("area,", "owner,area,", 1).replace("\n", "\nme,").trim_end_matches("me,"),
    );
    place.write(
        "mistyped.csv",
        without_target.replacen(
            "built\n",
            "built\nbig,many,north,no,2001-02-30\nsmall,2,north,maybe,yesterday\n",
            1,
        ),
    );
    place.write("ragged.csv", without_target.replacen("built\n", "built\n1,2\n", 1));
    place.write("empty.csv", "");
    place.write("header.csv", without_target.lines().next().unwrap());
    place.write(
        "everything.csv",
        drop_column(1).replacen("quarter", "qaurter", 1).replacen("area", "size", 1),
    );
    let before = place.files();
    let mut words = String::new();
    for name in
        ["none", "empty", "header", "ragged", "missing", "misnamed", "extra", "mistyped", "everything"]
    {
        let outcome = place.jishi(&format!("predict houses --input {name}.csv --output p.csv")).refused();
        words += &outcome.shown();
        words.push('\n');
    }
    words += &place.jishi("predict hosues --input extra.csv").refused().shown();
    words.push('\n');
    place.write("later.csv", &without_target);
    words += &place.jishi("evaluate houses --data later.csv").refused().shown();
    fs::remove_file(place.path("later.csv")).unwrap();
    snapshot("bad-prediction-input", &words);
    assert_eq!(place.files(), before);

    let extra = place.jishi("predict houses --input extra.csv --ignore-extra").ok().stdout;
    assert_eq!(extra.lines().count(), 7);
}

/// Damages a copy of a trained package; `mend` makes the manifest's size and hash those of the damaged weights.
fn damaged(words: &mut String, title: &str, mend: bool, damage: impl FnOnce(&mut Vec<u8>)) {
    let place = trained();
    let (weights, manifest) = ("runs/houses/model/model.safetensors", "runs/houses/model/model.json");
    let old = place.read(weights);
    let mut bytes = old.clone();
    damage(&mut bytes);
    assert_ne!(old, bytes);
    place.write(weights, &bytes);
    let hash = |b: &[u8]| Sha256::digest(b).iter().fold(String::new(), |s, byte| s + &format!("{byte:02x}"));
    if mend {
        let text = place.text(manifest);
        assert!(text.contains(&hash(&old)));
        let size = format!("\"bytes\": {}", old.len());
        assert!(text.contains(&size), "{text}");
        let text =
            text.replace(&hash(&old), &hash(&bytes)).replace(&size, &format!("\"bytes\": {}", bytes.len()));
        place.write(manifest, text);
    }
    refused_package(&place, words, title);
}

fn refused_package(place: &Place, words: &mut String, title: &str) {
    let before = place.files();
    let outcome = place.jishi("predict houses --input houses.csv --ignore-extra --output p.csv").refused();
    assert_eq!(place.jishi("evaluate houses").refused().stderr, outcome.stderr);
    assert_eq!(place.files(), before);
    let shown = hide_hashes(&outcome.shown());
    let _ = write!(words, "# {title}\n{shown}\n");
}

/// Weights round in other ways on other machines, and their hashes with them.
fn hide_hashes(text: &str) -> String {
    let is_hash = |word: &str| {
        word.len() >= 16 && word.contains(char::is_alphabetic) && word.chars().all(|c| c.is_ascii_hexdigit())
    };
    let mut out = String::new();
    let mut word = String::new();
    for c in text.chars().chain(['\0']) {
        if c.is_ascii_alphanumeric() {
            word.push(c);
            continue;
        }
        out += if is_hash(&word) { "[hash]" } else { &word };
        word.clear();
        out.push(c);
    }
    out.trim_end_matches('\0').to_owned()
}

#[test]
fn packages() {
    let mut words = String::new();
    let header = |bytes: &mut Vec<u8>, length: u64| bytes[..8].copy_from_slice(&length.to_le_bytes());
    damaged(&mut words, "one bit of a weight is wrong", false, |b| *b.last_mut().unwrap() ^= 1);
    damaged(&mut words, "the file is cut off in its header", false, |b| b.truncate(40));
    damaged(&mut words, "the same, with a manifest that agrees", true, |b| b.truncate(40));
    damaged(&mut words, "a header as long as all memory", true, |b| header(b, u64::MAX));
    damaged(&mut words, "a header longer than the file", true, |b| header(b, 90_000_000));
    damaged(&mut words, "a header longer than any may be", true, |b| header(b, 100_000_001));
    damaged(&mut words, "an empty file", true, Vec::clear);
    damaged(&mut words, "a tensor is gone", true, |b| {
        let text = String::from_utf8_lossy(&b[8..]).into_owned();
        let at = 8 + text.find("weight").unwrap();
        b[at..at + 6].copy_from_slice(b"waight");
    });

    let place = trained();
    fs::remove_file(place.path("runs/houses/model/model.safetensors")).unwrap();
    refused_package(&place, &mut words, "there are no weights");
    fs::remove_dir_all(place.path("runs/houses/model")).unwrap();
    refused_package(&place, &mut words, "there is no package");

    let manifest = |title: &str, words: &mut String, edit: &dyn Fn(String) -> String| {
        let place = trained();
        let text = place.text("runs/houses/model/model.json");
        let edited = edit(text.clone());
        assert_ne!(text, edited);
        place.write("runs/houses/model/model.json", edited);
        refused_package(&place, words, title);
    };
    manifest("the manifest is cut off", &mut words, &|t| t[..t.find("\"recipe\"").unwrap()].to_owned());
    manifest("a later version", &mut words, &|t| t.replacen("\"version\": 1", "\"version\": 2", 1));
    manifest("another program's", &mut words, &|t| t.replacen("jishi-model", "other-model", 1));
    snapshot("bad-packages", &words);
}

/// A command that the system holds to permissions: root is above them, so it becomes somebody else.
fn as_somebody_else(place: &Place, line: &str) -> Option<Outcome> {
    let mut command = place.command(&line.split_whitespace().collect::<Vec<_>>());
    if fs::metadata(place.path("")).unwrap().uid() == 0 && fs::metadata("/proc/self").unwrap().uid() == 0 {
        command.uid(65_534).gid(65_534);
    }
    // The binary may lie in a folder that only its owner can enter.
    if let Err(e) = Command::new(command.get_program()).uid(65_534).gid(65_534).arg("--version").output() {
        let root = fs::metadata("/proc/self").unwrap().uid() == 0;
        if root {
            eprintln!("skipped: nobody can't run the binary: {e}");
            return None;
        }
    }
    Some(Outcome::of(&mut command))
}

fn mode(place: &Place, name: &str, mode: u32) {
    fs::set_permissions(place.path(name), fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn no_permission() {
    let place = trained();
    mode(&place, "", 0o755);
    place.write("secret.csv", houses(0..40));
    place.write("secret.toml", changed(HOUSES, &[("houses.csv", "secret.csv")]));
    mode(&place, "secret.csv", 0o000);
    fs::create_dir(place.path("closed")).unwrap();
    mode(&place, "closed", 0o555);
    mode(&place, "runs/houses/run.lock", 0o444);
    let before = place.files();
    let mut words = String::new();
    for line in [
        "train secret.toml --out open",
        "check secret.toml",
        "data inspect secret.csv",
        "train houses.toml --out closed",
        "train houses.toml --out closed/runs",
        "predict houses --input secret.csv",
        "predict houses --input houses.csv --ignore-extra --output closed/p.csv",
        "plot houses --output closed/curves.svg",
        "recipe new --data houses.csv --target price --output closed/r.toml",
        "runs remove houses",
    ] {
        let Some(outcome) = as_somebody_else(&place, line) else { return };
        words += &outcome.refused().shown();
        words.push('\n');
    }
    snapshot("bad-permission", &words);
    assert_eq!(place.files(), before);
    mode(&place, "closed", 0o755);
}

/// Runs `jishi` in a mount namespace where the folder `full` is a file system of 48 KiB. Where the system allows no
/// such namespace, gives nothing.
fn on_a_small_disk(place: &Place, line: &str) -> Option<Outcome> {
    let script = r#"mount -t tmpfs -o size=48k none full || exit 77
"$@"
code=$?
find full -type f | sort >&3
exit $code"#;
    let script = script.replace(">&3", "> left.txt");
    let jishi = place.command::<&str>(&[]);
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", &script, "sh"]).arg(jishi.get_program()).args(line.split_whitespace());
    command.current_dir(place.path("")).env("NO_COLOR", "1");
    match command.output() {
        Err(e) => {
            eprintln!("skipped: no unshare: {e}");
            None
        }
        Ok(o) if o.status.code() == Some(77) || String::from_utf8_lossy(&o.stderr).contains("unshare") => {
            eprintln!("skipped: no small file system can be mounted: {}", String::from_utf8_lossy(&o.stderr));
            None
        }
        Ok(o) => Some(Outcome {
            line: line.to_owned(),
            code: o.status.code(),
            stdout: String::from_utf8(o.stdout).unwrap(),
            stderr: String::from_utf8(o.stderr).unwrap(),
        }),
    }
}

/// `1.1 MB` depends on the file system.
fn hide_sizes(text: &str) -> String {
    let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    for i in 1..words.len() {
        let unit = words[i].trim_end_matches([';', ')', '\n', ',']);
        if matches!(unit, "B" | "kB" | "MB" | "GB")
            && words[i - 1].trim_start_matches('(').parse::<f64>().is_ok()
        {
            let open = if words[i - 1].starts_with('(') { "(" } else { "" };
            words[i - 1] = format!("{open}[size]");
        }
    }
    words.join(" ")
}

#[test]
fn no_space_left() {
    let place = trained();
    fs::create_dir(place.path("full")).unwrap();
    let large: String = (0..9000).map(|i| format!("{},3,north,no,2001-01-01\n", 40 + i % 100)).collect();
    place.write("large.csv", format!("area,rooms,quarter,garden,built\n{large}"));
    let mut words = String::new();
    for line in [
        "check houses.toml --out full/runs",
        "train houses.toml --out full/runs",
        "predict houses --input large.csv --output full/p.csv",
    ] {
        let Some(outcome) = on_a_small_disk(&place, line) else { return };
        let outcome = Outcome { stderr: hide_sizes(&outcome.stderr), ..outcome }.refused();
        words += &outcome.shown();
        let _ = writeln!(words, "files left: {:?}\n", place.text("left.txt").lines().collect::<Vec<_>>());
    }
    snapshot("bad-no-space", &words);
}

#[test]
fn output_that_takes_nothing() {
    let place = trained();
    let mut command = place.command(&["predict", "houses", "--input", "houses.csv", "--ignore-extra"]);
    command.stdout(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    let output = command.output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert_ne!(output.status.code(), Some(0));
    assert!(words.starts_with("error: ") && words.to_lowercase().contains("no space"), "{words}");
    assert!(!words.contains("panicked"), "{words}");
}
