//! Distances of made and real images: tests/fixtures/fid.py.

use jishi_tasks::metrics::generation::{Features, Moments, fid, kid};

use crate::{close, fixture, numbers};

#[test]
fn distances_equal_those_of_scipy() {
    let cases = fixture("fid.json");
    let cases = cases["cases"].as_array().expect("cases");
    assert!(cases.len() > 3);
    for case in cases {
        let width = case["width"].as_u64().expect("a number") as usize;
        let of = |name: &str| Features {
            width,
            values: numbers(&case[name]).into_iter().map(|v| v as f32).collect(),
        };
        let (a, b) = (of("a"), of("b"));
        let what = case["name"].as_str().expect("a name");
        close(&[fid(&Moments::of(&a), &Moments::of(&b))], &numbers(&case["fid"]), 1e-7, what);
        close(&[kid(&a, &b)], &numbers(&case["kid"]), 1e-9, what);
    }
}
