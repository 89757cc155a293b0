//! Tables of texts.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::super::archive::{read_member, walk, walk_tar_gz};
use super::super::text::{csv_row, decode, json_row, unescape};
use super::{missing, save};
use crate::error::HubError;

/// Writes `FILE.csv` with text, label and score. The label is the score's sign; the few texts whose score is 0 have
/// none and are left out.
pub(super) fn ratings(archive: &Path, file: &str, out: &Path) -> Result<usize, HubError> {
    let mut found = None;
    walk(archive, &mut |name, content| {
        if !name.ends_with("/hutto_ICWSM_2014.tar.gz") {
            return Ok(());
        }
        walk_tar_gz(content, archive, &mut |name, content| {
            if name.ends_with(&format!("/{file}")) {
                found = Some(decode(read_member(content, name)?));
            }
            Ok(())
        })
    })?;
    let table = found.ok_or_else(|| missing(archive, file))?;
    let mut text = csv_row(&["text", "label", "score"]);
    let mut rows = 0;
    for line in table.lines() {
        let mut fields = line.splitn(3, '\t').skip(1);
        let (Some(score), Some(words)) = (fields.next(), fields.next()) else { continue };
        let label = match score.parse::<f64>() {
            Ok(x) if x > 0.0 => "positive",
            Ok(x) if x < 0.0 => "negative",
            _ => continue,
        };
        text += &csv_row(&[unescape(words).trim(), label, score]);
        rows += 1;
    }
    let name = file.split('_').next().unwrap_or(file);
    save(archive, &out.join(format!("{name}.csv")), &text)?;
    Ok(rows)
}

/// Writes `sentiment-zh.csv` with text and label.
pub(super) fn sentiment_zh(archive: &Path, out: &Path) -> Result<usize, HubError> {
    let mut found = BTreeMap::new();
    walk(archive, &mut |name, content| {
        for (end, label) in [("/sentiment/pos.txt", "positive"), ("/sentiment/neg.txt", "negative")] {
            if name.ends_with(end) {
                found.insert(label, decode(read_member(content, name)?));
            }
        }
        Ok(())
    })?;
    let mut text = csv_row(&["text", "label"]);
    let mut rows = 0;
    for (label, lines) in &found {
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            text += &csv_row(&[line, label]);
            rows += 1;
        }
    }
    if found.len() < 2 {
        return Err(missing(archive, "sentiment/pos.txt and neg.txt"));
    }
    save(archive, &out.join("sentiment-zh.csv"), &text)?;
    Ok(rows)
}

/// Writes `bbc-news.jsonl` with label, title and text.
pub(super) fn bbc_news(archive: &Path, out: &Path) -> Result<usize, HubError> {
    let mut articles = BTreeMap::new();
    walk(archive, &mut |name, content| {
        let place = name.split_once("/bbcnews/data/").filter(|_| name.ends_with(".txt"));
        if let Some((label, number)) = place.and_then(|(_, rest)| rest.split_once('/')) {
            let article = decode(read_member(content, name)?);
            let (title, body) = article.split_once('\n').unwrap_or(("", &article));
            let row = json!({"label": label, "title": title.trim(), "text": body.trim()});
            articles.insert((label.to_string(), number.to_string()), json_row(row));
        }
        Ok(())
    })?;
    let text: String = articles.values().map(String::as_str).collect();
    save(archive, &out.join("bbc-news.jsonl"), &text)?;
    Ok(articles.len())
}

/// Writes `sotu.jsonl` with year, name, party and text.
pub(super) fn sotu(archive: &Path, out: &Path) -> Result<usize, HubError> {
    let addresses = json_members(archive, "/data/")?;
    let rows: Vec<String> = addresses
        .into_values()
        .filter(|row| row["year"].is_u64() && row["text"].is_string())
        .map(json_row)
        .collect();
    save(archive, &out.join("sotu.jsonl"), &rows.concat())?;
    Ok(rows.len())
}

/// Writes `moby-dick.txt`: the chapters in their order.
pub(super) fn moby_dick(archive: &Path, out: &Path) -> Result<(), HubError> {
    let mut chapters = BTreeMap::new();
    walk(archive, &mut |name, content| {
        let Some((_, file)) = name.split_once("/data/") else { return Ok(()) };
        let place = match file.trim_end_matches(".txt") {
            "etymology" => 0,
            "extracts" => 1,
            "epilogue" => usize::MAX,
            other => match other.strip_prefix("chapter_").and_then(|n| n.parse::<usize>().ok()) {
                Some(number) => number.saturating_add(1),
                None => return Ok(()),
            },
        };
        if file.ends_with(".txt") {
            chapters.insert(place, decode(read_member(content, name)?));
        }
        Ok(())
    })?;
    let text: String = chapters.values().map(|chapter| format!("{}\n\n", chapter.trim())).collect();
    save(archive, &out.join("moby-dick.txt"), &text)
}

/// JSON files of a folder of an archive, by name. What is no JSON is left out.
fn json_members(archive: &Path, folder: &str) -> Result<BTreeMap<String, Value>, HubError> {
    let mut found = BTreeMap::new();
    walk(archive, &mut |name, content| {
        if name.contains(folder)
            && name.ends_with(".json")
            && let Ok(value) = serde_json::from_slice(&read_member(content, name)?)
        {
            found.insert(name.to_string(), value);
        }
        Ok(())
    })?;
    Ok(found)
}
