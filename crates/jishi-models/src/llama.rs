//! Llama (Touvron et al. 2023; Grattafiori et al. 2024): a decoder of pre-norm Transformer blocks with RMS norm,
//! rotary positions (Su et al. 2021), SwiGLU (Shazeer 2020) and grouped query heads (Ainslie et al. 2023). Parameter
//! names are those of the reference checkpoints on the Hugging Face hub: `model.layers.0.self_attn.q_proj`, ….

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use jishi_kernels::Activation;
use jishi_kernels::cpu::cross_entropy::Options;
use jishi_kernels::cpu::rotary::{self, Layout as Pairs, Llama3, Rotary};
use jishi_kernels::ops::{self, Attention};
use jishi_recipe::{Init, LlamaModel, Problems};
use serde_json::{Value, json};

use crate::config::{Keys, activation_name};
use crate::context::Context;
use crate::init::Scope;
use crate::layers::norm::RmsNorm;
use crate::layers::projection::Projection;
use crate::layers::tokens::{Table, next_token_logits, next_token_loss};
use crate::lora::Adapted;
use crate::reference::{Reference, sizes};

/// Sizes of a Llama.
#[derive(Debug, Clone, PartialEq)]
pub struct LlamaConfig {
    /// Blocks.
    pub layers: usize,
    /// Values a position.
    pub width: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Values a head; even.
    pub head_dim: usize,
    /// Hidden values of the feed-forward part.
    pub hidden: usize,
    /// Positions.
    pub context: usize,
    /// Tokens.
    pub vocabulary: usize,
    /// Whether the output layer is the table of token embeddings.
    pub tied: bool,
    /// Of the gate.
    pub activation: Activation,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How rotary frequencies are stretched over a longer context.
    pub rope_scaling: RopeScaling,
    /// Added to the mean square by norms.
    pub epsilon: f64,
    /// Whether layers of attention have biases.
    pub attention_bias: bool,
    /// Whether layers of the feed-forward part have biases.
    pub mlp_bias: bool,
    /// Share of attention dropped in training.
    pub attention_dropout: f64,
    /// Share of what a block adds dropped in training.
    pub residual_dropout: f64,
}

/// How rotary frequencies are stretched over a longer context.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    #[default]
    None,
    /// All are divided by this (Chen et al. 2023, "Extending Context Window of Large Language Models via Positional
    /// Interpolation").
    Linear(f64),
    /// Low ones are slowed down.
    Llama3(Llama3),
    /// Each is divided by its own, at any length of text: LongRoPE (Ding et al. 2024) without its other half, which is
    /// how GGUF files keep every kind of stretching.
    Factors(Vec<f64>),
}

