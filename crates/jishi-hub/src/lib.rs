//! Other people's models and data: Hugging Face folders, GGUF files, the hub, and data sets from package registries.
//!
//! A model is a [`Checkpoint`]: a Hugging Face `config.json`, files of a tokenizer, and named tensors that are read
//! from a memory-mapped file when asked for. No code from a model is run: of a pickle, tensors are read and all else is refused.

pub mod checkpoint;
pub mod data;
pub mod dtype;
pub mod error;
pub mod folder;
pub mod gguf;
mod mapped;
pub mod onnx;
pub mod pth;
pub mod quant;
pub mod remote;
mod resolve;
pub mod tensors;
pub mod torchvision;

pub use checkpoint::{About, Checkpoint, Pooling, SentenceTransformer, Weights};
pub use dtype::Dtype;
pub use error::HubError;
pub use resolve::{Resolved, read, resolve};
pub use tensors::{TensorData, TensorMeta, Tensors};
