//! `jishi serve` with models of texts and images.

use std::io::{BufRead, BufReader, Read, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::images::{RESNET, pictures, png, recipe};
use crate::place::Place;
use crate::serve::{Reply, Served, base64};
use crate::serve_keys::until;
use crate::texts::{RECIPE, messages};

#[test]
fn images_are_predicted_as_on_the_command_line() {
    let place = Place::new();
    pictures(&place, "pictures", 12);
    place.write("sides.toml", recipe("sides", RESNET));
    place.jishi("train sides.toml --set train.epochs=2").ok();
    for i in 0..6 {
        place.write(&format!("new/{i}.png"), png(i % 3, 100 + i, 12 + 3 * i));
    }
    let mut expected = place.json("predict sides --input new")["predictions"].clone();
    let expected: Vec<Value> = expected
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .map(|row| {
            row.as_object_mut().unwrap().remove("image").unwrap();
            row.clone()
        })
        .collect();
    let server = Served::start(&place, "sides");
    let path = "/v1/models/sides/predict";
    let file = |i: usize| place.read(&format!("new/{i}.png"));
    let encoded = |i: usize| json!({ "image": base64(&file(i)) });
    let all: Vec<Value> = (0..6).map(encoded).collect();
    assert_eq!(server.post(path, &json!({ "inputs": all })).ok()["predictions"], json!(expected));
    std::thread::scope(|scope| {
        for (i, expected) in expected.iter().enumerate() {
            let (server, file) = (&server, file(i));
            scope.spawn(move || {
                let one = server.ask("POST", path, "image/png", &file).ok();
                assert_eq!(one["predictions"][0], *expected, "{i}");
                let url = format!("data:image/png;base64,{}", base64(&file));
                let one = server.post(path, &json!({ "inputs": [url] })).ok();
                assert_eq!(one["predictions"][0], *expected, "{i}");
            });
        }
    });
    // Several files of a form.
    let mut form = Vec::new();
    for i in 0..6 {
        form.extend_from_slice(
            b"--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x.png\"\r\n\r\n",
        );
        form.extend_from_slice(&file(i));
        form.extend_from_slice(b"\r\n");
    }
    form.extend_from_slice(b"--b--\r\n");
    let kind = "multipart/form-data; boundary=b";
    assert_eq!(server.ask("POST", path, kind, &form).ok()["predictions"], json!(expected));
    server.ask("POST", path, kind, &form[..form.len() - 20]).refused(400, "cut short");
    server.ask("POST", path, "multipart/form-data", &form).refused(400, "boundary");
    server
        .post(path, &json!({ "inputs": ["?"] }))
        .refused(400, "`inputs[0]`: expected an image file in base64");
    server.post(path, &json!({ "inputs": [base64(b"<svg></svg>")] })).refused(400, "SVG");
    server.ask("POST", path, "image/png", &file(0)[..40]).refused(400, "");
    // A file that claims 60,000 × 60,000 pixels.
    let mut huge = file(0);
    huge[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    server.ask("POST", path, "image/png", &huge).refused(400, "");
}

#[test]
fn texts_are_predicted_as_on_the_command_line() {
    let place = Place::new();
    place.write("messages.csv", messages(0..120));
    place.write("messages.toml", RECIPE);
    place.jishi("train messages.toml --set train.epochs=5").ok();
    let pairs = RECIPE.replace("name = \"messages\"", "name = \"vectors\"");
    let pairs = pairs.replace("text-classification", "text-embedding");
    let pairs =
        pairs.replace("validation = 0.1, test = 0.2, by = \"stratified\"", "validation = 0.1, test = 0.2");
    place.write("vectors.toml", pairs.replace("epochs = 40", "epochs = 2"));
    place.jishi("train vectors.toml").ok();
    // Of very different lengths, so that they stand in different batches with different padding.
    let texts: Vec<String> = (0..24)
        .map(|i| {
            "the goal was left at school with a guitar and an invoice ".repeat(3)[..9 + 5 * (i * 7 % 24)]
                .to_owned()
        })
        .collect();
    let lines: String = texts.iter().map(|text| format!("{}\n", json!({ "text": text }))).collect();
    place.write("new.jsonl", lines);
    let server = Served::start(&place, "messages vectors sorted=runs/messages");
    for name in ["messages", "vectors"] {
        let expected = place.json(&format!("predict {name} --input new.jsonl"))["predictions"].clone();
        let path = format!("/v1/models/{name}/predict");
        assert_eq!(server.post(&path, &json!({ "inputs": texts })).ok()["predictions"], expected);
        std::thread::scope(|scope| {
            for client in 0..6 {
                let (server, texts, expected, path) = (&server, &texts, &expected, &path);
                scope.spawn(move || {
                    for i in (client..texts.len()).step_by(6) {
                        let input = if i % 2 == 0 { json!(texts[i]) } else { json!({ "text": texts[i] }) };
                        let one = server.post(path, &json!({ "inputs": [input] })).ok();
                        assert_eq!(one["predictions"][0], expected[i], "{name} {i}");
                    }
                });
            }
        });
    }
    assert_eq!(server.get("/v1/models").ok()["data"].as_array().unwrap().len(), 3);
    let path = "/v1/models/sorted/predict";
    server.post(path, &json!({ "inputs": ["a goal", " "] })).refused(400, "`inputs[1]`: there is no text");
    server.post(path, &json!({ "inputs": [{ "txet": "x" }] })).refused(400, "an object with `text`");
    server.post(path, &json!({ "inputs": ["x".repeat(2 << 20)] })).refused(400, "at most 1048576 bytes");

    let vectors = place.json("predict vectors --input new.jsonl")["predictions"].clone();
    let ask = |more: Value| {
        let mut body = json!({ "model": "vectors", "input": texts });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.post("/v1/embeddings", &body)
    };
    let plain = ask(json!({})).ok();
    assert_eq!(plain["data"].as_array().unwrap().len(), texts.len());
    assert!(plain["usage"]["prompt_tokens"].as_u64().unwrap() > 24);
    let encoded = ask(json!({ "encoding_format": "base64" })).ok();
    for i in 0..texts.len() {
        assert_eq!(plain["data"][i]["embedding"], vectors[i]["embedding"]);
        let numbers: Vec<f32> =
            vectors[i]["embedding"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect();
        let bytes: Vec<u8> = numbers.iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(encoded["data"][i]["embedding"], base64(&bytes));
    }
    ask(json!({ "dimensions": 3 })).refused(400, "`dimensions`");
    ask(json!({ "encoding_format": "int" })).refused(400, "`encoding_format`");
    ask(json!({ "input": [1, 2] })).refused(400, "`input[0]`");
    ask(json!({ "model": "messages" })).refused(400, "no vectors");
}

const TALK: &str = r#"name = "talk"
task = "causal-lm"

[data]
source = "talk.jsonl"
split = { validation = 0.0, test = 0.0 }

[tokenizer]
kind = "byte"

[model]
family = "gpt2"
layers = 2
heads = 2
width = 32
context = 256

[train]
optimizer = { name = "adamw", learning_rate = 5e-3 }
steps = 60
batch = 8

[generate]
temperature = 0.8
max_tokens = 24
"#;

/// A copy of a place with a run that writes, and with the same as a folder that has a template of conversations.
pub fn talking() -> Place {
    static TRAINED: OnceLock<Place> = OnceLock::new();
    let original = TRAINED.get_or_init(|| {
        let place = Place::new();
        let mut talk = String::new();
        for i in 0..60 {
            let ask = format!("{} {i}:", ["send", "open", "call"][i % 3]);
            talk += &format!("{{\"text\": \"{ask} {} — é\"}}\n", ["gladly", "never"][i / 3 % 2]);
        }
        place.write("talk.jsonl", talk);
        place.write("talk.toml", TALK);
        place.jishi("train talk.toml").ok();
        place.jishi("export talk --format safetensors --out chatty").ok();
        place.write(
            "chatty/chat_template.jinja",
            "{% for m in messages %}{{ m.role }} {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}call 7:{% endif %}",
        );
        place
    });
    let copy = Place::new();
    for name in original.files() {
        copy.write(&name, original.read(&name));
    }
    copy
}

/// What `jishi generate` says.
fn generated(place: &Place, words: &[&str]) -> Value {
    let words = [&["generate"], words, &["--json"]].concat();
    place.run(&words).ok().json()
}

/// The documents of a stream; it must have ended as one does.
fn events(reply: &Reply) -> Vec<Value> {
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(reply.head.to_lowercase().contains("content-type: text/event-stream"), "{}", reply.head);
    let text = String::from_utf8(reply.body.clone()).unwrap();
    let mut lines: Vec<&str> = text.split("\n\n").filter(|l| !l.is_empty()).collect();
    assert_eq!(lines.pop(), Some("data: [DONE]"));
    lines.iter().map(|line| serde_json::from_str(line.strip_prefix("data: ").unwrap()).unwrap()).collect()
}

#[test]
fn text_is_that_of_the_command_line() {
    let place = talking();
    let server = Served::start(&place, "talk chatty=./chatty");
    let cases: Vec<(String, u64, Vec<&str>, Value)> = (0..12)
        .map(|i| {
            let prompt =
                ["call 7:", "send", "o", "open 31: never — é", "ask something else, at length"][i % 5];
            let (words, body) = match i % 4 {
                0 => (vec![], json!({})),
                1 => (vec!["--temperature", "0"], json!({ "temperature": 0 })),
                2 => (
                    vec!["--temperature", "1.2", "--top-p", "0.9", "--max-tokens", "40"],
                    json!({ "temperature": 1.2, "top_p": 0.9, "max_tokens": 40 }),
                ),
                _ => (
                    vec!["--stop", "e", "--stop", "ly", "--repetition-penalty", "1.3"],
                    json!({ "stop": ["e", "ly"], "repetition_penalty": 1.3 }),
                ),
            };
            (prompt.to_owned(), 7 + i as u64, words, body)
        })
        .collect();
    std::thread::scope(|scope| {
        for (prompt, seed, words, more) in &cases {
            let (place, server) = (&place, &server);
            scope.spawn(move || {
                let number = seed.to_string();
                let all = [&["talk", "--prompt", prompt, "--seed", &number], words.as_slice()].concat();
                let expected = generated(place, &all);
                let mut body = json!({ "model": "talk", "prompt": prompt, "seed": seed });
                body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
                let said = server.post("/v1/completions", &body).ok();
                let choice = &said["choices"][0];
                assert_eq!(choice["text"], expected["text"], "{body}");
                assert_eq!(choice["finish_reason"], expected["finish"], "{body}");
                assert_eq!(said["usage"]["completion_tokens"], expected["tokens"], "{body}");
                assert_eq!(
                    (said["object"].as_str(), said["model"].as_str()),
                    (Some("text_completion"), Some("talk"))
                );
                // The same in pieces.
                body["stream"] = true.into();
                body["stream_options"] = json!({ "include_usage": true });
                let parts = events(&server.post("/v1/completions", &body));
                let text: String = parts.iter().filter_map(|p| p["choices"][0]["text"].as_str()).collect();
                assert_eq!(text, expected["text"].as_str().unwrap());
                assert_eq!(parts.last().unwrap()["usage"], said["usage"]);
                let reasons: Vec<&str> =
                    parts.iter().filter_map(|p| p["choices"][0]["finish_reason"].as_str()).collect();
                assert_eq!(reasons, [expected["finish"].as_str().unwrap()]);
            });
        }
    });

    // Several prompts with several answers each; the first is that of the seed.
    let body = json!({ "model": "talk", "prompt": ["call", [100, 101]], "n": 3, "seed": 5, "max_tokens": 9 });
    let said = server.post("/v1/completions", &body).ok();
    let texts: Vec<&str> =
        said["choices"].as_array().unwrap().iter().map(|c| c["text"].as_str().unwrap()).collect();
    assert_eq!(texts.len(), 6);
    for (choice, seed) in [(0, "5"), (1, "6"), (2, "7")] {
        let expected = generated(&place, &["talk", "--prompt", "call", "--seed", seed, "--max-tokens", "9"]);
        assert_eq!(texts[choice], expected["text"]);
    }

    // Log-probabilities, and a schema.
    let expected =
        generated(&place, &["talk", "--prompt", "call", "--log-probabilities", "2", "--seed", "3"]);
    let body = json!({ "model": "talk", "prompt": "call", "logprobs": 2, "seed": 3 });
    let told = &server.post("/v1/completions", &body).ok()["choices"][0]["logprobs"];
    let own: Vec<&Value> =
        expected["log_probabilities"].as_array().unwrap().iter().map(|p| &p["log_probability"]).collect();
    assert_eq!(told["token_logprobs"].as_array().unwrap().iter().collect::<Vec<_>>(), own);
    assert_eq!(told["top_logprobs"][0].as_object().unwrap().len(), 2);
    let schema = json!({ "type": "object", "properties": { "n": { "type": "integer", "minimum": 0, "maximum": 99 } }, "required": ["n"], "additionalProperties": false });
    let body = json!({ "model": "talk", "prompt": "call", "seed": 1, "response_format": {
        "type": "json_schema", "json_schema": { "name": "n", "schema": schema } } });
    let said = server.post("/v1/completions", &body).ok();
    let text = said["choices"][0]["text"].as_str().unwrap();
    assert!(serde_json::from_str::<Value>(text).unwrap()["n"].is_u64(), "{text}");
    let schema = schema.to_string();
    let words = ["talk", "--prompt", "call", "--seed", "1", "--json-schema", &schema];
    assert_eq!(text, generated(&place, &words)["text"].as_str().unwrap());
}

#[test]
fn conversations_go_on_as_on_the_command_line() {
    let place = talking();
    let server = Served::start(&place, "chatty=./chatty talk");
    assert_eq!(server.get("/v1/models/chatty").ok()["chat"], true);
    let words = [
        "./chatty",
        "--chat",
        "--system",
        "Be kind.",
        "--prompt",
        "send it",
        "--seed",
        "4",
        "--temperature",
        "1",
        "--max-tokens",
        "20",
    ];
    let expected = generated(&place, &words);
    let mut body = json!({
        "model": "chatty", "seed": 4, "temperature": 1.0, "max_completion_tokens": 20, "user": "somebody",
        "messages": [
            { "role": "developer", "content": "Be kind." },
            { "role": "user", "content": [{ "type": "text", "text": "send" }, { "type": "text", "text": " it" }] },
        ],
    });
    let said = server.post("/v1/chat/completions", &body).ok();
    let choice = &said["choices"][0];
    assert_eq!(choice["message"]["content"], expected["text"]);
    assert_eq!(
        (said["object"].as_str(), choice["message"]["role"].as_str()),
        (Some("chat.completion"), Some("assistant"))
    );
    body["stream"] = true.into();
    body["logprobs"] = true.into();
    body["top_logprobs"] = 3.into();
    let parts = events(&server.post("/v1/chat/completions", &body));
    assert_eq!(parts[0]["choices"][0]["delta"]["role"], "assistant");
    let deltas = parts.iter().map(|p| &p["choices"][0]);
    let text: String = deltas.clone().filter_map(|c| c["delta"]["content"].as_str()).collect();
    assert_eq!(text, expected["text"].as_str().unwrap());
    let told: Vec<&Value> = deltas.filter_map(|c| c["logprobs"]["content"].as_array()).flatten().collect();
    assert_eq!(told.len() as u64, expected["tokens"].as_u64().unwrap());
    assert!(
        told.iter().all(
            |t| t["top_logprobs"].as_array().unwrap().len() == 3 && t["logprob"].as_f64().unwrap() <= 0.0
        )
    );
    body["model"] = "talk".into();
    server.post("/v1/chat/completions", &body).refused(400, "no template of conversations");
}

#[test]
fn every_field_of_a_request_for_text_has_bounds() {
    let place = talking();
    let server = Served::start(&place, "talk chatty=./chatty --max-waiting 4");
    let ask = |more: Value| {
        let mut body = json!({ "model": "talk", "prompt": "call" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.post("/v1/completions", &body)
    };
    for (more, words) in [
        (json!({ "model": 3 }), "`model`"),
        (json!({ "prompt": null }), "`prompt`"),
        (json!({ "prompt": [] }), "`prompt`"),
        (json!({ "prompt": [[]] }), "`prompt[0]`: there is no token"),
        (json!({ "prompt": [70000] }), "expected tokens from 0 to"),
        (json!({ "prompt": [-1] }), "expected tokens from 0 to"),
        (json!({ "prompt": { "a": 1 } }), "`prompt`"),
        (json!({ "prompt": vec!["x"; 65] }), "at most 64 prompts"),
        (json!({ "prompt": "word ".repeat(200) }), "the model's context is 256"),
        (json!({ "prompt": "x".repeat(1 << 21) }), "at most 1048576 bytes"),
        (json!({ "max_tokens": 0 }), "`max_tokens`: expected a whole number from 1"),
        (json!({ "max_tokens": 1e9 }), "`max_tokens`"),
        (json!({ "temperature": -1 }), "`temperature`: expected a number from 0 to 2"),
        (json!({ "temperature": "hot" }), "found a string"),
        (json!({ "top_p": 0 }), "`top_p`"),
        (json!({ "n": 17 }), "`n`: expected a whole number from 1 to 16"),
        (json!({ "prompt": vec!["x"; 60], "n": 10 }), "answers to all prompts"),
        (json!({ "best_of": 4 }), "`best_of`"),
        (json!({ "stop": vec!["x"; 10_000] }), "`stop`: expected at most 16 strings, found 10000"),
        (json!({ "stop": "x".repeat(1000) }), "`stop`: expected at most 256 bytes"),
        (json!({ "stop": [""] }), "stops nothing"),
        (json!({ "seed": 1.5 }), "`seed`"),
        (json!({ "logprobs": 21 }), "`logprobs`"),
        (json!({ "stream": "yes" }), "`stream`"),
        (json!({ "stream_options": { "include_usage": true } }), "`stream_options`"),
        (json!({ "frequency_penalty": 0.5 }), "does not have it"),
        (json!({ "tools": [{ "type": "function" }] }), "does not have it"),
        (json!({ "unheard": 1 }), "`unheard`: this field is not known"),
        (json!({ "response_format": { "type": "json_object" } }), "json_schema"),
        (json!({ "response_format": { "type": "json_schema" } }), "a schema in"),
        (
            json!({ "response_format": { "type": "json_schema", "json_schema": { "schema": { "$ref": "http://x" } } } }),
            "`response_format`",
        ),
    ] {
        ask(more).refused(400, words);
    }
    ask(json!({ "model": "none" })).refused(404, "no model `none`");
    ask(json!({ "frequency_penalty": 0, "logit_bias": {}, "tools": [], "echo": false, "suffix": null })).ok();
    let chat = |messages: Value| {
        server.post("/v1/chat/completions", &json!({ "model": "chatty", "messages": messages }))
    };
    chat(json!([])).refused(400, "`messages`");
    chat(json!([3])).refused(400, "`messages[0]`");
    chat(json!([{ "role": "tool", "content": "x" }])).refused(400, "`messages[0].role`");
    chat(json!([{ "role": "user", "content": [{ "type": "image_url" }] }]))
        .refused(400, "`messages[0].content`");
    chat(json!([{ "role": "user", "content": 3 }])).refused(400, "expected a string");
    chat(json!(vec![json!({ "role": "user", "content": "x" }); 1025])).refused(400, "at most 1024 messages");
}

#[test]
fn clients_that_leave_end_their_texts_and_a_server_ends_when_texts_have() {
    let place = talking();
    // Texts never end by themselves: what ends them is the client, or the end.
    let server = Served::start(&place, "talk --max-texts 1");
    let body =
        json!({ "model": "talk", "prompt": "call", "stream": true, "max_tokens": 250, "temperature": 2.0 })
            .to_string();
    let head = |keep: &str| {
        format!(
            "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: {keep}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    for _ in 0..30 {
        let mut stream = server.connect();
        stream.write_all(head("close").as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 200"), "{line}");
        drop(stream);
    }
    until("nobody is answered any more", || server.metric("jishi_streams{model=\"talk\"}") == 0.0);
    until("nothing is written any more", || server.metric("jishi_running_texts{model=\"talk\"}") == 0.0);
    assert!(server.metric("jishi_tokens_out_total{model=\"talk\"}") > 0.0);
    assert!(server.metric("jishi_cancelled_total{model=\"talk\"}") > 0.0);
    // There is one place, and it is free again at once.
    let started = Instant::now();
    server.post("/v1/completions", &json!({ "model": "talk", "prompt": "call", "max_tokens": 2 })).ok();
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    // A text that is being written when the server is told to end is written to its end.
    let mut stream = server.connect();
    stream.write_all(head("keep-alive").as_bytes()).unwrap();
    let mut first = [0; 16];
    stream.read_exact(&mut first).unwrap();
    let (code, _) = server.end();
    assert_eq!(code, Some(0));
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("data: [DONE]"), "{rest}");
}
