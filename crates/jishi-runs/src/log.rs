//! `metrics.jsonl`: one JSON object a record, appended to.
//!
//! `{"step":120,"epoch":1.5,"split":"train","loss":0.25,"learning_rate":0.001}`. JSON has no NaN or
//! infinity: they are written as `null`. Records gather in memory for a moment, so that who watches sees them soon;
//! [`MetricLog::sync`] at a checkpoint and [`MetricLog::truncate_to`] at a resume keep the log in step with the weights.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jishi_recipe::Problem;
use serde_json::Value;

use crate::error::RunError;

/// Records gather up to this many bytes before they go to the system.
const BUFFER: usize = 1 << 15;
/// And no longer than this, while there are more.
const LONGEST: Duration = Duration::from_millis(500);

/// Writes the log.
#[derive(Debug)]
pub struct MetricLog {
    path: PathBuf,
    file: File,
    buffer: Vec<u8>,
    /// Bytes in the file.
    written: u64,
    /// When records last went to the system.
    flushed: Instant,
}

impl MetricLog {
    /// Opens the log to append, new where it is not there.
    ///
    /// # Errors
    /// The system's.
    pub fn open(path: &Path) -> Result<Self, RunError> {
        let io = |e| RunError::io(path, e);
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(io)?;
        let written = file.seek(SeekFrom::End(0)).map_err(io)?;
        Ok(Self {
            path: path.to_path_buf(),
            file,
            buffer: Vec::with_capacity(2 * BUFFER),
            written,
            flushed: Instant::now(),
        })
    }

    /// Adds a record.
    ///
    /// # Arguments
    /// - `step`: optimiser steps done.
    /// - `epoch`: epochs done, with the begun share of the next.
    /// - `split`: `train`, `validation` or `test`.
    /// - `values`: names and values, such as `loss`.
    ///
    /// # Errors
    /// The system's, where the buffer was full and could not be written.
    pub fn record(
        &mut self,
        step: u64,
        epoch: f64,
        split: &str,
        values: &[(&str, f64)],
    ) -> Result<(), RunError> {
        // Writing to a vector can't fail; the `let _` below have no error to lose.
        let out = &mut self.buffer;
        out.extend_from_slice(b"{\"step\":");
        let _ = write!(out, "{step}");
        out.extend_from_slice(b",\"epoch\":");
        number(out, epoch);
        out.extend_from_slice(b",\"split\":");
        let _ = serde_json::to_writer(&mut *out, split);
        for (name, value) in values {
            out.push(b',');
            let _ = serde_json::to_writer(&mut *out, name);
            out.push(b':');
            number(out, *value);
        }
        out.extend_from_slice(b"}\n");
        let due = self.buffer.len() >= BUFFER || self.flushed.elapsed() >= LONGEST;
        if due { self.flush() } else { Ok(()) }
    }

    /// Hands all records to the system, for readers of the file.
    ///
    /// # Errors
    /// The system's.
    pub fn flush(&mut self) -> Result<(), RunError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let result = self.file.write_all(&self.buffer);
        if result.is_err() {
            // A part may be in the file. Go back, so that a later flush writes each record once.
            let _ =
                self.file.set_len(self.written).and_then(|()| self.file.seek(SeekFrom::Start(self.written)));
        }
        result.map_err(|e| RunError::io(&self.path, e))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        self.flushed = Instant::now();
        Ok(())
    }

    /// Makes all records last through a power cut; to be called before a checkpoint that holds [`Self::byte_offset`].
    ///
    /// # Errors
    /// The system's.
    pub fn sync(&mut self) -> Result<(), RunError> {
        self.flush()?;
        self.file.sync_data().map_err(|e| RunError::io(&self.path, e))
    }

    /// Where the next record will start, in bytes from the file's start.
    #[must_use]
    pub fn byte_offset(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Drops every record from `offset` on, for a resume.
    ///
    /// # Errors
    /// A [`Problem`] where the file is shorter than that: records were lost; the system's errors else.
    pub fn truncate_to(&mut self, offset: u64) -> Result<(), RunError> {
        self.flush()?;
        if offset > self.written {
            let message =
                format!("expected at least {offset} bytes, found {}: the log was cut off", self.written);
            return Err(Problem::new(message)
                .file(&self.path)
                .help("restore the file, or start again without `--resume`")
                .into());
        }
        let result = self.file.set_len(offset).and_then(|()| self.file.seek(SeekFrom::Start(offset)));
        result.map_err(|e| RunError::io(&self.path, e))?;
        self.written = offset;
        Ok(())
    }
}

impl Drop for MetricLog {
    fn drop(&mut self) {
        // Nobody is left to tell; whoever needs to know calls `flush`.
        let _ = self.flush();
    }
}

