//! Sources, readers, splits, feature pipelines, the data ledger, batches. No tensors.

pub mod builtin;
mod cache;
pub mod encoded;
pub mod error;
pub mod image;
pub mod inspect;
pub mod json;
pub mod ledger;
pub mod mt19937;
pub mod pipeline;
pub mod read;
mod rows;
pub mod source;
pub mod split;
pub mod table;
pub mod text;
pub mod write;

pub use builtin::{Builtin, builtins};
pub use encoded::{Encoded, Storage};
pub use error::DataError;
pub use ledger::{Action, Ledger, LedgerSummary};
pub use pipeline::{Pipeline, usable_rows};
pub use read::{header, read};
pub use source::{ReadOptions, Source, resolve, resolve_names};
pub use split::{Splits, folds, split};
pub use table::{CHUNK_ROWS, Chunk, Column, OVERFLOW, Table};
