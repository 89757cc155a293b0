//! Folders of pictures: a folder's name is the class of what is in it and below it, as in torchvision's `ImageFolder`.

use std::path::{Path, PathBuf};

use jishi_recipe::Problem;

use super::decode::{Bad, format_of, named_like_a_picture};
use super::found::{Content, Found};
use crate::text::corpus::Part;
use crate::text::documents::Target;

/// Depth to which folders are searched.
pub(super) const DEPTH: usize = 32;

/// Pictures of a folder, and the folders that they are listed under in the ledger.
#[derive(Debug, Default)]
pub(super) struct Folder {
    pub found: Vec<Found>,
    pub groups: Vec<PathBuf>,
    /// Pictures come in splits.
    pub split: bool,
    /// Class folders without pictures, and folders that can't be read.
    pub problems: Vec<Problem>,
}

/// The split that a name stands for.
pub(super) fn part_of(name: &str) -> Option<Part> {
    match name.to_lowercase().as_str() {
        "train" | "training" => Some(Part::Train),
        "val" | "valid" | "validation" | "dev" => Some(Part::Validation),
        "test" | "testing" => Some(Part::Test),
        _ => None,
    }
}

/// Finds the pictures of a folder. `train/` and `test/` (and `validation/`) in it are splits, and classes are in them;
/// pictures beside class folders have no class. `first` is the number of the first of its groups.
///
/// # Errors
/// The folder itself can't be read.
pub(super) fn read(root: &Path, first: usize) -> Result<Folder, Problem> {
    let mut folder = Folder::default();
    let children = folders_and_files(root)?;
    let parts: Vec<Option<Part>> = children.0.iter().map(|(name, _)| part_of(name)).collect();
    folder.split = parts.contains(&Some(Part::Train)) && parts.iter().all(Option::is_some) && parts.len() > 1;
    if folder.split {
        for ((_, path), part) in children.0.iter().zip(parts) {
            classes(path, root, part, first, &mut folder);
        }
    } else {
        classes(root, root, None, first, &mut folder);
    }
    if folder.problems.is_empty() && folder.found.is_empty() {
        folder.problems.push(Problem::new("this folder holds no pictures").file(root).help(
            "expected a folder for each class with PNG, JPEG, GIF, BMP, WebP, TIFF or PNM files in it, or IDX files",
        ));
    }
    Ok(folder)
}

/// The pictures of class folders in `from`.
fn classes(from: &Path, root: &Path, part: Option<Part>, first: usize, folder: &mut Folder) {
    let (folders, files) = match folders_and_files(from) {
        Ok(children) => children,
        Err(problem) => return folder.problems.push(problem),
    };
    // Notes beside class folders are no rows.
    let beside: Vec<PathBuf> = files.into_iter().map(|(_, path)| path).filter(|p| is_picture(p)).collect();
    if !beside.is_empty() {
        add(from, root, part, None, beside, first, folder);
    }
    for (name, path) in folders {
        let mut files = Vec::new();
        if let Err(problem) = files_below(&path, &mut files, 0) {
            folder.problems.push(problem);
            continue;
        }
        if files.is_empty() {
            folder.problems.push(
                Problem::new(format!("the class folder `{name}` is empty"))
                    .file(&path)
                    .help("put pictures into it, or remove it"),
            );
            continue;
        }
        files.sort();
        add(&path, root, part, Some(name), files, first, folder);
    }
}

fn add(
    group: &Path,
    root: &Path,
    part: Option<Part>,
    class: Option<String>,
    files: Vec<PathBuf>,
    first: usize,
    folder: &mut Folder,
) {
    folder.groups.push(group.to_path_buf());
    let number = first + folder.groups.len() - 1;
    folder.found.extend(files.into_iter().zip(1..).map(|(path, line)| Found {
        path: path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned(),
        target: class.clone().map(Target::Text),
        key: None,
        marks: None,
        part,
        group: number,
        line,
        content: match is_picture(&path) {
            true => Content::File(path),
            false => Content::Bad(Bad::new(OTHER_FILE, "this is no picture")),
        },
    }));
}

/// Why a file that does not claim to be a picture is left out, whatever is to be done with bad rows.
pub(super) const OTHER_FILE: &str = "not a picture, and not named like one";

/// Whether a file is one, or says that it is.
pub(super) fn is_picture(path: &Path) -> bool {
    if path.file_name().is_some_and(|name| named_like_a_picture(&name.to_string_lossy())) {
        return true;
    }
    let mut start = Vec::new();
    let read = std::fs::File::open(path)
        .and_then(|file| std::io::Read::read_to_end(&mut std::io::Read::take(file, 64), &mut start));
    read.is_ok() && format_of(&start).is_some()
}

pub(super) type Named = Vec<(String, PathBuf)>;

/// The folders and files in a folder by name, hidden ones left out.
pub(super) fn folders_and_files(folder: &Path) -> Result<(Named, Named), Problem> {
    let failed = |e: std::io::Error| Problem::new(format!("can't read this folder: {e}")).file(folder);
    let (mut folders, mut files) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') || name == "Thumbs.db" || name == "desktop.ini" {
            continue;
        }
        if path.is_dir() { &mut folders } else { &mut files }.push((name, path));
    }
    folders.sort();
    files.sort();
    Ok((folders, files))
}

fn files_below(folder: &Path, files: &mut Vec<PathBuf>, depth: usize) -> Result<(), Problem> {
    let (folders, own) = folders_and_files(folder)?;
    files.extend(own.into_iter().map(|(_, path)| path));
    if depth == DEPTH && !folders.is_empty() {
        return Err(
            Problem::new(format!("there are more than {DEPTH} folders inside of each other")).file(folder)
        );
    }
    folders.iter().try_for_each(|(_, path)| files_below(path, files, depth + 1))
}
