//! The Transformer as it was published (Vaswani et al. 2017, "Attention Is All You Need", §3): an encoder and a decoder
//! of post-norm blocks with sinusoidal positions, one table of embeddings for source, target and output (§3.4).
//! Parameter names are those of Marian's checkpoints on the Hugging Face hub: `model.encoder.layers.0.self_attn.q_proj`,
//! ….
//!
//! The decoder has one path: [`EncoderDecoder::begin`] makes a [`DecodeState`] from the encoded source, and
//! [`EncoderDecoder::advance`] takes any number of target tokens: all of them in training, one at a time in translation.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use jishi_kernels::Activation;
use jishi_kernels::cpu::cross_entropy::{Layout, Options};
use jishi_kernels::ops::{self, Attention};
use jishi_recipe::{EncoderDecoderModel, Init, Problems};
use serde_json::{Value, json};

use crate::config::{Keys, activation_name};
use crate::context::Context;
use crate::init::Scope;
use crate::layers::norm::LayerNorm;
use crate::layers::projection::{FeedForwardDropout, Projection, feed_forward};
use crate::layers::tokens::{Table, with_bias};
use crate::lora::Adapted;
use crate::reference::{Reference, sizes};

/// Sizes of a Transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderDecoderConfig {
    /// Blocks of the encoder and of the decoder.
    pub layers: [usize; 2],
    /// Attention heads of the encoder and of the decoder; divide `width`.
    pub heads: [usize; 2],
    /// Hidden values of the feed-forward parts of the encoder and of the decoder.
    pub hidden: [usize; 2],
    /// Values a position; even.
    pub width: usize,
    /// Positions of a source, and of a target.
    pub context: usize,
    /// Tokens.
    pub vocabulary: usize,
    /// Of the feed-forward parts.
    pub activation: Activation,
    /// Whether embeddings are multiplied by the root of the width (§3.4).
    pub scale_embedding: bool,
    /// Whether logits have a bias, which is not trained.
    pub logits_bias: bool,
    /// Share of embeddings and of what a block adds dropped in training.
    pub dropout: f64,
    /// Share of attention dropped in training.
    pub attention_dropout: f64,
    /// Share of hidden values of feed-forward parts dropped in training.
    pub activation_dropout: f64,
    /// The token that a target starts with.
    pub start: u32,
    /// The token that a text ends with.
    pub end: u32,
    /// The token of padding, which is never written.
    pub pad: u32,
}

/// How reference checkpoints lay out tensors.
pub const REFERENCE: Reference = Reference {
    prefix: "model.",
    own_prefix: true,
    heads: &["final_logits_bias"],
    optional: &[],
    renamed: &[],
    turned: &["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"],
    ignored: &["embed_positions.weight", "embed_tokens.weight", "lm_head.weight"],
    aliases: None,
};

impl EncoderDecoderConfig {
    /// The sizes of a recipe, with the tokenizer's special tokens: start, end, padding.
    ///
    /// # Errors
    /// Names all sizes that make no model.
    pub fn from_recipe(
        model: &EncoderDecoderModel,
        vocabulary: usize,
        [start, end, pad]: [u32; 3],
    ) -> Result<Self, Problems> {
        let EncoderDecoderModel { layers, heads, width, hidden, context, dropout } = *model;
        sizes(&[
            (layers > 0, "`model.layers` is 0".into(), "3 is usual for a small model"),
            (
                width > 0 && width.is_multiple_of(2) && heads > 0 && width.is_multiple_of(heads),
                format!("`model.width` is {width} and not an even multiple of `model.heads`, {heads}"),
                "choose an even width that is a multiple of the heads",
            ),
            (hidden != Some(0), "`model.hidden` is 0".into(), "leave it out for 4 times the width"),
            (context > 0, "`model.context` is 0".into(), "128 is usual for a small model"),
            (
                [start, end, pad].iter().all(|t| (*t as usize) < vocabulary),
                format!(
                    "special tokens {start}, {end} and {pad} are not all in a vocabulary of {vocabulary}"
                ),
                "train a tokenizer on some text",
            ),
            (
                (0.0..1.0).contains(&dropout),
                format!("`model.dropout` is {dropout}"),
                "give a share from 0 to below 1",
            ),
        ])?;
        Ok(Self {
            layers: [layers; 2],
            heads: [heads; 2],
            hidden: [hidden.unwrap_or(4 * width); 2],
            width,
            context,
            vocabulary,
            activation: Activation::Relu,
            scale_embedding: true,
            logits_bias: false,
            dropout,
            attention_dropout: dropout,
            activation_dropout: dropout,
            start,
            end,
            pad,
        })
    }

