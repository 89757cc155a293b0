//! The model package: a folder with everything that prediction needs.
//!
//! `model.safetensors` holds the weights, `model.json` the rest: task, recipe, fitted preprocessing,
//! schemas, metrics, golden rows with their outputs, and size and hash of every file. It is written
//! and replaced as a whole, and verified as a whole before anything of it is used.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jishi_recipe::{Problem, Problems};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::RunError;
use crate::folder::{self, FileEntry};
use crate::fs::Fs;
use crate::manifest::Metric;
use crate::tensors::{self, TensorFile};

const MANIFEST: &str = "model.json";
const WEIGHTS: &str = "model.safetensors";
const FORMAT: &str = "jishi-model";
const VERSION: u32 = 1;
/// No preprocessing of a table comes near this.
const MAX_MANIFEST: u64 = 1 << 30;

/// A model package.
#[derive(Debug, Clone, PartialEq)]
pub struct Package {
    /// Everything but the weights.
    pub manifest: PackageManifest,
    /// The weights, with scalars of the model.
    pub weights: TensorFile,
    /// Other files that prediction needs, by name: a tokenizer.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// `model.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PackageManifest {
    /// `jishi-model`.
    pub format: String,
    /// Version of this format.
    pub version: u32,
    /// Version of jishi that wrote it.
    pub jishi_version: String,
    /// The task, as in the recipe.
    pub task: String,
    /// The model family, as in the recipe.
    pub family: String,
    /// The recipe as resolved.
    pub recipe: Value,
    /// The fitted preprocessing.
    pub preprocessing: Value,
    /// Columns that prediction reads.
    pub inputs: Vec<ColumnSchema>,
    /// Columns that prediction writes.
    pub outputs: Vec<ColumnSchema>,
    /// Metrics by split and name.
    pub metrics: BTreeMap<String, BTreeMap<String, Metric>>,
    /// Rows whose outputs are known, to show that a loaded model still gives them.
    pub golden: Golden,
    /// Size and hash of every other file; filled in by [`Package::save`].
    #[serde(default)]
    pub files: BTreeMap<String, FileEntry>,
}

/// A column of a schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnSchema {
    /// Its name.
    pub name: String,
    /// Its type: `number`, `category`, `boolean`, `date`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it means, where there is more to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// Rows and the outputs that the model gave for them when it was packed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Golden {
    /// Input rows by column name; values as in the data.
    pub inputs: Vec<Map<String, Value>>,
    /// Outputs a row, as the model gives them.
    pub outputs: Vec<Vec<f64>>,
}

impl PackageManifest {
    /// A manifest with everything that has no sensible default, the rest empty.
    #[must_use]
    pub fn new(jishi_version: &str, recipe: Value, preprocessing: Value) -> Self {
        let text =
            |pointer: &str| recipe.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_string();
        Self {
            format: FORMAT.into(),
            version: VERSION,
            jishi_version: jishi_version.into(),
            task: text("/task"),
            family: text("/model/family"),
            recipe,
            preprocessing,
            inputs: Vec::new(),
            outputs: Vec::new(),
            metrics: BTreeMap::new(),
            golden: Golden::default(),
            files: BTreeMap::new(),
        }
    }
}

