//! Our event files, read by the real TensorBoard.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use jishi_runs::EventWriter;

/// Run with `JISHI_TENSORBOARD_PYTHON=/path/to/python cargo test -p jishi-runs -- --ignored`, a Python that has the
/// package `tensorboard`.
#[test]
#[ignore = "needs a Python with TensorBoard"]
fn the_real_tensorboard_reads_our_events() {
    let python = std::env::var("JISHI_TENSORBOARD_PYTHON").unwrap_or_else(|_| "python3".into());
    let dir = tempfile::tempdir().unwrap();
    let mut writer = EventWriter::create(dir.path(), None).unwrap();
    for step in 0..2000u64 {
        writer.scalars(step, &[("loss/train", 1.0 / (step + 1) as f64), ("learning_rate", 1e-3)]).unwrap();
    }
    drop(writer);
    // Resumed from step 1000: what follows in the first file is void.
    let mut writer = EventWriter::create(dir.path(), Some(1000)).unwrap();
    for step in 1000..1500u64 {
        writer.scalars(step, &[("loss/train", 7.0)]).unwrap();
    }
    drop(writer);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/read_events.py");
    let output = Command::new(python).arg(script).arg(dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let losses: Vec<(u64, f32)> = text
        .lines()
        .filter_map(|l| l.strip_prefix("loss/train "))
        .map(|l| l.split_once(' ').unwrap())
        .map(|(step, value)| (step.parse().unwrap(), value.parse().unwrap()))
        .collect();
    assert_eq!(losses.len(), 1500);
    for (i, (step, value)) in losses.iter().enumerate() {
        assert_eq!(*step, i as u64);
        let expected = if *step < 1000 { (1.0 / (*step + 1) as f64) as f32 } else { 7.0 };
        assert_eq!(*value, expected);
    }
}
