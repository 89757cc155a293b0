//! The binary files of CIFAR-10 and CIFAR-100 (Krizhevsky 2009): `data_batch_1.bin` … and `test_batch.bin` with
//! `batches.meta.txt`, or `train.bin` and `test.bin` with `fine_label_names.txt`. A record is a label (of CIFAR-100 a coarse
//! and a fine one) and 32 × 32 pixels: all reds, all greens, all blues.

use std::path::{Path, PathBuf};

use jishi_recipe::Problem;

use super::found::{Content, Found};
use super::packed;
use super::pictures::OwnedPicture;
use crate::error::DataError;
use crate::text::corpus::Part;
use crate::text::documents::Target;

/// Pixels of a side.
const SIDE: usize = 32;
/// Bytes of a picture.
const PIXELS: usize = 3 * SIDE * SIDE;

/// A file of pictures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CifarFile {
    pub images: PathBuf,
    pub part: Part,
    /// Labels in front of a picture, of which the last counts.
    labels: usize,
}

impl CifarFile {
    /// The file at `path`, where its name (and of CIFAR-100 the file beside it) says that it is one of pictures.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_lowercase();
        let stem = name.strip_suffix(".bin")?;
        let hundred = path.with_file_name(NAMES[1]).is_file();
        let (part, labels) = match stem {
            "test_batch" => (Part::Test, 1),
            "train" if hundred => (Part::Train, 2),
            "test" if hundred => (Part::Test, 2),
            _ => {
                let number = stem.strip_prefix("data_batch_")?;
                number.bytes().all(|b| b.is_ascii_digit()).then_some((Part::Train, 1))?
            }
        };
        Some(Self { images: path.to_path_buf(), part, labels })
    }

    /// The file of the names of classes, where there is one.
    pub(super) fn names(&self) -> PathBuf {
        self.images.with_file_name(NAMES[self.labels - 1])
    }

    /// Its pictures with their labels. `group` is its number in the ledger.
    ///
    /// # Errors
    /// A file that is cut short; labels that have no name.
    pub(super) fn read(&self, group: usize) -> Result<Vec<Found>, DataError> {
        let bytes = packed::content(&self.images)?;
        let record = self.labels + PIXELS;
        if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
            let message = format!(
                "expected pictures of {record} bytes each, found {} bytes, of which {} are left over",
                bytes.len(),
                bytes.len() % record
            );
            return Err(Problem::new(message).file(&self.images).help("get the file again").into());
        }
        let names = self.class_names()?;
        let file = self.images.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut found = Vec::with_capacity(bytes.len() / record);
        for (i, record) in bytes.chunks_exact(record).enumerate() {
            let (labels, planes) = record.split_at(self.labels);
            let label = usize::from(labels[self.labels - 1]);
            let name = if names.is_empty() { Some(label.to_string()) } else { names.get(label).cloned() };
            let Some(name) = name else {
                let message =
                    format!("picture {} has the label {label}, and there are {} names", i + 1, names.len());
                return Err(Problem::new(message).file(&self.images).help("get the files again").into());
            };
            let area = SIDE * SIDE;
            let pixels = (0..area).flat_map(|at| [planes[at], planes[area + at], planes[2 * area + at]]);
            let picture = OwnedPicture { height: SIDE, width: SIDE, channels: 3, pixels: pixels.collect() };
            found.push(Found {
                content: Content::Pixels(picture),
                target: Some(Target::Text(name)),
                part: Some(self.part),
                path: format!("{file}:{}", i + 1),
                group,
                line: i as u64 + 1,
                ..Found::default()
            });
        }
        Ok(found)
    }

    /// Names of the classes, a line each; none where there is no such file.
    fn class_names(&self) -> Result<Vec<String>, DataError> {
        let path = self.names();
        if !path.is_file() {
            return Ok(Vec::new());
        }
        let text = String::from_utf8(packed::content(&path)?).map_err(|_| {
            Problem::new("expected a name of a class a line, found bytes that are no text").file(&path)
        })?;
        Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
    }
}

/// Files of the names of classes, of CIFAR-10 and of CIFAR-100.
const NAMES: [&str; 2] = ["batches.meta.txt", "fine_label_names.txt"];

/// That a folder has the batches of CIFAR as Python's pickles, which are never run.
pub(super) fn pickled(folder: &Path) -> Option<Problem> {
    let pickles = folder.join("data_batch_1").is_file() && folder.join("batches.meta").is_file();
    pickles.then(|| {
        Problem::new("these are the batches of CIFAR-10 as Python's pickles, which can hold code and are not read")
            .file(folder)
            .help("get the binary version (cifar-10-binary.tar.gz), or write the pictures into a folder for each class")
    })
}
