//! BERT (Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding"): an
//! encoder of post-norm Transformer blocks with learned positions, and what comes after it: the masked language model
//! (§3.1), a classifier (§4.1), or the mean of all positions as the embedding of a text (Reimers & Gurevych 2019, §3).

use burn::module::{Module, Param};
use burn::tensor::{Bool, Device, Int, Tensor};
use jishi_kernels::Activation;
use jishi_kernels::cpu::cross_entropy::{Layout, Options};
use jishi_kernels::ops::{self, Attention};
use jishi_recipe::{BertModel, Init, Problems};
use serde_json::{Value, json};

use crate::config::{Keys, activation_name, put_labels};
use crate::context::Context;
use crate::init::Scope;
use crate::layers::norm::LayerNorm;
use crate::layers::projection::{FeedForwardDropout, Projection, feed_forward};
use crate::layers::tokens::{Table, with_bias};
use crate::lora::Adapted;
use crate::reference::{Reference, sizes};

/// Sizes of a BERT.
#[derive(Debug, Clone, PartialEq)]
pub struct BertConfig {
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
    /// Types of tokens: those of the first and of the second text.
    pub types: usize,
    /// Of the feed-forward part.
    pub activation: Activation,
    /// Added to the variance by norms.
    pub epsilon: f64,
    /// Share of attention dropped in training.
    pub attention_dropout: f64,
    /// Share of embeddings and of what a block adds dropped in training.
    pub dropout: f64,
    /// What comes after the blocks.
    pub head: BertHead,
}

/// What comes after the blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BertHead {
    /// The hidden tokens: `cls.predictions`.
    MaskedLm,
    /// A class from the first position: `pooler` and `classifier`.
    Classification {
        /// Number of classes; 1 for a number.
        classes: usize,
    },
    /// The mean of the positions, of length 1: no weights.
    Embedding,
}

/// How reference checkpoints name and lay out tensors.
pub const REFERENCE: Reference = Reference {
    prefix: "bert.",
    own_prefix: false,
    heads: &["cls.", "classifier."],
    optional: &["pooler."],
    renamed: &[(".self_attention.", ".self."), ("layer_norm.", "LayerNorm.")],
    turned: &["query", "key", "value", "dense", "classifier"],
    ignored: &["position_ids", "cls.predictions.decoder.weight", "cls.predictions.decoder.bias"],
    aliases: None,
};

impl BertConfig {
    /// The original's variant of these sizes, without dropout, for masked tokens.
    #[must_use]
    pub fn new(layers: usize, width: usize, heads: usize, context: usize, vocabulary: usize) -> Self {
        Self {
            layers,
            width,
            heads,
            hidden: 4 * width,
            context,
            vocabulary,
            types: 2,
            activation: Activation::Gelu,
            epsilon: 1e-12,
            attention_dropout: 0.0,
            dropout: 0.0,
            head: BertHead::MaskedLm,
        }
    }

    /// The sizes of a recipe.
    ///
    /// # Errors
    /// Names all sizes that make no model.
    pub fn from_recipe(model: &BertModel, vocabulary: usize, head: BertHead) -> Result<Self, Problems> {
        let BertModel { layers, heads, width, hidden, context, dropout } = *model;
        sizes(&[
            (layers > 0, "`model.layers` is 0".into(), "4 is usual for a small model"),
            (
                width > 0 && heads > 0 && width.is_multiple_of(heads),
                format!("`model.heads` is {heads} and does not divide `model.width`, {width}"),
                "choose a width that is a multiple of the heads",
            ),
            (hidden != Some(0), "`model.hidden` is 0".into(), "leave it out for 4 times the width"),
            (context > 0, "`model.context` is 0".into(), "128 is usual for a small model"),
            (vocabulary > 0, "the vocabulary has no tokens".into(), "train a tokenizer on some text"),
            (
                (0.0..1.0).contains(&dropout),
                format!("`model.dropout` is {dropout}"),
                "give a share from 0 to below 1",
            ),
            (
                head != BertHead::Classification { classes: 0 },
                "a classifier of no classes".into(),
                "the target needs at least two",
            ),
        ])?;
        let usual = Self::new(layers, width, heads, context, vocabulary);
        let hidden = hidden.unwrap_or(usual.hidden);
        Ok(Self { hidden, attention_dropout: dropout, dropout, head, ..usual })
    }

