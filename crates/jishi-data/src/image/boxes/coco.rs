//! COCO JSON (Lin et al. 2014): `images`, `annotations` with `bbox = [left, top, width, height]`, `categories`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use jishi_recipe::Problem;
use serde::Deserialize;

use super::super::found::{Content, Found};
use super::files::{part_in, stem};
use super::{Boxes, Fault, Mark, Marks, Place, other_format};

#[derive(Deserialize)]
struct File {
    images: Vec<Image>,
    #[serde(default)]
    annotations: Vec<Annotation>,
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct Image {
    id: i64,
    file_name: String,
    width: Option<usize>,
    height: Option<usize>,
}

#[derive(Deserialize)]
struct Annotation {
    id: Option<i64>,
    image_id: i64,
    category_id: i64,
    #[serde(default)]
    bbox: Vec<f64>,
    area: Option<f64>,
    #[serde(default)]
    iscrowd: u8,
}

#[derive(Deserialize)]
struct Category {
    id: i64,
    name: String,
}

/// Reads files of one folder; each may be a split by its name.
pub(super) fn read(files: &[PathBuf], root: &Path, first: usize) -> Boxes {
    let mut boxes = Boxes::default();
    for file in files {
        match one(file) {
            Ok(content) => add(content, file, root, first, &mut boxes),
            Err(problem) => boxes.problems.push(problem),
        }
    }
    boxes
}

fn one(file: &Path) -> Result<File, Problem> {
    let bytes =
        std::fs::read(file).map_err(|e| Problem::new(format!("this file can't be read: {e}")).file(file))?;
    of_bytes(&bytes, file)
}

fn of_bytes(bytes: &[u8], file: &Path) -> Result<File, Problem> {
    serde_json::from_slice(bytes).map_err(|e| {
        let start = bytes.trim_ascii_start().first();
        if start != Some(&b'{') {
            return Problem::new(other_format(bytes, "COCO JSON")).file(file);
        }
        let line = e.line().max(1) as u64;
        let what = e.to_string();
        let what = what.split(" at line").next().unwrap_or_default();
        Problem::new(format!("this is no COCO JSON: {what}")).file(file).line(line).help(
            "expected `images` (`id`, `file_name`), `annotations` (`image_id`, `category_id`, `bbox`) and `categories` (`id`, `name`)",
        )
    })
}

/// The boxes of a file's bytes by picture.
pub(super) fn marks(bytes: &[u8]) -> Result<Vec<Marks>, Problem> {
    let (file, mut boxes) = (Path::new("boxes.json"), Boxes::default());
    add(of_bytes(bytes, file)?, file, Path::new(""), 0, &mut boxes);
    Ok(boxes.found.into_iter().filter_map(|found| found.marks).collect())
}

fn add(content: File, file: &Path, root: &Path, first: usize, boxes: &mut Boxes) {
    let File { images, annotations, mut categories } = content;
    boxes.files.push(file.to_path_buf());
    boxes.groups.push(file.to_path_buf());
    let group = first + boxes.groups.len() - 1;
    let mut fault = |reason: &'static str, message: String, line: usize| {
        let line = line as u64 + 1;
        boxes.faults.push(Fault { reason, message, file: file.to_path_buf(), line });
    };
    categories.sort_by_key(|category| category.id);
    let mut classes: HashMap<i64, u32> = HashMap::new();
    for (i, category) in categories.iter().enumerate() {
        let name = category.name.trim();
        let known = boxes.names.iter().position(|known| known == name);
        let class = known.unwrap_or_else(|| {
            boxes.names.push(name.to_owned());
            boxes.names.len() - 1
        });
        if classes.insert(category.id, class as u32).is_some() {
            fault("a category twice", format!("there are two categories with the id {}", category.id), i);
        }
    }
    let mut numbers: HashMap<i64, usize> = HashMap::new();
    let mut marks: Vec<Marks> = Vec::with_capacity(images.len());
    for (i, image) in images.iter().enumerate() {
        if numbers.insert(image.id, i).is_some() {
            fault("an image id twice", format!("there are two images with the id {}", image.id), i);
        }
        let size = image.height.zip(image.width).map(|(height, width)| [height, width]);
        marks.push(Marks { size, ..Marks::default() });
    }
    for (i, annotation) in annotations.iter().enumerate() {
        let name = annotation.id.map_or(format!("annotation {}", i + 1), |id| format!("annotation {id}"));
        let Some(&image) = numbers.get(&annotation.image_id) else {
            let message = format!("{name} is of image {}, which is not in `images`", annotation.image_id);
            fault("a box of an unknown image", message, i);
            continue;
        };
        let Some(&class) = classes.get(&annotation.category_id) else {
            let message =
                format!("{name} is of category {}, which is not in `categories`", annotation.category_id);
            fault("a box of an unknown category", message, i);
            continue;
        };
        let (&[left, top, width, height], true) =
            (annotation.bbox.as_slice(), annotation.bbox.iter().all(|v| v.is_finite()))
        else {
            let message =
                format!("{name}: expected `bbox` = [left, top, width, height], found {:?}", annotation.bbox);
            fault("a box that is none", message, i);
            continue;
        };
        marks[image].objects.push(Mark {
            class,
            place: Place::Pixels([left, top, left + width, top + height]),
            area: annotation.area,
            crowd: annotation.iscrowd != 0,
        });
    }
    let (part, mut place) = (part_in(&stem(file)), Roots::of(file));
    boxes.found.extend(images.into_iter().zip(marks).zip(1..).map(|((image, marks), line)| {
        let path = place.find(&image.file_name);
        Found {
            path: path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned(),
            content: Content::File(path),
            part,
            group,
            line,
            marks: Some(marks),
            ..Found::default()
        }
    }));
}

/// Folders that the names of a file's pictures may start from.
struct Roots(Vec<PathBuf>);

impl Roots {
    fn of(file: &Path) -> Self {
        let name = stem(file);
        let part = name.rsplit_once('_').map_or(name.as_str(), |(_, part)| part);
        let own = file.parent().map(Path::to_path_buf).unwrap_or_default();
        let mut roots = vec![own.clone()];
        for base in [Some(own.as_path()), own.parent()].into_iter().flatten() {
            roots.push(base.join("images"));
            roots.push(base.join("images").join(part));
            roots.push(base.join(part));
            roots.push(base.join("JPEGImages"));
            roots.push(base.to_path_buf());
        }
        Self(roots)
    }

    /// The first that is there; where none is, that beside the file.
    fn find(&mut self, name: &str) -> PathBuf {
        let Some(found) = self.0.iter().position(|root| root.join(name).is_file()) else {
            return self.0.first().map(|root| root.join(name)).unwrap_or_default();
        };
        // Most pictures of a file are in one folder.
        self.0.swap(0, found);
        self.0[0].join(name)
    }
}
