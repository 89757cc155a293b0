#![allow(clippy::unwrap_used, clippy::disallowed_methods)]
//! Pictures of every kind of source, and everything that can be wrong with them.

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use image::{DynamicImage, ImageFormat, Luma, Rgb, Rgba};
use jishi_recipe::{Channels, Data, Image, TaskName};
use serde_json::json;

use super::*;
use crate::DataError;

fn data(value: serde_json::Value) -> Data {
    serde_json::from_value(value).unwrap()
}

fn image(value: serde_json::Value) -> Image {
    serde_json::from_value(value).unwrap()
}

fn read(base: &Path, of: serde_json::Value, how: serde_json::Value) -> Result<ImageCorpus, DataError> {
    ImageCorpus::read(&data(of), &image(how), TaskName::ImageClassification, base)
}

fn problem(base: &Path, of: serde_json::Value, how: serde_json::Value) -> String {
    read(base, of, how).unwrap_err().to_string()
}

/// A picture of one colour as a file.
fn encoded(colour: [u8; 3], width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let picture = image::RgbImage::from_pixel(width, height, Rgb(colour));
    DynamicImage::ImageRgb8(picture).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn put(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Folders `a` and `b` with `n` pictures each.
fn class_folders(base: &Path, n: u8) {
    for (class, red) in [("a", 10), ("b", 200)] {
        for i in 0..n {
            put(&base.join(format!("{class}/{i}.png")), &encoded([red, i, 0], 4, 3, ImageFormat::Png));
        }
    }
}

#[test]
fn class_folders_are_read_labelled_and_split() {
    let dir = tempfile::tempdir().unwrap();
    class_folders(dir.path(), 5);
    put(&dir.path().join("a/deep/x.png"), &encoded([10, 9, 0], 4, 3, ImageFormat::Jpeg));
    put(&dir.path().join("notes.txt"), b"beside");
    put(&dir.path().join("a/.hidden"), b"no");
    let split = json!({"source": ".", "split": {"validation": 0.2, "test": 0.2, "by": "stratified"}});
    let corpus = read(dir.path(), split, json!({})).unwrap();
    assert_eq!((corpus.pictures.len(), corpus.pictures.channels()), (11, 3));
    let (labels, classes) = corpus.labels.as_ref().unwrap();
    assert_eq!(labels.names, ["a", "b"]);
    assert_eq!(corpus.paths[..2], ["a/0.png", "a/1.png"]);
    assert_eq!(corpus.paths[5], "a/deep/x.png");
    assert_eq!((classes[5][0], classes[6][0]), (0, 1));
    let first = corpus.pictures.get(1);
    assert_eq!((first.height, first.width, &first.pixels[..3]), (3, 4, &[10, 1, 0][..]));
    let [train, validation, test] = &corpus.rows;
    assert_eq!((train.len(), validation.len(), test.len()), (6, 2, 3));
    assert_eq!(labels.counts.iter().sum::<u64>(), 6);
    let summary = corpus.ledger.summary();
    assert_eq!((summary.rows_read, summary.used, summary.dropped), (11, 11, 0));
    assert_eq!(corpus.digests.len(), 1);

    // The same files give the same hash; another picture gives another.
    let again = read(dir.path(), json!({"source": "."}), json!({})).unwrap();
    assert_eq!(again.digests, corpus.digests);
    put(&dir.path().join("b/0.png"), &encoded([0, 0, 0], 4, 3, ImageFormat::Png));
    let changed = read(dir.path(), json!({"source": "."}), json!({})).unwrap();
    assert_ne!(changed.digests, corpus.digests);
}

#[test]
fn pictures_that_do_not_fit_in_memory_are_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    class_folders(dir.path(), 5);
    let corpus = read(dir.path(), json!({"source": ".", "memory_limit": 100}), json!({})).unwrap();
    assert!(corpus.pictures.on_disk());
    assert_eq!(&corpus.pictures.get(9).pixels[..3], &[200, 4, 0]);
}

#[test]
fn ready_made_splits_stay_and_validation_is_cut_from_training() {
    let dir = tempfile::tempdir().unwrap();
    class_folders(&dir.path().join("train"), 5);
    class_folders(&dir.path().join("test"), 2);
    let corpus = read(dir.path(), json!({"source": "."}), json!({})).unwrap();
    assert!(corpus.ready_made);
    let [train, validation, test] = &corpus.rows;
    assert_eq!((train.len(), validation.len(), test.len()), (8, 2, 4));
    assert!(test.iter().all(|&row| corpus.paths[row as usize].starts_with("test/")));
    assert!(validation.iter().all(|&row| corpus.paths[row as usize].starts_with("train/")));
    let folds = json!({"source": ".", "split": {"folds": 3}});
    assert!(problem(dir.path(), folds, json!({})).contains("can't be split into folds"));

    class_folders(&dir.path().join("val"), 1);
    let corpus = read(dir.path(), json!({"source": "."}), json!({})).unwrap();
    assert_eq!(corpus.rows.each_ref().map(Vec::len), [10, 2, 4]);

    // A class that is in the test part alone.
    put(&dir.path().join("test/c/0.png"), &encoded([1, 2, 3], 4, 3, ImageFormat::Png));
    let error = problem(dir.path(), json!({"source": "."}), json!({}));
    assert!(error.contains("test/c/0.png: class `c` (1 pictures) is in the test split"), "{error}");
}

#[test]
fn folds_test_every_picture_once() {
    let dir = tempfile::tempdir().unwrap();
    class_folders(dir.path(), 6);
    let of = data(json!({"source": ".", "split": {"folds": 3, "by": "stratified", "validation": 0.2}}));
    let corpus =
        ImageCorpus::read(&of, &Image::default(), TaskName::ImageClassification, dir.path()).unwrap();
    let folds = corpus.splits(&of.split).unwrap();
    assert_eq!(folds.len(), 3);
    let mut tested: Vec<u32> = folds.iter().flat_map(|fold| fold[2].clone()).collect();
    tested.sort_unstable();
    assert_eq!(tested, (0..12).collect::<Vec<_>>());
    assert_eq!(folds[0], corpus.rows);
    assert_eq!(corpus.labels_of(&folds[1][0]).unwrap().counts, [3, 3]);
    assert_eq!(corpus.record(&folds[1]).summary().used, 12);
}

#[test]
fn bad_pictures_are_all_named_or_dropped() {
    let dir = tempfile::tempdir().unwrap();
    class_folders(dir.path(), 5);
    let good = encoded([9, 9, 9], 40, 30, ImageFormat::Jpeg);
    put(&dir.path().join("a/cut.jpg"), &good[..good.len() - 20]);
    let png = encoded([9, 9, 9], 40, 30, ImageFormat::Png);
    put(&dir.path().join("a/cut.png"), &png[..png.len() - 20]);
    put(&dir.path().join("b/page.jpg"), b"<!DOCTYPE html><p>404");
    put(&dir.path().join("b/caption.txt"), b"no picture");
    put(&dir.path().join("b/huge.png"), &huge_png());
    put(&dir.path().join("b/empty.png"), b"");
    let error = problem(dir.path(), json!({"source": "."}), json!({}));
    for expected in [
        "a/cut.jpg: JPEG: the file is cut short",
        "a/cut.png: PNG: ",
        "b/page.jpg: expected a PNG, JPEG",
        "a web page",
        "b/huge.png: it claims 100000 × 100000 pixels",
        "an empty file",
        "5 of 16 pictures can't be used",
    ] {
        assert!(error.contains(expected), "{expected}: {error}");
    }
    assert!(!error.contains("caption"), "{error}");
    let corpus = read(dir.path(), json!({"source": ".", "bad_rows": "drop"}), json!({})).unwrap();
    let summary = corpus.ledger.summary();
    assert_eq!((corpus.pictures.len(), summary.rows_read, summary.dropped), (10, 16, 6));
    assert_eq!(summary.drop_reasons["a damaged picture"], 2);
    assert_eq!(summary.drop_reasons["a picture that is too large"], 1);
    let dropped = corpus.ledger.entries.iter().find(|e| e.file.ends_with("b/page.jpg")).unwrap();
    assert_eq!((dropped.reason.as_str(), dropped.rows), ("not a picture", 1));
}

/// A PNG file whose header claims 100,000 × 100,000 pixels.
fn huge_png() -> Vec<u8> {
    let mut bytes = encoded([0, 0, 0], 1, 1, ImageFormat::Png);
    bytes[16..20].copy_from_slice(&100_000u32.to_be_bytes());
    bytes[20..24].copy_from_slice(&100_000u32.to_be_bytes());
    let mut crc = flate2::Crc::new();
    crc.update(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    bytes
}

#[test]
fn folders_without_pictures_and_classes_are_problems() {
    let dir = tempfile::tempdir().unwrap();
    assert!(problem(dir.path(), json!({"source": "."}), json!({})).contains("holds no pictures"));
    put(&dir.path().join("x.png"), &encoded([0, 0, 0], 2, 2, ImageFormat::Png));
    assert!(problem(dir.path(), json!({"source": "."}), json!({})).contains("it has no label"));
    class_folders(dir.path(), 2);
    std::fs::create_dir(dir.path().join("c")).unwrap();
    let error = problem(dir.path(), json!({"source": "."}), json!({}));
    assert!(error.contains("the class folder `c` is empty"), "{error}");
    std::fs::remove_dir(dir.path().join("c")).unwrap();
    let error = problem(dir.path(), json!({"source": ".", "target": "label"}), json!({}));
    assert!(error.contains("pictures in folders have no column `label`"), "{error}");
    let lone =
        json!({"source": ".", "missing": {"target": "drop"}, "split": {"validation": 0.0, "test": 0.25}});
    let corpus = read(dir.path(), lone, json!({})).unwrap();
    assert_eq!(corpus.ledger.summary().drop_reasons["no label"], 1);
    assert!(problem(dir.path(), json!({"source": "nowhere"}), json!({})).contains("no such file"));
}

fn idx(dims: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, dims.len() as u8];
    dims.iter().for_each(|d| bytes.extend(d.to_be_bytes()));
    bytes.extend(values);
    bytes
}

#[test]
fn cifar_files_have_planes_and_named_labels() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    // A picture whose reds are 1, greens 2 and blues 3, but for the first pixel.
    let record = |label: u8| {
        let mut planes: Vec<u8> = [1u8, 2, 3].iter().flat_map(|v| [*v; 1024]).collect();
        planes[1024] = 9;
        [vec![label], planes].concat()
    };
    put(&at("data_batch_1.bin"), &[record(0), record(1)].concat());
    put(&at("data_batch_2.bin"), &[record(1), record(0)].concat());
    put(&at("test_batch.bin"), &[record(1), record(0)].concat());
    put(&at("batches.meta.txt"), b"airplane\nautomobile\n\n");
    let corpus = read(dir.path(), json!({"source": ".", "split": {"validation": 0.5}}), json!({})).unwrap();
    assert_eq!(corpus.paths[5], "test_batch.bin:2");
    assert_eq!(corpus.rows[2], [4, 5]);
    assert_eq!(corpus.labels.as_ref().unwrap().0.names, ["airplane", "automobile"]);
    assert_eq!(corpus.pictures.get(0).pixels[..6], [1, 9, 3, 1, 2, 3]);
    let sources = corpus.digests.iter().filter(|d| SourceDigest::is_source(&d.name)).count();
    assert_eq!((sources, corpus.digests.len()), (3, 4));

    put(&at("data_batch_2.bin"), &record(7));
    put(&at("test_batch.bin"), &record(1)[..100]);
    let error = read(dir.path(), json!({"source": "."}), json!({})).unwrap_err().to_string();
    assert!(error.contains("picture 1 has the label 7, and there are 2 names"), "{error}");
    assert!(error.contains("expected pictures of 3073 bytes each, found 100 bytes"), "{error}");

    let dir = tempfile::tempdir().unwrap();
    put(&dir.path().join("data_batch_1"), b"\x80\x02}");
    put(&dir.path().join("batches.meta"), b"\x80\x02}");
    let error = read(dir.path(), json!({"source": "."}), json!({})).unwrap_err().to_string();
    assert!(error.contains("get the binary version"), "{error}");
}

