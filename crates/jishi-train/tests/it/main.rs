//! Tests of the training loop, in one binary.

mod optimizers;
mod real;
mod resume;
