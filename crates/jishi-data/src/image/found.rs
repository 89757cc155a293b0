//! Pictures that were found and are still to be read.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use jishi_recipe::Channels;
use sha2::{Digest, Sha256};

use super::boxes::Marks;
use super::decode::{Bad, MAX_BYTES, decode, luma};
use super::pictures::OwnedPicture;
use super::scaling::Scaling;
use crate::text::corpus::Part;
use crate::text::documents::Target;

/// A picture that is still to be read.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub content: Content,
    pub target: Option<Target>,
    /// Value of the column that the split goes by.
    pub key: Option<String>,
    /// The split that it comes in.
    pub part: Option<Part>,
    /// Its name in predictions and reports.
    pub path: String,
    /// Index of the ledger's file that it is listed under, and its number there, from 1.
    pub group: usize,
    pub line: u64,
    /// Its boxes, where the task is to find some.
    pub marks: Option<Marks>,
}

/// Where the pixels are.
#[derive(Debug)]
pub(super) enum Content {
    File(PathBuf),
    /// Bytes of a picture file.
    Bytes(Vec<u8>),
    /// Grey or coloured pixels.
    Pixels(OwnedPicture),
    /// Nowhere, and why.
    Bad(Bad),
}

impl Default for Content {
    fn default() -> Self {
        Self::Bytes(Vec::new())
    }
}

impl Content {
    /// The picture, scaled for training, and its size before; of a file also its bytes and hash.
    pub(super) fn read(self, channels: Channels, scaling: Scaling) -> Outcome {
        let (bytes, digest) = match self {
            Self::Bad(bad) => return Outcome { picture: Err(bad), size: [0; 2], digest: None },
            Self::Pixels(picture) => {
                let picture = with_channels(picture, channels);
                let size = [picture.height, picture.width];
                return Outcome { picture: Ok(scaling.apply(picture)), size, digest: None };
            }
            Self::Bytes(bytes) => (Ok(bytes), None),
            Self::File(path) => match file_bytes(&path) {
                Ok(bytes) => {
                    let digest = (bytes.len() as u64, Sha256::digest(&bytes).into());
                    (Ok(bytes), Some(digest))
                }
                Err(bad) => (Err(bad), None),
            },
        };
        let picture = bytes.and_then(|bytes| decode(&bytes, channels));
        let size = picture.as_ref().map_or([0; 2], |p| [p.height, p.width]);
        Outcome { picture: picture.map(|p| scaling.apply(p)), size, digest }
    }
}

/// What came of reading a picture.
pub(super) struct Outcome {
    pub picture: Result<OwnedPicture, Bad>,
    /// `[height, width]` before it was scaled.
    pub size: [usize; 2],
    /// Bytes and SHA-256 of its file.
    pub digest: Option<(u64, [u8; 32])>,
}

/// A file's bytes, where they are not too many.
pub(super) fn file_bytes(path: &Path) -> Result<Vec<u8>, Bad> {
    let unreadable = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Bad::new("no such file", format!("there is no file {}", path.display()))
        }
        _ => Bad::new("a file that can't be read", format!("it can't be read: {e}")),
    };
    let mut file = File::open(path).map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    if meta.is_dir() {
        return Err(Bad::new("a folder", "expected a picture, found a folder"));
    }
    if meta.len() > MAX_BYTES {
        return Err(Bad::new(
            "a picture that is too large",
            format!("the file has {} MiB; at most {} are read", meta.len() >> 20, MAX_BYTES >> 20),
        ));
    }
    let mut bytes = Vec::with_capacity(meta.len() as usize);
    file.read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

/// Grey becomes three equal colours, colours become grey.
pub(super) fn with_channels(picture: OwnedPicture, channels: Channels) -> OwnedPicture {
    let pixels: Vec<u8> = match (picture.channels, channels) {
        (1, Channels::Rgb) => picture.pixels.iter().flat_map(|&value| [value; 3]).collect(),
        (3, Channels::Gray) => picture.pixels.as_chunks().0.iter().copied().map(luma).collect(),
        _ => return picture,
    };
    OwnedPicture { pixels, channels: channels.count(), ..picture }
}
