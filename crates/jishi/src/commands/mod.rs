//! One file a command.

pub mod bench;
pub mod check;
pub mod data;
pub mod evaluate;
pub mod generate;
pub mod keys;
pub mod plot;
pub mod predict;
pub mod recipe;
pub mod runs;
pub mod serve;
pub mod studio;
pub mod train;
pub mod transfer;
pub mod verify_resume;

use std::io::Write;
use std::path::{Path, PathBuf};

use jishi_recipe::{Builtin, Origin, Parsed, Problem};

use crate::cli::RecipeArgs;
use crate::error::CliError;

/// A recipe as the user named it, and the folder that its relative paths start from.
pub struct Loaded {
    /// The recipe and where every value came from.
    pub parsed: Parsed,
    /// Folder that relative paths start from.
    pub base: PathBuf,
}

/// Finds and parses a recipe: a path, or the name of a built-in one.
pub fn load(args: &RecipeArgs) -> Result<Loaded, CliError> {
    let mut sets = args.sets.clone();
    sets.extend(args.seed.map(|seed| format!("train.seed={seed}")));
    if let Some(folds) = args.folds {
        sets.push("data.split.test=".to_owned());
        sets.push(format!("data.split.folds={folds}"));
    }
    let path = Path::new(&args.recipe);
    if path.is_file() {
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        if ["csv", "tsv", "jsonl", "parquet", "gz", "zst"].contains(&ending) {
            let problem = Problem::new("expected a recipe, found a data file").file(path);
            return Err(CliError::bad(problem.help(format!(
                "make a recipe for it: `jishi recipe new --data {} --target COLUMN --output my.toml`",
                path.display()
            ))));
        }
        let text = std::fs::read_to_string(path).map_err(|e| {
            CliError::bad(Problem::new(format!("expected a recipe in UTF-8: {e}")).file(path))
        })?;
        let base = path.parent().unwrap_or(Path::new("")).to_owned();
        let parsed = jishi_recipe::parse(&text, &Origin::File(path.to_owned()), &sets)?;
        return Ok(Loaded { parsed, base });
    }
    let builtin = builtin(&args.recipe)?;
    let parsed = jishi_recipe::parse(builtin.text, &Origin::Builtin(builtin.name.to_owned()), &sets)?;
    Ok(Loaded { parsed, base: PathBuf::new() })
}

/// Refuses to write over a file that is there.
pub fn keep_existing(path: &Path) -> Result<(), CliError> {
    if path.exists() {
        let problem = Problem::new("there already is such a file, which is not overwritten");
        return Err(CliError::bad(problem.file(path).help("choose another `--output`, or remove the file")));
    }
    Ok(())
}

/// Prints a report as the one JSON document of a command.
pub fn print_json(report: &impl serde::Serialize) -> Result<(), CliError> {
    println!("{}", serde_json::to_string(report).map_err(|e| CliError::Failed(e.to_string()))?);
    Ok(())
}

/// Writes to stdout. A reader that has seen enough, as `head`, is no failure.
pub fn to_stdout(bytes: &[u8]) -> Result<(), CliError> {
    match std::io::stdout().lock().write_all(bytes) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(CliError::Failed(e.to_string())),
        _ => Ok(()),
    }
}

/// The built-in recipe called `name`.
pub fn builtin(name: &str) -> Result<&'static Builtin, CliError> {
    jishi_recipe::builtin::get(name).ok_or_else(|| {
        let problem = Problem::new(format!("no file and no built-in recipe is called `{name}`"));
        let names: Vec<_> = jishi_recipe::builtins().iter().map(|b| b.name).collect();
        let meant = jishi_recipe::builtin::nearest_name(name);
        CliError::bad(problem.help(match meant {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!(
                "built-in recipes: {}; `jishi recipe new --data FILE --target COLUMN` makes one for your own data",
                names.join(", ")
            ),
        }))
    })
}
