//! Tests of the training loop, in one binary.

mod dpo;
mod encoders;
mod images;
mod optimizers;
mod real;
mod resume;
