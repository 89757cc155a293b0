//! `jishi serve`, over its socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::place::{HOUSES, Place, houses, trained};

/// A server that ends with its test.
pub struct Served {
    child: Child,
    pub address: SocketAddr,
    pub milliseconds: u64,
}

/// What a server answered.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    #[track_caller]
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }

    /// A refusal of this status, with these words, in the one form of errors.
    #[track_caller]
    pub fn refused(&self, status: u16, words: &str) {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "{text}");
        let error = &self.json()["error"];
        assert!(error["message"].as_str().unwrap().contains(words), "{text}");
        assert!(error["type"].is_string() && error["code"].is_string(), "{text}");
        assert!(!text.contains("/tmp") && !text.contains("runs/") && !text.contains(".jsonl"), "{text}");
    }
}

impl Served {
    pub fn start(place: &Place, line: &str) -> Self {
        Self::start_with(place, line, &[])
    }

    pub fn start_with(place: &Place, line: &str, environment: &[(&str, &str)]) -> Self {
        let mut words = vec!["serve", "--json", "--listen", "127.0.0.1:0"];
        words.extend(line.split_whitespace());
        let mut command = place.command(&words);
        command.envs(environment.iter().copied());
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let mut errors = child.stderr.take().unwrap();
        let Ok(said) = serde_json::from_str::<Value>(&line) else {
            let mut text = String::new();
            errors.read_to_string(&mut text).unwrap();
            panic!("{words:?}: {line}{text}");
        };
        // Nobody reads what it says from here on, but it must be able to say it.
        std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
        let address = said["address"].as_str().unwrap().split_once("://").unwrap().1.parse().unwrap();
        Self { child, address, milliseconds: said["milliseconds"].as_u64().unwrap() }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    pub fn ask(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> Reply {
        self.ask_with(method, path, &[("Content-Type", kind)], body)
    }

    pub fn ask_with(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut stream = self.connect();
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        // A server that refuses by the head alone may have closed already.
        let _ = stream.write_all(body);
        reply(stream)
    }

    pub fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, "application/json", b"")
    }

    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.ask("POST", path, "application/json", body.to_string().as_bytes())
    }

    /// As [`Self::post`], with a key.
    pub fn post_with(&self, key: &str, path: &str, body: &Value) -> Reply {
        let key = format!("Bearer {key}");
        let headers = [("Content-Type", "application/json"), ("Authorization", &*key)];
        self.ask_with("POST", path, &headers, body.to_string().as_bytes())
    }

    /// As [`Self::get`], with a key.
    pub fn get_with(&self, key: &str, path: &str) -> Reply {
        self.ask_with("GET", path, &[("Authorization", &format!("Bearer {key}"))], b"")
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// The value of a line of `/metrics`.
    #[track_caller]
    pub fn metric(&self, sample: &str) -> f64 {
        let text = String::from_utf8(self.get("/metrics").body).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {sample} in {text}")).parse().unwrap()
    }

    /// Tells it to end; gives its exit code and how long it took.
    pub fn end(mut self) -> (Option<i32>, Duration) {
        let started = Instant::now();
        self.signal("-TERM");
        (self.child.wait().unwrap().code(), started.elapsed())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads to the end of the connection.
pub fn reply(mut stream: TcpStream) -> Reply {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    let at = all.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or_else(|| {
        panic!("no answer: {}", String::from_utf8_lossy(&all));
    });
    let head = String::from_utf8(all[..at].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let rest = &all[at + 4..];
    let body = if head.to_lowercase().contains("transfer-encoding: chunked") {
        unchunked(rest)
    } else {
        rest.to_vec()
    };
    Reply { status, head, body }
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap().trim(), 16).unwrap();
        if size == 0 {
            break;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 2 + size + 2..];
    }
    body
}

pub fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let n = chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let letter = LETTERS[(n >> (18 - 6 * i) & 63) as usize] as char;
            out.push(if i <= chunk.len() { letter } else { '=' });
        }
    }
    out
}

/// Rows of [`houses`] as objects, without the price.
pub fn rows(range: std::ops::Range<usize>) -> Vec<Value> {
    let csv = houses(range);
    let mut lines = csv.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let row = |line: &str| {
        let pairs = names.iter().zip(line.split(',')).filter(|(name, _)| **name != "price");
        let value = |name: &str, text: &str| match (name, text) {
            (_, "") => Value::Null,
            ("area" | "rooms", text) => json!(text.parse::<u64>().unwrap()),
            (_, text) => json!(text),
        };
        Value::Object(pairs.map(|(name, text)| ((*name).to_owned(), value(name, text))).collect())
    };
    lines.map(row).collect()
}

