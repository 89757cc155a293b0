//! Compares a document with the shape of a recipe: unknown keys, wrong types, unknown names, missing keys.
//!
//! What is right is handed on as JSON; what is wrong is left out of it (or replaced by a placeholder where
//! it is required), so that contradictions elsewhere are found in the same go.

use serde_json::{Map, Value, json};

use crate::places::Places;
use crate::problem::Problem;
use crate::shape::{Field, Shape, Variant, join, quoted};
use crate::suggest::{did_you_mean, key_help, nearest_name};
use crate::tree::{Data, Node, Place, shorten};

/// What is known of a document after the walk.
pub(crate) struct Walk<'a> {
    root: &'a Shape,
    places: &'a Places,
    /// What the whole document is called in messages.
    what: &'a str,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// Dotted paths that were left out or replaced.
    pub pruned: Vec<String>,
}

impl<'a> Walk<'a> {
    /// Walks a whole document, which is called `what`.
    pub fn whole(document: &Node, root: &'a Shape, places: &'a Places, what: &'a str) -> (Value, Self) {
        let mut walk = Self { root, places, what, problems: Vec::new(), pruned: Vec::new() };
        let value = walk.value(document, root, "", what).unwrap_or_else(|| placeholder(root));
        (value, walk)
    }

    /// A table by its header.
    fn named(&self, path: &str) -> String {
        if path.is_empty() { self.what.to_owned() } else { format!("[{path}]") }
    }

    fn problem(&mut self, at: &Place, message: String, help: Option<String>) {
        let mut problem = self.places.problem(Some(at), message);
        problem.help = help;
        self.problems.push(problem);
    }

    fn wrong(&mut self, node: &Node, shape: &Shape, label: &str) -> Option<Value> {
        let message = format!("{label}: expected {}, found {}", shape.expected(), node.found());
        self.problem(&node.at, message, type_help(node, shape, label));
        None
    }

    /// The JSON of a value where it has the right shape.
    fn value(&mut self, node: &Node, shape: &Shape, path: &str, label: &str) -> Option<Value> {
        match (shape, &node.data) {
            (Shape::Text, Data::Text(text)) => Some(json!(text)),
            (Shape::Boolean, Data::Boolean(b)) => Some(json!(b)),
            (Shape::Whole { max }, Data::Whole(n)) => match u64::try_from(*n) {
                Ok(n) if n <= *max => Some(json!(n)),
                Ok(_) => {
                    self.problem(&node.at, format!("{label}: expected at most {max}, found {n}"), None);
                    None
                }
                Err(_) => {
                    let message = format!("{label}: expected a whole number of 0 or more, found {n}");
                    self.problem(&node.at, message, None);
                    None
                }
            },
            (Shape::Real, Data::Whole(n)) => Some(json!(*n as f64)),
            (Shape::Real, Data::Real(n)) if n.is_finite() => Some(json!(n)),
            (Shape::Real, Data::Real(n)) => {
                self.problem(&node.at, format!("{label}: expected a finite number, found {n:?}"), None);
                None
            }
            (Shape::Names(names), Data::Text(text)) => {
                if names.iter().any(|n| n.name == *text) {
                    return Some(json!(text));
                }
                let known = names.iter().map(|n| n.name.as_str());
                self.unknown_name(node, &shape.expected(), text, known, label);
                None
            }
            (Shape::List { item, len }, Data::List(nodes)) => self.list(node, nodes, item, *len, path, label),
            (Shape::Table(fields), Data::Table(entries)) => {
                let (fields, entries): (Vec<_>, Vec<_>) = (fields.iter().collect(), entries.iter().collect());
                Some(Value::Object(self.table(node, &entries, &fields, path, None)))
            }
            (Shape::Map(item), Data::Table(entries)) => {
                let mut map = Map::new();
                for (key, child) in entries {
                    let inner = join(path, key);
                    match self.value(child, item, &inner, &format!("`{inner}`")) {
                        Some(value) => drop(map.insert(key.clone(), value)),
                        None => self.pruned.push(inner),
                    }
                }
                Some(Value::Object(map))
            }
            (Shape::Tagged { tag, variants }, Data::Table(entries)) => {
                self.tagged(node, entries, tag, variants, path)
            }
            (Shape::Choice(shapes), data) => match shapes.iter().find(|s| fits(s, data)) {
                Some(Shape::Names(_)) => {
                    // A string: say what else than a name could stand here, too.
                    let fitting = shapes.iter().any(|s| matches!(data, Data::Text(t) if s.takes_name(t)));
                    if fitting { self.value_json(node) } else { self.wrong_choice(node, shape, label) }
                }
                Some(one) => self.value(node, one, path, label),
                None => self.wrong(node, shape, label),
            },
            _ => self.wrong(node, shape, label),
        }
    }