#[test]
fn idx_files_plain_and_compressed() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let pixels: Vec<u8> = (0..60).collect();
    put(&at("train-images-idx3-ubyte"), &idx(&[10, 2, 3], &pixels));
    put(&at("train-labels-idx1-ubyte"), &idx(&[10], &[0, 1, 0, 1, 0, 1, 0, 1, 0, 1]));
    put(&at("t10k-images-idx3-ubyte"), &idx(&[2, 2, 3], &pixels[..12]));
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gz, &idx(&[2], &[1, 0])).unwrap();
    put(&at("t10k-labels-idx1-ubyte.gz"), &gz.finish().unwrap());
    let corpus = read(dir.path(), json!({"source": "."}), json!({"channels": "gray"})).unwrap();
    assert_eq!(corpus.rows.each_ref().map(Vec::len), [8, 2, 2]);
    assert_eq!(corpus.pictures.get(1).pixels, [6, 7, 8, 9, 10, 11]);
    assert_eq!(corpus.paths[11], "t10k-images-idx3-ubyte:2");
    let (labels, classes) = corpus.labels.as_ref().unwrap();
    assert_eq!((labels.names.join(""), classes[10][0]), ("01".into(), 1));
    assert_eq!(corpus.digests.len(), 4);
    let colour = read(dir.path(), json!({"source": "train-images-idx3-ubyte"}), json!({})).unwrap();
    assert_eq!((&colour.pictures.get(0).pixels[..4], colour.ready_made), (&[0, 0, 0, 1][..], false));

    put(&at("train-labels-idx1-ubyte"), &idx(&[9], &[0; 9]));
    let error = problem(dir.path(), json!({"source": "."}), json!({}));
    assert!(error.contains("expected 10 labels, one a picture, found 9"), "{error}");
    put(&at("train-labels-idx1-ubyte"), &idx(&[10], &[0; 9]));
    assert!(problem(dir.path(), json!({"source": "."}), json!({})).contains("names 10 values, it holds 9"));
    put(&at("train-labels-idx1-ubyte"), b"PK\x03\x04 not idx");
    assert!(problem(dir.path(), json!({"source": "."}), json!({})).contains("begins with 0x00000801"));
}

