//! Checks of recipes that learn from text.

use super::Checker;
use crate::language::{DocumentUnit, LlamaModel, PretrainedModel, TokenizerKind, Trainable};
use crate::types::{Model, SplitBy, TaskName};

impl Checker<'_> {
    pub(super) fn language(&mut self) {
        let task = self.recipe.task;
        self.target();
        self.text();
        self.tokenizer();
        self.generate();
        if self.recipe.data.split.folds.is_some() {
            let message = format!("`data.split.folds` is for tables, and the task is {}", task.name());
            self.fault(&["data.split.folds", "task"], message, "leave it out, and give `test` a share");
        }
    }

    fn target(&mut self) {
        let task = self.recipe.task;
        let (needs, example) = match task {
            TaskName::TextClassification => (true, "target = \"label\""),
            TaskName::Translation => (true, "target = \"zh\""),
            TaskName::TextEmbedding => (true, "target = \"answer\""),
            _ => (false, ""),
        };
        if needs && self.recipe.data.target.is_none() {
            let message = format!("[data] needs the key `target` for {}", task.name());
            self.lack("data", &["data.target"], message, format!("for example: {example}"));
        } else if !needs && self.recipe.data.target.is_some() {
            let message = format!("`data.target` has no meaning for {}: the text is the target", task.name());
            let help = match task {
                TaskName::Dpo => "leave it out; `text.rejected` names the column of the rejected answer",
                _ => "leave it out; `text.column` names the column of the text",
            };
            self.fault(&["data.target", "task"], message, help);
        }
    }

    fn text(&mut self) {
        let task = self.recipe.task;
        let text = self.recipe.text.as_ref();
        if task == TaskName::Dpo && text.is_none_or(|t| t.rejected.is_none()) {
            let message =
                "[text] needs the key `rejected` for dpo: the column of the answer that was rejected";
            let help = "for example: prompt = \"prompt\", column = \"chosen\", rejected = \"rejected\"";
            self.lack("text", &["text.rejected", "text", "task"], message, help);
        }
        let Some(text) = text else { return };
        for (key, name) in [("text.column", Some(&text.column)), ("text.rejected", text.rejected.as_ref())] {
            if name.is_some_and(String::is_empty) {
                let message = format!("`{key}`: expected the name of a column, found an empty string");
                self.fault(&[key], message, "");
            }
        }
        if let Some(length) = text.max_length {
            self.at_least("text.max_length", length, 2);
        }
        let (causal, dpo) = (task == TaskName::CausalLm, task == TaskName::Dpo);
        for (key, value, fits, tasks) in [
            ("text.messages", &text.messages, causal, "causal-lm"),
            ("text.prompt", &text.prompt, causal || dpo, "causal-lm and dpo"),
            ("text.rejected", &text.rejected, dpo, "dpo"),
        ] {
            if value.is_some() && !fits {
                let message = format!("`{key}` is for {tasks}, and the task is {}", task.name());
                self.fault(&[key, "task"], message, "leave it out");
            }
        }
        if text.whole_words && task != TaskName::MaskedLm {
            let message = format!("`text.whole_words` is for masked-lm, and the task is {}", task.name());
            self.fault(&["text.whole_words", "task"], message, "leave it out");
        }
        if text.chat && text.prompt.is_none() {
            let message = "`text.chat` needs `text.prompt`: the column of what the user says";
            let help = "for example: prompt = \"question\", column = \"answer\"; whole conversations are `text.messages`";
            self.fault(&["text.chat"], message, help);
        }
        if text.messages.is_some() && text.prompt.is_some() {
            let message =
                "`text.messages` and `text.prompt` contradict each other: each says what is learned";
            self.fault(&["text.messages", "text.prompt"], message, "leave one of them out");
        }
        let split = self.recipe.data.split.by;
        let stream = text.document == DocumentUnit::Stream;
        if stream && matches!(split, SplitBy::Group | SplitBy::Column) && self.places.is_set("text.document")
        {
            let message = "one running text has no columns to split by";
            self.fault(&["data.split.by", "text.document"], message, "leave `data.split.by` out");
        }
    }

    fn tokenizer(&mut self) {
        let Some(tokenizer) = &self.recipe.tokenizer else { return };
        let pretrained = matches!(self.recipe.model, Model::Pretrained(_));
        if pretrained && self.places.is_set("tokenizer") {
            let message =
                "[tokenizer] contradicts `model.from`: a model that was trained before keeps its tokenizer";
            self.fault(&["tokenizer", "model.from"], message, "leave [tokenizer] out");
        }
        if tokenizer.from.is_some() {
            for key in ["kind", "vocabulary", "lowercase", "min_frequency", "max_documents"] {
                let path = format!("tokenizer.{key}");
                if self.places.is_set(&path) {
                    let message = format!("`{path}` has no effect beside `tokenizer.from`");
                    self.fault(&[&path, "tokenizer.from"], message, "leave one of them out");
                }
            }
        }
        let fixed = matches!(tokenizer.kind, TokenizerKind::Char | TokenizerKind::Byte);
        if fixed && self.places.is_set("tokenizer.vocabulary") {
            let message =
                "`tokenizer.vocabulary` has no effect: `char` and `byte` have as many tokens as they need";
            self.fault(&["tokenizer.vocabulary", "tokenizer.kind"], message, "leave it out");
        } else if !fixed {
            // 256 bytes and a few special tokens are there before anything is learned.
            self.at_least("tokenizer.vocabulary", tokenizer.vocabulary, 300);
        }
        self.at_least("tokenizer.max_documents", tokenizer.max_documents, 1);
    }

    fn generate(&mut self) {
        let task = self.recipe.task;
        if !task.writes_text() {
            return;
        }
        let Some(generate) = &self.recipe.generate else { return };
        self.at_least("generate.max_tokens", generate.max_tokens, 1);
        self.at_least("generate.beams", generate.beams, 1);
        self.not_negative("generate.temperature", generate.temperature);
        if task == TaskName::Translation {
            for key in ["temperature", "top_k", "top_p", "min_p", "repetition_penalty"] {
                let path = format!("generate.{key}");
                if self.places.is_set(&path) {
                    let message = format!("`{path}` has no effect: a translation is the most likely text");
                    self.fault(&[&path, "task"], message, "leave it out; `generate.beams` widens the search");
                }
            }
        }
        let p = generate.top_p;
        self.number("generate.top_p", p, p > 0.0 && p <= 1.0, "above 0, 1 at most");
        self.share("generate.min_p", generate.min_p);
        self.positive("generate.repetition_penalty", generate.repetition_penalty);
    }

    pub(super) fn transformer(
        &mut self,
        layers: usize,
        heads: usize,
        width: usize,
        context: usize,
        dropout: f64,
    ) {
        self.blocks(layers, heads, width);
        self.at_least("model.context", context, 2);
        self.share("model.dropout", dropout);
    }

    /// Sizes of the blocks of a Transformer, on text or on tables.
    pub(super) fn blocks(&mut self, layers: usize, heads: usize, width: usize) {
        self.at_least("model.layers", layers, 1);
        self.at_least("model.width", width, 1);
        self.at_least("model.heads", heads, 1);
        if heads > 0 && width > 0 && !width.is_multiple_of(heads) {
            let message = format!("`model.heads` ({heads}) must divide `model.width` ({width})");
            let near = (width / heads).max(1) * heads;
            let help = format!("for example: width = {near} with {heads} heads");
            self.fault(&["model.heads", "model.width"], message, help);
        }
    }

    pub(super) fn llama(&mut self, model: &LlamaModel) {
        self.transformer(model.layers, model.heads, model.width, model.context, model.dropout);
        self.positive("model.rope_theta", model.rope_theta);
        if let Some(kv) = model.kv_heads
            && (kv == 0 || !model.heads.is_multiple_of(kv))
        {
            let message = format!("`model.kv_heads` ({kv}) must divide `model.heads` ({})", model.heads);
            self.fault(&["model.kv_heads", "model.heads"], message, "leave it out for as many as `heads`");
        }
        let dim = model.width / model.heads.max(1);
        if model.heads > 0 && !dim.is_multiple_of(2) {
            let message = format!("rotary positions turn pairs of values, and a head has {dim}");
            self.fault(
                &["model.width", "model.heads"],
                message,
                "choose a width that is an even multiple of the heads",
            );
        }
    }

    pub(super) fn pretrained(&mut self, model: &PretrainedModel) {
        if model.from.is_empty() {
            let message =
                "`model.from`: expected a run, a folder, `hf:ORG/NAME` or a GGUF file, found nothing";
            self.fault(&["model.from"], message, "");
        }
        if self.places.is_set("model.last_layers") && model.train != Trainable::Last {
            let about = &["model.last_layers", "model.train"];
            self.fault(
                about,
                "`model.last_layers` has no effect without train = \"last\"",
                "write train = \"last\"",
            );
        }
        let decay = model.layer_decay;
        self.number("model.layer_decay", decay, decay > 0.0 && decay <= 1.0, "above 0, 1 at most");
        if let Some(dropout) = model.dropout {
            self.share("model.dropout", dropout);
        }
        if let Some(lora) = &model.lora {
            self.at_least("model.lora.rank", lora.rank, 1);
            self.positive("model.lora.alpha", lora.alpha);
            self.share("model.lora.dropout", lora.dropout);
            if model.train != Trainable::All {
                let about = &["model.train", "model.lora"];
                let message =
                    "`model.train` contradicts `model.lora`: with it, its additions alone are trained";
                self.fault(about, message, "leave one of them out");
            }
        }
    }
}
