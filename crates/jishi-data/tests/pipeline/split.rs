use std::collections::BTreeSet;

use jishi_data::mt19937::RandomState;
use jishi_data::{Ledger, Splits, Table, folds, split};
use jishi_recipe::Split;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{error, rows, table};

#[derive(Deserialize)]
struct Fixture {
    permutations: Vec<Permutation>,
    random: Vec<Random>,
    folds: Vec<Folds>,
}

#[derive(Deserialize)]
struct Permutation {
    seed: u32,
    n: u32,
    first: Vec<u32>,
    last: Vec<u32>,
}

#[derive(Deserialize)]
struct Random {
    seed: u32,
    n: usize,
    test_share: f64,
    train: Vec<u32>,
    test: Vec<u32>,
}

#[derive(Deserialize)]
struct Folds {
    seed: u32,
    n: usize,
    k: usize,
    folds: Vec<Fold>,
}

#[derive(Deserialize)]
struct Fold {
    train: Vec<u32>,
    test: Vec<u32>,
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("../fixtures/split.json")).unwrap()
}

/// `data.split` of a recipe.
fn by(value: Value) -> Split {
    serde_json::from_value(value).unwrap()
}

/// A table of `n` rows whose column `y` counts them.
fn counted(n: usize) -> Table {
    let mut csv = String::from("x,y\n");
    for i in 0..n {
        csv.push_str(&format!("1,{i}\n"));
    }
    table(&csv)
}

/// A table of one text column.
fn column(values: &[&str]) -> Table {
    table(&format!("c,y\n{}", values.iter().map(|v| format!("{v},1\n")).collect::<String>()))
}

fn assert_partition(splits: &Splits, usable: &[u32]) {
    let mut all = [&splits.train[..], &splits.validation, &splits.test].concat();
    all.sort_unstable();
    assert_eq!(all, usable);
}

#[test]
fn permutations_are_numpys() {
    for case in fixture().permutations {
        let order = RandomState::new(case.seed).permutation(case.n);
        let shown = case.first.len();
        assert_eq!(order[..shown], case.first, "seed {}", case.seed);
        assert_eq!(order[order.len() - shown..], case.last, "seed {}", case.seed);
    }
}

#[test]
fn random_splits_are_scikit_learns() {
    for case in fixture().random {
        let table = counted(case.n);
        let usable = rows(&table);
        let whole = by(json!({"validation": 0.0, "test": case.test_share, "seed": case.seed}));
        let splits = split(&table, &whole, "y", &usable).unwrap();
        assert_eq!(splits.train, case.train);
        assert_eq!(splits.test, case.test);
        assert!(splits.validation.is_empty());
        let held = by(json!({"validation": 0.2, "test": case.test_share, "seed": case.seed}));
        let splits = split(&table, &held, "y", &usable).unwrap();
        assert_eq!(splits.validation.len(), (0.2 * case.n as f64).round() as usize);
        assert_eq!([splits.train, splits.validation].concat(), case.train);
        assert_eq!(splits.test, case.test);
    }
}

#[test]
fn folds_are_scikit_learns() {
    for case in fixture().folds {
        let table = counted(case.n);
        let usable = rows(&table);
        let whole = by(json!({"validation": 0.0, "folds": case.k, "seed": case.seed}));
        let found = folds(&table, &whole, "y", &usable).unwrap();
        assert_eq!(found.len(), case.k);
        for (found, expected) in found.iter().zip(&case.folds) {
            assert_eq!(found.train, expected.train);
            assert_eq!(found.test, expected.test);
        }
        let held = by(json!({"validation": 0.2, "folds": case.k, "seed": case.seed}));
        for (found, expected) in folds(&table, &held, "y", &usable).unwrap().iter().zip(&case.folds) {
            assert_partition(found, &usable);
            assert_eq!(found.test, expected.test);
            assert_eq!(found.validation.len(), (0.2 * case.n as f64).round() as usize);
        }
    }
}

#[test]
fn dropped_rows_are_in_no_split() {
    let table = counted(40);
    let usable: Vec<u32> = (0..40).filter(|row| row % 3 != 0).collect();
    let splits = split(&table, &by(json!({})), "y", &usable).unwrap();
    assert_partition(&splits, &usable);
    // The positions are those of a table that holds the usable rows alone.
    let whole = split(&counted(usable.len()), &by(json!({})), "y", &rows(&counted(usable.len()))).unwrap();
    let renamed: Vec<u32> = whole.test.iter().map(|&p| usable[p as usize]).collect();
    assert_eq!(splits.test, renamed);
    for fold in folds(&table, &by(json!({"folds": 4})), "y", &usable).unwrap() {
        assert_partition(&fold, &usable);
    }
    let mut ledger = Ledger::default();
    splits.record(&table, &mut ledger);
    let summary = ledger.summary();
    assert_eq!(summary.used, usable.len() as u64);
    assert_eq!(summary.splits["test"], splits.test.len() as u64);
}

