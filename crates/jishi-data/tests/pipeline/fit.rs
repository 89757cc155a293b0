use jishi_data::pipeline::{Encoding, Scaler};
use jishi_data::{Pipeline, Storage};
use serde::Deserialize;
use serde_json::json;

use crate::{CLASSIFICATION, REGRESSION, data, encode_all, error, fit_all, gathered, rows, table};

#[derive(Deserialize)]
struct Fixture {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    values: Vec<Option<f64>>,
    probe: Vec<f64>,
    scalings: std::collections::BTreeMap<String, Expected>,
}

#[derive(Deserialize)]
struct Expected {
    scaled: Vec<f64>,
    unscaled: Vec<f64>,
}

fn scaler(pipeline: &Pipeline) -> &Scaler {
    match &pipeline.features()[0].encoding {
        Encoding::Number { value: Some(slot), .. } => &slot.scaler,
        other => panic!("not a number: {other:?}"),
    }
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * b.abs().max(1.0)
}

#[test]
fn scalings_are_scikit_learns() {
    let fixture: Fixture = serde_json::from_str(include_str!("../fixtures/scale.json")).unwrap();
    for case in fixture.cases {
        let text = |v: &Option<f64>| v.map_or(String::new(), |v| format!("{v}"));
        let lines: String =
            case.values.iter().enumerate().map(|(i, v)| format!("{},{i}\n", text(v))).collect();
        let table = table(&format!("x,y\n{lines}"));
        for (scaling, expected) in &case.scalings {
            let pipeline = fit_all(&table, &data(json!({"scale": {"number": scaling}})), REGRESSION);
            let scaler = scaler(&pipeline);
            for ((x, scaled), unscaled) in case.probe.iter().zip(&expected.scaled).zip(&expected.unscaled) {
                let found = scaler.scale(*x);
                assert!(near(found, *scaled), "{} {scaling}: {x} gave {found}, not {scaled}", case.name);
                let back = scaler.unscale(found);
                assert!(
                    near(back, *unscaled),
                    "{} {scaling}: {x} came back as {back}, not {unscaled}",
                    case.name
                );
            }
            // What is encoded is what the scaler says.
            let (numbers, _) = gathered(&encode_all(&pipeline, &table));
            for (x, found) in case.values.iter().zip(&numbers) {
                if let Some(x) = x {
                    assert_eq!(*found, scaler.scale(*x) as f32, "{} {scaling}", case.name);
                }
            }
        }
    }
}

#[test]
fn long_columns_are_summed_up_over_chunks() {
    // More rows than a chunk holds; mean and deviation of 0..n are known.
    let n = 150_000;
    let lines: String = (0..n).map(|i| format!("{},{i}\n", (i * 7919) % n)).collect();
    let table = table(&format!("x,y\n{lines}"));
    assert!(table.chunks() > 2);
    let pipeline = fit_all(&table, &data(json!({})), REGRESSION);
    let Scaler::Standard { mean, deviation } = scaler(&pipeline) else { panic!() };
    let n = f64::from(n);
    assert!(near(*mean, (n - 1.0) / 2.0) && near(*deviation, ((n * n - 1.0) / 12.0).sqrt()));
}

#[test]
fn missing_numbers_are_filled_by_policy() {
    let table = table("x,y\n1,1\n2,2\n,3\n9,4\n");
    for (policy, fill) in [("median", 2.0), ("mean", 4.0), ("zero", 0.0)] {
        let recipe = data(json!({"missing": {"number": policy}, "scale": {"number": "none"}}));
        let (numbers, _) = gathered(&encode_all(&fit_all(&table, &recipe, REGRESSION), &table));
        assert_eq!(numbers, [1.0, 2.0, fill, 9.0], "{policy}");
    }
}

#[test]
fn an_indicator_says_what_was_missing() {
    let table = table("x,z,y\n1,1,1\n2,2,2\n,3,3\n9,4,4\n");
    let recipe = data(json!({"missing": {"indicator": true}, "scale": {"number": "none"}}));
    let pipeline = fit_all(&table, &recipe, REGRESSION);
    assert_eq!(pipeline.number_names(), ["x", "x missing", "z"]);
    let (numbers, _) = gathered(&encode_all(&pipeline, &table));
    #[rustfmt::skip]
    assert_eq!(numbers, [1.0, 0.0, 1.0, 2.0, 0.0, 2.0, 2.0, 1.0, 3.0, 9.0, 0.0, 4.0]);
}

