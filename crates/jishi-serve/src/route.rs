//! What a path is for: its name in logs and metrics, and what a key has to allow for it.

use crate::keys::Scope;

/// A path of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route {
    /// Whether the server runs.
    Health,
    /// Whether it can answer.
    Ready,
    /// Its counters.
    Metrics,
    /// Its description for programs.
    OpenApi,
    /// Its description for people.
    Docs,
    /// The list of models.
    Models,
    /// A model.
    Model,
    /// Predictions of a model.
    Predict,
    /// Pictures of a model.
    Generate,
    /// A model's new version.
    Reload,
    /// Texts.
    Completions,
    /// Answers in a conversation.
    Chat,
    /// Vectors of texts.
    Embeddings,
    /// Pages of the studio.
    Studio,
    /// Anything else.
    Other,
}

/// What a path asks of those who use it, where there are keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// No key.
    Nothing,
    /// A key, whatever it allows.
    Key,
    /// A key that allows this.
    Scope(Scope),
}

impl Route {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Health,
        Self::Ready,
        Self::Metrics,
        Self::OpenApi,
        Self::Docs,
        Self::Models,
        Self::Model,
        Self::Predict,
        Self::Generate,
        Self::Reload,
        Self::Completions,
        Self::Chat,
        Self::Embeddings,
        Self::Studio,
        Self::Other,
    ];

    /// The one that a path means.
    #[must_use]
    pub fn of(path: &str) -> Self {
        let mut parts = path.strip_prefix('/').unwrap_or(path).split('/');
        match [parts.next(), parts.next(), parts.next(), parts.next(), parts.next()] {
            [Some("healthz"), None, ..] => Self::Health,
            [Some("readyz"), None, ..] => Self::Ready,
            [Some("metrics"), None, ..] => Self::Metrics,
            [Some("openapi.json"), None, ..] => Self::OpenApi,
            [Some("docs"), None, ..] => Self::Docs,
            [Some("v1"), Some("models"), None, ..] => Self::Models,
            [Some("v1"), Some("models"), Some(_), None, _] => Self::Model,
            [Some("v1"), Some("models"), Some(_), Some("predict"), None] => Self::Predict,
            [Some("v1"), Some("models"), Some(_), Some("generate"), None] => Self::Generate,
            [Some("v1"), Some("models"), Some(_), Some("reload"), None] => Self::Reload,
            [Some("v1"), Some("completions"), None, ..] => Self::Completions,
            [Some("v1"), Some("chat"), Some("completions"), None, _] => Self::Chat,
            [Some("v1"), Some("embeddings"), None, ..] => Self::Embeddings,
            [Some(""), None, ..] => Self::Studio,
            [Some("compare" | "start"), None, ..] => Self::Studio,
            [Some("runs"), ..] | [Some("models" | "studio"), Some(_), ..] => Self::Studio,
            _ => Self::Other,
        }
    }

    /// As in the OpenAPI document.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Health => "/healthz",
            Self::Ready => "/readyz",
            Self::Metrics => "/metrics",
            Self::OpenApi => "/openapi.json",
            Self::Docs => "/docs",
            Self::Models => "/v1/models",
            Self::Model => "/v1/models/{name}",
            Self::Predict => "/v1/models/{name}/predict",
            Self::Generate => "/v1/models/{name}/generate",
            Self::Reload => "/v1/models/{name}/reload",
            Self::Completions => "/v1/completions",
            Self::Chat => "/v1/chat/completions",
            Self::Embeddings => "/v1/embeddings",
            Self::Studio => "/",
            Self::Other => "other",
        }
    }

    /// What it asks of those who use it.
    #[must_use]
    pub fn needs(self) -> Needs {
        match self {
            Self::Health | Self::Ready => Needs::Nothing,
            Self::Metrics => Needs::Scope(Scope::Metrics),
            Self::Predict => Needs::Scope(Scope::Predict),
            Self::Generate | Self::Completions | Self::Chat => Needs::Scope(Scope::Generate),
            Self::Embeddings => Needs::Scope(Scope::Embed),
            Self::Reload | Self::Studio => Needs::Scope(Scope::Admin),
            Self::OpenApi | Self::Docs | Self::Models | Self::Model | Self::Other => Needs::Key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_found() {
        for (i, route) in Route::ALL.into_iter().enumerate() {
            assert_eq!(route as usize, i);
            if route != Route::Other {
                assert_eq!(Route::of(route.path()), route);
            }
        }
        for path in ["/", "", "/runs", "/runs/a/live", "/compare", "/start", "/models/a", "/studio/a.css"] {
            assert_eq!(Route::of(path), Route::Studio, "{path}");
        }
        for path in [
            "/v1",
            "/models",
            "/start/a",
            "/v1/models/a/b",
            "/v1/models/a/predict/x",
            "/metrics/",
            "/v1/chat",
        ] {
            assert_eq!(Route::of(path), Route::Other, "{path}");
        }
    }
}
