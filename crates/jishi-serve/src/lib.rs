//! Trained models over HTTP, each by its name and version.
//!
//! - Predictions (`POST /v1/models/NAME/predict`) are those of `jishi predict`, to the last bit. A model computes on a
//!   thread of its own ([`batching`]): what waits while it computes is its next batch.
//! - Text (`/v1/completions`, `/v1/chat/completions`) is that of `jishi generate` for the same prompt and seed, in the
//!   form of OpenAI's interface. Texts that are written at the same time step together ([`scheduler`]).
//! - People who would rather look than read have pages ([`studio`]).
//! - Nothing of a request is believed: every field has a bound ([`Limits`]), and what is wrong is said in one form
//!   ([`ApiError`]) that tells nothing of the machine. Where there are keys ([`keys`]), a request shows one.
//! - A package that changes is loaded beside the version that serves, and takes its place once it gives its golden outputs.
//! - What is done is counted ([`metrics`]) and told line by line.

mod app;
mod audit;
pub mod batching;
mod body;
pub mod error;
pub mod fair;
mod fields;
mod gate;
mod golden;
pub mod input;
pub mod keys;
pub mod limits;
pub mod metrics;
pub mod model;
mod multipart;
mod openai;
mod openapi;
mod predict;
mod rate;
mod reload;
mod route;
pub mod scheduler;
pub mod schema;
pub mod server;
pub mod settings;
pub mod studio;
pub mod surface;
mod ticket;
mod tls;

pub use error::ApiError;
pub use limits::Limits;
pub use model::{Model, ModelSource, Models};
pub use server::{Options, ServeError, Server};
