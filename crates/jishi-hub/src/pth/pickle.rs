//! The opcodes of a pickle, as far as PyTorch's checkpoints need them.
//!
//! A pickle is a program for a machine with a stack, and can call any Python function by name. This machine knows a
//! handful of names ([`Known`]), none of which runs anything, and refuses all others. Values lie in lists of their own
//! and refer to each other by number, so that no nesting of a file can use up the stack of this program.
//!
//! The format: <https://github.com/python/cpython/blob/main/Lib/pickletools.py>.

use std::collections::BTreeMap;

use jishi_recipe::Problem;

use crate::dtype::Dtype;

/// A value of a pickle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// `None`, and what says nothing about a tensor: floats, bytes, devices, whole numbers beyond 64 bits.
    Other,
    Bool(bool),
    Int(i64),
    Text(&'a str),
    Known(Known),
    /// Numbers of [`Pickle::sequences`].
    Tuple(usize),
    List(usize),
    /// Number in [`Pickle::dicts`].
    Dict(usize),
    /// Number in [`Pickle::storages`].
    Storage(usize),
    /// Number in [`Pickle::tensors`].
    Tensor(usize),
}

/// The names of Python that a pickle may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Size,
    Device,
    Storage(Dtype),
}

impl Known {
    fn of(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Self::RebuildParameter,
            ("torch", "Size") => Self::Size,
            ("torch", "device") => Self::Device,
            ("torch" | "torch.cuda", storage) => Self::Storage(match storage {
                "DoubleStorage" => Dtype::F64,
                "FloatStorage" => Dtype::F32,
                "HalfStorage" => Dtype::F16,
                "BFloat16Storage" => Dtype::BF16,
                "LongStorage" => Dtype::I64,
                "IntStorage" => Dtype::I32,
                "ShortStorage" => Dtype::I16,
                "CharStorage" => Dtype::I8,
                "ByteStorage" => Dtype::U8,
                "BoolStorage" => Dtype::Bool,
                _ => return None,
            }),
            _ => return None,
        })
    }
}

/// Numbers that lie elsewhere in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Storage<'a> {
    pub(super) key: &'a str,
    pub(super) dtype: Dtype,
    /// How many there are.
    pub(super) count: usize,
}

/// A tensor: which numbers of which storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tensor {
    pub(super) storage: usize,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// What a pickle holds.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    pub(super) value: Value<'a>,
    pub(super) sequences: Vec<Vec<Value<'a>>>,
    pub(super) dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    pub(super) storages: Vec<Storage<'a>>,
    pub(super) tensors: Vec<Tensor>,
    /// Bytes that it took.
    pub(super) length: usize,
}

/// Names of tensors of the largest models take a few megabytes. Memory taken is some fifty times a pickle's size.
pub(super) const MOST: usize = 32 << 20;

const SAVE: &str = "save the weights alone, with PyTorch: `torch.save(model.state_dict(), \"weights.pth\")`";

/// Reads the pickle that `bytes` begin with.
///
/// # Errors
/// A [`Problem`] that names what is not known or does not fit.
pub(super) fn read(bytes: &[u8]) -> Result<Pickle<'_>, Problem> {
    let mut machine = Machine {
        bytes: &bytes[..bytes.len().min(MOST)],
        at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: BTreeMap::new(),
        pickle: Pickle {
            value: Value::Other,
            sequences: Vec::new(),
            dicts: Vec::new(),
            storages: Vec::new(),
            tensors: Vec::new(),
            length: 0,
        },
    };
    while machine.step()? {}
    Ok(machine.pickle)
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value<'a>>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: BTreeMap<u32, Value<'a>>,
    pickle: Pickle<'a>,
}

