//! Model families, one file each, and what they are built from.
//!
//! A family is a [`burn::module::Module`] with `init` and `forward`; [`TableModel`] is their sum. Random
//! numbers come from the counter-based generator in [`rng`] alone, so that initial weights depend on the
//! seed and a parameter's name, and dropout on the seed, the step and the row.

pub mod bert;
mod config;
pub mod context;
pub mod decoder;
pub mod detection;
pub mod encoder_decoder;
pub mod error;
pub mod ft_transformer;
pub mod gan;
pub mod generate;
pub mod gpt2;
pub mod image;
pub mod init;
pub mod language;
pub mod layers;
pub mod linear;
pub mod llama;
pub mod lora;
pub mod mae;
pub mod mlp;
pub mod reference;
pub mod registry;
pub mod resnet;
pub mod rng;
pub mod simclr;
pub mod table;
pub mod vgg;
pub mod vit;
pub mod weights;

pub use bert::{Bert, BertConfig, BertHead, BertInput};
pub use context::Context;
pub use decoder::{Decoder, DecoderConfig, Sequence};
pub use detection::{Detector, DetectorConfig};
pub use encoder_decoder::{DecodeState, EncoderDecoder, EncoderDecoderConfig, Pairs};
pub use error::ModelError;
pub use gan::{Critic, Gan, GanConfig, GanKind, Generator, gradient_penalty};
pub use gpt2::{Gpt2, Gpt2Config};
pub use image::{ImageConfig, ImageModel};
pub use language::{
    CausalConfig, CausalModel, EncoderConfig, EncoderModel, LanguageConfig, LanguageModel, Seq2SeqModel,
};
pub use llama::{Llama, LlamaConfig, RopeScaling};
pub use lora::{Adapted, LayerRates, add_lora, freeze, freeze_where, merge_lora};
pub use mae::{Comparison, MaeConfig, MaskedAutoencoder, Reconstruction};
pub use reference::{Loaded, Reference};
pub use registry::{CHECKPOINTS, FAMILIES, Family, reference_of};
pub use resnet::{ResNet, ResNetConfig, Stem};
pub use rng::Rng;
pub use simclr::{SimClr, nt_xent};
pub use table::{TableInput, TableModel, TableShape, uses_one_hot};
pub use vgg::{Vgg, VggConfig};
pub use vit::{Vit, VitConfig, VitPooling};
pub use weights::{NamedTensor, export_weights, import_weights};
