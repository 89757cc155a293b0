//! Many positions at once: a prompt, or a whole text whose logits are wanted.

use jishi_kernels::cpu::decode::let_through;
use jishi_kernels::cpu::embedding::Positions;
use jishi_kernels::cpu::linear::{Epilogue, Matrix, forward_from};
use jishi_kernels::cpu::matvec::{self, Activations, Format, Joined};
use jishi_kernels::cpu::norm;
use jishi_kernels::cpu::rotary::Direction;
use jishi_kernels::threads::{parallel, parallel_chunks};
use jishi_kernels::{Activation, Precision};
use jishi_recipe::Problem;

use super::Decoder;
use super::sequence::Sequence;
use super::weights::{Norm, Pair};
use crate::error::ModelError;

/// Positions that a task takes.
const ROWS: usize = 32;
/// Positions of a prompt that go through the weights together: enough to use them well, few enough that what is
/// between the layers stays small.
const CHUNK: usize = 512;

impl Decoder {
    /// Takes tokens that follow those before; gives the logits of the one after them, `[vocabulary]`. With weights that
    /// are not `f32`, products round activations too: to bfloat16, or to bytes where weights are blocks.
    ///
    /// # Errors
    /// When there is no token, one is not of the vocabulary, or they do not fit into the context.
    pub fn prefill<'s>(&self, sequence: &'s mut Sequence, tokens: &[u32]) -> Result<&'s [f32], ModelError> {
        let Some((last, before)) = tokens.split_last() else {
            return Err(ModelError::Bad(Problem::new("a prompt has at least one token").into()));
        };
        if before.is_empty() {
            return self.step(sequence, *last);
        }
        self.check(sequence, tokens)?;
        let mut parts = tokens.chunks(CHUNK).peekable();
        while let Some(part) = parts.next() {
            self.prefill_part(sequence, part, parts.peek().is_none())?;
        }
        Ok(&sequence.logits)
    }

    /// Takes a part of a prompt of several tokens, so that other sequences can step in between; the logits are there after
    /// the `last` part. The parts of a prompt give what [`prefill`](Self::prefill) gives for the whole, to the last bit,
    /// wherever it is cut.
    ///
    /// # Errors
    /// As [`prefill`](Self::prefill).
    pub fn prefill_part(
        &self,
        sequence: &mut Sequence,
        tokens: &[u32],
        last: bool,
    ) -> Result<(), ModelError> {
        if tokens.is_empty() {
            return Err(ModelError::Bad(Problem::new("a prompt has at least one token").into()));
        }
        self.check(sequence, tokens)?;
        let x = self.positions_of(sequence, tokens);
        if last {
            let (level, width) = (self.level, self.config.width);
            let normed = &mut sequence.step.normed;
            normed.set(self, 1, &x[x.len() - width..], &self.norm);
            let epilogue = matvec::Epilogue::default();
            matvec::forward(level, &self.head, &normed.packed, &epilogue, &mut sequence.logits);
        }
        Ok(())
    }

    /// Logits after each of the tokens, `[tokens, vocabulary]`, which follow those before. Those that
    /// [`Sequence::logits`] gives stay as they were.
    ///
    /// # Errors
    /// When a token is not of the vocabulary, or they do not fit into the context.
    pub fn forward(&self, sequence: &mut Sequence, tokens: &[u32]) -> Result<Vec<f32>, ModelError> {
        self.check(sequence, tokens)?;
        let x = self.positions_of(sequence, tokens);
        let x = self.normalise(&x, &self.norm);
        let head = Joined::beside(vec![&self.head]);
        Ok(self.linear(&x, &head, self.config.width, self.config.vocabulary, Epilogue::default()))
    }

    fn linear(
        &self,
        x: &[f32],
        weight: &Joined<'_>,
        inputs: usize,
        outputs: usize,
        epilogue: Epilogue<'_>,
    ) -> Vec<f32> {
        let rows = x.len() / inputs;
        if self.format.is_blocks() {
            let mut packed = Activations::default();
            packed.set_blocks(self.level, rows, x, &weight.parts());
            let mut y = vec![0.0; rows * outputs];
            weight.forward_blocks(self.level, &packed, &epilogue, &mut y);
            return y;
        }
        let precision = if self.format == Format::F32 { Precision::F32 } else { Precision::Bf16 };
        let shape = [rows, inputs, outputs];
        forward_from(self.level, precision, shape, Matrix::F32(x), weight, epilogue, false).0
    }

    fn normalise(&self, x: &[f32], norm: &Norm) -> Vec<f32> {
        norm::forward(self.level, x, &norm.weight, norm.bias.as_deref(), self.config.epsilon).0
    }

    /// What the last norm reads, `[tokens, width]`, of tokens that fit.
    fn positions_of(&self, sequence: &mut Sequence, tokens: &[u32]) -> Vec<f32> {
        let width = self.config.width;
        let mut x = vec![0.0; tokens.len() * width];
        for (i, (token, x)) in tokens.iter().zip(x.chunks_exact_mut(width)).enumerate() {
            self.embed(*token, sequence.position + i, x);
        }
        for (index, block) in self.blocks.iter().enumerate() {
            let inner = self.attention(sequence, index, &self.normalise(&x, &block.norm));
            x = self.second(&block.attention, &inner, self.config.heads * self.config.head_dim, &x);
            let inner = self.feed_forward(&block.feed_forward, &self.normalise(&x, &block.middle_norm));
            x = self.second(&block.feed_forward, &inner, self.config.hidden, &x);
        }
        sequence.position += tokens.len();
        x
    }

    /// The second layer of a pair, and the residual.
    fn second(&self, pair: &Pair, inner: &[f32], inputs: usize, x: &[f32]) -> Vec<f32> {
        let epilogue =
            Epilogue { bias: pair.bias.as_deref(), activation: Activation::Identity, residual: Some(x) };
        self.linear(inner, &pair.seconds(), inputs, self.config.width, epilogue)
    }

    /// The feed-forward part from the normalised input to what its second layer reads, `[tokens, hidden]`.
    fn feed_forward(&self, pair: &Pair, x: &[f32]) -> Vec<f32> {
        let (width, hidden, activation) = (self.config.width, self.config.hidden, self.config.activation);
        let bias = pair.first_bias();
        if !self.config.gated() {
            let epilogue = Epilogue { bias: bias.as_deref(), activation, residual: None };
            return self.linear(x, &pair.firsts(), width, hidden, epilogue);
        }
        let epilogue = Epilogue { bias: bias.as_deref(), ..Epilogue::default() };
        // [tokens][share][gate, what it lets through]
        let first = self.linear(x, &pair.firsts(), width, 2 * hidden, epilogue);
        let mut inner = vec![0.0; first.len() / 2];
        parallel_chunks(&mut inner, ROWS * hidden, |task, inner| {
            let first = &first[task * ROWS * 2 * hidden..];
            for (inner, first) in inner.chunks_exact_mut(hidden).zip(first.chunks_exact(2 * hidden)) {
                let mut from = 0;
                for share in &pair.shares {
                    let size = share.second.inputs();
                    let (first, inner) = (&first[2 * from..][..2 * size], &mut inner[from..][..size]);
                    let_through(self.level, first, inner, size, activation);
                    from += size;
                }
            }
        });
        inner
    }

    /// Attention from the normalised input to what the output projection reads, `[tokens, heads · head_dim]`.
    fn attention(&self, sequence: &Sequence, index: usize, x: &[f32]) -> Vec<f32> {
        let config = &self.config;
        let (width, dim, group, heads) = (config.width, config.head_dim, config.group(), config.kv_heads);
        let (share, position) = (config.share(), sequence.position);
        let (pair, cache) = (&self.blocks[index].attention, &sequence.caches[index]);
        let (bias, all) = (pair.first_bias(), heads * share);
        let epilogue = Epilogue { bias: bias.as_deref(), ..Epilogue::default() };
        // [tokens][key head][queries, key, value]
        let mut first = self.linear(x, &pair.firsts(), width, all, epilogue);
        let tokens = x.len() / width;
        if let Some(rotary) = &self.rotary {
            let positions = Positions { offset: position, length: tokens };
            for head in 0..heads {
                let place = [head * share, group + 1];
                rotary.apply(self.level, Direction::Forward, &mut first, all, place, positions);
            }
        }
        parallel(heads, |head| {
            let mut cache = cache.write(head);
            for (i, row) in first.chunks_exact(all).enumerate() {
                let (key, value) = row[head * share + group * dim..][..2 * dim].split_at(dim);
                cache.put(position + i, key, value);
            }
        });
        let (blocks, queries) = (tokens.div_ceil(ROWS), heads * group);
        // [block of tokens][query head][token][value], later blocks first, as they see more.
        let mut attended = vec![0.0; queries * blocks * ROWS * dim];
        parallel_chunks(&mut attended, ROWS * dim, |task, out| {
            let (query, block) = (task % queries, blocks - 1 - task / queries);
            let rows = ROWS.min(tokens - block * ROWS);
            let counts: [usize; ROWS] = std::array::from_fn(|r| position + block * ROWS + r + 1);
            let queries = &first[block * ROWS * all + query / group * share + query % group * dim..];
            let scale = 1.0 / (dim as f32).sqrt();
            cache.read(query / group).attend(self.level, queries, all, &counts[..rows], scale, out, dim);
        });
        let mut inner = vec![0.0; tokens * queries * dim];
        parallel_chunks(&mut inner, queries * dim, |t, row| {
            for (query, out) in row.chunks_exact_mut(dim).enumerate() {
                let task = (blocks - 1 - t / ROWS) * queries + query;
                out.copy_from_slice(&attended[(task * ROWS + t % ROWS) * dim..][..dim]);
            }
        });
        inner
    }
}
