//! A scene as PNG.

use ab_glyph::{Font, PxScale, ScaleFont, point};
use tiny_skia::{FillRule, LineCap, LineJoin, Paint, PathBuilder, Pixmap, Stroke, StrokeDash, Transform};

use super::scene::{Anchor, Color, Raster, Scene, Shape, font, glyph_scale, text_width};

/// Pixels of the picture for one pixel of the scene: sharp on dense screens.
const SCALE: f32 = 2.0;

impl Scene {
    /// The scene as a PNG file, at twice its size in pixels.
    #[must_use]
    pub fn to_png(&self) -> Vec<u8> {
        let (width, height) = ((self.width * SCALE).ceil() as u32, (self.height * SCALE).ceil() as u32);
        let mut pixmap = Pixmap::new(width.max(1), height.max(1)).expect("a scene has a size");
        pixmap.fill(tiny_skia::Color::WHITE);
        for shape in &self.shapes {
            draw(&mut pixmap, shape);
        }
        encode(&pixmap)
    }
}

fn encode(pixmap: &Pixmap) -> Vec<u8> {
    // The ground is opaque, so that every pixel is, and alpha can go.
    let (pixels, _) = pixmap.data().as_chunks::<4>();
    let rgb: Vec<u8> = pixels.iter().flat_map(|p| [p[0], p[1], p[2]]).collect();
    encode_rgb(pixmap.width(), pixmap.height(), &rgb)
}

impl Raster {
    /// The pixels as a PNG file.
    #[must_use]
    pub fn to_png(&self) -> Vec<u8> {
        encode_rgb(self.width as u32, self.height as u32, &self.rgb)
    }
}

fn encode_rgb(width: u32, height: u32, rgb: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    // Of the settings tried, the smallest file at the speed of the fastest.
    encoder.set_deflate_compression(png::DeflateCompression::Level(1));
    encoder.set_filter(png::Filter::Up);
    encoder
        .write_header()
        .and_then(|mut writer| writer.write_image_data(rgb))
        .expect("a vector takes every byte");
    out
}

fn draw(pixmap: &mut Pixmap, shape: &Shape) {
    match shape {
        Shape::Image { place, raster } => paste(pixmap, place.map(|v| v * SCALE), raster),
        Shape::Line { points, color, width, dashed } => {
            let Some(path) = path(points, false) else { return };
            let dash = if *dashed { StrokeDash::new(vec![6.0, 5.0], 0.0) } else { None };
            let stroke = Stroke {
                width: *width,
                line_cap: LineCap::Round,
                line_join: LineJoin::Round,
                dash,
                ..Stroke::default()
            };
            pixmap.stroke_path(&path, &paint(*color), &stroke, Transform::from_scale(SCALE, SCALE), None);
        }
        Shape::Area { points, color } => {
            let Some(path) = path(points, true) else { return };
            let transform = Transform::from_scale(SCALE, SCALE);
            pixmap.fill_path(&path, &paint(*color), FillRule::Winding, transform, None);
        }
        Shape::Dots { centres, radius, color } => {
            for centre in centres {
                dot(pixmap, [centre[0] * SCALE, centre[1] * SCALE], radius * SCALE, *color);
            }
        }
        Shape::Text { at, text, size, bold, color, anchor, upwards } => {
            let shift = match anchor {
                Anchor::Start => 0.0,
                Anchor::Middle => -0.5,
                Anchor::End => -1.0,
            } * text_width(text, *size, *bold)
                * SCALE;
            let at = [at[0] * SCALE, at[1] * SCALE];
            write(pixmap, at, shift, text, *size * SCALE, *bold, *color, *upwards);
        }
    }
}

