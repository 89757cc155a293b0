//! The built-in recipes on their real data, shortened where that is enough.

use serde_json::Value;

use crate::place::Place;

fn metric(report: &Value, name: &str) -> f64 {
    report["metrics"]["test"][name].as_f64().unwrap_or_else(|| panic!("{name} in {report}"))
}

#[test]
fn house_prices_linear_learns() {
    let place = Place::new();
    let report = place.json("train house-prices-linear --set train.epochs=3");
    assert_eq!((report["rows"]["read"].as_u64(), report["rows"]["test"].as_u64()), (Some(2930), Some(586)));
    // The mean price alone gives an R² of 0.
    assert!(metric(&report, "r2") > 0.3, "{report}");
    assert!(report["epochs"].as_f64() == Some(3.0));
}

#[test]
fn breast_cancer_reaches_its_accuracy() {
    let report = Place::new().json("train breast-cancer");
    assert!(metric(&report, "accuracy") >= 0.93, "{report}");
    assert!(metric(&report, "auroc") >= 0.97, "{report}");
}

#[test]
fn resume_is_exact() {
    let place = Place::new();
    let report = place.json("verify-resume house-prices-linear --steps 80");
    assert_eq!(report["ok"], true, "{report}");
    assert_eq!(report["steps"], 80);
    assert!(report["interruptions"].as_array().unwrap().len() >= 4, "{report}");
    assert_eq!(report["accumulation"].as_array().unwrap().len(), 2, "{report}");
    assert!(place.files().is_empty());
}

#[test]
fn house_prices_is_sound() {
    let place = Place::new();
    let report = place.json("check house-prices");
    assert!(report["parameters"].as_u64().unwrap() > 10_000, "{report}");
    for key in ["memory", "disk", "seconds"] {
        assert!(report[key].as_f64().unwrap() > 0.0, "{key}: {report}");
    }
    assert!(place.files().is_empty());
}
