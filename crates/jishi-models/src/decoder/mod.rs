//! Decoding, one token at a time, of Transformers with pre-norm blocks (GPT-2, Radford et al. 2019).
//!
//! A token uses every weight once, so its time is that of reading the weights, if nothing else gets in the way:
//!
//! - Weights are packed once, in the order in which they are read, as `f32`, bfloat16 or bytes ([`Format`]).
//! - A block is two parallel calls. In attention a task takes a key head from the normalised input to its share
//!   of the output projection; in the feed-forward part it takes some hidden values from the input to their
//!   share of the output. The task that ends last adds the shares to the residual, in their order, and applies
//!   the next norm. No result depends on the number of threads.
//! - All memory is allocated once.
//!
//! A prompt goes through the same weights as matrix products of all its positions.

mod bench;
mod prefill;
#[cfg(test)]
mod tests;
mod weights;

use std::sync::Mutex;

use jishi_kernels::cpu::decode::KvCache;
use jishi_kernels::cpu::matvec::{self, Activations, Epilogue, Format, PackedWeight};
use jishi_kernels::cpu::norm::forward_rows;
use jishi_kernels::simd::{Level, madd};
use jishi_kernels::threads::parallel_chunks_then;
use jishi_kernels::{Activation, multiversion};
use jishi_recipe::{Problem, Problems};

use crate::error::ModelError;
use crate::gpt2::Gpt2Config;
use crate::weights::NamedTensor;
pub use bench::{DecodeFigures, generate, measure};
use weights::{Block, Norm, Pair, Tensors};

/// Sizes of a decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderConfig {
    /// Blocks.
    pub layers: usize,
    /// Values a position.
    pub width: usize,
    /// Attention heads; divides `width`.
    pub heads: usize,
    /// Hidden values of the feed-forward part.
    pub hidden: usize,
    /// Positions.
    pub context: usize,
    /// Tokens.
    pub vocabulary: usize,
    /// Of the feed-forward part.
    pub activation: Activation,
    /// Added to the variance by norms.
    pub epsilon: f32,
}

impl From<&Gpt2Config> for DecoderConfig {
    fn from(config: &Gpt2Config) -> Self {
        Self {
            layers: config.layers,
            width: config.width,
            heads: config.heads,
            hidden: 4 * config.width,
            context: config.context,
            vocabulary: config.vocabulary,
            activation: config.activation,
            epsilon: 1e-5,
        }
    }
}

impl DecoderConfig {
    /// Values of a head.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        self.width / self.heads.max(1)
    }

    fn check(&self) -> Result<(), Problem> {
        let sizes = [self.width, self.heads, self.hidden, self.context, self.vocabulary];
        if sizes.contains(&0) {
            return Err(Problem::new("a decoder needs a width, heads, hidden values, positions and tokens"));
        }
        if !self.width.is_multiple_of(self.heads) {
            let message = format!("width {} is no multiple of {} heads", self.width, self.heads);
            return Err(Problem::new(message));
        }
        Ok(())
    }
}

/// A decoder with its weights, its cache, and the memory that a step needs.
#[derive(Debug)]
pub struct Decoder {
    config: DecoderConfig,
    format: Format,
    level: Level,
    /// `[vocabulary, width]`
    tokens: Vec<f32>,
    /// `[context, width]`
    positions: Vec<f32>,
    blocks: Vec<Block>,
    norm: Norm,
    /// `[width, vocabulary]`
    head: PackedWeight,
    caches: Vec<KvCache>,
    /// Positions in the cache.
    position: usize,
    step: Step,
}

/// Memory of a step.
#[derive(Debug)]
struct Step {
    /// The residual, `[width]`.
    x: Vec<f32>,
    normed: Normed,
    /// What the next norm is put into, while tasks read `normed`.
    next: Normed,
    /// Shares of a block's output, `[share][width]`.
    shares: Vec<f32>,
    tasks: Vec<Mutex<Scratch>>,
    logits: Vec<f32>,
}

/// A normalised row, as it is and as products read it.
#[derive(Debug, Default)]
struct Normed {
    values: Vec<f32>,
    packed: Activations,
}

