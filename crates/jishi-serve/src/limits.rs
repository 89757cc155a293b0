//! Bounds on what a request may ask for, checked when it is read.

use std::time::Duration;

/// Bounds on requests. What is beyond is refused with the bound in words.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Bytes of a request's body.
    pub body: usize,
    /// Time for a request's head and body to arrive.
    pub arrival: Duration,
    /// Time for a whole request.
    pub request: Duration,
    /// Time that running requests get when the server ends.
    pub drain: Duration,
    /// Connections at the same time.
    pub connections: usize,
    /// Rows, texts or images of a request.
    pub rows: usize,
    /// Rows that are predicted together, of several requests.
    pub batch: usize,
    /// Requests that wait for a model.
    pub waiting: usize,
    /// Bytes of a text or prompt.
    pub text: usize,
    /// Pixels of an image.
    pub pixels: u64,
    /// Images that a request may have made.
    pub images: usize,
    /// Tokens that may be asked for.
    pub tokens: usize,
    /// Texts that are written at the same time, by a model.
    pub sequences: usize,
    /// Bytes of keys and values of the texts that a model writes at the same time, about.
    pub memory: usize,
    /// Prompts of a request.
    pub prompts: usize,
    /// Answers to a prompt.
    pub choices: usize,
    /// Messages of a conversation.
    pub messages: usize,
    /// Stop strings of a request.
    pub stops: usize,
    /// Bytes of a stop string.
    pub stop: usize,
    /// Likely tokens that are told beside each token.
    pub top: usize,
    /// Bytes of a JSON schema that an answer is to follow.
    pub schema: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 16 << 20,
            arrival: Duration::from_secs(20),
            request: Duration::from_secs(300),
            drain: Duration::from_secs(30),
            connections: 4096,
            rows: 4096,
            batch: 512,
            waiting: 1024,
            text: 1 << 20,
            pixels: 32 << 20,
            images: 256,
            tokens: 1 << 17,
            sequences: 32,
            memory: 4 << 30,
            prompts: 64,
            choices: 16,
            messages: 1024,
            stops: 16,
            stop: 256,
            top: 20,
            schema: 64 << 10,
        }
    }
}
