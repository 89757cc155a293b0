//! Keys of `jishi serve`, what it counts, and what it tells of requests.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::place::{Place, trained};
use crate::serve::{Served, base64, rows};

const PATH: &str = "/v1/models/houses/predict";

/// Makes a key.
fn key(place: &Place, line: &str) -> String {
    place.json(&format!("keys add {line}"))["key"].as_str().unwrap().to_owned()
}

/// Asks again until the answer is as wanted.
#[track_caller]
pub fn until(what: &str, mut there: impl FnMut() -> bool) {
    let started = Instant::now();
    while !there() {
        assert!(started.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn keys_are_made_listed_and_removed() {
    let place = Place::new();
    let alice = place.jishi("keys add alice --scope predict --model houses --requests 60").ok();
    assert!(alice.stdout.starts_with("jishi_") && alice.stderr.contains("only time"), "{}", alice.stderr);
    key(&place, "bob");
    let list = place.jishi("keys list").ok().stdout;
    assert!(!list.contains("jishi_") && list.contains("alice") && list.contains("houses"), "{list}");
    let list = place.json("keys");
    assert_eq!(list["keys"][1]["scopes"], json!(["predict", "generate", "embed"]));
    assert_eq!(list["keys"][0]["requests_per_minute"], 60);
    assert!(!place.text("keys.toml").contains(alice.stdout.trim()));
    place.jishi("keys remove alice").ok();
    for (line, words) in [
        ("keys remove alice", "there is no key"),
        ("keys add bob", "already is a key"),
        ("keys add b/b", "expected a name"),
        ("keys list --file other.toml", "no such file"),
    ] {
        place.refuses(line, words);
    }
    place.write("wrong.toml", "[keys.a]\nhash = 1\nscopes = [\"all\"]\nmodel = \"x\"\n");
    let refused = place.jishi("keys list --file wrong.toml").refused().stderr;
    for words in ["wrong.toml:2", "wrong.toml:3", "wrong.toml:4", "did you mean `models`?"] {
        assert!(refused.contains(words), "{refused}");
    }
}

#[test]
fn without_a_key_nobody_else_is_let_in() {
    let place = trained();
    let refused = place.jishi("serve houses --listen 0.0.0.0:0").refused().stderr;
    assert!(refused.contains("nobody would be asked for a key"), "{refused}");
    assert!(refused.contains("--no-keys") && refused.contains("jishi keys add"), "{refused}");
    let refused = place.jishi("serve houses --listen 127.0.0.1:0 --keys none.toml").refused().stderr;
    assert!(refused.contains("none.toml"), "{refused}");
}

#[test]
fn a_key_allows_what_it_says_and_no_more() {
    let place = trained();
    let alice = key(&place, "alice --scope predict");
    let other = key(&place, "other --scope predict --model castles");
    let limited = key(&place, "limited --scope predict --requests 2");
    let watcher = key(&place, "watcher --scope metrics");
    let admin = key(&place, "admin --scope admin");
    let server = Served::start(&place, "houses --keys keys.toml");
    let body = json!({ "inputs": rows(0..2) });

    let answer = server.post_with(&alice, PATH, &body);
    answer.ok();
    let none = server.post(PATH, &body);
    none.refused(401, "Authorization: Bearer");
    assert!(none.head.to_lowercase().contains("www-authenticate: bearer"), "{}", none.head);
    for wrong in [format!("{alice}x"), "jishi_".into(), "x".repeat(5000), alice.to_uppercase()] {
        server.post_with(&wrong, PATH, &body).refused(401, "not known");
    }
    server.post_with(&other, PATH, &body).refused(404, "no model `houses`");
    assert_eq!(server.get_with(&other, "/v1/models").ok()["data"], json!([]));
    server.post_with(&watcher, PATH, &body).refused(403, "does not allow `predict`");
    server.get_with(&alice, "/metrics").refused(403, "does not allow `metrics`");
    server.post_with(&alice, "/v1/models/houses/reload", &json!({})).refused(403, "`admin`");
    server.post_with(&alice, "/v1/completions", &json!({})).refused(403, "`generate`");
    server.get_with(&alice, "/v1/models").ok();
    server.get("/v1/models").refused(401, "");
    server.get("/nothing").refused(401, "");
    let basic = [("Authorization", format!("Basic {}", base64(format!("any:{alice}").as_bytes())))];
    let basic: Vec<(&str, &str)> = basic.iter().map(|(a, b)| (*a, b.as_str())).collect();
    assert_eq!(server.ask_with("GET", "/v1/models", &basic, b"").status, 200);

    // Who has no key learns whether the server is there, and nothing else.
    assert_eq!(server.get("/readyz").ok(), json!({ "status": "ready" }));
    assert_eq!(server.get_with(&alice, "/readyz").ok()["models"][0]["id"], "houses");

    for _ in 0..2 {
        server.post_with(&limited, PATH, &body).ok();
    }
    let third = server.post_with(&limited, PATH, &body);
    third.refused(429, "requests of this minute");
    assert!(third.head.to_lowercase().contains("retry-after: "), "{}", third.head);
    server.post_with(&alice, PATH, &body).ok();

    let text = String::from_utf8(server.get_with(&watcher, "/metrics").body).unwrap();
    assert!(text.contains("jishi_rate_limited_total{of=\"requests\"} 1"), "{text}");
    assert!(text.contains("jishi_unauthorised_total 7"), "{text}");

    // A key that is taken out is refused soon, one that is added is known.
    place.jishi("keys remove alice").ok();
    let new = key(&place, "new --scope predict");
    until("the keys are read again", || server.post_with(&alice, PATH, &body).status == 401);
    server.post_with(&new, PATH, &body).ok();
    // What the limited one has used stays used, and a file that is wrong changes nothing.
    assert_eq!(server.post_with(&limited, PATH, &body).status, 429);
    place.write("keys.toml", "[keys");
    server.signal("-HUP");
    std::thread::sleep(Duration::from_millis(300));
    server.post_with(&new, PATH, &body).ok();
    server.post_with(&admin, "/v1/models/houses/reload", &json!({})).ok();
}

#[test]
fn the_studio_behind_keys_is_for_those_who_look_after_all_models() {
    let place = trained();
    let alice = key(&place, "alice --scope predict");
    let some = key(&place, "some --scope admin --model houses");
    let admin = key(&place, "admin --scope admin");
    let server = Served::start(&place, "houses --keys keys.toml");
    let as_browser = |method: &str, path: &str, key: &str, body: &str| {
        let basic = format!("Basic {}", base64(format!("me:{key}").as_bytes()));
        let kind = ("Content-Type", "application/x-www-form-urlencoded");
        // A name that is none of this machine's: with a key, one may come from elsewhere.
        let headers = [("Authorization", basic.as_str()), kind, ("X-Forwarded-For", "10.0.0.1")];
        server.ask_with(method, path, &headers, body.as_bytes())
    };
    let asks = server.get("/");
    assert!(asks.status == 401 && asks.head.contains("Basic realm"), "{}", asks.head);
    assert_eq!(server.get("/studio/studio.css").status, 401);
    for key in [&alice, &some] {
        assert_eq!(as_browser("GET", "/", key, "").status, 403);
    }
    let list = as_browser("GET", "/", &admin, "");
    assert!(list.status == 200 && String::from_utf8_lossy(&list.body).contains("/runs/houses"));
    let page = String::from_utf8(as_browser("GET", "/models/houses", &admin, "").body).unwrap();
    let token = page.split("data-token=\"").nth(1).unwrap().split('"').next().unwrap();
    let row = "x%3Aarea=80&x%3Arooms=3&x%3Aquarter=north&x%3Agarden=yes&x%3Abuilt=1999-05-05";
    let told = as_browser("POST", "/models/houses/try", &admin, &format!("token={token}&{row}"));
    assert_eq!(told.status, 200, "{}", String::from_utf8_lossy(&told.body));
    // A page of elsewhere makes the browser send the key, but does not know the token.
    assert_eq!(as_browser("POST", "/models/houses/try", &admin, row).status, 403);
}

#[test]
fn what_happens_is_counted_and_told() {
    let place = trained();
    let server = Served::start(&place, "houses --audit audit.jsonl");
    let body = json!({ "inputs": rows(0..3) });
    let answer = server.ask_with(
        "POST",
        PATH,
        &[("Content-Type", "application/json"), ("X-Request-Id", "mine-1")],
        body.to_string().as_bytes(),
    );
    answer.ok();
    assert!(answer.head.contains("x-request-id: mine-1"), "{}", answer.head);
    server.post(PATH, &json!({ "inputs": [] })).refused(400, "");
    server.get("/v1/models/none").refused(404, "");
    let odd = server.ask_with("GET", "/healthz", &[("X-Request-Id", "a b\"c")], b"");
    assert!(!odd.head.contains("a b") && odd.head.contains("x-request-id: "), "{}", odd.head);

    let predicted = "route=\"/v1/models/{name}/predict\",model=\"houses\"";
    assert_eq!(server.metric(&format!("jishi_requests_total{{{predicted},status=\"200\"}}")), 1.0);
    assert_eq!(server.metric(&format!("jishi_requests_total{{{predicted},status=\"400\"}}")), 1.0);
    let count = "jishi_request_seconds_count{route=\"/v1/models/{name}/predict\"}";
    assert_eq!(server.metric(count), 2.0);
    assert_eq!(server.metric("jishi_batch_rows_sum{model=\"houses\"}"), 3.0);
    assert_eq!(server.metric("jishi_waiting_requests{model=\"houses\"}"), 0.0);
    assert_eq!(server.metric("jishi_model_loads_total{model=\"houses\"}"), 1.0);
    assert!(server.metric("jishi_uptime_seconds") > 0.0);
    if cfg!(target_os = "linux") {
        assert!(server.metric("jishi_resident_memory_bytes") > 1e6);
    }

    let lines = |name: &str| -> Vec<Value> {
        place.text(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let told = lines("audit.jsonl");
    let first = &told[0];
    assert_eq!((first["id"].as_str(), first["model"].as_str()), (Some("mine-1"), Some("houses")));
    assert_eq!((first["status"].as_u64(), first["rows"].as_u64()), (Some(200), Some(3)));
    assert_eq!(first["input_sha256"], sha256(&body.to_string()));
    assert!(first["time"].as_str().unwrap().ends_with('Z') && first["milliseconds"].is_f64());
    assert_eq!((told[1]["status"].as_u64(), told[2]["status"].as_u64()), (Some(400), Some(404)));
    assert!(!place.text("audit.jsonl").contains("quarter"));
    drop(server);

    let server = Served::start(&place, "houses --audit audit.jsonl --audit-inputs");
    server.post(PATH, &body).ok();
    let last = lines("audit.jsonl").pop().unwrap();
    assert_eq!(last["input"], body.to_string());
    let refused = place.jishi("serve houses --listen 127.0.0.1:0 --audit no/folder/audit.jsonl").refused();
    assert!(refused.stderr.contains("the audit log can't be written"), "{}", refused.stderr);
}

fn sha256(text: &str) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(text).iter().map(|b| format!("{b:02x}")).collect()
}
