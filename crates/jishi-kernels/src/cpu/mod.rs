//! Kernels over slices, without Burn: plain functions that take a [`Level`](crate::simd::Level) first.

pub mod activation;
pub mod attention;
pub mod batch_norm;
pub mod conv;
pub mod cross_entropy;
pub mod decode;
pub mod embedding;
pub mod feed_forward;
pub mod gemm;
pub mod linear;
pub mod matvec;
pub mod norm;
pub mod optimizer;
pub mod pooling;
pub mod rotary;
