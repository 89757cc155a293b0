//! Starting a run: a recipe is chosen, changed, checked, and trained in a process of its own.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use jishi_recipe::{Origin, Parsed, Problem, Problems, builtins};
use jishi_runs::error::bytes_words;
use jishi_runs::table::thousands;
use serde_json::Value;

use super::actions::failed;
use super::asked::Reply;
use super::facts::{duration, facts, value};
use super::html::{Html, Tag, a, div, encoded, span, tag};
use super::launch;
use super::page::{Cx, more};
use super::text::T;

/// Time for a check at most.
const PATIENCE: Duration = Duration::from_secs(280);
/// Bytes of a recipe at most.
const LONGEST: u64 = 1 << 20;
/// Recipes of a folder at most.
const MOST: usize = 200;

/// Settings with a field of their own, by their keys.
const QUICK: [(&str, T); 5] = [
    ("train.epochs", T::Epochs),
    ("train.steps", T::Steps),
    ("train.batch", T::Batch),
    ("train.optimizer.learning_rate", T::LearningRate),
    ("train.seed", T::Seed),
];

/// A recipe that can be chosen.
struct Known {
    /// What forms call it.
    id: String,
    /// What the command line calls it.
    word: String,
    /// What people see.
    name: String,
    description: String,
    text: String,
    origin: Origin,
}

impl Known {
    fn parse(&self, sets: &[String]) -> Result<Parsed, Problems> {
        jishi_recipe::parse(&self.text, &self.origin, sets)
    }
}

fn built_in() -> Vec<Known> {
    let one = |b: &jishi_recipe::Builtin| Known {
        id: format!("builtin:{}", b.name),
        word: b.name.into(),
        name: b.name.into(),
        description: b.description.into(),
        text: b.text.into(),
        origin: Origin::Builtin(b.name.into()),
    };
    builtins().iter().map(one).collect()
}

/// Recipes of one's own: TOML files that say a task.
fn of_folder(folder: &Path) -> Vec<Known> {
    let mut found = Vec::new();
    for below in ["", "recipes"] {
        let dir = if below.is_empty() { folder.to_owned() } else { folder.join(below) };
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        let mut paths: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|e| e == "toml") && path.is_file());
        paths.sort();
        for path in paths.into_iter().take(MOST) {
            found.extend(of_file(&path, below));
        }
    }
    found
}

fn of_file(path: &Path, below: &str) -> Option<Known> {
    let mut text = String::new();
    fs::File::open(path).ok()?.take(LONGEST).read_to_string(&mut text).ok()?;
    let file = path.file_name()?.to_str()?;
    let says = |key: &str| {
        let line = text.lines().find_map(|l| l.trim().strip_prefix(key)?.trim_start().strip_prefix('='))?;
        Some(line.trim().trim_matches('"').to_owned())
    };
    says("task")?;
    let name = if below.is_empty() { file.to_owned() } else { format!("{below}/{file}") };
    let description = says("description").or_else(|| says("name")).unwrap_or_default();
    let word = path.to_str()?.to_owned();
    Some(Known {
        id: format!("file:{name}"),
        word,
        name,
        description,
        origin: Origin::File(path.to_owned()),
        text,
    })
}

fn find(cx: &Cx<'_>, id: &str) -> Option<Known> {
    let all = if id.starts_with("builtin:") { built_in() } else { of_folder(&cx.studio.options.recipes) };
    all.into_iter().find(|known| known.id == id)
}

/// The page.
pub fn page(cx: &Cx<'_>) -> Reply {
    if !cx.acts() {
        return cx.message(StatusCode::FORBIDDEN, T::MayNotAct, T::MayNotActWhy);
    }
    let chosen = cx.asked.get("recipe").and_then(|id| find(cx, id));
    Reply::page(show(cx, chosen.as_ref(), Html::none()))
}

