//! Keys of recipes that learn from text: how it is read, the tokenizer, the model families, fine-tuning, generation.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How text is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Text {
    /// Column of the text (`text-classification`, `causal-lm`), of the answer that was chosen (`dpo`), of the text to translate (`translation`), or of the
    /// first of a pair (`text-embedding`), in CSV, JSONL and Parquet files. Plain text files have none.
    pub column: String,
    /// `causal-lm`: column of a conversation, a list of `{role, content}`: trains on the assistant's words alone.
    pub messages: Option<String>,
    /// `causal-lm`, `dpo`: column of a prompt that is read and not learned; `column` then is what follows it.
    pub prompt: Option<String>,
    /// `causal-lm`, `dpo`: prompt and answer are a user's message and the assistant's, in the model's own chat template.
    pub chat: bool,
    /// `dpo`: column of the answer that was rejected; `column` is the one that was chosen.
    pub rejected: Option<String>,
    /// What a document is in plain text files.
    pub document: DocumentUnit,
    /// Documents that are there more than once.
    pub deduplicate: Deduplicate,
    /// Leave out documents of fewer characters.
    pub min_characters: usize,
    /// Tokens an example at most. Default: the model's context.
    pub max_length: Option<usize>,
    /// Longer examples lose their end, or become several.
    pub overlong: Overlong,
    /// `causal-lm`: whether a window may hold several documents, which do not see each other; `masked-lm`: with `[SEP]`
    /// between them, and they do.
    pub pack: bool,
    /// `masked-lm`: hide words rather than pieces of them.
    pub whole_words: bool,
}

/// What a document is in plain text files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DocumentUnit {
    /// All files in order are one running text: windows cross lines and files, splits are pieces of it.
    #[default]
    Stream,
    /// Each file.
    File,
    /// Each paragraph: what blank lines separate.
    Paragraph,
    /// Each line.
    Line,
}

/// Documents that are there more than once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Deduplicate {
    /// Keep them.
    #[default]
    None,
    /// Keep the first of equal ones.
    Exact,
    /// Keep the first of nearly equal ones (MinHash over word 5-grams, Jaccard similarity 0.8: Broder 1997).
    Near,
}

/// What becomes of an example of more tokens than fit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Overlong {
    /// It loses its end; the ledger says so.
    #[default]
    Truncate,
    /// It is dropped; the ledger says so.
    Drop,
    /// Stop with an error.
    Error,
}

/// How text becomes tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tokenizer {
    /// What is trained on the training split. A model that is fine-tuned keeps its own.
    pub kind: TokenizerKind,
    /// Tokens at most, special ones included; `char` and `byte` have as many as they need.
    pub vocabulary: usize,
    /// A `tokenizer.json` (or a folder that holds one) to use instead of training one.
    pub from: Option<String>,
    /// Turn everything into small letters first.
    pub lowercase: bool,
    /// Pairs and words seen fewer times become no token.
    pub min_frequency: usize,
    /// Documents that the tokenizer is trained on, at most: evenly spread over the training split.
    pub max_documents: usize,
}

/// A kind of tokenizer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TokenizerKind {
    /// Byte-level byte-pair encoding, as in GPT-2 (Sennrich et al. 2016; Radford et al. 2019).
    #[default]
    Bpe,
    /// Unigram language model (Kudo 2018), with `▁` for spaces.
    Unigram,
    /// WordPiece, as in BERT (Wu et al. 2016).
    Wordpiece,
    /// A token a character.
    Char,
    /// A token a byte.
    Byte,
}

/// GPT-2 (Radford et al. 2019): a decoder with learned positions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Gpt2Model {
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads; must divide `width`.
    pub heads: usize,
    /// Values a position.
    pub width: usize,
    /// Positions at most.
    pub context: usize,
    /// Share of values dropped after embeddings, attention and feed-forward parts in training.
    pub dropout: f64,
    /// Use the table of token embeddings as output layer too.
    pub tied: bool,
}

/// Llama (Touvron et al. 2023): a decoder with RMS norm, rotary positions, SwiGLU and grouped-query attention.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LlamaModel {
    /// Number of blocks.
    pub layers: usize,
    /// Query heads; must divide `width`.
    pub heads: usize,
    /// Key and value heads; must divide `heads`. Default: as many as `heads`.
    pub kv_heads: Option<usize>,
    /// Values a position.
    pub width: usize,
    /// Width of the feed-forward part. Default: 8/3 of `width`, rounded up to a multiple of 32.
    pub hidden: Option<usize>,
    /// Positions at most.
    pub context: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Share of values dropped after attention and feed-forward parts in training.
    pub dropout: f64,
    /// Use the table of token embeddings as output layer too.
    pub tied: bool,
}

/// BERT (Devlin et al. 2019): an encoder that sees both sides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BertModel {
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads; must divide `width`.
    pub heads: usize,
    /// Values a position.
    pub width: usize,
    /// Width of the feed-forward part. Default: 4 times `width`.
    pub hidden: Option<usize>,
    /// Positions at most.
    pub context: usize,
    /// Share of values dropped after embeddings, attention and feed-forward parts in training.
    pub dropout: f64,
}

