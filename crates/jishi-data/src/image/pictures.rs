//! Decoded pictures, in memory or in a mapped file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use jishi_recipe::Channels;
use memmap2::Mmap;

use crate::error::DataError;

/// A picture: 8 bits a value, rows from the top, colours of a pixel side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picture<'a> {
    /// Pixels from top to bottom.
    pub height: usize,
    /// Pixels from left to right.
    pub width: usize,
    /// Values a pixel: 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
    /// `[height, width, channels]`
    pub pixels: &'a [u8],
}

/// A picture that owns its pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedPicture {
    /// Pixels from top to bottom.
    pub height: usize,
    /// Pixels from left to right.
    pub width: usize,
    /// Values a pixel: 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
    /// `[height, width, channels]`
    pub pixels: Vec<u8>,
}

impl OwnedPicture {
    /// It as a [`Picture`].
    #[must_use]
    pub fn view(&self) -> Picture<'_> {
        let Self { height, width, channels, ref pixels } = *self;
        Picture { height, width, channels, pixels }
    }
}

impl Picture<'_> {
    /// A copy that owns its pixels.
    #[must_use]
    pub fn to_owned(self) -> OwnedPicture {
        let Self { height, width, channels, pixels } = self;
        OwnedPicture { height, width, channels, pixels: pixels.to_vec() }
    }
}

/// Decoded pictures, each of its own size, all with the same number of channels.
#[derive(Debug)]
pub struct Pictures {
    channels: usize,
    places: Vec<Place>,
    store: Store,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    start: u64,
    height: u32,
    width: u32,
}

#[derive(Debug)]
enum Store {
    Memory(Vec<u8>),
    /// A file without a name: the system frees it with the map, even after a crash.
    File(Mmap),
}

impl Pictures {
    /// These pictures, in memory.
    ///
    /// # Panics
    /// Where one has another number of channels.
    #[must_use]
    pub fn of(channels: Channels, pictures: &[OwnedPicture]) -> Self {
        let (mut places, mut bytes) = (Vec::new(), Vec::new());
        for picture in pictures {
            assert_eq!(picture.channels, channels.count(), "pictures of one list have the same channels");
            places.push(Place {
                start: bytes.len() as u64,
                height: picture.height as u32,
                width: picture.width as u32,
            });
            bytes.extend_from_slice(&picture.pixels);
        }
        Self { channels: channels.count(), places, store: Store::Memory(bytes) }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Values a pixel.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Whether they are in a file.
    #[must_use]
    pub fn on_disk(&self) -> bool {
        matches!(self.store, Store::File(_))
    }

    /// A picture.
    ///
    /// # Panics
    /// Where `i` is not below [`Self::len`].
    #[must_use]
    pub fn get(&self, i: usize) -> Picture<'_> {
        let place = self.places[i];
        let (height, width) = (place.height as usize, place.width as usize);
        let bytes: &[u8] = match &self.store {
            Store::Memory(bytes) => bytes,
            Store::File(map) => map,
        };
        let start = place.start as usize;
        let pixels = &bytes[start..start + height * width * self.channels];
        Picture { height, width, channels: self.channels, pixels }
    }

    /// Height and width of a picture.
    ///
    /// # Panics
    /// Where `i` is not below [`Self::len`].
    #[must_use]
    pub fn size(&self, i: usize) -> [usize; 2] {
        [self.places[i].height as usize, self.places[i].width as usize]
    }
}

/// Takes pictures in order and moves them to a file once they take more bytes than a limit.
#[derive(Debug)]
pub(crate) struct PicturesWriter {
    channels: usize,
    limit: u64,
    folder: PathBuf,
    places: Vec<Place>,
    bytes: u64,
    memory: Vec<u8>,
    disk: Option<BufWriter<File>>,
}

impl PicturesWriter {
    /// Pictures with `channels` values a pixel; the file of those that take more than `limit` bytes is in `folder`, by
    /// default in the system's temporary one.
    pub(crate) fn new(channels: usize, limit: u64, folder: Option<&Path>) -> Self {
        let folder = folder.map_or_else(std::env::temp_dir, Path::to_path_buf);
        Self { channels, limit, folder, places: Vec::new(), bytes: 0, memory: Vec::new(), disk: None }
    }

    /// Adds a picture.
    ///
    /// # Errors
    /// A disk that fails.
    pub(crate) fn push(&mut self, picture: Picture) -> Result<(), DataError> {
        debug_assert_eq!(picture.channels, self.channels, "pictures of one list have the same channels");
        self.places.push(Place {
            start: self.bytes,
            height: picture.height as u32,
            width: picture.width as u32,
        });
        self.bytes += picture.pixels.len() as u64;
        if self.disk.is_none() && self.bytes > self.limit {
            let begin = || -> std::io::Result<BufWriter<File>> {
                std::fs::create_dir_all(&self.folder)?;
                let mut out = BufWriter::with_capacity(1 << 20, tempfile::tempfile_in(&self.folder)?);
                out.write_all(&self.memory)?;
                Ok(out)
            };
            self.disk = Some(begin().map_err(|e| DataError::io(&self.folder, e))?);
            self.memory = Vec::new();
        }
        match &mut self.disk {
            None => self.memory.extend_from_slice(picture.pixels),
            Some(out) => out.write_all(picture.pixels).map_err(|e| DataError::io(&self.folder, e))?,
        }
        Ok(())
    }

    /// Number of pictures so far.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Ends the writing.
    ///
    /// # Errors
    /// A disk that fails.
    pub(crate) fn finish(self) -> Result<Pictures, DataError> {
        let store = match self.disk {
            None => Store::Memory(self.memory),
            Some(out) => {
                let end = || -> std::io::Result<Mmap> {
                    let file = out.into_inner().map_err(|e| e.into_error())?;
                    // SAFETY: the file is ours alone: it has no name and its handle goes no further, so nobody changes
                    // or shortens it while it is mapped.
                    unsafe { Mmap::map(&file) }
                };
                Store::File(end().map_err(|e| DataError::io(&self.folder, e))?)
            }
        };
        Ok(Pictures { channels: self.channels, places: self.places, store })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pictures_come_back_from_memory_and_from_a_file() {
        for (limit, on_disk) in [(100, false), (20, true), (0, true)] {
            let folder = tempfile::tempdir().unwrap();
            let mut writer = PicturesWriter::new(3, limit, Some(folder.path()));
            let made: Vec<OwnedPicture> = [(1usize, 2usize), (3, 2), (2, 1)]
                .iter()
                .enumerate()
                .map(|(i, &(height, width))| {
                    let pixels = (0..height * width * 3).map(|p| (i * 50 + p) as u8).collect();
                    OwnedPicture { height, width, channels: 3, pixels }
                })
                .collect();
            made.iter().for_each(|p| writer.push(p.view()).unwrap());
            assert_eq!(writer.len(), 3);
            let pictures = writer.finish().unwrap();
            assert_eq!((pictures.len(), pictures.on_disk(), pictures.is_empty()), (3, on_disk, false));
            made.iter().enumerate().for_each(|(i, p)| assert_eq!(pictures.get(i), p.view()));
            assert_eq!(pictures.size(1), [3, 2]);
        }
    }
}
