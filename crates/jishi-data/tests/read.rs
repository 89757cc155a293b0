//! The readers against the `csv` crate, against each other, and against bad input.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{Array, ListArray, RecordBatch, StringArray, TimestampMillisecondArray, types::Int32Type};
use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float64Array, Int64Array,
};
use jishi_data::{
    Action, CHUNK_ROWS, DataError, OVERFLOW, ReadOptions, Source, Table, builtins, header, read,
};
use jishi_recipe::{BadRows, ColumnType, Format};
use proptest::prelude::*;

fn memory(name: &str, bytes: impl Into<Vec<u8>>) -> Source {
    Source::Memory { name: name.into(), bytes: bytes.into().into() }
}

fn read_as(name: &str, bytes: impl Into<Vec<u8>>, options: &ReadOptions) -> Result<Table, DataError> {
    read(&[memory(name, bytes)], options)
}

fn csv(text: &str) -> Table {
    read_as("a.csv", text, &ReadOptions::default()).unwrap()
}

/// What is wrong with an input, as a user sees it.
fn problems(name: &str, bytes: impl Into<Vec<u8>>) -> String {
    problems_with(name, bytes, &ReadOptions::default())
}

fn problems_with(name: &str, bytes: impl Into<Vec<u8>>, options: &ReadOptions) -> String {
    match read_as(name, bytes, options) {
        Err(DataError::Bad(problems)) => problems.to_string(),
        other => panic!("expected problems, found {other:?}"),
    }
}

/// A column as text; `None` = missing.
fn values(table: &Table, name: &str) -> Vec<Option<String>> {
    let column = table.column_index(name).unwrap();
    let mut out = Vec::new();
    for i in 0..table.chunks() {
        let chunk = table.chunk(i);
        assert_eq!(chunk.lines().len(), chunk.rows);
        for r in 0..chunk.rows {
            out.push(match table.columns[column].kind {
                ColumnType::Number => {
                    Some(chunk.numbers(column)).filter(|a| a.is_valid(r)).map(|a| a.value(r).to_string())
                }
                ColumnType::Date => {
                    Some(chunk.dates(column)).filter(|a| a.is_valid(r)).map(|a| a.value(r).to_string())
                }
                _ => Some(chunk.codes(column)).filter(|a| a.is_valid(r)).map(|a| match a.value(r) {
                    OVERFLOW => "…".into(),
                    code => table.columns[column].categories[code as usize].clone(),
                }),
            });
        }
    }
    let missing = out.iter().filter(|v| v.is_none()).count() as u64;
    assert_eq!((out.len(), missing), (table.rows, table.columns[column].missing));
    out
}

fn shown(table: &Table, name: &str) -> Vec<String> {
    values(table, name).into_iter().map(|v| v.unwrap_or("-".into())).collect()
}

fn kinds(table: &Table) -> Vec<ColumnType> {
    table.columns.iter().map(|c| c.kind).collect()
}

use ColumnType::{Boolean, Category, Date, Number};

#[test]
fn quotes_line_ends_marks_and_missing_values() {
    let text = "\u{feff}n,\"c, d\",b,day\r\n1,\"a \"\"b\"\"\nc\",yes,2024-02-29\r\n 2.5 ,\"\",NO,\r\n\r\nNA,x \"y\" z,?,1970/01/02";
    let table = csv(text);
    assert_eq!(table.header, ["n", "c, d", "b", "day"]);
    assert_eq!(kinds(&table), [Number, Category, Boolean, Date]);
    assert_eq!(shown(&table, "n"), ["1", "2.5", "-"]);
    assert_eq!(shown(&table, "c, d"), ["a \"b\"\nc", "-", "x \"y\" z"]);
    assert_eq!(shown(&table, "b"), ["true", "false", "-"]);
    assert_eq!(shown(&table, "day"), ["1709164800000000", "-", "86400000000"]);
    assert_eq!((0..3).map(|r| table.origin(r).1).collect::<Vec<_>>(), [2, 4, 6]);
}

