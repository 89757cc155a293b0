#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, LumaA, Rgb, Rgba};
use serde_json::json;

use super::*;

fn put(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

fn encoded(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn png(width: u32, height: u32, red: u8) -> Vec<u8> {
    encoded(image::RgbImage::from_pixel(width, height, Rgb([red, 0, 0])), ImageFormat::Png)
}

#[test]
fn class_folders_are_counted_measured_and_compared() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for (part, n) in [("train", 4), ("test", 2)] {
        for class in ["cat", "dog"] {
            for i in 0..n {
                let red = (i + 10 * class.len() as u32 + if class == "cat" { 0 } else { 90 } + 7 * n) as u8;
                put(&root.join(format!("{part}/{class}/{i}.png")), &png(8 + i, 6, red));
            }
        }
    }
    // Twice in a class, in another class, and in both parts: the test split is read first.
    for again in ["train/cat/again.png", "train/dog/wrong.png", "test/cat/seen.png"] {
        put(&root.join(again), &png(8, 6, 58));
    }
    assert_eq!(png(8, 6, 58), std::fs::read(root.join("train/cat/0.png")).unwrap());
    put(&root.join("test/fox/0.png"), &png(3, 90, 1));
    put(&root.join("train/cat/cut.png"), &png(40, 40, 9)[..60]);
    put(&root.join("train/dog/page.jpg"), b"<!doctype html>no such picture");
    put(&root.join("train/dog/notes.txt"), b"notes");
    std::fs::create_dir(root.join("train/empty")).unwrap();
    assert!(is_pictures(root));
    let found = inspect(root).unwrap();
    assert_eq!((found.layout, found.pictures, found.broken, found.other_files), ("class folders", 16, 2, 1));
    let of = |name: &str| found.classes.iter().find(|class| class.name == name).unwrap();
    assert_eq!((of("cat").pictures, of("dog").pictures, of("fox").pictures), (8, 7, 1));
    assert_eq!((of("cat").parts["train"], of("cat").parts["test"]), (5, 3));
    assert_eq!(found.parts, [("test", 6), ("train", 10)].into());
    assert_eq!(found.height, Some(Spread { min: 6.0, median: 6.0, max: 90.0 }));
    assert_eq!(found.width, Some(Spread { min: 3.0, median: 8.0, max: 11.0 }));
    assert_eq!((found.sizes, &found.formats[..]), (5, &[("PNG".to_owned(), 16)][..]));
    let twice = &found.duplicates;
    assert_eq!((twice.pictures, twice.of_other_classes, twice.in_other_parts), (3, 1, 3));
    let said = found.to_string();
    for words in [
        "16 pictures, 3 classes; 2 can't be read; 1 other file is no picture",
        "6 … 6 … 90",
        "3 … 8 … 11, 5 sizes",
        "3 pictures repeat an earlier one, 1 with another class, 3 in another part",
        "train/cat/cut.png: PNG: the file is cut short",
        "train/dog/page.jpg: expected a PNG",
        "a web page",
        "the class folder `empty` is empty",
        "class `fox` (1 pictures) is in the test split and not in the training split",
        "4 problems:",
    ] {
        assert!(said.contains(words), "{words}:\n{said}");
    }
}

#[test]
fn kinds_of_pixels_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let (side, format) = (4, ImageFormat::Png);
    let all: [(&str, Vec<u8>); 6] = [
        ("grey", encoded(ImageBuffer::from_pixel(side, side, Luma([7_u8])), format)),
        ("grey, 16-bit", encoded(ImageBuffer::from_pixel(side, side, Luma([700_u16])), format)),
        ("grey, alpha", encoded(ImageBuffer::from_pixel(side, side, LumaA([7_u8, 9])), format)),
        ("colour, alpha", encoded(ImageBuffer::from_pixel(side, side, Rgba([7_u8, 9, 1, 3])), format)),
        ("colour, 16-bit", encoded(ImageBuffer::from_pixel(side, side, Rgb([7_u16, 9, 1])), format)),
        ("palette", encoded(ImageBuffer::from_pixel(side, side, Rgba([7_u8, 9, 1, 255])), ImageFormat::Gif)),
    ];
    for (i, (_, bytes)) in all.iter().enumerate() {
        put(&dir.path().join(format!("a/{i}.img.png")), bytes);
    }
    let found = inspect(dir.path()).unwrap();
    let mut expected: Vec<(String, u64)> = all.iter().map(|(mode, _)| ((*mode).to_owned(), 1)).collect();
    expected.sort();
    assert_eq!(found.modes, expected);
    assert_eq!(found.formats, [("PNG".to_owned(), 5), ("GIF".to_owned(), 1)]);
}

