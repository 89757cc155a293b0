//! Plots of a classification.

use super::MAX_POINTS;
use super::axis::Axis;
use super::frame::{Area, Entry, Frame, Mark};
use super::scene::{Anchor, GREY, INK, Scene, WHITE, fit, palette, text_width};
use crate::table::{number, thousands};

const SQUARE: [f32; 2] = [700.0, 700.0];

/// A curve of one class against the rest.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreCurve {
    /// Name of the class.
    pub class: String,
    /// Points from left to right: false and true positive rate, or recall and precision.
    pub points: Vec<[f64; 2]>,
    /// The area: AUROC, or average precision.
    pub value: f64,
}

/// Receiver operating characteristic: true against false positive rate.
#[must_use]
pub fn roc(curves: &[ScoreCurve]) -> Scene {
    let (mut scene, area) =
        score_frame("ROC curve", "AUROC", "false positive rate", "true positive rate", curves);
    scene.dashes(vec![area.at(0.0, 0.0), area.at(1.0, 1.0)], GREY, 1.4);
    for (i, curve) in curves.iter().enumerate() {
        area.line(&mut scene, &steps(&curve.points), palette(i), 2.4);
    }
    scene
}

/// Precision against recall.
///
/// # Arguments
/// - `prevalence`: share of the positive class, drawn as what a guess reaches; for one curve.
#[must_use]
pub fn pr(curves: &[ScoreCurve], prevalence: Option<f64>) -> Scene {
    let (mut scene, area) =
        score_frame("Precision and recall", "average precision", "recall", "precision", curves);
    if let Some(share) = prevalence.filter(|p| p.is_finite()) {
        scene.dashes(vec![area.at(0.0, share), area.at(1.0, share)], GREY, 1.4);
    }
    for (i, curve) in curves.iter().enumerate() {
        area.line(&mut scene, &steps(&curve.points), palette(i), 2.4);
    }
    scene
}

fn score_frame(title: &str, score: &str, x: &str, y: &str, curves: &[ScoreCurve]) -> (Scene, Area) {
    let entry = |(i, c): (usize, &ScoreCurve)| Entry {
        label: format!("{} ({})", c.class, number(c.value, 4)),
        color: palette(i),
        mark: Mark::Line,
    };
    let note = match curves {
        [one] => format!("{} · {score} {}", one.class, number(one.value, 4)),
        _ => format!("one class against the rest ({score})"),
    };
    let legend = if curves.len() > 1 { curves.iter().enumerate().map(entry).collect() } else { Vec::new() };
    let (x_axis, y_axis) = (Axis::exact(0.0, 1.0, 5), Axis::exact(0.0, 1.0, 5));
    Frame { size: SQUARE, title, note: &note, x_label: x, y_label: y, x: x_axis, y: y_axis, legend }.draw()
}

/// Thins a curve evenly; both ends stay.
fn steps(points: &[[f64; 2]]) -> Vec<[f64; 2]> {
    if points.len() <= MAX_POINTS {
        return points.to_vec();
    }
    (0..MAX_POINTS).map(|i| points[i * (points.len() - 1) / (MAX_POINTS - 1)]).collect()
}

/// Predicted probabilities against what happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration<'a> {
    /// A line below the title, such as `expected calibration error 0.021`.
    pub note: &'a str,
    /// The bins; empty ones are left out of the curve.
    pub bins: &'a [CalibrationBin],
}

/// A bin of a calibration plot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CalibrationBin {
    /// Lower end.
    pub from: f64,
    /// Upper end.
    pub to: f64,
    /// Mean predicted probability (or confidence) in the bin.
    pub predicted: f64,
    /// Share that came true.
    pub observed: f64,
    /// Number of predictions.
    pub count: u64,
}

/// Of fewer predictions than this, the share that came true is mostly chance: its standard error is up to 0.16.
const FEW: u64 = 10;