#[test]
fn tables_of_paths_with_one_or_many_labels() {
    let dir = tempfile::tempdir().unwrap();
    class_folders(dir.path(), 4);
    let rows =
        |class: &str| (0..4).map(move |i| format!("{class}/{i}.png,{class},{}\n", i % 2)).collect::<String>();
    put(&dir.path().join("list.csv"), format!("file,kind,who\n{}{}", rows("a"), rows("b")).as_bytes());
    let of = json!({"source": "list.csv", "target": "kind", "split": {"validation": 0.0, "test": 0.5, "by": "group", "column": "who"}});
    let corpus = read(dir.path(), of, json!({"column": "file"})).unwrap();
    assert_eq!((corpus.paths[0].as_str(), corpus.pictures.len()), ("a/0.png", 8));
    let [train, _, test] = &corpus.rows;
    assert!((train.len(), test.len()) == (4, 4) && train.iter().all(|row| row % 2 == train[0] % 2));
    let error =
        problem(dir.path(), json!({"source": "list.csv", "target": "kind"}), json!({"column": "fil"}));
    assert!(error.contains("there is no column `fil`") && error.contains("image.column"), "{error}");
    put(
        &dir.path().join("list.csv"),
        b"image,kind\na/0.png,x\na/9.png,y\n,y\nb/1.png,x\nb/2.png,y\nb/3.png,y\n",
    );
    let error = problem(dir.path(), json!({"source": "list.csv", "target": "kind"}), json!({}));
    assert!(
        error.contains("list.csv:3: there is no file") && error.contains("list.csv:4: column `image`"),
        "{error}"
    );

    let line = |file: &str, labels: &str| format!("{{\"image\": \"{file}\", \"labels\": {labels}}}\n");
    let text = line("a/0.png", "[\"x\", \"y\"]") + &line("a/1.png", "\"x\"") + &line("b/0.png", "[]");
    put(&dir.path().join("many.jsonl"), text.as_bytes());
    let of = json!({"source": "many.jsonl", "target": "labels", "split": {"validation": 0.0, "test": 0.0}});
    let corpus = read(dir.path(), of, json!({})).unwrap();
    let (labels, classes) = corpus.labels.unwrap();
    assert!(labels.many);
    assert_eq!(classes, [vec![0, 1], vec![0], vec![]]);
}

