//! Checkpoints of PyTorch (`torch.save`: `.pth`, `.pt`, `.bin`), read without running the pickle in them.
//!
//! There are two layouts: a zip archive with a pickle and one member of plain numbers for each storage (PyTorch 1.6 and
//! later), and a row of pickles with the numbers behind them (earlier, and still in use for the weights of torchvision).
//! Of both, numbers are only mapped.

mod pickle;

use std::collections::BTreeMap;
use std::io::Cursor;
use std::ops::Range;
use std::path::Path;

use jishi_recipe::{Problem, Problems};
use zip::{CompressionMethod, ZipArchive};

use crate::dtype::Dtype;
use crate::error::HubError;
use crate::mapped::Mapped;
use crate::tensors::{Order, TensorMeta, Tensors};
use pickle::{Pickle, Tensor, Value};

/// The number that the older layout begins with.
const LEGACY: &[u8] = &[0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.'];
const AGAIN: &str = "download or save the file again";
/// Keys under which training programs keep the weights, beside epochs, optimisers and so on.
const NESTED: [&str; 5] = ["state_dict", "model_state_dict", "model", "net", "weights"];
/// Starts of all names that wrappers of a model add.
const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];
/// Tensors may share their numbers, as tied weights do; all of them together take at most this many times the file.
const SHARED: usize = 8;

/// Reads the tensors of a file. Weights are only mapped.
///
/// # Errors
/// [`Problems`] for a damaged file, and for one that asks for more than tensors; the system's errors.
pub fn read(path: &Path) -> Result<Tensors, HubError> {
    let mut tensors = Tensors::default();
    add_mapped(&mut tensors, Mapped::open(path)?)?;
    Ok(tensors)
}

/// [`read`] for bytes in memory. `path` is named in problems.
///
/// # Errors
/// As [`read`].
pub fn read_bytes(path: &Path, bytes: Vec<u8>) -> Result<Tensors, HubError> {
    let mut tensors = Tensors::default();
    add_mapped(&mut tensors, Mapped::memory(path, bytes))?;
    Ok(tensors)
}

pub(crate) fn add_mapped(tensors: &mut Tensors, file: Mapped) -> Result<(), Problems> {
    let path = file.path.clone();
    let found = parse(file.bytes())
        .map_err(|problems| Problems(problems.0.into_iter().map(|problem| problem.file(&path)).collect()))?;
    let file = tensors.add_file(file);
    let mut problems = Vec::new();
    for Found { name, meta, range, strides } in found {
        let fresh = match strides {
            None => tensors.insert(name.clone(), meta, file, range, Order::Same),
            Some(strides) => tensors.insert_strided(name.clone(), meta, file, range, strides),
        };
        if !fresh {
            problems.push(Problem::new(format!("tensor {name:?} is there twice")).file(&path));
        }
    }
    Problems(problems).into_result()
}

/// A tensor and where its numbers are.
#[derive(Debug)]
struct Found {
    name: String,
    meta: TensorMeta,
    range: Range<usize>,
    /// Where they are not in the order of the shape: how far apart, in numbers, neighbours of each axis are.
    strides: Option<Vec<usize>>,
}

fn parse(bytes: &[u8]) -> Result<Vec<Found>, Problems> {
    if bytes.starts_with(b"PK\x03\x04") {
        let archive = archive(bytes)?;
        let pickle = pickle::read(&bytes[archive.pickle.clone()])?;
        return collect(&pickle, &archive.storages, bytes.len());
    }
    if bytes.starts_with(LEGACY) {
        let (pickle, storages) = legacy(bytes)?;
        return collect(&pickle, &storages, bytes.len());
    }
    let problem = if bytes.get(257..262) == Some(b"ustar") {
        Problem::new("this file was saved by PyTorch 0.1, in a tar archive")
            .help("load it with PyTorch and save it again with `torch.save`")
    } else if bytes.first() == Some(&0x80) {
        Problem::new("expected a file of `torch.save`, found another pickle")
            .help("save the weights alone, with PyTorch: `torch.save(model.state_dict(), \"weights.pth\")`")
    } else {
        Problem::new("expected a file of `torch.save`, found neither a zip archive nor a pickle").help(AGAIN)
    };
    Err(problem.into())
}

/// Where the members of an archive are.
struct Archive {
    pickle: Range<usize>,
    storages: BTreeMap<String, Range<usize>>,
}

