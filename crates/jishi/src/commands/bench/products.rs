//! `gemm`: matrix products of the shapes that bench/torch_peer.py multiplies.

use std::time::Instant;

use jishi_kernels::Level;
use jishi_kernels::cpu::gemm::{Precision, Store, Strided, gemm};
use serde_json::{Value, json};

use super::figures::Figures;
use super::gpt::precision_name;

/// `[rows, inner, columns]`
const SHAPES: [[usize; 3]; 4] = [[2048, 2048, 2048], [2048, 384, 1536], [384, 2048, 1536], [2048, 1536, 384]];

/// Products in a precision, one entry a shape.
pub fn run(precision: Precision) -> Value {
    let shapes: Vec<Value> = SHAPES.iter().map(|shape| product(precision, *shape)).collect();
    json!({ "name": "gemm", "precision": precision_name(precision), "products": shapes })
}

fn product(precision: Precision, [m, k, n]: [usize; 3]) -> Value {
    let numbers = |n: usize| (0..n).map(|i| (i % 17) as f32 / 8.0 - 1.0).collect::<Vec<_>>();
    let (a, b, mut c) = (numbers(m * k), numbers(k * n), vec![0.0; m * n]);
    let work = 2.0 * (m * k * n) as f64;
    let times = (2e10 / work).clamp(3.0, 2000.0) as usize;
    let seconds = (0..8)
        .map(|_| {
            let started = Instant::now();
            for _ in 0..times {
                let (rows, columns) = (Strided::rows(&a, k), Strided::columns(&b, n));
                gemm(Level::best(), precision, [m, n, k], &rows, &columns, &Store::new(&mut c, n));
            }
            started.elapsed().as_secs_f64() / times as f64
        })
        .skip(1)
        .collect();
    let figures = Figures::new(seconds);
    json!({
        "shape": [m, k, n],
        "gflops": work / figures.median() / 1e9,
        "spread": figures.spread(|s| work / s / 1e9),
        "microseconds": figures.median() * 1e6,
    })
}
