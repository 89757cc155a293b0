//! Answers in the form of OpenAI's interface.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use jishi_data::text::tokenizer::Tokenizer;
use jishi_models::generate::{Finish, LogProbability, Piece};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use super::Style;
use super::request::Asked;
use crate::error::ApiError;
use crate::model::{Kind, Model};
use crate::scheduler::Event;
use crate::ticket::Ticket;

/// What all parts of an answer tell.
pub struct About {
    pub style: Style,
    id: String,
    created: u64,
    model: String,
    tokenizer: Option<Arc<Tokenizer>>,
    /// Tokens of all prompts together.
    prompt_tokens: usize,
    /// Answers to all prompts together.
    pub answers: usize,
    pub log_probabilities: bool,
    /// What is told of the request.
    ticket: Arc<Ticket>,
}

impl About {
    pub fn new(style: Style, model: &Model, asked: &Asked, ticket: Arc<Ticket>) -> Self {
        let prefix = if style == Style::Chat { "chatcmpl" } else { "cmpl" };
        let tokenizer = match &model.kind {
            Kind::Writes { generator, .. } => Some(Arc::clone(generator.tokenizer())),
            Kind::Predicts { .. } => None,
        };
        let prompt_tokens = asked.prompts.iter().map(|(tokens, _)| tokens.len()).sum();
        ticket.reads(prompt_tokens);
        Self {
            style,
            id: format!("{prefix}-{:016x}", RandomState::new().build_hasher().finish()),
            created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
            model: model.name.clone(),
            tokenizer,
            prompt_tokens,
            ticket,
            answers: asked.prompts.len() * asked.choices,
            log_probabilities: asked.request.log_probabilities.is_some(),
        }
    }

    /// A document with these choices.
    pub fn document(&self, object: &str, choices: Vec<Value>) -> Map<String, Value> {
        let document = json!({
            "id": self.id, "object": object, "created": self.created, "model": self.model,
            "choices": choices,
        });
        match document {
            Value::Object(document) => document,
            _ => Map::new(),
        }
    }

    /// Tells of a token that was written.
    pub fn wrote(&self, piece: &Piece) {
        self.ticket.writes(usize::from(piece.token.is_some()));
    }

    /// What an answer took.
    pub fn usage(&self, tokens: usize) -> Value {
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": tokens,
            "total_tokens": self.prompt_tokens + tokens,
        })
    }

    fn token(&self, id: u32) -> (String, Vec<u8>) {
        let Some(tokenizer) = &self.tokenizer else { return Default::default() };
        let bytes = tokenizer.token_bytes(id).unwrap_or_default();
        if bytes.is_empty() {
            // A special token stands for no text; its name tells more than nothing.
            let name = tokenizer.token(id).unwrap_or_default();
            return (name.clone(), name.into_bytes());
        }
        (String::from_utf8_lossy(&bytes).into_owned(), bytes)
    }

    /// Log-probabilities of tokens; `offset`: characters of the text before them.
    pub fn told(&self, tokens: &[LogProbability], offset: usize) -> Value {
        if !self.log_probabilities {
            return Value::Null;
        }
        match self.style {
            Style::Chat => {
                let entry = |id: u32, value: f64| {
                    let (text, bytes) = self.token(id);
                    json!({ "token": text, "logprob": value, "bytes": bytes })
                };
                let one = |p: &LogProbability| {
                    let mut all = entry(p.token, p.value);
                    all["top_logprobs"] = p.top.iter().map(|(id, value)| entry(*id, *value)).collect();
                    all
                };
                json!({ "content": tokens.iter().map(one).collect::<Vec<_>>() })
            }
            Style::Completion => {
                let (mut at, mut offsets) = (offset, Vec::new());
                let mut texts = Vec::new();
                for p in tokens {
                    let text = self.token(p.token).0;
                    offsets.push(at);
                    at += text.chars().count();
                    texts.push(text);
                }
                let top = |p: &LogProbability| {
                    let pairs = p.top.iter().map(|(id, value)| (self.token(*id).0, json!(value)));
                    Value::Object(pairs.collect())
                };
                json!({
                    "tokens": texts,
                    "token_logprobs": tokens.iter().map(|p| p.value).collect::<Vec<_>>(),
                    "top_logprobs": tokens.iter().map(top).collect::<Vec<_>>(),
                    "text_offset": offsets,
                })
            }
        }
    }
}

/// Why an answer ended, as clients know it.
pub fn reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length | Finish::Context | Finish::Cancelled => "length",
    }
}

/// An answer as far as it is known.
#[derive(Default, Clone)]
struct Choice {
    text: String,
    told: Vec<LogProbability>,
    finish: Option<Finish>,
}

/// The whole answer, once it is there.
///
/// # Errors
/// An answer that failed.
pub async fn collect(about: &About, mut events: UnboundedReceiver<Event>) -> Result<Value, ApiError> {
    let mut choices = vec![Choice::default(); about.answers];
    let mut written = 0;
    while choices.iter().any(|c| c.finish.is_none()) {
        match events.recv().await {
            Some(Event::Piece { choice, piece }) => {
                about.wrote(&piece);
                choices[choice].text += &piece.text;
                choices[choice].told.extend(piece.log_probability);
            }
            Some(Event::Done { choice, finish, tokens }) => {
                choices[choice].finish = Some(finish);
                written += tokens;
            }
            Some(Event::Failed(error)) => return Err(error),
            None => return Err(ApiError::internal(&"an answer was dropped")),
        }
    }
    let shown = choices.into_iter().enumerate().map(|(index, choice)| {
        let reason = choice.finish.map(reason);
        let told = about.told(&choice.told, 0);
        match about.style {
            Style::Completion => {
                json!({ "index": index, "text": choice.text, "logprobs": told, "finish_reason": reason })
            }
            Style::Chat => json!({
                "index": index,
                "message": { "role": "assistant", "content": choice.text, "refusal": null },
                "logprobs": told,
                "finish_reason": reason,
            }),
        }
    });
    let object = if about.style == Style::Chat { "chat.completion" } else { "text_completion" };
    let mut document = about.document(object, shown.collect());
    document.insert("usage".into(), about.usage(written));
    Ok(Value::Object(document))
}
