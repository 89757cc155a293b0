//! The modules of sentence-transformers: `modules.json` names folders, and the pooling folder has a config.

use std::path::Path;

use jishi_recipe::Problem;
use serde_json::{Value, json};

use super::read::json_file;
use crate::checkpoint::{Pooling, SentenceTransformer};
use crate::error::HubError;

const MODULES: &str = "modules.json";
const SEQUENCE: &str = "sentence_bert_config.json";
const POOLING_FOLDER: &str = "1_Pooling";
const MODES: [(&str, Pooling); 4] = [
    ("pooling_mode_mean_tokens", Pooling::Mean),
    ("pooling_mode_cls_token", Pooling::Cls),
    ("pooling_mode_max_tokens", Pooling::Max),
    ("pooling_mode_lasttoken", Pooling::Last),
];

/// The modules of the folder `dir`, where it has any.
pub(super) fn read(dir: &Path) -> Result<Option<SentenceTransformer>, HubError> {
    let path = dir.join(MODULES);
    let Some(modules) = json_file(&path)? else { return Ok(None) };
    let modules = modules.as_array().ok_or_else(|| Problem::new("expected a list of modules").file(&path))?;
    let mut found = SentenceTransformer { pooling: Pooling::Mean, normalise: false, max_seq_length: None };
    for module in modules {
        let text = |key: &str| module.get(key).and_then(Value::as_str).unwrap_or_default();
        match text("type").rsplit('.').next().unwrap_or_default() {
            "Transformer" => {}
            "Normalize" => found.normalise = true,
            "Pooling" => found.pooling = pooling(dir, text("path"))?,
            other => {
                let message =
                    format!("expected the modules Transformer, Pooling and Normalize, found {other:?}");
                return Err(Problem::new(message).file(&path).into());
            }
        }
    }
    if let Some(config) = json_file(&dir.join(SEQUENCE))? {
        found.max_seq_length =
            config.get("max_seq_length").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    }
    Ok(Some(found))
}

fn pooling(dir: &Path, folder: &str) -> Result<Pooling, HubError> {
    // A path from a downloaded file must not lead out of its folder.
    let folder = Path::new(folder).file_name().map_or_else(|| Path::new(POOLING_FOLDER), Path::new);
    let path = dir.join(folder).join("config.json");
    let config = json_file(&path)?.ok_or_else(|| {
        Problem::new("the pooling module has no config.json").file(&path).help("download the whole folder")
    })?;
    let on: Vec<&str> = config
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| key.starts_with("pooling_mode") && value.as_bool() == Some(true))
        .map(|(key, _)| key.as_str())
        .collect();
    match MODES.iter().find(|(name, _)| on == [*name]) {
        Some((_, mode)) => Ok(*mode),
        None => {
            let known: Vec<&str> = MODES.iter().map(|m| m.0).collect();
            let message = format!("expected one of {}, found {}", known.join(", "), on.join(" and "));
            Err(Problem::new(message).file(path).into())
        }
    }
}

/// The files of the modules: paths in the folder, and contents.
pub(super) fn files(sentence: &SentenceTransformer, width: usize) -> Vec<(String, Value)> {
    let module = |index: usize, path: &str, kind: &str| {
        json!({"idx": index, "name": index.to_string(), "path": path,
               "type": format!("sentence_transformers.models.{kind}")})
    };
    let mut modules = vec![module(0, "", "Transformer"), module(1, POOLING_FOLDER, "Pooling")];
    if sentence.normalise {
        modules.push(module(2, "2_Normalize", "Normalize"));
    }
    let mut pooling = json!({"word_embedding_dimension": width});
    for (name, mode) in MODES {
        pooling[name] = (mode == sentence.pooling).into();
    }
    let mut sequence = json!({"do_lower_case": false});
    if let Some(length) = sentence.max_seq_length {
        sequence["max_seq_length"] = length.into();
    }
    vec![
        (MODULES.into(), modules.into()),
        (SEQUENCE.into(), sequence),
        (format!("{POOLING_FOLDER}/config.json"), pooling),
    ]
}
