//! A drawing as a list of shapes, in pixels from the top left corner.

use ab_glyph::{Font, FontRef, ScaleFont};

/// A colour with opacity (0 to 1).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Color {
    /// Red, green and blue.
    pub rgb: [u8; 3],
    /// Opacity, 0 to 1.
    pub alpha: f32,
}

impl Color {
    /// An opaque colour.
    #[must_use]
    pub const fn new(r: u8, g: u8, b: u8) -> Self {
        Self { rgb: [r, g, b], alpha: 1.0 }
    }

    /// The colour with another opacity.
    #[must_use]
    pub const fn alpha(self, alpha: f32) -> Self {
        Self { rgb: self.rgb, alpha }
    }

    /// The colour between this one (0) and `other` (1).
    #[must_use]
    pub fn mix(self, other: Self, share: f32) -> Self {
        let blend = |i: usize| {
            let (a, b) = (f32::from(self.rgb[i]), f32::from(other.rgb[i]));
            (a + (b - a) * share.clamp(0.0, 1.0)).round() as u8
        };
        Self { rgb: [blend(0), blend(1), blend(2)], alpha: self.alpha }
    }
}

pub(super) const WHITE: Color = Color::new(255, 255, 255);
/// Text.
pub(super) const INK: Color = Color::new(38, 42, 48);
/// Labels and lines of less weight.
pub(super) const GREY: Color = Color::new(98, 106, 117);
/// Grid.
pub(super) const LIGHT: Color = Color::new(228, 231, 235);

/// The colour number `i`: Okabe & Ito's palette without its black and yellow, which read badly on white.
/// From the seventh on it repeats.
#[must_use]
pub fn palette(i: usize) -> Color {
    const COLORS: [Color; 6] = [
        Color::new(0, 114, 178),
        Color::new(213, 94, 0),
        Color::new(0, 158, 115),
        Color::new(204, 121, 167),
        Color::new(230, 159, 0),
        Color::new(86, 180, 233),
    ];
    COLORS[i % COLORS.len()]
}

/// Where a text's position is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// At its start.
    Start,
    /// In its middle.
    Middle,
    /// At its end.
    End,
}

/// A picture of pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raster {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Red, green and blue of every pixel, `[height, width, 3]`.
    pub rgb: Vec<u8>,
}

impl Raster {
    /// Pixels of one (grey) or three channels, `[height, width, channels]`.
    ///
    /// # Panics
    /// Where there are fewer or more values than pixels.
    #[must_use]
    pub fn new(height: usize, width: usize, channels: usize, pixels: &[u8]) -> Self {
        assert_eq!(pixels.len(), height * width * channels, "a value for each channel of each pixel");
        let rgb = match channels {
            1 => pixels.iter().flat_map(|v| [*v; 3]).collect(),
            _ => pixels.chunks_exact(channels.max(3)).flat_map(|p| [p[0], p[1], p[2]]).collect(),
        };
        Self { width, height, rgb }
    }
}

/// One shape.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// Pixels, scaled without smoothing.
    Image {
        /// Left, top, right and bottom.
        place: [f32; 4],
        /// The pixels.
        raster: Raster,
    },
    /// An open line with round joins.
    Line {
        /// Its corners.
        points: Vec<[f32; 2]>,
        /// Colour.
        color: Color,
        /// Width in pixels.
        width: f32,
        /// Whether it is dashed.
        dashed: bool,
    },
    /// A filled polygon.
    Area {
        /// Its corners.
        points: Vec<[f32; 2]>,
        /// Colour.
        color: Color,
    },
    /// Filled circles of one size.
    Dots {
        /// Their centres.
        centres: Vec<[f32; 2]>,
        /// Radius in pixels.
        radius: f32,
        /// Colour.
        color: Color,
    },
    /// A line of text.
    Text {
        /// Where: on the text's base line.
        at: [f32; 2],
        /// The text.
        text: String,
        /// Font size in pixels.
        size: f32,
        /// Whether it is bold.
        bold: bool,
        /// Colour.
        color: Color,
        /// Which part of the text is at the position.
        anchor: Anchor,
        /// Whether it runs upwards.
        upwards: bool,
    },
}