fn show(cx: &Cx<'_>, chosen: Option<&Known>, told: Html) -> Html {
    let own = of_folder(&cx.studio.options.recipes);
    let item = |known: &Known| {
        let here = chosen.is_some_and(|c| c.id == known.id);
        tag("li").add(
            a(&format!("/start?recipe={}", encoded(&known.id)))
                .maybe("aria-current", here.then_some("true"))
                .add(span("name").add(&known.name))
                .add(span("quiet").add(&known.description)),
        )
    };
    let mut list = tag("nav").class("recipes").attr("aria-label", cx.t(T::Recipes));
    if !own.is_empty() {
        list = list.add(tag("h2").add(cx.t(T::OwnRecipes))).add(tag("ul").all(own.iter().map(item)));
    }
    list = list.add(tag("h2").add(cx.t(T::BuiltIn))).add(tag("ul").all(built_in().iter().map(item)));
    let detail =
        match chosen {
            Some(known) => div("detail").add(form(cx, known, told)),
            None => {
                div("detail").add(div("empty small").add(tag("p").add(cx.t(T::ChooseRecipe))).add(
                    tag("p").class("quiet").add(cx.t(T::OwnRecipesHint)).add(" ").add(
                        tag("code").add("jishi recipe new --data FILE --target COLUMN --output my.toml"),
                    ),
                ))
            }
        };
    let class = if chosen.is_some() { "two chosen" } else { "two" };
    let body = vec![
        Html::from(div("title").add(tag("h1").add(cx.t(T::StartRun)))),
        div(class).add(list).add(detail).into(),
    ];
    cx.frame(cx.t(T::StartRun), "/start", body)
}

fn form(cx: &Cx<'_>, known: &Known, told: Html) -> Html {
    let parsed = known.parse(&[]);
    let recipe = parsed.as_ref().ok().map(|p| serde_json::to_value(&p.recipe).unwrap_or_default());
    let recipe = recipe.unwrap_or_default();
    let field = |(key, label): &(&'static str, T)| {
        let of_recipe = recipe.pointer(&format!("/{}", key.replace('.', "/"))).filter(|v| !v.is_null())?;
        let value = cx.asked.field(key).map_or_else(|| value(of_recipe), str::to_owned);
        let input = tag("input")
            .attr("type", "text")
            .attr("inputmode", "decimal")
            .attr("name", *key)
            .attr("value", value)
            .attr("autocomplete", "off");
        Some(tag("label").add(span("").add(cx.t(*label))).add(input))
    };
    let quick: Vec<Tag> = QUICK.iter().filter_map(field).collect();
    let wrong = parsed.as_ref().err().map(|problems| problems_of(cx, problems));
    let more_settings = tag("label")
        .class("whole")
        .add(span("").add(cx.t(T::MoreSettings)))
        .add(
            tag("textarea")
                .attr("name", "sets")
                .attr("rows", "3")
                .attr("spellcheck", "false")
                .attr("placeholder", "model.hidden=[128, 64]\ntrain.early_stopping.patience=10")
                .add(cx.asked.field("sets").unwrap_or_default()),
        )
        .add(span("quiet").add(cx.t(T::MoreSettingsHint)));
    let buttons = div("actions")
        .add(
            tag("button")
                .attr("type", "submit")
                .attr("name", "do")
                .attr("value", "start")
                .class("primary")
                .attr("data-busy", cx.t(T::Checking))
                .add(cx.t(T::CheckAndStart)),
        )
        .add(
            tag("button")
                .attr("type", "submit")
                .attr("name", "do")
                .attr("value", "check")
                .attr("data-busy", cx.t(T::Checking))
                .add(cx.t(T::CheckOnly)),
        );
    let form = tag("form")
        .class("panel")
        .attr("method", "post")
        .attr("action", "/start")
        .add(cx.token())
        .add(tag("input").attr("type", "hidden").attr("name", "recipe").attr("value", &known.id))
        .add((!quick.is_empty()).then(|| {
            tag("fieldset").class("fields").add(tag("legend").class("sr").add(cx.t(T::Settings))).all(quick)
        }))
        .add(more_settings)
        .add(buttons);
    vec![
        Html::from(tag("h2").add(&known.name)),
        tag("p").class("lede").add(&known.description).into(),
        told,
        wrong.unwrap_or_default(),
        form.into(),
        more("text", cx.t(T::ShowRecipe), tag("pre").attr("tabindex", "0").add(tag("code").add(&known.text)))
            .into(),
    ]
    .into()
}