#[test]
fn parquet_with_bytes_in_a_struct_or_alone() {
    use arrow_array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, StructArray};
    let dir = tempfile::tempdir().unwrap();
    let files: Vec<Vec<u8>> = (0..4u8).map(|i| encoded([i * 10, 0, 0], 2, 2, ImageFormat::Png)).collect();
    let bytes: ArrayRef = Arc::new(BinaryArray::from_iter_values(&files));
    let paths: ArrayRef = Arc::new(StringArray::from(vec!["x.png"; 4]));
    let field = |name: &str, array: &ArrayRef| {
        Arc::new(arrow_schema::Field::new(name, array.data_type().clone(), true))
    };
    let both: ArrayRef = Arc::new(StructArray::from(vec![
        (field("bytes", &bytes), bytes.clone()),
        (field("path", &paths), paths),
    ]));
    for (name, column) in [("train-00000-of-00001", bytes), ("test-00000-of-00001", both)] {
        let label: ArrayRef = Arc::new(Int64Array::from(vec![0, 1, 10, 2]));
        let batch = RecordBatch::try_from_iter([("image", column), ("label", label)]).unwrap();
        let mut out = Vec::new();
        let mut writer = ::parquet::arrow::ArrowWriter::try_new(&mut out, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        put(&dir.path().join(format!("data/{name}.parquet")), &out);
    }
    let of = json!({"source": ".", "target": "label", "split": {"validation": 0.0}});
    let corpus = read(dir.path(), of, json!({})).unwrap();
    assert_eq!(corpus.labels.as_ref().unwrap().0.names, ["0", "1", "2", "10"]);
    // The test file comes first by name.
    assert_eq!(
        (corpus.rows[0].as_slice(), corpus.rows[2].as_slice()),
        (&[4, 5, 6, 7][..], &[0, 1, 2, 3][..])
    );
    assert_eq!(corpus.pictures.get(7).pixels[0], 30);
    assert_eq!(corpus.paths[4], "train-00000-of-00001.parquet:1");
}