fn archive(bytes: &[u8]) -> Result<Archive, Problem> {
    let bad = |e: &dyn std::fmt::Display| Problem::new(format!("the archive is damaged: {e}")).help(AGAIN);
    let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(|e| bad(&e))?;
    let mut pickle = None;
    let mut storages = BTreeMap::new();
    for number in 0..zip.len() {
        let member = zip.by_index_raw(number).map_err(|e| bad(&e))?;
        // All members are in one folder, which is named after the file.
        let Some(name) = member.name().split_once('/').map(|(_, name)| name.to_owned()) else { continue };
        let storage = name.strip_prefix("data/");
        if storage.is_none() && !["data.pkl", "byteorder", "constants.pkl"].contains(&name.as_str()) {
            continue;
        }
        if member.compression() != CompressionMethod::Stored || member.encrypted() {
            let message = format!("member {name:?} of the archive is compressed or encrypted");
            return Err(
                Problem::new(message).help("`torch.save` does neither: load the file and save it again")
            );
        }
        let start = member.data_start().and_then(|start| usize::try_from(start).ok());
        let length = usize::try_from(member.size()).ok();
        let range = start.zip(length).and_then(|(start, length)| Some(start..start.checked_add(length)?));
        let range = range.filter(|range| range.end <= bytes.len());
        let range = range.ok_or_else(|| bad(&format!("member {name:?} is cut off")))?;
        match (storage, name.as_str()) {
            (Some(key), _) => {
                storages.insert(key.to_owned(), range);
            }
            (None, "data.pkl") => pickle = Some(range),
            (None, "byteorder") if &bytes[range.clone()] != b"little" => {
                return Err(Problem::new("the file was saved on a big-endian machine, which is not read"));
            }
            (None, "constants.pkl") => {
                return Err(Problem::new("this is a TorchScript program, which is not read").help(
                    "save its weights alone, with PyTorch: `torch.save(model.state_dict(), \"weights.pth\")`",
                ));
            }
            _ => {}
        }
    }
    let pickle = pickle.ok_or_else(|| {
        Problem::new("expected a file of `torch.save`, found another zip archive: there is no data.pkl in it")
    })?;
    Ok(Archive { pickle, storages })
}

/// A number, a version, facts about the machine, the pickle, keys of storages; then of each storage the number of its
/// values, and them.
fn legacy(bytes: &[u8]) -> Result<(Pickle<'_>, BTreeMap<String, Range<usize>>), Problem> {
    let mut at = 0;
    let mut next = || {
        let pickle = pickle::read(&bytes[at..])?;
        at += pickle.length;
        Ok::<_, Problem>(pickle)
    };
    let (_, version, machine, pickle, keys) = (next()?, next()?, next()?, next()?, next()?);
    let bad = |what: &str| Problem::new(format!("the file is damaged: {what}")).help(AGAIN);
    if version.value != Value::Int(1001) {
        return Err(bad("its version is not 1001"));
    }
    let big = |pair: &(Value, Value)| *pair == (Value::Text("little_endian"), Value::Bool(false));
    if let Value::Dict(facts) = machine.value
        && machine.dicts[facts].iter().any(big)
    {
        return Err(Problem::new("the file was saved on a big-endian machine, which is not read"));
    }
    let Value::List(list) = keys.value else { return Err(bad("there is no list of what it holds")) };
    let dtypes: BTreeMap<&str, Dtype> = pickle.storages.iter().map(|s| (s.key, s.dtype)).collect();
    let mut storages = BTreeMap::new();
    for key in &keys.sequences[list] {
        let Value::Text(key) = *key else { return Err(bad("a key of what it holds is no text")) };
        let dtype = dtypes.get(key).ok_or_else(|| bad("it holds numbers of no tensor"))?;
        let count = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>());
        let count = count.ok_or_else(|| bad("it is cut off"))?;
        let length = usize::try_from(u64::from_le_bytes(*count)).ok();
        let length = length.and_then(|count| count.checked_mul(dtype.block_bytes()));
        let end = length.and_then(|length| (at + 8).checked_add(length)).filter(|end| *end <= bytes.len());
        let end = end.ok_or_else(|| bad("it is cut off"))?;
        storages.insert(key.to_owned(), at + 8..end);
        at = end;
    }
    Ok((pickle, storages))
}

