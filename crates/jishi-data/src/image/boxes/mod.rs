//! Pictures with boxes around what is on them: COCO JSON, Pascal VOC XML and YOLO text, told apart by what is at the path.

mod coco;
mod files;
mod scenes;
#[cfg(test)]
mod tests;
mod voc;
mod yolo;

use std::path::{Path, PathBuf};

use jishi_recipe::{Fit, Image, Problem};

use super::decode::{Bad, named_like_a_picture};
use super::found::Found;
use files::{Tree, looks_like, stem};

pub use scenes::{Scene, Scenes};

/// A box on a picture, and what is in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Object {
    /// Number of its class.
    pub class: u32,
    /// Left, top, right and bottom, in pixels from the picture's top left corner.
    pub place: [f64; 4],
    /// Square pixels that it counts as small or large by: COCO's `area`, which is that of the outline, or the box's.
    pub area: f64,
    /// A group of objects in one box (COCO's `iscrowd`): not learned from, and what is found in it counts neither way.
    pub crowd: bool,
}

/// A box as a label file has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mark {
    /// Number of its class among the names of the same source.
    pub class: u32,
    pub place: Place,
    pub area: Option<f64>,
    pub crowd: bool,
}

/// Left, top, right and bottom.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Place {
    Pixels([f64; 4]),
    /// Of width and height.
    Shares([f64; 4]),
}

/// What a label file says of a picture.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Marks {
    pub objects: Vec<Mark>,
    /// `[height, width]`, where it says so.
    pub size: Option<[usize; 2]>,
    /// There is no label file.
    pub missing: bool,
}

impl Marks {
    /// That a picture has the size that its labels say.
    ///
    /// # Errors
    /// Another size.
    pub(super) fn fit(&self, [height, width]: [usize; 2]) -> Result<(), Bad> {
        match self.size {
            Some([h, w]) if [h, w] != [height, width] => {
                let message = format!("its labels are of {h} × {w} pixels, and it has {height} × {width}");
                Err(Bad::new("another size than its labels say", message))
            }
            _ => Ok(()),
        }
    }
}

/// A part of a label file that can't be used.
#[derive(Debug)]
pub(super) struct Fault {
    /// In words that are the same for all such parts.
    pub reason: &'static str,
    pub message: String,
    pub file: PathBuf,
    /// Its number in the file, from 1.
    pub line: u64,
}

/// The pictures of a source with their boxes.
#[derive(Debug, Default)]
pub(super) struct Boxes {
    pub found: Vec<Found>,
    /// Names of the classes.
    pub names: Vec<String>,
    pub groups: Vec<PathBuf>,
    /// Files besides the pictures, which are part of what the data is.
    pub files: Vec<PathBuf>,
    pub faults: Vec<Fault>,
    pub problems: Vec<Problem>,
}

impl Boxes {
    /// Whether the pictures come in a training part and others.
    pub(super) fn split(&self) -> bool {
        let parts = || self.found.iter().map(|found| found.part);
        parts().all(|part| part.is_some())
            && parts().any(|part| part == Some(crate::text::corpus::Part::Train))
            && parts().any(|part| part != Some(crate::text::corpus::Part::Train))
    }
}

/// A format of label files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelFormat {
    /// A file for all pictures.
    Coco,
    /// A file for each.
    Voc,
    /// A file for each.
    Yolo,
}

/// The boxes that a label file's bytes put on pictures of `[height, width]`, whatever sizes it names.
///
/// # Errors
/// What can't be read.
pub fn boxes_of(
    format: LabelFormat,
    bytes: &[u8],
    classes: &[String],
    size: [usize; 2],
) -> Result<Vec<Object>, Problem> {
    let marks = match format {
        LabelFormat::Coco => coco::marks(bytes)?.into_iter().flat_map(|marks| marks.objects).collect(),
        LabelFormat::Voc => voc::marks(bytes).map_err(Problem::new)?.objects,
        LabelFormat::Yolo => yolo::of_bytes(bytes, classes).map_err(Problem::new)?,
    };
    Ok(marks.iter().filter_map(|mark: &Mark| mark.settle(size).ok()).map(|(object, _)| object).collect())
}

/// Labels of a kind.
#[derive(Debug, PartialEq)]
enum Kind {
    /// These JSON files.
    Coco(Vec<PathBuf>),
    Voc,
    /// With this `data.yaml`, where there is one.
    Yolo(Option<PathBuf>),
}

