//! Many positions at once: a prompt, or a whole text whose logits are wanted.

use jishi_kernels::cpu::linear::{Epilogue, Matrix, forward_from};
use jishi_kernels::cpu::matvec::{Format, Joined};
use jishi_kernels::cpu::norm;
use jishi_kernels::threads::{parallel, parallel_chunks};
use jishi_kernels::{Activation, Precision};

use super::weights::{Norm, Pair};
use super::{Decoder, matvec};
use crate::error::ModelError;

/// Positions that a task of attention takes.
const ROWS: usize = 32;

impl Decoder {
    /// Takes tokens that follow those before; gives the logits of the one after them, `[vocabulary]`. With weights that
    /// are not `f32`, products round activations to bfloat16 too.
    ///
    /// # Errors
    /// When there is no token, one is not of the vocabulary, or they do not fit into the context.
    pub fn prefill(&mut self, tokens: &[u32]) -> Result<&[f32], ModelError> {
        let Some((last, before)) = tokens.split_last() else {
            return Err(ModelError::Bad(
                jishi_recipe::Problem::new("a prompt has at least one token").into(),
            ));
        };
        if before.is_empty() {
            return self.step(*last);
        }
        let x = self.positions_of(tokens)?;
        let (level, width) = (self.level, self.config.width);
        let x = &x[x.len() - width..];
        self.step.normed.set(level, self.format, x, &self.norm, self.config.epsilon);
        let (input, logits) = (&self.step.normed.packed, &mut self.step.logits);
        matvec::forward(level, &self.head, input, &matvec::Epilogue::default(), logits);
        Ok(&self.step.logits)
    }

    /// Logits after each of the tokens, `[tokens, vocabulary]`, which follow those before.
    ///
    /// # Errors
    /// As [`prefill`](Self::prefill).
    pub fn forward(&mut self, tokens: &[u32]) -> Result<Vec<f32>, ModelError> {
        let x = self.positions_of(tokens)?;
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
        let precision = if self.format == Format::F32 { Precision::F32 } else { Precision::Bf16 };
        let shape = [x.len() / inputs, inputs, outputs];
        forward_from(self.level, precision, shape, Matrix::F32(x), weight, epilogue, false).0
    }

    fn normalise(&self, x: &[f32], norm: &Norm) -> Vec<f32> {
        norm::forward(self.level, x, &norm.weight, Some(&norm.bias), self.config.epsilon).0
    }

    /// What the last norm reads, `[tokens, width]`.
    fn positions_of(&mut self, tokens: &[u32]) -> Result<Vec<f32>, ModelError> {
        self.check(tokens)?;
        let width = self.config.width;
        let mut x = Vec::with_capacity(tokens.len() * width);
        for (i, token) in tokens.iter().enumerate() {
            let token = &self.tokens[*token as usize * width..][..width];
            let place = &self.positions[(self.position + i) * width..][..width];
            x.extend(token.iter().zip(place).map(|(t, p)| t + p));
        }
        for index in 0..self.blocks.len() {
            let block = &self.blocks[index];
            let inner = self.attention(index, &self.normalise(&x, &block.norm));
            x = self.second(&block.attention, &inner, width, &x);
            let hidden = self.config.hidden;
            let bias = block.feed_forward.first_bias();
            let epilogue = Epilogue { bias: Some(&bias), activation: self.config.activation, residual: None };
            let normed = self.normalise(&x, &block.middle_norm);
            let inner = self.linear(&normed, &block.feed_forward.firsts(), width, hidden, epilogue);
            x = self.second(&block.feed_forward, &inner, hidden, &x);
        }
        self.position += tokens.len();
        Ok(x)
    }

    /// The second layer of a pair, and the residual.
    fn second(&self, pair: &Pair, inner: &[f32], inputs: usize, x: &[f32]) -> Vec<f32> {
        let epilogue =
            Epilogue { bias: Some(&pair.bias), activation: Activation::Identity, residual: Some(x) };
        self.linear(inner, &pair.seconds(), inputs, self.config.width, epilogue)
    }

    /// Attention from the normalised input to what the output projection reads, `[tokens, width]`.
    fn attention(&self, index: usize, x: &[f32]) -> Vec<f32> {
        let (width, heads, dim) = (self.config.width, self.config.heads, self.config.head_dim());
        let (pair, cache) = (&self.blocks[index].attention, &self.caches[index]);
        let bias = pair.first_bias();
        let epilogue = Epilogue { bias: Some(&bias), ..Epilogue::default() };
        // [tokens][head][query, key, value]
        let first = self.linear(x, &pair.firsts(), width, 3 * width, epilogue);
        let tokens = x.len() / width;
        parallel(heads, |head| {
            let mut cache = cache.write(head);
            for (i, row) in first.chunks_exact(3 * width).enumerate() {
                let [_, key, value] = [0, 1, 2].map(|part| &row[(3 * head + part) * dim..][..dim]);
                cache.put(self.position + i, key, value);
            }
        });
        let blocks = tokens.div_ceil(ROWS);
        // [head][block of tokens][token][value]
        let mut attended = vec![0.0; heads * blocks * ROWS * dim];
        parallel_chunks(&mut attended, ROWS * dim, |task, out| {
            let (head, block) = (task / blocks, task % blocks);
            let rows = ROWS.min(tokens - block * ROWS);
            let counts: [usize; ROWS] = std::array::from_fn(|r| self.position + block * ROWS + r + 1);
            let queries = &first[block * ROWS * 3 * width + 3 * head * dim..];
            let scale = 1.0 / (dim as f32).sqrt();
            cache.read(head).attend(self.level, queries, 3 * width, &counts[..rows], scale, out, dim);
        });
        let mut inner = vec![0.0; tokens * width];
        for (t, row) in inner.chunks_exact_mut(width).enumerate() {
            for (head, out) in row.chunks_exact_mut(dim).enumerate() {
                out.copy_from_slice(&attended[(head * blocks * ROWS + t) * dim..][..dim]);
            }
        }
        inner
    }
}
