//! The layout of a GGUF file: header, metadata, list of tensors, data.

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;

use jishi_recipe::{Problem, Problems};

use super::value::{MetaValue, Metadata};
use crate::dtype::Dtype;

pub(super) const MAGIC: &[u8; 4] = b"GGUF";
pub(super) const ALIGNMENT: &str = "general.alignment";
pub(super) const DEFAULT_ALIGNMENT: usize = 32;
/// Nested lists are in no file that is known; the limit keeps a crafted one from using up the stack.
const MAX_DEPTH: usize = 4;
const MAX_DIMENSIONS: u32 = 8;

/// What a file says before its data.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct File {
    /// Values by name.
    pub metadata: Metadata,
    /// The tensors, in the order of the file.
    pub tensors: Vec<Tensor>,
}

/// A tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Its shape, slowest first: the reverse of the file's order.
    pub shape: Vec<usize>,
    /// How its numbers are stored.
    pub dtype: Dtype,
    /// Where they are in the file.
    pub range: Range<usize>,
}

/// Reads everything before the data, and checks that the data is there. `path` is named in problems.
///
/// # Errors
/// [`Problems`] that say what is wrong. No more memory is taken than a small multiple of the file's size.
pub fn parse(bytes: &[u8], path: &Path) -> Result<File, Problems> {
    read(bytes).map_err(|problem| {
        let help = problem.help.clone().unwrap_or_else(|| "download the file again".into());
        problem.file(path).help(help).into()
    })
}

fn read(bytes: &[u8]) -> Result<File, Problem> {
    let mut reader = Reader { bytes, at: 0 };
    if reader.take(4)? != MAGIC {
        return Err(Problem::new("expected a GGUF file: it does not begin with \"GGUF\""));
    }
    let version = reader.u32()?;
    if !(2..=3).contains(&version) {
        // A big-endian file has its version at the other end.
        let help = "convert the model again with llama.cpp's convert_hf_to_gguf.py";
        return Err(Problem::new(format!("expected version 2 or 3 of GGUF, little-endian, found {version}"))
            .help(help));
    }
    let tensors = reader.u64()?;
    let values = reader.u64()?;
    // A key's length, a type, and a value; a name's length, dimensions, type and offset.
    let values = reader.count(values, 8 + 4 + 1, "metadata values")?;
    let mut metadata = Metadata::default();
    let mut names = HashSet::new();
    for _ in 0..values {
        let key = reader.text()?;
        let kind = reader.u32()?;
        let value =
            reader.value(kind, 0).map_err(|p| Problem::new(format!("value {key:?}: {}", p.message)))?;
        if !names.insert(key.clone()) {
            return Err(Problem::new(format!("the value {key:?} is there twice")));
        }
        metadata.set(key, value);
    }
    let alignment = metadata.optional(ALIGNMENT, MetaValue::as_usize)?.unwrap_or(DEFAULT_ALIGNMENT);
    if !alignment.is_power_of_two() || alignment > 1 << 20 {
        return Err(Problem::new(format!("expected an alignment that is a power of two, found {alignment}")));
    }
    let count = reader.count(tensors, 8 + 4 + 4 + 8, "tensors")?;
    let mut infos = Vec::new();
    names.clear();
    for _ in 0..count {
        let info = reader.info()?;
        if !names.insert(info.name.clone()) {
            return Err(Problem::new(format!("the tensor {:?} is there twice", info.name)));
        }
        infos.push(info);
    }
    let start = reader.at.next_multiple_of(alignment);
    let tensors = place(infos, start, alignment, bytes.len())?;
    Ok(File { metadata, tensors })
}

struct Info {
    name: String,
    shape: Vec<usize>,
    dtype: Dtype,
    offset: u64,
}