/// Reads the labels of a file or folder; `first` is the number of the first of its groups.
///
/// # Errors
/// Nothing there, or no labels of a kind that is known.
pub(super) fn read(path: &Path, first: usize) -> Result<Boxes, Problem> {
    if path.is_dir() {
        let tree = Tree::read(path)?;
        return match kind_of(path, &tree)? {
            Kind::Coco(files) => Ok(coco::read(&files, path, first)),
            Kind::Voc => Ok(voc::read(path, &tree, first)),
            Kind::Yolo(yaml) => yolo::read(path, &tree, yaml.as_deref(), first),
        };
    }
    if !path.exists() {
        return Err(Problem::new("there is no such file or folder").file(path));
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match extension(path).as_str() {
        "json" => Ok(coco::read(&[path.to_path_buf()], folder, first)),
        "yaml" | "yml" => yolo::read(folder, &Tree::read(folder)?, Some(path), first),
        "xml" | "txt" => Err(Problem::new("this is the label file of one picture")
            .file(path)
            .help("name the folder that holds all of them")),
        _ => Err(Problem::new(
            "expected COCO JSON, or a folder with COCO JSON, Pascal VOC XML or YOLO text in it",
        )
        .file(path)),
    }
}

/// What kind of labels a file or folder surely has, in words: its files look like them.
pub(super) fn kind_at(path: &Path) -> Option<&'static str> {
    const KINDS: [&str; 3] = ["COCO JSON", "Pascal VOC XML", "YOLO text"];
    let start = |file: &Path| {
        let mut bytes = Vec::new();
        let read = std::fs::File::open(file)
            .and_then(|file| std::io::Read::read_to_end(&mut std::io::Read::take(file, 4096), &mut bytes));
        read.ok().map(|_| bytes)
    };
    let looks = |file: &Path, kind: &str| start(file).is_some_and(|bytes| looks_like(&bytes) == kind);
    if path.is_file() {
        return match extension(path).as_str() {
            "json" if names_images(path) && names(path, b"\"categories\"") => Some(KINDS[0]),
            "yaml" | "yml" => Some(KINDS[2]),
            _ => None,
        };
    }
    let tree = Tree::read(path).ok()?;
    let any = |ending: &str, of: &dyn Fn(&Path) -> bool| {
        tree.files.iter().any(|file| extension(file) == ending && of(file))
    };
    match kind_of(path, &tree).ok()? {
        Kind::Coco(files) => files.iter().any(|file| names_images(file)).then_some(KINDS[0]),
        Kind::Voc => any("xml", &|file| looks(file, KINDS[1])).then_some(KINDS[1]),
        Kind::Yolo(Some(_)) => Some(KINDS[2]),
        Kind::Yolo(None) => any("txt", &|file| looks(file, KINDS[2])).then_some(KINDS[2]),
    }
    .filter(|_| tree.files.iter().any(|file| named_like_a_picture(&file.to_string_lossy())))
}

fn kind_of(folder: &Path, tree: &Tree) -> Result<Kind, Problem> {
    let ends = |ending: &'static str| tree.files.iter().filter(move |file| extension(file) == ending);
    let near = |file: &&PathBuf| {
        let parent = file.parent().unwrap_or(folder);
        parent == folder || parent.file_name().is_some_and(|name| name.eq_ignore_ascii_case("annotations"))
    };
    let mut json: Vec<PathBuf> = ends("json").filter(near).cloned().collect();
    // Notes on the data may lie beside its labels.
    if json.iter().any(|file| names_images(file)) {
        json.retain(|file| names_images(file));
    }
    if !json.is_empty() {
        return Ok(Kind::Coco(json));
    }
    if ends("xml").next().is_some() {
        return Ok(Kind::Voc);
    }
    let yaml = ends("yaml").chain(ends("yml")).filter(near).min_by_key(|p| (stem(p) != "data", (*p).clone()));
    if yaml.is_some() || ends("txt").any(|file| !yolo::is_note(file)) || ends("names").next().is_some() {
        return Ok(Kind::Yolo(yaml.cloned()));
    }
    let help = "expected a COCO file (`.json`) here or in `annotations/`, a Pascal VOC file (`.xml`) for each picture, or a \
                YOLO file (`.txt`) beside each picture or in `labels/`, with `classes.txt` or `data.yaml`";
    Err(Problem::new("there are no boxes in this folder").file(folder).help(help))
}

fn names_images(file: &Path) -> bool {
    names(file, b"\"images\"")
}

fn names(file: &Path, key: &[u8]) -> bool {
    std::fs::read(file).is_ok_and(|bytes| memchr::memmem::find(&bytes, key).is_some())
}

pub(super) fn extension(path: &Path) -> String {
    path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default()
}

/// What to say of a label file of another format.
fn other_format(bytes: &[u8], expected: &str) -> String {
    format!("expected {expected}; this looks like {}", looks_like(bytes))
}

/// How pictures with boxes are read: whole, where a recipe says nothing else, and at the size that the model sees.
#[must_use]
pub fn for_boxes(image: &Image) -> Image {
    let fit = if image.fit == Fit::Auto { Fit::Pad } else { image.fit };
    Image { fit, augment: Vec::new(), ..image.clone() }
}

/// Why a box was changed or left out.
pub(super) const CUT: &str = "a box goes beyond the picture and was cut";
pub(super) const OUTSIDE: &str = "a box is outside of the picture and was left out";
pub(super) const EMPTY: &str = "a box of zero or negative size was left out";
pub(super) const NO_FILE: &str = "there is no label file: a picture without boxes";

/// Pixels by which boxes may go beyond a picture without a word: rounding.
const ROUNDING: f64 = 1.0;

impl Mark {
    /// The box on a picture of `[height, width]`, and what became of it; or why there is none.
    pub(super) fn settle(&self, [height, width]: [usize; 2]) -> Result<(Object, bool), &'static str> {
        let (height, width) = (height as f64, width as f64);
        let [left, top, right, bottom] = match self.place {
            Place::Pixels(place) => place,
            Place::Shares([left, top, right, bottom]) => {
                [left * width, top * height, right * width, bottom * height]
            }
        };
        if right <= left || bottom <= top {
            return Err(EMPTY);
        }
        let place = [left.max(0.0), top.max(0.0), right.min(width), bottom.min(height)];
        if place[2] <= place[0] || place[3] <= place[1] {
            return Err(OUTSIDE);
        }
        let beyond = (-left).max(-top).max(right - width).max(bottom - height);
        let of_box = (place[2] - place[0]) * (place[3] - place[1]);
        // Sides may be too small for numbers to say how much is inside.
        if of_box <= 0.0 {
            return Err(EMPTY);
        }
        let area = self.area.filter(|area| *area > 0.0).unwrap_or(of_box);
        Ok((Object { class: self.class, place, area, crowd: self.crowd }, beyond > ROUNDING))
    }
}
