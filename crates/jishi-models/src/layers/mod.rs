//! What model families are built from.

pub mod activation;
pub mod conv;
pub mod dense;
pub mod embedding;
pub mod norm;
pub mod numbers;
pub mod projection;
pub mod resample;
pub mod tokens;
