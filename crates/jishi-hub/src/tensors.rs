//! Named tensors of one or several files, read when asked for.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use jishi_recipe::Problem;

use crate::checkpoint::Weights;
use crate::dtype::Dtype;
use crate::mapped::Mapped;
use crate::quant;

/// Tensors by name, in memory-mapped files.
#[derive(Debug, Default)]
pub struct Tensors {
    files: Vec<Mapped>,
    entries: BTreeMap<String, Entry>,
}

/// A tensor before it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorMeta {
    /// Its shape; empty for a single number.
    pub shape: Vec<usize>,
    /// How its numbers are stored.
    pub dtype: Dtype,
}

/// A tensor as it is stored, in the order of its [`TensorMeta::shape`].
#[derive(Debug, Clone, PartialEq)]
pub enum TensorData<'a> {
    /// Plain numbers of this type.
    Plain {
        /// Their type.
        dtype: Dtype,
        /// Their bytes, little-endian.
        bytes: Cow<'a, [u8]>,
    },
    /// Blocks of quantised numbers: each row is whole blocks.
    Quantised {
        /// Their kind.
        kind: Dtype,
        /// The blocks.
        bytes: Cow<'a, [u8]>,
    },
    /// Numbers that had to be put in another order one by one.
    Values(Vec<f32>),
}

/// How a file's order differs from Hugging Face's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Order {
    /// It does not.
    #[default]
    Same,
    /// Rows of each head are pairs (x0, y0, x1, y1, …) rather than halves (x0, x1, …, y0, y1, …).
    PairedRows {
        /// Number of heads.
        heads: usize,
    },
    /// Rows are columns. The shape is that of the transposed tensor.
    Transposed,
}

#[derive(Debug)]
struct Entry {
    meta: TensorMeta,
    file: usize,
    range: Range<usize>,
    order: Order,
    /// Where numbers are not in the order of the shape: how far apart neighbours of each axis are.
    strides: Option<Vec<usize>>,
}

impl Tensors {
    pub(crate) fn add_file(&mut self, file: Mapped) -> usize {
        self.files.push(file);
        self.files.len() - 1
    }

    /// Adds a tensor whose range was checked to lie in its file. `false` where its name is taken.
    pub(crate) fn insert(
        &mut self,
        name: String,
        meta: TensorMeta,
        file: usize,
        range: Range<usize>,
        order: Order,
    ) -> bool {
        self.entries.insert(name, Entry { meta, file, range, order, strides: None }).is_none()
    }

    /// [`Self::insert`] of plain numbers that are not in the order of the shape; where they are was checked too.
    pub(crate) fn insert_strided(
        &mut self,
        name: String,
        meta: TensorMeta,
        file: usize,
        range: Range<usize>,
        strides: Vec<usize>,
    ) -> bool {
        let entry = Entry { meta, file, range, order: Order::Same, strides: Some(strides) };
        self.entries.insert(name, entry).is_none()
    }

    /// Names and what they stand for, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &TensorMeta)> {
        self.entries.iter().map(|(name, entry)| (name.as_str(), &entry.meta))
    }

    /// Number of tensors.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Shape and type of the tensor called `name`.
    #[must_use]
    pub fn meta(&self, name: &str) -> Option<&TensorMeta> {
        self.entries.get(name).map(|entry| &entry.meta)
    }

    fn entry(&self, name: &str) -> Result<&Entry, Problem> {
        self.entries.get(name).ok_or_else(|| {
            let mut problem = Problem::new(format!("expected a tensor {name:?}, found none"));
            if let Some(file) = self.files.first() {
                problem = problem.file(&file.path);
            }
            problem.help("the model's config.json and its weights do not belong together")
        })
    }

    /// The tensor as it is stored: for work on quantised blocks.
    ///
    /// # Errors
    /// A [`Problem`] where there is none of this name.
    pub fn data(&self, name: &str) -> Result<TensorData<'_>, Problem> {
        let entry = self.entry(name)?;
        let bytes = &self.files[entry.file].bytes()[entry.range.clone()];
        let dtype = entry.meta.dtype;
        if let Some(strides) = &entry.strides {
            return Ok(TensorData::Values(gather(&quant::to_f32(dtype, bytes), &entry.meta.shape, strides)));
        }
        let bytes = match entry.order {
            Order::Same => Cow::Borrowed(bytes),
            Order::PairedRows { heads } => {
                let rows = entry.meta.shape.first().copied().unwrap_or(1);
                Cow::Owned(unpair_rows(bytes, rows, heads))
            }
            Order::Transposed => {
                let values = quant::to_f32(dtype, bytes);
                return Ok(TensorData::Values(transpose(&values, &entry.meta.shape)));
            }
        };
        Ok(if dtype.is_quantised() {
            TensorData::Quantised { kind: dtype, bytes }
        } else {
            TensorData::Plain { dtype, bytes }
        })
    }

    /// The tensor's values.
    ///
    /// # Errors
    /// A [`Problem`] where there is none of this name.
    pub fn read(&self, name: &str) -> Result<Vec<f32>, Problem> {
        Ok(match self.data(name)? {
            TensorData::Plain { dtype: kind, bytes } | TensorData::Quantised { kind, bytes } => {
                quant::to_f32(kind, &bytes)
            }
            TensorData::Values(values) => values,
        })
    }
}

