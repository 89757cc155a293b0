//! The pictures that a recipe means: read, decoded, labelled and split.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jishi_recipe::{Data, Image, MissingTarget, Problem, Problems, Split, SplitBy, TaskName};

use super::boxes::{Object, for_boxes};
use super::pictures::Pictures;
use super::reading::{Reading, has_pictures};
use crate::error::DataError;
use crate::ledger::{Action, Ledger};
use crate::rows::listed;
use crate::split::{Splits, fold_documents, split_documents};
use crate::text::corpus::Part;
use crate::text::documents::Target;
use crate::text::labels::Labels;

/// Pictures that were read, and what is known of them.
#[derive(Debug)]
pub struct ImageCorpus {
    /// The pictures.
    pub pictures: Arc<Pictures>,
    /// The labels that there are, and those of every picture; `None` where the task needs none. Counts are those of the
    /// training rows of [`Self::rows`], see [`Self::labels_of`].
    pub labels: Option<(Labels, Vec<Vec<u32>>)>,
    /// `[height, width]` of every picture before it was scaled.
    pub sizes: Vec<[usize; 2]>,
    /// Boxes of every picture, in pixels before it was scaled, where the task is to find some.
    pub objects: Option<Vec<Vec<Object>>>,
    /// Pictures to train, to validate and to test on: those of the recipe's split; of a cross-validation its first fold.
    pub rows: [Vec<u32>; 3],
    /// Name of every picture: its path from the source's folder, or file and row.
    pub paths: Vec<String>,
    /// What became of every picture and every other file in class folders. Files are listed under their folder, by their
    /// number in it; what was left out of a folder is named itself.
    pub ledger: Ledger,
    /// What the data was when it was read: the files of pictures of a folder, or of a table, together.
    pub digests: Vec<SourceDigest>,
    /// The data comes in splits (`train/` and `test/`): `test` of the recipe's split has no meaning then.
    pub ready_made: bool,
    /// What of the ledger does not depend on the split.
    dropped: Ledger,
    /// Files or folders of the ledger.
    groups: Vec<PathBuf>,
    /// Group and number in it of every picture.
    places: Vec<(u32, u64)>,
    keys: Vec<Option<String>>,
    parts: Vec<Option<Part>>,
}

/// End of the name of a table's pictures.
pub(super) const PICTURES: &str = "(pictures)";

/// A data source as it was when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceDigest {
    /// Path, or `builtin:NAME`.
    pub name: String,
    /// Bytes of all of its files.
    pub bytes: u64,
    /// SHA-256 of the file; of several files: of their names and their SHA-256 in order.
    pub sha256: [u8; 32],
}

impl SourceDigest {
    /// Whether it is named in a recipe, and not found by what it belongs to: the pictures of a table, the labels of an
    /// IDX file, the names of classes.
    #[must_use]
    pub fn is_source(name: &str) -> bool {
        let beside = ["-labels-idx", "-labels.idx", "batches.meta.txt", "fine_label_names.txt"];
        !name.ends_with(PICTURES) && !beside.iter().any(|part| name.contains(part))
    }
}

impl ImageCorpus {
    /// Reads the pictures of a recipe's `[data]` and `[image]`. Relative sources start at `base`; what `package:NAME`
    /// means is put in its place before.
    ///
    /// # Errors
    /// Everything that is wrong with the files; labels that are missing, or in one split alone; a split that would be
    /// empty; a disk that fails.
    pub fn read(data: &Data, image: &Image, task: TaskName, base: &Path) -> Result<Self, DataError> {
        let labelled = task == TaskName::ImageClassification;
        let boxed = task == TaskName::Detection;
        let whole = boxed.then(|| for_boxes(image));
        let mut reading = Reading::new(data, whole.as_ref().unwrap_or(image), labelled, boxed)?;
        reading.sources(data.source.as_slice(), base)?;
        Self::of(reading, data, labelled)
    }

