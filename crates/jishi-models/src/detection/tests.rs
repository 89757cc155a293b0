use burn::tensor::{Device, Tensor, TensorData};

use super::assign::{by_overlap, task_aligned};
use super::boxes::{Found, overlap, suppress};
use super::dual::complete_overlap;
use super::{Backbone, Detector, DetectorConfig, SsdConfig, Truth, YoloConfig, ssd, yolo};
use crate::context::Context;
use crate::rng::Rng;

const SHAPE: [usize; 3] = [64, 96, 3];

fn yolo_config() -> YoloConfig {
    YoloConfig { shape: SHAPE, width: 4, depth: 1, classes: 3, nms: 0.6 }
}

fn ssd_config(backbone: Backbone) -> SsdConfig {
    SsdConfig { shape: SHAPE, backbone, width: 4, classes: 3, nms: 0.45 }
}

fn both() -> [DetectorConfig; 3] {
    [
        DetectorConfig::Yolo(yolo_config()),
        DetectorConfig::Ssd(ssd_config(Backbone::Light)),
        DetectorConfig::Ssd(ssd_config(Backbone::Vgg)),
    ]
}

fn random(seed: u64, n: usize, scale: f32) -> Vec<f32> {
    let mut rng = Rng::new(seed, 1);
    (0..n).map(|_| rng.normal() * scale).collect()
}

fn truths() -> Vec<Vec<Truth>> {
    let truth = |class, place| Truth { class, place };
    vec![
        vec![truth(0, [4.0, 6.0, 40.0, 50.0]), truth(2, [50.0, 10.0, 75.0, 33.0])],
        Vec::new(),
        // Smaller than the distance of places.
        vec![truth(1, [17.0, 17.0, 19.0, 19.5])],
    ]
}

fn close(found: f64, expected: f64, what: &str) {
    assert!(
        (found - expected).abs() <= 2e-3 * expected.abs().max(5e-2),
        "{what}: {found}, expected {expected}"
    );
}

/// The slope of `f` along a value of `x`.
fn slope(x: &[f32], i: usize, f: impl Fn(&[f32]) -> f64) -> f64 {
    let step = 3e-3_f32;
    let at = |by: f32| {
        let mut moved = x.to_vec();
        moved[i] += by;
        (f(&moved), f64::from(moved[i]))
    };
    let ((high, to), (low, from)) = (at(step), at(-step));
    (high - low) / (to - from)
}

#[test]
fn outputs_have_a_row_for_each_place() {
    for config in both() {
        config.check().unwrap();
        let device = Device::flex();
        let model = Detector::init(&config, 1, &device);
        let x = Tensor::from_data(TensorData::new(random(1, 2 * 64 * 96 * 3, 1.0), [2, 64, 96, 3]), &device);
        let output = model.forward(x, &mut Context::evaluation());
        let [batch, places, scores] = output.classes.dims();
        assert_eq!((batch, places), (2, config.places()));
        let (expected, numbers) = match config {
            DetectorConfig::Yolo(_) => (3, 64),
            DetectorConfig::Ssd(_) => (4, 4),
        };
        assert_eq!(scores, expected);
        assert_eq!(output.boxes.dims(), [2, places, numbers]);
        let written = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<DetectorConfig>(&written).unwrap(), config);
    }
    let odd = DetectorConfig::Yolo(YoloConfig { shape: [64, 70, 3], ..yolo_config() });
    assert!(odd.check().unwrap_err().to_string().contains("multiples of 32"));
}

