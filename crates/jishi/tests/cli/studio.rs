//! `jishi studio`, over its socket: what a browser would ask, and what it must not get.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use jishi_runs::RunDir;
use jishi_runs::table::number;
use serde_json::Value;

use crate::place::{HOUSES, Place, houses, trained};
use crate::serve::{Reply, Served, reply};
use crate::serve_text::talking;
use crate::{detection, generation, images};

/// A studio that ends with its test.
struct Studio {
    child: Child,
    address: SocketAddr,
}

impl Studio {
    fn open(place: &Place) -> Self {
        let mut command = place.command(&["studio", "--json", "--listen", "127.0.0.1:0"]);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        let address = said["address"].as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap();
        Self { child, address }
    }

    fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Reply {
        self.send(method, path, headers, body.as_bytes())
    }

    fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Reply {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        let host =
            if headers.contains("Host:") { String::new() } else { format!("Host: {}\r\n", self.address) };
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\n{host}{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let _ = stream.write_all(body);
        reply(stream)
    }

    fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, "", "")
    }

    #[track_caller]
    fn page(&self, path: &str) -> String {
        let reply = self.get(path);
        let text = String::from_utf8(reply.body).unwrap();
        assert_eq!(reply.status, 200, "{path}: {text}");
        text
    }

    fn token(&self) -> String {
        let page = self.page("/");
        page.split("data-token=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    }

    /// Sends a form, with the token of a page.
    fn post(&self, path: &str, fields: &[(&str, &str)]) -> Reply {
        let token = self.token();
        let own = [("token", token.as_str())];
        let fields = fields.iter().chain(&own);
        let pair = |(key, value): &(&str, &str)| format!("{}={}", encoded(key), encoded(value));
        let body: Vec<String> = fields.map(pair).collect();
        self.ask("POST", path, "Content-Type: application/x-www-form-urlencoded\r\n", &body.join("&"))
    }

    fn live(&self, run: &str) -> Value {
        self.get(&format!("/runs/{run}/live")).json()
    }

    /// Waits for a run to be in a state.
    #[track_caller]
    fn until(&self, run: &str, state: &str) -> Value {
        let began = Instant::now();
        loop {
            let live = self.live(run);
            if live["state"] == state {
                return live;
            }
            let patience = Duration::from_secs(120);
            assert!(began.elapsed() < patience, "{run} is not {state}: {}", live["state"]);
            sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Studio {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

fn text(reply: Reply) -> String {
    String::from_utf8(reply.body).unwrap()
}

#[test]
fn a_run_has_its_pages() {
    let place = trained();
    let studio = Studio::open(&place);
    let list = studio.page("/");
    for part in ["<!doctype html>", "href=\"/runs/houses\"", "Finished", "regression", "rmse", "linear"] {
        assert!(list.contains(part), "{part}\n{list}");
    }
    let page = studio.page("/runs/houses");
    let manifest = RunDir::open(&place.path("runs"), "houses").unwrap().manifest().unwrap();
    let rmse = number(manifest.metrics["test"]["rmse"].value, 4);
    for part in [
        &format!("<div class=\"figure\">{rmse}</div>")[..],
        "data-chart=",
        "<svg",
        "Model card",
        "family = &quot;linear&quot;",
        "Ledger: ",
        "Peak memory",
        "/runs/houses/try",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    let live = studio.live("houses");
    assert_eq!(live["state"], "finished");
    assert!(live["parts"]["live-charts"].as_str().unwrap().contains("class=\"line s0"));
    let card = studio.get("/runs/houses/files/README.md");
    assert_eq!((card.status, card.body), (200, place.read("runs/houses/README.md")));
    for asset in ["studio.css", "studio.js", "icon.svg"] {
        assert_eq!(studio.get(&format!("/studio/{asset}")).status, 200);
        assert!(asset == "icon.svg" || list.contains(&format!("/studio/{asset}")));
    }
    let head = studio.get("/runs/houses").head.to_lowercase();
    assert!(
        head.contains("content-security-policy: default-src 'self';") && head.contains("nosniff"),
        "{head}"
    );
    assert!(
        !page.contains("style=") && !page.contains("<script>") && !page.contains("onclick"),
        "nothing inline"
    );
    for nothing in
        ["/runs/none", "/runs/none/live", "/runs/houses/nothing", "/studio/none", "/runs/houses/ask/fly"]
    {
        assert_eq!(studio.get(nothing).status, 404, "{nothing}");
    }
    // The server's own paths are still there, and its studio too.
    assert_eq!(studio.get("/healthz").ok()["status"], "ok");
    let server = Served::start(&place, "houses");
    let page = String::from_utf8(server.get("/").body).unwrap();
    assert!(page.contains("Served models") && page.contains("/models/houses"), "{page}");
    assert_eq!(server.get("/models/houses").status, 200);
}

#[test]
fn an_empty_folder_says_what_to_do() {
    let place = Place::new();
    let studio = Studio::open(&place);
    let page = studio.page("/");
    assert!(page.contains("No runs yet") && page.contains("href=\"/start\""), "{page}");
}

#[test]
fn both_languages_are_spoken() {
    let place = trained();
    let studio = Studio::open(&place);
    let chosen = studio.get("/?lang=zh&q=a");
    assert!(chosen.head.to_lowercase().contains("set-cookie: lang=zh"), "{}", chosen.head);
    let page = text(chosen);
    assert!(
        page.contains("lang=\"zh-CN\"") && page.contains("训练记录") && page.contains("/?q=a&amp;lang=en")
    );
    let page = text(studio.ask("GET", "/runs/houses", "Cookie: lang=zh\r\n", ""));
    assert!(page.contains("已完成") && page.contains("模型卡"), "{page}");
    let page = text(studio.ask("GET", "/", "Accept-Language: zh-CN,zh;q=0.9\r\n", ""));
    assert!(page.contains("训练记录"));
    assert!(studio.page("/").contains("lang=\"en\""));
}

#[test]
fn nothing_of_a_run_becomes_markup() {
    const EVIL: &str = "\"><script>alert(1)</script><img src=x onerror=alert(2)>";
    let place = trained();
    let mut manifest: Value = serde_json::from_slice(&place.read("runs/houses/manifest.json")).unwrap();
    manifest["name"] = EVIL.into();
    manifest["task"] = EVIL.into();
    manifest["family"] = EVIL.into();
    manifest["recipe"]["description"] = EVIL.into();
    manifest["recipe"]["model"]["family"] = EVIL.into();
    manifest["status"] = serde_json::json!({ "state": "failed", "reason": EVIL });
    manifest["metrics"]["test"][EVIL] = serde_json::json!({ "value": 1.0 });
    manifest["data"][0]["file"] = EVIL.into();
    place.write("runs/evil/manifest.json", manifest.to_string());
    place.write("runs/evil/README.md", format!("# {EVIL}\n\n{EVIL} [x](javascript:alert(3))\n"));
    place.write("runs/evil/recipe.toml", EVIL);
    place.write("runs/evil/train.log", EVIL);
    place.write(
        "runs/evil/samples/step-00000001.json",
        serde_json::json!([{ "prompt": EVIL, "text": EVIL }]).to_string(),
    );
    let line = serde_json::json!({ "step": 1, "epoch": 1.0, "split": EVIL, "loss": 1.0, EVIL: 2.0 });
    place.write("runs/evil/metrics.jsonl", format!("{line}\n"));
    let ledger = String::from_utf8(place.read("runs/houses/ledger.jsonl")).unwrap();
    let entry = serde_json::json!({
        "action": "dropped", "reason": EVIL, "column": EVIL, "split": null, "file": EVIL, "rows": 1, "lines": [[1, 1]],
    });
    place.write("runs/evil/ledger.jsonl", format!("{}\n{entry}\n", ledger.lines().next().unwrap()));
    fs::create_dir_all(place.path("runs/<script>alert(4)</script>")).unwrap();
    place.write("runs/<b>/manifest.json", manifest.to_string());
    place.write("evil.toml", format!("name = \"evil\"\ntask = \"regression\"\ndescription = '''{EVIL}'''\n"));
    let studio = Studio::open(&place);
    for path in [
        "/",
        "/?q=%22%3E%3Cscript%3Ealert(5)",
        "/?sort=%22%3E%3Cscript%3E&state=%3Cscript%3E",
        "/runs/evil",
        "/runs/evil?against=houses",
        "/compare?run=evil&run=houses",
        "/start",
        "/start?recipe=file%3Aevil.toml",
        "/runs/houses/try?x=%3Cscript%3E",
    ] {
        let page = studio.page(path);
        assert!(!page.contains("<script>") && !page.contains("<img src=x"), "{path}\n{page}");
        assert!(!page.contains("href=\"javascript:") && !page.contains("<b>/"), "{path}");
    }
    assert!(studio.page("/runs/evil").contains("&lt;script&gt;alert(1)"));
    let parts = studio.live("evil")["parts"].to_string();
    assert!(!parts.contains("<script>") && parts.contains("&lt;script&gt;"));
}

#[test]
fn files_outside_of_a_run_are_not_given() {
    let place = trained();
    place.write("secret.json", "{}");
    place.write("runs/secret.json", "{}");
    let studio = Studio::open(&place);
    for path in [
        "/runs/houses/files/../secret.json",
        "/runs/houses/files/../../secret.json",
        "/runs/houses/files/..%2Fsecret.json",
        "/runs/houses/files/%2e%2e/secret.json",
        "/runs/houses/files/%2e%2e%2f%2e%2e%2fsecret.json",
        "/runs/houses/files/..%5Csecret.json",
        "/runs/houses/files//etc/hostname.json",
        "/runs/houses/files/%2Fetc%2Fpasswd",
        "/runs/houses/files/model/model.safetensors",
        "/runs/houses/files/run.lock",
        "/runs/houses/files",
        "/runs/../files/secret.json",
        "/runs/%2e%2e/files/secret.json",
        "/runs/..%2f/files/secret.json",
        "/runs/%2E/files/secret.json",
        "/runs/houses%2f..%2f..%2f/files/secret.json",
    ] {
        let reply = studio.get(path);
        assert!(reply.status == 404 && reply.body != b"{}", "{path}: {}", reply.status);
    }
    let file = studio.get("/runs/houses/files/model/model.json");
    assert_eq!(file.status, 200);
    assert!(file.head.to_lowercase().contains("sandbox"), "{}", file.head);
}

#[test]
fn only_our_own_pages_act() {
    let place = trained();
    place.write("houses.toml", HOUSES);
    let studio = Studio::open(&place);
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let token = studio.token();
    assert_eq!(token.len(), 64);
    for (headers, body) in [
        (form.to_owned(), "recipe=file%3Ahouses.toml".to_owned()),
        (form.to_owned(), "recipe=file%3Ahouses.toml&token=".to_owned()),
        (form.to_owned(), format!("recipe=file%3Ahouses.toml&token={}", "0".repeat(64))),
        (format!("{form}X-Studio-Token: wrong\r\n"), "recipe=file%3Ahouses.toml".to_owned()),
        (
            format!("{form}Origin: http://evil.example\r\n"),
            format!("recipe=file%3Ahouses.toml&token={token}"),
        ),
        (format!("{form}Host: evil.example\r\n"), format!("recipe=file%3Ahouses.toml&token={token}")),
        (format!("{form}X-Forwarded-For: 1.2.3.4\r\n"), format!("recipe=file%3Ahouses.toml&token={token}")),
    ] {
        for path in ["/start", "/runs/houses/try", "/runs/houses/pause"] {
            assert_eq!(studio.ask("POST", path, &headers, &body).status, 403, "{path} {headers} {body}");
        }
    }
    // Who may not act is told no secret.
    let page = text(studio.ask("GET", "/runs/houses", "Host: evil.example\r\n", ""));
    assert!(page.contains("data-token=\"\"") && !page.contains(&token), "{page}");
    assert_eq!(studio.ask("GET", "/start", "Host: evil.example\r\n", "").status, 403);
    assert_eq!(studio.ask("DELETE", "/runs/houses", "", "").status, 405);
    assert!(!place.exists("runs/houses-2"));
    // A server shows its runs to nobody else at all.
    let server = Served::start(&place, "houses");
    let studio =
        Studio { child: std::process::Command::new("true").spawn().unwrap(), address: server.address };
    assert_eq!(studio.ask("GET", "/", "Host: evil.example\r\n", "").status, 403);
    assert_eq!(studio.ask("GET", "/runs/houses", "X-Forwarded-For: 1.2.3.4\r\n", "").status, 403);
}

/// A recipe that takes a few seconds.
const LONG: &str = r#"name = "long"
task = "regression"

[data]
source = "houses.csv"
target = "price"

[model]
family = "mlp"
hidden = [16]
dropout = 0.1

[train]
epochs = 700
batch = 8
log_every = 10
checkpoint = { every_steps = 1000, keep = 2 }

[evaluate]
bootstrap = 20
plots = false
"#;

#[test]
fn a_run_is_started_paused_and_resumed_from_the_page() {
    let place = Place::new();
    place.write("houses.csv", houses(0..120));
    place.write("long.toml", LONG);
    let studio = Studio::open(&place);
    assert!(studio.page("/start?recipe=file%3Along.toml").contains("name=\"train.epochs\" value=\"700\""));

    let started = studio.post(
        "/start",
        &[
            ("recipe", "file:long.toml"),
            ("do", "start"),
            ("train.epochs", "600"),
            ("train.batch", "8"),
            ("sets", "train.seed=7\n\n"),
        ],
    );
    assert_eq!(started.status, 303, "{started:?}");
    assert!(started.head.to_lowercase().contains("location: /runs/long\r"), "{}", started.head);
    studio.until("long", "running");
    let began = Instant::now();
    while !studio.live("long")["parts"]["live-charts"].as_str().unwrap().contains("<svg") {
        assert!(began.elapsed() < Duration::from_secs(60), "no curve appears");
        sleep(Duration::from_millis(20));
    }
    // Another studio sees the same; and asking twice is asking once.
    let other = Studio::open(&place);
    assert_eq!(studio.post("/runs/long/pause", &[]).status, 303);
    assert_eq!(other.post("/runs/long/pause", &[]).status, 303);
    let paused = other.until("long", "paused");
    assert!(paused["parts"]["live-actions"].as_str().unwrap().contains("/runs/long/resume"));
    let manifest = || RunDir::open(&place.path("runs"), "long").unwrap().manifest().unwrap();
    let (steps, total) = (manifest().steps, manifest().plan.unwrap().steps);
    assert!(steps > 0 && steps < total, "{steps} of {total}");
    assert_eq!(total, 600 * 9);

    assert_eq!(other.post("/runs/long/stop", &[]).status, 303);
    assert_eq!(studio.live("long")["state"], "stopped");
    // The run outlives the studio that went on with it.
    assert_eq!(other.post("/runs/long/resume", &[]).status, 303);
    drop(other);
    studio.until("long", "finished");
    assert_eq!(manifest().plan.unwrap().from, steps);
    assert_eq!(studio.post("/runs/long/pause", &[]).status, 303, "too late, and no harm");

    // As if nothing had happened.
    place.jishi("train long.toml --run straight --set train.epochs=600 --set train.seed=7").ok();
    assert!(place.read("runs/straight/metrics.jsonl") == place.read("runs/long/metrics.jsonl"));
    assert!(
        place.read("runs/straight/model/model.safetensors")
            == place.read("runs/long/model/model.safetensors")
    );
    let compared = studio.page("/compare?run=long&run=straight&run=none");
    assert!(compared.contains("The recipes are the same.") && compared.contains("test rmse"), "{compared}");
    place.refuses("train long.toml --run straight", "there already");
    place.jishi("resume straight").ok();
}

#[test]
fn everything_that_is_wrong_is_said_before_anything_starts() {
    let place = Place::new();
    place.write("houses.csv", houses(0..120));
    place.write("houses.toml", HOUSES);
    let studio = Studio::open(&place);
    let start = |sets: &str| {
        studio.post("/start", &[("recipe", "file:houses.toml"), ("do", "start"), ("sets", sets)])
    };
    let refused = start("train.epochs=0\ntrain.batch=-1");
    assert_eq!(refused.status, 422);
    let page = text(refused);
    assert!(page.contains("Problems found: 2") && page.contains("train.epochs=0\ntrain.batch=-1"), "{page}");
    let page = text(start("data.target=prise"));
    assert!(page.contains("prise") && page.contains("Problems found: 1"), "{page}");
    assert_eq!(studio.post("/start", &[("recipe", "file:../houses.toml"), ("do", "start")]).status, 404);
    assert!(!place.exists("runs") || fs::read_dir(place.path("runs")).unwrap().next().is_none());
    let checked = studio.post("/start", &[("recipe", "file:houses.toml"), ("do", "check")]);
    let (status, page) = (checked.status, text(checked));
    assert!(status == 200 && page.contains("No problem found") && page.contains("Peak memory"), "{page}");
    assert!(!place.exists("runs/houses"));
}

#[test]
fn a_start_that_failed_says_why_and_is_cleared_away() {
    let place = trained();
    let note = r#"{"recipe":"x.toml","sets":[],"process":{"pid":1,"born":"never"}}"#;
    place.write("runs/lost/studio.json", note);
    place.write("runs/lost/train.log", "error: the data is gone\n");
    let studio = Studio::open(&place);
    assert!(studio.page("/").contains("Did not start"));
    assert!(studio.page("/runs/lost").contains("error: the data is gone"));
    assert_eq!(studio.post("/runs/lost/pause", &[]).status, 303, "nothing to pause");
    assert_eq!(studio.post("/runs/houses/clear", &[]).status, 303);
    assert!(place.exists("runs/houses/manifest.json"), "a run is not cleared away");
    assert_eq!(studio.post("/runs/lost/clear", &[]).status, 303);
    assert!(!place.exists("runs/lost"));
    // What can't be noted is not started.
    let mut manifest: Value = serde_json::from_slice(&place.read("runs/houses/manifest.json")).unwrap();
    manifest["status"] = serde_json::json!({ "state": "interrupted", "reason": "asked to stop" });
    place.write("runs/houses/manifest.json", manifest.to_string());
    fs::create_dir(place.path("runs/houses/studio.json")).unwrap();
    let failed = studio.post("/runs/houses/resume", &[]);
    assert_eq!(failed.status, 500);
    assert!(text(failed).contains("That did not work"));
    assert!(!place.exists("runs/houses/train.log"));
}

#[test]
fn a_run_may_vanish_or_be_broken_while_it_is_shown() {
    let place = trained();
    let studio = Studio::open(&place);
    let mut log = place.read("runs/houses/metrics.jsonl");
    log.extend_from_slice(b"{\"step\": 3, \"epo\nnot json at all\n{\"step\":");
    place.write("runs/houses/metrics.jsonl", log);
    let page = studio.page("/runs/houses");
    assert!(page.contains("2 damaged lines") && page.contains("<svg"), "{page}");
    place.write("runs/houses/manifest.json", "{ half");
    assert_eq!(studio.live("houses")["state"], "unreadable");
    assert!(studio.page("/").contains("Unreadable") && studio.page("/runs/houses").contains("Unreadable"));
    fs::remove_dir_all(place.path("runs/houses")).unwrap();
    let live = studio.get("/runs/houses/live");
    assert_eq!((live.status, live.json()["gone"].as_bool()), (404, Some(true)));
    assert_eq!(studio.get("/runs/houses").status, 404);
    fs::remove_dir_all(place.path("runs")).unwrap();
    assert!(studio.page("/").contains("No runs yet"));
}

#[test]
fn a_model_is_tried_with_the_answer_of_predict() {
    let place = trained();
    let studio = Studio::open(&place);
    let page = studio.page("/runs/houses/try");
    for part in ["name=\"x:area\"", "<option value=\"north\"", "type=\"date\"", "give or take"] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    place.write("one.csv", "area,rooms,quarter,garden,built\n120,4,north,yes,1999-05-05\n");
    let expected =
        place.json("predict houses --input one.csv")["predictions"][0]["prediction"].as_f64().unwrap();
    let row = [
        ("x:area", "120"),
        ("x:rooms", "4"),
        ("x:quarter", "north"),
        ("x:garden", "yes"),
        ("x:built", "1999-05-05"),
    ];
    let page = text(studio.post("/runs/houses/try", &row));
    assert!(
        page.contains(&format!("<div class=\"told\">{}</div>", number(expected, 4))),
        "{expected}\n{page}"
    );
    let page = text(studio.post("/runs/houses/try", &[("x:area", "large"), ("x:rooms", "4")]));
    assert!(page.contains("class=\"notice bad\"") && page.contains("value=\"large\""), "{page}");
    // As served.
    let server = Served::start(&place, "houses");
    let served =
        Studio { child: std::process::Command::new("true").spawn().unwrap(), address: server.address };
    let page = text(served.post("/models/houses/try", &row));
    assert!(page.contains(&format!("<div class=\"told\">{}</div>", number(expected, 4))), "{page}");
}

#[test]
fn texts_and_pictures_are_tried_with_the_answers_of_the_command_line() {
    let place = talking();
    images::pictures(&place, "pictures", 12);
    place.write("sides.toml", images::recipe("sides", images::RESNET));
    place.jishi("train sides.toml --set train.epochs=1").ok();
    detection::scenes(&place, 20);
    place.write("boxes.toml", detection::recipe("boxes", detection::YOLO, 2));
    place.jishi("train boxes.toml").ok();
    generation::pictures(&place, "bars", 10, false);
    let bars = generation::recipe("bars", generation::DCGAN, "").replace("\"pictures\"", "\"bars\"");
    place.write("bars.toml", bars);
    place.jishi("train bars.toml --set train.epochs=1").ok();
    let studio = Studio::open(&place);
    let script = format!("X-Studio-Token: {}\r\n", studio.token());

    let written = place.json("generate talk --prompt send_3: --seed 5 --max-tokens 12 --temperature 0.7");
    let body = r#"{"prompt":"send_3:","seed":5,"max_tokens":12,"temperature":0.7,"stream":true}"#;
    let json = format!("{script}Content-Type: application/json\r\n");
    let stream = text(studio.ask("POST", "/runs/talk/try/text", &json, body));
    let pieces = stream.lines().filter_map(|l| l.strip_prefix("data: ")).filter(|l| *l != "[DONE]");
    let pieces = pieces.map(|l| serde_json::from_str::<Value>(l).unwrap());
    let told: String = pieces.map(|p| p["choices"][0]["text"].as_str().unwrap().to_owned()).collect();
    assert_eq!(told, written["text"].as_str().unwrap());
    let refused = studio.ask("POST", "/runs/talk/try/text", &json, r#"{"prompt":"a","temperature":99}"#);
    assert!(
        refused.status == 400 && refused.json()["error"]["message"].as_str().unwrap().contains("temperature")
    );
    assert_eq!(
        studio.ask("POST", "/runs/talk/try/text", "Content-Type: application/json\r\n", body).status,
        403
    );

    let ask = |run: &str, file: &[u8]| {
        let head = format!("{script}Content-Type: image/png\r\n");
        studio.send("POST", &format!("/runs/{run}/try/image"), &head, file)
    };
    let predicted = |run: &str, file: &[u8]| {
        place.write("new/a.png", file);
        place.json(&format!("predict {run} --input new"))["predictions"].clone()
    };
    let side = images::png(1, 99, 12);
    let (told, mut expected) = (ask("sides", &side).ok(), predicted("sides", &side));
    expected[0].as_object_mut().unwrap().remove("image");
    assert_eq!(told["predictions"], expected);
    let scene = detection::png(77);
    let (told, mut expected) = (ask("boxes", &scene).ok(), predicted("boxes", &scene));
    for object in expected.as_array_mut().unwrap() {
        object.as_object_mut().unwrap().remove("image");
    }
    assert_eq!(told["predictions"][0]["objects"], expected);
    for run in ["sides", "boxes"] {
        let refused = ask(run, b"<svg></svg>");
        assert!(refused.status == 400, "{run}: {}", text(refused));
    }

    place.jishi("generate bars --count 9 --seed 3 --output grid.png").ok();
    assert!(studio.page("/runs/bars/try?seed=3&count=9").contains("/runs/bars/grid.png?seed=3&amp;count=9"));
    let grid = studio.get("/runs/bars/grid.png?seed=3&count=9");
    assert!(grid.status == 200 && grid.body == place.read("grid.png"));
    assert_eq!(studio.get("/runs/sides/grid.png").status, 400);
    let elsewhere = studio.ask("GET", "/runs/bars/grid.png", "Sec-Fetch-Site: cross-site\r\n", "");
    assert_eq!(elsewhere.status, 404);
}
