//! The recipe: what a user writes to describe a run.
//!
//! [`types`] is the one definition of every key; parsing, `--set`, the JSON schema, the reference
//! page and the record of defaults are all derived from it.

pub mod builtin;
pub mod check;
pub mod document;
pub mod generation;
pub mod language;
pub mod networks;
pub mod new;
pub mod parse;
pub mod places;
pub mod problem;
pub mod provenance;
pub mod reference;
pub mod schema;
mod set;
mod shape;
mod suggest;
mod tree;
pub mod types;
pub mod vision;
mod walk;
pub mod write;

pub use builtin::{Builtin, builtins};
pub use check::{check, metrics};
pub use document::{Document, document};
pub use generation::*;
pub use language::*;
pub use networks::*;
pub use new::{NewRecipe, new_recipe};
pub use parse::{Parsed, parse};
pub use places::{Origin, Places};
pub use problem::{Problem, Problems};
pub use provenance::Provenance;
pub use reference::reference_markdown;
pub use schema::schema;
pub use types::*;
pub use vision::*;
pub use write::to_toml;
