//! Text: documents from files and tables, tokenizers, tokens in a file, and windows of tokens to learn from.
//!
//! ```
//! # fn main() -> Result<(), jishi_data::DataError> {
//! use std::sync::Arc;
//!
//! use jishi_data::text::cache::{Around, CacheKey, Piece, Tokens};
//! use jishi_data::text::documents::{Columns, Documents};
//! use jishi_data::text::tokenizer::{SpecialSet, TrainOptions, train};
//! use jishi_data::text::windows::{WindowBatch, Windows};
//! use jishi_data::{ReadOptions, Source};
//! use jishi_recipe::{DocumentUnit, Text};
//!
//! let source = Source::Memory { name: "a.txt".into(), bytes: "so it is, so it goes\n".repeat(20).as_bytes().into() };
//! let columns = Columns::of(&Text::default(), None, None);
//! let documents =
//!     || Documents::open(&[source.clone()], &ReadOptions::default(), &columns, DocumentUnit::Line);
//!
//! let texts = documents()?.flat_map(|batch| match batch {
//!     Ok(documents) => documents.into_iter().map(|d| Ok(d.text)).collect(),
//!     Err(error) => vec![Err(error)],
//! });
//! let recipe = jishi_recipe::Tokenizer { vocabulary: 300, ..Default::default() };
//! let tokenizer = train(texts, &TrainOptions { recipe, special: SpecialSet::Causal })?;
//!
//! let folder = tempfile::tempdir().map_err(|e| jishi_data::DataError::io(".", e))?;
//! let key = CacheKey::of(&[source.clone()], &[&tokenizer.to_json()])?;
//! let around = Around { bos: tokenizer.special.bos, eos: tokenizer.special.eos };
//! let tokens = Tokens::open_or_build(
//!     &folder.path().join("tokens"),
//!     &key,
//!     tokenizer.vocabulary(),
//!     around,
//!     documents()?,
//!     |d| Ok(Piece { ids: tokenizer.encode(&d.text)?, learned: None, continues: d.continues }),
//! )?;
//! let windows = Windows::packed(Arc::new(tokens), 16, 0);
//! let mut batch = WindowBatch::default();
//! windows.gather(&[0, 1], &mut batch);
//! assert_eq!(batch.inputs.len(), 2 * 16);
//! assert!(tokenizer.decode(&batch.inputs).starts_with("so it is, so it goes"));
//! # Ok(())
//! # }
//! ```

pub mod cache;
pub mod chat;
pub mod corpus;
mod dedupe;
pub mod documents;
pub mod labels;
pub mod pieces;
mod plain;
mod resolve;
mod rows;
pub mod statistics;
pub mod tokenizer;
pub mod windows;

pub use self::resolve::resolve_text;
