#![allow(clippy::unwrap_used)]

use std::time::Instant;

use jishi_recipe::Interpolation::{Bicubic, Bilinear};
use jishi_recipe::{Image, Size};
use serde_json::{Value, json};

use super::affine::{Map, sample};
use super::*;
use crate::image::pictures::PicturesWriter;

const FIXTURE: &str = include_str!("../../../tests/fixtures/image.json");

fn fixture() -> Value {
    serde_json::from_str(FIXTURE).unwrap()
}

fn picture(value: &Value) -> OwnedPicture {
    let pixels: Vec<u8> = serde_json::from_value(value["pixels"].clone()).unwrap();
    let [height, width]: [usize; 2] = serde_json::from_value(value["size"].clone()).unwrap();
    OwnedPicture { height, width, channels: 3, pixels }
}

/// Values in units of 1e-5.
fn values(value: &Value) -> Vec<f32> {
    let whole: Vec<i64> = serde_json::from_value(value.clone()).unwrap();
    whole.into_iter().map(|v| v as f32 * 1e-5).collect()
}

fn furthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// A linear congruential generator, good enough to test with.
fn words(seed: u64) -> impl FnMut() -> u32 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u32
    }
}

#[test]
fn maps_are_those_of_torchvision() {
    let fixture = fixture();
    let source = picture(&fixture["picture"]);
    let size = [source.height, source.width];
    let corner = [-2.5, -3.0];
    for (name, map) in [
        ("turned", Map::affine(20.0, [0.0; 2], 1.0, [0.0; 2])),
        ("all", Map::affine(-35.0, [1.0, -2.0], 1.3, [12.0, -8.0])),
        ("around_corner", Map::affine_around(corner, 0.0, [0.0; 2], 1.0, [15.0, 0.0])),
    ] {
        let mut out = vec![0.0; source.pixels.len()];
        let lines = [[1.0 / 255.0, 0.0]; 3];
        sample::<3, u8>(&source.pixels, source.width * 3, size, map, lines, &mut out);
        let far = furthest(&out, &values(&fixture["moved"][name]));
        assert!(far < 2e-5, "{name}: {far}");
    }
}

#[test]
fn colours_are_those_of_torchvision() {
    let fixture = fixture();
    let source = picture(&fixture["picture"]);
    let size = [source.height, source.width];
    type Change<'a> = &'a dyn Fn(&mut [[f32; 3]]);
    let changes: [(&str, Change); 11] = [
        ("brightness", &|c| colour::brightness(c, 1.4)),
        ("contrast", &|c| colour::contrast(c, 0.6)),
        ("saturation", &|c| colour::saturation(c, 1.7)),
        ("hue", &|c| colour::hue(c, -0.2)),
        ("grayscale", &|c| colour::grayscale(c)),
        ("blur", &|c| colour::blur(c, size, 0.6)),
        ("sharpness", &|c| colour::sharpness(c, size, 1.8)),
        ("posterize", &|c| colour::posterize(c, 3)),
        ("solarize", &|c| colour::solarize(c, 0.5)),
        ("autocontrast", &|c| colour::autocontrast(c)),
        ("equalize", &|c| colour::equalize(c)),
    ];
    for (name, change) in changes {
        let mut out: Vec<f32> = source.pixels.iter().map(|p| f32::from(*p) / 255.0).collect();
        change(out.as_chunks_mut::<3>().0);
        let far = furthest(&out, &values(&fixture["colours"][name]));
        assert!(far < 2e-5, "{name}: {far}");
    }
}

