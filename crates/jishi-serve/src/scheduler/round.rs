//! The texts that are being written, and what happens to them in a round.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use jishi_models::decoder::PAGE;
use jishi_models::generate::{Finish, Generation, Piece};
use jishi_models::{Decoder, Sequence};
use tokio::sync::mpsc::UnboundedSender;

use super::prefix::Prefixes;
use super::{Event, Job, PART};
use crate::error::ApiError;
use crate::limits::Limits;
use crate::metrics::ModelStats;

/// Share of the memory for keys and values that prompts of before may take.
const PREFIX_SHARE: usize = 4;

/// Memory for keys and values that is set aside, so that whoever got in can end.
struct Room {
    /// Pages that the prompt fills: the job's answers share them.
    prompt: Arc<usize>,
    /// Pages of an answer alone.
    own: usize,
}

impl Room {
    /// Pages of it, those of the prompt in equal parts for all who share them.
    fn pages(&self) -> f64 {
        *self.prompt as f64 / Arc::strong_count(&self.prompt) as f64 + self.own as f64
    }
}

/// A prompt that is being read.
struct Reading {
    job: Job,
    sequence: Sequence,
}

/// An answer that is being written.
struct Writing {
    sequence: Sequence,
    generation: Generation,
    choice: usize,
    /// Chosen, and not yet taken by the sequence.
    next: u32,
    deadline: Instant,
    events: UnboundedSender<Event>,
    room: Room,
}

/// All of them.
pub struct Round<'a> {
    decoder: &'a Decoder,
    reading: VecDeque<Reading>,
    writing: Vec<Writing>,
    prefixes: Prefixes,
    sequences: usize,
    /// Bytes of keys and values.
    memory: usize,
    stats: &'a ModelStats,
}

impl<'a> Round<'a> {
    pub fn new(decoder: &'a Decoder, limits: &Limits, stats: &'a ModelStats) -> Self {
        Self {
            prefixes: Prefixes::new(limits.memory / PREFIX_SHARE),
            sequences: limits.sequences.max(1),
            memory: limits.memory - limits.memory / PREFIX_SHARE,
            reading: VecDeque::new(),
            writing: Vec::new(),
            decoder,
            stats,
        }
    }

    /// Answers that are written or whose prompts are read.
    pub fn len(&self) -> usize {
        self.writing.len() + self.reading.iter().map(|r| r.job.choices.len()).sum::<usize>()
    }

    pub fn is_empty(&self) -> bool {
        self.reading.is_empty() && self.writing.is_empty()
    }

    /// Pages that a prompt fills, and those that each of its answers takes in the end at most.
    fn pages(&self, job: &Job) -> [usize; 2] {
        let filled = job.prompt.len() / PAGE;
        let positions = (job.prompt.len() + job.most).min(self.decoder.config().context);
        [filled, positions.div_ceil(PAGE).saturating_sub(filled)]
    }

    /// Whether a job can get in. Alone, any can.
    pub fn has_room(&self, job: &Job) -> bool {
        if self.is_empty() {
            return true;
        }
        let whole = |job: &Job| {
            let [prompt, own] = self.pages(job);
            prompt + own * job.choices.len()
        };
        let reading: usize = self.reading.iter().map(|r| whole(&r.job)).sum();
        let writing: f64 = self.writing.iter().map(|w| w.room.pages()).sum();
        let pages = reading + writing.ceil() as usize + whole(job);
        self.len() + job.choices.len() <= self.sequences && self.decoder.page_bytes(pages) <= self.memory
    }

    /// Lets a job in.
    pub fn admit(&mut self, job: Job) {
        let sequence = self.prefixes.begin(self.decoder, &job.prompt);
        self.stats.tokens_reused.fetch_add(sequence.position() as u64, Ordering::Relaxed);
        self.reading.push_back(Reading { job, sequence });
    }

    /// A part of a prompt, and a step of every answer. A panic fails those who are here, and nobody after them.
    pub fn run(&mut self, now: Instant) {
        let fine = catch_unwind(AssertUnwindSafe(|| {
            self.leave(now);
            self.read();
            self.step();
        }));
        if fine.is_err() {
            let error = ApiError::internal(&"a model panicked while it wrote");
            for reading in self.reading.drain(..) {
                let _ = reading.job.events.send(Event::Failed(error.clone()));
            }
            for writing in self.writing.drain(..) {
                let _ = writing.events.send(Event::Failed(error.clone()));
            }
            self.prefixes = Prefixes::new(self.memory / PREFIX_SHARE);
        }
    }

