//! Training in processes of its own, and asking them to stop. What the studio knows of a run beyond the run's own manifest is
//! in `studio.json` in its folder, so that any studio, also a later one, knows it too.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use jishi_recipe::Problem;
use jishi_runs::run::check_name;
use jishi_runs::{RealFs, RunDir, RunError, atomic};
use serde::{Deserialize, Serialize};

/// What the studio keeps.
pub const NOTE: &str = "studio.json";
/// What the training process says.
pub const OUTPUT: &str = "train.log";
/// Bytes of the process's last words that are shown.
const SHOWN: u64 = 16 << 10;

/// What the studio knows of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// The recipe, as on the command line.
    #[serde(default)]
    pub recipe: String,
    /// What was set.
    #[serde(default)]
    pub sets: Vec<String>,
    /// The process that was started last.
    #[serde(default)]
    pub process: Option<Process>,
    /// Who was asked to end, and why.
    #[serde(default)]
    pub asked: Option<Ended>,
}

/// A process, known again even if its number is given to another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it began, in the system's own measure.
    pub born: String,
}

/// A wish to end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// Whose.
    pub pid: u32,
    /// Whether the run is not to go on.
    pub for_good: bool,
}

impl Process {
    /// A process that runs now.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        born(pid).map(|born| Self { pid, born })
    }

    /// Whether it still runs.
    #[must_use]
    pub fn runs(&self) -> bool {
        born(self.pid).as_ref() == Some(&self.born)
    }
}

/// When a process began; `None` where it has ended.
#[cfg(target_os = "linux")]
fn born(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, also spaces and brackets: what follows the last bracket is in order.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    (!["Z", "X"].contains(&state)).then(|| fields.nth(18).unwrap_or_default().to_owned())
}

/// When a process began is not told here, only whether it runs.
#[cfg(all(unix, not(target_os = "linux")))]
fn born(pid: u32) -> Option<String> {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).ok()?);
    nix::sys::signal::kill(pid, None).ok().map(|()| String::new())
}

#[cfg(not(unix))]
fn born(_: u32) -> Option<String> {
    None
}

impl Note {
    /// That of a run's folder; an empty one where there is none that can be read.
    #[must_use]
    pub fn read(dir: &Path) -> Self {
        let mut text = String::new();
        let read = File::open(dir.join(NOTE)).and_then(|file| file.take(1 << 20).read_to_string(&mut text));
        read.ok().and_then(|_| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// Writes it.
    ///
    /// # Errors
    /// A disk that is full, or may not be written.
    pub fn write(&self, dir: &Path) -> Result<(), RunError> {
        atomic::write_json(&RealFs, &dir.join(NOTE), self)
    }

    /// Whether the process that was started last still runs.
    #[must_use]
    pub fn at_work(&self) -> bool {
        self.process.as_ref().is_some_and(Process::runs)
    }
}

/// Keeps a name for a run: `name`, or the first of `name-2`, `name-3`, … that is free.
///
/// # Errors
/// A name that no run can have; the system's.
pub fn keep_name(root: &Path, name: &str) -> Result<String, RunError> {
    check_name(name)?;
    fs::create_dir_all(root).map_err(|e| RunError::io(root, e))?;
    let mut number = 1;
    loop {
        let name = if number == 1 { name.to_owned() } else { format!("{name}-{number}") };
        let path = root.join(&name);
        match fs::create_dir(&path) {
            Ok(()) => return Ok(name),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
            Err(e) => return Err(RunError::io(path, e)),
        }
    }
}

/// Starts a recipe as a new run, in a process of its own.
///
/// # Errors
/// A folder that can't be written; a process that can't be started. Nothing stays of the run then.
pub fn start(
    program: &Path,
    root: &Path,
    name: &str,
    recipe: &str,
    sets: &[String],
) -> Result<String, RunError> {
    let name = keep_name(root, name)?;
    let dir = root.join(&name);
    let mut words = vec!["train".to_owned(), format!("--out={}", root.display()), format!("--run={name}")];
    words.extend(sets.iter().map(|set| format!("--set={set}")));
    words.extend(["--".to_owned(), recipe.to_owned()]);
    let note = Note { recipe: recipe.to_owned(), sets: sets.to_vec(), ..Note::default() };
    if let Err(error) = spawn(program, &words, &dir, note) {
        // The name is free again; the error is what counts.
        let _ = remove_kept(&dir);
        return Err(error);
    }
    Ok(name)
}

/// Goes on with a run, in a process of its own.
///
/// # Errors
/// As [`start`].
pub fn resume(program: &Path, root: &Path, name: &str) -> Result<(), RunError> {
    let dir = root.join(name);
    let words = ["resume".to_owned(), format!("--root={}", root.display()), "--".to_owned(), name.to_owned()];
    let note = Note { asked: None, ..Note::read(&dir) };
    spawn(program, &words, &dir, note)
}

fn spawn(program: &Path, words: &[String], dir: &Path, mut note: Note) -> Result<(), RunError> {
    // Written first: on a full disk nothing is started.
    note.write(dir)?;
    let path = dir.join(OUTPUT);
    let io = |e| RunError::io(&path, e);
    let output = OpenOptions::new().create(true).append(true).open(&path).map_err(io)?;
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).stdout(output.try_clone().map_err(io)?).stderr(output);
    // A group of its own: what ends the studio does not end it.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command
        .spawn()
        .map_err(|e| Problem::new(format!("the training process can't be started: {e}")).file(program))?;
    note.process = Process::of(child.id());
    let written = note.write(dir);
    // Who has ended is to be asked how, or the system keeps it.
    let reaper = std::thread::Builder::new().name("jishi-wait".into());
    let _ = reaper.spawn(move || child.wait());
    written
}

/// Asks the process of a run to save and end, once: a second signal would end it at once.
///
/// # Errors
/// A run that no process has, or one that can't be told; a note that can't be written.
pub fn ask_to_end(run: &RunDir, for_good: bool) -> Result<(), RunError> {
    ask(run.path(), run.holder(), for_good)
}

/// As [`ask_to_end`], of a run that has no folder of its own yet.
///
/// # Errors
/// As [`ask_to_end`].
pub fn ask_kept_to_end(dir: &Path, for_good: bool) -> Result<(), RunError> {
    ask(dir, None, for_good)
}

fn ask(dir: &Path, holder: Option<u32>, for_good: bool) -> Result<(), RunError> {
    let mut note = Note::read(dir);
    let preparing = note.process.as_ref().filter(|p| p.runs()).map(|p| p.pid);
    let Some(pid) = holder.or(preparing) else {
        return Err(Problem::new("no process works on this run, or it does not tell which")
            .help(
                "it has ended meanwhile, or an older version of jishi trains it: stop that one where it runs",
            )
            .into());
    };
    let already = note.asked.as_ref().is_some_and(|asked| asked.pid == pid);
    note.asked = Some(Ended { pid, for_good });
    note.write(dir)?;
    if already { Ok(()) } else { signal(pid) }
}

#[cfg(unix)]
fn signal(pid: u32) -> Result<(), RunError> {
    let refused =
        |why: String| RunError::from(Problem::new(format!("the process can't be asked to end: {why}")));
    let raw = i32::try_from(pid).map_err(|e| refused(e.to_string()))?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(raw), nix::sys::signal::Signal::SIGTERM)
        .map_err(|e| refused(e.to_string()))
}