#[test]
fn scaling_is_that_of_pillow() {
    let fixture = fixture();
    let large = picture(&fixture["large"]);
    let expected =
        |name: &str| -> Vec<u8> { serde_json::from_value(fixture["scaled"][name].clone()).unwrap() };
    let fit = jishi_recipe::Fit::Crop;
    let scaling = Scaling { size: Some([6, 6]), fit, room: Room::None, filter: Bilinear };
    assert_eq!(scaling.apply(large.clone()).pixels, expected("crop"));
    let all = [0.0, 0.0, 13.0, 17.0];
    assert_eq!(resize(large.view(), all, [7, 4], Bilinear).pixels, expected("stretch"));
    assert_eq!(resize(large.view(), all, [7, 4], Bicubic).pixels, expected("bicubic"));
    assert_eq!(resize(large.view(), all, [15, 20], Bicubic).pixels, expected("bicubic_larger"));
    // What is kept of it is cut off when a model is given the picture.
    let share = Scaling { size: Some([7, 7]), fit, room: Room::Share(0.875), filter: Bicubic };
    let kept = share.apply(large.clone());
    assert_eq!((kept.height, kept.width), (8, 10));
    let image = Image {
        size: Some(Size::Square(7)),
        crop_pct: Some(0.875),
        interpolation: Bicubic,
        ..Image::default()
    };
    let preparation = Preparation::with(&image, vec![0.0; 3], vec![1.0; 3]).unwrap();
    let mut seen = vec![0.0; 7 * 7 * 3];
    preparation.apply(kept.view(), &mut seen);
    assert_eq!(preparation.picture(&seen).pixels, expected("share"));
    let checksums: Vec<[u64; 4]> = serde_json::from_value(fixture["checksums"].clone()).unwrap();
    for (i, [height, width, new, expected]) in checksums.into_iter().enumerate() {
        let [height, width, new] = [height, width, new].map(|side| side as usize);
        let rule = |i: usize| {
            let (y, x, c) = (i / 3 / width, i / 3 % width, i % 3);
            ((7 * y + 13 * x + 29 * c + y * x % 31) % 256) as u8
        };
        let pixels = (0..height * width * 3).map(rule).collect();
        let made = OwnedPicture { height, width, channels: 3, pixels };
        let all = [0.0, 0.0, height as f64, width as f64];
        let filter = if i % 2 == 0 { Bilinear } else { Bicubic };
        let (mut a, mut b) = (1u64, 0u64); // Adler-32 (RFC 1950, §9)
        for pixel in resize(made.view(), all, [new, new], filter).pixels {
            a = (a + u64::from(pixel)) % 65_521;
            b = (b + a) % 65_521;
        }
        assert_eq!(b << 16 | a, expected, "{height} × {width} to {new}, {filter:?}");
    }
    let corner = crate::image::scaling::crop(large.view(), [0, 0], [3, 3]);
    assert_eq!(resize(corner.view(), [0.0, 0.0, 3.0, 3.0], [5, 5], Bilinear).pixels, expected("larger"));
    let gray = crate::image::found::with_channels(large, jishi_recipe::Channels::Gray);
    assert_eq!(crate::image::scaling::crop(gray.view(), [0, 0], [2, 6]).pixels, expected("gray"));
}

fn made(size: [usize; 2], channels: &str, augment: Value) -> (Preparation, Augmentation) {
    let image = json!({"channels": channels, "normalize": "half", "augment": augment});
    let mut image: Image = serde_json::from_value(image).unwrap();
    image.size = Some(Size::Sides(size));
    let pictures = PicturesWriter::new(image.channels.count(), 1 << 20, None).finish().unwrap();
    let preparation = Preparation::fit(&image, &pictures, &[], |_| "").unwrap();
    let augmentation = Augmentation::new(&image, &preparation);
    (preparation, augmentation)
}

fn noise(height: usize, width: usize, channels: usize) -> OwnedPicture {
    let mut word = words(height as u64);
    let pixels = (0..height * width * channels).map(|_| (word() >> 24) as u8).collect();
    OwnedPicture { height, width, channels, pixels }
}