/// Calibration: share that came true against predicted probability, with the number of predictions as bars. Bins of
/// few predictions are pale dots, and the line breaks there.
#[must_use]
pub fn calibration(data: &Calibration<'_>) -> Scene {
    let mut legend = vec![
        Entry { label: "model".into(), color: palette(0), mark: Mark::Line },
        Entry { label: "perfect".into(), color: GREY, mark: Mark::Dashes },
        Entry { label: "predictions per bin".into(), color: palette(5).alpha(0.35), mark: Mark::Square },
    ];
    if data.bins.iter().any(|b| (1..FEW).contains(&b.count)) {
        let label = format!("fewer than {FEW}");
        legend.push(Entry { label, color: palette(0).alpha(0.3), mark: Mark::Dot });
    }
    let frame = Frame {
        size: SQUARE,
        title: "Calibration",
        note: data.note,
        x_label: "predicted probability",
        y_label: "share that came true",
        x: Axis::exact(0.0, 1.0, 5),
        y: Axis::exact(0.0, 1.0, 5),
        legend,
    };
    let (mut scene, area) = frame.draw();
    let most = data.bins.iter().map(|b| b.count).max().unwrap_or(0).max(1) as f64;
    for bin in data.bins.iter().filter(|b| b.count > 0) {
        // Bars take the lowest quarter of the plot at most.
        let [left, top] = area.at(bin.from, 0.25 * bin.count as f64 / most);
        let [right, bottom] = area.at(bin.to, 0.0);
        scene.rect(left + 1.0, top, right - 1.0, bottom, palette(5).alpha(0.35));
    }
    scene.dashes(vec![area.at(0.0, 0.0), area.at(1.0, 1.0)], GREY, 1.4);
    // Broken where a bin says nothing: a line across it would claim what nobody measured.
    let point = |b: &CalibrationBin| if b.count >= FEW { [b.predicted, b.observed] } else { [f64::NAN; 2] };
    area.line(&mut scene, &data.bins.iter().map(point).collect::<Vec<_>>(), palette(0), 2.4);
    let (many, few): (Vec<&CalibrationBin>, Vec<&CalibrationBin>) =
        data.bins.iter().filter(|b| b.count > 0).partition(|b| b.count >= FEW);
    for (bins, color) in [(few, palette(0).alpha(0.3)), (many, palette(0))] {
        let finite = bins.iter().filter(|b| b.predicted.is_finite() && b.observed.is_finite());
        scene.dots(finite.map(|b| area.at(b.predicted, b.observed)).collect(), 5.0, color);
    }
    scene
}

/// Actual against predicted classes.
#[derive(Debug, Clone, PartialEq)]
pub struct Confusion<'a> {
    /// Names of the classes.
    pub classes: &'a [String],
    /// `counts[actual][predicted]`.
    pub counts: &'a [Vec<u64>],
}

/// Confusion matrix: counts, coloured by the share of the actual class. Many classes are shown without numbers, very
/// many without names.
#[must_use]
pub fn confusion_matrix(data: &Confusion<'_>) -> Scene {
    const TICK: f32 = 14.0;
    let n = data.classes.len().max(1);
    let cell = (540.0 / n as f32).clamp(6.0, 130.0);
    let (named, numbered) = (cell >= 17.0, cell >= 44.0);
    let names: Vec<String> =
        data.classes.iter().map(|c| if named { fit(c, TICK, false, 150.0) } else { String::new() }).collect();
    let label_width = names.iter().map(|c| text_width(c, TICK, false)).fold(0.0, f32::max);
    let upwards = label_width > cell - 6.0;
    let left = 52.0 + label_width;
    let (top, side) = (88.0, cell * n as f32);
    let below = if upwards { label_width + 14.0 } else { 26.0 };
    let width = (left + side + 40.0).max(420.0);
    let mut scene = Scene::new(width, top + side + below + 42.0);
    scene.bold([left, 36.0], "Confusion matrix", 19.0, INK, Anchor::Start);
    scene.text([left, 60.0], "rows, and share of the actual class", 15.0, GREY, Anchor::Start);
    for (row, counts) in data.counts.iter().enumerate().take(n) {
        let total = counts.iter().sum::<u64>();
        let y = top + row as f32 * cell;
        for (column, count) in counts.iter().enumerate().take(n) {
            let share = if total > 0 { *count as f32 / total as f32 } else { 0.0 };
            let x = left + column as f32 * cell;
            let gap = if numbered { 1.5 } else { 0.5 };
            let color = palette(0).mix(crate::plots::Color::new(240, 244, 248), 1.0 - share.sqrt());
            scene.rect(x + gap, y + gap, x + cell - gap, y + cell - gap, color);
            if !numbered {
                continue;
            }
            let ink = if share > 0.35 { WHITE } else { INK };
            let middle = x + cell / 2.0;
            let text = thousands(&count.to_string());
            let size = if cell >= 80.0 { 18.0 } else { 14.0 };
            if cell >= 60.0 {
                scene.bold([middle, y + cell / 2.0], &text, size, ink, Anchor::Middle);
                let percent = format!("{:.1} %", share * 100.0);
                scene.text([middle, y + cell / 2.0 + 20.0], &percent, TICK, ink, Anchor::Middle);
            } else {
                scene.text([middle, y + cell / 2.0 + 5.0], &text, size, ink, Anchor::Middle);
            }
        }
    }
    for (i, name) in names.iter().enumerate() {
        let middle = (i as f32 + 0.5) * cell;
        scene.text([left - 9.0, top + middle + TICK * 0.36], name, TICK, GREY, Anchor::End);
        if upwards {
            // Centred text that runs upwards, set so that its end is at the matrix.
            let y = top + side + 9.0 + text_width(name, TICK, false) / 2.0;
            scene.upwards([left + middle + TICK * 0.36, y], name, TICK, GREY);
        } else {
            scene.text([left + middle, top + side + 20.0], name, TICK, GREY, Anchor::Middle);
        }
    }
    scene.text([left + side / 2.0, top + side + below + 22.0], "predicted", 15.0, INK, Anchor::Middle);
    scene.upwards([26.0, top + side / 2.0], "actual", 15.0, INK);
    scene
}