#[cfg(not(unix))]
fn signal(_: u32) -> Result<(), RunError> {
    Err(Problem::new("on this system runs are stopped where they were started").into())
}

/// The last words of a run's process.
#[must_use]
pub fn last_words(dir: &Path) -> Option<String> {
    let mut file = File::open(dir.join(OUTPUT)).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(SHOWN))).ok()?;
    let mut bytes = Vec::new();
    file.take(SHOWN).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let text = if length > SHOWN { text.split_once('\n').map_or("", |(_, rest)| rest) } else { &text };
    (!text.trim().is_empty()).then(|| text.to_owned())
}

/// Removes what the studio kept for a run that never began: its own files and the folder, nothing else.
///
/// # Errors
/// The system's; a folder with other things in it.
pub fn remove_kept(dir: &Path) -> Result<(), RunError> {
    for name in [NOTE, OUTPUT] {
        let path = dir.join(name);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(RunError::io(path, e)),
            _ => {}
        }
    }
    fs::remove_dir(dir).map_err(|e| RunError::io(dir, e))
}

/// Folders that the studio keeps for runs that have not begun, by name.
#[must_use]
pub fn kept(root: &Path) -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    let kept = |entry: fs::DirEntry| {
        let (name, path) = (entry.file_name().into_string().ok()?, entry.path());
        let only_kept =
            check_name(&name).is_ok() && path.join(NOTE).is_file() && RunDir::named(root, &name).is_none();
        only_kept.then_some((name, path))
    };
    entries.filter_map(Result::ok).filter_map(kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_is_known_again() {
        let this = Process::of(std::process::id()).unwrap();
        assert!(this.runs());
        assert!(!Process { born: "1".into(), ..this }.runs(), "another process of the same number");
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::of(child.id()).unwrap();
        assert!(process.runs());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!process.runs());
    }

    #[test]
    fn names_are_kept_and_given_back() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        assert_eq!(keep_name(root, "a").unwrap(), "a");
        assert_eq!(keep_name(root, "a").unwrap(), "a-2");
        assert!(keep_name(root, "../a").is_err());
        assert!(kept(root).is_empty(), "there is no note yet");
        let note = Note { recipe: "digits".into(), ..Note::default() };
        note.write(&root.join("a")).unwrap();
        assert_eq!(kept(root).iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(), ["a"]);
        assert_eq!(Note::read(&root.join("a")), note);
        assert!(!note.at_work());
        remove_kept(&root.join("a")).unwrap();
        assert!(!root.join("a").exists());
    }

    #[test]
    fn nothing_stays_of_a_run_that_did_not_start() {
        let root = tempfile::tempdir().unwrap();
        let error = start(Path::new("/no/such/program"), root.path(), "a", "digits", &[]).unwrap_err();
        assert!(error.to_string().contains("can't be started"), "{error}");
        assert!(!root.path().join("a").exists());
    }

    #[test]
    fn last_words_are_short() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(last_words(dir.path()), None);
        let lines: String = (0..10_000).map(|i| format!("line {i}\n")).collect();
        atomic::write_real(&dir.path().join(OUTPUT), lines.as_bytes()).unwrap();
        let words = last_words(dir.path()).unwrap();
        assert!(words.starts_with("line ") && words.ends_with("line 9999\n"), "{words}");
        assert!(words.len() as u64 <= SHOWN);
    }
}
