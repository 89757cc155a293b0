//! GPT-2 (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"): a decoder of pre-norm
//! Transformer blocks with learned positions. Parameter names are those of the reference checkpoints on the
//! Hugging Face hub: `wte`, `wpe`, `h.0.attn.c_attn`, `ln_f`, and `lm_head` where it is not tied to `wte`.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use jishi_kernels::Activation;
use jishi_kernels::cpu::cross_entropy::Options;
use jishi_kernels::ops::{self, Attention};
use jishi_recipe::{Gpt2Model, Init, Problems};
use serde_json::{Value, json};

use crate::config::{Keys, activation_name};
use crate::context::Context;
use crate::init::Scope;
use crate::layers::norm::LayerNorm;
use crate::layers::projection::{FeedForwardDropout, Projection, feed_forward};
use crate::layers::tokens::{Table, next_token_logits, next_token_loss, positions};
use crate::lora::Adapted;
use crate::reference::{Reference, sizes};

/// Sizes of a GPT-2.
#[derive(Debug, Clone, PartialEq)]
pub struct Gpt2Config {
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
    /// Whether the output layer is the table of token embeddings.
    pub tied: bool,
    /// Of the feed-forward part: the original has the tanh form of GELU.
    pub activation: Activation,
    /// Added to the variance by norms.
    pub epsilon: f64,
    /// Share of embeddings dropped in training.
    pub embedding_dropout: f64,
    /// Share of attention dropped in training.
    pub attention_dropout: f64,
    /// Share of what a block adds dropped in training.
    pub residual_dropout: f64,
}

/// How reference checkpoints name tensors: GPT-2's matrices are `[in, out]` there too.
pub const REFERENCE: Reference = Reference {
    prefix: "transformer.",
    own_prefix: false,
    heads: &["lm_head."],
    optional: &[],
    renamed: &[],
    turned: &[],
    ignored: &["attn.bias", "attn.masked_bias"],
    aliases: None,
};

impl Gpt2Config {
    /// The original's variant of these sizes: tied, without dropout.
    #[must_use]
    pub fn new(layers: usize, width: usize, heads: usize, context: usize, vocabulary: usize) -> Self {
        Self {
            layers,
            width,
            heads,
            hidden: 4 * width,
            context,
            vocabulary,
            tied: true,
            activation: Activation::GeluTanh,
            epsilon: 1e-5,
            embedding_dropout: 0.0,
            attention_dropout: 0.0,
            residual_dropout: 0.0,
        }
    }

    /// The sizes of a recipe.
    ///
    /// # Errors
    /// Names all sizes that make no model.
    pub fn from_recipe(model: &Gpt2Model, vocabulary: usize) -> Result<Self, Problems> {
        let Gpt2Model { layers, heads, width, context, dropout, tied } = *model;
        sizes(&[
            (layers > 0, "`model.layers` is 0".into(), "6 is usual for a small model"),
            (
                width > 0 && heads > 0 && width.is_multiple_of(heads),
                format!("`model.heads` is {heads} and does not divide `model.width`, {width}"),
                "choose a width that is a multiple of the heads",
            ),
            (context > 0, "`model.context` is 0".into(), "256 is usual for a small model"),
            (vocabulary > 0, "the vocabulary has no tokens".into(), "train a tokenizer on some text"),
            (
                (0.0..1.0).contains(&dropout),
                format!("`model.dropout` is {dropout}"),
                "give a share from 0 to below 1",
            ),
        ])?;
        Ok(Self {
            tied,
            embedding_dropout: dropout,
            attention_dropout: dropout,
            residual_dropout: dropout,
            ..Self::new(layers, width, heads, context, vocabulary)
        })
    }

