//! Models of text: those that predict the next token, those that read a text from both sides, and those that write
//! one text from another.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use jishi_kernels::cpu::cross_entropy::Options;
use jishi_kernels::cpu::matvec::Format;
use jishi_recipe::{BertModel, Gpt2Model, LlamaModel, Problem, Problems};
use serde_json::Value;

use crate::bert::{Bert, BertConfig, BertHead, BertInput};
use crate::context::Context;
use crate::decoder::{Decoder, DecoderConfig};
use crate::encoder_decoder::{EncoderDecoder, EncoderDecoderConfig};
use crate::error::ModelError;
use crate::gpt2::{self, Gpt2, Gpt2Config};
use crate::layers::projection::Projection;
use crate::layers::tokens::log_probabilities;
use crate::llama::{self, Llama, LlamaConfig};
use crate::lora::{Adapted, merge_lora};
use crate::reference::Reference;
use crate::weights::export_weights;

/// Logits in memory at a time, about.
const LOGITS: usize = 1 << 24;

/// Sizes of a language model.
pub trait LanguageConfig: Clone + 'static {
    /// The sizes of a Hugging Face `config.json`.
    ///
    /// # Errors
    /// Names every key that is missing, damaged, or asks for something that is not supported.
    fn from_hf(value: &Value) -> Result<Self, Problems>;

    /// As a Hugging Face `config.json`.
    #[must_use]
    fn to_hf(&self) -> Value;

    /// Positions at most.
    #[must_use]
    fn context(&self) -> usize;

    /// Drops this share in training wherever the family drops something.
    fn set_dropout(&mut self, rate: f64);
}

/// A language model of some families: what fine-tuning, packing and exporting need to know.
pub trait LanguageModel: Adapted {
    /// Its sizes.
    type Config: LanguageConfig;

    /// A model with initial weights from `seed`. On an autodiff device its parameters ask for gradients.
    #[must_use]
    fn init(config: &Self::Config, seed: u64, device: &Device) -> Self;

    /// Its sizes.
    #[must_use]
    fn config(&self) -> Self::Config;

    /// How reference checkpoints name and lay out its tensors.
    #[must_use]
    fn reference(&self) -> Reference;
}

/// Sizes of a model that predicts the next token.
#[derive(Debug, Clone, PartialEq)]
pub enum CausalConfig {
    /// GPT-2.
    Gpt2(Gpt2Config),
    /// Llama.
    Llama(LlamaConfig),
}

impl CausalConfig {
    /// The sizes of a recipe's GPT-2.
    ///
    /// # Errors
    /// Names all sizes that make no model.
    pub fn from_gpt2(model: &Gpt2Model, vocabulary: usize) -> Result<Self, Problems> {
        Gpt2Config::from_recipe(model, vocabulary).map(Self::Gpt2)
    }

    /// The sizes of a recipe's Llama.
    ///
    /// # Errors
    /// Names all sizes that make no model.
    pub fn from_llama(model: &LlamaModel, vocabulary: usize) -> Result<Self, Problems> {
        LlamaConfig::from_recipe(model, vocabulary).map(Self::Llama)
    }
}

impl CausalConfig {
    /// Whether the output layer is the table of embeddings.
    #[must_use]
    pub fn tied(&self) -> bool {
        match self {
            Self::Gpt2(config) => config.tied,
            Self::Llama(config) => config.tied,
        }
    }
}

impl LanguageConfig for CausalConfig {
    fn from_hf(value: &Value) -> Result<Self, Problems> {
        match value["model_type"].as_str() {
            Some("gpt2") => Gpt2Config::from_hf(value).map(Self::Gpt2),
            Some("llama") => LlamaConfig::from_hf(value).map(Self::Llama),
            _ => Err(unknown(value, "gpt2 and llama")),
        }
    }

    fn to_hf(&self) -> Value {
        match self {
            Self::Gpt2(config) => config.to_hf(),
            Self::Llama(config) => config.to_hf(),
        }
    }

    fn context(&self) -> usize {
        match self {
            Self::Gpt2(config) => config.context,
            Self::Llama(config) => config.context,
        }
    }

    fn set_dropout(&mut self, rate: f64) {
        match self {
            Self::Gpt2(c) => {
                (c.embedding_dropout, c.attention_dropout, c.residual_dropout) = (rate, rate, rate)
            }
            Self::Llama(c) => (c.attention_dropout, c.residual_dropout) = (rate, rate),
        }
    }
}

fn unknown(value: &Value, known: &str) -> Problems {
    let message = format!("`model_type` is {}, which is not supported here", value["model_type"]);
    Problem::new(message).help(format!("{known} are")).into()
}

/// A model that predicts the next token.
#[derive(Module, Debug)]
pub enum CausalModel {
    /// GPT-2.
    Gpt2(Gpt2),
    /// Llama.
    Llama(Llama),
}

impl LanguageModel for CausalModel {
    type Config = CausalConfig;

