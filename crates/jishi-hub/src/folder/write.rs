//! Writing a folder that `transformers` loads.

use std::fs;
use std::io::Write;
use std::path::Path;

use half::{bf16, f16};
use jishi_recipe::Problem;
use jishi_runs::atomic::{AtomicFile, write_json, write_real};
use jishi_runs::{RealFs, RunError};
use serde_json::{Map, Value, json};

use super::{
    CHAT_TEMPLATE, CONFIG, GENERATION_CONFIG, INDEX, PREPROCESSOR_CONFIG, SPECIAL_TOKENS, TOKENIZER,
    TOKENIZER_CONFIG, WEIGHTS, sentence,
};
use crate::checkpoint::{About, Weights};
use crate::dtype::Dtype;
use crate::error::HubError;

/// Bytes of a file of weights, as many as in those of `transformers`: larger ones are parts with an index.
const PART: usize = 5_000_000_000;

/// Writes a model as the Hugging Face folder `dir`, which may exist; files of the same names are replaced. `dtype` is
/// F32, F16 or BF16. Weights of more than 5 GB are cut into parts.
///
/// # Errors
/// A [`Problem`] for another type, and for a tensor whose values do not fit its shape; the system's errors.
pub fn write(dir: &Path, about: &About, weights: &dyn Weights, dtype: Dtype) -> Result<(), HubError> {
    check_plain(dir, dtype)?;
    fs::create_dir_all(dir).map_err(|e| HubError::io(dir, e))?;
    write_parts(dir, weights, dtype, PART)?;
    let mut about = about.clone();
    if let Some(config) = about.config.as_object_mut() {
        let name = match dtype {
            Dtype::F16 => "float16",
            Dtype::BF16 => "bfloat16",
            _ => "float32",
        };
        config.insert("torch_dtype".into(), name.into());
    }
    write_about(dir, &about)
}

/// What is in a file.
enum Content<'a> {
    Json(&'a Value),
    Bytes(&'a [u8]),
}

/// The files that a folder has besides weights and folders inside.
fn files(about: &About) -> Vec<(&'static str, Content<'_>)> {
    let bytes = [
        (TOKENIZER, about.tokenizer_json.as_deref()),
        (CHAT_TEMPLATE, about.chat_template.as_deref().map(str::as_bytes)),
    ];
    let values = [
        (CONFIG, Some(&about.config)),
        (TOKENIZER_CONFIG, about.tokenizer_config.as_ref()),
        (SPECIAL_TOKENS, about.special_tokens_map.as_ref()),
        (GENERATION_CONFIG, about.generation_config.as_ref()),
        (PREPROCESSOR_CONFIG, about.preprocessor_config.as_ref()),
    ];
    let values = values.into_iter().filter_map(|(name, value)| Some((name, Content::Json(value?))));
    let bytes = bytes.into_iter().filter_map(|(name, bytes)| Some((name, Content::Bytes(bytes?))));
    values.chain(bytes).collect()
}

/// The files of [`write_about`], but those of folders inside.
#[must_use]
pub fn names(about: &About) -> Vec<&'static str> {
    files(about).into_iter().map(|(name, _)| name).collect()
}

/// Writes all files of a Hugging Face folder but the weights.
///
/// # Errors
/// The system's errors.
pub fn write_about(dir: &Path, about: &About) -> Result<(), HubError> {
    for (name, content) in files(about) {
        match content {
            Content::Json(value) => write_json(&RealFs, &dir.join(name), value)?,
            Content::Bytes(bytes) => write_real(&dir.join(name), bytes)?,
        }
    }
    if let Some(modules) = &about.sentence {
        for (name, value) in sentence::files(modules, about.number("hidden_size").unwrap_or_default()) {
            let path = dir.join(name);
            let parent = jishi_runs::fs::parent(&path);
            fs::create_dir_all(parent).map_err(|e| HubError::io(parent, e))?;
            write_json(&RealFs, &path, &value)?;
        }
    }
    Ok(())
}

/// Writes weights as one safetensors file, a tensor at a time. `dtype` is F32, F16 or BF16.
///
/// # Errors
/// As [`write()`].
pub fn write_safetensors(path: &Path, weights: &dyn Weights, dtype: Dtype) -> Result<(), HubError> {
    check_plain(path, dtype)?;
    write_file(path, weights, &weights.list(), dtype)
}

