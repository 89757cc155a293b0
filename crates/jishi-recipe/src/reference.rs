//! The reference page of every key, drawn from the recipe's types.

use serde_json::Value;

use crate::shape::{Field, Name, Shape, join};

/// `docs/reference/recipe.md`: every table, key, type, default and meaning.
#[must_use]
pub fn reference_markdown() -> String {
    let recipe = Shape::recipe();
    let mut page = String::from(
        "# Recipe reference\n\n\
         <!-- Made from crates/jishi-recipe/src/types: JISHI_UPDATE_DOCS=1 cargo test -p jishi-recipe -->\n\n\
         A recipe is one [TOML](https://toml.io) file that describes a whole run. This page lists every key. \
         `jishi recipe schema` prints the same as a JSON Schema, which editors use to complete and check keys.\n\n\
         - A key that is left out takes its default; the run's manifest records every default that was used.\n\
         - A key that is not known is an error, and so is a contradiction between keys. All problems are reported at once.\n\
         - `--set KEY=VALUE` changes a key for one run: `--set train.epochs=20`. `--set KEY=` takes a key out. \
         A table may be written either way: `split = { test = 0.2 }` within `[data]`, or `[data.split]` with keys below it.\n\n\
         The shortest recipe that trains:\n\n\
         ```toml\n\
         name = \"houses\"\n\
         task = \"regression\"\n\n\
         [data]\n\
         source = \"houses.csv\"\n\
         target = \"price\"\n\n\
         [model]\n\
         family = \"mlp\"\n\
         ```\n\n",
    );
    if let Shape::Table(fields) = &recipe {
        page += "## Top level\n\n";
        write_keys(&mut page, fields, "");
        write_inner(&mut page, fields, "", 2);
    }
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

/// The sections of the tables inside a table.
fn write_inner(page: &mut String, fields: &[Field], path: &str, level: usize) {
    for field in fields {
        let path = join(path, &field.key);
        let heading = "#".repeat(level.min(4));
        let meaning = field.about.as_ref().unwrap_or(&field.meaning);
        match &field.shape {
            Shape::Table(inner) => {
                *page += &format!("{heading} [{path}]\n\n{meaning}\n\n");
                write_keys(page, inner, &path);
                write_inner(page, inner, &path, level + 1);
            }
            Shape::Tagged { tag, variants } => {
                *page += &format!(
                    "{heading} [{path}]\n\n{meaning} `{tag}` says which, and every one has keys of its own.\n\n"
                );
                *page += &format!("| `{tag}` | Meaning |\n|---|---|\n");
                for variant in variants {
                    *page += &format!("| `\"{}\"` | {} |\n", variant.name, cell(&variant.meaning));
                }
                page.push('\n');
                for variant in variants {
                    let heading = "#".repeat((level + 1).min(5));
                    *page += &format!(
                        "{heading} [{path}] with {tag} = \"{}\"\n\n{}\n\n",
                        variant.name, variant.meaning
                    );
                    write_keys(page, &variant.fields, &path);
                    write_inner(page, &variant.fields, &path, level + 2);
                }
            }
            _ => {}
        }
    }
}

fn write_keys(page: &mut String, fields: &[Field], path: &str) {
    *page += "| Key | Type | Default | Meaning |\n|---|---|---|---|\n";
    for field in fields {
        let default = match &field.default {
            _ if field.required => "**required**".into(),
            _ if matches!(field.shape, Shape::Table(_)) && field.default.is_none() => "not set".into(),
            Some(Value::Object(table)) if !table.is_empty() => match &field.shape {
                Shape::Tagged { tag, .. } => format!("`{tag} = {}`", table[tag]),
                _ => "see below".into(),
            },
            Some(value) => format!("`{value}`"),
            None => "not set".into(),
        };
        let kind = kind(&field.shape, &join(path, &field.key));
        *page += &format!("| `{}` | {kind} | {} | {} |\n", field.key, cell(&default), cell(&field.meaning));
    }
    page.push('\n');
    write_names(page, fields);
}

/// The names that the keys of a table may take: once for keys with the same ones, and once on the page.
fn write_names(page: &mut String, fields: &[Field]) {
    let mut lists: Vec<(Vec<&Name>, Vec<String>)> = Vec::new();
    for field in fields {
        let names = names(&field.shape);
        let key = format!("`{}`", field.key);
        match lists.iter_mut().find(|(list, _)| *list == names) {
            _ if names.is_empty() => {}
            Some((_, keys)) => keys.push(key),
            None => lists.push((names, vec![key])),
        }
    }
    for (names, keys) in lists {
        let list: String = names.iter().map(|n| format!("- `\"{}\"` – {}\n", n.name, n.meaning)).collect();
        let keys = keys.join(", ");
        if page.contains(&list) {
            let short: Vec<_> = names.iter().map(|n| format!("`\"{}\"`", n.name)).collect();
            *page += &format!("{keys}: {}, as explained above\n\n", short.join(", "));
        } else {
            *page += &format!("{keys}:\n\n{list}\n");
        }
    }
}

fn kind(shape: &Shape, path: &str) -> String {
    match shape {
        Shape::Text => "string".into(),
        Shape::Boolean => "boolean".into(),
        Shape::Whole { .. } => "whole number".into(),
        Shape::Real => "number".into(),
        Shape::Names(_) => "name, see below".into(),
        Shape::List { item, len: Some(len) } => format!("list of {len} {}", item.plural()),
        Shape::List { item, len: None } => format!("list of {}", item.plural()),
        Shape::Table(_) | Shape::Tagged { .. } => format!("table `[{path}]`"),
        Shape::Map(item) => format!("table of {}", item.plural()),
        Shape::Choice(shapes) => shapes.iter().map(|s| kind(s, path)).collect::<Vec<_>>().join(", or "),
    }
}

fn names(shape: &Shape) -> Vec<&Name> {
    match shape {
        Shape::Names(names) => names.iter().collect(),
        Shape::Map(item) | Shape::List { item, .. } => names(item),
        Shape::Choice(shapes) => shapes.iter().flat_map(names).collect(),
        _ => Vec::new(),
    }
}

/// A text inside a Markdown table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_and_name_is_on_the_page() {
        let page = reference_markdown();
        for (path, key) in Shape::recipe().keys() {
            assert!(page.contains(&format!("| `{key}` |")), "{path} is missing");
        }
        for name in ["hard-swish", "ft-transformer", "muon", "one-cycle", "most-frequent", "balanced"] {
            assert!(page.contains(&format!("`\"{name}\"`")), "{name} is missing");
        }
        assert!(page.contains("| `learning_rate` | number | `0.001` |"));
        assert!(page.contains("| `name` | string | **required** |"));
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a page of the repository, not a file of a run")]
    fn the_page_in_the_repository_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/recipe.md");
        if std::env::var_os("JISHI_UPDATE_DOCS").is_some() {
            std::fs::write(path, reference_markdown()).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            page == reference_markdown(),
            "write it anew: JISHI_UPDATE_DOCS=1 cargo test -p jishi-recipe"
        );
    }
}