    /// The sizes of a Hugging Face `config.json`. The head follows from `architectures`: a classifier has as many
    /// classes as `id2label`; anything else but a masked language model is an embedding.
    ///
    /// # Errors
    /// Names every key that is missing, damaged, or asks for something that is not supported.
    pub fn from_hf(value: &Value) -> Result<Self, Problems> {
        let mut keys = Keys::new(value, &["bert"]);
        let architecture = value["architectures"][0].as_str().unwrap_or_default();
        let head = match architecture {
            "BertForMaskedLM" | "BertForPreTraining" => BertHead::MaskedLm,
            "BertForSequenceClassification" => BertHead::Classification { classes: keys.classes() },
            _ => BertHead::Embedding,
        };
        let config = Self {
            layers: keys.size("num_hidden_layers"),
            width: keys.size("hidden_size"),
            heads: keys.size("num_attention_heads"),
            hidden: keys.size("intermediate_size"),
            context: keys.size("max_position_embeddings"),
            vocabulary: keys.size("vocab_size"),
            types: keys.maybe_size("type_vocab_size").unwrap_or(2),
            activation: keys.activation("hidden_act", "gelu"),
            epsilon: keys.positive("layer_norm_eps", 1e-12),
            attention_dropout: keys.share("attention_probs_dropout_prob", 0.1),
            dropout: keys.share("hidden_dropout_prob", 0.1),
            head,
        };
        keys.divides(["num_attention_heads", "hidden_size"], config.heads, config.width);
        keys.must("position_embedding_type", &[json!("absolute")]);
        keys.must("is_decoder", &[json!(false)]);
        keys.must("add_cross_attention", &[json!(false)]);
        if head == BertHead::MaskedLm {
            keys.must("tie_word_embeddings", &[json!(true)]);
        }
        keys.finish()?;
        Ok(config)
    }

    /// As a Hugging Face `config.json`.
    #[must_use]
    pub fn to_hf(&self) -> Value {
        let mut value = json!({
            "architectures": [match self.head {
                BertHead::MaskedLm => "BertForMaskedLM",
                BertHead::Classification { .. } => "BertForSequenceClassification",
                BertHead::Embedding => "BertModel",
            }],
            "model_type": "bert",
            "vocab_size": self.vocabulary,
            "max_position_embeddings": self.context,
            "type_vocab_size": self.types,
            "hidden_size": self.width,
            "intermediate_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "hidden_act": activation_name(self.activation),
            "layer_norm_eps": self.epsilon,
            "hidden_dropout_prob": self.dropout,
            "attention_probs_dropout_prob": self.attention_dropout,
            "position_embedding_type": "absolute",
            "tie_word_embeddings": true,
            "torch_dtype": "float32",
        });
        if let BertHead::Classification { classes } = self.head {
            put_labels(&mut value, classes);
        }
        value
    }
}

/// A batch of texts.
#[derive(Debug, Clone)]
pub struct BertInput {
    /// `[batch, time]`
    pub tokens: Tensor<2, Int>,
    /// `[batch, time]`: 0 in the first text of a pair, 1 in the second. Default: all 0.
    pub types: Option<Tensor<2, Int>>,
    /// `[batch, time]`: true where there is a token, false where there is padding. Default: all true.
    pub mask: Option<Tensor<2, Bool>>,
}

/// A BERT with what comes after it.
#[derive(Module, Debug)]
pub struct Bert {
    embeddings: Embeddings,
    encoder: Encoder,
    pooler: Option<Pooler>,
    cls: Option<Cls>,
    /// `[width, classes]`
    classifier: Option<Projection>,
    #[module(skip)]
    config: BertConfig,
}

#[derive(Module, Debug)]
struct Embeddings {
    /// `[vocabulary, width]`
    word_embeddings: Table,
    /// `[context, width]`
    position_embeddings: Table,
    /// `[types, width]`
    token_type_embeddings: Table,
    layer_norm: LayerNorm,
}

#[derive(Module, Debug)]
struct Encoder {
    layer: Vec<Block>,
}

#[derive(Module, Debug)]
struct Block {
    attention: SelfAttention,
    intermediate: Dense,
    output: Output,
}