#[test]
fn nothing_random_is_the_preparation() {
    for channels in ["gray", "rgb"] {
        let nothing = json!([
            {"name": "horizontal-flip", "p": 0}, {"name": "vertical-flip", "p": 0},
            {"name": "grayscale", "p": 0}, {"name": "blur", "p": 0}, {"name": "random-erasing", "p": 0},
        ]);
        let (preparation, augmentation) = made([6, 5], channels, nothing);
        let picture = noise(8, 9, augmentation.shape()[2]);
        let n: usize = augmentation.shape().iter().product();
        let (mut plain, mut changed) = (vec![0.0; n], vec![9.0; n]);
        preparation.apply(picture.view(), &mut plain);
        augmentation.apply(picture.view(), &mut words(1), &mut changed);
        assert_eq!(plain, changed);
        // By way of the map, and of the colours.
        let still = json!([
            {"name": "affine", "degrees": 0, "translate": 0, "scale": [1, 1], "shear": 0},
            {"name": "gaussian-noise", "deviation": 0},
            {"name": "rotate", "degrees": 0},
        ]);
        made([6, 5], channels, still).1.apply(picture.view(), &mut words(1), &mut changed);
        assert!(furthest(&plain, &changed) < 1e-5);
    }
}

#[test]
fn flips_mirror_wherever_they_are() {
    let flip = json!({"name": "horizontal-flip", "p": 1});
    let vertical = json!({"name": "vertical-flip", "p": 1});
    let still = json!({"name": "rotate", "degrees": 0});
    let colours = json!({"name": "gaussian-noise", "deviation": 0});
    let picture = noise(6, 5, 3);
    let (preparation, _) = made([6, 5], "rgb", json!([]));
    let mirrored = |rows: bool| {
        let mut out = picture.clone();
        for y in 0..6 {
            for x in 0..5 {
                let from = if rows { (5 - y) * 5 + x } else { y * 5 + 4 - x };
                let to = (y * 5 + x) * 3;
                out.pixels[to..to + 3].copy_from_slice(&picture.pixels[from * 3..from * 3 + 3]);
            }
        }
        let mut values = vec![0.0; 90];
        preparation.apply(out.view(), &mut values);
        values
    };
    let mut out = vec![0.0; 90];
    for (list, rows) in [
        (json!([flip]), false),
        (json!([vertical]), true),
        (json!([flip, still]), false),
        (json!([still, vertical]), true),
        (json!([colours, flip]), false),
        (json!([flip, colours, still]), false),
        (json!([flip, flip, vertical]), true),
    ] {
        made([6, 5], "rgb", list.clone()).1.apply(picture.view(), &mut words(3), &mut out);
        assert!(furthest(&out, &mirrored(rows)) < 1e-5, "{list}");
    }
}

#[test]
fn maps_in_a_row_are_one_map() {
    // A flip and a turn in one pass are a flipped picture that is turned.
    let map = Map::affine(30.0, [1.0, 0.0], 1.1, [0.0; 2]);
    let source = noise(9, 7, 1);
    let mut flipped = source.clone();
    flipped.pixels.chunks_exact_mut(7).for_each(<[u8]>::reverse);
    let (mut once, mut twice) = (vec![0.0; 63], vec![0.0; 63]);
    let lines = [[1.0, 0.0]];
    sample::<1, u8>(&source.pixels, 7, [9, 7], map.then(Map::flip(1)), lines, &mut once);
    sample::<1, u8>(&flipped.pixels, 7, [9, 7], map, lines, &mut twice);
    assert!(furthest(&once, &twice) < 1e-3);
}

