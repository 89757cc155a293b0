//! The shape of a recipe, read from the JSON schema of [`crate::Recipe`]: what parsing checks against,
//! what suggestions are drawn from, and what the reference page shows.

use serde_json::{Map, Value};

/// What a value may be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    /// Any string.
    Text,
    /// `true` or `false`.
    Boolean,
    /// A whole number from 0 to `max`.
    Whole {
        /// The largest that fits.
        max: u64,
    },
    /// A finite number.
    Real,
    /// One of a set of names.
    Names(Vec<Name>),
    /// A list; of `len` items where that is fixed.
    List {
        /// Every item.
        item: Box<Shape>,
        /// Number of items where it is fixed.
        len: Option<usize>,
    },
    /// A table with known keys.
    Table(Vec<Field>),
    /// A table whose keys are the user's own (column or class names).
    Map(Box<Shape>),
    /// A table whose keys depend on the name under `tag`.
    Tagged {
        /// The key that chooses.
        tag: String,
        /// What it chooses from.
        variants: Vec<Variant>,
    },
    /// One of several shapes, told apart by the value's type.
    Choice(Vec<Shape>),
}

/// A name that a value may take.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Name {
    pub name: String,
    pub meaning: String,
}

/// One choice of a tagged table, with its keys (the tag itself is not among them).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Variant {
    pub name: String,
    pub meaning: String,
    pub fields: Vec<Field>,
}

/// A key of a table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    pub key: String,
    /// What the key means.
    pub meaning: String,
    /// What its type means, where the type has a name of its own.
    pub about: Option<String>,
    pub shape: Shape,
    pub required: bool,
    /// `None` or null: no value where the key is left out.
    pub default: Option<Value>,
}

impl Shape {
    /// The shape of a whole recipe.
    pub fn recipe() -> Self {
        Self::of(&crate::schema::schema())
    }

    /// The shape that a schema without null describes.
    pub fn of(schema: &Value) -> Self {
        Self::read(schema, &schema["$defs"])
    }

    fn read(schema: &Value, defs: &Value) -> Self {
        if let Some(target) = reference(schema) {
            return Self::read(&defs[target], defs);
        }
        if let Some(choices) = schema["oneOf"].as_array() {
            return Self::read_one_of(choices, defs);
        }
        if let Some(choices) = schema["anyOf"].as_array() {
            return Self::Choice(choices.iter().map(|c| Self::read(c, defs)).collect());
        }
        match schema["type"].as_str() {
            Some("string") => Self::Text,
            Some("boolean") => Self::Boolean,
            Some("number") => Self::Real,
            // TOML's whole numbers are signed 64-bit ones.
            Some("integer") => {
                let max = if schema["format"] == "uint32" { u64::from(u32::MAX) } else { i64::MAX as u64 };
                Self::Whole { max }
            }
            Some("array") => {
                let len = schema["maxItems"].as_u64().map(|n| n as usize);
                Self::List { item: Box::new(Self::read(&schema["items"], defs)), len }
            }
            Some("object") => match schema["properties"].as_object() {
                Some(properties) => Self::Table(read_fields(properties, &schema["required"], defs)),
                None => Self::Map(Box::new(Self::read(&schema["additionalProperties"], defs))),
            },
            _ => unreachable!("the recipe's types have no such schema: {schema}"),
        }
    }

    fn read_one_of(choices: &[Value], defs: &Value) -> Self {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        if choices.iter().all(|c| c["const"].is_string()) {
            let name = |c: &Value| Name { name: text(&c["const"]), meaning: text(&c["description"]) };
            return Self::Names(choices.iter().map(name).collect());
        }
        let mut tag = String::new();
        let mut variants = Vec::new();
        for choice in choices {
            let Some(properties) = choice["properties"].as_object() else {
                unreachable!("the recipe's types have no such schema: {choice}")
            };
            let mut fields = read_fields(properties, &choice["required"], defs);
            let mut name = String::new();
            fields.retain(|f| match properties[&f.key]["const"].as_str() {
                Some(constant) => {
                    tag.clone_from(&f.key);
                    constant.clone_into(&mut name);
                    false
                }
                None => true,
            });
            variants.push(Variant { name, meaning: text(&choice["description"]), fields });
        }
        Self::Tagged { tag, variants }
    }

    /// The shape under a dotted path; in a tagged table, of any variant that has the key.
    pub fn at(&self, path: &[String]) -> Option<&Self> {
        let Some((key, rest)) = path.split_first() else { return Some(self) };
        match self {
            Self::Table(fields) => fields.iter().find(|f| f.key == *key)?.shape.at(rest),
            Self::Map(item) => item.at(rest),
            Self::Tagged { tag, .. } if tag == key && rest.is_empty() => Some(&Self::Text),
            Self::Tagged { variants, .. } => {
                variants.iter().flat_map(|v| &v.fields).find(|f| f.key == *key)?.shape.at(rest)
            }
            Self::Choice(shapes) => shapes.iter().find_map(|s| s.at(path)),
            _ => None,
        }
    }

