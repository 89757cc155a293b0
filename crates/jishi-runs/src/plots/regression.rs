//! Plots of a regression, and of the metrics of folds.

use super::MAX_POINTS;
use super::axis::{Axis, range};
use super::frame::{Entry, Frame, Mark};
use super::scene::{INK, Scene, palette};
use crate::table::{number, thousands};

/// Actual and predicted values, in the target's unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Predictions<'a> {
    /// Name of the target, with its unit where known.
    pub target: &'a str,
    /// A line below the title, such as `RMSE 25,100 · R² 0.91`.
    pub note: &'a str,
    /// Actual values.
    pub actual: &'a [f64],
    /// Predicted values, as many.
    pub predicted: &'a [f64],
}

impl Predictions<'_> {
    /// Evenly taken pairs, and the note with a word about it where some are left out.
    fn shown(&self) -> (Vec<[f64; 2]>, String) {
        let pairs = self.actual.iter().zip(self.predicted).map(|(a, p)| [*a, *p]);
        let pairs: Vec<_> = pairs.filter(|p| p.iter().all(|v| v.is_finite())).collect();
        let all = pairs.len();
        if all <= MAX_POINTS {
            return (pairs, self.note.to_string());
        }
        let kept = (0..MAX_POINTS).map(|i| pairs[i * all / MAX_POINTS]).collect();
        let shown =
            format!("{} of {} rows shown", thousands(&MAX_POINTS.to_string()), thousands(&all.to_string()));
        (kept, if self.note.is_empty() { shown } else { format!("{} · {shown}", self.note) })
    }
}

/// Many dots are smaller and paler, so that their density shows.
fn dot_style(count: usize) -> (f32, f32) {
    match count {
        n if n <= 300 => (4.0, 0.65),
        n if n <= 1500 => (3.3, 0.45),
        _ => (2.6, 0.3),
    }
}

/// Predicted against actual values; a perfect model is on the diagonal.
#[must_use]
pub fn predicted_vs_actual(data: &Predictions<'_>) -> Scene {
    let (pairs, note) = data.shown();
    let (min, max) = range(pairs.iter().flatten().copied()).unwrap_or((0.0, 1.0));
    let axis = Axis::around(min, max, 6);
    let frame = Frame {
        size: [700.0, 700.0],
        title: "Predicted and actual values",
        note: &note,
        x_label: &format!("actual {}", data.target),
        y_label: &format!("predicted {}", data.target),
        x: axis.clone(),
        y: axis,
        legend: vec![
            Entry { label: "row".into(), color: palette(0), mark: Mark::Dot },
            Entry { label: "perfect".into(), color: INK, mark: Mark::Dashes },
        ],
    };
    let (mut scene, area) = frame.draw();
    let ends = [area.at(area.x.min, area.y.min), area.at(area.x.max, area.y.max)];
    let (radius, alpha) = dot_style(pairs.len());
    scene.dots(pairs.iter().map(|[a, p]| area.at(*a, *p)).collect(), radius, palette(0).alpha(alpha));
    scene.dashes(ends.to_vec(), INK.alpha(0.75), 1.6);
    scene
}

/// Residuals (predicted − actual) over predicted values.
#[must_use]
pub fn residuals(data: &Predictions<'_>) -> Scene {
    let (pairs, note) = data.shown();
    let points: Vec<[f64; 2]> = pairs.iter().map(|[a, p]| [*p, p - a]).collect();
    let (x_min, x_max) = range(points.iter().map(|p| p[0])).unwrap_or((0.0, 1.0));
    let (y_min, y_max) = range(points.iter().map(|p| p[1]).chain([0.0])).unwrap_or((-1.0, 1.0));
    let frame = Frame {
        size: [880.0, 540.0],
        title: "Residuals",
        note: &note,
        x_label: &format!("predicted {}", data.target),
        y_label: "predicted − actual",
        x: Axis::around(x_min, x_max, 8),
        y: Axis::around(y_min, y_max, 6),
        legend: Vec::new(),
    };
    let (mut scene, area) = frame.draw();
    let (radius, alpha) = dot_style(points.len());
    scene.dots(points.iter().map(|[x, y]| area.at(*x, *y)).collect(), radius, palette(0).alpha(alpha));
    scene.line(vec![area.at(area.x.min, 0.0), area.at(area.x.max, 0.0)], INK, 1.4);
    scene
}

/// A metric over the folds of a cross-validation.
#[derive(Debug, Clone, PartialEq)]
pub struct FoldMetric<'a> {
    /// Name of the metric.
    pub name: &'a str,
    /// Its value on the test rows of every fold.
    pub values: &'a [f64],
}

/// A metric on every fold, with mean and standard deviation (of a sample).
#[must_use]
pub fn fold_metrics(metric: &FoldMetric<'_>) -> Scene {
    let finite: Vec<f64> = metric.values.iter().copied().filter(|v| v.is_finite()).collect();
    let n = finite.len() as f64;
    let mean = finite.iter().sum::<f64>() / n.max(1.0);
    let spread = (finite.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0)).sqrt();
    let ends = finite.iter().copied().chain([mean - spread, mean + spread]);
    let (y_min, y_max) = range(ends).unwrap_or((0.0, 1.0));
    let folds = metric.values.len();
    let mut x = Axis::exact(0.5, folds as f64 + 0.5, folds.min(12));
    x.ticks.retain(|(value, _)| value.fract() == 0.0);
    let frame = Frame {
        size: [880.0, 480.0],
        title: &format!("{} on every fold", metric.name),
        note: &format!("mean {} ± {}", number(mean, 5), number(spread, 3)),
        x_label: "fold",
        y_label: metric.name,
        x,
        y: Axis::around(y_min, y_max, 5),
        legend: vec![
            Entry { label: "fold".into(), color: palette(0), mark: Mark::Dot },
            Entry { label: "mean".into(), color: palette(1), mark: Mark::Line },
            Entry { label: "standard deviation".into(), color: palette(1).alpha(0.18), mark: Mark::Square },
        ],
    };
    let (mut scene, area) = frame.draw();
    let [_, high] = area.at(0.0, mean + spread);
    let [_, low] = area.at(0.0, mean - spread);
    scene.rect(area.left, high, area.right, low, palette(1).alpha(0.13));
    let [_, y] = area.at(0.0, mean);
    scene.line(vec![[area.left, y], [area.right, y]], palette(1), 2.2);
    let shown = metric.values.iter().enumerate().filter(|(_, v)| v.is_finite());
    scene.dots(shown.map(|(i, v)| area.at(i as f64 + 1.0, *v)).collect(), 6.0, palette(0));
    scene
}
