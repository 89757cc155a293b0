//! Average precision and recall of boxes by the protocol of COCO (Lin et al. 2014; <https://cocodataset.org/#detection-eval>),
//! equal to `pycocotools` on a stored fixture.

use std::collections::BTreeMap;

use jishi_data::image::Object;

/// A box that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// Number of its class.
    pub class: u32,
    /// How sure it is.
    pub score: f64,
    /// Left, top, right and bottom, in pixels of the picture.
    pub place: [f64; 4],
}

/// What a picture holds, and what was found on it.
#[derive(Debug, Clone, Copy)]
pub struct Looked<'a> {
    /// The objects that are there.
    pub actual: &'a [Object],
    /// Boxes that were found.
    pub found: &'a [Detection],
}

/// Precision over recall of a class, at an overlap of 0.5.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Number of the class.
    pub class: u32,
    /// `[recall, precision]` at 101 recalls from 0 to 1; precision is the best at this recall or a higher one.
    pub points: Vec<[f64; 2]>,
    /// Average precision: the mean of the precisions.
    pub average: f64,
}

/// What a detector reaches.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// By name: `map`, `map_50`, `map_75`, by size, and recalls. What there is no object for is left out.
    pub metrics: BTreeMap<String, f64>,
    /// One for each class that has objects.
    pub curves: Vec<Curve>,
}

/// Overlaps at which boxes count as found: 0.5, 0.55, …, 0.95.
const OVERLAPS: usize = 10;
/// Recalls at which precision is taken: 0, 0.01, …, 1.
const RECALLS: usize = 101;
/// Most boxes of an image and class, and fewer for recall.
const MOST: [usize; 3] = [1, 10, 100];
/// Square pixels of an object, least and greatest: all, small, medium, large.
const AREAS: [[f64; 2]; 4] = [[0.0, 1e10], [0.0, 1024.0], [1024.0, 9216.0], [9216.0, 1e10]];

/// Boxes of a picture of one class: found, the surest first; actual; and how much each overlaps each.
type OfClass<'a> = (Vec<&'a Detection>, Vec<&'a Object>, Vec<Vec<f64>>);

/// Boxes of one image and class, matched at every overlap.
struct Matched {
    scores: Vec<f64>,
    /// Whether each is an object, at each overlap: `[OVERLAPS][boxes]`.
    right: Vec<Vec<bool>>,
    /// Whether each counts neither way.
    ignored: Vec<Vec<bool>>,
    /// Objects that count.
    objects: usize,
}

/// Precision at each overlap and recall, and the highest recall at each overlap: means over classes are taken of these.
struct Counted {
    precision: Vec<Vec<f64>>,
    recall: Vec<f64>,
}

fn overlap_at(i: usize) -> f64 {
    // As numpy's linspace(0.5, 0.95, 10).
    let step = (0.95 - 0.5) / 9.0;
    if i + 1 == OVERLAPS { 0.95 } else { 0.5 + i as f64 * step }
}

fn recall_at(i: usize) -> f64 {
    if i + 1 == RECALLS { 1.0 } else { i as f64 * 0.01 }
}

fn area(place: &[f64; 4]) -> f64 {
    (place[2] - place[0]) * (place[3] - place[1])
}

/// Intersection over union; of a group the union is the found box alone.
fn overlap(found: &[f64; 4], object: &Object) -> f64 {
    let actual = &object.place;
    let width = found[2].min(actual[2]) - found[0].max(actual[0]);
    let height = found[3].min(actual[3]) - found[1].max(actual[1]);
    if width <= 0.0 || height <= 0.0 {
        return 0.0;
    }
    let both = width * height;
    let all = if object.crowd { area(found) } else { area(found) + area(actual) - both };
    both / all
}

