//! Where data comes from: what `source = …` in a recipe means, and how it is to be read.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jishi_recipe::{BadRows, ColumnType, Data, Format, Problem, Problems};

use crate::builtin::{Builtin, builtins};

/// One file of input.
#[derive(Debug, Clone)]
pub enum Source {
    /// A file on disk.
    File(PathBuf),
    /// A built-in table (CSV).
    Builtin(&'static Builtin),
    /// Bytes in memory, as if they were the content of a file called `name`.
    Memory {
        /// Name in messages and in the ledger; its ending says the format.
        name: String,
        /// Content of the file.
        bytes: Arc<[u8]>,
    },
}

impl Source {
    /// The name in messages and in the ledger: the path, or `builtin:NAME`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::Builtin(builtin) => format!("builtin:{}", builtin.name).into(),
            Self::Memory { name, .. } => name.into(),
        }
    }
}

/// How sources are read. `default()` is what a recipe that says nothing gets.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadOptions {
    /// File format.
    pub format: Format,
    /// Field separator of CSV files; default `,` (a tab for TSV).
    pub delimiter: Option<u8>,
    /// Field values that mean "missing", besides the empty field. Spaces around a field don't count.
    pub missing_values: Vec<String>,
    /// Column types that override what is inferred. Names that the data lacks are ignored here.
    pub types: BTreeMap<String, ColumnType>,
    /// What to do with rows that can't be read.
    pub bad_rows: BadRows,
    /// Bytes of typed columns above which they go to a file in `cache_dir`.
    pub memory_limit: u64,
    /// Folder of that file (without a name, so that it is gone when the table is, even after a crash);
    /// default: the system's temporary folder.
    pub cache_dir: Option<PathBuf>,
    /// Read only these columns. Names that the data lacks are ignored here.
    pub only: Option<Vec<String>>,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            format: Format::Auto,
            delimiter: None,
            missing_values: ["NA", "N/A", "NaN", "nan", "null", "NULL", "?"].map(String::from).to_vec(),
            types: BTreeMap::new(),
            bad_rows: BadRows::Error,
            memory_limit: 256 << 20,
            cache_dir: None,
            only: None,
        }
    }
}

impl ReadOptions {
    /// What a recipe's `[data]` says about reading.
    ///
    /// # Errors
    /// A delimiter that is not one ASCII character, or that can't separate fields.
    pub fn from_recipe(data: &Data) -> Result<Self, Problems> {
        let delimiter = match data.delimiter.as_deref() {
            None => None,
            Some(text) => match *text.as_bytes() {
                [b] if b.is_ascii() && !matches!(b, b'"' | b'\n' | b'\r') => Some(b),
                _ => {
                    return Err(Problem::new(format!(
                        "`delimiter` must be one ASCII character other than a quote or a line break, not {text:?}"
                    ))
                    .help("for example `delimiter = \";\"`; for tabs, `format = \"tsv\"`")
                    .into());
                }
            },
        };
        Ok(Self {
            format: data.format,
            delimiter,
            missing_values: data.missing_values.clone(),
            types: data.types.clone(),
            bad_rows: data.bad_rows,
            memory_limit: data.memory_limit,
            ..Self::default()
        })
    }
}

/// Finds the files that a recipe's `source` names: paths, globs (sorted) and `builtin:NAME`, in the order given.
/// Relative paths start at `base`.
///
/// # Errors
/// Every name that finds nothing, with the nearest name that would; folders; files that may not be read.
pub fn resolve(data: &Data, base: &Path) -> Result<Vec<Source>, Problems> {
    let names: Vec<&str> = data.source.as_slice().iter().map(String::as_str).collect();
    resolve_names(&names, base)
}

/// [`resolve`] for names that come from elsewhere, such as `--input`.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_names(names: &[&str], base: &Path) -> Result<Vec<Source>, Problems> {
    let mut sources = Vec::new();
    let mut problems = Vec::new();
    if names.is_empty() {
        problems.push(Problem::new("`source` is an empty list").help("name at least one file"));
    }
    for name in names {
        match resolve_one(name, base) {
            Ok(found) => sources.extend(found),
            Err(problem) => problems.push(problem),
        }
    }
    Problems(problems).into_result().map(|()| sources)
}

fn resolve_one(name: &str, base: &Path) -> Result<Vec<Source>, Problem> {
    if let Some(builtin) = name.strip_prefix("builtin:") {
        return builtins().iter().find(|b| b.name == builtin).map(|b| vec![Source::Builtin(b)]).ok_or_else(
            || {
                let names = builtins().iter().map(|b| b.name);
                let known: Vec<_> = names.clone().map(|n| format!("`builtin:{n}`")).collect();
                let problem = Problem::new(format!("there is no built-in data called `{builtin}`"));
                match nearest(builtin, names.map(String::from)) {
                    Some(near) => problem.help(format!("did you mean `builtin:{near}`?")),
                    None => problem.help(format!("there are {}", known.join(", "))),
                }
            },
        );
    }
    let path = base.join(name);
    let is_glob = name.contains(['*', '?', '[']) && !path.exists();
    if !is_glob {
        check_file(&path).map_err(|p| started_at(p, base))?;
        return Ok(vec![Source::File(path)]);
    }
    // The base is a folder, not a pattern.
    let pattern = match Path::new(name).is_absolute() {
        true => name.to_string(),
        false => Path::new(&glob::Pattern::escape(&base.to_string_lossy()))
            .join(name)
            .to_string_lossy()
            .into_owned(),
    };
    let found = glob::glob(&pattern).map_err(|e| {
        Problem::new(format!("`{name}` is not a valid pattern: {}", e.msg))
            .help("`*` stands for any part of a name, `**` for any folders")
    })?;
    let mut files: Vec<PathBuf> = found.filter_map(Result::ok).filter(|p| p.is_file()).collect();
    files.sort();
    if files.is_empty() {
        let problem = Problem::new(format!("no file matches `{}`", path.display()));
        return Err(match nearest_file(&path) {
            Some(near) => problem.help(format!("the nearest name there is `{near}`")),
            None => started_at(problem.help("check the path"), base),
        });
    }
    for file in &files {
        check_file(file)?;
    }
    Ok(files.into_iter().map(Source::File).collect())
}