#[test]
fn crops_are_parts_of_the_padded_picture() {
    let picture = noise(6, 6, 3);
    for mode in ["zero", "reflect"] {
        let (_, augmentation) =
            made([6, 6], "rgb", json!([{"name": "random-crop", "padding": 2, "mode": mode}]));
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..300 {
            let mut out = vec![0.0; 108];
            augmentation.apply(picture.view(), &mut words(seed), &mut out);
            let found = augmentation.preparation.picture(&out);
            // Which of the 25 places it is.
            let place = (-2..=2isize).flat_map(|y| (-2..=2isize).map(move |x| (y, x))).find(|&(y, x)| {
                (0..6).all(|oy| {
                    (0..6).all(|ox| {
                        let at = [y + oy, x + ox];
                        let mirrored = at.map(|a| {
                            if a < 0 {
                                -a
                            } else if a > 5 {
                                10 - a
                            } else {
                                a
                            }
                        });
                        let outside = at != mirrored;
                        let expected: &[u8] = match outside && mode == "zero" {
                            true => &[0; 3],
                            false => &picture.pixels[((mirrored[0] * 6 + mirrored[1]) * 3) as usize..][..3],
                        };
                        found.pixels[((oy * 6 + ox) * 3) as usize..][..3] == *expected
                    })
                })
            });
            seen.insert(place.unwrap_or_else(|| panic!("{mode} {seed}: no part of the padded picture")));
        }
        assert_eq!(seen.len(), 25, "{mode}");
    }
}

#[test]
fn every_change_stays_in_bounds_and_repeats() {
    let all = json!([
        {"name": "random-resized-crop"}, {"name": "horizontal-flip"}, {"name": "vertical-flip"},
        {"name": "rotate"}, {"name": "affine", "shear": 10}, {"name": "color-jitter"},
        {"name": "rand-augment", "operations": 3, "magnitude": 15}, {"name": "gaussian-noise"},
        {"name": "blur", "p": 1}, {"name": "grayscale"}, {"name": "random-erasing", "p": 1},
    ]);
    for (channels, side) in [("rgb", [1usize, 1usize]), ("gray", [9, 4]), ("rgb", [16, 16])] {
        let (_, augmentation) = made(side, channels, all.clone());
        let [h, w, c] = augmentation.shape();
        for (height, width) in [(1, 1), (h, w), (h + 5, w + 2), (40, 3)] {
            let picture = noise(height, width, c);
            for seed in 0..60 {
                let (mut once, mut again) = (vec![0.0; h * w * c], vec![7.0; h * w * c]);
                augmentation.apply(picture.view(), &mut words(seed), &mut once);
                augmentation.apply(picture.view(), &mut words(seed), &mut again);
                assert_eq!(once, again);
                assert!(once.iter().all(|v| (-1.0001..=1.0001).contains(v)), "{once:?}");
            }
        }
    }
    let (_, augmentation) = made([8, 8], "rgb", all);
    let mut writer = PicturesWriter::new(3, 1 << 20, None);
    (0..5).for_each(|i| writer.push(noise(8 + i, 9, 3).view()).unwrap());
    let pictures = writer.finish().unwrap();
    let (mut batch, mut one) = (vec![0.0; 3 * 192], vec![0.0; 192]);
    augmentation.batch(&pictures, &[4, 0, 2], |i| words(i as u64 + 10), &mut batch);
    augmentation.apply(pictures.get(2), &mut words(12), &mut one);
    assert_eq!(batch[384..], one);
}

#[test]
fn resized_crops_have_the_area_and_shape_that_they_should() {
    let crop = RandomResizedCrop { scale: [0.25, 0.5], ratio: [0.5, 2.0] };
    let picture = noise(100, 80, 1);
    let mut word = words(5);
    let (mut least, mut most) = (1.0f64, 0.0f64);
    for _ in 0..500 {
        let [top, left, h, w] = part(&crop, picture.view(), &mut Draws(&mut word));
        assert!(top + h <= 100 && left + w <= 80);
        let (area, ratio) = ((h * w) as f64 / 8000.0, w as f64 / h as f64);
        assert!((0.24..0.51).contains(&area) && (0.48..2.08).contains(&ratio), "{area} {ratio}");
        (least, most) = (least.min(area), most.max(area));
    }
    assert!(least < 0.27 && most > 0.48);
    // Nothing fits: the largest part in the middle.
    let tall = RandomResizedCrop { scale: [1.0, 1.0], ratio: [0.1, 0.1] };
    assert_eq!(part(&tall, picture.view(), &mut Draws(&mut word)), [0, 35, 100, 10]);
}

