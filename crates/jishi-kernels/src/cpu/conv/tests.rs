use super::*;

/// Numbers in ±1 that bfloat16 holds exactly.
fn numbers(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + seed * 104_729) % 255) as f32 / 128.0 - 1.0).collect()
}

#[allow(clippy::too_many_arguments)]
fn conv(
    batch: usize,
    input: [usize; 2],
    [channels, outputs]: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
    groups: usize,
) -> Conv2d {
    let output = Conv2d::output_size(input, kernel, stride, padding, dilation).expect("a filter that fits");
    Conv2d { batch, input, output, channels, outputs, kernel, stride, padding, dilation, groups }
}

fn shapes() -> Vec<Conv2d> {
    let mut shapes = vec![
        conv(1, [1, 1], [1, 1], [1, 1], [1, 1], [0, 0], [1, 1], 1),
        conv(2, [5, 6], [3, 8], [3, 3], [1, 1], [1, 1], [1, 1], 1),
        conv(2, [9, 7], [20, 33], [3, 3], [2, 2], [1, 1], [1, 1], 1),
        conv(3, [8, 8], [16, 24], [1, 1], [2, 2], [0, 0], [1, 1], 1),
        conv(2, [7, 9], [6, 4], [3, 2], [1, 2], [2, 0], [2, 3], 2),
        conv(1, [11, 13], [4, 10], [5, 3], [3, 1], [2, 4], [1, 2], 1),
        conv(2, [6, 5], [18, 18], [3, 3], [2, 1], [1, 1], [1, 1], 18),
        conv(2, [6, 5], [4, 8], [3, 3], [1, 1], [1, 1], [1, 1], 4),
        conv(1, [4, 4], [2, 3], [1, 1], [1, 1], [3, 3], [1, 1], 1),
        conv(2, [16, 16], [3, 5], [7, 7], [2, 2], [3, 3], [1, 1], 1),
        conv(1, [2, 3], [40, 70], [2, 2], [3, 3], [1, 1], [1, 1], 1),
        conv(2, [9, 8], [16, 48], [3, 3], [1, 1], [1, 1], [1, 1], 1),
    ];
    shapes.extend(minimal_filtering());
    shapes
}

/// Shapes for which vectors of every width take minimal filtering: few tiles and many, also such as are not whole.
fn minimal_filtering() -> Vec<Conv2d> {
    [
        (2, [6, 9], [32, 32], [1, 1]),
        (3, [10, 6], [64, 32], [0, 2]),
        (2, [33, 30], [32, 64], [1, 1]),
        (9, [16, 16], [32, 32], [1, 1]),
        (40, [4, 4], [64, 96], [1, 1]),
    ]
    .map(|(batch, input, channels, padding)| conv(batch, input, channels, [3, 3], [1, 1], padding, [1, 1], 1))
    .to_vec()
}

#[test]
fn an_image_gets_the_same_numbers_alone_and_beside_others() {
    for c in shapes() {
        let (x, weight) = (numbers(c.input_len(), 1), numbers(c.weight_len(), 2));
        let one = Conv2d { batch: 1, ..c };
        for level in Level::available() {
            for precision in [Precision::F32, Precision::Bf16] {
                let mut all = vec![0.0; c.output_len()];
                conv2d(level, precision, &c, &x, &weight, None, &mut all);
                for (x, y) in x.chunks_exact(one.input_len()).zip(all.chunks_exact(one.output_len())) {
                    let mut alone = vec![0.0; y.len()];
                    conv2d(level, precision, &one, x, &weight, None, &mut alone);
                    assert_eq!(alone, y, "{c:?} {level:?} {precision:?}");
                }
            }
        }
    }
}

/// Calls `f(x, weight, y)` with the places of all products of the convolution.
fn products(c: &Conv2d, mut f: impl FnMut(usize, usize, usize)) {
    let (inputs, outputs) = (c.channels / c.groups, c.outputs / c.groups);
    for row in 0..c.batch * c.output[0] * c.output[1] {
        let (image, y, x) =
            (row / c.output[1] / c.output[0], row / c.output[1] % c.output[0], row % c.output[1]);
        for tap in 0..c.kernel[0] * c.kernel[1] {
            let (ky, kx) = (tap / c.kernel[1], tap % c.kernel[1]);
            let (Some(py), Some(px)) = (
                (y * c.stride[0] + ky * c.dilation[0]).checked_sub(c.padding[0]),
                (x * c.stride[1] + kx * c.dilation[1]).checked_sub(c.padding[1]),
            ) else {
                continue;
            };
            if py >= c.input[0] || px >= c.input[1] {
                continue;
            }
            let pixel = (image * c.input[0] + py) * c.input[1] + px;
            for output in 0..c.outputs {
                for input in 0..inputs {
                    f(
                        pixel * c.channels + output / outputs * inputs + input,
                        (output * inputs + input) * c.kernel[0] * c.kernel[1] + tap,
                        row * c.outputs + output,
                    );
                }
            }
        }
    }
}

fn close(found: &[f32], expected: &[f64], what: &str) {
    let size = (expected.iter().map(|e| e * e).sum::<f64>() / expected.len() as f64).sqrt();
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!((f64::from(*f) - e).abs() <= 2e-5 * (size + 1.0), "{what}: {i} is {f}, not {e}");
    }
}

