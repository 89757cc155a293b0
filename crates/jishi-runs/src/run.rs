//! The folder of a run: created, found, listed, removed; one process at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jishi_recipe::Problem;

use crate::atomic;
use crate::checkpoint::Checkpoints;
use crate::error::RunError;
use crate::folder;
use crate::fs::{RealFs, remove_tree};
use crate::manifest::RunManifest;

const MANIFEST: &str = "manifest.json";
const LOCK: &str = "run.lock";
/// Hundredths of a second that a lock is tried for.
const PATIENCE: usize = 20;

/// What to do where a run's name is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExisting {
    /// Take `NAME-2`, `NAME-3`, …
    Number,
    /// Empty the folder, where it holds a run that no process uses.
    Overwrite,
    /// Refuse.
    Refuse,
    /// Take the folder where no run is in it yet: its name was kept for this run.
    Fill,
}

/// A run's folder. A lock taken by [`RunDir::create`] or [`RunDir::lock`] lasts as long as the value.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    lock: Option<File>,
}

impl RunDir {
    /// Creates and locks the folder `root/name`.
    ///
    /// # Errors
    /// A [`Problem`] where the name is not letters, digits, `-`, `_` and `.`, or is taken and may not be;
    /// [`RunError::Locked`] where another process uses the run to overwrite; the system's errors.
    pub fn create(root: &Path, name: &str, existing: OnExisting) -> Result<Self, RunError> {
        check_name(name)?;
        fs::create_dir_all(root).map_err(|e| RunError::io(root, e))?;
        let mut number = 1;
        loop {
            let path = root.join(if number == 1 { name.to_string() } else { format!("{name}-{number}") });
            // `create_dir` decides: of two processes that ask at once, one gets the name.
            match fs::create_dir(&path) {
                Ok(()) => {
                    let mut run = Self { path, lock: None };
                    run.lock()?;
                    return Ok(run);
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => match existing {
                    OnExisting::Number => number += 1,
                    OnExisting::Overwrite => return Self::overwrite(path),
                    OnExisting::Fill if !is_run(&path) => {
                        let mut run = Self { path, lock: None };
                        run.lock()?;
                        return Ok(run);
                    }
                    OnExisting::Refuse | OnExisting::Fill => {
                        return Err(Problem::new("the run's folder is there already")
                            .file(path)
                            .help("choose another name, or go on with `--resume`")
                            .into());
                    }
                },
                Err(e) => return Err(RunError::io(path, e)),
            }
        }
    }

    fn overwrite(path: PathBuf) -> Result<Self, RunError> {
        let empty = folder::names(&path)?.is_empty();
        if !empty && !is_run(&path) {
            return Err(Problem::new(
                "expected a run's folder to overwrite, found one with other things in it",
            )
            .file(path)
            .help("choose another name or folder")
            .into());
        }
        let mut run = Self { path, lock: None };
        run.lock()?;
        // The manifest goes last, so that a folder that was half emptied is still known as a run.
        let mut names = folder::names(&run.path)?;
        names.retain(|n| n != LOCK);
        names.sort_by_key(|n| n == MANIFEST);
        for name in names {
            let path = run.path.join(name);
            remove_tree(&RealFs, &path).map_err(|e| RunError::io(path, e))?;
        }
        Ok(run)
    }

    /// Finds a run: a folder, or the name, or the start of one name alone, under `root`. Does not lock it.
    ///
    /// # Errors
    /// A [`Problem`] that lists the runs meant, or names the nearest, where there is not exactly one.
    pub fn open(root: &Path, spec: &str) -> Result<Self, RunError> {
        let named = root.join(spec);
        if check_name(spec).is_ok() && is_run(&named) {
            return Ok(Self { path: named, lock: None });
        }
        let path = Path::new(spec);
        if is_run(path) {
            return Ok(Self { path: path.to_path_buf(), lock: None });
        }
        if path.is_dir() {
            return Err(Problem::new(format!("expected a run's folder, but there is no {MANIFEST} in it"))
                .file(path)
                .into());
        }
        let names = run_names(root)?;
        let begun: Vec<&String> = names.iter().filter(|n| !spec.is_empty() && n.starts_with(spec)).collect();
        match begun.as_slice() {
            [one] => Ok(Self { path: root.join(one), lock: None }),
            [] => Err(unknown(root, spec, &names).into()),
            many => {
                let list = many.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(", ");
                Err(Problem::new(format!("{spec:?} is the start of {} runs: {list}", many.len()))
                    .help("write more of the name")
                    .into())
            }
        }
    }

    /// The run of exactly this name under `root`, where there is one. Does not lock it.
    #[must_use]
    pub fn named(root: &Path, name: &str) -> Option<Self> {
        let path = root.join(name);
        (check_name(name).is_ok() && is_run(&path)).then_some(Self { path, lock: None })
    }

    /// Takes the run for this process, until the value is dropped.
    ///
    /// # Errors
    /// [`RunError::Locked`] where another process has it.
    pub fn lock(&mut self) -> Result<(), RunError> {
        if self.lock.is_some() {
            return Ok(());
        }
        let path = self.path.join(LOCK);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|e| RunError::io(&path, e))?;
        // Who asks whether the run is in use has it for a moment too.
        let mut lock = file.try_lock();
        for _ in 0..PATIENCE {
            if !matches!(lock, Err(TryLockError::WouldBlock)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
            lock = file.try_lock();
        }
        match lock {
            Ok(()) => {
                // Whom to ask to stop. A disk that is too full for it is no reason not to train.
                let _ = file
                    .set_len(0)
                    .and_then(|()| file.rewind())
                    .and_then(|()| writeln!(file, "{}", std::process::id()));
                self.lock = Some(file);
            }
            Err(TryLockError::WouldBlock) => return Err(RunError::Locked { path: self.path.clone() }),
            Err(TryLockError::Error(e)) => return Err(RunError::io(path, e)),
        }
        Ok(())
    }

    /// Whether some process (this one too) has the run.
    #[must_use]
    pub fn in_use(&self) -> bool {
        // A lock of this process is known without asking; the file is opened anew else.
        self.lock.is_some()
            || File::open(self.path.join(LOCK))
                .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// The process that has the run, where it tells.
    #[must_use]
    pub fn holder(&self) -> Option<u32> {
        if !self.in_use() {
            return None;
        }
        let mut text = String::new();
        File::open(self.path.join(LOCK)).ok()?.take(20).read_to_string(&mut text).ok()?;
        text.trim().parse().ok()
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder's name.
    #[must_use]
    pub fn name(&self) -> String {
        let full = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        full.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// A path in the folder.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// `metrics.jsonl`.
    #[must_use]
    pub fn metrics(&self) -> PathBuf {
        self.file("metrics.jsonl")
    }

    /// `tensorboard/`.
    #[must_use]
    pub fn tensorboard(&self) -> PathBuf {
        self.file("tensorboard")
    }

    /// `model/`, the model package.
    #[must_use]
    pub fn model(&self) -> PathBuf {
        self.file("model")
    }

    /// `checkpoints/`, of which the last `keep` stay.
    #[must_use]
    pub fn checkpoints(&self, keep: usize) -> Checkpoints {
        Checkpoints::new(self.file("checkpoints"), keep)
    }

    /// Writes a file atomically; folders on the way are made (`plots/roc.svg`).
    ///
    /// # Errors
    /// As [`atomic::write`].
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), RunError> {
        let path = self.file(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|e| RunError::io(parent, e))?;
        }
        atomic::write(&RealFs, &path, bytes)
    }

    /// Removes the files that a killed process was writing. The run must be locked: nobody else writes.
    ///
    /// # Errors
    /// The system's.
    pub fn sweep(&self) -> Result<(), RunError> {
        for dir in [self.path.clone(), self.file("plots")] {
            for name in folder::names(&dir)? {
                let temporary = matches!(crate::fs::sibling_parts(&name), Some((_, "tmp")));
                if temporary && dir.join(&name).is_file() {
                    let path = dir.join(name);
                    fs::remove_file(&path).map_err(|e| RunError::io(path, e))?;
                }
            }
        }
        Ok(())
    }

    /// Reads the manifest.
    ///
    /// # Errors
    /// As [`RunManifest::read`].
    pub fn manifest(&self) -> Result<RunManifest, RunError> {
        RunManifest::read(&self.file(MANIFEST))
    }

    /// Writes the manifest atomically.
    ///
    /// # Errors
    /// As [`atomic::write`].
    pub fn write_manifest(&self, manifest: &RunManifest) -> Result<(), RunError> {
        manifest.write(&RealFs, &self.file(MANIFEST))
    }

    /// Removes the run and everything in its folder.
    ///
    /// # Errors
    /// [`RunError::Locked`] where a process uses it; a [`Problem`] where it is no run; the system's errors.
    pub fn remove(mut self) -> Result<(), RunError> {
        if !is_run(&self.path) {
            return Err(Problem::new("expected a run's folder to remove").file(&self.path).into());
        }
        self.lock()?;
        folder::retire(&RealFs, &self.path)
    }
}

/// A run in a list.
#[derive(Debug)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub path: PathBuf,
    /// Whether a process works on it.
    pub in_use: bool,
    /// Its manifest, or why that can't be read.
    pub manifest: Result<RunManifest, RunError>,
}

/// The runs under `root`, oldest first; those with an unreadable manifest come last.
///
/// # Errors
/// The system's, where the folder can't be read. A folder that is not there holds no runs.
pub fn list(root: &Path) -> Result<Vec<Listed>, RunError> {
    let mut runs: Vec<Listed> = run_names(root)?
        .into_iter()
        .map(|name| {
            let run = RunDir { path: root.join(&name), lock: None };
            Listed { manifest: run.manifest(), in_use: run.in_use(), path: run.path, name }
        })
        .collect();
    runs.sort_by_key(|run| {
        let created = run.manifest.as_ref().ok().map(|m| m.created.clone());
        (created.is_none(), created, run.name.clone())
    });
    Ok(runs)
}

fn is_run(path: &Path) -> bool {
    path.join(MANIFEST).is_file() || path.join(LOCK).is_file()
}

fn run_names(root: &Path) -> Result<Vec<String>, RunError> {
    let mut names = folder::names(root)?;
    names.retain(|name| {
        check_name(name).is_ok() && crate::fs::sibling_parts(name).is_none() && is_run(&root.join(name))
    });
    Ok(names)
}

/// Whether a run can have this name.
///
/// # Errors
/// A name that is not letters, digits, `-`, `_` and `.`.
pub fn check_name(name: &str) -> Result<(), Problem> {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if name.is_empty() || name.len() > 200 || !plain || name.starts_with('.') || name.starts_with('-') {
        return Err(Problem::new(format!(
            "expected a run name of letters, digits, `-`, `_` and `.`, found {name:?}"
        )));
    }
    Ok(())
}

fn unknown(root: &Path, spec: &str, names: &[String]) -> Problem {
    let problem = Problem::new(format!("there is no run {spec:?} in {}", root.display()));
    if names.is_empty() {
        return problem.help("train one with `jishi train RECIPE`");
    }
    let nearest = names
        .iter()
        .map(|name| (strsim::damerau_levenshtein(name, spec), name))
        .filter(|(distance, name)| *distance <= 2.max(name.len() / 3))
        .min();
    match nearest {
        Some((_, name)) => problem.help(format!("did you mean {name:?}?")),
        None => {
            let more = if names.len() > 10 { ", …" } else { "" };
            let some = names.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
            problem.help(format!("there are: {some}{more}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn make(root: &Path, name: &str) -> RunDir {
        let run = RunDir::create(root, name, OnExisting::Number).unwrap();
        let manifest = RunManifest::begin(&run.name(), "0.1.0", json!({"task": "regression"}), 1);
        run.write_manifest(&manifest).unwrap();
        run
    }

    fn message(result: Result<RunDir, RunError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn names_are_numbered() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().join("runs");
        assert_eq!(make(&root, "a").name(), "a");
        assert_eq!(make(&root, "a").name(), "a-2");
        assert_eq!(make(&root, "a").name(), "a-3");
        assert!(message(RunDir::create(&root, "a", OnExisting::Refuse)).contains("--resume"));
        let listed = list(&root).unwrap();
        assert_eq!(listed.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["a", "a-2", "a-3"]);
        for bad in ["", "..", "a/b", ".hidden", "-x", "a b", "房"] {
            assert!(RunDir::create(&root, bad, OnExisting::Number).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_name_that_was_kept_is_filled_once() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("kept")).unwrap();
        crate::atomic::write_real(&root.path().join("kept/train.log"), b"hello").unwrap();
        assert!(RunDir::named(root.path(), "kept").is_none());
        let run = RunDir::create(root.path(), "kept", OnExisting::Fill).unwrap();
        assert!(run.file("train.log").exists());
        assert_eq!(RunDir::named(root.path(), "kept").unwrap().name(), "kept");
        drop(run);
        assert!(RunDir::create(root.path(), "kept", OnExisting::Fill).is_err());
        assert!(
            RunDir::named(root.path(), "ke").is_none() && RunDir::named(root.path(), "../kept").is_none()
        );
    }

    #[test]
    fn one_process_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let run = make(root.path(), "a");
        let mut again = RunDir::open(root.path(), "a").unwrap();
        assert!(again.in_use());
        assert!(matches!(again.lock(), Err(RunError::Locked { .. })));
        let overwritten = RunDir::create(root.path(), "a", OnExisting::Overwrite);
        assert!(matches!(overwritten, Err(RunError::Locked { .. })));
        assert!(matches!(RunDir::open(root.path(), "a").unwrap().remove(), Err(RunError::Locked { .. })));
        assert!(run.file(MANIFEST).exists());
        assert_eq!(again.holder(), Some(std::process::id()));
        drop(run);
        assert!(!again.in_use());
        assert_eq!(again.holder(), None);
        again.lock().unwrap();
        assert!(again.in_use());
    }

    #[test]
    fn runs_are_found_by_name_start_and_path() {
        let root = tempfile::tempdir().unwrap();
        for name in ["house-prices", "house-prices-linear", "breast-cancer"] {
            make(root.path(), name);
        }
        let open = |spec: &str| RunDir::open(root.path(), spec);
        assert_eq!(open("house-prices").unwrap().name(), "house-prices");
        assert_eq!(open("br").unwrap().name(), "breast-cancer");
        let path = root.path().join("breast-cancer");
        assert_eq!(open(path.to_str().unwrap()).unwrap().name(), "breast-cancer");
        assert!(message(open("house")).contains("house-prices, house-prices-linear"));
        assert!(message(open("brest-cancer")).contains("did you mean \"breast-cancer\""));
        assert!(message(open("xyz")).contains("there are: breast-cancer"));
        assert!(message(open(root.path().to_str().unwrap())).contains("no manifest.json"));
        let empty = tempfile::tempdir().unwrap();
        assert!(message(RunDir::open(empty.path(), "a")).contains("jishi train"));
        assert!(message(RunDir::open(&empty.path().join("none"), "")).contains("no run"));
    }

    #[test]
    fn overwriting_and_removing_touch_runs_alone() {
        let root = tempfile::tempdir().unwrap();
        let run = make(root.path(), "a");
        run.write("plots/x.svg", b"x").unwrap();
        drop(run);
        let run = RunDir::create(root.path(), "a", OnExisting::Overwrite).unwrap();
        assert_eq!(folder::names(run.path()).unwrap(), [LOCK]);
        run.remove().unwrap();
        assert!(folder::names(root.path()).unwrap().is_empty());

        let other = root.path().join("photos");
        fs::create_dir(&other).unwrap();
        atomic::write_real(&other.join("cat.jpg"), b"x").unwrap();
        assert!(
            message(RunDir::create(root.path(), "photos", OnExisting::Overwrite)).contains("other things")
        );
        assert!(RunDir { path: other.clone(), lock: None }.remove().is_err());
        assert!(other.join("cat.jpg").exists());
    }

    #[test]
    fn a_damaged_run_is_listed_too() {
        let root = tempfile::tempdir().unwrap();
        let run = make(root.path(), "b");
        atomic::write_real(&run.file(MANIFEST), b"{").unwrap();
        make(root.path(), "c");
        let listed = list(root.path()).unwrap();
        assert_eq!(listed[0].name, "c");
        assert!(listed[1].manifest.is_err());
    }
}
