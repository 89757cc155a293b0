//! Tables of results as CSV, JSON lines or Parquet.

use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use jishi_recipe::Problem;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use crate::error::DataError;

/// Values of a result column, one a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Numbers; NaN is written as an empty field, `null` in JSON.
    Numbers(Vec<f64>),
    /// Words.
    Words(Vec<String>),
    /// Lists of numbers, all of one length: a list in JSON, else the columns `e0`, `e1`, ….
    Vectors(Vec<Vec<f64>>),
}

impl Values {
    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Numbers(v) => v.len(),
            Self::Words(v) => v.len(),
            Self::Vectors(v) => v.len(),
        }
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Some of the rows.
    ///
    /// # Panics
    /// Where there are no such rows.
    #[must_use]
    pub fn part(&self, rows: std::ops::Range<usize>) -> Self {
        match self {
            Self::Numbers(v) => Self::Numbers(v[rows].to_vec()),
            Self::Words(v) => Self::Words(v[rows].to_vec()),
            Self::Vectors(v) => Self::Vectors(v[rows].to_vec()),
        }
    }
}

/// A format of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputFormat {
    /// Comma-separated values (RFC 4180).
    Csv,
    /// One JSON object a line.
    Jsonl,
    /// Apache Parquet, zstd-compressed.
    Parquet,
}

impl OutputFormat {
    /// By a file name's ending.
    ///
    /// # Errors
    /// An ending that is none of `.csv`, `.jsonl`, `.ndjson` and `.parquet`.
    pub fn of(path: &Path) -> Result<Self, Problem> {
        match path.extension().and_then(|e| e.to_str()) {
            Some("csv") => Ok(Self::Csv),
            Some("jsonl" | "ndjson") => Ok(Self::Jsonl),
            Some("parquet") => Ok(Self::Parquet),
            _ => Err(Problem::new("expected an output that ends in .csv, .jsonl or .parquet").file(path)),
        }
    }
}

/// Columns of the same length as a file's bytes.
///
/// # Errors
/// [`DataError::Bad`] where Parquet can't be made of them.
///
/// # Panics
/// Where the columns' lengths differ: a bug of the caller.
pub fn to_bytes(columns: &[(String, Values)], format: OutputFormat) -> Result<Vec<u8>, DataError> {
    let rows = columns.first().map_or(0, |(_, v)| v.len());
    assert!(columns.iter().all(|(_, v)| v.len() == rows), "columns of one table have one length");
    match format {
        OutputFormat::Csv => Ok(csv(&flat(columns), rows)),
        OutputFormat::Jsonl => Ok(jsonl(columns, rows)),
        OutputFormat::Parquet => parquet(&flat(columns)),
    }
}

/// Columns with those of lists taken apart.
fn flat(columns: &[(String, Values)]) -> Vec<(String, Values)> {
    let mut out = Vec::new();
    for (name, values) in columns {
        let Values::Vectors(vectors) = values else {
            out.push((name.clone(), values.clone()));
            continue;
        };
        for i in 0..vectors.first().map_or(0, Vec::len) {
            out.push((format!("e{i}"), Values::Numbers(vectors.iter().map(|v| v[i]).collect())));
        }
    }
    out
}

fn csv(columns: &[(String, Values)], rows: usize) -> Vec<u8> {
    let mut out = String::new();
    let mut line = |fields: &mut dyn Iterator<Item = String>| {
        for (i, field) in fields.enumerate() {
            if i > 0 {
                out.push(',');
            }
            if field.contains([',', '"', '\n', '\r']) {
                out += &format!("\"{}\"", field.replace('"', "\"\""));
            } else {
                out += &field;
            }
        }
        out.push('\n');
    };
    line(&mut columns.iter().map(|(name, _)| name.clone()));
    for row in 0..rows {
        line(&mut columns.iter().map(|(_, values)| match values {
            Values::Numbers(v) if v[row].is_nan() => String::new(),
            Values::Numbers(v) => v[row].to_string(),
            Values::Words(v) => v[row].clone(),
            Values::Vectors(v) => serde_json::Value::from(v[row].clone()).to_string(),
        }));
    }
    out.into_bytes()
}

fn jsonl(columns: &[(String, Values)], rows: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for row in 0..rows {
        let object: serde_json::Map<String, serde_json::Value> = columns
            .iter()
            .map(|(name, values)| {
                let value = match values {
                    Values::Numbers(v) => v[row].into(),
                    Values::Words(v) => v[row].clone().into(),
                    Values::Vectors(v) => v[row].clone().into(),
                };
                (name.clone(), value)
            })
            .collect();
        out.extend_from_slice(serde_json::Value::Object(object).to_string().as_bytes());
        out.push(b'\n');
    }
    out
}

fn parquet(columns: &[(String, Values)]) -> Result<Vec<u8>, DataError> {
    let bad = |e: &dyn std::fmt::Display| DataError::from(Problem::new(format!("can't write Parquet: {e}")));
    let arrays = columns.iter().map(|(name, values)| {
        let array: ArrayRef = match values {
            Values::Numbers(v) => {
                Arc::new(v.iter().map(|x| (!x.is_nan()).then_some(*x)).collect::<Float64Array>())
            }
            Values::Words(v) => Arc::new(StringArray::from_iter_values(v)),
            Values::Vectors(v) => Arc::new(
                v.iter()
                    .map(|x| Some(serde_json::Value::from(x.clone()).to_string()))
                    .collect::<StringArray>(),
            ),
        };
        (name.as_str(), array, true)
    });
    let batch = RecordBatch::try_from_iter_with_nullable(arrays).map_err(|e| bad(&e))?;
    let properties =
        WriterProperties::builder().set_compression(Compression::ZSTD(Default::default())).build();
    let mut bytes = Vec::new();
    let mut writer =
        ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).map_err(|e| bad(&e))?;
    writer.write(&batch).map_err(|e| bad(&e))?;
    writer.close().map_err(|e| bad(&e))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Vec<(String, Values)> {
        vec![
            ("label".into(), Values::Words(vec!["a,b".into(), "say \"hi\"".into()])),
            ("p".into(), Values::Numbers(vec![0.1, f64::NAN])),
        ]
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        let text = String::from_utf8(to_bytes(&columns(), OutputFormat::Csv).unwrap()).unwrap();
        assert_eq!(text, "label,p\n\"a,b\",0.1\n\"say \"\"hi\"\"\",\n");
    }

    #[test]
    fn json_lines_hold_null_for_nan() {
        let text = String::from_utf8(to_bytes(&columns(), OutputFormat::Jsonl).unwrap()).unwrap();
        assert_eq!(text, "{\"label\":\"a,b\",\"p\":0.1}\n{\"label\":\"say \\\"hi\\\"\",\"p\":null}\n");
    }

    #[test]
    fn parquet_reads_back() {
        let bytes = to_bytes(&columns(), OutputFormat::Parquet).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.parquet");
        #[allow(clippy::disallowed_methods)]
        std::fs::write(&path, bytes).unwrap();
        let table = crate::read(&[crate::Source::File(path)], &crate::ReadOptions::default()).unwrap();
        assert_eq!((table.rows, table.columns[1].missing), (2, 1));
    }

    #[test]
    fn unknown_endings_are_refused() {
        assert!(OutputFormat::of(Path::new("out.xlsx")).is_err());
        assert_eq!(OutputFormat::of(Path::new("out.jsonl")).unwrap(), OutputFormat::Jsonl);
    }
}