/// The tensors of a dictionary, or of one in it that holds the weights.
fn collect(
    pickle: &Pickle<'_>,
    storages: &BTreeMap<String, Range<usize>>,
    size: usize,
) -> Result<Vec<Found>, Problems> {
    let help = "save the weights alone, with PyTorch: `torch.save(model.state_dict(), \"weights.pth\")`";
    let Value::Dict(dict) = pickle.value else {
        return Err(Problem::new("expected a dictionary of tensors, found something else").help(help).into());
    };
    let named = |dict: usize| -> Vec<(&str, &Tensor)> {
        let pairs = pickle.dicts[dict].iter();
        let tensors = pairs.filter_map(|(name, tensor)| match (*name, *tensor) {
            (Value::Text(name), Value::Tensor(tensor)) => Some((name, &pickle.tensors[tensor])),
            _ => None,
        });
        tensors.collect()
    };
    let mut tensors = named(dict);
    for key in NESTED {
        let nested = pickle.dicts[dict].iter().find(|pair| pair.0 == Value::Text(key));
        if let (true, Some((_, Value::Dict(nested)))) = (tensors.is_empty(), nested) {
            tensors = named(*nested);
        }
    }
    if tensors.is_empty() {
        return Err(Problem::new("the file holds no tensors with names").help(help).into());
    }
    for wrapper in WRAPPERS {
        if tensors.iter().all(|(name, _)| name.starts_with(wrapper)) {
            tensors.iter_mut().for_each(|(name, _)| *name = &name[wrapper.len()..]);
        }
    }
    let (mut found, mut problems, mut total) = (Vec::with_capacity(tensors.len()), Vec::new(), 0usize);
    for (name, tensor) in tensors {
        match place(name, tensor, pickle, storages) {
            Ok(tensor) => {
                total = total.saturating_add(tensor.range.len());
                found.push(tensor);
            }
            Err(problem) => problems.push(problem),
        }
    }
    if total > size.saturating_mul(SHARED) {
        let message = format!("tensors of {total} bytes share the numbers of a file of {size} bytes");
        problems.push(Problem::new(message).help(AGAIN));
    }
    Problems(problems).into_result()?;
    Ok(found)
}

/// Where a tensor's numbers are, after a look at all sizes.
fn place(
    name: &str,
    tensor: &Tensor,
    pickle: &Pickle<'_>,
    storages: &BTreeMap<String, Range<usize>>,
) -> Result<Found, Problem> {
    let bad = |what: &str| Problem::new(format!("tensor {name:?} {what}")).help(AGAIN);
    let storage = pickle.storages[tensor.storage];
    let range = storages.get(storage.key).ok_or_else(|| bad("has no numbers in the file"))?;
    let width = storage.dtype.block_bytes();
    if storage.count.checked_mul(width).is_none_or(|bytes| bytes > range.len()) {
        return Err(bad("has fewer numbers in the file than it says"));
    }
    let Tensor { offset, shape, strides, .. } = tensor;
    let count = shape.iter().try_fold(1usize, |n, size| n.checked_mul(*size));
    // Tensors that repeat numbers are of no checkpoint, and could claim any size.
    let count =
        count.filter(|count| *count <= storage.count).ok_or_else(|| bad("is larger than its numbers"))?;
    let span = if count == 0 {
        Some(0)
    } else {
        let steps = shape.iter().zip(strides).map(|(size, stride)| (size - 1).checked_mul(*stride));
        steps.into_iter().try_fold(1usize, |n, step| n.checked_add(step?))
    };
    let end = span.and_then(|span| offset.checked_add(span)).filter(|end| *end <= storage.count);
    let (Some(span), Some(_)) = (span, end) else {
        return Err(bad("goes beyond its numbers"));
    };
    let start = range.start + offset * width;
    let mut expected = 1usize;
    let mut contiguous = true;
    for (size, stride) in shape.iter().zip(strides).rev() {
        contiguous &= *size == 1 || count == 0 || *stride == expected;
        expected = expected.saturating_mul(*size);
    }
    Ok(Found {
        name: name.to_owned(),
        meta: TensorMeta { shape: shape.clone(), dtype: storage.dtype },
        range: start..start + span * width,
        strides: (!contiguous).then(|| strides.clone()),
    })
}
