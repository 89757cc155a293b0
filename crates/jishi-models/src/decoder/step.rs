//! One token more, of one sequence or of several.

use jishi_kernels::cpu::decode::let_through;
use jishi_kernels::cpu::embedding::Positions;
use jishi_kernels::cpu::matvec::{self, Activations, Epilogue, Format};
use jishi_kernels::cpu::norm::forward_rows;
use jishi_kernels::cpu::rotary::Direction;
use jishi_kernels::simd::madd;
use jishi_kernels::threads::parallel_chunks_then;
use jishi_kernels::{Activation, multiversion};
use jishi_recipe::Problem;

use super::Decoder;
use super::sequence::{Normed, Scratch, Sequence, Step};
use super::weights::{Norm, Pair, Share};
use crate::error::ModelError;

/// Which half of a block it is.
#[derive(Clone, Copy)]
enum Part {
    /// With the block's index.
    Attention(usize),
    FeedForward,
}

impl Decoder {
    /// Takes the next token; gives the logits of the one after it, `[vocabulary]`. After the first step,
    /// only a new page of keys and values is allocated, now and then.
    ///
    /// # Errors
    /// When the token is not one of the vocabulary, or the context is full.
    pub fn step<'s>(&self, sequence: &'s mut Sequence, token: u32) -> Result<&'s [f32], ModelError> {
        self.step_many(&mut [sequence], &[token])?;
        Ok(&sequence.logits)
    }

    /// Takes the next token of each sequence; their logits are in the sequences afterwards
    /// ([`Sequence::logits`]). Weights are read once for all. A sequence's logits are the same alone and beside others,
    /// to the last bit.
    ///
    /// # Errors
    /// When there is not one token for each sequence, a token is not one of the vocabulary, or a context is full.
    /// No sequence has changed then.
    pub fn step_many(&self, sequences: &mut [&mut Sequence], tokens: &[u32]) -> Result<(), ModelError> {
        if sequences.len() != tokens.len() {
            let message = format!("{} tokens for {} sequences", tokens.len(), sequences.len());
            return Err(ModelError::Bad(Problem::new(message).into()));
        }
        for (sequence, token) in sequences.iter().zip(tokens) {
            self.check(sequence, &[*token])?;
        }
        let Some(first) = sequences.first_mut() else { return Ok(()) };
        let mut step = std::mem::take(&mut first.step);
        self.rows(sequences, tokens, &mut step);
        match &mut *sequences {
            [one] => {
                let input = &step.normed.packed;
                matvec::forward(self.level, &self.head, input, &Epilogue::default(), &mut one.logits);
            }
            many => {
                let vocabulary = self.config.vocabulary;
                step.logits.resize(many.len() * vocabulary, 0.0);
                let logits = &mut step.logits[..];
                matvec::forward(self.level, &self.head, &step.normed.packed, &Epilogue::default(), logits);
                for (sequence, logits) in many.iter_mut().zip(logits.chunks_exact(vocabulary)) {
                    sequence.logits.copy_from_slice(logits);
                }
            }
        }
        for sequence in &mut *sequences {
            sequence.position += 1;
        }
        if let Some(first) = sequences.first_mut() {
            first.step = step;
        }
        Ok(())
    }

    /// From tokens to what the output layer reads, in `step.normed`.
    fn rows(&self, sequences: &[&mut Sequence], tokens: &[u32], step: &mut Step) {
        let (rows, width, level) = (tokens.len(), self.config.width, self.level);
        self.prepare(step, rows);
        let Step { x, normed, next, shares, tasks, .. } = step;
        for ((x, token), sequence) in x.chunks_exact_mut(width).zip(tokens).zip(sequences) {
            self.embed(*token, sequence.position, x);
        }
        normed.set(self, rows, x, self.blocks.first().map_or(&self.norm, |b| &b.norm));
        for (index, block) in self.blocks.iter().enumerate() {
            let following = self.blocks.get(index + 1).map_or(&self.norm, |b| &b.norm);
            let steps: [(&Pair, &Norm, Part); 2] = [
                (&block.attention, &block.middle_norm, Part::Attention(index)),
                (&block.feed_forward, following, Part::FeedForward),
            ];
            for (pair, norm, part) in steps {
                let input = &normed.packed;
                let share = |index: usize, out: &mut [f32]| {
                    let scratch = &mut *tasks[index].lock().expect("no task panicked");
                    self.share(&pair.shares[index], index, part, sequences, input, scratch, out);
                };
                let shares = &mut shares[..pair.shares.len() * rows * width];
                parallel_chunks_then(shares, rows * width, share, |shares| {
                    add(level, x, shares, pair.bias.as_deref(), width);
                    next.set(self, rows, x, norm);
                });
                std::mem::swap(normed, next);
            }
        }
    }

    /// A share of a half of a block, from the normalised input to its part of the output.
    #[allow(clippy::too_many_arguments)]
    fn share(
        &self,
        share: &Share,
        index: usize,
        part: Part,
        sequences: &[&mut Sequence],
        input: &Activations,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        let (level, rows) = (self.level, sequences.len());
        let (between, inner) = (share.outputs(), share.second.inputs());
        let Scratch { first, inner: read, counts, packed } = scratch;
        let (first, read) = (&mut first[..rows * between], &mut read[..rows * inner]);
        let plain = matches!(part, Part::FeedForward) && !self.config.gated();
        let activation = if plain { self.config.activation } else { Activation::Identity };
        let mut column = 0;
        for weight in &share.first {
            let bias = share.bias.as_ref().map(|b| &b[column..][..weight.outputs()]);
            let epilogue = Epilogue { bias, activation, residual: None };
            weight.multiply_strided(level, input, &epilogue, &mut first[column..], between);
            column += weight.outputs();
        }
        match part {
            Part::Attention(block) => {
                let (dim, group) = (self.config.head_dim, self.config.group());
                let pieces = first.chunks_exact_mut(between).zip(read.chunks_exact_mut(inner));
                for ((first, read), sequence) in pieces.zip(sequences) {
                    let (offset, length) = (sequence.position, 1);
                    if let Some(rotary) = &self.rotary {
                        let positions = Positions { offset, length };
                        rotary.apply(level, Direction::Forward, first, between, [0, group + 1], positions);
                    }
                    let (queries, rest) = first.split_at(group * dim);
                    let (key, value) = rest.split_at(dim);
                    let mut head = sequence.caches[block].write(index);
                    head.put(offset, key, value);
                    counts.fill(offset + 1);
                    head.attend(level, queries, dim, counts, 1.0 / (dim as f32).sqrt(), read, dim);
                }
                packed.set(level, self.format, rows, read);
            }
            Part::FeedForward if plain => packed.set(level, self.format, rows, first),
            Part::FeedForward => {
                let_through(level, first, read, inner, self.config.activation);
                packed.set(level, self.format, rows, read);
            }
        }
        share.second.multiply(level, packed, &Epilogue::default(), out);
    }

    /// Memory for a step of so many rows.
    fn prepare(&self, step: &mut Step, rows: usize) {
        let width = self.config.width;
        let pairs = || self.blocks.iter().flat_map(|b| [&b.attention, &b.feed_forward]);
        let shares = pairs().map(|p| p.shares.len()).max().unwrap_or(0);
        step.x.resize(rows * width, 0.0);
        step.shares.resize(shares * rows * width, 0.0);
        if step.tasks.len() == shares && step.rows >= rows {
            return;
        }
        let each = || pairs().flat_map(|p| &p.shares);
        let between = each().map(Share::outputs).max().unwrap_or(0);
        let inner = each().map(|s| s.second.inputs()).max().unwrap_or(0);
        let task = || Scratch {
            first: vec![0.0; rows * between],
            inner: vec![0.0; rows * inner],
            counts: vec![0; self.config.group()],
            packed: Activations::default(),
        };
        step.tasks = (0..shares).map(|_| task().into()).collect();
        step.rows = rows;
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }
}

impl Normed {
    pub(super) fn set(&mut self, decoder: &Decoder, rows: usize, x: &[f32], norm: &Norm) {
        let (level, epsilon) = (decoder.level, decoder.config.epsilon);
        self.values.resize(x.len(), 0.0);
        self.statistics.resize(rows, [0.0; 2]);
        let (y, statistics) = (&mut self.values, &mut self.statistics);
        forward_rows(level, x, &norm.weight, norm.bias.as_deref(), epsilon, y, statistics);
        self.packed.set(level, decoder.format(), rows, &self.values);
    }
}

multiversion! {
    /// `x += bias + shares`, in order, for rows of `width` values.
    fn add(x: &mut [f32], shares: &[f32], bias: Option<&[f32]>, width: usize) {
        if let Some(bias) = bias {
            for x in x.chunks_exact_mut(width) {
                for (x, b) in x.iter_mut().zip(bias) {
                    *x += b;
                }
            }
        }
        for share in shares.chunks_exact(x.len()) {
            for (x, s) in x.iter_mut().zip(share) {
                *x = madd::<FMA>(1.0, *s, *x);
            }
        }
    }
}