#[test]
fn pictures_and_targets_are_mixed_alike() {
    let size = [4, 4];
    let mut word = words(9);
    let mut draws = Draws(&mut word);
    assert_eq!(Mix::draw(0.0, 0.0, size, &mut draws), Mix::None);
    let shares: Vec<f64> = (0..4000)
        .map(|_| match Mix::draw(0.4, 0.0, size, &mut draws) {
            Mix::MixUp { share } => f64::from(share),
            other => panic!("{other:?}"),
        })
        .collect();
    // Beta(0.4, 0.4): mean 1/2, variance 1 / (4 (2·0.4 + 1)).
    let mean = shares.iter().sum::<f64>() / 4000.0;
    let variance = shares.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / 4000.0;
    assert!((mean - 0.5).abs() < 0.02 && (variance - 1.0 / 7.2).abs() < 0.01, "{mean} {variance}");
    let both: Vec<Mix> = (0..100).map(|_| Mix::draw(1.0, 1.0, size, &mut draws)).collect();
    let cut = both.iter().filter(|m| matches!(m, Mix::CutMix { .. })).count();
    assert!((30..70).contains(&cut), "{cut}");

    // Pictures of one value each: the share of a value in a picture is its share in the target.
    for mix in both {
        let mut pictures: Vec<f32> = (0..3).flat_map(|i| vec![i as f32; 16]).collect();
        let mut targets: Vec<f32> = vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
        mix.pictures(&mut pictures, [4, 4, 1]);
        mix.targets(&mut targets, 3);
        for (picture, target) in pictures.chunks(16).zip(targets.chunks(3)) {
            let mean = picture.iter().sum::<f32>() / 16.0;
            let expected: f32 = target.iter().zip([0.0, 1.0, 2.0]).map(|(t, v)| t * v).sum();
            assert!((mean - expected).abs() < 1e-5, "{mix:?} {mean} {expected}");
        }
        assert_eq!(targets[3..6], [0.0, 1.0, 0.0]);
    }
}

/// Prints nanoseconds a picture; run it alone: `--ignored speed --nocapture`.
#[test]
#[ignore = "a measure, not a test"]
fn speed() {
    let crop = json!([{"name": "random-crop", "mode": "reflect"}, {"name": "horizontal-flip"}]);
    let cases = [
        ("28x28 affine", [28, 28], "gray", json!([{"name": "affine"}])),
        ("32x32 crop and flip", [32, 32], "rgb", crop),
        (
            "224x224 resized crop and flip",
            [224, 224],
            "rgb",
            json!([{"name": "random-resized-crop"}, {"name": "horizontal-flip"}]),
        ),
        ("32x32 rand-augment", [32, 32], "rgb", json!([{"name": "rand-augment"}])),
        ("28x28 nothing", [28, 28], "gray", json!([])),
    ];
    for (name, size, channels, list) in cases {
        let (_, augmentation) = made(size, channels, list);
        let [h, w, c] = augmentation.shape();
        let room = if h == 224 { 256 } else { h };
        let picture = noise(room, room, c);
        let mut out = vec![0.0; h * w * c];
        let n = if h == 224 { 200 } else { 20_000 };
        let best = (0..5)
            .map(|seed| {
                let mut word = words(seed);
                let start = Instant::now();
                (0..n).for_each(|_| {
                    augmentation.apply(picture.view(), &mut word, &mut out);
                });
                start.elapsed().as_nanos() / n
            })
            .min();
        println!("{name}: {} ns", best.unwrap_or(0));
    }
}
