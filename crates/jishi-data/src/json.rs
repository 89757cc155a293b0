//! Rows of a table as JSON objects, as a user would send them to a model.

use arrow_array::Array;
use jishi_recipe::ColumnType;
use serde_json::{Map, Value};

use crate::table::{CHUNK_ROWS, OVERFLOW, Table};

/// Row `row` of `table` as a JSON object of the named columns; missing values are `null`.
///
/// Names that the table lacks are left out. Read back as JSON lines with the same column types, the row has the
/// same values; but for a category that the dictionary had no room for, which is `null`.
#[must_use]
pub fn row_object(table: &Table, row: usize, columns: &[&str]) -> Map<String, Value> {
    let chunk = table.chunk(row / CHUNK_ROWS);
    let at = row - chunk.first_row;
    let mut object = Map::new();
    for name in columns {
        let Some(index) = table.column_index(name) else { continue };
        let column = &table.columns[index];
        let value = match column.kind {
            ColumnType::Number => {
                let numbers = chunk.numbers(index);
                if numbers.is_null(at) { Value::Null } else { numbers.value(at).into() }
            }
            ColumnType::Category | ColumnType::Boolean => {
                let codes = chunk.codes(index);
                let known = !codes.is_null(at) && codes.value(at) != OVERFLOW;
                if known { column.categories[codes.value(at) as usize].clone().into() } else { Value::Null }
            }
            ColumnType::Date => {
                let dates = chunk.dates(index);
                match jiff::Timestamp::from_microsecond(dates.value(at)) {
                    Ok(time) if !dates.is_null(at) => time.to_string().into(),
                    _ => Value::Null,
                }
            }
        };
        object.insert((*name).to_owned(), value);
    }
    object
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{ReadOptions, Source, read};

    fn table(name: &str, text: &str) -> Table {
        let bytes: Arc<[u8]> = text.as_bytes().into();
        read(&[Source::Memory { name: name.into(), bytes }], &ReadOptions::default()).unwrap()
    }

    #[test]
    fn rows_read_back_as_they_were() {
        let columns = ["x", "kind", "yes", "day"];
        let first = table("a.csv", "x,kind,yes,day\n1.5,a,true,2024-02-29\n,b,false,2023-01-01T10:00:00\n");
        let lines: Vec<String> =
            (0..2).map(|row| Value::Object(row_object(&first, row, &columns)).to_string()).collect();
        let second = table("b.jsonl", &(lines.join("\n") + "\n"));
        for row in 0..2 {
            assert_eq!(row_object(&first, row, &columns), row_object(&second, row, &columns));
        }
        assert_eq!(row_object(&first, 1, &["x"])["x"], Value::Null);
    }
}
