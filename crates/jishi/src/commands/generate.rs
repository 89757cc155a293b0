//! `jishi generate`.

use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use jishi_data::image::OwnedPicture;
use jishi_data::text::documents::Message;
use jishi_models::generate::constraint::Grammar;
use jishi_models::generate::{Generated, LogProbability};
use jishi_recipe::{Problem, TaskName};
use jishi_tasks::language::translation::Search;
use jishi_tasks::vision::making::square;
use jishi_train::job::evaluate::task_of;
use jishi_train::job::language::TextPredictor;
use jishi_train::job::language::generate::{Request, TextGenerator};
use jishi_train::job::vision::ImageGenerator;
use jishi_train::job::vision::source::raster;
use serde_json::{Value, json};

use crate::cli::{BenchPrecision, DeviceName, GenerateArgs};
use crate::commands::train;
use crate::error::CliError;

/// Runs the command.
pub fn run(args: &GenerateArgs, json: bool) -> Result<(), CliError> {
    let format = args.weights.map(BenchPrecision::format);
    if let Some(dir) = generator(args)? {
        return images(args, json, &dir);
    }
    if args.count.is_some() || (args.output.is_some() && args.input.is_none()) {
        let problem = Problem::new("this model writes text, for a prompt or for a file of prompts");
        return Err(CliError::bad(
            problem
                .help("`--count` is for models that make images; `--output` is for the answers to `--input`"),
        ));
    }
    // What is wrong with the request is said before a large model is read.
    let constraint = constraint(args)?;
    let prompts = prompts(args)?;
    if let Some(predictor) = translator(args)? {
        return translate(args, json, &prompts, &predictor);
    }
    let started = Instant::now();
    let model = TextGenerator::load(&args.model, &args.root, format, &mut |line| eprintln!("{line}"))?;
    let loaded = started.elapsed().as_secs_f64();
    let request = request(args, &model, constraint);
    let mut answers = Vec::new();
    let alone = args.input.is_none();
    for prompt in &prompts {
        let tokens = tokens(args, &model, prompt)?;
        let shows = alone && !json;
        // A prompt that is refused is not shown.
        let mut before = if shows && !args.chat { prompt.as_str() } else { "" };
        let started = Instant::now();
        let mut first = None;
        let generated = model.generate(&tokens, &request, &mut |piece| {
            first.get_or_insert_with(|| started.elapsed().as_secs_f64());
            match shows.then(|| show(std::mem::take(&mut before)).and_then(|()| show(piece))) {
                Some(Err(_)) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        })?;
        if shows {
            show(before)?;
            show("\n")?;
        }
        let seconds = started.elapsed().as_secs_f64();
        let first = first.unwrap_or(seconds);
        let rate = (generated.tokens.len().max(1) - 1) as f64 / (seconds - first).max(1e-9);
        if shows {
            let (tokens, why) = (generated.tokens.len(), generated.finish.name());
            eprintln!("\n{tokens} tokens ({why}), first after {first:.2} s, then {rate:.0} tokens/s");
        }
        let mut answer = answer(prompt, &generated);
        if alone {
            answer["seconds_to_first_token"] = json!(first);
            answer["tokens_per_second"] = json!(rate);
            answer["seconds_to_load"] = json!(loaded);
        }
        answers.push(answer);
    }
    write(args, json, &answers)
}

/// The package, where it is one of a model that makes images.
fn generator(args: &GenerateArgs) -> Result<Option<PathBuf>, CliError> {
    let Ok(dir) = jishi_runs::package::find(&args.root, &args.model) else { return Ok(None) };
    Ok((task_of(&dir)? == Some(TaskName::ImageGeneration)).then_some(dir))
}

/// Makes images and writes them: the same seed makes the same.
fn images(args: &GenerateArgs, json: bool, dir: &Path) -> Result<(), CliError> {
    let problem = |message: &str, help: &str| CliError::bad(Problem::new(message).file(dir).help(help));
    if args.prompt.is_some() || args.input.is_some() {
        return Err(problem(
            "this model makes images, and reads no text",
            "give `--output`, `--count` and `--seed`",
        ));
    }
    let Some(output) = &args.output else {
        return Err(problem("there is no place for the images", "for example: --output grid.png"));
    };
    let count = args.count.unwrap_or(64);
    if count == 0 {
        return Err(problem("`--count` is 0", "for example: --count 64"));
    }
    let model = ImageGenerator::load(dir, &train::device(DeviceName::Auto)?)?;
    let pictures = model.make(args.seed, count)?;
    let png = |picture: &OwnedPicture| raster(picture.view()).to_png();
    if output.extension().is_some_and(|e| e.eq_ignore_ascii_case("png")) {
        jishi_runs::atomic::write_real(output, &png(&square(&pictures)))?;
    } else {
        std::fs::create_dir_all(output)
            .map_err(|e| CliError::bad(Problem::new(format!("can't make this folder: {e}")).file(output)))?;
        for (i, picture) in pictures.iter().enumerate() {
            jishi_runs::atomic::write_real(&output.join(format!("{i:06}.png")), &png(picture))?;
        }
    }
    eprintln!("wrote {count} images to {}", output.display());
    if json {
        println!("{}", json!({ "images": count, "seed": args.seed, "output": output }));
    }
    Ok(())
}

/// The model, where it is a package of one that translates.
fn translator(args: &GenerateArgs) -> Result<Option<TextPredictor>, CliError> {
    let Ok(dir) = jishi_runs::package::find(&args.root, &args.model) else { return Ok(None) };
    if task_of(&dir)? != Some(TaskName::Translation) {
        return Ok(None);
    }
    Ok(Some(TextPredictor::load(&dir, &train::device(DeviceName::Auto)?)?))
}

fn translate(
    args: &GenerateArgs,
    json: bool,
    prompts: &[String],
    predictor: &TextPredictor,
) -> Result<(), CliError> {
    let samples = args.temperature.is_some_and(|t| t > 0.0)
        || args.top_k.is_some()
        || args.top_p.is_some()
        || args.min_p.is_some()
        || args.repetition_penalty.is_some();
    let shapes = args.regex.is_some() || args.json_schema.is_some() || !args.stop.is_empty();
    if samples || shapes || args.chat || args.weights.is_some() || args.log_probabilities.is_some() {
        let problem = Problem::new("a translation is the most likely text: nothing is drawn or constrained");
        return Err(CliError::bad(problem.help("give `--beams` and `--max-tokens` alone")));
    }
    let recipe = predictor.recipe.generate.clone().unwrap_or_default();
    let search = Search {
        beams: args.beams.unwrap_or(recipe.beams),
        max_tokens: args.max_tokens.unwrap_or(recipe.max_tokens),
    };
    let written = predictor.translate(prompts, Some(search))?;
    if let (None, false, [text]) = (&args.input, json, written.as_slice()) {
        return show(&format!("{text}\n"));
    }
    let answers: Vec<Value> =
        prompts.iter().zip(&written).map(|(p, text)| json!({ "prompt": p, "text": text })).collect();
    write(args, json, &answers)
}

fn write(args: &GenerateArgs, json: bool, answers: &[Value]) -> Result<(), CliError> {
    if args.input.is_none() {
        if json && let [answer] = answers {
            println!("{answer}");
        }
        return Ok(());
    }
    let lines: String = answers.iter().map(|a| format!("{a}\n")).collect();
    match &args.output {
        Some(path) => {
            jishi_runs::atomic::write_real(path, lines.as_bytes())?;
            eprintln!("wrote {} answers to {}", answers.len(), path.display());
            if json {
                println!("{}", json!({ "answers": answers.len(), "output": path }));
            }
            Ok(())
        }
        None if json => {
            println!("{}", json!({ "answers": answers }));
            Ok(())
        }
        None => super::to_stdout(lines.as_bytes()),
    }
}

fn answer(prompt: &str, generated: &Generated) -> Value {
    let mut answer = json!({
        "prompt": prompt,
        "text": generated.text,
        "tokens": generated.tokens.len(),
        "finish": generated.finish.name(),
    });
    if !generated.log_probabilities.is_empty() {
        let one = |p: &LogProbability| {
            let top: Vec<Value> =
                p.top.iter().map(|(t, v)| json!({ "token": t, "log_probability": v })).collect();
            json!({ "token": p.token, "log_probability": p.value, "top": top })
        };
        answer["log_probabilities"] = generated.log_probabilities.iter().map(one).collect();
    }
    answer
}

/// Writes to stdout at once. A reader that has gone ends the text.
fn show(text: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(CliError::Failed(e.to_string())),
        _ => Ok(()),
    }
}

