//! YOLO text: a file for each picture with a line for each box: number of the class, middle (x, y), width and height, as
//! shares of the picture's. A picture without a file has no boxes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use jishi_recipe::Problem;

use super::super::decode::{Bad, named_like_a_picture};
use super::super::found::{Content, Found};
use super::files::{Tree, looks_like, part_on_the_way, stem};
use super::{Boxes, Mark, Marks, Place, extension, other_format};
use crate::text::corpus::Part;

/// Whether a text file is none of labels.
pub(super) fn is_note(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let known = ["classes.txt", "readme.txt", "train.txt", "val.txt", "test.txt", "notes.txt"];
    known.contains(&name.as_str()) || name.starts_with("readme.")
}

/// What a `data.yaml` says: names of the classes, and where the pictures of each split are.
#[derive(Debug, Default, PartialEq)]
struct Config {
    names: Vec<String>,
    root: Option<String>,
    parts: Vec<(Part, Vec<String>)>,
}

/// # Errors
/// Classes without names; no label file at all.
pub(super) fn read(root: &Path, tree: &Tree, yaml: Option<&Path>, first: usize) -> Result<Boxes, Problem> {
    let mut boxes = Boxes::default();
    let config = match yaml {
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .map_err(|e| Problem::new(format!("this file can't be read: {e}")).file(file))?;
            boxes.files.push(file.to_path_buf());
            Config::parse(&text)
        }
        None => Config::default(),
    };
    boxes.names = config.names.clone();
    if boxes.names.is_empty() {
        let is_list = |f: &&PathBuf| {
            f.file_name().is_some_and(|n| n.eq_ignore_ascii_case("classes.txt")) || extension(f) == "names"
        };
        let Some(file) = tree.files.iter().find(is_list) else {
            let problem = Problem::new("the classes of these YOLO labels have no names").file(root);
            return Err(
                problem.help("put a `classes.txt` (a name a line) or a `data.yaml` (`names:`) beside them")
            );
        };
        let text = std::fs::read_to_string(file).unwrap_or_default();
        boxes.names = text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect();
        boxes.files.push(file.clone());
    }
    let pictures = match pictures_of(root, &config, yaml) {
        Ok(Some(pictures)) => pictures,
        Ok(None) => {
            let named = tree.files.iter().filter(|f| named_like_a_picture(&f.to_string_lossy()));
            named.map(|file| (file.clone(), part_on_the_way(file, root))).collect()
        }
        Err(problem) => return Err(problem),
    };
    let mut line = 0;
    let mut labelled = 0;
    for (picture, part) in pictures {
        let folder = picture.parent().unwrap_or(root).to_path_buf();
        if boxes.groups.last() != Some(&folder) {
            boxes.groups.push(folder);
            line = 0;
        }
        line += 1;
        let group = first + boxes.groups.len() - 1;
        let relative = |path: &Path| path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned();
        let row = Found { part, group, line, path: relative(&picture), ..Found::default() };
        let label = labels_of(&picture).into_iter().find(|label| label.is_file());
        let read = label.as_deref().map(|label| one(label, &boxes.names));
        labelled += usize::from(label.is_some());
        boxes.found.push(match (read, label.as_deref()) {
            (Some(Err(message)), Some(label)) => {
                let bad = Bad::new("a label file that can't be read", message);
                Found { content: Content::Bad(bad), path: relative(label), ..row }
            }
            (read, _) => {
                let missing = read.is_none();
                let objects = read.and_then(Result::ok).unwrap_or_default();
                let marks = Some(Marks { objects, size: None, missing });
                Found { content: Content::File(picture), marks, ..row }
            }
        });
        boxes.files.extend(label);
    }
    if labelled == 0 && !boxes.found.is_empty() {
        let problem = Problem::new("no picture has a label file").file(root);
        return Err(problem.help(
            "expected `NAME.txt` beside `NAME.jpg`, in `labels/` beside `images/`, or in `labels/` beside the pictures",
        ));
    }
    Ok(boxes)
}

/// Where a picture's label file may be.
fn labels_of(picture: &Path) -> Vec<PathBuf> {
    let name = format!("{}.txt", stem(picture));
    let folder = picture.parent().unwrap_or(picture);
    let mut places = vec![folder.join(&name), folder.join("labels").join(&name)];
    let parts: Vec<_> = folder.components().collect();
    if let Some(at) = parts.iter().rposition(|part| part.as_os_str() == "images") {
        let swapped = parts.iter().enumerate().map(|(i, part)| match i == at {
            true => std::ffi::OsStr::new("labels"),
            false => part.as_os_str(),
        });
        places.insert(0, swapped.collect::<PathBuf>().join(&name));
    }
    if let Some(above) = folder.parent() {
        places.push(above.join("labels").join(&name));
    }
    places
}

fn one(file: &Path, names: &[String]) -> Result<Vec<Mark>, String> {
    of_bytes(&std::fs::read(file).map_err(|e| format!("it can't be read: {e}"))?, names)
}

