//! Rows of tables as documents: JSON lines, CSV and Parquet, a block at a time.

use std::borrow::Cow;

use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType;
use jishi_recipe::Problem;

use super::documents::{Batch, Columns, Document, Message, Role, Target};
use crate::read::Stop;
use crate::read::bytes::{Blocks, Content, RawBlock};
use crate::read::column::{Cells, Writing, unquote};
use crate::read::csv::{self, Fields};
use crate::read::jsonl::{Object, not_an_object};
use crate::read::parquet::{self, Input, guarded};
use crate::read::text::check_utf8;
use crate::rows::listed;
use crate::source::nearest;

/// Rows of a Parquet file that are decoded at a time.
const PARQUET_ROWS: usize = 256;

/// A value of a row.
enum Value<'a> {
    Missing,
    Text(Cow<'a, str>),
    /// Numbers, truth values, lists and objects, as JSON.
    Json(&'a str),
}

type Bad = (&'static str, String);

/// Puts a value where its column belongs.
fn place(document: &mut Document, (role, name): (Role, &str), value: Value) -> Result<(), Bad> {
    let wrong = |expected: &str| Err(("a value of another type", format!("expected {expected} in `{name}`")));
    let text = match value {
        Value::Missing => return Ok(()),
        Value::Text(text) => text,
        Value::Json(json) => match role {
            Role::Messages => {
                document.messages = messages(json).map_err(|e| {
                    (
                        "not a conversation",
                        format!("expected a list of {{\"role\": …, \"content\": …}} in `{name}`: {e}"),
                    )
                })?;
                return Ok(());
            }
            Role::Target if json.starts_with('[') => {
                let list: Vec<serde_json::Value> = serde_json::from_str(json).unwrap_or_default();
                let mut texts = Vec::with_capacity(list.len());
                for item in list {
                    match item {
                        serde_json::Value::String(text) => texts.push(text),
                        serde_json::Value::Number(_) | serde_json::Value::Bool(_) => {
                            texts.push(item.to_string())
                        }
                        _ => return wrong("a list of labels"),
                    }
                }
                document.target = Some(Target::List(texts));
                return Ok(());
            }
            Role::Target | Role::Split if !json.starts_with(['[', '{']) => json.into(),
            _ => return wrong("text"),
        },
    };
    match role {
        Role::Text | Role::Picture => document.text = text.into_owned(),
        Role::Prompt => document.prompt = Some(text.into_owned()),
        Role::Rejected => document.rejected = Some(text.into_owned()),
        Role::Target => document.target = Some(Target::Text(text.into_owned())),
        Role::Split => document.split = Some(text.into_owned()),
        // A CSV file can hold a conversation as JSON.
        Role::Messages => return place(document, (role, name), Value::Json(&text)),
    }
    Ok(())
}

/// A conversation; other keys of a turn than role and content are left out.
fn messages(json: &str) -> Result<Vec<Message>, String> {
    #[derive(serde::Deserialize)]
    struct Turn<'a> {
        role: Cow<'a, str>,
        content: Option<Cow<'a, str>>,
    }
    let turns: Vec<Turn> = serde_json::from_str(json).map_err(|e| e.to_string())?;
    let message =
        |t: Turn| Message { role: t.role.into_owned(), content: t.content.unwrap_or_default().into_owned() };
    Ok(turns.into_iter().map(message).collect())
}

/// The problem of columns that are not there.
fn missing(columns: &Columns, there: &[String]) -> Result<(), Stop> {
    let problems = columns.0.iter().filter(|(_, name)| !there.contains(name)).map(|(role, name)| {
        let key = match role {
            Role::Text => "data.text.column",
            Role::Prompt => "data.text.prompt",
            Role::Rejected => "data.text.rejected",
            Role::Messages => "data.text.messages",
            Role::Target => "data.target",
            Role::Split => "data.split.column",
            Role::Picture => "image.column",
        };
        let names: Vec<String> = there.iter().map(|n| format!("`{n}`")).collect();
        let found = if names.is_empty() { "none".into() } else { listed(&names, 20) };
        let problem = Problem::new(format!("there is no column `{name}`; the columns are {found}"));
        match nearest(name, there.iter().cloned()) {
            Some(near) => problem.help(format!("did you mean `{near}`? set `{key}`")),
            None => problem.help(format!("set `{key}`")),
        }
    });
    let problems: Vec<Problem> = problems.collect();
    if problems.is_empty() { Ok(()) } else { Err(Stop::Many(problems)) }
}

/// JSON lines.
pub(super) struct JsonRows {
    blocks: Blocks,
    columns: Columns,
    first: bool,
}

impl JsonRows {
    pub(super) fn new(content: Content, columns: &Columns) -> Self {
        Self { blocks: Blocks::new(content, None), columns: columns.clone(), first: true }
    }

    pub(super) fn next(&mut self) -> Result<Option<Batch>, Stop> {
        let Some(raw) = self.blocks.next()? else { return Ok(None) };
        let text = check_utf8(&raw)?;
        let mut batch = Batch::default();
        let mut names: Vec<String> = Vec::new();
        for (line, number) in text.split('\n').zip(raw.first_line..) {
            if line.bytes().all(|b| b.is_ascii_whitespace()) {
                continue;
            }
            match serde_json::from_str::<Object>(line) {
                Err(error) => {
                    let bad = not_an_object(&error, number);
                    batch.bad.push((number, bad.reason, bad.message));
                }
                Ok(object) => {
                    if self.first {
                        for (key, _) in &object.0 {
                            if !names.iter().any(|n| n == key) && names.len() < 1000 {
                                names.push(key.to_string());
                            }
                        }
                    }
                    match self.document(&object, number) {
                        Ok(document) => batch.documents.push(document),
                        Err((reason, message)) => batch.bad.push((number, reason, message)),
                    }
                }
            }
        }
        // Keys may be missing in some lines; what no line of the first block has is not there.
        if std::mem::take(&mut self.first) && !names.is_empty() {
            missing(&self.columns, &names)?;
        }
        Ok(Some(batch))
    }

    fn document(&self, object: &Object, line: u64) -> Result<Document, Bad> {
        let mut document = Document { line, ..Document::default() };
        for (role, name) in &self.columns.0 {
            let Some((_, raw)) = object.0.iter().find(|(key, _)| key == name) else { continue };
            let raw = raw.get();
            let value = match raw.as_bytes().first() {
                _ if raw == "null" => Value::Missing,
                Some(b'"') => match serde_json::from_str::<String>(raw) {
                    Ok(text) => Value::Text(text.into()),
                    Err(error) => {
                        return Err(("not a text", format!("the text of `{name}` can't be read: {error}")));
                    }
                },
                _ => Value::Json(raw),
            };
            place(&mut document, (*role, name), value)?;
        }
        Ok(document)
    }
}

/// CSV and TSV.
pub(super) struct CsvRows {
    blocks: Blocks,
    delimiter: u8,
    names: usize,
    /// Role, name and place of the columns.
    columns: Vec<(Role, String, usize)>,
    /// What follows the header in the first block.
    first: Option<RawBlock>,
}

impl CsvRows {
    pub(super) fn new(content: Content, delimiter: u8, columns: &Columns) -> Result<Self, Stop> {
        let mut blocks = Blocks::new(content, Some(delimiter));
        let (names, first) = csv::header(&mut blocks, delimiter)?;
        missing(columns, &names)?;
        let place = |name: &str| names.iter().position(|n| n == name).unwrap_or_default();
        let columns = columns.0.iter().map(|(role, name)| (*role, name.clone(), place(name))).collect();
        Ok(Self { blocks, delimiter, names: names.len(), columns, first: Some(first) })
    }

    pub(super) fn next(&mut self) -> Result<Option<Batch>, Stop> {
        let raw = match self.first.take() {
            Some(first) => first,
            None => match self.blocks.next()? {
                Some(raw) => raw,
                None => return Ok(None),
            },
        };
        let text = check_utf8(&raw)?;
        let fields = Fields::find(text, self.delimiter, self.names, raw.first_line)?;
        let mut batch = Batch::default();
        batch.bad.extend(fields.ragged.iter().map(|b| (b.line, b.reason, b.message.clone())));
        for (row, &line) in fields.lines.iter().enumerate() {
            let mut document = Document { line, ..Document::default() };
            let mut put = || -> Result<(), Bad> {
                for (role, name, column) in &self.columns {
                    let (cell, writing) = fields.cell(row, *column);
                    let value = match writing {
                        Writing::CsvQuoted => Value::Text(unquote(cell)),
                        _ if cell.is_empty() => Value::Missing,
                        _ => Value::Text(cell.into()),
                    };
                    place(&mut document, (*role, name), value)?;
                }
                Ok(())
            };
            match put() {
                Ok(()) => batch.documents.push(document),
                Err((reason, message)) => batch.bad.push((line, reason, message)),
            }
        }
        Ok(Some(batch))
    }
}

/// Apache Parquet.
pub(super) struct ParquetRows {
    reader: ParquetRecordBatchReader,
    columns: Columns,
    row: u64,
}

impl ParquetRows {
    pub(super) fn new(input: Input, columns: &Columns) -> Result<Self, Stop> {
        if input.is_empty() {
            return Err(Problem::new("the file is empty").help("expected a Parquet file").into());
        }
        macro_rules! open {
            ($reader:expr) => {{
                let file = parquet::open($reader)?;
                let names: Vec<String> = file.schema().fields().iter().map(|f| f.name().clone()).collect();
                missing(columns, &names)?;
                let places = columns.0.iter().filter_map(|(_, name)| names.iter().position(|n| n == name));
                let mask = ProjectionMask::roots(file.parquet_schema(), places);
                guarded(|| file.with_projection(mask).with_batch_size(PARQUET_ROWS).build())?
            }};
        }
        let reader = match input {
            Input::File(file) => open!(file),
            Input::Bytes(bytes) => open!(bytes),
        };
        Ok(Self { reader, columns: columns.clone(), row: 1 })
    }

    pub(super) fn next(&mut self) -> Result<Option<Batch>, Stop> {
        let Some(rows) = guarded(|| Ok(self.reader.next().transpose()?))? else { return Ok(None) };
        let mut batch = Batch::default();
        let arrays = self.arrays(&rows)?;
        for row in 0..rows.num_rows() {
            let line = self.row + row as u64;
            let mut document = Document { line, ..Document::default() };
            let put = arrays.iter().zip(&self.columns.0).try_for_each(|(cells, (role, name))| {
                let json;
                if let (Role::Picture, Cell::Other(array)) = (role, cells) {
                    document.bytes = picture_bytes(array, row);
                    if let (None, Some(path)) = (&document.bytes, picture_path(array, row)) {
                        document.text = path;
                    }
                    return Ok(());
                }
                let value = match cells {
                    Cell::Texts(texts) => texts[row].map_or(Value::Missing, |t| Value::Text(t.into())),
                    Cell::Other(array) if array.is_valid(row) => {
                        json = json_of(array, row).to_string();
                        Value::Json(&json)
                    }
                    Cell::Other(_) => Value::Missing,
                };
                place(&mut document, (*role, name), value)
            });
            match put {
                Ok(()) => batch.documents.push(document),
                Err((reason, message)) => batch.bad.push((line, reason, message)),
            }
        }
        self.row += rows.num_rows() as u64;
        Ok(Some(batch))
    }

    fn arrays<'a>(&self, rows: &'a RecordBatch) -> Result<Vec<Cell<'a>>, Problem> {
        let array = |(_, name): &(Role, String)| {
            let array = rows.column_by_name(name).ok_or_else(|| {
                Problem::new(format!("column `{name}` is named in the schema, but not there"))
                    .help("check how the file was written, or get it again")
            })?;
            Ok(match array.data_type() {
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(..) => {
                    Cell::Texts(parquet::texts(array))
                }
                _ => Cell::Other(array),
            })
        };
        self.columns.0.iter().map(array).collect()
    }
}

