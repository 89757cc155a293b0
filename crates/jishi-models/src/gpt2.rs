//! GPT-2 (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"): a decoder of pre-norm
//! Transformer blocks with learned positions. Parameter names are those of the reference checkpoints on the
//! Hugging Face hub: `wte`, `wpe`, `h.0.attn.c_attn`, `ln_f`, and `lm_head` where it is not tied to `wte`.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor};
use jishi_kernels::cpu::cross_entropy::{Layout, Options};
use jishi_kernels::ops::{self, Attention};
use jishi_kernels::{Activation, Precision};
use jishi_recipe::Init;

use crate::init::Scope;
use crate::layers::dense::Linear;
use crate::layers::norm::LayerNorm;

/// Sizes of a GPT-2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpt2Config {
    /// Blocks.
    pub layers: usize,
    /// Values a position.
    pub width: usize,
    /// Attention heads; divides `width`.
    pub heads: usize,
    /// Positions.
    pub context: usize,
    /// Tokens.
    pub vocabulary: usize,
    /// Whether the output layer is the table of token embeddings.
    pub tied: bool,
    /// Of the feed-forward part: the original has the tanh form of GELU.
    pub activation: Activation,
}

/// A GPT-2 with its output layer.
#[derive(Module, Debug)]
pub struct Gpt2 {
    /// `[vocabulary, width]`
    wte: Table,
    /// `[context, width]`
    wpe: Table,
    h: Vec<Block>,
    ln_f: LayerNorm,
    /// `[vocabulary, width]`
    lm_head: Option<Table>,
}

/// A table of embeddings.
#[derive(Module, Debug)]
struct Table {
    /// `[entries, width]`
    weight: Param<Tensor<2>>,
}

#[derive(Module, Debug)]
struct Block {
    ln_1: LayerNorm,
    attn: SelfAttention,
    ln_2: LayerNorm,
    mlp: FeedForward,
}

#[derive(Module, Debug)]
struct SelfAttention {
    /// `[width, 3 · width]`: queries, keys, values
    c_attn: Linear,
    /// `[width, width]`
    c_proj: Linear,
    heads: usize,
}

#[derive(Module, Debug)]
struct FeedForward {
    /// `[width, 4 · width]`
    c_fc: Linear,
    /// `[4 · width, width]`
    c_proj: Linear,
    #[module(skip)]
    activation: Activation,
}

/// Deviation of initial weights (Radford et al. 2018, §4.1).
const DEVIATION: f32 = 0.02;

impl Gpt2 {
    /// A model with initial weights from `seed`: normal with deviation 0.02, that of layers that write to the
    /// residual stream over the root of their number (Radford et al. 2019, §2.3), biases zero.
    #[must_use]
    pub fn init(config: &Gpt2Config, seed: u64, device: &Device) -> Self {
        let scope = Scope::new(seed, Init::Zeros, device);
        let Gpt2Config { layers, width, heads, context, vocabulary, .. } = *config;
        let table = |name: &str, entries| Table {
            weight: scope.child(name).normal("weight", [entries, width], DEVIATION),
        };
        let linear = |at: Scope, inputs: usize, outputs: usize, deviation: f32| Linear {
            weight: at.normal("weight", [inputs, outputs], deviation),
            bias: at.constant(0.0, [outputs]),
        };
        let residual = DEVIATION / ((2 * layers).max(1) as f32).sqrt();
        let block = |i: usize| {
            let at = scope.child(&format!("h.{i}"));
            Block {
                ln_1: LayerNorm::init(&at.child("ln_1"), width),
                attn: SelfAttention {
                    c_attn: linear(at.child("attn.c_attn"), width, 3 * width, DEVIATION),
                    c_proj: linear(at.child("attn.c_proj"), width, width, residual),
                    heads,
                },
                ln_2: LayerNorm::init(&at.child("ln_2"), width),
                mlp: FeedForward {
                    c_fc: linear(at.child("mlp.c_fc"), width, 4 * width, DEVIATION),
                    c_proj: linear(at.child("mlp.c_proj"), 4 * width, width, residual),
                    activation: config.activation,
                },
            }
        };
        Self {
            wte: table("wte", vocabulary),
            wpe: table("wpe", context),
            h: (0..layers).map(block).collect(),
            ln_f: LayerNorm::init(&scope.child("ln_f"), width),
            lm_head: (!config.tied).then(|| table("lm_head", vocabulary)),
        }
    }

    /// The last hidden states.
    ///
    /// # Shapes
    /// - tokens: `[batch, time]`
    /// - output: `[batch, time, width]`
    ///
    /// # Panics
    /// When there are more positions than the context holds.
    #[must_use]
    pub fn hidden(&self, tokens: Tensor<2, Int>, precision: Precision) -> Tensor<3> {
        let [_, time] = tokens.dims();
        let positions = self.wpe.weight.val();
        assert!(time <= positions.dims()[0], "{time} positions for a context of {}", positions.dims()[0]);
        let mut x = ops::embedding(self.wte.weight.val(), tokens, Some((positions, 0))); // [batch, time, width]
        for block in &self.h {
            x = block.forward(x, precision);
        }
        self.ln_f.forward(x)
    }

    /// Logits of every position's next token.
    ///
    /// # Shapes
    /// - tokens: `[batch, time]`
    /// - output: `[batch, time, vocabulary]`
    #[must_use]
    pub fn forward(&self, tokens: Tensor<2, Int>, precision: Precision) -> Tensor<3> {
        let x = self.hidden(tokens, precision);
        let weight = self.output().transpose();
        ops::linear(x, weight, ops::Linear { precision, ..ops::Linear::default() })
    }

    /// Sum of the cross-entropies of next tokens, `[1]`, without holding all logits in memory.
    ///
    /// # Shapes
    /// - tokens: `[batch, time]`, targets: `[batch · time]`
    #[must_use]
    pub fn loss(
        &self,
        tokens: Tensor<2, Int>,
        targets: Tensor<1, Int>,
        options: Options,
        precision: Precision,
    ) -> Tensor<1> {
        let x = self.hidden(tokens, precision);
        let [batch, time, width] = x.dims();
        let x = x.reshape([batch * time, width]);
        ops::linear_cross_entropy(x, self.output(), Layout::OutIn, targets, options, precision)
    }

    /// `[vocabulary, width]`
    fn output(&self) -> Tensor<2> {
        self.lm_head.as_ref().unwrap_or(&self.wte).weight.val()
    }
}

impl Block {
    /// # Shapes
    /// - input and output: `[batch, time, width]`
    fn forward(&self, x: Tensor<3>, precision: Precision) -> Tensor<3> {
        let SelfAttention { c_attn, c_proj, heads } = &self.attn;
        let normed = self.ln_1.forward(x.clone());
        let bias = |layer: &Linear| Some(layer.bias.val());
        let with = ops::Linear { bias: bias(c_attn), precision, ..ops::Linear::default() };
        let qkv = ops::linear(normed, c_attn.weight.val(), with); // [batch, time, 3 · width]
        let attended = ops::self_attention(qkv, &Attention { precision, ..Attention::new(*heads).causal() });
        let with = ops::Linear { bias: bias(c_proj), residual: Some(x), precision, ..ops::Linear::default() };
        let x = ops::linear(attended, c_proj.weight.val(), with);

        let FeedForward { c_fc, c_proj, activation } = &self.mlp;
        ops::feed_forward(
            self.ln_2.forward(x.clone()),
            [c_fc.weight.val(), c_proj.weight.val()],
            [c_fc.bias.val(), c_proj.bias.val()],
            x,
            *activation,
            precision,
        )
    }
}