#[test]
fn columns_of_pixels() {
    let dir = tempfile::tempdir().unwrap();
    put(&dir.path().join("p.csv"), b"p0,p1,p2,p3,digit\n0,8,16,4,3\n16,0,0,0,5\n0,0,0,16,3\n");
    let of = |bad: &str| json!({"source": "p.csv", "target": "digit", "bad_rows": bad, "split": {"validation": 0.0, "test": 0.0}});
    let how = json!({"channels": "gray", "pixels": {"columns": "p*", "max": 16}});
    let corpus = read(dir.path(), of("error"), how.clone()).unwrap();
    assert_eq!(corpus.pictures.get(0).pixels, [0, 128, 255, 64]);
    assert_eq!((corpus.pictures.size(0), corpus.paths[1].as_str()), ([2, 2], "p.csv:3"));
    assert_eq!(corpus.labels.unwrap().1, [vec![0], vec![1], vec![0]]);
    put(&dir.path().join("p.csv"), b"p0,p1,p2,p3,digit\n0,8,17,4,3\n16,0,0,0,5\n0,0,,16,3\n1,1,1,1,3\n");
    let error = problem(dir.path(), of("error"), how.clone());
    assert!(error.contains("p.csv:2: expected 0 to 16 in column `p2`, found 17"), "{error}");
    assert!(error.contains("p.csv:4: expected 0 to 16 in column `p2`, found nothing"), "{error}");
    assert_eq!(read(dir.path(), of("drop"), how.clone()).unwrap().ledger.summary().dropped, 2);
    put(&dir.path().join("p.csv"), b"p0,p1,p2,p3,digit\n0,8,16,4,3\n16,0,0,0,5\n0,0,0,16,3\n");
    // What is predicted may be the table, or pictures.
    put(&dir.path().join("one.png"), &encoded([9, 9, 9], 2, 2, ImageFormat::Png));
    for (source, pictures) in [("p.csv", 3), ("one.png", 1), (".", 1)] {
        let data: Data = serde_json::from_value(json!({"source": source})).unwrap();
        let image = serde_json::from_value(how.clone()).unwrap();
        let corpus = ImageCorpus::read_plain(&data, &image, dir.path());
        assert_eq!(corpus.unwrap().pictures.len(), pictures, "{source}");
    }
    let error = problem(dir.path(), of("error"), json!({"pixels": {"columns": "p[01]"}}));
    assert!(error.contains("are no square picture") || error.contains("2 columns fit"), "{error}");
    assert!(
        problem(dir.path(), of("error"), json!({"pixels": {"columns": "q*"}})).contains("no column fits")
    );
}

