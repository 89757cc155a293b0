//! Answers bit by bit, as server-sent events (WHATWG HTML, section 9.2).

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_util::stream;
use jishi_models::generate::{Finish, Piece};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use super::Style;
use super::answer::{About, reason};
use crate::error::ApiError;
use crate::scheduler::Event;

/// An answer that is on its way.
struct Stream {
    about: About,
    events: UnboundedReceiver<Event>,
    /// Whether it ends with what it took.
    usage: bool,
    /// Answers that have not ended.
    left: usize,
    /// Tokens that were written.
    written: usize,
    /// Characters of each answer so far.
    characters: Vec<usize>,
    ready: VecDeque<String>,
    ended: bool,
}

/// The answer. When the client leaves, the texts end.
pub fn response(about: About, events: UnboundedReceiver<Event>, usage: bool) -> Response {
    let (left, characters) = (about.answers, vec![0; about.answers]);
    let mut first =
        Stream { about, events, usage, left, written: 0, characters, ready: VecDeque::new(), ended: false };
    first.begin();
    let body = Body::from_stream(stream::unfold(first, |mut stream| async move {
        let line = stream.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(line)), stream))
    }));
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

impl Stream {
    /// A conversation's answers begin with who speaks.
    fn begin(&mut self) {
        if self.about.style == Style::Chat {
            for index in 0..self.about.answers {
                let delta = json!({ "role": "assistant", "content": "" });
                self.chunk(
                    json!({ "index": index, "delta": delta, "logprobs": null, "finish_reason": null }),
                );
            }
        }
    }

    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(line);
            }
            if self.ended {
                return None;
            }
            match self.events.recv().await {
                Some(Event::Piece { choice, piece }) => self.piece(choice, &piece),
                Some(Event::Done { choice, finish, tokens }) => self.done(choice, finish, tokens),
                Some(Event::Failed(error)) => self.fail(&error),
                None => self.fail(&ApiError::internal(&"an answer was dropped")),
            }
        }
    }

    fn say(&mut self, document: &Value) {
        self.ready.push_back(format!("data: {document}\n\n"));
    }

    fn chunk(&mut self, choice: Value) {
        let object =
            if self.about.style == Style::Chat { "chat.completion.chunk" } else { "text_completion" };
        let mut document = self.about.document(object, vec![choice]);
        if self.usage {
            document.insert("usage".into(), Value::Null);
        }
        self.say(&Value::Object(document));
    }

    fn piece(&mut self, choice: usize, piece: &Piece) {
        self.about.wrote(piece);
        let told = piece.log_probability.as_slice();
        if piece.text.is_empty() && told.is_empty() {
            return;
        }
        let told = if told.is_empty() { Value::Null } else { self.about.told(told, self.characters[choice]) };
        self.characters[choice] += piece.text.chars().count();
        self.chunk(match self.about.style {
            Style::Completion => {
                json!({ "index": choice, "text": piece.text, "logprobs": told, "finish_reason": null })
            }
            Style::Chat => json!({
                "index": choice, "delta": { "content": piece.text }, "logprobs": told, "finish_reason": null,
            }),
        });
    }

    fn done(&mut self, choice: usize, finish: Finish, tokens: usize) {
        let why = reason(finish);
        self.chunk(match self.about.style {
            Style::Completion => {
                json!({ "index": choice, "text": "", "logprobs": null, "finish_reason": why })
            }
            Style::Chat => json!({ "index": choice, "delta": {}, "logprobs": null, "finish_reason": why }),
        });
        self.written += tokens;
        self.left -= 1;
        if self.left > 0 {
            return;
        }
        if self.usage {
            let object =
                if self.about.style == Style::Chat { "chat.completion.chunk" } else { "text_completion" };
            let mut document = self.about.document(object, Vec::new());
            document.insert("usage".into(), self.about.usage(self.written));
            self.say(&Value::Object(document));
        }
        self.ready.push_back("data: [DONE]\n\n".into());
        self.ended = true;
    }

    fn fail(&mut self, error: &ApiError) {
        self.say(&error.json());
        self.ended = true;
    }
}
