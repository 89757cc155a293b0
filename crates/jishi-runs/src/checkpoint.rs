//! Checkpoints that are never torn: the last good one stays on disk until a newer one is whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jishi_recipe::Problem;
use serde::{Deserialize, Serialize};

use crate::error::RunError;
use crate::folder::{self, FileEntry};
use crate::fs::{Fs, RealFs, sibling_parts};

const MANIFEST: &str = "manifest.json";
const FORMAT: &str = "jishi-checkpoint";
const VERSION: u32 = 1;
const MAX_MANIFEST: u64 = 16 << 20;

/// The list of a checkpoint's files, written last.
#[derive(Debug, Serialize, Deserialize)]
struct CheckpointManifest {
    format: String,
    version: u32,
    step: u64,
    files: BTreeMap<String, FileEntry>,
}

/// The folder that holds a run's checkpoints.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    dir: PathBuf,
    keep: usize,
    fs: Arc<dyn Fs>,
}

/// A checkpoint whose every byte was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Optimiser steps done when it was written.
    pub step: u64,
    /// Its folder.
    pub path: PathBuf,
    /// Its files by name.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// What a search for a checkpoint found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scan {
    /// The newest good one.
    pub good: Option<Loaded>,
    /// Newer ones that were skipped, and what is wrong with each.
    pub torn: Vec<Problem>,
}

impl Checkpoints {
    /// Checkpoints in `dir`, of which the last `keep` (at least one) stay.
    pub fn new(dir: impl Into<PathBuf>, keep: usize) -> Self {
        Self::with_fs(dir, keep, Arc::new(RealFs))
    }

