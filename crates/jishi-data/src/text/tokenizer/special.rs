//! Tokens that are no text: where a text begins and ends, padding, masks.

use serde::{Deserialize, Serialize};

/// Ids of special tokens by what they are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecialIds {
    /// Begins a text.
    pub bos: Option<u32>,
    /// Ends a text.
    pub eos: Option<u32>,
    /// Fills a batch up.
    pub pad: Option<u32>,
    /// Stands for what has no token.
    pub unk: Option<u32>,
    /// Comes first, where an encoder gathers the whole text.
    pub cls: Option<u32>,
    /// Comes between texts.
    pub sep: Option<u32>,
    /// Hides a token.
    pub mask: Option<u32>,
}

/// The usual names, the likelier first.
const NAMES: [(&str, &[&str]); 7] = [
    ("bos_token", &["<s>", "<|begin_of_text|>", "<|startoftext|>", "<bos>", "[BOS]", "<|endoftext|>"]),
    ("eos_token", &["</s>", "<|endoftext|>", "<|end_of_text|>", "<eos>", "[EOS]", "<|im_end|>"]),
    ("pad_token", &["<pad>", "[PAD]", "<|pad|>", "<|padding|>", "<|finetune_right_pad_id|>"]),
    ("unk_token", &["<unk>", "[UNK]", "<|unk|>"]),
    ("cls_token", &["[CLS]", "<cls>"]),
    ("sep_token", &["[SEP]", "<sep>"]),
    ("mask_token", &["[MASK]", "<mask>"]),
];

/// Tokens that end an answer beside the one that ends a text.
pub(super) const ENDS: [&str; 5] = ["<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<|endoftext|>"];

impl SpecialIds {
    /// By the names that `config` (a `tokenizer_config.json`) gives, else by the usual ones; `id` finds a token.
    pub(super) fn find(config: &serde_json::Value, id: impl Fn(&str) -> Option<u32>) -> Self {
        let of = |i: usize| {
            let (key, usual) = NAMES[i];
            // A token is its text, or an object that holds the text.
            let named = config[key].as_str().or_else(|| config[key]["content"].as_str());
            match named {
                Some(name) => id(name),
                None => usual.iter().find_map(|name| id(name)),
            }
        };
        Self { bos: of(0), eos: of(1), pad: of(2), unk: of(3), cls: of(4), sep: of(5), mask: of(6) }
    }

    /// Ids with the keys of a `tokenizer_config.json`.
    pub(in crate::text) fn named(&self) -> [(&'static str, Option<u32>); 7] {
        let ids = [self.bos, self.eos, self.pad, self.unk, self.cls, self.sep, self.mask];
        std::array::from_fn(|i| (NAMES[i].0, ids[i]))
    }
}

/// The special tokens that a new tokenizer gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SpecialSet {
    /// `<|endoftext|>`, between documents.
    #[default]
    Causal,
    /// The same, and `<|im_start|>` and `<|im_end|>` around turns of a conversation.
    Chat,
    /// `[PAD]`, `[UNK]`, `[CLS]`, `[SEP]` and `[MASK]`; texts are encoded as `[CLS] A [SEP]`, pairs as
    /// `[CLS] A [SEP] B [SEP]`.
    Encoder,
    /// `<pad>`, `<s>`, `</s>` and `<unk>`; texts are encoded as `A </s>`.
    Translation,
}

impl SpecialSet {
    /// The tokens' names in the order of their ids. `unk`: there are texts that the tokenizer has no tokens for.
    pub(super) fn tokens(self, unk: bool) -> Vec<String> {
        let mut tokens = match self {
            Self::Causal => vec!["<|endoftext|>"],
            Self::Chat => vec!["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
            Self::Encoder => vec!["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
            Self::Translation => vec!["<pad>", "<s>", "</s>", "<unk>"],
        };
        if unk && matches!(self, Self::Causal | Self::Chat) {
            tokens.push(self.unk());
        }
        tokens.into_iter().map(String::from).collect()
    }

    /// Name of the token for what has none.
    pub(super) fn unk(self) -> &'static str {
        if self == Self::Encoder { "[UNK]" } else { "<unk>" }
    }
}
