//! Sizes of a decoder, and which Transformer it is.

use jishi_kernels::Activation;
use jishi_kernels::cpu::rotary::{Layout, Llama3, Rotary};
use jishi_recipe::Problem;

use crate::gpt2::Gpt2Config;
use crate::language::CausalConfig;
use crate::llama::{LlamaConfig, RopeScaling};

/// Sizes of a decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderConfig {
    /// Blocks.
    pub layers: usize,
    /// Values a position.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Values of a head.
    pub head_dim: usize,
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
    /// Which Transformer it is.
    pub family: DecoderFamily,
}

/// What a decoder's blocks are made of.
#[derive(Debug, Clone, PartialEq)]
pub enum DecoderFamily {
    /// GPT-2 (Radford et al. 2019): layer norms, learned positions, biases.
    Gpt2,
    /// Llama (Touvron et al. 2023): RMS norms, rotary positions, a feed-forward part with a gate; biases where there
    /// are tensors of them.
    Llama(RotaryPositions),
}

/// Rotary positions (Su et al. 2021) of a whole head.
#[derive(Debug, Clone, PartialEq)]
pub struct RotaryPositions {
    /// Base of the frequencies.
    pub theta: f64,
    /// Which values of a head are a pair: halves in Hugging Face's files, neighbours in GGUF files of Llama.
    pub layout: Layout,
    /// How the context was stretched.
    pub scaling: RotaryScaling,
}

/// How frequencies are changed to stretch the context.
#[derive(Debug, Clone, PartialEq)]
pub enum RotaryScaling {
    /// They are not.
    None,
    /// All are divided (Chen et al. 2023, "Extending Context Window of Large Language Models via Positional
    /// Interpolation").
    Linear {
        /// By this.
        factor: f64,
    },
    /// Low ones are divided, as in Llama 3.1.
    Llama3(Llama3),
    /// Each is multiplied by its own factor, such as one over those of a GGUF file's `rope_freqs.weight`.
    Factors(Vec<f64>),
}

impl Default for RotaryPositions {
    fn default() -> Self {
        Self { theta: 10_000.0, layout: Layout::Half, scaling: RotaryScaling::None }
    }
}

impl From<&Gpt2Config> for DecoderConfig {
    fn from(config: &Gpt2Config) -> Self {
        Self {
            layers: config.layers,
            width: config.width,
            heads: config.heads,
            kv_heads: config.heads,
            head_dim: config.width / config.heads.max(1),
            hidden: config.hidden,
            context: config.context,
            vocabulary: config.vocabulary,
            activation: config.activation,
            epsilon: config.epsilon as f32,
            family: DecoderFamily::Gpt2,
        }
    }
}

impl From<&LlamaConfig> for DecoderConfig {
    fn from(config: &LlamaConfig) -> Self {
        let scaling = match &config.rope_scaling {
            RopeScaling::None => RotaryScaling::None,
            RopeScaling::Linear(factor) => RotaryScaling::Linear { factor: *factor },
            RopeScaling::Llama3(llama3) => RotaryScaling::Llama3(*llama3),
            RopeScaling::Factors(factors) => {
                RotaryScaling::Factors(factors.iter().map(|f| 1.0 / f).collect())
            }
        };
        let rotary = RotaryPositions { theta: config.rope_theta, layout: Layout::Half, scaling };
        Self {
            layers: config.layers,
            width: config.width,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            hidden: config.hidden,
            context: config.context,
            vocabulary: config.vocabulary,
            activation: config.activation,
            epsilon: config.epsilon as f32,
            family: DecoderFamily::Llama(rotary),
        }
    }
}

impl From<&CausalConfig> for DecoderConfig {
    fn from(config: &CausalConfig) -> Self {
        match config {
            CausalConfig::Gpt2(config) => config.into(),
            CausalConfig::Llama(config) => config.into(),
        }
    }
}

impl DecoderConfig {
    /// Query heads that share a key head.
    #[must_use]
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads.max(1)
    }

    /// Values that a key head's task makes of a position: its queries, the key and the value.
    pub(super) fn share(&self) -> usize {
        (self.group() + 2) * self.head_dim
    }

    pub(super) fn gated(&self) -> bool {
        matches!(self.family, DecoderFamily::Llama(_))
    }

    /// Angles of the first `positions` positions.
    pub(super) fn rotary(&self, positions: usize) -> Option<Rotary> {
        let DecoderFamily::Llama(rotary) = &self.family else { return None };
        let (theta, dim) = (rotary.theta, self.head_dim);
        let factors = match &rotary.scaling {
            RotaryScaling::None => None,
            RotaryScaling::Linear { factor } => Some(vec![1.0 / factor; dim / 2]),
            RotaryScaling::Llama3(llama3) => Some(llama3.factors(dim, theta)),
            RotaryScaling::Factors(factors) => Some(factors.clone()),
        };
        Some(Rotary::new([dim, dim], rotary.layout, theta, factors.as_deref(), positions))
    }

    pub(super) fn check(&self) -> Result<(), Problem> {
        let sizes = [self.width, self.heads, self.kv_heads, self.head_dim];
        if sizes.contains(&0) || [self.hidden, self.context, self.vocabulary].contains(&0) {
            return Err(Problem::new("a decoder needs a width, heads, hidden values, positions and tokens"));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            let message = format!("{} heads are no multiple of {} key heads", self.heads, self.kv_heads);
            return Err(Problem::new(message));
        }
        let bad = match &self.family {
            DecoderFamily::Gpt2 => (self.heads * self.head_dim != self.width || self.kv_heads != self.heads)
                .then(|| format!("width {} is no multiple of {} heads", self.width, self.heads)),
            DecoderFamily::Llama(rotary) => match &rotary.scaling {
                _ if !self.head_dim.is_multiple_of(2) => {
                    Some(format!("heads of {} values have no pairs to rotate", self.head_dim))
                }
                _ if !(rotary.theta.is_finite() && rotary.theta > 0.0) => {
                    Some(format!("a rotary base of {}, which should be positive", rotary.theta))
                }
                RotaryScaling::Linear { factor } if !(factor.is_finite() && *factor > 0.0) => {
                    Some(format!("a rotary scaling factor of {factor}, which should be positive"))
                }
                RotaryScaling::Llama3(l) if !(l.factor > 0.0 && l.high > l.low && l.context > 0.0) => {
                    Some(format!("rotary scaling of Llama 3 that makes no sense: {l:?}"))
                }
                RotaryScaling::Factors(factors) if factors.len() != self.head_dim / 2 => {
                    Some(format!("{} rotary factors for {} pairs", factors.len(), self.head_dim / 2))
                }
                _ => None,
            },
        };
        bad.map_or(Ok(()), |message| Err(Problem::new(message)))
    }
}