#[test]
fn builtin_data_is_complete() {
    for builtin in builtins() {
        let table = read(&[Source::Builtin(builtin)], &ReadOptions::default()).unwrap();
        assert_eq!(table.rows, builtin.rows, "{}", builtin.name);
        assert!(table.column_index(builtin.target).is_some(), "{}", builtin.name);
        assert_eq!(table.ledger.rows_read, builtin.rows as u64);
    }
    let cancer = read(&[Source::Builtin(&builtins()[1])], &ReadOptions::default()).unwrap();
    let diagnosis = shown(&cancer, "diagnosis");
    assert_eq!(diagnosis.iter().filter(|d| *d == "malignant").count(), 212);
    assert_eq!(kinds(&cancer)[..30], [Number; 30]);
    let ames = read(&[Source::Builtin(&builtins()[0])], &ReadOptions::default()).unwrap();
    assert_eq!(ames.columns.len(), 74);
    // Python: statistics.mean of the column.
    let prices: Vec<f64> = shown(&ames, "Sale_Price").iter().map(|p| p.parse().unwrap()).collect();
    assert!((prices.iter().sum::<f64>() / 2930.0 - 180_796.1).abs() < 0.05);
}

#[test]
fn types_do_not_depend_on_the_order_of_the_rows() {
    // The odd value is far behind the first block, and makes the first rows' type wrong.
    let many = 40_000;
    for (odd, kind) in
        [("x", Category), ("2024-01-01", Category), ("true", Category), ("", Number), ("1e400", Number)]
    {
        let mut rows: Vec<String> = (0..many).map(|i| format!("{:05}.50,{i}", i % 7)).collect();
        rows.push(format!("{odd},{many}"));
        let forward = format!("a,b\n{}\n", rows.join("\n"));
        rows.reverse();
        let backward = format!("a,b\n{}\n", rows.join("\n"));
        let options = ReadOptions { bad_rows: BadRows::Drop, ..ReadOptions::default() };
        let forward = read_as("a.csv", forward, &options).unwrap();
        let backward = read_as("a.csv", backward, &options).unwrap();
        assert_eq!(kinds(&forward), [kind, Number], "{odd}");
        assert_eq!(kinds(&backward), [kind, Number], "{odd}");
        let mut reversed = shown(&backward, "a");
        reversed.reverse();
        assert_eq!(shown(&forward, "a"), reversed, "{odd}");
        // Categories keep the text as it was written.
        assert_eq!(shown(&forward, "a")[3], if kind == Category { "00003.50" } else { "3.5" });
        assert_eq!(forward.rows, if odd == "1e400" { many } else { many + 1 });
    }
}

#[test]
fn a_column_that_begins_with_missing_values_gets_its_type_from_the_rest() {
    let mut text = String::from("a,b,c\n");
    for i in 0..CHUNK_ROWS + 10 {
        text.push_str(&format!("{i},,\n"));
    }
    text.push_str("1,2.5,\n");
    let table = csv(&text);
    assert_eq!(kinds(&table), [Number, Number, Category]);
    assert_eq!(values(&table, "b").last().unwrap().as_deref(), Some("2.5"));
    assert_eq!(table.columns[2].missing as usize, table.rows);
}

#[test]
fn bad_rows_are_listed_or_dropped_and_kept_on_record() {
    let mut text = String::from("a,b\n");
    for i in 2..40 {
        text.push_str(match i {
            5 | 6 => "1,2,3\n",
            10 => "1\n",
            20..34 => "1,abc\n",
            36 => "inf,2\n",
            _ => "1,2\n",
        });
    }
    let forced = ReadOptions { types: [("b".into(), Number)].into(), ..ReadOptions::default() };
    let message = problems_with("a.csv", text.clone(), &forced);
    assert!(
        message.starts_with("a.csv:5: expected 2 fields as in the header, found 3 fields\na.csv:6:"),
        "{message}"
    );
    assert!(message.contains("a.csv:10: expected 2 fields as in the header, found 1 field\n"), "{message}");
    assert!(message.contains("a.csv:20: column `b`: expected a number, found \"abc\"\n"), "{message}");
    assert!(
        message.contains("18 of 38 rows can't be read; the first are above") && message.contains("bad_rows"),
        "{message}"
    );
    assert_eq!(message.matches("a.csv:").count(), 10);

    let drop = ReadOptions { bad_rows: BadRows::Drop, ..forced };
    let table = read_as("a.csv", text, &drop).unwrap();
    assert_eq!((table.rows, table.ledger.rows_read), (20, 38));
    assert_eq!(table.ledger.share_dropped(), 18.0 / 38.0);
    let lines =
        |reason: &str| table.ledger.entries.iter().find(|e| e.reason == reason).unwrap().lines.clone();
    assert_eq!(lines("a wrong number of fields"), [(5, 6), (10, 10)]);
    assert_eq!(lines("not a number"), [(20, 33)]);
    assert_eq!(lines("an infinite value"), [(36, 36)]);
    assert!(table.ledger.entries.iter().all(|e| e.action == Action::Dropped && e.file == Path::new("a.csv")));
    assert_eq!((0..20).map(|r| table.origin(r).1).max(), Some(39));
}

