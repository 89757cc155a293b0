use jishi_data::{Ledger, Pipeline, ReadOptions, Storage, Table, read};
use serde_json::json;

use crate::{CLASSIFICATION, REGRESSION, data, encode_all, error, fit_all, gathered, rows, source, table};

/// Three chunks of numbers, categories and gaps.
fn long() -> Table {
    let mut csv = String::from("a,b,c,y\n");
    for i in 0..140_000u32 {
        let hash = i.wrapping_mul(2_654_435_761) >> 16;
        let a = if hash % 17 == 0 { String::new() } else { format!("{}", f64::from(hash) / 100.0) };
        csv.push_str(&format!("{a},k{},{},{}\n", hash % 13, hash % 3 == 0, hash % 1000));
    }
    table(&csv)
}

#[test]
fn the_order_of_rows_and_the_store_change_nothing() {
    let table = long();
    let pipeline = fit_all(&table, &data(json!({})), REGRESSION);
    let straight = encode_all(&pipeline, &table);
    let (numbers, codes) = gathered(&straight);
    let n = table.rows as u32;
    let order: Vec<u32> = (0..n).map(|i| (i * 7919) % n).collect();
    let folder = tempfile::tempdir().unwrap();
    for storage in [Storage::Memory, Storage::File(folder.path().into())] {
        let on_disk = storage != Storage::Memory;
        let mixed = pipeline.encode(&table, &order, true, storage, None).unwrap();
        assert_eq!((mixed.rows, mixed.on_disk()), (table.rows, on_disk));
        let (mixed_numbers, mixed_codes) = gathered(&mixed);
        for (i, &row) in order.iter().enumerate() {
            let row = row as usize;
            assert_eq!(mixed_numbers[i], numbers[row]);
            assert_eq!(mixed_codes[2 * i..2 * i + 2], codes[2 * row..2 * row + 2]);
            assert_eq!(mixed.target_raw()[i], straight.target_raw()[row]);
            assert_eq!(mixed.target_scaled()[i], straight.target_scaled()[row]);
        }
    }
}

#[test]
fn a_table_on_disk_gives_what_one_in_memory_gives() {
    let csv: String = (0..3000).map(|i| format!("{},k{},{}\n", i * 31 % 97, i % 7, i % 5)).collect();
    let csv = format!("a,b,y\n{csv}");
    let memory = table(&csv);
    let folder = tempfile::tempdir().unwrap();
    let options =
        ReadOptions { memory_limit: 0, cache_dir: Some(folder.path().into()), ..ReadOptions::default() };
    let disk = read(&source(&csv), &options).unwrap();
    assert!(disk.on_disk() && !memory.on_disk());
    let recipe = data(json!({"scale": {"number": "quantile"}}));
    let pipeline = fit_all(&memory, &recipe, CLASSIFICATION);
    assert_eq!(pipeline, fit_all(&disk, &recipe, CLASSIFICATION));
    assert_eq!(gathered(&encode_all(&pipeline, &memory)), gathered(&encode_all(&pipeline, &disk)));
}

#[test]
fn storage_goes_by_size() {
    let pipeline = fit_all(&table("a,b,y\n1,x,1\n2,z,2\n"), &data(json!({})), REGRESSION);
    // One number and one code: eight bytes a row.
    assert_eq!(pipeline.storage(100, 800, "d"), Storage::Memory);
    assert_eq!(pipeline.storage(101, 800, "d"), Storage::File("d".into()));
}

#[test]
fn changed_values_are_in_the_ledger() {
    let table = table("a,b,y\n1,x,1\n2,x,2\n,z,3\n9,,4\n,w,5\n");
    let pipeline = Pipeline::fit(&table, &[0, 1, 2], &data(json!({})), REGRESSION, None).unwrap();
    let mut ledger = Ledger::default();
    pipeline.encode(&table, &[4, 3, 2], true, Storage::Memory, Some((&mut ledger, Some("test")))).unwrap();
    let told: Vec<_> = ledger
        .entries
        .iter()
        .map(|e| (e.column.as_deref().unwrap(), e.reason.as_str(), e.lines.clone(), e.split.as_deref()))
        .collect();
    assert_eq!(
        told,
        [
            ("a", "missing value filled with the median, 1.5", vec![(4, 4), (6, 6)], Some("test")),
            (
                "b",
                "missing category counts as unknown: never missing in training",
                vec![(5, 5)],
                Some("test")
            ),
            ("b", "category counts as unknown: rare or never seen in training", vec![(6, 6)], Some("test")),
        ]
    );
}

