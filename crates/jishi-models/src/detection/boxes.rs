//! Boxes: how much they overlap, and which of many are of the same object.

/// Left, top, right and bottom, in pixels.
pub type Rect = [f32; 4];

/// An object that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// Its class.
    pub class: usize,
    /// How sure it is, 0 to 1.
    pub score: f32,
    /// Left, top, right and bottom, in pixels of what the model sees.
    pub place: Rect,
}

/// Square pixels of a box; 0 where it is turned inside out.
#[must_use]
pub fn area([left, top, right, bottom]: Rect) -> f32 {
    (right - left).max(0.0) * (bottom - top).max(0.0)
}

/// Intersection over union, 0 to 1.
#[must_use]
pub fn overlap(a: Rect, b: Rect) -> f32 {
    let both = area([a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])]);
    let all = area(a) + area(b) - both;
    if all > 0.0 { both / all } else { 0.0 }
}

/// The surest boxes, at most `most`: of those of one class that overlap by more than `limit`, the surest alone.
#[must_use]
pub fn suppress(mut found: Vec<Found>, limit: f32, most: usize) -> Vec<Found> {
    /// Boxes that are looked at: there may be one for every place and class.
    const LOOKED_AT: usize = 5_000;
    // Equal scores stay in the order of places, so that the result does not depend on the sort.
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    found.truncate(LOOKED_AT);
    let mut kept: Vec<Found> = Vec::new();
    for one in found {
        let again = |known: &Found| known.class == one.class && overlap(known.place, one.place) > limit;
        if !kept.iter().any(again) {
            kept.push(one);
            if kept.len() == most {
                break;
            }
        }
    }
    kept
}
