//! Text in the form of OpenAI's interface, as its clients speak it.

mod answer;
mod embeddings;
mod prompt;
mod request;
mod stream;

use std::sync::Arc;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::response::Response;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::body;
use crate::error::ApiError;
use crate::gate::Call;
use crate::limits::Limits;
use crate::model::Kind;
use crate::predict::json_response;
use crate::scheduler::{Event, Job};
use crate::ticket::Ticket;
pub use embeddings::embeddings;
use request::Asked;
pub use request::{ABSENT, IGNORED};

/// Bytes of a body of these requests at most: prompts are short beside tables and images.
const MOST: usize = 8 << 20;

/// The form of a request and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// `/v1/completions`: a text goes on.
    Completion,
    /// `/v1/chat/completions`: a conversation goes on.
    Chat,
}

/// Answers a request for text.
///
/// # Errors
/// Everything that is wrong with it.
pub async fn complete(
    style: Style,
    call: Call,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let Call { limits, ticket, .. } = &call;
    let bounded = Limits { body: limits.body.min(MOST), ..(**limits).clone() };
    let bytes = body::json_bytes(&headers, body, &bounded).await?;
    ticket.sent(&bytes);
    let (deadline, ticket) = (std::time::Instant::now() + limits.request, Arc::clone(ticket));
    // Tokens and grammars take a while.
    let read = tokio::task::spawn_blocking(move || request::read(style, &bytes, &call));
    let asked = read.await.map_err(|e| ApiError::internal(&e))??;
    let (model, streams) = (Arc::clone(&asked.model), asked.streams);
    let about = answer::About::new(style, &model, &asked, Arc::clone(&ticket));
    let events = begin(asked, &ticket, deadline)?;
    match streams {
        Some(usage) => {
            ticket.streams();
            Ok(stream::response(about, events, usage))
        }
        None => Ok(json_response(answer::collect(&about, events).await?.to_string().into_bytes())),
    }
}

/// Hands prompts to the model's thread.
fn begin(
    asked: Asked,
    ticket: &Arc<Ticket>,
    deadline: std::time::Instant,
) -> Result<UnboundedReceiver<Event>, ApiError> {
    let Kind::Writes { scheduler, generator } = &asked.model.kind else {
        return Err(ApiError::bad("this model writes no text"));
    };
    let (events, heard) = unbounded_channel();
    let most = asked.request.options.max_tokens;
    let searches = asked.request.options.beams > 1;
    for (i, (prompt, choices)) in asked.prompts.into_iter().enumerate() {
        let first = i * asked.choices;
        let events = events.clone();
        if searches {
            // A beam search is the recipe's wish: it needs all of a model's sequences at a time, and knows no others.
            let (generator, request) = (Arc::clone(generator), asked.request.clone());
            let ticket = Arc::downgrade(ticket);
            tokio::task::spawn_blocking(move || {
                let tokens = search(&generator, &prompt, &request, [first, asked.choices], &events);
                if let Some(ticket) = ticket.upgrade() {
                    ticket.writes(tokens);
                }
            });
            continue;
        }
        let client = ticket.client();
        scheduler.submit(Job { prompt, choices, first, most, client, deadline, events })?;
    }
    Ok(heard)
}

/// Gives the number of tokens that were written.
fn search(
    generator: &jishi_train::job::language::generate::TextGenerator,
    prompt: &[u32],
    request: &jishi_train::job::language::generate::Request,
    [first, choices]: [usize; 2],
    events: &tokio::sync::mpsc::UnboundedSender<Event>,
) -> usize {
    let written = generator.generate(prompt, request, &mut |_| std::ops::ControlFlow::Continue(()));
    let written = match written {
        Ok(written) => written,
        Err(error) => {
            let _ = events.send(Event::Failed(error.into()));
            return 0;
        }
    };
    for choice in first..first + choices {
        let piece = jishi_models::generate::Piece { text: written.text.clone(), ..Default::default() };
        let _ = events.send(Event::Piece { choice, piece });
        let (finish, tokens) = (written.finish, written.tokens.len());
        let _ = events.send(Event::Done { choice, finish, tokens });
    }
    written.tokens.len()
}