#[test]
fn columns_that_say_nothing_are_left_out() {
    let table = table("same,none,text,bool,x,half,y\n5,,a,true,1,3,1\n5,,a,true,2,,2\n5,,a,true,3,3,3\n");
    let pipeline = fit_all(&table, &data(json!({"missing": {"indicator": true}})), REGRESSION);
    // `half` is constant where it is there, but that it is missing says something.
    assert_eq!(pipeline.number_names(), ["x", "half missing"]);
    assert!(pipeline.category_names().is_empty());
    let notes = pipeline.notes().join("\n");
    for part in ["`same` is 5 in", "`text` is `a` in", "`bool` is `true` in", "`half` is 3 in"] {
        assert!(notes.contains(part), "{part} in {notes}");
    }
    let constant =
        error(Pipeline::fit(&table, &rows(&table), &data(json!({"features": ["same"]})), REGRESSION, None));
    assert!(constant.contains("no column is left"), "{constant}");
}

#[test]
fn vocabularies_go_by_count_then_first_appearance() {
    // c: 3, b: 2, a: 2 (b first), d: 1.
    let lines = ["b", "a", "c", "c", "a", "b", "c", "d"];
    let csv: String = lines.iter().enumerate().map(|(i, v)| format!("{v},{i}\n")).collect();
    let table = table(&format!("x,y\n{csv}"));
    let codes = |more| gathered(&encode_all(&fit_all(&table, &data(more), REGRESSION), &table)).1;
    assert_eq!(codes(json!({})), [2, 3, 1, 1, 3, 2, 1, 4]);
    assert_eq!(codes(json!({"min_category_count": 2})), [2, 3, 1, 1, 3, 2, 1, 0]);
    assert_eq!(codes(json!({"max_categories": 1})), [0, 0, 1, 1, 0, 0, 1, 0]);
    let pipeline = fit_all(&table, &data(json!({"max_categories": 1})), REGRESSION);
    assert_eq!(pipeline.cardinalities(), [2]);
    assert!(pipeline.notes()[0].contains("3 of 4 values"));
}