#[test]
fn ragged_rows_do_not_change_types() {
    let drop = ReadOptions { bad_rows: BadRows::Drop, ..ReadOptions::default() };
    let table = read_as("a.csv", "a,b\nx,y,z\n1,2\nw\n", &drop).unwrap();
    assert_eq!(kinds(&table), [Number, Number]);
}

#[test]
fn forced_types_and_missing_values() {
    let options = ReadOptions {
        types: [
            ("zip".into(), Category),
            ("flag".into(), Boolean),
            ("day".into(), Date),
            ("gone".into(), Number),
        ]
        .into(),
        missing_values: vec!["-999".into(), "no".into()],
        only: Some(vec!["zip".into(), "flag".into(), "day".into(), "x".into(), "gone".into()]),
        ..ReadOptions::default()
    };
    let table = read_as(
        "a.csv",
        "zip,flag,day,x,y\n01234,1,20240229,-999,1\n-999,0,2024,7,1\n1,no,1970,1,NA\n",
        &options,
    )
    .unwrap();
    assert_eq!(kinds(&table), [Category, Boolean, Date, Number]);
    assert_eq!(table.header.len(), 5);
    assert_eq!(shown(&table, "zip"), ["01234", "-", "1"]);
    assert_eq!(shown(&table, "flag"), ["true", "false", "-"]);
    assert_eq!(shown(&table, "day"), ["1709164800000000", "1704067200000000", "0"]);
    assert_eq!(shown(&table, "x"), ["-", "7", "1"]);
}

#[test]
fn bad_files_are_named_with_what_to_do() {
    for (name, bytes, expected) in [
        ("a.csv", &b""[..], "a.csv: the file is empty"),
        ("a.csv.gz", b"", "a.csv.gz: the file is empty"),
        ("a.csv", b"\r\n\n", "a.csv: the file is empty"),
        ("a.csv", b"a,b\n", "a.csv: found a header, but no rows"),
        ("a.csv", b"a,b\n1\n", "a.csv:2: expected 2 fields as in the header, found 1 field"),
        (
            "a.csv",
            b"a,b,a,b,c\n1,2,3,4,5\n",
            "a.csv:1: column names must differ; more than one column is called `a`, `b`",
        ),
        (
            "a.csv",
            b"a,,c, \n1,2,3,4\n",
            "a.csv:1: every column needs a name; column 2, 4 of the header has none",
        ),
        (
            "a.csv",
            b"a,b\n1,2\n3,caf\xe9\n",
            "a.csv:3: expected UTF-8, found the byte 0xe9 at byte 6 of the line",
        ),
        ("a.csv", b"\xff\xfea\0", "a.csv:1: expected UTF-8, found UTF-16"),
        ("a.csv", b"a,b\n1,2\n3,\"x\n4,5\n", "a.csv:3:3: the quote that opens a field here is not closed"),
        ("a.csv", b"a,b\r1,2\r3,4", "a.csv:1: lines end in a carriage return alone"),
        ("a.csv.gz", b"a,b\n1,2\n", "a.csv.gz: the gzip data is damaged or cut short"),
        ("a.csv.zst", b"a,b\n1,2\n", "a.csv.zst: the zstd data is damaged or cut short"),
        ("a.txt", b"a,b\n1,2\n", "a.txt: the file's name does not say its format"),
        ("a.jsonl", b"", "a.jsonl: the file is empty"),
        ("a.jsonl", b"\n\n", "a.jsonl: found no data"),
        (
            "a.jsonl",
            b"{\"a\": 1}\n[1]\n",
            "a.jsonl:2:1: expected one JSON object: invalid type: sequence, expected a JSON object",
        ),
        ("a.jsonl", b"{\"a\": 1}\n{\"a\": }\n", "a.jsonl:2:7: expected one JSON object: expected value"),
        (
            "a.jsonl",
            b"{\"a\": {\"b\": 1}}\n",
            "a.jsonl:1: expected a number, text, true, false or null for `a`, found a nested value",
        ),
        ("a.jsonl", b"{\"a\": 1, \"a\": 2}\n", "a.jsonl:1: the key `a` is given twice"),
        ("a.parquet", b"", "a.parquet: the file is empty"),
        ("a.parquet", b"PAR1 what is this? PAR1", "a.parquet: this is not a Parquet file, or it is damaged"),
        ("a.parquet.gz", b"x", "a.parquet.gz: expected a plain Parquet file"),
    ] {
        let message = problems(name, bytes);
        assert!(message.starts_with(expected), "{name} {:?}:\n{message}", String::from_utf8_lossy(bytes));
        assert!(message.contains("help: "), "{message}");
    }
}

