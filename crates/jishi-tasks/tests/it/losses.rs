//! tests/fixtures/losses.py

use burn::tensor::{Device, Tensor, TensorData};
use jishi_tasks::losses::{Loss, binary_target, class_target};
use serde_json::Value;

use crate::{close, fixture, integers, numbers};

fn floats(value: &Value) -> Vec<f32> {
    numbers(value).into_iter().map(|v| v as f32).collect()
}

#[test]
fn losses_and_gradients_equal_pytorch() {
    let cases = fixture("losses.json");
    let cases = cases.as_array().expect("a list");
    assert_eq!(cases.len(), 18);
    for case in cases {
        let name = case["name"].as_str().expect("a name");
        let (kind, setting) = case["loss"].as_object().and_then(|o| o.iter().next()).expect("a loss");
        let loss = match (kind.as_str(), setting.as_f64()) {
            ("mse", _) => Loss::Mse,
            ("mae", _) => Loss::Mae,
            ("huber", Some(delta)) => Loss::Huber { delta },
            ("cross-entropy", _) => Loss::CrossEntropy,
            ("binary-cross-entropy", _) => Loss::BinaryCrossEntropy,
            ("focal", Some(gamma)) => Loss::Focal { gamma },
            _ => panic!("{name}"),
        };
        let rows = case["output"].as_array().expect("rows").len();
        let output = floats(&case["output"]);
        let shape = [rows, output.len() / rows];
        let device = Device::flex();
        let output =
            Tensor::<2>::from_data(TensorData::new(output, shape), &device).autodiff().require_grad();

        let (target, row, weight) = if case["target"].is_array() {
            (TensorData::new(floats(&case["target"]), shape), None, rows as f64)
        } else {
            let (classes, weights) = (integers(&case["classes"]), floats(&case["weights"]));
            let smoothing = case["smoothing"].as_f64().expect("a share");
            let weight = classes.iter().map(|c| f64::from(weights[*c as usize])).sum();
            if loss == Loss::BinaryCrossEntropy {
                let (target, row) = binary_target(&classes, &weights, smoothing);
                (target, Some(Tensor::from_data(row, &device)), weight)
            } else {
                (class_target(&classes, &weights, smoothing), None, weight)
            }
        };
        let sum = loss.sum(output.clone(), Tensor::from_data(target, &device), row);
        let mean = sum / weight;
        let value = f64::from(mean.clone().into_scalar::<f32>());
        close(&[value], &numbers(&case["value"]), 1e-6, name);
        let gradient = output.grad(&mean.backward()).expect("a gradient").into_data();
        let gradient: Vec<f64> =
            gradient.try_to_vec::<f32>().expect("f32").into_iter().map(f64::from).collect();
        close(&gradient, &numbers(&case["gradient"]), 1e-6, &format!("gradient of {name}"));
    }
}