#[test]
fn boxes_come_back_from_their_numbers() {
    let config = ssd_config(Backbone::Light);
    for (i, anchor) in ssd::anchors(&config).into_iter().enumerate() {
        let place = [3.0 + i as f32 % 7.0, 5.0, 30.0 + i as f32 % 11.0, 28.5];
        let back = ssd::decode(anchor, ssd::encode(anchor, place));
        back.iter().zip(place).for_each(|(a, b)| assert!((a - b).abs() < 1e-3, "{back:?} {place:?}"));
    }
    // A distribution that lies on two bins means the distance between them.
    let points = yolo::points(&yolo_config());
    let (point, stride) = points[13];
    let place = [point[0] - 20.3, point[1] - 11.0, point[0] + 33.0, point[1] + 7.7];
    let targets = yolo::encode(point, stride, place);
    let mut numbers = vec![-1e4_f32; points.len() * 64];
    for (side, target) in targets.iter().enumerate() {
        let low = target.floor() as usize;
        numbers[13 * 64 + side * 16 + low] = (1.0 - target.fract()).max(1e-9).ln();
        numbers[13 * 64 + side * 16 + low + 1] = target.fract().max(1e-9).ln();
    }
    let (_, boxes) = yolo::scored(&yolo_config(), &vec![0.0; points.len() * 3], &numbers);
    boxes[13].iter().zip(place).for_each(|(a, b)| assert!((a - b).abs() < 1e-2, "{:?} {place:?}", boxes[13]));
}

#[test]
fn overlaps_are_known() {
    assert_eq!(overlap([0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 3.0, 3.0]), 1.0 / 7.0);
    assert_eq!(overlap([0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0]), 1.0);
    assert_eq!(overlap([0.0, 0.0, 2.0, 2.0], [2.0, 0.0, 3.0, 2.0]), 0.0);
    // Half of the width, the same height: the middles are a quarter apart, the shapes differ.
    let (found, weight) = complete_overlap([0.0, 0.0, 1.0, 2.0], [0.0, 0.0, 2.0, 2.0], None);
    let shape = 4.0 / std::f64::consts::PI.powi(2) * (1.0_f64.atan() - 0.5_f64.atan()).powi(2);
    let expected = 0.5 - 0.25 / 8.0 - shape * (shape / (0.5 + shape));
    assert!((found.value - expected).abs() < 1e-5 && weight > 0.0);
    let place = [3.0, 4.0, 11.0, 9.0];
    for truth in [[2.0, 3.0, 9.0, 12.0], [20.0, 21.0, 30.0, 24.0], [4.0, 5.0, 10.0, 8.0]] {
        let (found, weight) = complete_overlap(place, truth, None);
        for side in 0..4 {
            let at = |by: f64| {
                let mut moved = place;
                moved[side] += by;
                complete_overlap(moved, truth, Some(weight)).0.value
            };
            let expected = (at(1e-6) - at(-1e-6)) / 2e-6;
            assert!((found.slopes[side] - expected).abs() < 1e-6, "{truth:?} {side}");
        }
    }
}

#[test]
fn the_surest_of_boxes_that_overlap_is_kept() {
    let found = |class, score, left| Found { class, score, place: [left, 0.0, left + 10.0, 10.0] };
    let all = vec![found(0, 0.5, 1.0), found(0, 0.9, 0.0), found(1, 0.4, 0.0), found(0, 0.3, 20.0)];
    let kept = suppress(all.clone(), 0.5, 10);
    let scores: Vec<f32> = kept.iter().map(|f| f.score).collect();
    assert_eq!(scores, [0.9, 0.4, 0.3]);
    assert_eq!(suppress(all.clone(), 0.9, 10).len(), 4);
    assert_eq!(suppress(all, 0.5, 1).len(), 1);
}