    /// The sizes of a Hugging Face `config.json` of Marian.
    ///
    /// # Errors
    /// Names every key that is missing, damaged, or asks for something that is not supported.
    pub fn from_hf(value: &Value) -> Result<Self, Problems> {
        let mut keys = Keys::new(value, &["marian"]);
        let config = Self {
            layers: ["encoder_layers", "decoder_layers"].map(|key| keys.size(key)),
            heads: ["encoder_attention_heads", "decoder_attention_heads"].map(|key| keys.size(key)),
            hidden: ["encoder_ffn_dim", "decoder_ffn_dim"].map(|key| keys.size(key)),
            width: keys.size("d_model"),
            context: keys.size("max_position_embeddings"),
            vocabulary: keys.size("vocab_size"),
            activation: keys.activation("activation_function", "gelu"),
            scale_embedding: keys.flag("scale_embedding", false),
            logits_bias: keys.flag(NO_BIAS, true),
            dropout: keys.share("dropout", 0.1),
            attention_dropout: keys.share("attention_dropout", 0.0),
            activation_dropout: keys.share("activation_dropout", 0.0),
            start: keys.token("decoder_start_token_id").unwrap_or(58_100),
            end: keys.token("eos_token_id").unwrap_or(0),
            pad: keys.token("pad_token_id").unwrap_or(58_100),
        };
        for (name, heads) in ["encoder_attention_heads", "decoder_attention_heads"].iter().zip(config.heads) {
            keys.divides([name, "d_model"], heads, config.width);
        }
        if !config.width.is_multiple_of(2) {
            let message = format!("`d_model` is {}: expected an even number", config.width);
            keys.problem(message, "positions are pairs of a sine and a cosine");
        }
        for (name, token) in [
            ("decoder_start_token_id", config.start),
            ("eos_token_id", config.end),
            ("pad_token_id", config.pad),
        ] {
            if token as usize >= config.vocabulary {
                let message = format!("`{name}` is {token}, and there are {} tokens", config.vocabulary);
                keys.problem(message, "the configuration is damaged");
            }
        }
        keys.must("share_encoder_decoder_embeddings", &[json!(true)]);
        keys.must("tie_word_embeddings", &[json!(true)]);
        keys.must("decoder_vocab_size", &[json!(config.vocabulary)]);
        keys.must("static_position_embeddings", &[json!(true)]);
        keys.must("normalize_before", &[json!(false)]);
        keys.must("normalize_embedding", &[json!(false)]);
        keys.must("add_final_layer_norm", &[json!(false)]);
        keys.must("add_bias_logits", &[json!(false)]);
        keys.finish()?;
        Ok(config)
    }

    /// As a Hugging Face `config.json` of Marian.
    #[must_use]
    pub fn to_hf(&self) -> Value {
        let activation = match self.activation {
            Activation::Silu => "swish",
            other => activation_name(other),
        };
        let mut value = json!({
            "architectures": ["MarianMTModel"],
            "model_type": "marian",
            "is_encoder_decoder": true,
            "vocab_size": self.vocabulary,
            "decoder_vocab_size": self.vocabulary,
            "max_position_embeddings": self.context,
            "d_model": self.width,
            "num_hidden_layers": self.layers[0],
            "encoder_layers": self.layers[0],
            "decoder_layers": self.layers[1],
            "encoder_attention_heads": self.heads[0],
            "decoder_attention_heads": self.heads[1],
            "encoder_ffn_dim": self.hidden[0],
            "decoder_ffn_dim": self.hidden[1],
            "activation_function": activation,
            "scale_embedding": self.scale_embedding,
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "activation_dropout": self.activation_dropout,
            "share_encoder_decoder_embeddings": true,
            "tie_word_embeddings": true,
            "static_position_embeddings": true,
            "normalize_before": false,
            "decoder_start_token_id": self.start,
            "eos_token_id": self.end,
            "forced_eos_token_id": self.end,
            "pad_token_id": self.pad,
            "bad_words_ids": [[self.pad]],
            "torch_dtype": "float32",
        });
        if !self.logits_bias {
            value[NO_BIAS] = false.into();
        }
        value
    }
}