    /// As [`Checkpoints::new`], on another file system.
    pub fn with_fs(dir: impl Into<PathBuf>, keep: usize, fs: Arc<dyn Fs>) -> Self {
        Self { dir: dir.into(), keep: keep.max(1), fs }
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes the checkpoint of `step` and removes those that are no longer kept.
    ///
    /// # Arguments
    /// - `files`: plain names and contents. `manifest.json` is taken.
    ///
    /// # Errors
    /// [`RunError::NoSpace`] before anything is written where the disk is too small, else the
    /// system's errors. [`Checkpoints::latest_good`] then finds the previous checkpoint, or this one.
    pub fn save(&self, step: u64, files: &[(&str, &[u8])]) -> Result<PathBuf, RunError> {
        let path = self.dir.join(step_name(step));
        self.publish(&path, step, files)?;
        self.prune(step)?;
        Ok(path)
    }

    /// Writes a checkpoint under a name of its own, such as `best`, in the place of the one before.
    ///
    /// # Errors
    /// As [`Checkpoints::save`]; [`Checkpoints::named`] then finds the one before, or this one.
    pub fn save_named(&self, name: &str, step: u64, files: &[(&str, &[u8])]) -> Result<PathBuf, RunError> {
        let path = self.dir.join(name);
        self.publish(&path, step, files)?;
        folder::sweep(&*self.fs, &self.dir)?;
        Ok(path)
    }

    /// The newest checkpoint that is whole, and what is wrong with newer ones.
    ///
    /// # Errors
    /// The system's, where the folder can't be read. Torn checkpoints are no error.
    pub fn latest_good(&self) -> Result<Scan, RunError> {
        let mut steps: Vec<u64> = folder::names(&self.dir)?
            .iter()
            .filter_map(|name| match sibling_parts(name) {
                Some((base, "old")) => step_of(base),
                _ => step_of(name),
            })
            .collect();
        steps.sort_unstable();
        steps.dedup();
        let mut scan = Scan::default();
        for step in steps.into_iter().rev() {
            self.try_load(&self.dir.join(step_name(step)), &mut scan)?;
            if scan.good.is_some() {
                break;
            }
        }
        Ok(scan)
    }

    /// The checkpoint written by [`Checkpoints::save_named`].
    ///
    /// # Errors
    /// As [`Checkpoints::latest_good`].
    pub fn named(&self, name: &str) -> Result<Scan, RunError> {
        let mut scan = Scan::default();
        self.try_load(&self.dir.join(name), &mut scan)?;
        Ok(scan)
    }

    fn publish(&self, path: &Path, step: u64, files: &[(&str, &[u8])]) -> Result<(), RunError> {
        self.create_dir()?;
        let entries = files.iter().map(|(name, bytes)| ((*name).to_string(), FileEntry::of(bytes))).collect();
        let manifest = CheckpointManifest { format: FORMAT.into(), version: VERSION, step, files: entries };
        let manifest = serde_json::to_vec_pretty(&manifest).map_err(|e| RunError::io(path, e.into()))?;
        let mut all = files.to_vec();
        all.push((MANIFEST, &manifest));
        folder::publish(&*self.fs, path, &all)
    }

    fn create_dir(&self) -> Result<(), RunError> {
        if self.dir.is_dir() {
            return Ok(());
        }
        self.fs
            .create_dir(&self.dir)
            .and_then(|()| self.fs.sync_dir(crate::fs::parent(&self.dir)))
            .map_err(|e| RunError::io(&self.dir, e))
    }

    /// Removes all but the newest `keep` checkpoints. `newest` was just written whole and stays.
    fn prune(&self, newest: u64) -> Result<(), RunError> {
        let mut steps: Vec<u64> = folder::names(&self.dir)?.iter().filter_map(|n| step_of(n)).collect();
        // One that is ahead of the newest was written before the run went back to an earlier step
        // (its successor was torn); left there, it would be taken for the latest.
        steps.sort_unstable_by_key(|step| (*step > newest, std::cmp::Reverse(*step)));
        let kept = steps.iter().position(|step| *step > newest).unwrap_or(steps.len()).min(self.keep);
        for step in steps.drain(kept..) {
            folder::retire(&*self.fs, &self.dir.join(step_name(step)))?;
        }
        folder::sweep(&*self.fs, &self.dir)?;
        // An old folder whose place is free was being removed, or steps aside for one that is not whole; since
        // `newest` is whole, neither is needed.
        for name in folder::names(&self.dir)? {
            if let Some((base, "old")) = sibling_parts(&name)
                && step_of(base).is_some()
            {
                let path = self.dir.join(&name);
                crate::fs::remove_tree(&*self.fs, &path).map_err(|e| RunError::io(path, e))?;
            }
        }
        Ok(())
    }

    fn try_load(&self, path: &Path, scan: &mut Scan) -> Result<(), RunError> {
        for candidate in folder::candidates(path)? {
            match load(&candidate) {
                Ok(loaded) => {
                    scan.good = Some(loaded);
                    return Ok(());
                }
                // What is wrong with a folder that was on its way out is no news.
                Err(RunError::Bad(_)) if candidate != path => {}
                Err(RunError::Bad(problems)) => scan.torn.extend(problems.0),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn load(path: &Path) -> Result<Loaded, RunError> {
    let file = path.join(MANIFEST);
    let manifest: CheckpointManifest =
        folder::parse_json(&file, &folder::read_limited(&file, MAX_MANIFEST)?)?;
    if manifest.format != FORMAT || manifest.version != VERSION {
        let message = format!(
            "expected {FORMAT:?} version {VERSION}, found {:?} version {}",
            manifest.format, manifest.version
        );
        return Err(Problem::new(message).file(file).into());
    }
    let files = folder::read_verified(path, &manifest.files)?;
    Ok(Loaded { step: manifest.step, path: path.to_path_buf(), files })
}

fn step_name(step: u64) -> String {
    format!("step-{step:012}")
}

fn step_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("step-")?;
    let plain = digits.len() >= 12 && digits.bytes().all(|b| b.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Fault, FaultFs};
    use std::fs;

    fn content(step: u64) -> Vec<u8> {
        (0..50_000u64).map(|i| (i * 31 + step) as u8).collect()
    }

    fn save(checkpoints: &Checkpoints, step: u64) -> Result<PathBuf, RunError> {
        checkpoints.save(step, &[("weights", &content(step)), ("state.json", step.to_string().as_bytes())])
    }

    /// On a file system that skips the real fsync: what these tests count on is modelled by [`FaultFs`].
    fn quick(dir: &Path, keep: usize) -> Checkpoints {
        Checkpoints::with_fs(dir, keep, Arc::new(FaultFs::new(Fault::Error, usize::MAX)))
    }

    /// The step of what was found, after a look at its bytes.
    fn whole(scan: &Scan) -> Option<u64> {
        let good = scan.good.as_ref()?;
        assert_eq!(good.files["weights"], content(good.step));
        assert_eq!(good.files["state.json"], good.step.to_string().as_bytes());
        assert_eq!(good.files.len(), 2);
        Some(good.step)
    }

    fn names(dir: &Path) -> Vec<String> {
        folder::names(dir).unwrap()
    }

    #[test]
    fn keeps_the_last_and_removes_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(dir.path().join("c"), 2);
        assert_eq!(checkpoints.latest_good().unwrap(), Scan::default());
        for step in [5, 10, 1_234_567_890_123] {
            save(&checkpoints, step).unwrap();
            assert_eq!(whole(&checkpoints.latest_good().unwrap()), Some(step));
        }
        assert_eq!(names(checkpoints.dir()), ["step-000000000010", "step-1234567890123"]);
        // The same step again, as after a resume.
        save(&checkpoints, 1_234_567_890_123).unwrap();
        assert_eq!(names(checkpoints.dir()).len(), 2);
    }

    #[test]
    fn going_back_removes_what_is_ahead() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(dir.path(), 2);
        save(&checkpoints, 10).unwrap();
        save(&checkpoints, 20).unwrap();
        fs::OpenOptions::new()
            .write(true)
            .open(dir.path().join("step-000000000020/weights"))
            .unwrap()
            .set_len(9)
            .unwrap();
        assert_eq!(whole(&checkpoints.latest_good().unwrap()), Some(10));
        save(&checkpoints, 15).unwrap();
        assert_eq!(names(dir.path()), ["step-000000000010", "step-000000000015"]);
    }

    #[test]
    fn torn_ones_are_skipped_and_named() {
        type Damage = fn(&Path);
        let damage: [(&str, Damage); 5] = [
            ("expected 50000 bytes, found 49999", |p| {
                fs::OpenOptions::new().write(true).open(p.join("weights")).unwrap().set_len(49_999).unwrap();
            }),
            ("SHA-256", |p| {
                let mut bytes = fs::read(p.join("weights")).unwrap();
                bytes[7] ^= 1;
                crate::atomic::write_real(&p.join("weights"), &bytes).unwrap();
            }),
            ("missing", |p| fs::remove_file(p.join("state.json")).unwrap()),
            ("missing", |p| fs::remove_file(p.join("manifest.json")).unwrap()),
            ("damaged", |p| crate::atomic::write_real(&p.join("manifest.json"), b"{\"format\":").unwrap()),
        ];
        for (word, damage) in damage {
            let dir = tempfile::tempdir().unwrap();
            let checkpoints = Checkpoints::new(dir.path(), 3);
            save(&checkpoints, 1).unwrap();
            let newest = save(&checkpoints, 2).unwrap();
            damage(&newest);
            let scan = checkpoints.latest_good().unwrap();
            assert_eq!(whole(&scan), Some(1), "{word}");
            assert_eq!(scan.torn.len(), 1, "{word}");
            assert!(scan.torn[0].to_string().contains(word), "{word}: {}", scan.torn[0]);
        }
    }

    #[test]
    fn a_list_of_files_can_not_leave_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let step = dir.path().join("step-000000000001");
        fs::create_dir(&step).unwrap();
        crate::atomic::write_real(&dir.path().join("secret"), b"x").unwrap();
        let entry = FileEntry::of(b"x");
        let files = BTreeMap::from([("../secret".to_string(), entry)]);
        let manifest = CheckpointManifest { format: FORMAT.into(), version: 1, step: 1, files };
        crate::atomic::write_json(&RealFs, &step.join(MANIFEST), &manifest).unwrap();
        let scan = Checkpoints::new(dir.path(), 1).latest_good().unwrap();
        assert_eq!(scan.good, None);
        assert!(scan.torn[0].message.contains("plain file names"));
        assert!(Checkpoints::new(dir.path(), 1).save(2, &[("../x", b"")]).is_err());
    }

    #[test]
    fn a_full_disk_is_seen_before_anything_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut fs = FaultFs::new(Fault::Error, usize::MAX);
        fs.available = Some(60_000);
        let checkpoints = Checkpoints::with_fs(dir.path(), 2, Arc::new(fs));
        let error = save(&checkpoints, 1).unwrap_err();
        let RunError::NoSpace { needed: Some(needed), available: Some(60_000), .. } = error else {
            panic!("{error}")
        };
        assert!(needed > 50_000);
        assert!(names(dir.path()).is_empty());
    }

