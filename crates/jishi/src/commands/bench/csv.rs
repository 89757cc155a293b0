//! `csv`: reading and preparing a file.

use std::path::Path;
use std::time::Instant;

use jishi_data::Source;
use jishi_recipe::Origin;
use jishi_train::job::prepare;
use serde_json::{Value, json};

use crate::cli::DeviceName;
use crate::commands::train;
use crate::error::CliError;

/// Reads a CSV, infers its types, splits it, fits scalers and vocabularies, and encodes every row.
pub fn run(path: &Path, target: &str) -> Result<Value, CliError> {
    let text = r#"
        name = "bench-csv"
        task = "regression"
        [data]
        source = "bench.csv"
        target = "TARGET"
        missing = { target = "drop" }
        max_dropped = 1.0
        memory_limit = 17179869184
        split = { validation = 0, test = 0.2 }
        [model]
        family = "linear"
        "#;
    let set = format!("data.target={target}");
    let recipe = jishi_recipe::parse(text, &Origin::Builtin("bench-csv".into()), &[set])?.recipe;
    let device = train::device(DeviceName::Auto)?;
    let started = Instant::now();
    let source = prepare::Source::from_files(&recipe, &[Source::File(path.to_owned())])?;
    let read = started.elapsed().as_secs_f64();
    let splits = source.splits(&recipe)?.swap_remove(0);
    let prepared = source.prepare(&recipe, splits, &device)?;
    let all = started.elapsed().as_secs_f64();
    let bytes = std::fs::metadata(path).map_or(0, |m| m.len());
    Ok(json!({
        "name": "csv",
        "rows": source.table.rows,
        "columns": prepared.task.model_shape().dense_width(),
        "read_seconds": read,
        "prepare_seconds": all - read,
        "seconds": all,
        "megabytes_per_second": bytes as f64 / 1e6 / all,
        "peak_memory": jishi_runs::manifest::peak_memory(),
    }))
}
