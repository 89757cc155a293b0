//! Tests of the command line: the binary itself, called as a user calls it.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod bad_input;
mod builtin;
mod deploy;
mod detection;
mod docs;
mod generation;
mod help;
mod images;
mod kill;
mod onnx;
mod place;
mod pretraining;
mod serve;
mod serve_keys;
mod serve_reload;
mod serve_text;
mod serve_tls;
mod studio;
mod texts;
mod transfer;
mod tuned;
mod workflow;
