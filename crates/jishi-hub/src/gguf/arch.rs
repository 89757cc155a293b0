//! Architectures: names and orders of tensors, and the config, in GGUF's terms and in Hugging Face's.

use jishi_recipe::{Problem, Problems};
use serde_json::{Value, json};

use super::file::File;
use super::rope;
use super::value::{MetaValue, Metadata};
use crate::checkpoint::About;
use crate::error::HubError;
use crate::mapped::Mapped;
use crate::tensors::{Order, TensorMeta, Tensors};

/// Far more than any model has; keeps sizes that follow from it in range.
const MAX_HEADS: usize = 1 << 16;

/// An architecture that both sides know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arch {
    Llama,
    Gpt2,
}

/// GGUF's name and Hugging Face's: of tensors outside of blocks, and of those in each block.
type Names = [(&'static str, &'static str)];

const LLAMA: &Names =
    &[("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"), ("output", "lm_head")];
const LLAMA_BLOCK: &Names = &[
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];
const GPT2: &Names = &[
    ("token_embd", "transformer.wte"),
    ("position_embd", "transformer.wpe"),
    ("output_norm", "transformer.ln_f"),
    ("output", "lm_head"),
];
const GPT2_BLOCK: &Names = &[
    ("attn_norm", "ln_1"),
    ("attn_qkv", "attn.c_attn"),
    ("attn_output", "attn.c_proj"),
    ("ffn_norm", "ln_2"),
    ("ffn_up", "mlp.c_fc"),
    ("ffn_down", "mlp.c_proj"),
];

impl Arch {
    pub(super) const ALL: [Self; 2] = [Self::Llama, Self::Gpt2];

    /// Its name, in GGUF as in `model_type`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Gpt2 => "gpt2",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|arch| arch.name() == name)
    }

    fn names(self) -> (&'static Names, &'static Names, &'static str) {
        match self {
            Self::Llama => (LLAMA, LLAMA_BLOCK, "model.layers"),
            Self::Gpt2 => (GPT2, GPT2_BLOCK, "transformer.h"),
        }
    }

    /// Hugging Face's name of a GGUF tensor.
    pub(super) fn hf_name(self, name: &str) -> Option<String> {
        let (outer, inner, layers) = self.names();
        let (stem, kind) = name.rsplit_once('.')?;
        let find = |names: &Names, stem: &str| names.iter().find(|n| n.0 == stem).map(|n| n.1);
        if let Some(rest) = stem.strip_prefix("blk.") {
            let (block, stem) = rest.split_once('.')?;
            let block: usize = block.parse().ok()?;
            return Some(format!("{layers}.{block}.{}.{kind}", find(inner, stem)?));
        }
        Some(format!("{}.{kind}", find(outer, stem)?))
    }

    /// The GGUF name of a Hugging Face tensor.
    pub(super) fn gguf_name(self, name: &str) -> Option<String> {
        let (outer, inner, layers) = self.names();
        let (stem, kind) = name.rsplit_once('.')?;
        let find = |names: &Names, stem: &str| names.iter().find(|n| n.1 == stem).map(|n| n.0);
        if let Some(rest) = stem.strip_prefix(layers).and_then(|rest| rest.strip_prefix('.')) {
            let (block, stem) = rest.split_once('.')?;
            let block: usize = block.parse().ok()?;
            return Some(format!("blk.{block}.{}.{kind}", find(inner, stem)?));
        }
        Some(format!("{}.{kind}", find(outer, stem)?))
    }

    /// How a GGUF tensor's order differs from Hugging Face's.
    pub(super) fn order(self, name: &str, about: &About) -> Order {
        let heads = |key: &str| Order::PairedRows { heads: about.number(key).unwrap_or(1) };
        match (self, name.splitn(3, '.').last().unwrap_or_default()) {
            (Self::Llama, "attn_q.weight" | "attn_q.bias") => heads("num_attention_heads"),
            (Self::Llama, "attn_k.weight" | "attn_k.bias") => heads("num_key_value_heads"),
            // Hugging Face's GPT-2 keeps the matrices of its first implementation, inputs first.
            (Self::Gpt2, "attn_qkv.weight" | "attn_output.weight" | "ffn_up.weight" | "ffn_down.weight") => {
                Order::Transposed
            }
            _ => Order::Same,
        }
    }
}

