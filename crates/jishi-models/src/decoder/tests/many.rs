//! Several sequences that share weights.

use jishi_kernels::cpu::rotary::Layout;

use super::super::*;
use super::{error, llama};

fn decoder(format: Format) -> Decoder {
    let config = llama::tiny(RotaryScaling::None, Layout::Half);
    Decoder::new(config.clone(), format, &llama::tensors(&config, true, false)).expect("a decoder")
}

const TEXTS: [[u32; 9]; 5] = [
    [1, 2, 3, 4, 5, 6, 7, 8, 9],
    [9, 8, 7, 6, 5, 4, 3, 2, 1],
    [0, 0, 0, 36, 36, 36, 5, 5, 5],
    [30, 1, 30, 1, 30, 1, 30, 1, 30],
    [11, 12, 13, 14, 15, 16, 17, 18, 19],
];

#[test]
fn sequences_that_step_together_are_as_alone() {
    for format in [Format::F32, Format::Bf16, Format::Int8, Format::Q8_0, Format::Q4_1] {
        let decoder = decoder(format);
        let mut alone: Vec<Sequence> = TEXTS.iter().map(|_| decoder.sequence()).collect();
        let mut together: Vec<Sequence> = TEXTS.iter().map(|_| decoder.sequence()).collect();
        // They need not be at the same position.
        for (i, text) in TEXTS.iter().enumerate() {
            if i > 0 {
                decoder.prefill(&mut alone[i], &text[..i]).expect("logits");
                decoder.prefill(&mut together[i], &text[..i]).expect("logits");
            }
        }
        for step in 0..4 {
            let tokens: Vec<u32> = TEXTS.iter().enumerate().map(|(i, t)| t[i + step]).collect();
            let mut batch: Vec<&mut Sequence> = together.iter_mut().collect();
            decoder.step_many(&mut batch, &tokens).expect("a step");
            for (i, (alone, together)) in alone.iter_mut().zip(&together).enumerate() {
                let expected = decoder.step(alone, tokens[i]).expect("logits");
                assert_eq!(together.logits(), expected, "{format:?} {i}");
            }
        }
    }
}

#[test]
fn a_fork_goes_its_own_way() {
    let decoder = decoder(Format::Bf16);
    let mut first = decoder.sequence();
    decoder.prefill(&mut first, &TEXTS[0]).expect("logits");
    let mut second = decoder.fork(&first);
    assert_eq!(first.logits(), second.logits());
    let one = decoder.step(&mut first, 3).expect("logits").to_vec();
    let other = decoder.step(&mut second, 4).expect("logits").to_vec();
    assert_ne!(one, other);
    second.rewind(TEXTS[0].len());
    assert_eq!(decoder.step(&mut second, 3).expect("logits"), one);
    // A batch of steps does not mix them up either.
    let mut third = decoder.fork(&first);
    let tokens: Vec<u32> = (0..200).map(|i| i % 37).collect();
    for token in &tokens {
        decoder.step_many(&mut [&mut first, &mut third], &[*token, *token]).expect("a step");
        assert_eq!(first.logits(), third.logits());
    }
    assert_eq!(first.position(), 210);
}

#[test]
fn forks_share_the_pages_of_what_they_have_in_common() {
    let decoder = decoder(Format::Bf16);
    let prompt: Vec<u32> = (0..150).map(|i| i % 37).collect();
    let mut first = decoder.sequence();
    decoder.prefill(&mut first, &prompt).expect("logits");
    assert_eq!(first.bytes(), decoder.page_bytes(3));
    let mut shorter = decoder.fork(&first);
    shorter.rewind(70);
    assert_eq!(shorter.bytes(), decoder.page_bytes(2), "pages of others that it does not need are let go");
    // It reads another prompt from there, as if it had never been a fork.
    let other: Vec<u32> = prompt[..70].iter().copied().chain((0..60).map(|i| (i * 7) % 37)).collect();
    decoder.prefill_part(&mut shorter, &other[70..], true).expect("logits");
    let mut alone = decoder.sequence();
    decoder.prefill_part(&mut alone, &other, true).expect("logits");
    assert_eq!(shorter.logits(), alone.logits());
    let expected = decoder.step(&mut decoder.fork(&first), 5).expect("logits").to_vec();
    assert_eq!(decoder.step(&mut first, 5).expect("logits"), expected);
}