    /// As [`ImageCorpus::read`], of pictures that need no labels and are not split: all of them are training rows.
    ///
    /// # Errors
    /// Everything that is wrong with the files.
    pub fn read_plain(data: &Data, image: &Image, base: &Path) -> Result<Self, DataError> {
        let data = Data { split: data.split.whole(), ..data.clone() };
        // A model that learned from columns of pixels sees pictures all the same.
        let pixels = image
            .pixels
            .clone()
            .filter(|_| !data.source.as_slice().iter().all(|s| has_pictures(&base.join(s))));
        let image = Image { pixels, ..image.clone() };
        let mut reading = Reading::new(&data, &image, false, false)?;
        reading.sources(data.source.as_slice(), base)?;
        Self::of(reading, &data, false)
    }

    /// These pictures, in memory, without labels. `sizes`: `[height, width]` of each before it was scaled.
    ///
    /// # Panics
    /// Where there are not as many sizes as pictures.
    #[must_use]
    pub fn of_pictures(pictures: Pictures, sizes: Vec<[usize; 2]>) -> Self {
        assert_eq!(pictures.len(), sizes.len(), "a size for each picture");
        let n = pictures.len();
        Self {
            pictures: Arc::new(pictures),
            labels: None,
            sizes,
            objects: None,
            rows: [(0..n as u32).collect(), Vec::new(), Vec::new()],
            paths: (0..n).map(|i| i.to_string()).collect(),
            ledger: Ledger::default(),
            digests: Vec::new(),
            ready_made: false,
            dropped: Ledger::default(),
            groups: Vec::new(),
            places: vec![(0, 0); n],
            keys: vec![None; n],
            parts: vec![None; n],
        }
    }

    fn of(reading: Reading, data: &Data, labelled: bool) -> Result<Self, DataError> {
        let ready_made = reading.ready_made();
        let read = reading.finish()?;
        if labelled && read.targets.iter().all(Option::is_none) {
            return Err(Problem::new("the pictures have no labels")
                .help("put them into a folder for each class, or name the column of labels: `target = \"label\"` in `[data]`")
                .into());
        }
        let mut new = Self {
            pictures: Arc::new(read.pictures),
            labels: None,
            sizes: read.sizes,
            objects: None,
            rows: Default::default(),
            paths: read.paths,
            ledger: Ledger::default(),
            digests: read.digests,
            ready_made,
            dropped: read.ledger,
            groups: read.groups,
            places: read.places,
            keys: read.keys,
            parts: read.parts,
        };
        if data.split.by == SplitBy::Stratified {
            let key = |target: &Target| match target {
                Target::Text(text) => text.clone(),
                Target::List(list) => list.join("|"),
            };
            new.keys = read.targets.iter().map(|target| target.as_ref().map(key)).collect();
        }
        if let Some((names, objects)) = read.objects {
            new.box_labels(names, objects)?;
        }
        if labelled {
            let labels = new.labels_from(&read.targets);
            new.labels = Some(labels?);
        }
        new.rows = new.splits(&data.split)?.swap_remove(0);
        if let Some(labels) = new.labels_of(&new.rows[0])
            && let Some((fitted, _)) = &mut new.labels
        {
            *fitted = labels;
        }
        new.ledger = new.record(&new.rows);
        Ok(new)
    }

    /// Boxes, whose classes are the labels of their pictures.
    fn box_labels(&mut self, names: Vec<String>, objects: Vec<Vec<Object>>) -> Result<(), Problem> {
        if objects.iter().all(Vec::is_empty) {
            return Err(Problem::new("no picture has a box").help("check `data.source`"));
        }
        let classes = objects.iter().map(|objects| {
            let mut classes: Vec<u32> = objects.iter().map(|object| object.class).collect();
            classes.sort_unstable();
            classes.dedup();
            classes
        });
        let counts = vec![0; names.len()];
        self.labels = Some((Labels { names, many: true, counts }, classes.collect()));
        self.objects = Some(objects);
        Ok(())
    }

