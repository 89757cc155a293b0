//! Splits and the preprocessing pipeline, from text to encoded rows.
#![allow(clippy::unwrap_used)]

#[path = "pipeline/encode.rs"]
mod encode;
#[path = "pipeline/fit.rs"]
mod fit;
#[path = "pipeline/properties.rs"]
mod properties;
#[path = "pipeline/split.rs"]
mod split;
#[path = "pipeline/usable.rs"]
mod usable;

use jishi_data::{Encoded, Pipeline, ReadOptions, Source, Storage, Table, read};
use jishi_recipe::{Data, TaskName};
use serde_json::{Value, json};

const REGRESSION: TaskName = TaskName::Regression;
const CLASSIFICATION: TaskName = TaskName::Classification;

fn source(csv: &str) -> Vec<Source> {
    vec![Source::Memory { name: "t.csv".into(), bytes: csv.as_bytes().into() }]
}

fn table(csv: &str) -> Table {
    read(&source(csv), &ReadOptions::default()).unwrap()
}

/// `[data]` of a recipe: the target is `y`, the rest as given.
fn data(more: Value) -> Data {
    let mut all = json!({"source": "t.csv", "target": "y"});
    for (key, value) in more.as_object().unwrap() {
        all[key] = value.clone();
    }
    serde_json::from_value(all).unwrap()
}

fn rows(table: &Table) -> Vec<u32> {
    (0..table.rows as u32).collect()
}

fn fit_all(table: &Table, data: &Data, task: TaskName) -> Pipeline {
    Pipeline::fit(table, &rows(table), data, task, None).unwrap()
}

fn encode_all(pipeline: &Pipeline, table: &Table) -> Encoded {
    pipeline.encode(table, &rows(table), true, Storage::Memory, None).unwrap()
}

/// Numbers and codes of all rows.
fn gathered(encoded: &Encoded) -> (Vec<f32>, Vec<u32>) {
    let all: Vec<u32> = (0..encoded.rows as u32).collect();
    let (mut numbers, mut codes) = (Vec::new(), Vec::new());
    encoded.gather(&all, &mut numbers, &mut codes);
    (numbers, codes)
}

fn error<T>(result: Result<T, impl std::fmt::Display>) -> String {
    match result {
        Ok(_) => panic!("expected an error"),
        Err(error) => error.to_string(),
    }
}
