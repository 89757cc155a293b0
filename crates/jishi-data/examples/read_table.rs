//! Reads a table and says how long it took and how much memory: `cargo run --release --example read_table -- FILE`.

use std::path::Path;
use std::time::Instant;

use jishi_data::{ReadOptions, read, resolve_names};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let sources = resolve_names(&names, Path::new(""))?;
    let start = Instant::now();
    let table = read(&sources, &ReadOptions::default())?;
    let seconds = start.elapsed().as_secs_f64();
    let place = if table.on_disk() { "on disk" } else { "in memory" };
    println!(
        "{} rows, {} columns, {} bytes {place}, {seconds:.3} s",
        table.rows,
        table.columns.len(),
        table.bytes()
    );
    // A walk over all chunks, as fitting and encoding do it.
    let rows: usize =
        (0..table.chunks()).map(|i| table.chunk(i).lines().values().iter().filter(|l| **l > 0).count()).sum();
    println!("{rows} rows walked, {:.3} s in all", start.elapsed().as_secs_f64());
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        status.lines().filter(|l| l.starts_with("VmHWM")).for_each(|l| println!("{l}"));
    }
    Ok(())
}
