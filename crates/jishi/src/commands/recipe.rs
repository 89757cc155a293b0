//! `jishi recipe`: built-in recipes, a new one for a file, the schema, the reference page.

use std::path::{Path, PathBuf};

use jishi_recipe::{NewRecipe, builtins};
use jishi_runs::table::{Align, text_table};

use crate::cli::RecipeCommand;
use crate::commands::data;
use crate::error::CliError;

/// Runs the command.
pub fn run(command: RecipeCommand, json: bool) -> Result<(), CliError> {
    match command {
        RecipeCommand::List if json => {
            let list: Vec<_> = builtins()
                .iter()
                .map(|b| serde_json::json!({ "name": b.name, "description": b.description }))
                .collect();
            println!("{}", serde_json::json!({ "recipes": list }));
        }
        RecipeCommand::List => {
            let rows: Vec<Vec<String>> =
                builtins().iter().map(|b| vec![b.name.to_owned(), b.description.to_owned()]).collect();
            print!("{}", text_table(&[("recipe", Align::Left), ("what it does", Align::Left)], &rows));
        }
        RecipeCommand::Show { name } => {
            let found = super::builtin(&name)?;
            if json {
                println!("{}", serde_json::json!({ "name": found.name, "text": found.text }));
            } else {
                print!("{}", found.text);
            }
        }
        RecipeCommand::New { data, target, output } => new(&data, &target, output.as_deref(), json)?,
        RecipeCommand::Schema => println!("{:#}", jishi_recipe::schema()),
        RecipeCommand::Reference if json => {
            println!("{}", serde_json::json!({ "reference": jishi_recipe::reference_markdown() }));
        }
        RecipeCommand::Reference => print!("{}", jishi_recipe::reference_markdown()),
    }
    Ok(())
}

fn new(source: &str, target: &str, output: Option<&Path>, json: bool) -> Result<(), CliError> {
    let inspection = data::inspect(source, Some(target))?;
    let Some(found) = &inspection.target else {
        return Err(CliError::Failed("the target was not inspected".into()));
    };
    let stem = Path::new(source).file_name().map_or(source.to_owned(), |n| n.to_string_lossy().into_owned());
    let name = stem.trim_start_matches("builtin:").split('.').next().unwrap_or("my-data").to_owned();
    let smallest = found.classes.iter().map(|c| c.1).min().unwrap_or(0);
    let rows = inspection.rows as usize;
    let text = jishi_recipe::new_recipe(&NewRecipe {
        name,
        source: seen_from(source, output)?,
        target: target.to_owned(),
        task: found.task,
        rows,
        ignore: inspection
            .suspicious
            .iter()
            .filter(|s| s.column != target)
            .map(|s| (s.column.clone(), s.message.clone()))
            .collect(),
        skewed_target: found.skewness.is_some_and(|s| s > 1.0),
        imbalanced: !found.classes.is_empty() && (smallest as usize) * found.classes.len() * 2 < rows,
    });
    match output {
        Some(path) => {
            super::keep_existing(path)?;
            jishi_runs::atomic::write_real(path, text.as_bytes())?;
            eprintln!("wrote {}; train it with `jishi train {}`", path.display(), path.display());
        }
        None if !json => print!("{text}"),
        None => {}
    }
    if json {
        println!("{}", serde_json::json!({ "recipe": text, "path": output }));
    }
    Ok(())
}

/// The source as a recipe at `output` has to name it: relative paths start at the recipe's folder.
fn seen_from(source: &str, output: Option<&Path>) -> Result<String, CliError> {
    let folder = output.and_then(Path::parent).filter(|p| !p.as_os_str().is_empty());
    let relative = Path::new(source).is_relative() && !source.starts_with("builtin:");
    if folder.is_none() || !relative {
        return Ok(source.to_owned());
    }
    let here: PathBuf = std::env::current_dir().map_err(|e| CliError::Failed(e.to_string()))?;
    Ok(here.join(source).to_string_lossy().into_owned())
}
