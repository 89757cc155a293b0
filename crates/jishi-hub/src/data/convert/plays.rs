//! Shakespeare's plays, in the form of tinyshakespeare: a speaker, a colon, the lines, an empty line.

use std::collections::BTreeMap;
use std::path::Path;

use jishi_runs::folder::hex;
use sha2::{Digest, Sha256};

use super::super::archive::{read_member, walk};
use super::super::text::decode;
use super::{missing, save};
use crate::error::HubError;

/// The plays of tinyshakespeare, in its order. It breaks off in the last one.
const TINY: [&str; 9] = [
    "coriolanus",
    "richard-iii",
    "richard-ii",
    "romeo-and-juliet",
    "henry-vi-part-3",
    "a-winter-s-tale",
    "measure-for-measure",
    "the-taming-of-the-shrew",
    "the-tempest",
];
/// What tinyshakespeare has otherwise: it lost lines that follow a stage direction, and kept a running head.
const PATCH: &str = include_str!("tinyshakespeare.patch");
const TINY_SHA256: &str = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed";

/// Writes each play as `NAME.txt`.
pub(super) fn all(archive: &Path, out: &Path) -> Result<(), HubError> {
    let plays = plays(archive)?;
    for (name, text) in &plays {
        save(archive, &out.join(format!("{name}.txt")), text)?;
    }
    if plays.is_empty() { Err(missing(archive, "plays")) } else { Ok(()) }
}

/// Writes `shakespeare.txt`: tinyshakespeare, byte for byte, so that results can be compared with other people's.
pub(super) fn tiny(archive: &Path, out: &Path) -> Result<(), HubError> {
    let plays = plays(archive)?;
    let mut texts = Vec::new();
    for name in TINY {
        texts.push(plays.get(name).ok_or_else(|| missing(archive, name))?.as_str());
    }
    let text = patched(&texts.join("\n"), PATCH);
    if hex(&Sha256::digest(&text)) != TINY_SHA256 {
        return Err(missing(archive, "text of the plays that tinyshakespeare can be made of"));
    }
    save(archive, &out.join("shakespeare.txt"), &text)
}

/// `text` with some lines replaced: after `@LINE COUNT`, lines that begin with `+` take the place of so many, from 0.
fn patched(text: &str, patch: &str) -> String {
    let lines: Vec<&str> = text.split('\n').collect();
    let mut out = Vec::with_capacity(lines.len());
    let mut next = 0;
    for line in patch.lines() {
        if let Some(new) = line.strip_prefix('+') {
            out.push(new);
            continue;
        }
        let mut numbers = line.trim_start_matches('@').split(' ').filter_map(|n| n.parse::<usize>().ok());
        let (Some(at), Some(count)) = (numbers.next(), numbers.next()) else { continue };
        out.extend(lines.get(next..at).unwrap_or_default());
        next = at + count;
    }
    out.extend(lines.get(next..).unwrap_or_default());
    out.join("\n")
}

/// Speeches of each play, by its name.
fn plays(archive: &Path) -> Result<BTreeMap<String, String>, HubError> {
    let mut plays = BTreeMap::new();
    walk(archive, &mut |name, content| {
        if let Some(file) = name.strip_suffix(".md").filter(|name| name.contains("/plays/")) {
            let play = file.rsplit('/').next().unwrap_or_default();
            // A name becomes a file's.
            if jishi_runs::folder::plain_name(play) {
                plays.insert(play.to_string(), speeches(&decode(read_member(content, name)?)));
            }
        }
        Ok(())
    })?;
    Ok(plays)
}

/// What is said, from Markdown: `**SPEAKER**`, lines that end in two spaces, and `_stage directions_`, also within.
fn speeches(markdown: &str) -> String {
    let mut out = String::new();
    let mut direction = false;
    let mut speaks = false;
    for line in markdown.lines() {
        // A direction ends with its paragraph, whether the text remembers to close it or not.
        direction &= !line.trim().is_empty();
        if let Some(name) = line.trim().strip_prefix("**").and_then(|l| l.strip_suffix("**")) {
            direction = false;
            if !out.is_empty() {
                out.push('\n');
            }
            out += &format!("{}:\n", plain(name));
            speaks = true;
            continue;
        }
        if line.starts_with('#') {
            speaks = false;
            continue;
        }
        let said = without_directions(line, &mut direction);
        if speaks && !said.trim().is_empty() {
            out += &plain(said.trim());
            out.push('\n');
        }
    }
    out
}

/// The parts of a line that are not between underscores. `inside` says whether it begins between them.
fn without_directions(line: &str, inside: &mut bool) -> String {
    let mut out = String::new();
    for (at, part) in line.split('_').enumerate() {
        if at > 0 {
            *inside = !*inside;
        }
        if !*inside {
            out += part;
        }
    }
    out
}

/// Without the backslashes of Markdown.
fn plain(text: &str) -> String {
    text.replace('\\', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeches_lose_stage_directions_and_headings() {
        let play = "# T\n\n## ACT I\n\n_Enter A,\nwith B_\n\n**A**  \nOne, _\\[Aside]_  \ntwo\\--three.\n\n_To B\n\nFour.\n\n### SCENE II\n\n_x_\n\n**B**  \n_\\[Within]_  \nFive.\n";
        assert_eq!(speeches(play), "A:\nOne,\ntwo--three.\nFour.\n\nB:\nFive.\n");
    }

    #[test]
    fn a_patch_replaces_removes_and_adds_lines() {
        let patch = "@0 1\n+A\n@2 2\n@5 0\n+x\n+\n";
        assert_eq!(patched("a\nb\nc\nd\ne\nf\n", patch), "A\nb\ne\nx\n\nf\n");
        assert!(PATCH.lines().all(|line| line.starts_with(['@', '+'])));
        assert!(PATCH.lines().any(|line| line == "+Twice being  "), "an editor has cut spaces off");
    }
}
