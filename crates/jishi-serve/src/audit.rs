//! The audit log: a line of JSON for each request.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jishi_recipe::Problem;
use jishi_runs::folder::FileEntry;
use serde_json::{Map, Value};

/// A log that grows line by line.
#[derive(Debug)]
pub struct Audit {
    file: Mutex<File>,
    /// Whether inputs are written themselves, and not their hashes.
    inputs: bool,
}

impl Audit {
    /// Opens a log, at whose end it goes on.
    ///
    /// # Errors
    /// A file that can't be written.
    pub fn open(path: &Path, inputs: bool) -> Result<Self, Problem> {
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(|error| {
            Problem::new(format!("the audit log can't be written: {error}"))
                .file(path)
                .help("name a file in a folder that is there and that this user may write to")
        })?;
        Ok(Self { file: Mutex::new(file), inputs })
    }

    /// What a line says of an input: its hash, or the input itself; in base64 where it is no text.
    #[must_use]
    pub fn input(&self, bytes: &[u8]) -> (&'static str, String) {
        match std::str::from_utf8(bytes) {
            _ if !self.inputs => ("input_sha256", FileEntry::of(bytes).sha256),
            Ok(text) => ("input", text.to_owned()),
            Err(_) => ("input_base64", STANDARD.encode(bytes)),
        }
    }

    /// Adds a line.
    ///
    /// # Errors
    /// The system's: a full disk, most likely.
    pub fn write(&self, line: &Map<String, Value>) -> std::io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        // One write a line: lines of a file that several processes add to stay whole.
        self.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(&text)
    }
}