    fn value_json(&self, node: &Node) -> Option<Value> {
        match &node.data {
            Data::Text(text) => Some(json!(text)),
            _ => None,
        }
    }

    fn wrong_choice(&mut self, node: &Node, shape: &Shape, label: &str) -> Option<Value> {
        if let Data::Text(text) = &node.data {
            let names = names_of(shape);
            self.unknown_name(node, &shape.expected(), text, names.iter().map(String::as_str), label);
        }
        None
    }

    fn unknown_name<'n>(
        &mut self,
        node: &Node,
        expected: &str,
        text: &str,
        names: impl Iterator<Item = &'n str> + Clone,
        label: &str,
    ) {
        let help = nearest_name(text, names).map(|n| format!("did you mean \"{n}\"?"));
        let message = format!("{label}: expected {expected}, found \"{}\"", shorten(text));
        self.problem(&node.at, message, help);
    }

    fn list(
        &mut self,
        node: &Node,
        nodes: &[Node],
        item: &Shape,
        len: Option<usize>,
        path: &str,
        label: &str,
    ) -> Option<Value> {
        if let Some(len) = len.filter(|len| *len != nodes.len()) {
            let message = format!("{label}: expected a list of {len}, found a list of {}", nodes.len());
            self.problem(&node.at, message, None);
        }
        let values: Vec<_> = (nodes.iter().enumerate())
            .map(|(i, child)| self.value(child, item, path, &format!("item {} of {label}", i + 1)))
            .collect();
        let whole = len.is_none_or(|len| len == nodes.len());
        values.into_iter().collect::<Option<Vec<_>>>().filter(|_| whole).map(Value::Array)
    }

    /// `tag` says how the keys were chosen, where they hang on a name; the tag itself is not among `entries`.
    fn table(
        &mut self,
        node: &Node,
        entries: &[&(String, Node)],
        fields: &[&Field],
        path: &str,
        tag: Option<&Tag<'_>>,
    ) -> Map<String, Value> {
        let mut map = Map::new();
        let mut meant = Vec::new();
        for (key, child) in entries {
            let inner = join(path, key);
            let Some(field) = fields.iter().find(|f| f.key == *key) else {
                meant.push(self.unknown_key(key, child, fields, path, tag));
                self.pruned.push(inner);
                continue;
            };
            match self.value(child, &field.shape, &inner, &format!("`{inner}`")) {
                Some(value) => drop(map.insert(key.clone(), value)),
                None => self.pruned.push(inner),
            }
        }
        // Which keys a table must have is open while nothing has chosen among its variants.
        let open = tag.is_some_and(|t| t.chosen.is_none());
        for field in fields.iter().filter(|f| f.required && !open) {
            let inner = join(path, &field.key);
            if !entries.iter().any(|(k, _)| *k == field.key) {
                // A key that was misspelt is there in a way, and has been reported.
                if !meant.contains(&did_you_mean(&field.key)) {
                    let at = self.places.removed(&inner).unwrap_or(node.key_at.clone());
                    let message = format!("{} needs the key `{}`", self.named(path), field.key);
                    let example = example(&field.shape, &field.key, &inner);
                    self.problem(&at, message, Some(format!("{} For example: {example}", field.meaning)));
                }
                self.pruned.push(inner);
            }
            map.entry(&field.key).or_insert_with(|| placeholder(&field.shape));
        }
        map
    }

    /// Reports a key that is not known and returns what was said to be done about it.
    fn unknown_key(
        &mut self,
        key: &str,
        child: &Node,
        fields: &[&Field],
        path: &str,
        tag: Option<&Tag<'_>>,
    ) -> String {
        let mut message = format!("unknown key `{}` in {}", shorten(key), self.named(path));
        let mut help = key_help(self.root, self.what, path, fields, tag.map(|t| t.key), key);
        if let Some((tag, chosen)) = tag.and_then(|t| Some((t, t.chosen?))) {
            message += &format!(" with {} = \"{}\"", tag.key, chosen.name);
            let has = |v: &&Variant| v.fields.iter().any(|f| f.key == key);
            let others: Vec<_> = tag.variants.iter().filter(has).map(|v| v.name.as_str()).collect();
            if !others.is_empty() {
                let ours = fields.iter().map(|f| f.key.as_str()).collect::<Vec<_>>().join(", ");
                help = format!(
                    "`{key}` belongs to {}; \"{}\" has: {ours}",
                    quoted(others.into_iter()),
                    chosen.name
                );
                if tag.by_set {
                    help += &format!("; `--set {}=` takes it out", join(path, key));
                }
            }
        }
        self.problem(&child.key_at, message, Some(help.clone()));
        help
    }

    fn tagged(
        &mut self,
        node: &Node,
        entries: &[(String, Node)],
        key: &str,
        variants: &[Variant],
        path: &str,
    ) -> Option<Value> {
        let entry = entries.iter().find(|(k, _)| k == key).map(|(_, n)| n);
        // A key that one variant alone must have chooses it: `from` of a model.
        let given = |f: &Field| f.required && entries.iter().any(|(k, _)| *k == f.key);
        let implied = || variants.iter().find(|v| v.fields.iter().any(given));
        let chosen = match entry {
            Some(n) => self.variant(n, key, variants, path),
            None => implied(),
        };
        // Without a choice, a key of any variant is let through, and checked as that variant's.
        let all = variants.iter().flat_map(|v| &v.fields);
        let fields: Vec<&Field> = chosen.map_or_else(|| all.collect(), |v| v.fields.iter().collect());
        if entry.is_none() && chosen.is_none() {
            let misspelt = |k: &String| {
                let help = || key_help(self.root, self.what, path, &fields, Some(key), k);
                !fields.iter().any(|f| f.key == *k) && help() == did_you_mean(key)
            };
            if !entries.iter().any(|(k, _)| misspelt(k)) {
                let at = self.places.removed(&join(path, key)).unwrap_or(node.key_at.clone());
                let names = quoted(variants.iter().map(|v| v.name.as_str()));
                let message = format!("{} needs the key `{key}`", self.named(path));
                self.problem(&at, message, Some(format!("`{key}` is one of {names}")));
            }
        }
        let by_set = entry.is_some_and(|n| matches!(n.at, Place::Set(_)));
        let tag = Tag { key, variants, chosen, by_set };
        let rest: Vec<_> = entries.iter().filter(|(k, _)| k != key).collect();
        let mut map = self.table(node, &rest, &fields, path, Some(&tag));
        let Some(chosen) = chosen else {
            self.pruned.push(path.to_owned());
            return None;
        };
        map.insert(key.to_owned(), json!(chosen.name));
        Some(Value::Object(map))
    }

    /// The variant that a tag chooses.
    fn variant<'v>(
        &mut self,
        node: &Node,
        key: &str,
        variants: &'v [Variant],
        path: &str,
    ) -> Option<&'v Variant> {
        let names = || variants.iter().map(|v| v.name.as_str());
        let label = format!("`{}`", join(path, key));
        if let Data::Text(text) = &node.data {
            let found = variants.iter().find(|v| v.name == *text);
            if found.is_none() {
                self.unknown_name(node, &format!("one of {}", quoted(names())), text, names(), &label);
            }
            return found;
        }
        let message = format!("{label}: expected one of {}, found {}", quoted(names()), node.found());
        self.problem(&node.at, message, None);
        None
    }
}

