//! Bytes of picture files as pixels. Nothing of a file is believed before it is checked.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader};
use jishi_recipe::{Channels, Problem};

use super::pictures::OwnedPicture;

/// Most pixels of a picture: 64 megapixels, 192 MiB in colour.
pub(crate) const MAX_PIXELS: u64 = 64 << 20;
/// Most bytes of a file.
pub(crate) const MAX_BYTES: u64 = 512 << 20;

/// Why something is no picture that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bad {
    /// In words that are the same for all such pictures.
    pub reason: &'static str,
    /// What exactly.
    pub message: String,
}

impl Bad {
    pub(crate) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// The format that bytes begin like.
pub(crate) fn format_of(bytes: &[u8]) -> Option<ImageFormat> {
    image::guess_format(bytes).ok().filter(|format| format.reading_enabled())
}

/// Whether a file's name ends as those of pictures do.
pub(crate) fn named_like_a_picture(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, ending)| {
        ImageFormat::from_extension(ending).is_some_and(|format| format.reading_enabled())
    })
}

/// The picture that a file's bytes hold: of a film the first frame; turned as its EXIF data says; what is transparent
/// lies on white.
///
/// # Errors
/// What is no picture, damaged, cut short or too large.
pub(crate) fn decode(bytes: &[u8], channels: Channels) -> Result<OwnedPicture, Bad> {
    let Some(format) = format_of(bytes) else { return Err(not_a_picture(bytes)) };
    // Decoders are fuzzed and do not panic, as far as anybody knows.
    match catch_unwind(AssertUnwindSafe(|| decode_as(format, bytes))) {
        Ok(result) => result.map(|picture| convert(&picture, channels)),
        Err(_) => Err(Bad::new("a damaged picture", format!("the decoder of {} failed", name_of(format)))),
    }
}

fn decode_as(format: ImageFormat, bytes: &[u8]) -> Result<DynamicImage, Bad> {
    let damaged = |error: ImageError| {
        let what = match &error {
            ImageError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                "the file is cut short"
            }
            ImageError::Unsupported(_) => "a kind of it that is not supported",
            _ => "it is damaged",
        };
        Bad::new("a damaged picture", format!("{}: {what} ({error})", name_of(format)))
    };
    let mut decoder = ImageReader::with_format(Cursor::new(bytes), format).into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err(Bad::new("an empty picture", format!("it has {width} × {height} pixels")));
    }
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(Bad::new(
            "a picture that is too large",
            format!("it claims {width} × {height} pixels; at most {} megapixels are read", MAX_PIXELS >> 20),
        ));
    }
    if format == ImageFormat::Jpeg && !jpeg_ends(bytes) {
        return Err(Bad::new("a damaged picture", "JPEG: the file is cut short"));
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

/// Format and kind of pixel of a picture that [`decode`] takes, in words.
pub(crate) fn described(bytes: &[u8]) -> (&'static str, String) {
    let Some(format) = format_of(bytes) else { return ("picture", "unknown".into()) };
    let name = name_of(format);
    let read = || ImageReader::with_format(Cursor::new(bytes), format).into_decoder().map(|d| d.color_type());
    let Ok(Ok(colour)) = catch_unwind(AssertUnwindSafe(read)) else { return (name, "unknown".into()) };
    // Decoders make colours of a palette. In a PNG file its kind follows height and width.
    let palette = match format {
        ImageFormat::Gif => true,
        ImageFormat::Png => bytes.get(25) == Some(&3),
        _ => false,
    };
    let kind = match (palette, colour.has_color()) {
        (true, _) => "palette",
        (_, true) => "colour",
        _ => "grey",
    };
    let deep = match colour.bytes_per_pixel() / colour.channel_count() {
        2 => ", 16-bit",
        4 => ", 32-bit",
        _ => "",
    };
    let alpha = if colour.has_alpha() && format != ImageFormat::Gif { ", alpha" } else { "" };
    (name, format!("{kind}{alpha}{deep}"))
}

/// Height and width that a picture's first bytes claim, before anything is decoded.
///
/// # Errors
/// What is no picture, or damaged.
pub fn claimed_size(bytes: &[u8]) -> Result<[u64; 2], Problem> {
    let Some(format) = format_of(bytes) else { return Err(Problem::new(not_a_picture(bytes).message)) };
    let damaged = || Problem::new(format!("{}: it is damaged", name_of(format)));
    let read = || ImageReader::with_format(Cursor::new(bytes), format).into_decoder().map(|d| d.dimensions());
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok((width, height))) => Ok([height.into(), width.into()]),
        _ => Err(damaged()),
    }
}