    fn init(config: &CausalConfig, seed: u64, device: &Device) -> Self {
        match config {
            CausalConfig::Gpt2(config) => Self::Gpt2(Gpt2::init(config, seed, device)),
            CausalConfig::Llama(config) => Self::Llama(Llama::init(config, seed, device)),
        }
    }

    fn config(&self) -> CausalConfig {
        match self {
            Self::Gpt2(model) => CausalConfig::Gpt2(model.config().clone()),
            Self::Llama(model) => CausalConfig::Llama(model.config().clone()),
        }
    }

    fn reference(&self) -> Reference {
        match self {
            Self::Gpt2(_) => gpt2::REFERENCE,
            Self::Llama(_) => llama::REFERENCE,
        }
    }
}

impl CausalModel {
    /// Tokens.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        match self {
            Self::Gpt2(model) => model.config().vocabulary,
            Self::Llama(model) => model.config().vocabulary,
        }
    }

    /// Positions at most.
    #[must_use]
    pub fn context(&self) -> usize {
        match self {
            Self::Gpt2(model) => model.config().context,
            Self::Llama(model) => model.config().context,
        }
    }

    /// The model as a decoder, which writes one token after another: with weights of this format, additions merged.
    ///
    /// # Errors
    /// Sizes that the decoder does not know.
    pub fn decoder(&self, format: Format) -> Result<Decoder, ModelError> {
        let merged = merge_lora(self.clone());
        Decoder::new(DecoderConfig::from(&self.config()), format, &export_weights(&merged))
    }

    /// The last hidden states. With `starts`, the place of the first token of each token's document, documents of a
    /// packed sequence do not see each other. A padded sequence is one whose padding is a document of its own.
    ///
    /// # Shapes
    /// - tokens, starts: `[batch, time]`
    /// - output: `[batch, time, width]`
    ///
    /// # Panics
    /// When there are more positions than the context holds, or a token is not in the vocabulary.
    pub fn hidden(
        &self,
        tokens: Tensor<2, Int>,
        starts: Option<Tensor<2, Int>>,
        context: &mut Context,
    ) -> Tensor<3> {
        match self {
            Self::Gpt2(model) => model.hidden(tokens, starts, context),
            Self::Llama(model) => model.hidden(tokens, starts, context),
        }
    }

    /// Logits of every position's next token.
    ///
    /// # Shapes
    /// - tokens, starts: `[batch, time]`
    /// - output: `[batch, time, vocabulary]`
    ///
    /// # Panics
    /// As [`CausalModel::hidden`].
    pub fn logits(
        &self,
        tokens: Tensor<2, Int>,
        starts: Option<Tensor<2, Int>>,
        context: &mut Context,
    ) -> Tensor<3> {
        match self {
            Self::Gpt2(model) => model.forward(tokens, starts, context),
            Self::Llama(model) => model.forward(tokens, starts, context),
        }
    }

    /// Sum of the cross-entropies of next tokens, `[1]`, without holding all logits in memory.
    ///
    /// # Shapes
    /// - tokens, starts: `[batch, time]`, targets: `[batch · time]`
    ///
    /// # Panics
    /// As [`CausalModel::hidden`], or when a target that counts is no token.
    pub fn loss(
        &self,
        tokens: Tensor<2, Int>,
        starts: Option<Tensor<2, Int>>,
        targets: Tensor<1, Int>,
        options: Options,
        context: &mut Context,
    ) -> Tensor<1> {
        match self {
            Self::Gpt2(model) => model.loss(tokens, starts, targets, options, context),
            Self::Llama(model) => model.loss(tokens, starts, targets, options, context),
        }
    }

    /// Log-probabilities of the tokens that follow some positions, each `row · time + position`. Only logits of these
    /// positions are ever in memory; in training, all of them.
    ///
    /// # Shapes
    /// - tokens: `[batch, time]`, places, targets: `[places]`
    /// - output: `[places]`
    ///
    /// # Panics
    /// As [`CausalModel::hidden`], or when a place is beyond the tokens.
    pub fn log_probabilities_at(
        &self,
        tokens: Tensor<2, Int>,
        places: Tensor<1, Int>,
        targets: Tensor<1, Int>,
        context: &mut Context,
    ) -> Tensor<1> {
        let x = self.hidden(tokens, None, context);
        let [batch, time, width] = x.dims();
        let x = x.reshape([batch * time, width]).select(0, places);
        let most = (LOGITS / self.vocabulary()).max(1);
        log_probabilities(x, self.output(), targets, context.precision(), most)
    }

    /// The output layer, `[vocabulary, width]`.
    #[must_use]
    pub fn output(&self) -> Tensor<2> {
        match self {
            Self::Gpt2(model) => model.output(),
            Self::Llama(model) => model.output(),
        }
    }
}

impl Adapted for CausalModel {
    fn each_projection(&mut self, f: &mut dyn FnMut(&str, &mut Projection)) {
        match self {
            Self::Gpt2(model) => model.each_projection(f),
            Self::Llama(model) => model.each_projection(f),
        }
    }
}

