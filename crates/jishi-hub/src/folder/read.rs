//! Reading a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jishi_recipe::{Problem, Problems};
use jishi_runs::{folder as limited, tensors};
use serde_json::Value;

use super::{
    CHAT_TEMPLATE, CONFIG, GENERATION_CONFIG, INDEX, SPECIAL_TOKENS, TOKENIZER, TOKENIZER_CONFIG, WEIGHTS,
    sentence,
};
use crate::checkpoint::{About, Checkpoint};
use crate::dtype::Dtype;
use crate::error::HubError;
use crate::mapped::Mapped;
use crate::tensors::{Order, TensorMeta, Tensors};

/// Files beside the weights are read whole; the largest known is a tokenizer of 33 MB.
const MAX_SMALL_FILE: u64 = 256 << 20;
const AGAIN: &str = "download the model again";

/// Reads the Hugging Face folder `dir`. Weights are only mapped.
///
/// # Errors
/// [`Problems`] for files that are missing, damaged or do not belong together, and for weights that come as a pickle
/// alone; the system's errors. The family of the model is not looked at.
pub fn read(dir: &Path) -> Result<Checkpoint, HubError> {
    if !dir.is_dir() {
        return Err(Problem::new("expected a folder with a model").file(dir).into());
    }
    let Some(config) = json_file(&dir.join(CONFIG))? else {
        return Err(Problem::new(format!("expected a Hugging Face model, but there is no {CONFIG}"))
            .file(dir)
            .help("download every JSON and safetensors file of the model into one folder")
            .into());
    };
    let mut about = About { config, ..About::default() };
    about.tokenizer_json = bytes_of(&dir.join(TOKENIZER))?;
    about.tokenizer_config = json_file(&dir.join(TOKENIZER_CONFIG))?;
    about.special_tokens_map = json_file(&dir.join(SPECIAL_TOKENS))?;
    about.generation_config = json_file(&dir.join(GENERATION_CONFIG))?;
    about.chat_template = chat_template(dir, about.tokenizer_config.as_ref())?;
    about.sentence = sentence::read(dir)?;
    Ok(Checkpoint { about, tensors: weights(dir)? })
}

fn chat_template(dir: &Path, config: Option<&Value>) -> Result<Option<String>, HubError> {
    if let Some(bytes) = bytes_of(&dir.join(CHAT_TEMPLATE))? {
        let text = String::from_utf8(bytes)
            .map_err(|_| Problem::new("the chat template is not UTF-8").file(dir.join(CHAT_TEMPLATE)))?;
        return Ok(Some(text));
    }
    let Some(template) = config.and_then(|c| c.get("chat_template")) else { return Ok(None) };
    if let Some(named) = template.as_array() {
        let default = named.iter().find(|t| t.get("name").and_then(Value::as_str) == Some("default"));
        return Ok(default.and_then(|t| t.get("template")?.as_str()).map(String::from));
    }
    Ok(template.as_str().map(String::from))
}

fn bytes_of(path: &Path) -> Result<Option<Vec<u8>>, HubError> {
    if !path.is_file() {
        return Ok(None);
    }
    Ok(Some(limited::read_limited(path, MAX_SMALL_FILE)?))
}

/// A JSON file that may be missing.
pub(super) fn json_file(path: &Path) -> Result<Option<Value>, HubError> {
    let Some(bytes) = bytes_of(path)? else { return Ok(None) };
    Ok(Some(limited::parse_json(path, &bytes)?))
}

fn weights(dir: &Path) -> Result<Tensors, HubError> {
    let mut tensors = Tensors::default();
    let index = dir.join(INDEX);
    if dir.join(WEIGHTS).is_file() {
        add_file(&mut tensors, &dir.join(WEIGHTS))?;
    } else if let Some(value) = json_file(&index)? {
        let map = weight_map(&value).ok_or_else(|| {
            Problem::new("expected a weight_map from tensors to file names").file(&index).help(AGAIN)
        })?;
        let names: BTreeSet<&String> = map.values().collect();
        let missing = names
            .iter()
            .filter(|name| !dir.join(name).is_file())
            .map(|name| Problem::new("this part of the weights is missing").file(dir.join(name)).help(AGAIN));
        Problems(missing.collect()).into_result()?;
        for name in names {
            add_file(&mut tensors, &dir.join(name))?;
        }
        let missing: Vec<&str> =
            map.keys().map(String::as_str).filter(|name| tensors.meta(name).is_none()).collect();
        if let Some(first) = missing.first() {
            let message =
                format!("{} tensors of the index are in no file; the first is {first:?}", missing.len());
            return Err(Problem::new(message).file(index).help(AGAIN).into());
        }
    } else {
        return Err(no_weights(dir).into());
    }
    Ok(tensors)
}

/// Tensors and the names of their files, which must be names in the same folder.
fn weight_map(index: &Value) -> Option<BTreeMap<String, String>> {
    let file = |value: &Value| {
        let name = value.as_str()?;
        (Path::new(name).file_name()? == name && name.ends_with(".safetensors")).then(|| name.to_string())
    };
    index.get("weight_map")?.as_object()?.iter().map(|(k, v)| Some((k.clone(), file(v)?))).collect()
}

fn no_weights(dir: &Path) -> Problem {
    let pickle = ["pytorch_model.bin", "pytorch_model.bin.index.json"];
    match pickle.iter().find(|name| dir.join(name).is_file()) {
        Some(name) => Problem::new(format!(
            "expected {WEIGHTS}, found {name} alone, a pickle: Jishi runs no code from models, and reading a pickle would"
        ))
        .file(dir)
        .help("convert it where you trust it: `python -c \"from transformers import AutoModel; \
               AutoModel.from_pretrained('DIR').save_pretrained('OUT')\"`, or choose a revision with safetensors"),
        None => Problem::new(format!("the folder has neither {WEIGHTS} nor {INDEX}")).file(dir).help(AGAIN),
    }
}

fn add_file(tensors: &mut Tensors, path: &Path) -> Result<(), HubError> {
    add_mapped(tensors, Mapped::open(path)?)?;
    Ok(())
}

pub(crate) fn add_mapped(tensors: &mut Tensors, file: Mapped) -> Result<(), Problems> {
    let path = file.path.clone();
    let header = tensors::read_header(file.bytes(), &path, AGAIN)?;
    let file = tensors.add_file(file);
    let mut problems = Vec::new();
    for info in header.tensors {
        let Some(dtype) = Dtype::from_name(&info.dtype) else {
            let message =
                format!("tensor {:?} has the type {}, which Jishi does not read", info.name, info.dtype);
            problems.push(Problem::new(message).file(&path));
            continue;
        };
        let meta = TensorMeta { shape: info.shape, dtype };
        if !tensors.insert(info.name.clone(), meta, file, info.range, Order::Same) {
            let message = format!("tensor {:?} is in another file of the model too", info.name);
            problems.push(Problem::new(message).file(&path));
        }
    }
    Problems(problems).into_result()
}