#[test]
fn boxes_are_counted_and_what_is_wrong_with_them_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    put(&root.join("a.png"), &png(200, 100, 1));
    put(&root.join("b.png"), &png(200, 100, 2));
    put(&root.join("none.png"), &png(200, 100, 3));
    put(&root.join("classes.txt"), b"cat\ndog\n");
    put(&root.join("a.txt"), b"0 0.25 0.5 0.1 0.2\n1 0.5 0.5 0.8 0.9\n0 0.95 0.5 0.2 0.2\n0 2 0.5 0.1 0.1\n");
    put(&root.join("b.txt"), b"1 0.5 0.5 0 0.1\n");
    let found = inspect(root).unwrap();
    assert_eq!((found.layout, found.pictures, found.broken), ("YOLO text", 3, 0));
    let boxes = found.boxes.as_ref().unwrap();
    assert_eq!((boxes.boxes, boxes.pictures_without, boxes.most), (3, 2, 3));
    assert_eq!((boxes.cut, boxes.outside, boxes.empty), (1, 1, 1));
    assert_eq!(boxes.small_medium_large, [2, 0, 1]);
    assert_eq!((found.classes[0].boxes, found.classes[1].boxes), (Some(2), Some(1)));
    assert_eq!(found.classes[1].box_width, Some(Spread { min: 160.0, median: 160.0, max: 160.0 }));
    // A picture that no file is of counts among the problems.
    assert_eq!(found.problem_count, 4);
    let said = found.to_string();
    for words in ["a.png: a box goes beyond the picture", "b.png: a box of zero", "3 boxes", "none on 2"] {
        assert!(said.contains(words), "{words}:\n{said}");
    }

    // The same pictures by a COCO file.
    let coco = json!({
        "images": [{"id": 1, "file_name": "a.png", "width": 201, "height": 100}, {"id": 2, "file_name": "b.png"}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 2, "category_id": 1, "bbox": [4, 2, 16, 8]},
            {"id": 2, "image_id": 3, "category_id": 1, "bbox": [4, 2, 16, 8]}
        ]
    });
    put(&root.join("boxes.json"), coco.to_string().as_bytes());
    for source in [root.join("boxes.json"), root.to_path_buf()] {
        assert!(is_pictures(&source));
        let found = inspect(&source).unwrap();
        assert_eq!((found.layout, found.pictures, found.broken), ("COCO JSON", 1, 1));
        let said = found.to_string();
        for words in ["annotation 2 is of image 3", "its labels are of 100 × 201 pixels"] {
            assert!(said.contains(words), "{words}:\n{said}");
        }
    }
}

#[test]
fn idx_files_have_grey_pixels() {
    let dir = tempfile::tempdir().unwrap();
    let idx = |kind: u8, dims: &[u32], values: &[u8]| {
        let mut bytes = vec![0, 0, 8, kind];
        dims.iter().for_each(|n| bytes.extend(n.to_be_bytes()));
        bytes.extend(values);
        bytes
    };
    put(&dir.path().join("train-images-idx3-ubyte"), &idx(3, &[3, 1, 2], &[1, 2, 3, 4, 1, 2]));
    put(&dir.path().join("train-labels-idx1-ubyte"), &idx(1, &[3], &[5, 6, 5]));
    let found = inspect(dir.path()).unwrap();
    assert_eq!((found.layout, found.pictures), ("files of many pictures", 3));
    assert_eq!((found.duplicates.pictures, &found.modes[..]), (1, &[("grey".to_owned(), 3)][..]));
    let names: Vec<(&str, u64)> = found.classes.iter().map(|c| (c.name.as_str(), c.pictures)).collect();
    assert_eq!(names, [("5", 2), ("6", 1)]);
    assert_eq!(inspect(&dir.path().join("train-images-idx3-ubyte")).unwrap().pictures, 3);
}

#[test]
fn folders_without_pictures_are_none() {
    let dir = tempfile::tempdir().unwrap();
    put(&dir.path().join("notes/a.txt"), b"a note");
    // Files of pictures of one kind begin with `P1`.
    put(&dir.path().join("table.csv"), b"P1,b\n1,2\n");
    assert!(!is_pictures(dir.path()) && !is_pictures(&dir.path().join("table.csv")));
    assert!(!is_pictures(&dir.path().join("none")));
    assert!(inspect(&dir.path().join("notes")).is_err());
}
