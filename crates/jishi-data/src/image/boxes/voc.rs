//! Pascal VOC XML (Everingham et al. 2010): a file for each picture. Boxes are `xmin`, `ymin`, `xmax` and `ymax`, in pixels
//! from 1, the last inside. Objects marked `difficult` are objects like others here.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use roxmltree::{Document, Node};

use super::super::decode::{Bad, named_like_a_picture};
use super::super::found::{Content, Found};
use super::files::{Tree, part_in, part_on_the_way, stem};
use super::{Boxes, Mark, Marks, Place, extension, other_format};
use crate::text::corpus::Part;

/// A file that was read.
struct File {
    picture: String,
    size: Option<[usize; 2]>,
    objects: Vec<(String, [f64; 4])>,
}

impl File {
    /// The boxes, whose classes have these numbers.
    fn marks(&self, numbers: &HashMap<String, u32>) -> Marks {
        let mark = |(name, place): &(String, [f64; 4])| Mark {
            class: numbers[name],
            place: Place::Pixels(*place),
            area: None,
            crowd: false,
        };
        Marks { objects: self.objects.iter().map(mark).collect(), size: self.size, missing: false }
    }
}

/// The boxes of a file's bytes.
pub(super) fn marks(bytes: &[u8]) -> Result<Marks, String> {
    let file = of_bytes(bytes)?;
    let names: BTreeSet<String> = file.objects.iter().map(|(name, _)| name.clone()).collect();
    Ok(file.marks(&names.into_iter().zip(0..).collect()))
}

pub(super) fn read(root: &Path, tree: &Tree, first: usize) -> Boxes {
    let mut boxes = Boxes::default();
    let mut names: BTreeSet<String> = BTreeSet::new();
    let mut read: Vec<(PathBuf, Result<File, String>)> = Vec::new();
    for path in tree.files.iter().filter(|file| extension(file) == "xml") {
        let file = one(path);
        if let Ok(file) = &file {
            names.extend(file.objects.iter().map(|(name, _)| name.clone()));
        }
        read.push((path.clone(), file));
    }
    boxes.names = names.into_iter().collect();
    let numbers: HashMap<String, u32> = boxes.names.iter().cloned().zip(0..).collect();
    let (lists, mut pictures) = (lists(tree), Pictures::new(tree));
    let mut line = 0;
    for (path, file) in read {
        let folder = path.parent().unwrap_or(root).to_path_buf();
        if boxes.groups.last() != Some(&folder) {
            boxes.groups.push(folder);
            line = 0;
        }
        line += 1;
        let part = part_on_the_way(&path, root).or_else(|| lists.get(&stem(&path)).copied());
        let group = first + boxes.groups.len() - 1;
        let row = Found { part, group, line, ..Found::default() };
        let relative = |path: &Path| path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned();
        boxes.found.push(match file {
            Err(message) => {
                let bad = Bad::new("a label file that can't be read", message);
                Found { content: Content::Bad(bad), path: relative(&path), ..row }
            }
            Ok(file) => {
                let picture = pictures.find(&path, &file.picture);
                let marks = Some(file.marks(&numbers));
                Found { path: relative(&picture), content: Content::File(picture), marks, ..row }
            }
        });
        boxes.files.push(path);
    }
    boxes
}

fn one(path: &Path) -> Result<File, String> {
    of_bytes(&std::fs::read(path).map_err(|e| format!("it can't be read: {e}"))?)
}