impl<'a> Machine<'a> {
    fn bad(&self, what: &str) -> Problem {
        Problem::new(format!("the pickle is damaged at its byte {}: {what}", self.at))
            .help("download or save the file again")
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Problem> {
        let rest = &self.bytes[self.at..];
        let Some(taken) = rest.get(..count) else {
            return Err(self.bad(&format!("expected {count} more bytes, found {}", rest.len())));
        };
        self.at += count;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Problem> {
        Ok(self.take(1)?[0])
    }

    /// A little-endian number of some bytes.
    fn number(&mut self, bytes: usize) -> Result<u64, Problem> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte)))
    }

    fn sized(&mut self, bytes: usize) -> Result<&'a [u8], Problem> {
        let length = self.number(bytes)?;
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    fn text(&mut self, bytes: usize) -> Result<Value<'a>, Problem> {
        let text = self.sized(bytes)?;
        Ok(std::str::from_utf8(text).map_or(Value::Other, Value::Text))
    }

    fn line(&mut self) -> Result<&'a str, Problem> {
        let rest = &self.bytes[self.at..];
        let length =
            rest.iter().position(|byte| *byte == b'\n').ok_or_else(|| self.bad("a line has no end"))?;
        let line = self.take(length)?;
        self.at += 1;
        std::str::from_utf8(line).map_err(|_| self.bad("a name is not UTF-8"))
    }

    fn pop(&mut self) -> Result<Value<'a>, Problem> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(self.bad("it takes a value where there is none"));
        }
        self.stack.pop().ok_or_else(|| self.bad("it takes a value where there is none"))
    }

    fn top(&self) -> Result<Value<'a>, Problem> {
        self.stack.last().copied().ok_or_else(|| self.bad("it uses a value where there is none"))
    }

    fn popped(&mut self, count: usize) -> Result<Vec<Value<'a>>, Problem> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len().checked_sub(count).filter(|at| *at >= floor) {
            Some(at) => Ok(self.stack.split_off(at)),
            None => Err(self.bad("it takes values where there are none")),
        }
    }

    fn since_mark(&mut self) -> Result<Vec<Value<'a>>, Problem> {
        let mark = self.marks.pop().ok_or_else(|| self.bad("there is no mark"))?;
        Ok(self.stack.split_off(mark))
    }

    fn sequence(&mut self, values: Vec<Value<'a>>) -> usize {
        self.pickle.sequences.push(values);
        self.pickle.sequences.len() - 1
    }

    fn dict(&mut self) -> Value<'a> {
        self.pickle.dicts.push(Vec::new());
        Value::Dict(self.pickle.dicts.len() - 1)
    }

    fn tuple(&mut self, values: Vec<Value<'a>>) {
        let tuple = Value::Tuple(self.sequence(values));
        self.stack.push(tuple);
    }

    fn set_items(&mut self, items: &[Value<'a>]) -> Result<(), Problem> {
        let Value::Dict(dict) = self.top()? else {
            return Err(self.bad("items go to what is no dictionary"));
        };
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.bad("a key has no value"));
        }
        self.pickle.dicts[dict].extend(pairs.iter().map(|[key, value]| (*key, *value)));
        Ok(())
    }

    fn append(&mut self, items: &[Value<'a>]) -> Result<(), Problem> {
        let Value::List(list) = self.top()? else { return Err(self.bad("items go to what is no list")) };
        self.pickle.sequences[list].extend(items);
        Ok(())
    }

    fn memoise(&mut self, number: u32) -> Result<(), Problem> {
        let top = self.top()?;
        self.memo.insert(number, top);
        Ok(())
    }

    fn remembered(&mut self, number: u32) -> Result<(), Problem> {
        let Some(value) = self.memo.get(&number) else { return Err(self.bad("it refers to nothing")) };
        self.stack.push(*value);
        Ok(())
    }

    fn known(&self, module: &str, name: &str) -> Result<Value<'a>, Problem> {
        Known::of(module, name).map(Value::Known).ok_or_else(|| {
            Problem::new(format!(
                "expected tensors alone, but the pickle asks for {module}.{name}: Jishi runs no code from models"
            ))
            .help(SAVE)
        })
    }

    /// One opcode; whether there is another.
    fn step(&mut self) -> Result<bool, Problem> {
        if self.at == MOST {
            return Err(Problem::new(format!("the pickle has more than {MOST} bytes")).help(SAVE));
        }
        let code = self.byte()?;
        let value = match code {
            // PROTO and FRAME say nothing that matters.
            0x80 => return self.take(1).map(|_| true),
            0x95 => return self.take(8).map(|_| true),
            b'.' => {
                self.pickle.value = self.pop()?;
                self.pickle.length = self.at;
                return Ok(false);
            }
            b'(' => {
                self.marks.push(self.stack.len());
                return Ok(true);
            }
            b'0' => return self.pop().map(|_| true),
            b'q' | b'r' => {
                let number = self.number(if code == b'q' { 1 } else { 4 })?;
                return self.memoise(number as u32).map(|()| true);
            }
            0x94 => return self.memoise(self.memo.len() as u32).map(|()| true),
            b'h' | b'j' => {
                let number = self.number(if code == b'h' { 1 } else { 4 })?;
                return self.remembered(number as u32).map(|()| true);
            }
            b's' => {
                let items = self.popped(2)?;
                return self.set_items(&items).map(|()| true);
            }
            b'u' => {
                let items = self.since_mark()?;
                return self.set_items(&items).map(|()| true);
            }
            b'a' => {
                let items = self.popped(1)?;
                return self.append(&items).map(|()| true);
            }
            b'e' => {
                let items = self.since_mark()?;
                return self.append(&items).map(|()| true);
            }
            b'b' => {
                // Attributes of a dictionary: versions of modules.
                let (_, object) = (self.pop()?, self.top()?);
                let Value::Dict(_) = object else {
                    return Err(self.bad("it sets attributes of what is no dictionary").help(SAVE));
                };
                return Ok(true);
            }
            b't' => {
                let values = self.since_mark()?;
                self.tuple(values);
                return Ok(true);
            }
            0x85..=0x87 => {
                let values = self.popped(usize::from(code - 0x84))?;
                self.tuple(values);
                return Ok(true);
            }
            b')' => {
                self.tuple(Vec::new());
                return Ok(true);
            }
            b']' => Value::List(self.sequence(Vec::new())),
            b'}' => self.dict(),
            b'N' => Value::Other,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'J' => Value::Int(i64::from(self.number(4)? as u32 as i32)),
            b'K' => Value::Int(self.number(1)? as i64),
            b'M' => Value::Int(self.number(2)? as i64),
            0x8a => long(self.sized(1)?),
            0x8b => long(self.sized(4)?),
            b'G' => self.take(8).map(|_| Value::Other)?,
            b'X' | b'T' => self.text(4)?,
            0x8c | b'U' => self.text(1)?,
            0x8d => self.text(8)?,
            b'B' => self.sized(4).map(|_| Value::Other)?,
            b'C' => self.sized(1).map(|_| Value::Other)?,
            0x8e => self.sized(8).map(|_| Value::Other)?,
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.known(module, name)?
            }
            0x93 => {
                let names = self.popped(2)?;
                let [Value::Text(module), Value::Text(name)] = names[..] else {
                    return Err(self.bad("a name is no text"));
                };
                self.known(module, name)?
            }
            b'Q' => self.storage()?,
            b'R' => self.reduce()?,
            _ => {
                let what = format!("opcode 0x{code:02x} is in no file of tensors alone");
                return Err(self.bad(&what).help(SAVE));
            }
        };
        self.stack.push(value);
        Ok(true)
    }

    fn storage(&mut self) -> Result<Value<'a>, Problem> {
        let parts = match self.pop()? {
            Value::Tuple(parts) => &self.pickle.sequences[parts][..],
            _ => &[],
        };
        let storage = match *parts {
            [
                Value::Text("storage"),
                Value::Known(Known::Storage(dtype)),
                Value::Text(key),
                _,
                Value::Int(count),
                ref view @ ..,
            ] if matches!(view, [] | [Value::Other]) => {
                usize::try_from(count).ok().map(|count| Storage { key, dtype, count })
            }
            _ => None,
        };
        let storage =
            storage.ok_or_else(|| self.bad("what should be the numbers of a tensor is not").help(SAVE))?;
        self.pickle.storages.push(storage);
        Ok(Value::Storage(self.pickle.storages.len() - 1))
    }

    /// What a function of Python would give.
    fn reduce(&mut self) -> Result<Value<'a>, Problem> {
        let (Value::Tuple(given), Value::Known(function)) = (self.pop()?, self.pop()?) else {
            return Err(self.bad("it calls what is no function").help(SAVE));
        };
        let given = &self.pickle.sequences[given];
        match (function, &given[..]) {
            (Known::OrderedDict, []) => Ok(self.dict()),
            (Known::OrderedDict, &[Value::List(list)]) => self.ordered(list),
            (Known::Device, _) => Ok(Value::Other),
            (Known::Size, &[sizes @ Value::Tuple(_)]) => Ok(sizes),
            (Known::RebuildParameter, &[tensor @ Value::Tensor(_), ..]) => Ok(tensor),
            (
                Known::RebuildTensor,
                &[
                    Value::Storage(storage),
                    Value::Int(offset),
                    Value::Tuple(shape),
                    Value::Tuple(strides),
                    ..,
                ],
            ) => {
                let sizes = |tuple: usize| {
                    let size = |value: &Value| match value {
                        Value::Int(n) => usize::try_from(*n).ok(),
                        _ => None,
                    };
                    self.pickle.sequences[tuple].iter().map(size).collect::<Option<Vec<usize>>>()
                };
                let tensor = (usize::try_from(offset).ok(), sizes(shape), sizes(strides));
                let (Some(offset), Some(shape), Some(strides)) = tensor else {
                    return Err(self.bad("the shape of a tensor is none"));
                };
                if shape.len() != strides.len() {
                    return Err(self.bad("a tensor has not as many strides as sizes"));
                }
                self.pickle.tensors.push(Tensor { storage, offset, shape, strides });
                Ok(Value::Tensor(self.pickle.tensors.len() - 1))
            }
            _ => Err(self.bad("a function is called with what it does not take").help(SAVE)),
        }
    }

    /// A dictionary from a list of pairs, as Python 2 wrote it.
    fn ordered(&mut self, list: usize) -> Result<Value<'a>, Problem> {
        let mut pairs = Vec::with_capacity(self.pickle.sequences[list].len());
        for pair in &self.pickle.sequences[list] {
            let (Value::Tuple(pair) | Value::List(pair)) = *pair else {
                return Err(self.bad("a pair of a dictionary is none"));
            };
            let [key, value] = self.pickle.sequences[pair][..] else {
                return Err(self.bad("a pair of a dictionary is none"));
            };
            pairs.push((key, value));
        }
        self.pickle.dicts.push(pairs);
        Ok(Value::Dict(self.pickle.dicts.len() - 1))
    }
}

