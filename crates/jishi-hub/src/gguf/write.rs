//! Writing a GGUF file that llama.cpp reads.

use std::borrow::Cow;
use std::io::Write;
use std::path::Path;

use jishi_recipe::Problem;
use jishi_runs::atomic::AtomicFile;
use jishi_runs::{RealFs, RunError};
use serde_json::Value;

use super::arch::Arch;
use super::file::{DEFAULT_ALIGNMENT, MAGIC};
use super::value::{MetaValue, Metadata};
use super::{rope, tokenizer_out};
use crate::checkpoint::{About, Weights};
use crate::dtype::Dtype;
use crate::error::HubError;
use crate::folder::{check_length, to_bytes};
use crate::quant::to_q8_0;
use crate::tensors::{Order, pair_rows, transpose};

const VERSION: u32 = 3;

/// Writes a Llama or GPT-2 model with its tokenizer. `dtype` is F32, F16, BF16 or Q8_0, for matrices; vectors stay F32, and
/// matrices whose rows are not whole blocks become F16.
///
/// # Errors
/// A [`Problem`] for another type or family, a tokenizer that GGUF has no words for, and tensors that do not belong to
/// the family; the system's errors.
pub fn write(path: &Path, about: &About, weights: &dyn Weights, dtype: Dtype) -> Result<(), HubError> {
    let named = |p: Problem| HubError::from(p.file(path));
    let Some(arch) = Arch::from_name(about.model_type()) else {
        let known: Vec<&str> = Arch::ALL.iter().map(|a| a.name()).collect();
        let message =
            format!("expected a model of the family {}, found {:?}", known.join(" or "), about.model_type());
        return Err(named(Problem::new(message).help("export it as safetensors")));
    };
    let file_type = match dtype {
        Dtype::F32 => 0,
        Dtype::F16 => 1,
        Dtype::BF16 => 32,
        Dtype::Q8_0 => 7,
        other => {
            let message =
                format!("expected F32, F16, BF16 or Q8_0 as type of a GGUF file, found {}", other.name());
            return Err(named(Problem::new(message)));
        }
    };
    let mut plans = plan(arch, about, weights, dtype).map_err(named)?;
    let mut meta = Metadata::default();
    meta.set("general.architecture", MetaValue::Text(arch.name().into()));
    meta.set("general.type", MetaValue::Text("model".into()));
    if let Some(name) = about.config.get("_name_or_path").and_then(Value::as_str) {
        meta.set("general.name", MetaValue::Text(name.into()));
    }
    meta.set("general.file_type", MetaValue::U32(file_type));
    meta.set("general.quantization_version", MetaValue::U32(2));
    plans.extend(config(arch, about, &mut meta).map_err(named)?);
    tokenizer_out::add(about, &mut meta).map_err(named)?;
    save(path, weights, &meta, &plans)
}

/// A tensor to write.
struct Plan {
    from: String,
    to: String,
    /// In Hugging Face's order.
    shape: Vec<usize>,
    dtype: Dtype,
    order: Order,
    /// Where they are not those of `from`.
    values: Option<Vec<f32>>,
}

fn plan(arch: Arch, about: &About, weights: &dyn Weights, dtype: Dtype) -> Result<Vec<Plan>, Problem> {
    let tied = about.config.get("tie_word_embeddings").and_then(Value::as_bool).unwrap_or(arch == Arch::Gpt2);
    let mut plans = Vec::new();
    for (from, shape) in weights.list() {
        // Masks and frequencies, which old checkpoints hold, are computed.
        let computed =
            from.ends_with(".attn.bias") || from.ends_with(".masked_bias") || from.ends_with("inv_freq");
        if computed || (tied && from == "lm_head.weight") {
            continue;
        }
        // Checkpoints of the bare model lack the prefix.
        let to = arch.gguf_name(&from).or_else(|| arch.gguf_name(&format!("transformer.{from}")));
        let to =
            to.ok_or_else(|| Problem::new(format!("tensor {from:?} is not one of a {} model", arch.name())))?;
        let order = arch.order(&to, about);
        let row = if order == Order::Transposed { shape.first() } else { shape.last() };
        let dtype = if shape.len() < 2 || to == "position_embd.weight" {
            Dtype::F32
        } else if !row.is_some_and(|n| n.is_multiple_of(dtype.block())) {
            Dtype::F16
        } else {
            dtype
        };
        plans.push(Plan { from, to, shape, dtype, order, values: None });
    }
    Ok(plans)
}

