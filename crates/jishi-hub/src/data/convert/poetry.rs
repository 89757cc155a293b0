//! Classical Chinese poems.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::super::archive::{read_member, walk};
use super::super::text::json_row;
use super::save;
use crate::error::HubError;

/// Collections of poems, by their folder. `quantangshi/error` repeats poems with errors, the others are not poems or
/// repeat these.
const COLLECTIONS: [&str; 8] = [
    "shijing/",
    "chuci/",
    "caocaoshiji/",
    "quantangshi/poet.",
    "wudaishici/",
    "songci/ci.song.",
    "yuanqu/",
    "nalanxingde/",
];

/// Writes `poetry-zh.jsonl` with collection, title, author and text: a line of the poem a line.
pub(super) fn poems(archive: &Path, out: &Path) -> Result<usize, HubError> {
    let mut files = BTreeMap::new();
    walk(archive, &mut |name, content| {
        let Some((_, place)) = name.split_once("/dist/").filter(|_| name.ends_with(".json")) else {
            return Ok(());
        };
        let Some(order) = COLLECTIONS.iter().position(|c| place.starts_with(c)) else { return Ok(()) };
        let collection = place.split('/').next().unwrap_or_default();
        let poems: Value = serde_json::from_slice(&read_member(content, name)?).unwrap_or_default();
        let rows: Vec<String> =
            poems.as_array().into_iter().flatten().filter_map(|poem| row(collection, poem)).collect();
        files.insert((order, number(place), place.to_string()), rows);
        Ok(())
    })?;
    let rows: Vec<String> = files.into_values().flatten().collect();
    save(archive, &out.join("poetry-zh.jsonl"), &rows.concat())?;
    Ok(rows.len())
}

/// The number in `poet.song.12000.json`, by which files are in order.
fn number(place: &str) -> usize {
    place.split('.').find_map(|part| part.parse().ok()).unwrap_or_default()
}

fn row(collection: &str, poem: &Value) -> Option<String> {
    let lines = ["paragraphs", "content", "para"].iter().find_map(|key| poem[*key].as_array())?;
    let lines: Vec<&str> =
        lines.iter().filter_map(Value::as_str).map(str::trim).filter(|l| !l.is_empty()).collect();
    if lines.is_empty() {
        return None;
    }
    // Lyrics are named after the tune that they are written to.
    let title = ["title", "rhythmic"].iter().find_map(|key| poem[*key].as_str()).unwrap_or_default();
    let author = match (poem["author"].as_str(), collection) {
        (Some(author), _) => author,
        (None, "caocaoshiji") => "曹操",
        (None, _) => "",
    };
    Some(json_row(json!({
        "collection": collection,
        "title": title.trim(),
        "author": author.trim(),
        "text": lines.join("\n"),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poems_of_every_form_are_rows() {
        let poem = |json: &str| row("songci", &serde_json::from_str(json).unwrap());
        let text = poem(r#"{"rhythmic":"甲","paragraphs":["一。"," ","二。"],"author":"乙"}"#).unwrap();
        assert_eq!(
            text,
            "{\"collection\":\"songci\",\"title\":\"甲\",\"author\":\"乙\",\"text\":\"一。\\n二。\"}\n"
        );
        assert!(poem(r#"{"title":"x","content":["y"]}"#).is_some());
        assert!(poem(r#"{"title":"x","paragraphs":[]}"#).is_none());
        assert_eq!(number("songci/ci.song.2000.json"), 2000);
    }
}