#[derive(Module, Debug)]
struct SelfAttention {
    self_attention: Heads,
    output: Output,
}

#[derive(Module, Debug)]
struct Heads {
    /// `[width, width]` each
    query: Projection,
    key: Projection,
    value: Projection,
}

/// A layer and the norm of its sum with the residual.
#[derive(Module, Debug)]
struct Output {
    dense: Projection,
    layer_norm: LayerNorm,
}

#[derive(Module, Debug)]
struct Dense {
    dense: Projection,
}

#[derive(Module, Debug)]
struct Pooler {
    /// `[width, width]`
    dense: Projection,
}

#[derive(Module, Debug)]
struct Cls {
    predictions: Predictions,
}

#[derive(Module, Debug)]
struct Predictions {
    /// `[vocabulary]`
    bias: Param<Tensor<1>>,
    transform: Output,
}

/// Deviation of initial weights (`initializer_range` of the reference).
const DEVIATION: f32 = 0.02;

impl Bert {
    /// A model with initial weights from `seed`: normal with deviation 0.02, biases zero.
    #[must_use]
    pub fn init(config: &BertConfig, seed: u64, device: &Device) -> Self {
        let scope = Scope::new(seed, Init::Zeros, device);
        let BertConfig { layers, width, hidden, context, vocabulary, types, .. } = *config;
        let layer = |at: &Scope, name: &str, inputs, outputs| {
            Projection::init(&at.child(name), [inputs, outputs], DEVIATION, true)
        };
        let output = |at: &Scope, name: &str, inputs| Output {
            dense: layer(at, &format!("{name}.dense"), inputs, width),
            layer_norm: LayerNorm::init(&at.child(name).child("layer_norm"), width),
        };
        let block = |i: usize| {
            let at = scope.child(&format!("encoder.layer.{i}"));
            Block {
                attention: SelfAttention {
                    self_attention: Heads {
                        query: layer(&at, "attention.self.query", width, width),
                        key: layer(&at, "attention.self.key", width, width),
                        value: layer(&at, "attention.self.value", width, width),
                    },
                    output: output(&at, "attention.output", width),
                },
                intermediate: Dense { dense: layer(&at, "intermediate.dense", width, hidden) },
                output: output(&at, "output", hidden),
            }
        };
        let table = |name: &str, entries| {
            Table::init(&scope.child("embeddings").child(name), [entries, width], DEVIATION)
        };
        let (mut pooler, mut cls, mut classifier) = (None, None, None);
        match config.head {
            BertHead::MaskedLm => {
                let bias = scope.constant(0.0, [vocabulary]);
                let transform = output(&scope, "cls.predictions.transform", width);
                cls = Some(Cls { predictions: Predictions { bias, transform } });
            }
            BertHead::Classification { classes } => {
                pooler = Some(Pooler { dense: layer(&scope, "pooler.dense", width, width) });
                classifier = Some(layer(&scope, "classifier", width, classes));
            }
            BertHead::Embedding => {}
        }
        Self {
            embeddings: Embeddings {
                word_embeddings: table("word_embeddings", vocabulary),
                position_embeddings: table("position_embeddings", context),
                token_type_embeddings: table("token_type_embeddings", types),
                layer_norm: LayerNorm::init(&scope.child("embeddings.layer_norm"), width),
            },
            encoder: Encoder { layer: (0..layers).map(block).collect() },
            pooler,
            cls,
            classifier,
            config: config.clone(),
        }
    }

    /// Its sizes.
    #[must_use]
    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    /// The last hidden states; those of padding mean nothing.
    ///
    /// # Shapes
    /// - output: `[batch, time, width]`
    ///
    /// # Panics
    /// When there are more positions than the context holds.
    pub fn hidden(&self, input: BertInput, context: &mut Context) -> Tensor<3> {
        let BertInput { tokens, types, mask } = input;
        let [_, time] = tokens.dims();
        let Embeddings { word_embeddings, position_embeddings, token_type_embeddings, layer_norm } =
            &self.embeddings;
        let held = position_embeddings.entries();
        assert!(time <= held, "{time} positions for a context of {held}");
        let types = types.unwrap_or_else(|| tokens.clone().zeros_like());
        let positions = Some((position_embeddings.weight.val(), 0));
        let words = ops::embedding(word_embeddings.weight.val(), tokens, positions);
        let x = words + token_type_embeddings.forward(types); // [batch, time, width]
        let x = layer_norm.forward_with(x, self.config.epsilon);
        let mut x = context.dropout(x, self.config.dropout, 1);
        for block in &self.encoder.layer {
            let (config, mask) = (self.config.clone(), mask.clone());
            x = context.block(block, x, move |block: &Block, x, context| {
                block.forward(x, &config, mask.as_ref(), context)
            });
        }
        x
    }