    fn labels_from(&self, targets: &[Option<Target>]) -> Result<(Labels, Vec<Vec<u32>>), DataError> {
        let mut counts: HashMap<Target, u64> = HashMap::new();
        for target in targets.iter().flatten() {
            *counts.entry(target.clone()).or_default() += 1;
        }
        let labels = Labels::of(&counts, 1, "pictures")?;
        let numbers: HashMap<&str, u32> = labels.names.iter().map(String::as_str).zip(0..).collect();
        let mut problems = Vec::new();
        let mut classes = Vec::with_capacity(targets.len());
        for (i, target) in targets.iter().enumerate() {
            // One label a picture is by far the most common, and there may be millions.
            let simple = match target {
                Some(Target::Text(text)) if !labels.many => {
                    numbers.get(text.trim()).map(|&class| vec![class])
                }
                _ => None,
            };
            let found = match (simple, target) {
                (Some(found), _) => Ok(found),
                (None, Some(target)) => labels.classes(target),
                (None, None) => Ok(Vec::new()),
            };
            match found {
                Ok(found) => classes.push(found),
                Err(problem) => problems.push(self.place(i, problem)),
            }
            if problems.len() == 20 {
                break;
            }
        }
        Problems(problems).into_result()?;
        Ok((labels, classes))
    }

    /// Training, validation and test rows: one element, or one a fold. A split that the data comes in stays as it is;
    /// where it has no validation part, one is cut from the training part.
    ///
    /// # Errors
    /// A split that would be empty, or that can't be made; labels that are in no training row of it.
    pub fn splits(&self, split: &Split) -> Result<Vec<[Vec<u32>; 3]>, DataError> {
        let splits = if self.ready_made {
            vec![self.given(split)?]
        } else {
            let (n, place) = (self.pictures.len(), |i: usize, problem: Problem| self.place(i, problem));
            match split.folds {
                Some(_) => fold_documents(split, n, &self.keys, place)?,
                None => vec![split_documents(split, n, &self.keys, place)?],
            }
        };
        let splits: Vec<[Vec<u32>; 3]> =
            splits.into_iter().map(|s| [s.train, s.validation, s.test]).collect();
        splits.iter().try_for_each(|rows| self.check_labels(rows))?;
        Ok(splits)
    }

    /// The split that the data comes in.
    fn given(&self, split: &Split) -> Result<Splits, DataError> {
        if split.folds.is_some() {
            return Err(Problem::new(
                "data that comes in a training and a test part can't be split into folds",
            )
            .help("leave out `data.split.folds`")
            .into());
        }
        let of = |part: Part| -> Vec<u32> {
            let rows = self.parts.iter().zip(0..);
            rows.filter(|(p, _)| p.unwrap_or(Part::Train) == part).map(|(_, row)| row).collect()
        };
        let [train, validation, test] = Part::ALL.map(of);
        if train.is_empty() {
            return Err(Problem::new("the training part of the data is empty").into());
        }
        if !validation.is_empty() || split.validation == 0.0 {
            return Ok(Splits { train, validation, test });
        }
        let keys: Vec<Option<String>> = match self.keys.is_empty() {
            true => Vec::new(),
            false => train.iter().map(|&row| self.keys[row as usize].clone()).collect(),
        };
        if !matches!(split.by, SplitBy::Random | SplitBy::Stratified) {
            return Err(Problem::new(
                "data that comes in a training and a test part has no column to split it by",
            )
            .help("leave out `by` in `data.split`, or set it to \"stratified\"")
            .into());
        }
        let share = Split { test: 0.0, ..split.clone() };
        let place = |i: usize, problem: Problem| self.place(train[i] as usize, problem);
        let cut = split_documents(&share, train.len(), &keys, place)?;
        let rows = |positions: Vec<u32>| positions.into_iter().map(|p| train[p as usize]).collect();
        Ok(Splits { train: rows(cut.train), validation: rows(cut.validation), test })
    }

