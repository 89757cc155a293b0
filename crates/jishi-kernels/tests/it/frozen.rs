//! What is frozen, kept as bytes, or run again in the backward pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};
use jishi_kernels::cpu::cross_entropy::{Layout, Options};
use jishi_kernels::ops::{self, Int8Matrix, Linear};
use jishi_kernels::{Activation, Precision};

use crate::{close, numbers, parameter, values, weigh};

fn constant<const D: usize>(shape: [usize; D], seed: u32) -> Tensor<D> {
    parameter(shape, seed).inner()
}

fn gradient<const D: usize>(x: &Tensor<D>, loss: Tensor<1>) -> Vec<f32> {
    x.grad_remove(&mut loss.backward()).expect("a gradient").into_data().try_to_vec::<f32>().expect("f32")
}

#[test]
fn frozen_weights_leave_the_gradients_of_inputs_as_they_are() {
    let run = |frozen: bool| {
        let weight = |shape, seed| if frozen { constant(shape, seed) } else { parameter(shape, seed) };
        let bias = |n, seed| if frozen { constant([n], seed) } else { parameter([n], seed) };
        let x = parameter([40, 12], 1);
        let y = ops::feed_forward(
            x.clone(),
            [weight([12, 20], 2), weight([20, 12], 3)],
            [bias(20, 4), bias(12, 5)],
            x.clone(),
            Activation::Gelu,
            Precision::F32,
        );
        let pair = gradient(&x, weigh(y));
        let targets: Vec<i64> = (0..40).map(|i| i * 7 % 9).collect();
        let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [40]), &Device::flex());
        let mut all = pair;
        for (layout, shape) in [(Layout::InOut, [12, 9]), (Layout::OutIn, [9, 12])] {
            let (targets, weight) = (targets.clone(), weight(shape, 6));
            let loss = ops::linear_cross_entropy(
                x.clone(),
                weight,
                layout,
                targets,
                Options::default(),
                Precision::F32,
            );
            all.extend(gradient(&x, loss));
        }
        all
    };
    assert_eq!(run(true), run(false));
}

#[test]
fn bytes_are_within_half_a_step() {
    let weight = numbers(37 * 21, 3, 2.0);
    let matrix = Int8Matrix::new(&weight, 21);
    assert_eq!(matrix.dims(), [37, 21]);
    let found = matrix.dequantised();
    for column in 0..21 {
        let of = |values: &[f32]| values.iter().skip(column).step_by(21).copied().collect::<Vec<f32>>();
        let (exact, found) = (of(&weight), of(&found));
        let step = exact.iter().fold(0.0f32, |a, v| a.max(v.abs())) / 127.0;
        assert!(exact.iter().zip(&found).all(|(a, b)| (a - b).abs() <= 0.5001 * step), "column {column}");
    }
    assert_eq!(Int8Matrix::new(&[0.0; 6], 2).dequantised(), [0.0; 6]);
}

#[test]
fn a_layer_of_bytes_is_the_layer_of_its_numbers() {
    let matrix = Arc::new(Int8Matrix::new(&numbers(12 * 9, 3, 1.0), 9));
    for precision in [Precision::F32, Precision::Bf16] {
        let run = |composed: bool, bytes: bool| {
            let (x, bias, residual) = (parameter([2, 5, 12], 1), parameter([9], 2), parameter([2, 5, 9], 4));
            let with = Linear {
                bias: Some(bias.clone()),
                activation: Activation::Identity,
                residual: Some(residual.clone()),
                precision,
            };
            let numbers =
                || Tensor::from_data(TensorData::new(matrix.dequantised(), [12, 9]), &Device::flex());
            let layer = || match bytes {
                true => ops::linear_int8(x.clone(), &matrix, with.clone()),
                false => ops::linear(x.clone(), numbers(), with.clone()),
            };
            let y = if composed { ops::composed_only(layer) } else { layer() };
            let mut all = values(y.clone());
            let mut gradients = weigh(y).backward();
            all.extend(values(x.grad_remove(&mut gradients).expect("a gradient")));
            all.extend(values(bias.grad_remove(&mut gradients).expect("a gradient")));
            all.extend(values(residual.grad_remove(&mut gradients).expect("a gradient")));
            all
        };
        assert_eq!(run(false, true), run(false, false), "{precision:?}");
        let tolerance = if precision == Precision::F32 { 1e-5 } else { 4e-2 };
        close(&run(false, true), &run(true, true), tolerance, "the composed twin");
    }
}

#[derive(Module, Debug)]
struct Layer {
    weight: Param<Tensor<2>>,
}

#[test]
fn a_part_that_is_run_again_gives_the_same_gradients() {
    let layer = Layer { weight: Param::from_tensor(parameter([6, 6], 2)) };
    let runs = Arc::new(AtomicUsize::new(0));
    let part = {
        let runs = Arc::clone(&runs);
        move |layer: &Layer, x: Tensor<2>| {
            runs.fetch_add(1, Ordering::Relaxed);
            let y = ops::linear(x.clone(), layer.weight.val(), Linear::default());
            ops::gated(y, x, Activation::Silu)
        }
    };
    // The input is tracked, or a constant.
    for tracked in [true, false] {
        let run = |recompute: bool| {
            let x = if tracked { parameter([4, 6], 1) } else { constant([4, 6], 1) };
            let mut y = x.clone();
            for _ in 0..2 {
                y = if recompute { ops::recomputed(&layer, y, part.clone()) } else { part(&layer, y) };
            }
            let mut gradients = weigh(y).backward();
            let mut all = values(layer.weight.grad_remove(&mut gradients).expect("a gradient"));
            if tracked {
                all.extend(values(x.grad_remove(&mut gradients).expect("a gradient")));
            }
            all
        };
        runs.store(0, Ordering::Relaxed);
        let expected = run(false);
        assert_eq!(runs.swap(0, Ordering::Relaxed), 2);
        close(&run(true), &expected, 1e-6, "gradients");
        assert_eq!(runs.load(Ordering::Relaxed), 4, "each part ran twice");
    }
    // Where nothing is trained nothing is run again.
    let frozen = layer.valid();
    runs.store(0, Ordering::Relaxed);
    let _ = ops::recomputed(&frozen, constant([4, 6], 1), part.clone());
    assert_eq!(runs.load(Ordering::Relaxed), 1);
}
