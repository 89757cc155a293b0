//! A TOML document as a plain tree in which every value knows its place.

use toml_edit::{Document, Item, TableLike, TomlError, Value};

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the recipe's text; both from 1, the column in characters.
    Text { line: u64, column: u64 },
    /// In a `--set`, whose text this is.
    Set(String),
}

/// A value with its place and the place of its key.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub key_at: Place,
    pub at: Place,
    pub data: Data,
}

/// A TOML value.
#[derive(Debug, Clone)]
pub(crate) enum Data {
    Table(Vec<(String, Node)>),
    List(Vec<Node>),
    Text(String),
    Whole(i64),
    Real(f64),
    Boolean(bool),
    Date(String),
}

impl Node {
    /// The root of a recipe.
    ///
    /// # Errors
    /// The first place where the text is not TOML.
    pub fn read(text: &str) -> Result<Self, Box<TomlError>> {
        let document = Document::parse(text)?;
        let lines = Lines::new(text);
        let start = Place::Text { line: 1, column: 1 };
        let table = Data::Table(read_table(document.as_table(), &lines, &start));
        Ok(Self { key_at: start.clone(), at: start, data: table })
    }

    /// A value of a `--set`.
    pub fn set(value: &Value, place: &Place) -> Self {
        read_value(value, &Lines::new(""), place)
    }

    /// A string of a `--set`.
    pub fn set_text(text: &str, place: &Place) -> Self {
        Self { key_at: place.clone(), at: place.clone(), data: Data::Text(text.to_owned()) }
    }

    /// In words, for messages: what was found here.
    pub fn found(&self) -> String {
        match &self.data {
            Data::Table(_) => "a table".into(),
            Data::List(items) if items.is_empty() => "an empty list".into(),
            Data::List(_) => "a list".into(),
            Data::Text(text) => format!("the string \"{}\"", shorten(text)),
            Data::Whole(n) => format!("the whole number {n}"),
            Data::Real(n) => format!("the number {n:?}"),
            Data::Boolean(b) => format!("`{b}`"),
            Data::Date(text) => format!("the date {text}"),
        }
    }
}

/// The beginning of a text that may be long.
pub(crate) fn shorten(text: &str) -> String {
    const MOST: usize = 80;
    let plain = text.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'");
    if plain.chars().count() <= MOST { plain } else { plain.chars().take(MOST).chain(['…']).collect() }
}

/// Turns byte offsets into lines and columns.
pub(crate) struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1)).collect();
        Self { text, starts }
    }

    /// Line and column of a byte offset, both from 1.
    pub fn place(&self, offset: usize) -> (u64, u64) {
        let line = self.starts.partition_point(|&s| s <= offset) - 1;
        let before = self.text.get(self.starts[line]..offset).unwrap_or_default();
        (line as u64 + 1, before.chars().count() as u64 + 1)
    }

    fn at(&self, span: Option<std::ops::Range<usize>>, otherwise: &Place) -> Place {
        span.map_or_else(
            || otherwise.clone(),
            |s| {
                let (line, column) = self.place(s.start);
                Place::Text { line, column }
            },
        )
    }
}

fn read_table(table: &dyn TableLike, lines: &Lines<'_>, outer: &Place) -> Vec<(String, Node)> {
    let mut entries = Vec::new();
    for (name, item) in table.iter() {
        let key_at = lines.at(table.key(name).and_then(toml_edit::Key::span), outer);
        let mut node = match item {
            Item::None => continue,
            Item::Value(value) => read_value(value, lines, &key_at),
            Item::Table(inner) => {
                let data = Data::Table(read_table(inner, lines, &key_at));
                Node { at: key_at.clone(), key_at: key_at.clone(), data }
            }
            Item::ArrayOfTables(tables) => {
                let read = |t: &toml_edit::Table| {
                    let at = lines.at(t.span(), &key_at);
                    let data = Data::Table(read_table(t, lines, &at));
                    Node { key_at: at.clone(), at, data }
                };
                Node {
                    at: key_at.clone(),
                    key_at: key_at.clone(),
                    data: Data::List(tables.iter().map(read).collect()),
                }
            }
        };
        node.key_at = key_at;
        entries.push((name.to_owned(), node));
    }
    entries
}

fn read_value(value: &Value, lines: &Lines<'_>, outer: &Place) -> Node {
    let at = lines.at(value.span(), outer);
    let data = match value {
        Value::String(v) => Data::Text(v.value().clone()),
        Value::Integer(v) => Data::Whole(*v.value()),
        Value::Float(v) => Data::Real(*v.value()),
        Value::Boolean(v) => Data::Boolean(*v.value()),
        Value::Datetime(v) => Data::Date(v.value().to_string()),
        Value::Array(v) => Data::List(v.iter().map(|item| read_value(item, lines, &at)).collect()),
        Value::InlineTable(v) => Data::Table(read_table(v, lines, &at)),
    };
    Node { key_at: at.clone(), at, data }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find<'a>(node: &'a Node, path: &[&str]) -> &'a Node {
        path.iter().fold(node, |node, key| match &node.data {
            Data::Table(entries) => &entries.iter().find(|(k, _)| k == key).unwrap().1,
            _ => panic!("no table"),
        })
    }

    #[test]
    fn values_know_their_line_and_column() {
        let text = "name = \"ü\" # c\n[data]\r\nsplit = { test = 0.2, seed = 4 }\nmissing.number = \"mean\"\n[train.loss]\nname= 1\n";
        let root = Node::read(text).unwrap();
        let at = |path: &[&str]| {
            let node = find(&root, path);
            (node.key_at.clone(), node.at.clone())
        };
        let place = |line, column| Place::Text { line, column };
        assert_eq!(at(&["name"]), (place(1, 1), place(1, 8)));
        assert_eq!(at(&["data"]), (place(2, 2), place(2, 2)));
        assert_eq!(at(&["data", "split", "seed"]), (place(3, 23), place(3, 30)));
        assert_eq!(at(&["data", "missing", "number"]), (place(4, 9), place(4, 18)));
        assert_eq!(at(&["train", "loss"]), (place(5, 8), place(5, 8)));
        assert_eq!(at(&["train", "loss", "name"]), (place(6, 1), place(6, 7)));
    }

    #[test]
    fn columns_count_characters() {
        let lines = Lines::new("aé\nüb");
        assert_eq!(lines.place(0), (1, 1));
        assert_eq!(lines.place(3), (1, 3));
        assert_eq!(lines.place(4), (2, 1));
        assert_eq!(lines.place(6), (2, 2));
        assert_eq!(lines.place(99), (2, 1));
    }

    #[test]
    fn long_texts_are_shortened() {
        assert_eq!(shorten("a\"b'c\n"), "a\"b'c\\n");
        assert_eq!(shorten(&"x".repeat(500)).chars().count(), 81);
    }
}