#[test]
fn huge_headers_and_fields_are_refused() {
    let names: Vec<String> = (0..100_001).map(|i| format!("c{i}")).collect();
    assert!(
        problems("a.csv", names.join(",") + "\n").contains("the header has 100001 columns; at most 100000")
    );
    assert!(problems("a.csv", vec![b'x'; 17 << 20]).contains("the header line is longer than 16 MiB"));
    let mut text = b"a\n1\n\"".to_vec();
    text.resize(40 << 20, b'x');
    assert!(
        problems("a.csv", text.clone())
            .contains("a.csv:3:1: the quote that opens a field here is not closed within 16 MiB")
    );
    text[4] = b'x';
    text.push(b'\n');
    assert!(problems("a.csv", text).contains("a.csv:3: a field is longer than 16 MiB"));
}

#[test]
fn files_on_disk_that_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("houses.csv"), "a\n1\n").unwrap();
    let at =
        |name: &str| read(&[Source::File(dir.path().join(name))], &ReadOptions::default()).map(|t| t.rows);
    assert_eq!(at("houses.csv").unwrap(), 1);
    let missing = at("hosues.csv").unwrap_err().to_string();
    assert!(missing.contains("hosues.csv: no such file") && missing.contains("houses.csv`?"), "{missing}");
    std::fs::create_dir(dir.path().join("d.csv")).unwrap();
    let folder = at("d.csv").unwrap_err().to_string();
    assert!(folder.contains("expected a file, found a folder"), "{folder}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let path = dir.path().join("houses.csv");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
        // The superuser may read everything.
        if std::fs::File::open(&path).is_err() {
            let denied = at("houses.csv").unwrap_err().to_string();
            assert!(denied.contains("no permission to read this file"), "{denied}");
        }
    }
}

#[test]
fn several_files_need_the_same_columns() {
    let two = |a: &str, b: &str| read(&[memory("a.csv", a), memory("b.csv", b)], &ReadOptions::default());
    let table = two("x,y\n1,a\n2,b\n", "y,x\nb,3\n").unwrap();
    assert_eq!(shown(&table, "x"), ["1", "2", "3"]);
    assert_eq!(shown(&table, "y"), ["a", "b", "b"]);
    assert_eq!((table.origin(1), table.origin(2)), ((0, 3), (1, 2)));
    // A type that the second file changes.
    assert_eq!(shown(&two("x\n01\n", "x\na\n").unwrap(), "x"), ["01", "a"]);
    let message = two("x,y\n1,a\n", "x,z\n1,2\n").unwrap_err().to_string();
    assert!(
        message.contains("b.csv: expected the columns of a.csv; this file lacks `y` and has `z` in addition"),
        "{message}"
    );
    // Everything that is wrong, at once.
    let message = two("x,x\n1,a\n", "x\n\"").unwrap_err().to_string();
    assert!(
        message.contains("a.csv:1: column names must differ") && message.contains("b.csv:2:1: the quote"),
        "{message}"
    );
}

