//! Sources, readers, splits, feature pipelines, the data ledger, batches. No tensors.

pub mod builtin;
mod cache;
pub mod error;
pub mod ledger;
pub mod source;
pub mod table;

pub use error::DataError;
pub use ledger::{Action, Ledger, LedgerSummary};
pub use builtin::{Builtin, builtins};
pub use source::{ReadOptions, Source, resolve, resolve_names};
pub use table::{CHUNK_ROWS, Chunk, Column, OVERFLOW, Table};
