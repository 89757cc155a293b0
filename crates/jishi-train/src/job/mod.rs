//! Whole jobs: what the command line asks for, made of data, task, loop and run folder.

pub mod check;
pub mod evaluate;
pub mod finish;
pub mod language;
pub mod onnx;
pub mod pictures;
pub mod predict;
pub mod prepare;
pub mod report;
pub mod subject;
pub mod train;
pub mod transfer;
pub mod verify;
pub mod vision;
pub mod weights;
pub mod work;