#[test]
fn a_category_never_seen_in_training_has_its_own_slot() {
    let table = table("x,b,y\na,true,1\nb,false,2\na,,3\nnew,true,4\n,false,5\n");
    let train = [0, 1, 2];
    let pipeline = Pipeline::fit(&table, &train, &data(json!({})), REGRESSION, None).unwrap();
    // x: unknown, a, b. b: unknown, true, false, missing.
    assert_eq!(pipeline.cardinalities(), [3, 4]);
    let (_, codes) = gathered(&encode_all(&pipeline, &table));
    assert_eq!(codes, [1, 1, 2, 2, 1, 3, 0, 1, 0, 2]);
    let mut dense = Vec::new();
    encode_all(&pipeline, &table).gather_dense(&[0, 3], &mut dense);
    assert_eq!(dense, [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
}

#[test]
fn missing_categories_can_take_the_most_frequent() {
    let table = table("x,y\na,1\nb,2\nb,3\n,4\n");
    let recipe = data(json!({"missing": {"category": "most-frequent"}}));
    let (_, codes) = gathered(&encode_all(&fit_all(&table, &recipe, REGRESSION), &table));
    assert_eq!(codes, [2, 1, 1, 1]);
}

#[test]
fn dates_become_numbers() {
    let table = table("d,y\n2024-02-29,1\n2023-12-31,2\n,3\n2024-02-27,4\n");
    let recipe = data(json!({"scale": {"number": "none"}, "missing": {"number": "median"}}));
    let pipeline = fit_all(&table, &recipe, REGRESSION);
    assert_eq!(pipeline.number_names(), ["d year", "d month", "d day", "d weekday", "d days"]);
    let (numbers, _) = gathered(&encode_all(&pipeline, &table));
    #[rustfmt::skip]
    assert_eq!(numbers, [
        2024.0, 2.0, 29.0, 3.0, 19782.0,
        2023.0, 12.0, 31.0, 6.0, 19722.0,
        2024.0, 2.0, 27.0, 1.0, 19780.0,
        2024.0, 2.0, 27.0, 1.0, 19780.0,
    ]);
    // Within one month of one year, year and month say nothing.
    let march = crate::table("d,y\n2024-03-01,1\n2024-03-09,2\n2024-03-14,3\n");
    let pipeline = fit_all(&march, &recipe, REGRESSION);
    assert_eq!(pipeline.number_names(), ["d day", "d weekday", "d days"]);
    assert!(pipeline.notes()[0].contains("year, month of column `d`"));
}

#[test]
fn classes_are_sorted_and_named() {
    let numeric = table("x,y\n1,10\n2,9\n3,10\n");
    let pipeline = fit_all(&numeric, &data(json!({})), CLASSIFICATION);
    assert_eq!(pipeline.classes(), ["9", "10"]);
    assert_eq!(encode_all(&pipeline, &numeric).target_class(), [1, 0, 1]);
    let boolean = table("x,y\n1,true\n2,false\n3,true\n");
    let pipeline = fit_all(&boolean, &data(json!({})), CLASSIFICATION);
    assert_eq!(pipeline.classes(), ["false", "true"]);
    assert_eq!(encode_all(&pipeline, &boolean).target_class(), [1, 0, 1]);
    let text = table("x,y\n1,m\n2,b\n3,m\n");
    let pipeline = fit_all(&text, &data(json!({})), CLASSIFICATION);
    assert_eq!(pipeline.classes(), ["b", "m"]);
    assert_eq!(encode_all(&pipeline, &text).target_class(), [1, 0, 1]);
}

#[test]
fn targets_that_cannot_be_learned_are_refused() {
    let one = table("x,y\n1,a\n2,a\n3,b\n");
    let told = error(Pipeline::fit(&one, &[0, 1], &data(json!({})), CLASSIFICATION, None));
    assert!(told.contains("holds only `a` in the 2 training rows"), "{told}");
    let many: String = (0..1001).map(|i| format!("{i},{i}.5\n")).collect();
    let many = table(&format!("x,y\n{many}"));
    let told = error(Pipeline::fit(&many, &rows(&many), &data(json!({})), CLASSIFICATION, None));
    assert!(told.contains("more than 1000 classes") && told.contains("regression"), "{told}");
    let same = table("x,y\n1,7\n2,7\n");
    let told = error(Pipeline::fit(&same, &rows(&same), &data(json!({})), REGRESSION, None));
    assert!(told.contains("is 7 in every training row"), "{told}");
    let huge = table("x,y\n1e308,1\n-1e308,2\n1e307,3\n");
    let told = error(Pipeline::fit(&huge, &rows(&huge), &data(json!({})), REGRESSION, None));
    assert!(told.contains("numbers too large to scale"), "{told}");
}

#[test]
fn a_class_that_training_lacks_is_refused() {
    let table = table("x,y\n1,a\n2,b\n3,new\n4,new\n");
    let pipeline = Pipeline::fit(&table, &[0, 1], &data(json!({})), CLASSIFICATION, None).unwrap();
    let told = error(pipeline.encode(&table, &[2, 3], true, Storage::Memory, None));
    assert!(told.contains("t.csv:4: class `new` of target `y` is in 2 of these rows"), "{told}");
    assert!(pipeline.encode(&table, &[2, 3], false, Storage::Memory, None).is_ok());
}

#[test]
fn bins_hold_equally_many_rows() {
    let lines: String =
        (0..101).map(|i| format!("{i},{},{},{i}\n", i % 2, if i < 90 { 0 } else { i })).collect();
    let table = table(&format!("x,two,zeros,y\n{lines}"));
    let recipe = data(json!({"scale": {"number": "none"}}));
    let pipeline = Pipeline::fit(&table, &rows(&table), &recipe, REGRESSION, Some(4)).unwrap();
    assert_eq!(pipeline.bin_edges(), [vec![0.0, 25.0, 50.0, 75.0, 100.0], vec![0.0, 1.0], vec![0.0, 100.0]]);
    assert!(fit_all(&table, &recipe, REGRESSION).bin_edges().is_empty());
}
