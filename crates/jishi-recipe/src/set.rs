//! `--set KEY=VALUE`: a dotted key, a TOML value; an empty value takes the key out.

use std::collections::BTreeMap;

use toml_edit::{Key, Value};

use crate::parse::RECIPE;
use crate::shape::{Shape, join};
use crate::suggest::key_help;
use crate::tree::{Data, Node, Place, shorten};

/// Longer keys than any of a recipe are turned away before anything recurses into them.
const DEEPEST: usize = 16;

/// Changes a document by one `KEY=VALUE`. The keys taken out are added to `removed`, with the text of the `--set`.
///
/// Whether the key and the value fit a recipe is found out later, with the rest of the document, except for keys
/// that are taken out: of those there is nothing left to look at.
///
/// # Errors
/// What is wrong with it, and what to do.
pub(crate) fn apply(
    document: &mut Node,
    set: &str,
    recipe: &Shape,
    removed: &mut BTreeMap<String, String>,
) -> Result<(), (String, Option<String>)> {
    let (key, value) = split(set).ok_or_else(|| {
        let help = "for example: --set train.epochs=20".to_owned();
        ("expected KEY=VALUE".to_owned(), Some(help))
    })?;
    let path: Vec<String> = Key::parse(key)
        .map_err(|e| {
            let help =
                "keys are dotted, odd names are quoted: --set 'data.types.\"Lot Area\"=number'".to_owned();
            (
                format!("expected a key such as train.epochs, found `{}`: {}", shorten(key), e.message()),
                Some(help),
            )
        })?
        .iter()
        .map(|k| k.get().to_owned())
        .collect();
    if path.len() > DEEPEST {
        return Err((format!("no key of a recipe has {} parts", path.len()), None));
    }
    let dotted = path.iter().fold(String::new(), |outer, key| join(&outer, key));
    let shape = recipe.at(&path);
    let place = Place::Set(set.to_owned());
    let none = value == "none" && shape.is_some_and(|s| !s.takes_text() && !s.takes_name("none"));
    if value.is_empty() || none {
        if shape.is_none() {
            let (outer, last) = path.split_at(path.len() - 1);
            let table = outer.iter().fold(String::new(), |outer, key| join(&outer, key));
            let fields = recipe.at(outer).map(Shape::fields).unwrap_or_default();
            let help = key_help(recipe, RECIPE, &table, &fields, None, &last[0]);
            return Err((format!("unknown key `{dotted}`"), Some(help).filter(|h| h.starts_with("did"))));
        }
        remove(document, &path);
        removed.insert(dotted, set.to_owned());
        return Ok(());
    }
    let node = read(value, shape, &place)?;
    removed.remove(&dotted);
    insert(document, &path, node, &place, "").map_err(|(outer, found)| {
        let help = format!("set all of it: --set '{outer}={{ … }}'");
        (format!("`{outer}` is {found}, so that `{dotted}` can't be set in it"), Some(help))
    })
}

/// Splits at the first `=` that is not inside quotes.
fn split(set: &str) -> Option<(&str, &str)> {
    let mut quote = None;
    let mut escaped = false;
    for (i, c) in set.char_indices() {
        match (quote, c) {
            (None, '=') => {
                let (key, value) = (set[..i].trim(), set[i + 1..].trim());
                return (!key.is_empty()).then_some((key, value));
            }
            (None, '"' | '\'') => quote = Some(c),
            (Some('"'), '\\') if !escaped => {
                escaped = true;
                continue;
            }
            (Some(q), c) if c == q && !escaped => quote = None,
            _ => {}
        }
        escaped = false;
    }
    None
}

fn read(value: &str, shape: Option<&Shape>, place: &Place) -> Result<Node, (String, Option<String>)> {
    match value.parse::<Value>() {
        // `--set data.target=2020` means the column of that name.
        Ok(parsed) if shape.is_some_and(Shape::takes_text) && is_bare(&parsed) => {
            Ok(Node::set_text(value, place))
        }
        Ok(parsed) => Ok(Node::set(&parsed, place)),
        Err(error) if value.starts_with(['[', '{', '"', '\'']) => {
            let help = "the shell takes quotes away: put '…' around all of KEY=VALUE, as in --set 'data.ignore=[\"Id\"]'";
            Err((
                format!("expected a TOML value, found `{}`: {}", shorten(value), error.message()),
                Some(help.into()),
            ))
        }
        Err(_) => Ok(Node::set_text(value, place)),
    }
}

fn is_bare(value: &Value) -> bool {
    matches!(value, Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_))
}

fn remove(document: &mut Node, path: &[String]) {
    let Data::Table(entries) = &mut document.data else { return };
    let Some((key, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        entries.retain(|(k, _)| k != key);
    } else if let Some((_, child)) = entries.iter_mut().find(|(k, _)| k == key) {
        remove(child, rest);
    }
}

/// Fails with the path and the description of a value on the way that is no table.
fn insert(
    table: &mut Node,
    path: &[String],
    node: Node,
    place: &Place,
    dotted: &str,
) -> Result<(), (String, String)> {
    let found = table.found();
    let Data::Table(entries) = &mut table.data else { return Err((dotted.to_owned(), found)) };
    let Some((key, rest)) = path.split_first() else { return Ok(()) };
    let index = entries.iter().position(|(k, _)| k == key);
    if rest.is_empty() {
        match index {
            Some(index) => entries[index].1 = node,
            None => entries.push((key.clone(), node)),
        }
        return Ok(());
    }
    let index = index.unwrap_or_else(|| {
        let new = Node { key_at: place.clone(), at: place.clone(), data: Data::Table(Vec::new()) };
        entries.push((key.clone(), new));
        entries.len() - 1
    });
    insert(&mut entries[index].1, rest, node, place, &join(dotted, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bare_equals_sign_splits() {
        assert_eq!(split("a.b = 1"), Some(("a.b", "1")));
        assert_eq!(split("a.\"b=c\"=d=e"), Some(("a.\"b=c\"", "d=e")));
        assert_eq!(split(r#"a."b\"=c"=d"#), Some((r#"a."b\"=c""#, "d")));
        assert_eq!(split("a.'b\\'=1"), Some(("a.'b\\'", "1")));
        assert_eq!(split("a="), Some(("a", "")));
        assert_eq!(split("a"), None);
        assert_eq!(split("=1"), None);
    }
}