#[test]
fn shares_that_leave_a_split_empty_are_refused() {
    let table = counted(6);
    let all = rows(&table);
    let cut = |value| error(split(&table, &by(value), "y", &all));
    assert!(cut(json!({"validation": 0.01, "test": 0.2})).contains("the validation split would be empty"));
    assert!(cut(json!({"validation": 0.5, "test": 0.5})).contains("the training split would be empty"));
    assert!(cut(json!({"validation": 0.9, "test": 0.9})).contains("the training split would be empty"));
    assert!(cut(json!({"validation": 1.5})).contains("the validation share is 1.5"));
    let fold = |value| error(folds(&table, &by(value), "y", &all));
    assert!(fold(json!({"folds": 7})).contains("7 folds need at least 7 rows, but 6"));
    assert!(fold(json!({"folds": 1})).contains("at least 2 folds"));
    assert!(fold(json!({"folds": 2, "validation": 0.5})).contains("the training split would be empty"));
    assert!(fold(json!({"folds": 2, "by": "column", "column": "x"})).contains("cannot be folded"));
    assert!(cut(json!({"by": "group"})).contains("needs the name of a column"));
    assert!(cut(json!({"by": "group", "column": "z"})).contains("`data.split.column` names column `z`"));
}

/// Classes a, b and c in the ratio 6 : 3 : 1.
fn classes(n: usize) -> Table {
    let value = |i: usize| ["a", "b", "a", "c", "a", "b", "a", "a", "b", "a"][i % 10];
    let lines: String = (0..n).map(|i| format!("{i},{}\n", value(i))).collect();
    table(&format!("x,y\n{lines}"))
}

fn count(table: &Table, rows: &[u32]) -> [usize; 3] {
    let chunk = table.chunk(0);
    let mut counts = [0; 3];
    for &row in rows {
        let name = &table.columns[1].categories[chunk.codes(1).value(row as usize) as usize];
        counts[["a", "b", "c"].iter().position(|c| c == name).unwrap()] += 1;
    }
    counts
}

#[test]
fn stratified_splits_have_every_class_in_proportion() {
    let table = classes(200);
    let all = rows(&table);
    let splits = split(&table, &by(json!({"by": "stratified"})), "y", &all).unwrap();
    assert_partition(&splits, &all);
    assert_eq!(count(&table, &splits.test), [24, 12, 4]);
    assert_eq!(count(&table, &splits.validation), [24, 12, 4]);
    assert_ne!(splits.train, {
        let mut sorted = splits.train.clone();
        sorted.sort_unstable();
        sorted
    });
    let mut tested = Vec::new();
    for fold in folds(&table, &by(json!({"by": "stratified", "folds": 5})), "y", &all).unwrap() {
        assert_partition(&fold, &all);
        assert_eq!(count(&table, &fold.test), [24, 12, 4]);
        assert_eq!(count(&table, &fold.validation), [24, 12, 4]);
        tested.extend(fold.test);
    }
    tested.sort_unstable();
    assert_eq!(tested, all);
}

#[test]
fn rare_classes_are_in_every_split_or_named() {
    // Of a hundred rows, class c has three: by share none of them would be tested.
    let mut lines = String::from("x,y\n");
    for i in 0..100 {
        lines.push_str(&format!(
            "{i},{}\n",
            if i % 40 == 7 {
                "c"
            } else if i % 2 == 0 {
                "a"
            } else {
                "b"
            }
        ));
    }
    let rare = table(&lines);
    let all = rows(&rare);
    let cut = by(json!({"by": "stratified", "test": 0.1, "validation": 0.1}));
    let splits = split(&rare, &cut, "y", &all).unwrap();
    for (name, rows) in splits.named() {
        assert!(count(&rare, rows).iter().all(|&c| c > 0), "{name}");
    }
    let told = error(folds(&rare, &by(json!({"by": "stratified", "folds": 5})), "y", &all));
    assert!(told.contains("class `c` of column `y` has 3 rows, but a stratified split needs 5"), "{told}");
    let small = by(json!({"by": "stratified", "test": 0.02, "validation": 0.1}));
    assert!(error(split(&rare, &small, "y", &all)).contains("the test split of 2 rows cannot hold"));
}

fn values(table: &Table, rows: &[u32]) -> BTreeSet<u32> {
    let chunk = table.chunk(0);
    rows.iter().map(|&row| chunk.codes(0).value(row as usize)).collect()
}

