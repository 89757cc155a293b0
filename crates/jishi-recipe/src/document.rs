//! Other documents of TOML than recipes, read as recipes are: with every problem at once.

use std::collections::BTreeMap;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::parse::syntax_problem;
use crate::places::{Origin, Places};
use crate::problem::{Problem, Problems};
use crate::shape::Shape;
use crate::tree::Node;
use crate::walk::Walk;

/// A document that was read.
#[derive(Debug, Clone)]
pub struct Document<T> {
    /// Its values; those that it lacks are defaults.
    pub values: T,
    /// The keys that it gives a value to, as JSON.
    pub given: Map<String, Value>,
    places: Places,
}

impl<T> Document<T> {
    /// A problem with the value of a key (a dotted path), at its place.
    #[must_use]
    pub fn problem(&self, key: &str, message: impl Into<String>) -> Problem {
        self.places.problem(self.places.of(&[key]), message)
    }
}

/// Reads a document, which is called `what` in messages ("the list of keys").
///
/// # Errors
/// Everything that is wrong: TOML syntax, unknown keys, wrong types, unknown names and missing keys, each with its place.
///
/// # Example
/// ```
/// #[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
/// #[serde(deny_unknown_fields)]
/// struct Settings {
///     port: u32,
/// }
///
/// let read = |text| jishi_recipe::document::<Settings>(text, "my.toml".as_ref(), "the settings");
/// assert_eq!(read("port = 80").map(|d| d.values.port), Ok(80));
/// let problems = read("prot = 80").unwrap_err();
/// assert_eq!(problems.0[0].help.as_deref(), Some("did you mean `port`?"));
/// ```
pub fn document<T>(text: &str, path: &Path, what: &str) -> Result<Document<T>, Problems>
where
    T: DeserializeOwned + schemars::JsonSchema,
{
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let origin = Origin::File(path.to_owned());
    let shape = Shape::of(&crate::schema::of::<T>());
    let node = Node::read(text).map_err(|error| syntax_problem(text, &origin, &error))?;
    let places = Places::new(&node, &origin, BTreeMap::new());
    let (json, walk) = Walk::whole(&node, &shape, &places, what);
    let mut problems = walk.problems;
    let given = match &json {
        Value::Object(given) => given.clone(),
        _ => Map::new(),
    };
    match serde_json::from_value(json) {
        Ok(values) if problems.is_empty() => return Ok(Document { values, given, places }),
        Err(error) if problems.is_empty() => problems.push(places.problem(None, error.to_string())),
        _ => {}
    }
    problems.sort_by_key(|p| (p.line.unwrap_or(u64::MAX), p.column));
    Err(Problems(problems))
}