/// Whether a JPEG file's data has its end marker. The decoder takes a file that was cut short for one with a grey rest.
fn jpeg_ends(bytes: &[u8]) -> bool {
    let mut at = 2;
    // Segments have their length in front; a preview in one of them has an end marker of its own.
    while let Some(&[0xff, marker]) = bytes.get(at..at + 2) {
        match marker {
            0xda => break,
            0xff => at += 1,
            0x01 | 0xd0..=0xd8 => at += 2,
            _ => match bytes.get(at + 2..at + 4) {
                Some(&[high, low]) => at += 2 + usize::from(u16::from_be_bytes([high, low])),
                _ => return false,
            },
        }
    }
    bytes.get(at..).is_some_and(|data| memchr::memmem::rfind(data, &[0xff, 0xd9]).is_some())
}

fn name_of(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Png => "PNG",
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::Gif => "GIF",
        ImageFormat::WebP => "WebP",
        ImageFormat::Tiff => "TIFF",
        ImageFormat::Bmp => "BMP",
        ImageFormat::Pnm => "PNM",
        _ => "picture",
    }
}

/// What the bytes are instead, as far as that can be seen.
fn not_a_picture(bytes: &[u8]) -> Bad {
    let start = bytes.trim_ascii_start();
    let head = String::from_utf8_lossy(&start[..start.len().min(256)]).to_lowercase();
    let found = if bytes.is_empty() {
        "an empty file"
    } else if head.starts_with("<svg") || (head.starts_with("<?xml") && head.contains("<svg")) {
        "an SVG drawing; convert it to PNG"
    } else if head.starts_with("<!doctype html") || head.starts_with("<html") {
        "a web page, perhaps the answer of a server that did not give the picture"
    } else if bytes.get(4..8) == Some(b"ftyp") {
        "an AVIF, HEIC or MP4 file; convert it to PNG or JPEG"
    } else if bytes.starts_with(b"%PDF") {
        "a PDF file"
    } else if bytes.starts_with(b"version https://git-lfs") {
        "a pointer of Git LFS; fetch the file itself with `git lfs pull`"
    } else if bytes.iter().take(512).all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()) {
        "text"
    } else {
        "something else"
    };
    Bad::new(
        "not a picture",
        format!("expected a PNG, JPEG, GIF, BMP, WebP, TIFF or PNM file, found {found}"),
    )
}

/// 8 bits a value, without transparency, in the colours that are asked for.
fn convert(picture: &DynamicImage, channels: Channels) -> OwnedPicture {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let pixels: Vec<u8> = match (picture, channels) {
        (DynamicImage::ImageLuma8(p), Channels::Gray) => p.as_raw().clone(),
        (DynamicImage::ImageRgb8(p), Channels::Rgb) => p.as_raw().clone(),
        (DynamicImage::ImageLuma16(_), Channels::Gray) => picture.to_luma8().into_raw(),
        (DynamicImage::ImageLumaA8(_) | DynamicImage::ImageLumaA16(_), _) => {
            let gray = picture.to_luma_alpha8();
            gray.as_raw()
                .as_chunks()
                .0
                .iter()
                .flat_map(|&[l, a]| {
                    let l = on_white(l, a);
                    std::iter::repeat_n(l, channels.count())
                })
                .collect()
        }
        _ if picture.color().has_alpha() => {
            let rgba = picture.to_rgba8();
            let colours = rgba.as_raw().as_chunks().0.iter();
            let colours = colours.map(|&[r, g, b, a]| [r, g, b].map(|c| on_white(c, a)));
            match channels {
                Channels::Rgb => colours.flatten().collect(),
                Channels::Gray => colours.map(luma).collect(),
            }
        }
        (_, Channels::Rgb) => picture.to_rgb8().into_raw(),
        (_, Channels::Gray) => picture.to_rgb8().as_raw().as_chunks().0.iter().copied().map(luma).collect(),
    };
    OwnedPicture { height, width, channels: channels.count(), pixels }
}

fn on_white(value: u8, alpha: u8) -> u8 {
    let (value, alpha) = (u32::from(value), u32::from(alpha));
    ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

/// Luma of ITU-R BT.601, as Pillow rounds it.
pub(crate) fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((19_595 * u32::from(r) + 38_470 * u32::from(g) + 7_471 * u32::from(b) + 0x8000) >> 16) as u8
}