/// A drawing.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    /// Width in pixels.
    pub width: f32,
    /// Height in pixels.
    pub height: f32,
    /// Shapes, the first at the bottom.
    pub shapes: Vec<Shape>,
}

impl Scene {
    pub(super) fn new(width: f32, height: f32) -> Self {
        Self { width, height, shapes: Vec::new() }
    }

    pub(super) fn image(&mut self, place: [f32; 4], raster: &Raster) {
        self.shapes.push(Shape::Image { place, raster: raster.clone() });
    }

    pub(super) fn line(&mut self, points: Vec<[f32; 2]>, color: Color, width: f32) {
        self.shapes.push(Shape::Line { points, color, width, dashed: false });
    }

    pub(super) fn dashes(&mut self, points: Vec<[f32; 2]>, color: Color, width: f32) {
        self.shapes.push(Shape::Line { points, color, width, dashed: true });
    }

    pub(super) fn rect(&mut self, left: f32, top: f32, right: f32, bottom: f32, color: Color) {
        self.shapes.push(Shape::Area {
            points: vec![[left, top], [right, top], [right, bottom], [left, bottom]],
            color,
        });
    }

    pub(super) fn dots(&mut self, centres: Vec<[f32; 2]>, radius: f32, color: Color) {
        self.shapes.push(Shape::Dots { centres, radius, color });
    }

    pub(super) fn text(&mut self, at: [f32; 2], text: &str, size: f32, color: Color, anchor: Anchor) {
        let text = text.to_string();
        self.shapes.push(Shape::Text { at, text, size, bold: false, color, anchor, upwards: false });
    }

    pub(super) fn bold(&mut self, at: [f32; 2], text: &str, size: f32, color: Color, anchor: Anchor) {
        let text = text.to_string();
        self.shapes.push(Shape::Text { at, text, size, bold: true, color, anchor, upwards: false });
    }

    pub(super) fn upwards(&mut self, at: [f32; 2], text: &str, size: f32, color: Color) {
        let (text, anchor) = (text.to_string(), Anchor::Middle);
        self.shapes.push(Shape::Text { at, text, size, bold: false, color, anchor, upwards: true });
    }
}

/// The embedded font.
pub(super) fn font(bold: bool) -> FontRef<'static> {
    let bytes = if bold { notosans::BOLD_TTF } else { notosans::REGULAR_TTF };
    FontRef::try_from_slice(bytes).expect("the embedded font is a font")
}

/// ab_glyph's scale is the font's height, not its em.
pub(super) fn glyph_scale(font: &impl Font, size: f32) -> f32 {
    size * font.height_unscaled() / font.units_per_em().unwrap_or(1000.0)
}

/// Width of a text in pixels.
pub(super) fn text_width(text: &str, size: f32, bold: bool) -> f32 {
    let font = font(bold);
    let scaled = font.as_scaled(glyph_scale(&font, size));
    let mut last = None;
    let mut width = 0.0;
    for c in text.chars() {
        let id = font.glyph_id(c);
        width += last.map_or(0.0, |l| scaled.kern(l, id)) + scaled.h_advance(id);
        last = Some(id);
    }
    width
}

/// The text, cut with an ellipsis to at most `room` pixels.
pub(super) fn fit(text: &str, size: f32, bold: bool, room: f32) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text_width(&text, size, bold) <= room {
        return text;
    }
    let mut chars: Vec<char> = text.chars().take(400).collect();
    while chars.pop().is_some() {
        let short: String = chars.iter().collect::<String>() + "…";
        if text_width(&short, size, bold) <= room {
            return short;
        }
    }
    String::new()
}