    /// The sizes of a Hugging Face `config.json`.
    ///
    /// # Errors
    /// Names every key that is missing, damaged, or asks for something that is not supported.
    pub fn from_hf(value: &Value) -> Result<Self, Problems> {
        let mut keys = Keys::new(value, &["gpt2"]);
        let width = keys.size("n_embd");
        let config = Self {
            layers: keys.size("n_layer"),
            width,
            heads: keys.size("n_head"),
            hidden: keys.maybe_size("n_inner").unwrap_or(4 * width),
            context: keys.size("n_positions"),
            vocabulary: keys.size("vocab_size"),
            tied: keys.flag("tie_word_embeddings", true),
            activation: keys.activation("activation_function", "gelu_new"),
            epsilon: keys.positive("layer_norm_epsilon", 1e-5),
            embedding_dropout: keys.share("embd_pdrop", 0.1),
            attention_dropout: keys.share("attn_pdrop", 0.1),
            residual_dropout: keys.share("resid_pdrop", 0.1),
        };
        keys.divides(["n_head", "n_embd"], config.heads, width);
        keys.must("scale_attn_weights", &[json!(true)]);
        keys.must("scale_attn_by_inverse_layer_idx", &[json!(false)]);
        keys.must("add_cross_attention", &[json!(false)]);
        keys.finish()?;
        Ok(config)
    }

    /// As a Hugging Face `config.json`.
    #[must_use]
    pub fn to_hf(&self) -> Value {
        json!({
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "vocab_size": self.vocabulary,
            "n_positions": self.context,
            "n_ctx": self.context,
            "n_embd": self.width,
            "n_layer": self.layers,
            "n_head": self.heads,
            "n_inner": self.hidden,
            "activation_function": activation_name(self.activation),
            "layer_norm_epsilon": self.epsilon,
            "embd_pdrop": self.embedding_dropout,
            "attn_pdrop": self.attention_dropout,
            "resid_pdrop": self.residual_dropout,
            "tie_word_embeddings": self.tied,
            "torch_dtype": "float32",
        })
    }
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
    #[module(skip)]
    config: Gpt2Config,
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
    c_attn: Projection,
    /// `[width, width]`
    c_proj: Projection,
}

#[derive(Module, Debug)]
struct FeedForward {
    /// `[width, hidden]`
    c_fc: Projection,
    /// `[hidden, width]`
    c_proj: Projection,
}

/// Deviation of initial weights (Radford et al. 2018, §4.1).
const DEVIATION: f32 = 0.02;

impl Gpt2 {
    /// A model with initial weights from `seed`: normal with deviation 0.02, that of layers that write to the
    /// residual stream over the root of their number (Radford et al. 2019, §2.3), biases zero.
    #[must_use]
    pub fn init(config: &Gpt2Config, seed: u64, device: &Device) -> Self {
        let scope = Scope::new(seed, Init::Zeros, device);
        let Gpt2Config { layers, width, hidden, context, vocabulary, .. } = *config;
        let table = |name: &str, entries| Table::init(&scope.child(name), [entries, width], DEVIATION);
        let residual = DEVIATION / ((2 * layers).max(1) as f32).sqrt();
        let block = |i: usize| {
            let at = scope.child(&format!("h.{i}"));
            let layer =
                |name: &str, shape, deviation| Projection::init(&at.child(name), shape, deviation, true);
            Block {
                ln_1: LayerNorm::init(&at.child("ln_1"), width),
                attn: SelfAttention {
                    c_attn: layer("attn.c_attn", [width, 3 * width], DEVIATION),
                    c_proj: layer("attn.c_proj", [width, width], residual),
                },
                ln_2: LayerNorm::init(&at.child("ln_2"), width),
                mlp: FeedForward {
                    c_fc: layer("mlp.c_fc", [width, hidden], DEVIATION),
                    c_proj: layer("mlp.c_proj", [hidden, width], residual),
                },
            }
        };
        Self {
            wte: table("wte", vocabulary),
            wpe: table("wpe", context),
            h: (0..layers).map(block).collect(),
            ln_f: LayerNorm::init(&scope.child("ln_f"), width),
            lm_head: (!config.tied).then(|| table("lm_head", vocabulary)),
            config: config.clone(),
        }
    }

    /// Its sizes.
    #[must_use]
    pub fn config(&self) -> &Gpt2Config {
        &self.config
    }