/// How reference checkpoints lay out tensors.
pub const REFERENCE: Reference = Reference {
    prefix: "model.",
    own_prefix: true,
    heads: &["lm_head."],
    optional: &[],
    renamed: &[],
    turned: &["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    ignored: &["rotary_emb.inv_freq"],
    aliases: None,
};

impl LlamaConfig {
    /// A Llama of these sizes: as many key heads as query heads, tied, feed-forward part of 8/3 of the width, rounded
    /// up to a multiple of 32.
    #[must_use]
    pub fn new(layers: usize, width: usize, heads: usize, context: usize, vocabulary: usize) -> Self {
        Self {
            layers,
            width,
            heads,
            kv_heads: heads,
            head_dim: width / heads.max(1),
            hidden: (8 * width).div_ceil(3).next_multiple_of(32),
            context,
            vocabulary,
            tied: true,
            activation: Activation::Silu,
            rope_theta: 10_000.0,
            rope_scaling: RopeScaling::None,
            epsilon: 1e-5,
            attention_bias: false,
            mlp_bias: false,
            attention_dropout: 0.0,
            residual_dropout: 0.0,
        }
    }

    /// The sizes of a recipe.
    ///
    /// # Errors
    /// Names all sizes that make no model.
    pub fn from_recipe(model: &LlamaModel, vocabulary: usize) -> Result<Self, Problems> {
        let LlamaModel { layers, heads, kv_heads, width, hidden, context, rope_theta, dropout, tied } =
            *model;
        let kv_heads = kv_heads.unwrap_or(heads);
        sizes(&[
            (layers > 0, "`model.layers` is 0".into(), "6 is usual for a small model"),
            (
                width > 0 && heads > 0 && width.is_multiple_of(2 * heads),
                format!(
                    "`model.width` is {width} and not an even number of values for each of {heads} heads"
                ),
                "choose a width that is a multiple of twice `model.heads`",
            ),
            (
                kv_heads > 0 && heads.is_multiple_of(kv_heads),
                format!("`model.kv_heads` is {kv_heads} and does not divide `model.heads`, {heads}"),
                "leave it out for as many as heads",
            ),
            (hidden != Some(0), "`model.hidden` is 0".into(), "leave it out for 8/3 of the width"),
            (context > 0, "`model.context` is 0".into(), "256 is usual for a small model"),
            (vocabulary > 0, "the vocabulary has no tokens".into(), "train a tokenizer on some text"),
            (
                rope_theta.is_finite() && rope_theta > 0.0,
                format!("`model.rope_theta` is {rope_theta}"),
                "10000 is usual",
            ),
            (
                (0.0..1.0).contains(&dropout),
                format!("`model.dropout` is {dropout}"),
                "give a share from 0 to below 1",
            ),
        ])?;
        let usual = Self::new(layers, width, heads, context, vocabulary);
        Ok(Self {
            kv_heads,
            hidden: hidden.unwrap_or(usual.hidden),
            tied,
            rope_theta,
            attention_dropout: dropout,
            residual_dropout: dropout,
            ..usual
        })
    }

    /// The sizes of a Hugging Face `config.json`.
    ///
    /// # Errors
    /// Names every key that is missing, damaged, or asks for something that is not supported.
    pub fn from_hf(value: &Value) -> Result<Self, Problems> {
        let mut keys = Keys::new(value, &["llama"]);
        let (width, heads) = (keys.size("hidden_size"), keys.size("num_attention_heads"));
        let kv_heads = keys.maybe_size("num_key_value_heads").unwrap_or(heads);
        let head_dim = match keys.maybe_size("head_dim") {
            Some(dim) => dim,
            None => {
                keys.divides(["num_attention_heads", "hidden_size"], heads, width);
                width / heads
            }
        };
        keys.divides(["num_key_value_heads", "num_attention_heads"], kv_heads, heads);
        keys.must("partial_rotary_factor", &[json!(1.0), json!(1)]);
        let mut theta = keys.positive("rope_theta", 10_000.0);
        // `transformers` 5 puts both into one key.
        let name = if keys.get("rope_parameters").is_some() { "rope_parameters" } else { "rope_scaling" };
        let mut scaling = RopeScaling::None;
        if let Some(value) = keys.get(name) {
            let mut part = Keys::part(value);
            theta = part.positive("rope_theta", theta);
            scaling = rope_scaling(&mut part, name, head_dim / 2);
            keys.absorb(part);
        }
        if !head_dim.is_multiple_of(2) {
            keys.problem(
                format!("heads have {head_dim} values: expected an even number"),
                "rotary positions turn pairs",
            );
        }
        let config = Self {
            layers: keys.size("num_hidden_layers"),
            width,
            heads,
            kv_heads,
            head_dim,
            hidden: keys.size("intermediate_size"),
            context: keys.size("max_position_embeddings"),
            vocabulary: keys.size("vocab_size"),
            tied: keys.flag("tie_word_embeddings", false),
            activation: keys.activation("hidden_act", "silu"),
            rope_theta: theta,
            rope_scaling: scaling,
            epsilon: keys.positive("rms_norm_eps", 1e-6),
            attention_bias: keys.flag("attention_bias", false),
            mlp_bias: keys.flag("mlp_bias", false),
            attention_dropout: keys.share("attention_dropout", 0.0),
            residual_dropout: 0.0,
        };
        keys.finish()?;
        Ok(config)
    }

    /// As a Hugging Face `config.json`.
    #[must_use]
    pub fn to_hf(&self) -> Value {
        let scaling = match &self.rope_scaling {
            RopeScaling::None => Value::Null,
            RopeScaling::Linear(factor) => json!({ "rope_type": "linear", "factor": factor }),
            RopeScaling::Llama3(Llama3 { factor, low, high, context }) => json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low,
                "high_freq_factor": high,
                "original_max_position_embeddings": *context as u64,
            }),
            RopeScaling::Factors(factors) => json!({
                "rope_type": "longrope",
                "short_factor": factors,
                "long_factor": factors,
                "attention_factor": 1.0,
            }),
        };
        json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.vocabulary,
            "max_position_embeddings": self.context,
            "hidden_size": self.width,
            "intermediate_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "hidden_act": activation_name(self.activation),
            "rms_norm_eps": self.epsilon,
            "rope_theta": self.rope_theta,
            "rope_scaling": scaling,
            "attention_bias": self.attention_bias,
            "mlp_bias": self.mlp_bias,
            "attention_dropout": self.attention_dropout,
            "tie_word_embeddings": self.tied,
            "torch_dtype": "float32",
        })
    }

    /// What rotary frequencies are multiplied with, `[head_dim / 2]`.
    fn rope_factors(&self) -> Option<Vec<f64>> {
        let dim = self.head_dim;
        match &self.rope_scaling {
            RopeScaling::None => None,
            RopeScaling::Linear(factor) => Some(vec![1.0 / factor; dim / 2]),
            RopeScaling::Llama3(scaling) => Some(scaling.factors(dim, self.rope_theta)),
            RopeScaling::Factors(factors) => Some(factors.iter().map(|f| 1.0 / f).collect()),
        }
    }

    /// By how much each pair of a head's values is turned from one position to the next, `[head_dim / 2]`.
    #[must_use]
    pub fn frequencies(&self) -> Vec<f32> {
        let factors = self.rope_factors();
        let factor = |i: usize| factors.as_ref().map_or(1.0, |f| f[i]);
        rotary::frequencies(self.head_dim, self.rope_theta)
            .enumerate()
            .map(|(i, frequency)| (frequency * factor(i)) as f32)
            .collect()
    }

    /// The angles of its positions.
    #[must_use]
    pub fn rotary(&self) -> Rotary {
        let (dim, factors) = (self.head_dim, self.rope_factors());
        Rotary::new([dim, dim], Pairs::Half, self.rope_theta, factors.as_deref(), self.context)
    }
}

