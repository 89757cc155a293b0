//! What all pages have: the frame around them, and what they are made in.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use axum::http::StatusCode;

use super::Studio;
use super::asked::{Asked, Reply};
use super::html::{Html, Tag, a, div, encoded, span, tag};
use super::text::{Lang, T};

const STYLE: &str = include_str!("assets/studio.css");
const SCRIPT: &str = include_str!("assets/studio.js");
const ICON: &str = include_str!("assets/icon.svg");

/// A part of this program that pages name.
#[must_use]
pub fn asset(path: &[String]) -> Option<Reply> {
    let [first, name] = path else { return None };
    if first != "studio" {
        return None;
    }
    match name.as_str() {
        "studio.css" => Some(Reply::asset("text/css; charset=utf-8", STYLE)),
        "studio.js" => Some(Reply::asset("text/javascript; charset=utf-8", SCRIPT)),
        "icon.svg" => Some(Reply::asset("image/svg+xml", ICON)),
        _ => None,
    }
}

/// What a page is made in: the studio, and who asks what in which language.
pub struct Cx<'a> {
    /// The studio.
    pub studio: &'a Arc<Studio>,
    /// The request.
    pub asked: &'a Asked,
}

impl<'a> Cx<'a> {
    /// For a request.
    #[must_use]
    pub fn new(studio: &'a Arc<Studio>, asked: &'a Asked) -> Self {
        Self { studio, asked }
    }

    /// A text in the language of the page.
    #[must_use]
    pub fn t(&self, text: T) -> &'static str {
        text.of(self.asked.lang)
    }

    /// A text with something in it.
    #[must_use]
    pub fn say(&self, text: T, with: &[&dyn Display]) -> String {
        text.with(self.asked.lang, with)
    }

    /// Folder of the runs.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.studio.options.root
    }

    /// Whether who asks may start, stop and try.
    #[must_use]
    pub fn acts(&self) -> bool {
        self.asked.acts && self.studio.options.program.is_some()
    }

    /// The token that a form needs.
    #[must_use]
    pub fn token(&self) -> Tag {
        tag("input").attr("type", "hidden").attr("name", "token").attr("value", &self.studio.token)
    }

    /// Nothing is at a path.
    #[must_use]
    pub fn nothing(&self) -> Reply {
        self.message(StatusCode::NOT_FOUND, T::NothingHere, T::NothingHereWhy)
    }

    /// A page that says one thing.
    #[must_use]
    pub fn message(&self, status: StatusCode, title: T, why: T) -> Reply {
        self.tell(status, self.t(title), self.t(why))
    }

    /// As [`Self::message`], in words of others.
    #[must_use]
    pub fn tell(&self, status: StatusCode, title: &str, why: &str) -> Reply {
        let body = div("empty")
            .add(tag("h1").add(title))
            .add(tag("p").add(why))
            .add(tag("p").add(a("/").class("button").add(self.t(T::AllRuns))));
        Reply::page(self.frame(title, "", body)).status(status)
    }

    /// A whole page.
    #[must_use]
    pub fn frame(&self, title: &str, at: &str, body: impl Into<Html>) -> Html {
        let lang = self.asked.lang;
        let head = tag("head")
            .add(tag("meta").attr("charset", "utf-8"))
            .add(tag("meta").attr("name", "viewport").attr("content", "width=device-width, initial-scale=1"))
            .add(tag("meta").attr("name", "color-scheme").attr("content", "light dark"))
            .add(tag("title").add(format!("{title} · {}", self.t(T::Studio))))
            .add(tag("link").attr("rel", "icon").attr("href", "/studio/icon.svg"))
            .add(tag("link").attr("rel", "stylesheet").attr("href", versioned("/studio/studio.css", STYLE)))
            .add(tag("script").attr("src", versioned("/studio/studio.js", SCRIPT)).flag("defer", true));
        let body = tag("body")
            .attr("data-token", if self.asked.acts { self.studio.token.as_str() } else { "" })
            .add(a("#main").class("skip").add(self.t(T::SkipToContent)))
            .add(self.header(at, lang))
            .add(tag("main").attr("id", "main").attr("tabindex", "-1").add(body))
            .add(self.footer())
            .add(div("sr").attr("id", "say").attr("role", "status").attr("aria-live", "polite"));
        tag("html").attr("lang", lang.code_of_page()).add(head).add(body).into()
    }

    fn header(&self, at: &str, lang: Lang) -> Tag {
        let link =
            |to: &str, text: T| a(to).maybe("aria-current", (to == at).then_some("page")).add(self.t(text));
        let mut links = vec![link("/", T::Runs)];
        if self.acts() {
            links.push(link("/start", T::StartRun));
        }
        let other = lang.other();
        // A page comes back as it was, in the other language.
        let kept = self.asked.query.iter().filter(|(key, _)| key != "lang");
        let mut query: String = kept.map(|(k, v)| format!("{}={}&", encoded(k), encoded(v))).collect();
        query += &format!("lang={}", other.code());
        let here = if self.asked.method == axum::http::Method::GET { self.asked.here.as_str() } else { "/" };
        tag("header").class("top").add(
            div("wide bar")
                .add(
                    a("/")
                        .class("brand")
                        .add(
                            tag("img")
                                .attr("src", "/studio/icon.svg")
                                .attr("alt", "")
                                .attr("width", "26")
                                .attr("height", "26"),
                        )
                        .add(span("").add("Jishi"))
                        .add(span("brand-zh").attr("lang", "zh").attr("aria-hidden", "true").add("基石")),
                )
                .add(tag("nav").attr("aria-label", self.t(T::Sections)).all(links))
                .add(
                    a(&format!("{here}?{query}"))
                        .class("lang")
                        .attr("lang", other.code_of_page())
                        .attr("hreflang", other.code_of_page())
                        .add(other.name()),
                ),
        )
    }

    fn footer(&self) -> Tag {
        let folder = std::fs::canonicalize(self.root()).unwrap_or_else(|_| self.root().to_owned());
        let folder = folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        tag("footer").add(
            div("wide")
                .add(span("").add(format!("jishi {}", env!("CARGO_PKG_VERSION"))))
                .add(span("").add(self.say(T::FolderOf, &[&folder]))),
        )
    }
}

/// An address that changes with what is there.
fn versioned(path: &str, text: &str) -> String {
    // FNV-1a: whether a browser's copy is old is no secret.
    let hash =
        text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    format!("{path}?v={hash:016x}")
}

/// A part of a page with a title.
#[must_use]
pub fn section(id: &str, title: &str, inside: impl Into<Html>) -> Tag {
    let heading = format!("h-{id}");
    tag("section")
        .attr("id", id)
        .class("part")
        .attr("aria-labelledby", &heading)
        .add(tag("h2").attr("id", &heading).add(title))
        .add(inside)
}

/// A table that scrolls where it is wide.
#[must_use]
pub fn scroll(label: &str, table: Tag) -> Html {
    div("scroll").attr("tabindex", "0").attr("role", "region").attr("aria-label", label).add(table).into()
}

/// A part that opens.
#[must_use]
pub fn more(key: &str, title: &str, inside: impl Into<Html>) -> Tag {
    tag("details").attr("data-key", key).add(tag("summary").add(title)).add(div("inside").add(inside))
}