/// Every pixel of the place takes the pixel of the raster that its middle is in.
fn paste(pixmap: &mut Pixmap, [left, top, right, bottom]: [f32; 4], raster: &Raster) {
    let (across, down) = (raster.width as f32 / (right - left), raster.height as f32 / (bottom - top));
    for y in top.round() as i32..bottom.round() as i32 {
        for x in left.round() as i32..right.round() as i32 {
            let column = ((x as f32 + 0.5 - left) * across) as usize;
            let row = ((y as f32 + 0.5 - top) * down) as usize;
            let (column, row) = (column.min(raster.width - 1), row.min(raster.height - 1));
            let at = (row * raster.width + column) * 3;
            let rgb = [raster.rgb[at], raster.rgb[at + 1], raster.rgb[at + 2]];
            blend(pixmap, x, y, Color { rgb, alpha: 1.0 }, 1.0);
        }
    }
}

fn path(points: &[[f32; 2]], close: bool) -> Option<tiny_skia::Path> {
    let mut builder = PathBuilder::new();
    for (i, [x, y]) in points.iter().enumerate() {
        if i == 0 { builder.move_to(*x, *y) } else { builder.line_to(*x, *y) }
    }
    if close {
        builder.close();
    }
    builder.finish()
}

fn paint(color: Color) -> Paint<'static> {
    let [r, g, b] = color.rgb;
    let mut paint = Paint { anti_alias: true, ..Paint::default() };
    paint.set_color_rgba8(r, g, b, (color.alpha * 255.0).round() as u8);
    paint
}

/// A filled circle, by the distance of every pixel near it: many times faster than a path.
fn dot(pixmap: &mut Pixmap, [x, y]: [f32; 2], radius: f32, color: Color) {
    let (left, right) = ((x - radius - 1.0).floor() as i32, (x + radius + 1.0).ceil() as i32);
    let (top, bottom) = ((y - radius - 1.0).floor() as i32, (y + radius + 1.0).ceil() as i32);
    for row in top..bottom {
        for column in left..right {
            let (dx, dy) = (column as f32 + 0.5 - x, row as f32 + 0.5 - y);
            let cover = (radius + 0.5 - (dx * dx + dy * dy).sqrt()).clamp(0.0, 1.0);
            blend(pixmap, column, row, color, cover);
        }
    }
}

/// Lays a colour over a pixel of the opaque picture.
fn blend(pixmap: &mut Pixmap, x: i32, y: i32, color: Color, cover: f32) {
    if cover <= 0.0 || x < 0 || y < 0 || x >= pixmap.width() as i32 || y >= pixmap.height() as i32 {
        return;
    }
    let at = (y as usize * pixmap.width() as usize + x as usize) * 4;
    let alpha = cover.min(1.0) * color.alpha;
    for (channel, ink) in pixmap.data_mut()[at..at + 3].iter_mut().zip(color.rgb) {
        let below = f32::from(*channel);
        *channel = (below + (f32::from(ink) - below) * alpha + 0.5) as u8;
    }
}

#[allow(clippy::too_many_arguments)] // a text has that many properties
fn write(
    pixmap: &mut Pixmap,
    at: [f32; 2],
    shift: f32,
    text: &str,
    size: f32,
    bold: bool,
    color: Color,
    upwards: bool,
) {
    let font = font(bold);
    let scale = PxScale::from(glyph_scale(&font, size));
    let scaled = font.as_scaled(scale);
    let mut along = shift;
    let mut last = None;
    for c in text.chars() {
        let id = font.glyph_id(c);
        along += last.map_or(0.0, |l| scaled.kern(l, id));
        last = Some(id);
        // Upwards, the glyph is set from the origin and turned around it afterwards.
        let position = if upwards { point(along, 0.0) } else { point(at[0] + along, at[1]) };
        along += scaled.h_advance(id);
        let Some(outline) = font.outline_glyph(id.with_scale_and_position(scale, position)) else { continue };
        let corner = outline.px_bounds().min;
        outline.draw(|x, y, cover| {
            let (x, y) = (corner.x as i32 + x as i32, corner.y as i32 + y as i32);
            let (x, y) = if upwards { (at[0] as i32 + y, at[1] as i32 - x) } else { (x, y) };
            blend(pixmap, x, y, color, cover);
        });
    }
}
