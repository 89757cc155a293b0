//! Tests of the command line: the binary itself, called as a user calls it.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod bad_input;
mod builtin;
mod docs;
mod help;
mod images;
mod kill;
mod onnx;
mod place;
mod serve;
mod serve_text;
mod texts;
mod transfer;
mod tuned;
mod workflow;
