//! What `model.from` and `jishi import` accept.

use std::fs;
use std::path::{Path, PathBuf};

use jishi_recipe::Problem;

use crate::checkpoint::Checkpoint;
use crate::error::HubError;
use crate::{data, folder, gguf, remote};

/// What a source turned out to be.
#[derive(Debug)]
pub enum Resolved {
    /// A model of another program.
    Checkpoint(Box<Checkpoint>),
    /// The folder of a run or a model package of Jishi, which is the caller's to read.
    Jishi(PathBuf),
}

/// Finds and reads a model: `hf:ORG/NAME[/FILE.gguf][@REVISION]`, `package:NAME`, the path of a Hugging Face folder, of
/// a GGUF file, or of a run or package of Jishi. Relative paths start at `base`. `progress` is told what is fetched.
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
        if !path.join("config.json").is_file()
            && let Some(file) = only_gguf(path)?
        {
            return gguf::read(&file).map(checkpoint);
        }
        return folder::read(path).map(checkpoint);
    }
    if !path.exists() {
        return Err(Problem::new("there is no such file or folder").file(path).help(ACCEPTED).into());
    }
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    match ending.as_str() {
        "gguf" => gguf::read(path).map(checkpoint),
        "safetensors" => Err(Problem::new("weights alone are no model: its config.json is needed too")
            .file(path)
            .help("give the path of the folder with both")
            .into()),
        "bin" | "pt" | "pth" | "pkl" => Err(Problem::new(
            "expected a model, found a pickle: reading one would run code from it",
        )
        .file(path)
        .help("load it where you trust it, and save it with `save_pretrained`, which writes safetensors")
        .into()),
        _ => Err(Problem::new("expected a model, found a file of another kind")
            .file(path)
            .help(ACCEPTED)
            .into()),
    }
}

const ACCEPTED: &str =
    "a model is a run, a model package, a Hugging Face folder, a GGUF file, `hf:ORG/NAME` or `package:NAME`";

/// The GGUF file of a folder that has one alone.
fn only_gguf(folder: &Path) -> Result<Option<PathBuf>, HubError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| HubError::io(folder, e))? {
        let path = entry.map_err(|e| HubError::io(folder, e))?.path();
        if path.extension().is_some_and(|e| e == "gguf") {
            found.push(path);
        }
    }
    found.sort();
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        several => {
            let message = format!("expected one GGUF file, found {}", several.len());
            Err(Problem::new(message).file(folder).help("give the path of one of them").into())
        }
    }
}