fn rope_scaling(keys: &mut Keys<'_>, name: &str, pairs: usize) -> RopeScaling {
    let old = keys.text("type", "default");
    match keys.text("rope_type", old) {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear(keys.positive("factor", 1.0)),
        "llama3" => RopeScaling::Llama3(Llama3 {
            factor: keys.positive("factor", 8.0),
            low: keys.positive("low_freq_factor", 1.0),
            high: keys.positive("high_freq_factor", 4.0),
            context: keys.size("original_max_position_embeddings") as f64,
        }),
        "longrope" => {
            keys.must("attention_factor", &[json!(1.0), json!(1)]);
            let (short, long) = (keys.get("short_factor"), keys.get("long_factor"));
            let factors: Option<Vec<f64>> =
                short.and_then(Value::as_array).and_then(|f| f.iter().map(Value::as_f64).collect());
            let whole = |f: &Vec<f64>| f.len() == pairs && f.iter().all(|f| f.is_finite() && *f > 0.0);
            match factors.filter(whole) {
                // Without the key, `transformers` scales attention by the stretching.
                Some(factors) if short == long && keys.get("attention_factor").is_some() => {
                    RopeScaling::Factors(factors)
                }
                _ => {
                    let message =
                        format!("`{name}` is of a LongRoPE whose factors depend on the text's length");
                    keys.problem(
                        message,
                        "`short_factor` and `long_factor` have to be the same, a number above 0 for each pair of \
                         values of a head, and `attention_factor` 1",
                    );
                    RopeScaling::None
                }
            }
        }
        other => {
            let message = format!("`{name}` has the type \"{other}\", which is not supported");
            keys.problem(message, "default, linear, llama3 and some longrope are");
            RopeScaling::None
        }
    }
}