    /// Every operation of a save fails in turn, by an error, a full disk and a power cut, while older
    /// checkpoints are removed (`keep` is 2) and the same step is replaced.
    #[test]
    fn a_failure_anywhere_loses_nothing() {
        for (first, next) in [(vec![1, 2], 3), (vec![1, 2], 2), (vec![], 1), (vec![1, 2, 4], 5)] {
            let before = first.last().copied();
            for fault in Fault::ALL {
                let mut at = 0;
                loop {
                    let dir = tempfile::tempdir().unwrap();
                    let good = quick(&dir.path().join("c"), 3);
                    for step in &first {
                        save(&good, *step).unwrap();
                    }
                    let fs = FaultFs::new(fault, at);
                    let faulty = Checkpoints::with_fs(dir.path().join("c"), 2, Arc::new(fs.clone()));
                    let result = save(&faulty, next);
                    let done = !fs.struck();
                    // What was saved must also outlive a fault that comes right after.
                    fs.strike();
                    fs.settle();
                    let found = whole(&good.latest_good().unwrap());
                    let place = format!("{first:?} then {next}, {fault:?} at operation {at}");
                    assert!(found == before || found == Some(next), "{place}: {found:?}");
                    if result.is_ok() {
                        assert_eq!(found, Some(next), "{place}");
                    }
                    if done {
                        result.unwrap();
                        break;
                    }
                    // Training goes on: the next save works and clears what was left.
                    let clean = quick(&dir.path().join("c"), 2);
                    save(&clean, 9).unwrap();
                    assert_eq!(whole(&clean.latest_good().unwrap()), Some(9), "{place}");
                    let left = names(clean.dir());
                    assert!(
                        left.len() <= 2 && left.iter().all(|n| step_of(n).is_some()),
                        "{place}: {left:?}"
                    );
                    at += 1;
                }
                assert!(at >= 10, "only {at} operations seen");
            }
        }
    }