/// The config that a file's metadata stands for.
pub(super) fn about(file: &File, bytes: &[u8]) -> Result<About, Problem> {
    let meta = &file.metadata;
    let name = meta.required("general.architecture", MetaValue::as_str)?;
    let Some(arch) = Arch::from_name(name) else {
        let known: Vec<&str> = Arch::ALL.iter().map(|a| a.name()).collect();
        return Err(Problem::new(format!(
            "expected the architecture {}, found {name:?}",
            known.join(" or ")
        ))
        .help("choose a model of one of these families"));
    };
    let mut config = match arch {
        Arch::Llama => llama(file, bytes)?,
        Arch::Gpt2 => gpt2(meta)?,
    };
    config["torch_dtype"] = "float32".into();
    let tied = !file.tensors.iter().any(|t| t.name == "output.weight");
    config["tie_word_embeddings"] = tied.into();
    let key = format!("{name}.vocab_size");
    let vocabulary = match meta.optional(&key, MetaValue::as_usize)? {
        Some(size) => size,
        None => meta.required("tokenizer.ggml.tokens", |v| v.as_array().map(<[MetaValue]>::len))?,
    };
    config["vocab_size"] = vocabulary.into();
    let mut generation = json!({});
    for token in ["bos", "eos", "padding"] {
        if let Some(id) = meta.optional(&format!("tokenizer.ggml.{token}_token_id"), MetaValue::as_usize)? {
            let key = if token == "padding" { "pad_token_id".into() } else { format!("{token}_token_id") };
            config[&key] = id.into();
            generation[&key] = id.into();
        }
    }
    Ok(About { config, generation_config: Some(generation), ..About::default() })
}

fn llama(file: &File, bytes: &[u8]) -> Result<Value, Problem> {
    let meta = &file.metadata;
    let size = |key: &str| meta.required(&format!("llama.{key}"), MetaValue::as_usize);
    let number = |key: &str| meta.optional(&format!("llama.{key}"), MetaValue::as_f64);
    let heads = size("attention.head_count")?;
    let width = size("embedding_length")?;
    let kv_heads = meta.optional("llama.attention.head_count_kv", MetaValue::as_usize)?.unwrap_or(heads);
    let head = match meta.optional("llama.attention.key_length", MetaValue::as_usize)? {
        Some(head) => head,
        None => match meta.optional("llama.rope.dimension_count", MetaValue::as_usize)? {
            Some(head) => head,
            None => width.checked_div(heads).unwrap_or_default(),
        },
    };
    let sane = |n: usize| (1..=MAX_HEADS).contains(&n);
    if !sane(heads) || !sane(kv_heads) || head == 0 || !head.is_multiple_of(2) {
        let message =
            format!("expected heads of an even width, found {heads} and {kv_heads} of width {head}");
        return Err(Problem::new(message));
    }
    let has = |name: &str| file.tensors.iter().any(|t| t.name == name);
    Ok(json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": width,
        "intermediate_size": size("feed_forward_length")?,
        "num_hidden_layers": size("block_count")?,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head,
        "max_position_embeddings": size("context_length")?,
        "rms_norm_eps": number("attention.layer_norm_rms_epsilon")?.unwrap_or(1e-5),
        "rope_theta": number("rope.freq_base")?.unwrap_or(10_000.0),
        "rope_scaling": rope::read(file, bytes, head)?,
        "attention_bias": has("blk.0.attn_q.bias"),
        "mlp_bias": has("blk.0.ffn_up.bias"),
    }))
}

fn gpt2(meta: &Metadata) -> Result<Value, Problem> {
    let size = |key: &str| meta.required(&format!("gpt2.{key}"), MetaValue::as_usize);
    let context = size("context_length")?;
    Ok(json!({
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "activation_function": "gelu_new",
        "n_embd": size("embedding_length")?,
        "n_inner": size("feed_forward_length")?,
        "n_layer": size("block_count")?,
        "n_head": size("attention.head_count")?,
        "n_ctx": context,
        "n_positions": context,
        "layer_norm_epsilon":
            meta.optional("gpt2.attention.layer_norm_epsilon", MetaValue::as_f64)?.unwrap_or(1e-5),
    }))
}

/// The tensors under Hugging Face's names and in its order.
pub(super) fn tensors(file: &File, about: &About, mapped: Mapped) -> Result<Tensors, HubError> {
    let path = mapped.path.clone();
    let mut tensors = Tensors::default();
    let index = tensors.add_file(mapped);
    let mut problems = Vec::new();
    let Some(arch) = Arch::from_name(about.model_type()) else { return Ok(tensors) };
    for tensor in file.tensors.iter().filter(|t| t.name != rope::FACTORS) {
        let Some(name) = arch.hf_name(&tensor.name) else {
            let message = format!("tensor {:?} is not one of a {} model", tensor.name, arch.name());
            problems.push(Problem::new(message).file(&path));
            continue;
        };
        let order = arch.order(&tensor.name, about);
        let mut shape = tensor.shape.clone();
        let fits = match order {
            Order::Same => true,
            Order::Transposed => shape.len() == 2,
            Order::PairedRows { heads } => {
                let whole = shape.len() == 2 || !tensor.dtype.is_quantised();
                whole && shape.first().is_some_and(|n| n.is_multiple_of(2 * heads))
            }
        };
        if !fits {
            let message =
                format!("tensor {:?} has the shape {shape:?}, which its rows can't have", tensor.name);
            problems.push(Problem::new(message).file(&path));
            continue;
        }
        if order == Order::Transposed {
            shape.reverse();
        }
        let meta = TensorMeta { shape, dtype: tensor.dtype };
        if !tensors.insert(name, meta, index, tensor.range.clone(), order) {
            problems.push(Problem::new(format!("the tensor {:?} is there twice", tensor.name)).file(&path));
        }
    }
    Problems(problems).into_result()?;
    Ok(tensors)
}