    /// Every label must be that of a training picture.
    fn check_labels(&self, rows: &[Vec<u32>; 3]) -> Result<(), Problems> {
        let Some((labels, classes)) = &self.labels else { return Ok(()) };
        let mut seen = vec![false; labels.names.len()];
        rows[0].iter().flat_map(|&row| &classes[row as usize]).for_each(|&class| seen[class as usize] = true);
        let mut problems: Vec<Problem> = Vec::new();
        for (part, rows) in Part::ALL.iter().zip(rows).skip(1) {
            let mut unknown: Vec<(u32, u32, usize)> = Vec::new();
            for &row in rows {
                for &class in classes[row as usize].iter().filter(|&&class| !seen[class as usize]) {
                    match unknown.iter_mut().find(|(known, ..)| *known == class) {
                        Some((.., n)) => *n += 1,
                        None => unknown.push((class, row, 1)),
                    }
                }
            }
            problems.extend(unknown.into_iter().map(|(class, row, n)| {
                let message = format!(
                    "class `{}` ({n} pictures) is in the {} split and not in the training split",
                    labels.names[class as usize],
                    part.name()
                );
                let problem = self.place(row as usize, Problem::new(message));
                if self.objects.is_some() {
                    return problem
                        .help("add pictures with this class, split with another `seed`, or leave it out");
                }
                problem.help("split with `by = \"stratified\"`, add pictures of this class, or leave it out")
            }));
        }
        problems.truncate(20);
        Problems(problems).into_result()
    }

    /// Names where a picture is.
    fn place(&self, row: usize, problem: Problem) -> Problem {
        let (group, line) = self.places[row];
        let group = &self.groups[group as usize];
        if group.is_dir() || self.objects.is_some() {
            problem.file(&self.paths[row])
        } else {
            problem.file(group).line(line)
        }
    }

    /// The labels, with the counts of these training rows.
    #[must_use]
    pub fn labels_of(&self, train: &[u32]) -> Option<Labels> {
        let (labels, classes) = self.labels.as_ref()?;
        let mut counts = vec![0; labels.names.len()];
        match &self.objects {
            Some(objects) => {
                let of_train = train.iter().flat_map(|&row| &objects[row as usize]);
                of_train.for_each(|object| counts[object.class as usize] += 1);
            }
            None => train
                .iter()
                .flat_map(|&row| &classes[row as usize])
                .for_each(|&class| counts[class as usize] += 1),
        }
        Some(Labels { counts, ..labels.clone() })
    }

    /// The ledger of a split: what [`Self::ledger`] is for [`Self::rows`].
    #[must_use]
    pub fn record(&self, rows: &[Vec<u32>; 3]) -> Ledger {
        let mut ledger = self.dropped.clone();
        for (part, rows) in Part::ALL.iter().zip(rows) {
            let mut sorted = rows.clone();
            sorted.sort_unstable();
            let mut open: Option<(u32, usize)> = None;
            for row in sorted {
                let (group, line) = self.places[row as usize];
                let entry = match open {
                    Some((of, entry)) if of == group => entry,
                    _ => {
                        let path = &self.groups[group as usize];
                        ledger.entry(Action::Used, "split", None, Some(part.name()), path)
                    }
                };
                open = Some((group, entry));
                ledger.push(entry, line);
            }
        }
        ledger
    }

    /// The name of a picture, for messages.
    ///
    /// # Panics
    /// Where there is no such picture.
    #[must_use]
    pub fn name(&self, row: usize) -> &str {
        &self.paths[row]
    }

    /// Pictures of every split and label, in words, for the log.
    #[must_use]
    pub fn summary(&self) -> String {
        let [train, validation, test] = [0, 1, 2].map(|i| self.rows[i].len());
        let labels = self.labels.as_ref().map_or(String::new(), |(labels, _)| {
            format!(", {} classes: {}", labels.names.len(), listed(&labels.names, 10))
        });
        format!("{train} pictures to train, {validation} to validate, {test} to test{labels}")
    }
}

/// Whether a row without a target is left out; else it is an error.
pub(super) fn drops_missing(data: &Data) -> bool {
    data.missing.target == MissingTarget::Drop
}
