//! Apache Parquet. Its columns are typed already: a string is a category unless the user says otherwise.

use std::fmt::Display;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, TimeUnit};
use bytes::Bytes;
use jishi_recipe::{ColumnType, Problem};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use parquet::file::reader::ChunkReader;
use rayon::prelude::*;

use super::Stop;
use super::assemble::{Assembler, Block};
use super::bytes::open_file;
use super::column::{
    BadCell, BadValue, BlockColumn, Cells, Expect, NO_CODE, NO_DATE, NO_NUMBER, Values, Writing, parse_column,
};
use super::value::MissingValues;
use crate::source::Source;
use crate::table::CHUNK_ROWS;

/// A Parquet file.
pub(crate) enum Input {
    File(File),
    Bytes(Bytes),
}

impl Input {
    pub(crate) fn open(source: &Source) -> Result<Self, Stop> {
        Ok(match source {
            Source::File(path) => Self::File(open_file(path)?),
            Source::Builtin(builtin) => Self::Bytes(Bytes::from_static(builtin.bytes)),
            Source::Memory { bytes, .. } => Self::Bytes(Bytes::from_owner(bytes.clone())),
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::File(file) => file.metadata().is_ok_and(|m| m.len() == 0),
            Self::Bytes(bytes) => bytes.is_empty(),
        }
    }
}

/// Reads a Parquet file into `table`.
pub(crate) fn read(input: Input, missing: &MissingValues, table: &mut Assembler) -> Result<(), Stop> {
    if input.is_empty() {
        return Err(Problem::new("the file is empty").help("expected a Parquet file").into());
    }
    match input {
        Input::File(file) => read_from(open(file)?, missing, table),
        Input::Bytes(bytes) => read_from(open(bytes)?, missing, table),
    }
}

/// The names of a file's columns.
pub(crate) fn header(input: Input) -> Result<Vec<String>, Stop> {
    let schema = match input {
        Input::File(file) => open(file)?.schema().clone(),
        Input::Bytes(bytes) => open(bytes)?.schema().clone(),
    };
    Ok(schema.fields().iter().map(|f| f.name().clone()).collect())
}

pub(crate) fn damaged(error: impl Display) -> Problem {
    Problem::new(format!("this is not a Parquet file, or it is damaged: {error}"))
        .help("check how it was written, or get it again")
}

pub(crate) fn open<R: ChunkReader + 'static>(
    reader: R,
) -> Result<ParquetRecordBatchReaderBuilder<R>, Problem> {
    let file = guarded(|| ParquetRecordBatchReaderBuilder::try_new(reader))?;
    // Places in the file that can't be; the decoder takes them for granted.
    let chunks = file.metadata().row_groups().iter().flat_map(|group| group.columns());
    for chunk in chunks {
        let numbers =
            [chunk.data_page_offset(), chunk.compressed_size(), chunk.dictionary_page_offset().unwrap_or(0)];
        if numbers.iter().any(|&n| n < 0) {
            return Err(damaged("a column is at a negative offset or has a negative size"));
        }
    }
    Ok(file)
}

/// Runs a part of the decoder, which may panic on a damaged file.
pub(crate) fn guarded<T>(decode: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, Problem> {
    match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(result) => result.map_err(damaged),
        Err(_) => Err(damaged("its decoder failed")),
    }
}

fn read_from<R: ChunkReader + 'static>(
    file: ParquetRecordBatchReaderBuilder<R>,
    missing: &MissingValues,
    table: &mut Assembler,
) -> Result<(), Stop> {
    let fields = file.schema().fields().clone();
    let names: Vec<String> = fields.iter().map(|f| f.name().clone()).collect();
    super::csv::check_names(&names, None)?;
    let places = table.set_header(&names)?;
    for &place in &places {
        let field = &fields[place];
        if native(field.data_type()).is_none() {
            return Err(Problem::new(format!(
                "column `{}` is of the type {}; expected numbers, text, booleans, dates or timestamps",
                field.name(),
                field.data_type()
            ))
            .help("leave the column out of the file")
            .into());
        }
    }
    // The reader gives the columns in the order of the file.
    let mut sorted = places.clone();
    sorted.sort_unstable();
    let mask = ProjectionMask::roots(file.parquet_schema(), sorted.iter().copied());
    let mut reader = guarded(|| file.with_projection(mask).with_batch_size(CHUNK_ROWS).build())?;
    let mut row = 1;
    while let Some(batch) = guarded(|| Ok(reader.next().transpose()?))? {
        let rows = batch.num_rows();
        let expect = table.expectations();
        let columns = places.par_iter().zip(&expect).map(|(place, &expect)| {
            let array = batch.column(sorted.partition_point(|s| s < place));
            convert(array, expect, missing)
        });
        let block = Block {
            columns: columns.collect(),
            lines: (row..row + rows as u64).collect(),
            ..Block::default()
        };
        table.merge(&[block]).map_err(Stop::Data)?;
        row += rows as u64;
    }
    Ok(())
}

