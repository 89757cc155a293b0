//! Named `f32` tensors and scalars as safetensors bytes.
//!
//! The format: <https://github.com/huggingface/safetensors#format>. Eight bytes of header length, a
//! JSON header with type, shape and byte range of every tensor, then the data without gaps. Every
//! size is checked against the bytes at hand before memory is taken. Scalars are kept as strings in
//! the header's `__metadata__`. The same tensors in the same order give the same bytes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::str::FromStr;

use jishi_recipe::{Problem, Problems};
use serde_json::{Map, Value};

/// The largest header that the format's reference implementation reads.
const MAX_HEADER: u64 = 100_000_000;
const METADATA: &str = "__metadata__";

/// A named tensor, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorEntry {
    /// Its name, unique in a file.
    pub name: String,
    /// Its shape; empty for a single number.
    pub shape: Vec<usize>,
    /// Its values: as many as the product of the shape.
    pub data: Vec<f32>,
}

/// Tensors and scalars of a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TensorFile {
    /// The tensors, in the order of their data.
    pub tensors: Vec<TensorEntry>,
    /// Scalars and words by name.
    pub scalars: Scalars,
}

/// Named scalars, kept as text that gives back every bit of a number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scalars(pub BTreeMap<String, String>);

impl Scalars {
    /// Sets a value. Text of `f64` is the shortest that reads back as the same number.
    pub fn set(&mut self, name: impl Into<String>, value: impl ToString) {
        self.0.insert(name.into(), value.to_string());
    }

    /// A value as `u64`, `i64`, `f64`, `bool` or `String`.
    ///
    /// # Errors
    /// A [`Problem`] where it is missing or of another type.
    pub fn get<T: FromStr>(&self, name: &str) -> Result<T, Problem> {
        let text = self
            .0
            .get(name)
            .ok_or_else(|| Problem::new(format!("expected the value {name:?}, found none")))?;
        text.parse().map_err(|_| {
            Problem::new(format!(
                "expected {name:?} to be of type {}, found {text:?}",
                std::any::type_name::<T>()
            ))
        })
    }
}

impl TensorFile {
    /// The tensor called `name`.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&TensorEntry> {
        self.tensors.iter().find(|t| t.name == name)
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// A [`Problem`] for each tensor whose name is taken or whose data does not fit its shape.
    pub fn encode(&self) -> Result<Vec<u8>, Problems> {
        encode(
            self.tensors.iter().map(|t| (t.name.as_str(), t.shape.as_slice(), t.data.as_slice())),
            &self.scalars,
        )
    }
}

/// Writes tensors, given as name, shape and data, without copying them first.
///
/// # Errors
/// A [`Problem`] for each tensor whose name is taken or whose data does not fit its shape.
pub fn encode<'a>(
    tensors: impl Iterator<Item = (&'a str, &'a [usize], &'a [f32])> + Clone,
    scalars: &Scalars,
) -> Result<Vec<u8>, Problems> {
    let mut header = Map::new();
    if !scalars.0.is_empty() {
        header.insert(METADATA.into(), serde_json::json!(scalars.0));
    }
    let mut problems = Vec::new();
    let mut end = 0usize;
    for (name, shape, data) in tensors.clone() {
        if elements(shape) != Some(data.len()) {
            problems.push(Problem::new(format!(
                "tensor {name:?} has the shape {shape:?} but {} values",
                data.len()
            )));
        }
        let start = end;
        end += data.len() * 4;
        let info = serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [start, end]});
        if name == METADATA || header.insert(name.into(), info).is_some() {
            problems.push(Problem::new(format!("the tensor name {name:?} is taken")));
        }
    }
    Problems(problems).into_result()?;
    let mut header = Value::Object(header).to_string().into_bytes();
    // Spaces up to a multiple of eight align the data.
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut bytes = Vec::with_capacity(8 + header.len() + end);
    bytes.extend_from_slice(&(header.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&header);
    for (_, _, data) in tensors {
        bytes.extend(data.iter().flat_map(|x| x.to_le_bytes()));
    }
    Ok(bytes)
}

