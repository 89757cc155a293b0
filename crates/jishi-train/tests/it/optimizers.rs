//! Optimisers and schedules against trajectories that PyTorch made (`tests/fixtures/optimizers.py`).

use jishi_train::optimizer::{Optimizer, Parameter};
use jishi_train::schedule::Schedule;
use serde_json::Value;

fn fixtures() -> Value {
    serde_json::from_str(include_str!("../fixtures/optimizers.json")).expect("the fixture is JSON")
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().expect("an array").iter().map(|v| v.as_f64().expect("a number") as f32).collect()
}

fn close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance * (1.0 + b.abs()), "{what}[{i}]: found {a}, expected {b}");
    }
}

fn parameters() -> Vec<Parameter> {
    vec![
        Parameter { name: "layer.weight".into(), shape: vec![3, 4], rate: 1.0, every: 1 },
        Parameter { name: "layer.bias".into(), shape: vec![4], rate: 1.0, every: 1 },
    ]
}

/// Runs the stored gradients and compares every step.
fn follow(case: &str, run: &Value, fixture: &Value, grads: &[Value], scale: impl Fn(usize) -> f32) {
    let config: jishi_recipe::Optimizer = serde_json::from_value(run["config"].clone()).expect("a config");
    let mut optimizer = Optimizer::new(&config, parameters());
    let mut weight = floats(&fixture["start"]["weight"]);
    let mut bias = floats(&fixture["start"]["bias"]);
    for (step, grad) in grads.iter().enumerate() {
        optimizer.begin_step();
        optimizer.update(0, 1.0, scale(step), &mut weight, &floats(&grad["weight"]));
        optimizer.update(1, 1.0, scale(step), &mut bias, &floats(&grad["bias"]));
        close(&weight, &floats(&run["weight"][step]), 2e-6, &format!("{case} step {step} weight"));
        close(&bias, &floats(&run["bias"][step]), 2e-6, &format!("{case} step {step} bias"));
    }
}

#[test]
fn trajectories_are_those_of_pytorch() {
    let fixture = fixtures();
    let grads = fixture["grads"].as_array().expect("gradients");
    let cases = fixture["optimizers"].as_object().expect("cases");
    assert!(cases.len() >= 12);
    for (case, run) in cases {
        follow(case, run, &fixture, grads, |_| 1.0);
    }
}

#[test]
fn clipping_scales_to_the_global_norm() {
    let fixture = fixtures();
    let clip = &fixture["clip"];
    let limit = clip["max_norm"].as_f64().expect("a number");
    let grads = &fixture["grads"].as_array().expect("gradients")[..4];
    let norms: Vec<f64> = grads
        .iter()
        .map(|g| {
            let all = [floats(&g["weight"]), floats(&g["bias"])].concat();
            all.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
        })
        .collect();
    let expected = floats(&clip["norms"]);
    close(&norms.iter().map(|n| *n as f32).collect::<Vec<_>>(), &expected, 1e-5, "norms");
    follow("clip", clip, &fixture, grads, |step| jishi_train::update::clip_factor(norms[step], limit) as f32);
}

#[test]
fn muon_orthogonalises_as_pytorch_does() {
    let fixture = fixtures();
    for case in ["wide", "tall", "plain_momentum"] {
        let run = &fixture["muon"][case];
        let config = serde_json::from_value(run["config"].clone()).expect("a config");
        let shape: Vec<usize> = floats(&run["shape"]).iter().map(|v| *v as usize).collect();
        let mut optimizer = Optimizer::new(
            &config,
            vec![Parameter { name: "layer.weight".into(), shape, rate: 1.0, every: 1 }],
        );
        let mut weight = floats(&fixture["start"]["weight"]);
        for (step, expected) in run["weight"].as_array().expect("steps").iter().enumerate() {
            optimizer.begin_step();
            optimizer.update(0, 1.0, 1.0, &mut weight, &floats(&fixture["grads"][step]["weight"]));
            close(&weight, &floats(expected), 2e-5, &format!("muon {case} step {step}"));
        }
    }
}

#[test]
fn schedules_are_those_of_pytorch() {
    let fixture = fixtures();
    for case in ["cosine", "linear", "step", "one_cycle"] {
        let run = &fixture["schedules"][case];
        let config = serde_json::from_value(run["config"].clone()).expect("a config");
        let total = run["total_steps"].as_u64().expect("steps") as usize;
        let schedule = Schedule::new(&config, total, run["steps_per_epoch"].as_u64().unwrap_or(1) as usize);
        let rates: Vec<f32> = (0..total).map(|step| schedule.factor(step) as f32).collect();
        close(&rates, &floats(&run["rates"])[..total], 1e-6, case);
    }
}