/// The column type of a Parquet column.
fn native(kind: &DataType) -> Option<ColumnType> {
    use DataType::*;
    Some(match kind {
        Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64 | Float16 | Float32 | Float64 => {
            ColumnType::Number
        }
        Decimal32(..) | Decimal64(..) | Decimal128(..) | Decimal256(..) => ColumnType::Number,
        Boolean => ColumnType::Boolean,
        Date32 | Date64 | Timestamp(..) => ColumnType::Date,
        Utf8 | LargeUtf8 | Utf8View | Null => ColumnType::Category,
        Dictionary(_, values) => match native(values)? {
            ColumnType::Category => ColumnType::Category,
            _ => return None,
        },
        _ => return None,
    })
}

/// A column of a batch as the table wants it.
fn convert(array: &ArrayRef, expect: Expect, missing: &MissingValues) -> BlockColumn {
    let column = |values| BlockColumn { values, bad: Vec::new() };
    let rows = array.len();
    if array.null_count() == rows || *array.data_type() == DataType::Null {
        return column(Values::Missing);
    }
    let kind = native(array.data_type()).unwrap_or(ColumnType::Category);
    if matches!(expect, Expect::Is(wanted) if wanted != kind) {
        let texts: Vec<Option<String>> = match kind {
            ColumnType::Category => texts(array).into_iter().map(|t| t.map(String::from)).collect(),
            ColumnType::Number => {
                (0..rows).map(|r| array.is_valid(r).then(|| number_text(array, r))).collect()
            }
            ColumnType::Boolean => array.as_boolean().iter().map(|b| b.map(|b| b.to_string())).collect(),
            ColumnType::Date => {
                dates(array).into_iter().map(|d| (d != NO_DATE).then(|| date_text(d))).collect()
            }
        };
        return parse_column(&Texts(texts), 0, expect, missing);
    }
    match kind {
        ColumnType::Number => numbers(array),
        ColumnType::Boolean => {
            column(Values::Boolean(array.as_boolean().iter().map(|b| b.map_or(NO_CODE, u32::from)).collect()))
        }
        ColumnType::Date => column(Values::Date(dates(array))),
        ColumnType::Category => {
            parse_column(&Texts(texts(array)), 0, Expect::Is(ColumnType::Category), missing)
        }
    }
}

/// Texts as the cells of one column.
struct Texts<T>(Vec<Option<T>>);

impl<T: AsRef<str>> Cells for Texts<T> {
    fn rows(&self) -> usize {
        self.0.len()
    }

    fn cell(&self, row: usize, _: usize) -> (&str, Writing) {
        (self.0[row].as_ref().map_or("", AsRef::as_ref), Writing::Plain)
    }
}

pub(crate) fn texts(array: &ArrayRef) -> Vec<Option<&str>> {
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().iter().collect(),
        DataType::LargeUtf8 => array.as_string::<i64>().iter().collect(),
        DataType::Utf8View => array.as_string_view().iter().collect(),
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            let values = texts(dictionary.values());
            let keys = dictionary.normalized_keys();
            let text = |(row, key): (usize, usize)| {
                if array.is_valid(row) { values.get(key).copied().flatten() } else { None }
            };
            keys.into_iter().enumerate().map(text).collect()
        }
        _ => vec![None; array.len()],
    }
}

