//! Figures of boxes against pycocotools.

use jishi_data::image::Object;
use jishi_tasks::metrics::detection::{Detection, Looked, coco, misses};
use serde_json::Value;

use crate::{close, fixture, numbers};

fn rows(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().expect("a list").iter().map(numbers).collect()
}

#[test]
fn figures_are_those_of_pycocotools() {
    for (i, case) in fixture("coco_map.json").as_array().expect("cases").iter().enumerate() {
        let count = |key: &str| case[key].as_u64().expect("a number") as usize;
        let (images, classes) = (count("images"), count("classes"));
        let (mut actual, mut found) = (vec![Vec::new(); images], vec![Vec::new(); images]);
        for row in rows(&case["truths"]) {
            let place = [row[2], row[3], row[4], row[5]];
            actual[row[0] as usize].push(Object {
                class: row[1] as u32,
                place,
                area: row[6],
                crowd: row[7] != 0.0,
            });
        }
        for row in rows(&case["found"]) {
            let place = [row[3], row[4], row[5], row[6]];
            found[row[0] as usize].push(Detection { class: row[1] as u32, score: row[2], place });
        }
        let looked: Vec<Looked> =
            actual.iter().zip(&found).map(|(actual, found)| Looked { actual, found }).collect();
        let report = coco(&looked, classes);
        for (name, expected) in case["metrics"].as_object().expect("metrics") {
            let expected = expected.as_f64().expect("a number");
            match report.metrics.get(name) {
                // Where no object has the size.
                None => assert_eq!(expected, -1.0, "case {i}: {name}"),
                Some(found) => close(&[*found], &[expected], 1e-9, &format!("case {i}: {name}")),
            }
        }
        let expected = numbers(&case["average_50"]);
        for curve in &report.curves {
            close(&[curve.average], &[expected[curve.class as usize]], 1e-9, "average precision of a class");
            assert!(curve.points.windows(2).all(|p| p[0][0] < p[1][0] && p[0][1] >= p[1][1]));
        }
        let with_objects = expected.iter().filter(|average| **average >= 0.0).count();
        assert_eq!(report.curves.len(), with_objects);
    }
}

#[test]
fn perfect_boxes_reach_one_and_none_reach_zero() {
    let object =
        |class, left: f64| Object { class, place: [left, 0.0, left + 20.0, 20.0], area: 400.0, crowd: false };
    let actual = [object(0, 0.0), object(1, 50.0)];
    let found: Vec<Detection> =
        actual.iter().map(|o| Detection { class: o.class, score: 0.9, place: o.place }).collect();
    let perfect = coco(&[Looked { actual: &actual, found: &found }], 2);
    for name in ["map", "map_50", "map_small", "ar_1", "ar_100"] {
        assert!((perfect.metrics[name] - 1.0).abs() < 1e-12, "{name}");
    }
    assert!(!perfect.metrics.contains_key("map_large"));
    let nothing = coco(&[Looked { actual: &actual, found: &[] }], 2);
    assert_eq!((nothing.metrics["map"], nothing.metrics["ar_100"]), (0.0, 0.0));
    assert!(coco(&[Looked { actual: &[], found: &found }], 2).metrics.is_empty());
    assert_eq!(misses(&Looked { actual: &actual, found: &found }, 0.5), [0, 0]);
    assert_eq!(misses(&Looked { actual: &actual, found: &found[..1] }, 0.5), [1, 0]);
    assert_eq!(misses(&Looked { actual: &actual[..1], found: &found }, 0.5), [0, 1]);
    assert_eq!(misses(&Looked { actual: &actual, found: &found }, 0.95), [2, 0]);
}
