//! A model that predicts, on a thread of its own. Requests that arrive while it computes are its next batch: nobody waits
//! for a batch to fill, and the more there is to do, the larger batches are.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Instant;

use burn::tensor::Device;
use jishi_data::image::{ImageCorpus, OwnedPicture, Pictures};
use jishi_data::write::Values;
use jishi_recipe::{Channels, TaskName};
use jishi_tasks::vision::making::square;
use jishi_train::TrainError;
use jishi_train::job::language::TextPredictor;
use jishi_train::job::predict::{Predictor, columns};
use jishi_train::job::vision::detection::{DetectionPredictor, SHOWN};
use jishi_train::job::vision::source::raster;
use jishi_train::job::vision::{AtWork, ImageGenerator};
use tokio::sync::oneshot;

use crate::error::ApiError;
use crate::input::{Input, Seen};
use crate::limits::Limits;
use crate::metrics::ModelStats;

/// Predictions as columns of a file, as `jishi predict` writes them.
pub type Columns = Vec<(String, Values)>;

/// What a model gives for inputs.
#[derive(Debug)]
pub enum Told {
    /// A row for each input.
    Rows(Columns),
    /// Rows for each input: the objects of an image.
    Lists(Vec<Columns>),
    /// A file for each: images that were made.
    Files(Vec<Vec<u8>>),
}

impl Told {
    /// What it says of some of the inputs.
    fn part(&self, rows: Range<usize>) -> Self {
        match self {
            Self::Rows(columns) => {
                Self::Rows(columns.iter().map(|(name, v)| (name.clone(), v.part(rows.clone()))).collect())
            }
            Self::Lists(lists) => Self::Lists(lists[rows].to_vec()),
            Self::Files(files) => Self::Files(files[rows].to_vec()),
        }
    }
}

/// A loaded model.
pub enum Loaded {
    /// Of tables.
    Rows(Box<Predictor>),
    /// Of texts.
    Texts(Box<TextPredictor>),
    /// Of images.
    Images(Box<dyn AtWork>),
    /// Finds objects on images.
    Detects(Box<DetectionPredictor>),
    /// Makes images.
    Makes(Box<ImageGenerator>),
}

impl Loaded {
    /// Whether inputs of several requests are predicted together: each row of what is predicted is of one input, and does
    /// not depend on the others.
    #[must_use]
    pub fn joins(&self) -> bool {
        match self {
            Self::Rows(_) | Self::Images(_) | Self::Detects(_) => true,
            Self::Makes(_) => false,
            Self::Texts(model) => {
                matches!(model.recipe.task, TaskName::TextClassification | TaskName::TextEmbedding)
            }
        }
    }

    /// Predicts.
    ///
    /// # Errors
    /// Inputs that can't be predicted.
    pub fn predict(&self, input: &Input) -> Result<Told, TrainError> {
        match (self, input) {
            (Self::Rows(model), Input::Rows(lines, _)) => {
                Ok(Told::Rows(columns(&model.predict_lines(lines.clone())?)))
            }
            (Self::Texts(model), Input::Texts(texts)) => Ok(Told::Rows(model.predict_texts(texts)?)),
            (Self::Images(model), Input::Images(seen)) => {
                let mut told = model.told(&corpus(seen))?.0;
                // An image of a request has no name.
                told.retain(|(name, _)| name != "image");
                Ok(Told::Rows(told))
            }
            (Self::Detects(model), Input::Images(seen)) => {
                let found = model.find(&corpus(seen), SHOWN)?;
                Ok(Told::Lists((0..seen.len()).map(|i| found.of_image(i)).collect()))
            }
            (Self::Makes(model), Input::Seed { seed, count, grid: one }) => {
                let made = model.make(*seed, *count)?;
                if *one {
                    return Ok(Told::Files(vec![raster(square(&made).view()).to_png()]));
                }
                Ok(Told::Files(made.iter().map(|picture| raster(picture.view()).to_png()).collect()))
            }
            _ => Err(jishi_recipe::Problem::new("inputs of another kind than the model's").into()),
        }
    }
}

fn corpus(seen: &[Seen]) -> ImageCorpus {
    let gray = seen.first().is_some_and(|seen| seen.picture.channels == 1);
    let channels = if gray { Channels::Gray } else { Channels::Rgb };
    let pictures: Vec<OwnedPicture> = seen.iter().map(|seen| seen.picture.clone()).collect();
    ImageCorpus::of_pictures(Pictures::of(channels, &pictures), seen.iter().map(|seen| seen.size).collect())
}

/// A request that waits.
struct Job {
    input: Input,
    deadline: Instant,
    reply: oneshot::Sender<Result<Told, ApiError>>,
}