#[test]
fn values_missing_against_the_policy_are_refused_or_dropped() {
    let good = table("a,y\n1,1\n2,2\n3,3\n");
    let gap = table("a,y\n1,1\n,2\n3,3\n");
    let strict = fit_all(&good, &data(json!({"missing": {"number": "error"}})), REGRESSION);
    let told = error(strict.encode(&gap, &[0, 1, 2], true, Storage::Memory, None));
    assert!(told.contains("t.csv:3: column `a` is missing in 1 of these rows"), "{told}");
    assert!(error(strict.usable_rows(&gap, false, &mut Ledger::default())).contains("t.csv:3"));
    let dropping = fit_all(&good, &data(json!({"missing": {"number": "drop"}})), REGRESSION);
    let mut ledger = Ledger::default();
    assert_eq!(dropping.usable_rows(&gap, false, &mut ledger).unwrap(), [0, 2]);
    assert_eq!(ledger.summary().dropped, 1);
}

#[test]
fn prediction_input_is_read_with_the_types_of_training() {
    let train = table(
        "a,b,d,flag,spare,y\n1,x,2024-01-01,true,9,1\n2,z,2024-01-09,false,8,2\n3,x,2024-02-03,true,7,3\n",
    );
    let pipeline = fit_all(&train, &data(json!({"ignore": ["spare"]})), REGRESSION);
    // Without a target, in another order; every value of `b` looks like a number here.
    let input = "flag,d,b,a\nfalse,2024-01-05,12,2\ntrue,2024-01-06,13,5\n";
    let table = read(&source(input), &pipeline.read_options(false)).unwrap();
    pipeline.check_columns(&table.header, false).unwrap();
    let encoded = pipeline.encode(&table, &rows(&table), false, Storage::Memory, None).unwrap();
    let (numbers, codes) = gathered(&encoded);
    assert_eq!(numbers[0], 0.0);
    // b is unknown; true was seen before false and more often.
    assert_eq!(codes, [0, 2, 0, 1]);
    assert!(encoded.target_raw().is_empty() && encoded.target_scaled().is_empty());
    let told = error(read(
        &source("flag,d,b,a\nfalse,2024-01-05,x,two\ntrue,soon,x,2\n"),
        &pipeline.read_options(false),
    ));
    assert!(told.contains("t.csv:2") && told.contains("two"), "{told}");
    assert!(told.contains("t.csv:3") && told.contains("soon"), "{told}");
    let told = error(pipeline.encode(
        &crate::table("flag,d,b,a\n1,2024-01-05,12,2\n0,2024-01-05,12,x\n"),
        &[0],
        false,
        Storage::Memory,
        None,
    ));
    assert!(told.contains("column `a` was a number in training, but here it is a category"), "{told}");
}

#[test]
fn columns_of_new_data_are_checked() {
    let train = table("area,rooms,spare,y\n1,2,3,4\n2,3,4,5\n");
    let pipeline = fit_all(&train, &data(json!({"ignore": ["spare"]})), REGRESSION);
    let check = |names: &[&str], ignore| {
        pipeline.check_columns(&names.iter().map(ToString::to_string).collect::<Vec<_>>(), ignore)
    };
    assert!(check(&["rooms", "area"], false).is_ok());
    assert!(check(&["y", "rooms", "spare", "area"], false).is_ok());
    let told = error(check(&["aera", "garage"], false));
    for part in ["`area` is missing", "there is `aera`", "`rooms` is missing", "`garage`"] {
        assert!(told.contains(part), "{part} in {told}");
    }
    assert!(
        error(check(&["area", "rooms", "garage"], false))
            .contains("column `garage` was not in the training data")
    );
    assert!(check(&["area", "rooms", "garage"], true).is_ok());
}
