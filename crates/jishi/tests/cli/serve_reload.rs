//! New versions of models while they serve.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::place::{HOUSES, Place, trained};
use crate::serve::{Served, rows};
use crate::serve_keys::until;

const PATH: &str = "/v1/models/houses/predict";

/// Two versions of a package in `v1` and `v2`, and the first also in `live/houses`.
fn versions() -> Place {
    let place = trained();
    place.write("second.toml", HOUSES.replace("name = \"houses\"", "name = \"second\""));
    place.jishi("train second.toml --set train.epochs=9 --set train.seed=7").ok();
    for (run, name) in [("houses", "v1"), ("second", "v2"), ("houses", "live/houses")] {
        copy(&place, &format!("runs/{run}/model"), name);
    }
    place
}

fn copy(place: &Place, from: &str, to: &str) {
    for file in place.files() {
        if let Some(rest) = file.strip_prefix(&format!("{from}/")) {
            place.write(&format!("{to}/{rest}"), place.read(&file));
        }
    }
}

/// Puts a package in the place of another, as a deployment does.
fn put(place: &Place, version: &str) {
    fs::rename(place.path("live/houses"), place.path("live/old")).unwrap();
    copy(place, version, "live/new");
    fs::rename(place.path("live/new"), place.path("live/houses")).unwrap();
    fs::remove_dir_all(place.path("live/old")).unwrap();
}

fn version(server: &Served) -> String {
    server.get("/v1/models/houses").ok()["version"].as_str().unwrap().to_owned()
}

#[test]
fn a_new_version_takes_over_without_a_request_that_fails() {
    let place = versions();
    let inputs = json!({ "inputs": rows(0..4) });
    let expected: Vec<Value> = ["v1", "v2"]
        .map(|name| Served::start(&place, &format!("houses={name}")).post(PATH, &inputs).ok())
        .into_iter()
        .collect();
    assert_ne!(expected[0]["predictions"], expected[1]["predictions"]);
    let server = Served::start(&place, "live/houses");
    let (asked, ended) = (AtomicUsize::new(0), AtomicBool::new(false));
    /// Whoever asks stops, also where something failed.
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !ended.load(Ordering::SeqCst) {
                    // Every answer is wholly of one version, which it names.
                    let answer = server.post(PATH, &inputs).ok();
                    assert!(expected.contains(&answer), "{answer}");
                    asked.fetch_add(1, Ordering::SeqCst);
                    // A system has so many ports, and each request takes one for a while.
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
        }
        let _end = End(&ended);
        for i in [1, 0, 1] {
            let before = asked.load(Ordering::SeqCst);
            put(&place, ["v1", "v2"][i]);
            until("the new version serves", || version(&server) == expected[i]["version"]);
            until("requests go on", || asked.load(Ordering::SeqCst) > before + 10);
        }
    });
    let predicted = "route=\"/v1/models/{name}/predict\",model=\"houses\"";
    let count = server.metric(&format!("jishi_requests_total{{{predicted},status=\"200\"}}"));
    assert_eq!(count as usize, asked.load(Ordering::SeqCst));
    assert_eq!(server.metric("jishi_model_loads_total{model=\"houses\"}"), 4.0);
}

#[test]
fn a_broken_version_leaves_the_old_one_and_is_told_of() {
    let place = versions();
    let inputs = json!({ "inputs": rows(0..2) });
    // Nobody looks unless asked.
    let server = Served::start(&place, "live/houses --watch 0");
    let old = server.post(PATH, &inputs).ok();
    let reload = || server.post("/v1/models/houses/reload", &json!({}));
    assert_eq!(reload().ok()["status"], "unchanged");

    let weights = place.read("v2/model.safetensors");
    copy(&place, "v2", "cut");
    place.write("cut/model.safetensors", &weights[..weights.len() - 1]);
    // Weights are whole, and the numbers are not those that it was packed with.
    copy(&place, "v2", "drifted");
    let mut manifest: Value = serde_json::from_slice(&place.read("v2/model.json")).unwrap();
    manifest["golden"]["outputs"][0][0] = json!(1.0);
    place.write("drifted/model.json", manifest.to_string());
    copy(&place, "v2", "no-json");
    place.write("no-json/model.json", "{");
    for (i, (name, words)) in
        [("cut", "expected"), ("drifted", "golden input 0"), ("no-json", "")].into_iter().enumerate()
    {
        put(&place, name);
        reload().refused(409, words);
        assert_eq!(server.post(PATH, &inputs).ok(), old, "{name}");
        let ready = server.get("/readyz").ok();
        assert_eq!(
            (ready["status"].as_str(), &ready["models"][0]["version"]),
            (Some("ready"), &old["version"])
        );
        let trouble = ready["models"][0]["trouble"].as_str().unwrap();
        assert!(trouble.contains(words) && !trouble.contains("live"), "{trouble}");
        let failures = server.metric("jishi_model_load_failures_total{model=\"houses\"}");
        assert_eq!(failures, (i + 1) as f64);
    }
    fs::remove_dir_all(place.path("live/houses")).unwrap();
    reload().refused(409, "");
    assert_eq!(server.post(PATH, &inputs).ok(), old);

    copy(&place, "v2", "live/houses");
    server.signal("-HUP");
    until("the hangup is heard", || version(&server) != old["version"]);
    assert!(server.get("/readyz").ok()["models"][0].get("trouble").is_none());
    assert_eq!(reload().ok()["status"], "unchanged");
    server.post("/v1/models/none/reload", &json!({})).refused(404, "no model `none`");
}
