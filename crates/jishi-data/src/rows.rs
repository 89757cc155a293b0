//! Walking chosen rows of a table chunk by chunk, and the values of a column in words.

use jishi_recipe::ColumnType;

use crate::table::{Chunk, OVERFLOW, Table};

/// The part of ascending row numbers that lies in `first..first + len`.
pub(crate) fn within(sorted: &[u32], first: usize, len: usize) -> &[u32] {
    let from = sorted.partition_point(|&r| (r as usize) < first);
    let to = sorted.partition_point(|&r| (r as usize) < first + len);
    &sorted[from..to]
}

/// Chunks that hold some of the ascending `sorted` rows, with those rows.
pub(crate) fn by_chunk<'a>(table: &'a Table, sorted: &'a [u32]) -> impl Iterator<Item = (Chunk, &'a [u32])> {
    (0..table.chunks()).filter_map(move |i| {
        let rows = within(sorted, i * crate::table::CHUNK_ROWS, crate::table::CHUNK_ROWS);
        (!rows.is_empty()).then(|| (table.chunk(i), rows))
    })
}

/// Sixty-four bits that are equal for equal values of a column; `None` where it is missing.
pub(crate) fn key(chunk: &Chunk, column: usize, kind: ColumnType, at: usize) -> Option<u64> {
    use arrow_array::Array;
    match kind {
        ColumnType::Number => {
            let values = chunk.numbers(column);
            // −0 and 0 are the same number.
            values.is_valid(at).then(|| (values.value(at) + 0.0).to_bits())
        }
        ColumnType::Category | ColumnType::Boolean => {
            let codes = chunk.codes(column);
            codes.is_valid(at).then(|| u64::from(codes.value(at)))
        }
        ColumnType::Date => {
            let dates = chunk.dates(column);
            dates.is_valid(at).then(|| dates.value(at) as u64)
        }
    }
}

/// The value behind a [`key`], in words.
pub(crate) fn key_text(table: &Table, column: usize, key: u64) -> String {
    let info = &table.columns[column];
    match info.kind {
        ColumnType::Number => number_text(f64::from_bits(key)),
        ColumnType::Category | ColumnType::Boolean => {
            if key == u64::from(OVERFLOW) {
                return "(one of too many values)".into();
            }
            info.categories.get(key as usize).cloned().unwrap_or_default()
        }
        ColumnType::Date => {
            let micros = key as i64;
            jiff::Timestamp::from_microsecond(micros).map_or_else(|_| micros.to_string(), |t| t.to_string())
        }
    }
}

/// A number as the shortest text that reads back as the same number.
pub(crate) fn number_text(value: f64) -> String {
    format!("{}", value + 0.0)
}

/// A list for a message: the first few, then how many more there are.
pub(crate) fn listed<T: std::fmt::Display>(items: &[T], most: usize) -> String {
    let mut text = items.iter().take(most).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if items.len() > most {
        text.push_str(&format!(" and {} more", items.len() - most));
    }
    text
}
