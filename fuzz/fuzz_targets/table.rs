#![no_main]
//! The readers: the first byte chooses the format, the rest is the file.

use jishi_data::{ReadOptions, Source, read};
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 6] = ["a.csv", "a.tsv", "a.jsonl", "a.parquet", "a.csv.gz", "a.csv.zst"];

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let name = NAMES[*first as usize % NAMES.len()];
    let source = Source::Memory { name: name.into(), bytes: rest.into() };
    if let Ok(table) = read(&[source], &ReadOptions::default()) {
        assert_eq!(table.rows, (0..table.chunks()).map(|i| table.chunk(i).rows).sum::<usize>());
    }
});