#[test]
fn plateau_follows_the_validation_losses() {
    let fixture = fixtures();
    let run = &fixture["schedules"]["plateau"];
    let config = serde_json::from_value(run["config"].clone()).expect("a config");
    let mut schedule = Schedule::new(&config, 100, 1);
    let rates: Vec<f32> = floats(&run["losses"])
        .iter()
        .map(|loss| {
            schedule.observe(f64::from(*loss));
            schedule.factor(1) as f32
        })
        .collect();
    close(&rates, &floats(&run["rates"]), 1e-6, "plateau");
}

#[test]
fn warm_up_rises_in_a_straight_line() {
    let config = jishi_recipe::Schedule { warmup: 4, ..Default::default() };
    let schedule = Schedule::new(&config, 10, 1);
    let rates: Vec<f64> = (0..6).map(|step| schedule.factor(step)).collect();
    assert_eq!(rates, [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
}

#[test]
fn state_round_trips() {
    let config = jishi_recipe::Optimizer::default();
    let grads = [vec![0.5; 12], vec![-0.25; 4]];
    let step = |optimizer: &mut Optimizer, values: &mut [Vec<f32>; 2]| {
        optimizer.begin_step();
        for i in 0..2 {
            optimizer.update(i, 1.0, 1.0, &mut values[i], &grads[i]);
        }
    };
    let mut straight = Optimizer::new(&config, parameters());
    let mut values = [vec![1.0; 12], vec![1.0; 4]];
    step(&mut straight, &mut values);
    let (steps, state) = straight.export();
    let mut resumed = Optimizer::new(&config, parameters());
    resumed
        .import(steps, |name| state.iter().find(|(n, _, _)| n == name).map(|(_, _, data)| data.clone()))
        .expect("the state fits");
    let mut other = values.clone();
    step(&mut straight, &mut values);
    step(&mut resumed, &mut other);
    assert_eq!(values, other);
    assert_eq!(resumed.import(steps, |_| None), Err("layer.weight.first".to_owned()));
}

#[test]
fn norms_biases_and_embeddings_do_not_decay() {
    let decays = |name: &str, shape: &[usize]| {
        Parameter { name: name.into(), shape: shape.to_vec(), rate: 1.0, every: 1 }.decays(false)
    };
    assert!(decays("layers.0.weight", &[8, 8]));
    assert!(!decays("layers.0.bias", &[8]));
    assert!(!decays("norm.weight", &[8]));
    assert!(!decays("layers.0.input_scale", &[4, 8]));
    assert!(!decays("categories.embedding.weight", &[100, 8]));
    assert!(Parameter { name: "layers.0.bias".into(), shape: vec![8], rate: 1.0, every: 1 }.decays(true));
}

#[test]
fn a_parameter_learns_at_its_own_rate() {
    let config = jishi_recipe::Optimizer::Sgd(jishi_recipe::Sgd { learning_rate: 0.1, ..Default::default() });
    let parameter = |rate| Parameter { name: "layers.0.weight".into(), shape: vec![1, 2], rate, every: 1 };
    let mut optimizer =
        jishi_train::optimizer::Optimizer::new(&config, vec![parameter(1.0), parameter(0.25)]);
    optimizer.begin_step();
    let mut values = [[1.0_f32, 1.0], [1.0, 1.0]];
    for (i, value) in values.iter_mut().enumerate() {
        optimizer.update(i, 1.0, 1.0, value, &[1.0, -1.0]);
    }
    assert_eq!(values, [[0.9, 1.1], [0.975, 1.025]]);
}

#[test]
fn a_parameter_that_comes_at_every_third_step_counts_its_own_updates() {
    let updated = |every: u64, steps: usize| {
        let parameter = Parameter { name: "layers.0.weight".into(), shape: vec![1, 2], rate: 1.0, every };
        let mut optimizer =
            Optimizer::new(&jishi_recipe::Optimizer::Adam(jishi_recipe::Adam::default()), vec![parameter]);
        let mut weights = [1.0_f32, -2.0];
        for step in 1..=steps as u64 {
            optimizer.begin_step();
            if step.is_multiple_of(every) {
                optimizer.update(0, 1.0, 1.0, &mut weights, &[0.5, 3.0 * step as f32 / every as f32]);
            }
        }
        weights
    };
    // Adam's correction of young moments goes by updates, not by steps of the run.
    assert_eq!(updated(3, 6), updated(1, 2));
    assert_ne!(updated(1, 2), updated(1, 1));
}
