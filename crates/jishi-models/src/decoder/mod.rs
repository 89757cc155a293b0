//! Decoding, one token at a time, of Transformers with pre-norm blocks: GPT-2 (Radford et al. 2019) and Llama (Touvron
//! et al. 2023).
//!
//! A token uses every weight once, so its time is that of reading the weights, if nothing else gets in the way:
//!
//! - Weights are packed once, in the order in which they are read, as `f32`, bfloat16, bytes, or blocks of a GGUF
//!   file ([`Format`]).
//! - A block is two parallel calls. In attention a task takes a key head, with the queries that share it, from the
//!   normalised input to its share of the output projection; in the feed-forward part it takes some hidden values
//!   from the input to their share of the output. The task that ends last adds the shares to the residual, in
//!   their order, and applies the next norm. No result depends on the number of threads.
//! - Memory is allocated once, and doubled when a text outgrows it.
//!
//! Weights are in a [`Decoder`], which never changes; what belongs to one text is in a [`Sequence`]. Several sequences
//! take a step together, for about the time of one, and a prompt goes through the weights as matrix products of
//! all its positions.

mod bench;
mod config;
mod prefill;
mod sequence;
mod source;
mod step;
#[cfg(test)]
pub(crate) mod tests;
mod weights;

use jishi_kernels::cpu::matvec::{Format, PackedWeight};
use jishi_kernels::cpu::rotary::Rotary;
use jishi_kernels::multiversion;
use jishi_kernels::simd::Level;
use jishi_recipe::{Problem, Problems};

use crate::error::ModelError;
use crate::weights::NamedTensor;
pub use bench::{DecodeFigures, generate, measure};
pub use config::{DecoderConfig, DecoderFamily, RotaryPositions, RotaryScaling};
pub use jishi_kernels::cpu::decode::PAGE;
pub use sequence::Sequence;
pub use source::{MatrixOrder, StoredTensor, StoredValues, TensorSource};
use weights::{Block, Norm, Tensors};

/// A decoder's weights.
#[derive(Debug)]
pub struct Decoder {
    config: DecoderConfig,
    format: Format,
    /// Whether keys and values are kept as bfloat16.
    half: bool,
    level: Level,
    /// `[width, vocabulary]`, where it is not the output layer.
    tokens: Option<PackedWeight>,
    /// `[context, width]`, of GPT-2.
    positions: Vec<f32>,
    rotary: Option<Rotary>,
    blocks: Vec<Block>,
    norm: Norm,
    /// `[width, vocabulary]`
    head: PackedWeight,
}

impl Decoder {
    /// A decoder from tensors in memory with our models' names: [`load`](Self::load) of them.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn new(config: DecoderConfig, format: Format, tensors: &[NamedTensor]) -> Result<Self, ModelError> {
        Self::load(config, format, tensors)
    }

    /// A decoder from tensors with the names and shapes of the reference checkpoints on the Hugging Face hub. Those of
    /// GPT-2 are `wte.weight`, `wpe.weight`, `h.0.attn.c_attn.weight` (`[in, out]`), …, with or without
    /// `transformer.` before them; those of Llama are `model.embed_tokens.weight`,
    /// `model.layers.0.self_attn.q_proj.weight`, …, with or without `model.`. The output layer is
    /// `lm_head.weight` (`[vocabulary, width]`), or the table of embeddings where it is missing.
    ///
    /// Each tensor is packed and dropped before the next. One in numbers is packed in `format`; one in blocks keeps them
    /// where `format` is one of blocks ([`Format::is_blocks`]), and is packed in `format` otherwise. Keys and
    /// values are kept as bfloat16 unless weights are `f32`.
    ///
    /// # Errors
    /// Names every tensor that is missing or has another shape, or says which sizes make no decoder.
    pub fn load<S: TensorSource + ?Sized>(
        config: DecoderConfig,
        format: Format,
        source: &S,
    ) -> Result<Self, ModelError> {
        config.check().map_err(Problems::from)?;
        let mut tensors = Tensors::new(source, format, &config.family);
        let (width, vocabulary) = (config.width, config.vocabulary);
        let (table, norm) = match config.family {
            DecoderFamily::Gpt2 => ("wte.weight", "ln_f"),
            DecoderFamily::Llama(_) => ("embed_tokens.weight", "norm"),
        };
        let untied = tensors.has("lm_head.weight");
        let (tokens, head) = if untied {
            // A token reads one entry of the table, so bytes would save no time.
            let exact = if format == Format::Int8 { Format::Bf16 } else { format };
            let tokens = tensors.packed_table(table, width, vocabulary, exact);
            (Some(tokens), tensors.packed_table("lm_head.weight", width, vocabulary, format))
        } else {
            (None, tensors.packed_table(table, width, vocabulary, format))
        };
        let positions = match config.family {
            DecoderFamily::Gpt2 => tensors.values("wpe.weight", &[config.context, width]),
            DecoderFamily::Llama(_) => Vec::new(),
        };
        let blocks = (0..config.layers).map(|index| Block::take(&mut tensors, &config, index)).collect();
        let norm = Norm::take(&mut tensors, norm, &config);
        Problems(tensors.problems).into_result()?;
        let (level, half, rotary) = (Level::best(), format != Format::F32, config.rotary(config.context));
        Ok(Self { config, format, half, level, tokens, positions, rotary, blocks, norm, head })
    }

    /// Its sizes.
    #[must_use]
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// Bytes of packed weights: what a token reads at least.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        self.packed().map(PackedWeight::bytes).sum()
    }

    fn packed(&self) -> impl Iterator<Item = &PackedWeight> {
        self.blocks.iter().flat_map(Block::packed).chain([&self.head])
    }

    /// What the first block reads of a token at a position.
    fn embed(&self, token: u32, position: usize, x: &mut [f32]) {
        self.tokens.as_ref().unwrap_or(&self.head).column(token as usize, x);
        if !self.positions.is_empty() {
            let place = &self.positions[position * x.len()..][..x.len()];
            x.iter_mut().zip(place).for_each(|(x, p)| *x += p);
        }
    }

    fn check(&self, sequence: &Sequence, tokens: &[u32]) -> Result<(), ModelError> {
        let problem = if let Some(token) = tokens.iter().find(|t| **t as usize >= self.config.vocabulary) {
            format!("token {token} is not below {}, the number of tokens", self.config.vocabulary)
        } else if sequence.position + tokens.len() > self.config.context {
            let (taken, context) = (sequence.position, self.config.context);
            format!("{} tokens after {taken} are more than the context of {context}", tokens.len())
        } else {
            return Ok(());
        };
        Err(ModelError::Bad(Problem::new(problem).into()))
    }
}

/// The token with the largest logit, the first of several.
#[must_use]
pub fn most_likely(logits: &[f32]) -> u32 {
    largest(Level::best(), logits) as u32
}

multiversion! {
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
