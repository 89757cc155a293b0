//! LibreOffice's help in two languages: paragraphs of the same page with the same `id` belong together.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde_json::json;

use super::super::archive::{read_member, walk};
use super::super::text::{decode, json_row, strip_tags};
use super::save;
use crate::error::HubError;

/// Page and id of a paragraph.
type Place = (String, String);

/// Writes `help-en-LANGUAGE.jsonl`. Pairs that are equal in both languages (names, formulas) are left out, as are all
/// but the first of equal pairs, so that no pair is both learned and tested.
pub(super) fn pairs(english: &Path, other: &Path, language: &str, out: &Path) -> Result<usize, HubError> {
    let other_texts = paragraphs(other)?;
    let mut seen = HashSet::new();
    let mut text = String::new();
    for (place, en) in paragraphs(english)? {
        let Some(translated) = other_texts.get(&place) else { continue };
        if en.is_empty() || translated.is_empty() || en == *translated {
            continue;
        }
        let row = json_row(json!({"en": en, language: translated}));
        if seen.insert(row.clone()) {
            text += &row;
        }
    }
    save(english, &out.join(format!("help-en-{language}.jsonl")), &text)?;
    Ok(seen.len())
}

fn paragraphs(archive: &Path) -> Result<BTreeMap<Place, String>, HubError> {
    let mut found = BTreeMap::new();
    walk(archive, &mut |name, content| {
        if let Some((_, page)) = name.split_once("/text/").filter(|_| name.ends_with(".html")) {
            let html = decode(read_member(content, name)?);
            for (id, text) in of_page(&html) {
                found.entry((page.to_string(), id.to_string())).or_insert(text);
            }
        }
        Ok(())
    })?;
    Ok(found)
}

fn of_page(html: &str) -> impl Iterator<Item = (&str, String)> {
    html.split("<p id=\"par_id").skip(1).filter_map(|rest| {
        let (id, rest) = rest.split_once('"')?;
        let (_, rest) = rest.split_once('>')?;
        let (inner, _) = rest.split_once("</p>")?;
        Some((id, strip_tags(inner)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_are_found_by_id() {
        let page =
            r#"<p id="par_id1" class="x">One <b>two</b>.</p><h1 id="par_id2">no</h1><p id="par_id3">3"#;
        assert_eq!(of_page(page).collect::<Vec<_>>(), [("1", "One two.".to_string())]);
    }
}
