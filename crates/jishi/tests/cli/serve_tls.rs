//! `jishi serve` over TLS, with settings from a file and the environment.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::place::{Place, trained};
use crate::serve::{Served, rows};

const CA: &[u8] = include_bytes!("../fixtures/tls/ca.pem");
const CERT: &[u8] = include_bytes!("../fixtures/tls/cert.pem");
const KEY: &[u8] = include_bytes!("../fixtures/tls/key.pem");

/// What a server answers to a request over TLS, by whose certificates.
fn ask(server: &Served, authority: &[u8], request: &str) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(client, TcpStream::connect(server.address)?);
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn with_certificate() -> Place {
    let place = trained();
    place.write("cert.pem", CERT);
    place.write("key.pem", KEY);
    place
}

#[test]
fn answers_are_encrypted() {
    let place = with_certificate();
    let server = Served::start(&place, "houses --tls-cert cert.pem --tls-key key.pem --arrival-timeout 2");
    let body = json!({ "inputs": rows(0..2) }).to_string();
    let request = format!(
        "POST /v1/models/houses/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let answer = ask(&server, CA, &request).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(serde_json::from_str::<Value>(body).unwrap()["predictions"].as_array().unwrap().len(), 2);
    // Whoever does not know the authority does not speak with it, and who speaks no TLS is not answered.
    assert!(ask(&server, CERT, &request).is_err());
    let mut plain = server.connect();
    plain.write_all(request.as_bytes()).unwrap();
    let mut all = Vec::new();
    let _ = plain.read_to_end(&mut all);
    assert!(!all.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&all));
    // Who says nothing holds a place for so long and no longer.
    let mut silent = server.connect();
    let _ = silent.read_to_end(&mut all);
    assert!(ask(&server, CA, &request).unwrap().starts_with("HTTP/1.1 200"));
    let (code, _) = server.end();
    assert_eq!(code, Some(0));
}

#[test]
fn certificates_that_are_wrong_are_refused_at_the_start() {
    let place = with_certificate();
    place.write("empty.pem", "");
    place.write("other.pem", CA);
    for (line, words) in [
        ("--tls-cert cert.pem", "go together"),
        ("--tls-cert none.pem --tls-key key.pem", "none.pem"),
        ("--tls-cert empty.pem --tls-key key.pem", "expected a certificate in PEM"),
        ("--tls-cert cert.pem --tls-key cert.pem", "expected a private key in PEM"),
        ("--tls-cert other.pem --tls-key key.pem", "expected the certificate's private key"),
    ] {
        let refused = place.jishi(&format!("serve houses --listen 127.0.0.1:0 {line}")).refused().stderr;
        assert!(refused.contains(words), "{line}: {refused}");
    }
}

#[test]
fn settings_come_from_flags_the_environment_and_a_file() {
    let place = with_certificate();
    place.write("serve.toml", "runs = [\"houses\"]\nmax_rows = 2\nmax_body = 100000\ndrain = 1\n");
    let server = Served::start_with(&place, "--config serve.toml", &[("JISHI_SERVE_MAX_ROWS", "3")]);
    let path = "/v1/models/houses/predict";
    server.post(path, &json!({ "inputs": rows(0..3) })).ok();
    server.post(path, &json!({ "inputs": rows(0..4) })).refused(400, "at most 3 inputs");
    server.post(path, &json!({ "inputs": ["x".repeat(200_000)] })).refused(413, "100000 bytes");
    drop(server);
    let server =
        Served::start_with(&place, "--config serve.toml --max-rows 4", &[("JISHI_SERVE_MAX_ROWS", "3")]);
    server.post(path, &json!({ "inputs": rows(0..4) })).ok();
    drop(server);

    place.write("wrong.toml", "run = [\"houses\"]\nmax_rows = \"many\"\nlisten = \"here\"\n");
    let refused = place.jishi("serve --config wrong.toml").refused().stderr;
    for words in ["wrong.toml:1", "did you mean `runs`?", "wrong.toml:2", "expected a whole number"] {
        assert!(refused.contains(words), "{refused}");
    }
    let refused = place.jishi("serve --listen 127.0.0.1:0").refused().stderr;
    assert!(refused.contains("no model to serve"), "{refused}");
    let mut command = place.command(&["serve", "houses"]);
    let refused = crate::place::Outcome::of(command.env("JISHI_SERVE_PORT", "80")).refused().stderr;
    assert!(refused.contains("unknown variable `JISHI_SERVE_PORT`"), "{refused}");
}