#[test]
fn places_are_assigned_to_what_they_say_and_overlap() {
    let points: Vec<[f32; 2]> =
        (0..64).map(|i| [(i % 8) as f32 * 8.0 + 4.0, (i / 8) as f32 * 8.0 + 4.0]).collect();
    let around = |i: usize, half: f32| {
        let [x, y] = points[i];
        [x - half, y - half, x + half, y + half]
    };
    let boxes: Vec<[f32; 4]> = (0..64).map(|i| around(i, 12.0)).collect();
    let truth = Truth { class: 1, place: around(27, 12.0) };
    let scores: Vec<f32> = (0..64).flat_map(|_| [0.1, 0.5]).collect();
    let found = task_aligned(&points, &scores, &boxes, 2, &[truth]);
    // Nine points are inside; the one whose box is the object's has its overlap as the score, which is 1.
    assert_eq!(found.len(), 9);
    let best = found.iter().max_by(|a, b| a.score.total_cmp(&b.score)).unwrap();
    assert_eq!((best.place, best.truth), (27, 0));
    assert!((best.score - 1.0).abs() < 1e-6 && found.iter().all(|a| a.place == 27 || a.score < 0.2));
    // Of two objects a place finds the one that it overlaps more.
    let near = Truth { class: 0, place: around(28, 12.0) };
    let found = task_aligned(&points, &scores, &boxes, 2, &[truth, near]);
    let of = |place: usize| found.iter().find(|a| a.place == place).unwrap().truth;
    assert_eq!((of(27), of(28)), (0, 1));
    // One that lies between all points is found by the nearest.
    let tiny = Truth { class: 0, place: [7.0, 7.0, 7.5, 7.5] };
    let found = task_aligned(&points, &scores, &boxes, 2, &[tiny]);
    assert_eq!(found.iter().map(|a| a.place).collect::<Vec<_>>(), [0]);
    assert!(task_aligned(&points, &scores, &boxes, 2, &[]).is_empty());
}

#[test]
fn every_object_has_an_anchor() {
    let anchors = [[0.0, 0.0, 10.0, 10.0], [5.0, 0.0, 15.0, 10.0], [40.0, 40.0, 60.0, 60.0]];
    let truth = |place| Truth { class: 0, place };
    // Both fit the first best; the second object takes what is left.
    let two = [truth([0.0, 0.0, 10.0, 9.0]), truth([1.0, 0.0, 11.0, 9.0])];
    assert_eq!(by_overlap(&anchors, &two), [Some(0), Some(1), None]);
    // A small one is matched though it overlaps little.
    assert_eq!(by_overlap(&anchors, &[truth([48.0, 48.0, 52.0, 52.0])]), [None, None, Some(0)]);
    assert_eq!(by_overlap(&anchors, &[]), [None; 3]);
}

#[test]
fn gradients_of_a_yolo_are_differences() {
    let config = yolo_config();
    let places = config.shape[0] * config.shape[1] / 64 * 21 / 16;
    assert_eq!(yolo::points(&config).len(), places);
    let truths = truths();
    let (classes, boxes) = (random(3, 3 * places * 3, 1.0), random(4, 3 * places * 64, 0.7));
    let points: Vec<[f32; 2]> = yolo::points(&config).iter().map(|p| p.0).collect();
    let assigned: Vec<_> = (0..3)
        .map(|i| {
            let (c, b) = (&classes[i * places * 3..][..places * 3], &boxes[i * places * 64..][..places * 64]);
            let (scores, found) = yolo::scored(&config, c, b);
            task_aligned(&points, &scores, &found, 3, &truths[i])
        })
        .collect();
    assert!(assigned[0].len() > 8 && assigned[1].is_empty() && assigned[2].len() == 1);
    let loss = yolo::loss_of(&config, &classes, &boxes, &truths, &assigned);
    assert_eq!(loss, yolo::loss(&config, &classes, &boxes, &truths));
    let place = assigned[0][3].place;
    for i in [place * 3, place * 3 + 1, 2, places * 3 + 5, 2 * places * 3 + 40] {
        let expected = slope(&classes, i, |c| yolo::loss_of(&config, c, &boxes, &truths, &assigned).value);
        close(f64::from(loss.classes[i]), expected, "a logit");
    }
    // Of a box: with the weight of the shapes held, as it counts as a constant.
    let truth = truths[0][assigned[0][3].truth].place;
    let at = yolo::points(&config)[place];
    let numbers = &boxes[place * 64..][..64];
    let means: Vec<f32> = numbers
        .chunks_exact(16)
        .map(|row| {
            let sum: f32 = row.iter().map(|x| x.exp()).sum();
            row.iter().enumerate().map(|(bin, x)| bin as f32 * x.exp() / sum).sum()
        })
        .collect();
    let ([x, y], stride) = at;
    let now = [x - means[0] * stride, y - means[1] * stride, x + means[2] * stride, y + means[3] * stride];
    let weight = complete_overlap(now.map(f64::from), truth.map(f64::from), None).1;
    let mut gradient = vec![0.0; 64];
    yolo::of_box_with(at, numbers, truth, Some(weight), 1.0, &mut gradient);
    for i in (0..64).step_by(5) {
        let expected =
            slope(numbers, i, |n| yolo::of_box_with(at, n, truth, Some(weight), 1.0, &mut vec![0.0; 64]));
        close(f64::from(gradient[i]), expected, "a number for a box");
    }
    // Places that find nothing have no box to learn.
    let free = (0..places).find(|p| !assigned[0].iter().any(|a| a.place == *p)).unwrap();
    assert!(loss.boxes[free * 64..][..64].iter().all(|g| *g == 0.0));
}

