//! A scene as SVG.

use std::fmt::Write;

use base64::Engine;

use super::scene::{Anchor, Color, Scene, Shape};

impl Scene {
    /// The scene as an SVG document. Text stays text, in the reader's sans-serif font.
    #[must_use]
    pub fn to_svg(&self) -> String {
        let (w, h) = (self.width, self.height);
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" \
             font-family=\"Noto Sans, sans-serif\">\n<rect width=\"{w}\" height=\"{h}\" fill=\"#fff\"/>\n"
        );
        for shape in &self.shapes {
            write_shape(&mut out, shape);
        }
        out.push_str("</svg>\n");
        out
    }
}

fn write_shape(out: &mut String, shape: &Shape) {
    match shape {
        Shape::Image { place: [left, top, right, bottom], raster } => {
            let png = base64::engine::general_purpose::STANDARD.encode(raster.to_png());
            let (width, height) = (short(right - left), short(bottom - top));
            let _ = writeln!(
                out,
                "<image x=\"{}\" y=\"{}\" width=\"{width}\" height=\"{height}\" preserveAspectRatio=\"none\" \
                 style=\"image-rendering:pixelated\" href=\"data:image/png;base64,{png}\"/>",
                short(*left),
                short(*top)
            );
        }
        Shape::Line { points, color, width, dashed } => {
            let dash = if *dashed { " stroke-dasharray=\"6 5\"" } else { "" };
            let paint = paint("stroke", *color);
            let _ = writeln!(
                out,
                "<path d=\"{}\" fill=\"none\"{paint} stroke-width=\"{width}\" stroke-linejoin=\"round\" \
                 stroke-linecap=\"round\"{dash}/>",
                path(points)
            );
        }
        Shape::Area { points, color } => {
            let _ = writeln!(out, "<path d=\"{}Z\"{}/>", path(points), paint("fill", *color));
        }
        Shape::Dots { centres, radius, color } => {
            let _ = write!(out, "<g{}>", paint("fill", *color));
            for [x, y] in centres {
                let _ = write!(out, "<circle cx=\"{}\" cy=\"{}\" r=\"{radius}\"/>", short(*x), short(*y));
            }
            out.push_str("</g>\n");
        }
        Shape::Text { at: [x, y], text, size, bold, color, anchor, upwards } => {
            let anchor = match anchor {
                Anchor::Start => "start",
                Anchor::Middle => "middle",
                Anchor::End => "end",
            };
            let (x, y) = (short(*x), short(*y));
            let weight = if *bold { " font-weight=\"bold\"" } else { "" };
            let turn = if *upwards { format!(" transform=\"rotate(-90 {x} {y})\"") } else { String::new() };
            let _ = writeln!(
                out,
                "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\"{weight} text-anchor=\"{anchor}\"{}{turn}>{}</text>",
                paint("fill", *color),
                escape(text)
            );
        }
    }
}

fn path(points: &[[f32; 2]]) -> String {
    let mut text = String::new();
    for (i, [x, y]) in points.iter().enumerate() {
        let _ = write!(text, "{}{} {}", if i == 0 { 'M' } else { 'L' }, short(*x), short(*y));
    }
    text
}

/// Two decimals at most.
fn short(value: f32) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

fn paint(attribute: &str, color: Color) -> String {
    let [r, g, b] = color.rgb;
    let mut text = format!(" {attribute}=\"#{r:02x}{g:02x}{b:02x}\"");
    if color.alpha < 1.0 {
        let _ = write!(text, " {attribute}-opacity=\"{}\"", short(color.alpha));
    }
    text
}

/// Makes any text safe inside XML.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
