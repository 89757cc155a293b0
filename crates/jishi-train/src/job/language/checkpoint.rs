//! Models that others made, as ours read them.

use std::borrow::Cow;

use jishi_data::text::tokenizer::Tokenizer;
use jishi_hub::{Checkpoint, Dtype, TensorData};
use jishi_kernels::cpu::matvec::{BlockKind, Format};
use jishi_models::decoder::{MatrixOrder, StoredTensor, StoredValues, TensorSource};
use jishi_recipe::Problem;

use crate::error::TrainError;

/// The tensors of a checkpoint for a decoder, which reads them one by one.
pub struct Stored<'a> {
    checkpoint: &'a Checkpoint,
    order: MatrixOrder,
    tied: bool,
}

/// The output layer, which is the table of embeddings in models that are `tied`.
const HEAD: &str = "lm_head.weight";

impl<'a> Stored<'a> {
    /// The tensors of a checkpoint. `tied`: whether its output layer is its table of embeddings.
    #[must_use]
    pub fn new(checkpoint: &'a Checkpoint, tied: bool) -> Self {
        // GPT-2's layers are `[in, out]` in its files, all others' are `[out, in]`.
        let order =
            if checkpoint.about.model_type() == "gpt2" { MatrixOrder::InOut } else { MatrixOrder::OutIn };
        Self { checkpoint, order, tied }
    }

    /// The format in which a decoder keeps the weights as they are: blocks as blocks, numbers as `f32`. A file of both
    /// has few numbers, and those become blocks of 8 bits.
    #[must_use]
    pub fn format(&self) -> Format {
        let blocks = self.checkpoint.tensors.iter().any(|(_, meta)| block_kind(meta.dtype).is_some());
        if blocks { Format::Q8_0 } else { Format::F32 }
    }
}

impl TensorSource for Stored<'_> {
    fn order(&self) -> MatrixOrder {
        self.order
    }

    fn has(&self, name: &str) -> bool {
        // Some checkpoints hold a copy of a tied table, which `transformers` does not read either; and a decoder would
        // take the table in place of a layer that is missing, which has to be an error.
        if name == HEAD { !self.tied } else { self.checkpoint.tensors.meta(name).is_some() }
    }

    fn tensor(&self, name: &str) -> Result<StoredTensor<'_>, Problem> {
        let tensors = &self.checkpoint.tensors;
        let shape = tensors.meta(name).map(|m| m.shape.clone()).unwrap_or_default();
        let values = match tensors.data(name)? {
            TensorData::Quantised { kind, bytes } => match block_kind(kind) {
                Some(kind) => StoredValues::Blocks(kind, bytes),
                None => StoredValues::F32(Cow::Owned(tensors.read(name)?)),
            },
            _ => StoredValues::F32(Cow::Owned(tensors.read(name)?)),
        };
        Ok(StoredTensor { shape, values })
    }
}

/// Blocks that a decoder multiplies with as they are.
fn block_kind(dtype: Dtype) -> Option<BlockKind> {
    Some(match dtype {
        Dtype::Q8_0 => BlockKind::Q8_0,
        Dtype::Q4_0 => BlockKind::Q4_0,
        Dtype::Q4_1 => BlockKind::Q4_1,
        Dtype::Q5_0 => BlockKind::Q5_0,
        Dtype::Q5_1 => BlockKind::Q5_1,
        Dtype::Q4_K => BlockKind::Q4K,
        Dtype::Q5_K => BlockKind::Q5K,
        Dtype::Q6_K => BlockKind::Q6K,
        _ => return None,
    })
}

/// The tokenizer of a checkpoint.
///
/// # Errors
/// A checkpoint without one; a file that is no tokenizer.
pub fn tokenizer(checkpoint: &Checkpoint) -> Result<Tokenizer, TrainError> {
    let about = &checkpoint.about;
    let Some(json) = &about.tokenizer_json else {
        let problem = Problem::new("the model has no tokenizer.json");
        return Err(problem.help("save its fast tokenizer beside it with `save_pretrained`").into());
    };
    let mut config = about.tokenizer_config.clone().unwrap_or_default();
    if let (Some(template), Some(config)) = (&about.chat_template, config.as_object_mut()) {
        config.insert("chat_template".into(), template.clone().into());
    }
    if let (Some(serde_json::Value::Object(special)), Some(config)) =
        (&about.special_tokens_map, config.as_object_mut())
    {
        for (role, token) in special {
            config.entry(role).or_insert_with(|| token.clone());
        }
    }
    let config = if config.is_null() { None } else { Some(config.to_string().into_bytes()) };
    Ok(Tokenizer::from_bytes(json, config.as_deref())?)
}