#[test]
fn compressed_files_read_like_plain_ones() {
    let text: String =
        "a,b\n".to_string() + &(0..50_000).map(|i| format!("{i},{}\n", i % 13)).collect::<String>();
    let plain = csv(&text);
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(text.as_bytes()).unwrap();
    let gz = gz.finish().unwrap();
    let zst = zstd::encode_all(text.as_bytes(), 1).unwrap();
    for (name, bytes) in [("a.csv.gz", &gz), ("a.csv.zst", &zst), ("a.csv", &gz), ("a.csv", &zst)] {
        let table = read_as(name, bytes.clone(), &ReadOptions::default()).unwrap();
        assert_eq!(values(&table, "a"), values(&plain, "a"), "{name}");
        let cut = &bytes[..bytes.len() * 2 / 3];
        assert!(problems(name, cut).contains("damaged or cut short"), "{name}");
    }
}

#[test]
fn json_lines() {
    let text = "{\"a\": 1, \"s\": \"x\", \"t\": \"12\"}\r\n\n{\"s\": \"q\\\"\\u00e9\", \"b\": true, \"a\": null}\n{\"a\": -2.5e1, \"d\": \"2024-02-29\"}";
    let table = read_as("a.jsonl", text, &ReadOptions::default()).unwrap();
    assert_eq!(table.header, ["a", "s", "t", "b", "d"]);
    assert_eq!(kinds(&table), [Number, Category, Category, Boolean, Date]);
    assert_eq!(shown(&table, "a"), ["1", "-", "-25"]);
    assert_eq!(shown(&table, "s"), ["x", "q\"é", "-"]);
    assert_eq!(shown(&table, "t"), ["12", "-", "-"]);
    assert_eq!(shown(&table, "b"), ["-", "true", "-"]);
    assert_eq!((0..3).map(|r| table.origin(r).1).collect::<Vec<_>>(), [1, 3, 4]);

    // A key that first appears after whole chunks were written; numbers and text make a category.
    let mut text: String = (0..CHUNK_ROWS * 2).map(|i| format!("{{\"a\": {i}}}\n")).collect();
    text.push_str("{\"a\": \"7\", \"late\": 1}\n");
    let table = read_as("a.jsonl", text, &ReadOptions::default()).unwrap();
    assert_eq!(kinds(&table), [Category, Number]);
    // The number 7 and the text "7" are one category.
    assert_eq!(table.columns[0].categories.len(), CHUNK_ROWS * 2);
    assert_eq!(table.columns[1].missing as usize, CHUNK_ROWS * 2);

    let drop = ReadOptions { bad_rows: BadRows::Drop, ..ReadOptions::default() };
    let table = read_as("a.jsonl", "{\"a\":1}\nnonsense\n{\"new\":1,\"a\":[]}\n{\"a\":2}\n", &drop).unwrap();
    assert_eq!((table.header, table.rows), (vec!["a".to_string()], 2));
    assert_eq!(table.ledger.count(Action::Dropped), 2);
}

fn parquet_file(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap();
    let mut out = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut out, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    out
}

