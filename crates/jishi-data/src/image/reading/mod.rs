//! One pass over all pictures: find, decode on all cores, scale, keep.

mod boxes;
mod taking;

use std::path::{Path, PathBuf};

use jishi_recipe::{Data, Image, Problem, Problems};
use sha2::{Digest, Sha256};

use super::boxes::Object;
use super::cifar;
use super::corpus::{PICTURES, SourceDigest};
use super::decode::Bad;
use super::folder::{self, part_of};
use super::found::{Content, Found};
use super::packed::Packed;
use super::pictures::{Pictures, PicturesWriter};
use super::scaling::Scaling;
use super::tables::{self, Others};
use crate::error::DataError;
use crate::ledger::Ledger;
use crate::source::{ReadOptions, Source, resolve_names};
use crate::text::corpus::Part;
use crate::text::documents::Target;

/// Problems of pictures that are shown one by one.
const SHOWN: usize = 20;

/// What is known so far.
pub(super) struct Reading<'a> {
    data: &'a Data,
    image: &'a Image,
    options: ReadOptions,
    scaling: Scaling,
    /// Every picture must have a label.
    labelled: bool,
    /// Every picture must have boxes.
    boxed: bool,
    pictures: PicturesWriter,
    known: Known,
    bad: Vec<(usize, u64, String, Bad)>,
    problems: Vec<Problem>,
    /// Sources that come in splits, and all.
    split: (usize, usize),
}

/// Pictures that were read, row by row.
#[derive(Default)]
struct Known {
    targets: Vec<Option<Target>>,
    keys: Vec<Option<String>>,
    parts: Vec<Option<Part>>,
    paths: Vec<String>,
    places: Vec<(u32, u64)>,
    groups: Vec<PathBuf>,
    digests: Vec<SourceDigest>,
    ledger: Ledger,
    sizes: Vec<[usize; 2]>,
    objects: Vec<Vec<Object>>,
    /// Classes of boxes.
    names: Vec<String>,
}

/// All pictures.
pub(super) struct Finished {
    pub pictures: Pictures,
    pub targets: Vec<Option<Target>>,
    /// Empty where the split goes by no column.
    pub keys: Vec<Option<String>>,
    pub parts: Vec<Option<Part>>,
    pub paths: Vec<String>,
    pub places: Vec<(u32, u64)>,
    pub groups: Vec<PathBuf>,
    pub digests: Vec<SourceDigest>,
    /// Of pictures that were left out.
    pub ledger: Ledger,
    /// `[height, width]` of each before it was scaled.
    pub sizes: Vec<[usize; 2]>,
    /// Boxes of each and names of their classes, where the task has some.
    pub objects: Option<(Vec<String>, Vec<Vec<Object>>)>,
}

/// The hash of several files: of their names and hashes.
#[derive(Default)]
struct Several {
    bytes: u64,
    hash: Sha256,
    files: usize,
}

impl Several {
    fn add(&mut self, name: &str, bytes: u64, sha256: &[u8; 32]) {
        self.bytes += bytes;
        self.files += 1;
        self.hash.update((name.len() as u64).to_le_bytes());
        self.hash.update(name.as_bytes());
        self.hash.update(sha256);
    }
}

impl<'a> Reading<'a> {
    pub(super) fn new(
        data: &'a Data,
        image: &'a Image,
        labelled: bool,
        boxed: bool,
    ) -> Result<Self, DataError> {
        let options = ReadOptions::from_recipe(data)?;
        Ok(Self {
            data,
            image,
            scaling: Scaling::of(image),
            labelled,
            boxed,
            pictures: PicturesWriter::new(image.channels.count(), data.memory_limit, None),
            known: Known::default(),
            bad: Vec::new(),
            problems: Vec::new(),
            split: (0, 0),
            options,
        })
    }

    /// Whether all sources come in splits.
    pub(super) fn ready_made(&self) -> bool {
        self.split.0 > 0 && self.split.0 == self.split.1
    }