/// Key of a `config.json` that is ours: Marian always has a bias, which its library takes for zeros where it is missing.
const NO_BIAS: &str = "final_logits_bias";

/// A batch of texts and their translations.
#[derive(Debug, Clone)]
pub struct Pairs {
    /// `[batch, source time]`
    pub source: Tensor<2, Int>,
    /// `[batch, source time]`: true where there is a token, false where there is padding. Default: all true.
    pub mask: Option<Tensor<2, Bool>>,
    /// `[batch, target time]`: the start token, then the target without its end; padding comes last.
    pub target: Tensor<2, Int>,
}

/// A Transformer.
#[derive(Module, Debug)]
pub struct EncoderDecoder {
    model: Body,
    /// `[1, vocabulary]`, not trained
    final_logits_bias: Option<Param<Tensor<2>>>,
    #[module(skip)]
    config: EncoderDecoderConfig,
    /// `[context, width]`
    #[module(skip)]
    positions: Arc<Vec<f32>>,
}

#[derive(Module, Debug)]
struct Body {
    /// `[vocabulary, width]`
    shared: Table,
    encoder: Encoder,
    decoder: Decoder,
}

#[derive(Module, Debug)]
struct Encoder {
    layers: Vec<EncoderBlock>,
}

#[derive(Module, Debug)]
struct Decoder {
    layers: Vec<DecoderBlock>,
}

#[derive(Module, Debug)]
struct EncoderBlock {
    self_attn: Heads,
    self_attn_layer_norm: LayerNorm,
    /// `[width, hidden]`
    fc1: Projection,
    /// `[hidden, width]`
    fc2: Projection,
    final_layer_norm: LayerNorm,
}

#[derive(Module, Debug)]
struct DecoderBlock {
    self_attn: Heads,
    self_attn_layer_norm: LayerNorm,
    encoder_attn: Heads,
    encoder_attn_layer_norm: LayerNorm,
    /// `[width, hidden]`
    fc1: Projection,
    /// `[hidden, width]`
    fc2: Projection,
    final_layer_norm: LayerNorm,
}

/// Projections of an attention, `[width, width]` each.
#[derive(Module, Debug)]
struct Heads {
    k_proj: Projection,
    v_proj: Projection,
    q_proj: Projection,
    out_proj: Projection,
}

/// What the decoder knows of a batch: keys and values of the source, and of the targets so far.
#[derive(Debug, Clone)]
pub struct DecodeState {
    /// Of each block, `[batch, source time, width]`.
    memory: Vec<[Tensor<3>; 2]>,
    mask: Option<Tensor<2, Bool>>,
    /// Of each block, `[batch, position, width]`.
    past: Vec<Option<[Tensor<3>; 2]>>,
    position: usize,
}

impl DecodeState {
    /// Target tokens so far.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }

    /// The state of other rows: row i becomes what row `rows[i]` is, as a beam search needs it.
    ///
    /// # Shapes
    /// - rows: `[new batch]`
    #[must_use]
    pub fn select(&self, rows: &Tensor<1, Int>) -> Self {
        let pick = |pair: &[Tensor<3>; 2]| pair.clone().map(|t| t.select(0, rows.clone()));
        Self {
            memory: self.memory.iter().map(pick).collect(),
            mask: self.mask.as_ref().map(|mask| mask.clone().int().select(0, rows.clone()).bool()),
            past: self.past.iter().map(|past| past.as_ref().map(pick)).collect(),
            position: self.position,
        }
    }
}