/// Sets the model's sizes; gives a tensor where one of them is a tensor in GGUF.
fn config(arch: Arch, about: &About, meta: &mut Metadata) -> Result<Option<Plan>, Problem> {
    let size = |names: &[&str]| {
        let found = names.iter().find_map(|name| about.number(name)).and_then(|n| u32::try_from(n).ok());
        found
            .ok_or_else(|| Problem::new(format!("expected {:?} in the model's config, found none", names[0])))
    };
    let number = |name: &str, default: f64| {
        MetaValue::F32(about.config.get(name).and_then(Value::as_f64).unwrap_or(default) as f32)
    };
    let width = size(&["hidden_size", "n_embd"])?;
    let heads = size(&["num_attention_heads", "n_head"])?;
    let mut set = |key: &str, value: MetaValue| meta.set(format!("{}.{key}", arch.name()), value);
    set("vocab_size", MetaValue::U32(size(&["vocab_size"])?));
    set("context_length", MetaValue::U32(size(&["max_position_embeddings", "n_positions"])?));
    set("embedding_length", MetaValue::U32(width));
    set("block_count", MetaValue::U32(size(&["num_hidden_layers", "n_layer"])?));
    let inner = size(&["intermediate_size", "n_inner"]).or_else(|p| match arch {
        Arch::Gpt2 => Ok(4 * width),
        Arch::Llama => Err(p),
    })?;
    set("feed_forward_length", MetaValue::U32(inner));
    set("attention.head_count", MetaValue::U32(heads));
    match arch {
        Arch::Gpt2 => set("attention.layer_norm_epsilon", number("layer_norm_epsilon", 1e-5)),
        Arch::Llama => {
            let head = size(&["head_dim"]).or_else(|p| width.checked_div(heads).ok_or(p))?;
            set("attention.head_count_kv", MetaValue::U32(size(&["num_key_value_heads"]).unwrap_or(heads)));
            set("attention.layer_norm_rms_epsilon", number("rms_norm_eps", 1e-6));
            set("attention.key_length", MetaValue::U32(head));
            set("attention.value_length", MetaValue::U32(head));
            set("rope.dimension_count", MetaValue::U32(head));
            set("rope.freq_base", number("rope_theta", 10_000.0));
            let factors = rope::write(about, head as usize, meta)?;
            return Ok(factors.map(|values| Plan {
                from: rope::FACTORS.into(),
                to: rope::FACTORS.into(),
                shape: vec![values.len()],
                dtype: Dtype::F32,
                order: Order::Same,
                values: Some(values),
            }));
        }
    }
    Ok(None)
}

fn save(path: &Path, weights: &dyn Weights, meta: &Metadata, plans: &[Plan]) -> Result<(), HubError> {
    let mut head = MAGIC.to_vec();
    head.extend(VERSION.to_le_bytes());
    head.extend((plans.len() as u64).to_le_bytes());
    head.extend((meta.0.len() as u64).to_le_bytes());
    for (key, value) in &meta.0 {
        put_text(&mut head, key);
        head.extend(value.kind().to_le_bytes());
        put_value(&mut head, value);
    }
    let mut offset = 0usize;
    for plan in plans {
        put_text(&mut head, &plan.to);
        let mut shape = plan.shape.clone();
        if plan.order == Order::Transposed {
            shape.reverse();
        }
        head.extend((shape.len() as u32).to_le_bytes());
        for size in shape.iter().rev() {
            head.extend((*size as u64).to_le_bytes());
        }
        head.extend(plan.dtype.gguf().unwrap_or_default().to_le_bytes());
        head.extend((offset as u64).to_le_bytes());
        let bytes = plan.dtype.bytes(&shape);
        let bytes = bytes.ok_or_else(|| Problem::new(format!("tensor {:?} is too large", plan.from)))?;
        offset += bytes.next_multiple_of(DEFAULT_ALIGNMENT);
    }
    head.resize(head.len().next_multiple_of(DEFAULT_ALIGNMENT), 0);
    let mut file = AtomicFile::create(&RealFs, path)?;
    let io = |e| RunError::io(path, e);
    file.write_all(&head).map_err(io)?;
    for plan in plans {
        let mut bytes = encode(plan, weights)?;
        bytes.resize(bytes.len().next_multiple_of(DEFAULT_ALIGNMENT), 0);
        file.write_all(&bytes).map_err(io)?;
    }
    Ok(file.commit()?)
}

fn encode(plan: &Plan, weights: &dyn Weights) -> Result<Vec<u8>, Problem> {
    let values = match &plan.values {
        Some(values) => Cow::Borrowed(values.as_slice()),
        None => weights.values(&plan.from)?,
    };
    check_length(&plan.from, &plan.shape, values.len())?;
    let values: Cow<'_, [f32]> = match plan.order {
        Order::Same => values,
        Order::PairedRows { heads } => {
            let rows = plan.shape.first().copied().unwrap_or(1);
            if heads == 0 || !rows.is_multiple_of(2 * heads) {
                let message =
                    format!("tensor {:?} has {rows} rows, not a number for {heads} heads", plan.from);
                return Err(Problem::new(message));
            }
            pair_rows(&values, rows, heads).into()
        }
        Order::Transposed => {
            let shape: Vec<usize> = plan.shape.iter().rev().copied().collect();
            transpose(&values, &shape).into()
        }
    };
    Ok(if plan.dtype == Dtype::Q8_0 { to_q8_0(&values) } else { to_bytes(&values, plan.dtype) })
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &MetaValue) {
    match value {
        MetaValue::U8(x) => out.push(*x),
        MetaValue::I8(x) => out.extend(x.to_le_bytes()),
        MetaValue::U16(x) => out.extend(x.to_le_bytes()),
        MetaValue::I16(x) => out.extend(x.to_le_bytes()),
        MetaValue::U32(x) => out.extend(x.to_le_bytes()),
        MetaValue::I32(x) => out.extend(x.to_le_bytes()),
        MetaValue::F32(x) => out.extend(x.to_le_bytes()),
        MetaValue::Bool(x) => out.push((*x).into()),
        MetaValue::Text(text) => put_text(out, text),
        MetaValue::Array(values) => {
            // An empty list has a type too; any will do.
            let kind = values.first().map_or(4, MetaValue::kind);
            out.extend(kind.to_le_bytes());
            out.extend((values.len() as u64).to_le_bytes());
            for value in values {
                put_value(out, value);
            }
        }
        MetaValue::U64(x) => out.extend(x.to_le_bytes()),
        MetaValue::I64(x) => out.extend(x.to_le_bytes()),
        MetaValue::F64(x) => out.extend(x.to_le_bytes()),
    }
}