    /// Reads everything that the names stand for.
    pub(super) fn sources(&mut self, names: &[String], base: &Path) -> Result<(), DataError> {
        if names.is_empty() {
            return Err(Problem::new("`source` is an empty list").help("name a folder of pictures").into());
        }
        let mut files = Vec::new();
        for name in names {
            let path = base.join(name);
            if self.boxed {
                self.boxes(&path)?;
                continue;
            }
            if path.is_dir() {
                files.extend(self.folder(&path)?);
                continue;
            }
            match resolve_names(&[name], base) {
                Ok(found) => files.extend(found),
                Err(Problems(found)) => self.problems.extend(found),
            }
        }
        self.files(&files)
    }

    /// A folder: IDX files or CIFAR's, class folders, or tables, which are returned.
    fn folder(&mut self, path: &Path) -> Result<Vec<Source>, DataError> {
        if let Some(problem) = cifar::pickled(path) {
            self.problems.push(problem);
            return Ok(Vec::new());
        }
        let packed = Packed::in_folder(path);
        if !packed.is_empty() {
            self.packed(&packed)?;
            return Ok(Vec::new());
        }
        let tables = tables_in(path);
        if !tables.is_empty() {
            return Ok(tables);
        }
        self.no_column("pictures in folders")?;
        self.split.1 += 1;
        match folder::read(path, self.known.groups.len()) {
            Err(problem) => self.problems.push(problem),
            Ok(folder) => {
                self.problems.extend(folder.problems);
                self.split.0 += usize::from(folder.split);
                self.known.groups.extend(folder.groups);
                let mut hash = Several::default();
                self.take(folder.found, &mut hash)?;
                self.several(path, hash);
            }
        }
        Ok(Vec::new())
    }

    fn packed(&mut self, files: &[Packed]) -> Result<(), DataError> {
        self.no_column("IDX files and CIFAR's")?;
        let split =
            files.iter().any(|f| f.part() == Some(Part::Train)) && files.iter().all(|f| f.part().is_some());
        self.split.1 += 1;
        self.split.0 += usize::from(split && files.len() > 1);
        for file in files {
            self.known.groups.push(file.path().to_path_buf());
            match file.read(self.known.groups.len() - 1, self.labelled) {
                Ok(found) => self.take(found, &mut Several::default())?,
                Err(DataError::Bad(Problems(found))) => {
                    self.problems.extend(found);
                    continue;
                }
                Err(error) => return Err(error),
            }
            self.one(&Source::File(file.path().to_path_buf()))?;
            let beside = file.beside();
            // All of CIFAR's files have the same names of classes.
            let known = |name: &str| self.known.digests.iter().any(|digest| digest.name == name);
            if beside.is_file() && !known(&beside.to_string_lossy()) {
                self.one(&Source::File(beside))?;
            }
        }
        Ok(())
    }

    /// Data that has no columns can't be asked for any.
    fn no_column(&mut self, what: &str) -> Result<(), Problem> {
        let (key, name) = match (&self.data.target, &self.image.pixels) {
            (Some(target), _) => ("data.target", target),
            (None, Some(pixels)) => ("image.pixels", &pixels.columns),
            (None, None) => return Ok(()),
        };
        Err(Problem::new(format!("{what} have no column `{name}`"))
            .help(format!("leave out `{key}`: the class of a picture is the name of its folder, or its label in the IDX file")))
    }

    /// Tables, files of many pictures, and single ones.
    fn files(&mut self, sources: &[Source]) -> Result<(), DataError> {
        if let Some(pixels) = &self.image.pixels
            && !sources.is_empty()
        {
            let others = Others::of(self.data);
            let first = self.known.groups.len();
            let (found, files, ledger) =
                tables::read_pixels(sources, &self.options, self.image, pixels, others, first)?;
            self.known.groups.extend(files);
            self.known.ledger.rows_read += ledger.rows_read - found.len() as u64;
            self.known.ledger.entries.extend(ledger.entries);
            self.split.1 += 1;
            self.take(found, &mut Several::default())?;
            return sources.iter().try_for_each(|source| self.one(source));
        }
        let mut packed = Vec::new();
        let mut rest = Vec::new();
        for source in sources {
            match source {
                Source::File(path) if Packed::of(path).is_some() => packed.extend(Packed::of(path)),
                source => rest.push(source),
            }
        }
        if !packed.is_empty() {
            self.packed(&packed)?;
        }
        let parts: Vec<Option<Part>> = rest.iter().map(|source| part_named(&source.path())).collect();
        let in_splits = parts.iter().all(Option::is_some)
            && parts.contains(&Some(Part::Train))
            && parts.iter().any(|part| *part != Some(Part::Train));
        for (source, part) in rest.into_iter().zip(parts) {
            self.split.1 += 1;
            self.split.0 += usize::from(in_splits);
            self.file(source, part.filter(|_| in_splits))?;
        }
        Ok(())
    }

