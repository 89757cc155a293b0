//! The recipe: what a user writes to describe a run.
//!
//! [`types`] is the one definition of every key; parsing, `--set`, the JSON schema, the reference
//! page and the record of defaults are all derived from it.

pub mod problem;
pub mod types;

pub use problem::{Problem, Problems};
pub use types::*;
