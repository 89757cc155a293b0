//! Rows as a model takes them: numbers scaled to 32 bits, categories as codes, targets; in memory or in
//! a file. Training gathers a batch of rows from here in every step.
//!
//! The file is read with positional reads and not mapped: of a mapping the kernel makes resident what it
//! likes around every row that is touched, which for rows in random order comes to the whole file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::DataError;

/// Where encoded rows are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Storage {
    /// In memory.
    #[default]
    Memory,
    /// In a file without a name in this folder, read row by row: it takes no memory of the process.
    /// Targets and the order of the rows (4 to 16 bytes a row) stay in memory.
    File(PathBuf),
}

/// Encoded rows, in the order that was asked for.
#[derive(Debug)]
pub struct Encoded {
    /// Number of rows.
    pub rows: usize,
    /// Numbers in every row.
    pub numbers: usize,
    /// Category codes in every row.
    pub categories: usize,
    /// Slots of every category column, `[categories]`; codes are below it and 0 is "unknown".
    cardinalities: Vec<u32>,
    dense: usize,
    /// Where in the store a row is; `None` where rows are stored in order.
    places: Option<Vec<u32>>,
    store: Store,
    target: EncodedTarget,
}

/// Targets of encoded rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum EncodedTarget {
    #[default]
    None,
    Numbers {
        scaled: Vec<f32>,
        raw: Vec<f64>,
    },
    Classes(Vec<u32>),
}

#[derive(Debug)]
enum Store {
    Memory { numbers: Vec<f32>, codes: Vec<u32> },
    File(RowFile),
}

impl Encoded {
    /// Width of a dense row, see [`Self::gather_dense`]: numbers + Σ (cardinality − 1).
    #[must_use]
    pub fn dense_width(&self) -> usize {
        self.dense
    }

    /// Slots of every category column, slot 0 ("unknown") included, `[categories]`.
    #[must_use]
    pub fn cardinalities(&self) -> &[u32] {
        &self.cardinalities
    }

    /// Whether the rows are in a file.
    #[must_use]
    pub fn on_disk(&self) -> bool {
        matches!(self.store, Store::File(_))
    }

    /// Fills `numbers` with `[rows, numbers]` and `codes` with `[rows, categories]`, row-major. The vectors'
    /// room is used again, so that a training step allocates nothing.
    ///
    /// # Panics
    /// Where a row is not below [`Self::rows`], or the file can no longer be read.
    pub fn gather(&self, rows: &[u32], numbers: &mut Vec<f32>, codes: &mut Vec<u32>) {
        numbers.clear();
        codes.clear();
        let (n, c) = (self.numbers, self.categories);
        match &self.store {
            Store::Memory { numbers: all_numbers, codes: all_codes } => {
                for &row in rows {
                    let at = self.place(row);
                    numbers.extend_from_slice(&all_numbers[at * n..(at + 1) * n]);
                    codes.extend_from_slice(&all_codes[at * c..(at + 1) * c]);
                }
            }
            Store::File(file) => {
                for &row in rows {
                    let end = numbers.len() + n;
                    file.read_row(self.place(row), |word| {
                        if numbers.len() < end {
                            numbers.push(f32::from_bits(word))
                        } else {
                            codes.push(word)
                        }
                    });
                }
            }
        }
    }

    /// Fills `out` with `[rows, dense_width]`, row-major: the numbers, then every category column one-hot
    /// without its slot 0, so that an unknown category is all zeros.
    ///
    /// # Panics
    /// Where a row is not below [`Self::rows`], or the file can no longer be read.
    pub fn gather_dense(&self, rows: &[u32], out: &mut Vec<f32>) {
        out.clear();
        let (n, c) = (self.numbers, self.categories);
        for &row in rows {
            let start = out.len();
            match &self.store {
                Store::Memory { numbers, codes } => {
                    let at = self.place(row);
                    out.extend_from_slice(&numbers[at * n..(at + 1) * n]);
                    out.resize(start + self.dense, 0.0);
                    let codes = codes[at * c..(at + 1) * c].iter().copied();
                    one_hot(&self.cardinalities, codes, &mut out[start + n..]);
                }
                Store::File(file) => {
                    out.resize(start + self.dense, 0.0);
                    let row_out = &mut out[start..];
                    let (mut at, mut offset) = (0, n);
                    file.read_row(self.place(row), |word| {
                        if at < n {
                            row_out[at] = f32::from_bits(word);
                        } else {
                            set_hot(&mut row_out[offset..], word);
                            offset += self.cardinalities[at - n] as usize - 1;
                        }
                        at += 1;
                    });
                }
            }
        }
    }