impl EncoderDecoder {
    /// A model with initial weights from `seed`: normal as Glorot & Bengio 2010 scale them, where queries, keys and values
    /// are one matrix of three times the width (as in the reference implementations of Vaswani et al. 2017: without it
    /// attention begins too sharp), embeddings with deviation 1/√width, biases zero.
    #[must_use]
    pub fn init(config: &EncoderDecoderConfig, seed: u64, device: &Device) -> Self {
        let scope = Scope::new(seed, Init::Zeros, device);
        let EncoderDecoderConfig { width, context, vocabulary, .. } = *config;
        let part = |at: &Scope, name: &str, inputs: usize, outputs: usize, all: usize| {
            let deviation = (2.0 / (inputs + all) as f32).sqrt();
            Projection::init(&at.child(name), [inputs, outputs], deviation, true)
        };
        let layer =
            |at: &Scope, name: &str, inputs: usize, outputs: usize| part(at, name, inputs, outputs, outputs);
        let heads = |at: &Scope| Heads {
            k_proj: part(at, "k_proj", width, width, 3 * width),
            v_proj: part(at, "v_proj", width, width, 3 * width),
            q_proj: part(at, "q_proj", width, width, 3 * width),
            out_proj: layer(at, "out_proj", width, width),
        };
        let norm = |at: &Scope, name: &str| LayerNorm::init(&at.child(name), width);
        let encoder = |i: usize| {
            let at = scope.child(&format!("model.encoder.layers.{i}"));
            EncoderBlock {
                self_attn: heads(&at.child("self_attn")),
                self_attn_layer_norm: norm(&at, "self_attn_layer_norm"),
                fc1: layer(&at, "fc1", width, config.hidden[0]),
                fc2: layer(&at, "fc2", config.hidden[0], width),
                final_layer_norm: norm(&at, "final_layer_norm"),
            }
        };
        let decoder = |i: usize| {
            let at = scope.child(&format!("model.decoder.layers.{i}"));
            DecoderBlock {
                self_attn: heads(&at.child("self_attn")),
                self_attn_layer_norm: norm(&at, "self_attn_layer_norm"),
                encoder_attn: heads(&at.child("encoder_attn")),
                encoder_attn_layer_norm: norm(&at, "encoder_attn_layer_norm"),
                fc1: layer(&at, "fc1", width, config.hidden[1]),
                fc2: layer(&at, "fc2", config.hidden[1], width),
                final_layer_norm: norm(&at, "final_layer_norm"),
            }
        };
        let deviation = 1.0 / (width.max(1) as f32).sqrt();
        Self {
            model: Body {
                shared: Table::init(&scope.child("model.shared"), [vocabulary, width], deviation),
                encoder: Encoder { layers: (0..config.layers[0]).map(encoder).collect() },
                decoder: Decoder { layers: (0..config.layers[1]).map(decoder).collect() },
            },
            final_logits_bias: config.logits_bias.then(|| scope.buffer(0.0, [1, vocabulary])),
            config: config.clone(),
            positions: Arc::new(sinusoids(context, width)),
        }
    }

    /// Its sizes.
    #[must_use]
    pub fn config(&self) -> &EncoderDecoderConfig {
        &self.config
    }

    /// The encoded source; that of padding means nothing.
    ///
    /// # Shapes
    /// - source: `[batch, time]`, mask: `[batch, time]`, true where there is a token
    /// - output: `[batch, time, width]`
    ///
    /// # Panics
    /// When there are more positions than the context holds.
    pub fn encode(
        &self,
        source: Tensor<2, Int>,
        mask: Option<&Tensor<2, Bool>>,
        context: &mut Context,
    ) -> Tensor<3> {
        let config = &self.config;
        let mut x = self.embedded(source, 0, context); // [batch, time, width]
        for block in &self.model.encoder.layers {
            let keys = block.self_attn.keys(x.clone(), context);
            let attention = attention(config, config.heads[0], x.dims()[1], mask, context);
            let y = block.self_attn.forward(x, keys, &attention, config.dropout, context);
            let x1 = block.self_attn_layer_norm.forward(y);
            x = self.fed_forward([&block.fc1, &block.fc2], &block.final_layer_norm, x1, context);
        }
        x
    }

    /// The state of targets that have not begun.
    ///
    /// # Shapes
    /// - memory: `[batch, source time, width]`, what [`EncoderDecoder::encode`] gave; mask: as there
    pub fn begin(
        &self,
        memory: Tensor<3>,
        mask: Option<Tensor<2, Bool>>,
        context: &mut Context,
    ) -> DecodeState {
        let blocks = &self.model.decoder.layers;
        DecodeState {
            memory: blocks.iter().map(|b| b.encoder_attn.keys(memory.clone(), context)).collect(),
            mask,
            past: vec![None; blocks.len()],
            position: 0,
        }
    }

