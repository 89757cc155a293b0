//! What becomes of a package's archives: plain files in a folder.

mod help;
mod plays;
mod poetry;
mod rows;
mod scenes;
mod stamps;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jishi_recipe::Problem;
use jishi_runs::RealFs;
use jishi_runs::atomic::{AtomicFile, write_real};

use super::archive::{read_member, walk};
use crate::error::HubError;

/// How archives become files.
#[derive(Debug, Clone, Copy)]
pub(super) enum Convert {
    /// Members whose names end so, under these names.
    Files(&'static [(&'static str, &'static str)]),
    /// Every file of a folder, which the names of members end with before the file's own.
    Folder(&'static str),
    /// Two languages of LibreOffice's help, and the short name of the second.
    Help(&'static str),
    /// Shakespeare's plays, a file each.
    Plays,
    /// Some of them as one text.
    Shakespeare,
    Poetry,
    /// A table of texts and people's scores, in an archive inside of the archive.
    Ratings(&'static str),
    SentimentZh,
    BbcNews,
    Sotu,
    MobyDick,
    /// Tux Paint's pictures in folders of their categories.
    Stamps,
    /// Scenes of Tux Paint's stamps, with boxes.
    StampScenes,
}

/// Writes the files of `archives` into the folder `out`. The number of rows, where there are rows.
pub(super) fn convert(how: Convert, archives: &[PathBuf], out: &Path) -> Result<Option<usize>, HubError> {
    let [first, rest @ ..] = archives else { return Ok(None) };
    match how {
        Convert::Files(names) => files(first, names, out).map(|()| None),
        Convert::Folder(name) => folder(first, name, out).map(Some),
        Convert::Help(language) => help::pairs(first, rest.first().unwrap_or(first), language, out).map(Some),
        Convert::Plays => plays::all(first, out).map(|()| None),
        Convert::Shakespeare => plays::tiny(first, out).map(|()| None),
        Convert::Poetry => poetry::poems(first, out).map(Some),
        Convert::Ratings(file) => rows::ratings(first, file, out).map(Some),
        Convert::SentimentZh => rows::sentiment_zh(first, out).map(Some),
        Convert::BbcNews => rows::bbc_news(first, out).map(Some),
        Convert::Sotu => rows::sotu(first, out).map(Some),
        Convert::Stamps => stamps::folders(first, out).map(Some),
        Convert::StampScenes => scenes::scenes(first, out).map(Some),
        Convert::MobyDick => rows::moby_dick(first, out).map(|()| None),
    }
}

fn files(archive: &Path, names: &[(&str, &str)], out: &Path) -> Result<(), HubError> {
    let mut found = Vec::new();
    walk(archive, &mut |name, content| {
        let Some((_, to)) = names.iter().find(|(end, _)| name.ends_with(end)) else { return Ok(()) };
        let path = out.join(to);
        let parent = jishi_runs::fs::parent(&path);
        fs::create_dir_all(parent).map_err(|e| HubError::io(parent, e))?;
        let mut file = AtomicFile::create(&RealFs, &path)?;
        io::copy(content, &mut file).map_err(|e| HubError::io(&path, e))?;
        file.commit()?;
        found.push(*to);
        Ok(())
    })?;
    match names.iter().find(|(_, to)| !found.contains(to)) {
        None => Ok(()),
        Some((end, _)) => Err(missing(archive, end)),
    }
}

/// Writes the files of a folder, and counts them.
fn folder(archive: &Path, folder: &str, out: &Path) -> Result<usize, HubError> {
    let mut found = 0;
    walk(archive, &mut |name, content| {
        let Some((before, file)) = name.rsplit_once('/') else { return Ok(()) };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !before.ends_with(folder) || file.starts_with('.') || !file.chars().all(plain) {
            return Ok(());
        }
        write_real(&out.join(file), &read_member(content, name)?)?;
        found += 1;
        Ok(())
    })?;
    if found == 0 { Err(missing(archive, folder)) } else { Ok(found) }
}

/// An archive without what it should hold.
fn missing(archive: &Path, what: &str) -> HubError {
    Problem::new(format!("the archive has no {what}")).file(archive).into()
}

/// Writes a file of the result. An empty one means that the archive is not what was expected.
fn save(archive: &Path, path: &Path, text: &str) -> Result<(), HubError> {
    if text.is_empty() {
        return Err(missing(archive, "content of the kind that was expected"));
    }
    Ok(write_real(path, text.as_bytes())?)
}
