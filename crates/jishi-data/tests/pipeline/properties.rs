use std::collections::HashSet;

use jishi_data::{Pipeline, Splits, Storage, Table, folds, split};
use jishi_recipe::Split;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{CLASSIFICATION, REGRESSION, data, fit_all, gathered, rows, table};

fn assert_partition(splits: &Splits, usable: &[u32]) -> Result<(), TestCaseError> {
    let mut all = [&splits.train[..], &splits.validation, &splits.test].concat();
    all.sort_unstable();
    prop_assert_eq!(all, usable);
    prop_assert!(!splits.train.is_empty());
    Ok(())
}

/// A table with a class, a group and a day for every row.
fn mixed(n: usize, salt: u32) -> Table {
    let mut csv = String::from("g,t,y\n");
    for i in 0..n as u32 {
        let hash = (i ^ salt).wrapping_mul(2_654_435_761) >> 12;
        csv.push_str(&format!("g{},{},c{}\n", hash % 9, hash % 31, hash % 3));
    }
    table(&csv)
}

proptest! {
    // A failing case is printed; nothing is written beside the sources.
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn splits_partition_the_usable_rows(
        n in 2usize..150,
        keep in any::<u32>(),
        validation in 0.0..0.6f64,
        test in 0.0..0.6f64,
        seed in any::<u32>(),
        k in 2usize..7,
    ) {
        let table = mixed(n, seed);
        let usable: Vec<u32> = (0..n as u32).filter(|i| keep.rotate_left(*i) & 7 != 0).collect();
        for by in ["random", "stratified", "group", "time"] {
            let column = match by { "group" => json!("g"), "time" => json!("t"), _ => Value::Null };
            let cut = json!({"by": by, "column": column, "validation": validation, "test": test, "seed": seed, "folds": k});
            let cut: Split = serde_json::from_value(cut).unwrap();
            // What does not fit is refused; what is not refused is a partition.
            if let Ok(splits) = split(&table, &cut, "y", &usable) {
                assert_partition(&splits, &usable)?;
                prop_assert_eq!(&splits, &split(&table, &cut, "y", &usable).unwrap());
                prop_assert_eq!(splits.test.is_empty(), test == 0.0);
                prop_assert_eq!(splits.validation.is_empty(), validation == 0.0);
            }
            if let Ok(folds) = folds(&table, &cut, "y", &usable) {
                let mut tested = HashSet::new();
                for fold in &folds {
                    if by != "time" {
                        assert_partition(fold, &usable)?;
                    }
                    prop_assert!(!fold.test.is_empty());
                    prop_assert!(fold.test.iter().all(|row| tested.insert(*row)));
                }
                prop_assert!(by == "time" || tested.len() == usable.len());
            }
        }
    }

    #[test]
    fn targets_come_back(
        values in prop::collection::vec(-1e6..1e6f64, 3..40),
        scaling in prop::sample::select(vec!["none", "standard", "min-max", "robust", "quantile", "log"]),
    ) {
        let lines: String = values.iter().enumerate().map(|(i, v)| format!("{i},{v}\n")).collect();
        let table = table(&format!("x,y\n{lines}"));
        let recipe = data(json!({"scale": {"target": scaling}}));
        let pipeline = Pipeline::fit(&table, &rows(&table), &recipe, REGRESSION, None).unwrap();
        let encoded = pipeline.encode(&table, &rows(&table), true, Storage::Memory, None).unwrap();
        prop_assert_eq!(encoded.target_raw(), &values[..]);
        let range = values.iter().fold(0.0f64, |most, v| most.max(v.abs()));
        for (&z, &y) in encoded.target_scaled().iter().zip(&values) {
            // 32 bits of the scaled value; the tails of a normal distribution are flat.
            let slack = if scaling == "quantile" { 1e-3 } else if scaling == "log" { 1e-4 } else { 1e-6 };
            let back = pipeline.target().unscale(f64::from(z));
            prop_assert!((back - y).abs() <= slack * range.max(1.0), "{scaling}: {y} came back as {back}");
        }
    }

    #[test]
    fn held_out_rows_never_change_the_fit(
        salt in any::<u32>(),
        missing in prop::sample::select(vec!["median", "mean", "zero"]),
        scaling in prop::sample::select(vec!["standard", "min-max", "robust", "quantile", "log"]),
        boxes in prop::collection::vec((-1e3..1e3f64, 0u32..30, 0u32..300, any::<bool>()), 20),
    ) {
        // The first and the last of each kind fix the columns' types in both tables.
        let fixed = |i: u32| {
            let hash = (i ^ salt).wrapping_mul(2_654_435_761) >> 12;
            let gap = |cell: String, hole: bool| if hole { String::new() } else { cell };
            format!(
                "{},{},{},c{}\n",
                gap(format!("{}", f64::from(hash % 1000) / 8.0), hash.is_multiple_of(5)),
                gap(format!("k{}", hash % 6), hash.is_multiple_of(7)),
                gap(format!("2024-01-{:02}", 1 + hash % 28), hash.is_multiple_of(11)),
                i % 2,
            )
        };
        let held = |(x, k, d, hole): (f64, u32, u32, bool)| {
            if hole { ",,,c0\n".to_string() } else { format!("{x},n{k},{}-06-01,c1\n", 1900 + d) }
        };
        let train: Vec<u32> = (20..60).chain(80..100).collect();
        let build = |rows: Vec<String>| {
            let head: String = rows.concat();
            let middle: String = (20..60).map(fixed).collect();
            let tail: String = (80..100).map(fixed).collect();
            table(&format!("x,k,d,y\n{head}{middle}{head}{tail}"))
        };
        let one = build((0..20).map(fixed).collect());
        let other = build(boxes.into_iter().map(held).collect());
        let recipe = data(json!({
            "missing": {"number": missing, "indicator": true}, "scale": {"number": scaling}, "min_category_count": 2,
        }));
        let fit = |table: &Table| {
            let pipeline = Pipeline::fit(table, &train, &recipe, CLASSIFICATION, Some(8)).unwrap();
            serde_json::to_string(&pipeline).unwrap()
        };
        prop_assert_eq!(fit(&one), fit(&other));
    }
}

