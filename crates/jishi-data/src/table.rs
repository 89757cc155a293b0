//! A table in memory or on disk: typed columns in chunks of rows, in the order of the input.

use std::path::PathBuf;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, UInt32Type, UInt64Type};
use arrow_array::{ArrayRef, Float64Array, Int64Array, UInt32Array, UInt64Array};
use arrow_schema::DataType;
use jishi_recipe::ColumnType;

use crate::cache::Store;
use crate::ledger::Ledger;

/// Rows of every chunk but the last: row `r` is in chunk `r / CHUNK_ROWS`.
pub const CHUNK_ROWS: usize = 65_536;

/// Code of a category that the dictionary has no room for (see [`Column::overflow`]).
pub const OVERFLOW: u32 = u32::MAX;

/// A column: its name, its type and its dictionary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Name, unique in the table.
    pub name: String,
    /// Type of every value.
    pub kind: ColumnType,
    /// Code → value, in the order of first appearance, for [`ColumnType::Category`];
    /// `["false", "true"]` for [`ColumnType::Boolean`]; empty for other types.
    pub categories: Vec<String>,
    /// Rows without a value.
    pub missing: u64,
    /// There are more distinct values than a dictionary holds; the values beyond it have the code [`OVERFLOW`].
    pub overflow: bool,
}

/// A table that was read: columns, and rows in chunks of [`CHUNK_ROWS`].
#[derive(Debug)]
pub struct Table {
    /// Columns, in the order of the input.
    pub columns: Vec<Column>,
    /// Number of rows that were kept.
    pub rows: usize,
    /// The files that the rows came from, in the order in which they were read (`builtin:NAME` for built-in data).
    pub files: Vec<PathBuf>,
    /// What became of the input rows so far: the rows that the reader dropped, and how many there were.
    pub ledger: Ledger,
    /// Every column name of the input, also of the columns that were not read.
    pub header: Vec<String>,
    /// First kept row of every file.
    pub(crate) file_rows: Vec<usize>,
    pub(crate) store: Store,
}

impl Table {
    /// Index of the column `name`.
    #[must_use]
    pub fn column_index(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == name)
    }

    /// Number of chunks.
    #[must_use]
    pub fn chunks(&self) -> usize {
        self.rows.div_ceil(CHUNK_ROWS)
    }

    /// Chunk `i`. In memory it shares the arrays; on disk it maps the chunk, which is given back when the chunk is dropped.
    ///
    /// # Panics
    /// Where there is no chunk `i`, or the cache file can no longer be mapped.
    #[must_use]
    pub fn chunk(&self, i: usize) -> Chunk {
        assert!(i < self.chunks(), "chunk {i} of {}", self.chunks());
        let first_row = i * CHUNK_ROWS;
        let rows = CHUNK_ROWS.min(self.rows - first_row);
        Chunk { first_row, rows, arrays: self.store.chunk(i) }
    }

    /// Where a row came from: index in [`Table::files`] and the line where it starts, from 1
    /// (row number from 1 for Parquet).
    ///
    /// It opens the row's chunk; for many rows take [`Chunk::lines`] and [`Table::file_of`].
    #[must_use]
    pub fn origin(&self, row: usize) -> (usize, u64) {
        let chunk = self.chunk(row / CHUNK_ROWS);
        (self.file_of(row), chunk.lines().value(row - chunk.first_row))
    }

    /// Index in [`Table::files`] of the file that `row` came from.
    #[must_use]
    pub fn file_of(&self, row: usize) -> usize {
        self.file_rows.partition_point(|&first| first <= row) - 1
    }

    /// Whether the rows are in a cache file on disk.
    #[must_use]
    pub fn on_disk(&self) -> bool {
        matches!(self.store, Store::Disk(_))
    }

    /// Bytes of the typed columns, wherever they are.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.store.bytes()
    }
}

/// Up to [`CHUNK_ROWS`] consecutive rows.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// Table row of the chunk's first row.
    pub first_row: usize,
    /// Number of rows.
    pub rows: usize,
    /// One array a column, then the lines.
    arrays: Vec<ArrayRef>,
}

impl Chunk {
    /// Values of a [`ColumnType::Number`] column, `[rows]`; null = missing; all finite.
    ///
    /// # Panics
    /// Where the column is of another type.
    #[must_use]
    pub fn numbers(&self, column: usize) -> &Float64Array {
        self.arrays[column].as_primitive::<Float64Type>()
    }

    /// Codes of a [`ColumnType::Category`] or [`ColumnType::Boolean`] column, `[rows]`: index in [`Column::categories`];
    /// null = missing; [`OVERFLOW`] = a value that the dictionary has no room for.
    ///
    /// # Panics
    /// Where the column is of another type.
    #[must_use]
    pub fn codes(&self, column: usize) -> &UInt32Array {
        self.arrays[column].as_primitive::<UInt32Type>()
    }

    /// Values of a [`ColumnType::Date`] column, `[rows]`: microseconds since 1970-01-01 00:00 UTC; null = missing.
    ///
    /// # Panics
    /// Where the column is of another type.
    #[must_use]
    pub fn dates(&self, column: usize) -> &Int64Array {
        self.arrays[column].as_primitive::<Int64Type>()
    }

    /// Line in its file where every row starts, from 1, `[rows]` (row number from 1 for Parquet).
    #[must_use]
    pub fn lines(&self) -> &UInt64Array {
        self.arrays[self.arrays.len() - 1].as_primitive::<UInt64Type>()
    }
}

/// How values of a type are stored.
pub(crate) fn stored_as(kind: ColumnType) -> DataType {
    match kind {
        ColumnType::Number => DataType::Float64,
        ColumnType::Category | ColumnType::Boolean => DataType::UInt32,
        ColumnType::Date => DataType::Int64,
    }
}