/// What a form sets, as on the command line.
fn sets(cx: &Cx<'_>, known: &Known) -> Vec<String> {
    let recipe = known.parse(&[]).ok().and_then(|p| serde_json::to_value(&p.recipe).ok()).unwrap_or_default();
    let mut sets = Vec::new();
    for (key, _) in QUICK {
        let Some(given) = cx.asked.field(key).map(str::trim) else { continue };
        let old = recipe.pointer(&format!("/{}", key.replace('.', "/"))).map(value).unwrap_or_default();
        if given != old {
            sets.push(format!("{key}={given}"));
        }
    }
    let lines = cx.asked.field("sets").unwrap_or_default().lines();
    sets.extend(lines.map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
    sets
}

/// Checks, and starts where nothing is wrong.
pub fn post(cx: &Cx<'_>) -> Reply {
    let program = cx.studio.options.program.clone();
    let known = cx.asked.field("recipe").and_then(|id| find(cx, id));
    let (Some(program), Some(known)) = (program, known) else { return cx.nothing() };
    let sets = sets(cx, &known);
    let wrong =
        |html: Html| Reply::page(show(cx, Some(&known), html)).status(StatusCode::UNPROCESSABLE_ENTITY);
    let parsed = match known.parse(&sets) {
        Ok(parsed) => parsed,
        Err(problems) => return wrong(problems_of(cx, &problems)),
    };
    let report = {
        let Ok(_one) = cx.studio.checks.try_lock() else {
            return wrong(div("notice").add(cx.t(T::CheckRuns)).into());
        };
        match check(&program, cx.root(), &known.word, &sets) {
            Ok(report) => report,
            Err(problems) => return wrong(problems_of(cx, &problems)),
        }
    };
    if cx.asked.field("do") == Some("check") {
        return Reply::page(show(cx, Some(&known), reported(cx, &report)));
    }
    match launch::start(&program, cx.root(), &parsed.recipe.name, &known.word, &sets) {
        Ok(name) => Reply::see(&format!("/runs/{}", encoded(&name))),
        Err(error) => failed(cx, &error),
    }
}

/// `jishi check` in a process of its own: what it takes is measured there, and goes with it.
fn check(program: &Path, root: &Path, recipe: &str, sets: &[String]) -> Result<Value, Problems> {
    let failed = |why: &dyn std::fmt::Display| {
        Problems::from(Problem::new(format!("the check did not end as it should: {why}")))
    };
    let mut command = Command::new(program);
    command.args(["check", "--json"]).arg(format!("--out={}", root.display()));
    command.args(sets.iter().map(|set| format!("--set={set}"))).args(["--", recipe]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|e| failed(&e))?;
    let mut out = child.stdout.take();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        let read = out.as_mut().map(|out| out.take(16 << 20).read_to_string(&mut text));
        read.and_then(Result::ok).map(|_| text).unwrap_or_default()
    });
    let began = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if began.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(20)),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                let seconds = PATIENCE.as_secs();
                return Err(Problem::new(format!("the check took more than {seconds} s"))
                    .help("check it in a terminal: `jishi check`")
                    .into());
            }
            Err(error) => return Err(failed(&error)),
        }
    };
    let text = reader.join().unwrap_or_default();
    let document: Value = serde_json::from_str(&text).map_err(|_| failed(&status))?;
    if status.success() {
        return Ok(document);
    }
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let problem = |p: &Value| {
        let mut problem = Problem::new(text(&p["message"]).unwrap_or_default());
        (problem.line, problem.help) = (p["line"].as_u64(), text(&p["help"]));
        problem.file = text(&p["file"]).map(PathBuf::from);
        problem
    };
    match document["problems"].as_array() {
        Some(list) if !list.is_empty() => Err(Problems(list.iter().map(problem).collect())),
        _ => Err(failed(&text(&document["error"]).unwrap_or_default())),
    }
}