/// A Llama with its output layer.
#[derive(Module, Debug)]
pub struct Llama {
    model: Body,
    /// `[vocabulary, width]`
    lm_head: Option<Table>,
    #[module(skip)]
    config: LlamaConfig,
    #[module(skip)]
    rotary: Arc<Rotary>,
}

#[derive(Module, Debug)]
struct Body {
    /// `[vocabulary, width]`
    embed_tokens: Table,
    layers: Vec<Block>,
    norm: RmsNorm,
}

#[derive(Module, Debug)]
struct Block {
    input_layernorm: RmsNorm,
    self_attn: SelfAttention,
    post_attention_layernorm: RmsNorm,
    mlp: FeedForward,
}

#[derive(Module, Debug)]
struct SelfAttention {
    /// `[width, heads · head_dim]`
    q_proj: Projection,
    /// `[width, kv_heads · head_dim]`
    k_proj: Projection,
    /// `[width, kv_heads · head_dim]`
    v_proj: Projection,
    /// `[heads · head_dim, width]`
    o_proj: Projection,
}

#[derive(Module, Debug)]
struct FeedForward {
    /// `[width, hidden]`
    gate_proj: Projection,
    /// `[width, hidden]`
    up_proj: Projection,
    /// `[hidden, width]`
    down_proj: Projection,
}

/// Deviation of initial weights (`initializer_range` of the reference).
const DEVIATION: f32 = 0.02;

impl Llama {
    /// A model with initial weights from `seed`: normal with deviation 0.02, that of layers that write to the residual
    /// stream over the root of their number (Radford et al. 2019, §2.3), biases zero.
    #[must_use]
    pub fn init(config: &LlamaConfig, seed: u64, device: &Device) -> Self {
        let scope = Scope::new(seed, Init::Zeros, device);
        let LlamaConfig { layers, width, heads, kv_heads, head_dim, hidden, vocabulary, .. } = *config;
        let table = |name: &str| Table::init(&scope.child(name), [vocabulary, width], DEVIATION);
        let residual = DEVIATION / ((2 * layers).max(1) as f32).sqrt();
        let block = |i: usize| {
            let at = scope.child(&format!("model.layers.{i}"));
            let layer = |name: &str, shape, deviation, bias| {
                Projection::init(&at.child(name), shape, deviation, bias)
            };
            let (queries, keys) = (heads * head_dim, kv_heads * head_dim);
            let (attention, mlp) = (config.attention_bias, config.mlp_bias);
            Block {
                input_layernorm: RmsNorm::init(&at.child("input_layernorm"), width),
                self_attn: SelfAttention {
                    q_proj: layer("self_attn.q_proj", [width, queries], DEVIATION, attention),
                    k_proj: layer("self_attn.k_proj", [width, keys], DEVIATION, attention),
                    v_proj: layer("self_attn.v_proj", [width, keys], DEVIATION, attention),
                    o_proj: layer("self_attn.o_proj", [queries, width], residual, attention),
                },
                post_attention_layernorm: RmsNorm::init(&at.child("post_attention_layernorm"), width),
                mlp: FeedForward {
                    gate_proj: layer("mlp.gate_proj", [width, hidden], DEVIATION, mlp),
                    up_proj: layer("mlp.up_proj", [width, hidden], DEVIATION, mlp),
                    down_proj: layer("mlp.down_proj", [hidden, width], residual, mlp),
                },
            }
        };
        Self {
            model: Body {
                embed_tokens: table("model.embed_tokens"),
                layers: (0..layers).map(block).collect(),
                norm: RmsNorm::init(&scope.child("model.norm"), width),
            },
            lm_head: (!config.tied).then(|| table("lm_head")),
            config: config.clone(),
            rotary: Arc::new(config.rotary()),
        }
    }

