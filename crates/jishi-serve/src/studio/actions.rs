//! Pausing, going on with, and stopping a run.

use axum::http::StatusCode;

use super::asked::Reply;
use super::html::{Html, Tag, a, div, encoded, tag};
use super::launch;
use super::page::Cx;
use super::runs::{Seen, State};
use super::text::T;
use jishi_runs::{RunDir, RunError};

/// What can be done with a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Pause,
    Resume,
    Stop,
    Clear,
}

impl Action {
    const ALL: [Self; 4] = [Self::Pause, Self::Resume, Self::Stop, Self::Clear];

    fn word(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Stop => "stop",
            Self::Clear => "clear",
        }
    }

    fn name(self) -> T {
        match self {
            Self::Pause => T::Pause,
            Self::Resume => T::Resume,
            Self::Stop => T::Stop,
            Self::Clear => T::Clear,
        }
    }

    fn question(self) -> T {
        match self {
            Self::Pause => T::PauseAsk,
            Self::Resume => T::ResumeAsk,
            Self::Stop => T::StopAsk,
            Self::Clear => T::ClearAsk,
        }
    }

    fn fits(self, state: &State) -> bool {
        match self {
            Self::Pause => state.can_pause(),
            Self::Stop => state.can_pause() || *state == State::Paused,
            Self::Resume => state.can_resume(),
            Self::Clear => *state == State::Refused,
        }
    }
}

/// The buttons of a run.
#[must_use]
pub fn buttons(cx: &Cx<'_>, run: &Seen) -> Html {
    let link = format!("/runs/{}", encoded(&run.name));
    let mut html = Html::none();
    if run.state == State::Finished && run.package().is_some() && cx.asked.acts {
        html.push(a(&format!("{link}/try")).class("button primary").add(cx.t(T::TryIt)));
    }
    if cx.acts() {
        for action in Action::ALL.into_iter().filter(|action| action.fits(&run.state)) {
            let id = format!("dialog-{}", action.word());
            let primary = if action == Action::Resume { " primary" } else { "" };
            html.push(
                a(&format!("{link}/ask/{}", action.word()))
                    .class(&format!("button{primary}"))
                    .attr("data-dialog", &id)
                    .add(cx.t(action.name())),
            );
            let dialog = tag("dialog")
                .attr("id", &id)
                .attr("aria-labelledby", format!("{id}-title"))
                .add(question(cx, run, action, &format!("{id}-title")));
            html.push(dialog);
        }
    }
    div("actions").add(html).into()
}

fn question(cx: &Cx<'_>, run: &Seen, action: Action, id: &str) -> Html {
    let link = format!("/runs/{}", encoded(&run.name));
    let form = tag("form")
        .attr("method", "post")
        .attr("action", format!("{link}/{}", action.word()))
        .add(cx.token())
        .add(
            div("actions")
                .add(tag("button").attr("type", "submit").class("primary").add(cx.t(action.name())))
                .add(a(&link).class("button").attr("data-close", "").add(cx.t(T::Cancel))),
        );
    vec![
        Html::from(tag("h2").attr("id", id).add(format!("{}: {}", cx.t(action.name()), run.name))),
        tag("p").add(cx.t(action.question())).into(),
        form.into(),
    ]
    .into()
}

fn named(word: &str) -> Option<Action> {
    Action::ALL.into_iter().find(|action| action.word() == word)
}

/// The page that asks whether something is meant, for those without the script.
pub fn ask(cx: &Cx<'_>, name: &str, word: &str) -> Reply {
    let (Some(run), Some(action)) = (Seen::find(cx.root(), name), named(word)) else { return cx.nothing() };
    let body: Tag = div("empty").add(question(cx, &run, action, "question"));
    Reply::page(cx.frame(cx.t(action.name()), "", body))
}

/// Does it.
pub fn post(cx: &Cx<'_>, name: &str, word: &str) -> Reply {
    let (Some(run), Some(action)) = (Seen::find(cx.root(), name), named(word)) else { return cx.nothing() };
    let link = format!("/runs/{}", encoded(&run.name));
    if !action.fits(&run.state) {
        // Somebody else was faster, or it ended by itself: the page shows how it stands now.
        return Reply::see(&link);
    }
    match act(cx, &run, action) {
        Ok(()) if action == Action::Clear => Reply::see("/"),
        Ok(()) => Reply::see(&link),
        Err(error) => failed(cx, &error),
    }
}

fn act(cx: &Cx<'_>, run: &Seen, action: Action) -> Result<(), RunError> {
    match action {
        // What has no manifest has nothing that was trained.
        Action::Clear => match RunDir::named(cx.root(), &run.name) {
            Some(found) => found.remove(),
            None => launch::remove_kept(&run.dir),
        },
        Action::Resume => match &cx.studio.options.program {
            Some(program) => launch::resume(program, cx.root(), &run.name),
            None => Ok(()),
        },
        Action::Stop if run.state == State::Paused => {
            let mut note = run.note.clone();
            let pid = note.asked.as_ref().map_or(0, |asked| asked.pid);
            note.asked = Some(launch::Ended { pid, for_good: true });
            note.write(&run.dir)
        }
        Action::Pause | Action::Stop => {
            let for_good = action == Action::Stop;
            match RunDir::named(cx.root(), &run.name) {
                Some(found) => launch::ask_to_end(&found, for_good),
                None => launch::ask_kept_to_end(&run.dir, for_good),
            }
        }
    }
}

/// A page for what can't be done, in the words of the part that could not.
#[must_use]
pub fn failed(cx: &Cx<'_>, error: &RunError) -> Reply {
    let status = match error {
        RunError::NoSpace { .. } => StatusCode::INSUFFICIENT_STORAGE,
        RunError::Bad(_) => StatusCode::CONFLICT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    // Paths are of this machine, and so is who acts.
    let why: Vec<String> = error
        .problems()
        .0
        .iter()
        .map(|p| match &p.help {
            Some(help) => format!("{} ({help})", p.message),
            None => p.message.clone(),
        })
        .collect();
    cx.tell(status, cx.t(T::DidNotWork), &why.join("; "))
}
