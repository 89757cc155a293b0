//! The wire format of protocol buffers, as far as ONNX needs it (<https://protobuf.dev/programming-guides/encoding/>).

use std::io::{self, Write};

use crate::dtype::Dtype;
use crate::folder::to_bytes;

/// How a field's value is laid out.
const VARINT: u64 = 0;
const DELIMITED: u64 = 2;
const FOUR_BYTES: u64 = 5;

/// Weights are turned into bytes this many at a time.
const CHUNK: usize = 1 << 16;

/// An encoded message. Weights are only referred to, so that a large model is not in memory twice.
#[derive(Debug, Default)]
pub(super) struct Message<'a> {
    parts: Vec<Part<'a>>,
    bytes: u64,
}

#[derive(Debug)]
enum Part<'a> {
    Bytes(Vec<u8>),
    Numbers(&'a [f32]),
}

impl<'a> Message<'a> {
    /// Length of the encoded message.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A whole number; negative ones as 64-bit two's complement.
    pub(super) fn int(&mut self, field: u32, value: i64) {
        self.tag(field, VARINT);
        self.varint(value.cast_unsigned());
    }

    /// A number.
    pub(super) fn float(&mut self, field: u32, value: f32) {
        self.tag(field, FOUR_BYTES);
        self.put(&value.to_le_bytes());
    }

    /// Bytes, or text.
    pub(super) fn delimited(&mut self, field: u32, value: &[u8]) {
        self.tag(field, DELIMITED);
        self.varint(value.len() as u64);
        self.put(value);
    }

    /// Numbers as little-endian bytes.
    pub(super) fn numbers(&mut self, field: u32, values: &'a [f32]) {
        self.tag(field, DELIMITED);
        self.varint(4 * values.len() as u64);
        self.refer(values);
    }

    /// A message inside this one.
    pub(super) fn message(&mut self, field: u32, message: Message<'a>) {
        self.tag(field, DELIMITED);
        self.varint(message.bytes);
        for part in message.parts {
            match part {
                Part::Bytes(bytes) => self.put(&bytes),
                Part::Numbers(values) => self.refer(values),
            }
        }
    }

    /// Writes the encoded message.
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for part in &self.parts {
            match part {
                Part::Bytes(bytes) => out.write_all(bytes)?,
                Part::Numbers(values) => {
                    for chunk in values.chunks(CHUNK) {
                        out.write_all(&to_bytes(chunk, Dtype::F32))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn tag(&mut self, field: u32, kind: u64) {
        self.varint(u64::from(field) << 3 | kind);
    }

    /// Seven bits a byte, the lowest first; all but the last byte have the highest bit set.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put(&[value as u8 | 0x80]);
            value >>= 7;
        }
        self.put(&[value as u8]);
    }

    fn refer(&mut self, values: &'a [f32]) {
        self.parts.push(Part::Numbers(values));
        self.bytes += 4 * values.len() as u64;
    }

    fn put(&mut self, bytes: &[u8]) {
        match self.parts.last_mut() {
            Some(Part::Bytes(last)) => last.extend_from_slice(bytes),
            _ => self.parts.push(Part::Bytes(bytes.to_vec())),
        }
        self.bytes += bytes.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(make: impl FnOnce(&mut Message<'_>)) -> Vec<u8> {
        let mut message = Message::default();
        make(&mut message);
        let mut bytes = Vec::new();
        message.write(&mut bytes).expect("memory takes everything");
        assert_eq!(message.bytes(), bytes.len() as u64);
        bytes
    }

    fn read_varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let (first, rest) = bytes.split_first().expect("one more byte");
            *bytes = rest;
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                return value;
            }
        }
        unreachable!("a varint ends")
    }

    /// The examples of the format's documentation.
    #[test]
    fn bytes_are_those_of_the_documentation() {
        assert_eq!(encoded(|m| m.int(1, 150)), [0x08, 0x96, 0x01]);
        assert_eq!(encoded(|m| m.delimited(2, b"testing")), b"\x12\x07testing");
        let inner = |m: &mut Message<'_>| {
            let mut inner = Message::default();
            inner.int(1, 150);
            m.message(3, inner);
        };
        assert_eq!(encoded(inner), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        assert_eq!(encoded(|m| m.int(1, -2))[1..], [0xfe, 255, 255, 255, 255, 255, 255, 255, 255, 1]);
        assert_eq!(encoded(|m| m.float(2, 1.0)), [0x15, 0, 0, 0x80, 0x3f]);
        assert_eq!(encoded(|m| m.int(20, 0)), [0xa0, 0x01, 0x00]);
    }

    #[test]
    fn numbers_of_inner_messages_keep_their_place() {
        let values: Vec<f32> = (0..3).map(|i| i as f32).collect();
        let mut inner = Message::default();
        inner.numbers(9, &values);
        inner.int(1, 7);
        let mut outer = Message::default();
        outer.message(5, inner);
        outer.int(2, 1);
        let mut bytes = Vec::new();
        outer.write(&mut bytes).expect("memory takes everything");
        let mut expected = vec![0x2a, 16, 0x4a, 12];
        expected.extend(to_bytes(&values, Dtype::F32));
        expected.extend([0x08, 7, 0x10, 1]);
        assert_eq!(bytes, expected);
        assert_eq!(outer.bytes(), bytes.len() as u64);
    }

    proptest! {
        #[test]
        fn fields_are_read_as_they_were_written(
            field in 1u32..1 << 20, value: i64, text in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let bytes = encoded(|m| {
                m.int(field, value);
                m.delimited(field, &text);
            });
            let mut left = &bytes[..];
            prop_assert_eq!(read_varint(&mut left), u64::from(field) << 3);
            prop_assert_eq!(read_varint(&mut left).cast_signed(), value);
            prop_assert_eq!(read_varint(&mut left), u64::from(field) << 3 | 2);
            prop_assert_eq!(read_varint(&mut left), text.len() as u64);
            prop_assert_eq!(left, &text[..]);
        }
    }
}