impl Weights for Tensors {
    fn list(&self) -> Vec<(String, Vec<usize>)> {
        self.iter().map(|(name, meta)| (name.to_string(), meta.shape.clone())).collect()
    }

    fn values(&self, name: &str) -> Result<Cow<'_, [f32]>, Problem> {
        self.read(name).map(Cow::Owned)
    }
}

/// Puts rows that are pairs within each head in the order of halves. Works on bytes, so that blocks stay as they are.
fn unpair_rows(bytes: &[u8], rows: usize, heads: usize) -> Vec<u8> {
    let width = bytes.len() / rows.max(1);
    let half = rows / heads.max(1) / 2;
    let mut out = Vec::with_capacity(bytes.len());
    for row in 0..rows {
        let (head, within) = (row / (2 * half), row % (2 * half));
        let from = head * 2 * half + within % half * 2 + within / half;
        out.extend_from_slice(&bytes[from * width..][..width]);
    }
    out
}

/// Puts rows that are halves within each head in the order of pairs: the inverse of what reading does.
pub(crate) fn pair_rows(values: &[f32], rows: usize, heads: usize) -> Vec<f32> {
    let width = values.len() / rows.max(1);
    let half = rows / heads.max(1) / 2;
    let mut out = Vec::with_capacity(values.len());
    for row in 0..rows {
        let (head, within) = (row / (2 * half), row % (2 * half));
        let from = head * 2 * half + within % 2 * half + within / 2;
        out.extend_from_slice(&values[from * width..][..width]);
    }
    out
}

/// The transpose of what has the shape `[shape[1], shape[0]]`.
pub(crate) fn transpose(values: &[f32], shape: &[usize]) -> Vec<f32> {
    let &[rows, columns] = shape else { return values.to_vec() };
    let mut out = Vec::with_capacity(values.len());
    for row in 0..rows {
        out.extend((0..columns).map(|column| values[column * rows + row]));
    }
    out
}

/// Numbers in the order of a shape, of ones that lie elsewhere.
fn gather(values: &[f32], shape: &[usize], strides: &[usize]) -> Vec<f32> {
    let mut places = vec![0];
    for (size, stride) in shape.iter().zip(strides) {
        places = places.iter().flat_map(|place| (0..*size).map(move |i| place + i * stride)).collect();
    }
    places.into_iter().map(|place| values[place]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_paired_and_unpaired() {
        // Two heads of four rows, one value a row.
        let halves = [0f32, 1., 2., 3., 10., 11., 12., 13.];
        let pairs = pair_rows(&halves, 8, 2);
        assert_eq!(pairs, [0., 2., 1., 3., 10., 12., 11., 13.]);
        let bytes: Vec<u8> = pairs.iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(quant::to_f32(Dtype::F32, &unpair_rows(&bytes, 8, 2)), halves);
    }

    #[test]
    fn strides_say_where_numbers_are() {
        let values = [0., 1., 2., 3., 4., 5.];
        assert_eq!(gather(&values, &[2, 3], &[1, 2]), [0., 2., 4., 1., 3., 5.]);
        assert_eq!(gather(&values, &[2, 2], &[3, 2]), [0., 2., 3., 5.]);
        assert_eq!(gather(&values, &[], &[]), [0.]);
    }

    #[test]
    fn a_transpose_has_rows_for_columns() {
        assert_eq!(transpose(&[1., 2., 3., 4., 5., 6.], &[3, 2]), [1., 4., 2., 5., 3., 6.]);
    }
}
