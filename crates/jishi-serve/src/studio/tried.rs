//! Models of runs that are tried: loaded at the first question, as `jishi serve` loads them, and let go when nobody asks any more
//! or too many are there.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jishi_runs::RunError;
use jishi_runs::package;
use jishi_train::TrainError;
use tokio::sync::OnceCell;

use crate::error::ApiError;
use crate::model::{Loading, Model, ModelSource};

/// Models that are there at the same time at most.
const MOST: usize = 3;
/// A model that nobody asked for so long is let go.
const IDLE: Duration = Duration::from_secs(600);
/// Between two looks for such models.
const LOOK: Duration = Duration::from_secs(30);

struct Entry {
    version: String,
    cell: Arc<OnceCell<Arc<Model>>>,
    used: Instant,
}

/// All of them.
pub struct Tried {
    loading: Loading,
    entries: Arc<Mutex<HashMap<String, Entry>>>,
}

impl Tried {
    /// None yet.
    #[must_use]
    pub fn new(loading: Loading) -> Self {
        Self { loading, entries: Arc::default() }
    }

    /// The model of a package, which is called `name`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub async fn get(&self, name: &str, dir: &Path) -> Result<Arc<Model>, ApiError> {
        // Another version under the same name is another model.
        let version = package::version(dir).map_err(of_run_error)?;
        let cell = self.entry(name, version);
        let (name, dir, loading) = (name.to_owned(), dir.to_owned(), self.loading.clone());
        let begin = || async move {
            let load = move || load(&name, &dir, &loading).map(Arc::new);
            let loaded = tokio::task::spawn_blocking(load).await.map_err(|e| ApiError::internal(&e))?;
            loaded.map_err(ApiError::from)
        };
        cell.get_or_try_init(begin).await.cloned()
    }

    fn entry(&self, name: &str, version: String) -> Arc<OnceCell<Arc<Model>>> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let first = entries.is_empty();
        if entries.get(name).is_some_and(|entry| entry.version != version) {
            entries.remove(name);
        }
        if !entries.contains_key(name) && entries.len() >= MOST {
            let oldest = entries.iter().min_by_key(|(_, entry)| entry.used).map(|(name, _)| name.clone());
            if let Some(name) = oldest {
                entries.remove(&name);
            }
        }
        let fresh = || Entry { version, cell: Arc::default(), used: Instant::now() };
        let entry = entries.entry(name.to_owned()).or_insert_with(fresh);
        entry.used = Instant::now();
        if first {
            tokio::spawn(let_go(Arc::clone(&self.entries)));
        }
        Arc::clone(&entry.cell)
    }
}

/// Lets models go that nobody asks, until none is left.
async fn let_go(entries: Arc<Mutex<HashMap<String, Entry>>>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let mut entries = entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, entry| entry.used.elapsed() < IDLE);
        if entries.is_empty() {
            return;
        }
    }
}

fn of_run_error(error: RunError) -> ApiError {
    ApiError::of_problems(&error.problems())
}

fn load(name: &str, dir: &Path, loading: &Loading) -> Result<Model, TrainError> {
    let source = ModelSource { name: Some(name.to_owned()), source: dir.to_string_lossy().into_owned() };
    Model::load(&source, loading, false, &mut |_| {})
}
