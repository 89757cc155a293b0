#![allow(clippy::unwrap_used)]

use std::time::Duration;

use burn::tensor::Device;
use jishi_kernels::cpu::matvec::Format;
use jishi_models::generate::{
    DecoderText, GenerateOptions, Generated, SamplingOptions, TokenTable, generate,
};
use jishi_models::language::{CausalConfig, CausalModel, LanguageModel};
use jishi_models::{Gpt2Config, LlamaConfig};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;

const VOCABULARY: u32 = 37;
const CONTEXT: usize = 300;

struct Own(Decoder);

impl AsRef<Decoder> for Own {
    fn as_ref(&self) -> &Decoder {
        &self.0
    }
}

fn decoder(llama: bool, format: Format) -> Arc<Own> {
    let config = match llama {
        true => CausalConfig::Llama(LlamaConfig {
            kv_heads: 2,
            ..LlamaConfig::new(2, 24, 4, CONTEXT, VOCABULARY as usize)
        }),
        false => CausalConfig::Gpt2(Gpt2Config::new(2, 24, 3, CONTEXT, VOCABULARY as usize)),
    };
    Arc::new(Own(CausalModel::init(&config, 0, &Device::flex()).decoder(format).unwrap()))
}

fn table() -> Arc<TokenTable> {
    Arc::new(TokenTable::new((0..VOCABULARY).map(|t| [b'a' + (t % 26) as u8])))
}

fn prompt(i: usize, length: usize) -> Vec<u32> {
    (0..length).map(|j| ((i * 31 + j * j + j / 3) as u32) % VOCABULARY).collect()
}

fn options(i: usize) -> GenerateOptions {
    let sampling = SamplingOptions {
        temperature: if i.is_multiple_of(3) { 0.0 } else { 1.5 },
        seed: i as u64,
        ..SamplingOptions::greedy()
    };
    let stop = if i.is_multiple_of(4) { vec!["ab".to_owned()] } else { Vec::new() };
    let log_probabilities = i.is_multiple_of(2).then_some(2);
    GenerateOptions { max_tokens: 20 + i, sampling, stop, log_probabilities, stop_tokens: vec![5] }
}

fn begun(i: usize, prompt: &[u32]) -> Generation {
    Generation::new(options(i), prompt, Some(table()), None).unwrap()
}

/// What is written alone.
fn alone(decoder: &Decoder, i: usize, prompt: &[u32]) -> Generated {
    let mut sequence = decoder.sequence();
    let mut text = DecoderText { decoder, sequence: &mut sequence };
    generate(&mut text, prompt, begun(i, prompt), &mut |_| std::ops::ControlFlow::Continue(())).unwrap()
}

fn job(prompt: Vec<u32>, choices: Vec<Generation>, client: &str) -> (Job, UnboundedReceiver<Event>) {
    let (events, heard) = unbounded_channel();
    let deadline = Instant::now() + Duration::from_secs(60);
    (Job { prompt, choices, first: 0, most: 40, client: client.into(), deadline, events }, heard)
}

/// Everything that is told of an answer.
fn gathered(heard: &mut UnboundedReceiver<Event>, answers: usize) -> Vec<Generated> {
    let none = Generated {
        tokens: Vec::new(),
        text: String::new(),
        finish: Finish::Cancelled,
        log_probabilities: Vec::new(),
    };
    let (mut found, mut ended) = (vec![none; answers], 0);
    while ended < answers {
        match heard.blocking_recv().unwrap() {
            Event::Piece { choice, piece } => {
                found[choice].tokens.extend(piece.token);
                found[choice].text += &piece.text;
                found[choice].log_probabilities.extend(piece.log_probability);
            }
            Event::Done { choice, finish, tokens } => {
                assert_eq!(found[choice].tokens.len(), tokens);
                found[choice].finish = finish;
                ended += 1;
            }
            Event::Failed(error) => panic!("{error}"),
        }
    }
    found
}

#[test]
fn texts_beside_others_are_as_alone() {
    for (llama, format) in
        [(true, Format::F32), (false, Format::F32), (true, Format::Bf16), (false, Format::Int8)]
    {
        let source = decoder(llama, format);
        let limits = Limits { sequences: 5, ..Limits::default() };
        let scheduler = Scheduler::start(Arc::clone(&source), &limits, Arc::default()).unwrap();
        let mut heard = Vec::new();
        for i in 0..12 {
            let prompt = prompt(i, [1, 2, 30, 131, 260, 128][i % 6]);
            let (job, events) = job(prompt.clone(), vec![begun(i, &prompt)], &format!("client {}", i % 3));
            scheduler.submit(job).unwrap();
            heard.push((prompt, events));
        }
        let mut reasons = std::collections::HashSet::new();
        for (i, (prompt, mut events)) in heard.into_iter().enumerate() {
            let found = gathered(&mut events, 1).remove(0);
            let expected = alone(&source.0, i, &prompt);
            assert_eq!(found, expected, "{llama} {format:?} {i}");
            reasons.insert(found.finish);
        }
        assert!(reasons.len() > 1, "{reasons:?}");
    }
}