#[test]
fn parquet_types() {
    let dictionary: DictionaryArray<Int32Type> =
        [Some("r"), None, Some("g"), Some("r")].into_iter().collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("i", Arc::new(Int64Array::from(vec![Some(1), None, Some(-3), Some(4)]))),
        ("f", Arc::new(Float64Array::from(vec![1.5, f64::NAN, 2.0, 0.1]))),
        ("s", Arc::new(StringArray::from(vec![Some("x"), Some("NA"), None, Some("12")]))),
        ("k", Arc::new(dictionary)),
        ("b", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None, Some(true)]))),
        ("day", Arc::new(Date32Array::from(vec![Some(0), Some(1), None, Some(-1)]))),
        ("t", Arc::new(TimestampMillisecondArray::from(vec![Some(0), None, Some(1500), Some(-1)]))),
        (
            "m",
            Arc::new(
                Decimal128Array::from(vec![Some(1234), None, Some(-5), Some(10)])
                    .with_precision_and_scale(10, 2)
                    .unwrap(),
            ),
        ),
    ];
    let bytes = parquet_file(columns);
    let table = read_as("a.parquet", bytes.clone(), &ReadOptions::default()).unwrap();
    assert_eq!(kinds(&table), [Number, Number, Category, Category, Boolean, Date, Date, Number]);
    assert_eq!(shown(&table, "i"), ["1", "-", "-3", "4"]);
    assert_eq!(shown(&table, "f"), ["1.5", "-", "2", "0.1"]);
    assert_eq!(shown(&table, "s"), ["x", "-", "-", "12"]);
    assert_eq!(shown(&table, "k"), ["r", "-", "g", "r"]);
    assert_eq!(shown(&table, "b"), ["true", "false", "-", "true"]);
    assert_eq!(shown(&table, "day"), ["0", "86400000000", "-", "-86400000000"]);
    assert_eq!(shown(&table, "t"), ["0", "-", "1500000", "-1000"]);
    assert_eq!(shown(&table, "m"), ["12.34", "-", "-0.05", "0.1"]);
    assert_eq!(table.origin(3), (0, 4));

    // Forced types, and a part of the columns in another order than that of the file.
    let options = ReadOptions {
        types: [("day".into(), Category), ("i".into(), Category), ("b".into(), Number)].into(),
        only: Some(vec!["day".into(), "i".into(), "s".into()]),
        ..ReadOptions::default()
    };
    let table = read_as("a.parquet", bytes.clone(), &options).unwrap();
    assert_eq!(shown(&table, "i"), ["1", "-", "-3", "4"]);
    assert_eq!(shown(&table, "day"), ["1970-01-01", "1970-01-02", "-", "1969-12-31"]);
    let mixed = [memory("a.csv", "day,s,i\nx,y,z\n"), memory("b.parquet", bytes.clone())];
    let only = ReadOptions { only: options.only.clone(), ..ReadOptions::default() };
    let message = read(&mixed, &only).unwrap_err().to_string();
    assert!(message.contains("b.parquet: expected the columns of a.csv; this file has `f`"), "{message}");

    let wanted = problems_with(
        "a.parquet",
        bytes.clone(),
        &ReadOptions { types: [("s".into(), Number)].into(), ..ReadOptions::default() },
    );
    assert!(wanted.contains("a.parquet:1: column `s`: expected a number, found \"x\""), "{wanted}");
    let infinite = parquet_file(vec![("f", Arc::new(Float64Array::from(vec![1.0, f64::NEG_INFINITY])))]);
    assert!(
        problems("a.parquet", infinite)
            .contains("a.parquet:2: column `f`: expected a finite number, found \"-inf\"")
    );
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1)])]);
    assert!(
        problems("a.parquet", parquet_file(vec![("l", Arc::new(list))]))
            .contains("column `l` is of the type List")
    );
    assert_eq!(header(&[memory("a.parquet", bytes)], &ReadOptions::default()).unwrap().len(), 8);
}