fn request(args: &GenerateArgs, model: &TextGenerator, constraint: Option<Arc<Grammar>>) -> Request {
    let mut options = model.defaults.clone();
    options.max_tokens = args.max_tokens.unwrap_or(options.max_tokens);
    options.beams = args.beams.unwrap_or(options.beams);
    if options.beams > 1 && args.temperature.is_none() {
        options.temperature = 0.0;
    }
    options.temperature = args.temperature.unwrap_or(options.temperature);
    options.top_k = args.top_k.unwrap_or(options.top_k);
    options.top_p = args.top_p.unwrap_or(options.top_p);
    options.min_p = args.min_p.unwrap_or(options.min_p);
    options.repetition_penalty = args.repetition_penalty.unwrap_or(options.repetition_penalty);
    Request {
        options,
        seed: args.seed,
        stop: args.stop.clone(),
        constraint,
        log_probabilities: args.log_probabilities,
    }
}

fn constraint(args: &GenerateArgs) -> Result<Option<Arc<Grammar>>, CliError> {
    if let Some(pattern) = &args.regex {
        return Ok(Some(Arc::new(Grammar::regex(pattern).map_err(CliError::bad)?)));
    }
    let Some(given) = &args.json_schema else { return Ok(None) };
    let inline = given.trim_start().starts_with('{');
    let text = if inline { given.clone() } else { read(Path::new(given))? };
    let schema: Value = serde_json::from_str(&text).map_err(|e| {
        let problem = Problem::new(format!("expected a JSON schema: {e}"));
        CliError::bad(if inline { problem } else { problem.file(given) })
    })?;
    Ok(Some(Arc::new(Grammar::json_schema(&schema).map_err(CliError::bad)?)))
}

