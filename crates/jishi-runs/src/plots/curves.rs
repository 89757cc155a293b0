//! Training curves: of one run, or of several laid over each other.

use super::axis::{Axis, range};
use super::frame::{Area, Entry, Frame, Mark};
use super::scene::{Color, GREY, INK, Scene, WHITE, palette};
use crate::table::{number, thousands};

/// Lines of more points than this are thinned.
const MAX_LINE: usize = 2_000;
/// Lines of more points than this are shown with their running mean, over this many stretches.
const NOISY_ABOVE: usize = 600;
const MEANS: usize = 150;
/// Losses whose largest is this many times the smallest are shown on a logarithmic axis.
const LOG_ABOVE: f64 = 50.0;

/// What the curves plot shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Curves {
    /// Title.
    pub title: String,
    /// Label of the horizontal axis: `epoch` or `step`.
    pub x_label: String,
    /// Label of the vertical axis: the loss and its unit.
    pub y_label: String,
    /// The runs; one shows training and validation in two colours, several have a colour each.
    pub runs: Vec<RunCurve>,
}

/// The curves of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunCurve {
    /// The run's name.
    pub name: String,
    /// Epoch (or step) and training loss, in order.
    pub train: Vec<[f64; 2]>,
    /// Epoch (or step) and validation loss, in order.
    pub validation: Vec<[f64; 2]>,
    /// Epoch (or step) and validation loss of the best weights.
    pub best: Option<[f64; 2]>,
}

/// Training and validation loss over epochs or steps. The vertical axis is logarithmic where the losses span more
/// than a factor of 50.
#[must_use]
pub fn curves(curves: &Curves) -> Scene {
    let points = || curves.runs.iter().flat_map(|r| r.train.iter().chain(&r.validation).chain(&r.best));
    let (x_min, x_max) = range(points().map(|p| p[0])).unwrap_or((0.0, 1.0));
    let (y_min, y_max) = range(points().map(|p| p[1])).unwrap_or((0.0, 1.0));
    let log = y_min > 0.0 && y_max / y_min > LOG_ABOVE;
    let y = if log { Axis::log(y_min / 1.15, y_max * 1.15) } else { Axis::around(y_min, y_max, 6) };
    let single = curves.runs.len() == 1;
    let mut legend = Vec::new();
    if single {
        let run = &curves.runs[0];
        legend.push(Entry { label: "training".into(), color: palette(0), mark: Mark::Line });
        if !run.validation.is_empty() {
            legend.push(Entry { label: "validation".into(), color: palette(1), mark: Mark::Line });
        }
        if let Some([x, y]) = run.best {
            let label = format!("best: {} {}, {}", curves.x_label, thousands(&x.to_string()), number(y, 4));
            legend.push(Entry { label, color: INK, mark: Mark::Dashes });
        }
    } else {
        for (i, run) in curves.runs.iter().enumerate() {
            legend.push(Entry { label: run.name.clone(), color: palette(i), mark: Mark::Line });
        }
        if curves.runs.iter().any(|r| !r.validation.is_empty()) {
            legend.push(Entry { label: "pale: training".into(), color: GREY.alpha(0.4), mark: Mark::Line });
        }
    }
    let frame = Frame {
        size: [880.0, 540.0],
        title: &curves.title,
        note: "",
        x_label: &curves.x_label,
        y_label: &curves.y_label,
        x: Axis::whole(x_min, x_max, 10),
        y,
        legend,
    };
    let (mut scene, area) = frame.draw();
    for (i, run) in curves.runs.iter().enumerate() {
        let pale = !single && !run.validation.is_empty();
        draw_line(&mut scene, &area, &run.train, if pale { palette(i).alpha(0.35) } else { palette(i) });
    }
    for (i, run) in curves.runs.iter().enumerate() {
        draw_line(&mut scene, &area, &run.validation, palette(if single { 1 } else { i }));
    }
    for (i, run) in curves.runs.iter().enumerate() {
        let Some([x, y]) = run.best.filter(|b| b.iter().all(|v| v.is_finite())) else { continue };
        let at = area.at(x, y);
        if single {
            scene.dashes(vec![[at[0], area.top], [at[0], area.bottom]], INK.alpha(0.75), 1.4);
        }
        scene.dots(vec![at], 6.5, WHITE);
        scene.dots(vec![at], 5.0, if single { palette(1) } else { palette(i) });
    }
    scene
}

/// Draws a line; a long one, as of the loss of every step, pale, with its running mean on top.
fn draw_line(scene: &mut Scene, area: &Area, points: &[[f64; 2]], color: Color) {
    if points.len() <= NOISY_ABOVE {
        area.line(scene, points, color, 2.4);
        return;
    }
    area.line(scene, &thin(points), color.alpha(color.alpha * 0.3), 1.2);
    let means = points.chunks(points.len().div_ceil(MEANS)).map(|part| {
        let n = part.len() as f64;
        [part.iter().map(|p| p[0]).sum::<f64>() / n, part.iter().map(|p| p[1]).sum::<f64>() / n]
    });
    area.line(scene, &means.collect::<Vec<_>>(), color, 2.4);
}

/// Keeps the first, lowest, highest and last of every stretch, so that no spike is lost.
fn thin(points: &[[f64; 2]]) -> Vec<[f64; 2]> {
    if points.len() <= MAX_LINE {
        return points.to_vec();
    }
    let stretch = points.len().div_ceil(MAX_LINE / 4);
    let mut kept = Vec::with_capacity(MAX_LINE + 4);
    for part in points.chunks(stretch) {
        let index = |better: fn(f64, f64) -> bool| {
            (0..part.len()).reduce(|a, b| if better(part[b][1], part[a][1]) { b } else { a }).unwrap_or(0)
        };
        let mut at = [0, index(|b, a| b < a), index(|b, a| b > a), part.len() - 1];
        at.sort_unstable();
        for (i, k) in at.iter().enumerate() {
            if i == 0 || at[i - 1] != *k {
                kept.push(part[*k]);
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_ends_and_spikes() {
        let mut points: Vec<[f64; 2]> = (0..100_000).map(|i| [f64::from(i), 1.0]).collect();
        points[54_321][1] = 9.0;
        points[12_345][1] = -9.0;
        let kept = thin(&points);
        assert!(kept.len() <= MAX_LINE);
        assert_eq!((kept[0], kept[kept.len() - 1]), (points[0], points[99_999]));
        assert!(kept.contains(&[54_321.0, 9.0]) && kept.contains(&[12_345.0, -9.0]));
        assert!(kept.is_sorted_by(|a, b| a[0] < b[0]));
    }
}