fn jsonl(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

#[test]
fn rows_are_predicted_as_on_the_command_line() {
    let place = trained();
    let rows = rows(200..240);
    place.write("new.jsonl", jsonl(&rows));
    let expected = place.json("predict houses --input new.jsonl")["predictions"].clone();
    let server = Served::start(&place, "houses");
    eprintln!("ready after {} ms", server.milliseconds);
    assert_eq!(server.get("/healthz").ok()["status"], "ok");
    assert_eq!(server.get("/readyz").ok()["status"], "ready");

    let all = server.post("/v1/models/houses/predict", &json!({ "inputs": rows })).ok();
    assert_eq!(all["predictions"], expected);
    let version = all["version"].as_str().unwrap();
    // One row at a time, from several clients at the same time: whatever batches they fall into.
    std::thread::scope(|scope| {
        for client in 0..8 {
            let (server, rows, expected) = (&server, &rows, &expected);
            scope.spawn(move || {
                for i in (client..rows.len()).step_by(8) {
                    let path = format!("/v1/models/houses@{version}/predict");
                    let one = server.post(&path, &json!({ "inputs": [rows[i]] })).ok();
                    assert_eq!(one["predictions"][0], expected[i], "row {i}");
                }
            });
        }
    });

    let list = server.get("/v1/models").ok();
    assert_eq!((list["object"].as_str(), list["data"][0]["id"].as_str()), (Some("list"), Some("houses")));
    let model = server.get("/v1/models/houses").ok();
    assert_eq!((model["version"].as_str(), model["task"].as_str()), (Some(version), Some("regression")));
    let items = &model["inputs"]["properties"]["inputs"]["items"];
    assert_eq!(items["properties"]["area"]["anyOf"][0]["type"], "number");
    assert_eq!(items["properties"]["area"]["anyOf"][2]["enum"], json!([null, ""]));
    assert_eq!(items["required"].as_array().unwrap().len(), 5);
    assert_eq!(model["outputs"][0]["name"], "prediction");
    let described = server.get("/openapi.json").ok();
    let body = &described["paths"]["/v1/models/houses/predict"]["post"]["requestBody"]["content"];
    assert_eq!(body["application/json"]["schema"], model["inputs"]);
    let page = server.get("/docs");
    let text = String::from_utf8(page.body.clone()).unwrap();
    assert!(page.status == 200 && text.contains("/v1/models/houses/predict"), "{text}");
    // Nothing of it comes from elsewhere, and nothing runs.
    assert!(!text.contains("<script") && !text.contains("http:") && !text.contains("https:"), "{text}");

    let (code, took) = server.end();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn rows_of_every_family_do_not_depend_on_those_beside_them() {
    const FAMILIES: [(&str, &str); 4] = [
        ("plain", "family = \"mlp\"\nhidden = [24, 24]"),
        (
            "ensemble",
            "family = \"mlp\"\nhidden = [24]\nmembers = 4\nnumbers = { embedding = \"piecewise-linear\", width = 3, bins = 4 }",
        ),
        ("norms", "family = \"mlp\"\nhidden = [24, 24]\nnorm = \"layer\"\nresidual = true"),
        ("tokens", "family = \"ft-transformer\"\nlayers = 1\nwidth = 16\nheads = 2"),
    ];
    let place = Place::new();
    place.write("houses.csv", houses(0..120));
    let rows = rows(200..240);
    place.write("new.jsonl", jsonl(&rows));
    for (name, model) in FAMILIES {
        let recipe = HOUSES.replace("name = \"houses\"", &format!("name = \"{name}\""));
        place.write("it.toml", recipe.replace("family = \"linear\"", model));
        place.jishi("train it.toml --set train.epochs=1").ok();
    }
    let server = Served::start(&place, "plain ensemble norms tokens");
    for (name, _) in FAMILIES {
        let expected = place.json(&format!("predict {name} --input new.jsonl"))["predictions"].clone();
        let path = format!("/v1/models/{name}/predict");
        for size in [40, 1, 3, 7] {
            for (i, part) in rows.chunks(size).enumerate() {
                let said = server.post(&path, &json!({ "inputs": part })).ok();
                for (j, found) in said["predictions"].as_array().unwrap().iter().enumerate() {
                    assert_eq!(*found, expected[i * size + j], "{name}: row {j} of {}", part.len());
                }
            }
        }
    }
}

#[test]
fn what_is_wrong_with_a_request_is_said() {
    let place = trained();
    let server = Served::start(&place, "houses --max-body 20000 --max-rows 10");
    let path = "/v1/models/houses/predict";
    let row = rows(0..1).remove(0);
    let with = |key: &str, value: Value| {
        let mut row = row.clone();
        row[key] = value;
        json!({ "inputs": [row] })
    };
    let ask = |body: &str| server.ask("POST", path, "application/json", body.as_bytes());
    ask("{\"inputs\": [").refused(400, "not JSON");
    ask("").refused(400, "not JSON");
    ask("[1]").refused(400, "not what is expected");
    ask("{}").refused(400, "missing field `inputs`");
    ask("{\"inputs\": []}").refused(400, "nothing to predict");
    ask("{\"inputs\": [], \"more\": 1}").refused(400, "unknown field `more`");
    ask("{\"inputs\": [3]}").refused(400, "`inputs[0]`: expected an object");
    ask("{\"inputs\": [{\"area\": 1, \"area\": 2}]}").refused(400, "column `rooms` is missing");
    server.ask("POST", path, "application/json", b"{\"inputs\": [\"\xff\"]}").refused(400, "");
    ask(&"[".repeat(5000)).refused(400, "not");
    server.post(path, &with("rooms", json!("many"))).refused(400, "row 1");
    server.post(path, &with("rooms", json!([1]))).refused(400, "nested value");
    server.post(path, &with("colour", json!("red"))).refused(400, "`colour` was not in the training data");
    server.post(path, &json!({ "inputs": vec![row.clone(); 11] })).refused(400, "at most 10 inputs");
    server.post(path, &json!({ "inputs": ["x".repeat(30_000)] })).refused(413, "larger than 20000 bytes");
    server.ask("POST", path, "text/plain", b"{}").refused(415, "application/json");
    server.ask("POST", path, "image/png", b"x").refused(415, "no images");
    server.post("/v1/models/castles/predict", &json!({})).refused(404, "no model `castles`");
    server.post("/v1/models/houses@000/predict", &json!({})).refused(404, "no model `houses@000`");
    server.get("/v1/models/%ff").refused(404, "nothing");
    server.get("/etc/passwd").refused(404, "nothing at this path");
    server.get(path).refused(405, "method");
    server.post("/v1/completions", &json!({ "model": "houses", "prompt": "x" })).refused(400, "no text");
    server.post("/v1/embeddings", &json!({ "model": "houses", "input": "x" })).refused(400, "no vectors");

    // A page of elsewhere.
    let mut stream = server.connect();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {}\r\nOrigin: http://elsewhere.example\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}",
        server.address
    );
    stream.write_all(head.as_bytes()).unwrap();
    reply(stream).refused(403, "another origin");
    // No HTTP at all, and a head without an end.
    for bytes in [&b"\x16\x03\x01\x02\x00\x01\x00"[..], &[b'a'; 100_000]] {
        let mut stream = server.connect();
        let _ = stream.write_all(bytes);
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        assert!(all.is_empty() || all.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&all));
    }
    // After all of that it answers as before.
    server.post(path, &json!({ "inputs": [row] })).ok();
}

