//! Samplers against a straightforward reference, and their frequencies.

use super::super::*;
use crate::rng::Rng;

fn logits(n: usize, seed: u64) -> Vec<f32> {
    let mut rng = Rng::new(seed, 0);
    (0..n).map(|_| 3.0 * rng.normal()).collect()
}

/// Probabilities after all filters, as their definitions say.
fn reference(logits: &[f32], before: &[u32], allowed: Option<&TokenSet>, o: &SamplingOptions) -> Vec<f64> {
    let mut scores: Vec<f64> = logits.iter().map(|l| f64::from(*l)).collect();
    for (t, s) in scores.iter_mut().enumerate() {
        if before.contains(&(t as u32)) {
            *s = if *s < 0.0 { *s * o.repetition_penalty } else { *s / o.repetition_penalty };
        }
        if allowed.is_some_and(|a| !a.contains(t as u32)) {
            *s = f64::NEG_INFINITY;
        }
        *s /= o.temperature;
    }
    let mut sorted = scores.clone();
    sorted.sort_by(|a, b| b.total_cmp(a));
    if o.top_k > 0 && o.top_k < sorted.len() {
        scores.iter_mut().filter(|s| **s < sorted[o.top_k - 1]).for_each(|s| *s = f64::NEG_INFINITY);
    }
    let softmax = |scores: &[f64]| -> Vec<f64> {
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = scores.iter().map(|s| (s - largest).exp()).sum();
        scores.iter().map(|s| (s - largest).exp() / total).collect()
    };
    if o.top_p < 1.0 {
        // As there: from the least likely one up, whatever has no more than the rest together.
        let probabilities = softmax(&scores);
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| probabilities[*a].total_cmp(&probabilities[*b]));
        let mut sum = 0.0;
        for t in &order[..order.len() - 1] {
            sum += probabilities[*t];
            if sum <= 1.0 - o.top_p {
                scores[*t] = f64::NEG_INFINITY;
            }
        }
    }
    let probabilities = softmax(&scores);
    let most = probabilities.iter().copied().fold(0.0, f64::max);
    for (s, p) in scores.iter_mut().zip(&probabilities) {
        if *p < o.min_p * most {
            *s = f64::NEG_INFINITY;
        }
    }
    softmax(&scores)
}

fn sampler(options: &SamplingOptions) -> Sampler {
    Sampler::new(options.clone()).expect("a sampler")
}

#[test]
fn frequencies_are_those_of_the_definition() {
    let before = [1, 2, 3, 3, 17];
    let mut some = TokenSet::empty(200);
    (0..200).step_by(3).for_each(|t| some.insert(t));
    let plain = SamplingOptions { temperature: 1.0, ..SamplingOptions::greedy() };
    let cases = [
        plain.clone(),
        SamplingOptions { temperature: 0.6, ..plain.clone() },
        SamplingOptions { top_k: 5, ..plain.clone() },
        SamplingOptions { top_p: 0.8, ..plain.clone() },
        SamplingOptions { top_p: 0.9999, temperature: 3.0, ..plain.clone() },
        SamplingOptions { min_p: 0.1, ..plain.clone() },
        SamplingOptions { repetition_penalty: 1.7, ..plain.clone() },
        SamplingOptions {
            temperature: 1.5,
            top_k: 20,
            top_p: 0.9,
            min_p: 0.05,
            repetition_penalty: 1.2,
            seed: 9,
        },
    ];
    for (case, options) in cases.iter().enumerate() {
        for allowed in [None, Some(&some)] {
            let logits = logits(200, case as u64);
            let expected = reference(&logits, &before, allowed, options);
            let mut sampler = sampler(options);
            let (draws, mut counts) = (20_000, vec![0.0; 200]);
            for index in 0..draws {
                counts[sampler.choose(&logits, &before, index, allowed).expect("a token") as usize] += 1.0;
            }
            for (count, p) in counts.iter().zip(&expected) {
                let (found, n) = (count / draws as f64, draws as f64);
                // Nothing that was left out, and five deviations.
                let slack = 5.0 * (p * (1.0 - p) / n).sqrt() + if *p > 0.0 { 1.0 / n } else { 0.0 };
                assert!((found - p).abs() <= slack, "{options:?}: {found}, not {p}");
            }
        }
    }
}

#[test]
fn a_token_depends_on_seed_and_place_alone() {
    let options = SamplingOptions { temperature: 1.0, seed: 3, ..SamplingOptions::greedy() };
    let logits = logits(50, 1);
    let all: Vec<_> = (0..100).map(|i| sampler(&options).choose(&logits, &[], i, None)).collect();
    let mut one = sampler(&options);
    let backwards: Vec<_> = (0..100).rev().map(|i| one.choose(&logits, &[], i, None)).collect();
    assert!(all.iter().eq(backwards.iter().rev()));
    let other = SamplingOptions { seed: 4, ..options };
    assert!(all.iter().enumerate().any(|(i, t)| sampler(&other).choose(&logits, &[], i as u64, None) != *t));
}

#[test]
fn temperature_zero_takes_the_first_of_the_most_likely() {
    let mut greedy = sampler(&SamplingOptions::greedy());
    assert_eq!(greedy.choose(&[1.0, 3.0, 3.0, f32::NAN, f32::INFINITY], &[], 0, None), Some(1));
    assert_eq!(greedy.choose(&[f32::NAN, f32::NEG_INFINITY], &[], 0, None), None);
    assert_eq!(greedy.choose(&[1.0, 2.0], &[], 0, Some(&TokenSet::empty(2))), None);
    let mut penalised = sampler(&SamplingOptions { repetition_penalty: 2.0, ..SamplingOptions::greedy() });
    assert_eq!(penalised.choose(&[1.0, 1.5, -1.0], &[1], 0, None), Some(0));
    assert_eq!(penalised.choose(&[-3.0, -1.6, -1.0], &[2], 0, None), Some(1));
}

#[test]
fn every_option_that_makes_no_sense_is_named() {
    let options = SamplingOptions {
        temperature: -1.0,
        top_k: 0,
        top_p: 0.0,
        min_p: 2.0,
        repetition_penalty: f64::NAN,
        seed: 0,
    };
    let message = options.check().expect_err("problems").to_string();
    for name in ["temperature", "top_p", "min_p", "repetition_penalty"] {
        assert!(message.contains(name), "{message}");
    }
    assert!(SamplingOptions::default().check().is_ok());
}

#[test]
fn log_probabilities_are_those_of_the_softmax() {
    let logits = [1.0f32, 2.0, 4.0, 4.0];
    let total: f64 = logits.iter().map(|l| f64::from(*l).exp()).sum();
    let found = log_probability(&logits, 1, 3);
    assert!((found.value - (2.0 - total.ln())).abs() < 1e-9);
    assert_eq!(found.top.iter().map(|t| t.0).collect::<Vec<_>>(), [2, 3, 1]);
    assert!((found.top[0].1 - (4.0 - total.ln())).abs() < 1e-9);
    assert!(log_probability(&logits, 0, 0).top.is_empty());
}