#[test]
fn a_damaged_parquet_file_is_refused_or_read() {
    let good = parquet_file(vec![
        ("f", Arc::new(Float64Array::from(vec![1.0, 2.0]))),
        ("s", Arc::new(StringArray::from(vec!["x", "y"]))),
    ]);
    let mut refused = 0;
    for at in 0..good.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[at] ^= change;
            match read_as("a.parquet", bytes, &ReadOptions::default()) {
                Ok(table) => assert_eq!(table.rows, values(&table, &table.columns[0].name).len()),
                Err(error) => {
                    assert!(error.to_string().starts_with("a.parquet"), "{error}");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > good.len() / 2, "{refused} of {}", 3 * good.len());
    for n in 0..good.len() {
        assert!(read_as("a.parquet", &good[..n], &ReadOptions::default()).is_err(), "cut after {n}");
    }
}

#[test]
fn tables_beyond_the_memory_limit_are_the_same_on_disk() {
    let mut text = String::from("n,c,d,m\n");
    for i in 0..3 * CHUNK_ROWS + 17 {
        let missing = if i % 3 == 0 { "" } else { "1" };
        text.push_str(&format!("{}.25,k{},{}-01-01,{missing}\n", i % 1000, i % 50, 1900 + i % 200));
    }
    let dir = tempfile::tempdir().unwrap();
    let limit = ReadOptions {
        memory_limit: 1 << 20,
        cache_dir: Some(dir.path().join("cache")),
        ..ReadOptions::default()
    };
    let memory = csv(&text);
    let disk = read_as("a.csv", text, &limit).unwrap();
    assert!(disk.on_disk() && !memory.on_disk());
    assert_eq!((disk.rows, disk.chunks(), disk.bytes() > 1 << 20), (memory.rows, 4, true));
    assert_eq!(disk.columns, memory.columns);
    for name in ["n", "c", "d", "m"] {
        assert_eq!(values(&disk, name), values(&memory, name), "{name}");
    }
    assert_eq!(disk.origin(CHUNK_ROWS * 2 + 1), memory.origin(CHUNK_ROWS * 2 + 1));
    // The cache file has no name, so that nothing is left behind.
    assert_eq!(std::fs::read_dir(dir.path().join("cache")).unwrap().count(), 0);
}

#[test]
fn dictionaries_are_bounded() {
    let mut text = String::from("id\n");
    for i in 0..1_000_050 {
        text.push_str(&format!("u{i}\n"));
    }
    text.push_str("u0\n");
    let table = csv(&text);
    assert!(table.columns[0].overflow);
    assert_eq!(table.columns[0].categories.len(), 1_000_000);
    let last = table.chunk(table.chunks() - 1);
    let codes: Vec<u32> = last.codes(0).values().iter().rev().take(2).copied().collect();
    assert_eq!(codes, [0, OVERFLOW]);
}

#[test]
fn the_result_does_not_depend_on_the_number_of_threads() {
    let text: String = "a,b,c\n".to_string()
        + &(0..100_000).map(|i| format!("v{},{}.5,\"{}\"\n", i % 997, i, i % 3)).collect::<String>();
    let with = |threads: usize| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| csv(&text))
    };
    let (one, three) = (with(1), with(3));
    assert_eq!(one.columns, three.columns);
    for name in ["a", "b", "c"] {
        assert_eq!(values(&one, name), values(&three, name));
    }
}