    /// The decoder's last hidden states for further target tokens, which see those before them.
    ///
    /// # Shapes
    /// - tokens: `[batch, time]`
    /// - output: `[batch, time, width]`
    ///
    /// # Panics
    /// When there are more positions than the context holds.
    pub fn advance(
        &self,
        tokens: Tensor<2, Int>,
        state: &mut DecodeState,
        context: &mut Context,
    ) -> Tensor<3> {
        let config = &self.config;
        let [_, time] = tokens.dims();
        let mut x = self.embedded(tokens, state.position, context); // [batch, time, width]
        for (i, block) in self.model.decoder.layers.iter().enumerate() {
            let new = block.self_attn.keys(x.clone(), context);
            let keys = match state.past[i].take() {
                Some([k, v]) => {
                    let [new_k, new_v] = new;
                    [Tensor::cat(vec![k, new_k], 1), Tensor::cat(vec![v, new_v], 1)]
                }
                None => new,
            };
            state.past[i] = Some(keys.clone());
            let own = attention(config, config.heads[1], time, None, context).causal();
            let y = block.self_attn.forward(x, keys, &own, config.dropout, context);
            let x1 = block.self_attn_layer_norm.forward(y);
            let cross = attention(config, config.heads[1], time, state.mask.as_ref(), context);
            let memory = state.memory[i].clone();
            let y = block.encoder_attn.forward(x1, memory, &cross, config.dropout, context);
            let x2 = block.encoder_attn_layer_norm.forward(y);
            x = self.fed_forward([&block.fc1, &block.fc2], &block.final_layer_norm, x2, context);
        }
        state.position += time;
        x
    }

    /// Logits of each row's next token after one more target token.
    ///
    /// # Shapes
    /// - tokens: `[batch]`, output: `[batch, vocabulary]`
    ///
    /// # Panics
    /// When the context is full.
    pub fn step(&self, tokens: Tensor<1, Int>, state: &mut DecodeState, context: &mut Context) -> Tensor<2> {
        let [batch] = tokens.dims();
        let x = self.advance(tokens.reshape([batch, 1]), state, context);
        let logits = self.output(x, context); // [batch, 1, vocabulary]
        logits.reshape([batch, self.config.vocabulary])
    }

    /// Logits of every position's next token.
    ///
    /// # Shapes
    /// - target: `[batch, time]`, memory and mask: as in [`EncoderDecoder::begin`]
    /// - output: `[batch, time, vocabulary]`
    pub fn decode(
        &self,
        target: Tensor<2, Int>,
        memory: Tensor<3>,
        mask: Option<Tensor<2, Bool>>,
        context: &mut Context,
    ) -> Tensor<3> {
        let mut state = self.begin(memory, mask, context);
        let x = self.advance(target, &mut state, context);
        self.output(x, context)
    }

    /// Logits of every target position's next token.
    ///
    /// # Shapes
    /// - output: `[batch, target time, vocabulary]`
    pub fn logits(&self, pairs: Pairs, context: &mut Context) -> Tensor<3> {
        let memory = self.encode(pairs.source, pairs.mask.as_ref(), context);
        self.decode(pairs.target, memory, pairs.mask, context)
    }

    /// Sum of the cross-entropies of target tokens, `[1]`, without holding all logits in memory.
    ///
    /// # Shapes
    /// - targets: `[batch · target time]`, those of padding ignored
    pub fn loss(
        &self,
        pairs: Pairs,
        targets: Tensor<1, Int>,
        options: Options,
        context: &mut Context,
    ) -> Tensor<1> {
        let memory = self.encode(pairs.source, pairs.mask.as_ref(), context);
        let mut state = self.begin(memory, pairs.mask, context);
        let x = self.advance(pairs.target, &mut state, context);
        let [batch, time, width] = x.dims();
        let (x, table) = (x.reshape([batch * time, width]), self.model.shared.weight.val());
        let (x, table) = match self.logits_bias() {
            Some(bias) => with_bias(x, table, bias),
            None => (x, table),
        };
        ops::linear_cross_entropy(x, table, Layout::OutIn, targets, options, context.precision())
    }

    fn logits_bias(&self) -> Option<Tensor<1>> {
        self.final_logits_bias.as_ref().map(|bias| bias.val().reshape([self.config.vocabulary]))
    }

    /// `[batch, time, width]` to `[batch, time, vocabulary]`
    fn output(&self, x: Tensor<3>, context: &Context) -> Tensor<3> {
        let (bias, precision) = (self.logits_bias(), context.precision());
        let with = ops::Linear { bias, precision, ..ops::Linear::default() };
        ops::linear(x, self.model.shared.weight.val().transpose(), with)
    }

