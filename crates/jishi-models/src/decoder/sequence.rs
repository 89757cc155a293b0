//! What a decoder knows of one text: keys and values of its positions, and the memory of a step.

use std::sync::Mutex;

use jishi_kernels::cpu::decode::KvCache;
use jishi_kernels::cpu::matvec::Activations;

use super::Decoder;

/// One text of a decoder. It belongs to the decoder that made it. Its memory grows with the text, by pages of
/// [`PAGE`](super::PAGE) positions, which sequences that were forked share until one of them writes to them.
#[derive(Debug)]
pub struct Sequence {
    /// Of each block.
    pub(super) caches: Vec<KvCache>,
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
        let config = &self.config;
        let cache = || KvCache::new(config.kv_heads, config.head_dim, self.half);
        Sequence {
            caches: (0..config.layers).map(|_| cache()).collect(),
            position: 0,
            logits: vec![0.0; config.vocabulary],
            step: Step::default(),
        }
    }

    /// Bytes of so many pages of keys and values, of [`PAGE`](super::PAGE) positions each.
    #[must_use]
    pub fn page_bytes(&self, pages: usize) -> usize {
        let config = &self.config;
        pages * config.layers * KvCache::page_bytes(config.kv_heads, config.head_dim, self.half)
    }

    /// Another sequence with the same positions and logits, which goes its own way from here.
    #[must_use]
    pub fn fork(&self, sequence: &Sequence) -> Sequence {
        let Sequence { caches, position, logits, .. } = sequence;
        Sequence {
            caches: caches.iter().map(|cache| cache.fork(*position)).collect(),
            position: *position,
            logits: logits.clone(),
            step: Step::default(),
        }
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
        for cache in &mut self.caches {
            cache.rewind(self.position);
        }
    }

    /// Bytes of its keys and values, of pages too that it shares with others.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.caches.iter().map(KvCache::bytes).sum()
    }
}
