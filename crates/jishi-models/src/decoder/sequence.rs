//! What a decoder knows of one text: keys and values of its positions, and the memory of a step.

use std::sync::Mutex;

use jishi_kernels::cpu::decode::KvCache;
use jishi_kernels::cpu::matvec::Activations;

use super::Decoder;

/// Positions that a sequence has room for at first.
const ROOM: usize = 256;

/// One text of a decoder. It belongs to the decoder that made it. Its memory grows with the text, by doubling.
#[derive(Debug)]
pub struct Sequence {
    /// Of each block.
    pub(super) caches: Vec<KvCache>,
    /// Positions that the caches have room for.
    pub(super) room: usize,
    /// Positions in the caches.
    pub(super) position: usize,
    /// After the last token, `[vocabulary]`.
    pub(super) logits: Vec<f32>,
    pub(super) step: Step,
}

/// Memory of a step, of a batch of rows.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// The residual, `[rows, width]`.
    pub x: Vec<f32>,
    pub normed: Normed,
    /// What the next norm is put into, while tasks read `normed`.
    pub next: Normed,
    /// Shares of a block's output, `[share][rows][width]`.
    pub shares: Vec<f32>,
    pub tasks: Vec<Mutex<Scratch>>,
    /// Rows that tasks have memory for.
    pub rows: usize,
    /// `[rows, vocabulary]`, of several rows.
    pub logits: Vec<f32>,
}

/// Normalised rows, as they are and as products read them.
#[derive(Debug, Default)]
pub(super) struct Normed {
    pub values: Vec<f32>,
    pub statistics: Vec<[f32; 2]>,
    pub packed: Activations,
}

/// Memory of a task.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub first: Vec<f32>,
    pub inner: Vec<f32>,
    /// Positions that each query of a group sees.
    pub counts: Vec<usize>,
    pub packed: Activations,
}

impl Decoder {
    /// An empty sequence.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        self.sequence_of(ROOM)
    }

    /// An empty sequence that has room for so many positions before it takes more memory.
    #[must_use]
    pub fn sequence_of(&self, positions: usize) -> Sequence {
        let room = positions.clamp(1, self.config.context);
        Sequence {
            caches: self.caches(room),
            room,
            position: 0,
            logits: vec![0.0; self.config.vocabulary],
            step: Step::default(),
        }
    }

    fn caches(&self, room: usize) -> Vec<KvCache> {
        let config = &self.config;
        let cache = || KvCache::new(config.kv_heads, config.head_dim, room, self.half);
        (0..config.layers).map(|_| cache()).collect()
    }

    /// Another sequence with the same positions and logits, which goes its own way from here.
    #[must_use]
    pub fn fork(&self, sequence: &Sequence) -> Sequence {
        let mut fork = self.sequence_of(sequence.room);
        fork.copy_from(sequence);
        fork
    }

    /// Makes room for so many more positions.
    pub(super) fn make_room(&self, sequence: &mut Sequence, more: usize) {
        let wanted = sequence.position + more;
        if wanted <= sequence.room {
            return;
        }
        let room = wanted.max(2 * sequence.room).min(self.config.context);
        for (old, mut new) in sequence.caches.iter_mut().zip(self.caches(room)) {
            new.copy_from(old, sequence.position);
            *old = new;
        }
        sequence.room = room;
    }
}

impl Sequence {
    /// Positions that were taken so far.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }

    /// Logits of the token after the last one, `[vocabulary]`; zeros before the first.
    #[must_use]
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// Forgets what came after `position` positions: the next token is put there.
    pub fn rewind(&mut self, position: usize) {
        self.position = self.position.min(position);
    }

    /// Bytes of its keys and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.caches.iter().map(KvCache::bytes).sum()
    }

    fn copy_from(&mut self, other: &Self) {
        for (mine, others) in self.caches.iter_mut().zip(&other.caches) {
            mine.copy_from(others, other.position);
        }
        self.position = other.position;
        self.logits.copy_from_slice(&other.logits);
    }
}
