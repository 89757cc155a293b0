//! GGUF files of llama.cpp: reading them as [`Checkpoint`]s, and writing them.
//!
//! The format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod arch;
mod file;
mod rope;
mod tokenizer;
mod tokenizer_out;
mod value;
mod write;

use std::path::Path;

pub use file::{File, Tensor};
pub use value::{MetaValue, Metadata};
pub use write::write;

use crate::checkpoint::Checkpoint;
use crate::error::HubError;
use crate::mapped::Mapped;

/// Reads a GGUF file. Weights are only mapped, and keep their blocks.
///
/// # Errors
/// [`Problems`](jishi_recipe::Problems) for a damaged file, kinds of blocks and architectures that Jishi does not
/// read, and tokenizers that it can't rebuild; the system's errors.
pub fn read(path: &Path) -> Result<Checkpoint, HubError> {
    checkpoint(Mapped::open(path)?)
}

/// [`read`] for bytes in memory. `path` is named in problems.
///
/// # Errors
/// As [`read`].
pub fn read_bytes(path: &Path, bytes: Vec<u8>) -> Result<Checkpoint, HubError> {
    checkpoint(Mapped::memory(path, bytes))
}

fn checkpoint(mapped: Mapped) -> Result<Checkpoint, HubError> {
    let path = mapped.path.clone();
    let file = file::parse(mapped.bytes(), &path)?;
    let mut about = arch::about(&file, mapped.bytes()).map_err(|p| p.file(&path))?;
    tokenizer::read(&file.metadata, &mut about).map_err(|p| p.file(&path))?;
    let tensors = arch::tensors(&file, &about, mapped)?;
    Ok(Checkpoint { about, tensors })
}