fn of_bytes(bytes: &[u8]) -> Result<File, String> {
    let expected = "Pascal VOC XML";
    if bytes.trim_ascii_start().first().is_none_or(|b| *b != b'<' && *b != 0xef) {
        return Err(other_format(bytes, expected));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    let document = Document::parse(text).map_err(|e| format!("expected {expected}: {e}"))?;
    let top = document.root_element();
    if top.tag_name().name() != "annotation" {
        let found = top.tag_name().name();
        return Err(format!("expected {expected}, which begins with <annotation>, found <{found}>"));
    }
    let number = |node: Node, name: &str| {
        child(node, name).and_then(|t| t.parse::<f64>().ok()).filter(|v| v.is_finite())
    };
    let size = top.children().find(|n| n.has_tag_name("size")).and_then(|size| {
        let (height, width) = (number(size, "height")?, number(size, "width")?);
        // Some programs write zeros where they don't know.
        (height >= 1.0 && width >= 1.0).then_some([height as usize, width as usize])
    });
    let (mut objects, mut wrong) = (Vec::new(), Vec::new());
    for object in top.children().filter(|n| n.has_tag_name("object")) {
        let line = document.text_pos_at(object.range().start).row;
        let name = child(object, "name").unwrap_or_default().to_owned();
        if name.is_empty() {
            wrong.push(format!("line {line}: an object has no <name>"));
            continue;
        }
        let bounds = object.children().find(|n| n.has_tag_name("bndbox"));
        let sides = bounds.map(|b| ["xmin", "ymin", "xmax", "ymax"].map(|key| number(b, key)));
        match sides {
            Some([Some(left), Some(top), Some(right), Some(bottom)]) => {
                objects.push((name, [left - 1.0, top - 1.0, right, bottom]));
            }
            _ => wrong.push(format!(
                "line {line}: expected a <bndbox> with numbers as xmin, ymin, xmax and ymax for `{name}`"
            )),
        }
    }
    if !wrong.is_empty() {
        return Err(wrong.join("; "));
    }
    Ok(File { picture: child(top, "filename").unwrap_or_default().to_owned(), size, objects })
}

fn child<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    node.children().find(|n| n.has_tag_name(name))?.text().map(str::trim)
}

/// The splits that `ImageSets/Main/train.txt` and others give, by the pictures' names without ending.
fn lists(tree: &Tree) -> HashMap<String, Part> {
    let mut parts = HashMap::new();
    let of_sets = |file: &&PathBuf| {
        extension(file) == "txt" && file.parent().is_some_and(|folder| folder.ends_with("ImageSets/Main"))
    };
    for file in tree.files.iter().filter(of_sets) {
        // Lists of single classes are called `cat_train.txt`.
        let name = stem(file);
        let Some(part) = part_in(&name).filter(|_| !name.contains('_')) else { continue };
        let text = std::fs::read_to_string(file).unwrap_or_default();
        parts.extend(text.lines().filter_map(|l| Some((l.split_whitespace().next()?.to_owned(), part))));
    }
    parts
}

/// Where the pictures of label files are.
struct Pictures<'a> {
    tree: &'a Tree,
    /// Pictures by folder and name without ending.
    by_name: HashMap<(PathBuf, String), PathBuf>,
}

impl<'a> Pictures<'a> {
    fn new(tree: &'a Tree) -> Self {
        let named = tree.files.iter().filter(|file| named_like_a_picture(&file.to_string_lossy()));
        let by_name =
            named.map(|file| ((file.parent().unwrap_or(file).to_path_buf(), stem(file)), file.clone()));
        Self { tree, by_name: by_name.collect() }
    }

    /// The picture of a label file, by the name that it says, or else by its own; where there is none, the one beside.
    fn find(&mut self, label: &Path, name: &str) -> PathBuf {
        let own = label.parent().unwrap_or(label).to_path_buf();
        let mut folders = vec![own.clone()];
        if let Some(above) = own.parent() {
            folders.extend(["JPEGImages", "images"].map(|folder| above.join(folder)));
            folders.push(above.to_path_buf());
        }
        let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
        let by_name = folders.iter().map(|f| f.join(name)).find(|p| !name.is_empty() && self.tree.has(p));
        let by_stem = || folders.iter().find_map(|f| self.by_name.get(&(f.clone(), stem(label))).cloned());
        by_name.or_else(by_stem).unwrap_or_else(|| {
            own.join(if name.is_empty() { format!("{}.jpg", stem(label)) } else { name.to_owned() })
        })
    }
}
