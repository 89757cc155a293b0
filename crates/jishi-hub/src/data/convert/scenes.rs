//! Pictures put together of stamps, with exact boxes: COCO JSON and PNG files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use image::imageops::{self, FilterType};
use image::{GenericImageView, ImageFormat, Rgba, RgbaImage};
use jishi_runs::atomic::write_real;
use jishi_runs::plots::Raster;
use serde_json::{Value, json};

use super::super::archive::{read_member, walk};
use super::{missing, save};
use crate::error::HubError;

/// Folders of stamps, and what they show.
const CLASSES: [(&str, &str); 9] = [
    ("animals/birds", "bird"),
    ("animals/fish", "fish"),
    ("animals/insects", "insect"),
    ("animals/mammals", "mammal"),
    ("clothes/hats", "hat"),
    ("food/fruit", "fruit"),
    ("food/vegetables", "vegetable"),
    ("plants/flowers", "flower"),
    ("space/planets", "planet"),
];
/// Stamps of a class at most, the first by name.
const STAMPS: usize = 12;
/// Scenes of each part.
const PARTS: [(&str, usize); 2] = [("train", 1600), ("test", 400)];
/// Height and width of a scene.
const SIDE: usize = 128;
/// Stamps of a scene at most.
const MOST: usize = 5;
/// Pixels of a stamp's longer side, least and greatest.
const SIZES: [usize; 2] = [24, 60];
/// A pixel of a stamp that is less opaque than this is not seen as a part of it.
const SEEN: u8 = 64;
/// Share of a box that may lie in another, at most.
const COVERED: f64 = 0.15;
const SEED: u64 = 20_240_501;

/// Writes `train.json`, `test.json` and `images/`. The number of scenes.
pub(super) fn scenes(archive: &Path, out: &Path) -> Result<usize, HubError> {
    let stamps = stamps(archive)?;
    let images = out.join("images");
    fs::create_dir(&images).map_err(|e| HubError::io(&images, e))?;
    let categories: Vec<Value> =
        CLASSES.iter().zip(1..).map(|((_, name), id)| json!({"id": id, "name": name})).collect();
    let mut count = 0;
    for (part, scenes) in PARTS {
        let (mut pictures, mut annotations) = (Vec::new(), Vec::new());
        for number in 1..=scenes {
            count += 1;
            let scene = Scene::compose(&stamps, &mut Random(SEED ^ (count as u64) << 20));
            let name = format!("{part}-{number:04}.png");
            write_real(&images.join(&name), &scene.png())?;
            pictures.push(
                json!({"id": count, "file_name": format!("images/{name}"), "width": SIDE, "height": SIDE}),
            );
            for Placed { class, place: [left, top, width, height], pixels } in scene.placed {
                annotations.push(json!({
                    "id": annotations.len() + 1, "image_id": count, "category_id": class + 1,
                    "bbox": [left, top, width, height], "area": pixels, "iscrowd": 0,
                }));
            }
        }
        let file = json!({
            "info": {"description": "Scenes of Tux Paint's stamps (GPL-2), composed by Jishi"},
            "images": pictures, "annotations": annotations, "categories": categories,
        });
        save(archive, &out.join(format!("{part}.json")), &file.to_string())?;
    }
    Ok(count)
}

/// Stamps of each class, cut to what is seen of them.
fn stamps(archive: &Path) -> Result<Vec<Vec<RgbaImage>>, HubError> {
    let mut files: Vec<BTreeMap<String, Vec<u8>>> = CLASSES.map(|_| BTreeMap::new()).into();
    walk(archive, &mut |name, content| {
        let Some((_, place)) = name.split_once("/stamps/") else { return Ok(()) };
        let class = place.rsplit_once('/').and_then(|(folder, file)| {
            let mirrored = file.ends_with("_mirror.png") || file.ends_with("_flip.png");
            let known = CLASSES.iter().position(|(known, _)| *known == folder);
            known.filter(|_| file.ends_with(".png") && !mirrored)
        });
        if let Some(class) = class {
            files[class].insert(place.to_owned(), read_member(content, name)?);
        }
        Ok(())
    })?;
    let mut all = Vec::with_capacity(files.len());
    for (files, (folder, _)) in files.into_iter().zip(CLASSES) {
        let decoded = files.into_values().filter_map(|bytes| {
            let picture = image::load_from_memory_with_format(&bytes, ImageFormat::Png).ok()?.to_rgba8();
            let [left, top, width, height] = seen(&picture)?;
            Some(picture.view(left, top, width, height).to_image())
        });
        let stamps: Vec<RgbaImage> = decoded.take(STAMPS).collect();
        if stamps.is_empty() {
            return Err(missing(archive, &format!("stamps in {folder}")));
        }
        all.push(stamps);
    }
    Ok(all)
}