#[test]
fn convolutions_are_right_in_every_shape_level_and_precision() {
    for c in shapes() {
        let (x, w, dy) = (numbers(c.input_len(), 1), numbers(c.weight_len(), 2), numbers(c.output_len(), 3));
        let (bias, bias_in) = (numbers(c.outputs, 4), numbers(c.channels, 5));
        let mut y: Vec<f64> = (0..c.output_len()).map(|i| f64::from(bias[i % c.outputs])).collect();
        let (mut dx, mut dw) = (vec![0.0; c.input_len()], vec![0.0; c.weight_len()]);
        products(&c, |ix, iw, iy| {
            y[iy] += f64::from(x[ix]) * f64::from(w[iw]);
            dx[ix] += f64::from(dy[iy]) * f64::from(w[iw]);
            dw[iw] += f64::from(dy[iy]) * f64::from(x[ix]);
        });
        let transposed: Vec<f64> =
            dx.iter().enumerate().map(|(i, v)| v + f64::from(bias_in[i % c.channels])).collect();
        for level in Level::available() {
            for precision in [Precision::F32, Precision::Bf16] {
                let what = format!("{c:?} {level:?} {precision:?}");
                let mut out = vec![9.0; c.output_len()];
                conv2d(level, precision, &c, &x, &w, Some(&bias), &mut out);
                close(&out, &y, &format!("y {what}"));
                let mut out = vec![9.0; c.input_len()];
                conv2d_backward_input(level, precision, &c, &dy, &w, &mut out);
                close(&out, &dx, &format!("dx {what}"));
                let mut out = vec![9.0; c.weight_len()];
                conv2d_backward_weight(level, precision, &c, &x, &dy, &mut out);
                close(&out, &dw, &format!("dweight {what}"));
                let mut out = vec![9.0; c.input_len()];
                conv_transpose2d(level, precision, &c, &dy, &w, Some(&bias_in), &mut out);
                close(&out, &transposed, &format!("transposed {what}"));
            }
        }
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn minimal_filtering_has_the_same_bits_at_every_level() {
    for c in minimal_filtering() {
        let (x, w, dy) = (numbers(c.input_len(), 1), numbers(c.weight_len(), 2), numbers(c.output_len(), 3));
        let mut first: Option<[Vec<f32>; 3]> = None;
        for level in Level::available() {
            assert_eq!(winograd::pays(level, &c), level >= Level::Avx2, "{c:?} {level:?}");
            if level < Level::Avx2 {
                continue;
            }
            let mut found = [c.output_len(), c.input_len(), c.weight_len()].map(|len| vec![9.0; len]);
            conv2d(level, Precision::F32, &c, &x, &w, None, &mut found[0]);
            conv2d_backward_input(level, Precision::F32, &c, &dy, &w, &mut found[1]);
            conv2d_backward_weight(level, Precision::F32, &c, &x, &dy, &mut found[2]);
            assert!(found == *first.get_or_insert_with(|| found.clone()), "{c:?} {level:?}");
        }
    }
}

/// Errors over the size of results, `[largest, root mean square]`, against `f64`.
fn errors(found: &[f32], expected: &[f64]) -> [f64; 2] {
    let mean = |f: &dyn Fn(usize) -> f64| (0..expected.len()).map(f).sum::<f64>() / expected.len() as f64;
    let size = mean(&|i| expected[i].powi(2)).sqrt();
    let error = |i: usize| (f64::from(found[i]) - expected[i]).abs();
    let largest = (0..expected.len()).map(error).fold(0.0, f64::max);
    [largest / size, mean(&|i| error(i).powi(2)).sqrt() / size]
}

#[test]
fn errors_of_sums_and_of_minimal_filtering_are_bounded() {
    for (batch, size, channels) in [(2, 16, 64), (2, 8, 128), (8, 4, 256)] {
        let c = conv(batch, [size; 2], [channels; 2], [3, 3], [1, 1], [1, 1], [1, 1], 1);
        let noise = |n: usize, seed: usize| -> Vec<f32> {
            let hash = |i: usize| ((i + seed * 7_654_321) as u32).wrapping_mul(2_654_435_761);
            (0..n)
                .map(|i| (hash(i) ^ hash(i) >> 15).wrapping_mul(2_246_822_519) as f32 / 2e9 - 1.07)
                .collect()
        };
        let (x, w, dy) = (noise(c.input_len(), 1), noise(c.weight_len(), 2), noise(c.output_len(), 3));
        let (mut y, mut dw) = (vec![0.0; c.output_len()], vec![0.0; c.weight_len()]);
        products(&c, |ix, iw, iy| {
            y[iy] += f64::from(x[ix]) * f64::from(w[iw]);
            dw[iw] += f64::from(dy[iy]) * f64::from(x[ix]);
        });
        for level in Level::available() {
            let (mut found, mut found_dw) = (vec![0.0; y.len()], vec![0.0; dw.len()]);
            conv2d(level, Precision::F32, &c, &x, &w, None, &mut found);
            conv2d_backward_weight(level, Precision::F32, &c, &x, &dy, &mut found_dw);
            let (forward, weight) = (errors(&found, &y), errors(&found_dw, &dw));
            println!(
                "{size} {channels} {level:?}: y {:.1e} {:.1e} dweight {:.1e} {:.1e}",
                forward[0], forward[1], weight[0], weight[1]
            );
            // Plain sums: 3e-6 and 3e-7 were found; F(4 × 4, 3 × 3), which vectors use, loses a digit to its large factors.
            let bounds = if level >= Level::Avx2 { [1e-4, 5e-6] } else { [1e-5, 1e-6] };
            for [largest, typical] in [forward, weight] {
                assert!(largest < bounds[0] && typical < bounds[1], "{c:?} {level:?} {forward:?} {weight:?}");
            }
        }
    }
}
