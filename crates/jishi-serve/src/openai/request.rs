//! Requests for text.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use jishi_models::generate::{Generation, Grammar};
use jishi_train::job::language::generate::{Request, TextGenerator};
use serde_json::Value;

use super::{Style, prompt};
use crate::error::ApiError;
use crate::fields::{Fields, string};
use crate::gate::Call;
use crate::limits::Limits;
use crate::model::{Kind, Model};

/// Fields without an effect on the answer here.
pub const IGNORED: [&str; 12] = [
    "user",
    "metadata",
    "store",
    "service_tier",
    "parallel_tool_calls",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prediction",
    "verbosity",
    "reasoning_effort",
    "modalities",
];
/// Fields with an effect that is not there.
pub const ABSENT: [&str; 12] = [
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "suffix",
    "echo",
    "tools",
    "tool_choice",
    "functions",
    "function_call",
    "audio",
    "web_search_options",
    "moderation",
];

/// What is asked for.
pub struct Asked {
    /// Of whom.
    pub model: Arc<Model>,
    /// The tokens of each prompt, and what chooses those of its answers.
    pub prompts: Vec<(Vec<u32>, Vec<Generation>)>,
    /// Answers to each prompt.
    pub choices: usize,
    /// How tokens are chosen.
    pub request: Request,
    /// Whether the answer comes bit by bit, and then whether it ends with what it took.
    pub streams: Option<bool>,
}

/// Reads a request.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read(style: Style, bytes: &[u8], call: &Call) -> Result<Asked, ApiError> {
    let limits = &*call.limits;
    let mut fields = Fields::parse(bytes)?;
    let name = fields.string("model", limits.stop)?;
    let name = name.ok_or_else(|| ApiError::field("model", "expected the name of a model"))?;
    let model = call.model(&name)?;
    let Kind::Writes { generator, .. } = &model.kind else {
        let message = format!("this model writes no text: ask `/v1/models/{}/predict`", model.name);
        return Err(ApiError::field("model", message));
    };
    let generator = Arc::clone(generator);
    let request = sampling(style, &mut fields, &generator, limits)?;
    let choices = fields.whole("n", 1..=limits.choices)?.unwrap_or(1);
    if fields.whole("best_of", 1..=limits.choices)?.is_some_and(|best| best != choices) {
        return Err(ApiError::field("best_of", "expected as many as `n`: all answers are given"));
    }
    let streams = streams(&mut fields)?;
    let tokens = match style {
        Style::Completion => prompt::texts(&mut fields, &generator, limits)?,
        Style::Chat => vec![prompt::conversation(&mut fields, &generator, limits)?],
    };
    if tokens.len() * choices > limits.prompts.max(limits.choices) {
        let most = limits.prompts.max(limits.choices);
        return Err(ApiError::field("n", format!("expected at most {most} answers to all prompts together")));
    }
    fields.without(&ABSENT)?;
    fields.end(&IGNORED)?;
    let mut prompts = Vec::new();
    for tokens in tokens {
        let mut generations = Vec::new();
        for choice in 0..choices {
            // The first answer is that of the seed; others need other numbers.
            let own = Request { seed: request.seed.wrapping_add(choice as u64), ..request.clone() };
            generations.push(generator.begin(&tokens, &own)?);
        }
        prompts.push((tokens, generations));
    }
    Ok(Asked { model, prompts, choices, request, streams })
}

fn streams(fields: &mut Fields) -> Result<Option<bool>, ApiError> {
    let streams = fields.truth("stream")?.unwrap_or(false);
    let usage = match fields.take("stream_options") {
        None => false,
        Some(Value::Object(options)) if streams => options.get("include_usage") == Some(&Value::Bool(true)),
        Some(_) => {
            let message = "expected an object, and `stream` to be true";
            return Err(ApiError::field("stream_options", message));
        }
    };
    Ok(streams.then_some(usage))
}