/// Sizes of a model that reads a text from both sides.
#[derive(Debug, Clone, PartialEq)]
pub enum EncoderConfig {
    /// BERT.
    Bert(BertConfig),
}

impl EncoderConfig {
    /// The sizes of a recipe's BERT.
    ///
    /// # Errors
    /// Names all sizes that make no model.
    pub fn from_bert(model: &BertModel, vocabulary: usize, head: BertHead) -> Result<Self, Problems> {
        BertConfig::from_recipe(model, vocabulary, head).map(Self::Bert)
    }

    /// Puts another head on it.
    pub fn set_head(&mut self, head: BertHead) {
        match self {
            Self::Bert(config) => config.head = head,
        }
    }
}

impl LanguageConfig for EncoderConfig {
    fn from_hf(value: &Value) -> Result<Self, Problems> {
        match value["model_type"].as_str() {
            Some("bert") => BertConfig::from_hf(value).map(Self::Bert),
            _ => Err(unknown(value, "models of the type bert")),
        }
    }

    fn to_hf(&self) -> Value {
        match self {
            Self::Bert(config) => config.to_hf(),
        }
    }

    fn context(&self) -> usize {
        match self {
            Self::Bert(config) => config.context,
        }
    }

    fn set_dropout(&mut self, rate: f64) {
        match self {
            Self::Bert(config) => (config.dropout, config.attention_dropout) = (rate, rate),
        }
    }
}

/// A model that reads a text from both sides.
#[derive(Module, Debug)]
pub enum EncoderModel {
    /// BERT.
    Bert(Bert),
}

impl LanguageModel for EncoderModel {
    type Config = EncoderConfig;

    fn init(config: &EncoderConfig, seed: u64, device: &Device) -> Self {
        match config {
            EncoderConfig::Bert(config) => Self::Bert(Bert::init(config, seed, device)),
        }
    }

    fn config(&self) -> EncoderConfig {
        match self {
            Self::Bert(model) => EncoderConfig::Bert(model.config().clone()),
        }
    }

    fn reference(&self) -> Reference {
        match self {
            Self::Bert(_) => crate::bert::REFERENCE,
        }
    }
}

impl EncoderModel {
    /// Logits of classes.
    ///
    /// # Shapes
    /// - output: `[batch, classes]`
    ///
    /// # Panics
    /// As [`Bert::class_logits`].
    pub fn class_logits(&self, input: BertInput, context: &mut Context) -> Tensor<2> {
        match self {
            Self::Bert(model) => model.class_logits(input, context),
        }
    }

    /// Logits of the tokens at some positions, each `row · time + position`.
    ///
    /// # Shapes
    /// - places: `[places]`
    /// - output: `[places, vocabulary]`
    ///
    /// # Panics
    /// As [`Bert::logits_at`].
    pub fn logits_at(&self, input: BertInput, places: Tensor<1, Int>, context: &mut Context) -> Tensor<2> {
        match self {
            Self::Bert(model) => model.logits_at(input, places, context),
        }
    }

    /// Sum of the cross-entropies of the tokens at some positions, `[1]`.
    ///
    /// # Shapes
    /// - places, targets: `[places]`
    ///
    /// # Panics
    /// As [`Bert::loss_at`].
    pub fn loss_at(
        &self,
        input: BertInput,
        places: Tensor<1, Int>,
        targets: Tensor<1, Int>,
        options: Options,
        context: &mut Context,
    ) -> Tensor<1> {
        match self {
            Self::Bert(model) => model.loss_at(input, places, targets, options, context),
        }
    }

    /// The mean of the positions of each text, of length 1.
    ///
    /// # Shapes
    /// - output: `[batch, width]`
    ///
    /// # Panics
    /// As [`Bert::hidden`].
    pub fn embed(&self, input: BertInput, context: &mut Context) -> Tensor<2> {
        match self {
            Self::Bert(model) => model.embed(input, context),
        }
    }
}

impl Adapted for EncoderModel {
    fn each_projection(&mut self, f: &mut dyn FnMut(&str, &mut Projection)) {
        match self {
            Self::Bert(model) => model.each_projection(f),
        }
    }
}

/// A model that writes one text from another: there is one family.
pub type Seq2SeqModel = EncoderDecoder;

impl LanguageConfig for EncoderDecoderConfig {
    fn from_hf(value: &Value) -> Result<Self, Problems> {
        Self::from_hf(value)
    }

    fn to_hf(&self) -> Value {
        self.to_hf()
    }

    fn context(&self) -> usize {
        self.context
    }

    fn set_dropout(&mut self, rate: f64) {
        (self.dropout, self.attention_dropout) = (rate, rate);
    }
}

impl LanguageModel for EncoderDecoder {
    type Config = EncoderDecoderConfig;

    fn init(config: &EncoderDecoderConfig, seed: u64, device: &Device) -> Self {
        Self::init(config, seed, device)
    }

    fn config(&self) -> EncoderDecoderConfig {
        self.config().clone()
    }

    fn reference(&self) -> Reference {
        crate::encoder_decoder::REFERENCE
    }
}
