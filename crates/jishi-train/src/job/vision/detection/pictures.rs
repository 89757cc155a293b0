//! Pictures of what a detector finds.

use jishi_data::image::{Object, Scenes};
use jishi_runs::plots::{self, Boxed, Gallery, Raster, ScoreCurve, Tile};
use jishi_tasks::SplitName;
use jishi_tasks::metrics::detection::{Curve, Detection, Looked, misses};
use jishi_tasks::vision::DetectionTask;
use jishi_tasks::vision::detection::Inspected;

use super::super::source::raster;
use super::{SHOWN, note};
use crate::job::pictures::Picture;

/// Tiles of a gallery, and how many are side by side.
const TILES: usize = 12;
const COLUMNS: usize = 4;
/// Pixels of a tile.
const SIDE: f32 = 240.0;
/// Curves that share one plot.
const CURVES: usize = 6;
/// Numbers of the palette: objects that are there are green, those that were found red.
const TRUTH: usize = 2;
const FOUND: usize = 1;

/// Pictures of the images of a split.
pub(super) fn of_split(
    task: &DetectionTask,
    split: SplitName,
    rows: &[u32],
    inspected: &Inspected,
) -> Vec<Picture> {
    let (scenes, names) = (&task.data().scenes, task.names());
    let tile = |i: usize| tile(scenes, rows[i], &inspected.found[i], names);
    let gallery = |title: &str, note: &str, tiles: Vec<Tile>| {
        plots::gallery(&Gallery { title, note, columns: COLUMNS, side: SIDE, tiles })
    };
    let legend = "green: there; red: found";
    let shown = (0..rows.len().min(TILES)).map(tile).collect();
    let mut pictures = vec![Picture {
        name: "boxes",
        title: "Boxes that were found",
        scene: gallery("Boxes", &format!("{}; {legend}", note(split, rows.len())), shown),
    }];
    let mut worst: Vec<(usize, usize)> = (0..rows.len())
        .map(|i| {
            let actual = &scenes.objects[rows[i] as usize];
            let [missed, wrong] = misses(&Looked { actual, found: &inspected.found[i] }, SHOWN);
            (missed + wrong, i)
        })
        .filter(|(count, _)| *count > 0)
        .collect();
    worst.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    if !worst.is_empty() {
        let title = format!("{} images with a miss; {legend}", worst.len());
        let tiles = worst.iter().take(TILES).map(|(_, i)| tile(*i)).collect();
        let scene = gallery("Worst misses", &title, tiles);
        pictures.push(Picture { name: "misses", title: "Worst misses", scene });
    }
    if !inspected.curves.is_empty() {
        let scene = plots::pr(&curves(&inspected.curves, names), None);
        pictures.push(Picture { name: "pr", title: "Precision–recall curve at an overlap of 0.5", scene });
    }
    pictures
}

/// Those of the classes that are found worst and best, where there are many.
fn curves(all: &[Curve], names: &[String]) -> Vec<ScoreCurve> {
    let mut sorted: Vec<&Curve> = all.iter().collect();
    sorted.sort_by(|a, b| a.average.total_cmp(&b.average));
    if sorted.len() > CURVES {
        sorted.drain(CURVES / 2..sorted.len() - CURVES / 2);
    }
    let one = |curve: &&Curve| ScoreCurve {
        class: names[curve.class as usize].clone(),
        points: curve.points.clone(),
        value: curve.average,
    };
    sorted.iter().map(one).collect()
}

fn tile(scenes: &Scenes, row: u32, found: &[Detection], names: &[String]) -> Tile {
    let row = row as usize;
    let (actual, way) = (&scenes.objects[row], scenes.preparation.way(scenes.sizes[row]));
    let boxed = |place: [f64; 4], label: String, color: usize| Boxed {
        place: way.place(place).map(|side| side as f32),
        label,
        color,
        dashed: color == TRUTH,
    };
    let truth = |object: &Object| boxed(object.place, String::new(), TRUTH);
    let mut boxes: Vec<Boxed> = actual.iter().map(truth).collect();
    let sure = found.iter().filter(|d| d.score >= SHOWN);
    boxes.extend(sure.map(|d| boxed(d.place, label(d, names), FOUND)));
    let [missed, wrong] = misses(&Looked { actual, found }, SHOWN);
    let caption = match (missed, wrong) {
        (0, 0) => format!("{} of {0} found", actual.iter().filter(|o| !o.crowd).count()),
        _ => format!("{missed} missed, {wrong} wrong"),
    };
    Tile { raster: raster(scenes.pictures.get(row)), caption: vec![caption], boxes }
}

fn label(detection: &Detection, names: &[String]) -> String {
    format!("{} {:.2}", names[detection.class as usize], detection.score)
}

/// A PNG file of a picture with boxes drawn on it, in colours by class.
#[must_use]
pub fn drawn(picture: &Raster, found: &[Detection], names: &[String]) -> Vec<u8> {
    let side = picture.width.max(picture.height).max(480) as f32;
    let boxes = found.iter().map(|d| Boxed {
        place: d.place.map(|side| side as f32),
        label: label(d, names),
        color: d.class as usize,
        dashed: false,
    });
    let tile = Tile { raster: picture.clone(), caption: Vec::new(), boxes: boxes.collect() };
    plots::annotated(&tile, side).to_png()
}