/// The boxes of a file's bytes.
pub(super) fn of_bytes(bytes: &[u8], names: &[String]) -> Result<Vec<Mark>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| other_format(bytes, "YOLO text"))?;
    let (mut marks, mut wrong) = (Vec::new(), Vec::new());
    if text.trim_start().starts_with(['<', '{', '[']) {
        return Err(other_format(bytes, "YOLO text"));
    }
    for (line, text) in text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
        match mark(text, names) {
            Ok(mark) => marks.push(mark),
            Err(message) => wrong.push(format!("line {}: {message}", line + 1)),
        }
    }
    if wrong.len() > 3 {
        let more = wrong.len() - 3;
        wrong.truncate(3);
        wrong.push(format!("and {more} more lines"));
    }
    if wrong.is_empty() { Ok(marks) } else { Err(wrong.join("; ")) }
}

fn mark(line: &str, names: &[String]) -> Result<Mark, String> {
    let numbers: Option<Vec<f64>> =
        line.split_whitespace().map(|word| word.parse::<f64>().ok().filter(|v| v.is_finite())).collect();
    let Some(numbers) = numbers else {
        return Err(format!("expected five numbers (class, x, y, width, height), found {:?}", line.trim()));
    };
    let &[class, x, y, width, height] = numbers.as_slice() else {
        let note = match numbers.len() {
            6 => "; with a score behind them these are predictions",
            n if n >= 7 && n % 2 == 1 => "; these look like outlines for segmentation",
            _ => "",
        };
        return Err(format!(
            "expected five numbers (class, x, y, width, height), found {}{note}",
            numbers.len()
        ));
    };
    if class < 0.0 || class.fract() != 0.0 || class >= names.len() as f64 {
        return Err(format!("expected a class of 0 to {}, found {class}", names.len().saturating_sub(1)));
    }
    if [x, y, width, height].iter().any(|v| *v > 2.0) {
        return Err("expected shares of the picture's width and height, found numbers like pixels".into());
    }
    let place = [x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0];
    Ok(Mark { class: class as u32, place: Place::Shares(place), area: None, crowd: false })
}

type Listed = Vec<(PathBuf, Option<Part>)>;

/// The pictures that a `data.yaml` names by split; `None` where it names none.
fn pictures_of(root: &Path, config: &Config, yaml: Option<&Path>) -> Result<Option<Listed>, Problem> {
    let Some(yaml) = yaml.filter(|_| !config.parts.is_empty()) else { return Ok(None) };
    let base = match &config.root {
        Some(named) if root.join(named).is_dir() => root.join(named),
        _ => root.to_path_buf(),
    };
    let mut found: HashMap<PathBuf, Part> = HashMap::new();
    let mut order = Vec::new();
    for (part, entries) in &config.parts {
        for entry in entries {
            // Some programs write paths that start a folder too low.
            let places = [base.join(entry), base.join(entry.trim_start_matches("../"))];
            let Some(place) = places.iter().find(|place| place.exists()) else {
                let message = format!("`{entry}`, which this file names, is not there");
                return Err(Problem::new(message).file(yaml));
            };
            let pictures: Vec<PathBuf> = if place.is_dir() {
                let files = Tree::read(place)?.files.into_iter();
                files.filter(|f| named_like_a_picture(&f.to_string_lossy())).collect()
            } else {
                let bytes = std::fs::read(place).unwrap_or_default();
                let Ok(text) = std::str::from_utf8(&bytes) else {
                    let message = format!("expected a list of pictures, found {}", looks_like(&bytes));
                    return Err(Problem::new(message).file(place));
                };
                let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
                lines.map(|line| base.join(line.trim_start_matches("./"))).collect()
            };
            for picture in pictures {
                if found.insert(picture.clone(), *part).is_none() {
                    order.push(picture);
                }
            }
        }
    }
    Ok(Some(order.into_iter().map(|picture| (picture.clone(), found.get(&picture).copied())).collect()))
}

impl Config {
    /// Reads the few keys that matter: values, `[a, b]`, lists of `- a`, and lists of `0: a`.
    fn parse(text: &str) -> Self {
        let mut config = Self::default();
        let mut key = String::new();
        let mut values: HashMap<String, Vec<String>> = HashMap::new();
        for line in text.lines() {
            let line = line.split(" #").next().unwrap_or_default();
            let word = line.trim();
            if word.is_empty() || word.starts_with('#') {
                continue;
            }
            let inside = line.starts_with([' ', '\t', '-']);
            if inside && !key.is_empty() {
                let item = word.trim_start_matches("- ");
                let numbered = item.split_once(':').filter(|(n, _)| n.trim().parse::<usize>().is_ok());
                let item = numbered.map_or(item, |(_, name)| name);
                values.entry(key.clone()).or_default().push(unquoted(item));
            } else if let Some((name, value)) = word.split_once(':') {
                key = name.trim().to_owned();
                let value = value.trim();
                let list = value.strip_prefix('[').and_then(|v| v.strip_suffix(']'));
                let own: Vec<String> = match list {
                    Some(list) => list.split(',').map(unquoted).filter(|v| !v.is_empty()).collect(),
                    None if value.is_empty() => Vec::new(),
                    None => vec![unquoted(value)],
                };
                values.insert(key.clone(), own);
            }
        }
        config.names = values.remove("names").unwrap_or_default();
        config.root = values.remove("path").and_then(|mut v| v.pop());
        for (name, part) in [("train", Part::Train), ("val", Part::Validation), ("test", Part::Test)] {
            if let Some(entries) = values.remove(name).filter(|entries| !entries.is_empty()) {
                config.parts.push((part, entries));
            }
        }
        config
    }
}

fn unquoted(text: &str) -> String {
    text.trim().trim_matches(['"', '\'']).trim().to_owned()
}