/// Memory of a task.
#[derive(Debug, Default)]
struct Scratch {
    first: Vec<f32>,
    inner: Vec<f32>,
    packed: Activations,
}

impl Decoder {
    /// A decoder from tensors with the names and shapes of GPT-2's reference checkpoints: `wte.weight`, `wpe.weight`,
    /// `h.0.attn.c_attn.weight` (`[in, out]`), …, and `lm_head.weight` (`[vocabulary, width]`), which is
    /// `wte.weight` where it is missing. Keys and values are kept as bfloat16 unless weights are `f32`.
    ///
    /// # Errors
    /// Names every tensor that is missing or has another shape, or says which sizes make no decoder.
    pub fn new(config: DecoderConfig, format: Format, tensors: &[NamedTensor]) -> Result<Self, ModelError> {
        config.check().map_err(Problems::from)?;
        let mut tensors = Tensors::new(tensors);
        let (width, vocabulary) = (config.width, config.vocabulary);
        let tokens = tensors.take("wte.weight", &[vocabulary, width]);
        let positions = tensors.take("wpe.weight", &[config.context, width]);
        let blocks: Vec<Block> =
            (0..config.layers).map(|index| Block::take(&mut tensors, &config, format, index)).collect();
        let norm = Norm::take(&mut tensors, "ln_f", width);
        let head = if tensors.has("lm_head.weight") {
            let head = tensors.take("lm_head.weight", &[vocabulary, width]);
            PackedWeight::from_columns(format, width, vocabulary, &head)
        } else {
            PackedWeight::from_columns(format, width, vocabulary, &tokens)
        };
        Problems(tensors.problems).into_result()?;
        let half = format != Format::F32;
        let cache = || KvCache::new(config.heads, config.head_dim(), config.context, half);
        let pairs = || blocks.iter().flat_map(|b| [&b.attention, &b.feed_forward]);
        let most = |size: fn(&Pair) -> usize| pairs().map(size).max().unwrap_or(0);
        let task = || {
            Mutex::new(Scratch {
                first: vec![0.0; most(|p| p.shares.iter().map(|s| s.first.outputs()).max().unwrap_or(0))],
                inner: vec![0.0; config.head_dim()],
                packed: Activations::default(),
            })
        };
        let shares = most(|p| p.shares.len());
        let normed = || Normed { values: vec![0.0; width], packed: Activations::default() };
        let step = Step {
            x: vec![0.0; width],
            normed: normed(),
            next: normed(),
            shares: vec![0.0; shares * width],
            tasks: (0..shares).map(|_| task()).collect(),
            logits: vec![0.0; vocabulary],
        };
        Ok(Self {
            level: Level::best(),
            caches: (0..config.layers).map(|_| cache()).collect(),
            position: 0,
            step,
            config,
            format,
            tokens,
            positions,
            blocks,
            norm,
            head,
        })
    }

    /// Its sizes.
    #[must_use]
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// Positions that were taken so far.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }

    /// Forgets what came after `position` positions: the next token is put there.
    pub fn rewind(&mut self, position: usize) {
        self.position = self.position.min(position);
    }