#[test]
fn several_answers_to_a_prompt_and_prompts_that_begin_alike() {
    let source = decoder(true, Format::F32);
    let scheduler = Scheduler::start(Arc::clone(&source), &Limits::default(), Arc::default()).unwrap();
    let long = prompt(3, 200);
    // The second time the prompt is known, later a part of it, with an odd and an even number of tokens in common.
    for length in [200, 200, 61, 120] {
        let mut prompt = long[..length].to_vec();
        if length < 200 {
            prompt.extend([1, 1, 2]);
        }
        let choices: Vec<Generation> = (0..4).map(|i| begun(i, &prompt)).collect();
        let (job, mut events) = job(prompt.clone(), choices, "one");
        scheduler.submit(job).unwrap();
        for (i, found) in gathered(&mut events, 4).into_iter().enumerate() {
            assert_eq!(found, alone(&source.0, i, &prompt), "{length} {i}");
        }
    }
}

#[test]
fn a_text_ends_where_the_context_does() {
    let source = decoder(false, Format::F32);
    let scheduler = Scheduler::start(Arc::clone(&source), &Limits::default(), Arc::default()).unwrap();
    let prompt = prompt(1, CONTEXT - 4);
    let begun = || {
        let options = GenerateOptions { max_tokens: 100, ..options(1) };
        let options = GenerateOptions { stop_tokens: Vec::new(), ..options };
        Generation::new(options, &prompt, Some(table()), None).unwrap()
    };
    let (job, mut events) = job(prompt.clone(), vec![begun()], "one");
    scheduler.submit(job).unwrap();
    let found = gathered(&mut events, 1).remove(0);
    assert_eq!((found.finish, found.tokens.len()), (Finish::Context, 5));
    let mut sequence = source.0.sequence();
    let mut text = DecoderText { decoder: &source.0, sequence: &mut sequence };
    let expected =
        generate(&mut text, &prompt, begun(), &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
    assert_eq!(found, expected);
}

#[test]
fn who_leaves_makes_room_and_who_waits_too_long_is_told() {
    let source = decoder(true, Format::F32);
    let limits = Limits { sequences: 1, ..Limits::default() };
    let scheduler = Scheduler::start(Arc::clone(&source), &limits, Arc::default()).unwrap();
    let prompt = prompt(2, 40);
    let endless = || {
        let options = GenerateOptions { max_tokens: 250, stop_tokens: Vec::new(), ..options(1) };
        Generation::new(options, &prompt, None, None).unwrap()
    };
    let (first, mut leaves) = job(prompt.clone(), vec![endless()], "one");
    let (mut late, mut told) = job(prompt.clone(), vec![begun(2, &prompt)], "two");
    late.deadline = Instant::now();
    let (third, mut stays) = job(prompt.clone(), vec![begun(1, &prompt)], "three");
    scheduler.submit(first).unwrap();
    scheduler.submit(late).unwrap();
    scheduler.submit(third).unwrap();
    assert!(matches!(leaves.blocking_recv(), Some(Event::Piece { .. })));
    drop(leaves);
    assert!(matches!(told.blocking_recv(), Some(Event::Failed(error)) if error.code == "timeout"));
    assert_eq!(gathered(&mut stays, 1).remove(0), alone(&source.0, 1, &prompt));
    // A prompt that does not fit fails alone.
    let (wrong, mut told) = job(vec![VOCABULARY; 3], vec![begun(1, &[1])], "one");
    scheduler.submit(wrong).unwrap();
    assert!(matches!(told.blocking_recv(), Some(Event::Failed(error)) if error.status == 400));
}

#[test]
fn answers_to_a_prompt_share_its_pages() {
    let source = decoder(true, Format::Bf16);
    // Six pages, beside the quarter for prompts of before.
    let memory = (4 * source.0.page_bytes(6)).div_ceil(3);
    let limits = Limits { memory, ..Limits::default() };
    let stats = ModelStats::default();
    let mut round = Round::new(&source.0, &limits, &stats);
    // Two pages of the prompt alone, and one more of each answer for 2 tokens of the prompt and 40 new ones.
    let long = prompt(0, 130);
    let (three, mut events) = job(long.clone(), (0..3).map(|_| begun(1, &long)).collect(), "one");
    assert!(round.has_room(&three));
    round.admit(three);
    let (small, _small) = job(prompt(1, 20), vec![begun(1, &prompt(1, 20))], "two");
    let (large, _large) = job(prompt(1, 30), vec![begun(1, &prompt(1, 30))], "two");
    assert!(round.has_room(&small) && !round.has_room(&large), "60 positions are a page, 70 are two");
    while !round.is_empty() {
        round.run(Instant::now());
    }
    assert_eq!(gathered(&mut events, 3).len(), 3);
    assert!(round.has_room(&large));
}