    /// Embeddings and positions from `first` on, `[batch, time, width]`.
    fn embedded(&self, tokens: Tensor<2, Int>, first: usize, context: &mut Context) -> Tensor<3> {
        let ([_, time], width) = (tokens.dims(), self.config.width);
        let held = self.config.context;
        assert!(first + time <= held, "{} positions for a context of {held}", first + time);
        let mut x = self.model.shared.forward(tokens);
        if self.config.scale_embedding {
            x = x * (width as f64).sqrt();
        }
        let positions = self.positions[first * width..(first + time) * width].to_vec();
        let data = TensorData::new(positions, [1, time, width]);
        let x = x.clone() + Tensor::from_data(data, &x.device().inner());
        context.dropout(x, self.config.dropout, 1)
    }

    fn fed_forward(
        &self,
        pair: [&Projection; 2],
        norm: &LayerNorm,
        x: Tensor<3>,
        context: &mut Context,
    ) -> Tensor<3> {
        let EncoderDecoderConfig { activation, activation_dropout, dropout, .. } = self.config;
        let dropouts = FeedForwardDropout { inner: activation_dropout, outer: dropout };
        norm.forward(feed_forward(pair, x.clone(), x, activation, dropouts, context))
    }
}

fn attention(
    config: &EncoderDecoderConfig,
    heads: usize,
    queries: usize,
    mask: Option<&Tensor<2, Bool>>,
    context: &mut Context,
) -> Attention {
    Attention {
        mask: mask.cloned(),
        dropout: context.attention_dropout(config.attention_dropout, heads * queries),
        precision: context.precision(),
        ..Attention::new(heads)
    }
}

/// Sines in the first half, cosines in the second (§3.5, whose order has them side by side), `[positions, width]`.
fn sinusoids(positions: usize, width: usize) -> Vec<f32> {
    let angle = |p: usize, i: usize| p as f64 / 10_000f64.powf((2 * i) as f64 / width as f64);
    let row = |p: usize| {
        let half = width / 2;
        let sines = (0..half).map(move |i| angle(p, i).sin() as f32);
        sines.chain((0..half).map(move |i| angle(p, i).cos() as f32))
    };
    (0..positions).flat_map(row).collect()
}

impl Heads {
    /// Keys and values of a sequence.
    ///
    /// # Shapes
    /// - input: `[batch, time, width]`, output: the same each
    fn keys(&self, x: Tensor<3>, context: &mut Context) -> [Tensor<3>; 2] {
        [self.k_proj.forward(x.clone(), context), self.v_proj.forward(x, context)]
    }

    /// `x + attention(x)`.
    ///
    /// # Shapes
    /// - x and output: `[batch, time, width]`
    fn forward(
        &self,
        x: Tensor<3>,
        [k, v]: [Tensor<3>; 2],
        with: &Attention,
        dropout: f64,
        context: &mut Context,
    ) -> Tensor<3> {
        let q = self.q_proj.forward(x.clone(), context);
        let attended = ops::attention(q, k, v, with);
        self.out_proj.added(attended, x, dropout, context)
    }

    fn each(&mut self, at: &str, f: &mut dyn FnMut(&str, &mut Projection)) {
        let Self { k_proj, v_proj, q_proj, out_proj } = self;
        for (name, layer) in [("k", k_proj), ("v", v_proj), ("q", q_proj), ("out", out_proj)] {
            f(&format!("{at}.{name}_proj"), layer);
        }
    }
}

impl Adapted for EncoderDecoder {
    fn each_projection(&mut self, f: &mut dyn FnMut(&str, &mut Projection)) {
        for (i, block) in self.model.encoder.layers.iter_mut().enumerate() {
            let at = format!("model.encoder.layers.{i}");
            block.self_attn.each(&format!("{at}.self_attn"), f);
            f(&format!("{at}.fc1"), &mut block.fc1);
            f(&format!("{at}.fc2"), &mut block.fc2);
        }
        for (i, block) in self.model.decoder.layers.iter_mut().enumerate() {
            let at = format!("model.decoder.layers.{i}");
            block.self_attn.each(&format!("{at}.self_attn"), f);
            block.encoder_attn.each(&format!("{at}.encoder_attn"), f);
            f(&format!("{at}.fc1"), &mut block.fc1);
            f(&format!("{at}.fc2"), &mut block.fc2);
        }
    }
}
