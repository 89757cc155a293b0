//! Models of runs that are tried: loaded at the first question, as `jishi serve` loads them, and let go when nobody asks any more
//! or too many are there.

use std::collections::HashMap;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jishi_data::image::claimed_size;
use jishi_recipe::{Problem, TaskName};
use jishi_runs::RunError;
use jishi_runs::package;
use jishi_tasks::vision::making::grid;
use jishi_train::TrainError;
use jishi_train::job::evaluate::task_of;
use jishi_train::job::vision::ImageGenerator;
use jishi_train::job::vision::detection::{DetectionPredictor, SHOWN};
use jishi_train::job::vision::source::raster;
use serde_json::{Value, json};
use tokio::sync::{OnceCell, oneshot};

use crate::error::ApiError;
use crate::limits::Limits;
use crate::model::{Loading, Model, ModelSource};

/// Models that are there at the same time at most.
const MOST: usize = 3;
/// A model that nobody asked for so long is let go.
const IDLE: Duration = Duration::from_secs(600);
/// Between two looks for such models.
const LOOK: Duration = Duration::from_secs(30);
/// Questions that wait for a model.
const WAITING: usize = 16;
/// Images that are made at once at most.
pub const MOST_IMAGES: usize = 256;

/// A model that answers.
pub enum Ready {
    /// As the server has it.
    Served(Arc<Model>),
    /// Finds objects on a picture.
    Finds(Worker<Vec<u8>, Value>),
    /// Makes pictures of a seed and a number: a PNG file.
    Makes(Worker<(u64, usize), Vec<u8>>),
}

struct Entry {
    version: String,
    cell: Arc<OnceCell<Arc<Ready>>>,
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
    pub async fn get(&self, name: &str, dir: &Path) -> Result<Arc<Ready>, ApiError> {
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

    fn entry(&self, name: &str, version: String) -> Arc<OnceCell<Arc<Ready>>> {
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

fn load(name: &str, dir: &Path, loading: &Loading) -> Result<Ready, TrainError> {
    let (own, device, limits) = (dir.to_owned(), loading.device.clone(), Arc::clone(&loading.limits));
    match task_of(dir)? {
        Some(TaskName::Detection) => Ok(Ready::Finds(Worker::start(
            move || DetectionPredictor::load(&own, &device),
            move |model, bytes: Vec<u8>| find(model, &bytes, &limits),
        )?)),
        Some(TaskName::ImageGeneration) => Ok(Ready::Makes(Worker::start(
            move || ImageGenerator::load(&own, &device),
            |model, (seed, count)| {
                let pictures = model.make(seed, count)?;
                let columns = (count as f64).sqrt().ceil() as usize;
                Ok(raster(grid(&pictures, columns).view()).to_png())
            },
        )?)),
        _ => {
            let source =
                ModelSource { name: Some(name.to_owned()), source: dir.to_string_lossy().into_owned() };
            Model::load(&source, loading, false, &mut |_| {}).map(|m| Ready::Served(Arc::new(m)))
        }
    }
}

/// What is on a picture, as `jishi predict` finds it.
fn find(model: &DetectionPredictor, bytes: &[u8], limits: &Limits) -> Result<Value, TrainError> {
    let [height, width] = claimed_size(bytes)?;
    if height.saturating_mul(width) > limits.pixels {
        let message = format!("expected at most {} pixels, found {height} × {width}", limits.pixels);
        return Err(Problem::new(message).into());
    }
    let dir = tempfile::tempdir().map_err(|e| RunError::io(std::env::temp_dir(), e))?;
    // What it is says its content, not its name.
    let path = dir.path().join("picture.png");
    jishi_runs::atomic::write_real(&path, bytes)?;
    let predicted = model.predict(&path, SHOWN)?;
    let found = predicted.found.first().map(Vec::as_slice).unwrap_or_default();
    let boxes: Vec<Value> = found
        .iter()
        .map(
            |d| json!({ "class": predicted.names.get(d.class as usize), "score": d.score, "place": d.place }),
        )
        .collect();
    Ok(json!({ "width": width, "height": height, "boxes": boxes }))
}

type Question<I, O> = (I, oneshot::Sender<Result<O, ApiError>>);

/// A model on a thread of its own. The thread ends when this does.
pub struct Worker<I, O>(SyncSender<Question<I, O>>);

impl<I: Send + 'static, O: Send + 'static> Worker<I, O> {
    /// Loads a model on its thread.
    ///
    /// # Errors
    /// Those of loading.
    fn start<M: 'static>(
        load: impl FnOnce() -> Result<M, TrainError> + Send + 'static,
        answer: impl Fn(&M, I) -> Result<O, TrainError> + Send + 'static,
    ) -> Result<Self, TrainError> {
        let (sender, receiver) = sync_channel::<Question<I, O>>(WAITING);
        let (told, hears) = std::sync::mpsc::channel();
        let work = move || {
            let model = match load() {
                Ok(model) => model,
                Err(error) => {
                    let _ = told.send(Err(error));
                    return;
                }
            };
            let _ = told.send(Ok(()));
            for (question, reply) in receiver {
                if !reply.is_closed() {
                    let _ = reply.send(answer(&model, question).map_err(ApiError::from));
                }
            }
        };
        let failed = || TrainError::from(Problem::new("a thread for the model can't be started"));
        std::thread::Builder::new().name("jishi-try".into()).spawn(work).map_err(|_| failed())?;
        hears.recv().map_err(|_| failed())??;
        Ok(Self(sender))
    }

    /// Asks it.
    ///
    /// # Errors
    /// Those of the model; too many who wait.
    pub async fn ask(&self, question: I) -> Result<O, ApiError> {
        let (reply, answer) = oneshot::channel();
        self.0.try_send((question, reply)).map_err(|_| ApiError::busy())?;
        answer.await.map_err(|_| ApiError::internal(&"a model's thread dropped a question"))?
    }
}
