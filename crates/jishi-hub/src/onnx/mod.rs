//! ONNX files: a graph of operators with its weights, which many runtimes run (specification: the `onnx` repository,
//! `docs/IR.md` and `onnx/onnx.proto`).
//!
//! [`Graph`] is what is written, [`write()`] writes it, [`run`] reads a file back and computes with it. Operators are
//! those of operator set 17, the first with layer normalisation.

mod graph;
mod message;
mod run;
mod write;

pub use graph::{Attribute, Dim, Graph, Kind};
pub use run::{Input, Numbers, Output, run};
pub use write::write;
