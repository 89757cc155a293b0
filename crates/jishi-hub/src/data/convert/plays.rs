//! Shakespeare's plays, in the form of tinyshakespeare: a speaker, a colon, the lines, an empty line.

use std::collections::BTreeMap;
use std::path::Path;

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
/// Where it breaks off.
const LAST_LINE: &str = "Whiles thou art waking.";

/// Writes each play as `NAME.txt`.
pub(super) fn all(archive: &Path, out: &Path) -> Result<(), HubError> {
    let plays = plays(archive)?;
    for (name, text) in &plays {
        save(archive, &out.join(format!("{name}.txt")), text)?;
    }
    if plays.is_empty() { Err(missing(archive, "plays")) } else { Ok(()) }
}

/// Writes `shakespeare.txt`.
pub(super) fn tiny(archive: &Path, out: &Path) -> Result<(), HubError> {
    let plays = plays(archive)?;
    let mut text = String::new();
    for name in TINY {
        if !text.is_empty() {
            text.push('\n');
        }
        text += plays.get(name).ok_or_else(|| missing(archive, name))?;
    }
    if let Some(at) = text.rfind(LAST_LINE) {
        text.truncate(at + LAST_LINE.len());
        text.push('\n');
    }
    save(archive, &out.join("shakespeare.txt"), &text)
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
}