    /// Bytes of packed weights: what a token reads at least.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        self.packed().map(PackedWeight::bytes).sum()
    }

    fn packed(&self) -> impl Iterator<Item = &PackedWeight> {
        self.blocks.iter().flat_map(Block::packed).chain([&self.head])
    }

    fn check(&self, tokens: &[u32]) -> Result<(), ModelError> {
        let problem = if let Some(token) = tokens.iter().find(|t| **t as usize >= self.config.vocabulary) {
            format!("token {token} is not below {}, the number of tokens", self.config.vocabulary)
        } else if self.position + tokens.len() > self.config.context {
            let (taken, context) = (self.position, self.config.context);
            format!("{} tokens after {taken} are more than the context of {context}", tokens.len())
        } else {
            return Ok(());
        };
        Err(ModelError::Bad(Problem::new(problem).into()))
    }

    /// Takes the next token; gives the logits of the one after it, `[vocabulary]`. Allocates nothing after the first
    /// step.
    ///
    /// # Errors
    /// When the token is not one of the vocabulary, or the context is full.
    pub fn step(&mut self, token: u32) -> Result<&[f32], ModelError> {
        self.check(&[token])?;
        let (width, level, epsilon) = (self.config.width, self.level, self.config.epsilon);
        let (format, position) = (self.format, self.position);
        let Step { x, normed, next, shares, tasks, logits } = &mut self.step;
        let token = &self.tokens[token as usize * width..][..width];
        let place = &self.positions[position * width..][..width];
        for ((x, t), p) in x.iter_mut().zip(token).zip(place) {
            *x = t + p;
        }
        let first = self.blocks.first().map_or(&self.norm, |b| &b.norm);
        normed.set(level, format, x, first, epsilon);
        for (index, (block, cache)) in self.blocks.iter().zip(&self.caches).enumerate() {
            let following = self.blocks.get(index + 1).map_or(&self.norm, |b| &b.norm);
            let steps =
                [(&block.attention, &block.middle_norm, true), (&block.feed_forward, following, false)];
            for (pair, norm, attention) in steps {
                let input = &normed.packed;
                let share = |index: usize, out: &mut [f32]| {
                    let share = &pair.shares[index];
                    let scratch = &mut *tasks[index].lock().expect("no task panicked");
                    let inner = share.second.inputs();
                    let first = &mut scratch.first[..share.first.outputs()];
                    let activation = if attention { Activation::Identity } else { self.config.activation };
                    let epilogue = Epilogue { bias: Some(&share.bias), activation, residual: None };
                    share.first.multiply(level, input, &epilogue, first);
                    let inner = if attention {
                        let (query, rest) = first.split_at(inner);
                        let (key, value) = rest.split_at(inner);
                        let mut head = cache.write(index);
                        head.put(position, key, value);
                        let scale = 1.0 / (inner as f32).sqrt();
                        let out = &mut scratch.inner[..inner];
                        head.attend(level, query, inner, &[position + 1], scale, out, inner);
                        out
                    } else {
                        first
                    };
                    scratch.packed.set(level, format, 1, inner);
                    share.second.multiply(level, &scratch.packed, &Epilogue::default(), out);
                };
                let shares = &mut shares[..pair.shares.len() * width];
                parallel_chunks_then(shares, width, share, |shares| {
                    add(level, x, shares, &pair.bias);
                    next.set(level, format, x, norm, epsilon);
                });
                std::mem::swap(normed, next);
            }
        }
        matvec::forward(level, &self.head, &normed.packed, &Epilogue::default(), logits);
        self.position += 1;
        Ok(&self.step.logits)
    }
}

impl Normed {
    fn set(&mut self, level: Level, format: Format, x: &[f32], norm: &Norm, epsilon: f32) {
        forward_rows(level, x, &norm.weight, Some(&norm.bias), epsilon, &mut self.values, &mut [[0.0; 2]]);
        self.packed.set(level, format, 1, &self.values);
    }
}

/// The token with the largest logit, the first of several.
#[must_use]
pub fn most_likely(logits: &[f32]) -> u32 {
    largest(Level::best(), logits) as u32
}

multiversion! {
    /// `x += bias + shares`, in order.
    fn add(x: &mut [f32], shares: &[f32], bias: &[f32]) {
        let width = x.len();
        for (x, b) in x.iter_mut().zip(bias) {
            *x += b;
        }
        for share in shares.chunks_exact(width) {
            for (x, s) in x.iter_mut().zip(share) {
                *x = madd::<FMA>(1.0, *s, *x);
            }
        }
    }

    fn largest(values: &[f32]) -> usize {
        const LANES: usize = 16;
        let mut best = [f32::NEG_INFINITY; LANES];
        for values in values.chunks(LANES) {
            for (b, v) in best.iter_mut().zip(values) {
                *b = if *v > *b { *v } else { *b };
            }
        }
        let best = best.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
        values.iter().position(|v| *v == best).unwrap_or(0)
    }
}
