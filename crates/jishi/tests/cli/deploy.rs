//! The files of `deploy/` name flags, settings and paths that there are.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::place::Place;

fn file(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn help() -> String {
    Place::new().jishi("serve --help").ok().stdout
}

/// Every word of a command that is a flag must be one of `jishi serve`.
fn flags_are_known<'a>(words: impl Iterator<Item = &'a str>) {
    let help = help();
    for flag in words.filter_map(|word| word.strip_prefix("--")) {
        let flag = flag.split('=').next().unwrap();
        assert!(help.contains(&format!("--{flag} ")) || help.contains(&format!("--{flag}\n")), "--{flag}");
    }
}

/// A setting in the environment must be a flag, too.
fn variable_is_known(name: &str) {
    let setting = name.strip_prefix("JISHI_SERVE_").unwrap_or_else(|| panic!("{name}"));
    flags_are_known([format!("--{}", setting.to_lowercase().replace('_', "-")).as_str()].into_iter());
}

#[test]
fn settings_are_known() {
    let text = file("serve.toml");
    // Those that are commented out are settings as well.
    let settings =
        |line: &str| line.strip_prefix("# ").unwrap_or(line).split(" = ").next().map(str::to_owned);
    let lines = text.lines().filter(|line| line.contains(" = "));
    let names: Vec<String> = lines.filter_map(settings).filter(|name| !name.contains(' ')).collect();
    assert!(names.len() >= 10, "{names:?}");
    for name in names.iter().filter(|name| *name != "runs") {
        flags_are_known([format!("--{}", name.replace('_', "-")).as_str()].into_iter());
    }
    // It is read as it is: what is refused is the folder that is not there.
    let place = Place::new();
    place.write("serve.toml", text.replace("/etc/jishi/keys.toml", "keys.toml"));
    place.jishi("keys add alice").ok();
    let refused = place.jishi("serve --config serve.toml --listen 127.0.0.1:0");
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    let refused = refused.stderr;
    assert!(refused.contains("/var/lib/jishi/models/house-prices"), "{refused}");
}

#[test]
fn the_unit_starts_what_there_is() {
    let text = file("jishi.service");
    let (mut section, mut keys) = (String::new(), BTreeMap::new());
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            name.clone_into(&mut section);
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{line}"));
        let new = keys.insert(format!("{section}.{key}"), value.to_owned());
        assert!(new.is_none(), "{line} comes twice");
    }
    let mut words = keys["Service.ExecStart"].split_whitespace();
    assert_eq!((words.next(), words.next()), (Some("/usr/local/bin/jishi"), Some("serve")));
    flags_are_known(words);
    for key in ["NoNewPrivileges", "DynamicUser", "MemoryDenyWriteExecute", "PrivateTmp"] {
        assert_eq!(keys[&format!("Service.{key}")], "yes", "{key}");
    }
    assert_eq!(keys["Service.ProtectSystem"], "strict");
    assert_eq!(keys["Install.WantedBy"], "multi-user.target");
}

#[test]
fn the_image_starts_what_there_is() {
    let text = file("Dockerfile");
    let lines: Vec<(&str, &str)> = text
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .map(|line| line.split_once(' ').unwrap_or_else(|| panic!("{line}")))
        .collect();
    let of = |name: &'static str| lines.iter().filter(move |(n, _)| *n == name).map(|(_, rest)| *rest);
    assert_eq!(of("FROM").count(), 2);
    assert_eq!(of("ENTRYPOINT").collect::<Vec<_>>(), ["[\"/usr/local/bin/jishi\", \"serve\"]"]);
    assert!(of("USER").all(|user| user != "root" && user != "0") && of("USER").count() == 1);
    for setting in of("ENV") {
        variable_is_known(setting.split('=').next().unwrap());
    }
    let command: Vec<String> = serde_json::from_str(of("CMD").next().unwrap()).unwrap();
    flags_are_known(command.iter().map(String::as_str));
    let rust = of("FROM").next().unwrap().split(['-', ':']).nth(1).unwrap().to_owned();
    let manifest =
        std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml"));
    assert!(manifest.unwrap().contains(&format!("rust-version = \"{rust}\"")), "{rust}");
    assert!(of("RUN").any(|run| run.contains("--locked")));
}

/// The lines of the part of YAML that the manifest is written in, each as its path and value. Places in a list are numbers.
fn yaml(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    // Indentation of every open level, and its key.
    let mut open: Vec<(usize, String)> = Vec::new();
    let mut items: BTreeMap<String, usize> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')) {
        let mut rest = line.trim_start();
        let mut indent = line.len() - rest.len();
        assert!(indent % 2 == 0 && !line.contains('\t'), "{line}");
        open.retain(|(at, _)| *at < indent);
        while let Some(item) = rest.strip_prefix("- ") {
            let path: Vec<&str> = open.iter().map(|(_, key)| key.as_str()).collect();
            let number = items.entry(path.join("/")).or_default();
            open.push((indent, number.to_string()));
            *number += 1;
            (rest, indent) = (item, indent + 2);
        }
        let path = |last: &str| {
            let mut all: Vec<&str> = open.iter().map(|(_, key)| key.as_str()).collect();
            all.extend((!last.is_empty()).then_some(last));
            all.join("/")
        };
        match rest.split_once(": ") {
            Some((key, value)) => {
                let new = found.insert(path(key), value.trim_matches('"').to_owned());
                assert!(new.is_none(), "{line} comes twice");
            }
            None => match rest.strip_suffix(':') {
                Some(key) => open.push((indent, key.to_owned())),
                None => drop(found.insert(path(""), rest.trim_matches('"').to_owned())),
            },
        }
    }
    found
}

#[test]
fn the_manifest_asks_paths_that_there_are() {
    let text = file("kubernetes.yaml");
    let documents: Vec<BTreeMap<String, String>> = text.split("\n---\n").map(yaml).collect();
    let (deployment, service) = (&documents[0], &documents[1]);
    assert_eq!((deployment["kind"].as_str(), service["kind"].as_str()), ("Deployment", "Service"));
    let container = "spec/template/spec/containers/0";
    let at = |key: &str| deployment[&format!("{container}/{key}")].as_str();
    for (probe, path) in
        [("startupProbe", "/readyz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")]
    {
        assert_eq!(at(&format!("{probe}/httpGet/path")), path);
        assert_eq!(at(&format!("{probe}/httpGet/port")), at("ports/0/name"));
    }
    assert_eq!(at("securityContext/readOnlyRootFilesystem"), "true");
    assert_eq!(at("resources/limits/memory"), "4Gi");
    assert_eq!(deployment["spec/template/spec/securityContext/runAsNonRoot"], "true");
    let prefix = format!("{container}/args/");
    flags_are_known(deployment.iter().filter(|(k, _)| k.starts_with(&prefix)).map(|(_, v)| v.as_str()));
    let prefix = format!("{container}/env/");
    let names = deployment.iter().filter(|(k, _)| k.starts_with(&prefix) && k.ends_with("/name"));
    let names: Vec<&str> = names.map(|(_, v)| v.as_str()).filter(|v| *v != "JISHI_THREADS").collect();
    assert_eq!(names.len(), 3);
    names.into_iter().for_each(variable_is_known);
    assert!(deployment["spec/template/spec/terminationGracePeriodSeconds"].parse::<u64>().unwrap() > 30);
    assert_eq!(service["spec/selector/app"], deployment["spec/template/metadata/labels/app"]);
    assert_eq!(service["metadata/annotations/prometheus.io/path"], "/metrics");
}