/// How the keys of a table were chosen.
struct Tag<'t> {
    key: &'t str,
    variants: &'t [Variant],
    chosen: Option<&'t Variant>,
    /// Whether a `--set` chose.
    by_set: bool,
}

fn fits(shape: &Shape, data: &Data) -> bool {
    match shape {
        Shape::Text | Shape::Names(_) => matches!(data, Data::Text(_)),
        Shape::Boolean => matches!(data, Data::Boolean(_)),
        Shape::Whole { .. } => matches!(data, Data::Whole(_)),
        Shape::Real => matches!(data, Data::Whole(_) | Data::Real(_)),
        Shape::List { .. } => matches!(data, Data::List(_)),
        Shape::Table(_) | Shape::Map(_) | Shape::Tagged { .. } => matches!(data, Data::Table(_)),
        Shape::Choice(shapes) => shapes.iter().any(|s| fits(s, data)),
    }
}

fn names_of(shape: &Shape) -> Vec<String> {
    match shape {
        Shape::Names(names) => names.iter().map(|n| n.name.clone()).collect(),
        Shape::Choice(shapes) => shapes.iter().flat_map(names_of).collect(),
        _ => Vec::new(),
    }
}

/// What to write instead of a value of the wrong type, where that is clear.
fn type_help(node: &Node, shape: &Shape, label: &str) -> Option<String> {
    let key = label.trim_matches('`').rsplit('.').next().unwrap_or_default();
    let number = |t: &str| t.parse::<f64>().is_ok_and(f64::is_finite);
    match (&node.data, shape) {
        (Data::Text(t), Shape::Whole { .. }) if t.parse::<u64>().is_ok() => {
            Some(format!("without quotes: {t}"))
        }
        (Data::Text(t), Shape::Real) if number(t) => Some(format!("without quotes: {t}")),
        (Data::Text(t), Shape::Boolean) if t == "true" || t == "false" => {
            Some(format!("without quotes: {t}"))
        }
        (Data::Real(n), Shape::Whole { .. }) if *n >= 0.0 && n.fract() == 0.0 && *n < 1e15 => {
            Some(format!("write {n:.0}"))
        }
        (Data::Whole(n), Shape::Text) => Some(format!("in quotes: \"{n}\"")),
        (Data::Real(n), Shape::Text) => Some(format!("in quotes: \"{n:?}\"")),
        (Data::Boolean(b), Shape::Text) => Some(format!("in quotes: \"{b}\"")),
        (Data::Boolean(_) | Data::Whole(_), Shape::Names(names))
            if names.iter().any(|n| n.name == "none") =>
        {
            Some("\"none\" turns it off".into())
        }
        (Data::Text(_), Shape::List { item, .. }) if **item == Shape::Text => {
            Some(format!("in brackets: [\"{}\"]", shorten(node_text(node)?)))
        }
        (Data::Whole(n), Shape::List { item, len: None }) if matches!(**item, Shape::Whole { .. }) => {
            Some(format!("in brackets: [{n}]"))
        }
        (Data::Text(t), Shape::Tagged { tag, variants }) => {
            let name = nearest_name(t, variants.iter().map(|v| v.name.as_str())).unwrap_or(&variants[0].name);
            Some(format!("write {key} = {{ {tag} = \"{name}\" }}"))
        }
        (Data::Text(t), Shape::Table(fields)) => {
            let named = fields.iter().find(|f| f.key == "name" && f.shape.takes_name(t))?;
            Some(format!("write {key} = {{ {} = \"{t}\" }}", named.key))
        }
        (Data::List(items), Shape::Table(_) | Shape::Tagged { .. } | Shape::Map(_))
            if items.iter().any(|n| matches!(n.data, Data::Table(_))) =>
        {
            Some(format!("write [{}] with single brackets, once", label.trim_matches('`')))
        }
        (Data::Boolean(true), Shape::Table(_)) => Some(format!("write {key} = {{}} for its defaults")),
        (Data::Boolean(false), Shape::Table(_)) => Some(format!("leave `{key}` out to go without it")),
        _ => None,
    }
}