fn sampling(
    style: Style,
    fields: &mut Fields,
    generator: &TextGenerator,
    limits: &Limits,
) -> Result<Request, ApiError> {
    let mut options = generator.defaults.clone();
    let most = limits.tokens.min(generator.context());
    let wanted = fields.whole("max_tokens", 1..=limits.tokens)?;
    let wanted = fields.whole("max_completion_tokens", 1..=limits.tokens)?.or(wanted);
    options.max_tokens = wanted.unwrap_or(options.max_tokens).min(most);
    let temperature = fields.number("temperature", 0.0..=2.0)?;
    if let Some(temperature) = temperature {
        options.temperature = temperature;
    }
    if let Some(top_p) = fields.number("top_p", 1e-6..=1.0)? {
        options.top_p = top_p;
    }
    if let Some(top_k) = fields.whole("top_k", 0..=1 << 20)? {
        options.top_k = top_k;
    }
    if let Some(min_p) = fields.number("min_p", 0.0..=1.0)? {
        options.min_p = min_p;
    }
    if let Some(penalty) = fields.number("repetition_penalty", 0.01..=100.0)? {
        options.repetition_penalty = penalty;
    }
    let seed = match fields.take("seed") {
        None => RandomState::new().build_hasher().finish(),
        Some(value) => {
            let seed = value.as_u64().or(value.as_i64().map(i64::cast_unsigned));
            seed.ok_or_else(|| ApiError::field("seed", "expected a whole number"))?
        }
    };
    let stop = stops(fields, limits)?;
    let log_probabilities = log_probabilities(style, fields, limits)?;
    let constraint = grammar(fields, limits)?;
    // A beam search draws nothing and is told of no stop.
    let plain = stop.is_empty() && constraint.is_none() && log_probabilities.is_none();
    if temperature.is_some_and(|t| t > 0.0) || !plain {
        options.beams = 1;
    } else if options.beams > 1 {
        options.temperature = 0.0;
    }
    Ok(Request { options, seed, stop, constraint, log_probabilities })
}

fn stops(fields: &mut Fields, limits: &Limits) -> Result<Vec<String>, ApiError> {
    let list = match fields.take("stop") {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(one) => vec![one],
    };
    if list.len() > limits.stops {
        let message = format!("expected at most {} strings, found {}", limits.stops, list.len());
        return Err(ApiError::field("stop", message));
    }
    let stops = list.into_iter().map(|stop| string(stop, "stop", limits.stop));
    let stops: Vec<String> = stops.collect::<Result<_, _>>()?;
    if stops.iter().any(String::is_empty) {
        return Err(ApiError::field("stop", "an empty string stops nothing"));
    }
    Ok(stops)
}

fn log_probabilities(style: Style, fields: &mut Fields, limits: &Limits) -> Result<Option<usize>, ApiError> {
    match style {
        Style::Completion => fields.whole("logprobs", 0..=limits.top),
        Style::Chat => {
            let wanted = fields.truth("logprobs")?.unwrap_or(false);
            let top = fields.whole("top_logprobs", 0..=limits.top)?;
            if top.is_some() && !wanted {
                return Err(ApiError::field("top_logprobs", "expected `logprobs` to be true"));
            }
            Ok(wanted.then_some(top.unwrap_or(0)))
        }
    }
}

/// `response_format`: what an answer has to match.
fn grammar(fields: &mut Fields, limits: &Limits) -> Result<Option<Arc<Grammar>>, ApiError> {
    const PLACE: &str = "response_format";
    let Some(format) = fields.take(PLACE) else { return Ok(None) };
    match format["type"].as_str() {
        Some("text") => Ok(None),
        Some("json_schema") => {
            let schema = &format["json_schema"]["schema"];
            if !schema.is_object() {
                return Err(ApiError::field(PLACE, "expected a schema in `json_schema.schema`"));
            }
            let bytes = schema.to_string().len();
            if bytes > limits.schema {
                let message = format!("expected a schema of at most {} bytes, found {bytes}", limits.schema);
                return Err(ApiError::field(PLACE, message));
            }
            let wrong = |problem: jishi_recipe::Problem| ApiError::field(PLACE, problem.message);
            Ok(Some(Arc::new(Grammar::json_schema(schema).map_err(wrong)?)))
        }
        Some("json_object") => {
            let message = "this server needs to know which object: use the type \"json_schema\"";
            Err(ApiError::field(PLACE, message))
        }
        _ => Err(ApiError::field(PLACE, "expected the type \"text\" or \"json_schema\"")),
    }
}
