use jishi_data::{DataError, Ledger, ReadOptions, Table, read, usable_rows};
use jishi_recipe::{BadRows, TaskName};
use serde_json::{Value, json};

use crate::{CLASSIFICATION, REGRESSION, data, error, source, table};

const GAPS: &str = "a,b,y\n1,x,1\n,x,2\n3,,3\n4,z,\n,,5\n6,z,6\n";

fn usable(table: &Table, more: Value, task: TaskName) -> (Result<Vec<u32>, DataError>, Ledger) {
    let mut ledger = table.ledger.clone();
    let found = usable_rows(table, &data(more), task, &mut ledger);
    (found, ledger)
}

#[test]
fn missing_features_keep_their_row() {
    let (rows, ledger) = usable(&table("a,b,y\n1,x,1\n,,2\n"), json!({}), REGRESSION);
    assert_eq!(rows.unwrap(), [0, 1]);
    assert!(ledger.entries.is_empty());
}

#[test]
fn dropped_rows_are_in_the_ledger_once() {
    let policy =
        json!({"missing": {"number": "drop", "category": "drop", "target": "drop"}, "max_dropped": 0.9});
    let (rows, ledger) = usable(&table(GAPS), policy, REGRESSION);
    assert_eq!(rows.unwrap(), [0, 5]);
    let summary = ledger.summary();
    assert_eq!(summary.dropped, 4);
    assert_eq!(summary.drop_reasons["missing value in `a`"], 2);
    assert_eq!(summary.drop_reasons["missing value in `b`"], 1);
    assert_eq!(summary.drop_reasons["missing target in `y`"], 1);
    let a = ledger.entries.iter().find(|e| e.column.as_deref() == Some("a")).unwrap();
    assert_eq!(a.lines, [(3, 3), (6, 6)]);
}

#[test]
fn errors_name_every_column_and_its_lines() {
    let policy = json!({"missing": {"number": "error", "category": "error"}});
    let told = error(usable(&table(GAPS), policy, REGRESSION).0);
    assert!(told.contains("t.csv:3: column `a` is missing in 2 rows (lines 3, 6)"), "{told}");
    assert!(told.contains("t.csv:4: column `b` is missing in 2 rows (lines 4, 6)"), "{told}");
    assert!(told.contains("t.csv:5: target `y` is missing in 1 row (line 5)"), "{told}");
}

#[test]
fn too_many_dropped_rows_are_refused() {
    // The reader drops one of five rows, the policy another.
    let csv = "a,y\n1,1\n2,2,2\n,3\n4,4\n5,5\n";
    let options = ReadOptions { bad_rows: BadRows::Drop, ..ReadOptions::default() };
    let table = read(&source(csv), &options).unwrap();
    assert_eq!(table.rows, 4);
    let policy = |most: f64| json!({"missing": {"number": "drop"}, "max_dropped": most});
    let told = error(usable(&table, policy(0.39), REGRESSION).0);
    assert!(
        told.contains("2 of 5 rows would be dropped (40.0 %)") && told.contains("missing value in `a`: 1"),
        "{told}"
    );
    assert_eq!(usable(&table, policy(0.4), REGRESSION).0.unwrap().len(), 3);
}

#[test]
fn no_row_left_is_refused() {
    let table = table("a,b,y\n1,,1\n,x,2\n");
    let policy = json!({"missing": {"number": "drop", "category": "drop"}, "max_dropped": 1.0});
    assert!(error(usable(&table, policy, REGRESSION).0).contains("no row is left"));
}

#[test]
fn targets_that_do_not_suit_are_refused() {
    let told = error(usable(&table("a,y\n1,2\n2,cheap\n"), json!({}), REGRESSION).0);
    assert!(told.contains("t.csv:3") && told.contains("column `y` holds text, first `cheap`"), "{told}");
    // The reader refuses numbers that are not finite, so that no later step meets one.
    let told = error(read(&source("a,y\n1,2\n2,inf\n3,4\n"), &ReadOptions::default()));
    assert!(told.contains("t.csv:3") && told.contains("finite"), "{told}");
    let told = error(usable(&table("a,y\n1,true\n2,false\n"), json!({}), REGRESSION).0);
    assert!(told.contains("holds true and false") && told.contains("classification"), "{told}");
    for task in [REGRESSION, CLASSIFICATION] {
        let told = error(usable(&table("a,y\n1,2024-01-01\n2,2024-01-02\n"), json!({}), task).0);
        assert!(told.contains("holds dates"), "{told}");
    }
}

#[test]
fn wrong_names_are_all_told_with_the_nearest() {
    let table = table("price,size,y\n1,2,3\n2,3,4\n");
    let names = json!({
        "target": "Y_", "ignore": ["prize"], "types": {"sise": "number"},
        "scale": {"columns": {"sizes": "log"}}, "features": ["price", "nothing_like_it"],
    });
    let told = error(usable(&table, names, REGRESSION).0);
    for part in
        ["`Y_`", "did you mean `price`?", "`sise`", "did you mean `size`?", "`sizes`", "`nothing_like_it`"]
    {
        assert!(told.contains(part), "{part} in {told}");
    }
    let told = error(usable(&table, json!({"features": ["price", "y"]}), REGRESSION).0);
    assert!(told.contains("holds the target"), "{told}");
    let told = error(usable(&table, json!({"ignore": ["price", "size"]}), REGRESSION).0);
    assert!(told.contains("no column is left"), "{told}");
}
