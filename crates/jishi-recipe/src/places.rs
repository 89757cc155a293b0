//! Where every value of a recipe came from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::problem::Problem;
use crate::shape::join;
use crate::tree::{Data, Node, Place, shorten};

/// Where a recipe's text came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file.
    File(PathBuf),
    /// A built-in recipe, by name.
    Builtin(String),
}

/// Where every value of a recipe was written. The default knows of none: every value is then a default.
#[derive(Debug, Clone, Default)]
pub struct Places {
    origin: Option<Origin>,
    at: BTreeMap<String, Place>,
    removed: BTreeMap<String, String>,
}

impl Places {
    pub(crate) fn new(document: &Node, origin: &Origin, removed: BTreeMap<String, String>) -> Self {
        let mut places = Self { origin: Some(origin.clone()), at: BTreeMap::new(), removed };
        places.collect(document, "");
        places
    }

    /// Of a text in which no value has been found.
    pub(crate) fn of_text(origin: &Origin) -> Self {
        Self { origin: Some(origin.clone()), ..Self::default() }
    }

    fn collect(&mut self, node: &Node, path: &str) {
        if !path.is_empty() {
            self.at.insert(path.to_owned(), node.at.clone());
        }
        if let Data::Table(entries) = &node.data {
            for (key, child) in entries {
                self.collect(child, &join(path, key));
            }
        }
    }

    /// Whether the user (or a `--set`) gave this key, a dotted path such as `train.epochs`, a value.
    #[must_use]
    pub fn is_set(&self, key: &str) -> bool {
        self.at.contains_key(key)
    }

    /// The `--set` that took a key out.
    pub(crate) fn removed(&self, key: &str) -> Option<Place> {
        self.removed.get(key).map(|set| Place::Set(set.clone()))
    }

    /// Where a value came from, in words: `recipe line 12`, `--set`, `default` or `built-in recipe`.
    #[must_use]
    pub fn from(&self, key: &str) -> String {
        match (self.at.get(key), &self.origin) {
            (Some(Place::Set(_)), _) => "--set".into(),
            (Some(Place::Text { .. }), Some(Origin::Builtin(_))) => "built-in recipe".into(),
            (Some(Place::Text { line, .. }), _) => format!("recipe line {line}"),
            (None, _) if self.removed.contains_key(key) => "--set".into(),
            (None, _) => "default".into(),
        }
    }

    /// The first of some keys that has a place, or else the nearest table around them.
    pub(crate) fn of(&self, keys: &[&str]) -> Option<&Place> {
        keys.iter().find_map(|k| self.at.get(*k)).or_else(|| {
            let mut path = *keys.first()?;
            while let Some((outer, _)) = path.rsplit_once('.') {
                if let Some(place) = self.at.get(outer) {
                    return Some(place);
                }
                path = outer;
            }
            None
        })
    }

    /// A problem at a place.
    pub(crate) fn problem(&self, at: Option<&Place>, message: impl Into<String>) -> Problem {
        let message = message.into();
        if let Some(Place::Set(set)) = at {
            return Problem::new(format!("in `--set {}`: {message}", shorten(set)));
        }
        let mut problem = Problem::new(message);
        problem.file = self.origin.as_ref().map(|o| match o {
            Origin::File(path) => path.clone(),
            Origin::Builtin(name) => format!("builtin:{name}").into(),
        });
        if let Some(Place::Text { line, column }) = at {
            problem = problem.line(*line).column(*column);
        }
        problem
    }
}