#[test]
fn a_step_that_cannot_be_changes_nothing() {
    let decoder = decoder(Format::F32);
    let (mut first, mut second) = (decoder.sequence(), decoder.sequence());
    decoder.prefill(&mut second, &[1; 300]).expect("logits");
    let message =
        decoder.step_many(&mut [&mut first, &mut second], &[1, 1]).expect_err("it is full").to_string();
    assert!(message.contains("context of 300"), "{message}");
    assert_eq!((first.position(), second.position()), (0, 300));
    assert!(decoder.step_many(&mut [&mut first], &[1, 2]).is_err());
    assert!(decoder.step_many(&mut [], &[]).is_ok());
}

#[test]
fn long_prompts_go_through_in_pieces() {
    let mut config = llama::tiny(RotaryScaling::None, Layout::Half);
    config.context = 1200;
    let tensors = llama::tensors(&config, true, false);
    let decoder = Decoder::new(config, Format::F32, &tensors).expect("a decoder");
    let tokens: Vec<u32> = (0..1100).map(|i| (i * i + i / 3) % 37).collect();
    let mut sequence = decoder.sequence();
    let all = decoder.forward(&mut sequence, &tokens).expect("logits");
    let last: Vec<f64> = all[all.len() - 37..].iter().map(|l| f64::from(*l)).collect();
    let mut sequence = decoder.sequence();
    let found = decoder.prefill(&mut sequence, &tokens).expect("logits");
    assert!(error(found, &last) < 1e-5, "{}", error(found, &last));
}

#[test]
fn parts_of_a_prompt_give_what_the_whole_gives() {
    for format in [Format::F32, Format::Bf16, Format::Int8, Format::Q8_0, Format::Q4_1] {
        let decoder = decoder(format);
        let tokens: Vec<u32> = (0..101).map(|i| (i * i + i / 3) % 37).collect();
        let mut whole = decoder.sequence();
        let expected = decoder.prefill(&mut whole, &tokens).expect("logits").to_vec();
        let after = decoder.step(&mut whole, 7).expect("logits").to_vec();
        for size in [1, 2, 3, 7, 32, 50, 100] {
            let mut sequence = decoder.sequence();
            let mut parts = tokens.chunks(size).peekable();
            while let Some(part) = parts.next() {
                decoder.prefill_part(&mut sequence, part, parts.peek().is_none()).expect("a part");
            }
            assert_eq!(sequence.logits(), expected, "{format:?} {size}");
            assert_eq!(decoder.step(&mut sequence, 7).expect("logits"), after, "{format:?} {size}");
        }
        // A prompt that begins as another does takes over what is common.
        whole.rewind(60);
        let mut fork = decoder.fork(&whole);
        decoder.prefill_part(&mut fork, &tokens[60..], true).expect("the rest");
        assert_eq!(fork.logits(), expected, "{format:?}");
        assert!(decoder.prefill_part(&mut fork, &[], true).is_err());
        assert!(decoder.prefill_part(&mut fork, &[1; 300], true).is_err());
    }
}

#[test]
fn one_thread_gives_what_all_give() {
    use std::sync::Mutex;
    for format in [Format::F32, Format::Bf16, Format::Q8_0] {
        let decoder = decoder(format);
        let run = || {
            let mut sequence = decoder.sequence();
            let mut logits = decoder.prefill(&mut sequence, &TEXTS[0]).expect("logits").to_vec();
            for token in TEXTS[1] {
                logits.extend_from_slice(decoder.step(&mut sequence, token).expect("logits"));
            }
            logits
        };
        // Within a task, calls run on its thread alone.
        let alone = Mutex::new(Vec::new());
        jishi_kernels::threads::parallel(2, |task| {
            if task == 0 {
                *alone.lock().expect("no task panicked") = run();
            }
        });
        assert_eq!(*alone.lock().expect("no task panicked"), run(), "{format:?}");
    }
}

#[test]
fn greedy_tokens_are_the_same_at_every_level() {
    for format in [Format::F32, Format::Q8_0, Format::Q4_1] {
        let mut decoder = decoder(format);
        let mut all = Vec::new();
        for level in Level::available() {
            decoder.level = level;
            all.push(generate(&decoder, &mut decoder.sequence(), &TEXTS[3]).expect("tokens"));
        }
        assert_eq!(all[0].len(), 291);
        assert!(all.iter().all(|tokens| *tokens == all[0]), "{format:?}");
    }
}