/// Reads a file's bytes. `path` is named in problems.
///
/// # Errors
/// [`Problems`] that name what is wrong: what [`read_header`] refuses, and for each tensor a type other than F32.
pub fn decode(bytes: &[u8], path: &Path) -> Result<TensorFile, Problems> {
    let header = read_header(bytes, path, HELP)?;
    let other = |t: &TensorInfo| {
        let message = format!("tensor {:?}: expected the type F32, found {}", t.name, t.dtype);
        (t.dtype != "F32").then(|| Problem::new(message).file(path).help(HELP))
    };
    Problems(header.tensors.iter().filter_map(other).collect()).into_result()?;
    let read = |info: TensorInfo| {
        // `read_header` has seen that the range lies in the file and holds whole numbers.
        let (values, _) = bytes[info.range].as_chunks::<4>();
        let data = values.iter().map(|x| f32::from_le_bytes(*x)).collect();
        TensorEntry { name: info.name, shape: info.shape, data }
    };
    Ok(TensorFile { tensors: header.tensors.into_iter().map(read).collect(), scalars: header.scalars })
}

const HELP: &str = "restore the file from a copy, or train again";

/// What a file's header says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Header {
    /// The tensors, in the order of their data.
    pub tensors: Vec<TensorInfo>,
    /// Scalars and words by name.
    pub scalars: Scalars,
}

/// A tensor of any type, before it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name, unique in a file.
    pub name: String,
    /// The format's name of its type, such as `BF16`.
    pub dtype: String,
    /// Its shape; empty for a single number.
    pub shape: Vec<usize>,
    /// Where its values are in the file.
    pub range: Range<usize>,
}

/// Reads the header at the start of a file's bytes, and checks it against them. `path` and `help` go into problems.
///
/// # Errors
/// [`Problems`] that name what is wrong: a truncated or over-long header, one that is not JSON, and for each tensor
/// an unknown type, offsets that overlap, leave gaps or run past the end, and a shape that does not fit them.
pub fn read_header(bytes: &[u8], path: &Path, help: &str) -> Result<Header, Problems> {
    let bad = |message: String| Problems::from(Problem::new(message).file(path).help(help));
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(bad(format!("expected a safetensors header, found a file of {} bytes", bytes.len())));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER {
        return Err(bad(format!(
            "expected a safetensors header of at most {MAX_HEADER} bytes, found {length}"
        )));
    }
    let Some((header, data)) = usize::try_from(length).ok().and_then(|n| rest.split_at_checked(n)) else {
        let message = format!(
            "the safetensors header is cut off: it says {length} bytes, the file has {} after it",
            rest.len()
        );
        return Err(bad(message));
    };
    let data_start = 8 + header.len();
    let header: Map<String, Value> = serde_json::from_slice(header)
        .map_err(|e| bad(format!("the safetensors header is not a JSON object: {e}")))?;
    let mut scalars = Scalars::default();
    let mut problems = Vec::new();
    let mut infos = Vec::new();
    for (name, value) in &header {
        let read = if name == METADATA {
            read_metadata(value).map(|read| scalars = read)
        } else {
            read_info(name, value).map(|info| infos.push(info))
        };
        problems.extend(read.err());
    }
    if problems.is_empty() {
        check_layout(&mut infos, data.len(), &mut problems);
    }
    if !problems.is_empty() {
        return Err(Problems(problems.into_iter().map(|m| Problem::new(m).file(path).help(help)).collect()));
    }
    let tensors = infos.into_iter().map(|info| TensorInfo {
        name: info.name.into(),
        dtype: info.dtype.into(),
        shape: info.shape,
        range: data_start + info.start..data_start + info.end,
    });
    Ok(Header { tensors: tensors.collect(), scalars })
}

/// Bytes of a value of a type in the format's own naming.
fn dtype_size(dtype: &str) -> Option<usize> {
    match dtype {
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" => Some(1),
        "U16" | "I16" | "F16" | "BF16" => Some(2),
        "U32" | "I32" | "F32" => Some(4),
        "U64" | "I64" | "F64" => Some(8),
        _ => None,
    }
}

struct Info<'a> {
    name: &'a str,
    dtype: &'a str,
    size: usize,
    shape: Vec<usize>,
    start: usize,
    end: usize,
}

fn elements(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))
}

