//! Files of a run: only those in its folder, only kinds that are shown, and nothing in them can run.

use std::fs;
use std::path::{Path, PathBuf};

use super::asked::Reply;
use super::page::Cx;
use super::runs::Seen;

/// Bytes of a file at most.
const MOST: u64 = 64 << 20;

/// The kind of a file that is shown.
fn kind(path: &Path) -> Option<&'static str> {
    let ending = path.extension()?.to_str()?.to_ascii_lowercase();
    Some(match ending.as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "svg" => "image/svg+xml",
        "json" => "application/json",
        "jsonl" | "toml" | "txt" | "md" | "log" | "csv" => "text/plain; charset=utf-8",
        _ => return None,
    })
}

/// The file below a folder, where the parts of its path and every link on the way stay in the folder.
fn inside(dir: &Path, parts: &[&str]) -> Option<PathBuf> {
    let plain = |part: &&str| jishi_runs::folder::plain_name(part) && !part.starts_with('.');
    if parts.is_empty() || !parts.iter().all(plain) {
        return None;
    }
    let path = parts.iter().fold(dir.to_owned(), |path, part| path.join(part));
    let (path, dir) = (fs::canonicalize(path).ok()?, fs::canonicalize(dir).ok()?);
    (path.starts_with(&dir) && path.is_file()).then_some(path)
}

/// Answers with a file of a run.
pub fn answer(cx: &Cx<'_>, name: &str, parts: &[&str]) -> Reply {
    let found = Seen::find(cx.root(), name).and_then(|run| inside(&run.dir, parts));
    let read = found.and_then(|path| {
        let kind = kind(&path)?;
        let small = fs::metadata(&path).ok()?.len() <= MOST;
        small.then(|| fs::read(&path).ok()).flatten().map(|bytes| Reply::file(kind, bytes))
    });
    read.unwrap_or_else(|| cx.nothing())
}

/// Pictures of a run, by their paths from its folder: its own plots, and those that it made while it trained.
#[must_use]
pub fn pictures(dir: &Path, below: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir.join(below)) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|n| n.ends_with(".png") || n.ends_with(".svg")).collect();
    names.sort();
    // Of one plot in two formats the drawing is sharper.
    let drawn = |name: &str| name.strip_suffix(".png").map(|stem| format!("{stem}.svg"));
    let all = names.clone();
    names.retain(|name| drawn(name).is_none_or(|svg| !all.contains(&svg)));
    let under = |name: String| if below.is_empty() { name } else { format!("{below}/{name}") };
    names.into_iter().map(under).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_of_a_run_is_found() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("run");
        fs::create_dir_all(dir.join("plots")).unwrap();
        for name in
            ["secret.png", "run/curves.png", "run/plots/roc.svg", "run/.hidden.png", "run/model.safetensors"]
        {
            jishi_runs::atomic::write_real(&root.path().join(name), b"x").unwrap();
        }
        assert!(inside(&dir, &["curves.png"]).is_some() && inside(&dir, &["plots", "roc.svg"]).is_some());
        for bad in [
            &["..", "secret.png"][..],
            &["plots", "..", "..", "secret.png"],
            &["../secret.png"],
            &["..\\secret.png"],
            &["/etc/passwd"],
            &[".hidden.png"],
            &["none.png"],
            &["plots"],
            &[],
        ] {
            assert_eq!(inside(&dir, bad), None, "{bad:?}");
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(root.path().join("secret.png"), dir.join("link.png")).unwrap();
            std::os::unix::fs::symlink(root.path(), dir.join("up")).unwrap();
            assert_eq!(inside(&dir, &["link.png"]), None);
            assert_eq!(inside(&dir, &["up", "secret.png"]), None);
        }
        assert_eq!(kind(Path::new("model.safetensors")), None);
        assert_eq!(pictures(&dir, "plots"), ["plots/roc.svg"]);
    }
}
