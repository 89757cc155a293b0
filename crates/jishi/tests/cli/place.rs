//! A folder of its own for every test, the binary in it, and what a command printed.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

/// A new folder, in which commands run. Relative paths in messages keep snapshots free of machine paths.
pub struct Place {
    dir: TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).unwrap()
    }

    pub fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// Every file below the folder, by its relative path, sorted.
    pub fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        walk(self.dir.path(), self.dir.path(), &mut found);
        found.sort();
        found
    }

    /// A command that has not been started.
    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jishi"));
        command.args(args).current_dir(self.dir.path());
        command.env_remove("COLUMNS").env("NO_COLOR", "1");
        command
    }

    /// Runs `jishi` with arguments.
    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Outcome {
        Outcome::of(&mut self.command(args))
    }

    /// Runs `jishi` with arguments that hold no spaces.
    pub fn jishi(&self, line: &str) -> Outcome {
        self.run(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Runs a command that must be refused with these words and a way out, and leave everything as it was.
    #[track_caller]
    pub fn refuses(&self, line: &str, words: &str) {
        let before = self.files();
        let refused = self.jishi(line).refused();
        assert!(refused.stderr.contains(words), "{}", refused.stderr);
        assert!(refused.stderr.contains("help: "), "{}", refused.stderr);
        assert_eq!(self.files(), before);
    }

    /// Runs a command that must succeed and gives its one JSON document.
    pub fn json(&self, line: &str) -> Value {
        self.jishi(&format!("{line} --json")).ok().json()
    }
}

fn walk(root: &Path, dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            walk(root, &entry.path(), found);
        } else {
            found.push(entry.path().strip_prefix(root).unwrap().to_string_lossy().into_owned());
        }
    }
}

/// What a command printed, and how it ended.
pub struct Outcome {
    pub line: String,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    pub fn of(command: &mut Command) -> Self {
        let words: Vec<_> = command.get_args().map(|a| a.to_string_lossy().into_owned()).collect();
        let output = command.stdin(Stdio::null()).output().unwrap();
        Self {
            line: words.join(" "),
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The command must have succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "jishi {}\n{}\n{}", self.line, self.stdout, self.stderr);
        self
    }

    /// The command must have refused its input: exit 2, nothing on stdout, something on stderr, no panic.
    #[track_caller]
    pub fn refused(self) -> Self {
        assert_eq!(self.code, Some(2), "jishi {}\n{}\n{}", self.line, self.stdout, self.stderr);
        assert_eq!(self.stdout, "", "jishi {}", self.line);
        assert!(self.stderr.starts_with("error: "), "{}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    /// Exactly one JSON document, and nothing else, is on stdout.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("jishi {}: not one JSON document: {e}\n{}", self.line, self.stdout))
    }

    /// The command and its words, for a snapshot.
    pub fn shown(&self) -> String {
        let code = self.code.map_or("a signal".to_owned(), |c| c.to_string());
        format!("$ jishi {}\n{}{}[exit {code}]\n", self.line, self.stdout, self.stderr)
    }
}

/// Compares with the file `snapshots/NAME.snap`.
#[track_caller]
pub fn snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// A small table: 120 houses, with numbers, a category, a yes/no, a date, and missing values.
pub fn houses(rows: std::ops::Range<usize>) -> String {
    let mut csv = "area,rooms,quarter,garden,built,price\n".to_owned();
    for i in rows {
        // An integer hash: the same on every machine.
        let h = (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
        let area = 40 + h % 160;
        let rooms = 1 + area / 30;
        let quarter = ["north", "south", "east", "west"][(h / 7 % 4) as usize];
        let garden = ["no", "yes"][(h / 3 % 2) as usize];
        let (year, month, day) = (1950 + h / 11 % 70, 1 + h / 13 % 12, 1 + h / 17 % 28);
        let price = 30_000 + 1500 * area + 20_000 * (h / 7 % 4) + 15_000 * (h / 3 % 2) + h % 997;
        let area = if i % 17 == 5 { String::new() } else { area.to_string() };
        let quarter = if i % 23 == 7 { "" } else { quarter };
        csv += &format!("{area},{rooms},{quarter},{garden},{year}-{month:02}-{day:02},{price}\n");
    }
    csv
}

/// A recipe for [`houses`] in `houses.csv`: a linear model that trains in a moment.
pub const HOUSES: &str = r#"name = "houses"
task = "regression"

[data]
source = "houses.csv"
target = "price"

[model]
family = "linear"

[train]
optimizer = { name = "adam", learning_rate = 0.05 }
epochs = 5

[evaluate]
bootstrap = 50
plots = false
"#;

/// A copy of a place where [`HOUSES`] has been trained, once for all tests.
pub fn trained() -> Place {
    static TRAINED: OnceLock<Place> = OnceLock::new();
    let original = TRAINED.get_or_init(|| {
        let place = Place::new();
        place.write("houses.csv", houses(0..120));
        place.write("houses.toml", HOUSES);
        place.jishi("train houses.toml").ok();
        place
    });
    let copy = Place::new();
    for name in original.files() {
        copy.write(&name, original.read(&name));
    }
    copy
}