impl Package {
    /// Writes the package as the folder `dir`, in the place of one that is there.
    ///
    /// # Errors
    /// [`Problems`] where `dir` holds something else than a package or a tensor does not fit its shape;
    /// [`RunError::NoSpace`] before anything is written where the disk is too small; the system's errors. `dir` then
    /// holds what it held.
    pub fn save(&self, fs: &dyn Fs, dir: &Path) -> Result<(), RunError> {
        if !folder::names(dir)?.is_empty() && !dir.join(MANIFEST).is_file() {
            return Err(Problem::new(
                "expected a model package to replace, found a folder with other things in it",
            )
            .file(dir)
            .help("choose another folder")
            .into());
        }
        let weights = self.weights.encode()?;
        let mut manifest = self.manifest.clone();
        let mut files: Vec<(&str, &[u8])> = vec![(WEIGHTS, &weights)];
        files.extend(self.files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
        manifest.files =
            files.iter().map(|(name, bytes)| ((*name).to_owned(), FileEntry::of(bytes))).collect();
        let mut text = serde_json::to_vec_pretty(&manifest).map_err(|e| RunError::io(dir, e.into()))?;
        text.push(b'\n');
        files.push((MANIFEST, &text));
        folder::publish(fs, dir, &files)
    }

    /// Reads the package in `dir` and verifies every size and hash. Runs no code from it.
    ///
    /// Where a crash fell between the two renames of a [`Package::save`], the package that was there before is read.
    ///
    /// # Errors
    /// [`Problems`] that name what is missing, cut off, too long, changed or of an unknown version; the system's
    /// errors.
    pub fn load(dir: &Path) -> Result<Self, RunError> {
        let places = folder::candidates(dir)?;
        let place = places.first().map_or(dir, PathBuf::as_path);
        let path = place.join(MANIFEST);
        if !path.exists() {
            return Err(Problem::new(format!("expected a model package, but there is no {MANIFEST}"))
                .file(dir)
                .help("name a run that has ended, or the folder of a package")
                .into());
        }
        let value: Value = folder::parse_json(&path, &folder::read_limited(&path, MAX_MANIFEST)?)?;
        check_version(&path, &value)?;
        let manifest: PackageManifest = serde_json::from_value(value)
            .map_err(|e| Problem::new(format!("the package's manifest is damaged: {e}")).file(&path))?;
        if !manifest.files.contains_key(WEIGHTS) {
            return Err(Problem::new(format!("the package's list of files has no {WEIGHTS}"))
                .file(path)
                .into());
        }
        if manifest.golden.inputs.len() != manifest.golden.outputs.len() {
            let message = format!(
                "expected as many golden outputs as inputs ({}), found {}",
                manifest.golden.inputs.len(),
                manifest.golden.outputs.len()
            );
            return Err(Problem::new(message).file(path).into());
        }
        let mut files = match folder::read_verified(place, &manifest.files) {
            Ok(files) => files,
            Err(error) => return Err(explain(place, error)),
        };
        let bytes = files.remove(WEIGHTS).unwrap_or_default();
        let weights = tensors::decode(&bytes, &place.join(WEIGHTS))?;
        Ok(Self { manifest, weights, files })
    }
}

/// Adds what is wrong inside the weights to a wrong size or hash: more is learned from "the header is cut off" than
/// from two hashes that differ.
fn explain(dir: &Path, error: RunError) -> RunError {
    let RunError::Bad(mut problems) = error else { return error };
    let path = dir.join(WEIGHTS);
    // Weights that are far larger than memory are not read for a better word.
    if let Ok(bytes) = folder::read_limited(&path, MAX_MANIFEST)
        && let Err(Problems(more)) = tensors::decode(&bytes, &path)
    {
        problems.0.extend(more);
    }
    problems.into()
}

/// The task of the package in `dir`, from its manifest alone.
///
/// # Errors
/// As [`Package::load`], but nothing else of it is verified.
pub fn task(dir: &Path) -> Result<String, RunError> {
    let places = folder::candidates(dir)?;
    let path = places.first().map_or(dir, PathBuf::as_path).join(MANIFEST);
    let value: Value = folder::parse_json(&path, &folder::read_limited(&path, MAX_MANIFEST)?)?;
    check_version(&path, &value)?;
    Ok(value["task"].as_str().unwrap_or_default().to_owned())
}

/// The manifest of the package in `dir` alone.
///
/// # Errors
/// As [`Package::load`], but nothing else of it is verified.
pub fn manifest(dir: &Path) -> Result<PackageManifest, RunError> {
    let places = folder::candidates(dir)?;
    let path = places.first().map_or(dir, PathBuf::as_path).join(MANIFEST);
    let value: Value = folder::parse_json(&path, &folder::read_limited(&path, MAX_MANIFEST)?)?;
    check_version(&path, &value)?;
    let damaged = |e| Problem::new(format!("the package's manifest is damaged: {e}")).file(&path);
    Ok(serde_json::from_value(value).map_err(damaged)?)
}

/// The version of the package in `dir`: the first digits of its manifest's SHA-256. As the manifest has the hashes of all
/// other files, packages of the same version are the same.
///
/// # Errors
/// There is no package, or it can't be read.
pub fn version(dir: &Path) -> Result<String, RunError> {
    let places = folder::candidates(dir)?;
    let path = places.first().map_or(dir, PathBuf::as_path).join(MANIFEST);
    let mut digest = FileEntry::of(&folder::read_limited(&path, MAX_MANIFEST)?).sha256;
    digest.truncate(12);
    Ok(digest)
}

fn check_version(path: &Path, value: &Value) -> Result<(), Problem> {
    let format = value.get("format").and_then(Value::as_str).unwrap_or("none");
    if format != FORMAT {
        return Err(Problem::new(format!("expected a model package {FORMAT:?}, found {format:?}")).file(path));
    }
    let found = value.get("version").and_then(Value::as_u64);
    if found == Some(VERSION.into()) {
        return Ok(());
    }
    let by = value.get("jishi_version").and_then(Value::as_str).unwrap_or("an unknown version");
    let found = found.map_or_else(|| "none".into(), |v| v.to_string());
    Err(Problem::new(format!(
        "expected version {VERSION} of the package format, found {found} (written by jishi {by})"
    ))
    .file(path)
    .help("use the version of jishi that wrote it, or a later one"))
}

/// The package that `spec` means: a package's folder, a run's folder, or a run's name under `root`.
///
/// # Errors
/// A [`Problem`] where there is none; as [`crate::RunDir::open`].
pub fn find(root: &Path, spec: &str) -> Result<PathBuf, RunError> {
    let path = Path::new(spec);
    if path.join(MANIFEST).is_file() {
        return Ok(path.to_path_buf());
    }
    of_run(&crate::RunDir::open(root, spec)?)
}

/// The package of a run.
///
/// # Errors
/// A [`Problem`] where the run has none: it has not ended, or each of its folds has one.
pub fn of_run(run: &crate::RunDir) -> Result<PathBuf, RunError> {
    let model = run.model();
    if folder::candidates(&model).is_ok_and(|places| !places.is_empty()) {
        return Ok(model);
    }
    let fold = run.file("folds").join("fold-1");
    if fold.is_dir() {
        return Err(Problem::new("a cross-validation has no model of its own: each of its folds has one")
            .file(run.path())
            .help(format!("name a fold, as in `{}`, or train without folds", fold.display()))
            .into());
    }
    Err(Problem::new("the run has no model package: it has not ended")
        .file(run.path())
        .help("train it to its end with `--resume`")
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Fault, FaultFs};
    use crate::fs::RealFs;
    use crate::tensors::{Scalars, TensorEntry};
    use serde_json::json;
    use std::fs;

    fn package(weight: f32) -> Package {
        let recipe = json!({"name": "a", "task": "regression", "model": {"family": "linear"}});
        let mut manifest = PackageManifest::new("0.1.0", recipe, json!({"columns": ["x"]}));
        manifest.inputs.push(ColumnSchema { name: "x".into(), kind: "number".into(), description: None });
        manifest.metrics.entry("test".into()).or_default().insert("rmse".into(), 1.5.into());
        let row = Map::from_iter([("x".to_string(), json!(3.0))]);
        manifest.golden = Golden { inputs: vec![row], outputs: vec![vec![f64::from(weight) * 3.0]] };
        let mut scalars = Scalars::default();
        scalars.set("members", 1);
        let tensors = vec![TensorEntry { name: "weight".into(), shape: vec![1, 1], data: vec![weight] }];
        let files = BTreeMap::from([("tokenizer.json".to_owned(), b"{}".to_vec())]);
        Package { manifest, weights: TensorFile { tensors, scalars }, files }
    }

    fn weight(package: &Package) -> f32 {
        package.weights.tensors[0].data[0]
    }

    fn message(dir: &Path) -> String {
        let error = Package::load(dir).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    }

    #[test]
    fn comes_back_as_it_went_and_can_be_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("model");
        for value in [0.1, 0.2] {
            package(value).save(&RealFs, &dir).unwrap();
            let mut back = Package::load(&dir).unwrap();
            assert_eq!(back.manifest.files.len(), 2);
            back.manifest.files.clear();
            assert_eq!(back, package(value));
        }
        assert_eq!(folder::names(dir.parent().unwrap()).unwrap(), ["model"]);
    }