    /// Scaled targets of a regression, `[rows]`; empty where there are none.
    #[must_use]
    pub fn target_scaled(&self) -> &[f32] {
        if let EncodedTarget::Numbers { scaled, .. } = &self.target { scaled } else { &[] }
    }

    /// Targets of a regression in their own unit, `[rows]`; empty where there are none.
    #[must_use]
    pub fn target_raw(&self) -> &[f64] {
        if let EncodedTarget::Numbers { raw, .. } = &self.target { raw } else { &[] }
    }

    /// Classes of a classification, `[rows]`: indices in the pipeline's classes; empty where there are none.
    #[must_use]
    pub fn target_class(&self) -> &[u32] {
        if let EncodedTarget::Classes(classes) = &self.target { classes } else { &[] }
    }

    fn place(&self, row: u32) -> usize {
        match &self.places {
            Some(places) => places[row as usize] as usize,
            None => row as usize,
        }
    }
}

fn one_hot(cardinalities: &[u32], codes: impl Iterator<Item = u32>, out: &mut [f32]) {
    let mut offset = 0;
    for (&slots, code) in cardinalities.iter().zip(codes) {
        set_hot(&mut out[offset..], code);
        offset += slots as usize - 1;
    }
}

fn set_hot(out: &mut [f32], code: u32) {
    if code > 0 {
        out[code as usize - 1] = 1.0;
    }
}

/// Rows of equal length in a file: numbers, then codes, 32 bits each.
#[derive(Debug)]
struct RowFile {
    file: File,
    row_bytes: usize,
}

impl RowFile {
    /// Gives the 32-bit words of a row, in order. One read for rows of up to 1024 words.
    fn read_row(&self, at: usize, mut take: impl FnMut(u32)) {
        let mut buffer = [0; 4096];
        let (mut offset, mut left) = (at as u64 * self.row_bytes as u64, self.row_bytes);
        while left > 0 {
            let part = &mut buffer[..left.min(4096)];
            if let Err(error) = read_at(&self.file, part, offset) {
                panic!("the file of encoded rows can't be read: {error}");
            }
            part.as_chunks::<4>().0.iter().for_each(|bytes| take(u32::from_le_bytes(*bytes)));
            offset += part.len() as u64;
            left -= part.len();
        }
    }
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> std::io::Result<()> {
    while !buffer.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, buffer, offset)?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        buffer = &mut buffer[read..];
        offset += read as u64;
    }
    Ok(())
}

/// Takes encoded rows in the order of the table and puts them into a store.
pub(crate) struct EncodedWriter {
    numbers: usize,
    cardinalities: Vec<u32>,
    sink: Sink,
}

enum Sink {
    Memory { numbers: Vec<f32>, codes: Vec<u32> },
    File { out: BufWriter<File>, folder: PathBuf, line: Vec<u8> },
}

impl EncodedWriter {
    pub(crate) fn new(
        storage: Storage,
        rows: usize,
        numbers: usize,
        cardinalities: Vec<u32>,
    ) -> Result<Self, DataError> {
        let sink = match storage {
            Storage::File(folder) => {
                let file = temporary(&folder).map_err(|e| DataError::io(&folder, e))?;
                Sink::File { out: BufWriter::with_capacity(1 << 20, file), folder, line: Vec::new() }
            }
            Storage::Memory => Sink::Memory {
                numbers: Vec::with_capacity(rows * numbers),
                codes: Vec::with_capacity(rows * cardinalities.len()),
            },
        };
        Ok(Self { numbers, cardinalities, sink })
    }