    #[test]
    fn a_failure_while_best_is_replaced_loses_nothing() {
        for fault in Fault::ALL {
            let mut at = 0;
            loop {
                let dir = tempfile::tempdir().unwrap();
                let write = |c: &Checkpoints, step: u64| {
                    c.save_named(
                        "best",
                        step,
                        &[("weights", &content(step)), ("state.json", step.to_string().as_bytes())],
                    )
                };
                let good = quick(dir.path(), 2);
                write(&good, 1).unwrap();
                save(&good, 7).unwrap();
                let fs = FaultFs::new(fault, at);
                let result = write(&Checkpoints::with_fs(dir.path(), 2, Arc::new(fs.clone())), 2);
                let done = !fs.struck();
                fs.strike();
                fs.settle();
                let found = whole(&good.named("best").unwrap());
                assert!(result.is_err() || found == Some(2), "{fault:?} at {at}: {found:?}");
                assert!(found == Some(1) || found == Some(2), "{fault:?} at {at}: {found:?}");
                assert_eq!(whole(&good.latest_good().unwrap()), Some(7));
                if done {
                    result.unwrap();
                    break;
                }
                write(&good, 3).unwrap();
                assert_eq!(whole(&good.named("best").unwrap()), Some(3));
                assert_eq!(names(dir.path()), ["best", "step-000000000007"], "{fault:?} at {at}");
                at += 1;
            }
            assert!(at >= 10, "only {at} operations seen");
        }
    }
}
