//! Which files a recipe of text names.

use std::path::{Path, PathBuf};

use jishi_recipe::{Problem, Problems};

use crate::source::{Source, resolve_names};

/// [`crate::resolve_names`] for text: a folder stands for all files in it and below it, sorted, hidden ones left out.
///
/// # Errors
/// As [`crate::resolve_names`]; a folder without files.
pub fn resolve_text(names: &[&str], base: &Path) -> Result<Vec<Source>, Problems> {
    let mut sources = Vec::new();
    let mut problems = Vec::new();
    for name in names {
        let path = base.join(name);
        if !path.is_dir() {
            match resolve_names(&[name], base) {
                Ok(found) => sources.extend(found),
                Err(Problems(found)) => problems.extend(found),
            }
            continue;
        }
        let mut files = Vec::new();
        match files_below(&path, &mut files, 0) {
            Ok(()) if files.is_empty() => {
                problems.push(Problem::new("this folder holds no files").file(&path))
            }
            Ok(()) => {
                files.sort();
                sources.extend(files.into_iter().map(Source::File));
            }
            Err(error) => problems.push(Problem::new(format!("can't read this folder: {error}")).file(&path)),
        }
    }
    if names.is_empty() {
        problems.push(Problem::new("`source` is an empty list").help("name at least one file"));
    }
    Problems(problems).into_result().map(|()| sources)
}

fn files_below(folder: &Path, files: &mut Vec<PathBuf>, depth: usize) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
        if hidden {
            continue;
        }
        if path.is_file() {
            files.push(path);
        } else if path.is_dir() && depth < 32 {
            files_below(&path, files, depth + 1)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]
    use super::*;

    #[test]
    fn folders_stand_for_their_files() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("b")).unwrap();
        for name in ["z.txt", "a.txt", "b/c.md", ".hidden"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let found = resolve_text(&["."], folder.path()).unwrap();
        let names: Vec<String> =
            found.iter().map(|s| s.path().file_name().unwrap().to_string_lossy().into_owned()).collect();
        assert_eq!(names, ["a.txt", "c.md", "z.txt"]);
        assert!(resolve_text(&["none.txt"], folder.path()).is_err());
    }
}
