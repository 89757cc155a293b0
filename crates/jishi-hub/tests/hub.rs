//! A hub of our own, on this machine, that answers as the real one does.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use jishi_hub::remote::{Name, Settings, fetch};
use jishi_hub::{About, Dtype, Resolved, folder};
use jishi_runs::{TensorEntry, TensorFile};
use serde_json::json;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Files by name, and the requests that were made.
struct Hub {
    files: BTreeMap<String, Vec<u8>>,
    asked: Mutex<Vec<String>>,
}

fn serve(files: BTreeMap<String, Vec<u8>>) -> (Arc<Hub>, String) {
    let hub = Arc::new(Hub { files, asked: Mutex::default() });
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let shared = Arc::clone(&hub);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let hub = Arc::clone(&shared);
            std::thread::spawn(move || answer(&hub, stream));
        }
    });
    (hub, address)
}

fn answer(hub: &Hub, mut stream: TcpStream) {
    let mut lines =
        BufReader::new(stream.try_clone().expect("a second handle")).lines().map_while(Result::ok);
    let first = lines.next().unwrap_or_default();
    let path = first.split(' ').nth(1).unwrap_or_default().to_string();
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let token = headers.iter().any(|h| h.eq_ignore_ascii_case("authorization: Bearer secret"));
    hub.asked.lock().expect("no panic").push(path.clone());
    let siblings: Vec<_> = hub.files.keys().map(|f| json!({"rfilename": f})).collect();
    let info = json!({"sha": COMMIT, "siblings": siblings}).to_string().into_bytes();
    let file = path.strip_prefix("/org/model/resolve/main/").and_then(|f| hub.files.get(f));
    let reply = match (token, path.as_str(), file) {
        (false, _, _) => (401, &b"no"[..]),
        (_, "/api/models/org/model/revision/main" | "/api/models/org/model", _) => (200, &info[..]),
        (_, _, Some(bytes)) => (206, &bytes[..]),
        _ => (404, &b"no"[..]),
    };
    let range =
        headers.iter().find_map(|h| h.to_ascii_lowercase().strip_prefix("range: bytes=").map(String::from));
    let whole = reply.1.len();
    let body = match range.as_deref() {
        Some("0-0") => &reply.1[..whole.min(1)],
        _ => reply.1,
    };
    let head = format!(
        "HTTP/1.1 {} X\r\ncontent-length: {}\r\ncontent-range: bytes 0-{}/{whole}\r\netag: \"e{:x}\"\r\n\
         x-repo-commit: {COMMIT}\r\nconnection: close\r\n\r\n",
        reply.0,
        body.len(),
        body.len().saturating_sub(1),
        path.len() * 7 + whole,
    );
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

fn model_files() -> BTreeMap<String, Vec<u8>> {
    let dir = tempfile::tempdir().expect("a folder");
    let about = About {
        config: json!({"model_type": "gpt2", "n_embd": 2}),
        tokenizer_json: Some(b"{}".to_vec()),
        ..About::default()
    };
    let tensors =
        vec![TensorEntry { name: "transformer.wte.weight".into(), shape: vec![1, 2], data: vec![1.5, -2.0] }];
    folder::write(dir.path(), &about, &TensorFile { tensors, ..TensorFile::default() }, Dtype::F32)
        .expect("written");
    let mut files: BTreeMap<String, Vec<u8>> = ["config.json", "model.safetensors", "tokenizer.json"]
        .map(|name| (name.to_string(), std::fs::read(dir.path().join(name)).expect("read")))
        .into();
    files.insert("pytorch_model.bin".into(), b"pickle".to_vec());
    files.insert("modeling_evil.py".into(), b"import os".to_vec());
    files
}

#[test]
fn a_model_is_fetched_once_and_used_offline() {
    let (hub, endpoint) = serve(model_files());
    let dir = tempfile::tempdir().unwrap();
    let name = Name::parse("org/model").unwrap();
    let mut settings =
        Settings { endpoint, cache: dir.path().into(), offline: false, token: Some("secret".into()) };
    let mut said = Vec::new();
    let path = fetch(&name, &settings, &mut |line| said.push(line.to_string())).unwrap();
    let Resolved::Checkpoint(model) = jishi_hub::read(&path).unwrap() else { panic!("not a run") };
    assert_eq!(model.tensors.read("transformer.wte.weight").unwrap(), [1.5, -2.0]);
    assert_eq!(said.len(), 3, "{said:?}");
    let asked = hub.asked.lock().unwrap().join(" ");
    assert!(
        asked.contains("model.safetensors") && !asked.contains(".bin") && !asked.contains(".py"),
        "{asked}"
    );

    settings.offline = true;
    assert_eq!(fetch(&name, &settings, &mut |_| {}).unwrap(), path);
    let other = Name::parse("org/other").unwrap();
    let error = fetch(&other, &settings, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("HF_HUB_OFFLINE"), "{error}");

    // A hub that is gone: the cache serves.
    settings.offline = false;
    settings.endpoint = "http://127.0.0.1:1".into();
    assert_eq!(fetch(&name, &settings, &mut |_| {}).unwrap(), path);
    let error = fetch(&other, &settings, &mut |_| {}).unwrap_err();
    for word in ["http://127.0.0.1:1", "HF_ENDPOINT", "HF_HUB_OFFLINE", "folder"] {
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn refusals_say_what_to_do() {
    let (_, endpoint) = serve(BTreeMap::new());
    let dir = tempfile::tempdir().unwrap();
    let mut settings = Settings { endpoint, cache: dir.path().into(), offline: false, token: None };
    let error = |name: &str, settings: &Settings| {
        fetch(&Name::parse(name).unwrap(), settings, &mut |_| {}).unwrap_err().to_string()
    };
    assert!(error("org/model", &settings).contains("HF_TOKEN"));
    settings.token = Some("secret".into());
    assert!(error("org/other", &settings).contains("has no model"));
    assert!(error("org/model", &settings).contains("no weights"));
    settings.endpoint = "nonsense".into();
    assert!(error("org/model", &settings).contains("HF_ENDPOINT"));
}