/// Figures over pictures; `classes` is how many there are.
#[must_use]
pub fn coco(pictures: &[Looked<'_>], classes: usize) -> Report {
    // [size][most][class]
    let mut all: Vec<Vec<Vec<Option<Counted>>>> =
        AREAS.iter().map(|_| MOST.map(|_| Vec::new()).into()).collect();
    for class in 0..classes as u32 {
        let boxes: Vec<OfClass> = pictures
            .iter()
            .map(|picture| {
                let actual: Vec<&Object> = picture.actual.iter().filter(|o| o.class == class).collect();
                let mut found: Vec<&Detection> = picture.found.iter().filter(|d| d.class == class).collect();
                found.sort_by(|a, b| b.score.total_cmp(&a.score));
                found.truncate(MOST[2]);
                let overlaps =
                    found.iter().map(|d| actual.iter().map(|o| overlap(&d.place, o)).collect()).collect();
                (found, actual, overlaps)
            })
            .collect();
        for (size, range) in AREAS.iter().enumerate() {
            let matched: Vec<Matched> = boxes
                .iter()
                .filter(|(found, actual, _)| !found.is_empty() || !actual.is_empty())
                .map(|(found, actual, overlaps)| matched(found, actual, overlaps, *range))
                .collect();
            for (i, most) in MOST.into_iter().enumerate() {
                // Precision is with the most boxes, and recall of all sizes with fewer too.
                let wanted = i == 2 || size == 0;
                all[size][i].push(if wanted { counted(&matched, most) } else { None });
            }
        }
    }
    report(&all)
}

fn matched(
    found: &[&Detection],
    actual: &[&Object],
    overlaps: &[Vec<f64>],
    [least, greatest]: [f64; 2],
) -> Matched {
    let beyond = |area: f64| area < least || area > greatest;
    let ignore: Vec<bool> = actual.iter().map(|o| o.crowd || beyond(o.area)).collect();
    // Objects that count come first.
    let mut order: Vec<usize> = (0..actual.len()).collect();
    order.sort_by_key(|i| ignore[*i]);
    let mut new = Matched {
        scores: found.iter().map(|d| d.score).collect(),
        right: vec![vec![false; found.len()]; OVERLAPS],
        ignored: vec![vec![false; found.len()]; OVERLAPS],
        objects: ignore.iter().filter(|ignore| !**ignore).count(),
    };
    for at in 0..OVERLAPS {
        let mut taken = vec![false; actual.len()];
        for (d, detection) in found.iter().enumerate() {
            let mut best = overlap_at(at).min(1.0 - 1e-10);
            let mut object: Option<usize> = None;
            for &g in &order {
                if taken[g] && !actual[g].crowd {
                    continue;
                }
                if object.is_some_and(|known| !ignore[known]) && ignore[g] {
                    break;
                }
                if overlaps[d][g] < best {
                    continue;
                }
                best = overlaps[d][g];
                object = Some(g);
            }
            match object {
                Some(g) => {
                    taken[g] = true;
                    new.right[at][d] = true;
                    new.ignored[at][d] = ignore[g];
                }
                None => new.ignored[at][d] = beyond(area(&detection.place)),
            }
        }
    }
    new
}

/// `None` where no object counts.
fn counted(matched: &[Matched], most: usize) -> Option<Counted> {
    let objects: usize = matched.iter().map(|m| m.objects).sum();
    if objects == 0 {
        return None;
    }
    let mut order: Vec<(f64, usize, usize)> = Vec::new();
    for (picture, m) in matched.iter().enumerate() {
        order.extend(m.scores.iter().take(most).enumerate().map(|(d, score)| (*score, picture, d)));
    }
    // Equal scores stay in the order of the pictures.
    order.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut precisions, mut recalls) = (Vec::new(), Vec::new());
    for at in 0..OVERLAPS {
        let (mut right, mut wrong) = (0.0, 0.0);
        let mut points: Vec<[f64; 2]> = Vec::new();
        for (_, picture, d) in &order {
            let m = &matched[*picture];
            if !m.ignored[at][*d] {
                if m.right[at][*d] {
                    right += 1.0;
                } else {
                    wrong += 1.0;
                }
            }
            points.push([right / objects as f64, right / (right + wrong + f64::EPSILON)]);
        }
        recalls.push(points.last().map_or(0.0, |p| p[0]));
        for i in (1..points.len()).rev() {
            points[i - 1][1] = points[i - 1][1].max(points[i][1]);
        }
        let precision = |i: usize| {
            let first = points.partition_point(|p| p[0] < recall_at(i));
            points.get(first).map_or(0.0, |p| p[1])
        };
        precisions.push((0..RECALLS).map(precision).collect());
    }
    Some(Counted { precision: precisions, recall: recalls })
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0), |(sum, n), value| (sum + value, n + 1));
    (n > 0).then(|| sum / f64::from(n))
}

fn report(all: &[Vec<Vec<Option<Counted>>>]) -> Report {
    let precision = |size: usize, at: Option<usize>| {
        let range = at.map_or(0..OVERLAPS, |at| at..at + 1);
        let of = |counted: &Counted| -> Vec<f64> {
            counted.precision[range.clone()].iter().flatten().copied().collect()
        };
        mean(all[size][2].iter().flatten().flat_map(of))
    };
    let recall =
        |size: usize, most: usize| mean(all[size][most].iter().flatten().flat_map(|c| c.recall.clone()));
    let figures = [
        ("map", precision(0, None)),
        ("map_50", precision(0, Some(0))),
        ("map_75", precision(0, Some(5))),
        ("map_small", precision(1, None)),
        ("map_medium", precision(2, None)),
        ("map_large", precision(3, None)),
        ("ar_1", recall(0, 0)),
        ("ar_10", recall(0, 1)),
        ("ar_100", recall(0, 2)),
        ("ar_small", recall(1, 2)),
        ("ar_medium", recall(2, 2)),
        ("ar_large", recall(3, 2)),
    ];
    let metrics = figures.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    let curve = |(class, counted): (usize, &Option<Counted>)| {
        let precision = &counted.as_ref()?.precision[0];
        let points = precision.iter().enumerate().map(|(i, p)| [recall_at(i), *p]).collect();
        let average = mean(precision.iter().copied())?;
        Some(Curve { class: class as u32, points, average })
    };
    Report { metrics, curves: all[0][2].iter().enumerate().filter_map(curve).collect() }
}

/// Objects that were not found, and boxes that are none, of a picture: boxes with a score of at least `least`, the surest
/// first, each the object of its class that it overlaps most and by half.
#[must_use]
pub fn misses(picture: &Looked<'_>, least: f64) -> [usize; 2] {
    let mut found: Vec<&Detection> = picture.found.iter().filter(|d| d.score >= least).collect();
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    let (mut taken, mut wrong) = (vec![false; picture.actual.len()], 0);
    for detection in found {
        let free =
            picture.actual.iter().enumerate().filter(|(i, o)| o.class == detection.class && !taken[*i]);
        let best = free
            .map(|(i, object)| (overlap(&detection.place, object), i))
            .filter(|(overlap, _)| *overlap >= 0.5)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        match best {
            // A group has any number of objects.
            Some((_, i)) => taken[i] = !picture.actual[i].crowd,
            None => wrong += 1,
        }
    }
    let missed =
        picture.actual.iter().zip(&taken).filter(|(object, taken)| !object.crowd && !**taken).count();
    [missed, wrong]
}
