//! Pictures side by side.

use super::scene::{Anchor, GREY, INK, LIGHT, Raster, Scene, fit, palette, text_width};

/// Pixels between tiles, and around all.
const GAP: f32 = 12.0;
/// Pixels around the words of a box's label, of both sides.
const LABEL: f32 = 6.0;
/// Font size of captions.
const SMALL: f32 = 14.0;

/// Pictures in rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Gallery<'a> {
    /// The title.
    pub title: &'a str,
    /// A line below it.
    pub note: &'a str,
    /// Tiles a row.
    pub columns: usize,
    /// Pixels of a tile's longer side.
    pub side: f32,
    /// The tiles, row by row.
    pub tiles: Vec<Tile>,
}

/// A picture of a gallery.
#[derive(Debug, Clone, PartialEq)]
pub struct Tile {
    /// Its pixels.
    pub raster: Raster,
    /// Lines below it.
    pub caption: Vec<String>,
    /// Boxes drawn on it.
    pub boxes: Vec<Boxed>,
}

/// A box on a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Boxed {
    /// Left, top, right and bottom, in pixels of the picture.
    pub place: [f32; 4],
    /// What is written at it.
    pub label: String,
    /// Its colour: a number of the palette.
    pub color: usize,
    /// Drawn as a dashed line.
    pub dashed: bool,
}

/// Draws a gallery.
#[must_use]
pub fn gallery(gallery: &Gallery<'_>) -> Scene {
    let columns = gallery.columns.max(1);
    let lines = gallery.tiles.iter().map(|t| t.caption.len()).max().unwrap_or(0) as f32;
    let (across, down) = (gallery.side + GAP, gallery.side + GAP + lines * (SMALL + 4.0));
    let rows = gallery.tiles.len().div_ceil(columns);
    let head = if gallery.note.is_empty() { 52.0 } else { 74.0 };
    let shown = columns.min(gallery.tiles.len().max(1)) as f32;
    let width = (shown * across + GAP).max(360.0);
    let mut scene = Scene::new(width, head + rows as f32 * down + GAP);
    let room = width - 2.0 * GAP;
    scene.bold([GAP, 34.0], &fit(gallery.title, 20.0, true, room), 20.0, INK, Anchor::Start);
    scene.text([GAP, 58.0], &fit(gallery.note, 15.0, false, room), 15.0, GREY, Anchor::Start);
    for (i, tile) in gallery.tiles.iter().enumerate() {
        let (left, top) = (GAP + (i % columns) as f32 * across, head + (i / columns) as f32 * down);
        draw(&mut scene, tile, left, top, gallery.side);
    }
    scene
}

/// Draws one picture with its boxes and nothing around it, with so many pixels on its longer side.
#[must_use]
pub fn annotated(tile: &Tile, side: f32) -> Scene {
    let raster = &tile.raster;
    let scale = side / raster.width.max(raster.height).max(1) as f32;
    let (width, height) = (raster.width as f32 * scale, raster.height as f32 * scale);
    let mut scene = Scene::new(width, height);
    let bare = Tile { caption: Vec::new(), ..tile.clone() };
    draw(&mut scene, &bare, (width - side) / 2.0, (height - side) / 2.0, side);
    scene
}

fn draw(scene: &mut Scene, tile: &Tile, left: f32, top: f32, side: f32) {
    let raster = &tile.raster;
    let scale = side / raster.width.max(raster.height).max(1) as f32;
    let (width, height) = (raster.width as f32 * scale, raster.height as f32 * scale);
    let (x, y) = (left + (side - width) / 2.0, top + (side - height) / 2.0);
    // A white picture on white ground has an edge too.
    scene.rect(x - 1.0, y - 1.0, x + width + 1.0, y + height + 1.0, LIGHT);
    scene.image([x, y, x + width, y + height], raster);
    for boxed in &tile.boxes {
        let [x0, y0, x1, y1] = boxed.place;
        let inside = |v: f32, most: f32| v.clamp(0.0, most) * scale;
        let (x0, x1) = (x + inside(x0, raster.width as f32), x + inside(x1, raster.width as f32));
        let (y0, y1) = (y + inside(y0, raster.height as f32), y + inside(y1, raster.height as f32));
        let corners = vec![[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]];
        let color = palette(boxed.color);
        if boxed.dashed {
            scene.dashes(corners, color, 2.0)
        } else {
            scene.line(corners, color, 2.0)
        }
        if boxed.label.is_empty() {
            continue;
        }
        let label = fit(&boxed.label, SMALL, true, (width - LABEL).max(0.0));
        let above = if y0 - SMALL - 4.0 > y { y0 } else { y0 + SMALL + 4.0 };
        let ground = text_width(&label, SMALL, true) + LABEL;
        // What would go beyond the right edge begins further left.
        let at = x0.min(x + width - ground).max(x);
        scene.rect(at - 1.0, above - SMALL - 4.0, at + ground, above, color);
        scene.bold([at + 2.0, above - 4.0], &label, SMALL, super::scene::WHITE, Anchor::Start);
    }
    for (line, text) in tile.caption.iter().enumerate() {
        let at = [left + side / 2.0, top + side + (line + 1) as f32 * (SMALL + 4.0)];
        scene.text(
            at,
            &fit(text, SMALL, false, side),
            SMALL,
            if line == 0 { INK } else { GREY },
            Anchor::Middle,
        );
    }
}
