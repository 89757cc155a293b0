//! The fused operations on Burn's tensors.
//!
//! On the CPU backend an operation runs a kernel of [`crate::cpu`] and records one step on Burn's tape; on every
//! other backend it is its `composed` twin of Burn's own operations, which is also what tests compare it with.

mod attention;
mod batch_norm;
mod conv;
mod cross_entropy;
mod custom;
mod embedding;
mod gated;
mod linear;
mod norm;
mod pooling;
mod quantized;
mod recompute;
mod rotary;

pub use attention::{Attention, attention, self_attention};
pub use batch_norm::{BatchNorm, BatchNormed, batch_norm, batch_norm_train};
pub use conv::{ConvOptions, conv_transpose2d, conv2d};
pub use cross_entropy::{cross_entropy, linear_cross_entropy};
pub use custom::composed_only;
pub use embedding::embedding;
pub use gated::gated;
pub use linear::{Linear, feed_forward, linear};
pub use norm::{layer_norm, rms_norm};
pub use pooling::{PoolOptions, average_pool2d, global_average, max_pool2d};
pub use quantized::{Int8Matrix, linear_int8};
pub use recompute::recomputed;
pub use rotary::rotary;

/// The operations composed of Burn's own: for every backend, and to compare with.
pub mod composed {
    pub use super::attention::composed::{attention, self_attention};
    pub use super::batch_norm::composed::{batch_norm, batch_norm_train};
    pub use super::conv::composed::{conv_transpose2d, conv2d};
    pub use super::cross_entropy::composed::{cross_entropy, linear_cross_entropy};
    pub use super::embedding::composed::embedding;
    pub use super::gated::composed::gated;
    pub use super::linear::composed::{activate, feed_forward, linear};
    pub use super::norm::composed::{layer_norm, rms_norm};
    pub use super::pooling::composed::{average_pool2d, global_average, max_pool2d};
    pub use super::rotary::composed::rotary;
}