/// A column of a batch.
enum Cell<'a> {
    Texts(Vec<Option<&'a str>>),
    Other(&'a ArrayRef),
}

/// The bytes of a picture: a value of bytes, or the field `bytes` of a struct, as Hugging Face's data sets have it.
fn picture_bytes(array: &ArrayRef, row: usize) -> Option<Vec<u8>> {
    if !array.is_valid(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Binary => array.as_binary::<i32>().value(row).to_vec(),
        DataType::LargeBinary => array.as_binary::<i64>().value(row).to_vec(),
        DataType::BinaryView => array.as_binary_view().value(row).to_vec(),
        DataType::Struct(_) => return picture_bytes(array.as_struct().column_by_name("bytes")?, row),
        _ => return None,
    })
}

/// The field `path` of such a struct.
fn picture_path(array: &ArrayRef, row: usize) -> Option<String> {
    let DataType::Struct(_) = array.data_type() else { return None };
    let paths = array.as_struct().column_by_name("path")?;
    json_of(paths, row).as_str().map(str::to_owned)
}

/// A value as JSON: numbers, truth values, texts, and lists and structs of them. Others are `null`.
fn json_of(array: &ArrayRef, row: usize) -> serde_json::Value {
    use serde_json::Value;
    if !array.is_valid(row) {
        return Value::Null;
    }
    let list = |values: ArrayRef| Value::Array((0..values.len()).map(|i| json_of(&values, i)).collect());
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).into(),
        DataType::Utf8View => array.as_string_view().value(row).into(),
        DataType::Boolean => array.as_boolean().value(row).into(),
        DataType::List(_) => list(array.as_list::<i32>().value(row)),
        DataType::LargeList(_) => list(array.as_list::<i64>().value(row)),
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            fields.iter().zip(columns).map(|(f, c)| (f.name().clone(), json_of(c, row))).collect()
        }
        _ => serde_json::from_str(&parquet::number_text(array, row)).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use arrow_array::builder::{ListBuilder, StringBuilder};
    use arrow_array::{Int64Array, StringArray};
    use jishi_recipe::DocumentUnit;

    use super::*;
    use crate::text::documents::Documents;
    use crate::{DataError, ReadOptions, Source};

    type BadLines = Vec<(u64, &'static str)>;

    fn read(
        name: &str,
        bytes: &[u8],
        columns: &[(Role, &str)],
    ) -> Result<(Vec<Document>, BadLines), DataError> {
        let source = Source::Memory { name: name.into(), bytes: bytes.into() };
        let columns = Columns(columns.iter().map(|(r, n)| (*r, n.to_string())).collect());
        let mut documents =
            Documents::open(&[source], &ReadOptions::default(), &columns, DocumentUnit::Stream)?;
        let mut all = Vec::new();
        while let Some(batch) = documents.next_batch()? {
            all.extend(batch);
        }
        Ok((all, documents.bad.iter().map(|b| (b.line, b.reason)).collect()))
    }

    #[test]
    fn json_lines() {
        let text = r#"{"text": "a\nb", "label": ["x", 2], "messages": [{"role": "user", "content": "hi", "id": 1}]}
{"label": true, "text": null}
{"text": 3}
not json
{"text": "z", "messages": "no"}"#;
        let columns = [(Role::Text, "text"), (Role::Target, "label"), (Role::Messages, "messages")];
        let (documents, bad) = read("a.jsonl", text.as_bytes(), &columns).unwrap();
        assert_eq!(documents[0].text, "a\nb");
        assert_eq!(documents[0].target, Some(Target::List(vec!["x".into(), "2".into()])));
        assert_eq!(documents[0].messages, [Message { role: "user".into(), content: "hi".into() }]);
        assert_eq!(
            (documents[1].text.as_str(), &documents[1].target),
            ("", &Some(Target::Text("true".into())))
        );
        assert_eq!(
            bad,
            [(3, "a value of another type"), (4, "not a JSON object"), (5, "not a conversation")]
        );
    }

    #[test]
    fn csv_and_missing_columns() {
        let text = "label,body\nx,\"a, \"\"b\"\"\nc\"\ny,z\nragged\n";
        let (documents, bad) =
            read("a.csv", text.as_bytes(), &[(Role::Text, "body"), (Role::Target, "label")]).unwrap();
        assert_eq!(documents[0].text, "a, \"b\"\nc");
        assert_eq!((documents[1].text.as_str(), documents[1].line), ("z", 4));
        assert_eq!(bad, [(5, "a wrong number of fields")]);
        let error = read("a.csv", text.as_bytes(), &[(Role::Text, "bodi")]).unwrap_err().to_string();
        assert!(
            error.contains("a.csv: there is no column `bodi`; the columns are `label`, `body`"),
            "{error}"
        );
        assert!(error.contains("did you mean `body`?"), "{error}");
        let error =
            read("a.jsonl", b"{\"content\": \"x\"}\n", &[(Role::Text, "text")]).unwrap_err().to_string();
        assert!(error.contains("there is no column `text`; the columns are `content`"), "{error}");
    }

    #[test]
    fn parquet_with_lists() {
        let mut labels = ListBuilder::new(StringBuilder::new());
        labels.append_value([Some("x"), Some("y")]);
        labels.append_null();
        let batch = RecordBatch::try_from_iter([
            ("text", Arc::new(StringArray::from(vec![Some("a"), None])) as ArrayRef),
            ("n", Arc::new(Int64Array::from(vec![7, 8])) as ArrayRef),
            ("labels", Arc::new(labels.finish()) as ArrayRef),
        ])
        .unwrap();
        let mut bytes = Vec::new();
        let mut writer = ::parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let (documents, bad) =
            read("a.parquet", &bytes, &[(Role::Text, "text"), (Role::Target, "labels"), (Role::Split, "n")])
                .unwrap();
        assert_eq!(documents[0].text, "a");
        assert_eq!(documents[0].target, Some(Target::List(vec!["x".into(), "y".into()])));
        assert_eq!((documents[1].split.as_deref(), documents[1].line), (Some("8"), 2));
        assert!(bad.is_empty() && documents[1].target.is_none());
    }
}