    /// The keys of a table; of a tagged one, those of every variant.
    pub fn fields(&self) -> Vec<&Field> {
        match self {
            Self::Table(fields) => fields.iter().collect(),
            Self::Tagged { variants, .. } => variants.iter().flat_map(|v| &v.fields).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether a string can be a value of this shape.
    pub fn takes_text(&self) -> bool {
        match self {
            Self::Text | Self::Names(_) => true,
            Self::Choice(shapes) => shapes.iter().any(Self::takes_text),
            _ => false,
        }
    }

    /// Whether the name of a choice can be a value of this shape.
    pub fn takes_name(&self, name: &str) -> bool {
        match self {
            Self::Names(names) => names.iter().any(|n| n.name == name),
            Self::Choice(shapes) => shapes.iter().any(|s| s.takes_name(name)),
            _ => false,
        }
    }

    /// Every key of the recipe as `(dotted path, key)`, outer keys first within a table.
    pub fn keys(&self) -> Vec<(String, String)> {
        let mut keys = Vec::new();
        self.collect_keys("", &mut keys);
        keys
    }

    fn collect_keys(&self, path: &str, keys: &mut Vec<(String, String)>) {
        let add = |field: &Field, keys: &mut Vec<(String, String)>| {
            let inner = join(path, &field.key);
            if !keys.iter().any(|(p, _)| *p == inner) {
                keys.push((inner.clone(), field.key.clone()));
            }
            field.shape.collect_keys(&inner, keys);
        };
        match self {
            Self::Table(fields) => fields.iter().for_each(|f| add(f, keys)),
            Self::Tagged { tag, variants } => {
                keys.push((join(path, tag), tag.clone()));
                variants.iter().flat_map(|v| &v.fields).for_each(|f| add(f, keys));
            }
            _ => {}
        }
    }

    /// In words, for messages: what is expected here.
    pub fn expected(&self) -> String {
        match self {
            Self::Text => "a string in quotes".into(),
            Self::Boolean => "`true` or `false`".into(),
            Self::Whole { .. } => "a whole number".into(),
            Self::Real => "a number".into(),
            Self::Names(names) => match names.as_slice() {
                [one] => format!("\"{}\"", one.name),
                _ => format!("one of {}", quoted(names.iter().map(|n| n.name.as_str()))),
            },
            Self::List { item, len } => match len {
                Some(len) => format!("a list of {len} {}", item.plural()),
                None => format!("a list of {}", item.plural()),
            },
            Self::Table(_) | Self::Tagged { .. } => "a table".into(),
            Self::Map(item) => format!("a table of {}", item.plural()),
            Self::Choice(shapes) => shapes.iter().map(Self::expected).collect::<Vec<_>>().join(", or "),
        }
    }

    /// In words: several of these.
    pub fn plural(&self) -> &'static str {
        match self {
            Self::Text => "strings",
            Self::Whole { .. } => "whole numbers",
            Self::Real => "numbers",
            Self::Names(_) => "names",
            _ => "values",
        }
    }
}

/// Names in quotes with commas between them.
pub(crate) fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(", ")
}

/// A dotted path one key longer, quoted where TOML wants it.
pub(crate) fn join(path: &str, key: &str) -> String {
    let key = toml_edit::Key::new(key);
    let key = key.display_repr();
    if path.is_empty() { key.into_owned() } else { format!("{path}.{key}") }
}

fn reference(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.strip_prefix("#/$defs/")
}

fn read_fields(properties: &Map<String, Value>, required: &Value, defs: &Value) -> Vec<Field> {
    let required: Vec<&str> = required.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let field = |(key, schema): (&String, &Value)| {
        let about = reference(schema).and_then(|t| defs[t]["description"].as_str());
        Field {
            key: key.clone(),
            meaning: schema["description"].as_str().or(about).unwrap_or_default().to_owned(),
            about: about.map(str::to_owned),
            shape: if schema["const"].is_string() { Shape::Text } else { Shape::read(schema, defs) },
            required: required.contains(&key.as_str()),
            default: schema.get("default").cloned(),
        }
    };
    properties.iter().map(field).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<String> {
        text.split('.').map(str::to_owned).collect()
    }

    #[test]
    fn every_kind_of_key_has_its_shape() {
        let recipe = Shape::recipe();
        assert_eq!(recipe.at(&path("name")), Some(&Shape::Text));
        assert_eq!(recipe.at(&path("data.split.seed")), Some(&Shape::Whole { max: u64::from(u32::MAX) }));
        assert_eq!(recipe.at(&path("data.split.folds")), Some(&Shape::Whole { max: i64::MAX as u64 }));
        assert_eq!(recipe.at(&path("model.dropout")), Some(&Shape::Real));
        assert_eq!(recipe.at(&path("model.numbers.width")), Some(&Shape::Whole { max: i64::MAX as u64 }));
        assert!(matches!(recipe.at(&path("data.types.anything")), Some(Shape::Names(n)) if n.len() == 4));
        assert!(
            matches!(recipe.at(&path("train.loss.class_weights")), Some(Shape::Choice(c)) if c.len() == 2)
        );
        assert!(matches!(recipe.at(&path("train.early_stopping")), Some(Shape::Table(f)) if f.len() == 3));
        assert!(matches!(recipe.at(&path("train.optimizer.betas")), Some(Shape::List { len: Some(2), .. })));
        assert_eq!(recipe.at(&path("train.optimizer.nothing")), None);
        assert!(
            matches!(recipe.at(&path("model")), Some(Shape::Tagged { tag, variants }) if tag == "family" && variants.len() == 16)
        );
    }

    #[test]
    fn keys_are_listed_once() {
        let keys = Shape::recipe().keys();
        let rates: Vec<_> = keys.iter().filter(|(_, k)| k == "learning_rate").collect();
        assert_eq!(rates.len(), 1, "{rates:?}");
        assert_eq!(rates[0].0, "train.optimizer.learning_rate");
    }

    #[test]
    fn odd_keys_are_quoted() {
        assert_eq!(join("data.types", "Lot Area"), "data.types.\"Lot Area\"");
        assert_eq!(join("", "name"), "name");
    }
}
