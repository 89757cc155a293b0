#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::fs;
use std::path::Path;

use jishi_recipe::{Augment, Data, Image, Size, TaskName};
use serde_json::json;

use super::*;
use crate::DataError;
use crate::image::{Augmentation, ImageCorpus, Pictures, Preparation};
use crate::ledger::Action;

fn png(width: u32, height: u32) -> Vec<u8> {
    let picture = image::RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 9]));
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn write(dir: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn try_read(dir: &Path, source: &str, more: serde_json::Value) -> Result<ImageCorpus, DataError> {
    let mut data = json!({"source": source, "split": {"validation": 0.0, "test": 0.0}});
    data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let data: Data = serde_json::from_value(data).unwrap();
    ImageCorpus::read(&data, &Image::default(), TaskName::Detection, dir)
}

fn read(dir: &Path, source: &str) -> ImageCorpus {
    try_read(dir, source, json!({})).unwrap()
}

fn refused(dir: &Path, source: &str) -> String {
    try_read(dir, source, json!({})).unwrap_err().to_string()
}

/// A class's name and a box.
type Named = (String, [f64; 4]);

/// The class's name and the box of every object of each picture.
fn found(corpus: &ImageCorpus) -> Vec<(String, Vec<Named>)> {
    let (labels, _) = corpus.labels.as_ref().unwrap();
    let of = |o: &Object| (labels.names[o.class as usize].clone(), o.place);
    let objects = corpus.objects.as_ref().unwrap().iter();
    let mut all: Vec<_> = corpus
        .paths
        .iter()
        .zip(objects)
        .map(|(path, objects)| {
            let name = Path::new(path).file_name().unwrap().to_string_lossy().into_owned();
            (name, objects.iter().map(of).collect())
        })
        .collect();
    all.sort_by(|a: &(String, _), b: &(String, _)| a.0.cmp(&b.0));
    all
}

/// The same two pictures in all three formats.
fn three(dir: &Path) {
    for folder in ["coco/images", "voc/JPEGImages", "yolo"] {
        write(dir, &format!("{folder}/a.png"), png(40, 20));
        write(dir, &format!("{folder}/b.png"), png(20, 40));
    }
    let coco = json!({
        "images": [{"id": 7, "file_name": "a.png", "width": 40, "height": 20}, {"id": 9, "file_name": "b.png"}],
        "categories": [{"id": 3, "name": "dog"}, {"id": 1, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 1, "bbox": [4, 2, 16, 8], "area": 100, "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 3, "bbox": [0, 0, 40, 20]},
            {"id": 3, "image_id": 9, "category_id": 3, "bbox": [5, 10, 10, 20], "iscrowd": 1}
        ]
    });
    write(dir, "coco/annotations/instances_all.json", coco.to_string());
    let object = |name: &str, [l, t, r, b]: [u32; 4]| {
        format!(
            "<object><name>{name}</name><bndbox><xmin>{l}</xmin><ymin>{t}</ymin><xmax>{r}</xmax><ymax>{b}</ymax></bndbox></object>"
        )
    };
    let voc = |name: &str, objects: String| {
        format!("<?xml version=\"1.0\"?>\n<annotation><filename>{name}</filename>{objects}</annotation>")
    };
    let both = object("cat", [5, 3, 20, 10]) + &object("dog", [1, 1, 40, 20]);
    write(dir, "voc/Annotations/a.xml", voc("a.png", both));
    write(dir, "voc/Annotations/b.xml", voc("b.png", object("dog", [6, 11, 15, 30])));
    write(dir, "yolo/classes.txt", "cat\ndog\n");
    write(dir, "yolo/a.txt", "0 0.3 0.3 0.4 0.4\n1 0.5 0.5 1 1\n");
    write(dir, "yolo/b.txt", "1 0.5 0.5 0.5 0.5\n");
}

#[test]
fn three_formats_say_the_same() {
    let dir = tempfile::tempdir().unwrap();
    three(dir.path());
    let sources = ["coco", "coco/annotations/instances_all.json", "voc", "yolo"];
    let all: Vec<_> = sources.map(|source| found(&read(dir.path(), source))).into();
    let expected = vec![
        (
            "a.png".to_owned(),
            vec![("cat".to_owned(), [4.0, 2.0, 20.0, 10.0]), ("dog".to_owned(), [0.0, 0.0, 40.0, 20.0])],
        ),
        ("b.png".to_owned(), vec![("dog".to_owned(), [5.0, 10.0, 15.0, 30.0])]),
    ];
    for (source, found) in sources.iter().zip(all) {
        let near = |a: [f64; 4], b: [f64; 4]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9);
        for ((name, objects), (expected, boxes)) in found.iter().zip(&expected) {
            assert_eq!((name, objects.len()), (expected, boxes.len()), "{source}");
            assert!(
                objects.iter().zip(boxes).all(|(a, b)| a.0 == b.0 && near(a.1, b.1)),
                "{source}: {objects:?}"
            );
        }
    }
    let coco = read(dir.path(), "coco");
    let objects = coco.objects.as_ref().unwrap();
    assert_eq!((objects[0][0].area, objects[0][1].area, objects[1][0].crowd), (100.0, 800.0, true));
    assert_eq!(coco.sizes, [[20, 40], [40, 20]]);
    assert_eq!(coco.labels_of(&[0, 1]).unwrap().counts, [1, 2]);
    assert_eq!(coco.digests.len(), 1);
    // Any of the files makes another hash.
    write(dir.path(), "yolo/b.txt", "1 0.5 0.5 0.5 0.25\n");
    let (before, after) = (read(dir.path(), "voc"), read(dir.path(), "yolo"));
    three(dir.path());
    assert_eq!(before.digests, read(dir.path(), "voc").digests);
    assert_ne!(after.digests, read(dir.path(), "yolo").digests);
}

#[test]
fn parts_are_known_by_files_folders_and_lists() {
    let dir = tempfile::tempdir().unwrap();
    let (root, one) = (dir.path(), "0 0.5 0.5 0.5 0.5\n");
    for (part, name) in [("train", "a"), ("train", "b"), ("valid", "c"), ("test", "d")] {
        write(root, &format!("yolo/{part}/images/{name}.png"), png(8, 8));
        write(root, &format!("yolo/{part}/labels/{name}.txt"), one);
        write(root, &format!("other/images/{part}/{name}.png"), png(8, 8));
        write(root, &format!("other/labels/{part}/{name}.txt"), one);
    }
    write(
        root,
        "yolo/data.yaml",
        "train: ../train/images # pictures\nval: ../valid/images\ntest: ../test/images\n\nnc: 1\nnames: ['leaf']\n",
    );
    write(root, "other/data.yaml", "path: .\nnames:\n  0: leaf\n  1: twig\n");
    for source in ["yolo", "yolo/data.yaml", "other"] {
        let corpus = read(root, source);
        let lengths = corpus.rows.each_ref().map(Vec::len);
        assert_eq!((lengths, corpus.ready_made), ([2, 1, 1], true), "{source}");
        assert_eq!(corpus.labels.as_ref().unwrap().0.names[0], "leaf");
    }
    write(root, "other/labels/test/d.txt", "1 0.5 0.5 0.5 0.5\n");
    let said = refused(root, "other");
    assert!(
        said.contains("class `twig` (1 pictures) is in the test split and not in the training"),
        "{said}"
    );
    let coco = |images: &[&str]| {
        let list = |(i, name): (usize, &&str)| json!({"id": i, "file_name": name});
        let images: Vec<_> = images.iter().enumerate().map(list).collect();
        let boxes: Vec<_> = (0..images.len())
            .map(|i| json!({"image_id": i, "category_id": 0, "bbox": [1, 1, 3, 3]}))
            .collect();
        json!({"images": images, "annotations": boxes, "categories": [{"id": 0, "name": "leaf"}]}).to_string()
    };
    for name in ["a", "b", "c"] {
        write(root, &format!("coco/train2017/{name}.png"), png(8, 8));
    }
    write(root, "coco/annotations/instances_train2017.json", coco(&["a.png", "b.png"]));
    write(root, "coco/annotations/instances_test2017.json", coco(&["../train2017/c.png"]));
    write(root, "coco/about.json", "{\"licence\": \"none\"}");
    assert_eq!(read(root, "coco").rows.each_ref().map(Vec::len), [2, 0, 1]);
}

#[test]
fn boxes_are_cut_and_left_out_with_a_word() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    write(root, "a.png", png(40, 20));
    write(root, "none.png", png(40, 20));
    write(root, "classes.txt", "cat");
    write(
        root,
        "a.txt",
        "0 0.9 0.5 0.4 0.4\n0 0.5 0.5 0 0.1\n0 0.5 0.5 -0.1 0.1\n0 1.5 0.5 0.1 0.1\n0 0.5 0.5 0.5 0.5\n",
    );
    let corpus = read(root, ".");
    let objects = &corpus.objects.as_ref().unwrap()[0];
    assert_eq!(objects.len(), 2);
    assert_eq!(objects[0].place.map(f64::round), [28.0, 6.0, 40.0, 14.0]);
    let entry = |reason: &str| {
        let found = corpus.ledger.entries.iter().find(|e| e.action == Action::Changed && e.reason == reason);
        found.unwrap_or_else(|| panic!("{reason}: {:?}", corpus.ledger.entries)).rows
    };
    assert_eq!((entry(CUT), entry(EMPTY), entry(OUTSIDE), entry(NO_FILE)), (1, 2, 1, 1));
    let summary = corpus.ledger.summary();
    assert_eq!((summary.rows_read, summary.used, summary.dropped), (2, 2, 0));
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    three(root);
    let coco = json!({
        "images": [{"id": 1, "file_name": "a.png", "width": 41, "height": 20}, {"id": 2, "file_name": "lost.png"}, {"id": 3, "file_name": "b.png"}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": 10, "image_id": 77, "category_id": 1, "bbox": [1, 1, 2, 2]},
            {"id": 11, "image_id": 3, "category_id": 5, "bbox": [1, 1, 2, 2]},
            {"id": 12, "image_id": 3, "category_id": 1, "bbox": [1, 1, 2]},
            {"id": 13, "image_id": 3, "category_id": 1, "bbox": [1, 1, 9, 9]}
        ]
    });
    write(root, "coco/annotations/instances_all.json", coco.to_string());
    let said = refused(root, "coco");
    for words in [
        "annotation 10 is of image 77",
        "annotation 11 is of category 5",
        "annotation 12: expected `bbox`",
        "there is no file",
        "lost.png",
        "its labels are of 20 × 41 pixels, and it has 20 × 40",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    // What can be used is, where the recipe says so.
    let kept = try_read(root, "coco", json!({"bad_rows": "drop", "max_dropped": 1.0})).unwrap();
    assert_eq!((kept.pictures.len(), kept.objects.as_ref().unwrap()[0].len()), (1, 1));
    assert_eq!(kept.ledger.summary().dropped, 2);

    write(root, "voc/Annotations/a.xml", "0 0.5 0.5 0.2 0.2\n");
    write(root, "voc/Annotations/b.xml", "<annotation><object><name>dog</name></object></annotation>");
    let said = refused(root, "voc");
    for words in ["a.xml", "this looks like YOLO text", "line 1: expected a <bndbox>"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    write(root, "yolo/a.txt", "<annotation></annotation>");
    write(
        root,
        "yolo/b.txt",
        "2 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2\n0 12 30 40 50\n0 0.1 0.1 0.2 0.2 0.9\nx 1 1 1 1\n",
    );
    let said = refused(root, "yolo");
    for words in [
        "a.txt",
        "this looks like Pascal VOC XML",
        "line 1: expected a class of 0 to 1, found 2",
        "line 2: expected five numbers",
        "line 3: expected shares",
        "and 2 more lines",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    fs::remove_file(root.join("yolo/classes.txt")).unwrap();
    assert!(refused(root, "yolo").contains("classes.txt"));
    write(root, "coco/annotations/instances_all.json", "0 0.5 0.5 0.2 0.2\n");
    assert!(refused(root, "coco").contains("this looks like YOLO text"));
    write(root, "coco/annotations/instances_all.json", "{\"images\": [],\n \"annotations\": 3}");
    assert!(refused(root, "coco").contains("no COCO JSON"));
    write(root, "plain/cats/a.png", png(4, 4));
    assert!(refused(root, "plain").contains("no boxes in this folder"));
    assert!(refused(root, "nowhere").contains("no such file"));
}

/// A picture whose left half is dark, with a box around something bright in the right half.
fn scene(augment: &[Augment], mosaic: f64) -> Scenes {
    let (height, width) = (24, 32);
    let bright = |y: usize, x: usize| (5..11).contains(&y) && (18..29).contains(&x);
    let pixels = (0..height * width).flat_map(|i| [if bright(i / width, i % width) { 255 } else { 0 }; 3]);
    let picture = crate::image::OwnedPicture { height, width, channels: 3, pixels: pixels.collect() };
    let pictures = Pictures::of(jishi_recipe::Channels::Rgb, &[picture]);
    let image = Image {
        size: Some(Size::Sides([height, width])),
        normalize: Some(jishi_recipe::Normalize::None),
        augment: augment.to_vec(),
        ..Image::default()
    };
    let preparation = Preparation::fit(&for_boxes(&image), &pictures, &[0], |_| "").unwrap();
    let object = Object { class: 0, place: [18.0, 5.0, 29.0, 11.0], area: 66.0, crowd: false };
    Scenes {
        pictures: std::sync::Arc::new(pictures),
        sizes: vec![[height, width]],
        objects: vec![vec![object]],
        augmentation: Augmentation::new(&image, &preparation),
        preparation,
        mosaic,
    }
}

/// What is bright of a scene: left, top, right and bottom.
fn bright(scene: &Scene, width: usize) -> [f64; 4] {
    let mut bounds = [f64::INFINITY, f64::INFINITY, 0.0, 0.0];
    for (i, pixel) in scene.values.chunks_exact(3).enumerate().filter(|(_, pixel)| pixel[0] > 0.5) {
        let _ = pixel;
        let (x, y) = ((i % width) as f64, (i / width) as f64);
        bounds = [bounds[0].min(x), bounds[1].min(y), bounds[2].max(x + 1.0), bounds[3].max(y + 1.0)];
    }
    bounds
}

#[test]
fn boxes_follow_what_is_in_them() {
    let of = |value: serde_json::Value| -> Vec<Augment> { serde_json::from_value(value).unwrap() };
    let cases = [
        json!([]),
        json!([{"name": "horizontal-flip"}, {"name": "vertical-flip"}]),
        json!([{"name": "random-crop", "padding": 6}]),
        json!([{"name": "random-resized-crop", "scale": [0.5, 1.0]}]),
        json!([{"name": "affine", "degrees": 0.0, "translate": 0.2, "scale": [0.7, 1.3]}, {"name": "horizontal-flip"}]),
        json!([{"name": "color-jitter", "brightness": 0.1}, {"name": "affine", "degrees": 0.0, "translate": 0.1}, {"name": "vertical-flip"}]),
    ];
    let mut seed = 1_u32;
    let mut draw = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed ^ (seed >> 15)
    };
    for case in cases {
        let scenes = scene(&of(case.clone()), 0.0);
        let mut seen = 0;
        for _ in 0..40 {
            let scene = scenes.changed(0, &[0], &mut draw);
            let Some(object) = scene.objects.first() else { continue };
            seen += 1;
            let bright = bright(&scene, 32);
            // Edges that lie between pixels are half bright.
            let near = object.place.iter().zip(bright).all(|(a, b)| (a - b).abs() <= 1.01);
            assert!(near, "{case}: {:?} {bright:?}", object.place);
        }
        assert!(seen > 20, "{case}");
    }
    // A turned box is the upright one around it.
    let scenes = scene(&of(json!([{"name": "rotate", "degrees": 30.0}])), 0.0);
    for _ in 0..20 {
        let scene = scenes.changed(0, &[0], &mut draw);
        let (Some(object), bright) = (scene.objects.first(), bright(&scene, 32)) else { continue };
        let [left, top, right, bottom] = object.place;
        assert!(
            left <= bright[0] + 1.0
                && top <= bright[1] + 1.0
                && right >= bright[2] - 1.0
                && bottom >= bright[3] - 1.0
        );
        assert!((right - left) < 2.0 * (bright[2] - bright[0]));
    }
}

#[test]
fn a_mosaic_has_the_boxes_of_its_quarters() {
    let scenes = scene(&[], 1.0);
    let mut seed = 7_u32;
    let mut draw = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed ^ (seed >> 15)
    };
    let mut most = 0;
    for _ in 0..60 {
        let scene = scenes.changed(0, &[0], &mut draw);
        most = most.max(scene.objects.len());
        for object in &scene.objects {
            let [left, top, right, bottom] = object.place.map(|v| v as usize);
            let all = (top..bottom).flat_map(|y| (left..right).map(move |x| (y * 32 + x) * 3));
            assert!(
                all.clone().count() > 0 && all.into_iter().all(|at| scene.values[at] > 0.99),
                "{object:?}"
            );
        }
    }
    assert!(most >= 2);
}

#[test]
fn boxes_find_their_way_back_from_any_size() {
    let dir = tempfile::tempdir().unwrap();
    three(dir.path());
    for fit in ["pad", "stretch", "crop"] {
        let data: Data =
            serde_json::from_value(json!({"source": "coco", "split": {"validation": 0.0, "test": 0.0}}))
                .unwrap();
        let image: Image = serde_json::from_value(json!({"size": [64, 32], "fit": fit})).unwrap();
        let corpus = ImageCorpus::read(&data, &image, TaskName::Detection, dir.path()).unwrap();
        let preparation = Preparation::fit(&for_boxes(&image), &corpus.pictures, &[0], |_| "").unwrap();
        for (i, size) in corpus.sizes.iter().enumerate() {
            assert_eq!(corpus.pictures.size(i), [64, 32]);
            let way = preparation.way(*size);
            let place = corpus.objects.as_ref().unwrap()[i][0].place;
            way.back(way.place(place)).iter().zip(place).for_each(|(a, b)| assert!((a - b).abs() < 1e-9));
            let whole = way.place([0.0, 0.0, size[1] as f64, size[0] as f64]);
            match fit {
                "stretch" => assert_eq!(whole, [0.0, 0.0, 32.0, 64.0]),
                "pad" => {
                    assert!(whole[0] >= 0.0 && whole[3] <= 64.0 && (whole[2] - whole[0] - 32.0).abs() < 1e-9)
                }
                _ => assert!(whole[0] <= 0.0 && whole[1] <= 0.0 && whole[2] >= 32.0 && whole[3] >= 64.0),
            }
        }
    }
}

mod any_bytes {
    use proptest::prelude::*;

    use super::*;

    const SEEDS: [(LabelFormat, &str); 3] = [
        (
            LabelFormat::Coco,
            r#"{"images": [{"id": 1, "file_name": "a.png"}], "categories": [{"id": 1, "name": "cat"}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [4, 2, 16, 8], "area": 100}]}"#,
        ),
        (
            LabelFormat::Voc,
            "<annotation><size><width>9</width><height>7</height></size><object><name>cat</name><bndbox><xmin>1</xmin>\
             <ymin>2</ymin><xmax>5</xmax><ymax>6</ymax></bndbox></object></annotation>",
        ),
        (LabelFormat::Yolo, "0 0.5 0.5 0.2 0.4\n1 0.1 0.9 0.3 0.3\n"),
    ];

    /// What is read lies on the picture and has a size.
    fn sound(format: LabelFormat, bytes: &[u8]) -> Result<usize, TestCaseError> {
        let names = ["cat".to_owned(), "dog".to_owned()];
        let Ok(objects) = boxes_of(format, bytes, &names, [48, 64]) else { return Ok(0) };
        for Object { class, place: [left, top, right, bottom], area, .. } in &objects {
            prop_assert!(0.0 <= *left && left < right && *right <= 64.0, "{objects:?}");
            prop_assert!(0.0 <= *top && top < bottom && *bottom <= 48.0, "{objects:?}");
            prop_assert!(*area > 0.0 && (*class < 2 || format != LabelFormat::Yolo), "{objects:?}");
        }
        Ok(objects.len())
    }

    #[test]
    fn whole_files_have_their_boxes() {
        for ((format, text), n) in SEEDS.into_iter().zip([1, 1, 2]) {
            assert_eq!(sound(format, text.as_bytes()).unwrap(), n, "{format:?}");
        }
    }

    proptest! {
        #[test]
        fn changed_files_are_refused_or_sound(
            seed in 0..3usize,
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            cut in any::<prop::sample::Index>(),
            numbers in prop::collection::vec(prop_oneof![any::<f64>(), -2.0..3.0f64], 4),
        ) {
            let (format, text) = SEEDS[seed];
            let mut bytes = text.as_bytes().to_vec();
            for (place, byte) in &changes {
                let at = place.index(bytes.len());
                bytes[at] = *byte;
            }
            sound(format, &bytes)?;
            bytes.truncate(cut.index(bytes.len() + 1));
            sound(format, &bytes)?;
            let [a, b, c, d] = numbers[..] else { unreachable!("four numbers") };
            sound(LabelFormat::Yolo, format!("1 {a} {b} {c} {d}").as_bytes())?;
            let text = SEEDS[1].1.replace(">1<", &format!(">{a}<")).replace(">5<", &format!(">{c}<"));
            sound(LabelFormat::Voc, text.replace(">6<", &format!(">{d}<")).as_bytes())?;
            let list = format!("[{a:e}, {b:e}, {c:e}, {d:e}]");
            sound(LabelFormat::Coco, SEEDS[0].1.replace("[4, 2, 16, 8]", &list).as_bytes())?;
        }
    }
}