/// A table and a pipeline with everything in it.
fn rich() -> (Table, Pipeline) {
    let mut csv = String::from("a,b,c,d,e,y\n");
    for i in 0..60 {
        let gap = |cell: String| if i % 9 == 4 { String::new() } else { cell };
        csv.push_str(&format!(
            "{},{},{},{},k{},c{}\n",
            gap(format!("{}", i * i % 53)),
            gap(format!("v{}", i % 4)),
            i % 3 == 0,
            gap(format!("2024-{:02}-11", 1 + i % 12)),
            i % 5,
            i % 2
        ));
    }
    let table = table(&csv);
    let recipe = data(json!({
        "missing": {"indicator": true}, "scale": {"number": "quantile", "columns": {"d": "robust"}}, "ignore": ["e"],
    }));
    let pipeline = Pipeline::fit(&table, &rows(&table), &recipe, CLASSIFICATION, Some(4)).unwrap();
    (table, pipeline)
}

#[test]
fn json_holds_the_whole_pipeline() {
    let (table, pipeline) = rich();
    let text = serde_json::to_string(&pipeline).unwrap();
    let back: Pipeline = serde_json::from_str(&text).unwrap();
    assert_eq!(back, pipeline);
    assert_eq!(serde_json::to_string(&back).unwrap(), text);
    let encode =
        |p: &Pipeline| gathered(&p.encode(&table, &rows(&table), true, Storage::Memory, None).unwrap());
    assert_eq!(encode(&back), encode(&pipeline));
    let regression =
        fit_all(&crate::table("x,y\n1,2.5\n2,3.25\n"), &data(json!({"delimiter": ","})), REGRESSION);
    assert_eq!(
        serde_json::from_value::<Pipeline>(serde_json::to_value(&regression).unwrap()).unwrap(),
        regression
    );
}

/// The parts of a JSON value, counted in depth-first order; replaces number `at`.
fn replace(value: &mut Value, at: &mut usize, new: &Value) {
    if *at == 0 {
        *value = new.clone();
        *at = usize::MAX;
        return;
    }
    *at -= 1;
    match value {
        Value::Array(items) => items.iter_mut().for_each(|v| {
            if *at != usize::MAX {
                replace(v, at, new)
            }
        }),
        Value::Object(fields) => fields.values_mut().for_each(|v| {
            if *at != usize::MAX {
                replace(v, at, new)
            }
        }),
        _ => {}
    }
}

fn parts(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(parts).sum(),
        Value::Object(fields) => fields.values().map(parts).sum(),
        _ => 0,
    }
}

#[test]
fn damaged_json_is_an_error_or_works_but_never_panics() {
    let (table, pipeline) = rich();
    let whole = serde_json::to_value(&pipeline).unwrap();
    let replacements = [
        json!(null),
        json!(0),
        json!(-1),
        json!(1e300),
        json!(2),
        json!(""),
        json!("category"),
        json!("number"),
        json!("zero"),
        json!([]),
        json!(["a", "a"]),
        json!([0.0]),
        json!({}),
        json!(true),
        json!(false),
        json!({"name": "none"}),
        json!({"name": "standard", "mean": 0.0, "deviation": 0.0}),
        json!({"name": "quantile", "quantiles": [1.0]}),
        json!({"name": "quantile", "quantiles": [2.0, 1.0]}),
    ];
    let (mut refused, mut worked) = (0, 0);
    for part in 0..parts(&whole) {
        for new in &replacements {
            let mut damaged = whole.clone();
            replace(&mut damaged, &mut part.clone(), new);
            match serde_json::from_value::<Pipeline>(damaged) {
                Err(_) => refused += 1,
                Ok(pipeline) => {
                    worked += 1;
                    // A sound pipeline may not suit the table, but it says so.
                    if let Ok(encoded) = pipeline.encode(&table, &rows(&table), true, Storage::Memory, None) {
                        let (numbers, codes) = gathered(&encoded);
                        assert!(numbers.iter().all(|x| x.is_finite()));
                        let mut dense = Vec::new();
                        encoded.gather_dense(&[0, 59], &mut dense);
                        assert_eq!(dense.len(), 2 * encoded.dense_width());
                        let slots = pipeline.cardinalities();
                        assert!(
                            codes
                                .chunks(slots.len().max(1))
                                .all(|row| row.iter().zip(&slots).all(|(&c, &s)| (c as usize) < s))
                        );
                    }
                    assert_eq!(pipeline.number_names().len(), pipeline.numbers());
                    let edges = pipeline.bin_edges();
                    assert!(edges.is_empty() || edges.len() == pipeline.numbers());
                    assert!(edges.iter().all(|e| e.len() >= 2));
                }
            }
        }
    }
    assert!(refused > 1000 && worked > 100, "{refused} refused, {worked} worked");
}

#[test]
fn text_that_is_no_pipeline_is_an_error() {
    let (_, pipeline) = rich();
    let text = serde_json::to_string(&pipeline).unwrap();
    for end in (0..text.len()).step_by(37) {
        assert!(serde_json::from_str::<Pipeline>(&text[..end]).is_err());
    }
    let newer = text.replacen("\"format\":1", "\"format\":2", 1);
    assert!(serde_json::from_str::<Pipeline>(&newer).unwrap_err().to_string().contains("format 2"));
}
