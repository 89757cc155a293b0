//! `jishi data`: built-in data sets, and what a file holds.

use std::path::Path;

use jishi_data::inspect::Inspection;
use jishi_data::{ReadOptions, builtins};
use jishi_recipe::Problem;
use jishi_runs::table::{Align, text_table};

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
            println!("{}", serde_json::json!({ "data": list }));
        }
        DataCommand::List => {
            let rows: Vec<Vec<String>> = builtins()
                .iter()
                .map(|b| {
                    let source = format!("builtin:{}", b.name);
                    vec![source, b.rows.to_string(), b.description.to_owned(), b.licence.to_owned()]
                })
                .collect();
            print!(
                "{}",
                text_table(&["source", "rows", "what it is", "licence"].map(|c| (c, Align::Left)), &rows)
            );
        }
        DataCommand::Get { name, output } => get(&name, output.as_deref(), json)?,
        DataCommand::Inspect { source, target } => {
            let inspection = inspect(&source, target.as_deref())?;
            if json {
                let document =
                    serde_json::to_string(&inspection).map_err(|e| CliError::Failed(e.to_string()))?;
                println!("{document}");
            } else {
                print!("{inspection}");
            }
        }
    }
    Ok(())
}

fn get(name: &str, output: Option<&Path>, json: bool) -> Result<(), CliError> {
    let plain = name.trim_start_matches("builtin:");
    let Some(builtin) = jishi_data::builtin::get(plain) else {
        let names: Vec<&str> = builtins().iter().map(|b| b.name).collect();
        let problem = Problem::new(format!("no built-in data is called `{plain}`"));
        return Err(CliError::bad(problem.help(format!("built-in data: {}", names.join(", ")))));
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
