//! How fast a decoder is, and how fast it could be.

use std::time::{Duration, Instant};

use jishi_kernels::cpu::matvec::PackedWeight;
use jishi_kernels::threads::parallel;

use super::{Decoder, Sequence, most_likely};
use crate::error::ModelError;

/// Times of a decoder, in seconds, and what it read and made.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodeFigures {
    /// Greedy tokens after the prompt until the context is full, one run each: all alike.
    pub tokens: Vec<u32>,
    /// Time of each run, that of the prompt included.
    pub generated: Vec<f64>,
    /// Time of forward passes over the whole context, with the logits of every position.
    pub forward: Vec<f64>,
    /// Bytes of weights that a token reads.
    pub weight_bytes: usize,
    /// Time of reading these bytes, with all threads and in one parallel call, and doing nothing with them: the least of
    /// the runs. No token can be faster.
    pub read: f64,
}

/// Measures a decoder, after a warm-up. Prompt and context are what the peer's workload has: the first 16
/// tokens, and as many tokens as there are positions.
///
/// # Errors
/// When the context or the vocabulary is too small.
pub fn measure(decoder: &Decoder, runs: usize) -> Result<DecodeFigures, ModelError> {
    let prompt: Vec<u32> = (0..16).collect();
    let whole: Vec<u32> = (0..decoder.config.context as u32).collect();
    let (mut generated, mut forward, mut read, mut tokens) = (Vec::new(), Vec::new(), f64::MAX, Vec::new());
    let mut sequence = decoder.sequence();
    for run in 0..=runs {
        sequence.rewind(0);
        let started = Instant::now();
        tokens = generate(decoder, &mut sequence, &prompt)?;
        let time = started.elapsed();
        read = (0..20).map(|_| read_weights(decoder).as_secs_f64()).fold(read, f64::min);
        sequence.rewind(0);
        let started = Instant::now();
        decoder.forward(&mut sequence, &whole)?;
        if run > 0 {
            generated.push(time.as_secs_f64());
            forward.push(started.elapsed().as_secs_f64());
        }
    }
    Ok(DecodeFigures { tokens, generated, forward, weight_bytes: decoder.weight_bytes(), read })
}

/// Greedy tokens after a prompt, which follows what the sequence has, until the context is full.
///
/// # Errors
/// When the prompt is empty, longer than the context, or of another vocabulary.
pub fn generate(decoder: &Decoder, sequence: &mut Sequence, prompt: &[u32]) -> Result<Vec<u32>, ModelError> {
    let room = decoder.config.context.saturating_sub(sequence.position + prompt.len());
    let mut tokens = Vec::with_capacity(room);
    let mut token = most_likely(decoder.prefill(sequence, prompt)?);
    while tokens.len() < room {
        tokens.push(token);
        if tokens.len() < room {
            token = most_likely(decoder.step(sequence, token)?);
        }
    }
    Ok(tokens)
}

fn read_weights(decoder: &Decoder) -> Duration {
    let parts: Vec<&PackedWeight> = decoder.packed().collect();
    let started = Instant::now();
    parallel(parts.len(), |task| {
        std::hint::black_box(parts[task].read(decoder.level));
    });
    started.elapsed()
}
