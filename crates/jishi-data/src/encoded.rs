//! Rows as a model takes them: numbers scaled to 32 bits, categories as codes, targets; in memory or in
//! a mapped file. Training gathers a batch of rows from here in every step.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::Mmap;

use crate::DataError;

/// Where encoded rows are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Storage {
    /// In memory.
    #[default]
    Memory,
    /// In a file without a name in this folder, mapped: about 256 MiB of it are resident at a time.
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

    /// Whether the rows are in a mapped file.
    #[must_use]
    pub fn on_disk(&self) -> bool {
        matches!(self.store, Store::File(_))
    }

    /// Fills `numbers` with `[rows, numbers]` and `codes` with `[rows, categories]`, row-major. The vectors'
    /// room is used again, so that a training step allocates nothing.
    ///
    /// # Panics
    /// Where a row is not below [`Self::rows`].
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
                    let (numeric, coded) = file.row(self.place(row)).split_at(4 * n);
                    numbers.extend(floats(numeric));
                    codes.extend(words(coded));
                }
            }
        }
    }

    /// Fills `out` with `[rows, dense_width]`, row-major: the numbers, then every category column one-hot
    /// without its slot 0, so that an unknown category is all zeros.
    ///
    /// # Panics
    /// Where a row is not below [`Self::rows`].
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
                    let (numeric, coded) = file.row(self.place(row)).split_at(4 * n);
                    out.extend(floats(numeric));
                    out.resize(start + self.dense, 0.0);
                    one_hot(&self.cardinalities, words(coded), &mut out[start + n..]);
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
        if code > 0 {
            out[offset + code as usize - 1] = 1.0;
        }
        offset += slots as usize - 1;
    }
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b))
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b))
}

/// Mapped rows of equal length.
#[derive(Debug)]
struct RowFile {
    map: Mmap,
    row_bytes: usize,
    /// Bytes that may have become resident since pages were last given back.
    touched: AtomicU64,
    /// The row that was read last: its neighbour is already resident.
    last: AtomicU64,
}

impl RowFile {
    /// Bytes touched before pages are given back.
    const RESIDENT: u64 = 256 << 20;
    /// Bytes that a read at a new place can make resident: the kernel maps cached neighbours too.
    const AROUND: u64 = 64 << 10;

    fn row(&self, at: usize) -> &[u8] {
        let start = at * self.row_bytes;
        let bytes = &self.map[start..start + self.row_bytes];
        let follows = self.last.swap(at as u64, Ordering::Relaxed).wrapping_add(1) == at as u64;
        let cost = self.row_bytes as u64 + if follows { 0 } else { Self::AROUND };
        if self.touched.fetch_add(cost, Ordering::Relaxed) + cost > Self::RESIDENT {
            self.touched.store(0, Ordering::Relaxed);
            self.give_back();
        }
        bytes
    }

    fn give_back(&self) {
        #[cfg(unix)]
        {
            // SAFETY: the mapping is read-only and of a file that nothing writes to any more, so pages that
            // are given back hold the same bytes when they are read again.
            let advised = unsafe { self.map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
            // Advice alone: where it is refused, more stays resident until the system takes it back.
            advised.unwrap_or_default();
        }
    }
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
        let categories = cardinalities.len();
        let sink = match storage {
            // A file of no bytes cannot be mapped.
            Storage::File(folder) if rows * (numbers + categories) > 0 => {
                let file = temporary(&folder).map_err(|e| DataError::io(&folder, e))?;
                Sink::File { out: BufWriter::with_capacity(1 << 20, file), folder, line: Vec::new() }
            }
            _ => Sink::Memory {
                numbers: Vec::with_capacity(rows * numbers),
                codes: Vec::with_capacity(rows * categories),
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
                let map = into_map(out).map_err(|e| DataError::io(&folder, e))?;
                let row_bytes = 4 * (numbers + categories);
                Store::File(RowFile {
                    map,
                    row_bytes,
                    touched: AtomicU64::new(0),
                    last: AtomicU64::new(u64::MAX - 1),
                })
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

fn into_map(out: BufWriter<File>) -> std::io::Result<Mmap> {
    let file = out.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    // SAFETY: the file has no name and its handle ends here, so nobody changes or shortens it while it is
    // mapped.
    let map = unsafe { Mmap::map(&file) }?;
    #[cfg(unix)]
    map.advise(memmap2::Advice::Random)?;
    Ok(map)
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
    fn pages_given_back_hold_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let rows = 10_000;
        let mut writer = EncodedWriter::new(Storage::File(folder.path().into()), rows, 1, vec![]).unwrap();
        let values: Vec<f32> = (0..rows).map(|i| i as f32).collect();
        writer.push(rows, &values, &[]).unwrap();
        let data = writer.finish(rows, None, EncodedTarget::None).unwrap();
        let (mut numbers, mut codes) = (Vec::new(), Vec::new());
        // Far jumps: every read counts 64 KiB, so that pages go back every 4,096 rows.
        let order: Vec<u32> = (0..rows as u32).map(|i| i * 7919 % rows as u32).collect();
        data.gather(&order, &mut numbers, &mut codes);
        assert!(order.iter().zip(&numbers).all(|(&row, &x)| row as f32 == x));
    }
}
