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
    CHAT_TEMPLATE, CONFIG, GENERATION_CONFIG, SPECIAL_TOKENS, TOKENIZER, TOKENIZER_CONFIG, WEIGHTS, sentence,
};
use crate::checkpoint::{About, Weights};
use crate::dtype::Dtype;
use crate::error::HubError;

/// Writes a model as the Hugging Face folder `dir`, which may exist; files of the same names are replaced. `dtype` is
/// F32, F16 or BF16.
///
/// # Errors
/// A [`Problem`] for another type, and for a tensor whose values do not fit its shape; the system's errors.
pub fn write(dir: &Path, about: &About, weights: &dyn Weights, dtype: Dtype) -> Result<(), HubError> {
    fs::create_dir_all(dir).map_err(|e| HubError::io(dir, e))?;
    write_safetensors(&dir.join(WEIGHTS), weights, dtype)?;
    let mut config = about.config.clone();
    if let Some(config) = config.as_object_mut() {
        let name = match dtype {
            Dtype::F16 => "float16",
            Dtype::BF16 => "bfloat16",
            _ => "float32",
        };
        config.insert("torch_dtype".into(), name.into());
    }
    write_json(&RealFs, &dir.join(CONFIG), &config)?;
    if let Some(bytes) = &about.tokenizer_json {
        write_real(&dir.join(TOKENIZER), bytes)?;
    }
    for (name, value) in [
        (TOKENIZER_CONFIG, &about.tokenizer_config),
        (SPECIAL_TOKENS, &about.special_tokens_map),
        (GENERATION_CONFIG, &about.generation_config),
    ] {
        if let Some(value) = value {
            write_json(&RealFs, &dir.join(name), value)?;
        }
    }
    if let Some(template) = &about.chat_template {
        write_real(&dir.join(CHAT_TEMPLATE), template.as_bytes())?;
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
    if !matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
        let message = format!("expected F32, F16 or BF16 as type of safetensors, found {}", dtype.name());
        return Err(Problem::new(message).file(path).into());
    }
    let list = weights.list();
    let mut header = Map::from_iter([("__metadata__".to_string(), json!({"format": "pt"}))]);
    let mut end = 0;
    for (name, shape) in &list {
        let start = end;
        end += dtype.bytes(shape).ok_or_else(|| Problem::new(format!("tensor {name:?} is too large")))?;
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
    for (name, shape) in &list {
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