    /// Those who no longer wait are dropped.
    fn leave(&mut self, now: Instant) {
        let stays = |events: &UnboundedSender<Event>, deadline: Instant| {
            if deadline <= now {
                let _ = events.send(Event::Failed(ApiError::timeout()));
            }
            deadline > now && !events.is_closed()
        };
        self.reading.retain(|r| stays(&r.job.events, r.job.deadline));
        self.writing.retain(|w| stays(&w.events, w.deadline));
    }

    fn read(&mut self) {
        let Some(mut reading) = self.reading.pop_front() else { return };
        let Reading { job, sequence, .. } = &mut reading;
        let rest = &job.prompt[sequence.position()..];
        let result = if job.prompt.len() == 1 {
            // As `jishi generate` takes a single token.
            self.decoder.prefill(sequence, rest).map(|_| ())
        } else {
            self.decoder.prefill_part(sequence, &rest[..PART.min(rest.len())], rest.len() <= PART)
        };
        if let Err(error) = result {
            let _ = job.events.send(Event::Failed(ApiError::from(jishi_train::TrainError::from(error))));
            return;
        }
        if sequence.position() < job.prompt.len() {
            // Prompts take turns, so that a short one need not wait for a long one.
            self.reading.push_back(reading);
            return;
        }
        self.write(reading);
    }

    /// The prompt was read: its answers begin.
    fn write(&mut self, reading: Reading) {
        let Reading { job, sequence } = reading;
        let [prompt, own] = self.pages(&job);
        let prompt = Arc::new(prompt);
        self.prefixes.keep(self.decoder, &job.prompt, &sequence);
        let Job { choices, first, deadline, events, .. } = job;
        let last = choices.len().saturating_sub(1);
        let mut sequence = Some(sequence);
        for (i, generation) in choices.into_iter().enumerate() {
            let fork = || sequence.as_ref().map(|s| self.decoder.fork(s));
            let Some(sequence) = (if i == last { sequence.take() } else { fork() }) else { break };
            let room = Room { prompt: Arc::clone(&prompt), own };
            let choice = first + i;
            let (events, next) = (events.clone(), 0);
            let mut writing = Writing { sequence, generation, choice, next, deadline, events, room };
            if writing.choose() {
                self.writing.push(writing);
            }
        }
    }

    fn step(&mut self) {
        let context = self.decoder.config().context;
        self.writing.retain_mut(|writing| {
            if writing.sequence.position() < context {
                return true;
            }
            let piece = writing.generation.end(Finish::Context);
            writing.tell(piece);
            false
        });
        if self.writing.is_empty() {
            return;
        }
        self.stats.batches.record(self.writing.len() as f64);
        let tokens: Vec<u32> = self.writing.iter().map(|w| w.next).collect();
        let mut sequences: Vec<&mut Sequence> = self.writing.iter_mut().map(|w| &mut w.sequence).collect();
        if let Err(error) = self.decoder.step_many(&mut sequences, &tokens) {
            let error = ApiError::internal(&error);
            for writing in self.writing.drain(..) {
                let _ = writing.events.send(Event::Failed(error.clone()));
            }
            return;
        }
        self.writing.retain_mut(Writing::choose);
    }
}

impl Writing {
    /// Chooses the next token; whether the answer goes on.
    fn choose(&mut self) -> bool {
        match self.generation.next(self.sequence.logits()) {
            Ok(piece) => {
                self.next = piece.token.unwrap_or(self.next);
                self.tell(piece)
            }
            Err(error) => {
                let error = ApiError::from(jishi_train::TrainError::from(error));
                let _ = self.events.send(Event::Failed(error));
                false
            }
        }
    }

    /// Tells what is new; whether the answer goes on.
    fn tell(&mut self, piece: Piece) -> bool {
        let choice = self.choice;
        let heard = self.events.send(Event::Piece { choice, piece }).is_ok();
        match self.generation.finish() {
            None => heard,
            Some(finish) => {
                let tokens = self.generation.tokens().len();
                let _ = self.events.send(Event::Done { choice, finish, tokens });
                false
            }
        }
    }
}