fn read_metadata(value: &Value) -> Result<Scalars, String> {
    let entries = value.as_object().ok_or("the header's metadata is not an object")?;
    let texts = entries.iter().map(|(name, value)| {
        let text = value.as_str().ok_or(format!("the metadata value {name:?} is not a string"))?;
        Ok((name.clone(), text.to_string()))
    });
    texts.collect::<Result<_, String>>().map(Scalars)
}

fn read_info<'a>(name: &'a str, value: &'a Value) -> Result<Info<'a>, String> {
    let sizes = |key: &str| -> Option<Vec<usize>> {
        value.get(key)?.as_array()?.iter().map(|v| usize::try_from(v.as_u64()?).ok()).collect()
    };
    let dtype = value.get("dtype").and_then(Value::as_str).unwrap_or("none");
    let size = dtype_size(dtype).ok_or(format!("tensor {name:?} has the unknown type {dtype:?}"))?;
    let shape = sizes("shape").ok_or(format!("tensor {name:?} has no shape"))?;
    match sizes("data_offsets").as_deref() {
        Some(&[start, end]) => Ok(Info { name, dtype, size, shape, start, end }),
        _ => Err(format!("tensor {name:?} has no byte range")),
    }
}

/// Ranges must follow each other without gap or overlap from the first byte of the data to the last.
fn check_layout(infos: &mut [Info<'_>], length: usize, problems: &mut Vec<String>) {
    infos.sort_by_key(|info| (info.start, info.end));
    let mut expected = 0;
    for Info { name, size, shape, start, end, .. } in infos.iter() {
        if *start < expected {
            problems.push(format!(
                "tensor {name:?} overlaps another: it starts at byte {start}, expected {expected}"
            ));
        } else if *start > expected {
            problems.push(format!(
                "there is a gap before tensor {name:?}: it starts at byte {start}, expected {expected}"
            ));
        }
        if *end > length {
            problems
                .push(format!("tensor {name:?} ends at byte {end}, but there are {length} bytes of data"));
        } else if end < start || elements(shape).and_then(|n| n.checked_mul(*size)) != Some(end - start) {
            problems.push(format!(
                "tensor {name:?} of shape {shape:?} does not fit its byte range {start} to {end}"
            ));
        }
        expected = expected.max(*end);
    }
    if problems.is_empty() && expected != length {
        problems.push(format!("the tensors end at byte {expected}, but there are {length} bytes of data"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> TensorFile {
        let mut scalars = Scalars::default();
        scalars.set("step", u64::MAX);
        scalars.set("offset", i64::MIN);
        scalars.set("best", 0.1 + 0.2);
        let tensors = vec![
            TensorEntry {
                name: "b".into(),
                shape: vec![2, 3],
                data: vec![1.0, -0.0, f32::MIN_POSITIVE, 4.0, 5.0, 6.0],
            },
            TensorEntry { name: "层".into(), shape: vec![], data: vec![0.1] },
            TensorEntry { name: "empty".into(), shape: vec![0, 7], data: vec![] },
        ];
        TensorFile { tensors, scalars }
    }

    fn message(header: &str, data: usize) -> String {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        decode(&bytes, Path::new("w.safetensors")).unwrap_err().to_string()
    }

    #[test]
    fn comes_back_as_it_went() {
        let file = sample();
        let bytes = file.encode().unwrap();
        assert_eq!(bytes, file.encode().unwrap());
        let back = decode(&bytes, Path::new("x")).unwrap();
        assert_eq!(back.scalars, file.scalars);
        let tensor = back.tensor("b").unwrap();
        assert!(tensor.data.iter().zip(&file.tensors[0].data).all(|(a, b)| a.to_bits() == b.to_bits()));
        assert_eq!(back.tensor("层").unwrap().data, [0.1]);
        assert_eq!(back.tensor("empty").unwrap().shape, [0, 7]);
        assert_eq!(back.scalars.get::<u64>("step").unwrap(), u64::MAX);
        assert_eq!(back.scalars.get::<i64>("offset").unwrap(), i64::MIN);
        assert_eq!(back.scalars.get::<f64>("best").unwrap().to_bits(), (0.1f64 + 0.2).to_bits());
        assert!(back.scalars.get::<u64>("best").unwrap_err().message.contains("u64"));
        assert!(back.scalars.get::<u64>("none").is_err());
    }

    #[test]
    fn the_reference_implementation_reads_it_and_we_read_its() {
        let file = sample();
        let bytes = file.encode().unwrap();
        let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(theirs.len(), 3);
        assert_eq!(theirs.tensor("b").unwrap().shape(), [2, 3]);
        let views: Vec<_> = theirs.tensors();
        let again = safetensors::serialize(views, None).unwrap();
        let back = decode(&again, Path::new("x")).unwrap();
        assert_eq!(back.tensor("b"), file.tensor("b"));
        assert_eq!(back.tensor("层"), file.tensor("层"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let t = |shape: &str, start: u64, end: u64| {
            format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":[{start},{end}]}}"#)
        };
        let path = Path::new("x");
        assert!(decode(b"1234567", path).unwrap_err().to_string().contains("7 bytes"));
        assert!(decode(&[0xff; 64], path).unwrap_err().to_string().contains("at most"));
        assert!(
            decode(&[&64u64.to_le_bytes()[..], &[b' '; 63]].concat(), path)
                .unwrap_err()
                .to_string()
                .contains("cut off")
        );
        assert!(message("[]", 0).contains("not a JSON object"));
        assert!(message(&"[".repeat(50_000), 0).contains("not a JSON object"));
        assert!(message(&format!(r#"{{"a":{}}}"#, t("[2]", 0, 4)), 4).contains("does not fit"));
        assert!(
            message(&format!(r#"{{"a":{}}}"#, t("[18446744073709551615,8]", 0, 4)), 4)
                .contains("does not fit")
        );
        assert!(message(&format!(r#"{{"a":{}}}"#, t("[1]", 4, 0)), 8).contains("does not fit"));
        assert!(message(&format!(r#"{{"a":{}}}"#, t("[-1]", 0, 4)), 4).contains("no shape"));
        assert!(
            message(&format!(r#"{{"a":{}}}"#, t("[4000000000]", 0, 16_000_000_000)), 4)
                .contains("ends at byte")
        );
        assert!(message(&format!(r#"{{"a":{}}}"#, t("[1]", 0, 4)), 8).contains("8 bytes of data"));
        let two = format!(r#"{{"a":{},"b":{}}}"#, t("[2]", 0, 8), t("[2]", 4, 12));
        assert!(message(&two, 12).contains("overlaps"));
        let gap = format!(r#"{{"a":{},"b":{}}}"#, t("[1]", 0, 4), t("[1]", 8, 12));
        assert!(message(&gap, 12).contains("gap"));
        assert!(message(r#"{"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}"#, 8).contains("F64"));
        assert!(message(r#"{"__metadata__":{"a":1}}"#, 0).contains("not a string"));
        let bad = TensorFile {
            tensors: vec![
                TensorEntry { name: "a".into(), shape: vec![2], data: vec![1.0] },
                TensorEntry { name: "a".into(), shape: vec![1], data: vec![1.0] },
            ],
            scalars: Scalars::default(),
        };
        assert_eq!(bad.encode().unwrap_err().0.len(), 2);
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = sample().encode().unwrap();
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end], Path::new("x")).is_err(), "{end}");
        }
        let mut longer = bytes;
        longer.push(0);
        assert!(decode(&longer, Path::new("x")).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes, Path::new("x"));
        }

        #[test]
        fn any_header_never_panics(shape in proptest::collection::vec(any::<u64>(), 0..4), start: u64, end: u64, data in 0usize..64) {
            let header = format!(r#"{{"a":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{start},{end}]}}}}"#);
            let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
            bytes.extend_from_slice(header.as_bytes());
            bytes.resize(bytes.len() + data, 0);
            let _ = decode(&bytes, Path::new("x"));
        }

        #[test]
        fn one_changed_byte_never_panics(at in 0usize..300, value: u8) {
            let mut bytes = sample().encode().unwrap();
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = decode(&bytes, Path::new("x"));
        }

        #[test]
        fn tensors_survive(data in proptest::collection::vec(any::<f32>(), 0..50)) {
            let file = TensorFile {
                tensors: vec![TensorEntry { name: "x".into(), shape: vec![data.len()], data: data.clone() }],
                scalars: Scalars::default(),
            };
            let back = decode(&file.encode().unwrap(), Path::new("x")).unwrap();
            let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&back.tensors[0].data), bits(&data));
        }
    }
}
