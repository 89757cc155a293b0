//! Pictures of pictures: what a model sees in training, and where it is most wrong.

use jishi_models::Context;
use jishi_runs::plots::{Gallery, Scene, Tile, gallery};
use jishi_tasks::vision::Images;
use jishi_tasks::{ClassOutputs, SplitName};

use super::source::raster;

/// Images of a gallery.
const SHOWN: usize = 24;
/// Images a row.
const COLUMNS: usize = 8;

/// Training images as the first step sees them, with a caption each.
#[must_use]
pub fn in_training(images: &Images, rows: &[u32], seed: u64, caption: impl Fn(u32) -> Vec<String>) -> Scene {
    let rows = &rows[..rows.len().min(SHOWN)];
    let values = images.changed(rows, &Context::training(seed, 0, 0));
    let size = values.len() / rows.len().max(1);
    let tiles = rows.iter().zip(values.chunks_exact(size.max(1))).map(|(row, values)| Tile {
        raster: raster(images.preparation.picture(values).view()),
        caption: caption(*row),
        boxes: Vec::new(),
    });
    draw("Images as training sees them", "with the random changes of the first step", tiles.collect())
}

/// The images of a split whose label the model found least likely; nothing where all are right.
#[must_use]
pub fn misses(images: &Images, rows: &[u32], split: SplitName, outputs: &ClassOutputs) -> Option<Scene> {
    let classes = outputs.names.len();
    let of = |i: usize| &outputs.probabilities[i * classes..][..classes];
    let found = |i: usize| jishi_tasks::metrics::most_probable(of(i));
    let mut wrong: Vec<usize> =
        (0..rows.len()).filter(|i| found(*i) != outputs.actual[*i] as usize).collect();
    let likely = |i: &usize| of(*i)[outputs.actual[*i] as usize];
    wrong.sort_by(|a, b| likely(a).total_cmp(&likely(b)));
    let note = format!("{} split: {} of {} are wrong", split.name(), wrong.len(), rows.len());
    let tiles: Vec<Tile> = wrong
        .iter()
        .take(SHOWN)
        .map(|i| Tile {
            raster: raster(images.pictures.get(rows[*i] as usize)),
            caption: vec![
                format!("is {}", outputs.names[outputs.actual[*i] as usize]),
                format!("told {} {:.2}", outputs.names[found(*i)], of(*i)[found(*i)]),
            ],
            boxes: Vec::new(),
        })
        .collect();
    (!tiles.is_empty()).then(|| draw("Worst misses", &note, tiles))
}

fn draw(title: &str, note: &str, tiles: Vec<Tile>) -> Scene {
    gallery(&Gallery { title, note, columns: COLUMNS, side: 110.0, tiles })
}