/// A whole number in two's complement.
fn long<'a>(bytes: &[u8]) -> Value<'a> {
    if bytes.len() > 8 {
        return Value::Other;
    }
    let sign = if bytes.last().is_some_and(|last| last & 0x80 != 0) { -1i64 } else { 0 };
    Value::Int(bytes.iter().rev().fold(sign, |n, byte| n << 8 | i64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_in_twos_complement() {
        for (bytes, expected) in [(&[][..], 0), (&[0xff], -1), (&[0xff, 0], 255), (&[0, 0x80], -32768)] {
            assert_eq!(long(bytes), Value::Int(expected));
        }
        assert_eq!(long(&[1; 9]), Value::Other);
    }

    #[test]
    fn code_is_refused_by_name() {
        // `os.system("ls")`, in protocols 2 and 4.
        for bytes in [
            &b"\x80\x02cos\nsystem\nX\x02\0\0\0ls\x85R."[..],
            b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02ls\x85R.",
        ] {
            let problem = read(bytes).expect_err("it is refused").to_string();
            assert!(problem.contains("os.system"), "{problem}");
        }
        for bytes in
            [&b"\x80\x02}}\x81."[..], b"(ios\nsystem\n.", b"\x80\x02N}b.", b"\x80\x02ctorch\nSize\nN\x85R."]
        {
            assert!(read(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn deep_nesting_and_cycles_are_only_numbers() {
        let deep = [&b"]"[..], &b"]a".repeat(0), &b"\x85".repeat(100_000), b"."].concat();
        assert_eq!(read(&deep).expect("tuples").sequences.len(), 100_001);
        let cycle = read(b"\x80\x02]q\0h\0a.").expect("a list of itself");
        assert_eq!(cycle.sequences[0], [Value::List(0)]);
    }

    #[test]
    fn a_mark_is_a_floor() {
        assert!(read(b"K\x01(\x850.").is_err());
        assert!(read(b"K\x01(.").is_err());
        assert!(read(b"K\x01").is_err());
    }
}