#[test]
fn gradients_of_an_ssd_are_differences() {
    let config = ssd_config(Backbone::Light);
    let places = ssd::anchors(&config).len();
    let truths = truths();
    let (classes, boxes) = (random(5, 3 * places * 4, 1.0), random(6, 3 * places * 4, 0.7));
    let loss = ssd::loss(&config, &classes, &boxes, &truths);
    let learned =
        |values: &[f32]| -> Vec<usize> { (0..values.len()).filter(|i| values[*i] != 0.0).collect() };
    let (of_classes, of_boxes) = (learned(&loss.classes), learned(&loss.boxes));
    // Three negatives for each match, and three of the image without objects.
    assert_eq!(of_classes.len() / 4, of_boxes.len() / 4 * 4 + 3);
    for i in of_classes.iter().step_by(7) {
        let expected = slope(&classes, *i, |c| ssd::loss(&config, c, &boxes, &truths).value);
        close(f64::from(loss.classes[*i]), expected, "a logit");
    }
    for i in of_boxes.iter().step_by(3) {
        let expected = slope(&boxes, *i, |b| ssd::loss(&config, &classes, b, &truths).value);
        close(f64::from(loss.boxes[*i]), expected, "a number for a box");
    }
}

#[test]
fn the_tape_has_the_loss_and_its_gradients() {
    for config in both() {
        let device = Device::flex().autodiff();
        let model = Detector::init(&config, 1, &device);
        let places = config.places();
        let (scores, numbers) = if matches!(config, DetectorConfig::Yolo(_)) { (3, 64) } else { (4, 4) };
        let (classes, boxes) = (random(7, 3 * places * scores, 1.0), random(8, 3 * places * numbers, 0.7));
        let on_tape = |values: &[f32], width: usize| -> Tensor<3> {
            Tensor::from_data(TensorData::new(values.to_vec(), [3, places, width]), &device).require_grad()
        };
        let (a, b) = (on_tape(&classes, scores), on_tape(&boxes, numbers));
        let output = super::Output { classes: a.clone(), boxes: b.clone() };
        let loss = model.loss(output, &truths());
        let expected = match &config {
            DetectorConfig::Yolo(config) => yolo::loss(config, &classes, &boxes, &truths()),
            DetectorConfig::Ssd(config) => ssd::loss(config, &classes, &boxes, &truths()),
        };
        close(f64::from(loss.clone().into_scalar::<f32>()), expected.value, "the loss");
        let gradients = loss.backward();
        let of = |x: &Tensor<3>| x.grad(&gradients).unwrap().into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(of(&a), expected.classes);
        assert_eq!(of(&b), expected.boxes);
    }
}
