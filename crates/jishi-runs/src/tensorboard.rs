//! TensorBoard event files.
//!
//! Records are framed as TFRecords: length, masked CRC-32C of the length, data, masked CRC-32C of the
//! data (<https://www.tensorflow.org/tutorials/load_data/tfrecord>). The data is the protobuf message
//! `Event` of TensorFlow's `event.proto`, of which we write five fields.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::RunError;
use crate::folder;

const PREFIX: &str = "events.out.tfevents.";
const BUFFER: usize = 1 << 15;
/// The constant of the TFRecord format.
const MASK: u32 = 0xa282_ead8;

// Field numbers of `Event`.
const WALL_TIME: u64 = 1;
const STEP: u64 = 2;
const FILE_VERSION: u64 = 3;
const SUMMARY: u64 = 5;
const SESSION_LOG: u64 = 7;
// Wire types of protobuf.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

/// Writes one event file.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: File,
    buffer: Vec<u8>,
    event: Vec<u8>,
    summary: Vec<u8>,
}

impl EventWriter {
    /// Starts a new event file in `dir`.
    ///
    /// # Arguments
    /// - `resume_at`: for a resumed run, the first step that it will write; TensorBoard then drops what earlier
    ///   files hold from there on.
    ///
    /// # Errors
    /// The system's.
    pub fn create(dir: &Path, resume_at: Option<u64>) -> Result<Self, RunError> {
        fs::create_dir_all(dir).map_err(|e| RunError::io(dir, e))?;
        // Files are read in the order of their names: a new one must sort last, also within the same second.
        let last = folder::names(dir)?
            .iter()
            .filter_map(|name| name.strip_prefix(PREFIX)?.split('.').next()?.parse::<u64>().ok())
            .max();
        let mut second = (wall_time() as u64).max(last.map_or(0, |s| s + 1));
        let (path, file) = loop {
            let path = dir.join(format!("{PREFIX}{second:010}.jishi.{}", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => break (path, file),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => second += 1,
                Err(e) => return Err(RunError::io(path, e)),
            }
        };
        let mut writer = Self { path, file, buffer: Vec::new(), event: Vec::new(), summary: Vec::new() };
        writer.begin(0);
        bytes_field(&mut writer.event, FILE_VERSION, b"brain.Event:2");
        writer.end();
        if let Some(step) = resume_at {
            writer.begin(step);
            // SessionLog { status: START }
            bytes_field(&mut writer.event, SESSION_LOG, &[(1 << 3) | VARINT as u8, 1]);
            writer.end();
        }
        writer.flush()?;
        Ok(writer)
    }

    /// Writes scalars of one step.
    ///
    /// # Arguments
    /// - `scalars`: tags (`loss/train`) and values.
    ///
    /// # Errors
    /// The system's, where the buffer was full and could not be written.
    pub fn scalars(&mut self, step: u64, scalars: &[(&str, f64)]) -> Result<(), RunError> {
        self.summary.clear();
        for (tag, value) in scalars {
            // Value { tag = 1, simple_value = 2 }
            let mut entry = Vec::with_capacity(tag.len() + 8);
            bytes_field(&mut entry, 1, tag.as_bytes());
            varint(&mut entry, (2 << 3) | FIXED32);
            entry.extend_from_slice(&(*value as f32).to_le_bytes());
            bytes_field(&mut self.summary, 1, &entry);
        }
        self.begin(step);
        bytes_field(&mut self.event, SUMMARY, &self.summary);
        self.end();
        if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    /// Hands all events to the system, for TensorBoard to see.
    ///
    /// # Errors
    /// The system's.
    pub fn flush(&mut self) -> Result<(), RunError> {
        self.file.write_all(&self.buffer).map_err(|e| RunError::io(&self.path, e))?;
        self.buffer.clear();
        Ok(())
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn begin(&mut self, step: u64) {
        self.event.clear();
        varint(&mut self.event, (WALL_TIME << 3) | FIXED64);
        self.event.extend_from_slice(&wall_time().to_le_bytes());
        varint(&mut self.event, (STEP << 3) | VARINT);
        varint(&mut self.event, step);
    }

    fn end(&mut self) {
        let length = (self.event.len() as u64).to_le_bytes();
        self.buffer.extend_from_slice(&length);
        self.buffer.extend_from_slice(&masked_crc(&length).to_le_bytes());
        self.buffer.extend_from_slice(&self.event);
        self.buffer.extend_from_slice(&masked_crc(&self.event).to_le_bytes());
    }
}

impl Drop for EventWriter {
    fn drop(&mut self) {
        // Nobody is left to tell; whoever needs to know calls `flush`.
        let _ = self.flush();
    }
}

fn wall_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(MASK)
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn bytes_field(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    varint(out, (field << 3) | BYTES);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Splits a file into its records, with both checksums verified.
    fn records(mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            assert_eq!(u32::from_le_bytes(bytes[8..12].try_into().unwrap()), masked_crc(&bytes[..8]));
            let data = &bytes[12..12 + length];
            assert_eq!(
                u32::from_le_bytes(bytes[12 + length..16 + length].try_into().unwrap()),
                masked_crc(data)
            );
            found.push(data.to_vec());
            bytes = &bytes[16 + length..];
        }
        found
    }

    /// Fields of a message: number and bytes (a number as its eight bytes).
    fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let read_varint = |bytes: &mut &[u8]| {
            let (mut value, mut shift) = (0u64, 0);
            loop {
                let byte = bytes[0];
                *bytes = &bytes[1..];
                value |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    return value;
                }
            }
        };
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let key = read_varint(&mut bytes);
            let length = match key & 7 {
                VARINT => {
                    found.push((key >> 3, read_varint(&mut bytes).to_le_bytes().to_vec()));
                    continue;
                }
                FIXED64 => 8,
                FIXED32 => 4,
                _ => read_varint(&mut bytes) as usize,
            };
            found.push((key >> 3, bytes[..length].to_vec()));
            bytes = &bytes[length..];
        }
        found
    }

    #[test]
    fn the_checksum_is_that_of_the_format() {
        // CRC-32C of 32 zero bytes, from RFC 3720, B.4, masked by hand.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(masked_crc(&[0; 32]), 0x8a91_36aau32.rotate_right(15).wrapping_add(0xa282_ead8));
    }

    #[test]
    fn our_bytes_decode() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(dir.path(), Some(300)).unwrap();
        writer.scalars(300, &[("loss/train", 0.25), ("loss/validation", f64::NAN)]).unwrap();
        let path = writer.path().to_path_buf();
        drop(writer);
        let events: Vec<_> = records(&fs::read(path).unwrap()).iter().map(|r| fields(r)).collect();
        assert_eq!(events.len(), 3);
        assert_eq!(events[0][2], (FILE_VERSION, b"brain.Event:2".to_vec()));
        assert_eq!(events[1][1], (STEP, 300u64.to_le_bytes().to_vec()));
        assert_eq!(events[1][2], (SESSION_LOG, vec![8, 1]));
        let wall = f64::from_le_bytes(events[2][0].1.as_slice().try_into().unwrap());
        assert!((wall - wall_time()).abs() < 600.0);
        let values = fields(&events[2][2].1);
        assert_eq!(fields(&values[0].1), [(1, b"loss/train".to_vec()), (2, 0.25f32.to_le_bytes().to_vec())]);
        assert_eq!(values.len(), 2);
    }

    #[test]
    fn a_later_file_sorts_after_an_earlier_one() {
        let dir = tempfile::tempdir().unwrap();
        let paths: Vec<_> =
            (0..3).map(|_| EventWriter::create(dir.path(), None).unwrap().path().to_path_buf()).collect();
        assert!(paths.is_sorted() && paths[0] != paths[1] && paths[1] != paths[2]);
    }
}