    /// Adds rows: `numbers` is `[rows, numbers]`, `codes` is `[rows, categories]`.
    pub(crate) fn push(&mut self, rows: usize, numbers: &[f32], codes: &[u32]) -> Result<(), DataError> {
        let (n, c) = (self.numbers, self.cardinalities.len());
        match &mut self.sink {
            Sink::Memory { numbers: all_numbers, codes: all_codes } => {
                all_numbers.extend_from_slice(numbers);
                all_codes.extend_from_slice(codes);
            }
            Sink::File { out, folder, line } => {
                for row in 0..rows {
                    line.clear();
                    line.extend(numbers[row * n..(row + 1) * n].iter().flat_map(|x| x.to_le_bytes()));
                    line.extend(codes[row * c..(row + 1) * c].iter().flat_map(|x| x.to_le_bytes()));
                    out.write_all(line).map_err(|e| DataError::io(&*folder, e))?;
                }
            }
        }
        Ok(())
    }

    /// `places`: where each row that was asked for is among the rows pushed; `None` where they agree.
    pub(crate) fn finish(
        self,
        rows: usize,
        places: Option<Vec<u32>>,
        target: EncodedTarget,
    ) -> Result<Encoded, DataError> {
        let (numbers, categories) = (self.numbers, self.cardinalities.len());
        let store = match self.sink {
            Sink::Memory { numbers, codes } => Store::Memory { numbers, codes },
            Sink::File { out, folder, .. } => {
                let file = out.into_inner().map_err(|e| DataError::io(&folder, e.into_error()))?;
                Store::File(RowFile { file, row_bytes: 4 * (numbers + categories) })
            }
        };
        let hot: usize = self.cardinalities.iter().map(|&slots| slots as usize - 1).sum();
        let dense = numbers + hot;
        Ok(Encoded {
            rows,
            numbers,
            categories,
            cardinalities: self.cardinalities,
            dense,
            places,
            store,
            target,
        })
    }
}

/// A file without a name, so that it is gone when it is closed, even after a crash.
fn temporary(folder: &Path) -> std::io::Result<File> {
    std::fs::create_dir_all(folder)?;
    tempfile::tempfile_in(folder)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn encoded(storage: Storage) -> Encoded {
        let mut writer = EncodedWriter::new(storage, 3, 2, vec![3, 2]).unwrap();
        writer.push(2, &[0.0, 1.0, 10.0, 11.0], &[0, 1, 2, 0]).unwrap();
        writer.push(1, &[20.0, 21.0], &[1, 1]).unwrap();
        writer.finish(3, Some(vec![2, 0, 1]), EncodedTarget::None).unwrap()
    }

    #[test]
    fn memory_and_file_gather_the_same() {
        let folder = tempfile::tempdir().unwrap();
        for storage in [Storage::Memory, Storage::File(folder.path().into())] {
            let on_disk = storage != Storage::Memory;
            let data = encoded(storage);
            assert_eq!((data.on_disk(), data.dense_width()), (on_disk, 5));
            let (mut numbers, mut codes, mut dense) = (vec![9.0], vec![9], vec![9.0]);
            data.gather(&[0, 1, 1], &mut numbers, &mut codes);
            assert_eq!(numbers, [20.0, 21.0, 0.0, 1.0, 0.0, 1.0]);
            assert_eq!(codes, [1, 1, 0, 1, 0, 1]);
            data.gather_dense(&[0, 1, 2], &mut dense);
            #[rustfmt::skip]
            assert_eq!(dense, [
                20.0, 21.0, 1.0, 0.0, 1.0,
                0.0, 1.0, 0.0, 0.0, 1.0,
                10.0, 11.0, 0.0, 1.0, 0.0,
            ]);
        }
        assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none());
    }

    #[test]
    fn rows_longer_than_a_read_come_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (rows, wide) = (3, 2500);
        let values: Vec<f32> = (0..rows * wide).map(|i| i as f32).collect();
        let mut writer =
            EncodedWriter::new(Storage::File(folder.path().into()), rows, wide, vec![5]).unwrap();
        writer.push(rows, &values, &[1, 2, 3]).unwrap();
        let data = writer.finish(rows, None, EncodedTarget::None).unwrap();
        let (mut numbers, mut codes, mut dense) = (Vec::new(), Vec::new(), Vec::new());
        data.gather(&[2, 0], &mut numbers, &mut codes);
        assert_eq!(numbers, [&values[2 * wide..], &values[..wide]].concat());
        assert_eq!(codes, [3, 1]);
        data.gather_dense(&[1], &mut dense);
        assert_eq!(dense, [&values[wide..2 * wide], &[0.0, 1.0, 0.0, 0.0]].concat());
    }
}
