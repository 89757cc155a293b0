//! `jishi data inspect` of pictures: classes, sizes, kinds, boxes, what is broken, and what is there twice.

mod gather;
mod render;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use jishi_recipe::Problem;
use serde::Serialize;

use super::boxes::{self, CUT, EMPTY, OUTSIDE};
use super::decode::named_like_a_picture;
use super::packed::Packed;
use super::reading::has_pictures;
use crate::error::DataError;
use gather::{Gathered, Seen};

/// Problems and repeated pictures that are listed.
const LISTED: usize = 20;
/// Sides of a square from which an object counts as medium and as large in COCO's figures.
const SIZES: [f64; 2] = [32.0, 96.0];

/// What a source of pictures looks like.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ImageInspection {
    /// The folder or file.
    pub source: PathBuf,
    /// What it was taken for: `class folders`, `COCO JSON`, `Pascal VOC XML`, `YOLO text`, `files of many pictures`.
    pub layout: &'static str,
    /// Pictures that can be used.
    pub pictures: u64,
    /// Pictures and label files that can't.
    pub broken: u64,
    /// Files that are no pictures, and do not claim to be.
    pub other_files: u64,
    /// Pictures of each part, where the data comes in parts.
    pub parts: BTreeMap<&'static str, u64>,
    /// Every class.
    pub classes: Vec<ClassReport>,
    /// Heights in pixels, turned as the files say.
    pub height: Option<Spread>,
    /// Widths in pixels.
    pub width: Option<Spread>,
    /// How many different pairs of height and width there are.
    pub sizes: u64,
    /// Pictures of each format, the most frequent first.
    pub formats: Vec<(String, u64)>,
    /// Pictures of each kind of pixel: `colour`, `grey`, `palette`, with `alpha`, with `16-bit`; the most frequent first.
    pub modes: Vec<(String, u64)>,
    /// Boxes, where there are some.
    pub boxes: Option<BoxReport>,
    /// Pictures that are there twice.
    pub duplicates: Duplicates,
    /// What is wrong, as many as there are.
    pub problem_count: u64,
    /// The first of them, with their files.
    pub problems: Vec<Wrong>,
}

/// Pictures of a class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassReport {
    /// Its name.
    pub name: String,
    /// Pictures with it.
    pub pictures: u64,
    /// Pictures with it by part, where the data comes in parts.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<&'static str, u64>,
    /// Boxes of it, where there are some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boxes: Option<u64>,
    /// Widths of its boxes, in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub box_width: Option<Spread>,
    /// Heights of its boxes, in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub box_height: Option<Spread>,
}

/// Smallest, middle and largest of some numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Smallest.
    pub min: f64,
    /// Of two in the middle, the smaller.
    pub median: f64,
    /// Largest.
    pub max: f64,
}

/// Boxes of all classes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct BoxReport {
    /// Boxes that can be used.
    pub boxes: u64,
    /// Pictures without one.
    pub pictures_without: u64,
    /// Most boxes of a picture.
    pub most: u64,
    /// Boxes with an area of less than 32², up to 96², and more square pixels.
    pub small_medium_large: [u64; 3],
    /// Groups of objects in one box.
    pub crowds: u64,
    /// Boxes that go beyond their picture and are cut.
    pub cut: u64,
    /// Boxes outside of their picture, which are left out.
    pub outside: u64,
    /// Boxes of zero or negative size, which are left out.
    pub empty: u64,
}

/// Pictures whose bytes are those of an earlier one.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Duplicates {
    /// How many.
    pub pictures: u64,
    /// Those whose classes are not those of the earlier one.
    pub of_other_classes: u64,
    /// Those that are in another part than the earlier one: what is tested on was trained on.
    pub in_other_parts: u64,
    /// The first few: a picture, and the one that it repeats.
    pub examples: Vec<(String, String)>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wrong {
    /// File or folder.
    pub file: PathBuf,
    /// What.
    pub message: String,
}

/// Whether a source is pictures, and no table or text.
#[must_use]
pub fn is_pictures(path: &Path) -> bool {
    let one = || {
        // By its name alone: a table may begin as a picture does.
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path.is_file() && (named_like_a_picture(&name) || Packed::of(path).is_some())
    };
    boxes::kind_at(path).is_some()
        || one()
        || (path.is_dir() && has_pictures(path) && gather::any_picture(path))
}

