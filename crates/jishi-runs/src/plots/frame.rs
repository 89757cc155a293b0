//! The frame of a plot: title, legend, axes, grid.

use super::axis::Axis;
use super::scene::{Anchor, Color, GREY, INK, LIGHT, Scene, fit, text_width};

const TITLE: f32 = 19.0;
const LABEL: f32 = 15.0;
const TICK: f32 = 14.0;

/// How a legend's entry looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Mark {
    Line,
    Dashes,
    Dot,
    Square,
}

/// An entry of the legend.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub label: String,
    pub color: Color,
    pub mark: Mark,
}

/// What stands around the data.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Frame<'a> {
    pub size: [f32; 2],
    pub title: &'a str,
    /// A line below the title, such as the metrics.
    pub note: &'a str,
    pub x_label: &'a str,
    pub y_label: &'a str,
    pub x: Axis,
    pub y: Axis,
    pub legend: Vec<Entry>,
}

/// Where the data goes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Area {
    pub left: f32,
    pub top: f32,
    pub right: f32,
    pub bottom: f32,
    pub x: Axis,
    pub y: Axis,
}

impl Area {
    /// The pixel of a value.
    pub fn at(&self, x: f64, y: f64) -> [f32; 2] {
        [
            self.left + self.x.share(x) * (self.right - self.left),
            self.bottom - self.y.share(y) * (self.bottom - self.top),
        ]
    }

    /// Draws a line through values, broken where one is not a finite number.
    pub fn line(&self, scene: &mut Scene, points: &[[f64; 2]], color: Color, width: f32) {
        for part in points.split(|[x, y]| !(x.is_finite() && y.is_finite())) {
            match part {
                [] => {}
                [[x, y]] => scene.dots(vec![self.at(*x, *y)], width * 1.6, color),
                _ => scene.line(part.iter().map(|[x, y]| self.at(*x, *y)).collect(), color, width),
            }
        }
    }
}

impl Frame<'_> {
    /// Draws the frame; gives the scene and where the data goes.
    pub fn draw(self) -> (Scene, Area) {
        let [width, height] = self.size;
        let mut scene = Scene::new(width, height);
        let tick_width = self.y.ticks.iter().map(|(_, l)| text_width(l, TICK, false)).fold(0.0, f32::max);
        let left = 16.0 + LABEL * 1.5 + tick_width + 12.0;
        let right = width - 28.0;
        let mut top = 36.0;
        scene.bold([left, top], &fit(self.title, TITLE, true, right - left), TITLE, INK, Anchor::Start);
        if !self.note.is_empty() {
            top += 24.0;
            scene.text([left, top], &fit(self.note, LABEL, false, right - left), LABEL, GREY, Anchor::Start);
        }
        top = draw_legend(&mut scene, &self.legend, left, right, top) + 22.0;
        let bottom = height - 66.0;
        let area = Area { left, top, right, bottom, x: self.x, y: self.y };

        for (value, label) in &area.y.ticks {
            let y = area.at(area.x.min, *value)[1];
            scene.line(vec![[left, y], [right, y]], LIGHT, 1.0);
            scene.text([left - 9.0, y + TICK * 0.36], label, TICK, GREY, Anchor::End);
        }
        let mut free = f32::MIN;
        for (value, label) in &area.x.ticks {
            let x = area.at(*value, area.y.min)[0];
            scene.line(vec![[x, top], [x, bottom]], LIGHT, 1.0);
            // A label that would touch the one before it is left out.
            let half = text_width(label, TICK, false) / 2.0;
            if x - half > free {
                scene.text([x, bottom + 21.0], label, TICK, GREY, Anchor::Middle);
                free = x + half + 8.0;
            }
        }
        scene.line(vec![[left, bottom], [right, bottom]], GREY, 1.2);
        let middle = (left + right) / 2.0;
        scene.text([middle, height - 18.0], self.x_label, LABEL, INK, Anchor::Middle);
        scene.upwards([16.0 + LABEL * 0.6, (top + bottom) / 2.0], self.y_label, LABEL, INK);
        (scene, area)
    }
}

/// Draws the legend in rows from `left`; gives the lowest base line.
fn draw_legend(scene: &mut Scene, entries: &[Entry], left: f32, right: f32, top: f32) -> f32 {
    if entries.is_empty() {
        return top;
    }
    let mut y = top + 27.0;
    let mut x = left;
    for entry in entries {
        let label = fit(&entry.label, TICK, false, right - left - 40.0);
        let width = 32.0 + text_width(&label, TICK, false);
        if x > left && x + width > right {
            x = left;
            y += 22.0;
        }
        let middle = y - TICK * 0.35;
        match entry.mark {
            Mark::Line => scene.line(vec![[x, middle], [x + 22.0, middle]], entry.color, 2.6),
            Mark::Dashes => scene.dashes(vec![[x, middle], [x + 22.0, middle]], entry.color, 1.8),
            Mark::Dot => scene.dots(vec![[x + 13.0, middle]], 5.0, entry.color),
            Mark::Square => scene.rect(x + 7.0, middle - 6.0, x + 19.0, middle + 6.0, entry.color),
        }
        scene.text([x + 29.0, y], &label, TICK, INK, Anchor::Start);
        x += width + 20.0;
    }
    y
}
