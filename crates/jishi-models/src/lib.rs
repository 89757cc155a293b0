//! Model families, one file each, and what they are built from.
//!
//! A family is a [`burn::module::Module`] with `init` and `forward`; [`TableModel`] is their sum. Random
//! numbers come from the counter-based generator in [`rng`] alone, so that initial weights depend on the
//! seed and a parameter's name, and dropout on the seed, the step and the row.

pub mod context;
pub mod decoder;
pub mod error;
pub mod ft_transformer;
pub mod generate;
pub mod gpt2;
pub mod init;
pub mod layers;
pub mod linear;
pub mod mlp;
pub mod registry;
pub mod resnet;
pub mod rng;
pub mod table;
pub mod weights;

pub use context::Context;
pub use decoder::{Decoder, DecoderConfig, Sequence};
pub use error::ModelError;
pub use gpt2::{Gpt2, Gpt2Config};
pub use registry::{FAMILIES, Family};
pub use resnet::{ResNet, ResNetConfig, Stem};
pub use rng::Rng;
pub use table::{TableInput, TableModel, TableShape, uses_one_hot};
pub use weights::{NamedTensor, export_weights, import_weights};
