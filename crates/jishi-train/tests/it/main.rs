//! Tests of the training loop, in one binary.

mod encoders;
mod optimizers;
mod real;
mod resume;