/// The shortest text that reads back as the same number.
fn number(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        let _ = serde_json::to_writer(out, &value);
    } else {
        out.extend_from_slice(b"null");
    }
}

/// A record of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Optimiser steps done.
    pub step: u64,
    /// Epochs done, with the begun share of the next.
    pub epoch: f64,
    /// `train`, `validation` or `test`.
    pub split: String,
    /// Values by name; NaN where it was no finite number.
    pub values: BTreeMap<String, f64>,
}

/// Reads the log. A last line without a line end was being written, or torn by a crash, and is left out.
///
/// # Errors
/// A [`Problem`] that names the line that is no record; the system's errors.
pub fn read(path: &Path) -> Result<Vec<Record>, RunError> {
    let bytes = std::fs::read(path).map_err(|e| {
        if e.kind() == std::io::ErrorKind::NotFound {
            Problem::new("the run has no metric log").file(path).into()
        } else {
            RunError::io(path, e)
        }
    })?;
    let end = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let mut records = Vec::new();
    for (i, line) in bytes[..end].split_inclusive(|b| *b == b'\n').enumerate() {
        let record = parse(line).ok_or_else(|| {
            Problem::new("expected a JSON object with step, epoch, split and numbers")
                .file(path)
                .line(i as u64 + 1)
        })?;
        records.push(record);
    }
    Ok(records)
}

/// A line of the log; `None` where it is no record.
#[must_use]
pub fn parse(line: &[u8]) -> Option<Record> {
    let Value::Object(map) = serde_json::from_slice(line).ok()? else { return None };
    let mut record = Record { step: 0, epoch: 0.0, split: String::new(), values: BTreeMap::new() };
    for (key, value) in map {
        let float = if value.is_null() { Some(f64::NAN) } else { value.as_f64() };
        match key.as_str() {
            "step" => record.step = value.as_u64()?,
            "epoch" => record.epoch = float?,
            "split" => record.split = value.as_str()?.into(),
            _ => {
                record.values.insert(key, float?);
            }
        }
    }
    Some(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn records_come_back_to_the_bit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut log = MetricLog::open(&path).unwrap();
        log.record(1, 0.5, "train", &[("loss", 0.1 + 0.2), ("learning_rate", 1e-300)]).unwrap();
        log.record(2, 1.0, "validation", &[("loss", f64::NAN)]).unwrap();
        log.flush().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "{\"step\":1,\"epoch\":0.5,\"split\":\"train\",\"loss\":0.30000000000000004,\"learning_rate\":1e-300}\n\
             {\"step\":2,\"epoch\":1.0,\"split\":\"validation\",\"loss\":null}\n"
        );
        let records = read(&path).unwrap();
        assert_eq!(records[0].values["loss"].to_bits(), (0.1f64 + 0.2).to_bits());
        assert!(records[1].values["loss"].is_nan());
    }

    #[test]
    fn a_resume_gives_the_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let write = |log: &mut MetricLog, steps: std::ops::Range<u64>| {
            for step in steps {
                log.record(step, step as f64 / 100.0, "train", &[("loss", 1.0 / (step + 1) as f64)]).unwrap();
            }
        };
        let straight = dir.path().join("straight");
        write(&mut MetricLog::open(&straight).unwrap(), 0..3000);

        let resumed = dir.path().join("resumed");
        let mut log = MetricLog::open(&resumed).unwrap();
        write(&mut log, 0..1234);
        let offset = log.byte_offset();
        log.sync().unwrap();
        assert_eq!(offset, std::fs::metadata(&resumed).unwrap().len());
        write(&mut log, 1234..2222);
        drop(log);
        // Torn by the crash.
        OpenOptions::new().append(true).open(&resumed).unwrap().write_all(b"{\"step\":22").unwrap();
        assert_eq!(read(&resumed).unwrap().len(), 2222);
        let mut log = MetricLog::open(&resumed).unwrap();
        log.truncate_to(offset).unwrap();
        write(&mut log, 1234..3000);
        drop(log);
        assert_eq!(std::fs::read(&straight).unwrap(), std::fs::read(&resumed).unwrap());
        let mut log = MetricLog::open(&resumed).unwrap();
        assert!(log.truncate_to(1 << 40).unwrap_err().to_string().contains("cut off"));
    }

    #[test]
    fn a_damaged_line_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m");
        crate::atomic::write_real(&path, b"{\"step\":1,\"split\":\"train\"}\n{\"step\":-1}\n{").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains(":2"));
        assert!(read(&dir.path().join("none")).unwrap_err().to_string().contains("no metric log"));
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&bytes);
        }
    }
}