/// Transformer (Vaswani et al. 2017): an encoder and a decoder that attends to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EncoderDecoderModel {
    /// Blocks of the encoder, and of the decoder.
    pub layers: usize,
    /// Attention heads; must divide `width`.
    pub heads: usize,
    /// Values a position.
    pub width: usize,
    /// Width of the feed-forward part. Default: 4 times `width`.
    pub hidden: Option<usize>,
    /// Positions of a source or target at most.
    pub context: usize,
    /// Share of values dropped after embeddings, attention and feed-forward parts in training.
    pub dropout: f64,
}

/// A model that was trained before: a run, a model package, a Hugging Face folder, `hf:ORG/NAME`, or a GGUF file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PretrainedModel {
    /// Where it is.
    pub from: String,
    /// Which of its weights are trained.
    #[serde(default)]
    pub train: Trainable,
    /// `train = "last"`: number of last blocks, besides what comes after them.
    #[serde(default = "one")]
    pub last_layers: usize,
    /// Train low-rank additions to its matrices in place of the matrices themselves.
    #[serde(default)]
    pub lora: Option<Lora>,
    /// Each block's learning rate is that of the block above times this (Howard & Ruder 2018); 1: all the same.
    #[serde(default = "whole")]
    pub layer_decay: f64,
    /// Share of values dropped in training. Default: as the model was trained.
    #[serde(default)]
    pub dropout: Option<f64>,
}

/// Which weights of a pretrained model are trained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Trainable {
    /// All of them.
    #[default]
    All,
    /// The last blocks and what comes after them.
    Last,
    /// What comes after the blocks alone: a probe.
    Head,
}

/// Low-rank additions to matrices (Hu et al. 2021).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Lora {
    /// Rank of the additions.
    pub rank: usize,
    /// The additions are scaled by `alpha / rank`.
    pub alpha: f64,
    /// Share of their inputs dropped in training.
    pub dropout: f64,
    /// Ends of the names of the layers that get one. Default: all layers of attention and feed-forward parts.
    pub targets: Vec<String>,
    /// Number type of the weights that stay as they are.
    pub base: LoraBase,
}

/// Number type of weights that stay as they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LoraBase {
    /// 32-bit floating point.
    #[default]
    F32,
    /// 8-bit integers with a scale a row.
    Int8,
}

/// What is written while training and in the run's report, to see what the model can do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Generate {
    /// Prompts that are continued at every validation and at the end; of `translation`, texts to translate.
    pub prompts: Vec<String>,
    /// Tokens of each answer at most.
    pub max_tokens: usize,
    /// Divides logits; 0 takes the most likely token.
    pub temperature: f64,
    /// Chooses among this many most likely tokens alone; 0: all.
    pub top_k: usize,
    /// Chooses among the most likely tokens that have this share of the probability together (Holtzman et al. 2020).
    pub top_p: f64,
    /// Leaves out tokens with less than this share of the probability of the most likely one.
    pub min_p: f64,
    /// Divides the logits of tokens that were there already (Keskar et al. 2019); 1: no penalty.
    pub repetition_penalty: f64,
    /// Keeps this many hypotheses and gives the best; 1: no beam search.
    pub beams: usize,
}

fn one() -> usize {
    1
}

fn whole() -> f64 {
    1.0
}

impl Default for Text {
    fn default() -> Self {
        Self {
            column: "text".into(),
            messages: None,
            prompt: None,
            chat: false,
            rejected: None,
            document: DocumentUnit::Stream,
            deduplicate: Deduplicate::None,
            min_characters: 1,
            max_length: None,
            overlong: Overlong::Truncate,
            pack: true,
            whole_words: false,
        }
    }
}

impl Default for Tokenizer {
    fn default() -> Self {
        Self {
            kind: TokenizerKind::Bpe,
            vocabulary: 8192,
            from: None,
            lowercase: false,
            min_frequency: 2,
            max_documents: 200_000,
        }
    }
}

impl Default for Gpt2Model {
    fn default() -> Self {
        Self { layers: 6, heads: 6, width: 384, context: 256, dropout: 0.0, tied: true }
    }
}

impl Default for LlamaModel {
    fn default() -> Self {
        Self {
            layers: 6,
            heads: 6,
            kv_heads: None,
            width: 384,
            hidden: None,
            context: 256,
            rope_theta: 10_000.0,
            dropout: 0.0,
            tied: true,
        }
    }
}

impl Default for BertModel {
    fn default() -> Self {
        Self { layers: 4, heads: 4, width: 256, hidden: None, context: 128, dropout: 0.1 }
    }
}

impl Default for EncoderDecoderModel {
    fn default() -> Self {
        Self { layers: 3, heads: 4, width: 256, hidden: None, context: 128, dropout: 0.1 }
    }
}

impl Default for Lora {
    fn default() -> Self {
        Self { rank: 8, alpha: 16.0, dropout: 0.0, targets: Vec::new(), base: LoraBase::F32 }
    }
}

impl Default for Generate {
    fn default() -> Self {
        Self {
            prompts: Vec::new(),
            max_tokens: 100,
            temperature: 0.8,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            beams: 1,
        }
    }
}