/// Turns offsets into ranges of the file. Tensors may not overlap.
fn place(infos: Vec<Info>, start: usize, alignment: usize, length: usize) -> Result<Vec<Tensor>, Problem> {
    let mut tensors = Vec::new();
    for Info { name, shape, dtype, offset } in infos {
        let bytes = dtype.bytes(&shape).ok_or_else(|| {
            let block = dtype.block();
            Problem::new(format!(
                "tensor {name:?} of shape {shape:?}: rows must be whole {} blocks of {block} values",
                dtype.name()
            ))
        })?;
        let begin = usize::try_from(offset).ok().and_then(|o| start.checked_add(o));
        let range =
            begin.and_then(|begin| Some(begin..begin.checked_add(bytes)?)).filter(|r| r.end <= length);
        let Some(range) = range else {
            return Err(Problem::new(format!(
                "the file is cut off: tensor {name:?} has {bytes} bytes at {offset}, the file has {length} bytes"
            )));
        };
        if !offset.is_multiple_of(alignment as u64) {
            return Err(Problem::new(format!(
                "tensor {name:?} is at {offset}, not at a multiple of {alignment}"
            )));
        }
        tensors.push(Tensor { name, shape, dtype, range });
    }
    let mut order: Vec<&Tensor> = tensors.iter().collect();
    order.sort_by_key(|t| (t.range.start, t.range.end));
    for pair in order.windows(2) {
        if pair[0].range.end > pair[1].range.start {
            return Err(Problem::new(format!("tensors {:?} and {:?} overlap", pair[0].name, pair[1].name)));
        }
    }
    Ok(tensors)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Problem> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..count).ok_or_else(|| {
            Problem::new(format!("the header is cut off: expected {count} bytes more, found {}", rest.len()))
        })?;
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Problem> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn u32(&mut self) -> Result<u32, Problem> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Problem> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number of things that take `least` bytes each, which must be there.
    fn count(&self, count: u64, least: usize, what: &str) -> Result<usize, Problem> {
        let rest = self.bytes.len() - self.at;
        usize::try_from(count).ok().filter(|n| n.checked_mul(least).is_some_and(|n| n <= rest)).ok_or_else(
            || Problem::new(format!("the header is cut off: it says {count} {what}, {rest} bytes follow")),
        )
    }

    fn text(&mut self) -> Result<String, Problem> {
        let length = self.u64()?;
        let length = self.count(length, 1, "bytes of text")?;
        let bytes = self.take(length)?;
        // Some vocabularies hold pieces of characters; llama.cpp keeps bytes, and text is what a tokenizer.json holds.
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    fn value(&mut self, kind: u32, depth: usize) -> Result<MetaValue, Problem> {
        Ok(match kind {
            0 => MetaValue::U8(self.array::<1>()?[0]),
            1 => MetaValue::I8(i8::from_le_bytes(self.array()?)),
            2 => MetaValue::U16(u16::from_le_bytes(self.array()?)),
            3 => MetaValue::I16(i16::from_le_bytes(self.array()?)),
            4 => MetaValue::U32(self.u32()?),
            5 => MetaValue::I32(i32::from_le_bytes(self.array()?)),
            6 => MetaValue::F32(f32::from_le_bytes(self.array()?)),
            7 => MetaValue::Bool(self.array::<1>()?[0] != 0),
            8 => MetaValue::Text(self.text()?),
            9 if depth < MAX_DEPTH => {
                let kind = self.u32()?;
                let count = self.u64()?;
                let least = match kind {
                    0 | 1 | 7 => 1,
                    2 | 3 => 2,
                    4..=6 => 4,
                    8 | 10..=12 => 8,
                    _ => 12,
                };
                let count = self.count(count, least, "elements of a list")?;
                let mut values = Vec::new();
                for _ in 0..count {
                    values.push(self.value(kind, depth + 1)?);
                }
                MetaValue::Array(values)
            }
            9 => return Err(Problem::new("lists are nested too deep")),
            10 => MetaValue::U64(self.u64()?),
            11 => MetaValue::I64(i64::from_le_bytes(self.array()?)),
            12 => MetaValue::F64(f64::from_le_bytes(self.array()?)),
            _ => return Err(Problem::new(format!("the type {kind} of a value is unknown"))),
        })
    }

    fn info(&mut self) -> Result<Info, Problem> {
        let name = self.text()?;
        let dimensions = self.u32()?;
        if dimensions > MAX_DIMENSIONS {
            return Err(Problem::new(format!("tensor {name:?} has {dimensions} dimensions")));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            let size = self.u64()?;
            shape.push(
                size.try_into().map_err(|_| Problem::new(format!("tensor {name:?} has the size {size}")))?,
            );
        }
        shape.reverse();
        let kind = self.u32()?;
        let dtype = Dtype::from_gguf(kind).ok_or_else(|| {
            Problem::new(format!("tensor {name:?} is of the kind {kind}, which Jishi does not read"))
                .help("use a file of F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K or Q6_K")
        })?;
        Ok(Info { name, shape, dtype, offset: self.u64()? })
    }
}
