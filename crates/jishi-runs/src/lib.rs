//! The run folder: manifest, atomic checkpoints, metric log, plots, model card, model package.
//!
//! Nothing here knows tensors of a backend: weights come and go as named `f32` slices
//! ([`tensors`]). Every file that must never be torn goes through [`atomic`] or [`folder`].

pub mod atomic;
pub mod card;
pub mod checkpoint;
pub mod compare;
pub mod error;
pub mod fault;
pub mod folder;
pub mod fs;
pub mod log;
pub mod manifest;
pub mod package;
pub mod plots;
pub mod run;
pub mod table;
pub mod tensorboard;
pub mod tensors;

pub use checkpoint::{Checkpoints, Loaded, Scan};
pub use error::RunError;
pub use fs::{Fs, RealFs};
pub use log::MetricLog;
pub use manifest::{Metric, RunManifest, Status};
pub use package::Package;
pub use run::{OnExisting, RunDir};
pub use table::{Align, text_table};
pub use tensorboard::EventWriter;
pub use tensors::{TensorEntry, TensorFile};
