//! `jishi keys`: add, list, remove.

use std::path::Path;

use jishi_runs::table::{Align, text_table};
use jishi_serve::keys::{self, KeyEntry, Scope};
use serde_json::{Value, json};

use crate::cli::{KeysCommand, ScopeName};
use crate::error::CliError;

/// Runs the command.
pub fn run(command: Option<KeysCommand>, file: &Path, json: bool) -> Result<(), CliError> {
    match command.unwrap_or(KeysCommand::List) {
        KeysCommand::Add { name, scopes, models, requests, tokens } => {
            let mut scopes: Vec<Scope> = scopes.into_iter().map(Scope::from).collect();
            scopes.sort();
            scopes.dedup();
            let entry = KeyEntry {
                hash: String::new(),
                scopes,
                models: (!models.is_empty()).then_some(models),
                requests_per_minute: requests,
                tokens_per_minute: tokens,
            };
            let key = keys::add(file, &name, &entry)?;
            if json {
                println!("{}", json!({ "name": name, "key": key, "file": file }));
            } else {
                println!("{key}");
                eprintln!("this is the only time that it is shown; {} has its hash", file.display());
            }
            Ok(())
        }
        KeysCommand::List => list(file, json),
        KeysCommand::Remove { name } => {
            keys::remove(file, &name)?;
            if json {
                println!("{}", json!({ "removed": name }));
            } else {
                println!("removed {name}");
            }
            Ok(())
        }
    }
}

fn list(file: &Path, json: bool) -> Result<(), CliError> {
    if !file.exists() {
        let problem = jishi_recipe::Problem::new("there is no such file of keys").file(file);
        return Err(CliError::bad(problem.help("`jishi keys add NAME` makes one")));
    }
    let keys = keys::list(file)?.keys;
    if json {
        let one = |(name, entry): (&String, &KeyEntry)| {
            let mut value = json!(entry);
            value["name"] = Value::from(name.as_str());
            value
        };
        println!("{}", json!({ "keys": keys.iter().map(one).collect::<Vec<_>>() }));
        return Ok(());
    }
    let limit = |n: Option<u64>| n.map_or("any".to_owned(), |n| n.to_string());
    let row = |(name, entry): (&String, &KeyEntry)| {
        let scopes: Vec<&str> = entry.scopes.iter().map(|s| s.name()).collect();
        let models = entry.models.as_ref().map_or("all".to_owned(), |models| models.join(" "));
        let limits = [limit(entry.requests_per_minute), limit(entry.tokens_per_minute)];
        [vec![name.clone(), scopes.join(" "), models], limits.to_vec()].concat()
    };
    let rows: Vec<Vec<String>> = keys.iter().map(row).collect();
    let columns =
        ["key", "allows", "models", "requests a minute", "tokens a minute"].map(|c| (c, Align::Left));
    print!("{}", text_table(&columns, &rows));
    Ok(())
}

impl From<ScopeName> for Scope {
    fn from(name: ScopeName) -> Self {
        match name {
            ScopeName::Predict => Self::Predict,
            ScopeName::Generate => Self::Generate,
            ScopeName::Embed => Self::Embed,
            ScopeName::Metrics => Self::Metrics,
            ScopeName::Admin => Self::Admin,
        }
    }
}