/// Numbers as `f64`; NaN is missing, as data frames write it.
fn numbers(array: &ArrayRef) -> BlockColumn {
    use DataType::*;
    macro_rules! each {
        ($kind:ty, $convert:expr) => {
            array.as_primitive::<$kind>().iter().map(|v| v.map_or(NO_NUMBER, $convert)).collect()
        };
    }
    let values: Vec<f64> = match array.data_type() {
        Int8 => each!(Int8Type, f64::from),
        Int16 => each!(Int16Type, f64::from),
        Int32 => each!(Int32Type, f64::from),
        Int64 => each!(Int64Type, |v| v as f64),
        UInt8 => each!(UInt8Type, f64::from),
        UInt16 => each!(UInt16Type, f64::from),
        UInt32 => each!(UInt32Type, f64::from),
        UInt64 => each!(UInt64Type, |v| v as f64),
        Float16 => each!(Float16Type, |v| v.to_f64()),
        Float32 => each!(Float32Type, f64::from),
        Float64 => each!(Float64Type, |v| v),
        // The text of a decimal is exact, and reading it rounds once.
        _ => (0..array.len())
            .map(|r| {
                if array.is_valid(r) { number_text(array, r).parse().unwrap_or(NO_NUMBER) } else { NO_NUMBER }
            })
            .collect(),
    };
    let mut bad = Vec::new();
    for (row, value) in values.iter().enumerate().filter(|(_, v)| v.is_infinite()) {
        bad.push(BadCell { row, why: BadValue::Infinite, text: (bad.len() < 10).then(|| value.to_string()) });
    }
    if values.iter().all(|v| v.is_nan()) {
        return BlockColumn { values: Values::Missing, bad };
    }
    BlockColumn { values: Values::Number(values), bad }
}

/// A number as text.
pub(crate) fn number_text(array: &ArrayRef, row: usize) -> String {
    use DataType::*;
    macro_rules! text {
        ($kind:ty) => {
            array.as_primitive::<$kind>().value(row).to_string()
        };
    }
    match array.data_type() {
        Int8 => text!(Int8Type),
        Int16 => text!(Int16Type),
        Int32 => text!(Int32Type),
        Int64 => text!(Int64Type),
        UInt8 => text!(UInt8Type),
        UInt16 => text!(UInt16Type),
        UInt32 => text!(UInt32Type),
        UInt64 => text!(UInt64Type),
        Float16 => text!(Float16Type),
        Float32 => text!(Float32Type),
        Float64 => text!(Float64Type),
        Decimal32(..) => array.as_primitive::<Decimal32Type>().value_as_string(row),
        Decimal64(..) => array.as_primitive::<Decimal64Type>().value_as_string(row),
        Decimal128(..) => array.as_primitive::<Decimal128Type>().value_as_string(row),
        Decimal256(..) => array.as_primitive::<Decimal256Type>().value_as_string(row),
        _ => String::new(),
    }
}

/// Microseconds since 1970.
fn dates(array: &ArrayRef) -> Vec<i64> {
    macro_rules! each {
        ($kind:ty, $convert:expr) => {
            array.as_primitive::<$kind>().iter().map(|v| v.map_or(NO_DATE, $convert)).collect()
        };
    }
    match array.data_type() {
        DataType::Date32 => each!(Date32Type, |v| i64::from(v) * 86_400_000_000),
        DataType::Date64 => each!(Date64Type, |v| v.saturating_mul(1000)),
        DataType::Timestamp(TimeUnit::Second, _) => {
            each!(TimestampSecondType, |v| v.saturating_mul(1_000_000))
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            each!(TimestampMillisecondType, |v| v.saturating_mul(1000))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => each!(TimestampMicrosecondType, |v| v),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            each!(TimestampNanosecondType, |v| v.div_euclid(1000))
        }
        _ => vec![NO_DATE; array.len()],
    }
}

/// A date as text: the day, and the time where there is one.
fn date_text(micros: i64) -> String {
    let Ok(moment) = jiff::Timestamp::from_microsecond(micros) else { return micros.to_string() };
    match micros.rem_euclid(86_400_000_000) {
        0 => moment.strftime("%Y-%m-%d").to_string(),
        _ => moment.to_string(),
    }
}