/// The way to a model's thread. The thread ends when this does and all requests are answered.
#[derive(Debug, Clone)]
pub struct Batcher {
    sender: SyncSender<Job>,
    limits: Arc<Limits>,
    stats: Arc<ModelStats>,
}

impl Batcher {
    /// Loads a model on a thread of its own. The thread tells `about` of it what the caller wants to know.
    ///
    /// # Errors
    /// Those of loading.
    pub fn start<T: Send + 'static>(
        limits: Arc<Limits>,
        stats: Arc<ModelStats>,
        load: impl FnOnce(&Device) -> Result<Loaded, TrainError> + Send + 'static,
        about: impl FnOnce(&Loaded) -> T + Send + 'static,
        device: &Device,
    ) -> Result<(Self, T), TrainError> {
        let (sender, receiver) = sync_channel(limits.waiting.max(1));
        let (told, hears) = std::sync::mpsc::channel();
        let (most, device, counted) = (limits.batch, device.clone(), Arc::clone(&stats));
        let thread = move || {
            let model = match load(&device) {
                Ok(model) => model,
                Err(error) => {
                    let _ = told.send(Err(error));
                    return;
                }
            };
            if told.send(Ok(about(&model))).is_ok() {
                work(&model, &receiver, most, &counted);
            }
        };
        let failed =
            || TrainError::from(jishi_recipe::Problem::new("a thread for the model can't be started"));
        std::thread::Builder::new().name("jishi-predict".into()).spawn(thread).map_err(|_| failed())?;
        let about = hears.recv().map_err(|_| failed())??;
        Ok((Self { sender, limits, stats }, about))
    }

    /// Predicts.
    ///
    /// # Errors
    /// Inputs that can't be predicted; too many requests that wait; an answer that takes too long.
    pub async fn predict(&self, input: Input) -> Result<Told, ApiError> {
        let (reply, answer) = oneshot::channel();
        let deadline = Instant::now() + self.limits.request;
        self.stats.waiting.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = self.sender.try_send(Job { input, deadline, reply }) {
            self.stats.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(match error {
                TrySendError::Full(_) => ApiError::busy(),
                TrySendError::Disconnected(_) => ApiError::internal(&"a model's thread has ended"),
            });
        }
        match tokio::time::timeout_at(deadline.into(), answer).await {
            Err(_) => Err(ApiError::timeout()),
            Ok(Err(_)) => Err(ApiError::internal(&"a model's thread dropped a request")),
            Ok(Ok(answer)) => answer,
        }
    }
}

/// Answers requests until there will be no more.
fn work(model: &Loaded, receiver: &Receiver<Job>, most: usize, stats: &ModelStats) {
    let mut held = None;
    while let Some(first) = held.take().or_else(|| receiver.recv().ok()) {
        let mut rows = first.input.len();
        let mut jobs = vec![first];
        while model.joins() && rows < most {
            let Ok(job) = receiver.try_recv() else { break };
            if rows + job.input.len() > most {
                held = Some(job);
                break;
            }
            rows += job.input.len();
            jobs.push(job);
        }
        let now = Instant::now();
        stats.waiting.fetch_sub(jobs.len() as i64, Ordering::Relaxed);
        jobs.retain(|job| !job.reply.is_closed() && job.deadline > now);
        let rows: usize = jobs.iter().map(|job| job.input.len()).sum();
        if rows > 0 {
            stats.batches.record(rows as f64);
        }
        answer(model, jobs);
    }
}

fn answer(model: &Loaded, mut jobs: Vec<Job>) {
    if jobs.len() > 1 {
        let mut all = jobs[0].input.clone();
        jobs[1..].iter().for_each(|job| all.extend(&job.input));
        // Where one request is wrong, each is answered on its own.
        if let Ok(Ok(told)) = guarded(model, &all) {
            let mut from = 0;
            for job in jobs {
                let rows = from..from + job.input.len();
                from = rows.end;
                let _ = job.reply.send(Ok(told.part(rows)));
            }
            return;
        }
    }
    for job in jobs.drain(..) {
        let answer = match guarded(model, &job.input) {
            Ok(answer) => answer.map_err(ApiError::from),
            Err(()) => Err(ApiError::internal(&"a model panicked")),
        };
        let _ = job.reply.send(answer);
    }
}

/// A model that panics fails one batch, and no other.
fn guarded(model: &Loaded, input: &Input) -> Result<Result<Told, TrainError>, ()> {
    catch_unwind(AssertUnwindSafe(|| model.predict(input))).map_err(|_| ())
}