fn node_text(node: &Node) -> Option<&str> {
    match &node.data {
        Data::Text(text) => Some(text),
        _ => None,
    }
}

/// A line that gives a required key a value.
fn example(shape: &Shape, key: &str, path: &str) -> String {
    match (path, shape) {
        ("name", _) => "name = \"my-run\"".into(),
        ("data.source", _) => "source = \"houses.csv\"".into(),
        ("data.target", _) => "target = \"price\"".into(),
        (_, Shape::Names(names)) => format!("{key} = \"{}\"", names[0].name),
        (_, Shape::Tagged { tag, .. }) if path == "model" => format!("[{path}] with {tag} = \"mlp\""),
        (_, Shape::Table(_)) => format!("[{path}] with its keys below it"),
        _ => format!("{key} = …"),
    }
}

/// A value that stands in for a required one that is missing or wrong.
fn placeholder(shape: &Shape) -> Value {
    match shape {
        Shape::Text => json!("placeholder"),
        Shape::Boolean => json!(false),
        Shape::Whole { .. } => json!(1),
        Shape::Real => json!(1.0),
        Shape::Names(names) => json!(names[0].name),
        Shape::List { item, len } => json!(vec![placeholder(item); len.unwrap_or(0)]),
        Shape::Map(_) => json!({}),
        Shape::Table(fields) => Value::Object(
            fields.iter().filter(|f| f.required).map(|f| (f.key.clone(), placeholder(&f.shape))).collect(),
        ),
        Shape::Tagged { tag, variants } => json!({ tag: variants[0].name }),
        Shape::Choice(shapes) => placeholder(&shapes[0]),
    }
}