    /// Its sizes.
    #[must_use]
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// The last hidden states. With `starts`, the place of the first token of each token's document, documents of a
    /// packed sequence do not see each other; since only distances count, positions need not begin anew.
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
        let mut x = self.model.embed_tokens.forward(tokens); // [batch, time, width]
        for block in &self.model.layers {
            let (config, rotary, starts) = (self.config.clone(), Arc::clone(&self.rotary), starts.clone());
            x = context.block(block, x, move |block: &Block, x, context| {
                block.forward(x, &config, &rotary, starts.as_ref(), context)
            });
        }
        self.model.norm.forward(x, self.config.epsilon)
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
        self.lm_head.as_ref().unwrap_or(&self.model.embed_tokens).weight.val()
    }
}

impl Adapted for Llama {
    fn each_projection(&mut self, f: &mut dyn FnMut(&str, &mut Projection)) {
        for (i, Block { self_attn, mlp, .. }) in self.model.layers.iter_mut().enumerate() {
            let SelfAttention { q_proj, k_proj, v_proj, o_proj } = self_attn;
            for (name, layer) in [("q", q_proj), ("k", k_proj), ("v", v_proj), ("o", o_proj)] {
                f(&format!("model.layers.{i}.self_attn.{name}_proj"), layer);
            }
            let FeedForward { gate_proj, up_proj, down_proj } = mlp;
            for (name, layer) in [("gate", gate_proj), ("up", up_proj), ("down", down_proj)] {
                f(&format!("model.layers.{i}.mlp.{name}_proj"), layer);
            }
        }
    }
}

impl Block {
    /// # Shapes
    /// - input and output: `[batch, time, width]`
    fn forward(
        &self,
        x: Tensor<3>,
        config: &LlamaConfig,
        rotary: &Arc<Rotary>,
        starts: Option<&Tensor<2, Int>>,
        context: &mut Context,
    ) -> Tensor<3> {
        let [_, time, _] = x.dims();
        let LlamaConfig { heads, kv_heads, .. } = *config;
        let SelfAttention { q_proj, k_proj, v_proj, o_proj } = &self.self_attn;
        let normed = self.input_layernorm.forward(x.clone(), config.epsilon);
        let q = ops::rotary(q_proj.forward(normed.clone(), context), rotary, [0, heads], 0);
        let k = ops::rotary(k_proj.forward(normed.clone(), context), rotary, [0, kv_heads], 0);
        let v = v_proj.forward(normed, context); // [batch, time, kv_heads · head_dim]
        let attention = Attention {
            kv_heads,
            starts: starts.cloned(),
            dropout: context.attention_dropout(config.attention_dropout, heads * time),
            precision: context.precision(),
            ..Attention::new(heads).causal()
        };
        let attended = ops::attention(q, k, v, &attention); // [batch, time, heads · head_dim]
        let x = o_proj.added(attended, x, config.residual_dropout, context);

        let FeedForward { gate_proj, up_proj, down_proj } = &self.mlp;
        let normed = self.post_attention_layernorm.forward(x.clone(), config.epsilon);
        let gate = gate_proj.forward(normed.clone(), context);
        let hidden = ops::gated(gate, up_proj.forward(normed, context), config.activation); // [batch, time, hidden]
        down_proj.added(hidden, x, config.residual_dropout, context)
    }
}
