//! Texts: how they end, and what is shown when.

use std::sync::Arc;

use super::super::*;

/// Says what it is told to: logits whose largest is the next of the tokens.
struct Script {
    tokens: Vec<u32>,
    taken: usize,
    context: usize,
    prompt: usize,
    logits: Vec<f32>,
}

impl Script {
    fn new(tokens: &[u32], prompt: usize, context: usize) -> Self {
        Self { tokens: tokens.to_vec(), taken: 0, context, prompt, logits: Vec::new() }
    }
}

impl NextTokenLogits for Script {
    fn room(&self) -> usize {
        self.context - self.taken
    }

    fn take(&mut self, tokens: &[u32]) -> Result<&[f32], ModelError> {
        self.taken += tokens.len();
        assert!(self.taken <= self.context, "more than the context");
        self.logits = vec![0.0; 300];
        let next = self.tokens.get(self.taken - self.prompt).copied().unwrap_or(b'.'.into());
        self.logits[next as usize] = 5.0;
        Ok(&self.logits)
    }
}

fn bytes() -> Arc<TokenTable> {
    let mut tokens: Vec<Vec<u8>> = (0..=255u8).map(|b| vec![b]).collect();
    tokens.push(b"END now".to_vec());
    tokens.resize(300, Vec::new());
    Arc::new(TokenTable::new(tokens))
}

fn options() -> GenerateOptions {
    GenerateOptions {
        max_tokens: 40,
        stop_tokens: vec![299],
        sampling: SamplingOptions::greedy(),
        ..GenerateOptions::default()
    }
}

/// The text, and the pieces in which it was shown.
fn run(tokens: &[u32], options: GenerateOptions, context: usize) -> (Generated, Vec<String>) {
    let generation = Generation::new(options, &[1, 2], Some(bytes()), None).expect("a generation");
    let mut pieces = Vec::new();
    let mut model = Script::new(tokens, 2, context);
    let found = generate(&mut model, &[1, 2], generation, &mut |piece| {
        pieces.push(piece.text.clone());
        ControlFlow::Continue(())
    })
    .expect("a text");
    assert_eq!(pieces.concat(), found.text);
    (found, pieces)
}