/// Rows as the `csv` crate reads them.
fn reference(text: &[u8]) -> (Vec<String>, Vec<Vec<String>>) {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text);
    let names = reader.headers().unwrap().iter().map(String::from).collect();
    (names, reader.records().map(|r| r.unwrap().iter().map(String::from).collect()).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Any table, written by the `csv` crate in any style, reads back as it was; line numbers are those of the records.
    #[test]
    fn csv_reads_what_the_csv_crate_writes(
        columns in 1usize..6,
        cells in prop::collection::vec("[ -~é\n\r\"\",;]{0,6}|[0-9]{1,3}(\\.[0-9])?|NA", 1..60),
        always in any::<bool>(),
        crlf in any::<bool>(),
        delimiter in prop::sample::select(vec![b',', b';', b'\t']),
    ) {
        let style = if always { csv::QuoteStyle::Always } else { csv::QuoteStyle::Necessary };
        let end = if crlf { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') };
        let mut writer = csv::WriterBuilder::new().delimiter(delimiter).quote_style(style).terminator(end).from_writer(Vec::new());
        let names: Vec<String> = (0..columns).map(|i| format!("c{i}")).collect();
        writer.write_record(&names).unwrap();
        let rows: Vec<&[String]> = cells.chunks_exact(columns).collect();
        for row in &rows {
            writer.write_record(*row).unwrap();
        }
        let bytes = writer.into_inner().unwrap();
        let options = ReadOptions {
            format: Format::Csv,
            delimiter: Some(delimiter),
            types: names.iter().map(|n| (n.clone(), Category)).collect(),
            ..ReadOptions::default()
        };
        prop_assume!(!rows.is_empty());
        let table = read_as("a", bytes, &options).unwrap();
        prop_assert_eq!(table.rows, rows.len());
        for (i, name) in names.iter().enumerate() {
            for (found, row) in values(&table, name).into_iter().zip(&rows) {
                let trimmed = row[i].trim_matches([' ', '\t']);
                let expected = Some(row[i].clone()).filter(|_| !trimmed.is_empty() && trimmed != "NA" && trimmed != "?");
                prop_assert_eq!(found, expected);
            }
        }
    }

    /// Text that nobody wrote properly is split into fields as the `csv` crate splits it.
    #[test]
    fn csv_splits_anything_as_the_csv_crate_does(body in "[ab1,\"\n ]{0,60}") {
        let text = format!("x,y\n{body}");
        let (_, rows) = reference(text.as_bytes());
        let good: Vec<&Vec<String>> = rows.iter().filter(|r| r.len() == 2).collect();
        let options = ReadOptions {
            bad_rows: BadRows::Drop,
            missing_values: Vec::new(),
            types: [("x".into(), Category), ("y".into(), Category)].into(),
            ..ReadOptions::default()
        };
        match read_as("a.csv", text.clone(), &options) {
            Ok(table) => {
                prop_assert_eq!(table.ledger.rows_read, rows.len() as u64);
                for (i, name) in ["x", "y"].iter().enumerate() {
                    let expected: Vec<Option<String>> = good.iter().map(|r| Some(r[i].clone()).filter(|v| !v.trim_matches(' ').is_empty())).collect();
                    prop_assert_eq!(values(&table, name), expected);
                }
            }
            Err(DataError::Bad(problems)) => {
                prop_assert!(good.is_empty() || problems.to_string().contains("is not closed"), "{:?}: {}", text, problems);
            }
            Err(other) => return Err(TestCaseError::fail(other.to_string())),
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in prop::collection::vec(prop::sample::select(b"ab01,;\"'\n\r\t {}[]:.-eE\\\xff\xc3\x00".to_vec()), 0..200),
        name in prop::sample::select(vec!["a.csv", "a.tsv", "a.jsonl", "a.csv.gz", "a.jsonl.zst", "a.parquet"]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let options = ReadOptions { bad_rows: BadRows::Drop, ..ReadOptions::default() };
        let text = [b"a,b\n".as_slice(), &bytes].concat();
        let _ = read_as(name, bytes, &options).map(|t| t.rows);
        let _ = read_as("a.csv", text.clone(), &options).map(|t| t.rows);
        // Good files with a few bytes changed.
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&text).unwrap();
        let parquet = parquet_file(vec![
            ("f", Arc::new(Float64Array::from(vec![1.0, 2.0]))),
            ("s", Arc::new(StringArray::from(vec!["x", "y"]))),
        ]);
        for (name, mut bytes) in [("a.csv.gz", gz.finish().unwrap()), ("a.csv.zst", zstd::encode_all(&text[..], 1).unwrap()), ("a.parquet", parquet)] {
            for (at, byte) in &damage {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            let _ = read_as(name, bytes, &options).map(|t| t.rows);
        }
    }

    /// Cutting the same rows into files, or changing their order, changes no type and no value.
    #[test]
    fn types_are_those_of_all_values(
        cells in prop::collection::vec(prop::sample::select(vec!["1", "2.50", "yes", "no", "2024-01-01", "", "NA", "x", "inf", "nan0"]), 2..30),
        cut in any::<prop::sample::Index>(),
    ) {
        let options = ReadOptions { bad_rows: BadRows::Drop, ..ReadOptions::default() };
        let file = |cells: &[&str]| "a,b\n".to_string() + &cells.iter().map(|c| format!("{c},1\n")).collect::<String>();
        let whole = read_as("a.csv", file(&cells), &options).map(|t| (kinds(&t), values(&t, "a"))).ok();
        let (first, second) = cells.split_at(cut.index(cells.len()));
        let parts = [memory("a.csv", file(first)), memory("b.csv", file(second))];
        let parts = read(&parts, &options).map(|t| (kinds(&t), values(&t, "a"))).ok();
        prop_assert_eq!(&whole, &parts);
        let backward: Vec<&str> = cells.iter().rev().copied().collect();
        let backward = read_as("a.csv", file(&backward), &options).map(|t| (kinds(&t), values(&t, "a").into_iter().rev().collect())).ok();
        prop_assert_eq!(whole, backward);
    }
}