#[test]
fn slow_clients_and_lost_ones_hold_up_nobody() {
    let place = trained();
    let server = Served::start(&place, "houses --arrival-timeout 1");
    let path = "/v1/models/houses/predict";
    let mut slow = server.connect();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{\"in"
    );
    slow.write_all(head.as_bytes()).unwrap();
    let mut silent = server.connect();
    silent.write_all(b"POST /v1/mod").unwrap();
    // One that leaves in the middle of its body.
    let mut lost = server.connect();
    lost.write_all(head.as_bytes()).unwrap();
    drop(lost);
    server.post(path, &json!({ "inputs": rows(0..2) })).ok();
    let started = Instant::now();
    let mut all = Vec::new();
    slow.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut buffer = [0; 1024];
    let read = slow.read(&mut buffer).unwrap();
    all.extend_from_slice(&buffer[..read]);
    assert!(all.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&all));
    silent.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut rest = Vec::new();
    let _ = silent.read_to_end(&mut rest);
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn two_servers_on_one_port_and_models_that_are_not_there() {
    let place = trained();
    let server = Served::start(&place, "houses");
    let line = format!("serve houses --listen {}", server.address);
    let refused = place.jishi(&line).refused().stderr;
    assert!(refused.contains("another program listens at 127.0.0.1:"), "{refused}");
    assert!(refused.contains("help: end it, or listen elsewhere: `--listen 127.0.0.1:"), "{refused}");
    let refused = place.jishi("serve castles --listen 127.0.0.1:0");
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("castles"), "{}", refused.stderr);
    let weights = place.read("runs/houses/model/model.safetensors");
    place.write("runs/houses/model/model.safetensors", &weights[..weights.len() - 1]);
    let refused = place.jishi("serve houses --listen 127.0.0.1:0");
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("model.safetensors"), "{}", refused.stderr);
    // The one that runs has what it needs.
    server.post("/v1/models/houses/predict", &json!({ "inputs": rows(0..1) })).ok();
}