    #[test]
    fn every_kind_of_damage_is_named() {
        type Damage = fn(&Path);
        let edit = |path: &Path, from: &str, to: &str| {
            let text = fs::read_to_string(path).unwrap();
            assert!(text.contains(from), "{from}");
            crate::atomic::write_real(path, text.replacen(from, to, 1).as_bytes()).unwrap();
        };
        let truncate: Damage = |p| {
            fs::OpenOptions::new().write(true).open(p.join(WEIGHTS)).unwrap().set_len(20).unwrap();
        };
        let long_header: Damage = |p| {
            let mut bytes = fs::read(p.join(WEIGHTS)).unwrap();
            bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
            crate::atomic::write_real(&p.join(WEIGHTS), &bytes).unwrap();
        };
        let flip: Damage = |p| {
            let mut bytes = fs::read(p.join(WEIGHTS)).unwrap();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            crate::atomic::write_real(&p.join(WEIGHTS), &bytes).unwrap();
        };
        let no_weights: Damage = |p| fs::remove_file(p.join(WEIGHTS)).unwrap();
        let no_manifest: Damage = |p| fs::remove_file(p.join(MANIFEST)).unwrap();
        for (damage, words) in [
            (truncate, &["expected 1", "found 20", "header is cut off"][..]),
            (long_header, &["SHA-256", "at most 100000000 bytes"]),
            (flip, &["SHA-256", "the file was changed"]),
            (no_weights, &["missing", WEIGHTS]),
            (no_manifest, &["no model.json"]),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let dir = dir.path().join("model");
            package(1.0).save(&RealFs, &dir).unwrap();
            damage(&dir);
            let message = message(&dir);
            for word in words {
                assert!(message.contains(word), "{word}: {message}");
            }
        }
        for (from, to, word) in [
            ("\"version\": 1", "\"version\": 2", "found 2 (written by jishi 0.1.0)"),
            ("jishi-model", "other", "found \"other\""),
            ("\"inputs\": [", "\"inputs\": {", ":"),
            ("\"task\"", "\"tusk\"", "damaged"),
            ("\"model.safetensors\": {", "\"../model.safetensors\": {", "no model.safetensors"),
            ("\"outputs\": [\n      [", "\"outputs\": [[],\n      [", "golden"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let dir = dir.path().join("model");
            package(1.0).save(&RealFs, &dir).unwrap();
            edit(&dir.join(MANIFEST), from, to);
            let message = message(&dir);
            assert!(message.contains(word), "{word}: {message}");
        }
        assert!(message(Path::new("/no/such/package")).contains("model.json"));
    }

    #[test]
    fn a_manifest_of_a_gigabyte_is_refused_unread() {
        let dir = tempfile::tempdir().unwrap();
        // A file with a hole: large by its size, nothing on the disk.
        fs::File::create(dir.path().join(MANIFEST)).unwrap().set_len(MAX_MANIFEST + 1).unwrap();
        assert!(message(dir.path()).contains("expected at most"));
    }

    #[test]
    fn other_folders_are_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        crate::atomic::write_real(&dir.path().join("thesis.tex"), b"x").unwrap();
        let error = package(1.0).save(&RealFs, dir.path()).unwrap_err();
        assert!(error.to_string().contains("other things"));
        assert!(dir.path().join("thesis.tex").exists());
    }

    #[test]
    fn a_failure_while_it_is_replaced_loses_nothing() {
        for fault in Fault::ALL {
            let mut at = 0;
            loop {
                let dir = tempfile::tempdir().unwrap();
                let dir = dir.path().join("model");
                package(1.0).save(&FaultFs::new(Fault::Error, usize::MAX), &dir).unwrap();
                let fs = FaultFs::new(fault, at);
                let result = package(2.0).save(&fs, &dir);
                let done = !fs.struck();
                fs.strike();
                fs.settle();
                let found = weight(&Package::load(&dir).unwrap());
                assert!(found == 1.0 || found == 2.0, "{fault:?} at {at}");
                assert!(result.is_err() || found == 2.0, "{fault:?} at {at}");
                if done {
                    result.unwrap();
                    break;
                }
                at += 1;
            }
            assert!(at >= 10, "only {at} operations seen");
        }
    }
}
