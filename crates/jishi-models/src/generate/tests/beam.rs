//! Beam search finds what the reference implementation finds.

use jishi_kernels::cpu::matvec::Format;
use jishi_kernels::cpu::rotary::Layout;
use serde_json::Value;

use super::super::*;
use crate::decoder::tests::llama;
use crate::decoder::{Decoder, RotaryScaling};

fn decoder() -> Decoder {
    let config = llama::tiny(RotaryScaling::None, Layout::Half);
    let tensors = llama::tensors(&config, true, false);
    Decoder::new(config, Format::F32, &tensors).expect("a decoder")
}

fn numbers(value: &Value) -> Vec<u32> {
    value.as_array().expect("numbers").iter().filter_map(|v| v.as_u64().map(|v| v as u32)).collect()
}

fn search(decoder: &Decoder, prompt: &[u32], options: &BeamOptions) -> Vec<Beam> {
    let mut sequence = decoder.sequence();
    let first = decoder.prefill(&mut sequence, prompt).expect("logits").to_vec();
    beam_search(&mut DecoderTexts::new(decoder, sequence), &first, options).expect("texts")
}

#[test]
fn texts_and_scores_are_the_reference_implementations() {
    let (decoder, reference) = (decoder(), llama::reference());
    let cases = reference["beams"].as_array().expect("cases");
    assert_eq!(cases.len(), 72);
    for case in cases {
        let options = BeamOptions {
            beams: case["beams"].as_u64().expect("beams") as usize,
            max_tokens: 9,
            stop_tokens: numbers(&case["stops"]),
            length_penalty: case["penalty"].as_f64().expect("a penalty"),
            early_stopping: match case["early"].as_str() {
                Some("True") => EarlyStopping::Always,
                Some("never") => EarlyStopping::Never,
                _ => EarlyStopping::Heuristic,
            },
        };
        let found = search(&decoder, &numbers(&case["prompt"]), &options);
        let expected = case["texts"].as_array().expect("texts");
        assert_eq!(found.len(), expected.len(), "{options:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!(found.tokens, numbers(&expected["tokens"]), "{options:?}");
            let score = expected["score"].as_f64().expect("a score");
            assert!((found.score - score).abs() < 1e-3 * score.abs().max(1.0), "{options:?}");
        }
    }
}

#[test]
fn one_beam_is_greedy_and_a_full_context_ends_it() {
    let decoder = decoder();
    let options = BeamOptions { beams: 1, max_tokens: 20, ..BeamOptions::default() };
    let found = search(&decoder, &[3, 36, 0], &options);
    let mut sequence = decoder.sequence();
    let options =
        GenerateOptions { max_tokens: 20, sampling: SamplingOptions::greedy(), ..GenerateOptions::default() };
    let generation = Generation::new(options, &[3, 36, 0], None, None).expect("a generation");
    let mut text = DecoderText { decoder: &decoder, sequence: &mut sequence };
    let greedy =
        generate(&mut text, &[3, 36, 0], generation, &mut |_| ControlFlow::Continue(())).expect("a text");
    assert_eq!(found[0].tokens, greedy.tokens);
    let options = BeamOptions { beams: 3, max_tokens: 20, ..BeamOptions::default() };
    let found = search(&decoder, &[1; 297], &options);
    assert_eq!(found[0].tokens.len(), 4, "three positions and a token after them");
    let none = BeamOptions { beams: 0, ..options };
    let mut sequence = decoder.sequence();
    let first = decoder.step(&mut sequence, 1).expect("logits").to_vec();
    assert!(beam_search(&mut DecoderTexts::new(&decoder, sequence), &first, &none).is_err());
}
