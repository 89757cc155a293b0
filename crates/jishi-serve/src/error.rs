//! What a client is told when something is wrong: one form for all, in the shape of OpenAI's errors, and never a path.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jishi_data::DataError;
use jishi_models::ModelError;
use jishi_recipe::{Problem, Problems};
use jishi_train::TrainError;
use serde_json::{Value, json};

/// A refusal or a failure, as a client sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    /// The status.
    pub status: StatusCode,
    /// For programs: what kind of error it is.
    pub code: &'static str,
    /// For people: what was expected and found, and what to do.
    pub message: String,
    /// The field that it is about.
    pub field: Option<String>,
    /// After how many seconds to come back.
    pub retry_after: Option<u32>,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), field: None, retry_after: None }
    }

    /// A request that is wrong.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// A field that is wrong.
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        let field = field.into();
        let message = format!("`{field}`: {}", message.into());
        Self { field: Some(field), ..Self::bad(message) }
    }

    /// Something that is not there.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// A model that is not there.
    pub fn no_model(name: &str) -> Self {
        let shown: String = name.chars().take(100).collect();
        let message = format!("there is no model `{shown}`; `GET /v1/models` lists those that there are");
        Self { code: "model_not_found", field: Some("model".into()), ..Self::not_found(message) }
    }

    /// No key, or a wrong one.
    pub fn unauthorised(message: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorised", message)
    }

    /// A key that does not allow what is asked for.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// More than a key may in a minute.
    pub fn rate_limited(message: impl Into<String>, seconds: u32) -> Self {
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", message);
        Self { retry_after: Some(seconds), ..error }
    }

    /// A new version of a model that can't take the place of the old one.
    pub fn refused_version(why: &str) -> Self {
        let message = format!("the old version goes on, as the new one can't be used: {why}");
        Self::new(StatusCode::CONFLICT, "refused_version", message)
    }

    /// A method that a path does not have.
    pub fn method() -> Self {
        let message = "this path does not take that method";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
    }

    /// A body that is too large.
    pub fn too_large(limit: usize) -> Self {
        let message = format!("the body is larger than {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    /// A body of a kind that is not read.
    pub fn media_type(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
    }

    /// A body that takes too long to arrive.
    pub fn slow() -> Self {
        let message = "the body took too long to arrive";
        Self::new(StatusCode::REQUEST_TIMEOUT, "slow_body", message)
    }

    /// A request that takes too long to answer.
    pub fn timeout() -> Self {
        let message = "the answer took longer than a request may";
        Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout", message)
    }

    /// Too many requests that wait.
    pub fn busy() -> Self {
        let message = "too many requests are waiting for this model";
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message);
        Self { retry_after: Some(1), ..error }
    }

    /// A server that is about to end, or has not begun.
    pub fn not_ready(message: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", message)
    }

    /// A failure that is not the client's fault. Why is for the log alone.
    pub fn internal(why: &dyn std::fmt::Display) -> Self {
        eprintln!("error: {}", why.to_string().replace('\n', "; "));
        let message = "the server failed to answer; its log says why";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    /// What is wrong with input, in the words of the part that found it, without the name of any file.
    pub fn of_problems(problems: &Problems) -> Self {
        const SHOWN: usize = 10;
        let said = |problem: &Problem| {
            let mut text = match problem.line {
                Some(line) => format!("row {line}: {}", problem.message),
                None => problem.message.clone(),
            };
            // Help that speaks of files and options of the command line is none here.
            let helps = |help: &&String| !["--", "file", "recipe", "jishi"].iter().any(|w| help.contains(w));
            if let Some(help) = problem.help.as_ref().filter(helps) {
                text += &format!(" ({help})");
            }
            text
        };
        let mut all: Vec<String> = problems.0.iter().take(SHOWN).map(said).collect();
        if problems.0.len() > SHOWN {
            all.push(format!("and {} more problems", problems.0.len() - SHOWN));
        }
        Self { code: "bad_input", ..Self::bad(all.join("; ")) }
    }

    /// As a JSON document.
    #[must_use]
    pub fn json(&self) -> Value {
        let kind = match self.status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            429 => "rate_limit_error",
            400..=499 => "invalid_request_error",
            _ => "server_error",
        };
        json!({ "error": {
            "message": self.message, "type": kind, "param": self.field, "code": self.code,
        } })
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.status.as_u16(), self.message)
    }
}

impl std::error::Error for ApiError {}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self::of_problems(&problem.into())
    }
}

impl From<TrainError> for ApiError {
    fn from(error: TrainError) -> Self {
        match &error {
            TrainError::Bad(problems)
            | TrainError::Data(DataError::Bad(problems))
            | TrainError::Model(ModelError::Bad(problems)) => Self::of_problems(problems),
            other => Self::internal(other),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.json().to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.status == StatusCode::UNAUTHORIZED {
            let ways = HeaderValue::from_static("Bearer realm=\"jishi\", Basic realm=\"jishi\"");
            headers.insert(header::WWW_AUTHENTICATE, ways);
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_is_told() {
        let problem = Problem::new("expected a number, found `x`").file("/secret/rows.jsonl").line(2);
        let problem = problem.help("set `bad_rows` in the recipe");
        let error = ApiError::from(TrainError::from(problem));
        assert_eq!(error.message, "row 2: expected a number, found `x`");
        let io = std::io::Error::other("/secret/file is gone");
        let error = ApiError::from(TrainError::Data(DataError::io(std::path::Path::new("/secret"), io)));
        assert_eq!(error.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!error.json().to_string().contains("secret"), "{error}");
        let many = Problems((0..30).map(|i| Problem::new(format!("problem {i}"))).collect());
        let error = ApiError::of_problems(&many);
        assert!(error.message.contains("problem 9;") && error.message.ends_with("and 20 more problems"));
    }
}
