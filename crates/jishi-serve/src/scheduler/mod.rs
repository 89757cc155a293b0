//! Many texts at the same time: continuous batching (Yu et al. 2022, "Orca"), on one thread of a model.
//!
//! A round reads a part of one prompt ([`PART`] tokens, so that a long prompt doesn't hold up those who are being
//! answered), and then all texts take a step together, for which weights are read once. Texts join and leave between
//! rounds. Clients take turns in getting in. Steps and parts give what they give alone, to the last bit
//! (`jishi_models::Decoder`), so an answer doesn't depend on who else is there.

mod prefix;
mod round;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::time::Instant;

use jishi_models::Decoder;
use jishi_models::generate::{Finish, Generation, Piece};
use tokio::sync::mpsc::UnboundedSender;

use crate::error::ApiError;
use crate::fair::FairQueue;
use crate::limits::Limits;
use crate::metrics::ModelStats;
use round::Round;

/// Tokens of a prompt that a round reads.
pub const PART: usize = 128;

/// What becomes known of a text.
#[derive(Debug, Clone)]
pub enum Event {
    /// More of an answer.
    Piece {
        /// Which answer.
        choice: usize,
        /// What is new.
        piece: Piece,
    },
    /// An answer has ended.
    Done {
        /// Which answer.
        choice: usize,
        /// Why.
        finish: Finish,
        /// Its tokens.
        tokens: usize,
    },
    /// Nothing more will come of any answer.
    Failed(ApiError),
}

/// A prompt, and what is to follow.
#[derive(Debug)]
pub struct Job {
    /// The prompt's tokens, at least one and fewer than the context.
    pub prompt: Vec<u32>,
    /// What chooses the tokens of each answer.
    pub choices: Vec<Generation>,
    /// Number of the first answer; the others follow.
    pub first: usize,
    /// Tokens of an answer at most.
    pub most: usize,
    /// Who asks: clients take turns.
    pub client: String,
    /// When the client no longer waits.
    pub deadline: Instant,
    /// Hears what becomes known. Once nobody listens, the answers end.
    pub events: UnboundedSender<Event>,
}

impl Job {
    fn wanted(&self, now: Instant) -> bool {
        !self.events.is_closed() && self.deadline > now
    }
}

/// The way to a model's thread. The thread ends when this does and all texts have ended.
#[derive(Debug, Clone)]
pub struct Scheduler {
    sender: SyncSender<Job>,
}

impl Scheduler {
    /// A thread for the decoder that `source` has.
    ///
    /// # Errors
    /// The system's, where there is no thread.
    pub fn start<S>(source: Arc<S>, limits: &Limits, stats: Arc<ModelStats>) -> std::io::Result<Self>
    where
        S: AsRef<Decoder> + Send + Sync + 'static,
    {
        let (sender, receiver) = sync_channel(limits.waiting.max(1));
        let limits = limits.clone();
        let run = move || work((*source).as_ref(), &receiver, &limits, &stats);
        std::thread::Builder::new().name("jishi-write".into()).spawn(run)?;
        Ok(Self { sender })
    }

    /// Hands a job in.
    ///
    /// # Errors
    /// Too many that wait.
    pub fn submit(&self, job: Job) -> Result<(), ApiError> {
        self.sender.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => ApiError::busy(),
            TrySendError::Disconnected(_) => ApiError::internal(&"a model's thread has ended"),
        })
    }
}

fn work(decoder: &Decoder, receiver: &Receiver<Job>, limits: &Limits, stats: &ModelStats) {
    let mut queue: FairQueue<Job> = FairQueue::default();
    let mut round = Round::new(decoder, limits, stats);
    let mut open = true;
    while open || !queue.is_empty() || !round.is_empty() {
        if round.is_empty() && queue.is_empty() {
            match receiver.recv() {
                Ok(job) => take(job, &mut queue, limits),
                Err(_) => open = false,
            }
        }
        loop {
            match receiver.try_recv() {
                Ok(job) => take(job, &mut queue, limits),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    open = false;
                    break;
                }
            }
        }
        let now = Instant::now();
        queue.retain(|job| {
            if !job.events.is_closed() && job.deadline <= now {
                let _ = job.events.send(Event::Failed(ApiError::timeout()));
            }
            job.wanted(now)
        });
        while queue.peek().is_some_and(|job| round.has_room(job)) {
            if let Some(job) = queue.pop() {
                round.admit(job);
            }
        }
        round.run(now);
        // Where old and new version of a model both write, the new one has the last word.
        stats.waiting.store(queue.len() as i64, Ordering::Relaxed);
        stats.running.store(round.len() as i64, Ordering::Relaxed);
    }
}

fn take(job: Job, queue: &mut FairQueue<Job>, limits: &Limits) {
    if queue.len() >= limits.waiting {
        let _ = job.events.send(Event::Failed(ApiError::busy()));
        return;
    }
    let client = job.client.clone();
    queue.push(&client, job);
}