    /// Logits of every position's token.
    ///
    /// # Shapes
    /// - output: `[batch, time, vocabulary]`
    ///
    /// # Panics
    /// Where the head is not [`BertHead::MaskedLm`].
    pub fn token_logits(&self, input: BertInput, context: &mut Context) -> Tensor<3> {
        let x = self.predicted(input, context);
        let bias = Some(self.predictions().bias.val());
        let with = ops::Linear { bias, precision: context.precision(), ..ops::Linear::default() };
        ops::linear(x, self.embeddings.word_embeddings.weight.val().transpose(), with)
    }

    /// Sum of the cross-entropies of tokens, `[1]`; those that are not masked have the ignored target.
    ///
    /// # Shapes
    /// - targets: `[batch · time]`
    ///
    /// # Panics
    /// Where the head is not [`BertHead::MaskedLm`].
    pub fn token_loss(
        &self,
        input: BertInput,
        targets: Tensor<1, Int>,
        options: Options,
        context: &mut Context,
    ) -> Tensor<1> {
        let x = self.predicted(input, context);
        let [batch, time, width] = x.dims();
        let table = self.embeddings.word_embeddings.weight.val();
        let (x, table) = with_bias(x.reshape([batch * time, width]), table, self.predictions().bias.val());
        ops::linear_cross_entropy(x, table, Layout::OutIn, targets, options, context.precision())
    }

    /// Logits of the tokens at some positions alone: what is not asked for costs nothing.
    ///
    /// # Shapes
    /// - places: `[places]`, each `row · time + position`
    /// - output: `[places, vocabulary]`
    ///
    /// # Panics
    /// Where the head is not [`BertHead::MaskedLm`].
    pub fn logits_at(&self, input: BertInput, places: Tensor<1, Int>, context: &mut Context) -> Tensor<2> {
        let (x, bias) = (self.predicted_at(input, places, context), Some(self.predictions().bias.val()));
        let [count, width] = x.dims();
        let with = ops::Linear { bias, precision: context.precision(), ..ops::Linear::default() };
        let table = self.embeddings.word_embeddings.weight.val().transpose();
        let logits = ops::linear(x.reshape([1, count, width]), table, with);
        let vocabulary = self.config.vocabulary;
        logits.reshape([count, vocabulary])
    }

    /// Sum of the cross-entropies of the tokens at some positions, `[1]`.
    ///
    /// # Shapes
    /// - places, targets: `[places]`, each place `row · time + position`
    ///
    /// # Panics
    /// Where the head is not [`BertHead::MaskedLm`].
    pub fn loss_at(
        &self,
        input: BertInput,
        places: Tensor<1, Int>,
        targets: Tensor<1, Int>,
        options: Options,
        context: &mut Context,
    ) -> Tensor<1> {
        let x = self.predicted_at(input, places, context);
        let table = self.embeddings.word_embeddings.weight.val();
        let (x, table) = with_bias(x, table, self.predictions().bias.val());
        ops::linear_cross_entropy(x, table, Layout::OutIn, targets, options, context.precision())
    }

    /// What the table of tokens is multiplied with at some positions, `[places, width]`.
    fn predicted_at(&self, input: BertInput, places: Tensor<1, Int>, context: &mut Context) -> Tensor<2> {
        let x = self.hidden(input, context);
        let [batch, time, width] = x.dims();
        let x = x.reshape([batch * time, width]).select(0, places);
        let [count, _] = x.dims();
        let Output { dense, layer_norm } = &self.predictions().transform;
        let x = dense.activated(x.reshape([1, count, width]), self.config.activation, context);
        layer_norm.forward_with(x, self.config.epsilon).reshape([count, width])
    }