/// All problems, each with its place and what to do.
fn problems_of(cx: &Cx<'_>, problems: &Problems) -> Html {
    let one = |problem: &Problem| {
        let file =
            problem.file.as_ref().and_then(|f| f.file_name()).map(|n| n.to_string_lossy().into_owned());
        let place = match (file, problem.line) {
            (Some(file), Some(line)) => Some(format!("{file}:{line}")),
            (Some(file), None) => Some(file),
            (None, Some(line)) => Some(cx.say(T::LineNumber, &[&line])),
            (None, None) => None,
        };
        tag("li")
            .add(tag("p").add(&problem.message))
            .add(place.map(|place| tag("p").class("quiet").add(tag("code").add(place))))
            .add(problem.help.as_ref().map(|help| tag("p").class("help").add(help)))
    };
    let title = cx.say(T::ProblemsFound, &[&problems.0.len()]);
    div("notice bad")
        .attr("role", "alert")
        .add(tag("h3").add(title))
        .add(tag("ul").class("problems").all(problems.0.iter().map(one)))
        .into()
}

/// What a run will take.
fn reported(cx: &Cx<'_>, report: &Value) -> Html {
    let whole = |key: &str| report[key].as_u64().unwrap_or_default();
    let mut rows: Vec<(String, Html)> = vec![
        (cx.t(T::Parameters).into(), thousands(&whole("parameters").to_string()).into()),
        (cx.t(T::Steps).into(), thousands(&whole("steps").to_string()).into()),
        (
            cx.t(T::Time).into(),
            cx.say(T::About, &[&duration(cx, report["seconds"].as_f64().unwrap_or(f64::NAN))]).into(),
        ),
        (cx.t(T::PeakMemory).into(), cx.say(T::About, &[&bytes_words(whole("memory"))]).into()),
        (cx.t(T::Disk).into(), cx.say(T::About, &[&bytes_words(whole("disk"))]).into()),
    ];
    for pair in report["rows"].as_array().into_iter().flatten() {
        let label = match pair[0].as_str() {
            Some("train") => T::RowsTrain,
            Some("validation") => T::RowsValidation,
            _ => T::RowsTest,
        };
        rows.push((cx.t(label).into(), thousands(&pair[1].to_string()).into()));
    }
    let notes = report["notes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    div("notice good")
        .attr("role", "status")
        .add(tag("h3").add(cx.t(T::NoProblem)))
        .add(facts(rows))
        .add(tag("ul").class("plain").all(notes.map(|note| tag("li").add(note))))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_are_those_that_say_a_task() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            jishi_runs::atomic::write_real(&dir.path().join(name), text.as_bytes()).unwrap();
        };
        write("a.toml", "name = \"a\"\ntask = \"regression\"\ndescription = \"<b>\"\n");
        write("recipes/b.toml", "task=\"classification\"\nname = \"b\"\n");
        write("Cargo.toml", "[package]\nname = \"x\"\n");
        write("notes.txt", "task = \"regression\"\n");
        let found = of_folder(dir.path());
        let shown: Vec<_> = found.iter().map(|k| (k.id.as_str(), k.description.as_str())).collect();
        assert_eq!(shown, [("file:a.toml", "<b>"), ("file:recipes/b.toml", "b")]);
        assert!(built_in().len() > 10);
    }
}