/// Reads all pictures of a folder or file, whole, and says what they are.
///
/// # Errors
/// Nothing there; no picture at all; a file of many pictures that is damaged.
pub fn inspect(source: &Path) -> Result<ImageInspection, DataError> {
    let Gathered { layout, names, seen, mut wrong, broken, other_files, many } = gather::gather(source)?;
    if seen.is_empty() && broken == 0 {
        return Err(Problem::new("there are no pictures here").file(source).into());
    }
    let in_parts = seen.iter().any(|s| s.part.is_some());
    let mut parts = BTreeMap::new();
    let mut classes: Vec<Class> = names.iter().map(|_| Class::default()).collect();
    let mut report = BoxReport::default();
    for one in &seen {
        let part = one.part.filter(|_| in_parts).map(|part| part.name());
        if let Some(part) = part {
            *parts.entry(part).or_default() += 1;
        }
        for class in one.own_classes() {
            let class = &mut classes[class as usize];
            class.pictures += 1;
            if let Some(part) = part {
                *class.parts.entry(part).or_default() += 1;
            }
        }
        let Some(boxed) = &one.boxed else { continue };
        report.boxes += boxed.objects.len() as u64;
        report.pictures_without += u64::from(boxed.objects.is_empty());
        report.most = report.most.max(boxed.objects.len() as u64);
        for reason in &boxed.notes {
            match *reason {
                CUT => report.cut += 1,
                OUTSIDE => report.outside += 1,
                EMPTY => report.empty += 1,
                _ => {}
            }
            wrong.push(Wrong { file: one.file.clone(), message: (*reason).into() });
        }
        for object in &boxed.objects {
            let [left, top, right, bottom] = object.place;
            let class = &mut classes[object.class as usize];
            class.sides[0].push(bottom - top);
            class.sides[1].push(right - left);
            report.crowds += u64::from(object.crowd);
            let size = SIZES.iter().filter(|side| object.area >= side.powi(2)).count();
            report.small_medium_large[size] += 1;
        }
    }
    let boxed = seen.iter().any(|s| s.boxed.is_some());
    wrong.extend(unseen(source, &names, &classes));
    let duplicates = duplicates(&seen);
    let classes = names.into_iter().zip(classes).map(|(name, class)| class.report(name, boxed));
    let mut classes: Vec<ClassReport> = classes.collect();
    if !boxed {
        // Those of boxes have the order of their list.
        classes.sort_by(|a, b| a.name.cmp(&b.name));
    }
    let spread = |axis: usize| Spread::of(seen.iter().map(|s| s.size[axis] as f64).collect());
    let mut sizes: Vec<[usize; 2]> = seen.iter().map(|s| s.size).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let problem_count = wrong.len() as u64 + many;
    wrong.truncate(LISTED);
    Ok(ImageInspection {
        source: source.to_path_buf(),
        layout,
        pictures: seen.len() as u64,
        broken,
        other_files,
        parts,
        classes,
        height: spread(0),
        width: spread(1),
        sizes: sizes.len() as u64,
        formats: counted(seen.iter().map(|s| s.format)),
        modes: counted(seen.iter().map(|s| s.mode.as_str())),
        boxes: boxed.then_some(report),
        duplicates,
        problem_count,
        problems: wrong,
    })
}

/// Figures of a class on the way.
#[derive(Default)]
struct Class {
    pictures: u64,
    parts: BTreeMap<&'static str, u64>,
    /// Heights and widths of its boxes.
    sides: [Vec<f64>; 2],
}

impl Class {
    fn report(self, name: String, boxed: bool) -> ClassReport {
        let boxes = boxed.then_some(self.sides[0].len() as u64);
        let [box_height, box_width] = self.sides.map(Spread::of);
        ClassReport { name, pictures: self.pictures, parts: self.parts, boxes, box_width, box_height }
    }
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        Some(Self { min, median: values[(values.len() - 1) / 2], max })
    }
}

/// Classes that are in another part alone: training refuses them.
fn unseen(source: &Path, names: &[String], classes: &[Class]) -> Vec<Wrong> {
    let in_parts = classes.iter().any(|class| class.parts.contains_key("train"));
    let mut found = Vec::new();
    for (name, class) in names.iter().zip(classes).filter(|_| in_parts) {
        for (part, n) in class.parts.iter().filter(|_| !class.parts.contains_key("train")) {
            let message =
                format!("class `{name}` ({n} pictures) is in the {part} split and not in the training split");
            found.push(Wrong { file: source.to_path_buf(), message });
        }
    }
    found
}

/// How often each word comes, the most frequent first.
fn counted<'a>(words: impl Iterator<Item = &'a str>) -> Vec<(String, u64)> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    words.for_each(|word| *counts.entry(word).or_default() += 1);
    let mut counts: Vec<_> = counts.into_iter().map(|(word, n)| (word.to_owned(), n)).collect();
    // Stable: equally frequent words stay in the order of letters.
    counts.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    counts
}

fn duplicates(seen: &[Seen]) -> Duplicates {
    let mut first: HashMap<[u8; 32], usize> = HashMap::new();
    let mut found = Duplicates::default();
    for (i, one) in seen.iter().enumerate() {
        let earlier = match first.entry(one.hash) {
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(i);
                continue;
            }
            std::collections::hash_map::Entry::Occupied(place) => &seen[*place.get()],
        };
        found.pictures += 1;
        found.of_other_classes += u64::from(one.own_classes() != earlier.own_classes());
        found.in_other_parts += u64::from(one.part != earlier.part);
        if found.examples.len() < LISTED {
            found.examples.push((one.name.clone(), earlier.name.clone()));
        }
    }
    found
}
