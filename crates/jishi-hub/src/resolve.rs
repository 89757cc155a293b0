//! What `model.from` and `jishi import` accept.

use std::fs;
use std::path::{Path, PathBuf};

use jishi_recipe::Problem;

use crate::checkpoint::{About, Checkpoint};
use crate::error::HubError;
use crate::{data, folder, gguf, remote, torchvision};

/// What a source turned out to be.
#[derive(Debug)]
pub enum Resolved {
    /// A model of another program.
    Checkpoint(Box<Checkpoint>),
    /// The folder of a run or a model package of Jishi, which is the caller's to read.
    Jishi(PathBuf),
}

/// Finds and reads a model: `hf:ORG/NAME[/FILE.gguf][@REVISION]`, `package:NAME`, the path of a Hugging Face folder, of
/// a GGUF file, of the weights of a model of torchvision, or of a run or package of Jishi. Relative paths start at `base`. `progress` is told what is fetched.
///
/// # Errors
/// [`Problem`]s where there is nothing, or nothing that is a model; as [`folder::read`], [`gguf::read`] and
/// [`remote::fetch`].
pub fn resolve(source: &str, base: &Path, progress: &mut dyn FnMut(&str)) -> Result<Resolved, HubError> {
    let path = if let Some(name) = source.strip_prefix("hf:") {
        remote::fetch(&remote::Name::parse(name)?, &remote::Settings::from_env(), progress)?
    } else if let Some(name) = source.strip_prefix("package:") {
        data::resolve(name, &data::root()?)?
    } else {
        base.join(source)
    };
    read(&path)
}

/// Reads the model at `path`, whatever it is.
///
/// # Errors
/// As [`resolve`].
pub fn read(path: &Path) -> Result<Resolved, HubError> {
    let checkpoint = |read: Checkpoint| Resolved::Checkpoint(Box::new(read));
    if path.is_dir() {
        // A package has a `model.json`, a run a `manifest.json`; no folder of another program has either.
        if path.join("model.json").is_file() || path.join("manifest.json").is_file() {
            return Ok(Resolved::Jishi(path.into()));
        }
        if path.join(CONFIG).is_file() {
            return folder::read(path).map(checkpoint);
        }
        if let Some(file) = only(path, &["gguf"])? {
            return gguf::read(&file).map(checkpoint);
        }
        return match only(path, &WEIGHTS)? {
            Some(file) => weights(&file).map(checkpoint),
            None => folder::read(path).map(checkpoint),
        };
    }
    if !path.exists() {
        return Err(Problem::new("there is no such file or folder").file(path).help(ACCEPTED).into());
    }
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    match ending.as_str() {
        "gguf" => gguf::read(path).map(checkpoint),
        ending if WEIGHTS.contains(&ending) => weights(path).map(checkpoint),
        _ => Err(Problem::new("expected a model, found a file of another kind")
            .file(path)
            .help(ACCEPTED)
            .into()),
    }
}

const CONFIG: &str = "config.json";
/// Endings of files of weights alone.
const WEIGHTS: [&str; 4] = ["safetensors", "pth", "pt", "bin"];
const ACCEPTED: &str = "a model is a run, a model package, a Hugging Face folder, a GGUF file, weights of a model of \
                        torchvision, `hf:ORG/NAME` or `package:NAME`";

/// Weights alone, whose model is told by the `config.json` beside them, or else by their names and shapes.
fn weights(path: &Path) -> Result<Checkpoint, HubError> {
    let config = path.with_file_name(CONFIG);
    if config.is_file() {
        return folder::read_with(jishi_runs::fs::parent(path), Some(path));
    }
    let tensors = folder::read_weights(path)?;
    let config = torchvision::config(&tensors).map_err(|problem| problem.file(path))?;
    let supposed = torchvision::supposed(&config);
    Ok(Checkpoint { about: About { config, supposed, ..About::default() }, tensors })
}

/// The file of a folder with one of these endings, where there is one alone.
fn only(folder: &Path, endings: &[&str]) -> Result<Option<PathBuf>, HubError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| HubError::io(folder, e))? {
        let path = entry.map_err(|e| HubError::io(folder, e))?.path();
        if path.extension().is_some_and(|found| endings.iter().any(|ending| found == *ending)) {
            found.push(path);
        }
    }
    found.sort();
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        several => {
            let message =
                format!("expected one file that ends with {}, found {}", endings.join(", "), several.len());
            Err(Problem::new(message).file(folder).help("give the path of one of them").into())
        }
    }
}
