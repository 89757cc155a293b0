//! Time of the convolutions of ResNet-18.
use jishi_kernels::cpu::conv::*;
use jishi_kernels::{Level, Precision};
use std::time::Instant;
fn main() {
    let p = if std::env::args().any(|a| a == "bf16") { Precision::Bf16 } else { Precision::F32 };
    let level = Level::best();
    let mut total = 0.0;
    for (size, c, n, k, stride, times) in [
        (32, 3, 64, 3, 1, 1),
        (32, 64, 64, 3, 1, 4),
        (32, 64, 128, 3, 2, 1),
        (16, 128, 128, 3, 1, 3),
        (16, 128, 256, 3, 2, 1),
        (8, 256, 256, 3, 1, 3),
        (8, 256, 512, 3, 2, 1),
        (4, 512, 512, 3, 1, 3),
        (32, 64, 128, 1, 2, 1),
    ] {
        let pad = k / 2;
        let output = Conv2d::output_size([size; 2], [k; 2], [stride; 2], [pad; 2], [1; 2]).unwrap();
        let conv = Conv2d {
            batch: 32,
            input: [size; 2],
            output,
            channels: c,
            outputs: n,
            kernel: [k; 2],
            stride: [stride; 2],
            padding: [pad; 2],
            dilation: [1; 2],
            groups: 1,
        };
        let f = |n: usize| (0..n).map(|i| ((i * 7919) % 255) as f32 / 128.0 - 1.0).collect::<Vec<_>>();
        let (x, w, dy) = (f(conv.input_len()), f(conv.weight_len()), f(conv.output_len()));
        let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), w.clone());
        let flop = 2.0 * (conv.output_len() * c * k * k) as f64;
        let mut line = format!("{size}x{size} {c}->{n} k{k} s{stride}:");
        let mut time = |name: &str, f: &mut dyn FnMut()| {
            let mut best = f64::INFINITY;
            for _ in 0..12 {
                let t = Instant::now();
                f();
                best = best.min(t.elapsed().as_secs_f64());
            }
            total += best * 1e3 * times as f64;
            line += &format!("  {name} {:.2} ms {:.0} GF/s", best * 1e3, flop / best / 1e9);
        };
        time("fwd", &mut || conv2d(level, p, &conv, &x, &w, None, &mut y));
        time("dx", &mut || conv2d_backward_input(level, p, &conv, &dy, &w, &mut dx));
        time("dw", &mut || conv2d_backward_weight(level, p, &conv, &x, &dy, &mut dw));
        println!("{line}");
    }
    println!("total {total:.1} ms");
}