/// Says what the path is relative to, where that is not the folder that the user is in.
fn started_at(problem: Problem, base: &Path) -> Problem {
    let plain = problem.help.as_deref() == Some("check the path") && !base.as_os_str().is_empty();
    if !plain {
        return problem;
    }
    problem.help(format!("check the path; relative paths start at the recipe's folder, `{}`", base.display()))
}

/// Whether `path` is a file that can be opened.
fn check_file(path: &Path) -> Result<(), Problem> {
    match std::fs::File::open(path).and_then(|f| f.metadata()) {
        Ok(meta) if meta.is_dir() => Err(is_folder(path)),
        Ok(_) => Ok(()),
        Err(error) => Err(cannot_open(path, &error)),
    }
}

/// The problem of a folder where a file is expected.
pub(crate) fn is_folder(path: &Path) -> Problem {
    Problem::new("expected a file, found a folder")
        .file(path)
        .help(format!("to read all files in it, write `{}`", path.join("*.csv").display()))
}

/// The problem of a file that can't be opened.
pub(crate) fn cannot_open(path: &Path, error: &io::Error) -> Problem {
    match error.kind() {
        io::ErrorKind::NotFound => {
            let problem = Problem::new("no such file").file(path);
            match nearest_file(path) {
                Some(near) => problem.help(format!("did you mean `{near}`?")),
                None => problem.help("check the path"),
            }
        }
        io::ErrorKind::PermissionDenied => Problem::new("no permission to read this file")
            .file(path)
            .help("ask for read permission (`chmod +r`), or run as its owner"),
        _ => Problem::new(format!("can't open this file: {error}")).file(path).help("check the path"),
    }
}

/// The name in the folder of `path` (or, where that is missing, the folder) that is nearest to what was asked for.
fn nearest_file(path: &Path) -> Option<String> {
    let mut path = path;
    loop {
        let folder = match path.parent()? {
            p if p.as_os_str().is_empty() => Path::new("."),
            p => p,
        };
        if let Ok(entries) = std::fs::read_dir(folder) {
            let names =
                entries.filter_map(Result::ok).take(10_000).filter_map(|e| e.file_name().into_string().ok());
            let near = nearest(path.file_name()?.to_str()?, names)?;
            return Some(match path.parent()? {
                p if p.as_os_str().is_empty() => near,
                p => p.join(near).display().to_string(),
            });
        }
        path = folder;
    }
}

/// The name nearest to `wanted`, if any is near enough to be what was meant.
pub(crate) fn nearest(wanted: &str, names: impl Iterator<Item = String>) -> Option<String> {
    let lower = wanted.to_lowercase();
    names
        .map(|n| (strsim::damerau_levenshtein(&lower, &n.to_lowercase()), n))
        .filter(|(distance, n)| *distance <= (wanted.len().max(n.len()) / 3).max(1))
        .min()
        .map(|(_, n)| n)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]
    use super::*;

    #[test]
    fn defaults_are_those_of_the_recipe() {
        let data: Data = serde_json::from_str(r#"{"source": "a.csv", "target": "y"}"#).unwrap();
        assert_eq!(ReadOptions::from_recipe(&data).unwrap(), ReadOptions::default());
    }

    #[test]
    fn delimiters() {
        let with = |d: &str| {
            let data = serde_json::json!({"source": "a.csv", "target": "y", "delimiter": d});
            ReadOptions::from_recipe(&serde_json::from_value(data).unwrap())
        };
        assert_eq!(with(";").unwrap().delimiter, Some(b';'));
        for bad in ["", ";;", "é", "\"", "\n"] {
            assert!(with(bad).unwrap_err().0[0].message.contains("`delimiter`"), "{bad:?}");
        }
    }

    #[test]
    fn names_are_found_or_the_nearest_is_named() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.csv", "a.csv", "houses.csv"] {
            std::fs::write(dir.path().join(name), "x\n1\n").unwrap();
        }
        let paths = |names: &[&str]| -> Vec<String> {
            let sources = resolve_names(names, dir.path()).unwrap();
            sources.iter().map(|s| s.path().file_name().unwrap().to_str().unwrap().to_string()).collect()
        };
        assert_eq!(paths(&["?.csv", "builtin:ames"]), ["a.csv", "b.csv", "builtin:ames"]);
        let problems = resolve_names(&["hoses.csv", "h*.tsv", "builtin:ame", "."], dir.path()).unwrap_err().0;
        let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert!(text[0].contains("no such file") && text[0].contains("houses.csv`?"), "{}", text[0]);
        assert!(text[1].contains("no file matches"), "{}", text[1]);
        assert!(text[2].contains("did you mean `builtin:ames`?"), "{}", text[2]);
        assert!(text[3].contains("found a folder"), "{}", text[3]);
    }
}
