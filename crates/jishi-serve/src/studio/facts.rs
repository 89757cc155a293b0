//! Figures and moments for people, in both languages.

use jiff::Timestamp;
use jishi_runs::table::number;

use super::html::{Html, span, tag};
use super::page::Cx;
use super::runs::State;
use super::text::T;

/// A figure with four significant digits.
#[must_use]
pub fn figure(value: f64) -> String {
    number(value, 4)
}

/// Seconds as `7 s`, `12 min 30 s` or `3 h 5 min`.
#[must_use]
pub fn duration(cx: &Cx<'_>, seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "–".into();
    }
    if seconds < 10.0 {
        return cx.say(T::Seconds, &[&format!("{seconds:.1}")]);
    }
    let s = seconds.round() as u64;
    match (s / 86_400, s / 3600 % 24, s / 60 % 60, s % 60) {
        (0, 0, 0, s) => cx.say(T::Seconds, &[&s]),
        (0, 0, m, s) => cx.say(T::MinutesSeconds, &[&m, &s]),
        (0, h, m, _) => cx.say(T::HoursMinutes, &[&h, &m]),
        (d, h, _, _) => cx.say(T::DaysHours, &[&d, &h]),
    }
}

/// Seconds since a moment in RFC 3339.
#[must_use]
pub fn since(moment: &str) -> Option<f64> {
    let then: Timestamp = moment.parse().ok()?;
    Some(Timestamp::now().duration_since(then).as_secs_f64())
}

/// A moment as people say it, with the exact one for those who point at it.
#[must_use]
pub fn moment(cx: &Cx<'_>, moment: &str) -> Html {
    let exact = moment.replace('T', " ").replace('Z', " UTC");
    let said = match since(moment) {
        Some(seconds) if (0.0..90.0).contains(&seconds) => cx.t(T::JustNow).to_owned(),
        Some(seconds) if (0.0..5400.0).contains(&seconds) => {
            cx.say(T::MinutesAgo, &[&((seconds / 60.0).round())])
        }
        Some(seconds) if (0.0..129_600.0).contains(&seconds) => {
            cx.say(T::HoursAgo, &[&((seconds / 3600.0).round())])
        }
        Some(seconds) if (0.0..2_592_000.0).contains(&seconds) => {
            cx.say(T::DaysAgo, &[&((seconds / 86_400.0).round())])
        }
        _ => exact.chars().take(10).collect(),
    };
    tag("time").attr("datetime", moment).attr("title", exact).add(said).into()
}

/// A state as a coloured word.
#[must_use]
pub fn badge(cx: &Cx<'_>, state: &State) -> Html {
    span("badge")
        .attr("data-state", state.word())
        .add(span("dot").attr("aria-hidden", "true"))
        .add(state_word(cx, state))
        .into()
}

/// A state in a word.
#[must_use]
pub fn state_word(cx: &Cx<'_>, state: &State) -> &'static str {
    cx.t(match state {
        State::Preparing => T::Preparing,
        State::Running => T::Running,
        State::Pausing => T::Pausing,
        State::Finished => T::Finished,
        State::Paused => T::Paused,
        State::Stopped => T::Stopped,
        State::Killed => T::Killed,
        State::Failed(_) => T::Failed,
        State::Refused => T::Refused,
        State::Unreadable(_) => T::Unreadable,
    })
}

/// A list of facts.
#[must_use]
pub fn facts(rows: Vec<(String, Html)>) -> Html {
    let row = |(name, value): (String, Html)| tag("div").add(tag("dt").add(name)).add(tag("dd").add(value));
    tag("dl").class("facts").all(rows.into_iter().map(row)).into()
}

/// A value of a recipe.
#[must_use]
pub fn value(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