/// Writes weights to one file, or to several of at most `most` bytes and an index; a larger tensor has its own.
fn write_parts(dir: &Path, weights: &dyn Weights, dtype: Dtype, most: usize) -> Result<(), HubError> {
    let mut parts: Vec<Vec<(String, Vec<usize>)>> = Vec::new();
    // Bytes of all, and of the last part.
    let (mut total, mut last) = (0, 0);
    for (name, shape) in weights.list() {
        let bytes = dtype.bytes(&shape).ok_or_else(|| too_large(&name))?;
        total += bytes;
        match parts.last_mut().filter(|_| last + bytes <= most) {
            Some(part) => part.push((name, shape)),
            None => {
                parts.push(vec![(name, shape)]);
                last = 0;
            }
        }
        last += bytes;
    }
    let count = parts.len();
    if count < 2 {
        return write_safetensors(&dir.join(WEIGHTS), weights, dtype);
    }
    let mut map = Map::new();
    for (number, part) in (1..).zip(&parts) {
        let file = format!("model-{number:05}-of-{count:05}.safetensors");
        write_file(&dir.join(&file), weights, part, dtype)?;
        map.extend(part.iter().map(|(name, _)| (name.clone(), file.as_str().into())));
    }
    let index = json!({ "metadata": { "total_size": total }, "weight_map": map });
    Ok(write_json(&RealFs, &dir.join(INDEX), &index)?)
}

fn check_plain(path: &Path, dtype: Dtype) -> Result<(), Problem> {
    if matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
        return Ok(());
    }
    let message = format!("expected F32, F16 or BF16 as type of safetensors, found {}", dtype.name());
    Err(Problem::new(message).file(path).help("choose one of them, or export as GGUF"))
}

fn too_large(name: &str) -> Problem {
    Problem::new(format!("tensor {name:?} is too large"))
}

fn write_file(
    path: &Path,
    weights: &dyn Weights,
    list: &[(String, Vec<usize>)],
    dtype: Dtype,
) -> Result<(), HubError> {
    let mut header = Map::from_iter([("__metadata__".to_string(), json!({"format": "pt"}))]);
    let mut end = 0;
    for (name, shape) in list {
        let start = end;
        end += dtype.bytes(shape).ok_or_else(|| too_large(name))?;
        let info = json!({"dtype": dtype.name(), "shape": shape, "data_offsets": [start, end]});
        header.insert(name.clone(), info);
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    // Spaces up to a multiple of eight align the data.
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = AtomicFile::create(&RealFs, path)?;
    let io = |e| RunError::io(path, e);
    file.write_all(&(header.len() as u64).to_le_bytes()).map_err(io)?;
    file.write_all(&header).map_err(io)?;
    for (name, shape) in list {
        let values = weights.values(name)?;
        check_length(name, shape, values.len())?;
        file.write_all(&to_bytes(&values, dtype)).map_err(io)?;
    }
    Ok(file.commit()?)
}

pub(crate) fn check_length(name: &str, shape: &[usize], values: usize) -> Result<(), Problem> {
    if shape.iter().product::<usize>() == values {
        return Ok(());
    }
    Err(Problem::new(format!("tensor {name:?} has the shape {shape:?} but {values} values")))
}

/// Plain numbers, little-endian. Types other than F16 and BF16 are written as F32.
pub(crate) fn to_bytes(values: &[f32], dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::F16 => values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect(),
        Dtype::BF16 => values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use jishi_runs::{TensorEntry, TensorFile};

    use super::*;
    use crate::folder::read;

    #[test]
    fn large_weights_are_cut_into_parts_with_an_index() {
        let tensor = |name: &str, values: usize| TensorEntry {
            name: name.into(),
            shape: vec![values],
            data: (0..values).map(|i| i as f32).collect(),
        };
        // The third is larger than a part may be.
        let tensors = vec![tensor("a", 2), tensor("b", 3), tensor("c", 9), tensor("d", 1)];
        let weights = TensorFile { tensors, ..TensorFile::default() };
        let dir = tempfile::tempdir().unwrap();
        write_parts(dir.path(), &weights, Dtype::F32, 20).unwrap();
        write_json(&RealFs, &dir.path().join(CONFIG), &json!({})).unwrap();
        assert!(!dir.path().join(WEIGHTS).exists());
        let index: Value = serde_json::from_slice(&fs::read(dir.path().join(INDEX)).unwrap()).unwrap();
        assert_eq!(index["metadata"]["total_size"], 60);
        let parts = ["a", "b", "c", "d"].map(|name| index["weight_map"][name].as_str().unwrap().to_owned());
        assert_eq!(parts, [1, 1, 2, 3].map(|n| format!("model-0000{n}-of-00003.safetensors")));
        let back = read(dir.path()).unwrap();
        for tensor in &weights.tensors {
            assert_eq!(back.tensors.read(&tensor.name).unwrap(), tensor.data);
        }
    }
}