#[test]
fn every_kind_of_picture_is_decoded() {
    let file = |picture: DynamicImage, format| {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    };
    let one = |bytes: &[u8], channels| decode::decode(bytes, channels).unwrap().pixels;
    let rgb = |bytes: &[u8]| one(bytes, Channels::Rgb);
    for format in [
        ImageFormat::Png,
        ImageFormat::Gif,
        ImageFormat::Bmp,
        ImageFormat::WebP,
        ImageFormat::Tiff,
        ImageFormat::Pnm,
    ] {
        let bytes = match format {
            ImageFormat::WebP => {
                let mut out = Vec::new();
                let encoder = image::codecs::webp::WebPEncoder::new_lossless(&mut out);
                encoder.encode(&[200, 100, 50], 1, 1, image::ExtendedColorType::Rgb8).unwrap();
                out
            }
            ImageFormat::Gif => file(
                DynamicImage::ImageRgba8(image::RgbaImage::from_pixel(1, 1, Rgba([200, 100, 50, 255]))),
                format,
            ),
            format => encoded([200, 100, 50], 1, 1, format),
        };
        assert_eq!(rgb(&bytes), [200, 100, 50], "{format:?}");
    }
    // Pillow: round(0.299·200 + 0.587·100 + 0.114·50) = 124.
    assert_eq!(one(&encoded([200, 100, 50], 1, 1, ImageFormat::Png), Channels::Gray), [124]);
    let png = |picture| file(picture, ImageFormat::Png);
    let gray = DynamicImage::ImageLuma8(image::GrayImage::from_pixel(1, 1, Luma([7])));
    assert_eq!((rgb(&png(gray.clone())), one(&png(gray), Channels::Gray)), (vec![7, 7, 7], vec![7]));
    let deep = DynamicImage::ImageLuma16(image::ImageBuffer::from_pixel(1, 1, Luma([0x8000u16])));
    assert_eq!((rgb(&png(deep.clone())), one(&png(deep), Channels::Gray)), (vec![128; 3], vec![128]));
    let clear = DynamicImage::ImageRgba8(image::RgbaImage::from_pixel(1, 1, Rgba([255, 0, 0, 0])));
    assert_eq!(rgb(&png(clear)), [255, 255, 255]);
    let half = DynamicImage::ImageRgba8(image::RgbaImage::from_pixel(1, 1, Rgba([255, 0, 0, 128])));
    assert_eq!(rgb(&png(half)), [255, 127, 127]);
    let half = DynamicImage::ImageLumaA8(image::GrayAlphaImage::from_pixel(1, 1, image::LumaA([0, 128])));
    assert_eq!(rgb(&png(half)), [127; 3]);
}

#[test]
fn pictures_are_turned_as_their_exif_data_says() {
    // A JPEG of 16 × 8 pixels, dark on the left, with an EXIF segment that says "turn by 90 degrees" (6).
    let picture = image::RgbImage::from_fn(16, 8, |x, _| if x < 8 { Rgb([0; 3]) } else { Rgb([255; 3]) });
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::ImageRgb8(picture).write_to(&mut bytes, ImageFormat::Jpeg).unwrap();
    let plain = bytes.into_inner();
    let exif = [
        &b"\xff\xe1\x00\x22Exif\0\0MM\0*\0\0\0\x08\0\x01"[..],
        b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0",
    ]
    .concat();
    let turned = [&plain[..2], &exif, &plain[2..]].concat();
    let found = decode::decode(&turned, Channels::Gray).unwrap();
    assert_eq!((found.height, found.width), (16, 8));
    assert!(found.pixels[..8].iter().all(|&p| p < 10) && found.pixels[120..].iter().all(|&p| p > 245));
    assert_eq!(decode::decode(&plain, Channels::Gray).unwrap().height, 8);
}