/// Left, top, width and height of the opaque part of a picture.
fn seen(picture: &RgbaImage) -> Option<[u32; 4]> {
    let mut bounds: Option<[u32; 4]> = None;
    for (x, y, pixel) in picture.enumerate_pixels().filter(|(_, _, pixel)| pixel[3] >= SEEN) {
        let _ = pixel;
        let [left, top, right, bottom] = bounds.unwrap_or([x, y, x, y]);
        bounds = Some([left.min(x), top.min(y), right.max(x), bottom.max(y)]);
    }
    bounds.map(|[left, top, right, bottom]| [left, top, right - left + 1, bottom - top + 1])
}

/// Whole numbers by chance (Steele et al. 2014, "SplitMix64").
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`.
    fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// From `low` to `high`, both included.
    fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    fn colour(&mut self) -> [i32; 3] {
        [0; 3].map(|_| self.below(256) as i32)
    }
}

/// A stamp on a scene.
struct Placed {
    class: usize,
    /// Left, top, width and height.
    place: [usize; 4],
    /// Pixels of it that are seen.
    pixels: usize,
}

/// A picture of [`SIDE`] × [`SIDE`] pixels.
struct Scene {
    /// `[SIDE, SIDE, 3]`
    pixels: Vec<u8>,
    placed: Vec<Placed>,
}

impl Scene {
    fn compose(stamps: &[Vec<RgbaImage>], random: &mut Random) -> Self {
        let mut scene = Self { pixels: ground(random), placed: Vec::new() };
        let wanted = random.between(1, MOST);
        for _ in 0..4 * wanted {
            if scene.placed.len() == wanted {
                break;
            }
            let class = random.below(stamps.len());
            let stamp = &stamps[class][random.below(stamps[class].len())];
            scene.put(class, stamp, random);
        }
        scene
    }

    /// Puts a stamp somewhere, unless it would cover too much of another or be covered.
    fn put(&mut self, class: usize, stamp: &RgbaImage, random: &mut Random) {
        let (width, height) = stamp.dimensions();
        let side = random.between(SIZES[0], SIZES[1]) as u32;
        let longer = width.max(height);
        let scaled = |own: u32| (own * side).div_ceil(longer).max(6);
        let mut stamp = resized(stamp, scaled(width), scaled(height));
        if random.below(2) == 1 {
            imageops::flip_horizontal_in_place(&mut stamp);
        }
        let Some([left, top, width, height]) = seen(&stamp).map(|b| b.map(|v| v as usize)) else { return };
        let (x, y) = (random.below(SIDE - width + 1), random.below(SIDE - height + 1));
        let both =
            |a: usize, b: usize, c: usize, d: usize| (a + b).min(c + d).saturating_sub(a.max(c)) as f64;
        let covers = |other: &Placed| {
            let [ox, oy, ow, oh] = other.place;
            let both = both(x, width, ox, ow) * both(y, height, oy, oh);
            both > COVERED * (width * height).min(ow * oh) as f64
        };
        if self.placed.iter().any(covers) {
            return;
        }
        let mut pixels = 0;
        for row in 0..height {
            for column in 0..width {
                let Rgba([r, g, b, alpha]) = *stamp.get_pixel((left + column) as u32, (top + row) as u32);
                pixels += usize::from(alpha >= SEEN);
                let at = ((y + row) * SIDE + x + column) * 3;
                for (under, own) in self.pixels[at..at + 3].iter_mut().zip([r, g, b]) {
                    let (own, alpha) = (u32::from(own), u32::from(alpha));
                    *under = ((own * alpha + u32::from(*under) * (255 - alpha) + 127) / 255) as u8;
                }
            }
        }
        self.placed.push(Placed { class, place: [x, y, width, height], pixels });
    }

    fn png(&self) -> Vec<u8> {
        Raster::new(SIDE, SIDE, 3, &self.pixels).to_png()
    }
}

/// A stamp at another size. Colours count by their opacity, or what is transparent would shine through at edges.
fn resized(stamp: &RgbaImage, width: u32, height: u32) -> RgbaImage {
    let mut by_opacity = stamp.clone();
    for Rgba([r, g, b, alpha]) in by_opacity.pixels_mut() {
        for colour in [r, g, b] {
            *colour = ((u32::from(*colour) * u32::from(*alpha) + 127) / 255) as u8;
        }
    }
    let mut small = imageops::resize(&by_opacity, width, height, FilterType::Triangle);
    for Rgba([r, g, b, alpha]) in small.pixels_mut() {
        for colour in [r, g, b] {
            let opaque = u32::from(*alpha).max(1);
            *colour = ((u32::from(*colour) * 255 + opaque / 2) / opaque).min(255) as u8;
        }
    }
    small
}

/// A ground: a slope between two colours, with bars and discs of others.
fn ground(random: &mut Random) -> Vec<u8> {
    let (from, to) = (random.colour(), random.colour());
    let (across, down) = (random.below(3) as i32, random.below(3) as i32);
    let span = (across + down).max(1) * (SIDE as i32 - 1);
    let mut pixels = Vec::with_capacity(SIDE * SIDE * 3);
    for y in 0..SIDE as i32 {
        for x in 0..SIDE as i32 {
            let at = across * x + down * y;
            pixels.extend((0..3).map(|c| (from[c] + (to[c] - from[c]) * at / span) as u8));
        }
    }
    for _ in 0..random.below(7) {
        let (colour, half) = (random.colour(), random.below(2) == 1);
        let (x, y) = (random.below(SIDE) as i32, random.below(SIDE) as i32);
        let (size, disc) = (random.between(4, 40) as i32, random.below(2) == 1);
        let length = random.between(4, 90) as i32;
        for row in 0..SIDE as i32 {
            for column in 0..SIDE as i32 {
                let (dx, dy) = (column - x, row - y);
                let inside = match disc {
                    true => dx * dx + dy * dy < size * size,
                    false => (0..length).contains(&dx) && (0..size / 3 + 1).contains(&dy),
                };
                if inside {
                    let at = (row as usize * SIDE + column as usize) * 3;
                    for (under, own) in pixels[at..at + 3].iter_mut().zip(colour) {
                        *under = if half { ((i32::from(*under) + own) / 2) as u8 } else { own as u8 };
                    }
                }
            }
        }
    }
    // Nothing photographed is quite even.
    let strength = random.below(12);
    for value in &mut pixels {
        let noise = random.below(2 * strength + 1) as i32 - strength as i32;
        *value = (i32::from(*value) + noise).clamp(0, 255) as u8;
    }
    pixels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamps() -> Vec<Vec<RgbaImage>> {
        let one = |colour: [u8; 3], edge: u32| {
            RgbaImage::from_fn(80, 50, |x, y| {
                let inside = x >= edge && y >= edge && x < 80 - edge && y < 50 - edge;
                Rgba([colour[0], colour[1], colour[2], if inside { 255 } else { 0 }])
            })
        };
        vec![vec![one([250, 0, 0], 0)], vec![one([0, 250, 0], 8), one([0, 0, 250], 3)]]
    }

    #[test]
    fn boxes_are_what_is_seen_of_stamps() {
        assert_eq!(seen(&stamps()[1][0]), Some([8, 8, 64, 34]));
        let mut found = 0;
        for seed in 0..40 {
            let scene = Scene::compose(&stamps(), &mut Random(seed));
            let again = Scene::compose(&stamps(), &mut Random(seed));
            assert_eq!(scene.pixels, again.pixels);
            assert!(!scene.placed.is_empty() && scene.placed.len() <= MOST);
            for placed in &scene.placed {
                let [left, top, width, height] = placed.place;
                assert!(left + width <= SIDE && top + height <= SIDE);
                assert!(placed.pixels > 0 && placed.pixels <= width * height);
                // The middle of the last one is its own.
                found += 1;
            }
            let Some(Placed { class, place: [left, top, width, height], .. }) = scene.placed.last() else {
                continue;
            };
            let at = ((top + height / 2) * SIDE + left + width / 2) * 3;
            let pixel = &scene.pixels[at..at + 3];
            assert_eq!(pixel.iter().position(|v| *v > 200) == Some(0), *class == 0, "{pixel:?}");
        }
        assert!(found > 60);
    }
}
