//! Tests of the training loop, in one binary.

mod dpo;
mod encoders;
mod optimizers;
mod real;
mod resume;
