//! Which places of a detector are to find which object.

use super::Truth;
use super::boxes::{Rect, overlap};

/// Power of the score in the alignment.
const OF_SCORE: f32 = 0.5;
/// Power of the overlap in the alignment.
const OF_OVERLAP: i32 = 6;
/// Places that an object may have.
const PLACES: usize = 10;

/// A place that is to find an object.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Assigned {
    /// The place.
    pub place: usize,
    /// Number of the object.
    pub truth: usize,
    /// The score that it is to give to the object's class, 0 to 1.
    pub score: f32,
}

/// Task-aligned assignment (Feng et al. 2021, "TOOD", §3.2): an object takes the places inside of it that say its class with
/// the highest `score^0.5 · overlap^6` at present; of several objects, a place finds the one that it overlaps most. The
/// score to learn is the alignment, scaled so that each object's best is its best overlap (eq. 5).
///
/// # Shapes
/// - `points`: middles of places, `[x, y]` in pixels
/// - `scores`: `[places, classes]`, `boxes`: `[places]`
#[must_use]
pub fn task_aligned(
    points: &[[f32; 2]],
    scores: &[f32],
    boxes: &[Rect],
    classes: usize,
    truths: &[Truth],
) -> Vec<Assigned> {
    // Of each place: the object, the overlap and the alignment.
    let mut taken: Vec<Option<(usize, f32, f32)>> = vec![None; points.len()];
    for (number, truth) in truths.iter().enumerate() {
        let [left, top, right, bottom] = truth.place;
        let middle = [(left + right) / 2.0, (top + bottom) / 2.0];
        let away = |point: &[f32; 2]| (point[0] - middle[0]).powi(2) + (point[1] - middle[1]).powi(2);
        let inside =
            |point: &[f32; 2]| point[0] > left && point[0] < right && point[1] > top && point[1] < bottom;
        let mut candidates: Vec<(f32, f32, usize, f32)> = Vec::new();
        let mut consider = |place: usize, point: &[f32; 2]| {
            let overlap = overlap(boxes[place], truth.place);
            let score = scores[place * classes + truth.class];
            let aligned = score.powf(OF_SCORE) * overlap.powi(OF_OVERLAP);
            candidates.push((aligned, away(point), place, overlap));
        };
        points.iter().enumerate().filter(|(_, p)| inside(p)).for_each(|(place, p)| consider(place, p));
        // An object between the places is found by the nearest.
        if let (true, Some((place, point))) = (
            !points.iter().any(inside),
            points.iter().enumerate().min_by(|a, b| away(a.1).total_cmp(&away(b.1))),
        ) {
            consider(place, point);
        }
        // Where nothing overlaps yet, the nearest to the middle begin.
        candidates.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.total_cmp(&b.1)));
        for (aligned, _, place, overlap) in candidates.into_iter().take(PLACES) {
            if taken[place].is_none_or(|(_, other, _)| overlap > other) {
                taken[place] = Some((number, overlap, aligned));
            }
        }
    }
    let mut best = vec![[0.0_f32; 2]; truths.len()];
    for (truth, overlap, aligned) in taken.iter().flatten() {
        let best = &mut best[*truth];
        *best = [best[0].max(*overlap), best[1].max(*aligned)];
    }
    let one = |(place, taken): (usize, &Option<(usize, f32, f32)>)| {
        let (truth, _, aligned) = (*taken)?;
        let [overlap, most] = best[truth];
        let score = if most > 0.0 { aligned * overlap / most } else { 0.0 };
        Some(Assigned { place, truth, score })
    };
    taken.iter().enumerate().filter_map(one).collect()
}

/// Anchors that an object is matched with: those that overlap it by half or more, and the one that overlaps it most (Liu et
/// al. 2016, §2.2). Of several objects, an anchor has the one that it overlaps most, but is no object's only one twice.
/// Gives the object of each anchor.
#[must_use]
pub fn by_overlap(anchors: &[Rect], truths: &[Truth]) -> Vec<Option<usize>> {
    const ENOUGH: f32 = 0.5;
    let mut best: Vec<(f32, Option<usize>)> = vec![(ENOUGH, None); anchors.len()];
    let mut firsts: Vec<(f32, usize, usize)> = Vec::new();
    for (number, truth) in truths.iter().enumerate() {
        for (place, anchor) in anchors.iter().enumerate() {
            let overlap = overlap(*anchor, truth.place);
            if overlap > 0.0 {
                firsts.push((overlap, number, place));
            }
            if overlap >= best[place].0 && (best[place].1.is_none() || overlap > best[place].0) {
                best[place] = (overlap, Some(number));
            }
        }
    }
    // Objects choose in the order of how well they fit, each an anchor that none has chosen.
    firsts.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
    let (mut chosen, mut served) = (vec![false; anchors.len()], vec![false; truths.len()]);
    for (_, truth, place) in firsts {
        if !served[truth] && !chosen[place] {
            (served[truth], chosen[place]) = (true, true);
            best[place].1 = Some(truth);
        }
    }
    best.into_iter().map(|(_, truth)| truth).collect()
}