#[test]
fn no_group_is_in_two_splits() {
    let names: Vec<String> = (0..120).map(|i| format!("g{}", (i * i) % 23)).collect();
    let table = column(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let all = rows(&table);
    let cut = json!({"by": "group", "column": "c", "validation": 0.2, "test": 0.2});
    let splits = split(&table, &by(cut), "y", &all).unwrap();
    assert_partition(&splits, &all);
    for (a, b) in [
        (&splits.train, &splits.test),
        (&splits.train, &splits.validation),
        (&splits.validation, &splits.test),
    ] {
        assert!(values(&table, a).is_disjoint(&values(&table, b)));
    }
    assert!((splits.test.len() as i64 - 24).abs() <= 10 && (splits.validation.len() as i64 - 24).abs() <= 10);
    let mut tested = Vec::new();
    for fold in folds(&table, &by(json!({"by": "group", "column": "c", "folds": 4})), "y", &all).unwrap() {
        assert_partition(&fold, &all);
        assert!(values(&table, &fold.train).is_disjoint(&values(&table, &fold.test)));
        assert!(values(&table, &fold.validation).is_disjoint(&values(&table, &fold.test)));
        assert!(values(&table, &fold.train).is_disjoint(&values(&table, &fold.validation)));
        assert!(!fold.validation.is_empty() && (fold.test.len() as i64 - 30).abs() <= 6);
        tested.extend(fold.test);
    }
    tested.sort_unstable();
    assert_eq!(tested, all);
}

#[test]
fn few_groups_fill_every_split_or_are_refused() {
    let three = column(&["a", "a", "a", "b", "b", "b", "c", "c", "c"]);
    let all = rows(&three);
    let cut = by(json!({"by": "group", "column": "c"}));
    let splits = split(&three, &cut, "y", &all).unwrap();
    assert!(splits.named().iter().all(|(_, rows)| rows.len() == 3));
    let two = column(&["a", "a", "b", "b"]);
    assert!(
        error(split(&two, &cut, "y", &rows(&two)))
            .contains("3 splits need at least 3 groups, but there are 2")
    );
    let told = error(folds(&three, &by(json!({"by": "group", "column": "c", "folds": 4})), "y", &all));
    assert!(told.contains("4 folds need at least 4 groups"));
    let gap = column(&["a", "", "b", "c"]);
    let told = error(split(&gap, &cut, "y", &rows(&gap)));
    assert!(told.contains("t.csv:3") && told.contains("row has no group"), "{told}");
}

#[test]
fn time_splits_train_on_the_past() {
    // Days in a scrambled order, three rows a day.
    let days: Vec<String> =
        (0..60).map(|i| format!("2024-{:02}-{:02}", 1 + (i * 7 % 20) / 10, 1 + (i * 7 % 20) % 10)).collect();
    let table = column(&days.iter().map(String::as_str).collect::<Vec<_>>());
    let all = rows(&table);
    let chunk = table.chunk(0);
    let range = |rows: &[u32]| {
        let times = rows.iter().map(|&row| chunk.dates(0).value(row as usize));
        (times.clone().min().unwrap(), times.max().unwrap())
    };
    let splits = split(&table, &by(json!({"by": "time", "column": "c"})), "y", &all).unwrap();
    assert_partition(&splits, &all);
    assert!(range(&splits.train).1 < range(&splits.validation).0);
    assert!(range(&splits.validation).1 < range(&splits.test).0);
    assert_eq!([splits.train.len(), splits.validation.len(), splits.test.len()], [36, 12, 12]);
    let chained = folds(&table, &by(json!({"by": "time", "column": "c", "folds": 4})), "y", &all).unwrap();
    let mut last = i64::MIN;
    for fold in &chained {
        assert!(range(&fold.train).1 < range(&fold.validation).0);
        assert!(range(&fold.validation).1 < range(&fold.test).0);
        assert!(range(&fold.test).0 > last);
        last = range(&fold.test).1;
    }
    assert_eq!(chained.iter().map(|f| f.test.len()).sum::<usize>(), 48);
}

#[test]
fn time_splits_say_what_does_not_fit() {
    let cut = by(json!({"by": "time", "column": "c"}));
    let same = column(&["2024-01-01"; 10]);
    assert!(error(split(&same, &cut, "y", &rows(&same))).contains("too many rows have the same time"));
    let text = column(&["a", "b", "c"]);
    let told = error(split(&text, &cut, "y", &rows(&text)));
    assert!(told.contains("t.csv:2") && told.contains("column `c` holds text"), "{told}");
    let numbers = column(&["3", "1", "2", "5", "4"]);
    let splits = split(&numbers, &cut, "y", &rows(&numbers)).unwrap();
    assert_eq!((splits.train, splits.validation, splits.test), (vec![1, 2, 0], vec![4], vec![3]));
}

#[test]
fn a_column_can_assign_rows() {
    let cut = by(json!({"by": "column", "column": "c"}));
    let good = column(&["test", "train", "validation", "train"]);
    let splits = split(&good, &cut, "y", &rows(&good)).unwrap();
    assert_eq!((splits.train, splits.validation, splits.test), (vec![1, 3], vec![2], vec![0]));
    let bad = column(&["train", "valid", "train", "", "valid"]);
    let told = error(split(&bad, &cut, "y", &rows(&bad)));
    assert!(
        told.contains("t.csv:3: column `c` assigns rows to splits, but holds `valid` (2 rows, first here)"),
        "{told}"
    );
    assert!(told.contains("t.csv:5") && told.contains("holds nothing"), "{told}");
    let none = column(&["test", "test"]);
    assert!(error(split(&none, &cut, "y", &rows(&none))).contains("the training split would be empty"));
}