    fn predictions(&self) -> &Predictions {
        &self.cls.as_ref().expect("a masked language model").predictions
    }

    /// What the table of tokens is multiplied with, `[batch, time, width]`.
    fn predicted(&self, input: BertInput, context: &mut Context) -> Tensor<3> {
        let x = self.hidden(input, context);
        let Output { dense, layer_norm } = &self.predictions().transform;
        let x = dense.activated(x, self.config.activation, context);
        layer_norm.forward_with(x, self.config.epsilon)
    }

    /// Logits of classes, from the first position.
    ///
    /// # Shapes
    /// - output: `[batch, classes]`
    ///
    /// # Panics
    /// Where the head is not [`BertHead::Classification`].
    pub fn class_logits(&self, input: BertInput, context: &mut Context) -> Tensor<2> {
        let x = self.hidden(input, context);
        let [batch, _, width] = x.dims();
        let first = x.narrow(1, 0, 1).reshape([batch, width]);
        let pooler = &self.pooler.as_ref().expect("a classifier").dense;
        let pooled = pooler.forward(first, context).tanh(); // [batch, width]
        let pooled = context.dropout(pooled, self.config.dropout, 1);
        self.classifier.as_ref().expect("a classifier").forward(pooled, context)
    }

    /// The mean of the positions that are no padding, divided by its length.
    ///
    /// # Shapes
    /// - output: `[batch, width]`
    pub fn embed(&self, input: BertInput, context: &mut Context) -> Tensor<2> {
        let mask = input.mask.clone();
        let x = self.hidden(input, context);
        let [batch, time, width] = x.dims();
        let sum = match mask {
            None => x.mean_dim(1),
            Some(mask) => {
                let counted = mask.float().reshape([batch, time, 1]);
                let count = counted.clone().sum_dim(1).clamp_min(1e-9);
                (x * counted).sum_dim(1) / count
            }
        };
        let mean = sum.reshape([batch, width]);
        // Of a square root at zero the slope is infinite; the reference bounds the length by 1e-12.
        let length = mean.clone().square().sum_dim(1).clamp_min(1e-24).sqrt(); // [batch, 1]
        mean / length
    }
}

impl Adapted for Bert {
    fn each_projection(&mut self, f: &mut dyn FnMut(&str, &mut Projection)) {
        for (i, Block { attention, intermediate, output }) in self.encoder.layer.iter_mut().enumerate() {
            let at = format!("encoder.layer.{i}");
            let Heads { query, key, value } = &mut attention.self_attention;
            for (name, layer) in [("query", query), ("key", key), ("value", value)] {
                f(&format!("{at}.attention.self.{name}"), layer);
            }
            f(&format!("{at}.attention.output.dense"), &mut attention.output.dense);
            f(&format!("{at}.intermediate.dense"), &mut intermediate.dense);
            f(&format!("{at}.output.dense"), &mut output.dense);
        }
    }
}

impl Block {
    /// # Shapes
    /// - input and output: `[batch, time, width]`
    fn forward(
        &self,
        x: Tensor<3>,
        config: &BertConfig,
        mask: Option<&Tensor<2, Bool>>,
        context: &mut Context,
    ) -> Tensor<3> {
        let [_, time, _] = x.dims();
        let Heads { query, key, value } = &self.attention.self_attention;
        let [q, k, v] = [query, key, value].map(|layer| layer.forward(x.clone(), context));
        let attention = Attention {
            mask: mask.cloned(),
            dropout: context.attention_dropout(config.attention_dropout, config.heads * time),
            precision: context.precision(),
            ..Attention::new(config.heads)
        };
        let attended = ops::attention(q, k, v, &attention); // [batch, time, width]
        let Output { dense, layer_norm } = &self.attention.output;
        let x = layer_norm.forward_with(dense.added(attended, x, config.dropout, context), config.epsilon);
        let dropouts = FeedForwardDropout { inner: 0.0, outer: config.dropout };
        let pair = [&self.intermediate.dense, &self.output.dense];
        let y = feed_forward(pair, x.clone(), x, config.activation, dropouts, context);
        self.output.layer_norm.forward_with(y, config.epsilon)
    }
}
