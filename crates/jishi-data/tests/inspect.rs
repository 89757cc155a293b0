//! What `inspect` says of tables that are known, and of tables made to be suspicious.
#![allow(clippy::unwrap_used)]

use jishi_data::inspect::{Inspection, Suspect, inspect};
use jishi_data::{ReadOptions, Source, builtins, read};
use jishi_recipe::TaskName;

fn csv(text: String, target: Option<&str>) -> Inspection {
    let source = Source::Memory { name: "a.csv".into(), bytes: text.into_bytes().into() };
    inspect(&read(&[source], &ReadOptions::default()).unwrap(), target)
}

fn suspects(inspection: &Inspection) -> Vec<(&str, Suspect)> {
    inspection.suspicious.iter().map(|s| (s.column.as_str(), s.why)).collect()
}

#[test]
fn figures_of_a_small_table() {
    let found = csv("x,c,d\n1,a,2024-01-02\n2,b,2024-01-01\n4,a,\n,,\n".into(), Some("x"));
    let x = found.columns[0].numbers.as_ref().unwrap();
    assert_eq!((x.min, x.median, x.max, x.q1, x.q3), (1.0, 2.0, 4.0, 1.5, 3.0));
    // Python: statistics.mean, statistics.stdev, and the skewness by its definition.
    assert!(
        (x.mean - 7.0 / 3.0).abs() < 1e-12
            && (x.std - 1.527_525).abs() < 1e-6
            && (x.skewness - 0.381_80).abs() < 1e-5
    );
    assert_eq!((found.columns[0].missing_share, found.columns[0].distinct), (0.25, 3));
    assert_eq!(found.columns[1].top, [("a".to_string(), 2), ("b".to_string(), 1)]);
    assert_eq!(found.columns[2].dates, Some(("2024-01-01T00:00:00Z".into(), "2024-01-02T00:00:00Z".into())));
    let text = found.to_string();
    assert!(text.contains("a.csv: 4 rows, 3 columns"), "{text}");
    assert!(text.contains("x       number     25.0 %         3  1 … 2 … 4, mean 2.3333 ± 1.5275"), "{text}");
    assert!(serde_json::to_string(&found).unwrap().contains("\"type\":\"number\""));
}

#[test]
fn suspicious_columns_and_duplicate_rows() {
    let mut text = String::from("id,name,same,gone,y,copy,cube,grade,noise,echo\n");
    for i in 0..200u32 {
        let y = f64::from(i.wrapping_mul(2_654_435_761) >> 8) / 1000.0;
        // Every price has a grade of its own hundred; noise has nothing to do with it.
        let gone = if i == 7 { "1" } else { "" };
        let noise = i.wrapping_mul(40_503) % 11;
        text.push_str(&format!(
            "{},n{i},k,{gone},{y},{},{},{},{noise},{noise}\n",
            i + 1,
            2.0 * y + 1.0,
            y.powi(5),
            (y / 100.0) as u32
        ));
    }
    let found = csv(text.clone(), Some("y"));
    let expected = [
        ("id", Suspect::IdLike),
        ("name", Suspect::IdLike),
        ("same", Suspect::Constant),
        ("gone", Suspect::NearlyAllMissing),
        ("copy", Suspect::LeaksTarget),
        ("cube", Suspect::LeaksTarget),
        ("grade", Suspect::LeaksTarget),
        ("echo", Suspect::Duplicate),
    ];
    assert_eq!(suspects(&found), expected);
    assert_eq!(found.duplicates.rows, 0);
    assert_eq!(found.target.as_ref().unwrap().task, TaskName::Regression);

    let rows: Vec<&str> = text.lines().collect();
    let again = format!("{text}{}\n{}\n{}\n", rows[3], rows[1], rows[3]);
    let found = csv(again, None);
    assert_eq!(found.duplicates.rows, 3);
    let lines: Vec<(u64, u64)> = found.duplicates.examples.iter().map(|d| (d.line, d.first_line)).collect();
    assert_eq!(lines, [(202, 4), (203, 2), (204, 4)]);
    assert!(found.to_string().contains("3 rows repeat an earlier one"));
}

#[test]
fn classes_and_what_tells_them() {
    let mut text = String::from("y,code,half,unique\n");
    for i in 0..300 {
        let y = ["red", "green", "green"][i % 3];
        text.push_str(&format!("{y},{},{},u{i}\n", 10 + i % 3, if i % 2 == 0 { "a" } else { "b" }));
    }
    let found = csv(text, Some("y"));
    let target = found.target.as_ref().unwrap();
    assert_eq!(target.task, TaskName::Classification);
    assert_eq!(target.classes, [("green".to_string(), 200), ("red".to_string(), 100)]);
    assert_eq!(suspects(&found), [("unique", Suspect::IdLike), ("code", Suspect::LeaksTarget)]);
    assert!(found.to_string().contains("target y: classification: green 66.7 %, red 33.3 %"));
    // Few whole numbers are classes, many are not.
    let numbers = |n: u32| {
        csv("y\n".to_string() + &(0..100).map(|i| format!("{}\n", i % n)).collect::<String>(), Some("y"))
    };
    assert_eq!(numbers(20).target.unwrap().task, TaskName::Classification);
    assert_eq!(numbers(21).target.unwrap().task, TaskName::Regression);
}

#[test]
fn built_in_data_does_not_leak() {
    for builtin in builtins() {
        let table = read(&[Source::Builtin(builtin)], &ReadOptions::default()).unwrap();
        let found = inspect(&table, Some(builtin.target));
        let leaks: Vec<_> = found.suspicious.iter().filter(|s| s.why == Suspect::LeaksTarget).collect();
        assert!(leaks.is_empty(), "{leaks:?}");
        assert!(found.target.is_some());
    }
}