#[test]
fn preparation_takes_the_middle_and_normalises() {
    let dir = tempfile::tempdir().unwrap();
    class_folders(dir.path(), 4);
    let how = json!({"size": 3});
    let corpus = read(dir.path(), json!({"source": "."}), how.clone()).unwrap();
    let of = |how: serde_json::Value, rows: &[u32]| {
        Preparation::fit(&image(how), &corpus.pictures, rows, |i| corpus.name(i)).unwrap()
    };
    let all: Vec<u32> = (0..8).collect();
    let preparation = of(how.clone(), &all);
    assert_eq!(preparation.shape(), [3, 3, 3]);
    // Red is 10 or 200, green 0 to 3, blue always 0.
    let unit = |x: f64| (x / 255.0) as f32;
    assert_eq!(preparation.mean(), [unit(105.0), unit(1.5), 0.0]);
    assert_eq!(preparation.std(), [unit(95.0), unit(1.25f64.sqrt()), 1.0]);
    let mut out = vec![0.0; 2 * 27];
    preparation.batch(&corpus.pictures, &[0, 7], &mut out);
    assert!((out[0] + 1.0).abs() < 1e-5 && (out[27] - 1.0).abs() < 1e-5, "{out:?}");
    assert_eq!(preparation.picture(&out[27..]).view(), corpus.pictures.get(7));
    let half = of(json!({"size": 3, "normalize": "half"}), &all);
    half.apply(corpus.pictures.get(0), &mut out[..27]);
    assert!((out[2] + 1.0).abs() < 1e-6);
    let text = serde_json::to_string(&preparation).unwrap();
    let back: Preparation = serde_json::from_str(&text).unwrap();
    assert!(back == preparation && back.check().is_ok());
    // What is predicted goes the way of what was trained.
    let file = std::fs::read(dir.path().join("a/2.png")).unwrap();
    assert_eq!(preparation.decode(&file).unwrap().view(), corpus.pictures.get(2));
    assert!(preparation.decode(b"text").unwrap_err().message.contains("found text"));

    put(&dir.path().join("b/other.png"), &encoded([0; 3], 5, 3, ImageFormat::Png));
    let corpus = read(dir.path(), json!({"source": "."}), json!({})).unwrap();
    let error = Preparation::fit(&Image::default(), &corpus.pictures, &all, |i| corpus.name(i)).unwrap_err();
    assert!(error.message.contains("`a/0.png` has 3 × 4 pixels, `b/other.png` 3 × 5"), "{error}");
}

#[test]
fn scaling_fits_as_it_should() {
    use jishi_recipe::{Fit, Interpolation};

    use super::scaling::Room;
    let scaled = |fit, chance: bool, height: usize, width: usize| {
        let room = if chance { Room::ForChance } else { Room::None };
        let filter = Interpolation::Bilinear;
        let picture = OwnedPicture { height, width, channels: 1, pixels: vec![200; height * width] };
        let out = scaling::Scaling { size: Some([56, 28]), fit, room, filter }.apply(picture);
        assert_eq!(out.pixels.len(), out.height * out.width);
        (out.height, out.width, out.pixels[0])
    };
    assert_eq!(scaled(Fit::Crop, false, 100, 100), (56, 28, 200));
    assert_eq!(scaled(Fit::Stretch, false, 10, 100), (56, 28, 200));
    assert_eq!(scaled(Fit::Pad, false, 100, 100), (56, 28, 0));
    // With room: an eighth larger, but never made larger for it.
    assert_eq!(scaled(Fit::Crop, true, 100, 100), (64, 64, 200));
    assert_eq!(scaled(Fit::Crop, true, 60, 40), (60, 40, 200));
    assert_eq!(scaled(Fit::Crop, true, 20, 20), (56, 56, 200));
    assert_eq!(scaled(Fit::Pad, true, 200, 200), (64, 32, 0));
    assert_eq!(scaled(Fit::Stretch, true, 200, 200), (64, 32, 200));
    // A thread of pixels does not become a picture of gigabytes.
    assert_eq!(scaled(Fit::Crop, true, 1, 1_000_000), (56, 112, 200));
    assert_eq!(scaled(Fit::Crop, false, 1, 1_000_000), (56, 28, 200));
}