    /// The last hidden states. With `starts`, the place of the first token of each token's document, documents of a
    /// packed sequence do not see each other and each has positions from 0.
    ///
    /// # Shapes
    /// - tokens, starts: `[batch, time]`
    /// - output: `[batch, time, width]`
    ///
    /// # Panics
    /// When there are more positions than the context holds.
    pub fn hidden(
        &self,
        tokens: Tensor<2, Int>,
        starts: Option<Tensor<2, Int>>,
        context: &mut Context,
    ) -> Tensor<3> {
        let [_, time] = tokens.dims();
        let held = self.wpe.entries();
        assert!(time <= held, "{time} positions for a context of {held}");
        let x = match &starts {
            None => ops::embedding(self.wte.weight.val(), tokens, Some((self.wpe.weight.val(), 0))),
            Some(starts) => self.wte.forward(tokens) + self.wpe.forward(positions(starts.clone())),
        }; // [batch, time, width]
        let mut x = context.dropout(x, self.config.embedding_dropout, 1);
        for block in &self.h {
            let (config, starts) = (self.config.clone(), starts.clone());
            x = context.block(block, x, move |block: &Block, x, context| {
                block.forward(x, &config, starts.as_ref(), context)
            });
        }
        self.ln_f.forward_with(x, self.config.epsilon)
    }

    /// Logits of every position's next token.
    ///
    /// # Shapes
    /// - tokens, starts: `[batch, time]`
    /// - output: `[batch, time, vocabulary]`
    pub fn forward(
        &self,
        tokens: Tensor<2, Int>,
        starts: Option<Tensor<2, Int>>,
        context: &mut Context,
    ) -> Tensor<3> {
        let x = self.hidden(tokens, starts, context);
        next_token_logits(x, self.output(), context.precision())
    }

    /// Sum of the cross-entropies of next tokens, `[1]`, without holding all logits in memory.
    ///
    /// # Shapes
    /// - tokens, starts: `[batch, time]`, targets: `[batch · time]`
    pub fn loss(
        &self,
        tokens: Tensor<2, Int>,
        starts: Option<Tensor<2, Int>>,
        targets: Tensor<1, Int>,
        options: Options,
        context: &mut Context,
    ) -> Tensor<1> {
        let x = self.hidden(tokens, starts, context);
        next_token_loss(x, self.output(), targets, options, context.precision())
    }

    /// The output layer, `[vocabulary, width]`.
    #[must_use]
    pub fn output(&self) -> Tensor<2> {
        self.lm_head.as_ref().unwrap_or(&self.wte).weight.val()
    }
}

impl Adapted for Gpt2 {
    fn each_projection(&mut self, f: &mut dyn FnMut(&str, &mut Projection)) {
        for (i, block) in self.h.iter_mut().enumerate() {
            f(&format!("h.{i}.attn.c_attn"), &mut block.attn.c_attn);
            f(&format!("h.{i}.attn.c_proj"), &mut block.attn.c_proj);
            f(&format!("h.{i}.mlp.c_fc"), &mut block.mlp.c_fc);
            f(&format!("h.{i}.mlp.c_proj"), &mut block.mlp.c_proj);
        }
    }
}

impl Block {
    /// # Shapes
    /// - input and output: `[batch, time, width]`
    fn forward(
        &self,
        x: Tensor<3>,
        config: &Gpt2Config,
        starts: Option<&Tensor<2, Int>>,
        context: &mut Context,
    ) -> Tensor<3> {
        let [_, time, _] = x.dims();
        let normed = self.ln_1.forward_with(x.clone(), config.epsilon);
        let qkv = self.attn.c_attn.forward(normed, context); // [batch, time, 3 · width]
        let attention = Attention {
            starts: starts.cloned(),
            dropout: context.attention_dropout(config.attention_dropout, config.heads * time),
            precision: context.precision(),
            ..Attention::new(config.heads).causal()
        };
        let attended = ops::self_attention(qkv, &attention);
        let x = self.attn.c_proj.added(attended, x, config.residual_dropout, context);
        let normed = self.ln_2.forward_with(x.clone(), config.epsilon);
        let dropouts = FeedForwardDropout { inner: 0.0, outer: config.residual_dropout };
        let pair = [&self.mlp.c_fc, &self.mlp.c_proj];
        feed_forward(pair, normed, x, config.activation, dropouts, context)
    }
}
