//! Rotary frequencies that were stretched over a longer context.
//!
//! GGUF keeps a factor for all of them as metadata, and one for each of them as a tensor, by which frequencies are
//! divided. Hugging Face's configs have `linear` for the one and `longrope` for the other; its `llama3`, a formula,
//! becomes factors.

use std::f64::consts::TAU;

use jishi_recipe::Problem;
use serde_json::{Value, json};

use super::file::File;
use super::value::{MetaValue, Metadata};
use crate::checkpoint::About;
use crate::dtype::Dtype;
use crate::quant;

/// Name of the tensor of factors.
pub(super) const FACTORS: &str = "rope_freqs.weight";

/// The `rope_scaling` that a file stands for, for heads of `head` values.
pub(super) fn read(file: &File, bytes: &[u8], head: usize) -> Result<Value, Problem> {
    let meta = &file.metadata;
    let kind = meta.optional("llama.rope.scaling.type", MetaValue::as_str)?.unwrap_or("linear");
    let mut scale = 1.0;
    // Early files have the second key.
    for key in ["llama.rope.scale_linear", "llama.rope.scaling.factor"] {
        scale = meta.optional(key, MetaValue::as_f64)?.filter(|f| *f != 0.0).unwrap_or(scale);
    }
    if kind == "none" {
        scale = 1.0;
    } else if kind != "linear" {
        let message = format!("the model's rotary frequencies are scaled in the way {kind:?}");
        return Err(Problem::new(message).help("use a model whose scaling is linear or that of Llama 3"));
    }
    if !(scale.is_finite() && scale > 0.0) {
        return Err(Problem::new(format!("the model's rotary frequencies are divided by {scale}")));
    }
    let Some(tensor) = file.tensors.iter().find(|t| t.name == FACTORS) else {
        return Ok(if scale == 1.0 {
            Value::Null
        } else {
            json!({ "rope_type": "linear", "factor": scale })
        });
    };
    let factors = bytes.get(tensor.range.clone()).map(|bytes| quant::to_f32(tensor.dtype, bytes));
    let factors = factors.filter(|f| tensor.dtype == Dtype::F32 && f.len() == head / 2);
    let factors: Option<Vec<f64>> = factors.and_then(|factors| {
        let one = |f: f32| (f.is_finite() && f > 0.0).then_some(f64::from(f) * scale);
        factors.into_iter().map(one).collect()
    });
    let factors = factors.ok_or_else(|| {
        let found = format!("{:?} of {}", tensor.shape, tensor.dtype.name());
        Problem::new(format!("expected {} factors above 0 as F32 in {FACTORS:?}, found {found}", head / 2))
    })?;
    Ok(json!({
        "rope_type": "longrope", "short_factor": factors, "long_factor": factors, "attention_factor": 1.0,
    }))
}

/// Sets what a config's `rope_scaling` means for heads of `head` values; gives the factors, where it has some.
pub(super) fn write(about: &About, head: usize, meta: &mut Metadata) -> Result<Option<Vec<f32>>, Problem> {
    let config = &about.config;
    let key = |key: &str| config.get(key).filter(|v| !v.is_null());
    // `transformers` 5 has one key for all that is rotary.
    let Some(scaling) = key("rope_parameters").or(key("rope_scaling")) else { return Ok(None) };
    let kind = scaling.get("rope_type").or(scaling.get("type")).and_then(Value::as_str);
    let number = |key: &str| {
        scaling.get(key).and_then(Value::as_f64).filter(|n| n.is_finite() && *n > 0.0).ok_or_else(|| {
            Problem::new(format!("expected a number above 0 as {key:?} of rope_scaling, found {scaling}"))
        })
    };
    Ok(match kind.unwrap_or("default") {
        "default" => None,
        "linear" => {
            meta.set("llama.rope.scaling.type", MetaValue::Text("linear".into()));
            meta.set("llama.rope.scaling.factor", MetaValue::F32(number("factor")? as f32));
            None
        }
        "llama3" => {
            let theta = scaling.get("rope_theta").or(key("rope_theta")).and_then(Value::as_f64);
            let theta = theta.unwrap_or(10_000.0);
            let (factor, low, high) =
                (number("factor")?, number("low_freq_factor")?, number("high_freq_factor")?);
            let context = number("original_max_position_embeddings")?;
            // The formula of Llama 3.1 (Grattafiori et al. 2024), as a divisor.
            let divisor = |pair: usize| {
                let turns = context / TAU * theta.powf(-((2 * pair) as f64) / head as f64);
                let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                (1.0 / (kept + (1.0 - kept) / factor)) as f32
            };
            Some((0..head / 2).map(divisor).collect())
        }
        "longrope" if scaling.get("short_factor") == scaling.get("long_factor") => {
            let list = scaling.get("short_factor").and_then(Value::as_array);
            let list = list.filter(|l| l.len() == head / 2);
            let factors = list.and_then(|l| l.iter().map(|f| f.as_f64().map(|f| f as f32)).collect());
            let missing = || Problem::new(format!("expected {} factors in rope_scaling", head / 2));
            Some(factors.ok_or_else(missing)?)
        }
        other => {
            let message = format!("rotary frequencies that are scaled by {other:?} are not written as GGUF");
            return Err(Problem::new(message).help("export it as safetensors"));
        }
    })
}