    /// A table, or a picture.
    fn file(&mut self, source: &Source, part: Option<Part>) -> Result<(), DataError> {
        let path = source.path();
        self.known.groups.push(path.clone());
        let group = self.known.groups.len() - 1;
        let mut hash = Several::default();
        if let Source::File(file) = source
            && !tables::is_table(source, &self.options)
        {
            let found = Found {
                content: Content::File(file.clone()),
                path: path.to_string_lossy().into_owned(),
                group,
                line: 1,
                ..Found::default()
            };
            self.take(vec![found], &mut hash)?;
            return self.one(source);
        }
        let (image, options) = (self.image, self.options.clone());
        let read = tables::read(source, &options, image, Others::of(self.data), group, |found| {
            let found = found.into_iter().map(|row| Found { part, ..row });
            self.take(found.collect(), &mut hash)
        });
        let bad = match read {
            Ok(bad) => bad,
            Err(DataError::Bad(Problems(found))) => {
                self.problems.extend(found);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.known.ledger.rows_read += bad.len() as u64;
        let name = path.to_string_lossy();
        self.bad.extend(
            bad.into_iter().map(|b| (group, b.line, name.to_string(), Bad::new(b.reason, b.message))),
        );
        if hash.files > 0 {
            self.several(&path.join(PICTURES), hash);
        }
        self.one(source)
    }

    fn several(&mut self, path: &Path, hash: Several) {
        let name = path.to_string_lossy().into_owned();
        self.known.digests.push(SourceDigest {
            name,
            bytes: hash.bytes,
            sha256: hash.hash.finalize().into(),
        });
    }

    /// The hash of a file.
    fn one(&mut self, source: &Source) -> Result<(), DataError> {
        let (bytes, sha256) = match source {
            Source::Builtin(builtin) => (builtin.bytes().len() as u64, Sha256::digest(builtin.bytes())),
            Source::Memory { bytes, .. } => (bytes.len() as u64, Sha256::digest(bytes)),
            Source::File(path) => {
                let mut hash = Sha256::new();
                let mut file = std::fs::File::open(path).map_err(|e| DataError::io(path, e))?;
                let bytes = std::io::copy(&mut file, &mut hash).map_err(|e| DataError::io(path, e))?;
                (bytes, hash.finalize())
            }
        };
        let name = source.path().to_string_lossy().into_owned();
        self.known.digests.push(SourceDigest { name, bytes, sha256: sha256.into() });
        Ok(())
    }
}

/// Whether a source is pictures by itself, and no table of them.
pub(super) fn has_pictures(path: &Path) -> bool {
    if path.is_dir() {
        tables_in(path).is_empty()
    } else {
        folder::is_picture(path) || Packed::of(path).is_some()
    }
}

/// The tables of a folder, and of one folder below (`data/`), where there are any.
fn tables_in(folder: &Path) -> Vec<Source> {
    let list = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
        let mut files: Vec<Source> = entries
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|e| e == "parquet") && path.is_file())
            .map(Source::File)
            .collect();
        files.sort_by_key(Source::path);
        files
    };
    let own = list(folder);
    if own.is_empty() { list(&folder.join("data")) } else { own }
}

/// The split that a table's name begins with: `train-00000-of-00002.parquet`.
fn part_named(path: &Path) -> Option<Part> {
    let name = path.file_name()?.to_str()?;
    part_of(name.split(|c: char| !c.is_alphabetic()).next()?)
}
