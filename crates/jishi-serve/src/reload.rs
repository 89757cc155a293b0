//! New versions of models: a package that has changed is loaded beside the one that serves, replays its golden outputs, and
//! then takes its place. Requests that have begun end with the version they began with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use jishi_recipe::Problem;
use jishi_runs::{RunError, package};
use jishi_train::TrainError;

use crate::app::Shared;
use crate::error::ApiError;
use crate::keys::Keys;
use crate::model::{Loading, Model, ModelSource, Models};

/// What became of a model that was to be loaded again.
#[derive(Debug, Clone, PartialEq)]
pub enum Reloaded {
    /// It is what it was.
    Unchanged,
    /// There is a new version.
    Swapped {
        /// The old one.
        from: String,
        /// The new one.
        to: String,
    },
}

/// Sizes and times of a package's files: what changes when the package does.
type Look = Vec<(String, u64, Option<SystemTime>)>;

/// What it takes to load models again.
pub struct Keeper {
    sources: Vec<ModelSource>,
    loading: Loading,
    shared: Arc<Shared>,
    /// One at a time.
    busy: Mutex<()>,
}

impl Keeper {
    /// Of these models.
    #[must_use]
    pub fn new(sources: Vec<ModelSource>, loading: Loading, shared: Arc<Shared>) -> Self {
        Self { sources, loading, shared, busy: Mutex::default() }
    }

    /// The package of a model, where it is of one.
    #[must_use]
    pub fn package(&self, i: usize) -> Option<PathBuf> {
        package::find(&self.loading.root, &self.sources.get(i)?.source).ok()
    }

    /// Loads all models.
    ///
    /// # Errors
    /// The first model that can't be loaded.
    pub fn load(&self, progress: &mut dyn FnMut(&str)) -> Result<Models, TrainError> {
        let mut loaded = Vec::new();
        for source in &self.sources {
            let model = Model::load(source, &self.loading, false, progress)?;
            model.stats.loads.fetch_add(1, Ordering::Relaxed);
            loaded.push(Arc::new(model));
        }
        Ok(Models(loaded))
    }

    /// Loads a model again, where it has changed. `asked`: also one of which that can't be told.
    ///
    /// # Errors
    /// A new version that can't be loaded, or that does not do what it did: the old one goes on.
    pub fn reload(&self, i: usize, asked: bool) -> Result<Reloaded, ApiError> {
        let _one = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(old) = self.shared.models().0.get(i).cloned() else { return Ok(Reloaded::Unchanged) };
        let result = self.newer(i, &old, asked);
        let mut troubles = self.shared.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(None) => {
                troubles.remove(&old.name);
                Ok(Reloaded::Unchanged)
            }
            Ok(Some(model)) => {
                troubles.remove(&old.name);
                let (from, to) = (old.version.clone(), model.version.clone());
                eprintln!("serving {} of version {to} in place of {from}", old.name);
                old.stats.loads.fetch_add(1, Ordering::Relaxed);
                self.shared.swap(i, model);
                Ok(Reloaded::Swapped { from, to })
            }
            Err(error) => {
                old.stats.failed_loads.fetch_add(1, Ordering::Relaxed);
                let said = error.to_string().replace('\n', "; ");
                let Model { name, version, .. } = &*old;
                eprintln!("error: {name} of version {version} goes on, as the new one can't: {said}");
                let error = match error {
                    TrainError::Run(RunError::Bad(problems)) => ApiError::of_problems(&problems),
                    error => ApiError::from(error),
                };
                let error = ApiError::refused_version(&error.message);
                troubles.insert(name.clone(), error.message.clone());
                Err(error)
            }
        }
    }

    /// A new version, where there is one.
    fn newer(&self, i: usize, old: &Model, asked: bool) -> Result<Option<Model>, TrainError> {
        let source = &self.sources[i];
        match package::find(&self.loading.root, &source.source) {
            Ok(dir) if package::version(&dir)? == old.version => return Ok(None),
            // A package that is gone is no model of elsewhere.
            Err(_) if !asked || old.packaged => {
                let problem = Problem::new("there is no package any more, or a part of one");
                return Err(problem.file(&source.source).into());
            }
            _ => {}
        }
        // It keeps its name, wherever the source leads by now.
        let source = ModelSource { name: Some(old.name.clone()), ..source.clone() };
        Model::load(&source, &self.loading, true, &mut |line| eprintln!("{line}")).map(Some)
    }

    /// Loads all models again that have changed, and the keys.
    pub fn reload_all(&self, asked: bool) {
        for i in 0..self.sources.len() {
            // What is wrong has been said.
            let _ = self.reload(i, asked);
        }
        self.reload_keys();
    }

    fn reload_keys(&self) {
        let Some(keys) = self.shared.keys() else { return };
        match keys.again() {
            Ok(new) => {
                eprintln!("there are {} keys now", new.len());
                self.shared.set_keys(new);
            }
            Err(problems) => {
                let said = problems.to_string().replace('\n', "; ");
                eprintln!("error: the keys stay as they were: {said}");
            }
        }
    }

    /// Looks at packages and keys every so often, until the server ends.
    pub fn watch(&self, every: Duration) {
        let mut seen: BTreeMap<usize, Look> = (0..self.sources.len()).map(|i| (i, self.look(i))).collect();
        let mut changed: BTreeMap<usize, Look> = BTreeMap::new();
        let keys = |shared: &Shared| shared.keys().and_then(|keys: Arc<Keys>| modified(keys.path()));
        let mut keys_seen = keys(&self.shared);
        while !self.shared.ending.load(Ordering::SeqCst) {
            std::thread::sleep(every);
            for i in 0..self.sources.len() {
                let look = self.look(i);
                if seen.get(&i) == Some(&look) {
                    continue;
                }
                // Whoever copies a package is given the time to end.
                if changed.get(&i) == Some(&look) {
                    seen.insert(i, look);
                    let _ = self.reload(i, false);
                } else {
                    changed.insert(i, look);
                }
            }
            let now = keys(&self.shared);
            if now != keys_seen {
                keys_seen = now;
                self.reload_keys();
            }
        }
    }

    fn look(&self, i: usize) -> Look {
        let Ok(dir) = package::find(&self.loading.root, &self.sources[i].source) else { return Vec::new() };
        let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
        let one = |entry: std::fs::DirEntry| {
            let meta = std::fs::metadata(entry.path()).ok()?;
            Some((entry.file_name().to_string_lossy().into_owned(), meta.len(), meta.modified().ok()))
        };
        let mut look: Look = entries.filter_map(Result::ok).filter_map(one).collect();
        look.sort();
        look
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}