fn read(path: &Path) -> Result<String, CliError> {
    std::fs::read_to_string(path)
        .map_err(|e| CliError::bad(Problem::new(format!("can't read this file: {e}")).file(path)))
}

fn prompts(args: &GenerateArgs) -> Result<Vec<String>, CliError> {
    if let Some(prompt) = &args.prompt {
        if prompt != "-" {
            return Ok(vec![prompt.clone()]);
        }
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|e| CliError::bad(Problem::new(format!("expected a prompt in UTF-8 on stdin: {e}"))))?;
        return Ok(vec![text]);
    }
    let Some(path) = &args.input else { return Ok(Vec::new()) };
    let text = read(path)?;
    let jsonl = path.extension().is_some_and(|e| e == "jsonl");
    let mut prompts = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let prompt = if jsonl {
            let row: Value = serde_json::from_str(line).unwrap_or_default();
            row["prompt"].as_str().map(str::to_owned).ok_or_else(|| {
                let problem = Problem::new("expected a JSON object with `prompt`").file(path).line(number);
                CliError::bad(problem.help("for example: {\"prompt\": \"Once upon a time\"}"))
            })?
        } else {
            line.to_owned()
        };
        prompts.push(prompt);
    }
    Ok(prompts)
}

/// The tokens that the model continues.
fn tokens(args: &GenerateArgs, model: &TextGenerator, prompt: &str) -> Result<Vec<u32>, CliError> {
    if !args.chat {
        return Ok(model.text(prompt)?);
    }
    let message = |role: &str, content: &str| Message { role: role.into(), content: content.into() };
    let mut messages: Vec<Message> = args.system.iter().map(|s| message("system", s)).collect();
    messages.push(message("user", prompt));
    Ok(model.conversation(&messages)?)
}
