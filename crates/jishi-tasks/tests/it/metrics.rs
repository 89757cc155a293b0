//! tests/fixtures/metrics.py

use std::collections::BTreeMap;

use jishi_recipe::TaskName;
use jishi_tasks::metrics::curves::{Point, Ranking};
use jishi_tasks::metrics::{
    Confusion, classification, intervals, regression, weighted_classification, weighted_regression,
};
use jishi_tasks::registry::task;
use serde_json::Value;

use crate::{close, fixture, integers, numbers};

const TOLERANCE: f64 = 1e-9;

fn equal(found: &BTreeMap<String, f64>, expected: &Value, what: &str, all: bool) {
    let expected = expected.as_object().expect("metrics");
    if all {
        let names: Vec<_> = found.keys().collect();
        let mut listed: Vec<_> = expected.keys().collect();
        listed.sort();
        assert_eq!(names, listed, "{what}");
    }
    for (name, value) in expected {
        close(&[found[name]], &numbers(value), TOLERANCE, &format!("{what}: {name}"));
    }
}

#[test]
fn regression_equals_scikit_learn() {
    let fixture = fixture("metrics.json");
    for case in fixture["regression"].as_array().expect("cases") {
        let name = case["name"].as_str().expect("a name");
        let (actual, predicted) = (numbers(&case["actual"]), numbers(&case["predicted"]));
        let weights = numbers(&case["weights"]);
        equal(&weighted_regression(&actual, &predicted, &weights), &case["metrics"], name, true);
        if weights.iter().all(|w| *w == 1.0) {
            equal(&regression(&actual, &predicted), &case["metrics"], name, true);
        }
    }
}

#[test]
fn classification_equals_scikit_learn() {
    let fixture = fixture("metrics.json");
    for case in fixture["classification"].as_array().expect("cases") {
        let name = case["name"].as_str().expect("a name");
        let (actual, p) = (integers(&case["actual"]), numbers(&case["probabilities"]));
        let (weights, n) = (numbers(&case["weights"]), case["classes"].as_u64().expect("a count") as usize);
        let rankings = Ranking::of_classes(&actual, &p, n);
        let found = weighted_classification(&actual, &p, n, &rankings, &weights);
        equal(&found, &case["metrics"], name, true);
        let confusion = Confusion::new(&actual, &p, n, &weights);
        assert_eq!(confusion.counts, numbers(&case["confusion"]), "{name}");
        if weights.iter().all(|w| *w == 1.0) {
            equal(&classification(&actual, &p, n), &case["metrics"], name, true);
        }
        let curve = |points: Vec<Point>, expected: &Value, what: &str| {
            let (x, y): (Vec<f64>, Vec<f64>) = points.into_iter().map(|p| (p.x, p.y)).unzip();
            close(&x, &numbers(&expected[0]), TOLERANCE, &format!("{name}: x of {what}"));
            close(&y, &numbers(&expected[1]), TOLERANCE, &format!("{name}: y of {what}"));
        };
        if case["roc"].is_array() {
            curve(rankings[0].roc(), &case["roc"], "roc");
            curve(rankings[0].precision_recall(), &case["precision_recall"], "precision-recall");
        }
    }
}

#[test]
fn a_class_that_is_not_there_counts_as_in_scikit_learn() {
    let fixture = fixture("metrics.json");
    let case = &fixture["absent"];
    let found = classification(&integers(&case["actual"]), &numbers(&case["probabilities"]), 4);
    equal(&found, &case["metrics"], "absent", false);
    // One against the rest needs both; the class is left out of the mean.
    assert!(found["auroc"].is_finite() && found["auprc"].is_finite());
}

#[test]
fn one_class_alone_has_no_auroc() {
    let found = classification(&[1, 1], &[0.2, 0.8, 0.6, 0.4], 2);
    assert!(found["auroc"].is_nan());
    assert_eq!(found["accuracy"], 0.5);
}

#[test]
fn the_registry_lists_what_is_measured() {
    let listed = |name: TaskName| {
        let mut names: Vec<String> = task(name).metrics.iter().map(|m| m.name.to_owned()).collect();
        names.sort();
        names
    };
    let found: Vec<String> = regression(&[1.0, 2.0], &[1.0, 3.0]).into_keys().collect();
    assert_eq!(found, listed(TaskName::Regression));
    let found: Vec<String> = classification(&[0, 1], &[0.5, 0.5, 0.5, 0.5], 2).into_keys().collect();
    assert_eq!(found, listed(TaskName::Classification));
}

/// Against the normal approximation: a share p of n rows has standard error √(p(1 − p)/n).
#[test]
fn intervals_have_the_width_of_theory_and_repeat() {
    let n = 586;
    let actual: Vec<u32> = (0..n as u32).map(|i| u32::from(i % 5 != 0)).collect();
    let p: Vec<f64> =
        (0..n).flat_map(|i| [0.3 + (i % 7) as f64 / 100.0, 0.7 - (i % 7) as f64 / 100.0]).collect();
    let rankings = Ranking::of_classes(&actual, &p, 2);
    let run = |seed| intervals(n, 1000, seed, |w| weighted_classification(&actual, &p, 2, &rankings, w));
    let found = run(1);
    let [low, high] = found["accuracy"];
    let expected = 2.0 * 1.96 * (0.8 * 0.2 / n as f64).sqrt();
    assert!(low < 0.8 && high > 0.8);
    assert!(((high - low) / expected - 1.0).abs() < 0.1, "{} {expected}", high - low);
    assert!(found.values().all(|[low, high]| low <= high));
    assert_eq!(found, run(1));
    assert_ne!(found, run(2));
    assert!(intervals(n, 0, 1, |_| BTreeMap::new()).is_empty());
}

/// A resample's weights and its rows give the same metrics.
#[test]
fn weights_are_counts() {
    let actual = [0, 1, 1, 0, 2, 2, 1];
    let p: Vec<f64> = (0..21).map(|i| f64::from((i * 5) % 7 + 1)).collect();
    let p: Vec<f64> =
        p.chunks(3).flat_map(|r| r.iter().map(|v| v / r.iter().sum::<f64>()).collect::<Vec<_>>()).collect();
    let counts = [2, 0, 1, 3, 1, 0, 2];
    let weights: Vec<f64> = counts.iter().map(|c| f64::from(*c)).collect();
    let drawn: Vec<usize> = (0..7).flat_map(|i| vec![i; counts[i] as usize]).collect();
    let drawn_actual: Vec<u32> = drawn.iter().map(|i| actual[*i]).collect();
    let drawn_p: Vec<f64> = drawn.iter().flat_map(|i| p[i * 3..][..3].to_vec()).collect();
    let weighted = weighted_classification(&actual, &p, 3, &Ranking::of_classes(&actual, &p, 3), &weights);
    let expected = classification(&drawn_actual, &drawn_p, 3);
    for (name, value) in &expected {
        close(&[weighted[name]], &[*value], 1e-12, name);
    }
}
