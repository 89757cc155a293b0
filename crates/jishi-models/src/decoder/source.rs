//! Where a decoder's tensors come from: a model in memory, or a file that is read one tensor at a time.

use std::borrow::Cow;

use jishi_kernels::cpu::matvec::BlockKind;
use jishi_recipe::Problem;

use crate::weights::NamedTensor;

/// Order of the values of a linear layer's matrix. Tables of embeddings are `[entries, width]` in either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatrixOrder {
    /// `[in, out]`, as in our models and in GPT-2's files.
    InOut,
    /// `[out, in]`, as in most files.
    OutIn,
}

/// Gives tensors by name, each once. A decoder packs a tensor and drops it before it asks for the next one, so
/// that a file never has to be in memory as a whole.
pub trait TensorSource {
    /// Order of linear layers' matrices.
    fn order(&self) -> MatrixOrder;

    /// Whether there is a tensor of this name.
    fn has(&self, name: &str) -> bool;

    /// The tensor of this name, which is there.
    ///
    /// # Errors
    /// Says why it cannot be read.
    fn tensor(&self, name: &str) -> Result<StoredTensor<'_>, Problem>;
}

/// A tensor as it is stored.
#[derive(Debug, Clone)]
pub struct StoredTensor<'a> {
    /// In row-major order.
    pub shape: Vec<usize>,
    /// As many as the shape says.
    pub values: StoredValues<'a>,
}

/// Values as they are stored.
#[derive(Debug, Clone)]
pub enum StoredValues<'a> {
    /// Numbers.
    F32(Cow<'a, [f32]>),
    /// Blocks of a GGUF file along the last axis, in a linear layer's matrix the inputs.
    Blocks(BlockKind, Cow<'a, [u8]>),
}

impl TensorSource for [NamedTensor] {
    fn order(&self) -> MatrixOrder {
        MatrixOrder::InOut
    }

    fn has(&self, name: &str) -> bool {
        self.iter().any(|t| t.name == name)
    }

    fn tensor(&self, name: &str) -> Result<StoredTensor<'_>, Problem> {
        let Some(tensor) = self.iter().find(|t| t.name == name) else {
            return Err(Problem::new(format!("tensor `{name}` is missing")));
        };
        let values = StoredValues::F32(Cow::Borrowed(&tensor.data));
        Ok(StoredTensor { shape: tensor.shape.clone(), values })
    }
}
