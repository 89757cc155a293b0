//! From text to a recipe, with every problem at once.

use std::collections::BTreeMap;

use crate::check::findings;
use crate::places::{Origin, Places};
use crate::problem::{Problem, Problems};
use crate::provenance::{Provenance, provenance};
use crate::set;
use crate::shape::Shape;
use crate::tree::{Lines, Node, Place, shorten};
use crate::types::{Domain, Recipe};
use crate::walk::Walk;

/// Epochs where a recipe gives neither `epochs` nor `steps`.
const DEFAULT_EPOCHS: usize = 100;
/// What a recipe is called in messages.
pub(crate) const RECIPE: &str = "the recipe";

/// A recipe with where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The recipe as resolved: `--set` applied, defaults filled in.
    pub recipe: Recipe,
    /// The text as it was written.
    pub source_text: String,
    /// Where every value came from.
    pub provenance: Vec<Provenance>,
}

/// Parses a recipe, changed by `sets` (each `KEY=VALUE`, later ones win; `KEY=` takes a key out).
///
/// # Errors
/// Everything that is wrong: TOML syntax, unknown keys, wrong types, unknown names, missing keys, values out of
/// range and contradictions, each with its place and what to do. Where the text is not TOML, only that.
///
/// # Example
/// ```
/// use jishi_recipe::{Origin, parse};
///
/// let text = r#"
/// name = "houses"
/// task = "regression"
/// [data]
/// source = "houses.csv"
/// target = "price"
/// [model]
/// family = "mlp"
/// "#;
/// let parsed = parse(text, &Origin::File("houses.toml".into()), &["train.epochs=20".into()])?;
/// assert_eq!(parsed.recipe.train.epochs, Some(20));
///
/// let typo = text.replace("target", "tarjet");
/// let problems = parse(&typo, &Origin::File("houses.toml".into()), &[]).unwrap_err();
/// assert_eq!(problems.0[0].help.as_deref(), Some("did you mean `target`?"));
/// # Ok::<(), jishi_recipe::Problems>(())
/// ```
pub fn parse(text: &str, origin: &Origin, sets: &[String]) -> Result<Parsed, Problems> {
    // Editors on Windows may start a file with a byte-order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let shape = Shape::recipe();
    let mut document = Node::read(text).map_err(|error| syntax_problem(text, origin, &error))?;
    let mut removed = BTreeMap::new();
    let mut problems = Vec::new();
    for set in sets {
        if let Err((message, help)) = set::apply(&mut document, set, &shape, &mut removed) {
            let mut problem = Problem::new(format!("in `--set {}`: {message}", shorten(set)));
            problem.help = help;
            problems.push(problem);
        }
    }
    let places = Places::new(&document, origin, removed);
    let (json, walk) = Walk::whole(&document, &shape, &places, RECIPE);
    problems.extend(walk.problems);
    match serde_json::from_value::<Recipe>(json) {
        Ok(mut recipe) => {
            resolve(&mut recipe);
            let found = findings(&recipe, &places);
            problems.extend(found.into_iter().filter(|f| !f.follows_from(&walk.pruned)).map(|f| f.problem));
            if problems.is_empty() {
                let provenance = provenance(&recipe, &places);
                return Ok(Parsed { recipe, source_text: text.to_owned(), provenance });
            }
        }
        // The walk goes by the same types, so it has said what is wrong already; should it ever not have, serde does.
        Err(error) if problems.is_empty() => problems.push(places.problem(None, error.to_string())),
        Err(_) => {}
    }
    problems.sort_by_key(|p| (p.line.unwrap_or(u64::MAX), p.column));
    Err(Problems(problems))
}

/// Fills in the defaults that hang on other keys.
fn resolve(recipe: &mut Recipe) {
    if recipe.train.epochs.is_none() && recipe.train.steps.is_none() {
        recipe.train.epochs = Some(DEFAULT_EPOCHS);
    }
    match recipe.task.domain() {
        Domain::Tables => {}
        Domain::Texts => {
            recipe.text.get_or_insert_default();
            recipe.tokenizer.get_or_insert_default();
            if recipe.task.writes_text() {
                recipe.generate.get_or_insert_default();
            }
        }
        Domain::Images => drop(recipe.image.get_or_insert_default()),
    }
}

pub(crate) fn syntax_problem(text: &str, origin: &Origin, error: &toml_edit::TomlError) -> Problem {
    let offset = error.span().map_or(0, |s| s.start.min(text.len()));
    let (line, column) = Lines::new(text).place(offset);
    let places = Places::of_text(origin);
    let message = format!("this is not TOML: {}", error.message().trim_end());
    let mut problem = places.problem(Some(&Place::Text { line, column }), message);
    let number = usize::try_from(line).unwrap_or(usize::MAX);
    problem.help = text.lines().nth(number - 1).and_then(|l| syntax_help(l, error.message()));
    problem
}

/// What to do about a line that is not TOML, for the slips that newcomers make.
fn syntax_help(line: &str, message: &str) -> Option<String> {
    let line = line.trim();
    if line.contains(['“', '”', '„', '‘', '’', '＂']) {
        return Some("use straight quotes: \"…\"".into());
    }
    if message.contains("duplicate key") {
        return Some("a key (or a [table]) may stand there once: take one of them out".into());
    }
    if let Some((key, value)) = line.split_once('=') {
        let (key, value) = (key.trim(), value.split('#').next().unwrap_or_default().trim());
        let bare =
            |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':' | '*' | ' ' | '\\');
        let shown = shorten(value);
        return match value {
            "" => Some(format!("write a value after `{} =`, or leave the key out", shorten(key))),
            "True" | "False" => {
                Some(format!("in small letters: {} = {}", shorten(key), value.to_lowercase()))
            }
            "None" | "none" | "null" => {
                Some(format!("leave `{}` out: a key without a value is one left out", shorten(key)))
            }
            _ if value.contains('\\') => {
                Some("in \"…\" a `\\` is written `\\\\`; in '…' it stands for itself".into())
            }
            _ if value.starts_with(|c: char| c.is_alphabetic() || c == '/' || c == '.')
                && value.chars().all(bare) =>
            {
                Some(format!("strings are written in quotes: {} = \"{shown}\"", shorten(key)))
            }
            _ => None,
        };
    }
    if let Some((key, _)) = line.split_once(':') {
        return Some(format!("TOML writes `key = value`: {} = …", shorten(key.trim())));
    }
    line.starts_with('[')
        .then(|| "a table starts with its name in brackets on a line of its own: [train]".into())
}