fn text(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

#[test]
fn texts_end_for_every_reason() {
    let mut tokens = text("hello");
    tokens.push(299);
    let (found, _) = run(&tokens, options(), 100);
    assert_eq!((found.text.as_str(), found.finish, found.tokens.len()), ("hello", Finish::Stop, 5));
    let (found, _) = run(&text("hello"), GenerateOptions { max_tokens: 3, ..options() }, 100);
    assert_eq!((found.text.as_str(), found.finish), ("hel", Finish::Length));
    let (found, _) = run(&text("hello"), GenerateOptions { max_tokens: 0, ..options() }, 100);
    assert_eq!((found.text.as_str(), found.finish), ("", Finish::Length));
    // The last token needs no place.
    let (found, _) = run(&text("hello"), options(), 5);
    assert_eq!((found.text.as_str(), found.finish), ("hell", Finish::Context));
    let (found, _) = run(&text("hello"), options(), 2);
    assert_eq!((found.text.as_str(), found.finish), ("h", Finish::Context));
    let generation = Generation::new(options(), &[1, 2], Some(bytes()), None).expect("a generation");
    let mut left = 2;
    let found = generate(&mut Script::new(&text("hello"), 2, 50), &[1, 2], generation, &mut |_| {
        left -= 1;
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .expect("a text");
    assert_eq!((found.text.as_str(), found.finish), ("he", Finish::Cancelled));
}

#[test]
fn a_stop_string_over_several_tokens_is_never_shown() {
    let stop = |stops: &[&str]| GenerateOptions {
        stop: stops.iter().map(|s| (*s).to_owned()).collect(),
        ..options()
    };
    let (found, pieces) = run(&text("one STOP two"), stop(&["STOP", "two"]), 100);
    assert_eq!((found.text.as_str(), found.finish), ("one ", Finish::Stop));
    assert!(pieces.iter().all(|p| !p.contains('S')), "{pieces:?}");
    // What only began like one is shown when that is clear.
    let (found, pieces) =
        run(&text("a STOLEN b"), GenerateOptions { max_tokens: 10, ..stop(&["STOP"]) }, 100);
    assert_eq!(found.text, "a STOLEN b");
    assert_eq!(pieces[2..7], ["", "", "", "STOL", "E"]);
    // Within a token, and at the end of the text.
    let (found, _) = run(&[b'x'.into(), 256, b'y'.into()], stop(&["D n"]), 100);
    assert_eq!((found.text.as_str(), found.tokens.len()), ("xEN", 2));
    let (found, _) = run(&text("abST"), GenerateOptions { max_tokens: 4, ..stop(&["STOP"]) }, 100);
    assert_eq!((found.text.as_str(), found.finish), ("abST", Finish::Length));
    // Of two, the one that begins first.
    let (found, _) = run(&text("aabab"), stop(&["ab", "aab"]), 100);
    assert_eq!(found.text, "");
    assert!(Generation::new(stop(&["x"]), &[], None, None).is_err());
}

#[test]
fn characters_are_shown_whole() {
    let (found, pieces) = run(&text("aé→😀b"), GenerateOptions { max_tokens: 11, ..options() }, 100);
    assert_eq!(found.text, "aé→😀b");
    assert_eq!(pieces, ["a", "", "é", "", "", "→", "", "", "", "😀", "b"]);
    // What is no character does not wait for ever.
    let (found, pieces) = run(&[0xff, 0x41, 0xe2, 0x41], GenerateOptions { max_tokens: 4, ..options() }, 100);
    assert_eq!(found.text, "\u{fffd}A\u{fffd}A");
    assert_eq!(pieces, ["\u{fffd}", "A", "", "\u{fffd}A"]);
    let (found, _) = run(&[0x41, 0xe2], GenerateOptions { max_tokens: 2, ..options() }, 100);
    assert_eq!(found.text, "A\u{fffd}");
}

#[test]
fn log_probabilities_are_there_for_each_token() {
    let (found, _) =
        run(&text("hi"), GenerateOptions { max_tokens: 2, log_probabilities: Some(2), ..options() }, 100);
    let expected = 5.0 - (5f64.exp() + 299.0).ln();
    assert_eq!(found.log_probabilities.len(), 2);
    for (p, token) in found.log_probabilities.iter().zip(text("hi")) {
        assert!(p.token == token && (p.value - expected).abs() < 1e-6 && p.top[0].0 == token);
    }
}

#[test]
fn texts_that_step_together_are_those_made_alone() {
    use jishi_kernels::cpu::matvec::Format;
    use jishi_kernels::cpu::rotary::Layout;

    use crate::decoder::tests::llama;
    use crate::decoder::{Decoder, RotaryScaling, Sequence};

    let config = llama::tiny(RotaryScaling::None, Layout::Half);
    let tensors = llama::tensors(&config, true, false);
    let decoder = Decoder::new(config, Format::Q8_0, &tensors).expect("a decoder");
    let prompts: [&[u32]; 3] = [&[1, 2, 3], &[36], &[5, 5, 5, 5, 5, 5]];
    let generation = |i: usize| {
        let sampling = SamplingOptions { temperature: 1.2, seed: i as u64, ..SamplingOptions::greedy() };
        // Some end before others.
        let options = GenerateOptions { max_tokens: 20, stop_tokens: vec![7], sampling, ..options() };
        Generation::new(options, prompts[i], None, None).expect("a generation")
    };
    let alone: Vec<Generated> = (0..3)
        .map(|i| {
            let mut text = DecoderText { decoder: &decoder, sequence: &mut decoder.sequence() };
            generate(&mut text, prompts[i], generation(i), &mut |_| ControlFlow::Continue(()))
                .expect("a text")
        })
        .collect();
    let mut texts: Vec<(Generation, Sequence)> =
        (0..3).map(|i| (generation(i), decoder.sequence())).collect();
    for ((_, sequence), prompt) in texts.iter_mut().zip(prompts) {
        decoder.prefill(sequence, prompt).expect("logits");
    }
    loop {
        let (mut sequences, mut tokens) = (Vec::new(), Vec::new());
        for (generation, sequence) in &mut texts {
            let token = generation.next(sequence.logits()).expect("a token").token;
            if let Some(token) = token.filter(|_| generation.finish().is_none()) {
                sequences.push(sequence);
                tokens.push(token);
            }
        }
        if tokens.is_empty() {
            break;
        }
        decoder.step_many(&mut sequences, &tokens).expect("a step");
    }
    let together: Vec<Generated> = texts.into_iter().map(|(g, _)| g.into_generated()).collect();
    assert_eq!(together, alone);
    assert!(alone.iter().any(|g| g.tokens.len() > 3));
}
