//! IDX files, the format of MNIST (LeCun et al. 1998): `NAME-images-idx3-ubyte` and, beside it, `NAME-labels-idx1-ubyte`;
//! also compressed (`.gz`), and with a dot before `idx`.

use std::path::{Path, PathBuf};

use jishi_recipe::Problem;

use super::decode::MAX_PIXELS;
use super::found::{Content, Found};
use super::packed::content;
use super::pictures::OwnedPicture;
use crate::error::DataError;
use crate::text::corpus::Part;
use crate::text::documents::Target;

/// Numbers that the files begin with: bytes, in three dimensions and in one.
const IMAGES: u32 = 0x0803;
const LABELS: u32 = 0x0801;

/// A file of pictures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IdxFile {
    pub images: PathBuf,
    pub part: Option<Part>,
}

impl IdxFile {
    /// The file at `path`, where its name says that it is one of pictures.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_lowercase();
        let stem = name.strip_suffix(".gz").unwrap_or(&name);
        let start =
            ["images-idx3-ubyte", "images.idx3-ubyte"].iter().find_map(|end| stem.strip_suffix(end))?;
        let part = match start {
            _ if start.contains("train") => Some(Part::Train),
            _ if start.contains("t10k") || start.contains("test") => Some(Part::Test),
            _ if start.contains("val") => Some(Part::Validation),
            _ => None,
        };
        Some(Self { images: path.to_path_buf(), part })
    }

    /// The file of labels, compressed or not.
    pub(super) fn labels(&self) -> PathBuf {
        let name = self.images.file_name().unwrap_or_default().to_string_lossy();
        let labels = name.replace("images", "labels").replace("idx3", "idx1");
        let plain = labels.strip_suffix(".gz").unwrap_or(&labels);
        let candidates = [labels.clone(), plain.to_owned(), format!("{plain}.gz")];
        let there =
            candidates.iter().map(|name| self.images.with_file_name(name)).find(|path| path.is_file());
        there.unwrap_or_else(|| self.images.with_file_name(plain))
    }

    /// Its pictures, with their labels where there is a file of them or `labelled` says that there must be. `group` is
    /// its number in the ledger.
    ///
    /// # Errors
    /// A file that is no IDX file, is cut short, or goes on after its end; as many labels as pictures are expected.
    pub(super) fn read(&self, group: usize, labelled: bool) -> Result<Vec<Found>, DataError> {
        let labels = self.labels();
        let bytes = content(&self.images)?;
        let [n, height, width] = header(&bytes, IMAGES, &self.images)?;
        let size = height * width;
        if size == 0 || size as u64 > MAX_PIXELS {
            return Err(Problem::new(format!("its pictures have {height} × {width} pixels"))
                .file(&self.images)
                .into());
        }
        let targets = if labelled || labels.is_file() {
            let bytes = content(&labels)?;
            let [m] = header(&bytes, LABELS, &labels)?;
            if m != n {
                return Err(Problem::new(format!("expected {n} labels, one a picture, found {m}"))
                    .file(&labels)
                    .help("take both files from the same place")
                    .into());
            }
            bytes[8..].to_vec()
        } else {
            Vec::new()
        };
        let name = self.images.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let rows = bytes[16..].chunks_exact(size).enumerate().map(|(i, pixels)| Found {
            content: Content::Pixels(OwnedPicture { height, width, channels: 1, pixels: pixels.to_vec() }),
            target: targets.get(i).map(|label| Target::Text(label.to_string())),
            key: None,
            marks: None,
            part: self.part,
            path: format!("{name}:{}", i + 1),
            group,
            line: i as u64 + 1,
        });
        Ok(rows.collect())
    }
}

/// The sizes that a file names, held against its length.
fn header<const N: usize>(bytes: &[u8], magic: u32, path: &Path) -> Result<[usize; N], Problem> {
    let word = |i: usize| bytes.get(4 * i..4 * i + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    let found = word(0);
    if found != Some(magic) {
        let found = found.map_or("an empty file".into(), |word| format!("0x{word:08x}"));
        return Err(Problem::new(format!(
            "expected an IDX file that begins with 0x{magic:08x}, found {found}"
        ))
        .file(path)
        .help("check the file, or get it again"));
    }
    let mut sizes = [0; N];
    for (i, size) in sizes.iter_mut().enumerate() {
        *size = word(i + 1).unwrap_or(0) as usize;
    }
    let expected = sizes.iter().try_fold(1usize, |n, &size| n.checked_mul(size));
    let held = bytes.len().saturating_sub(4 * (N + 1));
    if expected != Some(held) {
        let shape: Vec<String> = sizes.iter().map(usize::to_string).collect();
        return Err(Problem::new(format!("its header names {} values, it holds {held}", shape.join(" × ")))
            .file(path)
            .help("check the file, or get it again"));
    }
    Ok(sizes)
}
